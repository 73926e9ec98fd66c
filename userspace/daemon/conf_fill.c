/* SPDX-License-Identifier: Apache-2.0 */
/* conf_fill.c: the engine: a node tree and a table of rows into structs, remembering where each
 * field was said. */
#include "daemon/conf_internal.h"

#include "weir/limits.h"

void *conf_alloc(struct conf_load *load, size_t bytes)
{
    void *memory = weir_arena_zalloc(&load->conf->arena, bytes ? bytes : 1);

    if (!memory)
        load->nomem = true;
    return memory;
}

struct weir_str conf_copy(struct conf_load *load, struct weir_str text)
{
    struct weir_str copy = weir_arena_copy(&load->conf->arena, text);

    if (!copy.ptr)
        load->nomem = true;
    return copy;
}

void *conf_list_add(struct conf_load *load, struct weir_conf_list *list, size_t bytes)
{
    if ((list->count & (list->count - 1)) == 0) {
        void *more = conf_alloc(load, (list->count ? list->count * 2 : 1) * bytes);

        if (!more)
            return NULL;
        if (list->count)
            memcpy(more, list->at, list->count * bytes);
        list->at = more;
    }
    return (char *)list->at + list->count++ * bytes;
}

/* ---- places: field → pair ---- */

static size_t place_slot(const struct conf_load *load, const void *field, const char *name)
{
    size_t at = ((uintptr_t)field * 0x9e3779b97f4a7c15u) >> 20;

    for (;; at++) {
        const struct conf_place *place = &load->places[at & (load->place_room - 1)];

        if (!place->pair || (place->field == field && !strcmp(place->name, name)))
            return at & (load->place_room - 1);
    }
}

static bool places_grow(struct conf_load *load)
{
    struct conf_place *old = load->places;
    size_t room = load->place_room;
    struct conf_place *more =
        weir_arena_zalloc(&load->scratch, (room ? room * 2 : 256) * sizeof(*more));

    if (!more) {
        load->nomem = true;
        return false;
    }
    load->places = more;
    load->place_room = room ? room * 2 : 256;
    for (size_t i = 0; i < room; i++)
        if (old[i].pair)
            more[place_slot(load, old[i].field, old[i].name)] = old[i];
    return true;
}

void conf_place_add(struct conf_load *load, const void *field, const char *name,
                    const struct conf_pair *pair)
{
    struct conf_place *place;

    if (load->place_count * 2 >= load->place_room && !places_grow(load))
        return;
    place = &load->places[place_slot(load, field, name)];
    load->place_count += !place->pair;
    *place = (struct conf_place){ field, name, pair };
}

const struct conf_pair *conf_place(const struct conf_load *load, const void *field,
                                   const char *name)
{
    return load->place_room ? load->places[place_slot(load, field, name)].pair : NULL;
}

const struct conf_mark *conf_at(const struct conf_load *load, const void *field, const char *name)
{
    const struct conf_pair *pair = conf_place(load, field, name);

    return pair ? &pair->value->mark : NULL;
}

const struct conf_mark *conf_at_key(const struct conf_load *load, const void *field,
                                    const char *name)
{
    const struct conf_pair *pair = conf_place(load, field, name);

    return pair ? &pair->mark : NULL;
}

const struct conf_mark *conf_at_item(const struct conf_load *load, const void *field,
                                     const char *name, size_t i)
{
    const struct conf_pair *pair = conf_place(load, field, name);

    if (!pair)
        return NULL;
    if (pair->value->kind == CONF_LIST && i < pair->value->count)
        return &pair->value->items[i]->mark;
    if (pair->value->kind == CONF_MAP && i < pair->value->count)
        return &pair->value->pairs[i].value->mark;
    return &pair->value->mark;
}

/* ---- defaults ---- */

/* "[a, b]" as a list of texts; anything else is one text. */
static struct conf_node *default_node(struct conf_load *load, struct weir_str def)
{
    struct conf_mark nowhere = { 0 };
    struct conf_node *node = conf_node_map(load, nowhere, NULL, 0), *list = NULL;
    struct weir_str rest = def, word;

    if (!node)
        return NULL;
    node->kind = CONF_SCALAR;
    node->plain = true;
    node->text = def;
    if (def.len < 2 || def.ptr[0] != '[' || def.ptr[def.len - 1] != ']')
        return node;
    rest.ptr++;
    rest.len -= 2;
    while (weir_str_next_element(&rest, &word)) {
        struct conf_node *item = default_node(load, word);

        if (item && !list)
            list = conf_node_list(load, item);
        else if (item && !conf_node_append(load, list, item))
            return NULL;
    }
    if (list)
        return list;
    node->kind = CONF_LIST;
    return node;
}

void conf_default(struct conf_load *load, const struct weir_conf_item *item, void *base)
{
    struct conf_node *node = default_node(load, weir_str(item->def));
    struct conf_pair pair = { .key = weir_str(item->name), .value = node };
    void *field = (char *)base + item->offset;

    if (!node)
        return;
    if (item->type == WEIR_CONF_CUSTOM)
        item->custom->parse(load, item, &pair, base, NULL);
    else if (item->type == WEIR_CONF_STRS || item->type == WEIR_CONF_FLAGS)
        conf_fill_words(load, item, node, field);
    else
        (void)conf_value(load, item, node, field); /* a test reads every default of every table */
}

void conf_defaults(struct conf_load *load, const struct weir_conf_item *rows, void *base,
                   bool inherit)
{
    for (const struct weir_conf_item *item = rows; item->name; item++) {
        void *field = (char *)base + item->offset;

        if (item->type == WEIR_CONF_SECTION) {
            conf_defaults(load, item->rows, field, inherit || item->flags & WEIR_CONF_INHERIT);
        } else if (inherit) {
            if (item->type == WEIR_CONF_MS || item->type == WEIR_CONF_BYTES ||
                item->type == WEIR_CONF_INT)
                *(int64_t *)field = WEIR_INHERIT;
        } else if (item->def && !(item->flags & WEIR_CONF_ALIAS)) {
            conf_default(load, item, base);
        }
    }
}

/* ---- filling ---- */

const struct weir_conf_item *conf_item_find(const struct weir_conf_item *rows, struct weir_str name)
{
    for (; rows->name; rows++)
        if (weir_str_eq(weir_str(rows->name), name))
            return rows;
    return NULL;
}

static size_t where_print(char *out, size_t room, const struct conf_where *where)
{
    size_t len = 0;

    for (; where && len < room; where = where->up) {
        const char *of = len ? " of " : "";
        int n = where->name.ptr ? snprintf(out + len, room - len, "%s%s '%.*s'", of, where->what,
                                           CONF_CUT(where->name))
                                : snprintf(out + len, room - len, "%s'%s'", of, where->what);

        len += n > 0 ? (size_t)n : 0;
    }
    return len < room ? len : room - 1;
}

const char *conf_where_text(struct conf_load *load, const struct conf_where *where)
{
    char text[512] = "the configuration";

    where_print(text, sizeof(text), where);
    return weir_arena_copy(&load->scratch, weir_str(text)).ptr ?: "";
}

static void unknown_key(struct conf_load *load, const struct weir_conf_item *rows,
                        const struct conf_pair *pair, const struct conf_where *where)
{
    struct conf_nearest near;

    conf_nearest_init(&near, pair->key);
    for (const struct weir_conf_item *item = rows; item->name; item++)
        conf_nearest_add(&near, weir_str(item->name));
    if (where)
        conf_error_hint(load, &pair->mark, near.best, "unknown key '%.*s' in %s",
                        CONF_QUOTE(pair->key), conf_where_text(load, where));
    else
        conf_error_hint(load, &pair->mark, near.best, "unknown key '%.*s'", CONF_QUOTE(pair->key));
}

/* Does an unknown key of the map look like this one? Then that it is missing was said. */
static bool misspelt(const struct conf_node *node, const struct weir_conf_item *rows,
                     const char *name)
{
    for (size_t i = 0; i < node->count; i++) {
        struct conf_nearest near;

        if (conf_item_find(rows, node->pairs[i].key))
            continue;
        conf_nearest_init(&near, node->pairs[i].key);
        for (const struct weir_conf_item *item = rows; item->name; item++)
            conf_nearest_add(&near, weir_str(item->name));
        if (weir_str_eq(near.best, weir_str(name)))
            return true;
    }
    return false;
}

/* STRS and FLAGS: a list, or one. */
void conf_fill_words(struct conf_load *load, const struct weir_conf_item *item,
                     const struct conf_node *node, void *field)
{
    struct conf_node *one = (struct conf_node *)node;
    struct conf_node *const *items = node->kind == CONF_LIST ? node->items : &one;
    size_t count = node->kind == CONF_LIST ? node->count : 1;
    struct weir_conf_item word = *item;
    struct weir_strs strs = { NULL, 0 };

    if (item->type == WEIR_CONF_FLAGS) {
        *(unsigned *)field = 0;
        for (size_t i = 0; i < count; i++)
            (void)conf_value(load, item, items[i], field);
        return;
    }
    word.type = WEIR_CONF_STR;
    word.flags &= ~(unsigned)(WEIR_CONF_OFF | WEIR_CONF_AUTO);
    if (count == 1 && node->kind == CONF_SCALAR && item->flags & WEIR_CONF_OFF &&
        weir_str_eq(node->text, WEIR_STR("off")))
        count = 0;
    strs.at = conf_alloc(load, count * sizeof(*strs.at));
    for (size_t i = 0; strs.at && i < count; i++) {
        if (conf_node_null(items[i]))
            conf_error(load, &items[i]->mark, "an element of '%s' has no value", item->name);
        else if (conf_value(load, &word, items[i], &strs.at[strs.count]))
            strs.count++;
    }
    *(struct weir_strs *)field = strs;
}

/* MAP: texts by name; a null value is "absent" (a header that is only there). */
static void fill_map(struct conf_load *load, const struct weir_conf_item *item,
                     const struct conf_node *node, void *field)
{
    struct weir_conf_item word = *item;
    struct weir_pairs pairs = { NULL, 0 };

    if (node->kind != CONF_MAP) {
        conf_error(load, &node->mark, "'%s' must be a map (NAME: VALUE), not %s", item->name,
                   conf_kind_name(node->kind));
        return;
    }
    word.type = WEIR_CONF_STR;
    pairs.at = conf_alloc(load, node->count * sizeof(*pairs.at));
    for (size_t i = 0; pairs.at && i < node->count; i++) {
        struct weir_pair *pair = &pairs.at[pairs.count];

        pair->name = conf_copy(load, node->pairs[i].key);
        pair->value = (struct weir_str){ NULL, 0 };
        if (conf_node_null(node->pairs[i].value) ||
            conf_value(load, &word, node->pairs[i].value, &pair->value))
            pairs.count++;
    }
    *(struct weir_pairs *)field = pairs;
}

/* One element from a map, or from a scalar through the row `brief`. */
static void fill_element(struct conf_load *load, const struct weir_conf_item *item, void *element,
                         const struct conf_node *node, const struct conf_where *where)
{
    const struct weir_conf_item *brief =
        item->brief ? conf_item_find(item->rows, weir_str(item->brief)) : NULL;

    conf_defaults(load, item->rows, element, false);
    if (node->kind == CONF_SCALAR && brief) {
        struct conf_pair pair = { weir_str(brief->name), node->mark, (struct conf_node *)node };
        struct conf_node *map = conf_node_map(load, node->mark, &pair, 1);

        if (map)
            conf_fill(load, item->rows, element, map, where);
        return;
    }
    conf_fill(load, item->rows, element, node, where);
}

/* The name of an element for messages: its `name`, its brief row's value, or "3". */
static struct weir_str element_name(struct conf_load *load, const struct weir_conf_item *item,
                                    const struct conf_node *node, size_t i)
{
    const char *key = item->brief ? item->brief : "name";
    struct conf_pair *pair = node->kind == CONF_MAP ? conf_node_find(node, weir_str(key)) : NULL;
    char text[32];

    if (node->kind == CONF_SCALAR)
        return node->text;
    if (pair && pair->value->kind == CONF_SCALAR && pair->value->text.len)
        return pair->value->text;
    snprintf(text, sizeof(text), "%zu", i + 1);
    return weir_arena_copy(&load->scratch, weir_str(text));
}

/* "servers" → "server", "match" stays. */
static const char *singular(struct conf_load *load, const char *name)
{
    size_t len = strlen(name);

    if (len < 2 || name[len - 1] != 's')
        return name;
    return weir_arena_copy(&load->scratch, (struct weir_str){ name, len - 1 }).ptr ?: name;
}

void conf_fill_list(struct conf_load *load, const struct weir_conf_item *item,
                    const struct conf_node *node, struct weir_conf_list *list,
                    const struct conf_where *where)
{
    struct conf_node *one = (struct conf_node *)node;
    struct conf_node *const *items = node->kind == CONF_LIST ? node->items : &one;
    size_t count = node->kind == CONF_LIST ? node->count : 1;
    struct conf_pair *pairs =
        weir_arena_zalloc(&load->scratch, (count ? count : 1) * sizeof(*pairs));
    char *at = conf_alloc(load, count * item->bytes);

    *list = (struct weir_conf_list){ at, 0 };
    if (!pairs || !at) {
        load->nomem = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct conf_where here = { where, singular(load, item->name),
                                   element_name(load, item, items[i], i) };
        void *element = at + list->count++ * item->bytes;

        pairs[i] = (struct conf_pair){ here.name, items[i]->mark, items[i] };
        conf_place_add(load, element, "", &pairs[i]);
        fill_element(load, item, element, items[i], &here);
    }
}

static bool name_legal(struct weir_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];

        if (c <= ' ' || c == 0x7f || c == '"' || c == '/' || c == '\\' || c == ',' || c == '{' ||
            c == '}')
            return false;
    }
    return name.len > 0;
}

/* NAMED: a map whose keys become the first field. */
static void fill_named(struct conf_load *load, const struct weir_conf_item *item,
                       const struct conf_node *node, struct weir_conf_list *list,
                       const struct conf_where *where)
{
    char *at;

    if (node->kind != CONF_MAP) {
        conf_error(load, &node->mark, "'%s' must be a map (NAME: { … }), not %s", item->name,
                   conf_kind_name(node->kind));
        return;
    }
    at = conf_alloc(load, node->count * item->bytes);
    *list = (struct weir_conf_list){ at, 0 };
    for (size_t i = 0; at && i < node->count; i++) {
        const struct conf_pair *pair = &node->pairs[i];
        struct conf_where here = { where, singular(load, item->name), pair->key };
        void *element = at + list->count++ * item->bytes;

        if (pair->key.len > WEIR_NAME_BYTES_MAX || !name_legal(pair->key))
            conf_error(load, &pair->mark,
                       "'%.*s' is no name: 1 to %d bytes without space, quote, comma, slash, "
                       "backslash and "
                       "brace",
                       CONF_QUOTE(pair->key), WEIR_NAME_BYTES_MAX);
        conf_place_add(load, element, "", pair);
        fill_element(load, item, element, pair->value, &here);
        *(struct weir_str *)element = conf_copy(load, pair->key);
    }
}

static void fill_item(struct conf_load *load, const struct weir_conf_item *item, void *base,
                      const struct conf_pair *pair, const struct conf_where *where)
{
    struct conf_where here = { where, item->name, { NULL, 0 } };
    void *field = (char *)base + item->offset;

    switch (item->type) {
    case WEIR_CONF_SECTION:
        conf_fill(load, item->rows, field, pair->value, &here);
        break;
    case WEIR_CONF_LIST:
        conf_fill_list(load, item, pair->value, field, where);
        break;
    case WEIR_CONF_NAMED:
        fill_named(load, item, pair->value, field, where);
        break;
    case WEIR_CONF_CUSTOM:
        item->custom->parse(load, item, pair, base, where);
        break;
    case WEIR_CONF_MAP:
        fill_map(load, item, pair->value, field);
        break;
    case WEIR_CONF_STRS:
    case WEIR_CONF_FLAGS:
        conf_fill_words(load, item, pair->value, field);
        break;
    default:
        (void)conf_value(load, item, pair->value, field);
    }
}

void conf_fill(struct conf_load *load, const struct weir_conf_item *rows, void *base,
               const struct conf_node *node, const struct conf_where *where)
{
    if (conf_node_null(node))
        node = conf_node_map(load, node->mark, NULL, 0);
    if (!node)
        return;
    if (node->kind != CONF_MAP) {
        conf_error(load, &node->mark, "%s must be a map (KEY: VALUE), not %s",
                   conf_where_text(load, where), conf_kind_name(node->kind));
        return;
    }
    for (size_t i = 0; i < node->count; i++) {
        const struct conf_pair *pair = &node->pairs[i];
        const struct weir_conf_item *item = conf_item_find(rows, pair->key);

        if (!item) {
            unknown_key(load, rows, pair, where);
            continue;
        }
        conf_place_add(load, (char *)base + item->offset, item->name, pair);
        /* what somebody began to say and did not is no default: it could be one that lets in all */
        if (conf_node_null(pair->value))
            conf_error(load, &pair->mark, "'%s' has no value: give it one, or leave it out",
                       item->name);
        else
            fill_item(load, item, base, pair, where);
    }
    for (const struct weir_conf_item *item = rows; item->name; item++) {
        struct conf_pair *pair =
            item->flags & WEIR_CONF_REQUIRED ? conf_node_find(node, weir_str(item->name)) : NULL;

        if (item->flags & WEIR_CONF_REQUIRED && !pair && !misspelt(node, rows, item->name))
            conf_error(load, &node->mark, "%s needs '%s'", conf_where_text(load, where),
                       item->name);
    }
}
