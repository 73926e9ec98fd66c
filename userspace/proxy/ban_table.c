/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/ban_table.h"

#include "base/panic.h"
#include "weir/error.h"

#include <endian.h>
#include <stdlib.h>
#include <sys/random.h>

/* States of a slot; EMPTY is the word 0, which no other state has. */
enum { DEAD = 1, GOING, LIVE };
enum { SWEEP_STEP = 32 }; /* slots that each new ban examines */

struct key {
    uint64_t high, low;
    uint8_t bits;
};

static unsigned state_of(uint64_t word)
{
    return word & 0xff;
}

static uint8_t bits_of(uint64_t word)
{
    return (uint8_t)(word >> 8);
}

static struct key key_of(const uint8_t addr[16], uint8_t bits)
{
    struct key key = { .bits = bits };

    memcpy(&key.high, addr, 8);
    memcpy(&key.low, addr + 8, 8);
    key.high = be64toh(key.high);
    key.low = be64toh(key.low);
    if (bits <= 64) {
        key.low = 0;
        key.high = bits ? key.high >> (64 - bits) << (64 - bits) : 0;
    } else if (bits < 128) {
        key.low = key.low >> (128 - bits) << (128 - bits);
    }
    return key;
}

/* Multiply-shift of 32-bit words with random 64-bit factors (Dietzfelbinger): any two keys collide
 * with the probability 2^-17 over the random factors, whatever the keys are, and nothing that a
 * client sees tells the factors. */
static unsigned home_of(const struct weir_ban_table *table, const struct key *key)
{
    uint64_t sum = table->key[5];

    sum += (key->high >> 32) * table->key[0];
    sum += (key->high & UINT32_MAX) * table->key[1];
    sum += (key->low >> 32) * table->key[2];
    sum += (key->low & UINT32_MAX) * table->key[3];
    sum += key->bits * table->key[4];
    return (unsigned)(sum >> 32) % WEIR_BAN_SLOTS;
}

static struct weir_ban_slot *slot_at(const struct weir_ban_table *table, unsigned home,
                                     unsigned probe)
{
    return &table->slots[(home + probe) % WEIR_BAN_SLOTS];
}

int weir_ban_table_init(struct weir_ban_table *table)
{
    memset(table, 0, sizeof(*table));
    table->slots = calloc(WEIR_BAN_SLOTS, sizeof(*table->slots));
    table->why = calloc(WEIR_BAN_SLOTS, sizeof(*table->why));
    if (!table->slots || !table->why || getentropy(table->key, sizeof(table->key)) ||
        pthread_mutex_init(&table->lock, NULL)) {
        free(table->slots);
        free(table->why);
        table->slots = NULL;
        return WEIR_ENOMEM;
    }
    return 0;
}

void weir_ban_table_fini(struct weir_ban_table *table)
{
    if (!table->slots)
        return;
    pthread_mutex_destroy(&table->lock);
    free(table->slots);
    free(table->why);
    table->slots = NULL;
}

/* The slot of a key, or NULL; and how long a ban lasts is looked at by the caller. Acquire loads of
 * the key pair with the release stores of slot_fill: who sees a new key sees the slot's new word as
 * well. */
static struct weir_ban_slot *find(const struct weir_ban_table *table, const struct key *key)
{
    unsigned home = home_of(table, key);

    for (unsigned i = 0; i < WEIR_BAN_PROBES_MAX; i++) {
        struct weir_ban_slot *slot = slot_at(table, home, i);
        uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);

        if (!word)
            return NULL;
        if (state_of(word) != LIVE || bits_of(word) != key->bits)
            continue;
        if (atomic_load_explicit(&slot->high, memory_order_acquire) == key->high &&
            atomic_load_explicit(&slot->low, memory_order_acquire) == key->low &&
            atomic_load_explicit(&slot->word, memory_order_relaxed) == word)
            return slot;
    }
    return NULL;
}

static bool length_banned(struct weir_ban_table *table, const uint8_t addr[16], uint8_t bits,
                          uint64_t now_ms)
{
    struct key key = key_of(addr, bits);
    struct weir_ban_slot *slot = find(table, &key);

    if (!slot || atomic_load_explicit(&slot->until_ms, memory_order_acquire) <= now_ms)
        return false;
    atomic_fetch_add_explicit(&slot->hits, 1, memory_order_relaxed);
    return true;
}

bool weir_ban_table_has(struct weir_ban_table *table, const uint8_t addr[16], uint64_t now_ms)
{
    if (!atomic_load_explicit(&table->live, memory_order_relaxed))
        return false;
    for (unsigned w = 0; w < 3; w++) {
        uint64_t left = atomic_load_explicit(&table->lengths[w], memory_order_relaxed);

        for (; left; left &= left - 1)
            if (length_banned(table, addr, (uint8_t)(w * 64 + (unsigned)__builtin_ctzll(left)),
                              now_ms))
                return true;
    }
    return false;
}

/* ---- changes: under the lock ---- */

static void length_count(struct weir_ban_table *table, uint8_t bits, int by)
{
    _Atomic uint64_t *word = &table->lengths[bits / 64];
    uint64_t set = atomic_load_explicit(word, memory_order_relaxed), bit = 1ull << bits % 64;

    table->of_length[bits] += (unsigned)by;
    atomic_store_explicit(word, table->of_length[bits] ? set | bit : set & ~bit,
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&table->live, (unsigned)by, memory_order_relaxed);
}

static void set_word(struct weir_ban_table *table, struct weir_ban_slot *slot, unsigned state,
                     uint8_t bits)
{
    uint64_t word = ++table->generation << 16 | (uint64_t)bits << 8 | state;

    atomic_store_explicit(&slot->word, word, memory_order_release);
}

static void slot_fill(struct weir_ban_table *table, struct weir_ban_slot *slot,
                      const struct key *key, uint64_t until_ms)
{
    set_word(table, slot, GOING, 0);
    atomic_store_explicit(&slot->high, key->high, memory_order_release);
    atomic_store_explicit(&slot->low, key->low, memory_order_release);
    atomic_store_explicit(&slot->until_ms, until_ms, memory_order_release);
    atomic_store_explicit(&slot->hits, 0, memory_order_relaxed);
    length_count(table, key->bits, 1);
    set_word(table, slot, LIVE, key->bits);
}

static uint64_t word_at(const struct weir_ban_table *table, unsigned index)
{
    return atomic_load_explicit(&table->slots[index % WEIR_BAN_SLOTS].word, memory_order_relaxed);
}

/* A dead slot before an empty one is on the way to nobody: it becomes empty, and so do the dead
 * ones before it. */
static void slot_retire(struct weir_ban_table *table, struct weir_ban_slot *slot)
{
    unsigned index = (unsigned)(slot - table->slots);

    length_count(table, bits_of(word_at(table, index)), -1);
    set_word(table, slot, DEAD, 0);
    while (!word_at(table, index + 1) && state_of(word_at(table, index)) == DEAD) {
        atomic_store_explicit(&table->slots[index % WEIR_BAN_SLOTS].word, 0, memory_order_release);
        index += WEIR_BAN_SLOTS - 1;
    }
}

static bool slot_expired(const struct weir_ban_slot *slot, uint64_t now_ms)
{
    return state_of(atomic_load_explicit(&slot->word, memory_order_relaxed)) == LIVE &&
           atomic_load_explicit(&slot->until_ms, memory_order_relaxed) <= now_ms;
}

static void sweep(struct weir_ban_table *table, unsigned slots, uint64_t now_ms)
{
    for (; slots; slots--) {
        struct weir_ban_slot *slot = &table->slots[table->hand++ % WEIR_BAN_SLOTS];

        if (slot_expired(slot, now_ms))
            slot_retire(table, slot);
    }
}

static struct weir_ban_slot *free_slot(const struct weir_ban_table *table, const struct key *key)
{
    unsigned home = home_of(table, key);

    for (unsigned i = 0; i < WEIR_BAN_PROBES_MAX; i++) {
        struct weir_ban_slot *slot = slot_at(table, home, i);
        uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);

        if (!word || state_of(word) == DEAD)
            return slot;
    }
    return NULL;
}

static struct weir_ban_slot *make_room(struct weir_ban_table *table, const struct key *key,
                                       uint64_t now_ms)
{
    struct weir_ban_slot *slot;

    sweep(table, SWEEP_STEP, now_ms);
    if (table->live >= WEIR_BANS_MAX)
        sweep(table, WEIR_BAN_SLOTS, now_ms);
    slot = table->live < WEIR_BANS_MAX ? free_slot(table, key) : NULL;
    if (!slot)
        atomic_fetch_add_explicit(&table->refused, 1, memory_order_relaxed);
    return slot;
}

static void keep_why(struct weir_ban_table *table, const struct weir_ban_slot *slot,
                     struct weir_str why)
{
    char *to = table->why[slot - table->slots];
    size_t len = why.len < WEIR_BAN_WHY_BYTES - 1 ? why.len : WEIR_BAN_WHY_BYTES - 1;

    if (len)
        memcpy(to, why.ptr, len);
    to[len] = 0;
}

int weir_ban_table_add(struct weir_ban_table *table, const struct weir_prefix *prefix,
                       uint64_t until_ms, struct weir_str why, uint64_t now_ms)
{
    struct key key = key_of(prefix->addr, prefix->bits);
    struct weir_ban_slot *slot;

    pthread_mutex_lock(&table->lock);
    slot = find(table, &key);
    if (slot) {
        atomic_store_explicit(&slot->until_ms, until_ms, memory_order_release);
    } else {
        slot = make_room(table, &key, now_ms);
        if (slot)
            slot_fill(table, slot, &key, until_ms);
    }
    if (slot)
        keep_why(table, slot, why);
    pthread_mutex_unlock(&table->lock);
    return slot ? 0 : WEIR_ELIMIT;
}

int weir_ban_table_remove(struct weir_ban_table *table, const struct weir_prefix *prefix,
                          uint64_t now_ms)
{
    struct key key = key_of(prefix->addr, prefix->bits);
    struct weir_ban_slot *slot;
    bool was = false;

    pthread_mutex_lock(&table->lock);
    slot = find(table, &key);
    if (slot) {
        was = !slot_expired(slot, now_ms);
        slot_retire(table, slot);
    }
    pthread_mutex_unlock(&table->lock);
    return was ? 0 : WEIR_ENOENT;
}

static struct weir_prefix slot_prefix(const struct weir_ban_slot *slot)
{
    struct weir_prefix prefix;
    uint64_t high = htobe64(slot->high), low = htobe64(slot->low);

    memcpy(prefix.addr, &high, 8);
    memcpy(prefix.addr + 8, &low, 8);
    prefix.bits = bits_of(slot->word);
    return prefix;
}

void weir_ban_table_each(struct weir_ban_table *table, uint64_t now_ms,
                         void (*fn)(void *arg, const struct weir_prefix *prefix, uint64_t left_ms,
                                    struct weir_str why, uint64_t hits),
                         void *arg)
{
    pthread_mutex_lock(&table->lock);
    for (unsigned i = 0; i < WEIR_BAN_SLOTS && table->live; i++) {
        struct weir_ban_slot *slot = &table->slots[i];
        uint64_t until_ms = slot->until_ms;
        struct weir_prefix prefix;

        if (state_of(slot->word) != LIVE || until_ms <= now_ms)
            continue;
        prefix = slot_prefix(slot);
        fn(arg, &prefix, until_ms == UINT64_MAX ? 0 : until_ms - now_ms, weir_str(table->why[i]),
           slot->hits);
    }
    pthread_mutex_unlock(&table->lock);
}
