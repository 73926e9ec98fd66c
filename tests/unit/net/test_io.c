/* SPDX-License-Identifier: Apache-2.0 */
/**
 * test_io.c: what the kernel says that is not so. The calls of the epoll backend are replaced by
 * ones that fail now and then without reason; not one byte and not one wake-up may be lost, and
 * nothing may spin.
 */
#include "base/clock.h"
#include "base/panic.h"
#include "net/tcp.h"
#include "weir/limits.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

enum { BULK_BYTES = 4 << 20, PINGS = 60 };

/* Every `every`th call fails with `sys`, at most `max` times; 0: none; 0: as often as that. */
struct fault {
    int every, sys, max, calls, failed;
};

static struct fault recv_fault, send_fault, wait_fault, ctl_fault;

static bool fails(struct fault *fault)
{
    if (!fault->every || ++fault->calls % fault->every)
        return false;
    if (fault->max && fault->failed == fault->max)
        return false;
    fault->failed++;
    errno = fault->sys;
    return true;
}

ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    if (fails(&recv_fault))
        return -1;
    return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
}

ssize_t send(int fd, const void *buf, size_t n, int flags)
{
    if (fails(&send_fault))
        return -1;
    return syscall(SYS_sendto, fd, buf, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (fails(&send_fault))
        return -1;
    return syscall(SYS_sendmsg, fd, message, flags);
}

int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout)
{
    if (fails(&wait_fault))
        return -1;
    return (int)syscall(SYS_epoll_pwait, epfd, events, maxevents, timeout, NULL, 8);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (fails(&ctl_fault))
        return -1;
    return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

struct end {
    struct weir_stream *stream;
    size_t sent, received;
    int pings, errors, closed, sys;
    bool echo;
};

static struct weir_loop loop;
static struct end ends[2];
static uint8_t block[16 * 1024];

static void end_send(struct end *end)
{
    while (end->sent < BULK_BYTES && weir_stream_pending(end->stream) < WEIR_STREAM_HIGH_BYTES) {
        struct iovec iov = { block, sizeof(block) };

        assert_int_equal(weir_stream_write(end->stream, &iov, 1), 0);
        end->sent += sizeof(block);
    }
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct end *end = arg;
    struct iovec iov = { (void *)data, len };

    end->received += len;
    if (end->echo || end->pings++ < PINGS)
        assert_int_equal(weir_stream_write(end->stream, &iov, 1), 0);
}

static void on_bulk(void *arg, const uint8_t *data, size_t len)
{
    ((struct end *)arg)->received += len;
}

static void on_nothing(void *arg)
{
}

static void on_bulk_drained(void *arg)
{
    end_send(arg);
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    struct end *end = arg;

    end->errors++;
    end->sys = sys;
}

static void on_closed(void *arg)
{
    ((struct end *)arg)->closed++;
}

static const struct weir_stream_sink ping_sink = { NULL,       on_data,  on_nothing,
                                                   on_nothing, on_error, on_closed };
static const struct weir_stream_sink bulk_sink = { NULL,     on_bulk,  on_nothing, on_bulk_drained,
                                                   on_error, on_closed };

static int setup(void **state)
{
    recv_fault = send_fault = wait_fault = ctl_fault = (struct fault){ 0 };
    return weir_loop_init(&loop, 0, NULL);
}

static int teardown(void **state)
{
    recv_fault = send_fault = wait_fault = ctl_fault = (struct fault){ 0 };
    for (int i = 0; i < 2; i++)
        if (ends[i].stream)
            weir_stream_close(weir_take(&ends[i].stream), false);
    weir_loop_fini(&loop);
    return 0;
}

static void pair(const struct weir_stream_sink *sink)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        ends[i] = (struct end){ .echo = i == 1 };
        ends[i].stream = weir_tcp_adopt(&loop, fds[i], sink, &ends[i]);
        assert_non_null(ends[i].stream);
        weir_stream_read(ends[i].stream, true);
    }
}

/* A ping to and fro: each wake-up is needed. A turn that waits a second has lost one. */
static void run_pings(void)
{
    struct iovec iov = { block, 1 };
    uint64_t start = weir_clock_us();

    pair(&ping_sink);
    assert_int_equal(weir_stream_write(ends[0].stream, &iov, 1), 0);
    while (ends[0].pings <= PINGS && ends[0].errors + ends[1].errors == 0 &&
           weir_clock_us() - start < 10 * 1000 * 1000)
        weir_loop_turn(&loop, 5000);
    assert_int_equal(ends[0].received, PINGS + 1);
    assert_int_equal(ends[1].received, PINGS + 1);
}

static void run_bulk(void)
{
    uint64_t start = weir_clock_us();

    pair(&bulk_sink);
    end_send(&ends[0]);
    while (ends[1].received < BULK_BYTES && weir_clock_us() - start < 10 * 1000 * 1000)
        weir_loop_turn(&loop, 5000);
    assert_int_equal(ends[1].received, BULK_BYTES);
    assert_int_equal(ends[0].errors + ends[1].errors, 0);
}

static void run_both(struct fault *fault, int sys)
{
    for (int every = 2; every <= 7; every++) {
        *fault = (struct fault){ .every = every, .sys = sys };
        run_pings();
        assert_true(fault->failed > 0);
        for (int i = 0; i < 2; i++)
            weir_stream_close(weir_take(&ends[i].stream), false);
        run_bulk();
        for (int i = 0; i < 2; i++)
            weir_stream_close(weir_take(&ends[i].stream), false);
        *fault = (struct fault){ 0 };
        weir_loop_turn(&loop, 0);
    }
}

static void test_recv(void **state)
{
    static const int errors[] = { EAGAIN, EINTR, ENOMEM, ENOBUFS };

    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
        run_both(&recv_fault, errors[i]);
}

static void test_send(void **state)
{
    static const int errors[] = { EAGAIN, EINTR, ENOMEM, ENOBUFS };

    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
        run_both(&send_fault, errors[i]);
}

static void test_wait(void **state)
{
    run_both(&wait_fault, EINTR);
}

/* EAGAIN several times on end, where no edge will come: also when the doubt itself can not be had. */
static void run_streak(struct fault *fault, int length, bool no_rearm)
{
    struct iovec iov = { block, 1 };
    uint64_t start = weir_clock_us();

    pair(&ping_sink);
    weir_loop_turn(&loop, 0); /* the edges of the registration are gone */
    *fault = (struct fault){ .every = 1, .sys = EAGAIN, .max = length };
    ctl_fault = (struct fault){ .every = no_rearm, .sys = ENOMEM };
    assert_int_equal(weir_stream_write(ends[0].stream, &iov, 1), 0);
    while (!ends[1].received && weir_clock_us() - start < 1000 * 1000)
        weir_loop_turn(&loop, 2000);
    assert_int_equal(ends[1].received, 1);
    assert_int_equal(fault->failed, length);
    *fault = ctl_fault = (struct fault){ 0 };
    for (int i = 0; i < 2; i++)
        weir_stream_close(weir_take(&ends[i].stream), false);
    weir_loop_turn(&loop, 0);
}

static void test_doubts(void **state)
{
    for (int length = 1; length <= 6; length++) {
        run_streak(&recv_fault, length, false);
        run_streak(&send_fault, length, false);
        run_streak(&recv_fault, length, true);
        run_streak(&send_fault, length, true);
    }
}

/* The kernel has no memory for a while: the loop tries again, at its own pace. */
static void test_starving_does_not_spin(void **state)
{
    struct iovec iov = { block, 1 };
    uint64_t start = weir_clock_us();
    int turns = 0;

    pair(&ping_sink);
    send_fault = (struct fault){ .every = 1, .sys = ENOBUFS };
    assert_int_equal(weir_stream_write(ends[0].stream, &iov, 1), 0);
    assert_int_equal(weir_stream_pending(ends[0].stream), 1);
    while (weir_clock_us() - start < 100 * 1000) {
        weir_loop_turn(&loop, 1000);
        turns++;
    }
    assert_in_range(turns, 10, 100);
    send_fault = (struct fault){ 0 };
    while (!ends[1].received && weir_clock_us() - start < 2000 * 1000)
        weir_loop_turn(&loop, 1000);
    assert_int_equal(ends[1].received, 1);
}

static void test_fatal(void **state)
{
    struct iovec iov = { block, 1 };

    pair(&ping_sink);
    recv_fault = (struct fault){ .every = 1, .sys = ECONNRESET };
    assert_int_equal(weir_stream_write(ends[0].stream, &iov, 1), 0);
    for (int i = 0; i < 10 && !ends[1].errors; i++)
        weir_loop_turn(&loop, 100);
    assert_int_equal(ends[1].errors, 1);
    assert_int_equal(ends[1].sys, ECONNRESET);
    recv_fault = (struct fault){ 0 };

    send_fault = (struct fault){ .every = 1, .sys = EPIPE };
    assert_int_equal(weir_stream_write(ends[0].stream, &iov, 1), 0);
    assert_int_equal(ends[0].errors, 0); /* never from inside the call */
    for (int i = 0; i < 10 && !ends[0].errors; i++)
        weir_loop_turn(&loop, 100);
    assert_int_equal(ends[0].errors, 1);
    assert_int_equal(ends[0].sys, EPIPE);
}

static void test_no_room_to_register(void **state)
{
    struct end end = { 0 };
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ctl_fault = (struct fault){ .every = 1, .sys = ENOSPC };
    assert_null(weir_tcp_adopt(&loop, fds[0], &ping_sink, &end));
    assert_int_equal(write(fds[0], "x", 1), -1); /* closed */
    assert_int_equal(errno, EBADF);
    assert_int_equal(loop.tcps.used, 0);
    close(fds[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_recv),
        TEST(test_send),
        TEST(test_wait),
        TEST(test_doubts),
        TEST(test_starving_does_not_spin),
        TEST(test_fatal),
    };
    const struct CMUnitTest quiet[] = { TEST(test_no_room_to_register) };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    ends[0].stream = ends[1].stream = NULL;
    return failed + cmocka_run_group_tests(quiet, NULL, NULL);
}
