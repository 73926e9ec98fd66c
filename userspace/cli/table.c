/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { HEADS_BYTES = 256, GAP = 2 };

bool weir_colours(FILE *out)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fileno(out)) && !(no && no[0]) && !(term && strcmp(term, "dumb") == 0);
}

const char *weir_colour(FILE *out, enum weir_colour colour)
{
    static const char *const codes[] = { "",         "\033[32m", "\033[33m",
                                         "\033[31m", "\033[2m",  "\033[1m" };

    return colour != WEIR_PLAIN && weir_colours(out) ? codes[colour] : "";
}

const char *weir_colour_end(FILE *out)
{
    return weir_colours(out) ? "\033[0m" : "";
}

void weir_table_init(struct weir_table *table, const char *heads)
{
    *table = (struct weir_table){ 0 };
    while (*heads && table->columns < WEIR_COLUMNS_MAX) {
        size_t len = strcspn(heads, " ");

        table->heads[table->columns] = heads;
        table->right[table->columns++] = len > 0 && heads[len - 1] == '#';
        heads += len;
        heads += *heads == ' ';
    }
}

void weir_table_put(struct weir_table *table, enum weir_colour colour, const char *format, ...)
{
    va_list args;
    char *text;
    int n;

    if (table->count == table->room) {
        size_t room = table->room ? table->room * 2 : 64;
        void *cells = realloc(table->cells, room * sizeof(*table->cells));

        if (!cells) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->room = room;
    }
    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) {
        table->failed = true;
        return;
    }
    for (int i = 0; i < n; i++) { /* what a peer sent does not move the cursor */
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    }
    table->cells[table->count++] = (struct weir_cell){ text, colour };
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static size_t width_of(const char *text, size_t len)
{
    size_t width = 0;

    for (size_t i = 0; i < len; i++)
        width += ((unsigned char)text[i] & 0xc0) != 0x80;
    return width;
}

static size_t head_len(const struct weir_table *table, unsigned column)
{
    size_t len = strcspn(table->heads[column], " ");

    return len - table->right[column];
}

static void put_spaces(size_t n, FILE *out)
{
    while (n-- > 0)
        fputc(' ', out);
}

/* One cell with its padding; the last column of a row has none behind it. */
static void put_cell(const struct weir_table *table, unsigned column, const char *text, size_t len,
                     size_t width, enum weir_colour colour, FILE *out)
{
    size_t pad = width - width_of(text, len);
    bool last = column + 1 == table->columns;

    if (table->right[column])
        put_spaces(pad, out);
    fprintf(out, "%s%.*s%s", weir_colour(out, colour), (int)len, text,
            colour == WEIR_PLAIN ? "" : weir_colour_end(out));
    if (!last)
        put_spaces((table->right[column] ? 0 : pad) + GAP, out);
}

static void print_rows(const struct weir_table *table, const size_t *widths, FILE *out)
{
    for (unsigned c = 0; c < table->columns; c++)
        put_cell(table, c, table->heads[c], head_len(table, c), widths[c], WEIR_DIM, out);
    fputc('\n', out);
    for (size_t i = 0; i + table->columns <= table->count; i += table->columns) {
        for (unsigned c = 0; c < table->columns; c++) {
            const struct weir_cell *cell = &table->cells[i + c];

            put_cell(table, c, cell->text, strlen(cell->text), widths[c], cell->colour, out);
        }
        fputc('\n', out);
    }
}

void weir_table_print(struct weir_table *table, FILE *out)
{
    size_t widths[WEIR_COLUMNS_MAX];

    if (!table->columns)
        return;
    for (unsigned c = 0; c < table->columns; c++)
        widths[c] = head_len(table, c);
    for (size_t i = 0; i < table->count; i++) {
        const char *text = table->cells[i].text;
        size_t width = width_of(text, strlen(text));

        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
    }
    if (table->count == 0)
        fputs("none\n", out);
    else
        print_rows(table, widths, out);
    if (table->failed)
        fputs("(out of memory: not all is shown)\n", out);
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i].text);
    free(table->cells);
    *table = (struct weir_table){ 0 };
}

const char *weir_human_count(char out[32], uint64_t n)
{
    if (n < 10000)
        snprintf(out, 32, "%llu", (unsigned long long)n);
    else if (n < 1000000)
        snprintf(out, 32, "%.1fk", (double)n / 1e3);
    else if (n < 1000000000)
        snprintf(out, 32, "%.2fM", (double)n / 1e6);
    else
        snprintf(out, 32, "%.2fG", (double)n / 1e9);
    return out;
}

const char *weir_human_bytes(char out[32], uint64_t n)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
    double value = (double)n / 1024;
    unsigned unit = 0;

    if (n < 1024) {
        snprintf(out, 32, "%llu B", (unsigned long long)n);
        return out;
    }
    for (; value >= 1024 && unit < 3; unit++)
        value /= 1024;
    snprintf(out, 32, value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

const char *weir_human_ms(char out[32], uint64_t ms)
{
    unsigned long long s = ms / 1000;

    if (ms < 1000)
        snprintf(out, 32, "%llu ms", (unsigned long long)ms);
    else if (s < 120)
        snprintf(out, 32, "%llu s", s);
    else if (s < 7200)
        snprintf(out, 32, "%llu min", s / 60);
    else if (s < 172800)
        snprintf(out, 32, "%llu h %llu min", s / 3600, s / 60 % 60);
    else
        snprintf(out, 32, "%llu d %llu h", s / 86400, s / 3600 % 24);
    return out;
}
