/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/server_conf.h"

#include "base/str.h"
#include "net/addr.h"
#include "proxy/filters.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A program may have been built with an older, shorter options struct: what it does not know is 0.
 */
#define OPTS_COPY(to, from)                                                                        \
    (memset((to), 0, sizeof(*(to))),                                                               \
     (from) && (from)->size >= sizeof(size_t)                                                      \
         ? (void)memcpy((to), (from), (from)->size < sizeof(*(to)) ? (from)->size : sizeof(*(to))) \
         : (void)0)

WEIR_PRINTF(3, 4)
static int fail(struct weir_server_conf_set *set, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(set->fault.text, sizeof(set->fault.text), format, args);
    va_end(args);
    return err;
}

static int no_memory(struct weir_server_conf_set *set)
{
    return fail(set, WEIR_ENOMEM, "out of memory");
}

/* Makes room for one more element, zeroed. */
static void *grow(void **array, size_t count, size_t bytes)
{
    char *at = realloc(*array, (count + 1) * bytes);

    if (!at)
        return NULL;
    *array = at;
    return memset(at + count * bytes, 0, bytes);
}
#define GROW(array, count) grow((void **)&(array), (count), sizeof(*(array)))

/* A copy; absent stays absent. */
static bool copy(struct weir_server_conf_set *set, struct weir_str *to, const char *text)
{
    if (!text)
        return true;
    *to = weir_arena_copy(&set->arena, weir_str(text));
    return to->ptr != NULL;
}

static bool one(struct weir_server_conf_set *set, struct weir_strs *to, const char *text)
{
    if (!text)
        return true;
    to->at = weir_arena_zalloc(&set->arena, sizeof(*to->at));
    to->count = 1;
    return to->at && copy(set, to->at, text);
}

static int name_check(struct weir_server_conf_set *set, const char *kind, const char *name)
{
    size_t len = name ? strlen(name) : 0;

    if (!len || len > WEIR_NAME_BYTES_MAX)
        return fail(set, WEIR_EINVAL, "a name of %s has 1 to %d bytes", kind, WEIR_NAME_BYTES_MAX);
    return 0;
}

static int name_taken(struct weir_server_conf_set *set, const char *kind, const char *name)
{
    return fail(set, WEIR_EEXISTS, "there is %s '%s' already", kind, name);
}

/* ---- upstreams ---- */

static int server_fill(struct weir_server_conf_set *set, const char *upstream,
                       struct weir_server_conf *server, const char *text)
{
    struct weir_addr addr;
    struct weir_str host;
    uint16_t port;

    server->weight = 1;
    if (weir_addr_parse(&addr, weir_str(text))) {
        server->resolve = true;
        if (!weir_addr_split(weir_str(text), &host, &port) || !host.len || !port)
            return fail(set, WEIR_EINVAL,
                        "upstream '%s': '%.64s' is not an address or name with a port", upstream,
                        text);
    }
    return copy(set, &server->address, text) ? 0 : no_memory(set);
}

static int servers_fill(struct weir_server_conf_set *set, struct weir_cluster_conf *conf,
                        const struct weir_upstream_opts *opts)
{
    struct weir_server_conf *servers;
    size_t count = 0;
    int err = 0;

    while (opts->servers && opts->servers[count])
        count++;
    if (!count)
        return fail(set, WEIR_EINVAL, "upstream '%s' has no servers", opts->name);
    servers = weir_arena_zalloc(&set->arena, count * sizeof(*servers));
    if (!servers)
        return no_memory(set);
    for (size_t i = 0; i < count && !err; i++)
        err = server_fill(set, opts->name, &servers[i], opts->servers[i]);
    conf->servers = (struct weir_conf_list){ servers, count };
    return err;
}

static struct weir_cluster_conf *upstream_named(const struct weir_server_conf_set *set,
                                                struct weir_str name)
{
    for (size_t i = 0; i < set->upstream_count; i++)
        if (weir_str_eq(set->upstreams[i].name, name))
            return &set->upstreams[i];
    return NULL;
}

int weir_server_add_upstream(struct weir_server_conf_set *set,
                             const struct weir_upstream_opts *from)
{
    struct weir_upstream_opts opts;
    struct weir_cluster_conf *conf;
    int err;

    OPTS_COPY(&opts, from);
    err = name_check(set, "an upstream", opts.name);
    if (err)
        return err;
    if (upstream_named(set, weir_str(opts.name)))
        return name_taken(set, "an upstream", opts.name);
    conf = GROW(set->upstreams, set->upstream_count);
    if (!conf)
        return no_memory(set);
    weir_cluster_conf_init(conf);
    conf->tls_on = opts.tls;
    conf->tls.verify = !opts.tls_no_verify;
    if (!copy(set, &conf->name, opts.name) || !copy(set, &conf->tls.sni, opts.tls_sni) ||
        !copy(set, &conf->tls.ca, opts.tls_ca))
        return no_memory(set);
    err = servers_fill(set, conf, &opts);
    set->upstream_count += !err;
    return err;
}

/* ---- routes ---- */

static int filters_fill(struct weir_server_conf_set *set, struct weir_route_conf *conf,
                        const struct weir_route_opts *opts)
{
    if (!opts->filter_count)
        return 0;
    conf->filters = weir_arena_zalloc(&set->arena, opts->filter_count * sizeof(*conf->filters));
    if (!conf->filters)
        return no_memory(set);
    for (size_t i = 0; i < opts->filter_count; i++) {
        const struct weir_filter *filter = opts->filters[i].filter;

        if (!filter || filter->size < offsetof(struct weir_filter, state_bytes))
            return fail(set, WEIR_EINVAL, "route '%s': filter %zu is not one", opts->name, i);
        conf->filters[i] = (struct weir_filter_use){ filter, opts->filters[i].self };
    }
    conf->filter_count = opts->filter_count;
    return 0;
}

static void times_fill(struct weir_route_conf *conf, const struct weir_route_opts *opts)
{
    if (opts->attempts > 0)
        conf->retry.attempts = opts->attempts;
    if (opts->connect_timeout_ms)
        conf->timeouts.connect = opts->connect_timeout_ms;
    if (opts->first_byte_timeout_ms)
        conf->timeouts.first_byte = opts->first_byte_timeout_ms;
    if (opts->idle_timeout_ms)
        conf->timeouts.idle = opts->idle_timeout_ms;
}

int weir_server_add_route(struct weir_server_conf_set *set, const struct weir_route_opts *from)
{
    struct weir_route_opts opts;
    struct weir_server_route *route;
    int err;

    OPTS_COPY(&opts, from);
    err = name_check(set, "a route", opts.name);
    if (err)
        return err;
    if (!opts.to && !opts.filter_count)
        return fail(set, WEIR_EINVAL, "route '%s' says no upstream (to), and has no filter",
                    opts.name);
    for (size_t i = 0; i < set->route_count; i++)
        if (weir_str_eq(set->routes[i].conf.name, weir_str(opts.name)))
            return name_taken(set, "a route", opts.name);
    route = GROW(set->routes, set->route_count);
    if (!route)
        return no_memory(set);
    weir_route_conf_init(&route->conf);
    times_fill(&route->conf, &opts);
    if (!copy(set, &route->listener, opts.listener) || !copy(set, &route->conf.name, opts.name) ||
        !copy(set, &route->conf.to, opts.to) || !one(set, &route->conf.match.host, opts.host) ||
        !one(set, &route->conf.match.path, opts.path))
        return no_memory(set);
    err = filters_fill(set, &route->conf, &opts);
    set->route_count += !err;
    return err;
}

/* ---- listeners ---- */

static int tls_fill(struct weir_server_conf_set *set, struct weir_listener_conf *conf,
                    const struct weir_listener_opts *opts)
{
    struct weir_tls_cert_conf *cert;

    if (!opts->tls_cert && !opts->tls_key)
        return 0;
    if (!opts->tls_cert)
        return fail(set, WEIR_EINVAL, "listener '%s' has a key and no certificate", opts->name);
    cert = weir_arena_zalloc(&set->arena, sizeof(*cert));
    if (!cert || !copy(set, &cert->cert, opts->tls_cert) ||
        !copy(set, &cert->key, opts->tls_key ? opts->tls_key : opts->tls_cert))
        return no_memory(set);
    conf->tls_on = true;
    conf->tls.certs = (struct weir_conf_list){ cert, 1 };
    return 0;
}

static struct weir_listener_conf *listener_named(const struct weir_server_conf_set *set,
                                                 struct weir_str name)
{
    for (size_t i = 0; i < set->listener_count; i++)
        if (weir_str_eq(set->listeners[i].name, name))
            return &set->listeners[i];
    return NULL;
}

int weir_server_add_listener(struct weir_server_conf_set *set,
                             const struct weir_listener_opts *from)
{
    struct weir_listener_opts opts;
    struct weir_listener_conf *conf;
    struct weir_addr addr;
    int err;

    OPTS_COPY(&opts, from);
    err = name_check(set, "a listener", opts.name);
    if (err)
        return err;
    if (listener_named(set, weir_str(opts.name)))
        return name_taken(set, "a listener", opts.name);
    if (!opts.bind || weir_addr_parse(&addr, weir_str(opts.bind)))
        return fail(set, WEIR_EINVAL, "listener '%s': '%.64s' is not an address to bind", opts.name,
                    opts.bind ? opts.bind : "");
    conf = GROW(set->listeners, set->listener_count);
    if (!conf)
        return no_memory(set);
    weir_listener_conf_init(conf);
    if (!copy(set, &conf->name, opts.name) || !one(set, &conf->bind, opts.bind))
        return no_memory(set);
    if (opts.tcp) {
        conf->protocol = WEIR_PROTOCOL_TCP;
        conf->tls.alpn = (struct weir_strs){ NULL, 0 }; /* the default is of HTTP */
    }
    err = tls_fill(set, conf, &opts);
    set->listener_count += !err;
    return err;
}

/* ---- all together ---- */

static bool route_is_of(const struct weir_server_route *route,
                        const struct weir_listener_conf *listener)
{
    return weir_str_absent(route->listener) || weir_str_eq(route->listener, listener->name);
}

/* Levels are resolved here, as the daemon does: a service asks no level above. */
static void listener_inherit(struct weir_listener_conf *listener, const struct weir_proxy_conf *top)
{
    weir_timeouts_inherit(&listener->timeouts, &top->timeouts);
    weir_limits_inherit(&listener->limits, &top->limits);
    listener->access_log = top->access_log;
}

static void route_inherit(struct weir_route_conf *to, const struct weir_route_conf *from,
                          const struct weir_listener_conf *listener)
{
    *to = *from;
    weir_timeouts_inherit(&to->timeouts, &listener->timeouts);
    weir_limits_inherit(&to->limits, &listener->limits);
    to->access_log = listener->access_log;
}

static int routes_give(struct weir_server_conf_set *set, struct weir_listener_conf *listener)
{
    struct weir_route_conf *routes =
        weir_arena_zalloc(&set->arena, (set->route_count + 1) * sizeof(*routes));
    size_t count = 0;

    if (!routes)
        return no_memory(set);
    for (size_t i = 0; i < set->route_count; i++)
        if (route_is_of(&set->routes[i], listener))
            route_inherit(&routes[count++], &set->routes[i].conf, listener);
    listener->routes = (struct weir_conf_list){ routes, count };
    return 0;
}

static int names_check(struct weir_server_conf_set *set)
{
    for (size_t i = 0; i < set->route_count; i++) {
        const struct weir_server_route *route = &set->routes[i];

        if (route->conf.to.ptr && !upstream_named(set, route->conf.to))
            return fail(set, WEIR_EINVAL, "route '%.*s': there is no upstream '%.*s'",
                        WEIR_FMT(route->conf.name), WEIR_FMT(route->conf.to));
        if (route->listener.ptr && !listener_named(set, route->listener))
            return fail(set, WEIR_EINVAL, "route '%.*s': there is no listener '%.*s'",
                        WEIR_FMT(route->conf.name), WEIR_FMT(route->listener));
    }
    if (!set->listener_count)
        return fail(set, WEIR_EINVAL, "there is no listener");
    return 0;
}

int weir_server_build(struct weir_server_conf_set *set, struct weir_proxy_conf *conf)
{
    int err = names_check(set);

    for (size_t i = 0; i < set->listener_count && !err; i++) {
        listener_inherit(&set->listeners[i], conf);
        err = routes_give(set, &set->listeners[i]);
    }
    conf->listeners = (struct weir_conf_list){ set->listeners, set->listener_count };
    conf->upstreams = (struct weir_conf_list){ set->upstreams, set->upstream_count };
    return err;
}

/* Was this filter met before (route, place) in the order of the routes? */
static bool filter_seen(const struct weir_server_conf_set *set, size_t route, size_t place)
{
    const struct weir_filter_use *use = &set->routes[route].conf.filters[place];

    for (size_t i = 0; i <= route; i++) {
        const struct weir_route_conf *conf = &set->routes[i].conf;

        for (size_t k = 0; k < (i == route ? place : conf->filter_count); k++)
            if (conf->filters[k].filter == use->filter && conf->filters[k].self == use->self)
                return true;
    }
    return false;
}

void weir_server_conf_fini(struct weir_server_conf_set *set)
{
    for (size_t i = 0; i < set->route_count; i++) {
        const struct weir_route_conf *conf = &set->routes[i].conf;

        for (size_t k = 0; k < conf->filter_count; k++)
            if (WEIR_FILTER_HAS(conf->filters[k].filter, fini) && !filter_seen(set, i, k))
                conf->filters[k].filter->fini(conf->filters[k].self);
    }
    free(set->listeners);
    free(set->upstreams);
    free(set->routes);
    weir_arena_fini(&set->arena);
}
