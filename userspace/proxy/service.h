/* SPDX-License-Identifier: Apache-2.0 */
/**
 * service.h: a running proxy: workers, listeners, upstreams, and what they share. The daemon and
 * weir/server.h make one.
 *
 *   new (checks, compiles) ▶ open (binds) ▶ start (threads) ▶ [drain ▶] stop ▶ free
 */
#ifndef PROXY_SERVICE_H
#define PROXY_SERVICE_H

#include "weir/kern.h"
#include "proxy/access.h"
#include "proxy/bound.h"
#include "proxy/policy.h"
#include "proxy/stats.h"

struct weir_service;
struct weir_worker;
struct weir_loop;
struct weir_snapshot;
struct weir_bind_source;

/** The process may not be allowed to open what it works with: then somebody gives it. */
struct weir_service_opts {
    struct weir_log *log;
    struct weir_loop *
        home; /* of the thread that makes the service, asks it and reloads it; NULL: there are no reloads */
    unsigned workers;                    /* 0: as the configuration says */
    const struct weir_bind_source *bind; /* NULL: addresses are bound here; outlives the service */
    /** A descriptor to append lines to (a file's name, "stdout", "stderr"), the caller's, or -errno; NULL: opened here. */
    int (*open_log)(void *arg, struct weir_str to);
    void *arg; /* of open_log */
};

/** `conf` outlives the service, or what weir_service_install has put in its place. NULL with *fault filled: what is wrong, and where. */
struct weir_service *weir_service_new(const struct weir_proxy_conf *conf,
                                      const struct weir_service_opts *opts,
                                      struct weir_tls_fault *fault);
/** Binds every listener; those that are open already stay. 0, or an error with *fault filled
 * ("listener 'web': :80: permission denied; …"). */
int weir_service_open(struct weir_service *service, struct weir_tls_fault *fault)
    __attribute__((warn_unused_result));
/** How many workers a service of this configuration has. */
unsigned weir_service_workers_wanted(const struct weir_proxy_conf *conf);
/** Before the start: tunnels may be moved by sockmap. `kern` outlives the service; worker i has ring `ring_base` + i. 0 or an
 * error: some or all workers go on without. */
int weir_service_sockmap(struct weir_service *service, struct weir_splice_kern *kern,
                         unsigned ring_base) __attribute__((warn_unused_result));
/** Before the start: somebody keeps tunnels that the kernel moves (keep.h); outlives the service. */
struct weir_keeping;
void weir_service_keep(struct weir_service *service, const struct weir_keeping *keeping);
/** After the start: tunnels that a process before this one had. Takes the descriptors; copies the rest. */
struct weir_kept;
void weir_service_adopt(struct weir_service *service, const struct weir_kept *kept, unsigned count);
/** Starts the workers' threads. 0 or an error. */
int weir_service_start(struct weir_service *service) __attribute__((warn_unused_result));
/** Stops accepting and lets requests end: answers say Connection: close, idle connections close.
 * Any thread; returns at once. */
void weir_service_drain(struct weir_service *service);
/** The same where others serve on: a connection that waits for its next request stays for that, and closes behind the
 * answer; who sends nothing has until shutdown.drain is over. So no request meets a connection that has just closed. */
void weir_service_retire(struct weir_service *service);
/** Before that: those others go on with tunnels that they can be given; `kern`: which maps they have (weir_splicer.kern_id). */
void weir_service_hand_over(struct weir_service *service, uint32_t kern);
/** No client connection is left. Any thread. */
bool weir_service_idle(const struct weir_service *service);
/** A drain has cut what was left when shutdown.drain (tunnels: shutdown.tunnels) was over. Any thread. */
bool weir_service_drain_cut(const struct weir_service *service);
/** Closes everything and joins the threads. */
void weir_service_stop(struct weir_service *service);
void weir_service_free(struct weir_service *service);

/* Another configuration: reload.c. On the thread of `home`, whose loop the service's mail comes to: let it turn. */
/**
 * Compiles `conf` and binds what is new in it; what stays is shared with what is in force. NULL with *fault: what is wrong,
 * and nothing has changed.
 */
struct weir_snapshot *weir_service_prepare(struct weir_service *service,
                                           const struct weir_proxy_conf *conf,
                                           struct weir_tls_fault *fault);
/** It is not installed after all. */
void weir_service_discard(struct weir_snapshot *snapshot);
/**
 * Puts it in force; cannot be refused. `done` comes when all workers have it (err: a socket that one could not serve).
 * Requests in progress end under the one before; when they have, on_old_free(old) tells that its conf is not used any more
 * (at the end of the service at the latest). Returns at once; another one may be prepared after `done`.
 */
void weir_service_install(struct weir_snapshot *snapshot, void (*on_old_free)(void *old), void *old,
                          void (*done)(void *arg, int err), void *arg);
/** Snapshots of which something is still used; the one in force is one of them. */
unsigned weir_service_snapshots(const struct weir_service *service);

/** kernel.splice, of new and running tunnels, within a moment. Any thread. */
void weir_service_set_splice(struct weir_service *service, enum weir_splice_policy policy);
enum weir_splice_policy weir_service_splice(const struct weir_service *service);

/** For the admin: of what is in force, on the thread of `home`; with no home, any thread. */
const struct weir_proxy_conf *weir_service_conf(const struct weir_service *service);
unsigned weir_service_workers(const struct weir_service *service);
unsigned weir_service_clusters(const struct weir_service *service);
struct weir_cluster *weir_service_cluster(const struct weir_service *service, unsigned i);
struct weir_access *weir_service_access(const struct weir_service *service);
const struct weir_worker_stats *weir_service_stats(const struct weir_service *service,
                                                   unsigned worker);
const struct weir_listener_stats *weir_service_listener_stats(const struct weir_service *service,
                                                              unsigned listener, unsigned worker);
/** `route` beyond the last: of what no route matches. */
const struct weir_route_stats *weir_service_route_stats(const struct weir_service *service,
                                                        unsigned listener, unsigned route,
                                                        unsigned worker);
uint64_t weir_service_retries(const struct weir_service *service, unsigned upstream,
                              enum weir_retried why, unsigned worker);
uint64_t weir_service_busy_us(const struct weir_service *service, unsigned worker);
/** Runs fn on every worker's thread, one after the other, and waits. For lists of connections. Not
 * from a worker. */
void weir_service_each_worker(struct weir_service *service,
                              void (*fn)(struct weir_worker *worker, void *arg), void *arg);
/** The port that the first bind of a listener got (the kernel's choice for port 0); 0 before the
 * open and for a UNIX socket. */
uint16_t weir_service_port(const struct weir_service *service, unsigned listener);
/** The TLS policy of a listener, or NULL. */
struct weir_tls_server *weir_service_tls(const struct weir_service *service, unsigned listener);
/** Gives the files of access logs to the user that the process will be. */
void weir_service_give_logs(struct weir_service *service, unsigned uid, unsigned gid);
/** Each file of an access log, once. */
void weir_service_each_log(const struct weir_service *service,
                           void (*fn)(void *arg, const char *path), void *arg);
/** Reopens the files of access logs (SIGUSR1). */
void weir_service_reopen_logs(struct weir_service *service);
/** Puts `fd`, which stays the caller's, in the place of what the access logs to this file or stream write to: each line
 * goes to the old one or the new one. 0 or -errno. */
int weir_service_replace_log(struct weir_service *service, const char *to, int fd) WEIR_MUST_CHECK;
/** RSS above the limit of `limits.memory`. And the two figures. */
bool weir_service_memory(const struct weir_service *service, uint64_t *resident_bytes,
                         uint64_t *limit_bytes);

/** One client connection, as `weir show connections` tells it. `id` counts, over all workers; the age is
 * to a second. */
struct weir_session_status {
    uint64_t id, age_ms, idle_ms, bytes_in, bytes_out, requests;
    struct weir_str listener, client, protocol, tls, state, route, upstream, server;
    /** Who moves its bytes, from the client and to it, and why nobody better does. Static; `what` absent: it moves none now. */
    struct {
        struct weir_str what; /* "tunnel", "body", "exchange" */
        const char *mover[2], *why[2], *text[2];
        uint64_t bytes[2]; /* of the tunnel, or the body, so far */
    } moves;
};
/** On the worker's thread (weir_service_each_worker). */
void weir_worker_each_session(struct weir_worker *worker,
                              void (*fn)(void *arg, const struct weir_session_status *status),
                              void *arg);
unsigned weir_worker_id(const struct weir_worker *worker);

/** How reloads of its configuration went: the label `result` of config_reloads_total. */
void weir_service_count_reload(struct weir_service *service, bool good);
uint64_t weir_service_reloads(const struct weir_service *service, bool good);

/** metrics.c: the whole of /metrics in Prometheus text, malloc'ed; NULL without memory. Any thread
 * but a worker's. */
char *weir_service_metrics(struct weir_service *service, size_t *len);

#endif
