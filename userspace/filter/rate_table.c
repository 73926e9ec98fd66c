/* SPDX-License-Identifier: Apache-2.0 */
#include "rate_limit.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A slot: tag (23) | taken over (1) | time (40). The word 0 is a slot that was never used. Times
 * are compared modulo 2^40 units. A unit is a 4096th of 1/rate where it can be, so that the rate is
 * exact and 2^40 units are a long time (30 days at 100/s): a time that seems further ahead than a
 * bucket may owe is an old one. One that has come round to seem near needs a chance of at most
 * burst in 2^28, and costs a client what it would cost to have come before. */
#define TIME_BITS 40
#define TIME_MASK ((1ull << TIME_BITS) - 1)
#define TAKEN     (1ull << TIME_BITS)
#define TAG_SHIFT (TIME_BITS + 1)
#define TAG_MASK  (UINT64_MAX << TAG_SHIFT)
enum {
    CAS_TRIES_MAX = 64, /* after that many lost races for one slot the request passes uncounted */
    HORIZON_UNITS_MAX = 1 << 30,
    INTERVAL_UNITS = 4096,
};

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t rate_hash(const uint64_t key[2], const void *data, size_t len)
{
    uint64_t v[4] = { key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull,
                      key[0] ^ 0x6c7967656e657261ull, key[1] ^ 0x7465646279746573ull };
    const unsigned char *at = data;
    uint64_t word, last = 0;

    for (size_t left = len; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        word = le64toh(word);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    if (len % 8)
        memcpy(&last, at, len % 8);
    last = le64toh(last) | (uint64_t)len << 56;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void scale(struct rate_table *table, double rate, uint64_t burst)
{
    double interval_ns = 1e9 / rate, horizon_ns = interval_ns * (double)burst;

    table->unit_ns = 1 + (uint64_t)(horizon_ns / HORIZON_UNITS_MAX);
    if (interval_ns / INTERVAL_UNITS > (double)table->unit_ns)
        table->unit_ns = (uint64_t)(interval_ns / INTERVAL_UNITS);
    table->interval = (uint64_t)(interval_ns / (double)table->unit_ns + 0.5);
    if (!table->interval)
        table->interval = 1;
    table->horizon = table->interval * burst;
}

struct rate_table *rate_table_new(double rate, uint64_t burst)
{
    struct rate_table *table = calloc(1, sizeof(*table));

    if (!table)
        return NULL;
    atomic_init(&table->refs, 1);
    scale(table, rate, burst);
    table->slots = calloc(RATE_SLOTS, sizeof(*table->slots));
    if (table->slots && !getentropy(table->key, sizeof(table->key)))
        return table;
    rate_table_put(table);
    return NULL;
}

struct rate_table *rate_table_get(struct rate_table *table)
{
    atomic_fetch_add_explicit(&table->refs, 1, memory_order_relaxed);
    return table;
}

void rate_table_put(struct rate_table *table)
{
    if (!table || atomic_fetch_sub_explicit(&table->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(table->slots);
    free(table);
}

bool rate_table_alike(const struct rate_table *a, const struct rate_table *b)
{
    return a->unit_ns == b->unit_ns && a->interval == b->interval && a->horizon == b->horizon;
}

/* What a slot owes at `now`: 0 for one that is free. */
static uint64_t debt_of(const struct rate_table *table, uint64_t slot, uint64_t now)
{
    uint64_t ahead = (slot - now) & TIME_MASK;

    return slot && ahead <= table->horizon ? ahead : 0;
}

/* The slot of a key in its set; or else the one with the least debt. */
static _Atomic uint64_t *choose(const struct rate_table *table, uint64_t hash, uint64_t tag,
                                uint64_t now)
{
    _Atomic uint64_t *set = &table->slots[hash % RATE_SETS * RATE_WAYS], *least = NULL;
    uint64_t least_debt = UINT64_MAX;

    for (unsigned i = 0; i < RATE_WAYS; i++) {
        uint64_t slot = atomic_load_explicit(&set[i], memory_order_relaxed);
        uint64_t debt = debt_of(table, slot, now);

        if (slot && (slot & TAG_MASK) == tag)
            return &set[i];
        if (debt < least_debt) {
            least = &set[i];
            least_debt = debt;
        }
    }
    return least;
}

struct rate_answer rate_table_take(struct rate_table *table, const void *key, size_t len,
                                   uint64_t now_ns)
{
    uint64_t hash = rate_hash(table->key, key, len), tag = hash & TAG_MASK;
    uint64_t now = now_ns / table->unit_ns;

    for (unsigned i = 0; i < CAS_TRIES_MAX; i++) {
        _Atomic uint64_t *at = choose(table, hash, tag, now);
        uint64_t slot = atomic_load_explicit(at, memory_order_relaxed);
        uint64_t debt = debt_of(table, slot, now), next;
        bool taken = debt && ((slot & TAG_MASK) != tag || (slot & TAKEN));

        if (debt + table->interval > table->horizon)
            return (struct rate_answer){
                .own = !taken,
                .wait_ns = (debt + table->interval - table->horizon) * table->unit_ns,
            };
        next = tag | (taken ? TAKEN : 0) | ((now + debt + table->interval) & TIME_MASK);
        if (!next) /* the word 0 has a meaning of its own */
            next = 1;
        if (atomic_compare_exchange_strong_explicit(at, &slot, next, memory_order_relaxed,
                                                    memory_order_relaxed))
            break;
    }
    return (struct rate_answer){ .ok = true };
}

void rate_table_copy(struct rate_table *table, struct rate_table *from, uint64_t now_ns)
{
    uint64_t then = now_ns / from->unit_ns, now = now_ns / table->unit_ns;

    memcpy(table->key, from->key, sizeof(table->key)); /* a key has the same slot in both */
    for (unsigned i = 0; i < RATE_SLOTS; i++) {
        uint64_t slot = atomic_load_explicit(&from->slots[i], memory_order_relaxed);
        double requests = (double)debt_of(from, slot, then) / (double)from->interval;
        double debt = requests * (double)table->interval;

        if (!(requests > 0))
            continue;
        if (debt > (double)table->horizon)
            debt = (double)table->horizon;
        atomic_store_explicit(&table->slots[i],
                              (slot & ~TIME_MASK) | ((now + (uint64_t)debt) & TIME_MASK),
                              memory_order_relaxed);
    }
}
