/* SPDX-License-Identifier: Apache-2.0 */
/**
 * splice_kit.h: a loop with a splicer, and splices between peers that are plain descriptors: client ── (splice) ── server.
 * What a peer sends is a pattern by offset, and what it receives is checked against it, byte by byte.
 */
#ifndef TESTS_SPLICE_KIT_H
#define TESTS_SPLICE_KIT_H

#include "accel/pipes.h"
#include "accel/splice.h"
#include "base/panic.h"
#include "net/tcp.h"
#include "weir/limits.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { TURNS_MAX = 400000, PIECE_MAX = 256 * 1024, PERIOD = 251 * 256 };

/* One end of a connection, in the hands of the test. */
struct end {
    int fd;
    uint64_t sent, to_send, received, read_max; /* read_max: it stops reading there */
    bool eof, shut;
    int err;      /* of recv */
    size_t piece; /* sent at once */
};

/* A splice, its streams' other ends, and what its owner was told. */
struct lab {
    struct weir_splice_owner owner;
    struct weir_splice splice;
    struct end end[2];
    int over, closed, looks;
    enum weir_err err;
    unsigned side;
    uint64_t look_after;
};

static struct weir_loop loop;
static struct weir_splicer splicer;
static struct weir_splice_stats stats;
static struct weir_splice_budget budget;
static uint8_t pattern[2][PERIOD + PIECE_MAX];

static inline int setup(void **state)
{
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < sizeof(pattern[side]); i++)
            pattern[side][i] = (uint8_t)((i % 251) * (i / 251 % 256 + 1 + side));
    memset(&stats, 0, sizeof(stats));
    budget = (struct weir_splice_budget){ .max = 64 << 20 };
    if (weir_loop_init(&loop, 0, NULL))
        return -1;
    weir_splicer_init(&splicer, &loop, &budget, &stats);
    return 0;
}

static inline int teardown(void **state)
{
    weir_splicer_fini(&splicer);
    assert_int_equal(budget.used, 0);
    for (int i = 0; i < WEIR_MOVERS; i++)
        assert_int_equal(stats.active[i], 0);
    weir_loop_fini(&loop);
    return 0;
}

static inline void on_over(struct weir_splice_owner *owner, enum weir_err err, unsigned side)
{
    struct lab *lab = weir_container(owner, struct lab, owner);

    lab->over++;
    lab->err = err;
    lab->side = side;
    weir_splice_stop(&lab->splice);
    weir_stream_close(lab->splice.stream[0], err != WEIR_OK);
    weir_stream_close(lab->splice.stream[1], err != WEIR_OK);
}

static inline void on_closed(struct weir_splice_owner *owner, unsigned side)
{
    weir_container(owner, struct lab, owner)->closed++;
}

static inline void on_look(struct weir_splice_owner *owner)
{
    struct lab *lab = weir_container(owner, struct lab, owner);

    lab->looks++;
    weir_splice_look_after(&lab->splice, lab->look_after);
}

static const struct weir_splice_sink lab_sink = { on_over, on_closed, on_look };

/* Two connected descriptors over loopback TCP, or of a UNIX socket. */
static inline void connected(int fds[2], bool local)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(addr);
    int lfd, one = 1;

    if (local) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
                         0);
        return;
    }
    lfd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(lfd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(lfd, 1), 0);
    assert_int_equal(getsockname(lfd, (struct sockaddr *)&addr, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&addr, len), 0);
    fds[1] = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    close(lfd);
}

static inline void lab_open(struct lab *lab, enum weir_splice_policy policy, bool local)
{
    struct weir_splice_opts opts = { .policy = policy };

    *lab = (struct lab){ .owner = { &lab_sink }, .look_after = 1000 };
    for (unsigned side = 0; side < 2; side++) {
        int fds[2];

        connected(fds, local);
        lab->end[side] = (struct end){ .fd = fds[0], .read_max = UINT64_MAX, .piece = PIECE_MAX };
        opts.stream[side] = weir_tcp_adopt(&loop, fds[1], NULL, NULL);
        assert_non_null(opts.stream[side]);
    }
    weir_splice_start(&lab->splice, &lab->owner, &opts);
}

/* Sends and receives what can be now. `from`: the other end, whose pattern is expected. */
static inline void end_turn(struct end *end, unsigned side)
{
    static uint8_t data[PIECE_MAX];
    ssize_t n = 0;

    if (end->fd < 0)
        return;
    if (end->sent < end->to_send) {
        size_t want =
            end->piece < end->to_send - end->sent ? end->piece : (size_t)(end->to_send - end->sent);

        n = send(end->fd, pattern[side] + end->sent % PERIOD, want, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            end->sent += (uint64_t)n;
    }
    if (end->received >= end->read_max || end->eof || end->err)
        return;
    n = recv(end->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n > 0) {
        assert_memory_equal(data, pattern[!side] + end->received % PERIOD, (size_t)n);
        end->received += (uint64_t)n;
    } else if (n == 0) {
        end->eof = true;
    } else if (errno != EAGAIN) {
        end->err = errno;
    }
}

static inline void end_shut(struct end *end)
{
    end->shut = true;
    assert_int_equal(shutdown(end->fd, SHUT_WR), 0);
}

static inline void end_reset(struct end *end)
{
    struct linger linger = { 1, 0 };

    assert_int_equal(setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(end->fd);
    end->fd = -1;
}

static inline void lab_turn(struct lab *lab)
{
    weir_loop_turn(&loop, 0);
    end_turn(&lab->end[0], 0);
    end_turn(&lab->end[1], 1);
}

#define LAB_UNTIL(lab, cond)                                       \
    do {                                                           \
        for (int turn_ = 0; turn_ < TURNS_MAX && !(cond); turn_++) \
            lab_turn(lab);                                         \
        assert_true(cond);                                         \
    } while (0)

/* Whatever it is in, it ends, and leaves nothing. */
static inline void lab_close(struct lab *lab)
{
    for (unsigned side = 0; side < 2; side++)
        if (lab->end[side].fd >= 0)
            close(lab->end[side].fd);
    lab->end[0].fd = lab->end[1].fd = -1;
    if (!lab->over)
        on_over(&lab->owner, WEIR_ECANCELED, WEIR_SPLICE_US);
    for (int i = 0; i < 100 && lab->closed < 2; i++)
        weir_loop_turn(&loop, 0);
    assert_int_equal(lab->closed, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
