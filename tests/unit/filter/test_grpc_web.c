/* SPDX-License-Identifier: Apache-2.0 */
/** The filter `grpc_web`: content types, base64 at every split, the trailer as a frame, and what it leaves alone. */
#include "fake_req.h"

#include "weir/builtin.h"

/* ---- what the filter calls beside fake_req.h ---- */

struct weir_body_out {
    char bytes[20000];
    size_t len;
};

static struct weir_body_out out;
static uint64_t call_state[8];
static struct weir_message trailer;
static bool has_trailer;

int weir_body_emit(struct weir_body_out *to, struct weir_str data)
{
    assert_true(to->len + data.len <= sizeof(to->bytes));
    if (data.len)
        memcpy(to->bytes + to->len, data.ptr, data.len);
    to->len += data.len;
    return 0;
}

void *weir_filter_state(struct weir_req *req, void *self)
{
    return call_state;
}

struct weir_message *weir_req_take_trailer(struct weir_req *req)
{
    bool had = has_trailer;

    has_trailer = false;
    return had ? &trailer : NULL;
}

/* ---- */

static const struct weir_filter *filter;
static void *self;

static void begin(const char *type, const char *accept)
{
    fake_begin("192.0.2.1");
    filter = weir_filter_grpc_web_type.filter;
    assert_true(filter->state_bytes <= sizeof(call_state));
    memset(call_state, 0, sizeof(call_state));
    out.len = 0;
    has_trailer = false;
    fake.request.method = WEIR_STR("POST");
    assert_int_equal(weir_message_set(&fake.request, "content-type", weir_str(type)), 0);
    if (accept)
        assert_int_equal(weir_message_set(&fake.request, "accept", weir_str(accept)), 0);
    assert_int_equal(filter->request(&fake, self), WEIR_NEXT);
}

static void check_type(const struct weir_message *msg, const char *want)
{
    assert_true(weir_str_is(weir_message_get(msg, "content-type"), want));
}

static void answer(const char *type)
{
    weir_message_init(&fake.response, &fake.arena, false);
    assert_int_equal(weir_message_set(&fake.response, "content-type", weir_str(type)), 0);
    assert_int_equal(filter->response(&fake, self, &fake.response), WEIR_NEXT);
}

static void check_out(const char *want, size_t len)
{
    assert_int_equal(out.len, len);
    assert_memory_equal(out.bytes, want, len);
    out.len = 0;
}

static void test_types(void **state)
{
    static const struct {
        const char *sent, *accept, *up,
            *down; /* of an upstream that answers application/grpc+proto */
    } rows[] = {
        { "application/grpc-web", NULL, "application/grpc", "application/grpc-web+proto" },
        { "application/grpc-web+proto", "*/*", "application/grpc+proto",
          "application/grpc-web+proto" },
        { "Application/gRPC-Web;x=y", NULL, "application/grpc;x=y", "application/grpc-web+proto" },
        { "application/grpc-web-text", NULL, "application/grpc",
          "application/grpc-web-text+proto" },
        { "application/grpc-web-text-base64+proto", NULL, "application/grpc+proto",
          "application/grpc-web-text+proto" },
        { "application/grpc-web", "text/plain, application/grpc-web-text;q=1", "application/grpc",
          "application/grpc-web-text+proto" },
        { "application/grpc-web-text", "application/grpc-web,*/*", "application/grpc",
          "application/grpc-web+proto" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(rows[i].sent, rows[i].accept);
        check_type(&fake.request, rows[i].up);
        answer("application/grpc+proto");
        check_type(&fake.response, rows[i].down);
        answer("text/html"); /* of a server that is none of gRPC's */
        check_type(&fake.response, "text/html");
    }
}

static void test_others(void **state)
{
    static const char *const types[] = { "application/grpc", "application/json",
                                         "application/grpc-webx" };

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        begin(types[i], NULL);
        check_type(&fake.request, types[i]);
        assert_int_equal(filter->request_body(&fake, self, WEIR_STR("YQ=="), true, &out),
                         WEIR_NEXT);
        check_out("YQ==", 4);
        answer("application/grpc");
        check_type(&fake.response, "application/grpc");
        has_trailer = true;
        assert_int_equal(filter->response_body(&fake, self, WEIR_STR("a"), true, &out), WEIR_NEXT);
        check_out("a", 1);
        assert_true(has_trailer); /* still the answer's */
    }
    fake_begin("192.0.2.1");
    fake.request.method = WEIR_STR("OPTIONS"); /* a preflight is somebody else's */
    assert_int_equal(
        weir_message_set(&fake.request, "content-type", WEIR_STR("application/grpc-web")), 0);
    assert_int_equal(filter->request(&fake, self), WEIR_NEXT);
    check_type(&fake.request, "application/grpc-web");
}

static enum weir_verdict send_split(const char *text, size_t at)
{
    size_t len = strlen(text);
    enum weir_verdict verdict =
        filter->request_body(&fake, self, (struct weir_str){ text, at }, false, &out);

    return verdict != WEIR_NEXT
               ? verdict
               : filter->request_body(&fake, self, (struct weir_str){ text + at, len - at }, true,
                                      &out);
}

static void test_request_text(void **state)
{
    static const struct {
        const char *text, *bytes;
    } rows[] = {
        { "", "" },
        { "YWJj", "abc" },
        { "YWJjZA==", "abcd" },
        { "YWJjZGU=", "abcde" },
        { "YQ==YmM=ZGVm", "abcdef" }, /* padded wherever the client has flushed */
        { "YQ==YQ==YQ==", "aaa" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t at = 0; at <= strlen(rows[i].text); at++) {
            begin("application/grpc-web-text", NULL);
            assert_int_equal(send_split(rows[i].text, at), WEIR_NEXT);
            check_out(rows[i].bytes, strlen(rows[i].bytes));
        }
}

static void test_request_text_malformed(void **state)
{
    static const char *const rows[] = { "YWJ",          "Y",        "YWJjZ",    "Y===",
                                        "=WJj",         "YW=j",     "====",     "YW\nj",
                                        "YWJj\n\n\n\n", "YWJjY*==", "YWJj    ", "YWJj-_-_" };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t at = 0; at <= strlen(rows[i]); at++) {
            begin("application/grpc-web-text", NULL);
            assert_int_equal(send_split(rows[i], at), WEIR_FAIL);
            assert_int_equal(fake.failed, WEIR_EBADREQ);
        }
}

/* Larger than a slice, in pieces of many sizes, there and back. */
static void test_long(void **state)
{
    static char bytes[9001], text[20000];
    size_t len = 0;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 7 + i / 256);
    begin("application/grpc-web-text", NULL);
    answer("application/grpc");
    for (size_t at = 0, n; at < sizeof(bytes); at += n) {
        n = at % 4000 + 1 < sizeof(bytes) - at ? at % 4000 + 1 : sizeof(bytes) - at;
        assert_int_equal(
            filter->response_body(&fake, self, (struct weir_str){ bytes + at, n }, false, &out),
            WEIR_NEXT);
    }
    len = out.len;
    memcpy(text, out.bytes, len);
    out.len = 0;
    for (size_t at = 0, n; at < len; at += n) {
        n = at % 5000 + 1 < len - at ? at % 5000 + 1 : len - at;
        assert_int_equal(filter->request_body(&fake, self, (struct weir_str){ text + at, n },
                                              at + n == len, &out),
                         WEIR_NEXT);
    }
    check_out(bytes, sizeof(bytes));
}

static void give_trailer(void)
{
    weir_message_init(&trailer, &fake.arena, false);
    assert_int_equal(weir_message_add(&trailer, "Grpc-Status", WEIR_STR("5")), 0);
    assert_int_equal(weir_message_add(&trailer, "grpc-message", WEIR_STR("no")), 0);
    has_trailer = true;
}

static void test_trailer(void **state)
{
    static const char frame[] = "\x80\0\0\0\x20"
                                "grpc-status:5\r\n"
                                "grpc-message:no\r\n";

    begin("application/grpc-web", NULL);
    answer("application/grpc");
    assert_int_equal(filter->response_body(&fake, self, WEIR_STR("body"), false, &out), WEIR_NEXT);
    check_out("body", 4);
    give_trailer();
    assert_int_equal(filter->response_body(&fake, self, WEIR_STR(""), true, &out), WEIR_NEXT);
    check_out(frame, sizeof(frame) - 1);
    assert_false(has_trailer);

    begin("application/grpc-web-text", NULL);
    answer("application/grpc");
    give_trailer();
    assert_int_equal(filter->response_body(&fake, self, WEIR_STR("ab"), true, &out), WEIR_NEXT);
    check_out("YWI=gAAAACBncnBjLXN0YXR1czo1DQpncnBjLW1lc3NhZ2U6bm8NCg==", 56);

    begin("application/grpc-web", NULL); /* an answer without: nothing is made up */
    answer("application/grpc");
    assert_int_equal(filter->response_body(&fake, self, WEIR_STR("b"), true, &out), WEIR_NEXT);
    check_out("b", 1);
}

static int make(void **state)
{
    char fault[256];

    self = weir_filter_grpc_web_type.create(NULL, fault, sizeof(fault));
    return self ? 0 : -1;
}

static int unmake(void **state)
{
    weir_filter_grpc_web_type.filter->fini(self);
    weir_arena_fini(&fake.arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),        cmocka_unit_test(test_others),
        cmocka_unit_test(test_request_text), cmocka_unit_test(test_request_text_malformed),
        cmocka_unit_test(test_long),         cmocka_unit_test(test_trailer),
    };

    return cmocka_run_group_tests_name("filter/grpc_web", tests, make, unmake);
}
