/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder against a second one that works by code points: every sequence that could be one character. */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* RFC 3629 by arithmetic: the length of the character, or 0. */
static size_t length_by_value(const uint8_t *s, size_t left)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t len = s[0] < 0x80       ? 1
                 : s[0] >> 5 == 6  ? 2
                 : s[0] >> 4 == 14 ? 3
                 : s[0] >> 3 == 30 ? 4
                                   : 0;
    uint32_t value = len == 1 ? s[0] : s[0] & (0x7fu >> len);

    if (len == 0 || len > left)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (s[i] >> 6 != 2)
            return 0;
        value = value << 6 | (s[i] & 0x3f);
    }
    return value < least[len] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000) ? 0 : len;
}

static void test_every_character(void **state)
{
    static const uint8_t last[] = { 0x00, 0x7f, 0x80, 0x8f, 0x90, 0xbf, 0xc0, 0xff };
    uint8_t s[4];

    for (unsigned first = 0; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            for (unsigned more = 0; more < 64; more++) {
                s[0] = (uint8_t)first;
                s[1] = (uint8_t)second;
                s[2] = last[more & 7];
                s[3] = last[more >> 3];
                for (size_t left = 1; left <= 4; left++)
                    assert_int_equal(weir_utf8_len(s, left), length_by_value(s, left));
            }
        }
    }
}

static void test_texts(void **state)
{
    static const char text[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
    size_t good = 0;

    for (size_t len = 0; len < sizeof(text); len++) /* whole at 0, 1, 3, 6 and 10 bytes */
        good += weir_utf8_good((const uint8_t *)text, len);
    assert_int_equal(good, 5);
    assert_false(weir_utf8_good((const uint8_t *)"a\xff", 2));
    assert_int_equal(weir_utf8_len((const uint8_t *)"", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_character),
                                        cmocka_unit_test(test_texts) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
