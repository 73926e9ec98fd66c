/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metric.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static unsigned bucket_of(uint64_t us)
{
    struct weir_histogram h;
    unsigned at = WEIR_HISTOGRAM_BUCKETS;

    memset(&h, 0, sizeof(h));
    weir_histogram_add(&h, us);
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++)
        if (weir_counter_read(&h.bucket[i])) {
            assert_int_equal(weir_counter_read(&h.bucket[i]), 1);
            assert_int_equal(at, WEIR_HISTOGRAM_BUCKETS);
            at = i;
        }
    assert_true(weir_counter_read(&h.sum_us) == us);
    return at;
}

static void bounds_belong_to_their_bucket(void **state)
{
    assert_int_equal(bucket_of(0), 0);
    assert_int_equal(bucket_of(1), 0);
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS - 1; i++) {
        uint64_t most = (uint64_t)64 << i;

        assert_int_equal(bucket_of(most), i);
        assert_int_equal(bucket_of(most + 1), i + 1);
    }
    assert_int_equal(bucket_of(UINT64_MAX), WEIR_HISTOGRAM_BUCKETS - 1);
}

static void codes_are_counted_apart_and_then_together(void **state)
{
    struct weir_codes codes;

    memset(&codes, 0, sizeof(codes));
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned code = 200; code < 200 + 40; code++)
            weir_codes_add(&codes, code);
        for (unsigned i = 0; i < WEIR_CODES_MAX - 1; i++) {
            assert_int_equal(codes.code[i], 200 + i);
            assert_int_equal(weir_counter_read(&codes.count[i]), round);
        }
        assert_int_equal(codes.code[WEIR_CODES_MAX - 1], 0);
        assert_int_equal(weir_counter_read(&codes.count[WEIR_CODES_MAX - 1]),
                         round * (40 - WEIR_CODES_MAX + 1));
    }
}

#define NAME(name, kind, labels, text) { #name, WEIR_METRIC_##kind, labels, text },
static const struct {
    const char *name;
    enum weir_metric_kind kind;
    const char *labels, *text;
} rows[] = { WEIR_METRICS(NAME) };

static void names_follow_their_kind(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = strlen(rows[i].name);
        int total = len > 6 && strcmp(rows[i].name + len - 6, "_total") == 0;

        assert_int_equal(total, rows[i].kind == WEIR_METRIC_COUNTER);
        assert_true(rows[i].text[0] != 0);
        assert_null(strpbrk(rows[i].text, "\n\\"));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(rows[i].name, rows[j].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_belong_to_their_bucket),
        cmocka_unit_test(codes_are_counted_apart_and_then_together),
        cmocka_unit_test(names_follow_their_kind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
