/* SPDX-License-Identifier: Apache-2.0 */
/** descriptors.h: how many connections the file descriptors of this process allow. */
#ifndef PROXY_DESCRIPTORS_H
#define PROXY_DESCRIPTORS_H

#include "proxy/worker.h"

/**
 * Lowers the service's gate to what RLIMIT_NOFILE leaves room for, a connection to a server beside
 * each of a client; what is open already does not count. So a newcomer is refused, or takes the
 * place of an idle one, rather than accepted and then not served. Before the workers run.
 */
void weir_descriptors_bound(struct weir_service *service);

#endif
