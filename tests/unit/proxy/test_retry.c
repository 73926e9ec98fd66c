/* SPDX-License-Identifier: Apache-2.0 */
/** retry.c: every class of error, the rules that forbid another attempt, and the budget. */
#include "proxy/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { NO = WEIR_AGAIN_NO, YES = WEIR_AGAIN, FRESH = WEIR_AGAIN_FRESH };
enum { CONNECT = WEIR_RETRY_ON_CONNECT | WEIR_RETRY_ON_UNPROCESSED, ALL = 31 };

static const struct row {
    const char *what;
    enum weir_err code;
    enum weir_retry class;
    unsigned when, attempts;
    bool idempotent, no_replay, head_sent, reused, first_byte, stale_retried, any_method;
    int want;
    enum weir_retried why;
} rows[] = {
    { "refused", WEIR_ECONNREFUSED, WEIR_RETRY_UNSENT, CONNECT, 1, .want = YES },
    { "refused, not configured", WEIR_ECONNREFUSED, WEIR_RETRY_UNSENT, WEIR_RETRY_ON_RESET, 1 },
    { "refused twice", WEIR_ECONNREFUSED, WEIR_RETRY_UNSENT, CONNECT, 2 },
    { "a POST, unsent", WEIR_EUPTLS, WEIR_RETRY_UNSENT, CONNECT, 1, .want = YES },
    { "the body is gone", WEIR_ECONNREFUSED, WEIR_RETRY_UNSENT, CONNECT, 1, .no_replay = true },
    { "the client has a head", WEIR_ECONNREFUSED, WEIR_RETRY_UNSENT, CONNECT, 1,
      .head_sent = true },
    { "GOAWAY", WEIR_EUPRESET, WEIR_RETRY_UNPROCESSED, CONNECT, 1, .want = YES,
      .why = WEIR_RETRIED_unprocessed },
    { "reset, new connection", WEIR_EUPRESET, WEIR_RETRY_IDEMPOTENT_ONLY, CONNECT, 1,
      .idempotent = true },
    { "a stream is reset on a connection that lives", WEIR_EUPSTREAM, WEIR_RETRY_IDEMPOTENT_ONLY,
      CONNECT, 1, .idempotent = true, .reused = true },
    { "a stream is cancelled, configured", WEIR_EUPCANCEL, WEIR_RETRY_IDEMPOTENT_ONLY, ALL, 1,
      .idempotent = true, .want = YES, .why = WEIR_RETRIED_reset },
    { "reset, configured", WEIR_EUPRESET, WEIR_RETRY_IDEMPOTENT_ONLY, ALL, 1, .idempotent = true,
      .want = YES, .why = WEIR_RETRIED_reset },
    { "reset of a POST", WEIR_EUPRESET, WEIR_RETRY_IDEMPOTENT_ONLY, ALL, 1 },
    { "reset of a POST, methods: all", WEIR_EUPRESET, WEIR_RETRY_IDEMPOTENT_ONLY, ALL, 1,
      .any_method = true, .want = YES, .why = WEIR_RETRIED_reset },
    { "stale", WEIR_EUPCLOSED, WEIR_RETRY_IDEMPOTENT_ONLY, 0, 1, .idempotent = true, .reused = true,
      .want = FRESH, .why = WEIR_RETRIED_stale },
    { "stale, attempts used up", WEIR_EUPRESET, WEIR_RETRY_IDEMPOTENT_ONLY, 0, 9,
      .idempotent = true, .reused = true, .want = FRESH, .why = WEIR_RETRIED_stale },
    { "stale, a second time", WEIR_EUPCLOSED, WEIR_RETRY_IDEMPOTENT_ONLY, 0, 1, .idempotent = true,
      .reused = true, .stale_retried = true },
    { "stale, an answer had begun", WEIR_EUPCLOSED, WEIR_RETRY_IDEMPOTENT_ONLY, 0, 1,
      .idempotent = true, .reused = true, .first_byte = true },
    { "stale POST", WEIR_EUPCLOSED, WEIR_RETRY_IDEMPOTENT_ONLY, 0, 1, .reused = true },
    { "stale, too long a body", WEIR_EUPCLOSED, WEIR_RETRY_IDEMPOTENT_ONLY, 0, 1,
      .idempotent = true, .reused = true, .no_replay = true },
    { "timeout", WEIR_EUPTIME, WEIR_RETRY_IDEMPOTENT_ONLY, CONNECT, 1, .idempotent = true },
    { "timeout, configured", WEIR_EUPTIME, WEIR_RETRY_IDEMPOTENT_ONLY, WEIR_RETRY_ON_TIMEOUT, 1,
      .idempotent = true, .want = YES, .why = WEIR_RETRIED_timeout },
    /* Once these were taken for failed connects. */
    { "a head too large", WEIR_EUPSIZE, WEIR_RETRY_IDEMPOTENT_ONLY, ALL, 1, .idempotent = true },
    { "a switch unasked", WEIR_EUPSWITCH, WEIR_RETRY_IDEMPOTENT_ONLY, ALL, 1, .idempotent = true },
    { "cut in the body", WEIR_EUPBODY, WEIR_RETRY_IDEMPOTENT_ONLY, CONNECT, 1, .idempotent = true },
    { "ours", WEIR_ENOMEM, WEIR_RETRY_NO, ALL, 1, .idempotent = true },
};

static void test_errors(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        struct weir_retry_conf conf = { .attempts = 2,
                                        .when = row->when,
                                        .any_method = row->any_method };
        struct weir_error error = { .code = row->code, .retry = row->class };
        struct weir_retry_input in = { .conf = &conf,
                                       .error = &error,
                                       .attempts = row->attempts,
                                       .idempotent = row->idempotent,
                                       .replayable = !row->no_replay,
                                       .head_sent = row->head_sent,
                                       .reused = row->reused,
                                       .first_byte = row->first_byte,
                                       .stale_retried = row->stale_retried };
        enum weir_retried why;
        int got = (int)weir_retry_decide(&in, &why);

        if (got != row->want || (got != NO && why != row->why && row->why))
            fail_msg("%s: %d, why %d", row->what, got, (int)why);
    }
}

static void test_status(void **state)
{
    struct weir_retry_conf conf = { .attempts = 2,
                                    .when = WEIR_RETRY_ON_STATUS,
                                    .statuses = { 502, 503 } };
    struct weir_retry_input in = {
        .conf = &conf, .status = 503, .attempts = 1, .idempotent = true, .replayable = true
    };
    enum weir_retried why;

    assert_int_equal(weir_retry_decide(&in, &why), YES);
    assert_int_equal(why, WEIR_RETRIED_status);
    in.status = 504;
    assert_int_equal(weir_retry_decide(&in, &why), NO);
    in.status = 502;
    in.idempotent = false;
    assert_int_equal(weir_retry_decide(&in, &why), NO);
    in.idempotent = true;
    in.replayable = false;
    assert_int_equal(weir_retry_decide(&in, &why), NO);
    in.replayable = true;
    in.attempts = 2;
    assert_int_equal(weir_retry_decide(&in, &why), NO);
}

static unsigned spend_all(struct weir_budget *budget, uint64_t now_ms)
{
    unsigned n = 0;

    while (n < 100000 && weir_budget_spend(budget, now_ms))
        n++;
    return n;
}

static void test_budget(void **state)
{
    struct weir_budget budget = { 0 };

    assert_int_equal(spend_all(&budget, 1000), WEIR_RETRY_BUDGET_FLOOR);
    assert_int_equal(spend_all(&budget, 1500), WEIR_RETRY_BUDGET_FLOOR / 2);
    assert_int_equal(spend_all(&budget, 900), 0); /* a clock that goes back gives nothing */
    /* An hour of silence is not saved up. */
    assert_int_equal(spend_all(&budget, 3600 * 1000), WEIR_RETRY_BUDGET_FLOOR);
    for (int i = 0; i < 1001; i++) /* 20 % of what comes */
        weir_budget_earn(&budget, 0.2, 3600 * 1000);
    assert_int_equal(spend_all(&budget, 3600 * 1000), 200);
    for (int i = 0; i < 100000; i++)
        weir_budget_earn(&budget, 1, 3600 * 1000);
    assert_true(spend_all(&budget, 3600 * 1000) <= 1001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_budget),
    };

    return cmocka_run_group_tests_name("proxy/retry", tests, NULL, NULL);
}
