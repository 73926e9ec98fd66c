/* SPDX-License-Identifier: Apache-2.0 */
/**
 * worker.h: one thread of the proxy: its loop, its sessions and requests, its part of listeners and
 * upstreams. Nothing in here is touched by another thread, but counters (read) and the loop's
 * mailbox.
 */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include "base/log_rate.h"
#include "http/guard.h"
#include "http/h2.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/tcp.h"
#include "proxy/gate.h"
#include "proxy/retry.h"
#include "proxy/route.h"
#include "proxy/service.h"

#include <pthread.h>

/* Where a client connection is; each state is a list in order of time, so that one timer checks the
 * oldest of each. */
enum weir_session_state {
    WEIR_SESSION_HANDSHAKE, /* TLS; deadline timeouts.handshake */
    WEIR_SESSION_HEAD,      /* waiting for (the rest of) a head; deadline timeouts.head */
    WEIR_SESSION_IDLE,      /* between requests; timeouts.keepalive */
    WEIR_SESSION_ACTIVE,    /* a request has it; the request has its own timer */
    WEIR_SESSION_CLOSING, /* answered, flushing or lingering; WEIR_DRAIN_LINGER_MS or timeouts.send
                           */
    WEIR_SESSION_TUNNEL, /* bytes alone, and no request any more (tunnel_light.h); timed by itself */
    WEIR_SESSION_STATES,
};

/** A listener as compiled: shared, immutable but for its descriptors, its gate and what it has said. */
struct weir_listener {
    const struct weir_listener_conf *conf;
    unsigned index;
    struct weir_routes routes;
    struct weir_tls_server *tls; /* NULL: plain */
    struct weir_guard_limits guard;
    struct weir_prefix *trusted;
    size_t trusted_count;
    bool peeks;              /* routes ask for the name in a ClientHello that is passed on */
    struct weir_addr *addrs; /* conf->bind, parsed */
    unsigned addr_count;
    int *fds;               /* [addr][worker] */
    uint16_t port;          /* of the first address, as bound */
    struct weir_str via[3]; /* of what came by 1.1, 1.0, 2: "1.1 weir" …; absent: off */
    struct weir_h2_limits h2;
    struct weir_log_rate *refusals; /* by enum weir_refusal */
    struct weir_gate *gate;         /* its own limits; NULL: those of the proxy are as strict */
};

/** A listener on one worker. */
struct weir_wlistener {
    struct weir_worker *worker;
    const struct weir_listener *listener;
    struct weir_lsock *socks;
    struct weir_list sessions[WEIR_SESSION_STATES];
    struct weir_listener_stats *stats;
    weir_counter idle; /* sessions between requests */
    _Atomic uint64_t
        room_wanted; /* as many of them are to go, for newcomers elsewhere: any thread */
};

enum {
    WEIR_PARKED_BUCKETS = 64,
    WEIR_DATE_BYTES = 29, /* RFC 9110 5.6.7, IMF-fixdate */
};

struct weir_worker {
    struct weir_loop loop;
    struct weir_service *service;
    unsigned id;
    pthread_t thread;
    bool started;
    struct weir_slab sessions;
    struct weir_slab lights; /* struct weir_light_more */
    struct weir_splicer splicer;
    struct weir_h2_shared h2;
    struct weir_wlistener *listeners;
    struct weir_cluster_view **views; /* an upstream each */
    struct weir_budget *budgets;
    struct weir_match_scratch *scratch;
    struct weir_worker_stats stats;
    void **filter_state; /* per-worker state of each listener's routes' filters */
    struct weir_list parked[WEIR_PARKED_BUCKETS];
    uint64_t generation;     /* of the last token handed out */
    _Atomic bool wakes_lost; /* for want of memory: any thread */
    uint64_t random[2];
    struct weir_timer sweep;
    char date[32]; /* of HTTP (RFC 9110 5.6.7), for answers that have none */
    uint64_t date_until_ms;
    unsigned sweeps;
    unsigned session_count;
    uint32_t session_number; /* of the next */
    size_t req_count;        /* with those whose offloaded work has not returned */
    bool draining, stopping;
    bool tight;               /* memory is short, as this worker knows it */
    int splice;               /* service->splice, likewise */
    uint64_t drain_ms;        /* when draining began */
    struct weir_mail room;    /* room_wanted of a listener has been raised */
    _Atomic bool room_posted; /* it is on its way: any thread */
};

/** Everything of a service that workers look at. */
struct weir_service {
    const struct weir_proxy_conf *conf;
    const struct weir_bind_source *bind;            /* NULL: addresses are bound here */
    int (*open_log)(void *arg, struct weir_str to); /* NULL: files are opened here */
    void *open_log_arg;
    struct weir_log *log;
    struct weir_listener *listeners;
    unsigned listener_count;
    struct weir_cluster **clusters;
    unsigned cluster_count;
    struct weir_worker *workers;
    unsigned worker_count;
    struct weir_access *access;
    struct weir_log_rate bans; /* by requests */
    struct weir_access_log **logs;
    unsigned log_count;
    bool tells; /* some upstream wants PROXY headers */
    struct weir_guard_limits answer_limits;
    struct weir_h2_limits answer_costs;
    struct weir_upstreams_opts upstreams;
    struct weir_resolver *resolver; /* on worker 0 */
    struct weir_gate gate;          /* of all listeners together */
    struct weir_splice_budget splice_budget;
    _Atomic int splice; /* enum weir_splice_policy: of the top, as it is now */
    bool fds_bound;     /* gate: as many as file descriptors allow, not as limits.connections */
    _Atomic uint64_t starved_ms; /* when one was missing last */
    _Atomic bool pressure;       /* above limits.memory */
    _Atomic uint64_t resident_bytes, limit_bytes;
    struct weir_timer memory_timer; /* on worker 0, as the next three */
    uv_work_t memory_trim;
    uint64_t memory_trim_ms; /* not before */
    bool memory_trimming;
    int statm_fd;
    _Atomic bool draining;
    _Atomic unsigned doors_open; /* of a drain: workers that still accept */
    _Atomic bool retiring;       /* draining, and others serve on: nobody is in a hurry */
    _Atomic bool drain_cut;      /* the end of a drain has closed something */
    bool opened, started, unclean;
    uint64_t id_prefix; /* of request ids */
};

/** -1 when there is no upstream of that name. */
int weir_service_find_cluster(const struct weir_service *service, struct weir_str name);
uint64_t weir_worker_random(struct weir_worker *worker);
/** The time for a Date field; good until the next turn of the loop. */
struct weir_str weir_worker_date(struct weir_worker *worker);
/** Something refused a connection: counted, and said once a second for each listener and reason. */
void weir_worker_refused(struct weir_wlistener *wl, enum weir_refusal why, const char *text);
/** worker.c: set-up on the caller's thread, run on its own. */
int weir_worker_init(struct weir_worker *worker, struct weir_service *service, unsigned id)
    __attribute__((warn_unused_result));
void weir_worker_fini(struct weir_worker *worker);
/** On the worker's thread. */
int weir_worker_open(struct weir_worker *worker) __attribute__((warn_unused_result));
void weir_worker_drain(struct weir_worker *worker);
void weir_worker_close(struct weir_worker *worker);
/** park.c: a wake was lost, nobody knows which: what is parked ends. */
void weir_park_lost(struct weir_worker *worker);

#endif
