/* SPDX-License-Identifier: Apache-2.0 */
/** weir/server.h over a service that only remembers: what options become, what is refused, how a
 * run ends. */
#include "base/clock.h"
#include "proxy/service.h"
#include "weir/server.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the fake ---- */

struct weir_service {
    const struct weir_proxy_conf *conf;
};

static struct {
    struct weir_service service;
    unsigned made, opened, started, drained, stopped, freed;
    int open_err;
    _Atomic bool idle;
} fake;

struct weir_service *weir_service_new(const struct weir_proxy_conf *conf,
                                      const struct weir_service_opts *opts,
                                      struct weir_tls_fault *fault)
{
    fake.service.conf = conf;
    fake.made++;
    return &fake.service;
}

int weir_service_open(struct weir_service *service, struct weir_tls_fault *fault)
{
    fake.opened++;
    if (fake.open_err)
        snprintf(fault->text, sizeof(fault->text), "listener 'web': taken");
    return fake.open_err;
}

int weir_service_start(struct weir_service *service)
{
    fake.started++;
    return 0;
}

void weir_service_drain(struct weir_service *service)
{
    fake.drained++;
}

bool weir_service_idle(const struct weir_service *service)
{
    return fake.idle;
}

void weir_service_stop(struct weir_service *service)
{
    fake.stopped++;
}

void weir_service_free(struct weir_service *service)
{
    fake.freed++;
}

uint16_t weir_service_port(const struct weir_service *service, unsigned listener)
{
    return (uint16_t)(8000 + listener);
}

/* ---- helpers ---- */

static const char *const servers[] = { "10.0.0.1:80", "app.internal:81", NULL };

static struct weir_proxy *proxy_new(uint32_t drain_ms)
{
    struct weir_proxy_opts opts = { WEIR_SIZE(weir_proxy_opts), .drain_ms = drain_ms,
                                    .workers = 3 };

    memset(&fake, 0, sizeof(fake));
    fake.idle = true;
    return weir_proxy_new(&opts);
}

static int add_upstream(struct weir_proxy *proxy, const char *name, const char *const *list)
{
    return weir_proxy_add_upstream(proxy,
                                   &(struct weir_upstream_opts){ WEIR_SIZE(weir_upstream_opts),
                                                                 .name = name, .servers = list });
}

static int add_route(struct weir_proxy *proxy, const char *name, const char *listener,
                     const char *to)
{
    return weir_proxy_add_route(proxy,
                                &(struct weir_route_opts){ WEIR_SIZE(weir_route_opts), .name = name,
                                                           .listener = listener, .path = "/v1/",
                                                           .connect_timeout_ms = 77, .to = to });
}

static int add_listener(struct weir_proxy *proxy, const char *name, const char *bind)
{
    return weir_proxy_add_listener(
        proxy,
        &(struct weir_listener_opts){ WEIR_SIZE(weir_listener_opts), .name = name, .bind = bind });
}

static struct weir_proxy *small_proxy(uint32_t drain_ms)
{
    struct weir_proxy *proxy = proxy_new(drain_ms);

    assert_int_equal(add_upstream(proxy, "app", servers), 0);
    assert_int_equal(add_route(proxy, "all", NULL, "app"), 0);
    assert_int_equal(add_listener(proxy, "web", "127.0.0.1:0"), 0);
    return proxy;
}

/* ---- tests ---- */

static void test_conf(void **state)
{
    struct weir_proxy *proxy = small_proxy(0);
    const struct weir_listener_conf *listeners;
    const struct weir_cluster_conf *upstream;
    const struct weir_server_conf *server;
    const struct weir_route_conf *routes;

    assert_int_equal(add_route(proxy, "second", "tls", "app"), 0);
    assert_int_equal(
        weir_proxy_add_listener(
            proxy, &(struct weir_listener_opts){ WEIR_SIZE(weir_listener_opts), .name = "tls",
                                                 .bind = "[::1]:0", .tls_cert = "both.pem" }),
        0);
    assert_int_equal(weir_proxy_start(proxy), 0);
    listeners = fake.service.conf->listeners.at;
    upstream = fake.service.conf->upstreams.at;
    server = upstream->servers.at;
    assert_int_equal(fake.service.conf->workers, 3);
    assert_true(fake.service.conf->access_log.off);
    assert_int_equal(upstream->servers.count, 2);
    assert_false(server[0].resolve);
    assert_true(server[1].resolve);
    assert_int_equal(server[0].weight, 1);
    assert_int_equal(listeners[0].routes.count, 1);
    assert_int_equal(listeners[1].routes.count, 2);
    assert_true(listeners[1].tls_on);
    assert_false(listeners[0].tls_on);
    routes = listeners[1].routes.at;
    assert_string_equal(routes[1].name.ptr, "second");
    assert_true(routes[0].access_log.off);
    assert_true(listeners[0].access_log.off);
    assert_int_equal(listeners[0].timeouts.head, fake.service.conf->timeouts.head);
    assert_int_equal(routes[1].timeouts.idle, fake.service.conf->timeouts.idle);
    assert_int_equal(routes[1].timeouts.connect, 77);
    assert_int_equal(routes[1].limits.headers, fake.service.conf->limits.headers);
    assert_string_equal(routes[0].match.path.at[0].ptr, "/v1/");
    assert_int_equal(weir_proxy_port(proxy, "tls"), 8001);
    assert_int_equal(weir_proxy_port(proxy, "none"), 0);
    assert_int_equal(add_listener(proxy, "late", ":1"), WEIR_EINVAL);
    weir_proxy_free(proxy);
    assert_int_equal(fake.stopped, 1);
    assert_int_equal(fake.freed, 1);
}

/* A filter may have been compiled against an older header: what it has not is not looked at. */
static void test_route_of_filters(void **state)
{
    static const struct weir_filter filter = { .size = offsetof(struct weir_filter, state_bytes),
                                               .name = "old",
                                               .fini = (void (*)(void *))1 };
    const struct weir_filter_ref use = { &filter, NULL };
    struct weir_proxy *proxy = small_proxy(0);
    const struct weir_listener_conf *listeners;
    const struct weir_route_conf *routes;

    assert_int_equal(
        weir_proxy_add_route(proxy,
                             &(struct weir_route_opts){ WEIR_SIZE(weir_route_opts), .name = "own",
                                                        .filters = &use, .filter_count = 1 }),
        0);
    assert_int_equal(weir_proxy_start(proxy), 0);
    listeners = fake.service.conf->listeners.at;
    routes = listeners[0].routes.at;
    assert_int_equal(listeners[0].routes.count, 2);
    assert_null(routes[1].to.ptr);
    assert_int_equal(routes[1].filter_count, 1);
    weir_proxy_free(proxy);
}

static void test_faults(void **state)
{
    static const char *const none[] = { NULL }, *const bad[] = { "nonsense", NULL };
    struct weir_proxy *proxy = small_proxy(0);

    assert_int_equal(add_upstream(proxy, "app", servers), WEIR_EEXISTS);
    assert_string_equal(weir_proxy_fault(proxy), "there is an upstream 'app' already");
    assert_int_equal(add_upstream(proxy, "x", none), WEIR_EINVAL);
    assert_int_equal(add_upstream(proxy, "x", bad), WEIR_EINVAL);
    assert_int_equal(add_upstream(proxy, NULL, servers), WEIR_EINVAL);
    assert_int_equal(add_listener(proxy, "web", ":1"), WEIR_EEXISTS);
    assert_int_equal(add_listener(proxy, "x", "nowhere"), WEIR_EINVAL);
    assert_int_equal(add_listener(proxy, "x", NULL), WEIR_EINVAL);
    assert_int_equal(add_route(proxy, "all", NULL, "app"), WEIR_EEXISTS);
    assert_int_equal(add_route(proxy, "x", NULL, NULL), WEIR_EINVAL);
    assert_string_equal(weir_proxy_fault(proxy),
                        "route 'x' says no upstream (to), and has no filter");
    assert_int_equal(add_route(proxy, "x", NULL, "api"), 0);
    assert_int_equal(weir_proxy_start(proxy), WEIR_EINVAL);
    assert_string_equal(weir_proxy_fault(proxy), "route 'x': there is no upstream 'api'");
    assert_int_equal(fake.made, 0);
    assert_int_equal(weir_proxy_add_upstream(proxy, &(struct weir_upstream_opts){ 0 }),
                     WEIR_EINVAL);
    weir_proxy_free(proxy);
    weir_proxy_free(NULL);
}

static void test_open_fails(void **state)
{
    struct weir_proxy *proxy = small_proxy(0);

    fake.open_err = WEIR_EADDRINUSE;
    assert_int_equal(weir_proxy_run(proxy), WEIR_EADDRINUSE);
    assert_string_equal(weir_proxy_fault(proxy), "listener 'web': taken");
    assert_int_equal(fake.freed, 1);
    fake.open_err = 0;
    assert_int_equal(weir_proxy_start(proxy), 0);
    assert_string_equal(weir_proxy_fault(proxy), "");
    weir_proxy_free(proxy);
}

static unsigned ended;

static void on_fini(void *self)
{
    ended += self != NULL;
}

static void test_filters_end_once(void **state)
{
    static const struct weir_filter filter = { sizeof(filter), .name = "f", .fini = on_fini };
    struct weir_proxy *proxy = small_proxy(0);
    int a, b;
    struct weir_filter_ref uses[] = { { &filter, &a }, { &filter, &b }, { &filter, &a } };
    struct weir_route_opts opts = { WEIR_SIZE(weir_route_opts), .name = "f1", .to = "app",
                                    .filters = uses, .filter_count = 3 };

    ended = 0;
    assert_int_equal(weir_proxy_add_route(proxy, &opts), 0);
    opts.name = "f2";
    assert_int_equal(weir_proxy_add_route(proxy, &opts), 0);
    weir_proxy_free(proxy);
    assert_int_equal(ended, 2);
}

/* An older program has shorter structs: what it does not know is the default. */
static void test_old_program(void **state)
{
    struct weir_proxy *proxy = small_proxy(0);
    struct weir_route_opts opts = { offsetof(struct weir_route_opts, filters), .name = "old",
                                    .to = "app", .filters = (void *)8, .filter_count = 99 };

    assert_int_equal(weir_proxy_add_route(proxy, &opts), 0);
    weir_proxy_free(proxy);
}

static struct weir_proxy *running;

static void on_signal(int number)
{
    weir_proxy_quit(running); /* NOLINT(bugprone-signal-handler): its contract */
}

static void *run(void *arg)
{
    assert_int_equal(weir_proxy_run(arg), 0);
    return NULL;
}

/* From a signal handler of the program, and while a request is still running: within drain_ms. */
static void test_quit(void **state)
{
    pthread_t thread;
    uint64_t start;

    running = small_proxy(300);
    fake.idle = false;
    signal(SIGUSR2, on_signal);
    assert_int_equal(pthread_create(&thread, NULL, run, running), 0);
    usleep(20000);
    start = weir_clock_us();
    pthread_kill(thread, SIGUSR2);
    pthread_join(thread, NULL);
    assert_true(weir_clock_us() - start >= 290000);
    assert_int_equal(fake.drained, 1);
    assert_int_equal(fake.stopped, 1);
    weir_proxy_free(running);
    assert_int_equal(fake.stopped, 1);
    signal(SIGUSR2, SIG_DFL);
}

static void test_quit_twice(void **state)
{
    uint64_t start = weir_clock_us();

    running = small_proxy(60000);
    fake.idle = false;
    weir_proxy_quit(running);
    weir_proxy_quit(running);
    assert_int_equal(weir_proxy_run(running), 0); /* a quit before the run counts */
    assert_true(weir_clock_us() - start < 5000000);
    weir_proxy_free(running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conf),
        cmocka_unit_test(test_route_of_filters),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_filters_end_once),
        cmocka_unit_test(test_old_program),
        cmocka_unit_test(test_quit),
        cmocka_unit_test(test_quit_twice),
    };

    return cmocka_run_group_tests_name("proxy/server", tests, NULL, NULL);
}
