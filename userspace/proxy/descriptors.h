/* SPDX-License-Identifier: Apache-2.0 */
/** descriptors.h: how many connections the file descriptors of this process allow. */
#ifndef PROXY_DESCRIPTORS_H
#define PROXY_DESCRIPTORS_H

#include "proxy/worker.h"

/** Before the workers run, sockets bound: how many there is room for, a connection to a server beside each of a client; what
 * is open already does not count. */
void weir_descriptors_count(struct weir_service *service);
/**
 * `connections` (<= 0: no limit), or less where RLIMIT_NOFILE leaves room for no more: so a newcomer is refused, or takes
 * the place of an idle one, rather than accepted and then not served.
 */
int64_t weir_descriptors_bound(struct weir_service *service, int64_t connections);

#endif
