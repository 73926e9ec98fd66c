/* SPDX-License-Identifier: Apache-2.0 */
/** The filter `rate_limit`, and its table under a clock of ours: exact rates, floods, threads. */
#include "fake_req.h"

#include "filter/rate_limit.h"
#include "weir/builtin.h"

#include <pthread.h>

#define SECOND 1000000000ull

static bool take(struct rate_table *table, const char *key, uint64_t now_ns)
{
    return rate_table_take(table, key, strlen(key), now_ns).ok;
}

/* The vectors of the reference are of SipHash-2-4; these are of SipHash-1-3, key 00 01 … 0f, input
 * 00 01 … */
static void test_hash(void **state)
{
    const uint64_t key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };
    unsigned char data[16];

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)i;
    assert_true(rate_hash(key, data, 0) == 0xabac0158050fc4dc);
    assert_true(rate_hash(key, data, 1) == 0xc9f49bf37d57ca93);
    assert_true(rate_hash(key, data, 8) != rate_hash(key, data, 9));
}

static void test_rate(void **state)
{
    static const struct {
        double rate;
        unsigned burst;
    } cases[] = { { 100, 200 },     { 1, 1 },       { 100.0 / 60, 5 },
                  { 100000, 1000 }, { 3, 1000000 }, { 0.001, 3 } };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        double interval_ns = 1e9 / cases[i].rate;
        struct rate_table *table;
        uint64_t now = 12345 * SECOND;
        unsigned passed = 0;
        struct rate_answer answer;

        table = rate_table_new(cases[i].rate, cases[i].burst);
        assert_non_null(table);
        while (passed <= cases[i].burst && take(table, "k", now))
            passed++;
        assert_int_equal(passed, cases[i].burst);
        answer = rate_table_take(table, "k", 1, now);
        assert_true(answer.own);
        assert_true((double)answer.wait_ns <= interval_ns * 1.01 &&
                    (double)answer.wait_ns >= interval_ns * 0.98);
        assert_false(take(table, "k", now + (uint64_t)(interval_ns * 0.97)));
        assert_true(take(table, "k", now + (uint64_t)(interval_ns * 1.01)));
        assert_false(take(table, "k", now + (uint64_t)(interval_ns * 1.02)));
        assert_true(take(table, "other", now));
        rate_table_put(table);
    }
}

/* 1000 seconds at twice the rate: what passes is the rate. */
static void test_long_run(void **state)
{
    struct rate_table *table;
    unsigned passed = 0;

    table = rate_table_new(10, 20);
    assert_non_null(table);
    for (unsigned i = 0; i < 20000; i++)
        passed += take(table, "k", SECOND + i * (SECOND / 20));
    assert_true(passed >= 10000 && passed <= 10021);
    rate_table_put(table);
}

/* A client that comes back after any time is as new. */
static void test_old_slots(void **state)
{
    struct rate_table *table;
    uint64_t now = SECOND;

    table = rate_table_new(100, 2);
    assert_non_null(table);
    for (unsigned i = 0; i < 3000; i++, now += (1ull << 20) * i + 20000000)
        assert_true(take(table, "k", now));
    rate_table_put(table);
}

/* An attacker with ten times more keys than slots does not give a heavy client a new bucket. */
static void test_flood(void **state)
{
    struct rate_table *table;
    uint64_t now = 7 * SECOND;
    unsigned passed = 0, flood_passed = 0;
    char key[32];

    table = rate_table_new(0.01, 50);
    assert_non_null(table); /* nothing is refilled meanwhile */
    while (take(table, "heavy", now))
        passed++;
    assert_int_equal(passed, 50);
    for (unsigned i = 0; i < 10 * RATE_SLOTS; i++) {
        snprintf(key, sizeof(key), "made-up-%u", i);
        flood_passed += take(table, key, now);
        if (i % 5000 == 0)
            assert_false(take(table, "heavy", now));
    }
    assert_false(take(table, "heavy", now));
    assert_true(flood_passed > RATE_SLOTS);
    for (unsigned i = 10 * RATE_SLOTS; i < 60 * RATE_SLOTS;
         i++) { /* until every bucket owes all it may */
        snprintf(key, sizeof(key), "made-up-%u", i);
        flood_passed += take(table, key, now);
    }
    assert_true(flood_passed <= 50 * RATE_SLOTS); /* what passes is bounded by the table */
    assert_false(take(table, "heavy", now));
    rate_table_put(table);
}

/* A debt that was taken over is not a reason for a ban. */
static void test_taken_over(void **state)
{
    struct rate_table *table;
    struct rate_answer answer = { .ok = true };
    char key[32];

    table = rate_table_new(0.01, 2);
    assert_non_null(table);
    for (unsigned i = 0; i < 4 * RATE_SLOTS; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        answer = rate_table_take(table, key, strlen(key), SECOND);
    }
    assert_false(answer.ok);
    assert_false(answer.own);
    rate_table_put(table);
}

enum { THREADS = 3, TAKES = 30000 };
static struct rate_table *shared;
static _Atomic unsigned shared_passed;

static void *hammer(void *arg)
{
    for (unsigned i = 0; i < TAKES; i++)
        if (take(shared, i % 2 ? "a" : "b", SECOND))
            atomic_fetch_add(&shared_passed, 1);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[THREADS];

    shared = rate_table_new(1, 1000);
    assert_non_null(shared);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(shared_passed, 2000);
    rate_table_put(shared);
}

/* ---- the filter ---- */

static char fault[256];

static void *make(const struct weir_rate_limit_conf *conf)
{
    fault[0] = 0;
    return weir_filter_rate_limit_type.create(conf, fault, sizeof(fault));
}

static enum weir_verdict ask(void *self, const char *client, const char *tenant)
{
    fake_begin(client);
    if (tenant)
        assert_int_equal(weir_message_add(&fake.request, "x-tenant", weir_str(tenant)), 0);
    return weir_filter_rate_limit_type.filter->request(&fake, self);
}

static void test_client(void **state)
{
    struct weir_rate_limit_conf conf = {
        .rate = 0.1, .burst = 2, .status = 503, .ban_ms = WEIR_UNLIMITED
    };
    void *self = make(&conf);
    struct weir_str retry;

    assert_non_null(self);
    assert_int_equal(ask(self, "192.0.2.1", NULL), WEIR_NEXT);
    assert_int_equal(ask(self, "192.0.2.1", NULL), WEIR_NEXT);
    assert_int_equal(ask(self, "192.0.2.1", NULL), WEIR_DONE);
    assert_int_equal(fake.replied, 503);
    assert_int_equal(fake.bans, 0);
    retry = weir_message_get(&fake.response, "retry-after");
    assert_int_equal(retry.len, 2);
    assert_memory_equal(retry.ptr, "10", 2);
    assert_int_equal(ask(self, "192.0.2.2", NULL), WEIR_NEXT);
    /* addresses of one /64 are one client */
    assert_int_equal(ask(self, "2001:db8::1", NULL), WEIR_NEXT);
    assert_int_equal(ask(self, "2001:db8::ffff:1", NULL), WEIR_NEXT);
    assert_int_equal(ask(self, "2001:db8::2", NULL), WEIR_DONE);
    assert_int_equal(ask(self, "2001:db8:0:1::1", NULL), WEIR_NEXT);
    weir_filter_rate_limit_type.filter->fini(self);
}

static void test_header_and_ban(void **state)
{
    struct weir_rate_limit_conf conf = {
        .key = WEIR_STR("header:X-Tenant"), .rate = 0.1, .burst = 1, .ban_ms = 600000
    };
    void *self = make(&conf);

    assert_non_null(self);
    assert_int_equal(ask(self, "192.0.2.1", "a"), WEIR_NEXT);
    assert_int_equal(ask(self, "192.0.2.1", "b"), WEIR_NEXT);
    assert_int_equal(ask(self, "192.0.2.9", "a"), WEIR_DONE);
    assert_int_equal(fake.replied, 429);
    assert_int_equal(fake.bans, 1);
    assert_int_equal(fake.ban_ms, 600000);
    assert_int_equal(ask(self, "192.0.2.5", NULL), WEIR_NEXT); /* no header: by address */
    assert_int_equal(ask(self, "192.0.2.5", NULL), WEIR_DONE);
    assert_int_equal(ask(self, "192.0.2.6", NULL), WEIR_NEXT);
    weir_filter_rate_limit_type.filter->fini(self);
}

static void test_route(void **state)
{
    struct weir_rate_limit_conf conf = { .key = WEIR_STR("route"), .rate = 0.1, .burst = 2 };
    void *self = make(&conf);

    assert_int_equal(ask(self, "192.0.2.1", NULL), WEIR_NEXT);
    assert_int_equal(ask(self, "192.0.2.2", NULL), WEIR_NEXT);
    assert_int_equal(ask(self, "192.0.2.3", NULL), WEIR_DONE);
    weir_filter_rate_limit_type.filter->fini(self);
}

static void test_faults(void **state)
{
    assert_null(make(&(struct weir_rate_limit_conf){ .key = WEIR_STR("cookie:x"), .rate = 1 }));
    assert_string_equal(fault, "key is client, route or header:NAME");
    assert_null(make(&(struct weir_rate_limit_conf){ .key = WEIR_STR("header:"), .rate = 1 }));
    assert_null(make(&(struct weir_rate_limit_conf){ .rate = 0 }));
    assert_null(make(&(struct weir_rate_limit_conf){ .rate = 0.0 / 1 }));
    assert_null(make(&(struct weir_rate_limit_conf){ .rate = 1, .status = 200 }));
    assert_null(make(
        &(struct weir_rate_limit_conf){ .rate = 1, .key = WEIR_STR("route"), .ban_ms = 1000 }));
    assert_non_null(strstr(fault, "key: route"));
}

/* Another limit: whoever owes a number of requests owes as many, as far as the new one allows. */
static void test_copy(void **state)
{
    struct rate_table *old = rate_table_new(10, 20), *same = rate_table_new(10, 20),
                      *slow = rate_table_new(1, 30), *small = rate_table_new(10, 5);
    uint64_t now = 100 * SECOND;

    assert_true(old && same && slow && small);
    assert_true(rate_table_alike(old, same));
    assert_false(rate_table_alike(old, slow));
    assert_false(rate_table_alike(old, small));
    for (int i = 0; i < 12; i++)
        assert_true(take(old, "heavy", now));
    assert_true(take(old, "light", now));
    rate_table_copy(slow, old, now);
    rate_table_copy(small, old, now);
    for (int i = 0; i < 18; i++)
        assert_true(take(slow, "heavy", now));
    assert_false(take(slow, "heavy", now));
    for (int i = 0; i < 29; i++)
        assert_true(take(slow, "light", now));
    assert_false(take(slow, "light", now));
    assert_false(take(small, "heavy", now));
    for (int i = 0; i < 4; i++)
        assert_true(take(small, "light", now));
    assert_false(take(small, "light", now));
    for (int i = 0; i < 30; i++)
        assert_true(take(slow, "new", now));
    rate_table_put(old);
    rate_table_put(same);
    rate_table_put(slow);
    rate_table_put(small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),       cmocka_unit_test(test_hash),
        cmocka_unit_test(test_rate),       cmocka_unit_test(test_long_run),
        cmocka_unit_test(test_old_slots),  cmocka_unit_test(test_flood),
        cmocka_unit_test(test_taken_over), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_client),     cmocka_unit_test(test_header_and_ban),
        cmocka_unit_test(test_route),      cmocka_unit_test(test_faults),
    };
    int failed = cmocka_run_group_tests_name("filter/rate_limit", tests, NULL, NULL);

    weir_arena_fini(&fake.arena);
    return failed;
}
