/* SPDX-License-Identifier: Apache-2.0 */
/** What the peer may send: windows that follow the holder, whom they hold back, and when they grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"
#include "http/h2_priv.h"

enum {
    RTT_MS = 50,
    FIRST = NGHTTP2_INITIAL_WINDOW_SIZE,
    LINE = 320 * 1024, /* bytes a ms */
    MANY = 100,
};

/* A server, the next frames of its client, and what each stream of that may still send. */
struct client {
    struct h2_log *log;
    struct h2_wire wire;
    size_t window[MANY]; /* by (id - 1) / 2 */
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
    if (c->wire.len)
        assert_true(h2_log_feed_wire(c->log, &c->wire) > 0);
    look(c);
}

/* All that the window allows, at once: a fast peer. */
static void fill(struct client *c, uint32_t id)
{
    put_body(c, id, c->window[id / 2]);
    feed(c);
}

static void put_settings_ack(struct client *c)
{
    h2_put_frame(&c->wire, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "", 0);
}

static struct weir_h2_stream *stream_of(const struct client *c, uint32_t id)
{
    return c->log->exchanges[id / 2].hs->impl;
}

static void take(struct client *c, uint32_t id, size_t bytes)
{
    c->log->out.len = 0;
    weir_hstream_consume(c->log->exchanges[id / 2].hs, bytes);
    look(c);
}

/* What there may be of a stream here: bytes that wait for its holder, and those that its client may send. */
static size_t held(const struct client *c, uint32_t id)
{
    return stream_of(c, id)->unread + c->window[id / 2];
}

static size_t held_of_all(const struct client *c, unsigned count)
{
    size_t sum = 0;

    for (unsigned i = 0; i < count; i++)
        sum += held(c, 2 * i + 1);
    return sum;
}

/* The stream has that window; less than a step of it has not been given back yet. */
static void assert_window(const struct client *c, uint32_t id, size_t bytes)
{
    size_t step = bytes / 8 > FIRST / 2 ? bytes / 8 : (bytes < FIRST ? bytes : FIRST) / 2;

    assert_int_equal(stream_of(c, id)->window, bytes);
    assert_in_range(c->window[id / 2], bytes - step, bytes);
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
    for (uint32_t id = 1; sent < 2u * H2_CONN_WINDOW_BYTES; id += 2) {
        log->count = 0; /* a window of bytes, then it is reset: the log has not room for all */
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
    assert_window(&c, 1, RTT_MS * LINE);
    c.log->now_ms += RTT_MS;
    fill(&c, 1);
    assert_window(&c, 1, RTT_MS * LINE);
    client_fini(&c);
}

/* Half a window at a time would leave a long way empty while the other half is under way. */
static void test_is_given_back_in_small_steps(void **state)
{
    struct client c;
    size_t before;

    client_init(&c, RTT_MS);
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    before = c.window[0];
    put_body(&c, 1, RTT_MS * LINE / 8 + 16384);
    feed(&c);
    assert_in_range(c.window[0], before - 16384, RTT_MS * LINE);
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
    for (int i = 0; i < 4; i++) {
        c.log->now_ms += 1;
        fill(&c, 1);
    }
    assert_window(&c, 1, LINE);
    h2_put_rst(&c.wire, 1, NGHTTP2_CANCEL);
    begin(&c, 3, H2_POST); /* with a pause between */
    for (int i = 0; i < 10; i++) {
        c.log->now_ms += 100;
        fill(&c, 3);
    }
    assert_window(&c, 3, FIRST);
    client_fini(&c);
}

/* It is not known: the ACK of our SETTINGS tells, together with the next flight. */
static void test_grows_when_the_way_is_known(void **state)
{
    struct client c;

    client_init(&c, 0);
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    assert_window(&c, 1, FIRST);
    c.log->now_ms += RTT_MS;
    put_settings_ack(&c);
    fill(&c, 1);
    assert_window(&c, 1, (RTT_MS + 1) * LINE);
    client_fini(&c);
}

/* A handshake has computing in it, and the ACK may wait behind what else was sent. */
static void test_the_shorter_way_counts(void **state)
{
    static const struct {
        uint32_t tls_ms, ack_ms, rtt_ms;
    } ways[] = { { RTT_MS, 0, 1 }, { 3, RTT_MS, 3 }, { 0, 7, 8 } };

    for (int i = 0; i < 3; i++) {
        struct client c;

        client_init(&c, ways[i].tls_ms);
        c.log->now_ms += ways[i].ack_ms;
        put_settings_ack(&c);
        feed(&c);
        assert_int_equal(c.log->h2->rtt_ms, ways[i].rtt_ms);
        client_fini(&c);
    }
}

static size_t asked(struct client *c, struct h2_frame *ping)
{
    return h2_count_frames(&c->log->out, NGHTTP2_PING, 0, ping);
}

/* Who was merely slow with its first answer is asked again, once, and gets no more than it needs. An ACK of none says nothing. */
static void test_the_way_is_asked_for_again(void **state)
{
    struct h2_frame ping = { .len = 0 };
    struct client c;

    client_init(&c, RTT_MS);
    begin(&c, 1, H2_POST);
    h2_put_frame(&c.wire, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "weir-rtt", 8);
    fill(&c, 1);
    assert_window(&c, 1, RTT_MS * LINE);
    assert_int_equal(asked(&c, &ping), 1);
    c.log->now_ms += 1;
    h2_put_frame(&c.wire, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, ping.payload, 8);
    feed(&c);
    assert_int_equal(c.log->h2->rtt_ms, 2);
    for (int i = 0; i < 3; i++)
        fill(&c, 1);
    assert_window(&c, 1, 2 * LINE);
    assert_int_equal(asked(&c, NULL), 0);
    client_fini(&c);
}

/* A client may send 65,535 bytes before it has our SETTINGS; some do whatever those say, and acknowledge them unread. */
static void test_first_window_whatever_the_client_knows(void **state)
{
    for (int knows = 0; knows < 2; knows++) {
        struct client c;

        client_init(&c, 0);
        c.log->slow = true;
        begin(&c, 1, H2_POST);
        if (knows)
            put_settings_ack(&c);
        put_body(&c, 1, 65535);
        feed(&c);
        assert_int_equal(c.log->exchanges[0].body_len, 65535);
        assert_int_equal(h2_count_frames(&c.log->out, NGHTTP2_RST_STREAM, 1, NULL), 0);
        for (int i = 0; i < 3; i++) { /* it never stands still for ever */
            take(&c, 1, FIRST - 10000);
            take(&c, 1, SIZE_MAX);
            assert_in_range(c.window[0], FIRST / 2, FIRST);
            fill(&c, 1);
        }
        client_fini(&c);
    }
}

/* Nobody consumes padding. */
static void test_padding_is_given_back(void **state)
{
    uint8_t payload[257] = { 255, 'x' };
    struct client c;

    client_init(&c, 1);
    begin(&c, 1, H2_POST);
    for (int i = 0; i < 1000; i++) {
        assert_true(c.window[0] >= sizeof(payload));
        h2_put_frame(&c.wire, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, payload, sizeof(payload));
        c.window[0] -= sizeof(payload);
        feed(&c);
        assert_in_range(c.window[0], 0, FIRST);
    }
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

/* ---- when they get smaller ---- */

/* A grown window, and then its holder takes little: what comes is soon no more than two round trips' worth of that. */
static void test_shrinks_when_the_holder_is_slow(void **state)
{
    enum { TAKEN = 256 * 1024, EVERY_MS = 200, FIT = 2 * TAKEN * RTT_MS / EVERY_MS };
    struct client c;
    size_t most = 0;

    client_init(&c, RTT_MS);
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    assert_window(&c, 1, RTT_MS * LINE);
    c.log->slow = true;
    fill(&c, 1);
    for (int i = 0; i < 200; i++) {
        c.log->now_ms += EVERY_MS;
        take(&c, 1, TAKEN);
        assert_in_range(held(&c, 1), 0, RTT_MS * LINE);
        if (i >= 100)
            most = held(&c, 1) > most ? held(&c, 1) : most;
        fill(&c, 1);
    }
    assert_in_range(most, FIT / 4, FIT);
    assert_in_range(c.log->h2->extra, 0, FIT - FIRST);
    c.log->slow = false; /* it takes all again: the window grows, by no more than twice at a time */
    take(&c, 1, SIZE_MAX);
    most = stream_of(&c, 1)->window;
    for (int i = 0; i < 60; i++) {
        fill(&c, 1);
        assert_in_range(stream_of(&c, 1)->window, most, 2 * most);
        most = stream_of(&c, 1)->window;
    }
    assert_int_equal(most, RTT_MS * LINE);
    client_fini(&c);
}

/* All that is taken at once, and then nothing: as where two kernels had room, and the other side does not read. */
static void test_many_hold_no_more_than_first_windows(void **state)
{
    static const uint32_t ways[] = { 1, 5, RTT_MS, 1000 };

    for (int way = 0; way < 4; way++) {
        struct client c;

        client_init(&c, ways[way]);
        for (uint32_t id = 1; id < 2 * MANY; id += 2)
            begin(&c, id, H2_POST);
        for (int round = 0; round < 8; round++) {
            c.log->slow = round == 7;
            for (uint32_t id = 1; id < 2 * MANY; id += 2)
                fill(&c, id);
            assert_in_range(held_of_all(&c, MANY), 0, MANY * FIRST);
        }
        assert_int_equal(c.log->h2->extra, 0);
        client_fini(&c);
    }
}

/* They have brought a window each long ago, and stand still: that takes nothing of the line from one that moves. */
static void test_grows_beside_streams_that_stand_still(void **state)
{
    struct client c;

    client_init(&c, 1);
    c.log->slow = true;
    for (uint32_t id = 1; id < 2 * MANY - 1; id += 2) {
        begin(&c, id, H2_POST);
        fill(&c, id);
    }
    c.log->now_ms += 1000;
    c.log->slow = false;
    begin(&c, 2 * MANY - 1, H2_POST);
    for (int i = 0; i < 5; i++)
        fill(&c, 2 * MANY - 1);
    assert_window(&c, 2 * MANY - 1, LINE);
    client_fini(&c);
}

/* One that is alone may have more than several may have together; when others come, what it has brought is not given again
 * until they have their shares. */
static void test_streams_share_what_there_is(void **state)
{
    enum { SHARE = H2_STREAMS_WINDOW_BYTES_MAX / 2 };
    struct client c;

    client_init(&c, 1000);
    begin(&c, 1, H2_POST);
    fill(&c, 1);
    assert_window(&c, 1, H2_STREAM_WINDOW_BYTES_MAX);
    begin(&c, 3, H2_POST);
    fill(&c, 3);
    assert_window(&c, 3, FIRST);
    for (int i = 0; i < 3; i++) {
        fill(&c, 1);
        fill(&c, 3);
    }
    assert_window(&c, 1, SHARE);
    assert_in_range(stream_of(&c, 3)->window, SHARE - FIRST, SHARE);
    assert_in_range(held_of_all(&c, 2), 0, H2_STREAMS_WINDOW_BYTES_MAX);
    h2_put_rst(&c.wire, 1, NGHTTP2_CANCEL);
    feed(&c);
    assert_in_range(c.log->h2->extra, 0, SHARE);
    client_fini(&c);
}

/* An upload that is whole, and waits for its answer, brings nothing more: the next ones have what it had. */
static void test_a_whole_body_has_no_share(void **state)
{
    struct client c;

    client_init(&c, RTT_MS);
    for (uint32_t id = 1; id < 7; id += 2) {
        begin(&c, id, H2_POST);
        fill(&c, id);
        assert_window(&c, id, RTT_MS * LINE);
        h2_put_zeros(&c.wire, id, 1, true);
        feed(&c);
        assert_int_equal(c.log->h2->extra, 0);
    }
    begin(&c, 7, H2_POST);
    fill(&c, 7);
    c.log->slow = true; /* of one that nobody takes what waits counts */
    put_body(&c, 7, 1000000);
    h2_put_zeros(&c.wire, 7, 1, true);
    feed(&c);
    assert_int_equal(c.log->h2->extra, 1000001 - FIRST);
    take(&c, 7, SIZE_MAX);
    assert_int_equal(c.log->h2->extra, 0);
    client_fini(&c);
}

/* They come one after the other, and each is taken at first and stands still then. */
static void test_each_finds_less(void **state)
{
    struct client c;

    client_init(&c, RTT_MS);
    for (unsigned i = 0; i < MANY; i++) {
        c.log->slow = false;
        begin(&c, 2 * i + 1, H2_POST);
        fill(&c, 2 * i + 1);
        c.log->slow = true;
        fill(&c, 2 * i + 1);
    }
    assert_in_range(held_of_all(&c, MANY), RTT_MS * LINE,
                    H2_STREAM_WINDOW_BYTES_MAX + (MANY - 1) * FIRST);
    for (unsigned i = 0; i < MANY; i++) /* and go on: what the first one had is not given again */
        for (int n = 0; n < 3; n++) {
            take(&c, 2 * i + 1, SIZE_MAX);
            fill(&c, 2 * i + 1);
        }
    assert_in_range(held_of_all(&c, MANY), 0, H2_STREAMS_WINDOW_BYTES_MAX);
    client_fini(&c);
}

/* ---- while memory is short ---- */

/* Nothing grows then; that windows shrink as well: test_h2_tight.c. */
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
    assert_window(&c, 1, RTT_MS * LINE);
    client_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_window_follows_the_holder),
        cmocka_unit_test(test_unread_streams_hold_nobody_back),
        cmocka_unit_test(test_grows_in_its_first_flight),
        cmocka_unit_test(test_is_given_back_in_small_steps),
        cmocka_unit_test(test_near_more_has_to_be_taken),
        cmocka_unit_test(test_grows_when_the_way_is_known),
        cmocka_unit_test(test_the_shorter_way_counts),
        cmocka_unit_test(test_the_way_is_asked_for_again),
        cmocka_unit_test(test_first_window_whatever_the_client_knows),
        cmocka_unit_test(test_padding_is_given_back),
        cmocka_unit_test(test_slow_holder_gets_no_more),
        cmocka_unit_test(test_grows_no_further_than_the_body),
        cmocka_unit_test(test_shrinks_when_the_holder_is_slow),
        cmocka_unit_test(test_many_hold_no_more_than_first_windows),
        cmocka_unit_test(test_grows_beside_streams_that_stand_still),
        cmocka_unit_test(test_streams_share_what_there_is),
        cmocka_unit_test(test_a_whole_body_has_no_share),
        cmocka_unit_test(test_each_finds_less),
        cmocka_unit_test(test_nothing_grows_while_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
