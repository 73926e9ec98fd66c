/* SPDX-License-Identifier: Apache-2.0 */
/* conf_check_tcp.c: what does not fit a listener of `protocol: tcp`. It passes bytes on unread: whatever is said about
 * messages of HTTP would silently do nothing there. */
#include "daemon/conf_internal.h"

#include "proxy/filters.h"

/* A key that a tcp listener or one of its routes has no use for. */
struct unfit {
    const void *field;
    const char *name;
    const char *def; /* of its row; NULL: none */
};

/* "a" or "[a, b]", as defaults are written. What says no more than the default is harmless: --effective says all of them. */
static bool says_default(const struct conf_node *node, const char *def)
{
    struct weir_str rest = weir_str(def), word;
    size_t i = 0;

    if (!def || node->kind == CONF_SCALAR)
        return def && weir_str_eq(node->text, rest);
    if (node->kind != CONF_LIST || rest.len < 2 || rest.ptr[0] != '[')
        return false;
    rest = (struct weir_str){ rest.ptr + 1, rest.len - 2 };
    for (; weir_str_next_element(&rest, &word); i++)
        if (i == node->count || !weir_str_eq(node->items[i]->text, word))
            return false;
    return i == node->count;
}

static void check_unfit(struct conf_load *load, const struct unfit *keys, size_t count,
                        const char *why)
{
    for (size_t i = 0; i < count; i++) {
        const struct conf_pair *pair = conf_place(load, keys[i].field, keys[i].name);

        if (pair && !says_default(pair->value, keys[i].def))
            conf_error(load, &pair->mark, "'%s' %s", keys[i].name, why);
    }
}
#define CHECK_UNFIT(load, why, ...)                                          \
    do {                                                                     \
        const struct unfit keys_[] = { __VA_ARGS__ };                        \
        check_unfit((load), keys_, sizeof(keys_) / sizeof(keys_[0]), (why)); \
    } while (0)

static const char *def_of(const struct weir_conf_item *rows, const char *name)
{
    return conf_item_find(rows, weir_str(name))->def;
}

static void check_match(struct conf_load *load, const struct weir_match_conf *match)
{
    CHECK_UNFIT(load,
                "is matched in requests of HTTP; of a connection to a tcp listener only 'client', "
                "'port' and 'sni' are known",
                { &match->host, "host" }, { &match->path, "path" }, { &match->method, "method" },
                { &match->header, "header" }, { &match->query, "query" },
                { &match->cookie, "cookie" });
}

static void check_filters(struct conf_load *load, const struct weir_route_conf *route)
{
    for (size_t i = 0; i < route->filter_count; i++)
        if (!weir_filter_sees_tcp(route->filters[i].filter))
            conf_error(load, conf_at_key(load, &route->filters, "filters"),
                       "filter '%s' is about messages of HTTP: a tcp listener has none",
                       route->filters[i].filter->name);
}

/* The servers are not asked for HTTP/2: nobody here would speak it. */
static void check_upstream(struct conf_load *load, const struct weir_route_conf *route)
{
    const struct weir_cluster_conf *upstreams = load->conf->proxy.upstreams.at;

    for (size_t i = 0; i < load->conf->proxy.upstreams.count; i++)
        if (weir_str_eq(upstreams[i].name, route->to) && upstreams[i].protocol != WEIR_UPSTREAM_H1)
            conf_error(load, conf_at(load, &route->to, "to"),
                       "upstream '%.*s' has a 'protocol', which clients of a tcp listener would "
                       "have to speak: give it an upstream without",
                       CONF_QUOTE(route->to));
}

static void check_route(struct conf_load *load, const struct weir_route_conf *route)
{
    const char *no_answer = "answers a request of HTTP: a route of a tcp listener needs 'to'";

    if (route->has_reply)
        CHECK_UNFIT(load, no_answer, { route, "reply" });
    if (route->has_redirect)
        CHECK_UNFIT(load, no_answer, { route, "redirect" });
    CHECK_UNFIT(load, "is about requests of HTTP: a tcp listener has none",
                { &route->upgrade, "upgrade", def_of(conf_route_items, "upgrade") },
                { &route->connect, "connect", def_of(conf_route_items, "connect") },
                { &route->host, "host", def_of(conf_route_items, "host") });
    check_match(load, &route->match);
    check_filters(load, route);
    check_upstream(load, route);
}

/* ---- to another listener ---- */

static const struct weir_listener_conf *listener_named(const struct conf_load *load,
                                                       struct weir_str name)
{
    const struct weir_listener_conf *listeners = load->conf->proxy.listeners.at;

    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        if (weir_str_eq(listeners[i].name, name))
            return &listeners[i];
    return NULL;
}

void conf_check_to_listener(struct conf_load *load, const struct weir_route_conf *route,
                            struct weir_str name)
{
    const struct weir_listener_conf *listeners = load->conf->proxy.listeners.at;
    struct conf_nearest near;

    if (listener_named(load, name))
        return;
    conf_nearest_init(&near, name);
    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        conf_nearest_add(&near, listeners[i].name);
    conf_error_hint(load, conf_at(load, &route->to, "to"), near.best, "there is no listener '%.*s'",
                    CONF_QUOTE(name));
}

/* Its own routes, wherever they stand. */
static const struct weir_conf_list *routes_of(struct conf_load *load,
                                              const struct weir_listener_conf *listener)
{
    const struct conf_pair *pair = conf_place(load, &listener->routes, "routes");
    const struct conf_routes *named =
        pair && pair->value->kind == CONF_SCALAR ? conf_routes_find(load, pair->value->text) : NULL;

    return named ? &named->routes : &listener->routes;
}

/* One hop is enough, and no circle. */
static bool hands_on(struct conf_load *load, const struct weir_listener_conf *listener)
{
    const struct weir_conf_list *routes = routes_of(load, listener);
    struct weir_str name;

    for (size_t i = 0; i < routes->count; i++)
        if (weir_route_hands_over(((const struct weir_route_conf *)routes->at)[i].to, &name))
            return true;
    return false;
}

static void check_hand_over(struct conf_load *load, const struct weir_listener_conf *listener,
                            const struct weir_route_conf *route)
{
    const struct conf_mark *mark = conf_at(load, &route->to, "to");
    const struct weir_listener_conf *to;
    struct weir_str name;

    if (!weir_route_hands_over(route->to, &name))
        return;
    to = listener_named(load, name);
    if (listener->protocol != WEIR_PROTOCOL_TCP)
        conf_error(load, mark,
                   "a connection is handed to another listener by a listener of "
                   "'protocol: tcp' alone");
    else if (listener->tls_on)
        conf_error(load, mark,
                   "'%.*s' ends TLS itself: a connection is handed to another listener as it came",
                   CONF_QUOTE(listener->name));
    else if (to && hands_on(load, to))
        conf_error(load, mark,
                   "listener '%.*s' hands connections on as well: only one that does not can be "
                   "handed any",
                   CONF_QUOTE(name));
}

/* ---- all of it ---- */

void conf_check_tcp(struct conf_load *load, struct weir_listener_conf *listener,
                    const struct weir_conf_list *routes)
{
    for (size_t i = 0; i < routes->count; i++)
        check_hand_over(load, listener, (const struct weir_route_conf *)routes->at + i);
    if (listener->protocol != WEIR_PROTOCOL_TCP)
        return;
    CHECK_UNFIT(
        load, "is about requests of HTTP: a listener of 'protocol: tcp' has none",
        { &listener->paths, "paths", def_of(conf_listener_items, "paths") },
        { &listener->underscores, "underscores", def_of(conf_listener_items, "underscores") },
        { &listener->forwarded, "forwarded", def_of(conf_listener_items, "forwarded") },
        { &listener->via, "via", def_of(conf_listener_items, "via") },
        { &listener->request_id, "request_id", def_of(conf_listener_items, "request_id") });
    for (size_t i = 0; i < routes->count; i++)
        check_route(load, (const struct weir_route_conf *)routes->at + i);
    if (!conf_place(load, &listener->tls.alpn, "alpn")) /* the default is of HTTP */
        listener->tls.alpn = (struct weir_strs){ NULL, 0 };
}
