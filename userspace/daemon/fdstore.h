/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fdstore.h: systemd keeps the listening sockets as well (FileDescriptorStoreMax of the unit): a keeper that it has to start
 * anew finds them open, with what waits in their queues. What each of them is stands in one more descriptor, a manifest in
 * memory: the n-th entry of it is the socket named "weir-N".
 */
#ifndef DAEMON_FDSTORE_H
#define DAEMON_FDSTORE_H

#include "daemon/manifest.h"

/** What is stored becomes the sockets of `estate`; `again`: some may be there already. Without systemd nothing happens.
 * False: it does not take them. */
bool weir_fdstore_put(const struct weir_manifest *estate, bool again);
/** Takes what systemd has left for this process (sd_listen_fds(3)) into `found`; what is not understood is closed. How many
 * sockets there were. */
unsigned weir_fdstore_take(struct weir_manifest *found);

#endif
