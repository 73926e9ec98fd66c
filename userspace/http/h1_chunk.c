/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h1_chunk.c: chunked bodies (RFC 9112 7.1). llhttp decodes, started behind a synthetic head; a
 * guard goes before it, for what llhttp lets pass or does not bound. The guard knows where it is
 * from the sizes that llhttp reports:
 *
 *   LINE ──CR LF──▶ size > 0 ──▶ DATA ──▶ CR ──▶ LF ──▶ LINE
 *              └──▶ size = 0 ──▶ TRAILER: collected until it is whole, then guarded and parsed like
 * a head
 */
#include "http/h1_priv.h"

#include "base/panic.h"

#include <llhttp.h>

enum chunk_state { CHUNK_LINE, CHUNK_DATA, CHUNK_CR, CHUNK_LF, CHUNK_TRAILER };

enum { SIZE_DIGITS_MAX = 16 };

struct weir_h1_chunk {
    llhttp_t parser;
    struct weir_h1 *h1;
    uint64_t left; /* CHUNK_DATA */
    uint8_t state;
    uint8_t digits; /* CHUNK_LINE */
    bool in_gap, in_ext, had_cr, ended, quoted, escaped;
    uint16_t line;     /* bytes of this line */
    enum weir_err err; /* ours, when a callback stopped the parse */
    bool in_value;
    struct weir_str piece; /* of the body, decoded */
    struct weir_message *trailer;
    char *section; /* of a trailer that came in pieces */
    size_t section_len, section_room, section_seen;
};

static void span_extend(struct weir_str *span, const char *at, size_t len)
{
    if (!span->ptr)
        span->ptr = at;
    span->len = (size_t)(at - span->ptr) + len;
}

static int stop(struct weir_h1_chunk *chunk, enum weir_err err)
{
    chunk->err = err;
    return HPE_USER;
}

static int on_chunk_header(llhttp_t *parser)
{
    struct weir_h1_chunk *chunk = parser->data;

    chunk->left = parser->content_length;
    return chunk->left > INT64_MAX ? stop(chunk, WEIR_EBADCHUNK) : 0;
}

/* Only noted: the sink may end the exchange, and with it the memory of this parser. */
static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct weir_h1_chunk *chunk = parser->data;

    span_extend(&chunk->piece, at, len);
    return 0;
}

static int on_trailer_field(llhttp_t *parser, const char *at, size_t len)
{
    struct weir_h1_chunk *chunk = parser->data;
    struct weir_message *trailer = chunk->trailer;

    if (!trailer) /* the synthetic head */
        return 0;
    if (trailer->count >= WEIR_HEADERS_COUNT_MAX)
        return stop(chunk, WEIR_EBADTRAILER);
    chunk->in_value = false;
    if (weir_message_push(trailer, WEIR_F_OTHER, (struct weir_str){ at, len },
                          (struct weir_str){ at + len, 0 }))
        return stop(chunk, WEIR_ENOMEM);
    return 0;
}

static int on_trailer_value(llhttp_t *parser, const char *at, size_t len)
{
    struct weir_h1_chunk *chunk = parser->data;
    struct weir_str *value;

    if (!chunk->trailer)
        return 0;
    weir_assert(chunk->trailer->count > 0);
    value = &chunk->trailer->fields[chunk->trailer->count - 1].value;
    if (!chunk->in_value)
        *value = (struct weir_str){ NULL, 0 };
    chunk->in_value = true;
    span_extend(value, at, len);
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    struct weir_h1_chunk *chunk = parser->data;

    chunk->ended = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_header_field = on_trailer_field,
    .on_header_value = on_trailer_value,
    .on_message_complete = on_message_complete,
};

int weir_h1_chunk_open(struct weir_h1 *h1)
{
    static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct weir_h1_chunk *chunk = weir_arena_zalloc(h1->hs->arena, sizeof(*chunk));

    if (!chunk)
        return WEIR_ENOMEM;
    chunk->h1 = h1;
    llhttp_init(&chunk->parser, HTTP_REQUEST, &settings);
    chunk->parser.data = chunk;
    if (llhttp_execute(&chunk->parser, head, sizeof(head) - 1) != HPE_OK)
        return WEIR_EINTERNAL;
    h1->chunk = chunk;
    return 0;
}

static int execute(struct weir_h1_chunk *chunk, const char *data, size_t len)
{
    llhttp_errno_t err = llhttp_execute(&chunk->parser, data, len);

    if (err == HPE_OK)
        return 0;
    if (err == HPE_USER)
        return chunk->err;
    if (err == HPE_PAUSED && chunk->ended)
        return 0;
    return chunk->state == CHUNK_TRAILER ? WEIR_EBADTRAILER : WEIR_EBADCHUNK;
}

/* Extensions are passed over here, since llhttp takes only some of them (not `a=b;c`). One is visible
 * text; quotes only matter in that a backslash in them may stand before a quote. */
static bool ext_byte_ok(struct weir_h1_chunk *chunk, uint8_t c)
{
    if (c != '\t' && (c < ' ' || c > '~'))
        return false;
    if (!chunk->quoted) {
        chunk->quoted = c == '"';
        return true;
    }
    if (chunk->escaped)
        chunk->escaped = false;
    else if (c == '\\')
        chunk->escaped = true;
    else if (c == '"')
        chunk->quoted = false;
    return true;
}

/* One byte of chunk-size [chunk-ext] CRLF. */
static bool line_byte_ok(struct weir_h1_chunk *chunk, uint8_t c)
{
    if (++chunk->line > WEIR_CHUNK_EXT_BYTES_MAX)
        return false;
    if (chunk->had_cr)
        return c == '\n';
    if (c == '\r') {
        chunk->had_cr = true;
        return chunk->digits > 0 && !chunk->quoted && (chunk->in_ext || !chunk->in_gap);
    }
    if (chunk->in_ext)
        return ext_byte_ok(chunk, c);
    if (weir_is_hex((char)c) && !chunk->in_gap)
        return ++chunk->digits <= SIZE_DIGITS_MAX;
    chunk->in_gap = true; /* spaces may stand before an extension, and only there */
    chunk->in_ext = c == ';';
    return (chunk->in_ext || c == ' ' || c == '\t') && chunk->digits > 0;
}

static void line_begin(struct weir_h1_chunk *chunk)
{
    chunk->state = CHUNK_LINE;
    chunk->digits = 0;
    chunk->line = 0;
    chunk->in_gap = chunk->in_ext = chunk->had_cr = chunk->quoted = chunk->escaped = false;
}

static ssize_t feed_line(struct weir_h1_chunk *chunk, const uint8_t *data, size_t len)
{
    bool whole = false;
    size_t n = 0, size = 0; /* bytes of the line, and those of its size */
    int err;

    while (n < len && !whole) {
        if (!line_byte_ok(chunk, data[n]))
            return WEIR_EBADCHUNK;
        if (!chunk->in_gap && !chunk->had_cr)
            size = n + 1;
        whole = data[n++] == '\n';
    }
    err = size ? execute(chunk, (const char *)data, size) : 0;
    if (!err && whole)
        err = execute(chunk, "\r\n", 2);
    if (err)
        return err;
    if (whole) {
        chunk->state = chunk->left ? CHUNK_DATA : CHUNK_TRAILER;
        if (!chunk->left) {
            chunk->trailer = weir_arena_alloc(chunk->h1->hs->arena, sizeof(*chunk->trailer));
            if (!chunk->trailer)
                return WEIR_ENOMEM;
            weir_message_init(chunk->trailer, chunk->h1->hs->arena, false);
        }
    }
    return (ssize_t)n;
}

static ssize_t feed_data(struct weir_h1_chunk *chunk, const uint8_t *data, size_t len)
{
    size_t n = len < chunk->left ? len : (size_t)chunk->left;
    struct weir_h1 *h1 = chunk->h1;
    int err;

    chunk->piece = (struct weir_str){ NULL, 0 };
    err = execute(chunk, (const char *)data, n);
    if (err)
        return err;
    if (chunk->piece.len !=
        n) /* the sizes of the guard and of llhttp are the same, or one of them is wrong */
        return WEIR_EINTERNAL;
    chunk->left -= n;
    if (chunk->left == 0)
        chunk->state = CHUNK_CR;
    return weir_h1_emit_body(h1, data, n) ? (ssize_t)n : WEIR_ECANCELED;
}

static ssize_t feed_end(struct weir_h1_chunk *chunk, const uint8_t *data)
{
    int err;

    if (*data != (chunk->state == CHUNK_CR ? '\r' : '\n'))
        return WEIR_EBADCHUNK;
    err = execute(chunk, (const char *)data, 1);
    if (err)
        return err;
    if (chunk->state == CHUNK_CR)
        chunk->state = CHUNK_LF;
    else
        line_begin(chunk);
    return 1;
}

/* The section is whole, in the arena. */
static int parse_section(struct weir_h1_chunk *chunk, const char *text, size_t len)
{
    struct weir_message *trailer = chunk->trailer;
    int err = execute(chunk, text, len);

    if (err)
        return err;
    if (!chunk->ended)
        return WEIR_EBADTRAILER;
    trailer->has = 0;
    for (unsigned i = 0; i < trailer->count; i++) {
        struct weir_field *field = &trailer->fields[i];

        field->value = weir_str_trim(field->value);
        field->id = (uint8_t)weir_field_id(field->name);
        trailer->has |= UINT64_C(1) << field->id;
    }
    return weir_guard_trailer(trailer);
}

static int section_keep(struct weir_h1_chunk *chunk, const uint8_t *data, size_t len)
{
    if (chunk->section_len + len > chunk->section_room) {
        size_t room = chunk->section_room ? chunk->section_room : 256;
        char *grown;

        while (room < chunk->section_len + len)
            room *= 2;
        grown = weir_arena_text(chunk->h1->hs->arena, room);
        if (!grown)
            return WEIR_ENOMEM;
        if (chunk->section_len)
            memcpy(grown, chunk->section, chunk->section_len);
        chunk->section = grown;
        chunk->section_room = room;
    }
    memcpy(chunk->section + chunk->section_len, data, len);
    chunk->section_len += len;
    return 0;
}

static ssize_t feed_trailer(struct weir_h1_chunk *chunk, const uint8_t *data, size_t len)
{
    size_t before = chunk->section_len, take = len;
    ssize_t n;
    int err;

    if (before == 0 && len >= 2 && data[0] == '\r' && data[1] == '\n') {
        err = parse_section(chunk, (const char *)data, 2);
        return err ? err : 2;
    }
    if (take > WEIR_TRAILERS_BYTES_MAX - before)
        take = WEIR_TRAILERS_BYTES_MAX - before;
    err = section_keep(chunk, data, take);
    if (err)
        return err;
    n = weir_guard_section((const uint8_t *)chunk->section, chunk->section_len,
                           WEIR_TRAILERS_BYTES_MAX, &chunk->section_seen);
    if (n < 0)
        return WEIR_EBADTRAILER;
    if (n == 0)
        return (ssize_t)take;
    err = parse_section(chunk, chunk->section, (size_t)n);
    return err ? err : n - (ssize_t)before;
}

static ssize_t feed_some(struct weir_h1_chunk *chunk, const uint8_t *data, size_t len)
{
    switch (chunk->state) {
    case CHUNK_LINE:
        return feed_line(chunk, data, len);
    case CHUNK_DATA:
        return feed_data(chunk, data, len);
    case CHUNK_TRAILER:
        return feed_trailer(chunk, data, len);
    default:
        return feed_end(chunk, data);
    }
}

ssize_t weir_h1_chunk_feed(struct weir_h1 *h1, const uint8_t *data, size_t len, bool *done,
                           struct weir_message **trailer)
{
    struct weir_h1_chunk *chunk = h1->chunk;
    size_t used = 0;

    while (used < len && !chunk->ended) {
        ssize_t n = feed_some(chunk, data + used, len - used);

        if (n < 0)
            return n;
        used += (size_t)n;
    }
    *done = chunk->ended;
    *trailer = chunk->ended && chunk->trailer->count ? chunk->trailer : NULL;
    return (ssize_t)used;
}
