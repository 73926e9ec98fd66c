/* SPDX-License-Identifier: Apache-2.0 */
/** cells.h: what the daemon said (JSON) as cells of a table, a member each. */
#ifndef CLI_CELLS_H
#define CLI_CELLS_H

#include "cli/table.h"

#include <jansson.h>

/** A member; "" and 0 when it is not there, or of another type. */
const char *weir_json_text(const json_t *json, const char *key);
uint64_t weir_json_number(const json_t *json, const char *key);

/** The next cell: the member as it is ("-" for an empty text), or as people read it. */
void weir_cell_text(struct weir_table *table, const json_t *json, const char *key);
void weir_cell_number(struct weir_table *table, const json_t *json, const char *key);
void weir_cell_count(struct weir_table *table, const json_t *json, const char *key);
void weir_cell_ms(struct weir_table *table, const json_t *json, const char *key);
void weir_cell_bytes(struct weir_table *table, const json_t *json, const char *key);

#endif
