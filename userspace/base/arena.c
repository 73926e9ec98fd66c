/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/panic.h"
#include "weir/limits.h"

#include <stdlib.h>

struct weir_arena_chunk {
    struct weir_arena_chunk *next;
    size_t bytes; /* with this head */
};

void weir_arena_cache_init(struct weir_arena_cache *cache)
{
    weir_slab_init(&cache->chunks, WEIR_ARENA_CHUNK_BYTES);
}

void weir_arena_cache_fini(struct weir_arena_cache *cache)
{
    weir_slab_fini(&cache->chunks);
}

void weir_arena_init(struct weir_arena *arena, struct weir_arena_cache *cache)
{
    *arena = (struct weir_arena){ .cache = cache };
}

static void chunk_free(struct weir_arena_cache *cache, struct weir_arena_chunk *chunk)
{
    if (cache && chunk->bytes == WEIR_ARENA_CHUNK_BYTES)
        weir_slab_put(&cache->chunks, chunk);
    else
        free(chunk);
}

void weir_arena_fini(struct weir_arena *arena)
{
    while (arena->chunks) {
        struct weir_arena_chunk *chunk = arena->chunks;

        arena->chunks = chunk->next;
        chunk_free(arena->cache, chunk);
    }
    arena->at = arena->end = NULL;
    arena->bytes = 0;
}

static struct weir_arena_chunk *chunk_new(struct weir_arena_cache *cache, size_t bytes)
{
    bool cached = cache && bytes == WEIR_ARENA_CHUNK_BYTES;
    struct weir_arena_chunk *chunk = cached ? weir_slab_get_raw(&cache->chunks) : malloc(bytes);

    if (chunk)
        chunk->bytes = bytes;
    return chunk;
}

static void *arena_grow(struct weir_arena *arena, size_t bytes)
{
    size_t head = (sizeof(struct weir_arena_chunk) + 15) & ~(size_t)15;
    bool own = bytes > (WEIR_ARENA_CHUNK_BYTES - head) / 2;
    struct weir_arena_chunk *chunk;

    if (bytes > SIZE_MAX / 2)
        return NULL;
    chunk = chunk_new(arena->cache, own ? head + bytes : WEIR_ARENA_CHUNK_BYTES);
    if (!chunk)
        return NULL;
    arena->bytes += chunk->bytes;
    if (own && arena->chunks) { /* behind the newest, whose rest stays in use */
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
        return (char *)chunk + head;
    }
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->at = (char *)chunk + head + bytes;
    arena->end = (char *)chunk + chunk->bytes;
    return (char *)chunk + head;
}

void *weir_arena_alloc(struct weir_arena *arena, size_t bytes)
{
    char *at = (char *)(((uintptr_t)arena->at + 15) & ~(uintptr_t)15);

    if (arena->at && at <= arena->end && bytes <= (size_t)(arena->end - at)) {
        arena->at = at + bytes;
        return at;
    }
    return arena_grow(arena, bytes);
}

void *weir_arena_zalloc(struct weir_arena *arena, size_t bytes)
{
    void *memory = weir_arena_alloc(arena, bytes);

    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

char *weir_arena_text(struct weir_arena *arena, size_t bytes)
{
    if (arena->at && bytes <= (size_t)(arena->end - arena->at)) {
        char *at = arena->at;

        arena->at += bytes;
        return at;
    }
    return arena_grow(arena, bytes);
}

struct weir_str weir_arena_copy(struct weir_arena *arena, struct weir_str text)
{
    char *copy = weir_arena_text(arena, text.len + 1);

    if (!copy)
        return (struct weir_str){ NULL, 0 };
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    return (struct weir_str){ copy, text.len };
}
