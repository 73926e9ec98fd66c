/* SPDX-License-Identifier: Apache-2.0 */
/** test_adopt.c: how far a process had come that was killed in the middle of what the kernel had passed to it. The same with a
 * kernel: loader/test_killed.c. */
#include "accel/sockmap_way.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t read_, skip;

static enum way_left_verdict judge(struct way_left what)
{
    return weir_way_left(&what, &read_, &skip);
}

enum { UNLOOKED = -1, ASKED = 1, COMING = 2 };

/* 100 moved, 50 passed, of which `dealt` were dealt with, `begun` of them before the epoch; the target was given `written`. */
static enum way_left_verdict left(uint64_t begun, unsigned dealt, uint64_t written, int64_t unread,
                                  unsigned how)
{
    return judge((struct way_left){ .moved = 100,
                                    .passed = 50,
                                    .begun = begun,
                                    .dealt = dealt,
                                    .written = written,
                                    .unread = unread,
                                    .asked = how & ASKED,
                                    .settled = !(how & COMING) });
}

static void between_pieces(void **state)
{
    assert_int_equal(left(0, 20, 120, UNLOOKED, 0), LEFT_KNOWN);
    assert_int_equal(read_, 20);
    assert_int_equal(skip, 0);
    assert_int_equal(left(50, 50, 150, UNLOOKED, 0), LEFT_KNOWN);
    assert_int_equal(read_, 50);
    /* what was moved is on its way still: nothing can have been sent behind it */
    assert_int_equal(left(0, 0, 60, UNLOOKED, 0), LEFT_KNOWN);
    assert_int_equal(left(10, 10, 60, UNLOOKED, 0), LEFT_KNOWN);
    assert_int_equal(left(10, 20, 60, UNLOOKED, 0), LEFT_WAIT);
}

static void sent_and_not_said(void **state)
{
    assert_int_equal(left(0, 20, 125, UNLOOKED, 0), LEFT_LOOK);
    assert_int_equal(left(0, 20, 125, 30, 0), LEFT_KNOWN);
    assert_int_equal(read_, 20);
    assert_int_equal(skip, 5);
    assert_int_equal(left(0, 20, 125, 25, 0), LEFT_KNOWN);
    assert_int_equal(read_, 25);
    assert_int_equal(skip, 0);
    /* more may be on its way to the queue: then 25 may mean either */
    assert_int_equal(left(0, 20, 125, 25, COMING), LEFT_WAIT);
    assert_int_equal(left(0, 20, 125, 30, COMING), LEFT_KNOWN);
    assert_int_equal(left(0, 20, 125, 27, 0), LEFT_WAIT);
    assert_int_equal(left(0, 20, 125, 24, 0), LEFT_LOST);
}

/* Read first, and sent then: bytes may be missing. */
static void taken_out(void **state)
{
    assert_int_equal(left(0, 20, 120, UNLOOKED, ASKED), LEFT_LOOK);
    assert_int_equal(left(0, 20, 120, 30, ASKED), LEFT_KNOWN);
    assert_int_equal(read_, 20);
    assert_int_equal(left(0, 20, 120, 0, ASKED), LEFT_LOST);
    assert_int_equal(left(0, 20, 150, 0, ASKED), LEFT_KNOWN);
    assert_int_equal(read_, 50);
    assert_int_equal(left(0, 20, 140, 0, ASKED), LEFT_LOST);
    assert_int_equal(left(0, 20, 120, 0, ASKED | COMING), LEFT_WAIT);
}

static void what_cannot_be(void **state)
{
    assert_int_equal(left(0, 60, 160, UNLOOKED, 0), LEFT_LOST); /* more than was passed */
    assert_int_equal(left(0, 20, 160, UNLOOKED, 0), LEFT_LOST); /* likewise */
    assert_int_equal(judge((struct way_left){ .passed = 1 << 20, .written = 100000, .unread = 0 }),
                     LEFT_LOST); /* more than a piece */
}

/* The low half alone is said. */
static void beyond_4_gib(void **state)
{
    uint64_t begun = (UINT64_C(5) << 32) - 10, passed = (UINT64_C(5) << 32) + 90;
    struct way_left much = { .moved = 7,
                             .passed = passed,
                             .begun = begun,
                             .dealt = 30,
                             .written = (UINT64_C(5) << 32) + 37,
                             .unread = -1 };

    assert_int_equal(judge(much), LEFT_KNOWN);
    assert_int_equal(read_, begun + 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(between_pieces), cmocka_unit_test(sent_and_not_said),
        cmocka_unit_test(taken_out),      cmocka_unit_test(what_cannot_be),
        cmocka_unit_test(beyond_4_gib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
