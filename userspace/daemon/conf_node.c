/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf_node.c: one YAML file into nodes with marks, by libyaml's events. An alias shares the node
 * of its anchor; how much all would be when written out, and how deep, is bounded, so that a small
 * file stays a small configuration.
 */
#include "daemon/conf_internal.h"

#include <yaml.h>

struct anchor {
    struct weir_str name;
    struct conf_node *node; /* NULL: not complete yet */
    struct conf_mark mark;
};

struct builder {
    struct conf_load *load;
    const struct conf_file *file;
    yaml_parser_t parser;
    struct anchor anchors[CONF_ANCHORS_MAX];
    unsigned anchor_count, depth;
    size_t weight; /* of all nodes so far */
};

bool conf_node_null(const struct conf_node *node)
{
    struct weir_str text = node->text;

    return node->kind == CONF_SCALAR && node->plain &&
           (text.len == 0 || weir_str_eq(text, WEIR_STR("~")) ||
            weir_str_eq(text, WEIR_STR("null")));
}

struct conf_pair *conf_node_find(const struct conf_node *map, struct weir_str key)
{
    for (size_t i = 0; i < map->count; i++)
        if (weir_str_eq(map->pairs[i].key, key))
            return &map->pairs[i];
    return NULL;
}

const char *conf_kind_name(enum conf_kind kind)
{
    return kind == CONF_MAP ? "a map" : kind == CONF_LIST ? "a list" : "a text";
}

static struct conf_mark mark_of(const struct builder *b, const yaml_mark_t *start,
                                const yaml_mark_t *end)
{
    struct conf_mark mark = { b->file, (unsigned)start->line + 1, (unsigned)start->column + 1, 1 };

    if (end && end->line == start->line && end->column > start->column)
        mark.width = (unsigned)(end->column - start->column);
    return mark;
}

static struct conf_node *node_new(struct conf_load *load, enum conf_kind kind,
                                  struct conf_mark mark)
{
    struct conf_node *node = weir_arena_zalloc(&load->scratch, sizeof(*node));

    if (!node) {
        load->nomem = true;
        return NULL;
    }
    node->kind = kind;
    node->mark = mark;
    node->weight = node->height = 1;
    return node;
}

/* Room for one more element; the old array stays in the arena: at most as much again. */
static void *grown(struct conf_load *load, void *at, size_t count, size_t bytes)
{
    void *more;

    if (count & (count - 1) || (count && count < 4))
        return at;
    more = weir_arena_zalloc(&load->scratch, (count < 4 ? 4 : count * 2) * bytes);
    if (!more) {
        load->nomem = true;
        return NULL;
    }
    if (count)
        memcpy(more, at, count * bytes);
    return more;
}

bool conf_node_append(struct conf_load *load, struct conf_node *list, struct conf_node *item)
{
    struct conf_node **items = grown(load, list->items, list->count, sizeof(*items));

    if (!items)
        return false;
    list->items = items;
    items[list->count++] = item;
    list->weight += item->weight;
    list->height = item->height + 1 > list->height ? item->height + 1 : list->height;
    return true;
}

bool conf_node_add(struct conf_load *load, struct conf_node *map, const struct conf_pair *pair)
{
    struct conf_pair *pairs = grown(load, map->pairs, map->count, sizeof(*pairs));

    if (!pairs)
        return false;
    map->pairs = pairs;
    pairs[map->count++] = *pair;
    map->weight += pair->value->weight + 1;
    map->height = pair->value->height + 1 > map->height ? pair->value->height + 1 : map->height;
    return true;
}

struct conf_node *conf_node_map(struct conf_load *load, struct conf_mark mark,
                                const struct conf_pair *pairs, size_t count)
{
    struct conf_node *map = node_new(load, CONF_MAP, mark);

    for (size_t i = 0; map && i < count; i++)
        if (!conf_node_add(load, map, &pairs[i]))
            return NULL;
    return map;
}

struct conf_node *conf_node_list(struct conf_load *load, struct conf_node *item)
{
    struct conf_node *list = node_new(load, CONF_LIST, item->mark);

    return list && conf_node_append(load, list, item) ? list : NULL;
}

/* Is it a tab by which somebody indented? libyaml has no word for that. */
static bool tab_at(const struct conf_file *file, size_t line, size_t column)
{
    struct weir_str rest = file->text, before = { NULL, 0 };

    for (size_t i = 0; i <= line; i++)
        before = weir_str_cut(rest, '\n', &rest);
    return column < before.len && before.ptr[column] == '\t';
}

/* libyaml's own fault: it gives a place and a phrase. */
static void syntax_error(struct builder *b)
{
    const yaml_parser_t *parser = &b->parser;
    struct conf_mark mark = mark_of(b, &parser->problem_mark, NULL);
    const char *problem = parser->problem ? parser->problem : "malformed text";

    if (parser->error == YAML_MEMORY_ERROR) {
        b->load->nomem = true;
        return;
    }
    if (parser->error == YAML_READER_ERROR) { /* it has an offset instead of a mark */
        struct weir_str text = b->file->text;
        size_t end = parser->problem_offset < text.len ? parser->problem_offset : text.len;

        mark = (struct conf_mark){ b->file, 1, 1, 1 };
        for (size_t i = 0; i < end; i++) {
            mark.column = text.ptr[i] == '\n'
                              ? 1
                              : mark.column + (((unsigned char)text.ptr[i] & 0xc0) != 0x80);
            mark.line += text.ptr[i] == '\n';
        }
        conf_error(b->load, &mark, "not UTF-8 text: %s", problem);
        return;
    }
    if (parser->error == YAML_SCANNER_ERROR &&
        tab_at(b->file, parser->problem_mark.line, parser->problem_mark.column))
        conf_error(b->load, &mark, "YAML syntax: a tab: indent by spaces alone");
    else if (parser->context)
        conf_error(b->load, &mark, "YAML syntax: %s, %s (line %zu)", problem, parser->context,
                   parser->context_mark.line + 1);
    else
        conf_error(b->load, &mark, "YAML syntax: %s", problem);
}

static bool next_event(struct builder *b, yaml_event_t *event)
{
    if (yaml_parser_parse(&b->parser, event))
        return true;
    syntax_error(b);
    return false;
}

/* Counts what an alias stands for each time it is used. */
static bool weigh(struct builder *b, const struct conf_node *node, const struct conf_mark *mark)
{
    b->weight += node->weight;
    if (b->weight > CONF_NODES_MAX) {
        conf_error(b->load, mark, "more than %d values (aliases written out)", CONF_NODES_MAX);
        return false;
    }
    if (b->depth + node->height > CONF_DEPTH_MAX) {
        conf_error(b->load, mark, "more than %d levels deep", CONF_DEPTH_MAX);
        return false;
    }
    return true;
}

static struct weir_str name_of(const yaml_char_t *name)
{
    return weir_str((const char *)name);
}

static struct anchor *anchor_find(struct builder *b, struct weir_str name)
{
    for (unsigned i = b->anchor_count; i-- > 0;)
        if (weir_str_eq(b->anchors[i].name, name))
            return &b->anchors[i];
    return NULL;
}

static struct conf_node *build_alias(struct builder *b, const yaml_event_t *event)
{
    struct conf_mark mark = mark_of(b, &event->start_mark, &event->end_mark);
    struct weir_str name = name_of(event->data.alias.anchor);
    struct anchor *anchor = anchor_find(b, name);

    if (!anchor || !anchor->node) {
        conf_error(b->load, &mark,
                   anchor ? "the alias '%.*s' is inside of its own anchor"
                          : "there is no anchor '%.*s'",
                   CONF_CUT(name));
        return NULL;
    }
    return weigh(b, anchor->node, &mark) ? anchor->node : NULL;
}

static int anchor_add(struct builder *b, const yaml_char_t *name, struct conf_mark mark)
{
    struct anchor *anchor;

    if (!name)
        return -1;
    if (b->anchor_count == CONF_ANCHORS_MAX) {
        conf_error(b->load, &mark, "more than %d anchors", CONF_ANCHORS_MAX);
        return -2;
    }
    anchor = &b->anchors[b->anchor_count];
    *anchor = (struct anchor){ weir_arena_copy(&b->load->scratch, name_of(name)), NULL, mark };
    return (int)b->anchor_count++;
}

static struct conf_node *build_node(struct builder *b, yaml_event_t *event);

static bool build_list(struct builder *b, struct conf_node *list)
{
    yaml_event_t event;
    bool good = true;

    while (good && next_event(b, &event)) {
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        struct conf_node *item = end ? NULL : build_node(b, &event);

        yaml_event_delete(&event);
        if (end)
            return true;
        good = item && conf_node_append(b->load, list, item);
    }
    return false;
}

/* A key is a text; merge keys are YAML 1.1's and not for us. */
static bool build_key(struct builder *b, const yaml_event_t *event, struct conf_pair *pair)
{
    pair->mark = mark_of(b, &event->start_mark, &event->end_mark);
    if (event->type != YAML_SCALAR_EVENT) {
        conf_error(b->load, &pair->mark, "a key must be a text");
        return false;
    }
    pair->key =
        (struct weir_str){ (const char *)event->data.scalar.value, event->data.scalar.length };
    if (memchr(pair->key.ptr, 0, pair->key.len)) {
        conf_error(b->load, &pair->mark, "a key must not contain a NUL");
        return false;
    }
    if (weir_str_eq(pair->key, WEIR_STR("<<")) && event->data.scalar.plain_implicit) {
        conf_error(b->load, &pair->mark,
                   "merge keys ('<<') are not supported; use an alias for the whole value");
        return false;
    }
    pair->key = weir_arena_copy(&b->load->scratch, pair->key);
    return pair->key.ptr != NULL;
}

static void pair_add(struct builder *b, struct conf_node *map, const struct conf_pair *pair)
{
    struct conf_pair *first = conf_node_find(map, pair->key);

    if (first)
        conf_error(b->load, &pair->mark, "the key '%.*s' is there twice; first at %s",
                   CONF_CUT(pair->key), conf_mark_text(b->load, &first->mark));
    else if (map->count == CONF_KEYS_MAX) /* finding one that is there twice is quadratic */
        conf_error(b->load, &pair->mark, "more than %d keys in a map", CONF_KEYS_MAX);
    else if (!conf_node_add(b->load, map, pair))
        b->load->nomem = true;
}

static bool build_map(struct builder *b, struct conf_node *map)
{
    yaml_event_t event;

    while (next_event(b, &event)) {
        bool end = event.type == YAML_MAPPING_END_EVENT;
        struct conf_pair pair = { 0 };
        bool good = end || build_key(b, &event, &pair);

        yaml_event_delete(&event);
        if (end)
            return true;
        if (!good || !next_event(b, &event))
            return false;
        pair.value = build_node(b, &event);
        yaml_event_delete(&event);
        if (!pair.value)
            return false;
        pair_add(b, map, &pair);
    }
    return false;
}

static bool build_scalar(struct builder *b, const yaml_event_t *event, struct conf_node *node)
{
    struct weir_str text = { (const char *)event->data.scalar.value, event->data.scalar.length };

    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (memchr(text.ptr, 0, text.len)) {
        conf_error(b->load, &node->mark, "a text must not contain a NUL");
        return false;
    }
    node->text = weir_arena_copy(&b->load->scratch, text);
    return node->text.ptr != NULL;
}

static const yaml_char_t *event_tag(const yaml_event_t *event, const yaml_char_t **anchor)
{
    if (event->type == YAML_SCALAR_EVENT) {
        *anchor = event->data.scalar.anchor;
        return event->data.scalar.tag;
    }
    if (event->type == YAML_SEQUENCE_START_EVENT) {
        *anchor = event->data.sequence_start.anchor;
        return event->data.sequence_start.tag;
    }
    *anchor = event->data.mapping_start.anchor;
    return event->data.mapping_start.tag;
}

/* The rest of a node whose first event is this one. NULL: wrong (diagnosed). */
static struct conf_node *build_node(struct builder *b, yaml_event_t *event)
{
    struct conf_mark mark = mark_of(b, &event->start_mark, &event->end_mark);
    const yaml_char_t *name, *tag;
    enum conf_kind kind = event->type == YAML_SCALAR_EVENT           ? CONF_SCALAR
                          : event->type == YAML_SEQUENCE_START_EVENT ? CONF_LIST
                                                                     : CONF_MAP;
    struct conf_node *node;
    bool good;
    int anchor;

    if (event->type == YAML_ALIAS_EVENT)
        return build_alias(b, event);
    tag = event_tag(event, &name);
    if (tag) {
        conf_error(b->load, &mark, "tags are not allowed here ('%.*s')", CONF_CUT(name_of(tag)));
        return NULL;
    }
    node = node_new(b->load, kind, mark);
    anchor = anchor_add(b, name, mark);
    if (!node || anchor == -2 || !weigh(b, node, &mark))
        return NULL;
    b->depth++;
    good = kind == CONF_SCALAR ? build_scalar(b, event, node)
           : kind == CONF_LIST ? build_list(b, node)
                               : build_map(b, node);
    b->depth--;
    if (good && anchor >= 0)
        b->anchors[anchor].node = node;
    return good ? node : NULL;
}

/* The stream: at most one document. */
static struct conf_node *build_stream(struct builder *b)
{
    struct conf_node *root = NULL;
    yaml_event_t event;

    while (next_event(b, &event)) {
        yaml_event_type_t type = event.type;
        struct conf_mark mark = mark_of(b, &event.start_mark, &event.end_mark);
        bool second = type == YAML_DOCUMENT_START_EVENT && root;
        bool content = type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT &&
                       type != YAML_DOCUMENT_END_EVENT && type != YAML_STREAM_END_EVENT;

        if (content)
            root = build_node(b, &event);
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT)
            return root;
        if (content && !root)
            return NULL;
        if (second) {
            conf_error(b->load, &mark, "only one YAML document is allowed in a file");
            return root;
        }
    }
    return NULL;
}

struct conf_node *conf_node_parse(struct conf_load *load, const struct conf_file *file)
{
    struct builder *b = weir_arena_zalloc(&load->scratch, sizeof(*b));
    struct conf_node *root;

    if (!b || !yaml_parser_initialize(&b->parser)) {
        load->nomem = true;
        return NULL;
    }
    b->load = load;
    b->file = file;
    yaml_parser_set_encoding(&b->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&b->parser, (const unsigned char *)file->text.ptr, file->text.len);
    root = build_stream(b);
    yaml_parser_delete(&b->parser);
    return root;
}
