/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that are read by hand: taken, peeked at, spliced through a pipe; and how they end then. */
#include "tcp_kit.h"
#include "weir/limits.h"

#include <errno.h>
#include <fcntl.h>

/* A peer that is read by hand, and what to do with what comes. */
struct hand {
    struct peer peer;
    int readable;
    bool take;              /* all that is there */
    struct weir_stream *to; /* or all that is there goes here, through `pipe` */
    int pipe[2];
    size_t in_pipe, moved;
};

static void drain_pipe(struct hand *hand)
{
    ssize_t n = weir_stream_splice_out(hand->to, hand->pipe[0], hand->in_pipe);

    if (n > 0) {
        hand->in_pipe -= (size_t)n;
        hand->moved += (size_t)n;
    }
    weir_stream_read(hand->peer.stream, hand->in_pipe == 0);
}

static void on_readable(void *arg)
{
    struct hand *hand = arg;
    char data[4096];
    ssize_t n;

    hand->readable++;
    while (hand->take && (n = weir_stream_take(hand->peer.stream, data, sizeof(data), 0)) > 0)
        hand->peer.received += (size_t)n;
    while (hand->to && !hand->in_pipe) {
        n = weir_stream_splice_in(hand->peer.stream, hand->pipe[1], 65536);
        assert_true(n >= 0);
        if (!n)
            return;
        hand->in_pipe = (size_t)n;
        drain_pipe(hand);
    }
}

static const struct weir_stream_sink hand_sink = { on_open,  on_data,   on_eof,     on_drained,
                                                   on_error, on_closed, on_readable };

/* The peer of `hand` is what tcp_kit's functions know; it is the first member. */
static void by_hand(struct hand *hand)
{
    weir_stream_set_sink(hand->peer.stream, &hand_sink, hand);
    weir_stream_hand(hand->peer.stream, true);
    weir_stream_read(hand->peer.stream, true);
}

static void test_take(void **state)
{
    struct peer a;
    struct hand b = { .take = false };
    char data[8];

    pair_tcp(&a, &b.peer);
    assert_true(weir_stream_plain(b.peer.stream));
    by_hand(&b);
    turns(3);
    assert_int_equal(b.readable, 0);
    assert_int_equal(put(&a, "hello", 5), 0);
    TURN_UNTIL(b.readable == 1);
    assert_int_equal(b.peer.received, 0);
    assert_int_equal(weir_stream_take(b.peer.stream, data, 8, MSG_PEEK), 5);
    assert_int_equal(weir_stream_take(b.peer.stream, data, 2, 0), 2);
    assert_memory_equal(data, "he", 2);
    assert_int_equal(weir_stream_take(b.peer.stream, data, 8, 0), 3);
    assert_int_equal(weir_stream_take(b.peer.stream, data, 8, 0), 0);
    /* what was not taken is told again when reading is asked for again */
    assert_int_equal(put(&a, "again", 5), 0);
    TURN_UNTIL(b.readable == 2);
    weir_stream_read(b.peer.stream, true);
    TURN_UNTIL(b.readable == 3);
    weir_stream_read(b.peer.stream, false);
    turns(3);
    assert_int_equal(b.readable, 3);
    /* and in the backend's hands it is data */
    weir_stream_hand(b.peer.stream, false);
    weir_stream_read(b.peer.stream, true);
    TURN_UNTIL(b.peer.received == 5);
    assert_memory_equal(b.peer.last, "again", 5);
    close_both(&a, &b.peer);
}

static void test_ends(void **state)
{
    for (int reset = 0; reset < 2; reset++) {
        struct peer a;
        struct hand b = { .take = true };

        pair_tcp(&a, &b.peer);
        by_hand(&b);
        assert_int_equal(put(&a, "last words", 10), 0);
        TURN_UNTIL(b.peer.received == 10);
        peer_close(&a, reset);
        TURN_UNTIL(reset ? b.peer.errors == 1 : b.peer.eofs == 1);
        turns(5);
        assert_int_equal(b.peer.eofs, !reset);
        assert_int_equal(b.peer.errors, reset);
        if (reset)
            assert_int_equal(b.peer.err, WEIR_ERESET);
        close_both(&a, &b.peer);
    }
}

/* FIN together with the bytes before it: those first. */
static void test_end_behind_bytes(void **state)
{
    struct peer a;
    struct hand b = { .take = true };

    pair_tcp(&a, &b.peer);
    assert_int_equal(put(&a, "x", 1), 0);
    weir_stream_shutdown(a.stream);
    turns(2);
    by_hand(&b);
    TURN_UNTIL(b.peer.eofs == 1);
    assert_int_equal(b.peer.received, 1);
    close_both(&a, &b.peer);
}

enum { MANY = 8 << 20 };

/* a ─▶ b, by hand, through a pipe ─▶ c ─▶ d, which begins to read late: nothing is lost, and it ends. */
static void test_splice(void **state)
{
    struct peer a, c, d;
    struct hand b = { .take = false };
    static char block[65536];
    size_t sent = 0;

    assert_int_equal(pipe2(b.pipe, O_CLOEXEC | O_NONBLOCK), 0);
    pair_tcp(&a, &b.peer);
    pair_tcp(&c, &d);
    b.to = c.stream;
    by_hand(&b);
    /* c tells b when there is room */
    while (sent < MANY) {
        if (weir_stream_pending(a.stream) < WEIR_STREAM_HIGH_BYTES) {
            assert_int_equal(put(&a, block, sizeof(block)), 0);
            sent += sizeof(block);
        }
        turns(1);
        if (c.drained) {
            c.drained = 0;
            drain_pipe(&b);
        }
        if (b.in_pipe) /* it is stuck: now somebody reads */
            weir_stream_read(d.stream, true);
    }
    weir_stream_read(d.stream, true);
    for (int i = 0; i < TURNS_MAX && d.received < MANY; i++) {
        weir_loop_turn(&loop, 10);
        if (c.drained) {
            c.drained = 0;
            drain_pipe(&b);
        }
    }
    assert_int_equal(d.received, MANY);
    assert_int_equal(b.moved, MANY);
    close(b.pipe[0]);
    close(b.pipe[1]);
    close_both(&a, &b.peer);
    close_both(&c, &d);
}

/* What cannot be spliced says so, and nothing has happened. */
static void test_refused(void **state)
{
    struct peer a;
    struct hand b = { .take = false };
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC); /* no pipe */
    char data[8];

    pair_tcp(&a, &b.peer);
    by_hand(&b);
    assert_int_equal(put(&a, "x", 1), 0);
    TURN_UNTIL(b.readable == 1);
    assert_int_equal(weir_stream_splice_in(b.peer.stream, fd, 10), -EINVAL);
    assert_int_equal(weir_stream_take(b.peer.stream, data, 8, 0), 1);
    close(fd);
    close_both(&a, &b.peer);
}

/* By hand from inside of on_data: that was the last one. */
static void on_data_switch(void *arg, const uint8_t *data, size_t len)
{
    struct hand *hand = arg;
    struct weir_stream *stream = hand->peer.stream;

    on_data(&hand->peer, data, len);
    weir_stream_hand(stream, true);
}

static void test_inside_on_data(void **state)
{
    struct weir_stream_sink sinks = hand_sink;
    static char block[400000];
    struct peer a;
    struct hand b = { .take = true };
    size_t first;

    sinks.on_data = on_data_switch;
    pair_tcp(&a, &b.peer);
    assert_int_equal(put(&a, block, sizeof(block)), 0);
    turns(2);
    weir_stream_set_sink(b.peer.stream, &sinks, &b);
    weir_stream_read(b.peer.stream, true);
    TURN_UNTIL(b.peer.received > 0);
    first = b.peer.largest;
    TURN_UNTIL(b.peer.received == sizeof(block));
    assert_int_equal(b.peer.largest, first); /* one on_data */
    assert_true(b.readable > 0);
    close_both(&a, &b.peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_take),   TEST(test_ends),    TEST(test_end_behind_bytes),
        TEST(test_splice), TEST(test_refused), TEST(test_inside_on_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
