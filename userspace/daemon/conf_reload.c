/* SPDX-License-Identifier: Apache-2.0 */
/**
 * conf_reload.c: two configurations, the one that runs and the one that is to take its place: what a reload cannot change,
 * and what it has changed. Values are compared as they are printed: a secret as the words of the file.
 */
#include "daemon/conf_internal.h"

#include <stdlib.h>

/* One row of a struct as YAML, malloc'ed; NULL without memory. */
static char *printed(const struct weir_conf *conf, const struct weir_conf_item *item,
                     const void *base)
{
    const struct weir_conf_item rows[2] = { *item, { 0 } };
    struct conf_printer printer = { .conf = conf };
    char *text = NULL;
    size_t len = 0;

    printer.out = open_memstream(&text, &len);
    if (!printer.out)
        return NULL;
    conf_print_rows(&printer, rows, base);
    fclose(printer.out);
    return text;
}

static bool same_row(const struct weir_conf *a, const void *a_base, const struct weir_conf *b,
                     const void *b_base, const struct weir_conf_item *item)
{
    char *one = printed(a, item, a_base), *other = printed(b, item, b_base);
    bool same = one && other && strcmp(one, other) == 0;

    free(one);
    free(other);
    return same;
}

/* ---- what needs a restart ---- */

struct fixed {
    struct conf_load *load;
    const struct weir_conf *before;
};

static void check_rows(const struct fixed *fixed, const struct weir_conf_item *rows,
                       const void *base, const void *before, const char *section)
{
    struct conf_load *load = fixed->load;

    for (const struct weir_conf_item *item = rows; item->name; item++) {
        const char *field = (const char *)base + item->offset;

        if (item->type == WEIR_CONF_SECTION) {
            check_rows(fixed, item->rows, field, (const char *)before + item->offset, item->name);
            continue;
        }
        if (item->flags & (WEIR_CONF_RELOADS | WEIR_CONF_ALIAS) ||
            same_row(load->conf, base, fixed->before, before, item))
            continue;
        conf_error(
            load, conf_at_key(load, field, item->name),
            "'%s%s%s' is another one in what runs, and a reload cannot change it: that needs "
            "a restart",
            section ? section : "", section ? "." : "", item->name);
    }
}

void conf_check_fixed(struct conf_load *load)
{
    const struct fixed fixed = { load, load->before };

    if (load->before)
        check_rows(&fixed, conf_top_items, load->conf, load->before, NULL);
}

/* ---- what has changed ---- */

/* The structs of a NAMED row begin with their name. */
static const void *find_named(const struct weir_conf_list *list, size_t bytes, struct weir_str name)
{
    for (size_t i = 0; i < list->count; i++) {
        const char *at = (const char *)list->at + i * bytes;

        if (weir_str_eq(*(const struct weir_str *)at, name))
            return at;
    }
    return NULL;
}

static bool same_named(const struct weir_conf *a, const void *a_base, const struct weir_conf *b,
                       const void *b_base, const struct weir_conf_item *rows)
{
    for (const struct weir_conf_item *item = rows; item->name; item++)
        if (!(item->flags & WEIR_CONF_ALIAS) && !same_row(a, a_base, b, b_base, item))
            return false;
    return true;
}

static void diff_named(const struct weir_conf *before, const struct weir_conf *after,
                       const struct weir_conf_item *item, weir_conf_change_fn fn, void *arg)
{
    const struct weir_conf_list *olds = (const void *)((const char *)before + item->offset);
    const struct weir_conf_list *news = (const void *)((const char *)after + item->offset);

    for (size_t i = 0; i < news->count; i++) {
        const char *at = (const char *)news->at + i * item->bytes;
        struct weir_str name = *(const struct weir_str *)at;
        const void *old = find_named(olds, item->bytes, name);

        if (!old)
            fn(arg, item->name, name, WEIR_CONF_ADDED);
        else if (!same_named(before, old, after, at, item->rows))
            fn(arg, item->name, name, WEIR_CONF_CHANGED);
    }
    for (size_t i = 0; i < olds->count; i++) {
        struct weir_str name = *(const struct weir_str *)((const char *)olds->at + i * item->bytes);

        if (!find_named(news, item->bytes, name))
            fn(arg, item->name, name, WEIR_CONF_REMOVED);
    }
}

void weir_conf_diff(const struct weir_conf *before, const struct weir_conf *after,
                    weir_conf_change_fn fn, void *arg)
{
    for (const struct weir_conf_item *item = conf_top_items; item->name; item++) {
        if (item->type == WEIR_CONF_NAMED)
            diff_named(before, after, item, fn, arg);
        else if (!(item->flags & WEIR_CONF_ALIAS) && !same_row(before, before, after, after, item))
            fn(arg, item->name, (struct weir_str){ NULL, 0 }, WEIR_CONF_CHANGED);
    }
}
