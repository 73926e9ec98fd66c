/* SPDX-License-Identifier: Apache-2.0 */
/**
 * rate_limit.h: a table of token buckets of a fixed size, shared by all workers without a lock.
 * Apart from the filter, so that it is tested with a clock of the test's.
 *
 * A bucket is one number: the time at which it will be full again (the "theoretical arrival time"
 * of GCRA). A request moves it by 1/rate; one that would move it further than burst/rate ahead of
 * now is refused, and moves nothing. Its distance from now is the bucket's debt; a bucket without
 * debt is like one that never was.
 *
 * A slot is one 64-bit word, changed by compare-and-swap: a tag of the key, whether the debt was
 * taken over, the time. Four slots are a set; a key can be in one set alone. The hash is SipHash
 * with a random key: who chooses keys cannot choose what they collide with.
 *
 * When all four slots of a set have debt, a new key takes the slot with the least debt, and the
 * debt with it (as "Space-Saving" counts heavy hitters): nobody is ever counted for less than he
 * did. So a flood of keys that an attacker makes up can push out only what has hardly any debt,
 * never a heavy client into a fresh bucket; nor does he gain by changing keys. What a flood that
 * fills the table does cost: keys that are new in it start with a debt, down to being refused
 * (65536 buckets in debt at once, each refilled at `rate`: that is the most that passes). A debt
 * that was taken over is marked, and never a reason for a ban.
 */
#ifndef FILTER_RATE_LIMIT_H
#define FILTER_RATE_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RATE_SLOTS = 64 * 1024,
    RATE_WAYS = 4,
    RATE_SETS = RATE_SLOTS / RATE_WAYS,
};

struct rate_table {
    _Atomic unsigned refs;
    _Atomic uint64_t *slots; /* RATE_SLOTS */
    uint64_t key[2];
    uint64_t unit_ns;  /* of the times in slots */
    uint64_t interval; /* 1/rate, in units */
    uint64_t horizon;  /* burst/rate, in units: the most that a bucket may owe */
};

struct rate_answer {
    bool ok;
    bool own;         /* refused for what this key did itself */
    uint64_t wait_ns; /* refused: until a request would pass */
};

/** `rate` a second, above 0; `burst` at least 1. NULL without memory or randomness. */
struct rate_table *rate_table_new(double rate, uint64_t burst);
struct rate_table *rate_table_get(struct rate_table *table);
/** With the last one it is freed. */
void rate_table_put(struct rate_table *table);
/** Do both limit alike? Then they may be one. */
bool rate_table_alike(const struct rate_table *a, const struct rate_table *b);
/** Who is in debt in `from` is in `table`, which nobody uses yet, by as many requests; at most what it allows. Those that
 * come while this runs may be missed. */
void rate_table_copy(struct rate_table *table, struct rate_table *from, uint64_t now_ns);
/** One request of a key (any bytes) at a time of a monotonic clock. Any thread. */
struct rate_answer rate_table_take(struct rate_table *table, const void *key, size_t len,
                                   uint64_t now_ns);
/** SipHash-1-3 (https://www.aumasson.jp/siphash/siphash.pdf). */
uint64_t rate_hash(const uint64_t key[2], const void *data, size_t len);

#endif
