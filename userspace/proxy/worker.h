/* SPDX-License-Identifier: Apache-2.0 */
/**
 * worker.h: one thread of the proxy: its loop, its sessions and requests, its part of listeners and
 * upstreams. Nothing in here is touched by another thread, but counters (read) and the loop's
 * mailbox.
 */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include "net/loop.h"
#include "net/tcp.h"
#include "proxy/ban_table.h"
#include "proxy/keep.h"
#include "proxy/snapshot.h"

#include <pthread.h>

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
    struct weir_keep keep;
    struct weir_h2_shared h2;
    struct weir_snapshot *snapshot; /* in force here; held */
    struct weir_list listeners;     /* weir_wlistener.link: those of it, and those that leave */
    struct weir_list leaving;       /* weir_target_at.link: upstreams whose views end */
    struct weir_match_scratch *scratch;
    struct weir_worker_stats stats;
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
    struct weir_log *log;
    struct weir_worker *workers;
    unsigned worker_count;
    struct weir_log_rate bans; /* by requests */
    struct weir_ban_table ban_table;
    struct weir_resolver *resolver; /* on worker 0 */
    struct weir_gate gate;          /* of all listeners together */
    struct weir_splice_budget splice_budget;
    _Atomic int splice;         /* enum weir_splice_policy: of the top, as it is now */
    bool sockmap;               /* some tunnels are moved by it */
    _Atomic unsigned kept;      /* tunnels that outlive this process */
    _Atomic unsigned handed;    /* to another process, that were not kept before */
    _Atomic bool handing;       /* retiring: tunnels go to whoever serves now, */
    _Atomic uint32_t heir_kern; /* which has these maps */
    int64_t fds_fit;            /* connections that file descriptors allow; 0: as many as may be */
    _Atomic bool fds_bound; /* gate: as many as file descriptors allow, not as limits.connections */
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
    bool started, unclean;
    /* Of the service's thread: */
    struct weir_loop *home;                         /* its loop; NULL: there are no reloads */
    const struct weir_bind_source *bind;            /* NULL: addresses are bound here */
    int (*open_log)(void *arg, struct weir_str to); /* NULL: files are opened here */
    void *open_log_arg;
    struct weir_snapshot *snapshot; /* in force, or coming into force */
    struct weir_list snapshots;     /* all that somebody may use */
    struct weir_list targets;       /* all upstreams */
    uint64_t serial;                /* of the newest snapshot */
    bool installing;
    _Atomic int install_err; /* of any worker */
    void (*on_installed)(void *arg, int err);
    void *on_installed_arg;
    weir_counter reloads[2]; /* refused, done */
};

static inline const struct weir_proxy_conf *weir_worker_conf(const struct weir_worker *worker)
{
    return worker->snapshot->conf;
}
static inline struct weir_cluster_view *weir_worker_view(const struct weir_worker *worker,
                                                         const struct weir_target *target)
{
    return weir_cluster_view_of(target->cluster, worker->id);
}
static inline struct weir_wlistener *weir_listener_at(const struct weir_worker *worker,
                                                      struct weir_list *link)
{
    return link == &worker->listeners ? NULL : weir_list_entry(link, struct weir_wlistener, link);
}
/** The body may not let go of a listener. */
#define weir_each_listener(wl, worker)                                                         \
    for (struct weir_wlistener *wl = weir_listener_at((worker), (worker)->listeners.next); wl; \
         wl = weir_listener_at(wl->worker, wl->link.next))

uint64_t weir_worker_random(struct weir_worker *worker);
/** The time for a Date field; good until the next turn of the loop. */
struct weir_str weir_worker_date(struct weir_worker *worker);
/** No connection could be accepted: `sys` says why. */
void weir_worker_accept_failed(struct weir_wlistener *wl, int sys);
/** Something refused a connection: counted, and said once a second for each listener and reason. */
void weir_worker_refused(struct weir_wlistener *wl, enum weir_refusal why, const char *text);
/** worker.c: set-up on the caller's thread, run on its own. */
int weir_worker_init(struct weir_worker *worker, struct weir_service *service, unsigned id)
    __attribute__((warn_unused_result));
void weir_worker_fini(struct weir_worker *worker);
/** On the worker's thread, but for the first, before it runs: serves the service's snapshot. */
int weir_worker_open(struct weir_worker *worker) __attribute__((warn_unused_result));
void weir_worker_drain(struct weir_worker *worker);
void weir_worker_close(struct weir_worker *worker);
/** hand_over.c: at a sweep, while tunnels go to another process. */
void weir_worker_hand_over(struct weir_worker *worker);
/** park.c: a wake was lost, nobody knows which: what is parked ends. */
void weir_park_lost(struct weir_worker *worker);

#endif
