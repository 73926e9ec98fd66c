/* SPDX-License-Identifier: Apache-2.0 */
/** route.c: what each condition matches, that the first route wins, and that a pattern which gives up is no "no". */
#include "proxy/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct weir_match_scratch *scratch;
static struct weir_arena arena;

static struct weir_strs list(struct weir_str *text, const char *value)
{
    *text = weir_str(value);
    return (struct weir_strs){ text, 1 };
}

/* 1, 0 or an error for a GET of this with these conditions. */
static int match(const struct weir_match_conf *conf, const char *host, const char *path,
                 const char *query, const char *name, const char *value)
{
    struct weir_route_conf route_conf = { .match = *conf };
    struct weir_route route = { .conf = &route_conf };
    struct weir_routes routes = { &route, 1, NULL };
    struct weir_tls_fault fault = { 0 };
    struct weir_addr client;
    struct weir_message msg;
    const struct weir_route *found;
    int err;

    assert_int_equal(weir_addr_parse(&client, WEIR_STR("192.0.2.7:99")), 0);
    weir_message_init(&msg, &arena, true);
    msg.method = WEIR_STR("GET");
    msg.path = weir_str(path);
    msg.query = query ? weir_str(query) : (struct weir_str){ NULL, 0 };
    if (name)
        assert_int_equal(
            weir_message_push(&msg, weir_field_id(weir_str(name)), weir_str(name), weir_str(value)),
            0);
    assert_int_equal(weir_route_compile(&route, &fault), 0);
    err = weir_routes_find(
        &routes,
        &(struct weir_match_input){
            .msg = &msg, .host = weir_host_name(weir_str(host)), .client = &client, .port = 8080 },
        scratch, &found);
    weir_route_free(&route);
    return err ? err : found == &route;
}

static void test_paths(void **state)
{
    static const struct {
        const char *pattern, *path;
        int want;
    } rows[] = {
        { "/v1/", "/v1", 1 },
        { "/v1/", "/v1/x", 1 },
        { "/v1/", "/v10", 0 },
        { "/v1", "/v1/x", 1 },
        { "/", "/any", 1 },
        { "=/ping", "/ping", 1 },
        { "=/ping", "/ping/", 0 },
        { "~^/a[0-9]+$", "/a12", 1 },
        { "~^/a[0-9]+$", "/a12b", 0 },
        { "~b", "/abc", 1 },
        { "/a", "/A", 0 },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct weir_str text;
        struct weir_match_conf conf = { .path = list(&text, rows[i].pattern) };

        if (match(&conf, "a", rows[i].path, NULL, NULL, NULL) != rows[i].want)
            fail_msg("%s and %s", rows[i].pattern, rows[i].path);
    }
}

static void test_hosts(void **state)
{
    static const struct {
        const char *pattern, *host;
        int want;
    } rows[] = {
        { "example.com", "EXAMPLE.com", 1 },
        { "example.com", "example.com:8080", 1 },
        { "example.com", "example.com.", 1 },
        { "example.com", "a.example.com", 0 },
        { "*.example.com", "a.example.com", 1 },
        { "*.example.com", "a.b.example.com", 1 },
        { "*.example.com", "example.com", 0 },
        { "*.example.com", "badexample.com", 0 },
        { "[::1]", "[::1]:80", 1 },
        { "a", "", 0 },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct weir_str text;
        struct weir_match_conf conf = { .host = list(&text, rows[i].pattern) };

        if (match(&conf, rows[i].host, "/", NULL, NULL, NULL) != rows[i].want)
            fail_msg("%s and %s", rows[i].pattern, rows[i].host);
    }
}

static void test_others(void **state)
{
    struct weir_str text;
    struct weir_pair pair = { WEIR_STR("x-tenant"), WEIR_STR("~^a[0-9]+$") };
    struct weir_match_conf header = { .header = { &pair, 1 } }, query = { .query = { &pair, 1 } },
                           cookie = { .cookie = { &pair, 1 } };
    struct weir_match_conf method = { .method = list(&text, "POST") };

    assert_int_equal(match(&header, "a", "/", NULL, "X-Tenant", "a1"), 1);
    assert_int_equal(match(&header, "a", "/", NULL, "X-Tenant", "b1"), 0);
    assert_int_equal(match(&header, "a", "/", NULL, NULL, NULL), 0);
    assert_int_equal(match(&query, "a", "/", "y=1&x-tenant=a7", NULL, NULL), 1);
    assert_int_equal(match(&query, "a", "/", "x-tenant", NULL, NULL), 0);
    assert_int_equal(match(&cookie, "a", "/", NULL, "Cookie", "b=2; x-tenant=a3"), 1);
    assert_int_equal(match(&cookie, "a", "/", NULL, "Cookie", "x-tenant2=a3"), 0);
    pair.value = (struct weir_str){ NULL, 0 };
    assert_int_equal(match(&query, "a", "/", "x-tenant", NULL, NULL), 1);
    assert_int_equal(match(&method, "a", "/", NULL, NULL, NULL), 0);
    method.method = list(&text, "GET");
    assert_int_equal(match(&method, "a", "/", NULL, NULL, NULL), 1);
}

static void test_clients_and_ports(void **state)
{
    struct weir_str text;
    struct weir_match_conf client = { .client = list(&text, "192.0.2.0/24") };

    assert_int_equal(match(&client, "a", "/", NULL, NULL, NULL), 1);
    client.client = list(&text, "198.51.100.0/24");
    assert_int_equal(match(&client, "a", "/", NULL, NULL, NULL), 0);
    client = (struct weir_match_conf){ .port = list(&text, "8080") };
    assert_int_equal(match(&client, "a", "/", NULL, NULL, NULL), 1);
    client.port = list(&text, "81");
    assert_int_equal(match(&client, "a", "/", NULL, NULL, NULL), 0);
    client = (struct weir_match_conf){ .sni = list(&text, "a") };
    assert_int_equal(match(&client, "a", "/", NULL, NULL, NULL), 0);
}

static void test_pattern_gives_up(void **state)
{
    struct weir_str text;
    struct weir_match_conf conf = { .path = list(&text, "~^/(a|aa)+$") };

    assert_int_equal(
        match(&conf, "a", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", NULL, NULL, NULL),
        WEIR_EMATCHLIMIT);
}

static void test_faults(void **state)
{
    struct weir_str text;
    struct weir_route_conf conf = { .match = { .path = list(&text, "~(") } };
    struct weir_route route = { .conf = &conf };
    struct weir_tls_fault fault = { 0 };

    assert_int_equal(weir_route_compile(&route, &fault), WEIR_ECONFIG);
    assert_non_null(strstr(fault.text, "at offset"));
    weir_route_free(&route);
}

static int set_up(void **state)
{
    scratch = weir_match_scratch_new();
    return scratch ? 0 : -1;
}

static int tear_down(void **state)
{
    weir_match_scratch_free(scratch);
    weir_arena_fini(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_clients_and_ports),
        cmocka_unit_test(test_pattern_gives_up),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests_name("proxy/route", tests, set_up, tear_down);
}
