/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h1_head.c: one strict llhttp parse of a whole head that the guard has let through. llhttp judges
 * the bytes; the slices that it reports point into the copy in the arena. Methods are not llhttp's
 * affair: it knows a closed list of them, a proxy passes on any token, so the parser is started
 * behind a method that it knows.
 */
#include "http/h1_priv.h"

#include "base/panic.h"

#include <llhttp.h>

struct head_parse {
    struct weir_message *msg;
    struct weir_str target;
    unsigned fields_max, target_max;
    enum weir_err err; /* ours, when a callback stopped the parse */
    bool in_value;
};

static int stop(struct head_parse *parse, enum weir_err err)
{
    parse->err = err;
    return HPE_USER;
}

/* A span may come in pieces; they touch, since the head is contiguous. */
static void span_extend(struct weir_str *span, const char *at, size_t len)
{
    if (!span->ptr)
        span->ptr = at;
    span->len = (size_t)(at - span->ptr) + len;
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    struct head_parse *parse = parser->data;

    span_extend(&parse->target, at, len);
    return parse->target.len > parse->target_max ? stop(parse, WEIR_EURISIZE) : 0;
}

static int on_status(llhttp_t *parser, const char *at, size_t len)
{
    struct head_parse *parse = parser->data;

    span_extend(&parse->msg->reason, at, len);
    return 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t len)
{
    struct head_parse *parse = parser->data;
    struct weir_message *msg = parse->msg;
    struct weir_str none = { at + len, 0 };

    if (msg->count && !parse->in_value &&
        msg->fields[msg->count - 1].name.ptr + msg->fields[msg->count - 1].name.len == at) {
        span_extend(&msg->fields[msg->count - 1].name, at, len);
        return 0;
    }
    parse->in_value = false;
    if (msg->count >= parse->fields_max)
        return stop(parse, WEIR_EHDRCOUNT);
    if (weir_message_push(msg, WEIR_F_OTHER, (struct weir_str){ at, len }, none))
        return stop(parse, WEIR_ENOMEM);
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t len)
{
    struct head_parse *parse = parser->data;
    struct weir_field *field;

    weir_assert(parse->msg->count > 0);
    field = &parse->msg->fields[parse->msg->count - 1];
    if (!parse->in_value)
        field->value = (struct weir_str){ NULL, 0 };
    parse->in_value = true;
    span_extend(&field->value, at, len);
    return 0;
}

/* The end of our interest: bodies are framed by us. */
static int on_headers_complete(llhttp_t *parser)
{
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_status = on_status,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
};

static enum weir_err translate(llhttp_errno_t err)
{
    switch (err) {
    case HPE_INVALID_METHOD:
    case HPE_INVALID_CONSTANT:
    case HPE_INVALID_STATUS:
        return WEIR_EBADLINE;
    case HPE_INVALID_URL:
        return WEIR_EBADTARGET;
    case HPE_INVALID_VERSION:
    case HPE_PAUSED_H2_UPGRADE:
        return WEIR_EVERSION;
    case HPE_INVALID_CONTENT_LENGTH:
    case HPE_UNEXPECTED_CONTENT_LENGTH:
        return WEIR_EBADCL;
    case HPE_INVALID_TRANSFER_ENCODING:
        return WEIR_EBADTE;
    default:
        return WEIR_EBADHEADER;
    }
}

/* method SP target SP version: three parts, one space between them (RFC 9112 3), of which llhttp
 * would take more. */
static int request_line(struct weir_message *msg, const char *line, size_t len, size_t *target)
{
    const char *space = memchr(line, ' ', len), *last;

    if (!space || space - line > WEIR_METHOD_BYTES_MAX)
        return WEIR_EBADLINE;
    msg->method = (struct weir_str){ line, (size_t)(space - line) };
    if (!weir_guard_name(msg->method))
        return WEIR_EBADLINE;
    *target = (size_t)(space - line) + 1;
    last = memchr(line + *target, ' ', len - *target);
    if (!last || last == line + *target || line + len - last != sizeof(" HTTP/1.1") - 1)
        return WEIR_EBADLINE;
    return 0;
}

/* HTTP-version SP 3DIGIT [SP reason] */
static int status_line(const char *line, size_t len)
{
    enum { CODE = sizeof("HTTP/1.1 ") - 1 };

    if (len < CODE + 3 || line[CODE - 1] != ' ' || (len > CODE + 3 && line[CODE + 3] != ' '))
        return WEIR_EBADLINE;
    for (size_t i = CODE; i < CODE + 3; i++)
        if (line[i] < '0' || line[i] > '9')
            return WEIR_EBADLINE;
    return 0;
}

static int execute(struct head_parse *parse, llhttp_t *parser, const char *text, size_t len)
{
    llhttp_errno_t err = llhttp_execute(parser, text, len);

    if (err == HPE_USER)
        return parse->err;
    /* Paused by on_headers_complete, at the last LF. */
    if (err == HPE_PAUSED && llhttp_get_error_pos(parser) >= text + len - 1)
        return 0;
    return err == HPE_OK || err == HPE_PAUSED ? WEIR_EBADREQ : translate(err);
}

static int parse_request(struct head_parse *parse, llhttp_t *parser, const char *text, size_t len)
{
    const char *end = memchr(text, '\r', len);
    bool connect;
    size_t target = 0;
    int err;

    weir_assert(end != NULL); /* the guard has seen whole lines */
    err = request_line(parse->msg, text, (size_t)(end - text), &target);
    if (err)
        return err;
    llhttp_init(parser, HTTP_REQUEST, &settings);
    parser->data = parse;
    connect = weir_str_eq(parse->msg->method, WEIR_STR("CONNECT"));
    if (llhttp_execute(parser, connect ? "CONNECT " : "GET ", connect ? 8 : 4) != HPE_OK)
        return WEIR_EINTERNAL;
    err = execute(parse, parser, text + target, len - target);
    parse->msg->path = parse->target;
    return err;
}

static int parse_response(struct head_parse *parse, llhttp_t *parser, const char *text, size_t len)
{
    const char *end = memchr(text, '\r', len);
    int err;

    weir_assert(end != NULL);
    err = status_line(text, (size_t)(end - text));
    if (err)
        return err;
    llhttp_init(parser, HTTP_RESPONSE, &settings);
    parser->data = parse;
    err = execute(parse, parser, text, len);
    parse->msg->status = parser->status_code;
    return err;
}

/* Values lose the spaces that llhttp leaves at their end; names get their ids. */
static void finish_fields(struct weir_message *msg)
{
    msg->has = 0;
    for (unsigned i = 0; i < msg->count; i++) {
        struct weir_field *field = &msg->fields[i];

        field->value = weir_str_trim(field->value);
        field->id = (uint8_t)weir_field_id(field->name);
        msg->has |= UINT64_C(1) << field->id;
    }
}

/* Spaces and tabs at the end of a value mean nothing (RFC 9110 5.5), but llhttp refuses a tab
 * behind a length. */
static void blank_tabs(char *text, size_t len)
{
    char *tab = memchr(text, '\t', len);

    while (tab) {
        char *end = tab;

        while (*end == ' ' || *end == '\t') /* ends: a head ends in CR LF */
            end++;
        if (*end == '\r')
            memset(tab, ' ', (size_t)(end - tab));
        tab = memchr(end, '\t', (size_t)(text + len - end));
    }
}

/* How many fields a head of that size has, by experience, and some that the machine will add. */
static unsigned fields_in(size_t len)
{
    return len < 24 * 32 ? 4 + (unsigned)len / 32 : 32;
}

int weir_h1_parse(const uint8_t *data, size_t len, bool request,
                  const struct weir_guard_limits *limits, struct weir_arena *arena,
                  struct weir_message **msgp)
{
    struct head_parse parse = {
        .fields_max = limits && limits->head_count ? limits->head_count : WEIR_HEADERS_COUNT_MAX,
        .target_max = limits && limits->target_bytes ? limits->target_bytes : WEIR_TARGET_BYTES_MAX,
    };
    struct weir_str text = weir_arena_copy(arena, (struct weir_str){ (const char *)data, len });
    llhttp_t parser;
    int err;

    parse.msg = weir_arena_alloc(arena, sizeof(*parse.msg));
    if (!text.ptr || !parse.msg)
        return WEIR_ENOMEM;
    blank_tabs((char *)(uintptr_t)text.ptr, len);
    weir_message_init(parse.msg, arena, request);
    if (weir_message_reserve(parse.msg, fields_in(len)))
        return WEIR_ENOMEM;
    err = request ? parse_request(&parse, &parser, text.ptr, len)
                  : parse_response(&parse, &parser, text.ptr, len);
    if (err)
        return err;
    if (parser.http_major != 1 || parser.http_minor > 1)
        return WEIR_EVERSION;
    parse.msg->http10 = parser.http_minor == 0;
    finish_fields(parse.msg);
    *msgp = parse.msg;
    return 0;
}
