/* SPDX-License-Identifier: Apache-2.0 */
/* A WebSocket that echoes: whole, byte by byte and at every split; what RFC 6455 forbids. */
#include "cli/echo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct wire {
    uint8_t bytes[4096];
    size_t len;
};

static void put_frame(struct wire *wire, unsigned first, const void *data, size_t len)
{
    static const uint8_t mask[4] = { 0x37, 0xfa, 0x21, 0x3d };
    const uint8_t *from = data;

    wire->bytes[wire->len++] = (uint8_t)first;
    if (len < 126) {
        wire->bytes[wire->len++] = (uint8_t)(0x80 | len);
    } else {
        wire->bytes[wire->len++] = 0x80 | 126;
        wire->bytes[wire->len++] = (uint8_t)(len >> 8);
        wire->bytes[wire->len++] = (uint8_t)len;
    }
    memcpy(wire->bytes + wire->len, mask, 4);
    wire->len += 4;
    for (size_t i = 0; i < len; i++)
        wire->bytes[wire->len++] = from[i] ^ mask[i & 3];
}

/* Feeds in two parts (the second byte by byte when `slow`); what came back. */
static bool feed(const struct wire *wire, size_t split, bool slow, struct wire *out)
{
    struct weir_ws ws = { 0 };

    out->len = weir_ws_feed(&ws, wire->bytes, split, out->bytes);
    for (size_t at = split; at < wire->len;) {
        size_t n = slow ? 1 : wire->len - at;

        out->len += weir_ws_feed(&ws, wire->bytes + at, n, out->bytes + out->len);
        at += n;
    }
    return ws.closed;
}

static void echoes_at_every_split(void **state)
{
    static const uint8_t expected[] = "\x81\x02hi"
                                      "\x8a\x03png"
                                      "\x01\x02h\xc3"
                                      "\x8a\x00"
                                      "\x80\x01\xa9"
                                      "\x82\x00"
                                      "\x88\x05\x03\xe8"
                                      "bye";
    struct wire in = { .len = 0 }, out;

    (void)state;
    put_frame(&in, 0x81, "hi", 2);
    put_frame(&in, 0x89, "png", 3);
    put_frame(&in, 0x01, "h\xc3", 2); /* a character cut by a fragment */
    put_frame(&in, 0x89, "", 0);
    put_frame(&in, 0x80, "\xa9", 1);
    put_frame(&in, 0x82, "", 0);
    put_frame(&in, 0x8a, "unasked", 7);
    put_frame(&in, 0x88,
              "\x03\xe8"
              "bye",
              5);
    for (size_t split = 0; split <= in.len; split++) {
        for (int slow = 0; slow < 2; slow++) {
            assert_true(feed(&in, split, slow, &out));
            /* our Close has the code alone */
            assert_memory_equal(out.bytes, expected, sizeof(expected) - 1 - 8);
            assert_int_equal(out.len, sizeof(expected) - 1 - 3);
            assert_memory_equal(out.bytes + out.len - 4, "\x88\x02\x03\xe8", 4);
        }
    }
}

static void long_frame(void **state)
{
    struct wire in = { .len = 0 }, out;
    uint8_t data[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    put_frame(&in, 0x82, data, sizeof(data));
    assert_false(feed(&in, 500, false, &out));
    assert_int_equal(out.len, sizeof(data) + 4);
    assert_memory_equal(out.bytes + 4, data, sizeof(data));
}

static void refuses(const struct wire *in, unsigned code)
{
    struct wire out;

    assert_true(feed(in, 0, false, &out));
    assert_true(out.len >= 4);
    assert_int_equal(out.bytes[out.len - 4], 0x88);
    assert_int_equal(out.bytes[out.len - 2] << 8 | out.bytes[out.len - 1], code);
}

static void what_is_forbidden(void **state)
{
    static const struct {
        unsigned first;
        const char *data;
        size_t len;
        unsigned code;
    } cases[] = {
        { 0x83, "x", 1, 1002 },        /* unknown opcode */
        { 0xc1, "x", 1, 1002 },        /* reserved bit */
        { 0x80, "x", 1, 1002 },        /* a continuation of nothing */
        { 0x09, "x", 1, 1002 },        /* a fragmented ping */
        { 0x88, "x", 1, 1002 },        /* half a close code */
        { 0x88, "\x03\xed", 2, 1002 }, /* 1005 */
        { 0x88, "\x03\xe8\xff", 3, 1007 },
        { 0x81, "\xc3", 1, 1007 }, /* ends within a character */
    };
    static const uint8_t unmasked[] = { 0x81, 0x02, 'h', 'i' };
    static const uint8_t padded[] = { 0x81, 0xfe, 0x00, 0x05, 1, 2, 3, 4 };
    struct wire in;
    uint8_t big[126] = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        in.len = 0;
        put_frame(&in, cases[i].first, cases[i].data, cases[i].len);
        refuses(&in, cases[i].code);
    }
    memcpy(in.bytes, unmasked, in.len = sizeof(unmasked));
    refuses(&in, 1002);
    memcpy(in.bytes, padded, in.len = sizeof(padded));
    refuses(&in, 1002);
    in.len = 0;
    put_frame(&in, 0x89, big, sizeof(big)); /* a ping above 125 */
    refuses(&in, 1002);
    in.len = 0;
    put_frame(&in, 0x01, "a", 1);
    put_frame(&in, 0x81, "b", 1); /* a message within a message */
    refuses(&in, 1002);
}

static void not_utf8_ends(void **state)
{
    static const char *const bad[] = { "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                       "\xe0\x80\x80" };
    struct wire in, out;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        in.len = 0;
        put_frame(&in, 0x81, bad[i], strlen(bad[i]));
        assert_true(feed(&in, 0, true, &out));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echoes_at_every_split),
        cmocka_unit_test(long_frame),
        cmocka_unit_test(what_is_forbidden),
        cmocka_unit_test(not_utf8_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
