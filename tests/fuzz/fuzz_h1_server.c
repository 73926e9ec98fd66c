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

static void compare(const struct weir_message *a, const struct weir_message *b)
{
    weir_assert(b != NULL);
    weir_assert(weir_str_eq(a->method, b->method));
    weir_assert(weir_str_eq(a->path, b->path));
    weir_assert(weir_str_eq(a->query, b->query) && !a->query.ptr == !b->query.ptr);
    weir_assert(weir_str_eq(a->host, b->host));
    weir_assert(a->body == b->body && a->length == b->length);
    weir_assert(weir_str_eq(a->upgrade, b->upgrade));
    weir_assert(b->keep_alive);
}

/* As the machine would: a clone without hop fields, out through a client codec, in through another
 * server codec. */
static void forward(struct weir_message *msg)
{
    static struct wire wire;
    static const struct weir_guard_limits wide = { .head_bytes = 96 * 1024 };
    struct again again = { .msg = NULL };
    struct weir_h1 up, next;
    struct weir_hstream hs = { .sink = &again_sink, .arg = &again.msg, .arena = msg->arena };
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
    weir_assert(weir_hstream_send(&hs, &copy, NULL, 0, NULL, 0) == 0);
    weir_assert(weir_codec_feed(&next.codec, (const uint8_t *)wire.text, wire.len) ==
                (ssize_t)wire.len);
    compare(msg, again.msg);
    weir_h1_fini(&up);
    weir_h1_fini(&next);
    weir_arena_fini(&again.arena);
}

static void on_head_forward(void *arg, struct weir_message *msg)
{
    h1_log_head(arg, msg);
    forward(msg);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct h1_log whole, cut;
    size_t step;
    bool ok = true;

    if (size < 2)
        return 0;
    step = data[0] % 64 + 1u;
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
    return 0;
}
