/* SPDX-License-Identifier: Apache-2.0 */
/** DATA of a tunnel that came before the tunnel was granted: it is handed out then, and its window is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"
#include "http/h2_priv.h"

#define CONNECT ":method: CONNECT\n:authority: a.test:443\n"

static void grant(struct h2_log *log)
{
    struct h2_exchange *ex = &log->exchanges[0];
    struct weir_message answer;

    weir_message_init(&answer, &ex->arena, false);
    answer.status = 200;
    answer.body = WEIR_BODY_TUNNEL;
    assert_int_equal(weir_hstream_send(ex->hs, &answer, NULL, 0, NULL, 0), 0);
    h2_log_turn(log);
}

static size_t given_back(const struct h2_log *log)
{
    struct h2_frame frame = { .len = 0 };
    size_t sum = 0;

    for (size_t at = 0; h2_next_frame(&log->out, &at, &frame);)
        if (frame.type == NGHTTP2_WINDOW_UPDATE && frame.id == 1)
            sum += h2_u32_at(frame.payload);
    return sum;
}

/* A whole window, in frames of that size. */
static struct h2_log *tunnel_with_early(size_t piece)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_frame(&wire, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "", 0);
    h2_put_headers(&wire, 1, false, CONNECT);
    for (size_t n, left = H2_WINDOW_BYTES; left; left -= n) {
        n = left < piece ? left : piece;
        h2_put_zeros(&wire, 1, n, false);
    }
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
    return log;
}

/* The holder takes each part of it as it is handed out, as a tunnel does: the client was stuck with a shut window. */
static void test_taken_at_once(void **state)
{
    static const size_t pieces[] = { 1000, 4096, 8000, 16384 };

    for (unsigned i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct h2_log *log = tunnel_with_early(pieces[i]);

        assert_int_equal(given_back(log), 0);
        grant(log);
        assert_int_equal(log->exchanges[0].body_len, H2_WINDOW_BYTES);
        assert_in_range(given_back(log), H2_WINDOW_BYTES / 2, H2_WINDOW_BYTES);
        h2_log_free(log);
    }
}

static void test_taken_later(void **state)
{
    struct h2_log *log = tunnel_with_early(16384);

    log->slow = true;
    grant(log);
    assert_int_equal(log->exchanges[0].body_len, H2_WINDOW_BYTES);
    assert_int_equal(given_back(log), 0);
    weir_hstream_consume(log->exchanges[0].hs, H2_WINDOW_BYTES);
    h2_log_turn(log);
    assert_int_equal(given_back(log), H2_WINDOW_BYTES);
    h2_log_free(log);
}

static void body_reset(void *arg, struct weir_str data)
{
    struct h2_exchange *ex = arg;

    ex->body_len += data.len;
    weir_hstream_reset(ex->hs, WEIR_ECANCELED);
    assert_int_equal(data.ptr[data.len - 1], 0); /* it is still there */
}

/* The holder gives up in the midst of it. */
static void test_reset_inside(void **state)
{
    struct weir_hstream_sink sink = h2_log_sink;
    struct h2_log *log = tunnel_with_early(4096);

    sink.on_body = body_reset;
    log->exchanges[0].hs->sink = &sink;
    grant(log);
    assert_in_range(log->exchanges[0].body_len, 1, H2_WINDOW_BYTES);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, 1, NULL), 1);
    h2_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_at_once),
        cmocka_unit_test(test_taken_later),
        cmocka_unit_test(test_reset_inside),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
