/* SPDX-License-Identifier: Apache-2.0 */
/**
 * How connections end: GOAWAY of both sides, the codes, retry classes, faults of the peer; heads that are answered though
 * they are too large.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"

/* ---- server ---- */

static void test_shutdown(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;
    struct h2_frame ping = { .len = 0 };

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, true, H2_GET);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    log->out.len = 0;
    weir_codec_shutdown(log->codec);
    weir_codec_shutdown(log->codec); /* once */
    h2_log_turn(log);
    assert_int_equal(h2_goaway_last(log), 0x7fffffff);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_PING, 0, &ping), 1);
    h2_put_headers(&wire, 3, true, H2_GET); /* it was on its way */
    h2_put_frame(&wire, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, ping.payload, 8);
    log->out.len = 0;
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_int_equal(h2_goaway_last(log), 3);
    assert_int_equal(h2_goaway_code(log), NGHTTP2_NO_ERROR);
    assert_int_equal(log->count, 2);
    h2_put_headers(&wire, 5, true, H2_GET);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_int_equal(log->count, 2);
    assert_false(weir_codec_over(log->codec));
    for (unsigned i = 0; i < 2; i++)
        h2_answer(&log->exchanges[i]);
    h2_log_turn(log);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_shutdown_without_pong(void **state)
{
    struct h2_log *log = h2_server_new(NULL);

    weir_codec_shutdown(log->codec);
    h2_log_turn(log);
    assert_false(weir_codec_over(log->codec));
    log->now_ms += 1000;
    weir_codec_flush(log->codec);
    assert_int_equal(h2_goaway_last(log), 0);
    h2_log_turn(log);
    assert_true(weir_codec_over(log->codec));
    h2_log_free(log);
}

static void test_goodbye(void **state)
{
    static const struct {
        enum weir_err why;
        uint32_t code;
    } rows[] = {
        { WEIR_OK, NGHTTP2_NO_ERROR },
        { WEIR_EHEADTIME, NGHTTP2_NO_ERROR },
        { WEIR_EFLOOD, NGHTTP2_ENHANCE_YOUR_CALM },
        { WEIR_EBADFRAME, NGHTTP2_PROTOCOL_ERROR },
        { WEIR_EOVERLOAD, NGHTTP2_INTERNAL_ERROR },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct h2_log *log = h2_server_new(NULL);

        weir_h2_goodbye(log->h2, rows[i].why);
        weir_h2_goodbye(log->h2, rows[i].why);
        assert_int_equal(h2_goaway_code(log), rows[i].code);
        assert_true(weir_codec_over(log->codec));
        assert_false(weir_codec_idle(log->codec));
        assert_int_equal(weir_codec_feed(log->codec, (const uint8_t *)"x", 1), WEIR_ECLOSED);
        h2_log_free(log);
    }
}

/* An answer without body that waits for the flush goes before it: nghttp2 sends nothing behind. */
static void test_goodbye_after_an_answer(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct weir_message msg;
    struct h2_frame head = { .len = 0 };
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, true, H2_GET);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    weir_message_init(&msg, &log->exchanges[0].arena, false);
    msg.status = 204;
    msg.body = WEIR_BODY_NONE;
    assert_int_equal(weir_hstream_send(log->exchanges[0].hs, &msg, NULL, 0, NULL, WEIR_SEND_END),
                     0);
    weir_h2_goodbye(log->h2, WEIR_OK);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_HEADERS, 1, &head), 1);
    assert_true(head.flags & NGHTTP2_FLAG_END_STREAM);
    assert_int_equal(h2_goaway_code(log), NGHTTP2_NO_ERROR);
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_eof(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, true, H2_GET);
    h2_put_headers(&wire, 3, false, H2_POST);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    weir_codec_eof(log->codec, WEIR_OK);
    weir_codec_eof(log->codec, WEIR_OK);
    assert_false(log->exchanges[0].reset); /* it may wait for its answer */
    assert_true(log->exchanges[1].reset);
    assert_false(weir_codec_over(log->codec));
    h2_let_go(&log->exchanges[1]);
    h2_answer(&log->exchanges[0]);
    h2_log_turn(log);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* A client that says goodbye asks for nothing more. */
static void test_goaway_of_the_client(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, true, H2_GET);
    h2_put_goaway(&wire, 0, NGHTTP2_NO_ERROR);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_false(weir_codec_over(log->codec));
    h2_answer(&log->exchanges[0]);
    h2_log_turn(log);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_broken_pipe(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, true, H2_GET);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    weir_codec_eof(log->codec, WEIR_ERESET);
    assert_int_equal(log->exchanges[0].why.code, WEIR_ECLIENTGONE);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_in_head(void **state)
{
    struct h2_log *log = h2_log_new(true, NULL, NULL, NULL);
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_preface(&wire);
    assert_true(weir_h2_in_head(log->h2));
    assert_true(h2_log_feed(log, wire.data, 20) > 0);
    assert_true(weir_h2_in_head(log->h2));
    assert_true(h2_log_feed(log, wire.data + 20, wire.len - 20) > 0);
    assert_false(weir_h2_in_head(log->h2));
    assert_true(weir_codec_idle(log->codec));
    wire.len = 0;
    h2_put_frame(&wire, NGHTTP2_HEADERS, 0, 1, "\x82", 1);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_true(weir_h2_in_head(log->h2));
    assert_false(weir_codec_idle(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_preface(void **state)
{
    const uint8_t *magic = (const uint8_t *)NGHTTP2_CLIENT_MAGIC;

    assert_int_equal(weir_h2_preface(magic, 0), 0);
    assert_int_equal(weir_h2_preface(magic, 3), 0);
    assert_int_equal(weir_h2_preface(magic, 24), 1);
    assert_int_equal(weir_h2_preface((const uint8_t *)"POST / HT", 9), -1);
    assert_int_equal(weir_h2_preface((const uint8_t *)"PRI /", 5), -1);
}

static void test_no_preface(void **state)
{
    struct h2_log *log = h2_log_new(true, NULL, NULL, NULL);

    assert_int_equal(weir_codec_feed(log->codec, (const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18),
                     WEIR_EBADFRAME);
    assert_true(weir_codec_over(log->codec));
    h2_log_free(log);
}

/* ---- faults that nghttp2 lets pass ---- */

static void expect_goaway(void (*build)(struct h2_wire *wire), uint32_t code)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    h2_wire_init(&wire);
    build(&wire);
    (void)h2_log_feed_wire(log, &wire);
    assert_int_equal(h2_goaway_code(log), code);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void id_goes_back(struct h2_wire *w)
{
    h2_put_headers(w, 3, true, H2_GET);
    h2_put_headers(w, 1, true, H2_GET);
}

static void id_goes_back_later(struct h2_wire *w)
{
    for (uint32_t id = 1; id < 41; id += 2)
        if (id != 17)
            h2_put_headers(w, id, true, H2_GET);
    h2_put_headers(w, 17, true, H2_GET);
}

static void priority_of_the_connection(struct h2_wire *w)
{
    h2_put_frame(w, NGHTTP2_PRIORITY, 0, 0, "\0\0\0\1\1", 5);
}

static void priority_update_of_a_stream(struct h2_wire *w)
{
    h2_put_frame(w, 0x10, 0, 1, "\0\0\0\1u=1", 7);
}

static void settings_lift_too_high(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST);
    h2_put_window(w, 1, 0x7fffffff - 65535);
    h2_put_setting(w, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 65536);
}

static void data_behind_the_end(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, H2_GET);
    h2_put_data(w, 1, "more", false);
}

static void headers_behind_the_end(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST);
    h2_put_data(w, 1, "all", true);
    h2_put_headers(w, 1, true, "x-t: late\n");
}

static void data_behind_a_reset(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST);
    h2_put_rst(w, 1, NGHTTP2_CANCEL);
    h2_put_data(w, 1, "more", false);
}

static void test_faults(void **state)
{
    expect_goaway(data_behind_the_end, NGHTTP2_STREAM_CLOSED);
    expect_goaway(headers_behind_the_end, NGHTTP2_STREAM_CLOSED);
    expect_goaway(data_behind_a_reset, NGHTTP2_STREAM_CLOSED);
    expect_goaway(id_goes_back, NGHTTP2_PROTOCOL_ERROR);
    expect_goaway(id_goes_back_later, NGHTTP2_PROTOCOL_ERROR);
    expect_goaway(priority_of_the_connection, NGHTTP2_PROTOCOL_ERROR);
    expect_goaway(priority_update_of_a_stream, NGHTTP2_PROTOCOL_ERROR);
    expect_goaway(settings_lift_too_high, NGHTTP2_FLOW_CONTROL_ERROR);
}

/* Frames of a stream that was reset a moment ago are no fault, also when ids wrapped around the memory of them. */
static void test_late_frames(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, false, H2_POST);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    weir_hstream_reset(log->exchanges[0].hs, WEIR_ECANCELED);
    h2_let_go(&log->exchanges[0]);
    h2_log_turn(log);
    log->manual = false;
    h2_put_data(&wire, 1, "late", false);
    h2_put_headers(&wire, 601, true, H2_GET);
    h2_put_headers(&wire, 2001, true, H2_GET);
    h2_put_headers(&wire, 1, true, "x-t: late\n");
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_int_equal(log->count, 3);
    assert_false(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_settings_lift(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, false, H2_POST);
    h2_put_setting(&wire, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0x7fffffff);
    h2_put_setting(&wire, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0);
    h2_put_setting(&wire, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0x7fffffff);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_false(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* ---- heads that are answered, and heads that are not ---- */

static void test_large_head_is_answered(void **state)
{
    static const struct weir_guard_limits limits = { .head_bytes = 300 };
    struct h2_log *log = h2_log_new(true, &limits, NULL, NULL);
    struct weir_message msg;
    struct h2_exchange *ex;
    struct h2_wire wire;
    struct h2_frame frame = { .len = 0 };

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_preface(&wire);
    h2_put_headers(&wire, 1, false,
                   H2_POST
                   "x-a: 0123456789012345678901234567890123456789012345678901234567890123456789"
                   "0123456789012345678901234567890123456789012345678901234567890123456789"
                   "0123456789012345678901234567890123456789012345678901234567890123456789"
                   "0123456789012345678901234567890123456789012345678901234567890123456789\n");
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    ex = &log->exchanges[0];
    assert_string_equal(ex->text, "reset EHDRSIZE by client ");
    weir_message_init(&msg, &ex->arena, false);
    msg.status = 431;
    assert_int_equal(weir_hstream_send(ex->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    h2_let_go(ex);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_HEADERS, 1, &frame), 1);
    assert_true(frame.flags & NGHTTP2_FLAG_END_STREAM);
    h2_answer_ping(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, &frame), 1);
    assert_int_equal(h2_u32_at(frame.payload), NGHTTP2_NO_ERROR);
    h2_put_headers(&wire, 3, true, H2_GET);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_true(log->exchanges[1].ended); /* the tables of HPACK went on */
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* ---- client ---- */

static void test_client_room(void **state)
{
    struct h2_log *log = h2_log_new(false, NULL, NULL, NULL);
    struct weir_hstream hs = { .sink = &h2_log_sink };
    struct h2_wire wire;

    h2_log_turn(log);
    assert_int_equal(weir_h2_room(log->h2), 100);
    assert_false(weir_h2_settled(log->h2));
    h2_wire_init(&wire);
    h2_put_setting(&wire, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 2);
    h2_put_setting(&wire, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_true(weir_h2_settled(log->h2) && weir_h2_takes_upgrade(log->h2));
    assert_int_equal(weir_h2_room(log->h2), 2);
    h2_log_request(log, "GET", WEIR_BODY_NONE, true);
    h2_log_request(log, "GET", WEIR_BODY_NONE, true);
    assert_int_equal(weir_h2_room(log->h2), 0);
    assert_int_equal(weir_codec_open(log->codec, &hs), WEIR_ELIMIT);
    h2_log_turn(log);
    h2_put_headers(&wire, 1, true, ":status: 204\n");
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_int_equal(weir_h2_room(log->h2), 1);
    h2_put_goaway(&wire, 3, 0);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_int_equal(weir_h2_room(log->h2), 0);
    assert_true(weir_h2_closing(log->h2));
    assert_false(weir_codec_over(log->codec));
    h2_put_headers(&wire, 3, true, ":status: 204\n");
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_let_go(&log->exchanges[0]);
    h2_let_go(&log->exchanges[1]);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_retry_classes(void **state)
{
    struct h2_log *log = h2_log_new(false, NULL, NULL, NULL);
    struct h2_exchange *opened = h2_exchange_new(log);
    struct h2_wire wire;

    log->manual = true;
    opened->hs = &opened->own;
    opened->own =
        (struct weir_hstream){ .sink = &h2_log_sink, .arg = opened, .arena = &opened->arena };
    assert_int_equal(weir_codec_open(log->codec, &opened->own), 0);
    for (int i = 0; i < 3; i++)
        h2_log_request(log, "GET", WEIR_BODY_NONE, true);
    h2_log_turn(log);
    h2_wire_init(&wire);
    h2_put_settings(&wire);
    h2_put_rst(&wire, 1, NGHTTP2_REFUSED_STREAM);
    h2_put_headers(&wire, 3, false, ":status: 200\n");
    h2_put_rst(&wire, 3, NGHTTP2_INTERNAL_ERROR);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    weir_codec_eof(log->codec, WEIR_ERESET);
    assert_int_equal(opened->why.retry, WEIR_RETRY_UNSENT);
    assert_int_equal(log->exchanges[1].why.retry, WEIR_RETRY_UNPROCESSED);
    assert_int_equal(log->exchanges[2].why.retry, WEIR_RETRY_NO);
    assert_int_equal(log->exchanges[3].why.retry, WEIR_RETRY_IDEMPOTENT_ONLY);
    assert_int_equal(log->exchanges[3].why.code, WEIR_EUPRESET);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* GOAWAY before the request was framed: it never left. */
static void test_goaway_before_the_flush(void **state)
{
    struct h2_log *log = h2_log_new(false, NULL, NULL, NULL);
    struct h2_exchange *ex;
    struct h2_wire wire;

    h2_log_turn(log);
    log->pending = 1 << 20;
    ex = h2_log_request(log, "GET", WEIR_BODY_NONE, true);
    h2_wire_init(&wire);
    h2_put_settings(&wire);
    h2_put_goaway(&wire, 0, 0);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    log->pending = 0;
    weir_codec_drained(log->codec);
    assert_int_equal(ex->why.code, WEIR_EUPREFUSED);
    assert_int_equal(ex->why.retry, WEIR_RETRY_UNPROCESSED);
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_client_gives_up(void **state)
{
    struct h2_log *log = h2_log_new(false, NULL, NULL, NULL);
    struct h2_exchange *sent, *unsent;
    struct h2_frame frame = { .len = 0 };
    struct h2_wire wire;

    h2_log_turn(log);
    sent = h2_log_request(log, "POST", WEIR_BODY_CHUNKED, false);
    h2_log_turn(log);
    weir_hstream_reset(sent->hs, WEIR_ECANCELED);
    h2_let_go(sent);
    unsent = h2_log_request(log, "GET", WEIR_BODY_NONE, true);
    weir_hstream_reset(unsent->hs, WEIR_ECANCELED);
    h2_let_go(unsent);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, UINT32_MAX, &frame), 1);
    assert_int_equal(h2_u32_at(frame.payload), NGHTTP2_CANCEL);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_HEADERS, UINT32_MAX, NULL), 1);
    assert_true(weir_codec_idle(log->codec));
    h2_wire_init(&wire);
    h2_put_settings(&wire);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    log->now_ms += 77;
    weir_h2_ping(log->h2);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_PING, 0, &frame), 1);
    h2_put_frame(&wire, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, frame.payload, 8);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_int_equal(weir_h2_alive_ms(log->h2), log->now_ms);
    weir_codec_shutdown(log->codec);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_shutdown_without_pong),
        cmocka_unit_test(test_goodbye),
        cmocka_unit_test(test_goodbye_after_an_answer),
        cmocka_unit_test(test_eof),
        cmocka_unit_test(test_goaway_of_the_client),
        cmocka_unit_test(test_broken_pipe),
        cmocka_unit_test(test_in_head),
        cmocka_unit_test(test_preface),
        cmocka_unit_test(test_no_preface),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_late_frames),
        cmocka_unit_test(test_settings_lift),
        cmocka_unit_test(test_large_head_is_answered),
        cmocka_unit_test(test_client_room),
        cmocka_unit_test(test_retry_classes),
        cmocka_unit_test(test_goaway_before_the_flush),
        cmocka_unit_test(test_client_gives_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
