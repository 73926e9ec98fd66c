/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wheel.h"

#include <limits.h>

static const uint64_t AFTER_MS_MAX = (uint64_t)1 << 48; /* 8900 years: the sum can not overflow */

void weir_wheel_init(struct weir_wheel *wheel, uint64_t now_ms)
{
    *wheel = (struct weir_wheel){ .tick = now_ms / WEIR_TICK_MS };
    for (int level = 0; level < WEIR_WHEEL_LEVELS; level++)
        for (int slot = 0; slot < WEIR_WHEEL_SLOTS; slot++)
            weir_list_init(&wheel->slots[level][slot]);
}

/* The slot of a tick at the level whose span still covers its distance from now. */
static void wheel_insert(struct weir_wheel *wheel, struct weir_timer *timer)
{
    uint64_t tick = timer->tick < wheel->tick ? wheel->tick : timer->tick;
    uint64_t away = tick - wheel->tick;
    int level = 0;
    unsigned slot;

    while (level < WEIR_WHEEL_LEVELS - 1 && away >> (6 * (level + 1)))
        level++;
    if (away >>
        (6 * WEIR_WHEEL_LEVELS)) /* beyond the last level: look again when it has gone round */
        tick = wheel->tick + ((uint64_t)1 << (6 * WEIR_WHEEL_LEVELS)) - 1;
    slot = (unsigned)(tick >> (6 * level)) % WEIR_WHEEL_SLOTS;
    weir_list_push_back(&wheel->slots[level][slot], &timer->link);
    wheel->used[level] |= (uint64_t)1 << slot;
}

void weir_timer_start(struct weir_wheel *wheel, struct weir_timer *timer, uint64_t now_ms,
                      uint64_t after_ms, weir_timer_fn fn, void *arg)
{
    if (weir_timer_armed(timer))
        weir_list_remove(&timer->link);
    else
        wheel->armed++;
    timer->fn = fn;
    timer->arg = arg;
    if (after_ms > AFTER_MS_MAX)
        after_ms = AFTER_MS_MAX;
    timer->tick = (now_ms + after_ms + WEIR_TICK_MS - 1) / WEIR_TICK_MS;
    wheel_insert(wheel, timer);
}

void weir_timer_stop(struct weir_wheel *wheel, struct weir_timer *timer)
{
    if (!weir_timer_armed(timer))
        return;
    weir_list_remove(&timer->link);
    wheel->armed--;
}

/* Nothing fires or cascades before the lowest level in use comes to its next slot: a long sleep is
 * not walked tick by tick. */
static void wheel_skip(struct weir_wheel *wheel, uint64_t now)
{
    uint64_t span = WEIR_WHEEL_SLOTS, next;

    for (int level = 1; level < WEIR_WHEEL_LEVELS - 1 && !wheel->used[level]; level++)
        span *= WEIR_WHEEL_SLOTS;
    next = (wheel->tick | (span - 1)) + 1;
    wheel->tick = next <= now ? next : now + 1;
}

/* A slot of a higher level has come: its timers are nearer now. */
static void wheel_cascade(struct weir_wheel *wheel, int level)
{
    unsigned slot = (unsigned)(wheel->tick >> (6 * level)) % WEIR_WHEEL_SLOTS;
    struct weir_list all;

    weir_list_take_all(&all, &wheel->slots[level][slot]);
    wheel->used[level] &= ~((uint64_t)1 << slot);
    while (!weir_list_empty(&all))
        wheel_insert(wheel, weir_list_entry(weir_list_pop_front(&all), struct weir_timer, link));
}

static void wheel_fire(struct weir_wheel *wheel)
{
    unsigned slot = (unsigned)wheel->tick % WEIR_WHEEL_SLOTS;
    struct weir_list due;

    weir_list_take_all(&due, &wheel->slots[0][slot]);
    wheel->used[0] &= ~((uint64_t)1 << slot);
    wheel->tick++; /* what a callback arms for now fires with the next tick */
    while (!weir_list_empty(&due)) {
        struct weir_timer *timer =
            weir_list_entry(weir_list_pop_front(&due), struct weir_timer, link);

        wheel->armed--;
        timer->fn(timer, timer->arg);
    }
}

void weir_wheel_advance(struct weir_wheel *wheel, uint64_t now_ms)
{
    uint64_t now = now_ms / WEIR_TICK_MS;

    while (wheel->tick <= now) {
        if (!wheel->armed) {
            wheel->tick = now + 1;
            return;
        }
        for (int level = 1; level < WEIR_WHEEL_LEVELS; level++) {
            if (wheel->tick & (((uint64_t)1 << (6 * level)) - 1))
                break;
            wheel_cascade(wheel, level);
        }
        if (wheel->used[0])
            wheel_fire(wheel);
        else
            wheel_skip(wheel, now);
    }
}

/* The earliest tick at which a slot of this level may have work: fires (level 0) or cascades. */
static uint64_t level_next(const struct weir_wheel *wheel, int level)
{
    unsigned shift = 6 * (unsigned)level, first;
    uint64_t base = wheel->tick >> shift, bits = wheel->used[level];

    if (wheel->tick & (((uint64_t)1 << shift) - 1))
        base++; /* the slot that we are in has cascaded: what it holds is for the next round */
    first = (unsigned)base % WEIR_WHEEL_SLOTS;
    bits = first ? bits >> first | bits << (WEIR_WHEEL_SLOTS - first) : bits;
    return (base + (unsigned)__builtin_ctzll(bits)) << shift;
}

int weir_wheel_next_ms(const struct weir_wheel *wheel, uint64_t now_ms)
{
    uint64_t best = UINT64_MAX / WEIR_TICK_MS;

    if (!wheel->armed)
        return -1;
    for (int level = 0; level < WEIR_WHEEL_LEVELS; level++) {
        uint64_t at = wheel->used[level] ? level_next(wheel, level) : best;

        if (at < best)
            best = at;
    }
    best *= WEIR_TICK_MS;
    if (best <= now_ms)
        return 0;
    return best - now_ms > INT_MAX ? INT_MAX : (int)(best - now_ms);
}
