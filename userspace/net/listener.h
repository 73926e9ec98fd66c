/* SPDX-License-Identifier: Apache-2.0 */
/** listener.h: opening a listening socket, apart from serving it: a keeper may hand the descriptors
 * over. */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "net/addr.h"
#include "net/io.h"

struct weir_listen_opts {
    int backlog;
    bool freebind;
    struct weir_str device; /* SO_BINDTODEVICE; absent: none */
    unsigned mode;          /* of a UNIX socket */
    bool reuseport;
};

/** A bound, listening, non-blocking, close-on-exec socket; or -errno. A stale UNIX socket that
 * nobody serves is replaced. */
int weir_listen_open(const struct weir_addr *addr, const struct weir_listen_opts *opts);
/** Serves `lsock->fd` on this loop (callbacks set), or stops to. The descriptor stays the caller's.
 */
int weir_listen_serve(struct weir_loop *loop, struct weir_lsock *lsock, bool on);

#endif
