/* SPDX-License-Identifier: Apache-2.0 */
/** The gates of connections: how many, of whom, and of whom it is not known yet. */
#include "proxy/gate.h"
#include "weir/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct weir_addr addr(const char *text)
{
    struct weir_addr parsed;

    assert_int_equal(weir_addr_parse(&parsed, weir_str(text)), 0);
    return parsed;
}

static void test_limits(void **state)
{
    struct weir_addr a = addr("192.0.2.1:1"), b = addr("192.0.2.2:1");
    struct weir_gate gate;

    assert_int_equal(weir_gate_init(&gate, 3, 2), 0);
    assert_int_equal(weir_gate_enter(&gate, &a), WEIR_GATE_OPEN);
    assert_int_equal(weir_gate_enter(&gate, &a), WEIR_GATE_OPEN);
    assert_int_equal(weir_gate_enter(&gate, &a), WEIR_GATE_PER_CLIENT);
    assert_int_equal(weir_gate_enter(&gate, &b), WEIR_GATE_OPEN);
    assert_int_equal(weir_gate_enter(&gate, &b), WEIR_GATE_CROWDED);
    weir_gate_leave(&gate, &b);
    weir_gate_leave(&gate, &a);
    assert_int_equal(weir_gate_enter(&gate, &a), WEIR_GATE_OPEN);
    weir_gate_leave(&gate, &a);
    weir_gate_leave(&gate, &a);
    weir_gate_leave(&gate, &b);
    assert_int_equal(gate.connections, 0);
    weir_gate_fini(&gate);
}

/* Behind a proxy: it counts as a connection at once, and as one of its client's when that is known. */
static void test_named_later(void **state)
{
    struct weir_addr a = addr("192.0.2.1:1"), b = addr("192.0.2.2:1");
    struct weir_gate gate;

    assert_int_equal(weir_gate_init(&gate, 4, 1), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(weir_gate_enter(&gate, NULL), WEIR_GATE_OPEN);
    assert_int_equal(weir_gate_enter(&gate, NULL), WEIR_GATE_CROWDED);
    weir_gate_leave(&gate, NULL);
    assert_true(weir_gate_name(&gate, &a));
    assert_false(weir_gate_name(&gate, &a)); /* it stays nobody, and leaves as that */
    weir_gate_leave(&gate, NULL);
    assert_true(weir_gate_name(&gate, &b));
    weir_gate_unname(&gate, &b);
    assert_true(weir_gate_name(&gate, &b));
    weir_gate_leave(&gate, &a);
    assert_int_equal(weir_gate_enter(&gate, &a), WEIR_GATE_OPEN);
    assert_int_equal(weir_gate_enter(&gate, &b), WEIR_GATE_PER_CLIENT);
    assert_int_equal(gate.connections, 3);
    weir_gate_fini(&gate);
    assert_int_equal(weir_gate_init(&gate, 0, 0), 0); /* no limits */
    assert_int_equal(weir_gate_enter(&gate, NULL), WEIR_GATE_OPEN);
    assert_true(weir_gate_name(&gate, &a));
    weir_gate_leave(&gate, &a);
    weir_gate_fini(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_named_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
