/* SPDX-License-Identifier: Apache-2.0 */
/* conf_check_route.c: routes: where they lead, what they match, and whether they ever can. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "daemon/conf_internal.h"

#include "http/guard.h"
#include "weir/limits.h"

#include <pcre2.h>

struct conf_routes *conf_routes_find(struct conf_load *load, struct weir_str name)
{
    for (size_t i = 0; i < load->route_lists; i++)
        if (weir_str_eq(load->routes[i].name, name))
            return &load->routes[i];
    return NULL;
}

/* ---- where it leads ---- */

static void check_to(struct conf_load *load, const struct weir_route_conf *route)
{
    const struct weir_cluster_conf *upstreams = load->conf->proxy.upstreams.at;
    struct weir_str listener;
    struct conf_nearest near;

    if (weir_route_hands_over(route->to, &listener)) {
        conf_check_to_listener(load, route, listener);
        return;
    }
    conf_nearest_init(&near, route->to);
    for (size_t i = 0; i < load->conf->proxy.upstreams.count; i++) {
        if (weir_str_eq(upstreams[i].name, route->to))
            return;
        conf_nearest_add(&near, upstreams[i].name);
    }
    conf_error_hint(load, conf_at(load, &route->to, "to"), near.best, "there is no upstream '%.*s'",
                    CONF_QUOTE(route->to));
}

/* RFC 9110 6.4.1. */
static bool has_no_body(int64_t status)
{
    return status == 204 || status == 304;
}

static void check_target(struct conf_load *load, const struct weir_route_conf *route)
{
    const struct conf_mark *mark = conf_at_key(load, route, "");
    int targets = (route->to.ptr != NULL) + route->has_reply + route->has_redirect;

    if (targets == 0 && !conf_place(load, &route->to, "to") && !conf_place(load, route, "reply") &&
        !conf_place(load, route, "redirect"))
        conf_error(load, mark, "a route needs one of 'to', 'reply' and 'redirect'");
    if (targets > 1)
        conf_error(load, mark, "a route has only one of 'to', 'reply' and 'redirect'");
    if (route->to.ptr)
        check_to(load, route);
    if (route->host == WEIR_HOST_NAME && !weir_guard_host(route->host_name, false))
        conf_error(load, conf_at(load, &route->host, "host"),
                   "'%.*s' is no value of 'host': it must be pass, server or a name",
                   CONF_QUOTE(route->host_name));
    if (route->has_reply && route->reply_body.len && has_no_body(route->reply_status))
        conf_error(load, conf_at(load, &route->reply_body, "body"),
                   "an answer of status %lld has no body", (long long)route->reply_status);
    if (route->has_redirect && route->redirect_to.ptr &&
        (route->redirect_to.len == 0 || !weir_guard_value(route->redirect_to)))
        conf_error(load, conf_at(load, &route->redirect_to, "to"), "'to' of a redirect is no URL");
    else if (route->has_redirect || route->has_reply)
        conf_answer_check(load, route);
    for (size_t i = 0; i < route->upgrade.count; i++)
        if (!weir_guard_name(route->upgrade.at[i]))
            conf_error(load, conf_at_item(load, &route->upgrade, "upgrade", i),
                       "'%.*s' is no name of a protocol", CONF_QUOTE(route->upgrade.at[i]));
}

/* ---- what it matches ---- */

/* `text`: "~" and the pattern. */
static void check_pattern(struct conf_load *load, const struct conf_mark *mark,
                          struct weir_str text)
{
    struct weir_str pattern = { text.ptr + 1, text.len - 1 };
    int error;
    PCRE2_SIZE offset;
    char why[160];
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, 0, &error, &offset, NULL);

    if (code) {
        pcre2_code_free(code);
        return;
    }
    pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof(why));
    conf_error(load, mark, "pattern '%.*s': %s at offset %zu", CONF_QUOTE(pattern), why,
               (size_t)offset);
}

static struct weir_str tail(struct weir_str text, size_t from)
{
    return (struct weir_str){ text.ptr + from, text.len - from };
}

static void check_paths(struct conf_load *load, const struct weir_strs *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        const struct conf_mark *mark = conf_at_item(load, paths, "path", i);
        struct weir_str path = paths->at[i];

        if (path.len && path.ptr[0] == '~')
            check_pattern(load, mark, path);
        else if (!weir_str_starts(path, WEIR_STR("/")) && !weir_str_starts(path, WEIR_STR("=/")) &&
                 !weir_str_eq(path, WEIR_STR("=*")))
            conf_error(load, mark, "'%.*s' is no path: write /prefix/, =/exact or ~pattern",
                       CONF_QUOTE(path));
        else if (memchr(path.ptr, '?', path.len) || memchr(path.ptr, '#', path.len))
            conf_error(load, mark, "'%.*s': a path has no '?' or '#'; for the query use 'query'",
                       CONF_QUOTE(path));
    }
}

static bool host_has_port(struct weir_str host)
{
    const char *colon = memchr(host.ptr, ':', host.len);

    return colon && host.ptr[0] != '[';
}

static void check_hosts(struct conf_load *load, const struct weir_strs *hosts, const char *name)
{
    for (size_t i = 0; i < hosts->count; i++) {
        const struct conf_mark *mark = conf_at_item(load, hosts, name, i);
        struct weir_str host = hosts->at[i];
        struct weir_str rest = weir_str_starts(host, WEIR_STR("*.")) ? tail(host, 2) : host;

        if (host_has_port(rest))
            conf_error(load, mark, "'%.*s': a host is matched without its port; use 'port'",
                       CONF_QUOTE(host));
        else if (!weir_guard_host(rest, false) || memchr(rest.ptr, '*', rest.len))
            conf_error(load, mark, "'%.*s' is no host: write example.com or *.example.com",
                       CONF_QUOTE(host));
    }
}

static void check_methods(struct conf_load *load, const struct weir_strs *methods)
{
    for (size_t i = 0; i < methods->count; i++) {
        const struct conf_mark *mark = conf_at_item(load, methods, "method", i);
        struct weir_str method = methods->at[i];
        bool lower = false;

        for (size_t j = 0; j < method.len; j++)
            lower |= method.ptr[j] >= 'a' && method.ptr[j] <= 'z';
        if (!weir_guard_name(method))
            conf_error(load, mark, "'%.*s' is no method", CONF_QUOTE(method));
        else if (lower)
            conf_warn(load, mark, "method '%.*s': case matters, and usual methods are upper case",
                      CONF_QUOTE(method));
    }
}

/* `headers`: names are those of headers (or cookies, which are tokens as well). */
static void check_named(struct conf_load *load, const struct weir_pairs *pairs, const char *name,
                        bool tokens)
{
    for (size_t i = 0; i < pairs->count; i++) {
        const struct conf_mark *mark = conf_at_item(load, pairs, name, i);
        const struct weir_pair *pair = &pairs->at[i];

        if (pair->name.len == 0 || (tokens && !weir_guard_name(pair->name)))
            conf_error(load, mark, "'%.*s' is no name of a %s", CONF_QUOTE(pair->name), name);
        if (pair->value.len && pair->value.ptr[0] == '~')
            check_pattern(load, mark, pair->value);
    }
}

static void check_ports(struct conf_load *load, const struct weir_strs *ports)
{
    for (size_t i = 0; i < ports->count; i++) {
        uint64_t port;

        if (!weir_str_to_u64(ports->at[i], &port) || port == 0 || port > 65535)
            conf_error(load, conf_at_item(load, ports, "port", i), "'%.*s' is no port",
                       CONF_QUOTE(ports->at[i]));
    }
}

/* A key that is there with an empty list matches nothing; that is never meant. */
static void check_empty(struct conf_load *load, const struct weir_match_conf *match)
{
    const struct conf_pair *pair = conf_place(load, match, "match");

    for (size_t i = 0; pair && pair->value->kind == CONF_MAP && i < pair->value->count; i++) {
        const struct conf_node *value = pair->value->pairs[i].value;

        if (value->kind != CONF_SCALAR && value->count == 0)
            conf_error(load, &value->mark,
                       "'%.*s' matches nothing: leave it out, or say what it matches",
                       CONF_QUOTE(pair->value->pairs[i].key));
    }
}

static void check_match(struct conf_load *load, const struct weir_match_conf *match)
{
    check_empty(load, match);
    check_hosts(load, &match->host, "host");
    check_paths(load, &match->path);
    check_methods(load, &match->method);
    check_named(load, &match->header, "header", true);
    check_named(load, &match->query, "query", false);
    check_named(load, &match->cookie, "cookie", true);
    conf_check_prefixes(load, &match->client, "client");
    check_hosts(load, &match->sni, "sni");
    check_ports(load, &match->port);
}

/* ---- the list ---- */

static bool matches_all(const struct weir_match_conf *match)
{
    bool any_path = match->path.count == 0;

    for (size_t i = 0; i < match->path.count; i++)
        any_path |= weir_str_eq(match->path.at[i], WEIR_STR("/"));
    return any_path && !match->host.count && !match->method.count && !match->header.count &&
           !match->query.count && !match->cookie.count && !match->client.count &&
           !match->sni.count && !match->port.count;
}

/* A route without a name is called by its number. */
static void name_route(struct conf_load *load, struct weir_route_conf *route, size_t i)
{
    char text[32];

    if (route->name.ptr)
        return;
    snprintf(text, sizeof(text), "route-%zu", i + 1);
    route->name = conf_copy(load, weir_str(text));
}

static void check_names(struct conf_load *load, const struct weir_route_conf *routes, size_t i)
{
    const struct conf_mark *mark =
        conf_at(load, &routes[i].name, "name") ?: conf_at_key(load, &routes[i], "");

    if (routes[i].name.len == 0 || routes[i].name.len > WEIR_NAME_BYTES_MAX)
        conf_error(load, mark, "the name of a route has 1 to %d bytes", WEIR_NAME_BYTES_MAX);
    for (size_t j = 0; j < i; j++) {
        if (weir_str_eq(routes[i].name, routes[j].name)) {
            conf_error(load, mark, "route '%.*s' is there twice; first at %s",
                       CONF_QUOTE(routes[i].name),
                       conf_mark_text(load, conf_at_key(load, &routes[j], "")));
            break;
        }
    }
}

/* After a catch-all it was told already. */
static void check_shadow(struct conf_load *load, const struct weir_route_conf *routes, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (!conf_match_takes(&routes[j].match, &routes[i].match))
            continue;
        conf_warn(load, conf_at_key(load, &routes[i], ""),
                  "route '%.*s' can never match: '%.*s' before it matches all that it does",
                  CONF_QUOTE(routes[i].name), CONF_QUOTE(routes[j].name));
        return;
    }
}

static void check_list(struct conf_load *load, struct weir_conf_list *list,
                       const struct conf_mark *mark)
{
    struct weir_route_conf *routes = list->at;
    const struct weir_route_conf *all = NULL;

    if (list->count == 0)
        conf_error(load, mark, "a list of routes must not be empty");
    if (list->count > CONF_ROUTES_MAX) {
        conf_error(load, mark, "more than %d routes in a list", CONF_ROUTES_MAX);
        return;
    }
    for (size_t i = 0; i < list->count; i++) {
        name_route(load, &routes[i], i);
        check_names(load, routes, i);
        check_target(load, &routes[i]);
        check_match(load, &routes[i].match);
        conf_check_route_limits(load, &routes[i]);
        if (all)
            conf_warn(load, conf_at_key(load, &routes[i], ""),
                      "route '%.*s' can never match: '%.*s' before it matches everything",
                      CONF_QUOTE(routes[i].name), CONF_QUOTE(all->name));
        else if (matches_all(&routes[i].match))
            all = &routes[i];
        if (!all || all == &routes[i])
            check_shadow(load, routes, i);
    }
}

void conf_check_route_lists(struct conf_load *load)
{
    for (size_t i = 0; i < load->route_lists; i++) {
        struct conf_routes *routes = &load->routes[i];
        const struct conf_mark *mark = conf_at_key(load, routes, "");
        const struct conf_node *node = conf_place(load, routes, "")->value;

        if (node->kind == CONF_LIST)
            check_list(load, &routes->routes, mark);
        if (!conf_routes_used(load, routes))
            conf_warn(load, mark, "no listener uses the routes '%.*s'", CONF_QUOTE(routes->name));
    }
}

bool conf_routes_used(struct conf_load *load, const struct conf_routes *routes)
{
    const struct weir_listener_conf *listeners = load->conf->proxy.listeners.at;

    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++) {
        const struct conf_pair *pair = conf_place(load, &listeners[i].routes, "routes");

        if (pair && pair->value->kind == CONF_SCALAR &&
            weir_str_eq(pair->value->text, routes->name))
            return true;
    }
    return false;
}

void conf_check_listener_routes(struct conf_load *load, struct weir_listener_conf *listener)
{
    const struct conf_pair *pair = conf_place(load, &listener->routes, "routes");
    const struct conf_pair *to = conf_place(load, &listener->routes, "to");
    const struct conf_routes *named;
    struct conf_nearest near;

    if (to && !pair && listener->routes.count)
        check_list(load, &listener->routes, &to->mark);
    conf_check_tcp(load, listener, &listener->routes);
    if (!pair || conf_node_null(pair->value))
        return;
    if (pair->value->kind == CONF_LIST) {
        check_list(load, &listener->routes, &pair->mark);
        conf_check_reach(load, listener, &listener->routes);
        return;
    }
    if (pair->value->kind != CONF_SCALAR)
        return;
    named = conf_routes_find(load, pair->value->text);
    if (named) {
        conf_check_reach(load, listener, &named->routes);
        conf_check_tcp(load, listener, &named->routes);
        return;
    }
    conf_nearest_init(&near, pair->value->text);
    for (size_t i = 0; i < load->route_lists; i++)
        conf_nearest_add(&near, load->routes[i].name);
    conf_error_hint(load, &pair->value->mark, near.best, "there are no routes '%.*s'",
                    CONF_QUOTE(pair->value->text));
}
