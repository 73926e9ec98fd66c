/* SPDX-License-Identifier: Apache-2.0 */
/** The PROXY protocol: both versions, at every split point, and what must be refused. */
#include "net/proxyproto.h"
#include "weir/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static enum weir_pp parse(const void *data, size_t len, struct weir_pp_header *header)
{
    uint8_t *exact = malloc(len ? len : 1); /* so that a read behind it is seen */
    enum weir_pp verdict;

    memcpy(exact, data, len);
    verdict = weir_pp_parse(exact, len, header);
    free(exact);
    return verdict;
}

static enum weir_pp parse_text(const char *text, struct weir_pp_header *header)
{
    return parse(text, strlen(text), header);
}

static void is_addr(const struct weir_addr *addr, const char *text)
{
    char out[WEIR_ADDR_TEXT_MAX];
    size_t len = weir_addr_print(addr, out);

    assert_int_equal(len, strlen(text));
    assert_memory_equal(out, text, len);
}

/* A header of version 2 with these bytes behind the first 16. */
static size_t v2(uint8_t *out, unsigned command, unsigned family, const void *rest, size_t len)
{
    memcpy(out, signature, 12);
    out[12] = (uint8_t)command;
    out[13] = (uint8_t)family;
    out[14] = (uint8_t)(len >> 8);
    out[15] = (uint8_t)len;
    memcpy(out + 16, rest, len);
    return 16 + len;
}

/* The whole is DONE, each beginning of it MORE. */
static void at_every_split(const uint8_t *data, size_t len, struct weir_pp_header *header)
{
    uint8_t *more = malloc(len + 3);

    for (size_t n = 0; n < len; n++)
        assert_int_equal(parse(data, n, header), WEIR_PP_MORE);
    assert_int_equal(parse(data, len, header), WEIR_PP_DONE);
    assert_int_equal(header->len, len);
    memcpy(more, data, len);
    memcpy(more + len, "GET", 3);
    assert_int_equal(parse(more, len + 3, header), WEIR_PP_DONE);
    assert_int_equal(header->len, len);
    free(more);
}

static void test_v1(void **state)
{
    static const char v4[] = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
    static const char v6[] = "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n";
    static const char unknown[] = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    struct weir_pp_header header;

    at_every_split((const uint8_t *)v4, strlen(v4), &header);
    assert_true(header.known);
    is_addr(&header.from, "192.0.2.1:56324");
    is_addr(&header.to, "198.51.100.2:443");
    at_every_split((const uint8_t *)v6, strlen(v6), &header);
    is_addr(&header.from, "[2001:db8::1]:0");
    is_addr(&header.to, "[::1]:65535");
    at_every_split((const uint8_t *)unknown, strlen(unknown), &header);
    assert_false(header.known);
    assert_int_equal(parse_text("PROXY UNKNOWN\r\n", &header), WEIR_PP_DONE);
    assert_false(header.known);
}

static void test_v1_refused(void **state)
{
    static const char *const bad[] = {
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n", /* no CR */
        "PROXY \n",
        "PROXY \r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
    };
    static const char *const none[] = { "G",         "PROXYTCP4", "PROXX", "POST / ",
                                        "\r\n\r\nG", "\n",        "proxy " };
    struct weir_pp_header header;
    char line[200];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse_text(bad[i], &header), WEIR_PP_BAD);
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_int_equal(parse_text(none[i], &header), WEIR_PP_NONE);
    memset(line, 'x', sizeof(line));
    memcpy(line, "PROXY UNKNOWN ", 14);
    assert_int_equal(parse(line, 106, &header), WEIR_PP_MORE);
    assert_int_equal(parse(line, 107, &header), WEIR_PP_BAD);
    memcpy(line + 105, "\r\n", 2); /* 107 bytes are the most */
    assert_int_equal(parse(line, 107, &header), WEIR_PP_DONE);
    memcpy(line + 105, "x\r\n", 3);
    assert_int_equal(parse(line, 108, &header), WEIR_PP_BAD);
}

static void test_v2(void **state)
{
    static const uint8_t v4[] = { 192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb };
    static const uint8_t v6[36] = {
        0x20, 0x01, 0x0d, 0xb8, [15] = 1, [31] = 1, [32] = 0, 1, 0xff, 0xff
    };
    static const uint8_t tlvs[] = { 0x04, 0, 0, 0x02, 0, 3, 'a', '.', 'b', 0xee, 0, 1, 7 };
    static const uint8_t unix_ends[216] = "/run/a";
    uint8_t data[300], rest[64];
    struct weir_pp_header header;

    at_every_split(data, v2(data, 0x21, 0x11, v4, sizeof(v4)), &header);
    is_addr(&header.from, "192.0.2.1:56324");
    is_addr(&header.to, "198.51.100.2:443");
    at_every_split(data, v2(data, 0x21, 0x21, v6, sizeof(v6)), &header);
    is_addr(&header.from, "[2001:db8::1]:1");
    is_addr(&header.to, "[::1]:65535");
    memcpy(rest, v4, sizeof(v4));
    memcpy(rest + sizeof(v4), tlvs, sizeof(tlvs));
    at_every_split(data, v2(data, 0x21, 0x11, rest, sizeof(v4) + sizeof(tlvs)), &header);
    assert_true(header.known);
    /* no address that could count */
    at_every_split(data, v2(data, 0x20, 0x00, "", 0), &header); /* LOCAL */
    assert_false(header.known);
    at_every_split(data, v2(data, 0x20, 0xff, v4, sizeof(v4)),
                   &header); /* of LOCAL all else is discarded */
    assert_false(header.known);
    at_every_split(data, v2(data, 0x21, 0x00, tlvs, sizeof(tlvs)), &header); /* UNSPEC */
    assert_false(header.known);
    at_every_split(data, v2(data, 0x21, 0x31, unix_ends, sizeof(unix_ends)), &header);
    assert_false(header.known);
    at_every_split(data, v2(data, 0x21, 0x12, v4, sizeof(v4)), &header); /* datagrams */
    assert_false(header.known);
}

static void test_v2_refused(void **state)
{
    static const uint8_t v4[] = { 192,  0,    2, 1, 198, 51,   100, 2, 0xdc, 0x04,
                                  0x01, 0xbb, 4, 0, 0,   0xee, 0,   2, 1,    2 };
    uint8_t data[100];
    struct weir_pp_header header;
    size_t len;

    for (size_t cut = 0; cut < 12; cut++) /* an address block that is too short */
        assert_int_equal(parse(data, v2(data, 0x21, 0x11, v4, cut), &header), WEIR_PP_BAD);
    for (size_t cut = 13; cut < sizeof(v4); cut++) { /* a TLV that is cut */
        enum weir_pp want = cut == 15 ? WEIR_PP_DONE : WEIR_PP_BAD;

        assert_int_equal(parse(data, v2(data, 0x21, 0x11, v4, cut), &header), want);
    }
    for (unsigned command = 0; command < 256; command++) {
        len = v2(data, command, 0x11, v4, 12);
        assert_int_equal(parse(data, len, &header),
                         command == 0x20 || command == 0x21 ? WEIR_PP_DONE : WEIR_PP_BAD);
    }
    for (unsigned family = 0; family < 256; family++) {
        uint8_t rest[300] = { 0 };
        uint8_t big[400];
        bool good = family >> 4 <= 3 && (family & 15) <= 2;

        len = v2(big, 0x21, family, rest, 216);
        assert_int_equal(parse(big, len, &header), good ? WEIR_PP_DONE : WEIR_PP_BAD);
    }
    len = v2(data, 0x21, 0x11, v4, 12);
    data[14] = 0x40; /* 16 KiB of TLVs are said to come */
    assert_int_equal(parse(data, len, &header), WEIR_PP_BAD);
}

/* The example of RFC 3720 B.4 is over 32 zeros; ours is over a whole header, so both ways must agree with a sum made by bits. */
static uint32_t crc_by_bits(const uint8_t *data, size_t len)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void test_crc(void **state)
{
    uint8_t zeros[32] = { 0 }, out[WEIR_PP_OUT_BYTES_MAX], copy[WEIR_PP_OUT_BYTES_MAX];
    struct weir_addr from, to;
    struct weir_pp_header header;
    struct weir_pp_out what = {
        .version = WEIR_PP_V2, .from = &from, .to = &to, .authority = WEIR_STR("a.test")
    };
    uint32_t sum;
    size_t len;

    assert_int_equal(crc_by_bits(zeros, 32), 0x8a9136aa); /* RFC 3720 B.4 */
    assert_int_equal(weir_addr_parse(&from, WEIR_STR("192.0.2.1:1000")), 0);
    assert_int_equal(weir_addr_parse(&to, WEIR_STR("192.0.2.2:80")), 0);
    len = weir_pp_make(&what, out);
    sum = (uint32_t)out[len - 4] << 24 | (uint32_t)out[len - 3] << 16 |
          (uint32_t)out[len - 2] << 8 | out[len - 1];
    memcpy(copy, out, len);
    memset(copy + len - 4, 0, 4);
    assert_int_equal(sum, crc_by_bits(copy, len));
    at_every_split(out, len, &header);
    for (
        size_t i = 16; i < len;
        i++) { /* any bit that has turned is seen, but where the TLVs come apart it is seen as that */
        memcpy(copy, out, len);
        copy[i] ^= 0x10;
        if (copy[len - 7] == 0x03)
            assert_int_equal(parse(copy, len, &header), WEIR_PP_BAD);
    }
}

static void both_ways(const char *from_text, const char *to_text, int version,
                      const char *from_told)
{
    struct weir_addr from, to;
    struct weir_pp_header header;
    struct weir_pp_out what = {
        .version = version, .from = &from, .to = &to, .id = WEIR_STR("0123456789abcdef")
    };
    uint8_t out[WEIR_PP_OUT_BYTES_MAX];
    size_t len;

    assert_int_equal(weir_addr_parse(&from, weir_str(from_text)), 0);
    assert_int_equal(weir_addr_parse(&to, weir_str(to_text)), 0);
    len = weir_pp_make(&what, out);
    at_every_split(out, len, &header);
    assert_int_equal(header.known, from_told != NULL);
    if (from_told) {
        is_addr(&header.from, from_told);
        assert_int_equal(weir_addr_port(&header.to), weir_addr_port(&to));
    }
}

static void test_make(void **state)
{
    struct weir_pp_out own = { .version = WEIR_PP_V1 };
    struct weir_pp_header header;
    uint8_t out[WEIR_PP_OUT_BYTES_MAX];
    char authority[400];

    for (int version = WEIR_PP_V1; version <= WEIR_PP_V2; version++) {
        both_ways("192.0.2.1:56324", "198.51.100.2:443", version, "192.0.2.1:56324");
        both_ways("[2001:db8::1]:1", "[2001:db8::2]:2", version, "[2001:db8::1]:1");
        both_ways("[::ffff:192.0.2.1]:1", "192.0.2.9:2", version, "192.0.2.1:1");
        both_ways("[2001:db8::1]:1", "192.0.2.9:2", version, "[2001:db8::1]:1");
        both_ways("unix:/run/x", "unix:/run/y", version, NULL);
        own.version = version;
        at_every_split(out, weir_pp_make(&own, out), &header); /* of our own: LOCAL */
        assert_false(header.known);
        assert_true(version == WEIR_PP_V1 ? !memcmp(out, "PROXY UNKNOWN\r\n", 15)
                                          : out[12] == 0x20);
    }
    memset(authority, 'a', sizeof(authority)); /* too long to be said: left out */
    own.authority = (struct weir_str){ authority, 256 };
    assert_int_equal(weir_pp_make(&own, out), 16 + 7);
    own.authority.len = 255;
    own.id = (struct weir_str){ authority, WEIR_PP_ID_BYTES_MAX };
    at_every_split(out, weir_pp_make(&own, out), &header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1),  cmocka_unit_test(test_v1_refused),
        cmocka_unit_test(test_v2),  cmocka_unit_test(test_v2_refused),
        cmocka_unit_test(test_crc), cmocka_unit_test(test_make),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
