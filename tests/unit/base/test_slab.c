/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { OBJECTS = 3000 };

static void objects_are_zeroed_aligned_and_apart(void **state)
{
    static const size_t sizes[] = { sizeof(void *), 24, 100, 4096, 8192 };
    static unsigned char *objects[OBJECTS];

    for (unsigned s = 0; s < 5; s++) {
        struct weir_slab slab;
        unsigned count = sizes[s] > 1000 ? 50 : OBJECTS;
        size_t pages = 0;

        weir_slab_init(&slab, sizes[s]);
        assert_int_equal(slab.pages, 0); /* nothing before the first use */
        for (unsigned round = 0; round < 2; round++) {
            for (unsigned i = 0; i < count; i++) {
                objects[i] = weir_slab_get(&slab);
                assert_non_null(objects[i]);
                assert_int_equal((uintptr_t)objects[i] % 16, 0);
                for (size_t b = 0; b < sizes[s]; b++)
                    assert_int_equal(objects[i][b], 0);
                memset(objects[i], (int)(i % 255) + 1, sizes[s]);
            }
            for (unsigned i = 0; i < count; i++) {
                assert_int_equal(objects[i][0], i % 255 + 1);
                assert_int_equal(objects[i][sizes[s] - 1], i % 255 + 1);
                weir_slab_put(&slab, objects[i]);
            }
            assert_int_equal(slab.used, 0);
            if (round)
                assert_int_equal(slab.pages, pages); /* the second round made no page */
            pages = slab.pages;
        }
        weir_slab_fini(&slab);
    }
}

static void memory_is_type_stable_and_last_in_first_out(void **state)
{
    struct weir_slab slab;
    void *a, *b;

    weir_slab_init(&slab, 64);
    a = weir_slab_get(&slab);
    b = weir_slab_get(&slab);
    weir_slab_put(&slab, a);
    weir_slab_put(&slab, b);
    assert_ptr_equal(weir_slab_get(&slab), b);
    assert_ptr_equal(weir_slab_get(&slab), a);
    assert_int_equal(slab.pages, 1);
    assert_int_equal(slab.used, 2);
    weir_slab_put(&slab, a);
    weir_slab_put(&slab, b);
    weir_slab_fini(&slab);
}

static void a_burst_goes_back_and_what_is_used_stays(void **state)
{
    static unsigned char *objects[OBJECTS];
    struct weir_slab slab;
    size_t pages;

    weir_slab_init(&slab, 1000);
    for (unsigned i = 0; i < OBJECTS; i++) {
        objects[i] = weir_slab_get(&slab);
        assert_non_null(objects[i]);
        objects[i][999] = (unsigned char)i;
    }
    pages = slab.pages;
    for (unsigned i = 1; i < OBJECTS; i++)
        weir_slab_put(&slab, objects[i]);
    weir_slab_trim(&slab); /* they have only just become empty */
    assert_int_equal(slab.pages, pages);
    weir_slab_trim(&slab);
    assert_int_equal(slab.pages, 2); /* the one in use, and one empty */
    assert_int_equal(objects[0][999], 0);
    assert_int_equal(slab.used, 1);
    for (unsigned i = 1; i < OBJECTS; i++) { /* and it grows again */
        objects[i] = weir_slab_get(&slab);
        assert_non_null(objects[i]);
        assert_int_equal(objects[i][999], 0);
    }
    assert_int_equal(slab.pages, pages);
    for (unsigned i = 0; i < OBJECTS; i++)
        weir_slab_put(&slab, objects[i]);
    weir_slab_fini(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_zeroed_aligned_and_apart),
        cmocka_unit_test(memory_is_type_stable_and_last_in_first_out),
        cmocka_unit_test(a_burst_goes_back_and_what_is_used_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
