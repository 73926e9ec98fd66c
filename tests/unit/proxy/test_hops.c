/* SPDX-License-Identifier: Apache-2.0 */
/** hops.c: who the client is behind trusted proxies, whatever stands in the lists that they continue. */
#include "proxy/hops.h"
#include "proxy/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct weir_prefix trusted[2];
static struct weir_arena arena;

enum { FIELDS_MAX = 3 };

/* Whom a listener of this mode takes for the client; of the fields "x: …" is X-Forwarded-For, "f: …" Forwarded. */
static void client_is(int mode, const char *peer, const char *const fields[FIELDS_MAX],
                      const char *want)
{
    struct weir_listener_conf conf = { .forwarded = mode };
    struct weir_listener listener = { .conf = &conf, .trusted = trusted, .trusted_count = 2 };
    struct weir_message msg;
    struct weir_addr client;
    char text[WEIR_ADDR_TEXT_MAX];

    weir_message_init(&msg, &arena, true);
    for (int i = 0; i < FIELDS_MAX && fields[i]; i++) {
        enum weir_field_id id = fields[i][0] == 'f' ? WEIR_F_FORWARDED : WEIR_F_X_FORWARDED_FOR;

        assert_int_equal(weir_message_push(&msg, id, weir_field_name(id), weir_str(fields[i] + 3)),
                         0);
    }
    assert_int_equal(weir_addr_parse(&client, weir_str(peer)), 0);
    weir_hops_client(&listener, &msg, &client);
    weir_addr_print_ip(&client, text);
    if (strcmp(text, want) != 0)
        fail_msg("%s by %s: wanted %s, is %s", fields[0], peer, want, text);
}

#define PEER   "10.0.0.1:99" /* trusted; itself the client where nobody further left is believed */
#define NOBODY "10.0.0.1"

static void test_x_forwarded_for(void **state)
{
    static const struct {
        const char *fields[FIELDS_MAX], *want;
    } rows[] = {
        { { "x: 192.0.2.7" }, "192.0.2.7" },
        { { "x: 192.0.2.7:4711" }, "192.0.2.7" },
        { { "x: 2001:db8::7" }, "2001:db8::7" },
        { { "x: [2001:db8::7]" }, "2001:db8::7" },
        { { "x: [2001:db8::7]:4711" }, "2001:db8::7" },
        { { "x: ::ffff:192.0.2.7" }, "192.0.2.7" },
        { { "x: 6.6.6.6, 192.0.2.7" }, "192.0.2.7" },
        { { "x: 6.6.6.6, 192.0.2.7 ,10.1.1.1:444, 10.2.2.2" }, "192.0.2.7" },
        { { "x: 6.6.6.6, 192.0.2.7", "x: , 10.1.1.1,," }, "192.0.2.7" },
        { { "x: 10.1.1.1, 10.2.2.2" }, "10.1.1.1" }, /* all are trusted */
        { { "x: 6.6.6.6, unknown, 10.2.2.2" }, "10.2.2.2" },
        { { "x: 6.6.6.6, junk" }, NOBODY },
        { { "x: 6.6.6.6, 192.0.2.7:" }, NOBODY },
        { { "x: 6.6.6.6, 192.0.2.7:66666" }, NOBODY },
        { { "x: 6.6.6.6, [2001:db8::7]x" }, NOBODY },
        { { "x: 6.6.6.6, [2001:db8::7]:" }, NOBODY },
        { { "x: 6.6.6.6, [2001:db8::7" }, NOBODY },
        { { "x: 6.6.6.6, [192.0.2.7]" }, NOBODY },
        { { "x: 6.6.6.6, 2001:db8::7]:80" }, NOBODY },
        { { "x: 6.6.6.6, []" }, NOBODY },
        { { "x: 6.6.6.6, [" }, NOBODY },
        { { "x: 6.6.6.6, :" }, NOBODY },
        { { "x: " }, NOBODY },
        { { NULL }, NOBODY },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        client_is(WEIR_FORWARDED_X, PEER, rows[i].fields, rows[i].want);
        client_is(WEIR_FORWARDED_OFF, PEER, rows[i].fields, rows[i].want);
        client_is(WEIR_FORWARDED_X, "192.0.2.99:1", rows[i].fields, "192.0.2.99");
    }
}

static void test_forwarded(void **state)
{
    static const struct {
        const char *fields[FIELDS_MAX], *want;
    } rows[] = {
        { { "f: for=192.0.2.7" }, "192.0.2.7" },
        { { "f: FOR=192.0.2.7;proto=http;by=203.0.113.43" }, "192.0.2.7" },
        { { "f: by=203.0.113.43 ; For=192.0.2.7 ;;" }, "192.0.2.7" },
        { { "f: for=\"192.0.2.7:4711\"" }, "192.0.2.7" },
        { { "f: for=\"[2001:db8::7]\"" }, "2001:db8::7" },
        { { "f: for=\"[2001:db8::7]:4711\"" }, "2001:db8::7" },
        { { "f: for=\"[2001:db8::7]:_port\"" }, "2001:db8::7" }, /* the address is told */
        { { "f: for=\"1\\92.0.2.\\7\"" }, "192.0.2.7" },
        { { "f: for=6.6.6.6, for=192.0.2.7, for=\"10.1.1.1:444\"" }, "192.0.2.7" },
        { { "f: for=6.6.6.6, for=192.0.2.7", "f: for=10.1.1.1, ,", "f: for=10.2.2.2" },
          "192.0.2.7" },
        { { "f: for=192.0.2.7;host=\"a, for=6.6.6.6\"" }, "192.0.2.7" },
        { { "f: for=192.0.2.7;host=\"a;for=6.6.6.6;\\\", for=6.6.6.6;b=\\\\\"" }, "192.0.2.7" },
        /* what an untrusted client left open takes nothing of what was written after it */
        { { "f: for=\", for=192.0.2.7" }, "192.0.2.7" },
        { { "f: for=\"\\, for=\"[2001:db8::7]\"" }, "2001:db8::7" },
        { { "f: a=\", for=10.1.1.1;host=\"x\"" }, "10.1.1.1" },
        /* nobody further left is believed */
        { { "f: for=6.6.6.6, for=unknown" }, NOBODY },
        { { "f: for=6.6.6.6, for=_hidden" }, NOBODY },
        { { "f: for=6.6.6.6, for=\"_hidden:80\", for=10.2.2.2" }, "10.2.2.2" },
        { { "f: for=6.6.6.6, by=10.0.0.2;proto=http" }, NOBODY },
        { { "f: for=6.6.6.6, ;" }, NOBODY },
        { { "f: for=6.6.6.6, for=192.0.2.7;for=192.0.2.8" }, NOBODY },
        { { "f: for=6.6.6.6, for=" }, NOBODY },
        { { "f: for=6.6.6.6, for=\"\"" }, NOBODY },
        { { "f: for=6.6.6.6, for" }, NOBODY },
        { { "f: for=6.6.6.6, =192.0.2.7" }, NOBODY },
        { { "f: for=6.6.6.6, for=192.0.2.7:80" }, NOBODY }, /* no token */
        { { "f: for=6.6.6.6, for=[2001:db8::7]" }, NOBODY },
        { { "f: for=6.6.6.6, for=\"2001:db8::7\"" }, NOBODY }, /* IPv6 stands in brackets */
        { { "f: for=6.6.6.6, for=\"192.0.2.7\"x" }, NOBODY },
        { { "f: for=6.6.6.6, for=\"192.0.2.7:_\"" }, NOBODY },
        { { "f: for=6.6.6.6, for=\"192.0.2.7:_a b\"" }, NOBODY },
        { { "f: for=6.6.6.6, for =192.0.2.7" }, NOBODY },
        { { "f: for=192.0.2.7\"" }, NOBODY },
        { { "f: for=\"192.0.2.7" }, NOBODY },
        { { "f: for=\"192.0.2.7\\\"" }, NOBODY },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        client_is(WEIR_FORWARDED_RFC7239, PEER, rows[i].fields, rows[i].want);
        client_is(WEIR_FORWARDED_X, PEER, rows[i].fields, rows[i].want);
        client_is(WEIR_FORWARDED_RFC7239, "192.0.2.99:1", rows[i].fields, "192.0.2.99");
    }
}

/* Of both fields one is read, that of the listener's own kind: the other may be what the client itself wrote. */
static void test_one_of_both(void **state)
{
    static const char *const both[FIELDS_MAX] = { "x: 192.0.2.7", "f: for=192.0.2.8" };
    static const char *const bad[FIELDS_MAX] = { "f: for=unknown", "x: 192.0.2.7" };

    (void)state;
    client_is(WEIR_FORWARDED_X, PEER, both, "192.0.2.7");
    client_is(WEIR_FORWARDED_OFF, PEER, both, "192.0.2.7");
    client_is(WEIR_FORWARDED_RFC7239, PEER, both, "192.0.2.8");
    client_is(WEIR_FORWARDED_RFC7239, PEER, bad, NOBODY);
}

static void test_long(void **state)
{
    char text[2200] = "f: for=192.0.2.7;host=\"";
    const char *fields[FIELDS_MAX] = { text };
    size_t start = strlen(text);

    (void)state;
    memset(text + start, 'h', 2100);
    strcpy(text + start + 2100, "\"");
    client_is(WEIR_FORWARDED_RFC7239, PEER, fields, "192.0.2.7");
    memcpy(text, "f: for=6.6.6.6,   for=\"", start);
    client_is(WEIR_FORWARDED_RFC7239, PEER, fields, NOBODY);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_x_forwarded_for),
        cmocka_unit_test(test_forwarded),
        cmocka_unit_test(test_one_of_both),
        cmocka_unit_test(test_long),
    };
    int failed;

    assert_int_equal(weir_prefix_parse(&trusted[0], WEIR_STR("10.0.0.0/8")), 0);
    assert_int_equal(weir_prefix_parse(&trusted[1], WEIR_STR("2001:db8:1::/48")), 0);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    weir_arena_fini(&arena);
    return failed;
}
