/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cells.h"

const char *weir_json_text(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));

    return text ? text : "";
}

uint64_t weir_json_number(const json_t *json, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(json, key));

    return n < 0 ? 0 : (uint64_t)n;
}

void weir_cell_text(struct weir_table *table, const json_t *json, const char *key)
{
    const char *text = weir_json_text(json, key);

    weir_table_put(table, *text ? WEIR_PLAIN : WEIR_DIM, "%s", *text ? text : "-");
}

void weir_cell_number(struct weir_table *table, const json_t *json, const char *key)
{
    weir_table_put(table, WEIR_PLAIN, "%llu", (unsigned long long)weir_json_number(json, key));
}

void weir_cell_count(struct weir_table *table, const json_t *json, const char *key)
{
    char text[32];

    weir_table_put(table, WEIR_PLAIN, "%s", weir_human_count(text, weir_json_number(json, key)));
}

void weir_cell_ms(struct weir_table *table, const json_t *json, const char *key)
{
    char text[32];

    weir_table_put(table, WEIR_PLAIN, "%s", weir_human_ms(text, weir_json_number(json, key)));
}

void weir_cell_bytes(struct weir_table *table, const json_t *json, const char *key)
{
    char text[32];

    weir_table_put(table, WEIR_PLAIN, "%s", weir_human_bytes(text, weir_json_number(json, key)));
}
