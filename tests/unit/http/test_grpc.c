/* SPDX-License-Identifier: Apache-2.0 */
/** grpc.c by tables: content types, paths, timeouts, statuses, messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/grpc.h"

#define EACH(row, rows) \
    for (typeof(&(rows)[0]) row = (rows); row < (rows) + sizeof(rows) / sizeof((rows)[0]); row++)

static void test_content_types(void **state)
{
    static const struct {
        const char *text;
        enum weir_grpc_kind kind;
    } rows[] = {
        { "application/grpc", WEIR_GRPC_PLAIN },
        { "application/grpc+proto", WEIR_GRPC_PLAIN },
        { "Application/GRPC+json", WEIR_GRPC_PLAIN },
        { "application/grpc;charset=utf-8", WEIR_GRPC_PLAIN },
        { "application/grpc ; x=y", WEIR_GRPC_PLAIN },
        { "application/grpc-web", WEIR_GRPC_WEB },
        { "application/grpc-web+proto", WEIR_GRPC_WEB },
        { "application/grpc-web-text", WEIR_GRPC_WEB_TEXT },
        { "application/grpc-web-text+proto", WEIR_GRPC_WEB_TEXT },
        { "application/grpc-web-text-base64", WEIR_GRPC_WEB_TEXT },
        { "application/grpc-text", WEIR_GRPC_NONE },
        { "application/grpc-webs", WEIR_GRPC_NONE },
        { "application/grpc-web-texts", WEIR_GRPC_NONE },
        { "application/grpcx", WEIR_GRPC_NONE },
        { "application/grp", WEIR_GRPC_NONE },
        { "text/application/grpc", WEIR_GRPC_NONE },
        { "", WEIR_GRPC_NONE },
    };

    EACH(row, rows)
    assert_int_equal(weir_grpc_kind_of(weir_str(row->text)), row->kind);
    assert_int_equal(weir_grpc_kind_of((struct weir_str){ "application/grpc\0", 17 }),
                     WEIR_GRPC_NONE);
}

static void test_requests(void **state)
{
    struct weir_arena arena;
    struct weir_message msg;

    weir_arena_init(&arena, NULL);
    weir_message_init(&msg, &arena, true);
    msg.method_id = WEIR_M_POST;
    assert_int_equal(weir_grpc_kind(&msg), WEIR_GRPC_NONE);
    assert_int_equal(weir_message_set(&msg, "content-type", WEIR_STR("application/grpc")), 0);
    assert_int_equal(weir_grpc_kind(&msg), WEIR_GRPC_PLAIN);
    msg.method_id = WEIR_M_GET;
    assert_int_equal(weir_grpc_kind(&msg), WEIR_GRPC_NONE);
    weir_arena_fini(&arena);
}

static void test_paths(void **state)
{
    static const struct {
        const char *path, *service, *method; /* NULL: not one */
    } rows[] = {
        { "/grpc.health.v1.Health/Check", "grpc.health.v1.Health", "Check" },
        { "/S/m", "S", "m" },
        { "/a/b/S/m", "a/b/S", "m" }, /* a prefix that some put before it */
        { "/S/", NULL, NULL },
        { "//m", NULL, NULL },
        { "/m", NULL, NULL },
        { "/", NULL, NULL },
        { "S/m", NULL, NULL },
        { "*", NULL, NULL },
        { "", NULL, NULL },
    };

    EACH(row, rows)
    {
        struct weir_str service, method;
        bool is = weir_grpc_path(weir_str(row->path), &service, &method);

        if (!row->service) {
            assert_false(is);
            continue;
        }
        assert_true(is);
        assert_true(weir_str_is(service, row->service));
        assert_true(weir_str_is(method, row->method));
    }
}

static void test_timeouts_parse(void **state)
{
    static const struct {
        const char *text;
        int64_t us; /* -1: malformed */
    } rows[] = {
        { "1S", 1000000 },
        { "1H", 3600000000 },
        { "2M", 120000000 },
        { "250m", 250000 },
        { "7u", 7 },
        { "1n", 1 },
        { "1000n", 1 },
        { "1001n", 2 },
        { "0S", 0 },
        { "0n", 0 },
        { "00000001S", 1000000 },
        { "99999999H", 99999999 * 3600000000 },
        { "99999999n", 100000 },
        { "999999999S", -1 },
        { "1", -1 },
        { "S", -1 },
        { "", -1 },
        { "1s", -1 },
        { "1h", -1 },
        { "-1S", -1 },
        { "+1S", -1 },
        { " 1S", -1 },
        { "1.5S", -1 },
        { "1SS", -1 },
    };

    EACH(row, rows)
    {
        uint64_t us = 0;
        bool is = weir_grpc_timeout_parse(weir_str(row->text), &us);

        assert_int_equal(is, row->us >= 0);
        if (is)
            assert_int_equal(us, row->us);
    }
}

static void test_timeouts_print(void **state)
{
    static const struct {
        uint64_t us;
        const char *text;
    } rows[] = {
        { 0, "0u" },
        { 1, "1u" },
        { 99999999, "99999999u" },
        { 100000000, "100000m" },
        { 100000999, "100000m" }, /* down */
        { 99999999999, "99999999m" },
        { 100000000000, "100000S" },
        { 99999999999999, "99999999S" },
        { 100000000000000, "1666666M" },
        { 99999999 * 3600000000, "99999999H" },
        { UINT64_MAX, "99999999H" },
    };

    EACH(row, rows)
    {
        char out[WEIR_GRPC_TIMEOUT_BYTES];
        struct weir_str text = { out, weir_grpc_timeout_print(row->us, out) };

        assert_true(weir_str_is(text, row->text));
    }
}

static void test_statuses(void **state)
{
    static const struct {
        const char *text;
        int status;
    } rows[] = {
        { "0", 0 },   { "14", 14 }, { "16", 16 }, { "17", 17 },  { "999", 999 }, { "1000", -1 },
        { "-1", -1 }, { "", -1 },   { "x", -1 },  { "1 4", -1 }, { "0x1", -1 },
    };
    static const struct {
        int http;
        enum weir_grpc_status grpc;
    } mapped[] = {
        { 200, WEIR_GRPC_UNKNOWN },         { 400, WEIR_GRPC_INTERNAL },
        { 401, WEIR_GRPC_UNAUTHENTICATED }, { 403, WEIR_GRPC_PERMISSION_DENIED },
        { 404, WEIR_GRPC_UNIMPLEMENTED },   { 418, WEIR_GRPC_UNKNOWN },
        { 429, WEIR_GRPC_UNAVAILABLE },     { 431, WEIR_GRPC_INTERNAL },
        { 500, WEIR_GRPC_UNKNOWN },         { 502, WEIR_GRPC_UNAVAILABLE },
        { 503, WEIR_GRPC_UNAVAILABLE },     { 504, WEIR_GRPC_UNAVAILABLE },
    };

    EACH(row, rows)
    assert_int_equal(weir_grpc_status_parse(weir_str(row->text)), row->status);
    EACH(row, mapped)
    assert_int_equal(weir_grpc_status_of_http(row->http), row->grpc);
    assert_string_equal(weir_grpc_status_name(0), "OK");
    assert_string_equal(weir_grpc_status_name(WEIR_GRPC_UNAVAILABLE), "UNAVAILABLE");
    assert_string_equal(weir_grpc_status_name(16), "UNAUTHENTICATED");
    assert_string_equal(weir_grpc_status_name(17), "");
    assert_string_equal(weir_grpc_status_name(-1), "");
}

static void test_messages(void **state)
{
    static const struct {
        const char *text, *encoded;
    } rows[] = {
        { "", "" },
        { "no server is usable", "no server is usable" },
        { "100%", "100%25" },
        { "a\r\nb\tc", "a%0D%0Ab%09c" },
        { "\xc3\xa9~\x7f", "%C3%A9~%7F" },
    };

    EACH(row, rows)
    {
        char out[64];
        struct weir_str text = { out, weir_grpc_message_encode(weir_str(row->text), out) };

        assert_true(weir_str_is(text, row->encoded));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_types),  cmocka_unit_test(test_requests),
        cmocka_unit_test(test_paths),          cmocka_unit_test(test_timeouts_parse),
        cmocka_unit_test(test_timeouts_print), cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
