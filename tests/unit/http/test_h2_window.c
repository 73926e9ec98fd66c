/* SPDX-License-Identifier: Apache-2.0 */
/** What the peer may send: windows that follow the holder, whom they hold back, and when they grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"
#include "http/h2_priv.h"

enum { RTT_MS = 50, FIRST = 65535 };

/* A server, the next frames of its client, and what each stream of that may still send. */
struct client {
    struct h2_log *log;
    struct h2_wire wire;
    size_t window[8]; /* by (id - 1) / 2 */
};

static void client_init(struct client *c, uint32_t rtt_ms)
{
    *c = (struct client){ .log = h2_server_new(NULL) };
    c->log->manual = true;
    weir_h2_set_rtt(c->log->h2, rtt_ms);
    h2_wire_init(&c->wire);
}

static void client_fini(struct client *c)
{
    h2_wire_fini(&c->wire);
    h2_log_free(c->log);
}

static void begin(struct client *c, uint32_t id, const char *head)
{
    h2_put_headers(&c->wire, id, false, head);
    c->window[id / 2] = FIRST;
}

static void put_body(struct client *c, uint32_t id, size_t bytes)
{
    for (size_t n; bytes; bytes -= n) {
        n = bytes < 16384 ? bytes : 16384;
        h2_put_zeros(&c->wire, id, n, false);
        c->window[id / 2] -= n;
    }
}

/* What the server grants meanwhile. */
static void look(struct client *c)
{
    struct h2_frame frame = { .len = 0 };

    h2_log_turn(c->log);
    assert_int_equal(h2_count_frames(&c->log->out, NGHTTP2_GOAWAY, 0, NULL), 0);
    for (size_t at = 0; h2_next_frame(&c->log->out, &at, &frame);)
        if (frame.type == NGHTTP2_WINDOW_UPDATE && frame.id)
            c->window[frame.id / 2] += h2_u32_at(frame.payload);
}

static void feed(struct client *c)
{
    c->log->out.len = 0;
    assert_true(h2_log_feed_wire(c->log, &c->wire) > 0);
    look(c);
}

/* All that the window allows, at once: a fast peer. */
static void fill(struct client *c, uint32_t id)
{
    put_body(c, id, c->window[id / 2]);
    feed(c);
}

/* The stream has that window; less than half of it has not been given back yet. */
static void assert_window(const struct client *c, uint32_t id, size_t bytes)
{
    const struct weir_h2_stream *s = c->log->exchanges[id / 2].hs->impl;

    assert_int_equal(s->window, bytes);
    assert_in_range(c->window[id / 2], bytes - bytes / 2, bytes);
}

static size_t asked(struct client *c, struct h2_frame *ping)
{
    return h2_count_frames(&c->log->out, NGHTTP2_PING, 0, ping);
}

/* ---- whom they hold back ---- */

static void test_stream_window_follows_the_holder(void **state)
{
    struct client c;

    client_init(&c, RTT_MS);
    c.log->slow = true;
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    assert_int_equal(h2_count_frames(&c.log->out, NGHTTP2_WINDOW_UPDATE, 1, NULL), 0);
    c.log->now_ms += 10 * RTT_MS;
    weir_hstream_consume(c.log->exchanges[0].hs, 40000);
    h2_log_turn(c.log);
    assert_int_equal(h2_count_frames(&c.log->out, NGHTTP2_WINDOW_UPDATE, 1, NULL), 1);
    weir_hstream_consume(c.log->exchanges[0].hs, SIZE_MAX);
    assert_int_equal(((struct weir_h2_stream *)c.log->exchanges[0].hs->impl)->unread, 0);
    client_fini(&c);
}

/* Streams that nobody reads use up the connection's window, and it is given back all the same. */
static void test_unread_streams_hold_nobody_back(void **state)
{
    static const struct weir_h2_limits limits = { .resets_per_minute = 100000 };
    struct h2_log *log = h2_server_new(&limits);
    struct h2_frame frame = { .len = 0 };
    size_t sent = 0, given = H2_CONN_WINDOW_BYTES;
    struct h2_wire wire;

    log->manual = log->slow = true;
    h2_wire_init(&wire);
    for (uint32_t id = 1; sent < 3u * H2_CONN_WINDOW_BYTES; id += 2) {
        log->count = 0; /* 65535 bytes, then it is reset: the log has not room for all */
        log->out.len = 0;
        h2_put_headers(&wire, id, false, H2_POST);
        for (size_t at = 0; at < FIRST; at += 16384)
            h2_put_zeros(&wire, id, FIRST - at < 16384 ? FIRST - at : 16384, false);
        assert_true(h2_log_feed_wire(log, &wire) > 0);
        sent += FIRST;
        for (size_t at = 0; h2_next_frame(&log->out, &at, &frame);)
            if (frame.type == NGHTTP2_WINDOW_UPDATE && frame.id == 0)
                given += h2_u32_at(frame.payload);
        assert_true(sent + FIRST < given);
        h2_put_rst(&wire, id, NGHTTP2_CANCEL);
        assert_true(h2_log_feed_wire(log, &wire) > 0);
        h2_let_go(&log->exchanges[0]);
        weir_arena_fini(&log->exchanges[0].arena);
        free(log->exchanges[0].text);
    }
    log->count = 0;
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* ---- when they grow ---- */

/* The way is known: a stream that is taken at once has a long way's worth after its first flight. */
static void test_grows_in_its_first_flight(void **state)
{
    struct client c;

    client_init(&c, RTT_MS);
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    assert_window(&c, 1, RTT_MS * 320 * 1024);
    assert_int_equal(asked(&c, NULL), 0);
    c.log->now_ms += RTT_MS;
    fill(&c, 1);
    assert_window(&c, 1, RTT_MS * 320 * 1024);
    client_fini(&c);
}

/* Over a short way a window's worth proves nothing: who stands still has taken that much, too. */
static void test_near_more_has_to_be_taken(void **state)
{
    struct client c;

    client_init(&c, 1);
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    assert_window(&c, 1, FIRST);
    c.log->now_ms += 1;
    fill(&c, 1);
    assert_window(&c, 1, 320 * 1024);
    begin(&c, 3, H2_POST); /* with a pause between */
    for (int i = 0; i < 10; i++) {
        c.log->now_ms += 100;
        fill(&c, 3);
    }
    assert_window(&c, 3, FIRST);
    client_fini(&c);
}

/* It is not known: a PING asks, once; its answer comes together with the next flight. */
static void test_grows_when_the_way_is_known(void **state)
{
    struct h2_frame ping = { .len = 0 };
    struct client c;

    client_init(&c, 0);
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    assert_int_equal(c.window[0], FIRST);
    assert_int_equal(asked(&c, &ping), 1);
    c.log->now_ms += RTT_MS;
    put_body(&c, 1, 16384);
    h2_put_frame(&c.wire, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, ping.payload, 8);
    fill(&c, 1);
    assert_window(&c, 1, (RTT_MS + 1) * 320 * 1024);
    assert_int_equal(asked(&c, NULL), 0);
    client_fini(&c);
}

/* The ACK of another PING, or of none. */
static void test_other_pongs_say_nothing(void **state)
{
    struct h2_frame ping = { .len = 0 };
    struct client c;

    client_init(&c, 0);
    begin(&c, 1, H2_POST);
    h2_put_frame(&c.wire, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "weir-rtt", 8);
    fill(&c, 1);
    assert_int_equal(asked(&c, &ping), 1);
    c.log->now_ms += RTT_MS;
    h2_put_frame(&c.wire, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "12345678", 8);
    fill(&c, 1);
    assert_int_equal(c.window[0], FIRST);
    client_fini(&c);
}

/* Half a window takes the holder longer than a round trip: more would only wait here. */
static void test_slow_holder_gets_no_more(void **state)
{
    struct client c;

    client_init(&c, RTT_MS);
    c.log->slow = true;
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    for (int i = 0; i < 100; i++) {
        c.log->now_ms += RTT_MS;
        weir_hstream_consume(c.log->exchanges[0].hs, FIRST / 3);
        put_body(&c, 1, c.window[0]);
        h2_put_ping(&c.wire, NGHTTP2_FLAG_ACK, "12345678"); /* so that there is something to feed */
        feed(&c);
        assert_in_range(c.window[0], 0, FIRST);
    }
    client_fini(&c);
}

static void test_grows_no_further_than_the_body(void **state)
{
    struct client c;

    client_init(&c, RTT_MS);
    begin(&c, 1, H2_POST "content-length: 1000000\n");
    fill(&c, 1);
    assert_in_range(c.window[0], 1000000 - FIRST, 1000000);
    begin(&c, 3, H2_POST "content-length: 80000\n");
    fill(&c, 3);
    assert_window(&c, 3, FIRST);
    client_fini(&c);
}

/* Each gets at most half of what is left; what a stream had comes back when it ends. */
static void test_streams_share_what_there_is(void **state)
{
    struct client c;
    size_t sum = 0;

    client_init(&c, 1000);
    for (uint32_t id = 1; id < 12; id += 2) {
        begin(&c, id, H2_POST);
        fill(&c, id);
        sum += c.window[id / 2] - FIRST;
    }
    assert_window(&c, 1, H2_STREAM_WINDOW_BYTES_MAX);
    for (int i = 1; i < 6; i++)
        assert_in_range(c.window[i], FIRST + 300000, c.window[i - 1] - 1);
    assert_in_range(sum, H2_EXTRA_BYTES_MAX / 2, H2_EXTRA_BYTES_MAX);
    h2_put_rst(&c.wire, 1, NGHTTP2_CANCEL);
    begin(&c, 13, H2_POST);
    fill(&c, 13);
    assert_in_range(c.window[6], H2_STREAM_WINDOW_BYTES_MAX / 2, H2_STREAM_WINDOW_BYTES_MAX);
    client_fini(&c);
}

/* ---- while memory is short ---- */

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
    size_t window = 65535;

    log->manual = log->slow = true;
    h2_wire_init(&wire);
    h2_put_headers(&wire, 1, false, H2_POST);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    hs = log->exchanges[0].hs;
    send_zeros(log, 40000); /* 25535 are granted, and cannot be taken back */
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
    assert_int_equal(granted(log), 65535 - window);
    weir_hstream_consume(hs, window);
    send_zeros(log, 65535 - window);
    weir_hstream_consume(hs, 65535 - window);
    assert_in_range(granted(log), 65535 / 2, 65535);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_GOAWAY, 0, NULL), 0);
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* Nor does anything grow then. */
static void test_nothing_grows_while_memory_is_short(void **state)
{
    struct client c;

    client_init(&c, RTT_MS);
    begin(&c, 1, H2_POST);
    c.log->shared.tight = true;
    for (int i = 0; i < 10; i++) {
        fill(&c, 1);
        assert_in_range(c.window[0], 1, FIRST);
    }
    assert_window(&c, 1, H2_WINDOW_BYTES_LEAST);
    c.log->shared.tight = false;
    c.log->out.len = 0;
    weir_hstream_hold(c.log->exchanges[0].hs, false);
    look(&c);
    fill(&c, 1);
    assert_window(&c, 1, RTT_MS * 320 * 1024);
    client_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_window_follows_the_holder),
        cmocka_unit_test(test_unread_streams_hold_nobody_back),
        cmocka_unit_test(test_grows_in_its_first_flight),
        cmocka_unit_test(test_near_more_has_to_be_taken),
        cmocka_unit_test(test_grows_when_the_way_is_known),
        cmocka_unit_test(test_other_pongs_say_nothing),
        cmocka_unit_test(test_slow_holder_gets_no_more),
        cmocka_unit_test(test_grows_no_further_than_the_body),
        cmocka_unit_test(test_streams_share_what_there_is),
        cmocka_unit_test(test_windows_shrink),
        cmocka_unit_test(test_nothing_grows_while_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
