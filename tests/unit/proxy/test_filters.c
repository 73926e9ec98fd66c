/* SPDX-License-Identifier: Apache-2.0 */
/** Chains of phases: which filters have which, and one compiled against an older struct. */
#include "proxy/filters.h"

#include "weir/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static enum weir_verdict on_request(struct weir_req *req, void *self)
{
    return WEIR_NEXT;
}

static void on_logging(struct weir_req *req, void *self)
{
}

static const struct weir_filter whole = {
    .size = sizeof(whole),
    .name = "whole",
    .state_bytes = 20,
    .worker_bytes = 1,
    .request = on_request,
    .early_request = on_request,
    .logging = on_logging,
};

static void test_chains(void **state)
{
    static const struct weir_filter empty = { .size = sizeof(empty), .name = "empty" };
    const struct weir_filter_use uses[] = { { &whole, NULL }, { &empty, NULL }, { &whole, NULL } };
    struct weir_chains chains;

    assert_int_equal(weir_chains_init(&chains, uses, 3), 0);
    assert_int_equal(chains.phase[WEIR_PH_EARLY].count, 2);
    assert_int_equal(chains.phase[WEIR_PH_REQUEST].count, 2);
    assert_int_equal(chains.phase[WEIR_PH_REQUEST].at[0], 0);
    assert_int_equal(chains.phase[WEIR_PH_REQUEST].at[1], 2);
    assert_int_equal(chains.phase[WEIR_PH_RESPONSE].count, 0);
    assert_int_equal(chains.state_offset[2], 32);
    assert_int_equal(chains.state_bytes, 64);
    assert_int_equal(chains.worker_bytes, 32);
    weir_chains_fini(&chains);
}

/* What lies behind its size is somebody else's memory: here, exactly sized, the sanitizer's. */
static void check_older(size_t size, unsigned early, unsigned request, size_t state_bytes)
{
    struct weir_filter *older = malloc(size);
    struct weir_filter_use use = { older, NULL };
    struct weir_chains chains;

    assert_non_null(older);
    memcpy(older, &whole, size);
    memcpy(older, &size, sizeof(size));
    assert_int_equal(weir_chains_init(&chains, &use, 1), 0);
    assert_int_equal(chains.phase[WEIR_PH_EARLY].count, early);
    assert_int_equal(chains.phase[WEIR_PH_REQUEST].count, request);
    assert_int_equal(chains.phase[WEIR_PH_LOGGING].count, 0);
    assert_int_equal(chains.state_bytes, state_bytes);
    weir_chains_fini(&chains);
    free(older);
}

static void test_older(void **state)
{
    check_older(offsetof(struct weir_filter, logging), 1, 1, 32);
    check_older(offsetof(struct weir_filter, upstream_peer), 1, 1, 32);
    check_older(offsetof(struct weir_filter, upstream_peer) - 1, 1, 0, 32);
    check_older(offsetof(struct weir_filter, request), 1, 0, 32);
    check_older(offsetof(struct weir_filter, early_request), 0, 0, 32);
    check_older(offsetof(struct weir_filter, state_bytes), 0, 0, 0);
}

static void test_too_many(void **state)
{
    struct weir_filter_use uses[66];
    struct weir_chains chains;

    for (size_t i = 0; i < 66; i++)
        uses[i] = (struct weir_filter_use){ &whole, NULL };
    assert_int_equal(weir_chains_init(&chains, uses, 65), 0);
    weir_chains_fini(&chains);
    assert_int_equal(weir_chains_init(&chains, uses, 66), WEIR_ELIMIT);
    weir_chains_fini(&chains);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_older),
        cmocka_unit_test(test_too_many),
    };

    return cmocka_run_group_tests_name("proxy/filters", tests, NULL, NULL);
}
