/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "http/path.h"

#include <stdlib.h>

struct row {
    const char *path, *normal, *strict; /* NULL: WEIR_EBADPATH */
};

static const struct row rows[] = {
    { "/", "/", "/" },
    { "/a/b", "/a/b", "/a/b" },
    { "/a%41%7e", "/aA~", "/aA~" },
    { "/a%3a%3A", "/a%3A%3A", "/a%3A%3A" },
    { "/a%2fb", "/a%2Fb", NULL },
    { "/a/../b", "/b", NULL },
    { "/a/./b", "/a/b", NULL },
    { "/a/..", "/", NULL },
    { "/a/.", "/a/", NULL },
    { "/a/b/../..", "/", NULL },
    { "/../../etc", "/etc", NULL },
    { "/..", "/", NULL },
    { "/.", "/", NULL },
    { "/a/%2e%2E/b", "/b", NULL },
    { "/a//b", "/a//b", NULL },
    { "/a//../b", "/a/b", NULL },
    { "//", "//", NULL },
    { "/a/", "/a/", "/a/" },
    { "/.a/..b/c..", "/.a/..b/c..", "/.a/..b/c.." },
    { "/...", "/...", "/..." },
    { "/a%252e%252e/b", "/a%252e%252e/b", "/a%252e%252e/b" },
    { "/a;b=c@d:e,$&'()*+!", "/a;b=c@d:e,$&'()*+!", "/a;b=c@d:e,$&'()*+!" },
    { "/a%00", NULL, NULL },
    { "/a%5cb", NULL, NULL },
    { "/a\\b", NULL, NULL },
    { "/a%", NULL, NULL },
    { "/a%4", NULL, NULL },
    { "/a%4g", NULL, NULL },
    { "/a b", NULL, NULL },
    { "*", "*", "*" },
};

static void check(enum weir_paths how, const char *path, const char *want)
{
    struct weir_arena arena;
    struct weir_str text = weir_str(path);
    int err;

    weir_arena_init(&arena, NULL);
    err = weir_path_apply(how, &text, &arena);
    if (!want) {
        assert_int_equal(err, WEIR_EBADPATH);
    } else {
        assert_int_equal(err, 0);
        if (!weir_str_eq(text, weir_str(want)))
            fail_msg("%s: %.*s, not %s", path, WEIR_FMT(text), want);
        assert_int_equal(weir_path_apply(how, &text, &arena), 0); /* idempotent */
        assert_true(weir_str_eq(text, weir_str(want)));
    }
    weir_arena_fini(&arena);
}

static void test_apply(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check(WEIR_PATHS_NORMALIZE, rows[i].path, rows[i].normal);
        check(WEIR_PATHS_STRICT, rows[i].path, rows[i].strict);
        check(WEIR_PATHS_RAW, rows[i].path, rows[i].path);
    }
}

static void test_untouched(void **state)
{
    struct weir_str path = weir_str("/v1/items/42.json"), before = path;
    struct weir_arena arena;

    weir_arena_init(&arena, NULL);
    assert_int_equal(weir_path_apply(WEIR_PATHS_NORMALIZE, &path, &arena), 0);
    assert_ptr_equal(path.ptr, before.ptr);
    assert_int_equal(arena.bytes, 0);
}

static void test_under(void **state)
{
    static const struct {
        const char *path, *prefix;
        bool under;
    } cases[] = {
        { "/v1", "/v1/", true },     { "/v1/", "/v1/", true }, { "/v1/a", "/v1/", true },
        { "/v1", "/v1", true },      { "/v1/a", "/v1", true }, { "/v12", "/v1", false },
        { "/v12", "/v1/", false },   { "/v", "/v1", false },   { "/", "/", true },
        { "/a", "/", true },         { "*", "/", false },      { "", "/", false },
        { "/v1%2Fa", "/v1", false },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(weir_path_under(weir_str(cases[i].path), weir_str(cases[i].prefix)),
                         cases[i].under);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_under),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
