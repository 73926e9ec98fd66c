/* SPDX-License-Identifier: Apache-2.0 */
/**
 * slab.h: fixed-size objects of one thread, in pages of 64 KiB that go back to the system when a burst is over.
 *
 * Memory is type-stable between two weir_slab_trim: a freed object may be used again for the same type only, so that a
 * stale event of the same turn finds an object that is gone, never foreign memory. An object's page is found by its
 * address. Objects in use gather in the fullest pages, so that others become empty.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include "base/list.h"

#include <stddef.h>

struct weir_slab {
    size_t bytes; /* of one object */
    unsigned per_page;
    struct weir_list partial; /* pages with both free and used objects, or with free ones alone */
    struct weir_list full;
    size_t used; /* objects */
    size_t pages;
};

/** `bytes`: size of an object, sizeof(void *) to 16 KiB. Keeps no memory until the first get. */
void weir_slab_init(struct weir_slab *slab, size_t bytes);
/** Everything must have been put back. */
void weir_slab_fini(struct weir_slab *slab);
/** A zeroed object, aligned to 16, or NULL without memory. */
void *weir_slab_get(struct weir_slab *slab);
/** The same, not zeroed: for buffers. */
void *weir_slab_get_raw(struct weir_slab *slab);
void weir_slab_put(struct weir_slab *slab, void *object);
/** Gives back pages that have been empty since the call before, but for one. Call it now and then, between turns. */
void weir_slab_trim(struct weir_slab *slab);

#endif
