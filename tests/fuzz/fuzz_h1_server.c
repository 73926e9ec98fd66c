/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_h1_server.c: bytes of a client. Two things must hold: what the holder learns does not depend
 * on how the bytes were cut (the first byte says how), and a request that was taken, when it is
 * forwarded, is read by the next weir as the same request.
 *
 * fuzz-room: http
 * covers: userspace/http/h1.c, userspace/http/h1_head.c, userspace/http/h1_chunk.c,
 * userspace/http/framing.c
 */
#include "fuzz.h"
#include "http/h1_log.h"

struct wire {
    char text[128 * 1024];
    size_t len;
};

static void on_wire(void *arg, const struct iovec *iov, int count)
{
    struct wire *wire = arg;

    for (int i = 0; i < count; i++) {
        weir_assert(wire->len + iov[i].iov_len <= sizeof(wire->text));
        memcpy(wire->text + wire->len, iov[i].iov_base, iov[i].iov_len);
        wire->len += iov[i].iov_len;
    }
}

static const struct weir_codec_sink wire_sink = {
    .on_output = on_wire,
    .on_pending = h1_log_pending,
    .on_pause = h1_log_pause,
};

static void on_head_again(void *arg, struct weir_message *msg)
{
    *(struct weir_message **)arg = msg;
}

static void ignore_reset(void *arg, const struct weir_error *why)
{
}

static void ignore_body(void *arg, struct weir_str data)
{
}

static void ignore_end(void *arg)
{
}

static const struct weir_hstream_sink again_sink = {
    .on_head = on_head_again,
    .on_body = ignore_body,
    .on_end = ignore_end,
    .on_reset = ignore_reset,
};

struct again {
    struct weir_message *msg;
    struct weir_arena arena;
};

static int begin_again(void *arg, struct weir_hstream *hs)
{
    struct again *again = arg;

    hs->sink = &again_sink;
    hs->arg = &again->msg;
    hs->arena = &again->arena;
    return 0;
}

static const struct weir_codec_sink again_codec_sink = {
    .on_output = on_wire,
    .on_pending = h1_log_pending,
    .on_pause = h1_log_pause,
    .on_begin = begin_again,
};

/* Its absence is then said by Content-Length: 0 (RFC 9110 8.6). */
static bool expects_body(const struct weir_message *msg)
{
    return !msg->upgrade.len && (msg->method_id == WEIR_M_POST || msg->method_id == WEIR_M_PUT ||
                                 msg->method_id == WEIR_M_PATCH);
}

static void compare(const struct weir_message *a, const struct weir_message *b)
{
    weir_assert(b != NULL);
    weir_assert(weir_str_eq(a->method, b->method));
    weir_assert(weir_str_eq(a->path, b->path));
    weir_assert(weir_str_eq(a->query, b->query) && !a->query.ptr == !b->query.ptr);
    weir_assert(weir_str_eq(a->host, b->host));
    weir_assert((a->body == b->body || (a->body == WEIR_BODY_NONE && expects_body(a))) &&
                a->length == b->length);
    weir_assert(weir_str_eq(a->upgrade, b->upgrade));
    weir_assert(b->keep_alive);
}

/* What comes back from the upstream; the sinks only have to survive it. */
static void answer(struct weir_h1 *up, struct weir_hstream *hs, unsigned which)
{
    static const char *const answers[] = {
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\nbad line\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nstray",
    };
    const char *text = answers[which % 8];

    (void)weir_codec_feed(&up->codec, (const uint8_t *)text, strlen(text));
    weir_codec_drained(&up->codec);
    weir_codec_eof(&up->codec, which & 8 ? WEIR_ERESET : WEIR_OK);
    (void)weir_hstream_done(hs);
}

/* As the machine would: a clone without hop fields, out through a client codec, in through another
 * server codec. */
static void forward(struct weir_message *msg, unsigned which)
{
    bool whole = msg->body == WEIR_BODY_NONE || (msg->body == WEIR_BODY_LENGTH && !msg->length);
    struct weir_message *ignored;
    static struct wire wire;
    static const struct weir_guard_limits wide = { .head_bytes = 96 * 1024 };
    struct again again = { .msg = NULL };
    struct weir_h1 up, next;
    struct weir_hstream hs = { .sink = &again_sink, .arg = &ignored, .arena = msg->arena };
    struct weir_message copy;

    if (msg->host.len ==
        0) /* 1.0 without Host: sent with an empty one, which another weir refuses */
        return;
    wire.len = 0;
    weir_arena_init(&again.arena, NULL);
    weir_h1_init_client(&up, NULL, &wire_sink, &wire);
    weir_h1_init_server(&next, &wide, &again_codec_sink, &again);
    weir_assert(weir_message_clone(&copy, msg, msg->arena) == 0);
    weir_message_strip_hop(&copy);
    weir_assert(weir_codec_open(&up.codec, &hs) == 0);
    weir_assert(weir_hstream_send(&hs, &copy, NULL, 0, NULL, whole ? WEIR_SEND_END : 0) == 0);
    weir_assert(weir_codec_feed(&next.codec, (const uint8_t *)wire.text, wire.len) ==
                (ssize_t)wire.len);
    compare(msg, again.msg);
    answer(&up, &hs, which);
    weir_h1_fini(&up);
    weir_h1_fini(&next);
    weir_arena_fini(&again.arena);
}

static unsigned which_answer;

static void on_head_forward(void *arg, struct weir_message *msg)
{
    h1_log_head(arg, msg);
    forward(msg, which_answer);
}

static const struct weir_hstream_sink forward_sink = {
    .on_head = on_head_forward,
    .on_body = h1_log_body,
    .on_trailer = h1_log_trailer,
    .on_end = h1_log_end,
    .on_reset = h1_log_reset,
};

static int begin_forward(void *arg, struct weir_hstream *hs)
{
    int err = h1_log_begin(arg, hs);

    hs->sink = &forward_sink;
    return err;
}

static const struct weir_codec_sink forward_codec_sink = {
    .on_output = h1_log_output,
    .on_pending = h1_log_pending,
    .on_pause = h1_log_pause,
    .on_begin = begin_forward,
};

/* The same bytes to holders with less patience: they refuse, read slowly, give up, or are about to stop. */
static void disturb(const uint8_t *data, size_t size)
{
    struct h1_log log;

    h1_log_server(&log, NULL);
    log.refuse = data[0] & 1;
    log.slow = data[0] & 2;
    log.gives_up = data[0] & 4;
    log.no_answer = data[0] & 16;
    if (data[0] & 8)
        weir_codec_shutdown(&log.h1.codec);
    h1_log_feed(&log, data + 1, size - 1);
    weir_codec_drained(&log.h1.codec);
    if (log.slow && log.h1.hs)
        weir_hstream_consume(log.h1.hs, SIZE_MAX);
    if (weir_h1_in_head(&log.h1) || log.refuse)
        weir_h1_refuse(&log.h1, WEIR_EHEADTIME);
    weir_codec_eof(&log.h1.codec, data[0] & 32 ? WEIR_ERESET : WEIR_OK);
    (void)weir_codec_idle(&log.h1.codec);
    h1_log_fini(&log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct h1_log whole, cut;
    size_t step;
    bool ok = true;

    if (size < 2)
        return 0;
    step = data[0] % 64 + 1u;
    which_answer = data[size - 1];
    h1_log_init(&whole);
    weir_h1_init_server(&whole.h1, NULL, &forward_codec_sink, &whole);
    h1_log_feed(&whole, data + 1, size - 1);
    weir_codec_eof(&whole.h1.codec, WEIR_OK);
    h1_log_server(&cut, NULL);
    for (size_t at = 1; ok && at < size; at += step)
        ok = h1_log_feed(&cut, data + at, size - at < step ? size - at : step);
    weir_codec_eof(&cut.h1.codec, WEIR_OK);
    weir_assert(strcmp(whole.text, cut.text) == 0);
    h1_log_fini(&whole);
    h1_log_fini(&cut);
    disturb(data, size);
    return 0;
}
