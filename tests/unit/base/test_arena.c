/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "weir/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void pieces_are_aligned_and_apart(void **state)
{
    static const size_t sizes[] = { 1, 16, 17, 100, 0, 2030, 2041, 4096, 50000, 3, 4000 };
    unsigned char *at[220];
    struct weir_arena_cache cache;
    struct weir_arena arena;

    weir_arena_cache_init(&cache);
    weir_arena_init(&arena, &cache);
    for (unsigned i = 0; i < 220; i++) {
        size_t size = sizes[i % 11];

        at[i] =
            i % 3 ? weir_arena_alloc(&arena, size) : (unsigned char *)weir_arena_text(&arena, size);
        assert_non_null(at[i]);
        if (i % 3)
            assert_int_equal((uintptr_t)at[i] % 16, 0);
        memset(at[i], (int)i, size);
    }
    for (unsigned i = 0; i < 220; i++)
        for (size_t b = 0; b < sizes[i % 11]; b++)
            assert_int_equal(at[i][b], (unsigned char)i);
    assert_true(arena.bytes >= 20 * 62000);
    weir_arena_fini(&arena);
    assert_int_equal(arena.bytes, 0);
    assert_int_equal(cache.chunks.used, 0);
    weir_arena_cache_fini(&cache);
}

static void a_request_of_one_chunk_costs_no_malloc(void **state)
{
    struct weir_arena_cache cache;
    struct weir_arena arena;
    void *first;

    weir_arena_cache_init(&cache);
    weir_arena_init(&arena, &cache);
    assert_int_equal(arena.bytes, 0); /* nothing before the first use */
    first = weir_arena_alloc(&arena, 100);
    assert_int_equal(arena.bytes, WEIR_ARENA_CHUNK_BYTES);
    weir_arena_fini(&arena);
    assert_int_equal(cache.chunks.used, 0);
    assert_ptr_equal(weir_arena_alloc(&arena, 200), first);
    assert_int_equal(cache.chunks.used, 1);
    assert_int_equal(cache.chunks.pages, 1);
    weir_arena_fini(&arena);
    weir_arena_cache_fini(&cache);
}

static void a_big_piece_leaves_the_rest_of_the_chunk_in_use(void **state)
{
    struct weir_arena arena;
    char *a, *c;

    weir_arena_init(&arena, NULL);
    a = weir_arena_alloc(&arena, 16);
    assert_non_null(weir_arena_alloc(&arena, 100000));
    c = weir_arena_alloc(&arena, 16);
    assert_ptr_equal(c, a + 16);
    weir_arena_fini(&arena);
}

static void zeroes_and_copies(void **state)
{
    struct weir_arena arena;
    unsigned char *z;
    struct weir_str copy;

    weir_arena_init(&arena, NULL);
    memset(weir_arena_alloc(&arena, 1000), 0xff, 1000);
    weir_arena_fini(&arena);
    z = weir_arena_zalloc(&arena, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(z[i], 0);
    copy = weir_arena_copy(&arena, (struct weir_str){ "abcdef", 3 });
    assert_string_equal(copy.ptr, "abc");
    assert_int_equal(copy.len, 3);
    copy = weir_arena_copy(&arena, (struct weir_str){ NULL, 0 });
    assert_non_null(copy.ptr); /* absent copies to empty: a copy that failed is absent */
    assert_int_equal(copy.len, 0);
    weir_arena_fini(&arena);
}

static void an_absurd_size_is_no_memory(void **state)
{
    struct weir_arena arena;
    /* not a constant, or the compiler warns of the very thing that is tested */
    volatile size_t absurd = SIZE_MAX - 8;

    weir_arena_init(&arena, NULL);
    assert_null(weir_arena_alloc(&arena, absurd));
    assert_null(weir_arena_text(&arena, absurd));
    assert_non_null(weir_arena_alloc(&arena, 1));
    assert_null(weir_arena_alloc(&arena, absurd));
    weir_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_and_apart),
        cmocka_unit_test(a_request_of_one_chunk_costs_no_malloc),
        cmocka_unit_test(a_big_piece_leaves_the_rest_of_the_chunk_in_use),
        cmocka_unit_test(zeroes_and_copies),
        cmocka_unit_test(an_absurd_size_is_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
