/* SPDX-License-Identifier: Apache-2.0 */
/** While memory is short, what the peer may send becomes less. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"
#include "http/h2_priv.h"

/* What has been granted for stream 1 since the last look. */
static size_t granted(struct h2_log *log)
{
    struct h2_frame frame = { .len = 0 };
    size_t sum = 0;

    h2_log_turn(log);
    for (size_t at = 0; h2_next_frame(&log->out, &at, &frame);)
        if (frame.type == NGHTTP2_WINDOW_UPDATE && frame.id == 1)
            sum += h2_u32_at(frame.payload);
    log->out.len = 0;
    return sum;
}

static void send_zeros(struct h2_log *log, size_t bytes)
{
    struct h2_wire wire;

    h2_wire_init(&wire);
    for (; bytes; bytes -= bytes < 16384 ? bytes : 16384)
        h2_put_zeros(&wire, 1, bytes < 16384 ? bytes : 16384, false);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
}

/* While memory is short a stream gets credit for 16 KiB at a time, and never none; afterwards what it had before. */
static void test_windows_shrink(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct weir_hstream *hs;
    struct h2_wire wire;
    size_t window = NGHTTP2_INITIAL_WINDOW_SIZE;

    log->manual = log->slow = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, false, H2_POST);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    hs = log->exchanges[0].hs;
    send_zeros(log, 40000); /* the rest is granted, and cannot be taken back */
    window -= 40000;
    log->shared.tight = true;
    weir_hstream_hold(hs, true);
    assert_int_equal(granted(log), 0);
    weir_hstream_consume(hs, 40000);
    assert_int_equal(granted(log), 0);
    for (int i = 0; i < 10; i++) {
        send_zeros(log, window);
        weir_hstream_consume(hs, window);
        window = granted(log);
        assert_in_range(window, 1, 16384);
    }
    send_zeros(log, window); /* and is not read any more */
    log->shared.tight = false;
    assert_int_equal(granted(log), 0);
    weir_hstream_hold(hs, false);
    assert_int_equal(granted(log), NGHTTP2_INITIAL_WINDOW_SIZE - window);
    weir_hstream_consume(hs, window);
    send_zeros(log, NGHTTP2_INITIAL_WINDOW_SIZE - window);
    weir_hstream_consume(hs, NGHTTP2_INITIAL_WINDOW_SIZE - window);
    assert_in_range(granted(log), NGHTTP2_INITIAL_WINDOW_SIZE / 2, NGHTTP2_INITIAL_WINDOW_SIZE);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_GOAWAY, 0, NULL), 0);
    h2_wire_fini(&wire);
    h2_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows_shrink),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
