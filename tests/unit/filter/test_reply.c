/* SPDX-License-Identifier: Apache-2.0 */
/** The filters `reply` and `redirect`: what a template becomes, and what is refused when one is
 * made. */
#include "fake_req.h"

#include "weir/builtin.h"

static char fault[256];

static void check_str(struct weir_str have, const char *want)
{
    if (have.len != strlen(want) || memcmp(have.ptr, want, have.len))
        print_error("'%.*s', not '%s'\n", WEIR_FMT(have), want);
    assert_int_equal(have.len, strlen(want));
    assert_memory_equal(have.ptr, want, have.len);
}

static void reply(int64_t status, const char *body)
{
    struct weir_reply_conf conf = { status, weir_str(body) };
    void *self = weir_filter_reply_type.create(&conf, fault, sizeof(fault));

    assert_non_null(self);
    fake.replied = 0;
    assert_int_equal(weir_filter_reply_type.filter->request(&fake, self), WEIR_DONE);
    weir_filter_reply_type.filter->fini(self);
}

static enum weir_verdict redirect(int64_t status, const char *to)
{
    struct weir_redirect_conf conf = { status, weir_str(to) };
    void *self = weir_filter_redirect_type.create(&conf, fault, sizeof(fault));
    enum weir_verdict verdict;

    assert_non_null(self);
    verdict = weir_filter_redirect_type.filter->request(&fake, self);
    weir_filter_redirect_type.filter->fini(self);
    return verdict;
}

static void test_reply(void **state)
{
    fake_begin("192.0.2.7");
    reply(0, "pong\n");
    assert_int_equal(fake.replied, 200);
    check_str(fake.body, "pong\n");
    reply(503, NULL);
    assert_int_equal(fake.replied, 503);
    check_str(fake.body, "");
    fake.request.query = WEIR_STR("x=1&y");
    reply(418, "$path|$query|$host|$client|$id|");
    assert_int_equal(fake.replied, 418);
    check_str(fake.body, "/p/q|?x=1&y|a.test|192.0.2.7|id-7|");
}

/* What can be no name stays: a body may speak of $5. */
static void test_dollars(void **state)
{
    fake_begin("192.0.2.7");
    reply(200, "$$5 $5 $path.x $$path $$other $");
    check_str(fake.body, "$5 $5 /p/q.x $path $other $");
    reply(200, "$$$$");
    check_str(fake.body, "$$");
    reply(200, "$");
    check_str(fake.body, "$");
}

static void test_path(void **state)
{
    static const struct {
        const char *path, *want;
    } rows[] = {
        { "/", "/" },
        { "//", "/" },
        { "/a", "/a" },
        { "//evil.test/x", "/evil.test/x" },
        { "////a//b", "/a//b" },
        { "/%2f%2Fa%00%0d", "/%2f%2Fa%00%0d" },
        { "*", "/" },
        { "", "/" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fake_begin("192.0.2.7");
        fake.request.path = weir_str(rows[i].path);
        reply(200, "$path");
        check_str(fake.body, rows[i].want);
    }
}

static void test_query(void **state)
{
    fake_begin("192.0.2.7");
    reply(200, "[$query]");
    check_str(fake.body, "[]");
    fake.request.query = WEIR_STR("");
    reply(200, "[$query]");
    check_str(fake.body, "[?]");
}

static void test_host(void **state)
{
    static const struct {
        const char *host, *want;
    } rows[] = {
        { "a.test", "a.test" },
        { "a.test:81", "a.test" },
        { "A.test.:81", "A.test" },
        { "a.test.", "a.test" },
        { "[::1]:80", "[::1]" },
        { "[::1]", "[::1]" },
        { "", "" },
        { ":80", "" },
        { "[", "[" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fake_begin("192.0.2.7");
        fake.request.host = weir_str(rows[i].host);
        reply(200, "$host");
        check_str(fake.body, rows[i].want);
    }
}

static void test_redirect(void **state)
{
    fake_begin("192.0.2.7");
    fake.request.query = WEIR_STR("q=/%0d");
    assert_int_equal(redirect(0, "https://new.test$path$query"), WEIR_DONE);
    assert_int_equal(fake.replied, 308);
    check_str(fake.body, "");
    check_str(weir_message_get(&fake.response, "location"), "https://new.test/p/q?q=/%0d");
    fake.request.path = WEIR_STR("//evil.test");
    assert_int_equal(redirect(302, "$path"), WEIR_DONE);
    assert_int_equal(fake.replied, 302);
    check_str(weir_message_get(&fake.response, "location"), "/evil.test");
}

/* What a peer sent may not be a value: the request ends, no header is split. */
static void test_bad_value_of_peer(void **state)
{
    fake_begin("192.0.2.7");
    fake.request.path = WEIR_STR("/a\r\nx: y");
    assert_int_equal(redirect(302, "$path"), WEIR_FAIL);
    assert_int_equal(fake.failed, WEIR_EINVAL);
    assert_null(weir_message_get(&fake.response, "location").ptr);
}

static void test_faults(void **state)
{
    static const int64_t statuses[] = { 200, 300, 304, 305, 306, 309, 404, -1 };
    static const char *const names[] = { "$other", "$pathx", "$Path", "$path2", "$$$path_" };
    struct weir_reply_conf reply = { .status = 100 };
    struct weir_redirect_conf redirect = { .to = WEIR_STR("/x") };

    assert_null(weir_filter_reply_type.create(&reply, fault, sizeof(fault)));
    assert_string_equal(fault, "'status' must be from 200 to 599");
    reply.status = 600;
    assert_null(weir_filter_reply_type.create(&reply, fault, sizeof(fault)));
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        redirect.status = statuses[i];
        fault[0] = 0;
        assert_null(weir_filter_redirect_type.create(&redirect, fault, sizeof(fault)));
        assert_string_equal(fault, "'status' must be 301, 302, 303, 307 or 308");
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct weir_reply_conf named = { .body = weir_str(names[i]) };

        assert_null(weir_filter_reply_type.create(&named, fault, sizeof(fault)));
        assert_non_null(strstr(fault, "there is no '$"));
    }
    redirect = (struct weir_redirect_conf){ .to = { NULL, 0 } };
    assert_null(weir_filter_redirect_type.create(&redirect, fault, sizeof(fault)));
    assert_string_equal(fault, "'to' is no URL");
    redirect.to = WEIR_STR("/a\nb");
    assert_null(weir_filter_redirect_type.create(&redirect, fault, sizeof(fault)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply),  cmocka_unit_test(test_dollars),
        cmocka_unit_test(test_path),   cmocka_unit_test(test_query),
        cmocka_unit_test(test_host),   cmocka_unit_test(test_redirect),
        cmocka_unit_test(test_faults), cmocka_unit_test(test_bad_value_of_peer),
    };
    int failed = cmocka_run_group_tests_name("filter/reply", tests, NULL, NULL);

    weir_arena_fini(&fake.arena);
    return failed;
}
