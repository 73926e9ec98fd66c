/* SPDX-License-Identifier: Apache-2.0 */
/**
 * buf.h: a queue of bytes that had to be kept: what a peer does not take yet, a body held for a
 * retry. Chunks of 1 KiB to 16 KiB, the big ones cached by the worker. An empty queue holds no
 * memory. One thread.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/slab.h"
#include "weir/types.h"

#include <sys/uio.h>

struct weir_chunk;

struct weir_buf_cache {
    struct weir_slab chunks; /* the big ones */
};

struct weir_buf {
    struct weir_buf_cache *cache; /* NULL: plain malloc */
    struct weir_chunk *first, *last;
    size_t len; /* bytes queued */
};

void weir_buf_cache_init(struct weir_buf_cache *cache);
void weir_buf_cache_fini(struct weir_buf_cache *cache);

static inline void weir_buf_init(struct weir_buf *buf, struct weir_buf_cache *cache)
{
    *buf = (struct weir_buf){ .cache = cache };
}
/** Drops everything. */
void weir_buf_clear(struct weir_buf *buf);
/** Appends copies of the bytes, all or none: 0 or WEIR_ENOMEM. */
int weir_buf_append(struct weir_buf *buf, const void *data, size_t len)
    __attribute__((warn_unused_result));
/** As weir_buf_append, of the bytes of `iov` from `skip` on. */
int weir_buf_append_iov(struct weir_buf *buf, const struct iovec *iov, int count, size_t skip)
    __attribute__((warn_unused_result));
/** Views of the bytes from `skip` on: fills at most `max` entries, returns how many. */
int weir_buf_peek(const struct weir_buf *buf, size_t skip, struct iovec *iov, int max);
/** Drops `len` bytes (<= buf->len) from the front. */
void weir_buf_consume(struct weir_buf *buf, size_t len);
/** Moves all of `from` behind `to`; both have the same cache. */
void weir_buf_splice(struct weir_buf *to, struct weir_buf *from);

/** The sum of an iovec. */
static inline size_t weir_iov_len(const struct iovec *iov, int count)
{
    size_t len = 0;

    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    return len;
}

#endif
