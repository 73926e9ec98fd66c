/* SPDX-License-Identifier: Apache-2.0 */
/** test_tcp.c: streams over socket pairs and loopback: every ending, back-pressure, moving between loops. */
#include "base/panic.h"
#include "net/listener.h"
#include "net/tcp.h"
#include "weir/limits.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

enum { TURNS_MAX = 200000, BULK_BYTES = 64 << 20 };

/* What happened to a stream, and when it is to be closed from inside. */
struct peer {
    struct weir_stream *stream;
    size_t received, drained;
    int opened, eofs, errors, closed;
    enum weir_err err;
    int sys;
    enum { IN_NOTHING, IN_DATA, IN_EOF, IN_DRAINED, IN_ERROR, IN_OPEN } close_in;
    char last[64];
    size_t last_len;
};

static struct weir_loop loop;

static int setup(void **state)
{
    return weir_loop_init(&loop, 0, NULL);
}

static int teardown(void **state)
{
    weir_loop_fini(&loop);
    return 0;
}

static void peer_close(struct peer *peer, bool reset)
{
    weir_stream_close(weir_take(&peer->stream), reset);
}

static void maybe_close(struct peer *peer, int where)
{
    if ((int)peer->close_in == where && peer->stream)
        peer_close(peer, false);
}

static void on_open(void *arg)
{
    struct peer *peer = arg;

    peer->opened++;
    maybe_close(peer, IN_OPEN);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct peer *peer = arg;

    assert_non_null(peer->stream);
    peer->received += len;
    peer->last_len = len < sizeof(peer->last) ? len : sizeof(peer->last);
    memcpy(peer->last, data, peer->last_len);
    maybe_close(peer, IN_DATA);
}

static void on_eof(void *arg)
{
    struct peer *peer = arg;

    assert_non_null(peer->stream);
    peer->eofs++;
    maybe_close(peer, IN_EOF);
}

static void on_drained(void *arg)
{
    struct peer *peer = arg;

    assert_non_null(peer->stream);
    assert_int_equal(weir_stream_pending(peer->stream), 0);
    peer->drained++;
    maybe_close(peer, IN_DRAINED);
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    struct peer *peer = arg;

    assert_non_null(peer->stream);
    peer->errors++;
    peer->err = err;
    peer->sys = sys;
    maybe_close(peer, IN_ERROR);
}

static void on_closed(void *arg)
{
    struct peer *peer = arg;

    peer->closed++;
}

static const struct weir_stream_sink sink = { on_open, on_data, on_eof, on_drained, on_error, on_closed };

#define TURN_UNTIL(cond)                                      \
    do {                                                      \
        for (int turn_ = 0; turn_ < TURNS_MAX && !(cond); turn_++) \
            weir_loop_turn(&loop, 10);                        \
        assert_true(cond);                                    \
    } while (0)

static void turns(int count)
{
    while (count-- > 0)
        weir_loop_turn(&loop, 0);
}

static void pair(struct peer *a, struct peer *b)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    *a = *b = (struct peer){ 0 };
    a->stream = weir_tcp_adopt(&loop, fds[0], &sink, a);
    b->stream = weir_tcp_adopt(&loop, fds[1], &sink, b);
    assert_non_null(a->stream);
    assert_non_null(b->stream);
}

static int put(struct peer *peer, const void *data, size_t len)
{
    struct iovec iov = { (void *)data, len };

    return weir_stream_write(peer->stream, &iov, 1);
}

static void close_both(struct peer *a, struct peer *b)
{
    if (a->stream)
        peer_close(a, false);
    if (b->stream)
        peer_close(b, false);
    TURN_UNTIL(a->closed == 1 && b->closed == 1);
}

static void test_hello(void **state)
{
    struct peer a, b;
    struct iovec iov[3] = { { "he", 2 }, { "", 0 }, { "llo", 3 } };

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
