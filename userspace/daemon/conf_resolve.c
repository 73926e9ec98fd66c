/* SPDX-License-Identifier: Apache-2.0 */
/* conf_resolve.c: the end of a load: routes are copied into their listeners, what a level does not
 * say is inherited, and routes that answer by themselves get the filter that does it. */
#include "daemon/conf_internal.h"

static void resolve_access_log(struct conf_load *load, struct weir_access_log_conf *low,
                               const void *field, const struct weir_access_log_conf *high)
{
    const struct conf_pair *pair = conf_place(load, field, "access_log");

    *low = *high;
    low->set = false;
    if (pair && !conf_node_null(pair->value))
        conf_access_log_fill(load, pair, low, NULL);
}

/* What a route cannot say, since connections have it, is as the listener has it. */
static void leave_to_listener(const struct weir_conf_item *rows, const struct weir_conf_item *own,
                              void *base)
{
    for (; rows->name; rows++) {
        void *field = (char *)base + rows->offset;

        if (conf_item_find(own, weir_str(rows->name)))
            continue;
        if (rows->type == WEIR_CONF_RATE)
            *(double *)field = 0;
        else
            *(int64_t *)field = WEIR_INHERIT;
    }
}

/* Listeners that share routes may have other `paths`: each has its own. */
static void resolve_paths(struct conf_load *load, struct weir_strs *paths, int how)
{
    struct weir_str *own = conf_alloc(load, paths->count * sizeof(*own));

    for (size_t i = 0; own && i < paths->count; i++) {
        own[i] = paths->at[i];
        (void)!conf_path_apply(load, how, &own[i]); /* one that is refused stays: it was told */
    }
    paths->at = own;
}

static void resolve_route(struct conf_load *load, struct weir_route_conf *route,
                          const struct weir_route_conf *from,
                          const struct weir_listener_conf *listener)
{
    *route = *from;
    leave_to_listener(conf_timeout_items, conf_route_timeout_items, &route->timeouts);
    leave_to_listener(conf_limit_items, conf_route_limit_items, &route->limits);
    if (route->match.path.count)
        resolve_paths(load, &route->match.path, listener->paths);
    weir_timeouts_inherit(&route->timeouts, &listener->timeouts);
    weir_limits_inherit(&route->limits, &listener->limits);
    resolve_access_log(load, &route->access_log, &from->access_log, &listener->access_log);
}

static void resolve_listener(struct conf_load *load, struct weir_listener_conf *listener)
{
    const struct weir_proxy_conf *proxy = &load->conf->proxy;
    const struct conf_pair *pair = conf_place(load, &listener->routes, "routes");
    struct conf_routes *named = NULL;
    struct weir_conf_list from;
    struct weir_route_conf *routes;

    if (pair && pair->value->kind == CONF_SCALAR)
        named = conf_routes_find(load, pair->value->text);
    from = named ? named->routes : listener->routes;
    weir_timeouts_inherit(&listener->timeouts, &proxy->timeouts);
    weir_limits_inherit(&listener->limits, &proxy->limits);
    resolve_access_log(load, &listener->access_log, &listener->access_log, &proxy->access_log);
    routes = conf_alloc(load, from.count * sizeof(*routes));
    for (size_t i = 0; routes && i < from.count; i++)
        resolve_route(load, &routes[i], (struct weir_route_conf *)from.at + i, listener);
    listener->routes = (struct weir_conf_list){ routes, routes ? from.count : 0 };
}

static void make_answers(struct conf_load *load, const struct weir_listener_conf *listener)
{
    struct weir_route_conf *routes = listener->routes.at;

    for (size_t i = 0; i < listener->routes.count && !load->nomem; i++)
        conf_answer_make(load, &routes[i]);
}

void conf_resolve(struct conf_load *load)
{
    struct weir_listener_conf *listeners = load->conf->proxy.listeners.at;

    load->mute++; /* what is read once more was diagnosed the first time */
    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        resolve_listener(load, &listeners[i]);
    load->mute--;
    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        make_answers(load, &listeners[i]);
}
