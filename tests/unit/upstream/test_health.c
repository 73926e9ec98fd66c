/* SPDX-License-Identifier: Apache-2.0 */
/** test_health.c: servers go down and come up by what checks say; the log says why. */
#include "upstream_kit.h"

#include "weir/log.h"

#include <sys/resource.h>

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_http), TEST(test_http_that_is_none), TEST(test_silence),
        TEST(test_tcp),  TEST(test_no_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
