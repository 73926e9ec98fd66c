/* SPDX-License-Identifier: Apache-2.0 */
/**
 * wheel.h: many timers of one thread, O(1) to arm and disarm. Four levels of 64 slots over ticks of
 * 4 ms (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987): 256 ms, 16 s, 17 min,
 * 18 h; longer ones wait in the last. A timer fires at its time or up to a tick late, never early.
 * No memory of its own.
 */
#ifndef BASE_WHEEL_H
#define BASE_WHEEL_H

#include "base/list.h"

#include <stdint.h>

struct weir_timer;
typedef void (*weir_timer_fn)(struct weir_timer *timer, void *arg);

/** Embedded in what it times; 0-filled means "not armed". */
struct weir_timer {
    struct weir_list link;
    uint64_t tick;
    weir_timer_fn fn;
    void *arg;
};

enum { WEIR_WHEEL_LEVELS = 4, WEIR_WHEEL_SLOTS = 64, WEIR_TICK_MS = 4 };

struct weir_wheel {
    uint64_t tick; /* all before it have fired */
    uint64_t armed;
    uint64_t used[WEIR_WHEEL_LEVELS]; /* a bit a slot that may hold timers */
    struct weir_list slots[WEIR_WHEEL_LEVELS][WEIR_WHEEL_SLOTS];
};

void weir_wheel_init(struct weir_wheel *wheel, uint64_t now_ms);
/** Arms, or arms anew. `now_ms` as of weir_wheel_advance's clock. */
void weir_timer_start(struct weir_wheel *wheel, struct weir_timer *timer, uint64_t now_ms,
                      uint64_t after_ms, weir_timer_fn fn, void *arg);
/** Disarms; harmless when it is not armed. */
void weir_timer_stop(struct weir_wheel *wheel, struct weir_timer *timer);
static inline bool weir_timer_armed(const struct weir_timer *timer)
{
    return timer->link.next != NULL && timer->link.next != &timer->link;
}
/** Fires what is due. A callback may start and stop any timer. */
void weir_wheel_advance(struct weir_wheel *wheel, uint64_t now_ms);
/** Milliseconds until the next timer may be due (a lower bound), -1 when none is armed. */
int weir_wheel_next_ms(const struct weir_wheel *wheel, uint64_t now_ms);

#endif
