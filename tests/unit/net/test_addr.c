/* SPDX-License-Identifier: Apache-2.0 */
/** test_addr.c: addresses and prefixes, to and from text. */
#include "net/addr.h"
#include "weir/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_round_trip(void **state)
{
    static const struct {
        const char *in, *out, *ip;
        uint16_t port;
    } rows[] = {
        { "10.0.0.1:80", "10.0.0.1:80", "10.0.0.1", 80 },
        { "0.0.0.0:0", "0.0.0.0:0", "0.0.0.0", 0 },
        { "[2001:db8::1]:65535", "[2001:db8::1]:65535", "2001:db8::1", 65535 },
        { "[2001:DB8:0::1]:80", "[2001:db8::1]:80", "2001:db8::1", 80 },
        { "[::ffff:192.0.2.1]:80", "192.0.2.1:80", "192.0.2.1", 80 },
        { "[::]:443", "[::]:443", "::", 443 },
        { ":443", ":443", "::", 443 },
        { "unix:/run/x.sock", "unix:/run/x.sock", "unix", 0 },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct weir_addr addr, again;
        char text[WEIR_ADDR_TEXT_MAX];

        assert_int_equal(weir_addr_parse(&addr, weir_str(rows[i].in)), 0);
        assert_int_equal(weir_addr_print(&addr, text), strlen(rows[i].out));
        assert_string_equal(text, rows[i].out);
        assert_int_equal(weir_addr_port(&addr), rows[i].port);
        assert_int_equal(weir_addr_parse(&again, weir_str(text)), 0);
        assert_int_equal(weir_addr_print_ip(&addr, text), strlen(rows[i].ip));
        assert_string_equal(text, rows[i].ip);
        if (addr.sa.sa_family == again.sa.sa_family)
            assert_true(weir_addr_eq(&addr, &again));
    }
}

static void test_refused(void **state)
{
    static const char *const rows[] = {
        "",
        ":",
        "80",
        "10.0.0.1",
        "10.0.0.1:",
        "10.0.0.1:65536",
        "10.0.0.1:-1",
        "10.0.0.1:+1",
        "10.0.0.1: 80",
        "10.0.0.1:80 ",
        " 10.0.0.1:80",
        "10.0.0.1:000080",
        "10.0.0:80",
        "010.0.0.1:80",
        "10.0.0.256:80",
        "10.0.0.1:80:90",
        "::1:80",
        "2001:db8::1",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "[]:80",
        "[10.0.0.1]:80",
        "localhost:80",
        "[fe80::1%lo]:80",
        "unix:",
        "*:80",
        "0x7f.1:80",
        "1:80",
        "[2001:db8:0000:0000:0000:0000:0000:0000:0000:00001]:80",
        "10.0.0.1:8a",
        "[::1]:",
        "[",
    };
    char big[256] = "unix:/";
    struct weir_addr addr;

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (weir_addr_parse(&addr, weir_str(rows[i])) != WEIR_EADDR)
            fail_msg("'%s' was taken", rows[i]);
    assert_int_equal(weir_addr_parse(&addr, (struct weir_str){ NULL, 0 }), WEIR_EADDR);
    assert_int_equal(weir_addr_parse(&addr, (struct weir_str){ "10.0.0.1\0:80", 12 }), WEIR_EADDR);
    assert_int_equal(weir_addr_parse(&addr, (struct weir_str){ "unix:/a\0b", 9 }), WEIR_EADDR);
    memset(big + 6, 'x', 107); /* a path of 108 bytes has no room for its end */
    assert_int_equal(weir_addr_parse(&addr, weir_str(big)), WEIR_EADDR);
    big[5 + 107] = 0;
    assert_int_equal(weir_addr_parse(&addr, weir_str(big)), 0);
}

static void test_dual(void **state)
{
    struct weir_addr any, v6;

    assert_int_equal(weir_addr_parse(&any, weir_str(":80")), 0);
    assert_int_equal(weir_addr_parse(&v6, weir_str("[::]:80")), 0);
    assert_true(any.dual);
    assert_false(v6.dual);
    assert_true(weir_addr_eq(&any, &v6));
    weir_addr_set_port(&any, 81);
    assert_false(weir_addr_eq(&any, &v6));
}

static void test_split(void **state)
{
    struct weir_str host;
    uint16_t port;

    assert_true(weir_addr_split(weir_str("app.internal:8080"), &host, &port));
    assert_int_equal(host.len, 12);
    assert_int_equal(port, 8080);
    assert_true(weir_addr_split(weir_str("_http._tcp.a-b:1"), &host, &port));
    assert_true(weir_addr_split(weir_str("10.0.0.1:80"), &host, &port));
    assert_true(weir_addr_split(weir_str("[2001:db8::1]:80"), &host, &port));
    assert_memory_equal(host.ptr, "2001:db8::1", host.len);
    assert_false(weir_addr_split(weir_str(":80"), &host, &port));
    assert_false(weir_addr_split(weir_str("app"), &host, &port));
    assert_false(weir_addr_split(weir_str("app:0"), &host, &port));
    assert_false(weir_addr_split(weir_str("app:x"), &host, &port));
    assert_false(weir_addr_split(weir_str("a b:80"), &host, &port));
    assert_false(weir_addr_split(weir_str("a/b:80"), &host, &port));
    assert_false(weir_addr_split(weir_str("[app]:80"), &host, &port));
    assert_false(weir_addr_split(weir_str("::1:80"), &host, &port));
}

static void test_prefix(void **state)
{
    static const struct {
        const char *text, *out, *in, *not_in;
    } rows[] = {
        { "10.0.0.0/8", "10.0.0.0/8", "10.255.255.255:1", "11.0.0.0:1" },
        { "192.0.2.128/25", "192.0.2.128/25", "192.0.2.200:1", "192.0.2.127:1" },
        { "192.0.2.1", "192.0.2.1/32", "[::ffff:192.0.2.1]:1", "192.0.2.2:1" },
        { "0.0.0.0/0", "0.0.0.0/0", "203.0.113.9:1", "[2001:db8::1]:1" },
        { "2001:db8::/33", "2001:db8::/33", "[2001:db8:7fff::1]:1", "[2001:db8:8000::1]:1" },
        { "::1", "::1/128", "[::1]:1", "[::2]:1" },
    };
    static const char *const bad[] = {
        "",
        "/",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "10.0.0.0/08x",
        "10.0.0.0/-1",
        "10.0.0/8",
        "x/8",
        "2001:db8::/129",
        "2001:db8::1/64",
        "10.0.0.0/8/8",
        "10.0.0.0 /8",
        "10.0.0.0/0008",
    };
    struct weir_prefix prefix;

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct weir_addr addr;
        uint8_t bytes[16];
        char text[WEIR_ADDR_TEXT_MAX];

        assert_int_equal(weir_prefix_parse(&prefix, weir_str(rows[i].text)), 0);
        assert_int_equal(weir_prefix_print(&prefix, text), strlen(rows[i].out));
        assert_string_equal(text, rows[i].out);
        assert_int_equal(weir_addr_parse(&addr, weir_str(rows[i].in)), 0);
        assert_true(weir_addr_bytes(&addr, bytes));
        assert_true(weir_prefix_has(&prefix, bytes));
        assert_int_equal(weir_addr_parse(&addr, weir_str(rows[i].not_in)), 0);
        assert_true(weir_addr_bytes(&addr, bytes));
        assert_false(weir_prefix_has(&prefix, bytes));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (weir_prefix_parse(&prefix, weir_str(bad[i])) != WEIR_EADDR)
            fail_msg("'%s' was taken", bad[i]);
    assert_int_equal(weir_prefix_parse(&prefix, weir_str("::/0")), 0);
    assert_true(weir_prefix_has(&prefix, (uint8_t[16]){ 0xff }));
}

static void test_none(void **state)
{
    struct weir_addr none = { 0 }, nameless = { .len = 2, .un.sun_family = AF_UNIX };
    uint8_t bytes[16];
    char text[WEIR_ADDR_TEXT_MAX];

    weir_addr_print(&none, text);
    assert_string_equal(text, "-");
    weir_addr_print(&nameless, text);
    assert_string_equal(text, "unix:");
    assert_false(weir_addr_bytes(&nameless, bytes));
    assert_false(weir_addr_eq(&none, &nameless));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_dual),       cmocka_unit_test(test_split),
        cmocka_unit_test(test_prefix),     cmocka_unit_test(test_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
