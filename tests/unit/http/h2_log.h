/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_log.h: a holder of an h2 codec that writes down the events of each exchange by itself, so that the log of one input
 * can be compared however the input was cut. Pieces of a body are joined, since they depend on
 * the cuts.
 */
#ifndef TEST_H2_LOG_H
#define TEST_H2_LOG_H

#include "base/buf.h"
#include "h2_wire.h"
#include "http/h2.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { H2_LOG_TEXT = 4096, H2_LOG_BODY = 128, H2_LOG_EXCHANGES = 160 };

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
    bool
        terse; /* of a message that is reset the body is not written down: how much came depends on the cuts */
    bool keep; /* the output is written down */
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
    if (ex->log->terse)
        ex->body_len = 0;
    h2_say_body(ex);
    h2_say(ex, "reset %s by %s ", weir_err_name(why->code), weir_by_name(why->by));
    if (!ex->log->manual)
        h2_let_go(ex);
}

/** What a log does with all events but the head: for sinks that look at heads themselves. */
#define H2_LOG_SINK                                                             \
    .on_body = h2_log_body, .on_trailer = h2_log_trailer, .on_end = h2_log_end, \
    .on_drained = h2_log_drained, .on_reset = h2_log_reset, .on_flush = h2_log_flush
static const struct weir_hstream_sink h2_log_sink = { .on_head = h2_log_head, H2_LOG_SINK };

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
        if (log->keep)
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

/* A server whose client has said its preface. */
static inline struct h2_log *h2_server_new(const struct weir_h2_limits *abuse)
{
    struct h2_log *log = h2_log_new(true, NULL, abuse, NULL);
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_preface(&wire);
    weir_assert(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
    log->out.len = 0;
    return log;
}

/* The client answers the last PING that came. */
static inline void h2_answer_ping(struct h2_log *log)
{
    struct h2_frame ping = { .payload = NULL };
    struct h2_wire wire;

    weir_assert(h2_count_frames(&log->out, NGHTTP2_PING, 0, &ping) > 0);
    h2_wire_init(&wire);
    h2_put_ping(&wire, NGHTTP2_FLAG_ACK, (const char *)ping.payload);
    weir_assert(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
}

/* Of the last GOAWAY; UINT32_MAX: none. */
static inline uint32_t h2_goaway_code(struct h2_log *log)
{
    struct h2_frame frame;

    return h2_count_frames(&log->out, NGHTTP2_GOAWAY, 0, &frame) ? h2_u32_at(frame.payload + 4)
                                                                 : UINT32_MAX;
}

static inline uint32_t h2_goaway_last(struct h2_log *log)
{
    struct h2_frame frame;

    return h2_count_frames(&log->out, NGHTTP2_GOAWAY, 0, &frame) ? h2_u32_at(frame.payload)
                                                                 : UINT32_MAX;
}

#endif
