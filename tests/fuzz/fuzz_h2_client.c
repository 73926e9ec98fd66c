/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_h2_client.c: frames of an upstream. The first byte says what was asked, the second how the frames are cut and what
 * the holders are like. What they learn does not depend on the cuts; and an answer that was taken, when it is passed on
 * over HTTP/1, is read by the next weir as that one answer.
 *
 * fuzz-room: http
 * covers: userspace/http/h2_window.c
 */
#include "fuzz_h2.h"
#include "http/h2_priv.h"

static const char *const asked[] = { "GET", "HEAD", "POST", "ws", "CONNECT" };
static enum weir_method method_asked;
static bool forwarding;

/* Out through the server codec that has read such a request, in through a client codec that has sent it. */
static void pass_on(const struct weir_message *msg)
{
    bool whole = msg->body == WEIR_BODY_NONE;
    struct fuzz_read read = { .msg = NULL }, request = { .msg = NULL };
    const char *text = method_asked == WEIR_M_HEAD ? "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
                                                   : "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    struct weir_hstream hs = { .sink = &fuzz_read_sink, .arg = &read, .arena = &read.arena };
    struct weir_message copy, get;
    struct h2_wire wire, ignored;
    struct weir_codec_sink sink = fuzz_read_codec_sink;
    struct weir_h1 down, next;

    if (msg->status == 101 || msg->body == WEIR_BODY_TUNNEL)
        return;
    h2_wire_init(&wire);
    h2_wire_init(&ignored);
    weir_arena_init(&read.arena, NULL);
    weir_arena_init(&request.arena, NULL);
    weir_h1_init_server(&down, NULL, &sink, &request);
    weir_h1_init_client(&next, &fuzz_wide, &fuzz_wire_sink, &ignored);
    weir_assert(weir_codec_feed(&down.codec, (const uint8_t *)text, strlen(text)) > 0);
    sink.on_output = fuzz_wire_output;
    down.codec.arg = &wire;
    weir_assert(weir_codec_open(&next.codec, &hs) == 0);
    weir_message_init(&get, &read.arena, true);
    get.method_id = (uint8_t)(method_asked == WEIR_M_HEAD ? WEIR_M_HEAD : WEIR_M_GET);
    get.method = method_asked == WEIR_M_HEAD ? WEIR_STR("HEAD") : WEIR_STR("GET");
    get.path = WEIR_STR("/");
    get.host = WEIR_STR("a");
    weir_assert(weir_hstream_send(&hs, &get, NULL, 0, NULL, WEIR_SEND_END) == 0);
    weir_assert(weir_message_clone(&copy, msg, msg->arena) == 0);
    weir_message_strip_hop(&copy);
    weir_assert(weir_hstream_send(down.hs, &copy, NULL, 0, NULL,
                                  whole && msg->status >= 200 ? WEIR_SEND_END : 0) == 0);
    weir_assert(weir_codec_feed(&next.codec, wire.data, wire.len) == (ssize_t)wire.len);
    weir_assert(!read.resets && read.msg && read.msg->status == msg->status);
    weir_h1_fini(&down);
    weir_h1_fini(&next);
    weir_arena_fini(&read.arena);
    weir_arena_fini(&request.arena);
    h2_wire_fini(&wire);
    h2_wire_fini(&ignored);
}

static void on_head_pass(void *arg, struct weir_message *msg)
{
    h2_log_head(arg, msg);
    if (forwarding)
        pass_on(msg);
}

static const struct weir_hstream_sink pass_sink = { .on_head = on_head_pass, H2_LOG_SINK };

static struct h2_log *ask(const char *method)
{
    struct h2_log *log = h2_log_new(false, NULL, NULL, NULL);

    log->manual = log->terse = true;
    for (int i = 0; i < 3; i++) {
        struct h2_exchange *ex = h2_log_request(log, i ? "GET" : method, WEIR_BODY_NONE, true);

        if (i == 0)
            ex->hs->sink = &pass_sink;
    }
    h2_log_turn(log);
    return log;
}

static ssize_t settle(struct h2_log *log)
{
    struct h2_wire wire;
    ssize_t n;

    h2_wire_init(&wire);
    h2_put_settings(&wire);
    n = h2_log_feed_wire(log, &wire);
    h2_wire_fini(&wire);
    return n;
}

static struct h2_log *play(const char *method, const uint8_t *data, size_t size, size_t step)
{
    struct h2_log *log = ask(method);
    ssize_t n = settle(log);

    for (size_t at = 0; n >= 0 && at < size && !weir_codec_over(log->codec); at += step)
        n = h2_log_feed(log, data + at, size - at < step ? size - at : step);
    if (n >= 0)
        weir_codec_eof(log->codec, WEIR_OK);
    h2_log_turn(log);
    return log;
}

static bool is_plain(const struct h2_log *log)
{
    return !log->h2->goaway &&
           h2_count_frames(&log->out, NGHTTP2_RST_STREAM, UINT32_MAX, NULL) == 0;
}

static void compare(const char *method, const uint8_t *data, size_t size, size_t step)
{
    struct h2_log *whole, *cut;

    method_asked = weir_method_id(weir_str(method));
    forwarding = true;
    whole = play(method, data, size, size ? size : 1);
    forwarding = false;
    cut = play(method, data, size, step);
    if (is_plain(whole) && is_plain(cut))
        for (unsigned i = 0; i < whole->count; i++)
            fuzz_same_text(&whole->exchanges[i], &cut->exchanges[i]);
    h2_log_free(whole);
    h2_log_free(cut);
}

static void meddle(struct h2_log *log, uint8_t what)
{
    static const char text[9000] = "x";
    struct h2_exchange *ex = log->count ? &log->exchanges[(what >> 5) % log->count] : NULL;
    struct iovec iov = { (void *)(uintptr_t)text, what & 16 ? sizeof(text) : 3 };

    if (!ex || !ex->hs)
        return;
    switch (what % 8) {
    case 0:
    case 1:
        (void)weir_hstream_send(ex->hs, NULL, &iov, 1, NULL, what & 8 ? WEIR_SEND_END : 0);
        break;
    case 2:
        weir_hstream_consume(ex->hs, SIZE_MAX);
        break;
    case 3:
        weir_hstream_reset(ex->hs, WEIR_ECANCELED);
        break;
    case 4:
        h2_let_go(ex);
        break;
    case 5:
        (void)weir_hstream_pending(ex->hs);
        log->pending = what & 8 ? 1 << 20 : 0;
        weir_codec_drained(log->codec);
        break;
    case 6:
        if (weir_h2_room(log->h2) && log->count < 60)
            h2_log_request(log, what & 8 ? "POST" : "GET",
                           what & 8 ? WEIR_BODY_CHUNKED : WEIR_BODY_NONE, !(what & 8));
        break;
    default:
        if (what & 8)
            weir_h2_ping(log->h2);
        else
            weir_codec_shutdown(log->codec);
    }
}

/* A body that flows: by its first byte the way is long, short or not known, and memory short for a while. */
static void flow(struct h2_log *log, uint8_t how)
{
    struct h2_exchange *ex = &log->exchanges[0];
    struct h2_wire wire;

    h2_wire_init(&wire);
    if (how & 8)
        weir_h2_set_rtt(log->h2, how & 16 ? 40 : 1);
    h2_put_headers(&wire, 1, false,
                   how & 32 ? ":status: 200\ncontent-length: 400000\n" : ":status: 200\n");
    for (int i = 0; i < 16 && ex->hs && !weir_codec_over(log->codec); i++) {
        h2_put_zeros(&wire, 1, 16384, false);
        if (h2_log_feed_wire(log, &wire) < 0)
            break;
        log->shared.tight = (how & 64) && i % 4 == 3;
        weir_hstream_consume(ex->hs, SIZE_MAX);
        h2_log_turn(log);
        h2_put_ping(&wire, NGHTTP2_FLAG_ACK, "weir-rtt");
        log->now_ms += how & 128 ? 90 : 1;
    }
    h2_wire_fini(&wire);
}

static void disturb(const char *method, const uint8_t *data, size_t size)
{
    struct h2_log *log = ask(method);
    ssize_t n;

    log->slow = data[1] & 64;
    log->keep = false;
    n = settle(log);
    if (data[1] & 32)
        flow(log, data[0]);
    for (size_t at = 2; n >= 0 && at < size;) {
        size_t step = size - at < 40 ? size - at : 40;

        n = h2_log_feed(log, data + at, step);
        at += step;
        if (data[1] & 128)
            meddle(log, data[at - 1]);
        h2_log_turn(log);
        log->now_ms += 50;
    }
    weir_codec_eof(log->codec, WEIR_ERESET);
    h2_log_turn(log);
    h2_log_free(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *method;

    if (size < 3)
        return 0;
    method = asked[data[0] % 5];
    compare(method, data + 2, size - 2, data[1] % 64 + 1u);
    disturb(method, data, size);
    return 0;
}
