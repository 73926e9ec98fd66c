/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/snapshot.h"

#include "base/alloc.h"
#include "base/str.h"
#include "proxy/worker.h"

#include <stdio.h>
#include <stdlib.h>

struct weir_target *weir_snapshot_target(const struct weir_snapshot *snapshot, struct weir_str name)
{
    for (unsigned i = 0; i < snapshot->target_count; i++)
        if (weir_str_eq(weir_cluster_name(snapshot->targets[i]->cluster), name))
            return snapshot->targets[i];
    return NULL;
}

/* ---- compiling ---- */

static int compile_targets(struct weir_snapshot *snapshot, struct weir_tls_fault *fault)
{
    const struct weir_conf_list *list = &snapshot->conf->upstreams;
    const struct weir_cluster_conf *confs = list->at;
    struct weir_service *service = snapshot->service;
    const struct weir_upstreams_opts opts = { .log = service->log,
                                              .workers = service->worker_count,
                                              .dns = &snapshot->conf->dns,
                                              .limits = &snapshot->answer_limits,
                                              .h2 = &snapshot->answer_costs };

    for (; snapshot->target_count < list->count; snapshot->target_count++) {
        const struct weir_cluster_conf *one = &confs[snapshot->target_count];
        struct weir_target *target = weir_target_for(service, service->snapshot, one, &opts, fault);

        if (!target)
            return weir_fault_of(fault, "upstream", one->name, WEIR_ECONFIG);
        snapshot->targets[snapshot->target_count] = target;
        snapshot->tells |= one->proxy_protocol != WEIR_PP_OFF;
    }
    return 0;
}

static int compile_listeners(struct weir_snapshot *snapshot, struct weir_tls_fault *fault)
{
    const struct weir_conf_list *list = &snapshot->conf->listeners;
    const struct weir_listener_conf *confs = list->at;
    int err = 0;

    for (unsigned i = 0; i < list->count && !err; i++) {
        struct weir_listener *listener = &snapshot->listeners[i];

        listener->index = i;
        snapshot->listener_count++;
        err = weir_listener_init(listener, snapshot, &confs[i], fault);
    }
    for (unsigned i = 0; i < snapshot->listener_count && !err; i++) {
        err = weir_listener_link(&snapshot->listeners[i], fault);
        if (err)
            return weir_fault_of(fault, "listener", confs[i].name, err);
    }
    return err;
}

static int filter_state_init(struct weir_snapshot *snapshot, struct weir_seat *seat)
{
    seat->filter_state = calloc(snapshot->slots + 1, sizeof(*seat->filter_state));
    if (!seat->filter_state)
        return WEIR_ENOMEM;
    for (unsigned i = 0; i < snapshot->listener_count; i++)
        for (unsigned r = 0; r < snapshot->listeners[i].routes.count; r++) {
            const struct weir_route *route = &snapshot->listeners[i].routes.at[r];

            if (!route->chains.worker_bytes)
                continue;
            seat->filter_state[route->slot] = calloc(1, route->chains.worker_bytes);
            if (!seat->filter_state[route->slot])
                return WEIR_ENOMEM;
        }
    return 0;
}

static int compile(struct weir_snapshot *snapshot, struct weir_tls_fault *fault)
{
    const struct weir_proxy_conf *conf = snapshot->conf;
    const struct weir_listener_conf *listeners = conf->listeners.at;
    size_t routes = 0;
    int err;

    for (size_t i = 0; i < conf->listeners.count; i++)
        routes += listeners[i].routes.count + 1;
    snapshot->answer_limits = weir_guard_limits_of(&conf->limits); /* connections are shared */
    snapshot->answer_costs = weir_h2_limits_of(&conf->limits);
    snapshot->logs = calloc(routes + 1, sizeof(*snapshot->logs));
    snapshot->listeners = calloc(conf->listeners.count + 1, sizeof(*snapshot->listeners));
    snapshot->targets = calloc(conf->upstreams.count + 1, sizeof(*snapshot->targets));
    if (!snapshot->logs || !snapshot->listeners || !snapshot->targets)
        return WEIR_ENOMEM;
    snapshot->access = weir_access_new(&conf->access, &snapshot->service->ban_table, fault);
    if (!snapshot->access)
        return WEIR_ECONFIG;
    err = compile_targets(snapshot, fault);
    if (!err)
        err = compile_listeners(snapshot, fault);
    for (unsigned w = 0; w < snapshot->service->worker_count && !err; w++)
        err = filter_state_init(snapshot, &snapshot->seats[w]);
    return err;
}

struct weir_snapshot *weir_snapshot_new(struct weir_service *service,
                                        const struct weir_proxy_conf *conf,
                                        struct weir_tls_fault *fault, int *err)
{
    size_t bytes = sizeof(struct weir_snapshot) + service->worker_count * sizeof(struct weir_seat);
    struct weir_snapshot *snapshot = weir_zalloc_aligned(bytes);

    *err = WEIR_ENOMEM;
    if (!snapshot)
        return NULL;
    snapshot->service = service;
    snapshot->serial = ++service->serial;
    snapshot->conf = conf;
    weir_list_init(&snapshot->link);
    for (unsigned w = 0; w < service->worker_count; w++) {
        snapshot->seats[w].snapshot = snapshot;
        snapshot->seats[w].worker = &service->workers[w];
    }
    *err = compile(snapshot, fault);
    if (!*err)
        return snapshot;
    weir_snapshot_free(snapshot);
    return NULL;
}

void weir_snapshot_free(struct weir_snapshot *snapshot)
{
    if (!snapshot)
        return;
    weir_list_remove(&snapshot->link);
    for (unsigned w = 0; w < snapshot->service->worker_count; w++) {
        void **state = snapshot->seats[w].filter_state;

        for (unsigned i = 0; state && i < snapshot->slots; i++)
            free(state[i]);
        free(state);
    }
    for (unsigned i = 0; i < snapshot->listener_count; i++)
        weir_listener_fini(&snapshot->listeners[i]);
    for (unsigned i = 0; i < snapshot->target_count; i++)
        weir_target_put(snapshot->targets[i]);
    for (unsigned i = 0; i < snapshot->log_count; i++)
        weir_access_log_close(snapshot->logs[i]);
    weir_access_free(snapshot->access);
    free(snapshot->logs);
    free(snapshot->listeners);
    free(snapshot->targets);
    if (snapshot->on_free)
        snapshot->on_free(snapshot->arg);
    free(snapshot);
}

/* ---- sockets ---- */

/* One that is open, and that nobody else in this snapshot has taken: of the listener of the same name, or of any. */
static struct weir_bound *find_bound(const struct weir_snapshot *before,
                                     const struct weir_listener *listener,
                                     const struct weir_addr *addr)
{
    struct weir_bound *found = NULL;

    for (unsigned i = 0; before && i < before->listener_count; i++) {
        const struct weir_listener *old = &before->listeners[i];

        if (found && old->door != listener->door)
            continue;
        for (unsigned b = 0; b < old->bound_count; b++) {
            struct weir_bound *bound = old->bounds[b];

            if (bound->claimed != listener->snapshot->serial &&
                weir_bound_fits(bound, listener->conf, addr)) {
                found = bound;
                break;
            }
        }
    }
    return found;
}

/* An address of ours that is in the way of a new one: it can only go before. */
static void tell_own(const struct weir_snapshot *before, const struct weir_addr *addr,
                     struct weir_tls_fault *fault)
{
    size_t at = strlen(fault->text);

    for (unsigned i = 0; before && i < before->listener_count; i++) {
        const struct weir_listener *old = &before->listeners[i];

        for (unsigned b = 0; b < old->bound_count; b++)
            if (weir_addr_port(&old->bounds[b]->addr) == weir_addr_port(addr) &&
                old->bounds[b]->addr.sa.sa_family != AF_UNIX && at < sizeof(fault->text)) {
                snprintf(fault->text + at, sizeof(fault->text) - at,
                         "; listener '%.*s' of what runs may be in its way: take that away by a "
                         "reload of its own",
                         WEIR_FMT(old->conf->name));
                return;
            }
    }
}

static int bind_listener(struct weir_listener *listener, struct weir_tls_fault *fault)
{
    struct weir_service *service = listener->snapshot->service;
    const struct weir_snapshot *before = service->snapshot;
    const struct weir_strs *binds = &listener->conf->bind;
    int err = 0;

    while (listener->bound_count < binds->count) {
        struct weir_addr addr;
        struct weir_bound *bound = NULL;

        if (!weir_addr_parse(&addr, binds->at[listener->bound_count]))
            bound = find_bound(before, listener, &addr);
        if (bound)
            weir_bound_get(bound);
        else
            bound = weir_bound_new(listener->conf, listener->bound_count, service->worker_count,
                                   service->bind, fault, &err);
        if (!bound) {
            if (before != listener->snapshot && err == WEIR_EADDRINUSE)
                tell_own(before, &addr, fault);
            return err;
        }
        bound->claimed = listener->snapshot->serial;
        listener->bounds[listener->bound_count++] = bound;
    }
    return 0;
}

int weir_snapshot_bind(struct weir_snapshot *snapshot, struct weir_tls_fault *fault)
{
    int err = 0;

    for (unsigned i = 0; i < snapshot->listener_count && !err; i++)
        err = bind_listener(&snapshot->listeners[i], fault);
    return err;
}
