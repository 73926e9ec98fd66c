/* SPDX-License-Identifier: Apache-2.0 */
/* conf_filters.c: filters of routes: kinds by name, each with rows of its own; and the one that
 * `reply` or `redirect` of a route is. */
#include "daemon/conf_internal.h"

#include "weir/builtin.h"

static const struct weir_filter_type *type_find(struct conf_load *load,
                                                const struct conf_pair *pair)
{
    struct conf_nearest near;

    conf_nearest_init(&near, pair->key);
    for (size_t i = 0; load->filters[i]; i++) {
        struct weir_str name = weir_str(load->filters[i]->name);

        if (weir_str_eq(name, pair->key))
            return load->filters[i];
        conf_nearest_add(&near, name);
    }
    if (load->plugins_unread)
        return NULL;
    conf_error_hint(load, &pair->mark, near.best, "unknown filter '%.*s'", CONF_QUOTE(pair->key));
    return NULL;
}

static bool is_word(const struct conf_node *node, const char *word)
{
    return node->kind == CONF_SCALAR && weir_str_is(node->text, word);
}

/* One filter of a route: its struct filled, then the filter itself made of it. `on` is all defaults, `off` none. */
static void filter_make(struct conf_load *load, const struct conf_pair *pair,
                        struct weir_filter_use *use, const struct conf_where *where)
{
    struct conf_where here = { where, "filter", pair->key };
    const struct weir_filter_type *type = type_find(load, pair);
    const struct conf_node *value =
        is_word(pair->value, "on") ? conf_node_map(load, pair->value->mark, NULL, 0) : pair->value;
    size_t errors = load->diags->errors;
    char fault[1024] = "";
    struct conf_use *made;
    void *conf;

    if (type && conf_node_null(pair->value))
        conf_error(load, &pair->mark, "filter '%s' has no value: 'on' is all defaults", type->name);
    if (!type || !value || conf_node_null(value) || is_word(value, "off"))
        return;
    conf = conf_alloc(load, type->bytes);
    made = conf ? conf_list_add(load, &load->conf->uses, sizeof(*made)) : NULL;
    if (!made)
        return;
    *made = (struct conf_use){ type, conf, NULL };
    conf_defaults(load, type->rows, conf, false);
    conf_fill(load, type->rows, conf, value, &here);
    if (load->diags->errors != errors)
        return; /* what rows refused is not shown to the filter */
    made->self = type->create(conf, fault, sizeof(fault));
    if (!made->self)
        conf_error(load, &pair->mark, "filter '%s': %s", type->name,
                   fault[0] ? fault : "cannot be made");
    *use = (struct weir_filter_use){ type->filter, made->self };
}

static void filters_parse(struct conf_load *load, const struct weir_conf_item *item,
                          const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_route_conf *route = base;
    struct conf_node *list = pair->value;

    if (list->kind != CONF_LIST) {
        conf_error(load, &list->mark, "'filters' must be a list (- FILTER: { … }), not %s",
                   conf_kind_name(list->kind));
        return;
    }
    route->filters = conf_alloc(load, list->count * sizeof(*route->filters));
    for (size_t i = 0; route->filters && i < list->count; i++) {
        struct conf_node *node = list->items[i];
        struct conf_node *empty =
            node->kind == CONF_SCALAR ? conf_node_map(load, node->mark, NULL, 0) : NULL;
        struct conf_pair bare = { node->text, node->mark, empty };

        if (node->kind == CONF_MAP && node->count == 1)
            filter_make(load, &node->pairs[0], &route->filters[route->filter_count], where);
        else if (empty) /* by its name alone: all defaults */
            filter_make(load, &bare, &route->filters[route->filter_count], where);
        else
            conf_error(load, &node->mark, "a filter is a map of one key: - FILTER: { … }");
        route->filter_count += route->filters[route->filter_count].filter != NULL;
    }
}

/* ---- reply, redirect: the last of the chain, under a key of its own ---- */

size_t weir_conf_filters_listed(const struct weir_route_conf *route)
{
    return route->filter_count - (route->has_reply || route->has_redirect);
}

static void *answer_conf(struct conf_load *load, const struct weir_route_conf *route)
{
    struct weir_redirect_conf *redirect;
    struct weir_reply_conf *reply;

    if (route->has_redirect) {
        redirect = conf_alloc(load, sizeof(*redirect));
        if (redirect)
            *redirect = (struct weir_redirect_conf){ route->redirect_status, route->redirect_to };
        return redirect;
    }
    reply = conf_alloc(load, sizeof(*reply));
    if (reply)
        *reply = (struct weir_reply_conf){ route->reply_status, route->reply_body };
    return reply;
}

void conf_answer_check(struct conf_load *load, const struct weir_route_conf *route)
{
    const struct weir_filter_type *type =
        route->has_redirect ? &weir_filter_redirect_type : &weir_filter_reply_type;
    const struct conf_mark *mark = route->has_redirect ? conf_at(load, &route->redirect_to, "to")
                                                       : conf_at(load, &route->reply_body, "body");
    struct weir_route_conf only = *route;
    void *conf, *self;
    char fault[256] = "";

    only.reply_status = only.redirect_status = 0; /* those have been told at their own places */
    conf = mark ? answer_conf(load, &only) : NULL;
    if (!conf)
        return;
    self = type->create(conf, fault, sizeof(fault));
    if (self)
        type->filter->fini(self);
    else
        conf_error(load, mark, "%s: %s", type->name, fault);
}

void conf_answer_make(struct conf_load *load, struct weir_route_conf *route)
{
    const struct weir_filter_type *type =
        route->has_redirect ? &weir_filter_redirect_type : &weir_filter_reply_type;
    size_t listed = route->filter_count;
    struct weir_filter_use *chain;
    char fault[256] = "";
    struct conf_use *made;
    void *conf;

    if (!route->has_reply && !route->has_redirect)
        return;
    chain = conf_alloc(load, (listed + 1) * sizeof(*chain));
    conf = chain ? answer_conf(load, route) : NULL;
    made = conf ? conf_list_add(load, &load->conf->uses, sizeof(*made)) : NULL;
    if (!made)
        return;
    *made = (struct conf_use){ type, conf, type->create(conf, fault, sizeof(fault)) };
    if (!made->self) { /* all that can be wrong was checked: no memory */
        conf_error(load, NULL, "'%s' of route '%.*s': %s", type->name, CONF_QUOTE(route->name),
                   fault);
        return;
    }
    if (listed)
        memcpy(chain, route->filters, listed * sizeof(*chain));
    chain[listed] = (struct weir_filter_use){ type->filter, made->self };
    route->filters = chain;
    route->filter_count = listed + 1;
}

/* ---- printing ---- */

static const struct conf_use *use_find(const struct weir_conf *conf,
                                       const struct weir_filter_use *use)
{
    const struct conf_use *at = conf->uses.at;

    for (size_t i = 0; i < conf->uses.count; i++)
        if (at[i].self == use->self && at[i].type->filter == use->filter)
            return &at[i];
    return NULL;
}

static void filters_print(struct conf_printer *printer, const struct weir_conf_item *item,
                          const void *base)
{
    const struct weir_route_conf *route = base;
    size_t listed = weir_conf_filters_listed(route);

    if (listed == 0)
        return;
    conf_print_key(printer, weir_str(item->name));
    fputc('\n', printer->out);
    printer->indent += 4;
    for (size_t i = 0; i < listed; i++) {
        const struct conf_use *use = use_find(printer->conf, &route->filters[i]);

        if (!use)
            continue;
        printer->item = true;
        conf_print_key(printer, weir_str(use->type->name));
        fputs(conf_print_empty(use->type->rows, use->conf) ? " on\n" : "\n", printer->out);
        printer->indent += 2;
        conf_print_rows(printer, use->type->rows, use->conf);
        printer->indent -= 2;
    }
    printer->indent -= 4;
}

const struct weir_conf_custom conf_filters_custom = { filters_parse, filters_print,
                                                      CONF_SHAPE_FILTERS };
