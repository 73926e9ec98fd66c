/* SPDX-License-Identifier: Apache-2.0 */
/* conf_diag.c: what is wrong, where, and how people and programs are told. */
#include "daemon/conf_internal.h"

#include "base/panic.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>

enum {
    MESSAGE_BYTES_MAX = 1024,
    SOURCE_COLUMNS_MAX = CONF_COLUMN_SHOWN_MAX + 40,
    SECRET_BYTES_MIN = 4
};

void weir_diags_init(struct weir_diags *diags)
{
    *diags = (struct weir_diags){ 0 };
    weir_arena_init(&diags->arena, NULL);
}

void weir_diags_fini(struct weir_diags *diags)
{
    weir_arena_fini(&diags->arena);
    free(diags->at);
    *diags = (struct weir_diags){ 0 };
}

/* The line of a file, without its end. Absent when the file has no such line. */
static struct weir_str source_line(const struct conf_file *file, unsigned line)
{
    struct weir_str rest = file->text, found;

    for (unsigned i = 1; i < line; i++) {
        const char *end = rest.len ? memchr(rest.ptr, '\n', rest.len) : NULL;

        if (!end)
            return (struct weir_str){ NULL, 0 };
        rest.len -= (size_t)(end + 1 - rest.ptr);
        rest.ptr = end + 1;
    }
    found = weir_str_cut(rest, '\n', &rest);
    if (found.len && found.ptr[found.len - 1] == '\r')
        found.len--;
    return found;
}

/* Bytes of the UTF-8 character that begins with this byte. */
static size_t utf8_len(unsigned char byte)
{
    return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

static bool utf8_at(struct weir_str text, size_t at)
{
    size_t len = utf8_len((unsigned char)text.ptr[at]);

    if ((unsigned char)text.ptr[at] < 0x80)
        return true;
    if (len == 1 || len > text.len - at)
        return false;
    for (size_t i = 1; i < len; i++)
        if (((unsigned char)text.ptr[at + i] & 0xc0) != 0x80)
            return false;
    return true;
}

/* Control characters of a hostile file, and what is no UTF-8, do not reach a terminal; tabs stay.
 */
static struct weir_str printable(struct weir_arena *arena, struct weir_str text)
{
    struct weir_str copy = weir_arena_copy(arena, text);
    char *at = (char *)copy.ptr;

    for (size_t i = 0; at && i < copy.len; i += utf8_len((unsigned char)at[i]))
        if (((unsigned char)at[i] < 0x20 && at[i] != '\t') || at[i] == 0x7f || !utf8_at(copy, i))
            at[i] = '?';
    return copy;
}

struct conf_secret *conf_secret_add(struct conf_load *load, struct weir_str text,
                                    struct weir_str path, struct weir_str source)
{
    struct conf_secret *secret = conf_list_add(load, &load->conf->secrets, sizeof(*secret));

    if (secret)
        *secret = (struct conf_secret){
            .text = text.ptr, .len = text.len, .path = path, .source = source
        };
    return secret;
}

/* The secret that this is (a part of). */
static const struct conf_secret *secret_around(const struct conf_load *load, const char *text)
{
    const struct conf_secret *secrets = load->conf ? load->conf->secrets.at : NULL;

    for (size_t i = 0; secrets && text && i < load->conf->secrets.count; i++)
        if (text >= secrets[i].text && text <= secrets[i].text + secrets[i].len)
            return &secrets[i];
    return NULL;
}

void conf_secret_copied(struct conf_load *load, struct weir_str text, struct weir_str copy)
{
    const struct conf_secret *from = secret_around(load, text.ptr);
    struct conf_secret *secret;

    if (!from || !copy.ptr)
        return;
    secret = conf_secret_add(load, copy, from->path, from->source);
    if (secret)
        secret->copy = true;
}

struct weir_str conf_quoted(const struct conf_load *load, struct weir_str text)
{
    const struct conf_secret *secret = secret_around(load, text.ptr);

    if (secret)
        text = secret->source;
    if (text.len > CONF_QUOTE_BYTES_MAX)
        text.len = CONF_QUOTE_BYTES_MAX;
    return text;
}

/* What others say (a filter, TLS) quotes values that came to them by themselves. Of three letters and less nobody could
 * tell whether it is the value or a word of the sentence. */
static void hide_secrets(const struct conf_load *load, char *text, size_t room)
{
    const struct conf_secret *secrets = load->conf ? load->conf->secrets.at : NULL;
    char rest[MESSAGE_BYTES_MAX];

    for (size_t i = 0; secrets && i < load->conf->secrets.count; i++) {
        const struct conf_secret *secret = &secrets[i];
        char *at = text;

        while (secret->len >= SECRET_BYTES_MIN &&
               (at = memmem(at, strlen(at), secret->text, secret->len))) {
            size_t left = room - (size_t)(at - text);

            snprintf(rest, sizeof(rest), "%s", at + secret->len);
            snprintf(at, left, "%.*s%s", WEIR_FMT(secret->source), rest);
            at += secret->source.len < strlen(at) ? secret->source.len : strlen(at);
        }
    }
}

struct weir_diag *conf_diag_new(struct weir_diags *diags, enum weir_severity severity)
{
    if (severity == WEIR_DIAG_ERROR)
        diags->errors++;
    else
        diags->warnings++;
    if (diags->count >= WEIR_DIAGS_MAX)
        return NULL;
    if (diags->count == diags->room) {
        size_t room = diags->room ? diags->room * 2 : 16;
        struct weir_diag *at = realloc(diags->at, room * sizeof(*at));

        if (!at)
            return NULL;
        diags->at = at;
        diags->room = room;
    }
    diags->at[diags->count] = (struct weir_diag){ .severity = severity };
    return &diags->at[diags->count++];
}

static void diag_add(struct conf_load *load, enum weir_severity severity,
                     const struct conf_mark *mark, struct weir_str hint, const char *format,
                     va_list args)
{
    struct weir_arena *arena = &load->diags->arena;
    char text[MESSAGE_BYTES_MAX];
    struct weir_diag *diag;

    if (load->mute)
        return;
    diag = conf_diag_new(load->diags, severity);
    if (!diag)
        return;
    vsnprintf(text, sizeof(text), format, args);
    hide_secrets(load, text, sizeof(text));
    diag->message = printable(arena, weir_str(text));
    if (hint.len && hint.len <= CONF_QUOTE_BYTES_MAX) {
        snprintf(text, sizeof(text), "did you mean '%.*s'?", WEIR_FMT(hint));
        diag->hint = printable(arena, weir_str(text));
    }
    if (!mark || !mark->file) {
        diag->file = load->conf ? printable(arena, load->conf->path) : weir_str("");
        return;
    }
    diag->file = printable(arena, mark->file->name);
    diag->order = mark->file->index;
    diag->line = mark->line;
    diag->column = mark->column;
    diag->width = mark->width;
    diag->source = source_line(mark->file, mark->line);
    if (diag->source.ptr)
        diag->source = printable(arena, diag->source);
}

void conf_error(struct conf_load *load, const struct conf_mark *mark, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    diag_add(load, WEIR_DIAG_ERROR, mark, (struct weir_str){ NULL, 0 }, format, args);
    va_end(args);
}

void conf_warn(struct conf_load *load, const struct conf_mark *mark, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    diag_add(load, WEIR_DIAG_WARNING, mark, (struct weir_str){ NULL, 0 }, format, args);
    va_end(args);
}

void conf_error_hint(struct conf_load *load, const struct conf_mark *mark, struct weir_str hint,
                     const char *format, ...)
{
    va_list args;

    va_start(args, format);
    diag_add(load, WEIR_DIAG_ERROR, mark, hint, format, args);
    va_end(args);
}

static int diag_cmp(const void *left, const void *right)
{
    const struct weir_diag *a = left, *b = right;

    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    if (a->column != b->column)
        return a->column < b->column ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

void conf_diags_sort(struct weir_diags *diags)
{
    for (size_t i = 0; i < diags->count; i++)
        diags->at[i].seq = (unsigned)i;
    if (diags->count > 1)
        qsort(diags->at, diags->count, sizeof(*diags->at), diag_cmp);
}

const char *conf_mark_text(struct conf_load *load, const struct conf_mark *mark)
{
    char text[512];

    if (!mark || !mark->file)
        return "elsewhere";
    snprintf(text, sizeof(text), "%.*s:%u", WEIR_FMT(mark->file->name), mark->line);
    return weir_arena_copy(&load->scratch, weir_str(text)).ptr ?: "elsewhere";
}

/* The offset of a column (from 1), at most the end. */
static size_t column_at(struct weir_str line, unsigned column)
{
    size_t at = 0;

    for (unsigned i = 1; i < column && at < line.len; i++)
        at += utf8_len((unsigned char)line.ptr[at]);
    return at < line.len ? at : line.len;
}

static void print_source(const struct weir_diag *diag, FILE *out)
{
    unsigned first = diag->column > CONF_COLUMN_SHOWN_MAX ? diag->column - 40 : 1;
    size_t from = column_at(diag->source, first), at = column_at(diag->source, diag->column);
    size_t to = column_at(diag->source, first + SOURCE_COLUMNS_MAX);
    unsigned width = diag->width ? diag->width : 1;

    fprintf(out, "%5u | %.*s\n      | ", diag->line, (int)(to - from), diag->source.ptr + from);
    while (from < at) {
        fputc(diag->source.ptr[from] == '\t' ? '\t' : ' ', out);
        from += utf8_len((unsigned char)diag->source.ptr[from]);
    }
    fputc('^', out);
    for (unsigned i = 1; i < width && diag->column + i < first + SOURCE_COLUMNS_MAX; i++)
        fputc('~', out);
    fputc('\n', out);
}

static const char *severity_name(enum weir_severity severity)
{
    return severity == WEIR_DIAG_ERROR ? "error" : "warning";
}

static void print_diag(const struct weir_diag *diag, FILE *out)
{
    fprintf(out, "%.*s:", WEIR_FMT(diag->file));
    if (diag->line)
        fprintf(out, "%u:%u:", diag->line, diag->column);
    fprintf(out, " %s: %.*s", severity_name(diag->severity), WEIR_FMT(diag->message));
    if (diag->hint.ptr)
        fprintf(out, "; %.*s", WEIR_FMT(diag->hint));
    fputc('\n', out);
    if (diag->line && diag->source.ptr)
        print_source(diag, out);
}

/* JSON is UTF-8; the name of a file need not be. */
static json_t *json_text(struct weir_str text)
{
    json_t *json = json_stringn(text.ptr ? text.ptr : "", text.len);
    char *ascii;

    if (json || !(ascii = weir_str_dup(text)))
        return json ? json : json_string("");
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)ascii[i] >= 0x80)
            ascii[i] = '?';
    json = json_stringn(ascii, text.len);
    free(ascii);
    return json;
}

static void print_json(const struct weir_diags *diags, FILE *out)
{
    json_t *all = json_array();

    for (size_t i = 0; i < diags->count; i++) {
        const struct weir_diag *diag = &diags->at[i];
        json_t *one = json_object();

        json_object_set_new(one, "file", json_text(diag->file));
        json_object_set_new(one, "line", json_integer(diag->line));
        json_object_set_new(one, "column", json_integer(diag->column));
        json_object_set_new(one, "severity", json_string(severity_name(diag->severity)));
        json_object_set_new(one, "message", json_text(diag->message));
        json_object_set_new(one, "hint", diag->hint.ptr ? json_text(diag->hint) : json_null());
        json_array_append_new(all, one);
    }
    json_dumpf(all, out, JSON_INDENT(2));
    fputc('\n', out);
    json_decref(all);
}

void weir_diags_print(const struct weir_diags *diags, FILE *out, bool json)
{
    if (json) {
        print_json(diags, out);
        return;
    }
    for (size_t i = 0; i < diags->count; i++)
        print_diag(&diags->at[i], out);
    if (diags->errors + diags->warnings > diags->count)
        fprintf(out, "%zu more are not shown\n", diags->errors + diags->warnings - diags->count);
    if (diags->errors)
        fprintf(out, "%zu error%s%s", diags->errors, diags->errors == 1 ? "" : "s",
                diags->warnings ? ", " : "\n");
    if (diags->warnings)
        fprintf(out, "%zu warning%s\n", diags->warnings, diags->warnings == 1 ? "" : "s");
}

void conf_nearest_init(struct conf_nearest *near, struct weir_str wanted)
{
    unsigned most = wanted.len / 3 > 3 ? 3 : (unsigned)wanted.len / 3;

    /* a third of the letters may differ; beyond that it is another word */
    *near = (struct conf_nearest){ .wanted = wanted, .distance = (most ? most : 1) + 1 };
}

void conf_nearest_add(struct conf_nearest *near, struct weir_str name)
{
    unsigned distance = weir_str_distance(near->wanted, name);

    if (distance < near->distance && distance < name.len) {
        near->distance = distance;
        near->best = name;
    }
}
