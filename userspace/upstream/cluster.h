/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cluster.h: an upstream: its servers, their health, addresses and weights, shared by all workers,
 * and what each worker keeps of it (pools, balancer state, counters).
 *
 * struct weir_cluster is the shared part; conf is immutable; health, weight, drain and addresses
 * are atomics or swapped under the cluster's lock with a version that workers compare. struct
 * weir_cluster_view is one worker's.
 */
#ifndef UPSTREAM_CLUSTER_H
#define UPSTREAM_CLUSTER_H

#include "http/h2.h"
#include "net/proxyproto.h"
#include "net/resolve.h"
#include "net/tls.h"
#include "weir/balance.h"

struct weir_server_conf {
    struct weir_str address; /* "10.0.0.1:80", "name:80", "srv:_http._tcp.name", "unix:/path" */
    int64_t weight;
    bool backup;
    bool resolve; /* follow the name by its TTL; else it is resolved once, at start */
};

enum { WEIR_UPSTREAM_H1 = 0, WEIR_UPSTREAM_H2, WEIR_UPSTREAM_AUTO };

enum { WEIR_HEALTH_NONE = 0, WEIR_HEALTH_TCP, WEIR_HEALTH_HTTP, WEIR_HEALTH_GRPC };
struct weir_health_conf {
    int type;
    struct weir_str path, host, expect; /* expect: "200-299", "200,204" */
    struct weir_str service;            /* of gRPC; absent: the server as a whole */
    int64_t every_ms, timeout_ms, rise, fall;
    double panic;
};

struct weir_pool_conf {
    int64_t idle_max, idle_timeout_ms, requests_max, age_max_ms; /* WEIR_UNLIMITED: off */
};

struct weir_cluster_conf {
    struct weir_str name;
    struct weir_conf_list servers; /* struct weir_server_conf */
    int protocol; /* WEIR_UPSTREAM_H1 …; AUTO: as ALPN chooses; HTTP/1.1 without TLS */
    int proxy_protocol; /* WEIR_PP_OFF …: each connection begins with who its client is, and is that client's alone */
    bool tls_on;
    struct weir_tls_client_conf tls;
    int balance;             /* 0 round-robin */
    int64_t connections_max; /* a server, all workers; WEIR_UNLIMITED */
    struct weir_str source;  /* an address; absent: the kernel's */
    struct weir_pool_conf pool;
    struct weir_health_conf health;
    const struct weir_balancer *balancer; /* a program's own; NULL: as `balance` says */
    void *balancer_self;                  /* given to its create(); outlives the cluster */
};

struct weir_cluster_view;

/** What all clusters of a program share. */
struct weir_upstreams_opts {
    struct weir_log *log;
    unsigned workers;
    const struct weir_dns_conf *dns;
    const struct weir_guard_limits *limits; /* of answers' heads */
    const struct weir_h2_limits *h2; /* what a connection of HTTP/2 may cost; NULL: the defaults */
};

/** NULL with *fault filled when an address, a certificate or a combination is wrong. Of `conf` it keeps a
 * copy; a balancer of a program's own outlives it. */
struct weir_cluster *weir_cluster_new(const struct weir_cluster_conf *conf,
                                      const struct weir_upstreams_opts *opts,
                                      struct weir_tls_fault *fault);
/**
 * After weir_cluster_stop, weir_cluster_view_free of every view, and weir_loop_fini of their loops:
 * a message between two workers may be under way until then.
 */
void weir_cluster_free(struct weir_cluster *cluster);
struct weir_str weir_cluster_name(const struct weir_cluster *cluster);
struct weir_str weir_view_name(const struct weir_cluster_view *view);
/** "app.internal:8080", or "app.internal" on the default port of the scheme: what a Host header
 * would say of the server. */
struct weir_str weir_server_authority(const struct weir_server *server);
const struct weir_cluster_conf *weir_cluster_get_conf(const struct weir_cluster *cluster);
/**
 * Resolution and health checks, on one loop: called on its thread, or before it runs. `resolver`
 * may be NULL when no server has a name. Stop on the loop as well, and turn it once or twice before
 * its end: checks in flight are closed.
 */
int weir_cluster_start(struct weir_cluster *cluster, struct weir_loop *loop,
                       struct weir_resolver *resolver) __attribute__((warn_unused_result));
void weir_cluster_stop(struct weir_cluster *cluster);

/** This worker's part. `id` < opts.workers. Views of one cluster know each other: idle connections
 * are given between them. `h2` is the worker's; NULL where no cluster speaks more than HTTP/1.1. */
struct weir_h2_shared;
struct weir_cluster_view *weir_cluster_view_new(struct weir_cluster *cluster,
                                                struct weir_loop *loop, unsigned id,
                                                struct weir_h2_shared *h2);
/** Closes its idle connections; the active ones must be gone. Call weir_cluster_view_close first
 * and turn the loop. */
void weir_cluster_view_close(struct weir_cluster_view *view);
void weir_cluster_view_free(struct weir_cluster_view *view);
/** Gives back memory that a burst has left: call it now and then, beside weir_loop_trim. */
void weir_cluster_view_trim(struct weir_cluster_view *view);
/** Closes up to `max` idle connections, those first that have waited longest: memory or descriptors
 * are short. How many. */
unsigned weir_cluster_view_shed(struct weir_cluster_view *view, unsigned max);
/** Has a connection wanted a file descriptor and found none, since this was asked last? */
bool weir_cluster_view_starved(struct weir_cluster_view *view);
/** Connections that are not closed yet, idle ones and tunnels too: 0 when the view may be freed. */
unsigned weir_cluster_view_conns(const struct weir_cluster_view *view);

/** Balancing: a server that is up and not in choice->tried; NULL: none. */
struct weir_server *weir_cluster_pick(struct weir_cluster_view *view,
                                      struct weir_peer_choice *choice);

/** Run-time changes; any thread. weight 0..1000; state: ready, drain. 0 or WEIR_ENOENT,
 * WEIR_EINVAL. */
enum weir_server_state { WEIR_SERVER_READY, WEIR_SERVER_DRAIN };
int weir_cluster_set_weight(struct weir_cluster *cluster, struct weir_str server, int weight);
int weir_cluster_set_state(struct weir_cluster *cluster, struct weir_str server,
                           enum weir_server_state state);

/* cluster_succeed.c: at a reload another cluster takes the place of one of the same name. Both live until what has begun
 * with the old one has ended. One thread calls these, but for the views' part. */
/** Would a cluster that is made of these be like this one? Then it may stay. */
bool weir_cluster_is_of(const struct weir_cluster *cluster, const struct weir_cluster_conf *conf,
                        const struct weir_upstreams_opts *opts);
/** Before the new one is used: it knows of its servers what the old one knows (health, addresses, weights and states that
 * were set at run time), and tells what was counted there. */
void weir_cluster_succeed(struct weir_cluster *cluster, struct weir_cluster *old);
/** The old one, whose views are all quiet, is about to be freed: what it has counted stays with its successor. */
void weir_cluster_retire(struct weir_cluster *old);
/** This worker's part: idle connections to servers that both have go to the new view, where the clusters connect alike; the
 * others are closed, and what is still in use will be. */
void weir_cluster_view_succeed(struct weir_cluster_view *view, struct weir_cluster_view *old);
/** No cluster takes its place: idle connections are closed, and those in use when they are given back. */
void weir_cluster_view_retire(struct weir_cluster_view *old);
/** After weir_cluster_view_close: is nothing of it under way any more? When all views of a cluster are quiet, and every
 * worker has turned its loop once more, they may be freed. */
bool weir_cluster_view_is_quiet(const struct weir_cluster_view *view);
/** The view of a worker. */
struct weir_cluster_view *weir_cluster_view_of(const struct weir_cluster *cluster, unsigned id);

/** For the admin socket and the metrics; any thread. */
struct weir_server_status {
    struct weir_str name;
    int weight;
    bool backup, up, draining;
    unsigned addresses;
    uint64_t active, idle, requests, requests_reused, opened, failed;
    char last_fault
        [160]; /* of the last connection that failed, the health check or the resolution */
};
struct weir_cluster_totals {
    uint64_t requests_new, requests_reused, opened, active, idle;
    uint64_t h2_abuse[WEIR_H2_ABUSE_COUNT]; /* connections that were ended for it */
    struct weir_histogram duration;         /* summed */
};
void weir_server_get_status(const struct weir_server *server, struct weir_server_status *status);
void weir_cluster_get_totals(const struct weir_cluster *cluster,
                             struct weir_cluster_totals *totals);
/** The machine tells how long an exchange took. */
void weir_cluster_view_count(struct weir_cluster_view *view, struct weir_server *server,
                             uint64_t duration_us);

#endif
