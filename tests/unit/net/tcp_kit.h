/* SPDX-License-Identifier: Apache-2.0 */
/** tcp_kit.h: a loop, and peers on it that note what happens to their stream, for the tests of
 * tcp.c. */
#ifndef TESTS_TCP_KIT_H
#define TESTS_TCP_KIT_H

#include "base/panic.h"
#include "net/listener.h"
#include "net/tcp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { TURNS_MAX = 200000 };

/* What happened to a stream, and when it is to be closed from inside. */
struct peer {
    struct weir_stream *stream;
    size_t received, largest, drained;
    int opened, eofs, errors, closed;
    enum weir_err err;
    int sys;
    enum { IN_NOTHING, IN_DATA, IN_EOF, IN_DRAINED, IN_ERROR, IN_OPEN } close_in;
    char last[64];
    size_t last_len;
};

static struct weir_loop loop;

static inline int setup(void **state)
{
    return weir_loop_init(&loop, 0, NULL);
}

static inline int teardown(void **state)
{
    weir_loop_fini(&loop);
    return 0;
}

static inline void peer_close(struct peer *peer, bool reset)
{
    weir_stream_close(weir_take(&peer->stream), reset);
}

static inline void maybe_close(struct peer *peer, int where)
{
    if ((int)peer->close_in == where && peer->stream)
        peer_close(peer, false);
}

static inline void on_open(void *arg)
{
    struct peer *peer = arg;

    peer->opened++;
    maybe_close(peer, IN_OPEN);
}

static inline void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct peer *peer = arg;

    assert_non_null(peer->stream);
    peer->received += len;
    if (peer->largest < len)
        peer->largest = len;
    peer->last_len = len < sizeof(peer->last) ? len : sizeof(peer->last);
    memcpy(peer->last, data, peer->last_len);
    maybe_close(peer, IN_DATA);
}

static inline void on_eof(void *arg)
{
    struct peer *peer = arg;

    assert_non_null(peer->stream);
    peer->eofs++;
    maybe_close(peer, IN_EOF);
}

static inline void on_drained(void *arg)
{
    struct peer *peer = arg;

    assert_non_null(peer->stream);
    assert_int_equal(weir_stream_pending(peer->stream), 0);
    peer->drained++;
    maybe_close(peer, IN_DRAINED);
}

static inline void on_error(void *arg, enum weir_err err, int sys)
{
    struct peer *peer = arg;

    assert_non_null(peer->stream);
    peer->errors++;
    peer->err = err;
    peer->sys = sys;
    maybe_close(peer, IN_ERROR);
}

static inline void on_closed(void *arg)
{
    struct peer *peer = arg;

    peer->closed++;
}

static const struct weir_stream_sink sink = { on_open,    on_data,  on_eof,
                                              on_drained, on_error, on_closed };

#define TURN_UNTIL(cond)                                           \
    do {                                                           \
        for (int turn_ = 0; turn_ < TURNS_MAX && !(cond); turn_++) \
            weir_loop_turn(&loop, 10);                             \
        assert_true(cond);                                         \
    } while (0)

static inline void turns(int count)
{
    while (count-- > 0)
        weir_loop_turn(&loop, 0);
}

static inline void pair(struct peer *a, struct peer *b)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    *a = *b = (struct peer){ 0 };
    a->stream = weir_tcp_adopt(&loop, fds[0], &sink, a);
    b->stream = weir_tcp_adopt(&loop, fds[1], &sink, b);
    assert_non_null(a->stream);
    assert_non_null(b->stream);
}

static inline int put(struct peer *peer, const void *data, size_t len)
{
    struct iovec iov = { (void *)data, len };

    return weir_stream_write(peer->stream, &iov, 1);
}

static inline void close_both(struct peer *a, struct peer *b)
{
    if (a->stream)
        peer_close(a, false);
    if (b->stream)
        peer_close(b, false);
    TURN_UNTIL(a->closed == 1 && b->closed == 1);
}

/* A listening socket on loopback and its address. */
static inline int listen_loopback(struct weir_addr *addr, int backlog)
{
    struct weir_listen_opts opts = { .backlog = backlog };
    int fd;

    assert_int_equal(weir_addr_parse(addr, weir_str("127.0.0.1:0")), 0);
    fd = weir_listen_open(addr, &opts);
    assert_true(fd >= 0);
    addr->len = sizeof(addr->in);
    assert_int_equal(getsockname(fd, &addr->sa, &addr->len), 0);
    return fd;
}

static inline void dial(struct peer *peer, const struct weir_addr *addr, uint32_t timeout_ms)
{
    struct weir_tcp_opts opts = { .connect_timeout_ms = timeout_ms };
    int sys = -1;

    *peer = (struct peer){ 0 };
    peer->stream = weir_tcp_connect(&loop, addr, &opts, &sink, peer, &sys);
    assert_non_null(peer->stream);
    assert_int_equal(sys, 0);
}

/* Two streams over loopback TCP; `a` has connected. */
static inline void pair_tcp(struct peer *a, struct peer *b)
{
    struct weir_addr addr;
    int lfd = listen_loopback(&addr, 16), fd;

    dial(a, &addr, 0);
    TURN_UNTIL(a->opened == 1);
    *b = (struct peer){ 0 };
    fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    b->stream = weir_tcp_adopt(&loop, fd, &sink, b);
    assert_non_null(b->stream);
    close(lfd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
