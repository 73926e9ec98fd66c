/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_log.h: a holder of an h2 codec that writes down the events of each exchange by itself, so that the log of one input
 * can be compared however the input was cut; and a builder of frames. Pieces of a body are joined, since they depend on
 * the cuts.
 */
#ifndef TEST_H2_LOG_H
#define TEST_H2_LOG_H

#include "base/buf.h"
#include "base/panic.h"
#include "http/h2.h"

#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { H2_LOG_TEXT = 4096, H2_LOG_BODY = 128, H2_LOG_EXCHANGES = 160, H2_WIRE_BYTES = 1 << 20 };

/* ---- bytes for the wire ---- */

struct h2_wire {
    uint8_t *data;
    size_t len, room;
};

static inline void h2_wire_init(struct h2_wire *wire)
{
    *wire = (struct h2_wire){ .data = malloc(H2_WIRE_BYTES), .room = H2_WIRE_BYTES };
    weir_assert(wire->data);
}

static inline void h2_wire_fini(struct h2_wire *wire)
{
    free(wire->data);
}

static inline void h2_put(struct h2_wire *wire, const void *data, size_t len)
{
    weir_assert(wire->room - wire->len >= len);
    if (len)
        memcpy(wire->data + wire->len, data, len);
    wire->len += len;
}

static inline void h2_put_byte(struct h2_wire *wire, unsigned byte)
{
    uint8_t b = (uint8_t)byte;

    h2_put(wire, &b, 1);
}

static inline void h2_put_u32(struct h2_wire *wire, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        h2_put_byte(wire, value >> shift & 255);
}

static inline void h2_put_header(struct h2_wire *wire, size_t len, unsigned type, unsigned flags,
                                 uint32_t id)
{
    h2_put_byte(wire, (unsigned)len >> 16 & 255);
    h2_put_byte(wire, (unsigned)len >> 8 & 255);
    h2_put_byte(wire, (unsigned)len & 255);
    h2_put_byte(wire, type);
    h2_put_byte(wire, flags);
    h2_put_u32(wire, id);
}

static inline void h2_put_frame(struct h2_wire *wire, unsigned type, unsigned flags, uint32_t id,
                                const void *payload, size_t len)
{
    h2_put_header(wire, len, type, flags, id);
    h2_put(wire, payload, len);
}

static inline void h2_put_data(struct h2_wire *wire, uint32_t id, const char *text, bool end)
{
    h2_put_frame(wire, NGHTTP2_DATA, end, id, text, strlen(text));
}

static inline void h2_put_zeros(struct h2_wire *wire, uint32_t id, size_t len, bool end)
{
    static const uint8_t zeros[16384];

    h2_put_frame(wire, NGHTTP2_DATA, end, id, zeros, len);
}

static inline void h2_put_settings(struct h2_wire *wire)
{
    h2_put_header(wire, 0, NGHTTP2_SETTINGS, 0, 0);
}

static inline void h2_put_setting(struct h2_wire *wire, unsigned id, uint32_t value)
{
    h2_put_header(wire, 6, NGHTTP2_SETTINGS, 0, 0);
    h2_put_byte(wire, id >> 8);
    h2_put_byte(wire, id & 255);
    h2_put_u32(wire, value);
}

static inline void h2_put_preface(struct h2_wire *wire)
{
    h2_put(wire, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    h2_put_settings(wire);
}

static inline void h2_put_window(struct h2_wire *wire, uint32_t id, uint32_t by)
{
    h2_put_header(wire, 4, NGHTTP2_WINDOW_UPDATE, 0, id);
    h2_put_u32(wire, by);
}

static inline void h2_put_rst(struct h2_wire *wire, uint32_t id, uint32_t code)
{
    h2_put_header(wire, 4, NGHTTP2_RST_STREAM, 0, id);
    h2_put_u32(wire, code);
}

static inline void h2_put_goaway(struct h2_wire *wire, uint32_t last, uint32_t code)
{
    h2_put_header(wire, 8, NGHTTP2_GOAWAY, 0, 0);
    h2_put_u32(wire, last);
    h2_put_u32(wire, code);
}

static inline void h2_put_ping(struct h2_wire *wire, unsigned flags, const char *opaque)
{
    h2_put_frame(wire, NGHTTP2_PING, flags, 0, opaque, 8);
}

static inline void h2_put_text(struct h2_wire *wire, const char *text, size_t len)
{
    if (len < 127) {
        h2_put_byte(wire, (unsigned)len);
    } else {
        size_t left = len - 127;

        h2_put_byte(wire, 127);
        for (; left >= 128; left >>= 7)
            h2_put_byte(wire, (left & 127) | 128);
        h2_put_byte(wire, (unsigned)left);
    }
    h2_put(wire, text, len);
}

static inline void h2_put_field(struct h2_wire *wire, struct weir_str name, struct weir_str value)
{
    h2_put_byte(wire, 0); /* literal, not indexed */
    h2_put_text(wire, name.ptr, name.len);
    h2_put_text(wire, value.ptr, value.len);
}

/* "name: value\n..." (a name may begin with a colon; "\\r", "\\n", "\\0" stand for the bytes) as a block. */
static inline void h2_put_fields(struct h2_wire *wire, const char *text)
{
    while (*text) {
        char name[256], value[H2_LOG_TEXT], *out = name;
        size_t name_len = 0, len = 0, max = sizeof(name);
        bool in_value = false;

        for (; *text && *text != '\n'; text++) {
            char c = *text;

            if (!in_value && text[0] == ':' && text[1] == ' ') {
                name_len = len;
                out = value, len = 0, max = sizeof(value), in_value = true;
                text++;
                continue;
            }
            if (c == '\\' && text[1])
                c = *++text == 'r' ? '\r' : *text == 'n' ? '\n' : *text == '0' ? 0 : *text;
            weir_assert(len < max);
            out[len++] = c;
        }
        text += *text == '\n';
        h2_put_field(wire, (struct weir_str){ name, name_len }, (struct weir_str){ value, len });
    }
}

/* One HEADERS frame. */
static inline void h2_put_headers(struct h2_wire *wire, uint32_t id, bool end, const char *fields)
{
    struct h2_wire block;

    h2_wire_init(&block);
    h2_put_fields(&block, fields);
    h2_put_frame(wire, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | (end ? 1u : 0), id, block.data,
                 block.len);
    h2_wire_fini(&block);
}

#define H2_GET  ":method: GET\n:scheme: http\n:path: /\n:authority: a.test\n"
#define H2_POST ":method: POST\n:scheme: http\n:path: /\n:authority: a.test\n"

/* ---- the holder ---- */

struct h2_log;

struct h2_exchange {
    struct h2_log *log;
    struct weir_hstream *hs, own; /* client role: own */
    struct weir_arena arena;
    char *text;
    size_t len, body_len;
    char body[H2_LOG_BODY];
    struct weir_message *msg;
    struct weir_error why;
    unsigned drained, flushes;
    bool ended, reset, tunnel, gone;
};

struct h2_log {
    struct weir_buf_cache bufs;
    struct weir_h2_shared shared, *used; /* `used` may be that of another log */
    struct weir_h2 *h2;
    struct weir_codec *codec;
    uint64_t now_ms;
    struct h2_exchange exchanges[H2_LOG_EXCHANGES];
    unsigned count;
    struct h2_wire out;
    size_t pending; /* what on_pending says */
    unsigned outputs, wants;
    bool wanted;
    bool keep; /* the output is not written down */
    bool slow, manual, refuse,
        eager_reset; /* consumes nothing; answers nothing; refuses; resets at the head */
};

static inline void h2_say(struct h2_exchange *ex, const char *format, ...) WEIR_PRINTF(2, 3);
static inline void h2_say(struct h2_exchange *ex, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(ex->text + ex->len, H2_LOG_TEXT - ex->len, format, args);
    va_end(args);
    ex->len += (size_t)n;
    if (ex->len >= H2_LOG_TEXT)
        ex->len = H2_LOG_TEXT - 1;
}

static inline void h2_say_body(struct h2_exchange *ex)
{
    if (ex->body_len > 64)
        h2_say(ex, "body(%zu) ", ex->body_len);
    else if (ex->body_len)
        h2_say(ex, "body[%.*s] ", (int)ex->body_len, ex->body);
    ex->body_len = 0;
}

static inline void h2_say_fields(struct h2_exchange *ex, const struct weir_message *msg)
{
    for (unsigned i = 0; i < msg->count; i++)
        if (msg->fields[i].value.len < 100)
            h2_say(ex, "%.*s=%.*s ", WEIR_FMT(msg->fields[i].name), WEIR_FMT(msg->fields[i].value));
}

static inline void h2_log_head(void *arg, struct weir_message *msg)
{
    static const char *const bodies[] = { "none", "length", "chunked", "close", "tunnel" };
    struct h2_exchange *ex = arg;

    weir_assert(!ex->reset);
    ex->msg = msg;
    if (msg->request) {
        h2_say(ex, "%.*s ", WEIR_FMT(msg->method));
        h2_say(ex, "%.*s", (int)(msg->path.len < 100 ? msg->path.len : 100), msg->path.ptr);
        if (msg->query.ptr)
            h2_say(ex, "?%.*s", WEIR_FMT(msg->query));
        h2_say(ex, " host=%.*s ", WEIR_FMT(msg->host));
    } else {
        h2_say(ex, "%d ", msg->status);
    }
    h2_say(ex, "%s ", bodies[msg->body]);
    if (msg->length)
        h2_say(ex, "%llu ", (unsigned long long)msg->length);
    if (msg->expect_continue)
        h2_say(ex, "expect ");
    if (msg->te_trailers)
        h2_say(ex, "te ");
    if (msg->upgrade.ptr)
        h2_say(ex, "upgrade=%.*s ", WEIR_FMT(msg->upgrade));
    h2_say_fields(ex, msg);
    ex->tunnel |= msg->body == WEIR_BODY_TUNNEL || msg->upgrade.ptr;
    if (ex->log->eager_reset)
        weir_hstream_reset(ex->hs, WEIR_ECANCELED);
}

static inline void h2_log_body(void *arg, struct weir_str data)
{
    struct h2_exchange *ex = arg;
    size_t n = ex->body_len < sizeof(ex->body) ? sizeof(ex->body) - ex->body_len : 0;

    weir_assert(!ex->reset && data.len);
    memcpy(ex->body + (sizeof(ex->body) - n), data.ptr, n < data.len ? n : data.len);
    ex->body_len += data.len;
    if (!ex->log->slow)
        weir_hstream_consume(ex->hs, data.len);
}

static inline void h2_log_trailer(void *arg, struct weir_message *msg)
{
    struct h2_exchange *ex = arg;

    h2_say_body(ex);
    h2_say(ex, "trailer ");
    h2_say_fields(ex, msg);
}

static inline void h2_let_go(struct h2_exchange *ex)
{
    if (ex->gone)
        return;
    ex->gone = true;
    (void)weir_hstream_done(ex->hs);
    ex->hs = NULL;
}

/* Server role: a whole request is answered by its path. */
static inline void h2_answer(struct h2_exchange *ex)
{
    struct weir_message answer;
    struct iovec body = { (void *)(uintptr_t)ex->msg->path.ptr, ex->msg->path.len };

    weir_message_init(&answer, &ex->arena, false);
    answer.status = 200;
    answer.body = WEIR_BODY_LENGTH;
    answer.length = body.iov_len;
    weir_assert(weir_hstream_send(ex->hs, &answer, &body, 1, NULL, WEIR_SEND_END) == 0);
    h2_let_go(ex);
}

static inline void h2_log_end(void *arg)
{
    struct h2_exchange *ex = arg;

    weir_assert(!ex->reset);
    h2_say_body(ex);
    h2_say(ex, "end ");
    ex->ended = true;
    if (!ex->log->manual && ex->hs != &ex->own && !ex->tunnel)
        h2_answer(ex);
}

static inline void h2_log_drained(void *arg)
{
    ((struct h2_exchange *)arg)->drained++;
}

static inline void h2_log_flush(void *arg)
{
    ((struct h2_exchange *)arg)->flushes++;
}

static inline void h2_log_reset(void *arg, const struct weir_error *why)
{
    struct h2_exchange *ex = arg;

    weir_assert(!ex->reset);
    ex->reset = true;
    ex->why = *why;
    h2_say_body(ex);
    h2_say(ex, "reset %s by %s ", weir_err_name(why->code), weir_by_name(why->by));
    if (!ex->log->manual)
        h2_let_go(ex);
}

static const struct weir_hstream_sink h2_log_sink = {
    .on_head = h2_log_head,
    .on_body = h2_log_body,
    .on_trailer = h2_log_trailer,
    .on_end = h2_log_end,
    .on_drained = h2_log_drained,
    .on_reset = h2_log_reset,
    .on_flush = h2_log_flush,
};

static inline struct h2_exchange *h2_exchange_new(struct h2_log *log)
{
    struct h2_exchange *ex = &log->exchanges[log->count];

    weir_assert(log->count < H2_LOG_EXCHANGES);
    log->count++;
    *ex = (struct h2_exchange){ .log = log, .text = malloc(H2_LOG_TEXT) };
    weir_assert(ex->text);
    ex->text[0] = 0;
    weir_arena_init(&ex->arena, NULL);
    return ex;
}

static inline int h2_log_begin(void *arg, struct weir_hstream *hs)
{
    struct h2_log *log = arg;
    struct h2_exchange *ex;

    if (log->refuse || log->count == H2_LOG_EXCHANGES)
        return WEIR_EOVERLOAD;
    ex = h2_exchange_new(log);
    ex->hs = hs;
    hs->sink = &h2_log_sink;
    hs->arg = ex;
    hs->arena = &ex->arena;
    return 0;
}

static inline void h2_log_output(void *arg, const struct iovec *iov, int count)
{
    struct h2_log *log = arg;

    weir_assert(count > 0);
    log->outputs++;
    for (int i = 0; i < count; i++) {
        weir_assert(iov[i].iov_len);
        if (log->keep && log->out.room - log->out.len >= iov[i].iov_len)
            h2_put(&log->out, iov[i].iov_base, iov[i].iov_len);
    }
}

static inline size_t h2_log_pending(void *arg)
{
    return ((struct h2_log *)arg)->pending;
}

static inline void h2_log_pause(void *arg, bool pause)
{
}

static inline void h2_log_wanted(void *arg)
{
    struct h2_log *log = arg;

    weir_assert(!log->wanted); /* once until the flush */
    log->wanted = true;
    log->wants++;
}

static const struct weir_codec_sink h2_log_codec_sink = {
    .on_output = h2_log_output,
    .on_pending = h2_log_pending,
    .on_pause = h2_log_pause,
    .on_begin = h2_log_begin,
    .on_wanted = h2_log_wanted,
};

/* `with`: another log whose shared memory is used, as sessions of a worker do; or NULL. */
static inline struct h2_log *h2_log_new(bool server, const struct weir_guard_limits *limits,
                                        const struct weir_h2_limits *abuse, struct h2_log *with)
{
    struct h2_log *log = calloc(1, sizeof(*log));

    weir_assert(log);
    log->now_ms = 1000;
    log->keep = true;
    h2_wire_init(&log->out);
    weir_buf_cache_init(&log->bufs);
    weir_assert(weir_h2_shared_init(&log->shared, &log->bufs, &log->now_ms) == 0);
    log->used = with ? &with->shared : &log->shared;
    log->h2 = (server ? weir_h2_new_server : weir_h2_new_client)(log->used, limits, abuse,
                                                                 &h2_log_codec_sink, log);
    weir_assert(log->h2);
    log->codec = weir_h2_codec(log->h2);
    return log;
}

static inline void h2_log_free(struct h2_log *log)
{
    for (unsigned i = 0; i < log->count; i++) {
        struct h2_exchange *ex = &log->exchanges[i];

        if (ex->hs)
            h2_let_go(ex);
        weir_arena_fini(&ex->arena);
        free(ex->text);
    }
    if (log->h2)
        weir_h2_free(log->h2);
    weir_h2_shared_fini(&log->shared);
    weir_buf_cache_fini(&log->bufs);
    h2_wire_fini(&log->out);
    free(log);
}

/* As the end of a turn of the loop: at most a few times, since a flush may want another one. */
static inline void h2_log_turn(struct h2_log *log)
{
    for (int i = 0; i < 8 && log->wanted; i++) {
        log->wanted = false;
        weir_codec_flush(log->codec);
    }
}

static inline ssize_t h2_log_feed(struct h2_log *log, const uint8_t *data, size_t len)
{
    ssize_t n = weir_codec_feed(log->codec, data, len);

    weir_assert(n < 0 || n == (ssize_t)len);
    if (n >= 0)
        h2_log_turn(log);
    return n;
}

/* Feeds what was built, and empties it. */
static inline ssize_t h2_log_feed_wire(struct h2_log *log, struct h2_wire *wire)
{
    ssize_t n = h2_log_feed(log, wire->data, wire->len);

    wire->len = 0;
    return n;
}

/* Client role: a request; END with it if `end`. */
static inline struct h2_exchange *h2_log_request(struct h2_log *log, const char *method,
                                                 uint8_t body, bool end)
{
    struct h2_exchange *ex = h2_exchange_new(log);
    struct weir_message msg;

    ex->hs = &ex->own;
    ex->own = (struct weir_hstream){ .sink = &h2_log_sink, .arg = ex, .arena = &ex->arena };
    weir_assert(weir_codec_open(log->codec, &ex->own) == 0);
    weir_message_init(&msg, &ex->arena, true);
    msg.method = strcmp(method, "ws") == 0 ? WEIR_STR("GET") : weir_str(method);
    msg.method_id = (uint8_t)weir_method_id(msg.method);
    msg.path = WEIR_STR("/");
    msg.host = WEIR_STR("a.test");
    msg.body = body;
    if (strcmp(method, "ws") == 0)
        msg.upgrade = WEIR_STR("websocket");
    if (msg.method_id == WEIR_M_CONNECT) {
        msg.form = WEIR_T_AUTHORITY;
        msg.host = WEIR_STR("a.test:443");
    }
    weir_assert(weir_hstream_send(ex->hs, &msg, NULL, 0, NULL, end ? WEIR_SEND_END : 0) == 0);
    return ex;
}

/* The logs of all exchanges, one after another; valid until the next call. */
static inline const char *h2_log_all(struct h2_log *log)
{
    static char text[H2_LOG_TEXT * 4];
    size_t len = 0;

    text[0] = 0;
    for (unsigned i = 0; i < log->count; i++) {
        h2_say_body(&log->exchanges[i]);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? "| " : "",
                                log->exchanges[i].text);
        if (len >= sizeof(text))
            break;
    }
    return text;
}

/* ---- what went out, frame by frame ---- */

struct h2_frame {
    uint32_t len, id;
    uint8_t type, flags;
    const uint8_t *payload;
};

/* The next frame from *at on (a preface is passed over); false at the end. */
static inline bool h2_next_frame(const struct h2_wire *wire, size_t *at, struct h2_frame *frame)
{
    const uint8_t *p;

    if (*at == 0 && wire->len >= 24 && memcmp(wire->data, NGHTTP2_CLIENT_MAGIC, 24) == 0)
        *at = 24;
    if (wire->len - *at < 9)
        return false;
    p = wire->data + *at;
    frame->len = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    frame->type = p[3];
    frame->flags = p[4];
    frame->id =
        ((uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8]) & 0x7fffffff;
    frame->payload = p + 9;
    weir_assert(wire->len - *at - 9 >= frame->len);
    *at += 9 + frame->len;
    return true;
}

/* How many frames of that type (and stream, unless UINT32_MAX) went out; *last is the last of them. */
static inline unsigned h2_count_frames(const struct h2_wire *wire, unsigned type, uint32_t id,
                                       struct h2_frame *last)
{
    struct h2_frame frame;
    unsigned n = 0;

    for (size_t at = 0; h2_next_frame(wire, &at, &frame);) {
        if (frame.type != type || (id != UINT32_MAX && frame.id != id))
            continue;
        n++;
        if (last)
            *last = frame;
    }
    return n;
}

static inline uint32_t h2_u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
