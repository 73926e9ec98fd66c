/* SPDX-License-Identifier: Apache-2.0 */
/** test_listener.c: opening listening sockets, and accepting, also when descriptors have run out.
 */
#include "net/listener.h"
#include "base/clock.h"
#include "weir/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { CLIENTS = 200 };

static struct weir_loop loop;
static int accepted[CLIENTS], accepted_count, accepted_turn_max, fails, fail_sys, stop_after;
static bool bad_peer;

static int setup(void **state)
{
    accepted_count = fails = stop_after = accepted_turn_max = 0;
    bad_peer = false;
    return weir_loop_init(&loop, 0, NULL);
}

static int teardown(void **state)
{
    for (int i = 0; i < accepted_count; i++)
        close(accepted[i]);
    weir_loop_fini(&loop);
    return 0;
}

static void on_accept(struct weir_lsock *lsock, int fd, const struct sockaddr *peer, socklen_t len)
{
    bad_peer |= peer->sa_family != AF_INET || len != sizeof(struct sockaddr_in);
    accepted[accepted_count++] = fd;
    if (accepted_count == stop_after)
        assert_int_equal(weir_listen_serve(lsock->loop, lsock, false), 0);
}

static void on_fail(struct weir_lsock *lsock, int sys)
{
    fails++;
    fail_sys = sys;
}

static int open_text(const char *text, const struct weir_listen_opts *opts)
{
    struct weir_addr addr;

    assert_int_equal(weir_addr_parse(&addr, weir_str(text)), 0);
    return weir_listen_open(&addr, opts);
}

static struct weir_addr addr_of(int fd)
{
    struct weir_addr addr = { .len = sizeof(addr.un) };

    assert_int_equal(getsockname(fd, &addr.sa, &addr.len), 0);
    return addr;
}

static int dial(const struct weir_addr *addr)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, &addr->sa, addr->len)) {
        close(fd);
        return -errno;
    }
    return fd;
}

static int int_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    getsockopt(fd, level, name, &value, &len);
    return value;
}

static void test_options(void **state)
{
    struct weir_listen_opts opts = { .backlog = 8, .reuseport = true, .freebind = true };
    int fd = open_text("192.0.2.99:0", &opts); /* not an address of this host */

    assert_true(fd >= 0);
    assert_true(int_option(fd, SOL_SOCKET, SO_REUSEPORT) > 0);
    assert_true(int_option(fd, IPPROTO_TCP, TCP_NODELAY) > 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    fd = open_text("[2001:db8::99]:0", &opts);
    assert_true(fd >= 0 || fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL);
    if (fd >= 0)
        close(fd);
    opts.freebind = false;
    assert_int_equal(open_text("192.0.2.99:0", &opts), -EADDRNOTAVAIL);
}

static void test_in_use(void **state)
{
    struct weir_listen_opts opts = { .backlog = 8 };
    int fd = open_text("127.0.0.1:0", &opts), again;
    struct weir_addr addr = addr_of(fd);

    assert_int_equal(weir_listen_open(&addr, &opts), -EADDRINUSE);
    close(fd);
    opts.reuseport = true;
    fd = weir_listen_open(&addr, &opts);
    again = weir_listen_open(&addr, &opts);
    assert_true(fd >= 0 && again >= 0);
    close(fd);
    close(again);
}

/* ":port" takes v4 as well; "[::]:port" does not. */
static void test_dual(void **state)
{
    struct weir_listen_opts opts = { .backlog = 8 };
    struct weir_addr v4;
    int fd = open_text(":0", &opts), client;

    assert_true(fd >= 0);
    assert_int_equal(weir_addr_parse(&v4, weir_str("127.0.0.1:1")), 0);
    v4.in.sin_port = htons(weir_addr_port(&(struct weir_addr){ .len = 1, .in6 = addr_of(fd).in6 }));
    client = dial(&v4);
    assert_true(client >= 0);
    close(client);
    close(fd);
    fd = open_text("[::]:0", &opts);
    if (fd == -EAFNOSUPPORT)
        return; /* a host without IPv6 */
    assert_int_equal(int_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    close(fd);
}

static void test_unix(void **state)
{
    struct weir_listen_opts opts = { .backlog = 8, .mode = 0620 };
    char text[96];
    struct stat st;
    int fd, other;

    snprintf(text, sizeof(text), "unix:/tmp/weir-test-listener-%d.sock", getpid());
    fd = open_text(text, &opts);
    assert_true(fd >= 0);
    assert_int_equal(stat(text + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0620);
    assert_int_equal(open_text(text, &opts), -EADDRINUSE); /* it is served */
    close(fd);
    fd = open_text(text, &opts); /* a stale one is replaced */
    assert_true(fd >= 0);
    close(fd);
    unlink(text + 5);
    other = open(text + 5, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(open_text(text, &opts), -EADDRINUSE); /* a file of someone else is not */
    close(other);
    unlink(text + 5);
    assert_int_equal(open_text("unix:/nonexistent/weir.sock", &opts), -ENOENT);
}

static void serve(struct weir_lsock *lsock, struct weir_addr *addr)
{
    struct weir_listen_opts opts = { .backlog = 1024 };

    *lsock = (struct weir_lsock){ .on_accept = on_accept, .on_fail = on_fail };
    lsock->fd = open_text("127.0.0.1:0", &opts);
    assert_true(lsock->fd >= 0);
    *addr = addr_of(lsock->fd);
    assert_int_equal(weir_listen_serve(&loop, lsock, true), 0);
}

static void test_accept(void **state)
{
    struct weir_lsock lsock;
    struct weir_addr addr;
    int clients[CLIENTS];

    serve(&lsock, &addr);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = dial(&addr);
    for (int i = 0; i < 100 && accepted_count < CLIENTS; i++) {
        int before = accepted_count;

        weir_loop_turn(&loop, 100);
        if (accepted_count - before > accepted_turn_max)
            accepted_turn_max = accepted_count - before;
    }
    assert_int_equal(accepted_count, CLIENTS);
    assert_false(bad_peer);
    assert_true(accepted_turn_max > 1);
    assert_true(accepted_turn_max <= WEIR_ACCEPTS_TURN_MAX);
    assert_true(fcntl(accepted[0], F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(accepted[0], F_GETFD) & FD_CLOEXEC);
    assert_true(int_option(accepted[0], IPPROTO_TCP, TCP_NODELAY) > 0);
    assert_true(int_option(accepted[0], SOL_SOCKET, SO_KEEPALIVE) > 0); /* who is gone is found */
    assert_int_equal(int_option(accepted[0], IPPROTO_TCP, TCP_KEEPIDLE), WEIR_TCP_KEEPALIVE_S);
    assert_int_equal(int_option(accepted[0], IPPROTO_TCP, TCP_KEEPINTVL), WEIR_TCP_PROBE_S);
    assert_int_equal(int_option(accepted[0], IPPROTO_TCP, TCP_KEEPCNT), WEIR_TCP_PROBES);
    assert_int_equal(weir_listen_serve(&loop, &lsock, false), 0);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    close(lsock.fd);
}

static void test_stop_in_callback(void **state)
{
    struct weir_lsock lsock;
    struct weir_addr addr;
    int clients[4];

    serve(&lsock, &addr);
    stop_after = 2;
    for (int i = 0; i < 4; i++)
        clients[i] = dial(&addr);
    for (int i = 0; i < 10; i++)
        weir_loop_turn(&loop, 1);
    assert_int_equal(accepted_count, 2);
    assert_int_equal(weir_listen_serve(&loop, &lsock, true),
                     0); /* the descriptor was kept: go on */
    stop_after = 0;
    for (int i = 0; i < 10; i++)
        weir_loop_turn(&loop, 1);
    assert_int_equal(accepted_count, 4);
    assert_int_equal(weir_listen_serve(&loop, &lsock, false), 0);
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    close(lsock.fd);
}

/* No descriptor is left: told once a pause, no spinning, and it goes on when there is one. */
static void test_emfile(void **state)
{
    struct rlimit old, tight;
    struct weir_lsock lsock;
    struct weir_addr addr;
    uint64_t start;
    int client, turns = 0;

    serve(&lsock, &addr);
    client = dial(&addr);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    tight = old;
    tight.rlim_cur = (rlim_t)client + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    start = weir_clock_us();
    while (weir_clock_us() - start < 180 * 1000) {
        weir_loop_turn(&loop, 20);
        turns++;
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(fail_sys, EMFILE);
    assert_in_range(fails, 2, 5);
    assert_true(turns < 40);
    assert_int_equal(accepted_count, 0);
    for (int i = 0; i < 20 && !accepted_count; i++)
        weir_loop_turn(&loop, 20);
    assert_int_equal(accepted_count, 1);

    setrlimit(RLIMIT_NOFILE, &tight); /* stopping while it pauses */
    close(client);
    client = dial(&addr);
    weir_loop_turn(&loop, 20);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(weir_listen_serve(&loop, &lsock, false), 0);
    close(client);
    close(lsock.fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_options), TEST(test_in_use),           TEST(test_dual),   TEST(test_unix),
        TEST(test_accept),  TEST(test_stop_in_callback), TEST(test_emfile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
