/* SPDX-License-Identifier: Apache-2.0 */
/* conf_schema.c: `weir config schema`: the tables as JSON Schema, for editors. ${NAME} may stand
 * wherever a text may. */
#include "daemon/conf_internal.h"

#include "weir/error.h"

#include <jansson.h>

static json_t *schema_item(const struct weir_conf_item *item);

static json_t *type_schema(const char *type)
{
    return json_pack("{s:s}", "type", type);
}

static json_t *pattern_schema(const char *pattern)
{
    return json_pack("{s:s, s:s}", "type", "string", "pattern", pattern);
}

static json_t *environment(void)
{
    return pattern_schema("\\$\\{[^}]+\\}");
}

/* YAML reads some plain words as numbers or booleans; a text may look like that. */
static json_t *text_schema(void)
{
    return json_pack("{s:[s,s,s]}", "type", "string", "number", "boolean");
}

static json_t *words_schema(const char *const *words)
{
    json_t *list = json_array();

    for (; *words; words++)
        json_array_append_new(list, json_string(*words));
    return json_pack("{s:o}", "enum", list);
}

/* `on` and `off` are booleans to some readers of YAML. */
static json_t *word_schema(const char *word)
{
    if (!strcmp(word, "off"))
        return json_pack("{s:[s,b]}", "enum", "off", 0);
    return json_pack("{s:[s]}", "enum", word);
}

static json_t *switch_schema(void)
{
    return json_pack("{s:[s,s,b,b]}", "enum", "on", "off", 1, 0);
}

static json_t *file_schema(void)
{
    return json_pack("{s:s, s:{s:{s:s}}, s:[s], s:b}", "type", "object", "properties", "file",
                     "type", "string", "required", "file", "additionalProperties", 0);
}

static json_t *number_schema(const struct weir_conf_item *item)
{
    json_t *schema = type_schema("integer");

    if (item->min || item->max) {
        json_object_set_new(schema, "minimum", json_integer(item->min));
        if (item->max != INT64_MAX)
            json_object_set_new(schema, "maximum", json_integer(item->max));
    }
    return schema;
}

static json_t *rows_schema(const struct weir_conf_item *rows)
{
    json_t *properties = json_object(), *required = json_array(), *schema;

    for (; rows && rows->name; rows++) {
        json_object_set_new(properties, rows->name, schema_item(rows));
        if (rows->flags & WEIR_CONF_REQUIRED)
            json_array_append_new(required, json_string(rows->name));
    }
    schema = json_pack("{s:s, s:o, s:b}", "type", "object", "properties", properties,
                       "additionalProperties", 0);
    if (json_array_size(required))
        json_object_set_new(schema, "required", required);
    else
        json_decref(required);
    return schema;
}

static json_t *array_of(json_t *items)
{
    return json_pack("{s:s, s:o}", "type", "array", "items", items);
}

static json_t *map_of(json_t *values)
{
    return json_pack("{s:s, s:o}", "type", "object", "additionalProperties", values);
}

static json_t *any_of(json_t *alternatives)
{
    return json_pack("{s:o}", "anyOf", alternatives);
}

/* { headers: { … } } or headers */
static json_t *filters_schema(const struct weir_filter_type *const *types)
{
    json_t *kinds = json_array();

    for (size_t i = 0; types[i]; i++) {
        const struct weir_filter_type *type = types[i];
        json_t *body = rows_schema(type->rows), *values = json_array();

        if (type->text)
            json_object_set_new(body, "description", json_string(type->text));
        json_array_append_new(values, body);
        json_array_append_new(values, switch_schema());
        json_array_append_new(kinds, json_pack("{s:s, s:{s:o}, s:b, s:i}", "type", "object",
                                               "properties", type->name, any_of(values),
                                               "additionalProperties", 0, "minProperties", 1));
        json_array_append_new(kinds, word_schema(type->name));
    }
    return array_of(any_of(kinds));
}

static void custom_schema(const struct weir_conf_item *item, json_t *any)
{
    unsigned shapes = item->custom ? item->custom->shapes : CONF_SHAPE_TEXT;

    if (shapes & CONF_SHAPE_WORDS && item->words)
        json_array_append_new(any, words_schema(item->words));
    if (shapes & CONF_SHAPE_SWITCH)
        json_array_append_new(any, switch_schema());
    if (shapes & CONF_SHAPE_OFF)
        json_array_append_new(any, word_schema("off"));
    if (shapes & CONF_SHAPE_TEXT)
        json_array_append_new(any, text_schema());
    if (shapes & CONF_SHAPE_FILE)
        json_array_append_new(any, file_schema());
    if (shapes & CONF_SHAPE_MAP)
        json_array_append_new(any, rows_schema(item->rows));
    if (shapes & CONF_SHAPE_LIST)
        json_array_append_new(any, array_of(item->rows ? rows_schema(item->rows) : text_schema()));
    if (shapes & CONF_SHAPE_NAMED)
        json_array_append_new(any, map_of(array_of(rows_schema(item->rows))));
    if (shapes & CONF_SHAPE_FILTERS)
        json_array_append_new(any, json_pack("{s:s}", "$ref", "#/$defs/filters"));
}

static json_t *element_schema(const struct weir_conf_item *item)
{
    json_t *any;

    if (!item->brief)
        return rows_schema(item->rows);
    any = json_array();
    json_array_append_new(any, rows_schema(item->rows));
    json_array_append_new(any, type_schema("string"));
    return any_of(any);
}

static void nested_schema(const struct weir_conf_item *item, json_t *any)
{
    if (item->type == WEIR_CONF_SECTION) {
        json_array_append_new(any, rows_schema(item->rows));
    } else if (item->type == WEIR_CONF_NAMED) {
        json_array_append_new(any, map_of(element_schema(item)));
    } else {
        json_array_append_new(any, array_of(element_schema(item)));
        json_array_append_new(any, element_schema(item));
    }
}

static void texts_schema(const struct weir_conf_item *item, json_t *any)
{
    bool secret = item->flags & WEIR_CONF_SECRET;
    json_t *value;

    switch (item->type) {
    case WEIR_CONF_STRS:
        json_array_append_new(any, text_schema());
        json_array_append_new(any, array_of(text_schema()));
        break;
    case WEIR_CONF_FLAGS:
        json_array_append_new(any, words_schema(item->words));
        json_array_append_new(any, array_of(words_schema(item->words)));
        break;
    case WEIR_CONF_MAP:
        value = json_pack("[o, {s:s}]", text_schema(), "type", "null");
        if (secret)
            json_array_append_new(value, file_schema());
        json_array_append_new(any, map_of(any_of(value)));
        break;
    default:
        json_array_append_new(any, text_schema());
        if (secret)
            json_array_append_new(any, file_schema());
    }
}

static void scalar_schema(const struct weir_conf_item *item, json_t *any)
{
    switch (item->type) {
    case WEIR_CONF_BOOL:
        json_array_append_new(any, switch_schema());
        break;
    case WEIR_CONF_INT:
        json_array_append_new(any, number_schema(item));
        break;
    case WEIR_CONF_MS:
        json_array_append_new(any, pattern_schema("^([0-9]+(ms|s|m|h)|0)$"));
        break;
    case WEIR_CONF_BYTES:
        json_array_append_new(any, number_schema(item));
        json_array_append_new(any, pattern_schema("^[0-9]+([KMGT]iB|B)?$"));
        break;
    case WEIR_CONF_RATE:
        json_array_append_new(any, pattern_schema("^[0-9]+(\\.[0-9]+)?/[smh]$"));
        break;
    case WEIR_CONF_PERCENT:
        json_array_append_new(any, pattern_schema("^[0-9]+(\\.[0-9]+)?%$"));
        break;
    default:
        json_array_append_new(any, words_schema(item->words));
    }
    json_array_append_new(any, environment());
}

static json_t *schema_item(const struct weir_conf_item *item)
{
    json_t *any = json_array(), *schema;

    switch (item->type) {
    case WEIR_CONF_SECTION:
    case WEIR_CONF_LIST:
    case WEIR_CONF_NAMED:
        nested_schema(item, any);
        break;
    case WEIR_CONF_CUSTOM:
        custom_schema(item, any);
        break;
    case WEIR_CONF_STR:
    case WEIR_CONF_FILE:
    case WEIR_CONF_DIR:
    case WEIR_CONF_PATH:
    case WEIR_CONF_STRS:
    case WEIR_CONF_FLAGS:
    case WEIR_CONF_MAP:
        texts_schema(item, any);
        break;
    default:
        scalar_schema(item, any);
    }
    if (item->flags & WEIR_CONF_OFF)
        json_array_append_new(any, word_schema("off"));
    if (item->flags & WEIR_CONF_AUTO)
        json_array_append_new(any, word_schema("auto"));
    if (json_array_size(any) == 1) {
        schema = json_incref(json_array_get(any, 0));
        json_decref(any);
    } else {
        schema = any_of(any);
    }
    json_object_set_new(schema, "description", json_string(item->text));
    if (item->def)
        json_object_set_new(schema, "default", json_string(item->def));
    return schema;
}

int weir_conf_schema(const struct weir_conf *conf, FILE *out)
{
    json_t *schema = rows_schema(conf_top_items);
    int err;

    json_object_set_new(schema, "$schema",
                        json_string("https://json-schema.org/draft/2020-12/schema"));
    json_object_set_new(schema, "title", json_string("weir.yaml"));
    json_object_set_new(
        schema, "$defs",
        json_pack("{s:o}", "filters", filters_schema(conf ? conf->filters : conf_filter_types)));
    err = json_dumpf(schema, out, JSON_INDENT(2)) ? WEIR_ENOMEM : 0;
    fputc('\n', out);
    json_decref(schema);
    return err;
}
