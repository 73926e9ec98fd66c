/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/message.h"

#include <stdio.h>
#include <stdlib.h>

static int setup(void **state)
{
    static struct weir_arena arena;
    static struct weir_message msg;

    weir_arena_init(&arena, NULL);
    weir_message_init(&msg, &arena, true);
    msg.method = WEIR_STR("GET");
    msg.method_id = WEIR_M_GET;
    msg.path = WEIR_STR("/");
    *state = &msg;
    return 0;
}

static int teardown(void **state)
{
    weir_arena_fini(((struct weir_message *)*state)->arena);
    return 0;
}

static void assert_text(struct weir_str got, const char *want)
{
    if (!weir_str_eq(got, weir_str(want)) || (got.ptr == NULL) != (want == NULL))
        fail_msg("got \"%.*s\", want \"%s\"", WEIR_FMT(got), want ? want : "(absent)");
}

static void push(struct weir_message *msg, const char *name, const char *value)
{
    struct weir_str text = weir_str(name);

    assert_int_equal(weir_message_push(msg, weir_field_id(text), text, weir_str(value)), 0);
}

static void test_ids(void **state)
{
    for (unsigned id = 1; id < WEIR_F_COUNT; id++) {
        struct weir_str name = weir_field_name(id);
        char other[32];

        for (size_t i = 0; i < name.len; i++)
            other[i] =
                name.ptr[i] >= 'a' && name.ptr[i] <= 'z' ? (char)(name.ptr[i] - 32) : name.ptr[i];
        assert_int_equal(weir_field_id(name), id);
        assert_int_equal(weir_field_id((struct weir_str){ other, name.len }), id);
        for (size_t i = 0; i < name.len; i++) { /* no other byte will do */
            other[i] ^= 1;
            assert_int_not_equal(weir_field_id((struct weir_str){ other, name.len }), id);
            other[i] ^= 1;
        }
        assert_int_not_equal(weir_field_id((struct weir_str){ name.ptr, name.len - 1 }), id);
    }
    assert_int_equal(weir_field_id(WEIR_STR("")), WEIR_F_OTHER);
    assert_int_equal(weir_field_id(WEIR_STR("x-a")), WEIR_F_OTHER);
    assert_int_equal(weir_field_id(WEIR_STR("a-name-that-is-longer-than-any-known")), WEIR_F_OTHER);
}

static void test_set_add_remove(void **state)
{
    struct weir_message *msg = *state;
    struct weir_str name, value;
    size_t at = 0;

    push(msg, "X-A", "1");
    push(msg, "Accept", "a");
    push(msg, "x-a", "2");
    assert_int_equal(weir_message_set(msg, "x-A", WEIR_STR(" 3\t")), 0);
    assert_text(weir_message_get(msg, "X-a"), "3");
    assert_int_equal(msg->count, 2);
    assert_int_equal(weir_message_add(msg, "X-A", WEIR_STR("")), 0);
    assert_true(weir_message_next(msg, &at, &name, &value));
    assert_text(value, "3");
    assert_true(weir_message_next(msg, &at, &name, &value));
    assert_text(name, "Accept");
    assert_true(weir_message_next(msg, &at, &name, &value));
    assert_text(value, "");
    assert_false(weir_message_next(msg, &at, &name, &value));
    assert_int_equal(weir_message_remove(msg, "x-a"), 2);
    assert_text(weir_message_get(msg, "x-a"), NULL);
    assert_int_equal(weir_message_set(msg, "accept", WEIR_STR("b")), 0);
    assert_text(weir_message_field(msg, WEIR_F_ACCEPT), "b");
    assert_int_equal(weir_message_remove(msg, "Accept"), 1);
    assert_text(weir_message_field(msg, WEIR_F_ACCEPT), NULL);
}

static void test_setters_guard(void **state)
{
    static const char *const ours[] = { "Content-Length", "transfer-encoding",
                                        "Connection",     "TE",
                                        "Trailer",        "Upgrade",
                                        "Keep-Alive",     "Proxy-Connection" };
    struct weir_message *msg = *state;

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        assert_int_equal(weir_message_set(msg, ours[i], WEIR_STR("1")), WEIR_EFRAMING);
        assert_int_equal(weir_message_add(msg, ours[i], WEIR_STR("1")), WEIR_EFRAMING);
        assert_int_equal(weir_message_remove(msg, ours[i]), WEIR_EFRAMING);
    }
    assert_int_equal(weir_message_set(msg, "X", WEIR_STR("a\r\nY: b")), WEIR_EINVAL);
    assert_int_equal(weir_message_set(msg, "X", WEIR_STR("a\0b")), WEIR_EINVAL);
    assert_int_equal(weir_message_add(msg, "X:", WEIR_STR("a")), WEIR_EINVAL);
    assert_int_equal(weir_message_add(msg, "", WEIR_STR("a")), WEIR_EINVAL);
    assert_int_equal(msg->count, 0);
    assert_int_equal(weir_message_set_method(msg, WEIR_STR("G T")), WEIR_EINVAL);
    assert_int_equal(weir_message_set_method(msg, WEIR_STR("CONNECT")), WEIR_EINVAL);
    assert_int_equal(weir_message_set_status(msg, 200), WEIR_EINVAL);
    msg->request = false;
    assert_int_equal(weir_message_set_status(msg, 199), WEIR_EINVAL);
    assert_int_equal(weir_message_set_status(msg, 600), WEIR_EINVAL);
    assert_int_equal(weir_message_set_status(msg, 404), 0);
    assert_text(msg->reason, "Not Found");
}

static void test_request_setters(void **state)
{
    struct weir_message *msg = *state;
    struct weir_str none = { NULL, 0 };

    push(msg, "Host", "a.test");
    assert_int_equal(weir_message_set_host(msg, WEIR_STR("b.test:81")), 0);
    assert_text(weir_message_host(msg), "b.test:81");
    assert_text(weir_message_get(msg, "host"), "b.test:81");
    assert_int_equal(weir_message_set(msg, "host", WEIR_STR("c.test")), 0);
    assert_text(weir_message_host(msg), "c.test");
    assert_int_equal(msg->count, 1);
    assert_int_equal(weir_message_set_host(msg, WEIR_STR("a/b")), WEIR_EINVAL);
    assert_int_equal(weir_message_set_host(msg, WEIR_STR("")), WEIR_EINVAL);

    assert_int_equal(weir_message_set_path(msg, WEIR_STR("/x%20y"), WEIR_STR("a=b?c")), 0);
    assert_text(weir_message_path(msg), "/x%20y");
    assert_text(weir_message_query(msg), "a=b?c");
    assert_int_equal(weir_message_set_path(msg, WEIR_STR("/"), none), 0);
    assert_text(weir_message_query(msg), NULL);
    assert_int_equal(weir_message_set_path(msg, WEIR_STR("x"), none), WEIR_EBADPATH);
    assert_int_equal(weir_message_set_path(msg, WEIR_STR("/a b"), none), WEIR_EBADPATH);
    assert_int_equal(weir_message_set_path(msg, WEIR_STR("/a\r\n"), none), WEIR_EBADPATH);
    assert_int_equal(weir_message_set_path(msg, WEIR_STR("/a%2"), none), WEIR_EBADPATH);
    assert_int_equal(weir_message_set_path(msg, WEIR_STR("/a?b"), none), WEIR_EBADPATH);
    assert_int_equal(weir_message_set_path(msg, WEIR_STR("/"), WEIR_STR("#")), WEIR_EBADPATH);
    assert_int_equal(weir_message_set_method(msg, WEIR_STR("HEAD")), 0);
    assert_int_equal(msg->method_id, WEIR_M_HEAD);
}

static void test_strip_hop(void **state)
{
    struct weir_message *msg = *state;

    push(msg, "Host", "a");
    push(msg, "X-Private", "1");
    push(msg, "Connection", "close, X-Private, Host, Content-Length");
    push(msg, "Content-Length", "1");
    push(msg, "X-Public", "1");
    push(msg, "Keep-Alive", "x");
    push(msg, "connection", "cookie");
    push(msg, "Cookie", "x");
    push(msg, "Upgrade", "x");
    push(msg, "TE", "trailers");
    weir_message_strip_hop(msg);
    assert_int_equal(msg->count, 3);
    assert_text(msg->fields[0].name, "Host");
    assert_text(msg->fields[1].name, "Content-Length");
    assert_text(msg->fields[2].name, "X-Public");
    assert_text(weir_message_field(msg, WEIR_F_COOKIE), NULL);
}

static void test_growth_and_clone(void **state)
{
    struct weir_message *msg = *state, copy;
    char value[16];

    for (int i = 0; i < 300; i++) {
        snprintf(value, sizeof(value), "%d", i);
        assert_int_equal(weir_message_add(msg, "X-N", weir_str(value)), 0);
    }
    assert_int_equal(weir_message_clone(&copy, msg, msg->arena), 0);
    assert_int_equal(weir_message_remove(msg, "x-n"), 300);
    assert_int_equal(copy.count, 300);
    assert_text(copy.fields[299].value, "299");
}

static void test_words(void **state)
{
    assert_text(weir_status_reason(418), "");
    assert_text(weir_status_reason(503), "Service Unavailable");
    assert_int_equal(weir_method_id(WEIR_STR("get")), WEIR_M_OTHER);
    assert_int_equal(weir_method_id(WEIR_STR("PATCH")), WEIR_M_PATCH);
    assert_true(weir_method_idempotent(WEIR_M_PUT));
    assert_false(weir_method_idempotent(WEIR_M_POST));
    assert_false(weir_method_idempotent(WEIR_M_OTHER));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test_setup_teardown(test_set_add_remove, setup, teardown),
        cmocka_unit_test_setup_teardown(test_setters_guard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_request_setters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strip_hop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_growth_and_clone, setup, teardown),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
