/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_h2_server.c: frames of a client. The first byte says how they are cut, the second what their holder is like. Three
 * things must hold: what the holders of the exchanges learn does not depend on the cuts; a request that was taken, when it
 * is forwarded over HTTP/1, is read by the next weir as that one request; and so it is over HTTP/2.
 *
 * fuzz-room: http
 * covers: userspace/http/h2_in.c userspace/http/h2_guard.c userspace/http/h2_abuse.c
 * covers: userspace/http/h2_frame.c userspace/http/h2_send.c userspace/http/h2_nv.c
 */
#include "fuzz_h2.h"
#include "http/h2_priv.h"

static void same(const struct weir_message *a, const struct weir_message *b)
{
    weir_assert(b != NULL);
    weir_assert(weir_str_eq(a->method, b->method));
    weir_assert(weir_str_eq(a->path, b->path));
    weir_assert(weir_str_eq(a->query, b->query) && !a->query.ptr == !b->query.ptr);
    weir_assert(weir_str_eq(a->host, b->host));
    weir_assert(a->length == b->length);
    weir_assert(weir_str_eq(a->upgrade, b->upgrade));
    weir_assert(
        weir_str_eq(weir_message_field(a, WEIR_F_COOKIE), weir_message_field(b, WEIR_F_COOKIE)));
}

/* A copy as the machine makes it: no field of one hop, and a key where a switch needs one. */
static void copy_of(struct weir_message *copy, const struct weir_message *msg)
{
    weir_assert(weir_message_clone(copy, msg, msg->arena) == 0);
    weir_message_strip_hop(copy);
    if (!msg->upgrade.ptr)
        return;
    weir_message_drop(copy, WEIR_F_SEC_WEBSOCKET_KEY);
    weir_assert(weir_message_push(copy, WEIR_F_SEC_WEBSOCKET_KEY,
                                  weir_field_name(WEIR_F_SEC_WEBSOCKET_KEY),
                                  WEIR_STR("AAAAAAAAAAAAAAAAAAAAAA==")) == 0);
}

static bool is_whole(const struct weir_message *msg)
{
    return msg->body == WEIR_BODY_NONE || (msg->body == WEIR_BODY_LENGTH && !msg->length);
}

/* Its absence is then said by Content-Length: 0 (RFC 9110 8.6). */
static bool expects_body(const struct weir_message *msg)
{
    return !msg->upgrade.len && (msg->method_id == WEIR_M_POST || msg->method_id == WEIR_M_PUT ||
                                 msg->method_id == WEIR_M_PATCH);
}

static void forward_h1(const struct weir_message *msg)
{
    struct fuzz_read read = { .msg = NULL };
    struct weir_message copy;
    struct weir_hstream hs = { .sink = &fuzz_read_sink, .arg = &read, .arena = msg->arena };
    struct weir_h1 up, next;
    struct h2_wire wire;
    ssize_t n;

    h2_wire_init(&wire);
    weir_arena_init(&read.arena, NULL);
    weir_h1_init_client(&up, NULL, &fuzz_wire_sink, &wire);
    weir_h1_init_server(&next, &fuzz_wide, &fuzz_read_codec_sink, &read);
    copy_of(&copy, msg);
    weir_assert(weir_codec_open(&up.codec, &hs) == 0);
    weir_assert(weir_hstream_send(&hs, &copy, NULL, 0, NULL, is_whole(msg) ? WEIR_SEND_END : 0) ==
                0);
    n = weir_codec_feed(&next.codec, wire.data, wire.len);
    weir_assert(n == (ssize_t)wire.len && read.begun == 1 && !read.resets);
    same(msg, read.msg);
    weir_assert(read.msg->body == msg->body ||
                (msg->body == WEIR_BODY_NONE && expects_body(msg) &&
                 read.msg->body == WEIR_BODY_LENGTH && !read.msg->length));
    weir_h1_fini(&up);
    weir_h1_fini(&next);
    weir_arena_fini(&read.arena);
    h2_wire_fini(&wire);
}

static struct weir_buf_cache bufs;
static struct weir_h2_shared shared;
static uint64_t now_ms = 1;

static unsigned which_answer;

/* What may come back; the sinks only have to survive it. */
static void answer(struct weir_h2 *up, unsigned which)
{
    static const char *const heads[] = {
        ":status: 200\n",
        ":status: 103\nlink: a\n",
        ":status: 204\ncontent-length: 3\n",
        ":status: 200\ncontent-length: 5\nset-cookie: a\n",
        ":status: 101\n",
        ":status: 20x\n",
        ":status: 200\ncontent-length: x\n",
        ":status: 200\nte: trailers\n",
        ":status: 304\nhost: a\n",
        ":status: 100\ncontent-length: 0\n",
    };
    unsigned kind = which / 10 % 5;
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_settings(&wire);
    h2_put_headers(&wire, 1, kind == 0, heads[which % 10]);
    if (which % 10 == 1)
        h2_put_headers(&wire, 1, false, heads[0]);
    if (kind == 1)
        h2_put_data(&wire, 1, "hello", true);
    if (kind == 2)
        h2_put_headers(&wire, 1, true, which & 64 ? "x: y\n" : "host: a\n");
    if (kind == 3)
        h2_put_rst(&wire, 1, which & 64 ? NGHTTP2_REFUSED_STREAM : NGHTTP2_NO_ERROR);
    (void)weir_codec_feed(weir_h2_codec(up), wire.data, wire.len);
    weir_codec_flush(weir_h2_codec(up));
    if (kind == 4)
        weir_codec_eof(weir_h2_codec(up), which & 64 ? WEIR_ERESET : WEIR_OK);
    h2_wire_fini(&wire);
}

/* An extended CONNECT waits until the server has said that it may come. */
static void take_upgrades(struct weir_h2 *up)
{
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_setting(&wire, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1);
    weir_assert(weir_codec_feed(weir_h2_codec(up), wire.data, wire.len) == (ssize_t)wire.len);
    h2_wire_fini(&wire);
}

static void forward_h2(const struct weir_message *msg)
{
    struct fuzz_read read = { .msg = NULL };
    struct weir_message copy;
    struct weir_hstream hs = { .sink = &fuzz_read_sink, .arg = &read, .arena = msg->arena };
    struct h2_wire wire;
    struct weir_h2 *up, *next;

    if (!shared.frame) {
        weir_buf_cache_init(&bufs);
        weir_assert(weir_h2_shared_init(&shared, &bufs, &now_ms) == 0);
    }
    h2_wire_init(&wire);
    weir_arena_init(&read.arena, NULL);
    up = weir_h2_new_client(&shared, NULL, NULL, &fuzz_wire_sink, &wire);
    next = weir_h2_new_server(&shared, &fuzz_wide, NULL, &fuzz_read_codec_sink, &read);
    weir_assert(up && next);
    take_upgrades(up);
    copy_of(&copy, msg);
    weir_assert(weir_codec_open(weir_h2_codec(up), &hs) == 0);
    weir_assert(weir_hstream_send(&hs, &copy, NULL, 0, NULL, is_whole(msg) ? WEIR_SEND_END : 0) ==
                0);
    weir_codec_flush(weir_h2_codec(up));
    weir_assert(weir_codec_feed(weir_h2_codec(next), wire.data, wire.len) == (ssize_t)wire.len);
    weir_assert(read.begun == 1 && !read.resets);
    same(msg, read.msg);
    answer(up, which_answer);
    (void)weir_hstream_done(&hs);
    weir_h2_free(up);
    weir_h2_free(next);
    weir_arena_fini(&read.arena);
    h2_wire_fini(&wire);
}

static bool forwarding;

static void on_head_forward(void *arg, struct weir_message *msg)
{
    h2_log_head(arg, msg);
    if (!forwarding)
        return;
    forward_h1(msg);
    forward_h2(msg);
}

static const struct weir_hstream_sink forward_sink = { .on_head = on_head_forward, H2_LOG_SINK };

static int begin_forward(void *arg, struct weir_hstream *hs)
{
    int err = h2_log_begin(arg, hs);

    hs->sink = &forward_sink;
    return err;
}

static const struct weir_codec_sink forward_codec_sink = {
    .on_output = h2_log_output,
    .on_pending = h2_log_pending,
    .on_pause = h2_log_pause,
    .on_begin = begin_forward,
    .on_wanted = h2_log_wanted,
};

/* Feeds the preface and the frames in steps; the end comes if nothing else ended it. */
static void play(struct h2_log *log, const uint8_t *data, size_t size, size_t step)
{
    struct h2_wire preface;
    ssize_t n;

    log->codec->sink = &forward_codec_sink;
    h2_wire_init(&preface);
    h2_put_preface(&preface);
    n = h2_log_feed(log, preface.data, preface.len);
    h2_wire_fini(&preface);
    for (size_t at = 0; n >= 0 && at < size && !weir_codec_over(log->codec); at += step)
        n = h2_log_feed(log, data + at, size - at < step ? size - at : step);
    if (n >= 0)
        weir_codec_eof(log->codec, WEIR_OK);
    h2_log_turn(log);
}

/* Streams that are reset are gone sooner or later, as the cuts have it; frames that come for them may then be an error or
 * not. The same goes for a GOAWAY, after which nothing is read once no stream is left. */
static bool is_plain(const struct h2_log *log)
{
    return !log->h2->goaway &&
           h2_count_frames(&log->out, NGHTTP2_RST_STREAM, UINT32_MAX, NULL) == 0;
}

static void compare(const uint8_t *data, size_t size, size_t step)
{
    struct h2_log *whole = h2_log_new(true, NULL, &fuzz_patient, NULL);
    struct h2_log *cut = h2_log_new(true, NULL, &fuzz_patient, NULL);

    whole->manual = whole->terse = cut->manual = cut->terse = true;
    forwarding = true;
    play(whole, data, size, size ? size : 1);
    forwarding = false;
    play(cut, data, size, step);
    if (is_plain(whole) && is_plain(cut)) {
        weir_assert(whole->count == cut->count);
        for (unsigned i = 0; i < whole->count; i++)
            fuzz_same_text(&whole->exchanges[i], &cut->exchanges[i]);
    }
    h2_log_free(whole);
    h2_log_free(cut);
}

/* What a holder may do at any time, driven by the input. */
static void meddle(struct h2_log *log, uint8_t what)
{
    static const char text[9000] = "x";
    struct h2_exchange *ex = log->count ? &log->exchanges[(what >> 4) % log->count] : NULL;
    struct iovec iov = { (void *)(uintptr_t)text, what & 64 ? sizeof(text) : 3 };
    struct weir_message msg;

    if (!ex || !ex->hs || !ex->msg)
        return;
    weir_message_init(&msg, &ex->arena, false);
    msg.status = what & 32 ? 200 : ex->tunnel ? 101 : 103;
    msg.body = ex->tunnel && msg.status == 101 ? WEIR_BODY_TUNNEL : WEIR_BODY_CHUNKED;
    switch (what % 8) {
    case 0:
    case 1:
        (void)weir_hstream_send(ex->hs, &msg, &iov, what & 16 ? 1 : 0, what & 8 ? ex->msg : NULL,
                                what & 1 ? WEIR_SEND_END : 0);
        break;
    case 2:
        (void)weir_hstream_send(ex->hs, NULL, &iov, 1, NULL, what & 8 ? WEIR_SEND_END : 0);
        (void)weir_hstream_pending(ex->hs);
        (void)weir_hstream_room(ex->hs);
        break;
    case 3:
        weir_hstream_consume(ex->hs, SIZE_MAX);
        break;
    case 4:
        weir_hstream_reset(ex->hs, what & 8 ? WEIR_ECANCELED : WEIR_EBADCL);
        break;
    case 5:
        h2_let_go(ex);
        break;
    case 6:
        (void)weir_hstream_pending(ex->hs);
        log->pending = what & 8 ? 1 << 20 : 0;
        weir_codec_drained(log->codec);
        break;
    default:
        weir_codec_shutdown(log->codec);
        log->now_ms += what & 8 ? 2000 : 1;
    }
}

static void disturb(const uint8_t *data, size_t size)
{
    struct h2_log *log = h2_log_new(true, NULL, data[1] & 1 ? &fuzz_patient : NULL, NULL);
    struct h2_wire preface;
    ssize_t n;

    log->manual = data[1] & 2;
    log->slow = data[1] & 4;
    log->refuse = data[1] & 8;
    log->eager_reset = data[1] & 16;
    log->keep = false;
    h2_wire_init(&preface);
    h2_put_preface(&preface);
    n = h2_log_feed(log, preface.data, preface.len);
    h2_wire_fini(&preface);
    for (size_t at = 2; n >= 0 && at < size;) {
        size_t step = size - at < 40 ? size - at : 40;

        n = h2_log_feed(log, data + at, step);
        at += step;
        if (log->manual)
            meddle(log, data[at - 1]);
        h2_log_turn(log);
    }
    if (data[1] & 32)
        weir_h2_goodbye(log->h2, WEIR_EHEADTIME);
    else
        weir_codec_eof(log->codec, data[1] & 64 ? WEIR_ERESET : WEIR_OK);
    h2_log_turn(log);
    (void)weir_codec_idle(log->codec);
    h2_log_free(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    which_answer = data[0] ^ data[size - 1];
    compare(data + 2, size - 2, data[0] % 64 + 1u);
    disturb(data, size);
    return 0;
}
