/* SPDX-License-Identifier: Apache-2.0 */
/** client_count.h: how many connections each client has, over all workers
 * (limits.connections_per_client). IPv6 by /64. */
#ifndef PROXY_CLIENT_COUNT_H
#define PROXY_CLIENT_COUNT_H

#include "net/addr.h"

struct weir_client_counts;

struct weir_client_counts *weir_client_counts_new(void);
void weir_client_counts_free(struct weir_client_counts *counts);
/** Counts one more unless the client has `max` already: then false. Also true without memory: it is
 * a courtesy, not a wall. */
bool weir_client_count_add(struct weir_client_counts *counts, const struct weir_addr *client,
                           uint64_t max);
void weir_client_count_remove(struct weir_client_counts *counts, const struct weir_addr *client);

#endif
