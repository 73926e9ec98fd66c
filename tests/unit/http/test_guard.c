/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/guard.h"

#include <stdio.h>
#include <stdlib.h>

static void test_host(void **state)
{
    static const char *const good[] = {
        "a",        "a.test",    "a.test:",     "a.test:80", "A-b_c.d~:65535", "[::1]",
        "[::1]:80", "[1:2::3]:", "192.0.2.1:8", "a%20b",     "a!$&'()*+,;=",   "%41"
    };
    static const char *const bad[] = { ":80",    "a:x",     "a:65536", "a:b:c", "a/b",
                                       "a b",    "a@b",     "a?b",     "a#b",   "[::1",
                                       "[::1]x", "[]",      "[g::]",   "a%zz",  "a%2",
                                       "a\\b",   "a\tb",    "[::1]:x", "a\"b",  "\xc3\xa9.test",
                                       "a:-1",   "a:000080" };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!weir_guard_host(weir_str(good[i]), false))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (weir_guard_host(weir_str(bad[i]), true))
            fail_msg("taken: %s", bad[i]);
    assert_true(weir_guard_host(WEIR_STR(""), true));
    assert_false(weir_guard_host(WEIR_STR(""), false));
    assert_false(weir_guard_host(WEIR_STR("a\0b"), true));
}

static void test_name_value(void **state)
{
    assert_true(weir_guard_name(WEIR_STR("X-a_1!#$%&'*+.^`|~")));
    assert_false(weir_guard_name(WEIR_STR("")));
    for (int c = 0; c < 256; c++) {
        char text[40];
        bool token = c > ' ' && c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", c);
        bool value = c == '\t' || (c >= ' ' && c != 0x7f);

        memset(text, 'a', sizeof(text));
        text[33] = (char)c; /* behind two vectors, and in the third */
        assert_int_equal(weir_guard_name((struct weir_str){ text, 40 }), token);
        assert_int_equal(weir_guard_value((struct weir_str){ text, 40 }), value);
        assert_int_equal(weir_guard_value((struct weir_str){ text + 20, 15 }), value);
    }
}

/* Every byte, in every place of a small head: only where it belongs. */
static void test_every_byte(void **state)
{
    static const char good[] =
        "GET /0123456789 HTTP/1.1\r\nHost: a\r\nX-Abcdefghijkl: 0123456789abcdef\r\n\r\n";
    size_t len = sizeof(good) - 1;

    for (size_t at = 0; at < len; at++) {
        for (int c = 0; c < 256; c++) {
            uint8_t text[sizeof(good)];
            size_t seen = 0, skip = 0;
            ssize_t n;
            bool control = (c < ' ' && c != '\t') || c == 0x7f;

            memcpy(text, good, sizeof(good));
            text[at] = (uint8_t)c;
            n = weir_guard_head(text, len, true, NULL, &seen, &skip);
            if (c == good[at])
                assert_int_equal(n, len);
            else if (good[at] == '\r' || good[at] == '\n')
                assert_true(n <= 0);
            else if (control)
                assert_true(n < 0);
        }
    }
}

/* Every byte in every place of values of every length that is looked at in another way. */
static void test_every_length(void **state)
{
    enum { LEN = 40 };

    for (size_t len = 1; len <= LEN; len++) {
        char *text = malloc(len); /* a sanitizer sees what lies behind it */

        assert_non_null(text);
        memset(text, 'a', len);
        for (size_t at = 0; at < len; at++) {
            for (int c = 0; c < 256; c++) {
                bool control = (c < ' ' && c != '\t') || c == 0x7f;

                text[at] = (char)c;
                if (weir_guard_value((struct weir_str){ text, len }) == control)
                    fail_msg("byte %d at %zu of %zu", c, at, len);
            }
            text[at] = 'a';
        }
        free(text);
    }
}

/* A line of every length, with every length behind it: its end is found, and it is the first that counts. */
static void test_every_end(void **state)
{
    enum { LEN = 40 };

    for (size_t first = 1; first <= LEN; first++) {
        for (size_t second = 0; second <= LEN; second++) {
            char *text = malloc(2 * LEN + 16);
            size_t len = (size_t)snprintf(text, 2 * LEN + 16, "a:%*s\r\nb:%*s\r\n\r\n", (int)first,
                                          "x", (int)second, second ? "y" : "");
            size_t seen = 0;

            assert_non_null(text);
            assert_int_equal(weir_guard_section((uint8_t *)text, len, len, &seen), len);
            seen = 0;
            text[first + 2] = '\n'; /* in place of its CR */
            assert_int_equal(weir_guard_section((uint8_t *)text, len, len, &seen), WEIR_EBADHEADER);
            free(text);
        }
    }
}

static void test_limits(void **state)
{
    static const char head[] = "GET /0123456789 HTTP/1.1\r\nHost: a\r\n\r\n";
    struct weir_guard_limits limits = { .head_bytes = sizeof(head) - 1 };
    size_t seen = 0, skip = 0;

    assert_int_equal(
        weir_guard_head((const uint8_t *)head, sizeof(head) - 1, true, &limits, &seen, &skip),
        sizeof(head) - 1);
    limits.head_bytes--;
    seen = 0;
    assert_int_equal(
        weir_guard_head((const uint8_t *)head, sizeof(head) - 1, true, &limits, &seen, &skip),
        WEIR_EHDRSIZE);
}

/* Half a head costs its last line again, not the whole. */
static void test_goes_on(void **state)
{
    static const char head[] = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    size_t seen = 0, skip = 0;

    for (size_t len = 1; len < sizeof(head) - 1; len++)
        assert_int_equal(weir_guard_head((const uint8_t *)head, len, true, NULL, &seen, &skip), 0);
    assert_int_equal(seen, sizeof("\r\nGET / HTTP/1.1\r\nHost: a\r\n") - 1);
    assert_int_equal(skip, 2);
    assert_int_equal(
        weir_guard_head((const uint8_t *)head, sizeof(head) - 1, true, NULL, &seen, &skip),
        sizeof(head) - 1);
}

static void test_trailer(void **state)
{
    struct weir_arena arena;

    weir_arena_init(&arena, NULL);
    for (unsigned id = 1; id < WEIR_F_COUNT; id++) {
        struct weir_message trailer;
        bool frames = weir_field_flags(id) & (WEIR_FIELD_FRAMING | WEIR_FIELD_HOP);

        weir_message_init(&trailer, &arena, false);
        assert_int_equal(weir_message_push(&trailer, id, weir_field_name(id), WEIR_STR("x")), 0);
        if (frames || id == WEIR_F_AUTHORIZATION || id == WEIR_F_SET_COOKIE)
            assert_int_equal(weir_guard_trailer(&trailer), WEIR_EBADTRAILER);
    }
    weir_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host),         cmocka_unit_test(test_name_value),
        cmocka_unit_test(test_every_byte),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_every_length), cmocka_unit_test(test_every_end),
        cmocka_unit_test(test_goes_on),      cmocka_unit_test(test_trailer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
