/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define S(text) WEIR_STR(text)
static const struct weir_str absent = { NULL, 0 };

static void assert_str(struct weir_str s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.len ? s.ptr : "", expected, s.len);
}

static void compares(void **state)
{
    assert_true(weir_str_eq(S("ab"), S("ab")));
    assert_false(weir_str_eq(S("ab"), S("aB")));
    assert_false(weir_str_eq(S("ab"), S("abc")));
    assert_true(weir_str_eq(absent, S("")));
    assert_true(weir_str_absent(absent));
    assert_false(weir_str_absent(S("")));
    assert_true(weir_str_ieq(S("Content-Length"), S("cOnTeNt-lEnGtH")));
    assert_false(weir_str_ieq(
        S("@"), S("`"))); /* 0x40 and 0x60 differ in the case bit, and are no letters */
    assert_false(weir_str_ieq(S("["), S("{")));
    assert_false(weir_str_ieq(S("\xc4"), S("\xe4"))); /* ASCII only */
    assert_true(weir_str_ieq(absent, S("")));
}

static void starts_and_ends(void **state)
{
    assert_true(weir_str_starts(S("/v1/a"), S("/v1/")));
    assert_false(weir_str_starts(S("/v1"), S("/v1/")));
    assert_true(weir_str_starts(absent, absent));
    assert_true(weir_str_starts(S("x"), absent));
    assert_true(weir_str_ends(S("a.example"), S(".example")));
    assert_false(weir_str_ends(S("example"), S(".example")));
    assert_true(weir_str_ends(absent, absent));
    assert_false(weir_str_ends(absent, S("x")));
}

static void trims(void **state)
{
    assert_str(weir_str_trim(S(" \t a b\t ")), "a b");
    assert_str(weir_str_trim(S(" \t ")), "");
    assert_str(weir_str_trim(S("\r\na\v")), "\r\na\v"); /* only what RFC 9110 calls OWS */
    assert_str(weir_str_trim(absent), "");
}

static void cuts(void **state)
{
    struct weir_str rest, head = weir_str_cut(S("a=b=c"), '=', &rest);

    assert_str(head, "a");
    assert_str(rest, "b=c");
    head = weir_str_cut(S("a="), '=', &rest);
    assert_str(head, "a");
    assert_str(rest, "");
    assert_false(weir_str_absent(rest));
    head = weir_str_cut(S("a"), '=', &rest);
    assert_str(head, "a");
    assert_true(weir_str_absent(rest));
    head = weir_str_cut(absent, '=', &rest);
    assert_true(weir_str_absent(head) && weir_str_absent(rest));
    head = weir_str_cut(S("="), '=', &rest);
    assert_str(head, "");
    assert_str(rest, "");
}

static void walks_lists(void **state)
{
    struct weir_str list = S(", a ,,b\t,\tc d, "), element;

    assert_true(weir_str_next_element(&list, &element));
    assert_str(element, "a");
    assert_true(weir_str_next_element(&list, &element));
    assert_str(element, "b");
    assert_true(weir_str_next_element(&list, &element));
    assert_str(element, "c d");
    assert_false(weir_str_next_element(&list, &element));
    assert_true(weir_str_has_token(S("keep-alive, Close"), S("close")));
    assert_false(weir_str_has_token(S("closed, not-close"), S("close")));
    assert_false(weir_str_has_token(absent, S("close")));
    assert_false(weir_str_has_token(S(",,,"), S("close")));
}

static void numbers(void **state)
{
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "1a", "18446744073709551616", "99999999999999999999"
    };
    static const uint64_t good[] = { 0, 1, 9, 10, 12345, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX };
    uint64_t value = 7;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(weir_str_to_u64(weir_str(bad[i]), &value));
    assert_int_equal(value, 7);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char text[20];
        size_t len = weir_u64_to_str(good[i], text);

        assert_true(len >= 1 && len <= 20);
        assert_true(weir_str_to_u64((struct weir_str){ text, len }, &value));
        assert_true(value == good[i]);
    }
    assert_true(weir_str_to_u64(S("000042"), &value));
    assert_int_equal(value, 42);
}

static void copies(void **state)
{
    char *copy = weir_str_dup((struct weir_str){ "abc", 2 });

    assert_string_equal(copy, "ab");
    free(copy);
    copy = weir_str_dup(absent);
    assert_string_equal(copy, "");
    free(copy);
}

static void distances(void **state)
{
    char longer[65];

    assert_int_equal(weir_str_distance(S("health"), S("health")), 0);
    assert_int_equal(weir_str_distance(S("helth"), S("health")), 1);
    assert_int_equal(weir_str_distance(S("haelth"), S("health")), 1); /* a swap is one */
    assert_int_equal(weir_str_distance(S("HAelth"), S("health")), 1);
    assert_int_equal(weir_str_distance(S("kitten"), S("sitting")), 3);
    assert_int_equal(weir_str_distance(S(""), S("abc")), 3);
    assert_int_equal(weir_str_distance(S("abc"), absent), 3);
    assert_int_equal(weir_str_distance(S("ca"), S("abc")), 3); /* no part is edited twice */
    memset(longer, 'a', sizeof(longer));
    assert_int_equal(weir_str_distance((struct weir_str){ longer, 65 }, S("a")), 65);
    assert_int_equal(weir_str_distance((struct weir_str){ longer, 64 }, S("a")), 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares), cmocka_unit_test(starts_and_ends), cmocka_unit_test(trims),
        cmocka_unit_test(cuts),     cmocka_unit_test(walks_lists),     cmocka_unit_test(numbers),
        cmocka_unit_test(copies),   cmocka_unit_test(distances),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
