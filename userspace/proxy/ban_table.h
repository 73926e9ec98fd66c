/* SPDX-License-Identifier: Apache-2.0 */
/**
 * ban_table.h: prefixes that are shut out for a while. A fixed table: whoever can cause bans cannot
 * make it grow, and cannot choose what collides (the hash is universal, with a random key).
 *
 * Lookups take no lock and never wait: open addressing in slots of atomics. Changes take the lock.
 * What keeps a lookup right while slots change:
 *   1. a slot that lies between the home of a live entry and that entry is never EMPTY; a live
 * entry never moves;
 *   2. a slot's word changes (GOING, with a new generation) before its key does, and is read again
 * after the key. So a lookup finds every entry that was there during all of the lookup; of one that
 * comes or goes meanwhile it may say either. Expiry is looked at in the lookup; expired slots are
 * used again.
 */
#ifndef PROXY_BAN_TABLE_H
#define PROXY_BAN_TABLE_H

#include "net/addr.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    WEIR_BANS_MAX = 64 * 1024,
    WEIR_BAN_SLOTS = 2 * WEIR_BANS_MAX, /* at most half full: probes stay short */
    WEIR_BAN_PROBES_MAX = 512,
    WEIR_BAN_WHY_BYTES = 64, /* longer reasons are cut */
};

struct weir_ban_slot {
    _Atomic uint64_t word;      /* generation << 16 | bits << 8 | state; 0: EMPTY */
    _Atomic uint64_t high, low; /* the prefix */
    _Atomic uint64_t until_ms;  /* monotonic; UINT64_MAX: for ever */
    _Atomic uint64_t hits;
};

struct weir_ban_table {
    struct weir_ban_slot *slots;
    char (*why)[WEIR_BAN_WHY_BYTES]; /* beside the slots; under the lock */
    _Atomic uint64_t lengths[3];     /* a bit a prefix length that may be in use */
    _Atomic unsigned live;           /* with those that have expired and were not yet swept */
    unsigned of_length[129];         /* under the lock */
    unsigned hand;                   /* where the sweep goes on */
    _Atomic uint64_t refused;        /* bans that found the table full */
    uint64_t generation;
    uint64_t key[6];
    pthread_mutex_t lock;
};

/** 0, WEIR_ENOMEM. Memory is touched only as bans come. */
int weir_ban_table_init(struct weir_ban_table *table) __attribute__((warn_unused_result));
void weir_ban_table_fini(struct weir_ban_table *table);
/** Is an address banned now? Any thread, no lock. */
bool weir_ban_table_has(struct weir_ban_table *table, const uint8_t addr[16], uint64_t now_ms);
/** Adds, or gives a ban that is there a new end and reason. WEIR_ELIMIT: full. */
int weir_ban_table_add(struct weir_ban_table *table, const struct weir_prefix *prefix,
                       uint64_t until_ms, struct weir_str why, uint64_t now_ms)
    __attribute__((warn_unused_result));
/** WEIR_ENOENT: it was not there. */
int weir_ban_table_remove(struct weir_ban_table *table, const struct weir_prefix *prefix,
                          uint64_t now_ms) __attribute__((warn_unused_result));
/** Visits what has not expired. Under the lock. */
void weir_ban_table_each(struct weir_ban_table *table, uint64_t now_ms,
                         void (*fn)(void *arg, const struct weir_prefix *prefix, uint64_t left_ms,
                                    struct weir_str why, uint64_t hits),
                         void *arg);

#endif
