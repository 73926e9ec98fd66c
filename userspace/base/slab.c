/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slab.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, n)   ((void)(at), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(at, n) ((void)(at), (void)(n))
#endif

enum { PAGE_BYTES = 64 * 1024, ALIGN = 16, STALE_BYTES = 64 };

/* At the start of each page, which is aligned to its size. */
struct page {
    struct weir_list link;
    struct weir_slab *slab;
    void *free; /* chain of objects that were put back */
    unsigned used, made;
    bool was_empty; /* at the last trim */
};

enum { HEAD_BYTES = (sizeof(struct page) + ALIGN - 1) / ALIGN * ALIGN };

static struct page *page_of(void *object)
{
    return (struct page *)((uintptr_t)object & ~(uintptr_t)(PAGE_BYTES - 1));
}

/* Pages come from mmap, so that they really go back; from malloc where a leak checker looks through them. */
#ifdef __SANITIZE_ADDRESS__
static void *page_map(void)
{
    return aligned_alloc(PAGE_BYTES, PAGE_BYTES);
}

static void page_unmap(void *page)
{
    ASAN_UNPOISON_MEMORY_REGION(page, PAGE_BYTES);
    free(page);
}
#else
static void *page_map(void)
{
    char *at =
        mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (at == MAP_FAILED)
        return NULL;
    before = (size_t)(-(uintptr_t)at & (PAGE_BYTES - 1));
    if (before)
        munmap(at, before);
    munmap(at + before + PAGE_BYTES, PAGE_BYTES - before);
    return at + before;
}

static void page_unmap(void *page)
{
    munmap(page, PAGE_BYTES);
}
#endif

void weir_slab_init(struct weir_slab *slab, size_t bytes)
{
    weir_assert(bytes >= sizeof(void *) && bytes <= PAGE_BYTES / 4);
    *slab = (struct weir_slab){ .bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1) };
    slab->per_page = (unsigned)((PAGE_BYTES - HEAD_BYTES) / slab->bytes);
    weir_list_init(&slab->partial);
    weir_list_init(&slab->full);
}

static void page_drop(struct weir_slab *slab, struct page *page)
{
    weir_list_remove(&page->link);
    slab->pages--;
    page_unmap(page);
}

void weir_slab_fini(struct weir_slab *slab)
{
    weir_assert(slab->used == 0);
    weir_list_each(link, next, &slab->partial)
        page_drop(slab, weir_list_entry(link, struct page, link));
}

static struct page *page_new(struct weir_slab *slab)
{
    struct page *page = page_map();

    if (!page)
        return NULL;
    *page = (struct page){ .slab = slab };
    weir_list_push_front(&slab->partial, &page->link);
    slab->pages++;
    ASAN_POISON_MEMORY_REGION((char *)page + HEAD_BYTES, PAGE_BYTES - HEAD_BYTES);
    return page;
}

void *weir_slab_get_raw(struct weir_slab *slab)
{
    struct page *page;
    void *object;

    if (weir_list_empty(&slab->partial) && !page_new(slab))
        return NULL;
    page = weir_list_entry(slab->partial.next, struct page, link);
    object = page->free;
    if (object) {
        ASAN_UNPOISON_MEMORY_REGION(object, slab->bytes);
        memcpy(&page->free, object, sizeof(void *));
    } else { /* fresh memory is touched only when it is needed */
        object = (char *)page + HEAD_BYTES + page->made++ * slab->bytes;
        ASAN_UNPOISON_MEMORY_REGION(object, slab->bytes);
    }
    slab->used++;
    if (++page->used == slab->per_page) {
        weir_list_remove(&page->link);
        weir_list_push_back(&slab->full, &page->link);
    }
    return object;
}

void *weir_slab_get(struct weir_slab *slab)
{
    void *object = weir_slab_get_raw(slab);

    if (object)
        memset(object, 0, slab->bytes);
    return object;
}

void weir_slab_put(struct weir_slab *slab, void *object)
{
    struct page *page = page_of(object);

    weir_assert(page->slab == slab && page->used > 0);
    memset(object, 0,
           slab->bytes < STALE_BYTES ? slab->bytes : STALE_BYTES); /* a stale magic is seen */
    memcpy(object, &page->free, sizeof(void *));
    page->free = object;
    ASAN_POISON_MEMORY_REGION(object, slab->bytes);
    slab->used--;
    if (page->used-- == slab->per_page) { /* it was full: the next object comes from here */
        weir_list_remove(&page->link);
        weir_list_push_front(&slab->partial, &page->link);
    } else if (page->used == 0) { /* last choice from now on */
        weir_list_remove(&page->link);
        weir_list_push_back(&slab->partial, &page->link);
    }
}

void weir_slab_trim(struct weir_slab *slab)
{
    unsigned kept = 0;

    weir_list_each(link, next, &slab->partial)
    {
        struct page *page = weir_list_entry(link, struct page, link);
        bool empty = page->used == 0;

        if (empty && page->was_empty && kept) {
            page_drop(slab, page);
            continue;
        }
        kept += empty;
        page->was_empty = empty;
    }
}
