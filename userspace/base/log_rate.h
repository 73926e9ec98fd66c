/* SPDX-License-Identifier: Apache-2.0 */
/** log_rate.h: what may happen very often is said once a second, with how often it has happened. Any thread. */
#ifndef BASE_LOG_RATE_H
#define BASE_LOG_RATE_H

#include <stdatomic.h>
#include <stdint.h>

enum { WEIR_LOG_RATE_MS = 1000 };

/** Zeroed: nothing was said yet. */
struct weir_log_rate {
    _Atomic uint64_t told_ms, untold;
};

/** It has happened once more: how often since the last line, when a line is due; else 0. */
static inline uint64_t weir_log_due(struct weir_log_rate *rate, uint64_t now_ms)
{
    uint64_t told_ms;

    atomic_fetch_add_explicit(&rate->untold, 1, memory_order_relaxed);
    told_ms = atomic_load_explicit(&rate->told_ms, memory_order_relaxed);
    if ((told_ms && now_ms < told_ms + WEIR_LOG_RATE_MS) ||
        !atomic_compare_exchange_strong(&rate->told_ms, &told_ms, now_ms))
        return 0;
    return atomic_exchange(&rate->untold, 0);
}

#endif
