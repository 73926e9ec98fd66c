/* SPDX-License-Identifier: Apache-2.0 */
/** test_tcp_connect.c: connecting, and all that can come instead. */
#include "tcp_kit.h"

#include <errno.h>
#include <stdio.h>

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
    assert_int_equal(sys, ENXIO); /* not: no port is free */
    close(lfd);
}

/* What a connection begins with goes before what is written to it, whenever that is. */
static void test_first_bytes(void **state)
{
    struct weir_tcp_opts opts = { .first = WEIR_STR("first ") };
    struct weir_addr addr;
    int lfd = listen_loopback(&addr, 16), fd, sys = -1;
    char text[18] = "";
    struct peer a = { 0 };
    size_t have = 0;

    a.stream = weir_tcp_connect(&loop, &addr, &opts, &sink, &a, &sys);
    assert_non_null(a.stream);
    assert_int_equal(put(&a, "second ", 7), 0);
    TURN_UNTIL(a.opened == 1 && a.drained == 1);
    assert_int_equal(put(&a, "third", 5), 0);
    fd = accept4(lfd, NULL, NULL, 0);
    while (have < 18)
        have += (size_t)read(fd, text + have, sizeof(text) - have);
    assert_memory_equal(text, "first second third", 18);
    peer_close(&a, false);
    TURN_UNTIL(a.closed == 1);
    close(fd);
    close(lfd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_connect),           TEST(test_connect_unix), TEST(test_connect_refused),
        TEST(test_connect_times_out), TEST(test_source),       TEST(test_first_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
