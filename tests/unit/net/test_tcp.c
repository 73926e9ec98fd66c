/* SPDX-License-Identifier: Apache-2.0 */
/** test_tcp.c: bytes, back-pressure and every ending of a stream, over socket pairs and loopback.
 */
#include "tcp_kit.h"
#include "weir/limits.h"

#include <errno.h>

enum { BULK_BYTES = 64 << 20 };

static void test_hello(void **state)
{
    struct peer a, b;
    char text[] = "hello";
    struct iovec iov[3] = { { text, 2 }, { text, 0 }, { text + 2, 3 } };

    pair(&a, &b);
    assert_int_equal(weir_stream_write(a.stream, iov, 3), 0);
    assert_int_equal(weir_stream_pending(a.stream), 0);
    turns(2);
    assert_int_equal(b.received, 0); /* not asked for yet */
    weir_stream_read(b.stream, true);
    assert_int_equal(b.received, 0); /* never inside the call */
    TURN_UNTIL(b.received == 5);
    assert_memory_equal(b.last, "hello", 5);
    assert_int_equal(a.drained, 0);
    close_both(&a, &b);
}

/* What a holder can pass on is what it is given at once. */
static void test_pace(void **state)
{
    static char much[3 * WEIR_READ_BUFFER_BYTES];
    struct peer a, b;

    pair(&a, &b);
    assert_int_equal(put(&a, much, sizeof(much)), 0);
    weir_stream_pace(b.stream, 20 * 1024);
    weir_stream_read(b.stream, true);
    TURN_UNTIL(b.received == sizeof(much));
    assert_int_equal(b.largest, 20 * 1024);
    weir_stream_pace(b.stream, WEIR_READ_BUFFER_BYTES);
    assert_int_equal(put(&a, much, sizeof(much)), 0);
    TURN_UNTIL(b.received == 2 * sizeof(much));
    assert_true(b.largest > 20 * 1024);
    close_both(&a, &b);
}

/* Echo of 64 MiB: a sends and checks, b echoes; both obey WEIR_STREAM_HIGH_BYTES, and a reads only
 * now and then. */
struct bulk {
    struct weir_stream *a, *b;
    size_t sent, echoed, checked, pending_max;
    bool a_eof, b_eof;
    int closed;
};

static uint8_t bulk_byte(size_t at)
{
    return (uint8_t)(at * 2654435761u >> 13);
}

static void bulk_note(struct bulk *bulk, struct weir_stream *stream)
{
    if (weir_stream_pending(stream) > bulk->pending_max)
        bulk->pending_max = weir_stream_pending(stream);
}

static void bulk_send(struct bulk *bulk)
{
    static uint8_t block[32 * 1024];

    while (bulk->sent < BULK_BYTES && weir_stream_pending(bulk->a) < WEIR_STREAM_HIGH_BYTES) {
        struct iovec iov[2] = { { block, 1000 }, { block + 1000, sizeof(block) - 1000 } };

        for (size_t i = 0; i < sizeof(block); i++)
            block[i] = bulk_byte(bulk->sent + i);
        assert_int_equal(weir_stream_write(bulk->a, iov, 2), 0);
        bulk->sent += sizeof(block);
        bulk_note(bulk, bulk->a);
    }
    if (bulk->sent == BULK_BYTES)
        weir_stream_shutdown(bulk->a);
}

static void bulk_a_data(void *arg, const uint8_t *data, size_t len)
{
    struct bulk *bulk = arg;

    for (size_t i = 0; i < len; i++)
        if (data[i] != bulk_byte(bulk->checked + i))
            fail_msg("byte %zu is wrong", bulk->checked + i);
    bulk->checked += len;
    weir_stream_read(bulk->a, false);
}

static void bulk_a_drained(void *arg)
{
    struct bulk *bulk = arg;

    if (bulk->sent < BULK_BYTES)
        bulk_send(bulk);
}

static void bulk_a_eof(void *arg)
{
    ((struct bulk *)arg)->a_eof = true;
}

static void bulk_b_data(void *arg, const uint8_t *data, size_t len)
{
    struct bulk *bulk = arg;
    struct iovec iov = { (void *)data, len };

    assert_int_equal(weir_stream_write(bulk->b, &iov, 1), 0);
    bulk->echoed += len;
    bulk_note(bulk, bulk->b);
    if (weir_stream_pending(bulk->b) >= WEIR_STREAM_HIGH_BYTES)
        weir_stream_read(bulk->b, false);
}

static void bulk_b_drained(void *arg)
{
    weir_stream_read(((struct bulk *)arg)->b, true);
}

static void bulk_b_eof(void *arg)
{
    struct bulk *bulk = arg;

    bulk->b_eof = true;
    weir_stream_shutdown(bulk->b);
}

static void bulk_error(void *arg, enum weir_err err, int sys)
{
    fail_msg("%s %d", weir_err_name(err), sys);
}

static void bulk_closed(void *arg)
{
    ((struct bulk *)arg)->closed++;
}

static void bulk_run(struct weir_stream *a, struct weir_stream *b)
{
    static const struct weir_stream_sink a_sink = {
        NULL, bulk_a_data, bulk_a_eof, bulk_a_drained, bulk_error, bulk_closed,
    };
    static const struct weir_stream_sink b_sink = {
        NULL, bulk_b_data, bulk_b_eof, bulk_b_drained, bulk_error, bulk_closed,
    };
    struct bulk bulk = { .a = a, .b = b };

    weir_stream_set_sink(a, &a_sink, &bulk);
    weir_stream_set_sink(b, &b_sink, &bulk);
    bulk_send(&bulk);
    weir_stream_read(b, true);
    for (int i = 0; i < TURNS_MAX && !bulk.a_eof; i++) {
        weir_loop_turn(&loop, 0);
        if (i % 3 == 0)
            weir_stream_read(a, true);
    }
    assert_true(bulk.a_eof && bulk.b_eof);
    assert_int_equal(bulk.checked, BULK_BYTES);
    assert_true(bulk.pending_max > 0);
    assert_true(bulk.pending_max < WEIR_STREAM_HIGH_BYTES + WEIR_READ_BUFFER_BYTES);
    weir_stream_close(a, false);
    weir_stream_close(b, false);
    TURN_UNTIL(bulk.closed == 2);
    assert_int_equal(loop.tcp_extras.used, 0);
}

static void test_bulk_unix(void **state)
{
    struct peer a, b;

    pair(&a, &b);
    bulk_run(a.stream, b.stream);
}

static void test_bulk_tcp(void **state)
{
    struct peer a, b;

    pair_tcp(&a, &b);
    bulk_run(a.stream, b.stream);
}

static void test_half_close(void **state)
{
    struct peer a, b;

    pair_tcp(&a, &b);
    weir_stream_read(a.stream, true);
    weir_stream_read(b.stream, true);
    assert_int_equal(put(&a, "q", 1), 0);
    weir_stream_shutdown(a.stream);
    weir_stream_shutdown(a.stream); /* said twice: once */
    TURN_UNTIL(b.eofs == 1);
    assert_int_equal(b.received, 1);
    turns(5);
    assert_int_equal(put(&b, "answer", 6), 0); /* the other way is open */
    TURN_UNTIL(a.received == 6);
    weir_stream_shutdown(b.stream);
    TURN_UNTIL(a.eofs == 1);
    turns(5);
    assert_int_equal(a.eofs, 1);
    assert_int_equal(b.eofs, 1);
    assert_int_equal(a.errors + b.errors, 0);
    close_both(&a, &b);
}

/* What was pending goes before the FIN. */
static void test_shutdown_after_pending(void **state)
{
    static char big[4 << 20];
    struct peer a, b;

    pair(&a, &b);
    assert_int_equal(put(&a, big, sizeof(big)), 0);
    assert_true(weir_stream_pending(a.stream) > 0);
    weir_stream_shutdown(a.stream);
    weir_stream_read(b.stream, true);
    TURN_UNTIL(b.eofs == 1);
    assert_int_equal(b.received, sizeof(big));
    assert_int_equal(a.drained, 1);
    close_both(&a, &b);
}

static void test_reset(void **state)
{
    struct peer a, b;

    pair_tcp(&a, &b);
    weir_stream_read(b.stream, true);
    assert_int_equal(put(&a, "cut", 3), 0);
    peer_close(&a, true);
    TURN_UNTIL(b.errors == 1);
    assert_int_equal(b.err, WEIR_ERESET);
    assert_int_equal(b.sys, ECONNRESET);
    assert_int_equal(b.eofs, 0);
    assert_int_equal(put(&b, "x", 1), 0); /* taken and dropped */
    assert_int_equal(weir_stream_pending(b.stream), 0);
    turns(3);
    assert_int_equal(b.errors, 1);
    close_both(&a, &b);
}

/* Nobody reads: a reset is told all the same, unless bytes came before it; those are read first. */
static void test_reset_while_not_reading(void **state)
{
    struct peer a, b;

    pair_tcp(&a, &b);
    peer_close(&a, true);
    TURN_UNTIL(b.errors == 1);
    close_both(&a, &b);

    pair_tcp(&a, &b);
    assert_int_equal(put(&a, "last words", 10), 0);
    turns(3);
    peer_close(&a, true);
    turns(5);
    assert_int_equal(b.errors, 0);
    weir_stream_read(b.stream, true);
    TURN_UNTIL(b.errors == 1);
    assert_int_equal(b.received, 10);
    close_both(&a, &b);
}

/* A failed send is told in a later turn, after what the peer had sent. */
static void test_send_fails(void **state)
{
    struct peer a, b;

    pair_tcp(&a, &b);
    assert_int_equal(put(&a, "413", 3), 0);
    peer_close(&a, true);
    weir_loop_turn(&loop, 0);
    weir_stream_read(b.stream, true);
    assert_int_equal(put(&b, "body", 4), 0); /* the kernel knows of the reset */
    assert_int_equal(b.errors, 0);
    assert_int_equal(put(&b, "body", 4), 0);
    TURN_UNTIL(b.errors == 1);
    assert_int_equal(b.received, 3);
    assert_int_equal(b.err, WEIR_ERESET);
    turns(3);
    assert_int_equal(b.errors, 1);
    close_both(&a, &b);
}

/* Closing from inside each callback, and nothing afterwards but on_closed. */
static void test_close_in_callbacks(void **state)
{
    static char big[1 << 20];
    struct weir_addr addr;
    struct peer a, b;
    int lfd;

    pair(&a, &b);
    b.close_in = IN_DATA;
    weir_stream_read(b.stream, true);
    assert_int_equal(put(&a, big, sizeof(big)), 0);
    TURN_UNTIL(b.closed == 1);
    assert_true(b.received <= WEIR_READ_BUFFER_BYTES);
    close_both(&a, &b);

    pair(&a, &b);
    b.close_in = IN_EOF;
    weir_stream_read(b.stream, true);
    assert_int_equal(put(&a, "x", 1), 0);
    weir_stream_shutdown(a.stream);
    TURN_UNTIL(b.closed == 1);
    assert_int_equal(b.eofs, 1);
    close_both(&a, &b);

    pair(&a, &b);
    a.close_in = IN_DRAINED;
    assert_int_equal(put(&a, big, sizeof(big)), 0);
    weir_stream_read(b.stream, true);
    TURN_UNTIL(a.closed == 1 && b.eofs == 1);
    assert_int_equal(b.received, sizeof(big));
    close_both(&a, &b);

    pair_tcp(&a, &b);
    b.close_in = IN_ERROR;
    peer_close(&a, true);
    TURN_UNTIL(b.closed == 1);
    close_both(&a, &b);

    lfd = listen_loopback(&addr, 4);
    dial(&a, &addr, 0);
    a.close_in = IN_OPEN;
    assert_int_equal(put(&a, "x", 1), 0);
    TURN_UNTIL(a.closed == 1);
    assert_int_equal(a.errors, 0);
    close(lfd);
}

/* One callback closes another socket whose event is in the same batch. */
struct killer {
    struct peer victim;
};

static void killer_data(void *arg, const uint8_t *data, size_t len)
{
    struct killer *killer = arg;

    if (killer->victim.stream)
        peer_close(&killer->victim, false);
}

static void killer_nothing(void *arg)
{
}

static void test_close_other_in_batch(void **state)
{
    static const struct weir_stream_sink kill_sink = { NULL, killer_data, killer_nothing,
                                                       NULL, NULL,        killer_nothing };
    struct peer a, b, c;
    struct killer killer;

    pair(&a, &b);
    pair(&c, &killer.victim);
    turns(2);
    weir_stream_set_sink(b.stream, &kill_sink, &killer);
    killer.victim.close_in = IN_DATA;
    weir_stream_set_sink(killer.victim.stream, &sink, &killer.victim);
    weir_stream_read(b.stream, true);
    weir_stream_read(killer.victim.stream, true);
    assert_int_equal(put(&a, "kill", 4), 0);
    assert_int_equal(put(&c, "late", 4), 0);
    TURN_UNTIL(killer.victim.closed == 1);
    weir_stream_close(b.stream, false);
    peer_close(&c, false);
    peer_close(&a, false);
    TURN_UNTIL(a.closed == 1 && c.closed == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hello),
        TEST(test_pace),
        TEST(test_bulk_unix),
        TEST(test_bulk_tcp),
        TEST(test_half_close),
        TEST(test_shutdown_after_pending),
        TEST(test_reset),
        TEST(test_reset_while_not_reading),
        TEST(test_send_fails),
        TEST(test_close_in_callbacks),
        TEST(test_close_other_in_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
