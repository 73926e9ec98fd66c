/* SPDX-License-Identifier: Apache-2.0 */
/** alloc.h: memory for structs that keep what threads write on cache lines of their own. */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stdlib.h>
#include <string.h>

enum { WEIR_LINE_BYTES = 64 };

/** Zeroed, aligned to a cache line; for free(). NULL without memory. */
static inline void *weir_zalloc_aligned(size_t bytes)
{
    size_t whole = (bytes + WEIR_LINE_BYTES - 1) & ~(size_t)(WEIR_LINE_BYTES - 1);
    void *p = aligned_alloc(WEIR_LINE_BYTES, whole);

    if (p)
        memset(p, 0, whole);
    return p;
}

#endif
