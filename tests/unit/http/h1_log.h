/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h1_log.h: a holder of an h1 codec that writes down every event, so that the log of one input can
 * be compared however the input was cut. Bodies are written down when the message ends, since their
 * pieces depend on the cuts.
 */
#ifndef TEST_H1_LOG_H
#define TEST_H1_LOG_H

#include "base/panic.h"
#include "http/h1.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { H1_LOG_BYTES = 64 * 1024 };

struct h1_log {
    struct weir_h1 h1;
    struct weir_hstream hs; /* client role */
    struct weir_arena arena;
    char *text, *body;
    size_t len, body_len, out_len;
    bool tunnel, no_answer, ended, refuse;
    bool slow, gives_up; /* consumes nothing; resets at the first piece of a body */
    unsigned exchanges;
    struct weir_message *msg;
    struct weir_str requests; /* client role: method, upgrade */
};

static inline void h1_say(struct h1_log *log, const char *format, ...) WEIR_PRINTF(2, 3);
static inline void h1_say(struct h1_log *log, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(log->text + log->len, H1_LOG_BYTES - log->len, format, args);
    va_end(args);
    log->len += (size_t)n;
    if (log->len >= H1_LOG_BYTES)
        log->len = H1_LOG_BYTES - 1;
}

static inline void h1_say_body(struct h1_log *log)
{
    if (log->body_len > 64)
        h1_say(log, "body(%zu) ", log->body_len);
    else if (log->body_len)
        h1_say(log, "body[%.*s] ", (int)log->body_len, log->body);
    log->body_len = 0;
}

static inline void h1_say_fields(struct h1_log *log, const struct weir_message *msg)
{
    for (unsigned i = 0; i < msg->count; i++)
        if (msg->fields[i].id == WEIR_F_OTHER && msg->fields[i].value.len < 100)
            h1_say(log, "%.*s=%.*s ", WEIR_FMT(msg->fields[i].name),
                   WEIR_FMT(msg->fields[i].value));
}

static inline void h1_log_head(void *arg, struct weir_message *msg)
{
    static const char *const bodies[] = { "none", "length", "chunked", "close", "tunnel" };
    struct h1_log *log = arg;

    if (msg->request) {
        h1_say(log, "%.*s ", WEIR_FMT(msg->method));
        h1_say(log, "%.*s", (int)(msg->path.len < 100 ? msg->path.len : 100), msg->path.ptr);
        if (msg->query.ptr)
            h1_say(log, "?%.*s", WEIR_FMT(msg->query));
        h1_say(log, " host=%.*s ", WEIR_FMT(msg->host));
    } else {
        h1_say(log, "%d ", msg->status);
    }
    h1_say(log, "%s ", bodies[msg->body]);
    if (msg->length)
        h1_say(log, "%llu ", (unsigned long long)msg->length);
    if (!msg->keep_alive)
        h1_say(log, "last ");
    if (msg->http10)
        h1_say(log, "1.0 ");
    if (msg->expect_continue)
        h1_say(log, "expect ");
    if (msg->te_trailers)
        h1_say(log, "te ");
    if (msg->upgrade.ptr)
        h1_say(log, "upgrade=%.*s ", WEIR_FMT(msg->upgrade));
    h1_say_fields(log, msg);
    log->tunnel |= msg->body == WEIR_BODY_TUNNEL;
    log->msg = msg;
}

static inline void h1_log_body(void *arg, struct weir_str data)
{
    struct h1_log *log = arg;
    size_t n = data.len < H1_LOG_BYTES - log->body_len ? data.len : H1_LOG_BYTES - log->body_len;

    memcpy(log->body + log->body_len, data.ptr, n);
    log->body_len += n;
    if (log->gives_up)
        weir_hstream_reset(log->h1.hs, WEIR_EBODYSIZE);
    else if (!log->slow)
        weir_hstream_consume(log->h1.hs, data.len);
}

static inline void h1_log_trailer(void *arg, struct weir_message *msg)
{
    struct h1_log *log = arg;

    h1_say_body(log);
    h1_say(log, "trailer ");
    h1_say_fields(log, msg);
}

/* Server role: every whole request is answered by its path. */
static inline void h1_answer(struct h1_log *log)
{
    struct weir_message answer;
    struct iovec body = { (void *)(uintptr_t)log->msg->path.ptr, log->msg->path.len };
    bool more;

    weir_message_init(&answer, &log->arena, false);
    answer.status = 200;
    answer.reason = weir_status_reason(200);
    answer.body = WEIR_BODY_LENGTH;
    answer.length = body.iov_len;
    weir_assert(weir_hstream_send(log->h1.hs, &answer, &body, 1, NULL, WEIR_SEND_END) == 0);
    more = weir_hstream_done(log->h1.hs);
    h1_say(log, "%s; ", more ? "again" : "over");
}

static inline void h1_log_end(void *arg)
{
    struct h1_log *log = arg;

    h1_say_body(log);
    h1_say(log, "end ");
    log->ended = true;
    if (!log->no_answer && log->h1.hs == &log->h1.self)
        h1_answer(log);
}

static inline void h1_log_reset(void *arg, const struct weir_error *why)
{
    struct h1_log *log = arg;

    h1_say_body(log);
    h1_say(log, "reset %s by %s ", weir_err_name(why->code), weir_by_name(why->by));
}

static inline void h1_log_output(void *arg, const struct iovec *iov, int count)
{
    struct h1_log *log = arg;

    for (int i = 0; i < count; i++)
        log->out_len += iov[i].iov_len;
}

static inline size_t h1_log_pending(void *arg)
{
    return 0;
}

static inline void h1_log_pause(void *arg, bool pause)
{
}

static const struct weir_hstream_sink h1_log_sink = {
    .on_head = h1_log_head,
    .on_body = h1_log_body,
    .on_trailer = h1_log_trailer,
    .on_end = h1_log_end,
    .on_reset = h1_log_reset,
};

static inline int h1_log_begin(void *arg, struct weir_hstream *hs)
{
    struct h1_log *log = arg;

    if (log->refuse)
        return WEIR_EOVERLOAD;
    weir_arena_fini(&log->arena);
    hs->sink = &h1_log_sink;
    hs->arg = log;
    hs->arena = &log->arena;
    log->exchanges++;
    return 0;
}

static const struct weir_codec_sink h1_log_codec_sink = {
    .on_output = h1_log_output,
    .on_pending = h1_log_pending,
    .on_pause = h1_log_pause,
    .on_begin = h1_log_begin,
};

static inline void h1_log_init(struct h1_log *log)
{
    *log = (struct h1_log){ .text = malloc(H1_LOG_BYTES), .body = malloc(H1_LOG_BYTES) };
    weir_assert(log->text && log->body);
    log->text[0] = 0;
    weir_arena_init(&log->arena, NULL);
}

static inline void h1_log_fini(struct h1_log *log)
{
    weir_h1_fini(&log->h1);
    weir_arena_fini(&log->arena);
    free(log->text);
    free(log->body);
}

static inline void h1_log_server(struct h1_log *log, const struct weir_guard_limits *limits)
{
    h1_log_init(log);
    weir_h1_init_server(&log->h1, limits, &h1_log_codec_sink, log);
}

/* A client whose request is on the wire: "GET", "HEAD", or "ws" for a request to upgrade to
 * websocket. */
static inline void h1_log_client(struct h1_log *log, const char *request,
                                 const struct weir_guard_limits *limits)
{
    struct weir_message msg;
    bool upgrade = strcmp(request, "ws") == 0;

    h1_log_init(log);
    weir_h1_init_client(&log->h1, limits, &h1_log_codec_sink, log);
    log->hs = (struct weir_hstream){ .sink = &h1_log_sink, .arg = log, .arena = &log->arena };
    weir_assert(weir_codec_open(&log->h1.codec, &log->hs) == 0);
    weir_message_init(&msg, &log->arena, true);
    msg.method = upgrade ? WEIR_STR("GET") : weir_str(request);
    msg.method_id = (uint8_t)weir_method_id(msg.method);
    msg.path = WEIR_STR("/");
    msg.host = WEIR_STR("a.test");
    if (msg.method_id == WEIR_M_CONNECT)
        msg.form = WEIR_T_AUTHORITY;
    if (upgrade)
        msg.upgrade = WEIR_STR("websocket");
    weir_assert(weir_hstream_send(&log->hs, &msg, NULL, 0, NULL, WEIR_SEND_END) == 0);
}

/* Feeds all of it, again and again while the codec takes something. Bytes that it left are
 * reported. */
static inline bool h1_log_feed(struct h1_log *log, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = weir_codec_feed(&log->h1.codec, data, len);

        weir_assert(n <= (ssize_t)len);
        if (n < 0)
            return false;
        if (n == 0)
            return true;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

#endif
