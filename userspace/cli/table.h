/* SPDX-License-Identifier: Apache-2.0 */
/** table.h: aligned columns for people; colour only on a terminal (and never with NO_COLOR). */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "weir/types.h"

#include <stdio.h>

enum weir_colour { WEIR_PLAIN, WEIR_GOOD, WEIR_WARN, WEIR_BAD, WEIR_DIM, WEIR_BOLD };

struct weir_cell {
    char *text;
    enum weir_colour colour;
};

enum { WEIR_COLUMNS_MAX = 16 };

struct weir_table {
    const char *heads[WEIR_COLUMNS_MAX];
    bool right[WEIR_COLUMNS_MAX]; /* numbers */
    unsigned columns;
    struct weir_cell *cells;
    size_t count, room;
    bool failed;
};

/** `heads`: names by spaces, those that end in '#' are aligned to the right ("name state active#").
 */
void weir_table_init(struct weir_table *table, const char *heads);
/** The next cell, row by row; the text is copied, control characters become '?'. */
void weir_table_put(struct weir_table *table, enum weir_colour colour, const char *format, ...)
    WEIR_PRINTF(3, 4);
/** Prints ("none" when empty) and frees. */
void weir_table_print(struct weir_table *table, FILE *out);

/** May `out` have colours? */
bool weir_colours(FILE *out);
/** "\033[…m" or "". */
const char *weir_colour(FILE *out, enum weir_colour colour);
const char *weir_colour_end(FILE *out);

/** "1234", "12.3k", "4.56M". */
const char *weir_human_count(char out[32], uint64_t n);
/** "512 B", "1.5 MiB". */
const char *weir_human_bytes(char out[32], uint64_t n);
/** "200 ms", "12 s", "3 min", "4 h 5 min", "6 d 7 h". */
const char *weir_human_ms(char out[32], uint64_t ms);

#endif
