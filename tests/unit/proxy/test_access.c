/* SPDX-License-Identifier: Apache-2.0 */
/** Who may connect: lists, files, bans; and bans that come and go while workers look. */
#include "proxy/access.h"
#include "proxy/ban_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct weir_tls_fault fault;

static struct weir_addr addr_of(const char *ip)
{
    struct weir_addr addr;
    char text[96];

    snprintf(text, sizeof(text), strchr(ip, ':') ? "[%s]:1" : "%s:1", ip);
    assert_int_equal(weir_addr_parse(&addr, weir_str(text)), 0);
    return addr;
}

static struct weir_prefix prefix_of(const char *text)
{
    struct weir_prefix prefix;

    assert_int_equal(weir_prefix_parse(&prefix, weir_str(text)), 0);
    return prefix;
}

static int check(struct weir_access *access, const char *ip, uint64_t now_ms)
{
    struct weir_addr addr = addr_of(ip);

    return weir_access_check(access, &addr, now_ms);
}

static int ban(struct weir_access *access, const char *text, uint64_t for_ms, uint64_t now_ms)
{
    struct weir_prefix prefix = prefix_of(text);

    return weir_access_ban(access, &prefix, for_ms, weir_str("test"), NULL, now_ms);
}

static int unban(struct weir_access *access, const char *text)
{
    struct weir_prefix prefix = prefix_of(text);

    return weir_access_unban(access, &prefix);
}

static struct weir_ban_table bans;

static int set_up(void **state)
{
    return weir_ban_table_init(&bans);
}

static int tear_down(void **state)
{
    weir_ban_table_fini(&bans);
    return 0;
}

#define STRS(...)                                                                     \
    (struct weir_strs)                                                                \
    {                                                                                 \
        .at = (struct weir_str[]){ __VA_ARGS__ },                                     \
        .count = sizeof((struct weir_str[]){ __VA_ARGS__ }) / sizeof(struct weir_str) \
    }

static void test_lists(void **state)
{
    struct weir_access_conf conf = {
        .allow = STRS(WEIR_STR("10.0.0.0/8"), WEIR_STR("2001:db8::/32")),
        .deny = STRS(WEIR_STR("10.1.0.0/16"), WEIR_STR("10.1.2.0/24"), WEIR_STR("10.9.0.0/16")),
        .never_ban = STRS(WEIR_STR("10.1.2.3")),
    };
    struct weir_access *access = weir_access_new(&conf, &bans, &fault);

    assert_non_null(access);
    assert_int_equal(check(access, "10.0.0.1", 0), WEIR_ACCESS_OK);
    assert_int_equal(check(access, "::ffff:10.0.0.1", 0), WEIR_ACCESS_OK);
    assert_int_equal(check(access, "2001:db8::7", 0), WEIR_ACCESS_OK);
    assert_int_equal(check(access, "2001:db9::7", 0), WEIR_ACCESS_DENIED);
    assert_int_equal(check(access, "11.0.0.1", 0), WEIR_ACCESS_DENIED);
    assert_int_equal(check(access, "10.1.2.4", 0), WEIR_ACCESS_DENIED);
    assert_int_equal(check(access, "10.1.255.255", 0), WEIR_ACCESS_DENIED);
    assert_int_equal(check(access, "10.2.0.0", 0), WEIR_ACCESS_OK);
    assert_int_equal(check(access, "10.1.2.3", 0), WEIR_ACCESS_OK);
    assert_int_equal(check(access, "10.9.0.1", 0), WEIR_ACCESS_DENIED);
    weir_access_free(access);
}

static void test_unix_peer(void **state)
{
    struct weir_access_conf conf = { .allow = STRS(WEIR_STR("10.0.0.0/8")) };
    struct weir_access *access = weir_access_new(&conf, &bans, &fault);
    struct weir_addr peer = { .len = sizeof(sa_family_t), .sa.sa_family = AF_UNIX };
    struct weir_prefix prefix;

    assert_int_equal(weir_access_check(access, &peer, 0), WEIR_ACCESS_OK);
    assert_int_equal(weir_access_client_prefix(&peer, &prefix), WEIR_EADDR);
    weir_access_free(access);
}

static void test_bad_list(void **state)
{
    struct weir_access_conf conf = { .deny = STRS(WEIR_STR("10.0.0.0/8"), WEIR_STR("10.0.0.1/8")) };

    assert_null(weir_access_new(&conf, &bans, &fault));
    assert_non_null(strstr(fault.text, "deny: '10.0.0.1/8'"));
}

static char *write_file(const char *text)
{
    static char path[64];
    int fd;

    strcpy(path, "/tmp/weir-access-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return path;
}

static void test_file(void **state)
{
    char *path = write_file("# list\n192.0.2.0/24 # a net\r\n\n  2001:db8::/48\n203.0.113.9");
    struct weir_access_conf conf = { .deny_file = weir_str(path) };
    struct weir_access *access = weir_access_new(&conf, &bans, &fault);

    unlink(path);
    assert_non_null(access);
    assert_int_equal(check(access, "192.0.2.77", 0), WEIR_ACCESS_DENIED);
    assert_int_equal(check(access, "2001:db8:0:1::1", 0), WEIR_ACCESS_DENIED);
    assert_int_equal(check(access, "203.0.113.9", 0), WEIR_ACCESS_DENIED);
    assert_int_equal(check(access, "203.0.113.10", 0), WEIR_ACCESS_OK);
    weir_access_free(access);
}

static void test_bad_file(void **state)
{
    char *path = write_file("192.0.2.0/24\nnonsense\n1.2.3.4/33\n"), want[96];
    struct weir_access_conf conf = { .deny_file = weir_str(path) };

    assert_null(weir_access_new(&conf, &bans, &fault));
    unlink(path);
    snprintf(want, sizeof(want), "%s:2: 'nonsense' is not a prefix (and 1 more)", path);
    assert_string_equal(fault.text, want);
    assert_null(weir_access_new(&conf, &bans, &fault));
    assert_non_null(strstr(fault.text, "No such file"));
}

static void test_many(void **state)
{
    FILE *out = NULL;
    char *text = NULL;
    size_t len;

    out = open_memstream(&text, &len);
    for (unsigned i = 0; i < 100000; i++)
        fprintf(out, "%u.%u.%u.0/24\n", 20 + i / 65536, i / 256 % 256, i % 256);
    fclose(out);
    {
        char *path = write_file(text);
        struct weir_access_conf conf = { .deny_file = weir_str(path) };
        struct weir_access *access = weir_access_new(&conf, &bans, &fault);

        unlink(path);
        free(text);
        assert_non_null(access);
        assert_int_equal(check(access, "20.0.0.1", 0), WEIR_ACCESS_DENIED);
        assert_int_equal(check(access, "21.134.159.255", 0), WEIR_ACCESS_DENIED); /* the last */
        assert_int_equal(check(access, "21.134.160.0", 0), WEIR_ACCESS_OK);
        assert_int_equal(check(access, "19.255.255.255", 0), WEIR_ACCESS_OK);
        weir_access_free(access);
    }
}

static void test_bans(void **state)
{
    struct weir_access_conf conf = { .never_ban = STRS(WEIR_STR("10.0.0.0/8")) };
    struct weir_access *access = weir_access_new(&conf, &bans, &fault);
    struct weir_addr asker = addr_of("192.0.2.1");
    struct weir_prefix prefix = prefix_of("192.0.2.0/24");

    assert_int_equal(ban(access, "198.51.100.0/24", 1000, 5000), 0);
    assert_int_equal(check(access, "198.51.100.9", 5999), WEIR_ACCESS_BANNED);
    assert_int_equal(check(access, "198.51.101.9", 5999), WEIR_ACCESS_OK);
    assert_int_equal(check(access, "198.51.100.9", 6000), WEIR_ACCESS_OK);
    assert_int_equal(ban(access, "198.51.100.7", 0, 6000), 0);
    assert_int_equal(check(access, "198.51.100.7", UINT64_MAX - 1), WEIR_ACCESS_BANNED);
    assert_int_equal(unban(access, "198.51.100.7"), 0);
    assert_int_equal(unban(access, "198.51.100.7"), WEIR_ENOENT);
    assert_int_equal(check(access, "198.51.100.7", 6000), WEIR_ACCESS_OK);
    assert_int_equal(ban(access, "10.2.0.0/16", 0, 0), WEIR_EDENIED);
    assert_int_equal(ban(access, "0.0.0.0/0", 0, 0), WEIR_EDENIED); /* holds never_ban */
    assert_int_equal(weir_access_ban(access, &prefix, 0, weir_str("me"), &asker, 0), WEIR_EDENIED);
    weir_access_free(access);
}

static void test_client_prefix(void **state)
{
    struct weir_addr four = addr_of("192.0.2.1"), six = addr_of("2001:db8:1:2:3:4:5:6");
    struct weir_prefix prefix, want = prefix_of("2001:db8:1:2::/64");

    assert_int_equal(weir_access_client_prefix(&four, &prefix), 0);
    assert_int_equal(prefix.bits, 128);
    assert_int_equal(weir_access_client_prefix(&six, &prefix), 0);
    assert_memory_equal(prefix.addr, want.addr, 16);
    assert_int_equal(prefix.bits, 64);
}

static void count_ban(void *arg, const struct weir_prefix *prefix, uint64_t left_ms,
                      struct weir_str why, uint64_t hits)
{
    unsigned *count = arg;

    ++*count;
    if (prefix->bits != 120)
        return;
    assert_int_equal(left_ms, 500);
    assert_int_equal(hits, 2);
    assert_int_equal(why.len, 4);
}

static void test_listing(void **state)
{
    struct weir_access *access = weir_access_new(&(struct weir_access_conf){ 0 }, &bans, &fault);
    unsigned count = 0;

    assert_int_equal(ban(access, "198.51.100.0/24", 1000, 0), 0);
    assert_int_equal(ban(access, "2001:db8::/64", 0, 0), 0);
    assert_int_equal(ban(access, "198.51.101.1", 100, 0), 0);
    check(access, "198.51.100.1", 1);
    check(access, "198.51.100.2", 1);
    weir_access_bans(access, 500, count_ban, &count);
    assert_int_equal(count, 2);
    weir_access_free(access);
}

static struct weir_prefix nth(uint64_t n)
{
    struct weir_prefix prefix = { .bits = 64 };

    for (unsigned i = 0; i < 8; i++)
        prefix.addr[7 - i] = (uint8_t)(n >> 8 * i);
    return prefix;
}

/* An attacker that causes bans without end: the table fills, refuses, and is whole again when they
 * have expired. */
static void test_full(void **state)
{
    struct weir_ban_table table;
    struct weir_prefix prefix;

    assert_int_equal(weir_ban_table_init(&table), 0);
    for (uint64_t i = 0; i < WEIR_BANS_MAX; i++) {
        prefix = nth(i);
        assert_int_equal(weir_ban_table_add(&table, &prefix, 1000, weir_str("x"), 0), 0);
    }
    prefix = nth(WEIR_BANS_MAX);
    assert_int_equal(weir_ban_table_add(&table, &prefix, 1000, weir_str("x"), 0), WEIR_ELIMIT);
    assert_int_equal(table.refused, 1);
    for (uint64_t i = 0; i < WEIR_BANS_MAX; i += 97) {
        prefix = nth(i);
        assert_true(weir_ban_table_has(&table, prefix.addr, 999));
    }
    for (uint64_t i = 0; i < 5000;
         i++) { /* each new ban sweeps a little: a round is done by then */
        prefix = nth(WEIR_BANS_MAX + i);
        assert_int_equal(weir_ban_table_add(&table, &prefix, 2000, weir_str("x"), 1000), 0);
    }
    assert_int_equal(table.live, 5000);
    for (uint64_t i = 0; i < 5000; i++) {
        prefix = nth(WEIR_BANS_MAX + i);
        assert_true(weir_ban_table_has(&table, prefix.addr, 1500));
        assert_int_equal(weir_ban_table_remove(&table, &prefix, 1500), 0);
    }
    assert_int_equal(table.live, 0);
    assert_int_equal(table.lengths[1], 0);
    for (unsigned i = 0; i < WEIR_BAN_SLOTS;
         i++) /* nothing is left that a lookup would walk over */
        assert_int_equal(table.slots[i].word, 0);
    weir_ban_table_fini(&table);
}

static struct weir_ban_table shared;
static _Atomic bool stop;

static void *look(void *arg)
{
    uint64_t i = 0, *missed = arg;

    while (!atomic_load(&stop)) {
        struct weir_prefix stays = nth(1000000 + i++ % 64), never = nth(5000000 + i % 64);

        *missed += !weir_ban_table_has(&shared, stays.addr, 1);
        *missed += weir_ban_table_has(&shared, never.addr, 1);
    }
    return NULL;
}

/* Bans that stay are found at every moment while 3000 others come and go around them. */
static void test_concurrent(void **state)
{
    pthread_t threads[3];
    uint64_t missed[3] = { 0 };

    assert_int_equal(weir_ban_table_init(&shared), 0);
    for (unsigned i = 0; i < 64; i++) {
        struct weir_prefix prefix = nth(1000000 + i);

        assert_int_equal(weir_ban_table_add(&shared, &prefix, UINT64_MAX, weir_str(""), 0), 0);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look, &missed[i]), 0);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 3000; i++) {
            struct weir_prefix prefix = nth(i);

            assert_int_equal(weir_ban_table_add(&shared, &prefix, 5, weir_str("r"), 0), 0);
        }
        for (unsigned i = 0; i < 3000; i++) {
            struct weir_prefix prefix = nth(i);

            assert_int_equal(weir_ban_table_remove(&shared, &prefix, 0), 0);
        }
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(missed[i], 0);
    }
    weir_ban_table_fini(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unix_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bans, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_client_prefix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_concurrent, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("proxy/access", tests, NULL, NULL);
}
