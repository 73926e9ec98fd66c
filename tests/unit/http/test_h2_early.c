/* SPDX-License-Identifier: Apache-2.0 */
/** Answers that are whole before their requests: how the rest of those is stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"

/* A server that has read the heads of so many requests whose bodies come. */
static struct h2_log *server_with(uint32_t posts)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    for (uint32_t i = 0; i < posts; i++)
        h2_put_headers(&wire, 2 * i + 1, false, H2_POST);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
    log->out.len = 0;
    return log;
}

static void send_answer(struct h2_exchange *ex)
{
    struct weir_message msg;
    char no[] = "no";
    struct iovec body = { no, 2 };

    weir_message_init(&msg, &ex->arena, false);
    msg.status = 413;
    msg.body = WEIR_BODY_LENGTH;
    msg.length = body.iov_len;
    assert_int_equal(weir_hstream_send(ex->hs, &msg, &body, 1, NULL, WEIR_SEND_END), 0);
}

/* Is END_STREAM of that stream in front of the last PING? */
static bool end_before_ping(struct h2_log *log, uint32_t id)
{
    struct h2_frame frame = { .len = 0 };
    bool end = false, ordered = false;

    for (size_t at = 0; h2_next_frame(&log->out, &at, &frame);) {
        end |= frame.id == id && frame.type == NGHTTP2_DATA && (frame.flags & 1);
        if (frame.type == NGHTTP2_PING)
            ordered = end;
    }
    return ordered;
}

/* The rest of the request is not wanted: RST_STREAM says so when the client has read its answer, and not with it. */
static void test_early_answer(void **state)
{
    struct h2_log *log = server_with(1);
    struct h2_frame frame = { .len = 0 };

    send_answer(&log->exchanges[0]);
    h2_let_go(&log->exchanges[0]);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, NULL), 0);
    assert_true(end_before_ping(log, 1));
    assert_false(weir_codec_idle(log->codec));
    h2_answer_ping(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, &frame), 1);
    assert_int_equal(h2_u32_at(frame.payload), NGHTTP2_NO_ERROR);
    assert_true(weir_codec_idle(log->codec));
    h2_log_free(log);
}

static void test_early_answer_let_go_later(void **state)
{
    struct h2_log *log = server_with(1);

    send_answer(&log->exchanges[0]);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_PING, 0, NULL), 0);
    h2_let_go(&log->exchanges[0]);
    h2_log_turn(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, NULL), 0);
    h2_answer_ping(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, NULL), 1);
    h2_log_free(log);
}

/* An answer that goes while a PING is out waits for the next one; a request that ends by itself needs no RST_STREAM. */
static void test_early_answers(void **state)
{
    struct h2_log *log = server_with(3);
    struct h2_wire wire;

    for (int i = 0; i < 3; i++) {
        send_answer(&log->exchanges[i]);
        h2_let_go(&log->exchanges[i]);
        h2_log_turn(log);
    }
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_PING, 0, NULL), 1);
    h2_wire_init(&wire);
    h2_put_data(&wire, 3, "the rest", true);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
    h2_answer_ping(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, NULL), 1);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, UINT32_MAX, NULL), 1);
    assert_true(end_before_ping(log, 5));
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_PING, 0, NULL), 2);
    h2_answer_ping(log);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 5, NULL), 1);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 3, NULL), 0);
    assert_true(weir_codec_idle(log->codec));
    h2_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_early_answer_let_go_later),
        cmocka_unit_test(test_early_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
