/* SPDX-License-Identifier: Apache-2.0 */
/** test_tcp.c: streams over socket pairs and loopback: every ending, back-pressure, moving between
 * loops. */
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

static const struct weir_stream_sink sink = { on_open,    on_data,  on_eof,
                                              on_drained, on_error, on_closed };

#define TURN_UNTIL(cond)                                           \
    do {                                                           \
        for (int turn_ = 0; turn_ < TURNS_MAX && !(cond); turn_++) \
            weir_loop_turn(&loop, 10);                             \
        assert_true(cond);                                         \
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

/* A listening socket on loopback and its address. */
static int listen_loopback(struct weir_addr *addr, int backlog)
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

static void dial(struct peer *peer, const struct weir_addr *addr, uint32_t timeout_ms)
{
    struct weir_tcp_opts opts = { .connect_timeout_ms = timeout_ms };
    int sys = -1;

    *peer = (struct peer){ 0 };
    peer->stream = weir_tcp_connect(&loop, addr, &opts, &sink, peer, &sys);
    assert_non_null(peer->stream);
    assert_int_equal(sys, 0);
}

/* Two streams over loopback TCP; `a` has connected. */
static void pair_tcp(struct peer *a, struct peer *b)
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

static void test_connect(void **state)
{
    struct peer a, b;
    struct weir_addr addr;
    int lfd = listen_loopback(&addr, 16), fd;

    dial(&a, &addr, 0);
    assert_int_equal(put(&a, "early", 5), 0); /* before it is connected */
    assert_int_equal(weir_stream_pending(a.stream), 5);
    assert_int_equal(a.opened, 0);
    TURN_UNTIL(a.opened == 1 && a.drained == 1);
    fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK);
    b = (struct peer){ 0 };
    b.stream = weir_tcp_adopt(&loop, fd, &sink, &b);
    weir_stream_read(b.stream, true);
    TURN_UNTIL(b.received == 5);
    assert_int_equal(loop.tcp_extras.used, 0);
    assert_int_equal(loop.wheel.armed, 0);
    close(lfd);
    close_both(&a, &b);
}

static void test_connect_unix(void **state)
{
    struct weir_listen_opts opts = { .backlog = 4, .mode = 0600 };
    struct weir_addr addr;
    struct peer a;
    char text[96];
    int lfd;

    snprintf(text, sizeof(text), "unix:/tmp/weir-test-tcp-%d.sock", getpid());
    assert_int_equal(weir_addr_parse(&addr, weir_str(text)), 0);
    lfd = weir_listen_open(&addr, &opts);
    assert_true(lfd >= 0);
    dial(&a, &addr, 0);
    assert_int_equal(a.opened, 0);
    TURN_UNTIL(a.opened == 1);
    peer_close(&a, false);
    TURN_UNTIL(a.closed == 1);
    close(lfd);
    unlink(text + 5);
}

static void test_connect_refused(void **state)
{
    struct weir_addr addr;
    struct peer a;
    int lfd = listen_loopback(&addr, 1), sys = 0;

    close(lfd);
    dial(&a, &addr, 0);
    assert_int_equal(put(&a, "lost", 4), 0);
    TURN_UNTIL(a.errors == 1);
    assert_int_equal(a.err, WEIR_ECONNREFUSED);
    assert_int_equal(a.opened, 0);
    peer_close(&a, false);
    TURN_UNTIL(a.closed == 1);

    assert_int_equal(weir_addr_parse(&addr, weir_str("unix:/nonexistent/weir.sock")), 0);
    assert_null(weir_tcp_connect(&loop, &addr, NULL, &sink, &a, &sys));
    assert_int_equal(sys, ENOENT);
}

/* A listener whose queue is full drops the SYN. */
static void test_connect_times_out(void **state)
{
    struct weir_addr addr;
    struct peer fill[4], last;
    int lfd = listen_loopback(&addr, 0);

    for (int i = 0; i < 4; i++)
        dial(&fill[i], &addr, 30 * 1000);
    for (int i = 0; i < 5; i++)
        weir_loop_turn(&loop, 5);
    dial(&last, &addr, 60);
    assert_int_equal(put(&last, "never", 5), 0);
    TURN_UNTIL(last.errors == 1);
    assert_int_equal(last.err, WEIR_ECONNTIME);
    assert_int_equal(last.opened, 0);
    peer_close(&last, false);
    for (int i = 0; i < 4; i++)
        peer_close(&fill[i], false); /* also while they connect */
    TURN_UNTIL(last.closed + fill[0].closed + fill[1].closed + fill[2].closed + fill[3].closed ==
               5);
    assert_int_equal(loop.wheel.armed, 0);
    close(lfd);
}

static void test_source(void **state)
{
    struct weir_addr addr, source, seen;
    struct weir_tcp_opts opts = { .source = &source };
    struct peer a = { 0 };
    int lfd = listen_loopback(&addr, 4), fd, sys = 0;

    assert_int_equal(weir_addr_parse(&source, weir_str("127.0.0.77:0")), 0);
    a.stream = weir_tcp_connect(&loop, &addr, &opts, &sink, &a, &sys);
    assert_non_null(a.stream);
    TURN_UNTIL(a.opened == 1);
    seen.len = sizeof(seen.in);
    fd = accept4(lfd, &seen.sa, &seen.len, SOCK_NONBLOCK);
    assert_true(fd >= 0);
    assert_int_equal(seen.in.sin_addr.s_addr, source.in.sin_addr.s_addr);
    peer_close(&a, false);
    TURN_UNTIL(a.closed == 1);
    close(fd);

    assert_int_equal(weir_addr_parse(&source, weir_str("192.0.2.1:0")), 0);
    assert_null(weir_tcp_connect(&loop, &addr, &opts, &sink, &a, &sys));
    assert_int_equal(sys, EADDRNOTAVAIL);
    close(lfd);
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

/* A full socket: the rest goes when there is room, and reading on and off in callbacks loses
 * nothing. */
static void test_release_refused(void **state)
{
    static char big[4 << 20];
    struct weir_parcel parcel;
    struct peer a, b;

    pair(&a, &b);
    assert_int_equal(put(&a, big, sizeof(big)), 0);
    assert_false(weir_stream_release(a.stream, &parcel)); /* pending */
    turns(2);
    assert_false(weir_stream_release(b.stream, &parcel)); /* unread */
    weir_stream_read(b.stream, true);
    TURN_UNTIL(b.received == sizeof(big));
    turns(3);
    assert_true(weir_stream_release(b.stream, &parcel));
    TURN_UNTIL(b.closed == 1);
    b = (struct peer){ 0 };
    b.stream = weir_tcp_adopt(&loop, parcel.fd, &sink, &b);
    weir_stream_read(b.stream, true);
    assert_int_equal(put(&a, "again", 5), 0);
    TURN_UNTIL(b.received == 5);
    close_both(&a, &b);
}

/* A stream goes to and fro between two loops in two threads; each reads a byte and passes it on. */
struct hop {
    struct weir_loop loop;
    struct hop *other;
    pthread_t thread;
    struct weir_mail mail;
    struct weir_parcel parcel;
    struct weir_stream *stream;
    int hops, left;
    _Atomic bool *done;
};

static void hop_data(void *arg, const uint8_t *data, size_t len);
static void hop_closed(void *arg);
static void hop_error(void *arg, enum weir_err err, int sys)
{
    fail_msg("%s %d", weir_err_name(err), sys);
}
static void hop_eof(void *arg)
{
    struct hop *hop = arg;

    weir_stream_close(weir_take(&hop->stream), false);
    hop->left = 0;
}
static const struct weir_stream_sink hop_sink = { NULL, hop_data,  hop_eof,
                                                  NULL, hop_error, hop_closed };

static void hop_adopt(struct weir_loop *on, void *arg)
{
    struct hop *hop = arg;

    hop->stream = weir_tcp_adopt(on, hop->parcel.fd, &hop_sink, hop);
    assert_non_null(hop->stream);
    weir_stream_read(hop->stream, true);
}

/* The byte is echoed, then the stream leaves. */
static void hop_data(void *arg, const uint8_t *data, size_t len)
{
    struct hop *hop = arg;
    struct iovec iov = { (void *)data, len };

    hop->hops++;
    assert_true(weir_stream_release(hop->stream, &hop->other->parcel));
    assert_int_equal(write(hop->other->parcel.fd, iov.iov_base, iov.iov_len), len);
    hop->left = 1;
}

static void hop_closed(void *arg)
{
    struct hop *hop = arg;

    if (hop->left) {
        hop->stream = NULL;
        hop->other->mail = (struct weir_mail){ .fn = hop_adopt, .arg = hop->other };
        weir_loop_post(&hop->other->loop, &hop->other->mail);
        return;
    }
    atomic_store(hop->done, true);
    weir_loop_stop(&hop->loop);
    weir_loop_stop(&hop->other->loop);
}

static void *hop_thread(void *arg)
{
    weir_loop_run(&((struct hop *)arg)->loop);
    return NULL;
}

static void test_moves_between_loops(void **state)
{
    _Atomic bool done = false;
    static struct hop hops[2];
    int fds[2];
    char byte = 0;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        hops[i] = (struct hop){ .other = &hops[!i], .done = &done };
        assert_int_equal(weir_loop_init(&hops[i].loop, (unsigned)i, NULL), 0);
    }
    hops[0].parcel.fd = fds[1];
    hops[0].mail = (struct weir_mail){ .fn = hop_adopt, .arg = &hops[0] };
    for (int i = 0; i < 2; i++)
        pthread_create(&hops[i].thread, NULL, hop_thread, &hops[i]);
    weir_loop_post(&hops[0].loop, &hops[0].mail);
    for (int i = 0; i < 1000; i++) {
        struct pollfd wait = { .fd = fds[0], .events = POLLIN };

        assert_int_equal(write(fds[0], &byte, 1), 1);
        assert_int_equal(poll(&wait, 1, 5000), 1);
        assert_int_equal(read(fds[0], &byte, 1), 1);
        byte++;
    }
    close(fds[0]);
    for (int i = 0; i < 2; i++)
        pthread_join(hops[i].thread, NULL);
    assert_true(atomic_load(&done));
    assert_int_equal(hops[0].hops + hops[1].hops, 1000);
    for (int i = 0; i < 2; i++)
        weir_loop_fini(&hops[i].loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hello, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bulk_unix, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bulk_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shutdown_after_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_while_not_reading, setup, teardown),
        cmocka_unit_test_setup_teardown(test_send_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connect_unix, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connect_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connect_times_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_source, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_in_callbacks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_other_in_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_release_refused, setup, teardown),
        cmocka_unit_test(test_moves_between_loops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
