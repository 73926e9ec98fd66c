/* SPDX-License-Identifier: Apache-2.0 */
/**
 * slab.h: fixed-size objects of one thread. Memory is type-stable: a freed object may be used again
 * for the same type, and its pages go back only with the slab. Objects come zeroed.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stddef.h>

struct weir_slab {
    size_t bytes;      /* of one object */
    void *free;        /* chain of free objects */
    void *pages;       /* chain of pages */
    size_t used, made; /* objects */
};

/** `bytes`: size of an object, at least sizeof(void *). Keeps no memory until the first get. */
void weir_slab_init(struct weir_slab *slab, size_t bytes);
/** Everything must have been put back. */
void weir_slab_fini(struct weir_slab *slab);
/** A zeroed object, or NULL without memory. */
void *weir_slab_get(struct weir_slab *slab);
void weir_slab_put(struct weir_slab *slab, void *object);

#endif
