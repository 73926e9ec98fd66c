/* SPDX-License-Identifier: Apache-2.0 */
/**
 * snapshot.h: a configuration as compiled: immutable, shared by all workers.
 *
 *   snapshot ─┬─ listeners[] ── routes, certificates ──▶ door (its name), bounds (its addresses), rows (its routes' names)
 *             ├─ targets[]   ── an upstream: its cluster ──▶ tally (its name)
 *             └─ access, access logs, state of filters
 *
 * What is right of the arrows outlives a reload: it is found by name or address when a snapshot is compiled, and counted by
 * those that have it. A target is itself kept as long as its upstream means the same.
 *
 * Who uses a snapshot is counted by each worker for itself, in its seat: a request for as long as it has memory, a listener
 * for as long as the snapshot is in force there or has connections of a listener that the next one has not. The worker at
 * whose seat nobody is left, and where another one is in force, tells the service's thread; when all have, it is freed.
 */
#ifndef PROXY_SNAPSHOT_H
#define PROXY_SNAPSHOT_H

#include "proxy/access.h"
#include "proxy/bound.h"
#include "proxy/door.h"
#include "proxy/retry.h"
#include "proxy/route.h"
#include "proxy/service.h"

struct weir_snapshot;

/** A listener as compiled. */
struct weir_listener {
    const struct weir_listener_conf *conf;
    struct weir_snapshot *snapshot;
    struct weir_door *door; /* counted */
    unsigned index;
    struct weir_routes routes;
    struct weir_route_row *unrouted; /* counted: of what no route matches */
    struct weir_tls_server *tls;     /* NULL: plain */
    struct weir_guard_limits guard;
    struct weir_h2_limits h2;
    struct weir_prefix *trusted;
    size_t trusted_count;
    bool peeks;                 /* routes ask for the name in a ClientHello that is passed on */
    struct weir_bound **bounds; /* counted */
    unsigned bound_count;
    struct weir_str via[3]; /* of what came by 1.1, 1.0, 2: "1.1 weir" …; absent: off */
};

/** What is counted of an upstream beside its cluster: by its name. */
struct weir_tally {
    unsigned refs;
    struct {
        struct weir_budget budget;
        weir_counter retries[WEIR_RETRIED_COUNT];
    } __attribute__((aligned(64))) at[]; /* by worker */
};

/** One worker's part of the end of a target. */
struct weir_target_at {
    struct weir_mail mail;
    struct weir_list link; /* worker->leaving: its view is not quiet yet */
    struct weir_worker *worker;
    struct weir_target *target;
};

/** An upstream, as one or more snapshots have it. */
struct weir_target {
    struct weir_list link; /* service->targets */
    struct weir_service *service;
    unsigned refs;    /* snapshots */
    unsigned pending; /* workers that have not answered yet */
    bool in_force;    /* workers know it */
    uint64_t claimed; /* serial of the newest snapshot in force that has it */
    struct weir_cluster *cluster;
    struct weir_tally *tally;     /* counted */
    struct weir_target *replaces; /* until its snapshot is in force; then NULL */
    struct weir_target_at at[];   /* by worker */
};

/** A snapshot on one worker. */
struct weir_seat {
    struct weir_mail mail; /* from and to the service's thread, one errand at a time */
    struct weir_snapshot *snapshot;
    struct weir_worker *worker;
    size_t held;
    bool over;           /* another one is in force here */
    void **filter_state; /* by weir_route.slot */
} __attribute__((aligned(64)));

struct weir_snapshot {
    struct weir_list link; /* service->snapshots */
    struct weir_service *service;
    uint64_t serial;
    const struct weir_proxy_conf *conf;
    void (*on_free)(void *arg); /* nobody looks at `conf` any more; NULL: it is not ours to tell */
    void *arg;
    struct weir_listener *listeners;
    unsigned listener_count;
    struct weir_target **targets; /* counted */
    unsigned target_count;
    unsigned slots; /* of filters' state */
    struct weir_access *access;
    struct weir_access_log **logs;
    unsigned log_count;
    bool tells; /* some upstream wants PROXY headers */
    struct weir_guard_limits answer_limits;
    struct weir_h2_limits answer_costs;
    unsigned pending;         /* workers that have not answered yet */
    struct weir_seat seats[]; /* by worker */
};

/** Compiles `conf`, which stays until the snapshot has been freed; what the service's snapshot in force has of the same name
 * is shared with it. New addresses are not bound yet. NULL with *fault and *err. */
struct weir_snapshot *weir_snapshot_new(struct weir_service *service,
                                        const struct weir_proxy_conf *conf,
                                        struct weir_tls_fault *fault, int *err);
/** Nobody uses it, or it was never in force. */
void weir_snapshot_free(struct weir_snapshot *snapshot);
/** Listens on what is not listened on yet. 0, or an error with *fault. */
int weir_snapshot_bind(struct weir_snapshot *snapshot,
                       struct weir_tls_fault *fault) WEIR_MUST_CHECK;
struct weir_target *weir_snapshot_target(const struct weir_snapshot *snapshot,
                                         struct weir_str name);

/* enter.c: on a worker's thread (at the start: before it runs). */
/** The snapshot is in force here from now on; what the one before had and this one has not ends. 0, or the first error of a
 * socket that cannot be served. */
int weir_worker_enter(struct weir_worker *worker, struct weir_snapshot *snapshot);
/** Behind it, when that was told: the worker itself does not hold the one before any more. */
void weir_worker_leave(struct weir_worker *worker, struct weir_snapshot *before);
/** Stops to accept, for good; what waits is taken. */
void weir_worker_close_doors(struct weir_worker *worker);
/** At a sweep: listeners that are no more and have no connections left are let go. */
void weir_worker_let_go(struct weir_worker *worker);

/* reload.c: on the service's thread. */
/** Before its workers look: what is shared by them follows the snapshot: limits, filters, upstreams. */
void weir_snapshot_in_force(struct weir_snapshot *snapshot);

/* compile.c: one listener. Its place is zeroed; weir_listener_fini also after an error. */
int weir_listener_init(struct weir_listener *listener, struct weir_snapshot *snapshot,
                       const struct weir_listener_conf *conf,
                       struct weir_tls_fault *fault) WEIR_MUST_CHECK;
void weir_listener_fini(struct weir_listener *listener);
/** What routes hand over to, when all listeners are there. */
int weir_listener_link(struct weir_listener *listener,
                       struct weir_tls_fault *fault) WEIR_MUST_CHECK;
struct weir_guard_limits weir_guard_limits_of(const struct weir_limit_conf *limits);
struct weir_h2_limits weir_h2_limits_of(const struct weir_limit_conf *limits);
/** "listener 'web': …" before what the fault says, or the text of `err`. Returns err. */
int weir_fault_of(struct weir_tls_fault *fault, const char *kind, struct weir_str name, int err);

/* target.c */
/** For a snapshot: the one that `before` (may be NULL) has of that name, when it means the same; else a new one with views
 * on all workers. NULL with *fault. */
struct weir_target *weir_target_for(struct weir_service *service,
                                    const struct weir_snapshot *before,
                                    const struct weir_cluster_conf *conf,
                                    const struct weir_upstreams_opts *opts,
                                    struct weir_tls_fault *fault);
/** A snapshot has it no more. With the last one its connections end, on all workers, and then it is gone. */
void weir_target_put(struct weir_target *target);
/** The service is at its end, no thread runs: frees the views of one worker, and then everything. */
void weir_targets_free_views(struct weir_service *service, unsigned worker);
void weir_targets_free(struct weir_service *service);
/** At a worker's sweep: views that have become quiet are told. */
struct weir_worker;
void weir_targets_sweep(struct weir_worker *worker);

static inline void weir_seat_hold(struct weir_seat *seat)
{
    seat->held++;
}
/** reload.c: nobody is left at a seat that is over. */
void weir_seat_empty(struct weir_seat *seat);
static inline void weir_seat_drop(struct weir_seat *seat)
{
    if (WEIR_UNLIKELY(--seat->held == 0 && seat->over))
        weir_seat_empty(seat);
}

#endif
