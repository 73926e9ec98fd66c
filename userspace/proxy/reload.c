/* SPDX-License-Identifier: Apache-2.0 */
/**
 * reload.c: another configuration while the service runs.
 *
 *   prepare: compiled, addresses bound; whatever can be wrong is found here, and nothing has changed
 *   install: ──▶ each worker enters it ──▶ done;  the old one: each worker at whose seat nobody is left ──▶ freed
 *
 * All on the service's thread, which is told by mail and waits for nobody. One install at a time.
 */
#include "proxy/snapshot.h"

#include "base/str.h"
#include "proxy/descriptors.h"
#include "proxy/worker.h"

#include <stdio.h>

struct weir_snapshot *weir_service_prepare(struct weir_service *service,
                                           const struct weir_proxy_conf *conf,
                                           struct weir_tls_fault *fault)
{
    struct weir_snapshot *snapshot;
    int err;

    fault->text[0] = 0;
    if (!service->home || !service->started || service->installing) {
        snprintf(fault->text, sizeof(fault->text), "another configuration is coming into force");
        return NULL;
    }
    snapshot = weir_snapshot_new(service, conf, fault, &err);
    if (snapshot) {
        err = weir_snapshot_bind(snapshot, fault);
        if (!err)
            return snapshot;
    }
    if (!fault->text[0])
        snprintf(fault->text, sizeof(fault->text), "%s", weir_err_text((enum weir_err)err));
    weir_snapshot_free(snapshot);
    return NULL;
}

void weir_service_discard(struct weir_snapshot *snapshot)
{
    weir_snapshot_free(snapshot);
}

/* ---- what all workers share ---- */

/* The filter at the same place of the configuration before may have what its successor goes on with. */
static void adopt_filters(const struct weir_route *route, const struct weir_route *old)
{
    const struct weir_chains *chains = &route->chains, *before = &old->chains;

    for (unsigned i = 0, seen = 0; i < chains->use_count; i++, seen = 0) {
        const struct weir_filter *filter = chains->uses[i].filter;
        unsigned nth = 0;

        for (unsigned k = 0; k < i; k++)
            nth += chains->uses[k].filter == filter;
        for (unsigned k = 0; WEIR_FILTER_HAS(filter, adopt) && k < before->use_count; k++)
            if (before->uses[k].filter == filter && seen++ == nth)
                filter->adopt(chains->uses[i].self, before->uses[k].self);
    }
}

static void adopt_routes(const struct weir_listener *listener, const struct weir_listener *old)
{
    for (unsigned i = 0; i < listener->routes.count; i++)
        for (unsigned k = 0; k < old->routes.count; k++)
            if (listener->routes.at[i].row == old->routes.at[k].row) /* of the same name */
                adopt_filters(&listener->routes.at[i], &old->routes.at[k]);
}

/* Said by the listener, and stricter than what holds for all; 0: that is as strict. */
static int64_t own_limit(int64_t own, int64_t all)
{
    return own > 0 && (all <= 0 || own < all) ? own : 0;
}

static void set_gates(const struct weir_snapshot *snapshot)
{
    const struct weir_limit_conf *all = &snapshot->conf->limits;
    struct weir_service *service = snapshot->service;

    weir_gate_set(&service->gate, weir_descriptors_bound(service, all->connections),
                  all->connections_per_client);
    for (unsigned i = 0; i < snapshot->listener_count; i++) {
        const struct weir_limit_conf *own = &snapshot->listeners[i].conf->limits;

        weir_gate_set(&snapshot->listeners[i].door->gate,
                      own_limit(own->connections, all->connections),
                      own_limit(own->connections_per_client, all->connections_per_client));
    }
}

/* What was set at run time stays. */
static void follow_splice(struct weir_service *service, const struct weir_snapshot *before,
                          const struct weir_snapshot *snapshot)
{
    int was = before->conf->kernel.splice + 1;

    (void)atomic_compare_exchange_strong(&service->splice, &was, snapshot->conf->kernel.splice + 1);
}

void weir_snapshot_in_force(struct weir_snapshot *snapshot)
{
    struct weir_service *service = snapshot->service;
    const struct weir_snapshot *before = service->snapshot;

    for (unsigned i = 0; i < snapshot->target_count; i++) {
        struct weir_target *target = snapshot->targets[i];

        target->in_force = true;
        target->claimed = snapshot->serial;
        if (target->replaces)
            weir_cluster_succeed(target->cluster, target->replaces->cluster);
    }
    set_gates(snapshot);
    follow_splice(service, before, snapshot);
    /* half of it is what the program of sockmap may hold (daemon/kernel.c) */
    atomic_store(&service->splice_budget.max,
                 (uint64_t)snapshot->conf->kernel.splice_memory / (service->sockmap ? 2 : 1));
    for (unsigned i = 0; before != snapshot && i < snapshot->listener_count; i++) {
        const struct weir_listener *listener = &snapshot->listeners[i];

        for (unsigned k = 0; k < before->listener_count; k++)
            if (before->listeners[k].door == listener->door)
                adopt_routes(listener, &before->listeners[k]);
        for (unsigned b = 0; b < listener->bound_count; b++)
            weir_bound_adjust(listener->bounds[b], listener->conf);
    }
    service->snapshot = snapshot;
}

/* ---- install ---- */

/* Every worker has entered it. */
static void installed(struct weir_service *service)
{
    struct weir_snapshot *snapshot = service->snapshot;

    for (unsigned i = 0; i < snapshot->target_count; i++)
        snapshot->targets[i]->replaces = NULL;
    service->installing = false;
    service->on_installed(service->on_installed_arg, service->install_err);
}

static void on_entered(struct weir_loop *loop, void *arg)
{
    struct weir_seat *seat = arg;

    (void)loop;
    if (--seat->snapshot->pending == 0)
        installed(seat->snapshot->service);
}

static void seat_post(struct weir_seat *seat, struct weir_loop *loop,
                      void (*fn)(struct weir_loop *loop, void *arg))
{
    seat->mail.fn = fn;
    seat->mail.arg = seat;
    weir_loop_post(loop, &seat->mail);
}

/* On the worker. */
static void on_enter(struct weir_loop *loop, void *arg)
{
    struct weir_seat *seat = arg;
    struct weir_snapshot *before = seat->worker->snapshot;
    bool enters = !seat->worker->draining; /* else its doors are closed for good */
    int err = 0;

    (void)loop;
    if (seat->worker->stopping)
        return;
    if (enters)
        err = weir_worker_enter(seat->worker, seat->snapshot);
    if (err)
        atomic_store(&seat->snapshot->service->install_err, err);
    seat_post(seat, seat->snapshot->service->home, on_entered);
    if (enters) /* whoever asked for the reload is told before the old one may go */
        weir_worker_leave(seat->worker, before);
}

/* The sockets that nobody listens on any more. Each worker closes its own. */
static void let_bounds_go(const struct weir_snapshot *before, uint64_t serial)
{
    for (unsigned i = 0; i < before->listener_count; i++)
        for (unsigned b = 0; b < before->listeners[i].bound_count; b++)
            if (before->listeners[i].bounds[b]->claimed != serial)
                weir_bound_gone(before->listeners[i].bounds[b]);
}

void weir_service_install(struct weir_snapshot *snapshot, void (*on_old_free)(void *old), void *old,
                          void (*done)(void *arg, int err), void *arg)
{
    struct weir_service *service = snapshot->service;
    struct weir_snapshot *before = service->snapshot;

    weir_assert(service->started && !service->installing);
    before->on_free = on_old_free;
    before->arg = old;
    service->installing = true;
    service->install_err = 0;
    service->on_installed = done;
    service->on_installed_arg = arg;
    weir_list_push_back(&service->snapshots, &snapshot->link);
    weir_snapshot_in_force(snapshot);
    let_bounds_go(before, snapshot->serial);
    snapshot->pending = before->pending = service->worker_count;
    for (unsigned w = 0; w < service->worker_count; w++)
        seat_post(&snapshot->seats[w], &service->workers[w].loop, on_enter);
}

/* ---- the end of a snapshot ---- */

static void on_left(struct weir_loop *loop, void *arg)
{
    struct weir_seat *seat = arg;

    (void)loop;
    if (--seat->snapshot->pending == 0)
        weir_snapshot_free(seat->snapshot);
}

void weir_seat_empty(struct weir_seat *seat)
{
    if (!seat->worker->stopping)
        seat_post(seat, seat->snapshot->service->home, on_left);
}

unsigned weir_service_snapshots(const struct weir_service *service)
{
    unsigned count = 0;

    weir_list_each(pos, next, &service->snapshots) count++;
    return count;
}

void weir_service_count_reload(struct weir_service *service, bool good)
{
    weir_count(&service->reloads[good], 1);
}

uint64_t weir_service_reloads(const struct weir_service *service, bool good)
{
    return weir_counter_read(&service->reloads[good]);
}
