/* SPDX-License-Identifier: Apache-2.0 */
/** Header sections of HTTP/2, a row a rule. The guard is asked by itself: nghttp2 does not stand before it here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/h2_priv.h"

#include <stdio.h>
#include <stdlib.h>

/* A row's fields: "name: value\n...", with \r, \n, \t and \0 as escapes. */
static void put_fields(struct weir_h2_head *head, const char *text,
                       const struct weir_guard_limits *limits)
{
    while (*text) {
        char name[128], value[512], *out = name;
        size_t lens[2] = { 0, 0 };
        int which = 0;

        for (; *text && *text != '\n'; text++) {
            char c = *text;

            if (!which && text[0] == ':' && text[1] == ' ') {
                which = 1, out = value, text++;
                continue;
            }
            if (c == '\\' && text[1]) {
                text++;
                c = *text == 'r' ? '\r' : *text == 'n' ? '\n' : *text == 't' ? '\t' : '\0';
            }
            assert_true(lens[which] < (which ? sizeof(value) : sizeof(name)));
            out[lens[which]++] = c;
        }
        text += *text == '\n';
        weir_h2_head_field(head, (struct weir_str){ name, lens[0] },
                           (struct weir_str){ value, lens[1] }, false, limits);
    }
}

#define P       ":method: GET\n:scheme: http\n:path: /\n:authority: a.test\n"
#define NO_PATH ":method: GET\n:scheme: http\n:authority: a.test\n"
#define XC      ":method: CONNECT\n:protocol: websocket\n"

static const struct {
    const char *fields;
    int err;   /* 0: taken */
    bool open; /* no END_STREAM */
} requests[] = {
    { P, 0 },
    { P "x-a: \n", 0 },
    { P "x-a: b\tc\n", 0 },
    { P "x-a: \xc3\xa4\n", 0 },
    /* pseudo fields */
    { ":scheme: http\n:path: /\n:authority: a.test\n", WEIR_EBADLINE },
    { ":method: GET\n:path: /\n:authority: a.test\n", WEIR_EBADTARGET },
    { NO_PATH, WEIR_EBADTARGET },
    { ":method: GET\n:scheme: http\n:path: /\n", WEIR_EBADHOST },
    { P ":method: GET\n", WEIR_EBADHEADER },
    { P ":path: /\n", WEIR_EBADHEADER },
    { P ":scheme: http\n", WEIR_EBADHEADER },
    { P ":authority: a.test\n", WEIR_EBADHEADER },
    { ":method: GET\nx-a: b\n:scheme: http\n:path: /\n:authority: a.test\n", WEIR_EBADHEADER },
    { P ":status: 200\n", WEIR_EBADHEADER },
    { P ":unknown: 1\n", WEIR_EBADHEADER },
    { P ":Path: /\n", WEIR_EBADHEADER },
    { P ":: /\n", WEIR_EBADHEADER },
    { P ":protocol: websocket\n", WEIR_EUPGRADE },
    /* method */
    { ":method: G T\n:scheme: http\n:path: /\n:authority: a.test\n", WEIR_EBADLINE },
    { ":method: \n:scheme: http\n:path: /\n:authority: a.test\n", WEIR_EBADLINE },
    { ":method: PRI\n:scheme: http\n:path: /\n:authority: a.test\n", WEIR_EBADLINE },
    { ":method: GET\\r\\nX: y\n:scheme: http\n:path: /\n:authority: a.test\n", WEIR_EBADHEADER },
    { ":method: M23456789012345678901234567890123456789012345678901234567890123456789\n"
      ":scheme: http\n:path: /\n:authority: a.test\n",
      WEIR_EBADLINE },
    { ":method: BREW\n:scheme: http\n:path: /\n:authority: a.test\n", 0 },
    /* scheme */
    { ":method: GET\n:scheme: HTTPS\n:path: /\n:authority: a.test\n", 0 },
    { ":method: GET\n:scheme: ftp\n:path: /\n:authority: a.test\n", WEIR_EBADTARGET },
    { ":method: GET\n:scheme: http://b.test/\n:path: /\n:authority: a.test\n", WEIR_EBADTARGET },
    /* path */
    { NO_PATH ":path: \n", WEIR_EBADTARGET },
    { NO_PATH ":path: x\n", WEIR_EBADTARGET },
    { NO_PATH ":path: http://b.test/\n", WEIR_EBADTARGET },
    { NO_PATH ":path: /a#b\n", WEIR_EBADTARGET },
    { NO_PATH ":path: /a b\n", WEIR_EBADTARGET },
    { NO_PATH ":path: /a\\b HTTP/1.1\n", WEIR_EBADHEADER },
    { NO_PATH ":path: /\xc3\xa4\n", WEIR_EBADTARGET },
    { NO_PATH ":path: /a\\tb\n", WEIR_EBADTARGET },
    { NO_PATH ":path: /\"a\n", WEIR_EBADTARGET },
    { NO_PATH ":path: *\n", WEIR_EBADTARGET },
    { NO_PATH ":path: ?a\n", WEIR_EBADTARGET },
    { NO_PATH ":path: //b.test/\n", 0 },
    { NO_PATH ":path: /?a=b?c\n", 0 },
    { ":method: OPTIONS\n:scheme: http\n:path: *\n:authority: a.test\n", 0 },
    /* authority and Host */
    { P "host: a.test\n", 0 },
    { P "host: A.TEST\n", 0 },
    { P "host: b.test\n", WEIR_EBADHOST },
    { P "host: a.test\nhost: a.test\n", WEIR_EBADHOST },
    { ":method: GET\n:scheme: http\n:path: /\nhost: a.test\n", 0 },
    { ":method: GET\n:scheme: http\n:path: /\nhost: a@b\n", WEIR_EBADHOST },
    { ":method: GET\n:scheme: http\n:path: /\n:authority: \n", WEIR_EBADHOST },
    { ":method: GET\n:scheme: http\n:path: /\n:authority: u@a.test\n", WEIR_EBADHOST },
    { ":method: GET\n:scheme: http\n:path: /\n:authority: a.test/x\n", WEIR_EBADHOST },
    { ":method: GET\n:scheme: http\n:path: /\n:authority: a.test:8x\n", WEIR_EBADHOST },
    { ":method: GET\n:scheme: http\n:path: /\n:authority: a b\n", WEIR_EBADHOST },
    { ":method: GET\n:scheme: http\n:path: /\n:authority: [::1]:80\n", 0 },
    /* fields of the connection */
    { P "connection: close\n", WEIR_EBADHEADER },
    { P "keep-alive: 1\n", WEIR_EBADHEADER },
    { P "proxy-connection: close\n", WEIR_EBADHEADER },
    { P "upgrade: h2c\n", WEIR_EBADHEADER },
    { P "http2-settings: x\n", WEIR_EBADHEADER },
    { P "transfer-encoding: chunked\n", WEIR_EBADTE },
    { P "te: trailers\n", 0 },
    { P "te: gzip\n", WEIR_EBADHEADER },
    { P "te: trailers, gzip\n", WEIR_EBADHEADER },
    /* names */
    { P "X-a: b\n", WEIR_EBADHEADER },
    { P "Content-Length: 0\n", WEIR_EBADHEADER },
    { P ": b\n", WEIR_EBADHEADER },
    { P "x a: b\n", WEIR_EBADHEADER },
    { P "x:a: b\n", WEIR_EBADHEADER },
    { P "x\\r\\na: b\n", WEIR_EBADHEADER },
    { P "x\xc3: b\n", WEIR_EBADHEADER },
    { P "x(: b\n", WEIR_EBADHEADER },
    { P "x_a: b\n", 0 },
    /* values */
    { P "x-a: b\\r\\nc: d\n", WEIR_EBADHEADER },
    { P "x-a: b\\r\n", WEIR_EBADHEADER },
    { P "x-a: b\\nc\n", WEIR_EBADHEADER },
    { P "x-a: b\\0c\n", WEIR_EBADHEADER },
    { P "x-a: b\x01\n", WEIR_EBADHEADER },
    { P "x-a: b\x7f\n", WEIR_EBADHEADER },
    { P "x-a:  b\n", WEIR_EBADHEADER },
    { P "x-a: b \n", WEIR_EBADHEADER },
    { P "x-a: b\\t\n", WEIR_EBADHEADER },
    { P "cookie: a\\r\\nb\n", WEIR_EBADHEADER },
    /* Content-Length */
    { P "content-length: 0\n", 0 },
    { P "content-length: 5\n", WEIR_EBADCL },
    { P "content-length: 5\n", 0, true },
    { P "content-length: 5\ncontent-length: 5\n", WEIR_EBADCL, true },
    { P "content-length: 5, 5\n", WEIR_EBADCL, true },
    { P "content-length: +5\n", WEIR_EBADCL, true },
    { P "content-length: -5\n", WEIR_EBADCL, true },
    { P "content-length: \n", WEIR_EBADCL, true },
    { P "content-length: 0x5\n", WEIR_EBADCL, true },
    { P "content-length: 9223372036854775808\n", WEIR_EBADCL, true },
    /* Expect */
    { P "expect: 100-continue\n", 0, true },
    { P "expect: 200-ok\n", WEIR_EEXPECT, true },
    { P "expect: 100-continue\nexpect: 100-continue\n", WEIR_EEXPECT, true },
    /* CONNECT */
    { ":method: CONNECT\n:authority: a.test:443\n", 0, true },
    { ":method: CONNECT\n:authority: [::1]:443\n", 0, true },
    { ":method: CONNECT\n:authority: a.test\n", WEIR_EBADTARGET, true },
    { ":method: CONNECT\n:authority: :443\n", WEIR_EBADHOST, true },
    { ":method: CONNECT\nhost: a.test:443\n", WEIR_EBADHOST, true },
    { ":method: CONNECT\n:authority: a.test:443\nhost: b.test:443\n", WEIR_EBADHOST, true },
    { ":method: CONNECT\n:authority: a.test:443\n:path: /\n", WEIR_EBADTARGET, true },
    { ":method: CONNECT\n:authority: a.test:443\n:scheme: http\n", WEIR_EBADTARGET, true },
    { ":method: CONNECT\n:authority: a.test:443\ncontent-length: 3\n", WEIR_EBADCL, true },
    { XC ":scheme: http\n:path: /\n:authority: a.test\n", 0, true },
    { XC ":scheme: http\n:authority: a.test\n", WEIR_EBADTARGET, true },
    { XC ":path: /\n:authority: a.test\n", WEIR_EBADTARGET, true },
    { XC ":scheme: http\n:path: /\n", WEIR_EBADHOST, true },
    { XC ":protocol: websocket\n", WEIR_EBADHEADER, true },
    { ":method: CONNECT\n:protocol: \n:scheme: http\n:path: /\n:authority: a.test\n", WEIR_EUPGRADE,
      true },
    { ":method: CONNECT\n:protocol: a b\n:scheme: http\n:path: /\n:authority: a.test\n",
      WEIR_EUPGRADE, true },
};

static const struct {
    const char *fields;
    enum weir_method asked;
    int err;
    bool end;
} answers[] = {
    { ":status: 200\n", WEIR_M_GET, 0, false },
    { ":status: 200\nhost: x\n", WEIR_M_GET, 0, true },
    { "", WEIR_M_GET, WEIR_EBADLINE, true },
    { ":status: 2000\n", WEIR_M_GET, WEIR_EBADLINE, true },
    { ":status: 20\n", WEIR_M_GET, WEIR_EBADLINE, true },
    { ":status: 2x0\n", WEIR_M_GET, WEIR_EBADLINE, true },
    { ":status: 099\n", WEIR_M_GET, WEIR_EBADLINE, true },
    { ":status: 600\n", WEIR_M_GET, WEIR_EBADLINE, true },
    { ":status: 101\n", WEIR_M_GET, WEIR_EBADLINE, false },
    { ":status: 200\n:status: 200\n", WEIR_M_GET, WEIR_EBADHEADER, true },
    { ":status: 200\n:path: /\n", WEIR_M_GET, WEIR_EBADHEADER, true },
    { "x: y\n:status: 200\n", WEIR_M_GET, WEIR_EBADHEADER, true },
    { ":status: 200\nconnection: close\n", WEIR_M_GET, WEIR_EBADHEADER, true },
    { ":status: 200\nte: trailers\n", WEIR_M_GET, WEIR_EBADHEADER, true },
    { ":status: 200\ntransfer-encoding: chunked\n", WEIR_M_GET, WEIR_EBADTE, true },
    { ":status: 200\ncontent-length: 3\n", WEIR_M_GET, WEIR_EBADCL, true },
    { ":status: 200\ncontent-length: 3\n", WEIR_M_HEAD, 0, true },
    { ":status: 304\ncontent-length: 3\n", WEIR_M_GET, 0, true },
    { ":status: 204\ncontent-length: 3\n", WEIR_M_GET, 0, true },
    { ":status: 103\n", WEIR_M_GET, 0, false },
    { ":status: 103\n", WEIR_M_GET, WEIR_EBADREQ, true },
    { ":status: 100\ncontent-length: 0\n", WEIR_M_GET, WEIR_EBADCL, false },
    { ":status: 200\ncontent-length: 3\n", WEIR_M_CONNECT, 0, false },
};

static const struct {
    const char *fields;
    int err;
} trailers[] = {
    { "x-a: b\n", 0 },
    { ":status: 200\n", WEIR_EBADTRAILER },
    { ":path: /\n", WEIR_EBADTRAILER },
    { "content-length: 3\n", WEIR_EBADTRAILER },
    { "host: a\n", WEIR_EBADTRAILER },
    { "cookie: a=b\n", WEIR_EBADTRAILER },
    { "te: trailers\n", WEIR_EBADHEADER },
    { "transfer-encoding: chunked\n", WEIR_EBADTE },
    { "x-a: b\\r\\nc: d\n", WEIR_EBADHEADER },
};

static void expect(const char *what, int got, int want)
{
    if (got != want)
        fail_msg("%s\n  got  %s\n  want %s", what, weir_err_name((enum weir_err)got),
                 weir_err_name((enum weir_err)want));
}

static void test_requests(void **state)
{
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        struct weir_arena arena;
        struct weir_h2_head *head;

        weir_arena_init(&arena, NULL);
        head = weir_h2_head_new(&arena, H2_REQUEST);
        put_fields(head, requests[i].fields, NULL);
        expect(requests[i].fields, weir_h2_guard_request(head, !requests[i].open), requests[i].err);
        weir_arena_fini(&arena);
    }
}

static void test_answers(void **state)
{
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct weir_h2_asked asked = { .method = (uint8_t)answers[i].asked };
        struct weir_arena arena;
        struct weir_h2_head *head;

        weir_arena_init(&arena, NULL);
        head = weir_h2_head_new(&arena, H2_ANSWER);
        put_fields(head, answers[i].fields, NULL);
        expect(answers[i].fields, weir_h2_guard_answer(head, answers[i].end, &asked),
               answers[i].err);
        weir_arena_fini(&arena);
    }
}

static void test_trailers(void **state)
{
    for (size_t i = 0; i < sizeof(trailers) / sizeof(trailers[0]); i++) {
        struct weir_arena arena;
        struct weir_h2_head *head;

        weir_arena_init(&arena, NULL);
        head = weir_h2_head_new(&arena, H2_TRAILER);
        put_fields(head, trailers[i].fields, NULL);
        expect(trailers[i].fields, weir_h2_guard_trailer(head), trailers[i].err);
        weir_arena_fini(&arena);
    }
}

/* ---- limits ---- */

static enum weir_err judged(const char *fields, const struct weir_guard_limits *limits, bool *far)
{
    struct weir_arena arena;
    struct weir_h2_head *head;
    enum weir_err err;

    weir_arena_init(&arena, NULL);
    head = weir_h2_head_new(&arena, H2_REQUEST);
    put_fields(head, fields, limits);
    *far = head->far_over;
    err = (enum weir_err)weir_h2_guard_request(head, true);
    weir_arena_fini(&arena);
    return err;
}

static void test_limits(void **state)
{
    static const struct weir_guard_limits bytes = { .head_bytes = 80 }, count = { .head_count = 2 },
                                          target = { .target_bytes = 4 };
    bool far;

    expect("bytes", judged(P, &bytes, &far), 0);
    expect("bytes", judged(P "x-a: 01234567890123456789\n", &bytes, &far), WEIR_EHDRSIZE);
    assert_false(far);
    expect("count", judged(P "a: 1\nb: 2\n", &count, &far), 0);
    expect("count", judged(P "a: 1\nb: 2\nc: 3\n", &count, &far), WEIR_EHDRCOUNT);
    assert_false(far);
    expect("count",
           judged(P "a: 1\nb: 2\nc: 3\nd: 4\ne: 5\nf: 6\ng: 7\nh: 8\ni: 9\n", &count, &far),
           WEIR_EHDRCOUNT);
    assert_true(far);
    expect("crumbs", judged(P "cookie: 1\ncookie: 2\ncookie: 3\n", &count, &far), 0);
    expect("target", judged(NO_PATH ":path: /2345\n", &target, &far), WEIR_EURISIZE);
    expect("first fault", judged(P "x: \\r\na: 1\nb: 2\nc: 3\n", &count, &far), WEIR_EBADHEADER);
    assert_true(weir_h2_answerable(WEIR_EURISIZE) && weir_h2_answerable(WEIR_EHDRCOUNT));
    assert_false(weir_h2_answerable(WEIR_EBADHEADER));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_trailers),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
