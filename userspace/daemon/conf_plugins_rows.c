/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf_plugins_rows.c: looks at the kinds of filters of a plug-in before they are used, so that a
 * mistake in a table is a sentence and not a crash.
 */
#include "daemon/conf_internal.h"

#include "weir/limits.h"

enum { ROWS_DEPTH_MAX = 8 };

/* What a row of this type fills; 0: a plug-in may not have it. */
static size_t field_bytes(enum weir_conf_type type)
{
    switch (type) {
    case WEIR_CONF_BOOL:
        return sizeof(bool);
    case WEIR_CONF_INT:
    case WEIR_CONF_MS:
    case WEIR_CONF_BYTES:
        return sizeof(int64_t);
    case WEIR_CONF_RATE:
    case WEIR_CONF_PERCENT:
        return sizeof(double);
    case WEIR_CONF_ENUM:
    case WEIR_CONF_FLAGS:
        return sizeof(int);
    case WEIR_CONF_STR:
    case WEIR_CONF_FILE:
    case WEIR_CONF_DIR:
    case WEIR_CONF_PATH:
        return sizeof(struct weir_str);
    case WEIR_CONF_STRS:
        return sizeof(struct weir_strs);
    case WEIR_CONF_MAP:
        return sizeof(struct weir_pairs);
    case WEIR_CONF_SECTION:
        return 1; /* in place: its rows are looked at */
    case WEIR_CONF_LIST:
    case WEIR_CONF_NAMED:
        return sizeof(struct weir_conf_list);
    case WEIR_CONF_CUSTOM:
        break;
    }
    return 0;
}

static const char *rows_fault(const struct weir_conf_item *rows, size_t bytes, unsigned depth);

static const char *nested_fault(const struct weir_conf_item *item, size_t bytes, unsigned depth)
{
    bool element = item->type == WEIR_CONF_LIST || item->type == WEIR_CONF_NAMED;

    if (item->type != WEIR_CONF_SECTION && !element)
        return NULL;
    if (element && item->bytes < (item->type == WEIR_CONF_NAMED ? sizeof(struct weir_str) : 1))
        return "a row of a list does not say the size of an element";
    return rows_fault(item->rows, element ? item->bytes : bytes - item->offset, depth + 1);
}

static const char *words_fault(const struct weir_conf_item *item)
{
    size_t count = 0;

    if (item->type != WEIR_CONF_ENUM && item->type != WEIR_CONF_FLAGS)
        return NULL;
    if (!item->words || !item->words[0])
        return "a row of words has none";
    if (item->type == WEIR_CONF_ENUM)
        return NULL;
    while (count <= CONF_FLAGS_MAX && item->words[count])
        count++;
    return count > CONF_FLAGS_MAX ? "a row of flags has more than 32 words" : NULL;
}

/* Its value is a table, not a text. */
static bool has_no_default(enum weir_conf_type type)
{
    return type == WEIR_CONF_MAP || type == WEIR_CONF_SECTION || type == WEIR_CONF_LIST ||
           type == WEIR_CONF_NAMED;
}

static const char *row_fault(const struct weir_conf_item *item, size_t bytes, unsigned depth)
{
    size_t field = field_bytes(item->type);

    if (field == 0)
        return "a row has a type that is not for plug-ins";
    if (field > bytes || item->offset > bytes - field)
        return "a row fills more than the struct that it belongs to";
    if (!item->text)
        return "a row has no text";
    if (item->def && has_no_default(item->type))
        return "a row of a type that has no default says one";
    return words_fault(item) ?: nested_fault(item, bytes, depth);
}

static const char *rows_fault(const struct weir_conf_item *rows, size_t bytes, unsigned depth)
{
    size_t count = 0;

    if (!rows)
        return "it has no rows (a table that is empty is { { 0 } })";
    if (depth > ROWS_DEPTH_MAX)
        return "its rows are too deep";
    for (; rows->name; rows++) {
        const char *fault =
            count++ < CONF_PLUGIN_ROWS_MAX ? row_fault(rows, bytes, depth) : "too many rows";

        if (fault)
            return fault;
    }
    return NULL;
}

/* What the daemon says of the default, as if the file said it; NULL: it is good. */
static const char *default_fault(struct conf_load *load, const struct weir_conf_item *item,
                                 void *base)
{
    struct weir_diags *said = load->diags, own;
    const char *fault = NULL;
    struct weir_str text;
    char sentence[512];

    if (item->def[0] == '[' && item->def[strlen(item->def) - 1] != ']' &&
        (item->type == WEIR_CONF_STRS || item->type == WEIR_CONF_FLAGS))
        fault = "the list has no ']'";
    weir_diags_init(&own);
    load->diags = &own;
    if (!fault)
        conf_default(load, item, base);
    load->diags = said;
    if (own.errors)
        fault = own.count ? own.at[0].message.ptr : "it is wrong";
    snprintf(sentence, sizeof(sentence), "the default of '%s': %s", item->name, fault ? fault : "");
    weir_diags_fini(&own);
    if (!fault)
        return NULL;
    text = weir_arena_copy(&load->scratch, weir_str(sentence));
    return text.ptr ? text.ptr : "a default is wrong";
}

/* Rows that are good otherwise: are their defaults? */
static const char *defaults_fault(struct conf_load *load, const struct weir_conf_item *rows,
                                  size_t bytes)
{
    void *base = weir_arena_zalloc(&load->scratch, bytes ? bytes : 1);
    const char *fault = NULL;

    if (!base)
        load->nomem = true;
    for (; base && rows->name && !fault; rows++) {
        if (rows->type == WEIR_CONF_SECTION)
            fault = defaults_fault(load, rows->rows, bytes - rows->offset);
        else if (rows->type == WEIR_CONF_LIST || rows->type == WEIR_CONF_NAMED)
            fault = defaults_fault(load, rows->rows, rows->bytes);
        else if (rows->def)
            fault = default_fault(load, rows, base);
    }
    return fault;
}

static bool name_good(const char *name)
{
    size_t len = name ? strlen(name) : 0;

    return len > 0 && len <= WEIR_NAME_BYTES_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

const char *conf_plugin_filter_fault(struct conf_load *load, const struct weir_filter_type *type)
{
    size_t least = offsetof(struct weir_filter_type, create) + sizeof(type->create);
    const char *fault;

    if (type->size < least)
        return "its type does not say its size";
    if (!name_good(type->name))
        return "its name must be of a-z, 0-9, '_' and '-'";
    if (!type->filter || type->filter->size < offsetof(struct weir_filter, early_request))
        return "it has no struct weir_filter that says its size";
    if (!type->create)
        return "it has no create";
    fault = rows_fault(type->rows, type->bytes, 0);
    return fault ? fault : defaults_fault(load, type->rows, type->bytes);
}
