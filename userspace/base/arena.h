/* SPDX-License-Identifier: Apache-2.0 */
/**
 * arena.h: memory of one request, freed at once. Chunks come from a cache of the worker, so that a
 * request that needs one chunk costs no malloc. One thread.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slab.h"
#include "weir/types.h"

struct weir_arena_chunk;

/** Chunks of a worker. */
struct weir_arena_cache {
    struct weir_slab chunks;
};

struct weir_arena {
    struct weir_arena_cache *cache;
    struct weir_arena_chunk *chunks; /* newest first */
    char *at, *end;                  /* free part of the newest */
    size_t bytes;                    /* taken from the system for this arena */
};

void weir_arena_cache_init(struct weir_arena_cache *cache);
void weir_arena_cache_fini(struct weir_arena_cache *cache);

/** Takes no memory yet. `cache` outlives the arena; NULL: plain malloc. */
void weir_arena_init(struct weir_arena *arena, struct weir_arena_cache *cache);
/** Frees everything; the arena may be used again. */
void weir_arena_fini(struct weir_arena *arena);
/** Not zeroed, aligned to 16; NULL without memory. */
void *weir_arena_alloc(struct weir_arena *arena, size_t bytes);
void *weir_arena_zalloc(struct weir_arena *arena, size_t bytes);
/** Unaligned bytes, for text. */
char *weir_arena_text(struct weir_arena *arena, size_t bytes);
/** A copy, with a 0 behind it; absent without memory. */
struct weir_str weir_arena_copy(struct weir_arena *arena, struct weir_str text);

#endif
