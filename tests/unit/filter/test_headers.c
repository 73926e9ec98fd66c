/* SPDX-License-Identifier: Apache-2.0 */
/** The filter `headers`: order, variables, and what is refused when it is made. */
#include "fake_req.h"

#include "weir/builtin.h"

static char fault[1024];

static void *make(const struct weir_headers_conf *conf)
{
    return weir_filter_headers_type.create(conf, fault, sizeof(fault));
}

#define PAIR(name, value)            \
    {                                \
        { name, sizeof(name) - 1 },  \
        {                            \
            value, sizeof(value) - 1 \
        }                            \
    }

static void check_field(struct weir_message *msg, const char *name, const char *want)
{
    struct weir_str value = weir_message_get(msg, name);

    if (!want) {
        assert_null(value.ptr);
        return;
    }
    assert_non_null(value.ptr);
    assert_int_equal(value.len, strlen(want));
    assert_memory_equal(value.ptr, want, value.len);
}

static void add(struct weir_message *msg, const char *name, const char *value)
{
    assert_int_equal(weir_message_add(msg, name, weir_str(value)), 0);
}

static void test_request(void **state)
{
    struct weir_pair set[] = { PAIR("x-env", "prod"), PAIR("X-Who", "$client at $host$path") };
    struct weir_pair more[] = { PAIR("x-env", "second"), PAIR("x-url", "$path$query") };
    struct weir_str remove[] = { WEIR_STR("Cookie"), WEIR_STR("x-absent") };
    struct weir_headers_conf conf = {
        .request = { .set = { set, 2 }, .add = { more, 2 }, .remove = { remove, 2 } },
    };
    void *self = make(&conf);
    const struct weir_filter *filter = weir_filter_headers_type.filter;
    size_t at = 0;
    unsigned fields = 0;
    struct weir_str name, value;

    assert_non_null(self);
    fake_begin("192.0.2.7");
    fake.request.query = WEIR_STR("a=1");
    add(&fake.request, "cookie", "secret");
    add(&fake.request, "x-env", "forged");
    add(&fake.request, "X-ENV", "forged too");
    assert_int_equal(filter->upstream_request(&fake, self, &fake.request), WEIR_NEXT);
    check_field(&fake.request, "cookie", NULL);
    check_field(&fake.request, "x-env", "prod");
    check_field(&fake.request, "x-who", "192.0.2.7 at a.test/p/q");
    check_field(&fake.request, "x-url", "/p/q?a=1");
    while (weir_message_next(&fake.request, &at, &name, &value))
        fields++;
    assert_int_equal(fields, 4);
    assert_int_equal(filter->response(&fake, self, &fake.response), WEIR_NEXT);
    assert_int_equal(fake.response.count, 0);
    filter->fini(self);
}

static void test_response(void **state)
{
    struct weir_pair set[] = { PAIR("x-id", "$id"), PAIR("x-price", "$$5 is $5$"),
                               PAIR("x-empty", "") };
    struct weir_headers_conf conf = { .response = { .set = { set, 3 } } };
    void *self = make(&conf);

    assert_non_null(self);
    fake_begin("192.0.2.7");
    assert_int_equal(weir_filter_headers_type.filter->response(&fake, self, &fake.response),
                     WEIR_NEXT);
    check_field(&fake.response, "x-id", "id-7");
    check_field(&fake.response, "x-price", "$5 is $5$");
    check_field(&fake.response, "x-empty", "");
    weir_filter_headers_type.filter->fini(self);
}

/* What a peer sent may not be a value: the request ends, the field is not left out. */
static void test_bad_value_of_peer(void **state)
{
    struct weir_pair set[] = { PAIR("x-path", "$path") };
    struct weir_headers_conf conf = { .request = { .set = { set, 1 } } };
    void *self = make(&conf);

    fake_begin("192.0.2.7");
    fake.request.path = WEIR_STR("/a\r\nx: y");
    assert_int_equal(weir_filter_headers_type.filter->upstream_request(&fake, self, &fake.request),
                     WEIR_FAIL);
    assert_int_equal(fake.failed, WEIR_EINVAL);
    weir_filter_headers_type.filter->fini(self);
}

static void refused(struct weir_pair pair, const char *why)
{
    struct weir_headers_conf conf = { .response = { .add = { &pair, 1 } } };

    assert_null(make(&conf));
    if (!strstr(fault, why))
        print_error("%s\n", fault);
    assert_non_null(strstr(fault, why));
}

static void test_faults(void **state)
{
    static const char *const framing[] = {
        "Content-Length", "transfer-encoding", "CONNECTION",       "te",  "Trailer",
        "upgrade",        "keep-alive",        "proxy-connection", "Host"
    };
    struct weir_str remove = WEIR_STR("content-length");
    struct weir_headers_conf conf = { .request = { .remove = { &remove, 1 } } };

    for (size_t i = 0; i < sizeof(framing) / sizeof(framing[0]); i++)
        refused((struct weir_pair){ weir_str(framing[i]), WEIR_STR("x") }, "weir sets it itself");
    assert_null(make(&conf));
    refused((struct weir_pair){ WEIR_STR("x y"), WEIR_STR("x") }, "'x y' is not a field name");
    refused((struct weir_pair){ WEIR_STR(""), WEIR_STR("x") }, "is not a field name");
    refused((struct weir_pair){ WEIR_STR("x:"), WEIR_STR("x") }, "is not a field name");
    refused((struct weir_pair){ WEIR_STR("x"), WEIR_STR("a\r\nb: c") }, "control byte (0x0d)");
    refused((struct weir_pair){ WEIR_STR("x"), WEIR_STR("$clinet") }, "there is no '$clinet'");
}

/* One pass tells all of them. */
static void test_all_faults(void **state)
{
    struct weir_pair set[] = { PAIR("a b", "$nope"), PAIR("x", "fine"), PAIR("te", "x") };
    struct weir_str remove = WEIR_STR("Host");
    struct weir_pair add = PAIR("y", "\r");
    struct weir_headers_conf conf = { .request = { .set = { set, 3 }, .remove = { &remove, 1 } },
                                      .response = { .add = { &add, 1 } } };
    char small[40];

    assert_null(make(&conf));
    assert_non_null(strstr(fault, "'Host' frames a message"));
    assert_non_null(strstr(fault, "; 'a b' is not a field name; there is no '$nope'"));
    assert_non_null(strstr(fault, "; 'te' frames"));
    assert_null(weir_filter_headers_type.create(&conf, small, sizeof(small)));
    assert_int_equal(strlen(small), sizeof(small) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),           cmocka_unit_test(test_response),
        cmocka_unit_test(test_bad_value_of_peer), cmocka_unit_test(test_faults),
        cmocka_unit_test(test_all_faults),
    };
    int failed = cmocka_run_group_tests_name("filter/headers", tests, NULL, NULL);

    weir_arena_fini(&fake.arena);
    return failed;
}
