/* SPDX-License-Identifier: Apache-2.0 */
/** What goes out: heads and bodies of both roles, gathered; windows and what is said to be pending; how streams end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"

enum { BIG = 200 * 1000 };

static char big[BIG];

/* A server with these requests read. */
static struct h2_log *server_with(void (*build)(struct h2_wire *wire))
{
    struct h2_log *log = h2_log_new(true, NULL, NULL, NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_preface(&wire);
    build(&wire);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
    log->out.len = 0;
    log->outputs = 0;
    return log;
}

static void one_get(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, H2_GET);
}

static void one_post(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST);
}

static void one_head(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, ":method: HEAD\n:scheme: http\n:path: /\n:authority: a.test\n");
}

static void two_gets(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, H2_GET);
    h2_put_headers(w, 3, true, H2_GET);
}

static void websocket(struct h2_wire *w)
{
    h2_put_headers(w, 1, false,
                   ":method: CONNECT\n:protocol: websocket\n:scheme: http\n:path: /ws\n"
                   ":authority: a.test\n");
    h2_put_data(w, 1, "early", false);
}

static int send_answer(struct h2_exchange *ex, int status, uint8_t body, uint64_t length,
                       const char *data, size_t len, bool end)
{
    struct weir_message msg;
    struct iovec iov = { (void *)(uintptr_t)data, len };

    weir_message_init(&msg, &ex->arena, false);
    msg.status = status;
    msg.body = body;
    msg.length = length;
    return weir_hstream_send(ex->hs, &msg, &iov, len > 0, NULL, end ? WEIR_SEND_END : 0);
}

static int send_more(struct h2_exchange *ex, const char *data, size_t len, bool end)
{
    struct iovec iov = { (void *)(uintptr_t)data, len };

    return weir_hstream_send(ex->hs, NULL, &iov, len > 0, NULL, end ? WEIR_SEND_END : 0);
}

/* Bytes of DATA that went out on a stream, and whether they ended it. */
static size_t data_sent(struct h2_log *log, uint32_t id, bool *end)
{
    struct h2_frame frame = { .len = 0 };
    size_t bytes = 0;

    *end = false;
    for (size_t at = 0; h2_next_frame(&log->out, &at, &frame);) {
        if (frame.id == id && frame.type <= NGHTTP2_HEADERS)
            *end |= frame.flags & NGHTTP2_FLAG_END_STREAM;
        if (frame.id == id && frame.type == NGHTTP2_DATA)
            bytes += frame.len;
    }
    return bytes;
}

static void feed_windows(struct h2_log *log, uint32_t id, uint32_t by)
{
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_window(&wire, 0, by);
    h2_put_window(&wire, id, by);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
}

static void test_small_answers_share_an_output(void **state)
{
    struct h2_log *log = server_with(two_gets);
    bool end;

    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            send_answer(&log->exchanges[i], 200, WEIR_BODY_LENGTH, 5, "hello", 5, true), 0);
        h2_let_go(&log->exchanges[i]);
    }
    assert_int_equal(log->outputs, 0);
    assert_true(log->wanted);
    h2_log_turn(log);
    assert_int_equal(log->outputs, 1);
    assert_int_equal(data_sent(log, 1, &end), 5);
    assert_true(end);
    assert_int_equal(data_sent(log, 3, &end), 5);
    assert_true(end);
    assert_true(weir_codec_idle(log->codec));
    h2_log_free(log);
}

static void test_heads_that_end(void **state)
{
    struct h2_log *log = server_with(one_get);
    struct h2_frame frame = { .len = 0 };

    assert_int_equal(send_answer(&log->exchanges[0], 204, WEIR_BODY_NONE, 0, NULL, 0, true), 0);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_HEADERS, 1, &frame), 1);
    assert_true(frame.flags & NGHTTP2_FLAG_END_STREAM);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_DATA, 1, NULL), 0);
    h2_log_free(log);
}

static void test_head_drops_its_body(void **state)
{
    struct h2_log *log = server_with(one_head);
    struct h2_frame frame = { .len = 0 };
    bool end;

    assert_int_equal(send_answer(&log->exchanges[0], 200, WEIR_BODY_LENGTH, 5, "hello", 5, true),
                     0);
    h2_log_turn(log);
    assert_int_equal(data_sent(log, 1, &end), 0);
    assert_true(end);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_HEADERS, 1, &frame), 1);
    h2_log_free(log);
}

static void test_length_is_held_to(void **state)
{
    struct h2_log *log = server_with(two_gets);

    assert_int_equal(send_answer(&log->exchanges[0], 200, WEIR_BODY_LENGTH, 5, "hell", 4, true),
                     WEIR_EFRAMING);
    assert_int_equal(send_answer(&log->exchanges[1], 200, WEIR_BODY_LENGTH, 5, NULL, 0, true),
                     WEIR_EFRAMING);
    assert_int_equal(send_answer(&log->exchanges[1], 200, WEIR_BODY_LENGTH, 5, NULL, 0, false), 0);
    assert_int_equal(send_answer(&log->exchanges[1], 200, WEIR_BODY_LENGTH, 5, NULL, 0, false),
                     WEIR_EFRAMING);
    assert_int_equal(send_more(&log->exchanges[1], "hello!", 6, false), WEIR_EFRAMING);
    assert_int_equal(send_more(&log->exchanges[1], "hello", 5, true), 0);
    assert_int_equal(send_more(&log->exchanges[1], "", 0, true), WEIR_EFRAMING);
    h2_log_free(log);
}

static void test_interim(void **state)
{
    struct h2_log *log = server_with(one_post);
    struct h2_frame frame = { .len = 0 };

    assert_int_equal(send_answer(&log->exchanges[0], 100, WEIR_BODY_NONE, 0, NULL, 0, false), 0);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_HEADERS, 1, &frame), 1);
    assert_false(frame.flags & NGHTTP2_FLAG_END_STREAM);
    assert_int_equal(send_answer(&log->exchanges[0], 200, WEIR_BODY_NONE, 0, NULL, 0, true), 0);
    assert_int_equal(send_answer(&log->exchanges[0], 100, WEIR_BODY_NONE, 0, NULL, 0, false),
                     WEIR_EFRAMING);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_HEADERS, 1, NULL), 2);
    h2_log_free(log);
}

/* Answered before the request ended: END_STREAM, then RST_STREAM(NO_ERROR) once the holder lets go. */
static void test_windows(void **state)
{
    struct h2_log *log = server_with(one_get);
    struct h2_exchange *ex = &log->exchanges[0];
    bool end;

    assert_int_equal(send_answer(ex, 200, WEIR_BODY_CHUNKED, 0, big, BIG, true), 0);
    assert_int_equal(data_sent(log, 1, &end), 65535); /* at once, and no copy of it */
    assert_false(end);
    assert_int_equal(weir_hstream_pending(ex->hs), BIG - 65535);
    assert_int_equal(weir_h2_queued(log->h2), BIG - 65535);
    feed_windows(log, 1, 100);
    assert_int_equal(data_sent(log, 1, &end), 65635);
    assert_int_equal(ex->drained, 0);
    feed_windows(log, 1, BIG);
    assert_int_equal(data_sent(log, 1, &end), BIG);
    assert_true(end);
    assert_int_equal(ex->drained, 1);
    assert_int_equal(weir_hstream_pending(ex->hs), 0);
    assert_int_equal(weir_h2_queued(log->h2), 0);
    h2_log_free(log);
}

/* What would leave at once: the stream's window, less what waits, unless the connection is blocked; never more than a
 * stream may hold. */
static void test_room(void **state)
{
    struct h2_log *log = server_with(one_get);
    struct h2_exchange *ex = &log->exchanges[0];

    assert_int_equal(weir_hstream_room(ex->hs), WEIR_SHARED_STREAM_BYTES);
    log->pending = WEIR_STREAM_HIGH_BYTES;
    assert_int_equal(weir_hstream_room(ex->hs), 0);
    log->pending = 0;
    assert_int_equal(send_answer(ex, 200, WEIR_BODY_CHUNKED, 0, big, 65535 - 1000, false), 0);
    assert_int_equal(weir_hstream_room(ex->hs), 1000);
    assert_int_equal(send_more(ex, "abc", 3, false), 0); /* it waits for the flush */
    assert_int_equal(weir_hstream_room(ex->hs), 997);
    assert_int_equal(send_more(ex, big, 1000, false), 0);
    assert_int_equal(weir_hstream_room(ex->hs), 0);
    feed_windows(log, 1, 500);
    assert_int_equal(weir_hstream_room(ex->hs), 497);
    h2_log_free(log);
}

/* The stream goes on when its holder has gone. */
static void test_queue_outlives_the_holder(void **state)
{
    struct h2_log *log = server_with(one_get);
    bool end;

    assert_int_equal(send_answer(&log->exchanges[0], 200, WEIR_BODY_LENGTH, BIG, big, BIG, true),
                     0);
    h2_let_go(&log->exchanges[0]);
    assert_false(weir_codec_idle(log->codec));
    feed_windows(log, 1, BIG);
    assert_int_equal(data_sent(log, 1, &end), BIG);
    assert_true(end);
    assert_true(weir_codec_idle(log->codec));
    h2_log_free(log);
}

static void test_pending_of_a_turn(void **state)
{
    struct h2_log *log = server_with(one_get);
    struct h2_exchange *ex = &log->exchanges[0];

    assert_int_equal(send_answer(ex, 200, WEIR_BODY_CHUNKED, 0, "abc", 3, false), 0);
    assert_int_equal(weir_hstream_pending(ex->hs), 0); /* it only waits for the flush */
    log->pending = WEIR_STREAM_HIGH_BYTES;
    assert_int_equal(weir_hstream_pending(ex->hs), 3);
    h2_log_turn(log);
    assert_int_equal(log->outputs, 0);
    log->pending = 0;
    weir_codec_drained(log->codec);
    assert_int_equal(log->outputs, 1);
    assert_int_equal(ex->drained, 1);
    h2_log_free(log);
}

/* An end without a byte needs no window, and still has not left while the connection takes nothing. */
static void test_pending_of_an_end(void **state)
{
    struct h2_log *log = server_with(one_get);
    struct h2_exchange *ex = &log->exchanges[0];

    log->manual = true;
    log->pending = WEIR_STREAM_HIGH_BYTES;
    assert_int_equal(send_answer(ex, 204, WEIR_BODY_NONE, 0, NULL, 0, true), 0);
    assert_int_equal(weir_hstream_pending(ex->hs), 1);
    weir_codec_flush(log->codec);
    assert_int_equal(ex->drained, 0);
    assert_true(weir_h2_busy(log->h2));
    log->pending = 0;
    weir_codec_drained(log->codec);
    assert_int_equal(ex->drained, 1);
    assert_int_equal(weir_hstream_pending(ex->hs), 0);
    h2_log_free(log);
}

/* A turn's writers are stopped when they are too fast for it. */
static void test_pending_has_an_end(void **state)
{
    struct h2_log *log = server_with(one_get);
    struct h2_exchange *ex = &log->exchanges[0];
    size_t sent = 0;

    feed_windows(log, 1, 1 << 20);
    assert_int_equal(send_answer(ex, 200, WEIR_BODY_CHUNKED, 0, NULL, 0, false), 0);
    while (weir_hstream_pending(ex->hs) < WEIR_STREAM_HIGH_BYTES && sent < 1 << 20) {
        assert_int_equal(send_more(ex, big, 1000, false), 0);
        sent += 1000;
    }
    assert_in_range(sent, WEIR_STREAM_HIGH_BYTES, WEIR_STREAM_HIGH_BYTES + 1000);
    h2_log_turn(log);
    assert_int_equal(ex->drained, 1);
    h2_log_free(log);
}

/* Not more than the connection may hold stands in front of what comes later. */
static void test_blocked_connection(void **state)
{
    struct h2_log *log = server_with(two_gets);
    bool end;

    feed_windows(log, 1, 1 << 20);
    log->out.len = 0;
    log->pending = WEIR_STREAM_HIGH_BYTES;
    assert_int_equal(send_answer(&log->exchanges[0], 200, WEIR_BODY_LENGTH, BIG, big, BIG, true),
                     0);
    assert_int_equal(send_answer(&log->exchanges[1], 200, WEIR_BODY_LENGTH, 3, "abc", 3, true), 0);
    h2_log_turn(log);
    assert_int_equal(log->out.len, 0);
    log->pending = 0;
    weir_codec_drained(log->codec);
    assert_int_equal(data_sent(log, 1, &end), BIG);
    assert_int_equal(data_sent(log, 3, &end), 3);
    assert_true(end);
    h2_log_free(log);
}

/* A small stream beside a large one goes in the first round. */
static void test_turns(void **state)
{
    struct h2_log *log = server_with(two_gets);
    struct h2_frame frame = { .len = 0 };
    size_t before = 0;

    feed_windows(log, 1, 1 << 20);
    log->out.len = 0;
    log->pending = WEIR_STREAM_HIGH_BYTES;
    assert_int_equal(send_answer(&log->exchanges[0], 200, WEIR_BODY_LENGTH, BIG, big, BIG, true),
                     0);
    assert_int_equal(send_answer(&log->exchanges[1], 200, WEIR_BODY_LENGTH, 3, "abc", 3, true), 0);
    log->pending = 0;
    weir_codec_drained(log->codec);
    for (size_t at = 0; h2_next_frame(&log->out, &at, &frame);) {
        if (frame.type == NGHTTP2_DATA && frame.id == 3)
            break;
        before += frame.type == NGHTTP2_DATA ? frame.len : 0;
    }
    assert_in_range(before, 0, 65536);
    h2_log_free(log);
}

static void test_trailer(void **state)
{
    struct h2_log *log = server_with(one_get);
    struct h2_exchange *ex = &log->exchanges[0];
    struct weir_message trailer, msg;
    struct iovec iov = { (void *)(uintptr_t) "abc", 3 };
    struct h2_frame frame = { .len = 0 };

    weir_message_init(&msg, &ex->arena, false);
    msg.status = 200;
    msg.body = WEIR_BODY_CHUNKED;
    weir_message_init(&trailer, &ex->arena, false);
    assert_int_equal(
        weir_message_push(&trailer, WEIR_F_OTHER, WEIR_STR("Grpc-Status"), WEIR_STR("0")), 0);
    assert_int_equal(
        weir_message_push(&trailer, WEIR_F_CONNECTION, WEIR_STR("Connection"), WEIR_STR("x")), 0);
    assert_int_equal(weir_hstream_send(ex->hs, &msg, &iov, 1, &trailer, WEIR_SEND_END), 0);
    h2_let_go(ex);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_DATA, 1, &frame), 1);
    assert_false(frame.flags & NGHTTP2_FLAG_END_STREAM);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_HEADERS, 1, &frame), 2);
    assert_true(frame.flags & NGHTTP2_FLAG_END_STREAM);
    h2_log_free(log);
}

static void test_tunnel(void **state)
{
    struct h2_log *log = server_with(websocket);
    struct h2_exchange *ex = &log->exchanges[0];
    struct h2_wire wire;
    bool end;

    assert_string_equal(ex->text, "GET /ws host=a.test none upgrade=websocket end ");
    assert_int_equal(send_answer(ex, 101, WEIR_BODY_TUNNEL, 0, NULL, 0, false), 0);
    assert_int_equal(ex->body_len, 0); /* never inside send */
    h2_log_turn(log);
    assert_int_equal(ex->body_len, 5);
    assert_int_equal(send_more(ex, "frame", 5, true), 0);
    h2_log_turn(log);
    assert_int_equal(data_sent(log, 1, &end), 5);
    assert_true(end);
    h2_wire_init(&wire);
    h2_put_data(&wire, 1, "bye", true);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_string_equal(ex->text, "GET /ws host=a.test none upgrade=websocket end "
                                  "body[earlybye] end ");
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_refused_tunnel(void **state)
{
    struct h2_log *log = server_with(websocket);
    struct h2_exchange *ex = &log->exchanges[0];
    struct h2_frame frame = { .len = 0 };

    assert_int_equal(send_answer(ex, 403, WEIR_BODY_LENGTH, 2, "no", 2, true), 0);
    h2_let_go(ex);
    h2_log_turn(log);
    h2_answer_ping(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, &frame), 1);
    assert_int_equal(h2_u32_at(frame.payload), NGHTTP2_NO_ERROR);
    h2_log_free(log);
}

static void test_reset_codes(void **state)
{
    static const struct {
        enum weir_err why;
        uint32_t code;
    } rows[] = {
        { WEIR_ECANCELED, NGHTTP2_CANCEL },          { WEIR_EBADCL, NGHTTP2_PROTOCOL_ERROR },
        { WEIR_EFLOOD, NGHTTP2_ENHANCE_YOUR_CALM },  { WEIR_EUPBODY, NGHTTP2_INTERNAL_ERROR },
        { WEIR_EUPSTREAM, NGHTTP2_INTERNAL_ERROR },  { WEIR_EUPCANCEL, NGHTTP2_CANCEL },
        { WEIR_EUPCALM, NGHTTP2_ENHANCE_YOUR_CALM },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct h2_log *log = server_with(one_post);
        struct h2_frame frame = { .len = 0 };

        assert_int_equal(
            send_answer(&log->exchanges[0], 200, WEIR_BODY_LENGTH, BIG, big, 5000, false), 0);
        weir_hstream_reset(log->exchanges[0].hs, rows[i].why);
        assert_int_equal(send_more(&log->exchanges[0], "x", 1, false), 0); /* dropped */
        assert_int_equal(weir_hstream_pending(log->exchanges[0].hs), 0);
        h2_let_go(&log->exchanges[0]);
        h2_log_turn(log);
        assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, &frame), 1);
        assert_int_equal(h2_u32_at(frame.payload), rows[i].code);
        assert_true(weir_codec_idle(log->codec));
        h2_log_free(log);
    }
}

static void test_refused_begin(void **state)
{
    struct h2_log *log = h2_log_new(true, NULL, NULL, NULL);
    struct h2_wire wire;
    struct h2_frame frame = { .len = 0 };

    log->refuse = true;
    h2_wire_init(&wire);
    h2_put_preface(&wire);
    one_post(&wire);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, &frame), 1);
    assert_int_equal(h2_u32_at(frame.payload), NGHTTP2_REFUSED_STREAM);
    assert_true(weir_codec_idle(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* Two sessions that frame in turn, with the one frame buffer of a worker. */
static void test_shared_frame(void **state)
{
    struct h2_log *a = h2_log_new(true, NULL, NULL, NULL);
    struct h2_log *b = h2_log_new(false, NULL, NULL, a);
    struct h2_log *c = h2_log_new(false, NULL, NULL, a);
    struct h2_exchange *ex;

    h2_log_request(c, "GET", WEIR_BODY_NONE, true);
    h2_log_turn(c);
    h2_log_turn(a);
    ex = h2_log_request(b, "POST", WEIR_BODY_CHUNKED, false);
    h2_log_turn(b);
    assert_int_equal(send_more(ex, big, 9000, true), 0);
    h2_log_turn(b);
    assert_int_equal(memcmp(b->out.data, NGHTTP2_CLIENT_MAGIC, 24), 0);
    assert_int_equal(memcmp(c->out.data, NGHTTP2_CLIENT_MAGIC, 24), 0);
    assert_true(h2_log_feed(a, b->out.data, b->out.len) > 0);
    assert_string_equal(a->exchanges[0].text, "POST / host=a.test chunked body(9000) end ");
    b->out.len = 0;
    assert_true(h2_log_feed(b, a->out.data, a->out.len) > 0);
    assert_string_equal(h2_log_all(b), "200 length 1 content-length=1 body[/] end ");
    h2_log_free(c);
    h2_log_free(b);
    h2_log_free(a);
}

/* Path and query that lie a byte apart, but not with a question mark between them. */
static void test_target(void **state)
{
    static const char text[] = "/a\0b/c?d";
    static const struct {
        struct weir_str path, query;
        const char *log;
    } rows[] = {
        { { text, 2 }, { text + 3, 1 }, "GET /a?b host=a.test none end " },
        { { text + 4, 2 }, { text + 7, 1 }, "GET /c?d host=a.test none end " },
        { { text, 2 }, { NULL, 0 }, "GET /a host=a.test none end " },
        { { text, 2 }, { "", 0 }, "GET /a? host=a.test none end " },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct h2_log *client = h2_log_new(false, NULL, NULL, NULL);
        struct h2_log *server = h2_log_new(true, NULL, NULL, NULL);
        struct h2_exchange *ex = h2_exchange_new(client);
        struct weir_message msg;

        ex->hs = &ex->own;
        ex->own = (struct weir_hstream){ .sink = &h2_log_sink, .arg = ex, .arena = &ex->arena };
        assert_int_equal(weir_codec_open(client->codec, ex->hs), 0);
        weir_message_init(&msg, &ex->arena, true);
        msg.method = WEIR_STR("GET");
        msg.method_id = WEIR_M_GET;
        msg.path = rows[i].path;
        msg.query = rows[i].query;
        msg.host = WEIR_STR("a.test");
        assert_int_equal(weir_hstream_send(ex->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
        h2_log_turn(client);
        assert_true(h2_log_feed(server, client->out.data, client->out.len) > 0);
        assert_string_equal(h2_log_all(server), rows[i].log);
        h2_log_free(client);
        h2_log_free(server);
    }
}

static void put_literal(struct h2_wire *block, unsigned how, const char *name, const char *value)
{
    h2_put_field(block, how, weir_str(name), weir_str(value));
}

/* A request as a client that has secrets sends it. */
static void put_secrets(struct h2_wire *wire)
{
    struct h2_wire block;

    h2_wire_init(&block);
    put_literal(&block, H2_LITERAL, ":method", "GET");
    put_literal(&block, H2_LITERAL, ":scheme", "http");
    put_literal(&block, H2_LITERAL, ":authority", "a.test");
    put_literal(&block, H2_NEVER_INDEXED, ":path", "/?secret");
    put_literal(&block, H2_LITERAL, "x-open", "a");
    put_literal(&block, H2_NEVER_INDEXED, "x-key", "b");
    put_literal(&block, H2_LITERAL, "user-agent", "c");
    put_literal(&block, H2_NEVER_INDEXED, "from", "d");
    put_literal(&block, H2_LITERAL, "cookie", "so long that nobody guesses it");
    put_literal(&block, H2_NEVER_INDEXED, "cookie", "another that nobody guesses");
    h2_put_frame(wire, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1,
                 block.data, block.len);
    h2_wire_fini(&block);
}

/* A letter a field; small: a table may keep it. */
static void assert_indexing(const struct weir_message *msg, const char *want)
{
    assert_true(msg->never_indexed);
    assert_int_equal(msg->count, strlen(want));
    for (unsigned i = 0; i < msg->count; i++) {
        char letter = msg->fields[i].name.ptr[0];

        if (msg->fields[i].never_indexed)
            letter = (char)(letter - 'a' + 'A');
        assert_int_equal(letter, want[i]);
    }
}

/* RFC 7541 6.2.3: what the client lets no table keep is sent on so, and what it does not mind is not. */
static void test_never_indexed(void **state)
{
    struct h2_log *from = server_with(put_secrets);
    struct h2_log *client = h2_log_new(false, NULL, NULL, NULL);
    struct h2_log *to = h2_log_new(true, NULL, NULL, NULL);
    struct h2_exchange *ex = h2_exchange_new(client);

    assert_indexing(from->exchanges[0].msg, "xXuFC");
    ex->hs = &ex->own;
    ex->own = (struct weir_hstream){ .sink = &h2_log_sink, .arg = ex, .arena = &ex->arena };
    assert_int_equal(weir_codec_open(client->codec, ex->hs), 0);
    assert_int_equal(
        weir_hstream_send(ex->hs, from->exchanges[0].msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    h2_log_turn(client);
    assert_true(h2_log_feed(to, client->out.data, client->out.len) > 0);
    assert_string_equal(to->exchanges[0].text, from->exchanges[0].text);
    assert_indexing(to->exchanges[0].msg, "xXuFC");
    h2_log_free(client);
    h2_log_free(from);
    h2_log_free(to);
}

/* A head of many fields and much text: CONTINUATION, and more fields than the stack has room for. */
static void test_large_head(void **state)
{
    static const struct weir_guard_limits wide = { .head_bytes = 100000, .head_count = 300 };
    struct h2_log *client = h2_log_new(false, NULL, NULL, NULL);
    struct h2_log *server = h2_log_new(true, &wide, NULL, NULL);
    struct h2_exchange *ex = h2_exchange_new(client);
    struct weir_message msg;

    ex->hs = &ex->own;
    ex->own = (struct weir_hstream){ .sink = &h2_log_sink, .arg = ex, .arena = &ex->arena };
    assert_int_equal(weir_codec_open(client->codec, ex->hs), 0);
    weir_message_init(&msg, &ex->arena, true);
    msg.method = WEIR_STR("GET");
    msg.method_id = WEIR_M_GET;
    msg.path = WEIR_STR("/");
    msg.host = WEIR_STR("a.test");
    for (int i = 0; i < 200; i++) {
        char *value = weir_arena_text(&ex->arena, 300);

        assert_non_null(value);
        for (int k = 0; k < 300; k++)
            value[k] = (char)('!' + (i * 7 + k * 11) % 90);
        assert_int_equal(weir_message_push(&msg, WEIR_F_OTHER, WEIR_STR("x-name"),
                                           (struct weir_str){ value, 300 }),
                         0);
    }
    assert_int_equal(weir_hstream_send(ex->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    h2_log_turn(client);
    assert_true(h2_count_frames(&client->out, NGHTTP2_CONTINUATION, 1, NULL) >= 2);
    assert_true(h2_log_feed(server, client->out.data, client->out.len) > 0);
    assert_true(server->exchanges[0].ended);
    assert_int_equal(server->exchanges[0].msg->count, 200);
    h2_log_free(client);
    h2_log_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_answers_share_an_output),
        cmocka_unit_test(test_heads_that_end),
        cmocka_unit_test(test_head_drops_its_body),
        cmocka_unit_test(test_length_is_held_to),
        cmocka_unit_test(test_interim),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_queue_outlives_the_holder),
        cmocka_unit_test(test_pending_of_a_turn),
        cmocka_unit_test(test_pending_of_an_end),
        cmocka_unit_test(test_pending_has_an_end),
        cmocka_unit_test(test_blocked_connection),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_trailer),
        cmocka_unit_test(test_tunnel),
        cmocka_unit_test(test_refused_tunnel),
        cmocka_unit_test(test_reset_codes),
        cmocka_unit_test(test_refused_begin),
        cmocka_unit_test(test_shared_frame),
        cmocka_unit_test(test_target),
        cmocka_unit_test(test_never_indexed),
        cmocka_unit_test(test_large_head),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
