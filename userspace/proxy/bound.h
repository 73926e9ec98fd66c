/* SPDX-License-Identifier: Apache-2.0 */
/**
 * bound.h: an address that is listened on: a socket a worker (of a UNIX address, or with one worker: one, duplicated). It is
 * opened apart from being served.
 */
#ifndef PROXY_BOUND_H
#define PROXY_BOUND_H

#include "net/listener.h"
#include "proxy/policy.h"

/** Where sockets come from, when they are not opened here: a process that may not bind is given them. */
struct weir_bind_source {
    /** Fills `fds` with `count` listening sockets as weir_listen_open makes them (several of one TCP address: with
     * SO_REUSEPORT), for the caller to close. 0 or -errno, and then none is filled. */
    int (*open)(void *arg, const struct weir_addr *addr, const struct weir_listen_opts *opts,
                int *fds, unsigned count);
    void *arg;
};

/** Opens them here: what a weir_bind_source does by itself. */
int weir_bound_open(const struct weir_addr *addr, const struct weir_listen_opts *opts, int *fds,
                    unsigned count) WEIR_MUST_CHECK;
/** Says why one of a listener's addresses could not be bound, and what to do; the errno as an enum weir_err. */
int weir_bind_fault(const struct weir_listener_conf *listener, size_t bind, int sys,
                    struct weir_tls_fault *fault);

#endif
