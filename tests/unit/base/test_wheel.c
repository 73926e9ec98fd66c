/* SPDX-License-Identifier: Apache-2.0 */
/** test_wheel.c: the timer wheel against the plain truth: never early, at most a tick late,
 * whatever is armed when. */
#include "base/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TIMERS = 400 };

struct probe {
    struct weir_timer timer;
    uint64_t due_ms, armed_at_ms;
    bool armed;
    unsigned fired;
};

static struct weir_wheel wheel;
static struct probe probes[TIMERS];
static uint64_t now_ms, step_from_ms, seed;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void begin(uint64_t at_ms, uint64_t with_seed)
{
    memset(probes, 0, sizeof(probes));
    seed = with_seed;
    now_ms = at_ms;
    weir_wheel_init(&wheel, at_ms);
}

static void on_fire(struct weir_timer *timer, void *arg)
{
    struct probe *probe = arg;
    uint64_t since = probe->due_ms > step_from_ms ? probe->due_ms : step_from_ms;

    assert_ptr_equal(timer, &probe->timer);
    assert_true(probe->armed);
    assert_false(weir_timer_armed(timer));
    assert_true(now_ms >= probe->due_ms);
    /* what was due before this step began has at most waited for the tick after the one it was
     * armed in */
    assert_true(now_ms - since <= now_ms - step_from_ms + (uint64_t)2 * WEIR_TICK_MS);
    probe->armed = false;
    probe->fired++;
}

static void arm(struct probe *probe, uint64_t after_ms)
{
    probe->due_ms = now_ms + after_ms;
    probe->armed_at_ms = now_ms;
    probe->armed = true;
    weir_timer_start(&wheel, &probe->timer, now_ms, after_ms, on_fire, probe);
}

static void disarm(struct probe *probe)
{
    weir_timer_stop(&wheel, &probe->timer);
    probe->armed = false;
}

static void advance(uint64_t to_ms)
{
    step_from_ms = now_ms;
    now_ms = to_ms;
    weir_wheel_advance(&wheel, now_ms);
}

/* Every armed timer is still to come, and next_ms does not sleep past the first of them. */
static void check_all(void)
{
    uint64_t first = UINT64_MAX, armed = 0;
    int next = weir_wheel_next_ms(&wheel, now_ms);

    for (unsigned i = 0; i < TIMERS; i++) {
        struct probe *probe = &probes[i];

        assert_int_equal(probe->armed, weir_timer_armed(&probe->timer));
        if (!probe->armed)
            continue;
        armed++;
        assert_true(probe->due_ms + (uint64_t)2 * WEIR_TICK_MS > now_ms);
        if (probe->due_ms < first)
            first = probe->due_ms;
    }
    assert_int_equal(wheel.armed, armed);
    if (!armed) {
        assert_int_equal(next, -1);
        return;
    }
    assert_true(next >= 0);
    assert_true(now_ms + (uint64_t)next <= first + (uint64_t)2 * WEIR_TICK_MS);
}

/* Spans that reach every level, and beyond the last (18.6 h). */
static uint64_t random_span_ms(void)
{
    static const uint64_t spans[] = {
        1, 8, 300, 20 * 1000, 1200 * 1000, 70ULL * 3600 * 1000, 400ULL * 3600 * 1000
    };

    return rnd() % (spans[rnd() % (sizeof(spans) / sizeof(spans[0]))] + 1);
}

static void random_ops(uint64_t steps, uint64_t step_ms_max)
{
    for (uint64_t n = 0; n < steps; n++) {
        struct probe *probe = &probes[rnd() % TIMERS];

        switch (rnd() % 8) {
        case 0:
        case 1:
        case 2:
        case 3:
            arm(probe, random_span_ms());
            break;
        case 4:
            disarm(probe);
            break;
        default:
            advance(now_ms + rnd() % step_ms_max);
        }
        if (n % 16 == 0)
            check_all();
    }
}

static void fires_like_the_model(void **state)
{
    static const uint64_t steps_ms[] = { 3, 50, 1000, 60 * 1000, 3600 * 1000, 24 * 3600 * 1000 };

    for (unsigned i = 0; i < sizeof(steps_ms) / sizeof(steps_ms[0]); i++) {
        begin(1000003 * (uint64_t)i, 88172645463325252ULL + i);
        random_ops(steps_ms[i] > 100000 ? 2000 : 10000, steps_ms[i]);
        advance(now_ms + 500ULL * 3600 * 1000);
        check_all();
        assert_int_equal(weir_wheel_next_ms(&wheel, now_ms), -1);
    }
}

/* As a loop does it: sleep as long as next_ms says, then look. Each must fire within two ticks of
 * its time. */
static void a_loop_that_trusts_next_ms_is_in_time(void **state)
{
    begin(12345, 99991);
    for (unsigned i = 0; i < TIMERS; i++)
        arm(&probes[i], random_span_ms());
    while (wheel.armed) {
        int next = weir_wheel_next_ms(&wheel, now_ms);
        uint64_t wake = now_ms + (uint64_t)(next ? next : WEIR_TICK_MS);

        for (unsigned i = 0; i < TIMERS; i++)
            assert_true(!probes[i].armed || wake <= probes[i].due_ms + (uint64_t)2 * WEIR_TICK_MS);
        advance(wake);
    }
    for (unsigned i = 0; i < TIMERS; i++)
        assert_int_equal(probes[i].fired, 1);
}

static void boundaries_of_every_level(void **state)
{
    static const uint64_t edges[] = { 64, 4096, 262144, 16777216 };

    for (unsigned e = 0; e < 4; e++)
        for (int start = -2; start <= 2; start++)
            for (int delta = -2; delta <= 2; delta++) {
                uint64_t at = edges[e] + (uint64_t)(int64_t)start,
                         after = edges[e] + (uint64_t)(int64_t)delta;

                begin(at * WEIR_TICK_MS, 1);
                arm(&probes[0], after * WEIR_TICK_MS);
                advance((at + after) * WEIR_TICK_MS - 1);
                assert_int_equal(probes[0].fired, 0);
                assert_true(weir_wheel_next_ms(&wheel, now_ms) <= WEIR_TICK_MS);
                advance((at + after) * WEIR_TICK_MS);
                assert_int_equal(probes[0].fired, 1);
            }
}

/* The slot we are in holds a timer of the next round, and another slot holds an earlier one. */
static void next_ms_sees_behind_a_slot_of_the_next_round(void **state)
{
    begin((uint64_t)63 * WEIR_TICK_MS, 1);
    arm(&probes[0], (uint64_t)4095 * WEIR_TICK_MS);
    arm(&probes[1], (uint64_t)200 * WEIR_TICK_MS);
    assert_true(weir_wheel_next_ms(&wheel, now_ms) <= 200 * WEIR_TICK_MS);
}

static void armed_anew_fires_once_at_the_later_time(void **state)
{
    begin(0, 1);
    arm(&probes[0], 100);
    advance(50);
    arm(&probes[0], 100);
    advance(149);
    assert_int_equal(probes[0].fired, 0);
    advance(152);
    assert_int_equal(probes[0].fired, 1);
    advance(1000);
    assert_int_equal(probes[0].fired, 1);
    weir_timer_stop(&wheel, &probes[0].timer); /* harmless */
    assert_int_equal(wheel.armed, 0);
}

static void an_endless_time_never_wraps(void **state)
{
    begin(1 << 20, 1);
    arm(&probes[0], UINT64_MAX);
    probes[0].due_ms = UINT64_MAX - 100;
    for (int i = 0; i < 100; i++)
        advance(now_ms + 24ULL * 3600 * 1000);
    assert_int_equal(probes[0].fired, 0);
    assert_true(weir_timer_armed(&probes[0].timer));
}

static unsigned calls;

static void on_stop_others(struct weir_timer *timer, void *arg)
{
    calls++;
    for (unsigned i = 0; i < 8; i++)
        weir_timer_stop(&wheel, &probes[i].timer); /* also those due in this very tick */
}

static void on_rearm(struct weir_timer *timer, void *arg)
{
    calls++;
    weir_timer_start(&wheel, timer, now_ms, 0, on_rearm,
                     NULL); /* not in this turn again: no endless loop */
}

static void on_move_another(struct weir_timer *timer, void *arg)
{
    struct probe *other = arg;

    calls++;
    arm(other, 40);
}

static void callbacks_may_stop_and_start_any_timer(void **state)
{
    begin(0, 1);
    calls = 0;
    for (unsigned i = 0; i < 8; i++)
        weir_timer_start(&wheel, &probes[i].timer, 0, 20, on_stop_others, NULL);
    advance(20);
    assert_int_equal(calls, 1);
    assert_int_equal(wheel.armed, 0);

    calls = 0;
    weir_timer_start(&wheel, &probes[0].timer, now_ms, 4, on_rearm, NULL);
    for (int i = 1; i <= 10; i++) {
        advance(now_ms + WEIR_TICK_MS);
        assert_int_equal(calls, i);
    }
    weir_timer_stop(&wheel, &probes[0].timer);

    calls = 0; /* both due in one tick; the first puts the second off */
    weir_timer_start(&wheel, &probes[0].timer, now_ms, 8, on_move_another, &probes[1]);
    arm(&probes[1], 8);
    advance(now_ms + 8);
    assert_int_equal(calls, 1);
    assert_int_equal(probes[1].fired, 0);
    advance(now_ms + 44);
    assert_int_equal(probes[1].fired, 1);
}

static void a_late_start_is_relative_to_its_now(void **state)
{
    begin(0, 1);
    now_ms = 3600 * 1000; /* the wheel has not been advanced since */
    arm(&probes[0], 100);
    advance(now_ms + 99);
    assert_int_equal(probes[0].fired, 0);
    advance(now_ms + 5);
    assert_int_equal(probes[0].fired, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fires_like_the_model),
        cmocka_unit_test(a_loop_that_trusts_next_ms_is_in_time),
        cmocka_unit_test(boundaries_of_every_level),
        cmocka_unit_test(next_ms_sees_behind_a_slot_of_the_next_round),
        cmocka_unit_test(armed_anew_fires_once_at_the_later_time),
        cmocka_unit_test(an_endless_time_never_wraps),
        cmocka_unit_test(callbacks_may_stop_and_start_any_timer),
        cmocka_unit_test(a_late_start_is_relative_to_its_now),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
