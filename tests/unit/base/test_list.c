/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct item {
    int id;
    struct weir_list link;
};

static void assert_order(struct weir_list *list, const char *ids)
{
    const char *expected = ids;

    weir_list_each(pos, tmp, list)
    {
        assert_true(*expected != 0);
        assert_int_equal(weir_list_entry(pos, struct item, link)->id, *expected++ - '0');
        assert_ptr_equal(pos->next->prev, pos);
        assert_ptr_equal(pos->prev->next, pos);
    }
    assert_int_equal(*expected, 0);
    assert_int_equal(weir_list_empty(list), *ids == 0);
}

static void keeps_order(void **state)
{
    struct weir_list list, other;
    struct item items[5];

    weir_list_init(&list);
    assert_null(weir_list_pop_front(&list));
    for (int i = 0; i < 5; i++) {
        items[i].id = i;
        weir_list_init(&items[i].link);
        weir_list_remove(&items[i].link); /* harmless: it is in none */
    }
    weir_list_push_back(&list, &items[1].link);
    weir_list_push_back(&list, &items[2].link);
    weir_list_push_front(&list, &items[0].link);
    assert_order(&list, "012");
    weir_list_remove(&items[1].link);
    assert_order(&list, "02");
    assert_true(weir_list_empty(&items[1].link));
    assert_ptr_equal(weir_list_pop_front(&list), &items[0].link);
    assert_order(&list, "2");

    weir_list_push_back(&list, &items[3].link);
    weir_list_take_all(&other, &list);
    assert_order(&list, "");
    assert_order(&other, "23");
    weir_list_take_all(&list, &other);
    weir_list_take_all(&other, &list);
    weir_list_push_back(&list, &items[4].link);
    assert_order(&other, "23");
    assert_order(&list, "4");
    weir_list_pop_front(&list);
    weir_list_take_all(&other, &list); /* nothing to take: the target is empty then */
    assert_order(&other, "");
}

static void the_loop_may_remove(void **state)
{
    struct weir_list list;
    struct item items[4];

    weir_list_init(&list);
    for (int i = 0; i < 4; i++) {
        items[i].id = i;
        weir_list_push_back(&list, &items[i].link);
    }
    weir_list_each(pos, tmp, &list) if (weir_list_entry(pos, struct item, link)->id % 2)
        weir_list_remove(pos);
    assert_order(&list, "02");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(keeps_order),
                                        cmocka_unit_test(the_loop_may_remove) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
