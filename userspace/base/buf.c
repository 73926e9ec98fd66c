/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/panic.h"
#include "weir/error.h"
#include "weir/limits.h"

#include <stdlib.h>

struct weir_chunk {
    struct weir_chunk *next;
    unsigned size, start, end; /* of data */
    char data[];
};

enum { CHUNK_MIN_BYTES = 1024 };

void weir_buf_cache_init(struct weir_buf_cache *cache)
{
    weir_slab_init(&cache->chunks, WEIR_SLAB_BYTES);
}

void weir_buf_cache_fini(struct weir_buf_cache *cache)
{
    weir_slab_fini(&cache->chunks);
}

static struct weir_chunk *chunk_new(struct weir_buf_cache *cache, size_t len)
{
    size_t bytes = CHUNK_MIN_BYTES;
    struct weir_chunk *chunk;

    while (bytes - sizeof(*chunk) < len && bytes < WEIR_SLAB_BYTES)
        bytes *= 2;
    if (bytes > WEIR_SLAB_BYTES)
        bytes = WEIR_SLAB_BYTES;
    chunk = cache && bytes == WEIR_SLAB_BYTES ? weir_slab_get_raw(&cache->chunks) : malloc(bytes);
    if (!chunk)
        return NULL;
    chunk->size = (unsigned)(bytes - sizeof(*chunk));
    chunk->next = NULL;
    chunk->start = chunk->end = 0;
    return chunk;
}

static void chunk_free(struct weir_buf_cache *cache, struct weir_chunk *chunk)
{
    if (cache && chunk->size == WEIR_SLAB_BYTES - sizeof(*chunk))
        weir_slab_put(&cache->chunks, chunk);
    else
        free(chunk);
}

static void chain_free(struct weir_buf_cache *cache, struct weir_chunk *chunk)
{
    while (chunk) {
        struct weir_chunk *next = chunk->next;

        chunk_free(cache, chunk);
        chunk = next;
    }
}

void weir_buf_clear(struct weir_buf *buf)
{
    chain_free(buf->cache, buf->first);
    buf->first = buf->last = NULL;
    buf->len = 0;
}

/* Room for `len` more bytes: the chunks are there before the first byte is copied. */
static int buf_reserve(struct weir_buf *buf, size_t len, struct weir_chunk **fresh)
{
    size_t room = buf->last ? buf->last->size - buf->last->end : 0;
    struct weir_chunk *first = NULL, **tail = &first;

    while (room < len) {
        *tail = chunk_new(buf->cache, len - room);
        if (!*tail) {
            chain_free(buf->cache, first);
            return WEIR_ENOMEM;
        }
        room += (*tail)->size;
        tail = &(*tail)->next;
    }
    *fresh = first;
    return 0;
}

static void buf_copy(struct weir_buf *buf, struct weir_chunk **fresh, const char *data, size_t len)
{
    while (len) {
        struct weir_chunk *chunk = buf->last;
        size_t n;

        if (!chunk || chunk->end == chunk->size) {
            chunk = *fresh;
            weir_assert(chunk != NULL); /* buf_reserve made as many as are needed */
            *fresh = chunk->next;
            chunk->next = NULL;
            if (buf->last)
                buf->last->next = chunk;
            else
                buf->first = chunk;
            buf->last = chunk;
        }
        n = chunk->size - chunk->end;
        if (n > len)
            n = len;
        memcpy(chunk->data + chunk->end, data, n);
        chunk->end += (unsigned)n;
        buf->len += n;
        data += n;
        len -= n;
    }
}

int weir_buf_append(struct weir_buf *buf, const void *data, size_t len)
{
    struct iovec iov = { (void *)data, len };

    return weir_buf_append_iov(buf, &iov, 1, 0);
}

int weir_buf_append_iov(struct weir_buf *buf, const struct iovec *iov, int count, size_t skip)
{
    struct weir_chunk *fresh = NULL;
    size_t len = weir_iov_len(iov, count);
    int err;

    weir_assert(skip <= len);
    err = buf_reserve(buf, len - skip, &fresh);
    if (err)
        return err;
    for (int i = 0; i < count; i++) {
        size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len;

        buf_copy(buf, &fresh, (const char *)iov[i].iov_base + cut, iov[i].iov_len - cut);
        skip -= cut;
    }
    weir_assert(fresh == NULL);
    return 0;
}

int weir_buf_peek(const struct weir_buf *buf, size_t skip, struct iovec *iov, int max)
{
    int n = 0;

    for (struct weir_chunk *chunk = buf->first; chunk && n < max; chunk = chunk->next) {
        size_t have = chunk->end - chunk->start;
        size_t cut = skip < have ? skip : have;

        skip -= cut;
        if (have > cut)
            iov[n++] = (struct iovec){ chunk->data + chunk->start + cut, have - cut };
    }
    return n;
}

void weir_buf_consume(struct weir_buf *buf, size_t len)
{
    weir_assert(len <= buf->len);
    buf->len -= len;
    while (buf->first) {
        struct weir_chunk *chunk = buf->first;
        size_t have = chunk->end - chunk->start;
        size_t n = len < have ? len : have;

        chunk->start += (unsigned)n;
        len -= n;
        if (chunk->start < chunk->end)
            return;
        buf->first = chunk->next;
        if (!buf->first)
            buf->last = NULL;
        chunk_free(buf->cache, chunk);
    }
}

void weir_buf_splice(struct weir_buf *to, struct weir_buf *from)
{
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->len += from->len;
    from->first = from->last = NULL;
    from->len = 0;
}
