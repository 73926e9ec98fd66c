/* SPDX-License-Identifier: Apache-2.0 */
/* conf_custom_route.c: rows with code of their own that belong to routes. */
#include "daemon/conf_internal.h"

/* ---- where listeners find their routes ---- */

static const struct weir_conf_item route_list_item = {
    .name = "routes",
    .type = WEIR_CONF_LIST,
    .rows = conf_route_items,
    .bytes = sizeof(struct weir_route_conf),
};

/* `to: app` is one route of that name that matches all. */
static void to_parse(struct conf_load *load, const struct weir_conf_item *item,
                     const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_listener_conf *listener = base;
    struct conf_pair *element = weir_arena_zalloc(&load->scratch, sizeof(*element));
    struct weir_route_conf *route = conf_alloc(load, sizeof(*route));

    if (!element || !route) {
        load->nomem = true;
        return;
    }
    *element = (struct conf_pair){ pair->key, pair->mark, pair->value };
    conf_defaults(load, conf_route_items, route, false);
    if (!conf_value_text(load, item, pair->value, &route->to))
        return;
    route->name = route->to;
    conf_place_add(load, route, "", element);
    conf_place_add(load, &route->to, "to", pair);
    listener->routes = (struct weir_conf_list){ route, 1 };
}

const struct weir_conf_custom conf_to_custom = { to_parse, NULL, CONF_SHAPE_TEXT };

/* A list in place is filled here; a name waits until all lists are known (conf_check,
 * conf_resolve). */
static void listener_routes_parse(struct conf_load *load, const struct weir_conf_item *item,
                                  const struct conf_pair *pair, void *base,
                                  const struct conf_where *where)
{
    struct weir_listener_conf *listener = base;

    if (pair->value->kind == CONF_LIST)
        conf_fill_list(load, &route_list_item, pair->value, &listener->routes, where);
    else if (pair->value->kind == CONF_MAP)
        conf_error(load, &pair->value->mark,
                   "'routes' must be a name in the section routes, or a list");
}

static void listener_routes_print(struct conf_printer *printer, const struct weir_conf_item *item,
                                  const void *base)
{
    const struct weir_listener_conf *listener = base;

    conf_print_list(printer, &route_list_item, &listener->routes);
}

const struct weir_conf_custom conf_listener_routes_custom = { listener_routes_parse,
                                                              listener_routes_print,
                                                              CONF_SHAPE_TEXT | CONF_SHAPE_LIST };

static void top_routes_parse(struct conf_load *load, const struct weir_conf_item *item,
                             const struct conf_pair *pair, void *base,
                             const struct conf_where *where)
{
    const struct conf_node *map = pair->value;

    if (map->kind != CONF_MAP) {
        conf_error(load, &map->mark, "'routes' must be a map of lists (NAME: [ … ]), not %s",
                   conf_kind_name(map->kind));
        return;
    }
    load->routes = weir_arena_zalloc(&load->scratch, (map->count + 1) * sizeof(*load->routes));
    if (!load->routes) {
        load->nomem = true;
        return;
    }
    for (size_t i = 0; i < map->count; i++) {
        struct conf_routes *routes = &load->routes[load->route_lists++];
        const struct conf_node *list = map->pairs[i].value;
        struct conf_where here = { where, "routes", map->pairs[i].key };

        routes->name = map->pairs[i].key;
        conf_place_add(load, routes, "", &map->pairs[i]);
        if (list->kind == CONF_LIST)
            conf_fill_list(load, &route_list_item, list, &routes->routes, &here);
        else
            conf_error(load, &list->mark, "%s must be a list of routes (- name: …), not %s",
                       conf_where_text(load, &here), conf_kind_name(list->kind));
    }
}

const struct weir_conf_custom conf_top_routes_custom = { top_routes_parse, NULL, CONF_SHAPE_NAMED };

/* ---- reply, redirect ---- */

static void reply_parse(struct conf_load *load, const struct weir_conf_item *item,
                        const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_route_conf *route = base;
    struct conf_where here = { where, item->name, { NULL, 0 } };

    route->has_reply = true;
    conf_defaults(load, item->rows, route, false);
    conf_fill(load, item->rows, route, pair->value, &here);
}

static void redirect_parse(struct conf_load *load, const struct weir_conf_item *item,
                           const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_route_conf *route = base;
    struct conf_where here = { where, item->name, { NULL, 0 } };

    route->has_redirect = true;
    conf_defaults(load, item->rows, route, false);
    conf_fill(load, item->rows, route, pair->value, &here);
    if (route->redirect_status > 303 && route->redirect_status < 307)
        conf_error(load, conf_at(load, &route->redirect_status, "status"),
                   "'status' of a redirect must be 301, 302, 303, 307 or 308");
}

static void print_answer(struct conf_printer *printer, const struct weir_conf_item *item,
                         const void *base, bool there)
{
    if (!there)
        return;
    conf_print_key(printer, weir_str(item->name));
    fputc('\n', printer->out);
    printer->indent += 2;
    conf_print_rows(printer, item->rows, base);
    printer->indent -= 2;
}

static void reply_print(struct conf_printer *printer, const struct weir_conf_item *item,
                        const void *base)
{
    print_answer(printer, item, base, ((const struct weir_route_conf *)base)->has_reply);
}

static void redirect_print(struct conf_printer *printer, const struct weir_conf_item *item,
                           const void *base)
{
    print_answer(printer, item, base, ((const struct weir_route_conf *)base)->has_redirect);
}

const struct weir_conf_custom conf_reply_custom = { reply_parse, reply_print, CONF_SHAPE_MAP };
const struct weir_conf_custom conf_redirect_custom = { redirect_parse, redirect_print,
                                                       CONF_SHAPE_MAP };

/* ---- host ---- */

static void host_parse(struct conf_load *load, const struct weir_conf_item *item,
                       const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_route_conf *route = base;
    struct weir_str text;

    if (!conf_value_text(load, item, pair->value, &text))
        return;
    route->host = weir_str_eq(text, WEIR_STR("pass"))     ? WEIR_HOST_PASS
                  : weir_str_eq(text, WEIR_STR("server")) ? WEIR_HOST_SERVER
                                                          : WEIR_HOST_NAME;
    route->host_name = route->host == WEIR_HOST_NAME ? text : (struct weir_str){ NULL, 0 };
}

static void host_print(struct conf_printer *printer, const struct weir_conf_item *item,
                       const void *base)
{
    const struct weir_route_conf *route = base;

    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer,
                    route->host == WEIR_HOST_NAME ? route->host_name
                                                  : weir_str(item->words[route->host]),
                    false);
}

const struct weir_conf_custom conf_host_custom = { host_parse, host_print, CONF_SHAPE_TEXT };

/* ---- retry.when: words and statuses ---- */

enum { STATUSES_MAX = sizeof(((struct weir_retry_conf *)0)->statuses) / sizeof(uint16_t) };

static void when_status(struct conf_load *load, struct weir_retry_conf *retry,
                        const struct conf_node *node, uint64_t status)
{
    size_t at = 0;

    if (status < 400 || status > 599) {
        conf_error(load, &node->mark, "a status in 'when' must be from 400 to 599");
        return;
    }
    while (at < STATUSES_MAX && retry->statuses[at] && retry->statuses[at] != status)
        at++;
    if (at == STATUSES_MAX) {
        conf_error(load, &node->mark, "more than %d statuses in 'when'", STATUSES_MAX);
        return;
    }
    retry->statuses[at] = (uint16_t)status;
    retry->when |= WEIR_RETRY_ON_STATUS;
}

static void when_parse(struct conf_load *load, const struct weir_conf_item *item,
                       const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_retry_conf *retry = base;
    struct weir_conf_item word = *item;
    struct conf_node *const *items =
        pair->value->kind == CONF_LIST ? pair->value->items : &pair->value;
    size_t count = pair->value->kind == CONF_LIST ? pair->value->count : 1;

    word.type = WEIR_CONF_FLAGS;
    retry->when = 0;
    memset(retry->statuses, 0, sizeof(retry->statuses));
    for (size_t i = 0; i < count; i++) {
        struct weir_str text;
        uint64_t status;

        if (!conf_value_text(load, item, items[i], &text))
            continue;
        if (weir_str_to_u64(text, &status))
            when_status(load, retry, items[i], status);
        else
            (void)conf_value(load, &word, items[i], &retry->when);
    }
}

static void when_print(struct conf_printer *printer, const struct weir_conf_item *item,
                       const void *base)
{
    const struct weir_retry_conf *retry = base;
    const char *comma = " ";

    conf_print_key(printer, weir_str(item->name));
    fputs(" [", printer->out);
    for (unsigned i = 0; item->words[i]; i++) {
        if (retry->when & 1u << i) {
            fprintf(printer->out, "%s%s", comma, item->words[i]);
            comma = ", ";
        }
    }
    for (unsigned i = 0; i < STATUSES_MAX && retry->statuses[i]; i++, comma = ", ")
        fprintf(printer->out, "%s%u", comma, retry->statuses[i]);
    fputs(" ]\n", printer->out);
}

const struct weir_conf_custom conf_when_custom = {
    when_parse, when_print, CONF_SHAPE_WORDS | CONF_SHAPE_TEXT | CONF_SHAPE_LIST
};

/* ---- retry.methods ---- */

static void methods_parse(struct conf_load *load, const struct weir_conf_item *item,
                          const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_retry_conf *retry = base;
    struct weir_conf_item word = *item;
    int index = 0;

    word.type = WEIR_CONF_ENUM;
    if (conf_value(load, &word, pair->value, &index))
        retry->any_method = index == 1;
}

static void methods_print(struct conf_printer *printer, const struct weir_conf_item *item,
                          const void *base)
{
    const struct weir_retry_conf *retry = base;

    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, weir_str(item->words[retry->any_method]), false);
}

const struct weir_conf_custom conf_methods_custom = { methods_parse, methods_print,
                                                      CONF_SHAPE_WORDS };
