/* SPDX-License-Identifier: Apache-2.0 */
/**
 * state.h: the structs of this room, for its own files.
 *
 *   struct weir_cluster ─── servers[] : shared by all; atomics, and what `lock` guards
 *        └── views[worker] ─── servers[] : a worker's lists and counters, read by others (relaxed)
 *
 * A change (health, weight, drain, addresses) bumps cluster->version and kicks every view; a view
 * compares the version when it picks, and copies under the lock only when it differs: no lock on
 * the way of a request.
 */
#ifndef UPSTREAM_STATE_H
#define UPSTREAM_STATE_H

#include "base/arena.h"
#include "base/log_rate.h"
#include "upstream/pool.h"

#include <pthread.h>

enum {
    UPSTREAM_ASK_MS = 20,      /* an owner that does not answer by then is not waited for */
    UPSTREAM_ASKS_MAX = 256,   /* questions of one view under way */
    UPSTREAM_ASKS_ACQUIRE = 2, /* questions for one connection */
    UPSTREAM_REST_BYTES_MAX = WEIR_READ_BUFFER_BYTES * 2, /* kept behind a 101, or while paused */
    UPSTREAM_QUEUE_MS = 1000,
    UPSTREAM_IDLE_MAX = 1024,
    UPSTREAM_IDLE_TIMEOUT_MS = 60 * 1000,
    UPSTREAM_WEIGHT_MAX = 1000,
    UPSTREAM_SERVERS_MAX = 1024, /* of one cluster */
};

enum weir_server_flag {
    WEIR_SERVER_HEALTHY = 1,
    WEIR_SERVER_ADDRESSED = 2,
    WEIR_SERVER_DRAINING = 4,
};

/* What a server is expected to speak. */
enum weir_upspeaks { UPSPEAKS_UNKNOWN, UPSPEAKS_H1, UPSPEAKS_H2 };

enum weir_server_kind { WEIR_SERVER_LITERAL, WEIR_SERVER_NAME, WEIR_SERVER_SRV };

struct weir_health;

/* What a server of this name has counted in clusters that are gone. */
struct weir_past {
    uint64_t requests_new, requests_reused, opened, failed;
};

struct weir_server {
    struct weir_cluster *cluster;
    const struct weir_server_conf *conf;
    unsigned index;
    enum weir_server_kind kind;
    struct weir_str host;      /* of `text`: without port; absent for a UNIX socket */
    struct weir_str authority; /* what a Host header would say */
    char *text;
    uint16_t port;
    _Atomic unsigned flags;  /* enum weir_server_flag */
    _Atomic unsigned conns;  /* of all workers; counted with connections_max only */
    _Atomic unsigned queued; /* acquires of all workers that wait for one */
    _Atomic int weight;
    struct weir_tls_sessions *sessions;
    struct weir_addr *addrs; /* under the cluster's lock, with the next two */
    unsigned addr_count;
    char last_fault[160];
    struct weir_log_rate failures;
    struct weir_past past;              /* under the lock */
    struct weir_resolution *resolution; /* of the home loop, as what follows */
    bool resolved;                      /* it had an answer */
    bool inherited; /* it has the addresses of the one before, and had no answer of its own yet */
    struct weir_health *health;
    uint64_t since_ms; /* of its health */
};

struct weir_cluster {
    const struct weir_cluster_conf *conf; /* ours: conf_own, in `arena` */
    struct weir_cluster_conf conf_own;
    struct weir_arena arena;
    uint64_t stamp; /* of the files that conf names, as they were read */
    struct weir_log *log;
    const struct weir_guard_limits *limits; /* ours: limits_own */
    const struct weir_h2_limits *h2;        /* h2_own, or NULL */
    struct weir_guard_limits limits_own;
    struct weir_h2_limits h2_own;
    struct weir_cluster *before, *after; /* of the same name: whom it replaced, who replaced it */
    struct weir_cluster_totals past;     /* of those that are gone; under the lock */
    struct weir_tls_client *tls;         /* NULL: plain */
    struct weir_addr source;             /* len 0: the kernel's */
    _Atomic uint64_t version;
    pthread_mutex_t lock;
    unsigned workers, count;
    struct weir_server *servers;
    struct weir_cluster_view *
        *views; /* by worker; under the lock, but each worker reads all without: see share.c */
    struct weir_ask *asks;  /* every question ever made; under the lock */
    struct weir_loop *home; /* of resolution and health */
};

/** One worker's part of a server. Apart from its neighbours: other workers read the counters. */
struct weir_server_view {
    struct weir_server *server;
    struct weir_list idle;    /* upconns, newest first */
    struct weir_list waiting; /* acquires, oldest first */
    struct weir_addr *addrs;
    unsigned addr_count, addr_next;
    uint32_t epoch;         /* of addrs */
    unsigned releasing;     /* connections that are about to be idle */
    unsigned promised;      /* acquires that wait for those */
    unsigned asking;        /* questions under way */
    unsigned connecting;    /* connections that are being made, and may come to serve many */
    unsigned sharing;       /* acquires that wait for those, and make none themselves */
    unsigned queued;        /* our part of server->queued */
    struct weir_list muxes; /* HTTP/2: open ones that are not retiring, oldest first */
    unsigned mux_count;     /* of them */
    unsigned mux_room;      /* exchanges that one takes; 0: none, for a while (RFC 9113 6.5.2) */
    uint8_t speaks;         /* enum weir_upspeaks */
    bool no_upgrade;        /* over HTTP/2, its last connection has said */
    uint64_t learned_ms;    /* by ALPN; 0: never */
    weir_counter active, idle_count, waiting_count;
    weir_counter requests_new, requests_reused, opened, failed;
} __attribute__((aligned(64)));

struct weir_cluster_view {
    uint32_t magic;
    unsigned id;
    struct weir_cluster *cluster;
    struct weir_loop *loop;
    struct weir_h2_shared *h2; /* of the worker; NULL: HTTP/1.1 alone */
    _Atomic bool open;
    _Atomic bool kicked;
    struct weir_mail kick;
    uint64_t version;
    struct weir_slab conns, muxes;
    bool starved;                /* a connect has found no descriptor */
    unsigned tokens;             /* tunnels over what were connections of this view */
    struct weir_list lru;        /* idle, newest first */
    struct weir_list busy;       /* all others */
    struct weir_list idle_muxes; /* of all servers, newest first */
    uint64_t idle, idle_max;     /* connections of this view; its share */
    int64_t idle_timeout_ms;     /* WEIR_UNLIMITED: none */
    struct weir_timer sweep;
    const struct weir_balancer *balancer;
    void *balancer_state;
    unsigned peer_next; /* where to begin to look for a worker that has one */
    struct weir_ask *asks_free;
    unsigned asks_out;
    struct weir_histogram duration;
    weir_counter h2_abuse[WEIR_H2_ABUSE_COUNT];
    struct weir_server_view servers[];
};
#define WEIR_VIEW_MAGIC 0x77766965u

enum weir_upconn_state {
    UPCONN_NONE,
    UPCONN_CONNECTING,
    UPCONN_READY, /* somebody's, who learns of it at the end of the turn */
    UPCONN_HELD,
    UPCONN_RELEASING,
    UPCONN_IDLE,
    UPCONN_GIVING,
    UPCONN_DETACHED,
    UPCONN_CLOSING,
};

enum weir_acquire_state {
    ACQUIRE_NONE,
    ACQUIRE_PROMISED, /* a connection of this worker is about to be released */
    ACQUIRE_ASKING,
    ACQUIRE_CONNECTING,
    ACQUIRE_SHARING, /* others are connecting: HTTP/2, or it is not known yet */
    ACQUIRE_QUEUED, /* connections_max is reached, or as many connections of HTTP/2 as make sense */
    ACQUIRE_STARVED, /* no file descriptor is free: idle connections go meanwhile */
    ACQUIRE_READY,   /* not in the server's waiting list from here on */
    ACQUIRE_FAILED,
};

static inline struct weir_server_view *server_view(struct weir_cluster_view *view,
                                                   const struct weir_server *server)
{
    return &view->servers[server->index];
}

static inline bool server_usable(const struct weir_server *server)
{
    unsigned flags = atomic_load_explicit((_Atomic unsigned *)&server->flags, memory_order_relaxed);

    return (flags & (WEIR_SERVER_ADDRESSED | WEIR_SERVER_DRAINING)) == WEIR_SERVER_ADDRESSED;
}

/* cluster_conf.c */
/** A copy whose texts are in `arena`. 0 or WEIR_ENOMEM. */
int weir_cluster_conf_copy(struct weir_cluster_conf *to, const struct weir_cluster_conf *from,
                           struct weir_arena *arena) WEIR_MUST_CHECK;
bool weir_cluster_conf_same(const struct weir_cluster_conf *a, const struct weir_cluster_conf *b);
/** May a connection that was made for the one serve requests of the other? */
bool weir_cluster_conf_connects_alike(const struct weir_cluster_conf *a,
                                      const struct weir_cluster_conf *b);
/** Changes when the content of a file that it names does; not of a copy, which does not know where they are read. */
uint64_t weir_cluster_conf_stamp(const struct weir_cluster_conf *conf);

/* cluster.c */
struct weir_server *weir_cluster_find(struct weir_cluster *cluster, struct weir_str name);
/** Tells every view that something has changed. Any thread, without the lock. */
void weir_cluster_changed(struct weir_cluster *cluster);
/** Makes one view look at its versions and its waiting acquires. Any thread. */
void weir_view_kick(struct weir_cluster_view *view);

/* server.c */
int weir_server_init(struct weir_server *server, struct weir_cluster *cluster, unsigned index,
                     struct weir_tls_fault *fault);
void weir_server_fini(struct weir_server *server);
void weir_server_follow(struct weir_server *server, struct weir_resolver *resolver);
void weir_server_unfollow(struct weir_server *server);
void weir_server_set_flag(struct weir_server *server, enum weir_server_flag flag, bool on);
void weir_server_set_fault(struct weir_server *server, const char *text);
/** A connection could not be made: into its status and the log, once a second. `detail`: why, beyond what the error says;
 * NULL: what the kernel said. Any worker. */
void weir_server_failed(struct weir_server *server, const struct weir_error *error,
                        const char *detail, uint64_t now_ms);
/** A malloc'ed copy of the addresses as of now; NULL without memory, or when there are none (*count
 * 0). */
struct weir_addr *weir_server_copy_addrs(struct weir_server *server, unsigned *count);

/* view.c */
/** Takes over what has changed; returns at once when nothing has. */
void weir_view_sync(struct weir_cluster_view *view);

/* balance.c */
const struct weir_balancer *weir_balancer_of(const struct weir_cluster_conf *conf);
extern const struct weir_balancer weir_balancer_round_robin;
/** Is the server among those that failed for this request? */
bool weir_choice_tried(const struct weir_peer_choice *choice, const struct weir_server *server);

/* pool.c */
void weir_upconn_set_state(struct weir_upconn *conn, enum weir_upconn_state next);
/** A connection without an exchange finds its next use: who waits, the idle list, or its end. */
void weir_pool_offer(struct weir_upconn *conn);
/** An idle connection goes to another view of the same worker, to whose cluster's servers it is connected alike; false: it
 * stays. Those that have idled longest first. */
bool weir_pool_move(struct weir_upconn *conn, struct weir_cluster_view *view,
                    struct weir_server *server) WEIR_MUST_CHECK;
/** Those that wait for this server look again: a connection was closed, or is not coming. */
void weir_pool_retry(struct weir_cluster_view *view, struct weir_server_view *sv);
/** Closes idle connections of this server; all, or those whose address is gone. */
void weir_pool_purge(struct weir_cluster_view *view, struct weir_server_view *sv, bool all);
/** A new connection could not be made: another try, or the error of whom it was for. */
void weir_pool_connect_failed(struct weir_upconn *conn, struct weir_error error);
/** Is this server still to be used, and still at this address? Looked up only when that has changed. */
bool weir_server_is_wanted(const struct weir_server_view *sv, const struct weir_addr *addr,
                           uint32_t *epoch);
/** The question of this acquire has been answered: no. */
void weir_pool_asked_in_vain(struct weir_acquire *acq);

/* upconn.c */
extern const struct weir_stream_sink weir_upconn_sink;
struct weir_upconn *weir_upconn_new(struct weir_cluster_view *view, struct weir_server *server);
/** Its stream is there: the codec begins, reading starts. */
void weir_upconn_begin(struct weir_upconn *conn);
void weir_upconn_close(struct weir_upconn *conn);
void weir_upconn_free(struct weir_upconn *conn);
/** What an error of a stream is called when an upstream is at its other end. */
enum weir_err weir_upstream_fault(enum weir_err err);

/* connector.c */
/** Starts to connect, for `acq`. NULL with *error filled. The slot of connections_max has been taken. */
struct weir_upconn *weir_connect(const struct weir_acquire *acq, uint32_t timeout_ms,
                                 struct weir_error *error);
/** A stream to `addr`, plain or TLS as the cluster says; `opts` but for the source, which is the cluster's. NULL, with *sys
 * set, when it failed at once. */
struct weir_tcp_opts;
struct weir_stream *weir_connect_stream(struct weir_loop *loop, struct weir_server *server,
                                        const struct weir_addr *addr,
                                        const struct weir_tcp_opts *opts,
                                        const struct weir_stream_sink *sink, void *arg, int *sys);
/** What has been connected to speaks HTTP/2: as ALPN says, or as it was told. */
bool weir_upstream_is_h2(const struct weir_server *server, struct weir_stream *stream);
/** As the error of a connect: by whom, and that nothing was sent. */
struct weir_error weir_connect_error(enum weir_err code, int sys);
/** Takes, or gives back, one of connections_max; true at once when there is no maximum. */
bool weir_slot_take(struct weir_server *server);
void weir_slot_put(struct weir_cluster_view *view, struct weir_server *server);

/* share.c */
/** Asks another worker for an idle connection; false: none has one, or enough was asked. */
bool weir_share_ask(struct weir_acquire *acq);
/** The view of another worker, if it is there and open. */
struct weir_cluster_view *weir_share_peer(struct weir_cluster *cluster, unsigned id);
/** The connection that was to be given has left its loop. */
void weir_share_released(struct weir_upconn *conn);
/** The question is not waited for any more; what it brings goes to the pool. */
void weir_share_forget(struct weir_acquire *acq);
/** Makes those look again, on any worker, that wait for a slot or a connection of this server. */
void weir_share_wake(struct weir_cluster_view *view, struct weir_server *server);
void weir_share_fini(struct weir_cluster *cluster);

/* status.c */
void weir_cluster_totals_add(struct weir_cluster_totals *totals,
                             const struct weir_cluster_totals *more);

/* health.c */
int weir_health_start(struct weir_server *server, struct weir_loop *loop);
void weir_health_stop(struct weir_server *server);
/** Is this a list of statuses: "200-299", "200,204"? Absent: 200-299. */
bool weir_health_expect_ok(struct weir_str expect);

#endif
