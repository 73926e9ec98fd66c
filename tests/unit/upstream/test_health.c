/* SPDX-License-Identifier: Apache-2.0 */
/** test_health.c: servers go down and come up by what checks say; the log says why. */
#include "upstream_kit.h"

#include "weir/log.h"

#include <sys/resource.h>
#include <sys/socket.h>

/* What the proxy's connect() says (the linker's --wrap); 0: what the kernel says. */
static _Atomic int connect_errno;
static _Atomic uint16_t connect_port; /* only of this one; 0: of all */
static _Atomic bool connect_none;     /* also of datagram sockets: no address of ours reaches it */

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __real_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    uint16_t port = ntohs(((const struct sockaddr_in *)addr)->sin_port);
    int type = 0;

    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof(type) });
    if (!connect_errno || (type == SOCK_DGRAM && !connect_none) ||
        (connect_port && connect_port != port))
        return __real_connect(fd, addr, len);
    errno = connect_errno;
    return -1;
}

static struct weir_loop loop;
static struct fake fake;
static struct kit kit;
static struct weir_cluster_view *view;
static struct weir_server *server;
static char lines[4096];

static void on_line(void *arg, enum weir_log_level level, const char *line, size_t len)
{
    size_t have = strlen(lines);

    snprintf(lines + have, sizeof(lines) - have, "%.*s\n", (int)len, line);
}

static int setup(void **state)
{
    struct weir_log_opts opts = { .size = sizeof(opts), .level = WEIR_LOG_INFO, .fn = on_line };

    fake_start(&fake);
    call_opts = (struct weir_acquire_opts){ 0 };
    lines[0] = 0;
    kit_init(&kit, 1);
    kit.opts.log = weir_log_new(&opts);
    kit.conf.health =
        (struct weir_health_conf){ .every_ms = 20, .timeout_ms = 300, .rise = 2, .fall = 3 };
    return weir_loop_init(&loop, 0, NULL);
}

static int teardown(void **state)
{
    weir_cluster_stop(kit.cluster);
    kit_view_end(view, &loop);
    weir_loop_turn(&loop, 0);
    weir_loop_turn(&loop, 0);
    weir_loop_fini(&loop);
    weir_cluster_free(kit.cluster);
    weir_log_free(kit.opts.log);
    fake_stop(&fake);
    return 0;
}

static void open_all(void)
{
    kit_server_port(&kit, fake.port);
    kit_open(&kit);
    view = weir_cluster_view_new(kit.cluster, &loop, 0, NULL);
    server = &kit.cluster->servers[0];
    assert_int_equal(weir_cluster_start(kit.cluster, &loop, NULL), 0);
}

static void expect_line(const char *part)
{
    if (!strstr(lines, part))
        fail_msg("no line says '%s':\n%s", part, lines);
}

static void test_http(void **state)
{
    struct weir_server_status status;
    struct call call = { 0 };

    kit.conf.health.type = WEIR_HEALTH_HTTP;
    kit.conf.health.path = WEIR_STR("/status");
    kit.conf.health.expect = WEIR_STR("200-299, 404");
    open_all();
    assert_true(weir_server_is_up(server)); /* begins up */
    kit_until(&loop, atomic_load(&fake.requests) >= 3);
    assert_true(weir_server_is_up(server));
    call_run(&call, view, server, "/");
    call_fini(&call);
    atomic_store(&fake.status, 503);
    kit_until(&loop, !weir_server_is_up(server));
    expect_line("upstream app: server 127.0.0.1:");
    expect_line("is down: it answers 503 (3 checks in a row); it was up for ");
    weir_server_get_status(server, &status);
    assert_string_equal(status.last_fault, "it answers 503");
    assert_false(status.up);
    kit_until(&loop,
              (weir_server_get_status(server, &status), status.idle == 0)); /* idle ones go */
    atomic_store(&fake.status, 404);
    kit_until(&loop, weir_server_is_up(server));
    expect_line("is up: 2 good checks in a row; it was down for ");
    weir_server_get_status(server, &status);
    assert_string_equal(status.last_fault, "");
}

static void test_http_that_is_none(void **state)
{
    kit.conf.health.type = WEIR_HEALTH_HTTP;
    kit.conf.health.path = WEIR_STR("/reset");
    open_all();
    kit_until(&loop, !weir_server_is_up(server));
    expect_line("is down: the upstream reset the connection");
}

static void test_silence(void **state)
{
    kit.conf.health.type = WEIR_HEALTH_HTTP;
    kit.conf.health.path = WEIR_STR("/hang");
    kit.conf.health.timeout_ms = 30;
    open_all();
    kit_until(&loop, !weir_server_is_up(server));
    expect_line("is down: no answer in time");
    weir_cluster_stop(kit.cluster); /* also while a check is going on */
    kit_turn_ms(&loop, 5);
    assert_int_equal(weir_cluster_start(kit.cluster, &loop, NULL), 0);
}

static void test_tcp(void **state)
{
    kit.conf.health.type = WEIR_HEALTH_TCP;
    open_all();
    kit_until(&loop, atomic_load(&fake.accepted) >= 3);
    assert_true(weir_server_is_up(server));
    fake_stop(&fake);
    kit_until(&loop, !weir_server_is_up(server));
    expect_line("is down: the upstream refused the connection (3 checks in a row)");
    fake_start(&fake);
}

/* That we have no descriptor left is not the server's fault. */
static void test_no_descriptors(void **state)
{
    static int fds[65536];
    struct weir_server_status status;
    struct rlimit before, now;
    int count = 0;

    kit.conf.health.type = WEIR_HEALTH_TCP;
    open_all();
    kit_until(&loop, atomic_load(&fake.accepted) >= 1);
    kit_until(&loop, atomic_load(&fake.open) == 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = before;
    now.rlim_cur = 128;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    while (count < 65536 && (fds[count] = dup(fake.fd)) >= 0)
        count++;
    kit_until(&loop, (weir_server_get_status(server, &status), status.last_fault[0]));
    kit_turn_ms(&loop, 150);
    assert_true(weir_server_is_up(server));
    while (count)
        close(fds[--count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_string_equal(status.last_fault, weir_err_text(WEIR_EMFILE));
}

/* Nor is it that all local ports are taken: that is told, and forgotten after a good check. */
static void test_no_ports(void **state)
{
    struct weir_server_status status;

    kit.conf.health.type = WEIR_HEALTH_TCP;
    open_all();
    kit_until(&loop, atomic_load(&fake.accepted) >= 1);
    connect_errno = EADDRNOTAVAIL;
    kit_until(&loop, (weir_server_get_status(server, &status), status.last_fault[0]));
    kit_turn_ms(&loop, 150);
    connect_errno = 0;
    assert_true(weir_server_is_up(server));
    assert_string_equal(status.last_fault, "no local port is free");
    kit_until(&loop, (weir_server_get_status(server, &status), !status.last_fault[0]));
}

/* An address to connect from that is not here says nothing of the server, and not that ports are
 * taken; it is logged once. */
static void test_no_source(void **state)
{
    struct weir_server_status status;
    struct call call = { 0 };
    char *line;

    kit.conf.health.type = WEIR_HEALTH_HTTP;
    kit.conf.health.path = WEIR_STR("/status");
    kit.conf.source = WEIR_STR("192.0.2.1");
    open_all();
    kit_until(&loop, (weir_server_get_status(server, &status), status.last_fault[0]));
    kit_turn_ms(&loop, 150);
    assert_true(weir_server_is_up(server));
    assert_string_equal(status.last_fault, weir_err_text(WEIR_ENOSOURCE));
    line = strstr(lines, "cannot be checked: the source address of the upstream is not an address");
    assert_non_null(line);
    assert_null(strstr(line + 1, "cannot be checked"));
    call_run(&call, view, server, "/");
    assert_int_equal(call.error.code, WEIR_ENOSOURCE);
    assert_int_equal(call.error.by, WEIR_BY_US);
    call_fini(&call);
}

/* The kernel says the same when no address of ours reaches the server, as where IPv6 is off: then it
 * cannot be used. */
static void test_no_address(void **state)
{
    kit.conf.health.type = WEIR_HEALTH_TCP;
    open_all();
    kit_until(&loop, atomic_load(&fake.accepted) >= 1);
    connect_none = true;
    connect_errno = EADDRNOTAVAIL;
    kit_turn_ms(&loop, 300);
    connect_errno = 0;
    connect_none = false;
    expect_line("is down: the connection to the upstream failed (3 checks in a row)");
    kit_until(&loop, weir_server_is_up(server));
}

/* Ports are taken by address: there may be one to the next. */
static void test_next_address_has_ports(void **state)
{
    struct weir_addr *addrs = calloc(2, sizeof(*addrs));
    struct call call = { 0 };

    open_all();
    assert_non_null(addrs);
    assert_int_equal(weir_addr_parse(&addrs[0], WEIR_STR("127.0.0.1:1")), 0);
    addrs[1] = server->addrs[0];
    free(server->addrs);
    server->addrs = addrs;
    server->addr_count = 2;
    weir_cluster_changed(kit.cluster);
    connect_port = 1;
    connect_errno = EADDRNOTAVAIL;
    call_run(&call, view, server, "/");
    connect_errno = 0;
    connect_port = 0;
    assert_int_equal(call.error.code, 0);
    assert_int_equal(call.status, 200);
    call_fini(&call);
}

/* One bad check takes nothing down; what was wrong is said until a good one. */
static void test_fault_goes_with_a_good_check(void **state)
{
    struct weir_server_status status;

    kit.conf.health.type = WEIR_HEALTH_HTTP;
    kit.conf.health.fall = 1000000;
    kit.conf.health.path = WEIR_STR("/status");
    open_all();
    atomic_store(&fake.status, 503);
    kit_until(&loop, (weir_server_get_status(server, &status), status.last_fault[0]));
    assert_string_equal(status.last_fault, "it answers 503");
    assert_true(status.up);
    atomic_store(&fake.status, 204);
    kit_until(&loop, (weir_server_get_status(server, &status), !status.last_fault[0]));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_http),
        TEST(test_http_that_is_none),
        TEST(test_silence),
        TEST(test_tcp),
        TEST(test_no_descriptors),
        TEST(test_no_ports),
        TEST(test_no_source),
        TEST(test_no_address),
        TEST(test_next_address_has_ports),
        TEST(test_fault_goes_with_a_good_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
