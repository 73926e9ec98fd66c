/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slab.h"

#include "base/panic.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) /* gcc */
#define SLAB_POISONS 1
#elif defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer)
#define SLAB_POISONS 1
#endif
#endif
#ifdef SLAB_POISONS
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, n)   ((void)(at), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(at, n) ((void)(at), (void)(n))
#endif

enum { PAGE_BYTES = 16 * 1024, ALIGN = 16 };

void weir_slab_init(struct weir_slab *slab, size_t bytes)
{
    weir_assert(bytes >= sizeof(void *) && bytes <= PAGE_BYTES / 2);
    *slab = (struct weir_slab){ .bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1) };
}

void weir_slab_fini(struct weir_slab *slab)
{
    weir_assert(slab->used == 0);
    while (slab->pages) {
        void *page = slab->pages;

        ASAN_UNPOISON_MEMORY_REGION(page, PAGE_BYTES);
        memcpy(&slab->pages, page, sizeof(void *));
        free(page);
    }
    slab->free = NULL;
    slab->made = 0;
}

static int slab_grow(struct weir_slab *slab)
{
    char *page = aligned_alloc(64, PAGE_BYTES);

    if (!page)
        return -1;
    memcpy(page, &slab->pages, sizeof(void *));
    slab->pages = page;
    for (size_t at = ALIGN; at + slab->bytes <= PAGE_BYTES; at += slab->bytes) {
        memcpy(page + at, &slab->free, sizeof(void *));
        slab->free = page + at;
        ASAN_POISON_MEMORY_REGION(page + at, slab->bytes);
        slab->made++;
    }
    return 0;
}

void *weir_slab_get(struct weir_slab *slab)
{
    void *object;

    if (!slab->free && slab_grow(slab))
        return NULL;
    object = slab->free;
    weir_assert(object != NULL); /* a page holds at least one */
    ASAN_UNPOISON_MEMORY_REGION(object, slab->bytes);
    memcpy(&slab->free, object, sizeof(void *));
    memset(object, 0, slab->bytes);
    slab->used++;
    return object;
}

void weir_slab_put(struct weir_slab *slab, void *object)
{
    weir_assert(slab->used > 0);
    memset(object, 0, slab->bytes < 64 ? slab->bytes : 64); /* a stale magic is seen */
    memcpy(object, &slab->free, sizeof(void *));
    slab->free = object;
    slab->used--;
    ASAN_POISON_MEMORY_REGION(object, slab->bytes);
}
