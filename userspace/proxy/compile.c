/* SPDX-License-Identifier: Apache-2.0 */
/** compile.c: a listener from what its configuration says: addresses, routes, certificates, limits. Nothing is bound here. */
#include "proxy/snapshot.h"

#include "base/str.h"
#include "proxy/worker.h"

#include <stdio.h>
#include <stdlib.h>

int weir_fault_of(struct weir_tls_fault *fault, const char *kind, struct weir_str name, int err)
{
    struct weir_tls_fault why = *fault;

    snprintf(fault->text, sizeof(fault->text), "%s '%.*s': %.400s", kind, WEIR_FMT(name),
             why.text[0] ? why.text : weir_err_text((enum weir_err)err));
    return err;
}

/* ---- limits ---- */

struct weir_guard_limits weir_guard_limits_of(const struct weir_limit_conf *limits)
{
    return (struct weir_guard_limits){ .head_bytes = limits->head > 0 ? (uint32_t)limits->head : 0,
                                       .head_count =
                                           limits->headers > 0 ? (uint32_t)limits->headers : 0 };
}

/* `off` is as much as fits. */
static uint32_t count_of(double limit)
{
    return limit < 0 || limit > UINT32_MAX ? UINT32_MAX : limit < 1 ? 1 : (uint32_t)limit;
}

struct weir_h2_limits weir_h2_limits_of(const struct weir_limit_conf *limits)
{
    return (struct weir_h2_limits){ .streams = count_of((double)limits->streams),
                                    .resets_per_minute = count_of(limits->resets * 60),
                                    .pings_per_minute = count_of(limits->pings * 60) };
}

/* ---- routes ---- */

static int open_log(struct weir_snapshot *snapshot, const struct weir_access_log_conf *conf,
                    struct weir_access_log **log, struct weir_tls_fault *fault)
{
    *log = NULL;
    if (conf->off || weir_str_absent(conf->to))
        return 0;
    *log = weir_access_log_open(conf, snapshot->service->open_log, snapshot->service->open_log_arg,
                                fault);
    if (!*log)
        return WEIR_ECONFIG;
    weir_access_log_set_log(*log, snapshot->service->log);
    snapshot->logs[snapshot->log_count++] = *log;
    return 0;
}

/* Where it leads: an upstream; another listener, which weir_listener_link finds; or nowhere: then a filter answers. */
static int find_target(struct weir_listener *listener, struct weir_route *route,
                       struct weir_tls_fault *fault)
{
    struct weir_str to = route->conf->to, name;

    if (weir_str_absent(to) || weir_route_hands_over(to, &name))
        return 0;
    route->target = weir_snapshot_target(listener->snapshot, to);
    if (route->target)
        return 0;
    snprintf(fault->text, sizeof(fault->text), "there is no upstream '%.*s'", WEIR_FMT(to));
    return WEIR_ECONFIG;
}

/* Which of several of its name it is. */
static unsigned nth_of(const struct weir_conf_list *routes, const struct weir_route_conf *conf)
{
    unsigned n = 0;

    for (const struct weir_route_conf *other = routes->at; other != conf; other++)
        n += weir_str_eq(other->name, conf->name);
    return n;
}

static int compile_route(struct weir_listener *listener, const struct weir_route_conf *conf,
                         struct weir_route *route, struct weir_tls_fault *fault)
{
    unsigned nth = nth_of(&listener->conf->routes, conf);
    int err;

    route->conf = conf;
    route->index = listener->routes.count++;
    route->slot = listener->snapshot->slots++;
    route->row = weir_door_row(listener->door, conf->name, nth);
    if (!route->row)
        return WEIR_ENOMEM;
    err = find_target(listener, route, fault);
    if (!err)
        err = weir_chains_init(&route->chains, conf->filters, conf->filter_count);
    if (!err && listener->conf->protocol == WEIR_PROTOCOL_TCP) {
        weir_chains_of_tcp(&route->chains);
        listener->peeks |= conf->match.sni.count && !listener->conf->tls_on;
    }
    if (!err)
        err = weir_route_compile(route, fault);
    return err ? err : open_log(listener->snapshot, &conf->access_log, &route->log, fault);
}

static int compile_routes(struct weir_listener *listener, struct weir_tls_fault *fault)
{
    const struct weir_conf_list *list = &listener->conf->routes;
    const struct weir_route_conf *confs = list->at;
    int err;

    listener->routes.at = calloc(list->count + 1, sizeof(*listener->routes.at));
    listener->unrouted = weir_door_row(listener->door, WEIR_STR(""), UINT32_MAX);
    if (!listener->routes.at || !listener->unrouted)
        return WEIR_ENOMEM;
    err = open_log(listener->snapshot, &listener->conf->access_log, &listener->routes.log, fault);
    for (size_t i = 0; !err && i < list->count; i++) {
        err = compile_route(listener, &confs[i], &listener->routes.at[i], fault);
        if (err)
            return weir_fault_of(fault, "route", confs[i].name, err);
    }
    return err;
}

int weir_listener_link(struct weir_listener *listener, struct weir_tls_fault *fault)
{
    const struct weir_snapshot *snapshot = listener->snapshot;
    struct weir_str name;

    for (unsigned i = 0; i < listener->routes.count; i++) {
        struct weir_route *route = &listener->routes.at[i];

        if (weir_str_absent(route->conf->to) || !weir_route_hands_over(route->conf->to, &name))
            continue;
        for (unsigned l = 0; l < snapshot->listener_count; l++)
            if (weir_str_eq(snapshot->listeners[l].conf->name, name))
                route->door = snapshot->listeners[l].door;
        if (!route->door) {
            snprintf(fault->text, sizeof(fault->text), "there is no listener '%.*s'",
                     WEIR_FMT(name));
            return weir_fault_of(fault, "route", route->conf->name, WEIR_ECONFIG);
        }
    }
    return 0;
}

/* ---- the rest ---- */

/* They are bound later: what is wrong with them is told with all else of the listener. */
static int check_addrs(const struct weir_listener *listener, struct weir_tls_fault *fault)
{
    const struct weir_strs *binds = &listener->conf->bind;
    struct weir_addr addr;

    for (size_t i = 0; i < binds->count; i++)
        if (weir_addr_parse(&addr, binds->at[i])) {
            snprintf(fault->text, sizeof(fault->text), "'%.*s' is not an address",
                     WEIR_FMT(binds->at[i]));
            return WEIR_ECONFIG;
        }
    return 0;
}

static int compile_trusted(struct weir_listener *listener, struct weir_tls_fault *fault)
{
    const struct weir_strs *trusted = &listener->conf->trusted_proxies;

    listener->trusted = calloc(trusted->count + 1, sizeof(*listener->trusted));
    if (!listener->trusted)
        return WEIR_ENOMEM;
    for (; listener->trusted_count < trusted->count; listener->trusted_count++)
        if (weir_prefix_parse(&listener->trusted[listener->trusted_count],
                              trusted->at[listener->trusted_count])) {
            snprintf(fault->text, sizeof(fault->text), "trusted_proxies: '%.*s' is not a prefix",
                     WEIR_FMT(trusted->at[listener->trusted_count]));
            return WEIR_ECONFIG;
        }
    return 0;
}

/* The values of Via (RFC 9110 7.6.3), written once. */
static int compile_via(struct weir_listener *listener)
{
    struct weir_str name = listener->conf->via;

    static const char *const versions[] = { "1.1", "1.0", "2" };

    for (int i = 0; i < 3 && name.len; i++) {
        char *text = malloc(name.len + 5);

        if (!text)
            return WEIR_ENOMEM;
        listener->via[i] = (struct weir_str){ text, (size_t)sprintf(text, "%s %.*s", versions[i],
                                                                    WEIR_FMT(name)) };
    }
    return 0;
}

static int compile_tls(struct weir_listener *listener, const struct weir_listener *before,
                       struct weir_tls_fault *fault)
{
    if (!listener->conf->tls_on)
        return 0;
    listener->tls = weir_tls_server_new(&listener->conf->tls, listener->conf->name, fault);
    if (!listener->tls)
        return WEIR_ECONFIG;
    if (before && before->tls)
        weir_tls_server_succeed(listener->tls, before->tls);
    return 0;
}

/* The listener of that name that is in force. */
static const struct weir_listener *listener_before(const struct weir_snapshot *snapshot,
                                                   struct weir_str name)
{
    const struct weir_snapshot *before = snapshot->service->snapshot;

    for (unsigned i = 0; before && i < before->listener_count; i++)
        if (weir_str_eq(before->listeners[i].conf->name, name))
            return &before->listeners[i];
    return NULL;
}

int weir_listener_init(struct weir_listener *listener, struct weir_snapshot *snapshot,
                       const struct weir_listener_conf *conf, struct weir_tls_fault *fault)
{
    const struct weir_listener *before = listener_before(snapshot, conf->name);
    int err;

    listener->conf = conf;
    listener->snapshot = snapshot;
    listener->guard = weir_guard_limits_of(&conf->limits);
    listener->h2 = weir_h2_limits_of(&conf->limits);
    listener->door = before ? weir_door_get(before->door)
                            : weir_door_new(conf->name, snapshot->service->workers,
                                            snapshot->service->worker_count);
    listener->bounds = calloc(conf->bind.count + 1, sizeof(*listener->bounds));
    err = listener->door && listener->bounds ? compile_via(listener) : WEIR_ENOMEM;
    if (!err)
        err = check_addrs(listener, fault);
    if (!err)
        err = compile_trusted(listener, fault);
    if (!err)
        err = compile_routes(listener, fault);
    if (!err)
        err = compile_tls(listener, before, fault);
    return err ? weir_fault_of(fault, "listener", conf->name, err) : 0;
}

void weir_listener_fini(struct weir_listener *listener)
{
    for (unsigned i = 0; i < listener->bound_count; i++)
        weir_bound_put(listener->bounds[i]);
    for (unsigned i = 0; i < listener->routes.count; i++) {
        struct weir_route *route = &listener->routes.at[i];

        weir_route_free(route);
        weir_chains_fini(&route->chains);
        if (route->row)
            weir_route_row_put(route->row);
    }
    for (int i = 0; i < 3; i++)
        free((char *)(uintptr_t)listener->via[i].ptr);
    free(listener->routes.at);
    free(listener->bounds);
    free(listener->trusted);
    if (listener->unrouted)
        weir_route_row_put(listener->unrouted);
    if (listener->tls)
        weir_tls_server_put(listener->tls);
    if (listener->door)
        weir_door_put(listener->door);
}
