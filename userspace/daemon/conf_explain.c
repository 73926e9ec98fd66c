/* SPDX-License-Identifier: Apache-2.0 */
/* conf_explain.c: `weir config explain`: the tables in words. NAME stands as `*`, an element of a
 * list as `[]`. */
#include "daemon/conf_internal.h"

#include "weir/error.h"

enum { PATH_BYTES_MAX = 256 };

struct explain {
    FILE *out;
    struct weir_str key; /* absent: all */
    const struct weir_filter_type *const *filters;
    struct conf_nearest near;
    char near_text[PATH_BYTES_MAX];
    unsigned found;
    bool brief;  /* the keys alone, for a completion */
    bool filter; /* rows of a filter: a reload makes it anew, whatever they say */
};

static void explain_rows(struct explain *x, const struct weir_conf_item *rows, const char *path);

/* The next part of a path, without "[…]". */
static struct weir_str next_part(struct weir_str *rest)
{
    struct weir_str part = weir_str_cut(*rest, '.', rest);
    struct weir_str after;

    return weir_str_cut(part, '[', &after);
}

/* Is `path` the key, or below it? A name of the key may stand for a `*`. */
static bool covers(struct weir_str key, struct weir_str path)
{
    while (!weir_str_absent(key)) {
        struct weir_str wanted, part;

        if (weir_str_absent(path))
            return false;
        wanted = next_part(&key);
        part = next_part(&path);
        if (!weir_str_eq(part, WEIR_STR("*")) && !weir_str_eq(part, wanted))
            return false;
    }
    return true;
}

static struct weir_str last_part(struct weir_str path)
{
    struct weir_str part = path, rest = path;

    while (!weir_str_absent(rest))
        part = next_part(&rest);
    return part;
}

static void join(char *out, size_t room, const char *const *words)
{
    size_t len = strlen(out);

    for (const char *comma = ""; *words && len < room; words++, comma = " | ")
        len += (size_t)snprintf(out + len, room - len, "%s%s", comma, *words);
}

static const char *type_name(enum weir_conf_type type)
{
    static const char *const names[] = {
        [WEIR_CONF_BOOL] = "on | off",      [WEIR_CONF_INT] = "number",
        [WEIR_CONF_MS] = "duration",        [WEIR_CONF_BYTES] = "size",
        [WEIR_CONF_RATE] = "rate",          [WEIR_CONF_PERCENT] = "percentage",
        [WEIR_CONF_STR] = "text",           [WEIR_CONF_STRS] = "list of texts",
        [WEIR_CONF_FILE] = "file",          [WEIR_CONF_DIR] = "folder",
        [WEIR_CONF_PATH] = "path",          [WEIR_CONF_MAP] = "map of texts",
        [WEIR_CONF_SECTION] = "section",    [WEIR_CONF_LIST] = "list",
        [WEIR_CONF_NAMED] = "map of names",
    };

    return names[type];
}

static void type_text(const struct weir_conf_item *item, char *out, size_t room)
{
    unsigned shapes = item->custom ? item->custom->shapes : 0;
    const char *alternatives[8];
    size_t n = 0;

    out[0] = 0;
    if (item->type == WEIR_CONF_ENUM || item->type == WEIR_CONF_FLAGS) {
        join(out, room, item->words);
    } else if (item->type == WEIR_CONF_CUSTOM) {
        if (shapes & CONF_SHAPE_WORDS && item->words)
            join(out, room, item->words);
        if (out[0])
            alternatives[n++] = "";
        if (shapes & CONF_SHAPE_SWITCH)
            alternatives[n++] = "on | off";
        if (shapes & CONF_SHAPE_OFF)
            alternatives[n++] = "off";
        if (shapes & CONF_SHAPE_TEXT)
            alternatives[n++] = "text";
        if (shapes & CONF_SHAPE_FILE)
            alternatives[n++] = "{ file: PATH }";
        if (shapes & CONF_SHAPE_MAP)
            alternatives[n++] = "section";
        if (shapes & (CONF_SHAPE_LIST | CONF_SHAPE_FILTERS))
            alternatives[n++] = "list";
        if (shapes & CONF_SHAPE_NAMED)
            alternatives[n++] = "map of names to lists";
        alternatives[n] = NULL;
        join(out, room, alternatives);
    } else {
        snprintf(out, room, "%s", type_name(item->type));
    }
}

static void print_item(struct explain *x, const struct weir_conf_item *item, const char *path)
{
    char text[256], min[CONF_NUMBER_MAX], max[CONF_NUMBER_MAX];

    if (x->brief) {
        fprintf(x->out, "%s\n", path);
        return;
    }
    type_text(item, text, sizeof(text));
    fprintf(x->out, "%s: %s", path, text);
    if (item->min || item->max) {
        conf_number_print(item->type, item->min, min);
        conf_number_print(item->type, item->max, max);
        if (item->max == INT64_MAX)
            fprintf(x->out, " from %s", min);
        else
            fprintf(x->out, " from %s to %s", min, max);
    }
    if (item->flags & WEIR_CONF_OFF && item->type != WEIR_CONF_CUSTOM)
        fputs(", or off", x->out);
    if (item->flags & WEIR_CONF_AUTO)
        fputs(", or auto", x->out);
    if (item->flags & WEIR_CONF_REQUIRED)
        fputs("; required", x->out);
    if (item->def)
        fprintf(x->out, "; default %s", item->def);
    if (!(item->flags & (WEIR_CONF_RELOADS | WEIR_CONF_ALIAS)) && !x->filter)
        fputs("; a change needs a restart", x->out);
    fprintf(x->out, "\n    %s\n", item->text);
}

/* Below a row: sections by '.', names by '.*', elements by '[]'. */
static void explain_below(struct explain *x, const struct weir_conf_item *item, const char *path)
{
    unsigned shapes = item->custom ? item->custom->shapes : 0;
    bool named = item->type == WEIR_CONF_NAMED || shapes & CONF_SHAPE_NAMED;
    bool list = item->type == WEIR_CONF_LIST ||
                shapes & (CONF_SHAPE_LIST | CONF_SHAPE_NAMED | CONF_SHAPE_FILTERS);
    char below[PATH_BYTES_MAX];

    snprintf(below, sizeof(below), "%s%s%s", path, named ? ".*" : "", list ? "[]" : "");
    for (size_t i = 0; shapes & CONF_SHAPE_FILTERS && x->filters[i]; i++) {
        const struct weir_filter_type *type = x->filters[i];
        struct weir_conf_item row = { type->name, WEIR_CONF_SECTION,
                                      .text = type->text ? type->text : "a filter",
                                      .rows = type->rows };

        x->filter = true;
        explain_rows(x, (const struct weir_conf_item[]){ row, { 0 } }, below);
        x->filter = false;
    }
    /* the routes of a listener are those of `routes`: once is enough where all is told */
    if (item->rows && (x->key.ptr || !(shapes & CONF_SHAPE_LIST && shapes & CONF_SHAPE_TEXT)))
        explain_rows(x, item->rows, below);
}

static void explain_rows(struct explain *x, const struct weir_conf_item *rows, const char *path)
{
    for (const struct weir_conf_item *item = rows; item->name; item++) {
        char here[PATH_BYTES_MAX];

        snprintf(here, sizeof(here), "%s%s%s", path, *path ? "." : "", item->name);
        if (!x->key.ptr || covers(x->key, weir_str(here))) {
            print_item(x, item, here);
            x->found++;
        } else {
            struct conf_nearest mine = { .wanted = x->near.wanted,
                                         .distance = x->near.distance + 1 };

            /* of several that are as near: the shortest path */
            conf_nearest_add(&mine, weir_str(item->name));
            if (mine.best.ptr && (mine.distance < x->near.distance ||
                                  (x->near_text[0] && strlen(here) < strlen(x->near_text)))) {
                x->near.distance = mine.distance;
                snprintf(x->near_text, sizeof(x->near_text), "%s", here);
            }
        }
        explain_below(x, item, here);
    }
}

int weir_conf_explain(const char *key, const struct weir_conf *conf, FILE *out)
{
    struct explain x = { .out = out,
                         .key = weir_str(key),
                         .filters = conf ? conf->filters : conf_filter_types };

    conf_nearest_init(&x.near, key ? last_part(x.key) : WEIR_STR(""));
    explain_rows(&x, conf_top_items, "");
    if (x.found)
        return 0;
    fprintf(out, "there is no key '%s'", key);
    if (x.near_text[0])
        fprintf(out, "; did you mean '%s'?", x.near_text);
    fputc('\n', out);
    return WEIR_ENOENT;
}

void weir_conf_keys(FILE *out)
{
    struct explain x = { .out = out, .filters = conf_filter_types, .brief = true };

    explain_rows(&x, conf_top_items, "");
}
