/* SPDX-License-Identifier: Apache-2.0 */
/* conf_said.c: what another process has said of a configuration (weir_diags_print), as diagnostics again. */
#include "daemon/conf_internal.h"

#include <stdlib.h>

/* Cuts "…:17" at its last colon. */
static bool number_cut(struct weir_str *text, unsigned *number)
{
    const char *colon = text->len ? memrchr(text->ptr, ':', text->len) : NULL;
    uint64_t value;

    if (!colon ||
        !weir_str_to_u64(
            (struct weir_str){ colon + 1, text->len - (size_t)(colon + 1 - text->ptr) }, &value) ||
        value > UINT32_MAX)
        return false;
    *number = (unsigned)value;
    text->len = (size_t)(colon - text->ptr);
    return true;
}

/* FILE:LINE:COLUMN or FILE */
static void place_read(struct weir_str place, struct weir_diag *diag)
{
    diag->file = place;
    if (number_cut(&place, &diag->column) && number_cut(&place, &diag->line))
        diag->file = place;
    else
        diag->line = diag->column = 0;
}

static bool severity_read(struct weir_str line, struct weir_str word, struct weir_diag *diag)
{
    const char *at = line.len ? memmem(line.ptr, line.len, word.ptr, word.len) : NULL;
    size_t len = at ? (size_t)(at - line.ptr) : 0;

    if (!len)
        return false;
    place_read((struct weir_str){ line.ptr, len }, diag);
    diag->message = (struct weir_str){ at + word.len, line.len - len - word.len };
    return true;
}

static void hint_read(struct weir_diag *diag)
{
    const struct weir_str before = WEIR_STR("; did you mean '");
    struct weir_str *message = &diag->message;
    const char *at =
        message->len ? memmem(message->ptr, message->len, before.ptr, before.len) : NULL;

    if (!at || message->ptr[message->len - 1] != '?')
        return;
    diag->hint = (struct weir_str){ at + 2, message->len - (size_t)(at + 2 - message->ptr) };
    message->len = (size_t)(at - message->ptr);
}

static bool diag_read(struct weir_str line, struct weir_diag *diag)
{
    *diag = (struct weir_diag){ .severity = WEIR_DIAG_ERROR };
    if (!severity_read(line, WEIR_STR(": error: "), diag)) {
        diag->severity = WEIR_DIAG_WARNING;
        if (!severity_read(line, WEIR_STR(": warning: "), diag))
            return false;
    }
    hint_read(diag);
    return true;
}

/* "   17 | its line", and below it where: "      |   ^~~~" */
static bool source_read(struct weir_str line, struct weir_diag *diag)
{
    const char *bar = line.len ? memmem(line.ptr, line.len, " | ", 3) : NULL;
    struct weir_str rest;

    if (!bar || bar - line.ptr > 10 ||
        (line.ptr[0] != ' ' && (line.ptr[0] < '0' || line.ptr[0] > '9')))
        return false;
    rest = (struct weir_str){ bar + 3, line.len - (size_t)(bar + 3 - line.ptr) };
    if (bar > line.ptr && bar[-1] != ' ') {
        if (diag->column <= CONF_COLUMN_SHOWN_MAX) /* else its beginning is not there */
            diag->source = rest;
    } else {
        const char *at = rest.len ? memchr(rest.ptr, '^', rest.len) : NULL;

        diag->width = at ? (unsigned)(rest.ptr + rest.len - at) : 1;
    }
    return true;
}

void weir_diags_read(struct weir_diags *diags, struct weir_str text)
{
    struct weir_str rest = weir_arena_copy(&diags->arena, text);
    struct weir_diag *last = NULL, diag;

    while (rest.len > 0) {
        struct weir_str line = weir_str_cut(rest, '\n', &rest);

        if (last && source_read(line, last))
            continue;
        if (!diag_read(line, &diag))
            continue;
        last = conf_diag_new(diags, diag.severity);
        if (!last)
            return;
        *last = diag;
    }
}
