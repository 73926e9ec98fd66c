/* SPDX-License-Identifier: Apache-2.0 */
/** What a connection may cost: budgets of frames, memory of an idle session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"
#include "http/h2_priv.h"

#include <malloc.h>

/* ---- budgets ---- */

static const struct weir_h2_limits small = { .streams = 100,
                                             .resets_per_minute = 10,
                                             .pings_per_minute = 10 };

typedef void (*flood_fn)(struct h2_wire *wire, uint32_t i);

/* The log goes. */
static void flood_into(struct h2_log *log, flood_fn unit, enum weir_h2_abuse why, unsigned times)
{
    enum weir_err name = log->exchanges[0].hs == &log->exchanges[0].own && log->count
                             ? weir_upstream_name(WEIR_EFLOOD)
                             : WEIR_EFLOOD;
    struct h2_wire wire;
    ssize_t n = 0;
    unsigned i = 0;

    h2_wire_init(&wire);
    for (; i < times && n >= 0; i++) {
        unit(&wire, i);
        n = h2_log_feed_wire(log, &wire);
        if (n >= 0 && weir_codec_over(log->codec)) /* it showed in the flush */
            n = name;
    }
    if (n != name || weir_h2_abused(log->h2) != why)
        fail_msg("%s: %zd after %u, abuse %s", weir_h2_abuse_name(why), n, i,
                 weir_h2_abuse_name(weir_h2_abused(log->h2)));
    assert_int_equal(h2_goaway_code(log), NGHTTP2_ENHANCE_YOUR_CALM);
    assert_true(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void flood(flood_fn unit, enum weir_h2_abuse why, unsigned times)
{
    flood_into(h2_server_new(&small), unit, why, times);
}

/* A server floods whom it owes the answer to stream 1. */
static void flood_of_server(flood_fn unit, enum weir_h2_abuse why, unsigned times)
{
    struct h2_log *log = h2_log_new(false, NULL, &small, NULL);
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_settings(&wire);
    h2_log_request(log, "POST", WEIR_BODY_CHUNKED, false);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_wire_fini(&wire);
    flood_into(log, unit, why, times);
}

static void rapid_reset(struct h2_wire *w, uint32_t i)
{
    h2_put_headers(w, 2 * i + 1, false, H2_POST);
    h2_put_rst(w, 2 * i + 1, NGHTTP2_CANCEL);
}

static void made_you_reset(struct h2_wire *w, uint32_t i)
{
    h2_put_headers(w, 2 * i + 1, true, H2_GET "connection: close\n");
}

static void pings(struct h2_wire *w, uint32_t i)
{
    h2_put_ping(w, 0, "12345678");
}

static void settings(struct h2_wire *w, uint32_t i)
{
    h2_put_settings(w);
}

static void priorities(struct h2_wire *w, uint32_t i)
{
    h2_put_frame(w, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\0\1", 5);
}

static void priority_updates(struct h2_wire *w, uint32_t i)
{
    h2_put_frame(w, 0x10, 0, 0, "\0\0\0\1u=1", 7);
}

static void windows(struct h2_wire *w, uint32_t i)
{
    h2_put_window(w, 0, 1);
}

static void empty_data(struct h2_wire *w, uint32_t i)
{
    if (i == 0)
        h2_put_headers(w, 1, false, H2_POST);
    h2_put_data(w, 1, "", false);
}

static void padding_alone(struct h2_wire *w, uint32_t i)
{
    if (i == 0)
        h2_put_headers(w, 1, false, H2_POST);
    h2_put_frame(w, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, "\2\0\0", 3);
}

static void unknown(struct h2_wire *w, uint32_t i)
{
    h2_put_frame(w, 0xee, 0, 0, "x", 1);
}

static void goaways(struct h2_wire *w, uint32_t i)
{
    if (i == 0) /* else it is the end */
        h2_put_headers(w, 1, false, H2_POST);
    h2_put_goaway(w, 0, 0);
}

static void continuations(struct h2_wire *w, uint32_t i)
{
    h2_put_frame(w, i ? NGHTTP2_CONTINUATION : NGHTTP2_HEADERS, 0, 1, NULL, 0);
}

static void large_block(struct h2_wire *w, uint32_t i)
{
    static const uint8_t fields[16000];
    h2_put_frame(w, i ? NGHTTP2_CONTINUATION : NGHTTP2_HEADERS, 0, 1, fields, i ? 16000 : 0);
}

/* One field in the table, and then its index many times. */
static void bomb(struct h2_wire *w, uint32_t i)
{
    static uint8_t indexed[8000];
    struct h2_wire block;
    char value[3000];

    memset(indexed, 0x80 | 62, sizeof(indexed));
    memset(value, 'v', sizeof(value));
    h2_wire_init(&block);
    h2_put_fields(&block, H2_GET);
    h2_put_byte(&block, 0x40);
    h2_put_text(&block, "x", 1);
    h2_put_text(&block, value, sizeof(value));
    h2_put(&block, indexed, sizeof(indexed));
    h2_put_frame(w, NGHTTP2_HEADERS, 5, 1, block.data, block.len);
    h2_wire_fini(&block);
}

static void test_floods(void **state)
{
    flood(rapid_reset, WEIR_H2_ABUSE_RESETS, 12);
    flood(made_you_reset, WEIR_H2_ABUSE_RESETS, 12);
    flood(pings, WEIR_H2_ABUSE_PINGS, 12);
    flood(settings, WEIR_H2_ABUSE_SETTINGS, 12);
    flood(priorities, WEIR_H2_ABUSE_PRIORITIES, 50);
    flood(priority_updates, WEIR_H2_ABUSE_PRIORITIES, 50);
    flood(windows, WEIR_H2_ABUSE_WINDOWS, 120);
    flood(empty_data, WEIR_H2_ABUSE_EMPTY, 12);
    flood(padding_alone, WEIR_H2_ABUSE_EMPTY, 12);
    flood(unknown, WEIR_H2_ABUSE_UNKNOWN, 12);
    flood(goaways, WEIR_H2_ABUSE_UNKNOWN, 12);
    flood(continuations, WEIR_H2_ABUSE_CONTINUATIONS, 40);
    flood(large_block, WEIR_H2_ABUSE_CONTINUATIONS, 40);
    flood(bomb, WEIR_H2_ABUSE_HEADERS, 1);
    assert_string_equal(weir_h2_abuse_name(WEIR_H2_ABUSE_ACKS), "acks_unread");
    assert_string_equal(weir_h2_abuse_name((enum weir_h2_abuse)99), "unknown");
}

static void one_reset_after_the_other(struct h2_wire *w, uint32_t i)
{
    h2_put_rst(w, 1, NGHTTP2_CANCEL);
}

static void empty_answer(struct h2_wire *w, uint32_t i)
{
    if (i == 0)
        h2_put_headers(w, 1, false, ":status: 200\n");
    h2_put_data(w, 1, "", false);
}

static void padded_answer(struct h2_wire *w, uint32_t i)
{
    if (i == 0)
        h2_put_headers(w, 1, false, ":status: 200\n");
    h2_put_frame(w, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, "\2\0\0", 3);
}

static void more_goaways(struct h2_wire *w, uint32_t i)
{
    h2_put_goaway(w, 1, 0); /* stream 1 is still to be answered */
}

static void test_floods_of_servers(void **state)
{
    flood_of_server(one_reset_after_the_other, WEIR_H2_ABUSE_RESETS, 13);
    flood_of_server(pings, WEIR_H2_ABUSE_PINGS, 13);
    flood_of_server(settings, WEIR_H2_ABUSE_SETTINGS, 13);
    flood_of_server(priorities, WEIR_H2_ABUSE_PRIORITIES, 50);
    flood_of_server(windows, WEIR_H2_ABUSE_WINDOWS, 120);
    flood_of_server(empty_answer, WEIR_H2_ABUSE_EMPTY, 13);
    flood_of_server(padded_answer, WEIR_H2_ABUSE_EMPTY, 13);
    flood_of_server(unknown, WEIR_H2_ABUSE_UNKNOWN, 13);
    flood_of_server(more_goaways, WEIR_H2_ABUSE_UNKNOWN, 13);
    flood_of_server(continuations, WEIR_H2_ABUSE_CONTINUATIONS, 40);
    flood_of_server(large_block, WEIR_H2_ABUSE_CONTINUATIONS, 40);
}

/* What a flood is called by whom it took the answer from. */
static void test_flood_is_told(void **state)
{
    struct h2_log *log = h2_log_new(false, NULL, &small, NULL);
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_settings(&wire);
    h2_log_request(log, "GET", WEIR_BODY_NONE, true);
    h2_log_request(log, "GET", WEIR_BODY_NONE, true);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    h2_put_headers(&wire, 3, false, ":status: 200\n"); /* in any order */
    h2_put_headers(&wire, 1, true, ":status: 204\n");
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    for (int i = 0; i < 13; i++)
        pings(&wire, 0);
    assert_int_equal(h2_log_feed_wire(log, &wire), WEIR_EUPFRAMING);
    assert_string_equal(h2_log_all(log),
                        "204 none end | 200 chunked reset EUPFRAMING by upstream ");
    assert_int_equal(log->exchanges[1].why.retry, WEIR_RETRY_NO);
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* A server may refuse whatever it is asked for: each request pays for its own end. */
static void test_refusals_are_no_flood(void **state)
{
    struct h2_log *log = h2_log_new(false, NULL, &small, NULL);
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_settings(&wire);
    for (uint32_t i = 0; i < 75; i++)
        h2_log_request(log, "GET", WEIR_BODY_NONE, true);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    for (uint32_t i = 0; i < 75; i++)
        h2_put_rst(&wire, 2 * i + 1, NGHTTP2_REFUSED_STREAM);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    for (uint32_t i = 75; i < 150; i++) { /* answers that we have to reset */
        h2_log_request(log, "GET", WEIR_BODY_NONE, true);
        h2_log_turn(log);
        h2_put_headers(&wire, 2 * i + 1, true, ":status: 200\nconnection: close\n");
        assert_true(h2_log_feed_wire(log, &wire) > 0);
    }
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_RST_STREAM, UINT32_MAX, NULL), 75);
    assert_int_equal(h2_goaway_code(log), UINT32_MAX);
    assert_false(weir_codec_over(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* A minute brings a budget back, and DATA that goes allows the frames that answer to it. */
static void test_budgets_come_back(void **state)
{
    static const struct weir_h2_limits limits = { .pings_per_minute = 10 };
    struct h2_log *log = h2_server_new(&limits);
    struct h2_wire wire;

    h2_wire_init(&wire);
    for (int i = 0; i < 30; i++) {
        pings(&wire, 0);
        assert_true(h2_log_feed_wire(log, &wire) > 0);
        log->now_ms += 6000;
    }
    for (int i = 0; i < 30; i++) {
        h2_put_headers(&wire, 2u * (uint32_t)i + 1, true, H2_GET);
        pings(&wire, 0);
        assert_true(h2_log_feed_wire(log, &wire) > 0);
    }
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* Streams that are served allow that one in ten is reset, as deadlines of gRPC do; one whose answer was whole before is
 * no cost at all. */
static void test_served_streams_allow_resets(void **state)
{
    static const struct weir_h2_limits limits = { .resets_per_minute = 10 };
    struct weir_h2_watch watch;
    unsigned taken = 0;

    weir_h2_watch_init(&watch, true);
    for (int i = 0; i < 2000; i++) {
        weir_h2_watch_served(&watch, false, &limits);
        if (i % 10 == 0)
            assert_true(weir_h2_watch_take(&watch, H2_B_RESETS, &limits, 1));
    }
    for (int i = 0; i < 100; i++) {
        assert_true(weir_h2_watch_take(&watch, H2_B_RESETS, &limits, 1));
        weir_h2_watch_served(&watch, true, &limits);
    }
    while (weir_h2_watch_take(&watch, H2_B_RESETS, &limits, 1))
        assert_true(++taken <= 10);
    assert_int_equal(watch.abuse, WEIR_H2_ABUSE_RESETS);
}

/* The same with frames: requests that are answered, and some that are given up. */
static void test_resets_among_requests(void **state)
{
    static const struct weir_h2_limits limits = { .resets_per_minute = 10 };
    struct h2_log *log = h2_server_new(&limits);
    struct h2_wire wire;

    h2_wire_init(&wire);
    for (uint32_t i = 0; i < 150; i++) {
        h2_put_headers(&wire, 2 * i + 1, i % 10 != 0, i % 10 ? H2_GET : H2_POST);
        if (i % 10 == 0)
            h2_put_rst(&wire, 2 * i + 1, NGHTTP2_CANCEL);
        assert_true(h2_log_feed_wire(log, &wire) > 0);
        assert_false(weir_codec_over(log->codec));
    }
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static unsigned count_refused(struct h2_log *log)
{
    struct h2_frame frame;
    unsigned n = 0;

    for (size_t at = 0; h2_next_frame(&log->out, &at, &frame);)
        n += frame.type == NGHTTP2_RST_STREAM && h2_u32_at(frame.payload) == NGHTTP2_REFUSED_STREAM;
    return n;
}

/* A client that has not seen our SETTINGS may open more streams than they allow: those are refused, the others served. */
static void test_burst(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    for (uint32_t i = 0; i < 2000; i++)
        h2_put_headers(&wire, 2 * i + 1, true, H2_GET);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_int_equal(log->count, 100);
    assert_int_equal(count_refused(log), 1900);
    assert_int_equal(h2_count_frames(&log->out, NGHTTP2_GOAWAY, 0, NULL), 0);
    assert_false(weir_codec_over(log->codec));
    for (unsigned i = 0; i < log->count; i++)
        h2_answer(&log->exchanges[i]);
    h2_log_turn(log);
    assert_true(weir_codec_idle(log->codec));
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* A client of gRPC gives credit for every message, however small the frames that brought them: that is no flood, for as
 * long as there are frames. */
static void test_credit_by_message(void **state)
{
    static const struct weir_h2_limits limits = { .pings_per_minute = 10 };
    struct weir_h2_watch watch;
    unsigned taken = 0;

    weir_h2_watch_init(&watch, true);
    for (int i = 0; i < 2000; i++) {
        weir_h2_watch_sent(&watch, 8, &limits);
        for (int k = 0; k < 5; k++)
            assert_true(weir_h2_watch_take(&watch, H2_B_WINDOWS, &limits, 1));
    }
    while (weir_h2_watch_take(&watch, H2_B_WINDOWS, &limits, 1))
        assert_true(++taken <= 100);
    assert_int_equal(watch.abuse, WEIR_H2_ABUSE_WINDOWS);
}

/* So does one that finds its window by PING, when a frame has come: after the last frame the budget is all there is. */
static void test_pings_that_measure(void **state)
{
    static const struct weir_h2_limits limits = { .pings_per_minute = 10 };
    struct weir_h2_watch watch;
    unsigned taken = 0;

    weir_h2_watch_init(&watch, true);
    for (int i = 0; i < 2000; i++) {
        weir_h2_watch_sent(&watch, 8, &limits);
        assert_true(weir_h2_watch_take(&watch, H2_B_PINGS, &limits, 1));
    }
    while (weir_h2_watch_take(&watch, H2_B_PINGS, &limits, 1))
        taken++;
    assert_int_equal(taken, limits.pings_per_minute - 1);
    assert_int_equal(watch.abuse, WEIR_H2_ABUSE_PINGS);
}

/* A peer that does not read: ACKs for it are not kept without end. */
static void test_unread_acks(void **state)
{
    static const struct weir_h2_limits limits = { .pings_per_minute = 100000 };
    struct h2_log *log = h2_server_new(&limits);
    struct h2_wire wire;
    ssize_t n = 0;

    log->pending = 1 << 20;
    h2_wire_init(&wire);
    for (int i = 0; i < 1000 && n >= 0; i++) {
        pings(&wire, 0);
        n = h2_log_feed_wire(log, &wire);
    }
    assert_int_equal(n, WEIR_EFLOOD);
    assert_int_equal(weir_h2_abused(log->h2), WEIR_H2_ABUSE_ACKS);
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* Nor are frames of another kind: here RST_STREAM for streams over a limit of which it says not to know yet. */
static void test_unread_frames(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;
    ssize_t n = 0;

    log->pending = 1 << 20;
    h2_wire_init(&wire);
    for (uint32_t i = 0; i < 3000 && n >= 0; i++) {
        h2_put_headers(&wire, 2 * i + 1, true, H2_GET);
        n = h2_log_feed_wire(log, &wire);
        assert_true(n < 0 || i < 2000);
    }
    assert_int_equal(n, WEIR_EFLOOD);
    assert_int_equal(weir_h2_abused(log->h2), WEIR_H2_ABUSE_FRAMES);
    h2_wire_fini(&wire);
    h2_log_free(log);
}

/* ---- memory ---- */

static void test_idle_memory(void **state)
{
    enum { SESSIONS = 200 };
    struct h2_log *first = h2_server_new(NULL), *logs[SESSIONS];
    struct h2_wire wire;
    size_t before, bytes;

    h2_wire_init(&wire);
    h2_put_preface(&wire);
    for (int i = 0; i < SESSIONS; i++) {
        logs[i] = calloc(1, sizeof(*logs[i]));
        assert_non_null(logs[i]);
        logs[i]->used = &first->shared;
    }
    before = mallinfo2().uordblks;
    for (int i = 0; i < SESSIONS; i++) {
        logs[i]->h2 = weir_h2_new_server(&first->shared, NULL, NULL, &h2_log_codec_sink, logs[i]);
        assert_non_null(logs[i]->h2);
        logs[i]->codec = weir_h2_codec(logs[i]->h2);
        h2_log_turn(logs[i]);
        assert_true(h2_log_feed(logs[i], wire.data, wire.len) > 0);
    }
    bytes = (mallinfo2().uordblks - before) / SESSIONS;
    print_message("an idle session: %zu bytes, ours %zu\n", bytes, first->shared.sessions.bytes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_in_range(bytes, 1, 11500);
#endif
    for (int i = 0; i < SESSIONS; i++) {
        weir_h2_free(logs[i]->h2);
        free(logs[i]);
    }
    weir_h2_shared_trim(&first->shared);
    h2_wire_fini(&wire);
    h2_log_free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_floods_of_servers),
        cmocka_unit_test(test_flood_is_told),
        cmocka_unit_test(test_refusals_are_no_flood),
        cmocka_unit_test(test_budgets_come_back),
        cmocka_unit_test(test_served_streams_allow_resets),
        cmocka_unit_test(test_resets_among_requests),
        cmocka_unit_test(test_burst),
        cmocka_unit_test(test_credit_by_message),
        cmocka_unit_test(test_pings_that_measure),
        cmocka_unit_test(test_unread_acks),
        cmocka_unit_test(test_unread_frames),
        cmocka_unit_test(test_idle_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
