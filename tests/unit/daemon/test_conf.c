/* SPDX-License-Identifier: Apache-2.0 */
/* What a good configuration becomes: structs, inheritance, filters, and the text of --effective. */
#include "conf_text.h"

#include "daemon/paths.h"
#include "weir/builtin.h"

#define UPSTREAM "upstreams: { app: { servers: [ 10.0.0.1:80 ] } }\n"

static const char everything[] =
    "instance: one\nworkers: 2\n"
    "timeouts: { connect: 2s, request: 5m }\nlimits: { connections: 500, memory: 1GiB }\n"
    "access_log: { format: combined, sample: 50% }\n"
    "listeners:\n"
    "  web:\n"
    "    bind: [ ':8080', '127.0.0.1:8081' ]\n"
    "    limits: { connections: 100 }\n    timeouts: { idle: 7s }\n"
    "    access_log: { to: stderr }\n"
    "    via: off\n    paths: strict\n"
    "    routes: main\n"
    "  other: { bind: 'unix:/tmp/x.sock', mode: 0660, routes: main, access_log: off }\n"
    "  third: { bind: ':1', to: app }\n"
    "  edge:\n    bind: ':2'\n    protocol: tcp\n    proxy_protocol: accept\n    trusted_proxies: "
    "10.0.0.0/8\n"
    "    routes: [ { match: { sni: db.test }, to: db }, { to: 'listener:web' } ]\n"
    "routes:\n"
    "  main:\n"
    "    - { name: ping, match: { path: =/ping }, reply: { body: \"po$$ng $path\\n\" } }\n"
    "    - name: api\n"
    "      match: { host: [ a.test, '*.b.test' ], header: { x-a: '~^a$', x-b: } }\n"
    "      to: app\n      host: up.test\n      timeouts: { idle: 1s }\n"
    "      retry: { when: [ connect, 503 ], methods: all, budget: 12.5% }\n"
    "      filters:\n"
    "        - headers: { request: { set: { x-env: \"a $$ b\" }, remove: cookie } }\n"
    "        - rate_limit: { rate: 90/m }\n"
    "    - { match: { path: [ /x/, '~y' ] }, redirect: { to: 'https://b.test$path' },\n"
    "        filters: [ rate_limit ] }\n"
    "upstreams:\n"
    "  app:\n"
    "    servers: [ 10.0.0.1:80, { address: 'app.test:80', weight: 3, resolve: on } ]\n"
    "    tls: { sni: app.test }\n    verify: off\n    health: { path: /ok, every: 500ms }\n"
    "    pool: { idle_timeout: 90s }\n"
    "  db: { servers: [ 10.0.0.2:5432 ], proxy_protocol: v2 }\n"
    "log: { level: debug, to: { file: log/weir.log } }\n"
    "access: { scope: listeners }\nshutdown: { announce: off, drain: off, tunnels: 1m }\n"
    "admin: { listen: '127.0.0.1:9145' }\n";

static void test_smallest(void **state)
{
    struct conf_test t;
    const struct weir_listener_conf *web;
    const struct weir_route_conf *route;
    char socket[WEIR_PATH_BYTES];

    assert_int_equal(
        conf_test_load(&t, NULL, "listeners:\n  web: { bind: \":8080\", to: app }\n" UPSTREAM), 0);
    assert_string_equal(t.said, "");
    assert_str(t.conf->instance, "main");
    assert_true(weir_instance_path(WEIR_STR("main"), "admin.sock", socket));
    assert_str(t.conf->admin.socket, socket);
    assert_int_equal(t.conf->proxy.listeners.count, 1);
    web = t.conf->proxy.listeners.at;
    assert_str(web->name, "web");
    assert_str(web->bind.at[0], ":8080");
    assert_int_equal(web->timeouts.connect, 4000);
    assert_int_equal(web->limits.connections, 100000);
    assert_int_equal(web->routes.count, 1);
    route = web->routes.at;
    assert_str(route->name, "app");
    assert_str(route->to, "app");
    assert_int_equal(route->timeouts.request, WEIR_UNLIMITED);
    assert_true(route->retry.when == (WEIR_RETRY_ON_CONNECT | WEIR_RETRY_ON_UNPROCESSED));
    conf_test_end(&t);
}

/* What a route answers is a filter, behind those that are listed. */
static void check_answers(const struct weir_route_conf *routes)
{
    assert_int_equal(routes[0].filter_count, 1);
    assert_ptr_equal(routes[0].filters[0].filter, weir_filter_reply_type.filter);
    assert_int_equal(weir_conf_filters_listed(&routes[0]), 0);
    assert_int_equal(weir_conf_filters_listed(&routes[1]), 2);
    assert_int_equal(routes[2].filter_count, 2);
    assert_string_equal(routes[2].filters[0].filter->name, "rate_limit");
    assert_ptr_equal(routes[2].filters[1].filter, weir_filter_redirect_type.filter);
    assert_int_equal(weir_conf_filters_listed(&routes[2]), 1);
}

static void check_web(const struct weir_listener_conf *web)
{
    const struct weir_route_conf *routes = web->routes.at;

    assert_int_equal(web->bind.count, 2);
    assert_int_equal(web[0].mode, 0600);
    assert_int_equal(web[1].mode, 0660);
    assert_true(weir_str_absent(web->via));
    assert_int_equal(web->paths, WEIR_PATHS_STRICT);
    assert_int_equal(web->routes.count, 3);
    assert_int_equal(web->limits.connections, 100);
    assert_int_equal(routes[1].limits.connections, 100);
    assert_int_equal(routes[0].timeouts.idle, 7000);
    assert_int_equal(routes[1].timeouts.idle, 1000);
    assert_int_equal(routes[1].timeouts.connect, 2000);
    assert_str(routes[0].reply_body, "po$$ng $path\n"); /* `$$` is left to the template */
    assert_str(routes[0].access_log.to, "stderr");
    assert_int_equal(routes[0].access_log.format, WEIR_LOG_COMBINED);
    assert_true(routes[0].access_log.sample == 0.5);
    assert_str(routes[2].name, "route-3");
    assert_int_equal(routes[2].redirect_status, 308);
    check_answers(routes);
}

static void check_api(const struct weir_route_conf *api)
{
    assert_int_equal(api->match.host.count, 2);
    assert_str(api->match.header.at[0].value, "~^a$");
    assert_true(weir_str_absent(api->match.header.at[1].value));
    assert_int_equal(api->host, WEIR_HOST_NAME);
    assert_int_equal(api->retry.when, WEIR_RETRY_ON_CONNECT | WEIR_RETRY_ON_STATUS);
    assert_int_equal(api->retry.statuses[0], 503);
    assert_true(api->retry.any_method);
    assert_int_equal(api->filter_count, 2);
    assert_string_equal(api->filters[0].filter->name, "headers");
    assert_non_null(api->filters[1].self);
}

/* `on` is a filter with all defaults, `off` is none. */
static void test_filter_switches(void **state)
{
    struct conf_test t;
    const struct weir_listener_conf *web;
    const struct weir_route_conf *route;

    if (conf_test_load(
            &t, NULL,
            "listeners: { web: { bind: ':80', routes: [ { to: app, filters: [ grpc_web: on,"
            " headers: off, rate_limit: on ] } ] } }\n" UPSTREAM))
        fail_msg("%s", t.said);
    web = t.conf->proxy.listeners.at;
    route = web->routes.at;
    assert_int_equal(route->filter_count, 2);
    assert_string_equal(route->filters[0].filter->name, "grpc_web");
    assert_string_equal(route->filters[1].filter->name, "rate_limit");
    conf_test_end(&t);
}

static void test_everything(void **state)
{
    struct conf_test t;
    const struct weir_listener_conf *listeners;
    const struct weir_cluster_conf *app;

    if (conf_test_load(&t, NULL, everything))
        fail_msg("%s", t.said);
    listeners = t.conf->proxy.listeners.at;
    app = t.conf->proxy.upstreams.at;
    check_web(&listeners[0]);
    check_api((const struct weir_route_conf *)listeners[0].routes.at + 1);
    assert_int_equal(((struct weir_route_conf *)listeners[1].routes.at)[0].limits.connections, 500);
    assert_true(((struct weir_route_conf *)listeners[1].routes.at)[0].access_log.off);
    assert_int_equal(t.conf->proxy.limits.memory, 1 << 30);
    assert_true(app->tls_on && !app->tls.verify);
    assert_int_equal(app->health.type, WEIR_HEALTH_HTTP);
    assert_int_equal(app->health.every_ms, 500);
    assert_int_equal(app->health.fall, 3);
    assert_int_equal(app->pool.idle_timeout_ms, 90000);
    assert_int_equal(((struct weir_server_conf *)app->servers.at)[0].weight, 1);
    assert_int_equal(((struct weir_server_conf *)app->servers.at)[1].weight, 3);
    assert_int_equal(t.conf->log.level, WEIR_LOG_DEBUG);
    assert_int_equal(t.conf->log.to, WEIR_LOG_TO_FILE);
    conf_test_end(&t);
}

static void test_effective_is_a_fix_point(void **state)
{
    struct conf_test first, second;
    char *once, *twice;

    assert_int_equal(conf_test_load(&first, NULL, everything), 0);
    once = conf_test_effective(first.conf);
    if (conf_test_load(&second, NULL, once))
        fail_msg("%s", second.said);
    twice = conf_test_effective(second.conf);
    assert_string_equal(once, twice);
    assert_non_null(strstr(once, "announce: off"));
    assert_int_equal(first.conf->proxy.drain_ms, WEIR_UNLIMITED);
    assert_non_null(strstr(once, "sample: 50%"));
    assert_non_null(strstr(once, "budget: 12.5%"));
    assert_non_null(strstr(once, "to: \"listener:web\""));
    assert_non_null(strstr(once, "rate: 90/m"));
    assert_non_null(strstr(once, "pings: 60/m")); /* as the documentation has it */
    assert_non_null(strstr(once, "x-env: \"a $$ b\""));
    free(once);
    free(twice);
    conf_test_end(&first);
    conf_test_end(&second);
}

static void test_aliases(void **state)
{
    struct conf_test t;

    assert_int_equal(
        conf_test_load(&t, NULL,
                       "listeners:\n  a: { bind: ':1', to: app, limits: &l { connections: 7 } }\n"
                       "  b: { bind: ':2', to: app, limits: *l }\n" UPSTREAM),
        0);
    assert_int_equal(
        ((struct weir_listener_conf *)t.conf->proxy.listeners.at)[1].limits.connections, 7);
    conf_test_end(&t);
}

/* Paths are matched in the form that those of requests have, as each listener says. */
static void test_paths(void **state)
{
    static const char *const normal[] = { "/%C3%A9", "=/a%20b", "/pA/", "=/%2F%C3%A9",
                                          "/x/y",    "=*",      "~a b" };
    static const char *const raw[] = { "/%C3%A9", "=/a%20b", "/p%41/", "=/%2f%c3%a9",
                                       "/x/./y",  "=*",      "~a b" };
    const struct weir_listener_conf *listeners;
    struct conf_test t;

    if (conf_test_load(&t, NULL,
                       "listeners:\n"
                       "  a: { bind: ':1', routes: main }\n"
                       "  b: { bind: ':2', routes: main, paths: raw }\n"
                       "routes: { main: [ { to: app, match: { path: [ /\xc3\xa9, '=/a b', /p%41/,\n"
                       "  =/%2f%c3%a9, /x/./y, '=*', '~a b' ] } } ] }\n" UPSTREAM))
        fail_msg("%s", t.said);
    listeners = t.conf->proxy.listeners.at;
    for (size_t i = 0; i < sizeof(normal) / sizeof(normal[0]); i++) {
        assert_str(((struct weir_route_conf *)listeners[0].routes.at)->match.path.at[i], normal[i]);
        assert_str(((struct weir_route_conf *)listeners[1].routes.at)->match.path.at[i], raw[i]);
    }
    conf_test_end(&t);
}

/* Addresses of one port that do not meet: of two families, and of two devices. */
static void test_bind_apart(void **state)
{
    struct conf_test t;

    if (conf_test_load(&t, NULL,
                       "listeners:\n"
                       "  a: { bind: [ '0.0.0.0:1', '[::]:1', '127.0.0.1:2', '127.0.0.2:2', "
                       "'127.0.0.1:0', '127.0.0.1:0' ], to: app }\n"
                       "  b: { bind: ':3', device: lo, to: app }\n"
                       "  c: { bind: ':3', device: eth1, to: app }\n" UPSTREAM))
        fail_msg("%s", t.said);
    conf_test_end(&t);
}

/* What is printed is what counts: without a client_ca no client is asked for a certificate. */
static void test_client_verify(void **state)
{
    struct conf_test t;
    char *text;

    assert_int_equal(conf_test_load(&t, NULL,
                                    "listeners:\n"
                                    "  a: { bind: ':1', to: app, tls: { cert: c } }\n" UPSTREAM),
                     0);
    text = conf_test_effective(t.conf);
    assert_null(strstr(text, "client_verify"));
    free(text);
    conf_test_end(&t);
    assert_int_equal(conf_test_load(&t, NULL,
                                    "listeners:\n"
                                    "  a: { bind: ':1', to: app, tls: { cert: c, client_ca: d, "
                                    "client_verify: optional } }\n"
                                    "  b: { bind: ':2', to: app, tls: { cert: c, client_ca: d } "
                                    "}\n" UPSTREAM),
                     0);
    text = conf_test_effective(t.conf);
    assert_non_null(strstr(text, "client_verify: optional"));
    assert_non_null(strstr(text, "client_verify: require"));
    free(text);
    conf_test_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smallest),   cmocka_unit_test(test_filter_switches),
        cmocka_unit_test(test_everything), cmocka_unit_test(test_effective_is_a_fix_point),
        cmocka_unit_test(test_aliases),    cmocka_unit_test(test_client_verify),
        cmocka_unit_test(test_bind_apart), cmocka_unit_test(test_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
