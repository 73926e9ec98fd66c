/* SPDX-License-Identifier: Apache-2.0 */
/**
 * bound.h: an address that is listened on: a socket a worker (of a UNIX address, or with one worker: one, duplicated). It is
 * opened apart from being served, and outlives the listener that brought it: a snapshot that listens on the same address
 * has the same sockets, with what waits in them.
 *
 * Counted by the listeners of snapshots, on the service's thread. `at[w]` is worker w's, once it serves.
 */
#ifndef PROXY_BOUND_H
#define PROXY_BOUND_H

#include "net/listener.h"
#include "proxy/policy.h"

struct weir_bound;
struct weir_wlistener;

/** On one worker. */
struct weir_bound_at {
    int fd; /* -1: closed */
    struct weir_bound *bound;
    struct weir_wlistener *wl; /* whose connections come from it */
    struct weir_lsock lsock;   /* its arg: this */
};

struct weir_bound {
    unsigned refs, workers;
    bool opened;            /* the path of a UNIX socket is ours */
    struct weir_addr addr;  /* as bound */
    struct weir_addr asked; /* as configured: the port may be 0 */
    char *device;           /* NULL: any */
    int backlog;
    unsigned mode;
    uint64_t claimed;          /* serial of the snapshot that was the last to want it */
    struct weir_bound_at at[]; /* by worker */
};

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
/** One of `listener`'s binds; `source` NULL: opened here. NULL with *fault and *err set. */
struct weir_bound *weir_bound_new(const struct weir_listener_conf *listener, size_t bind,
                                  unsigned workers, const struct weir_bind_source *source,
                                  struct weir_tls_fault *fault, int *err);
/** Could the sockets be those of this bind? */
bool weir_bound_fits(const struct weir_bound *bound, const struct weir_listener_conf *listener,
                     const struct weir_addr *addr);
/** What can be changed while they are open: backlog, and mode of a UNIX socket. */
void weir_bound_adjust(struct weir_bound *bound, const struct weir_listener_conf *listener);
static inline struct weir_bound *weir_bound_get(struct weir_bound *bound)
{
    bound->refs++;
    return bound;
}
/** No snapshot that is in force listens there: the path of a UNIX socket goes. */
void weir_bound_gone(struct weir_bound *bound);
/** With the last one what is open closes, and it is gone. */
void weir_bound_put(struct weir_bound *bound);

#endif
