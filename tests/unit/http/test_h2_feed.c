/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Transcripts of both roles, each fed whole, cut at every point, and byte by byte: what the holders of the exchanges learn
 * must be the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"

struct transcript {
    const char *name;
    const char *request; /* client role: what was sent; else NULL */
    void (*build)(struct h2_wire *wire);
    const char *log;
    bool eof;
};

static void get(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, H2_GET "accept: */*\nx-a: b\n");
}

static void get_query(struct h2_wire *w)
{
    h2_put_headers(w, 1, true,
                   ":method: GET\n:scheme: https\n:path: /a/b?c=d?e\n:authority: a.test:8443\n");
}

static void two(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST);
    h2_put_headers(w, 3, true, H2_GET);
    h2_put_data(w, 1, "ab", false);
    h2_put_headers(w, 5, false, H2_POST "content-length: 3\n");
    h2_put_data(w, 5, "xyz", true);
    h2_put_data(w, 1, "cd", true);
}

static void cookies(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, H2_GET "cookie: a=b\nx-a: 1\ncookie: c=d\ncookie: e\n");
}

static void trailers(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST "te: trailers\n");
    h2_put_data(w, 1, "body", false);
    h2_put_headers(w, 1, true, "x-t: 1\ngrpc-status: 0\n");
}

static void empty_data(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST "content-length: 0\n");
    h2_put_data(w, 1, "", true);
}

static void expect_100(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST "expect: 100-continue\ncontent-length: 1\n");
    h2_put_data(w, 1, "x", true);
}

static void host_only(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, ":method: GET\n:scheme: http\n:path: /\nhost: b.test\n");
}

static void options(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, ":method: OPTIONS\n:scheme: http\n:path: *\n:authority: a.test\n");
}

static void client_resets(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST);
    h2_put_data(w, 1, "ab", false);
    h2_put_rst(w, 1, NGHTTP2_CANCEL);
    h2_put_headers(w, 3, true, H2_GET);
}

static void continuation(struct h2_wire *w)
{
    struct h2_wire block;

    h2_wire_init(&block);
    h2_put_fields(&block, H2_GET "x-a: 1234567890\n");
    h2_put_frame(w, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, block.data, 10);
    h2_put_frame(w, NGHTTP2_CONTINUATION, 0, 1, block.data + 10, 20);
    h2_put_frame(w, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, block.data + 30,
                 block.len - 30);
    h2_wire_fini(&block);
}

static void malformed(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, H2_GET "connection: close\n");
    h2_put_headers(w, 3, true, H2_GET);
}

static void too_short(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST "content-length: 5\n");
    h2_put_data(w, 1, "abc", true);
}

static void too_long(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST "content-length: 5\n");
    h2_put_data(w, 1, "abcdef", false);
}

static void cut(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST);
    h2_put_data(w, 1, "abc", false);
}

static void websocket(struct h2_wire *w)
{
    h2_put_headers(w, 1, false,
                   ":method: CONNECT\n:protocol: websocket\n:scheme: http\n:path: /ws\n"
                   ":authority: a.test\nsec-websocket-version: 13\n");
}

static void broken_block(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, H2_POST);
    h2_put_frame(w, NGHTTP2_HEADERS, 5, 3, "\x80", 1); /* index 0 */
}

static const struct transcript requests[] = {
    { "get", NULL, get, "GET / host=a.test none accept=*/* x-a=b end " },
    { "query", NULL, get_query, "GET /a/b?c=d?e host=a.test:8443 none end " },
    { "interleaved", NULL, two,
      "POST / host=a.test chunked body[abcd] end | GET / host=a.test none end | "
      "POST / host=a.test length 3 content-length=3 body[xyz] end " },
    { "cookies", NULL, cookies, "GET / host=a.test none x-a=1 cookie=a=b; c=d; e end " },
    { "trailers", NULL, trailers,
      "POST / host=a.test chunked te body[body] trailer x-t=1 grpc-status=0 end " },
    { "empty data", NULL, empty_data, "POST / host=a.test length content-length=0 end " },
    { "expect", NULL, expect_100,
      "POST / host=a.test length 1 expect expect=100-continue content-length=1 body[x] end " },
    { "host only", NULL, host_only, "GET / host=b.test none end " },
    { "options", NULL, options, "OPTIONS * host=a.test none end " },
    { "reset", NULL, client_resets,
      "POST / host=a.test chunked body[ab] reset ECANCELED by client | GET / host=a.test none "
      "end " },
    { "continuation", NULL, continuation, "GET / host=a.test none x-a=1234567890 end " },
    { "malformed", NULL, malformed, "reset EBADHEADER by client | GET / host=a.test none end " },
    { "too short", NULL, too_short,
      "POST / host=a.test length 5 content-length=5 body[abc] reset EBADCL by client " },
    { "cut", NULL, cut, "POST / host=a.test chunked body[abc] reset ECLIENTGONE by client ", true },
    { "websocket", NULL, websocket,
      "GET /ws host=a.test none upgrade=websocket sec-websocket-version=13 end " },
    { "broken block", NULL, broken_block,
      "POST / host=a.test chunked reset EBADFRAME by client | reset EBADFRAME by client " },
};

/* ---- answers ---- */

static void ok(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 200\ncontent-length: 2\nx-a: b\n");
    h2_put_data(w, 1, "ok", true);
}

static void interim(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 100\n");
    h2_put_headers(w, 1, false, ":status: 103\nlink: </a>\n");
    h2_put_headers(w, 1, true, ":status: 204\n");
}

static void grpc(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 200\ncontent-type: application/grpc\n");
    h2_put_data(w, 1, "12345", false);
    h2_put_headers(w, 1, true, "grpc-status: 0\n");
}

static void trailers_only(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, ":status: 200\ncontent-type: application/grpc\ngrpc-status: 12\n");
}

static void head_answer(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, ":status: 200\ncontent-length: 77\n");
}

static void refused(struct h2_wire *w)
{
    h2_put_rst(w, 1, NGHTTP2_REFUSED_STREAM);
}

static void rst_in_body(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 200\n");
    h2_put_data(w, 1, "half", false);
    h2_put_rst(w, 1, NGHTTP2_NO_ERROR);
}

static void cancel_in_body(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 200\n");
    h2_put_data(w, 1, "half", false);
    h2_put_rst(w, 1, NGHTTP2_CANCEL);
}

static void calm(struct h2_wire *w)
{
    h2_put_rst(w, 1, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void rst_after(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, ":status: 413\n");
    h2_put_rst(w, 1, NGHTTP2_NO_ERROR);
}

static void goaway_beyond(struct h2_wire *w)
{
    h2_put_goaway(w, 0, NGHTTP2_NO_ERROR);
}

static void goaway_after(struct h2_wire *w)
{
    h2_put_goaway(w, 1, NGHTTP2_NO_ERROR);
    ok(w);
}

static void switch_101(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 101\n");
}

static void bad_answer(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, ":status: 200\ntransfer-encoding: chunked\n");
}

static void half(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 200\n");
    h2_put_data(w, 1, "half", false);
}

static void none(struct h2_wire *w)
{
}

static void tunnel(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 200\n");
    h2_put_data(w, 1, "frames", false);
    h2_put_data(w, 1, "more", true);
}

static void no_tunnel(struct h2_wire *w)
{
    h2_put_headers(w, 1, false, ":status: 403\n");
    h2_put_data(w, 1, "no", true);
}

static void push(struct h2_wire *w)
{
    h2_put_frame(w, NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, NULL, 0); /* it knows that it may not */
    h2_put_frame(w, NGHTTP2_PUSH_PROMISE, 4, 1, "\0\0\0\2\x82", 5);
}

static const struct transcript answers[] = {
    { "ok", "GET", ok, "200 length 2 content-length=2 x-a=b body[ok] end " },
    { "interim", "GET", interim, "100 none 103 none link=</a> 204 none end " },
    { "grpc", "POST", grpc,
      "200 chunked content-type=application/grpc body[12345] trailer grpc-status=0 end " },
    { "trailers only", "POST", trailers_only,
      "200 none content-type=application/grpc grpc-status=12 end " },
    { "head", "HEAD", head_answer, "200 none 77 content-length=77 end " },
    { "length without body", "GET", head_answer, "reset EUPHEAD by upstream " },
    { "refused", "GET", refused, "reset EUPREFUSED by upstream " },
    { "reset in the body", "GET", rst_in_body,
      "200 chunked body[half] reset EUPSTREAM by upstream " },
    { "cancel in the body", "GET", cancel_in_body,
      "200 chunked body[half] reset EUPCANCEL by upstream " },
    { "too much", "GET", calm, "reset EUPCALM by upstream " },
    { "reset after all", "GET", rst_after, "413 none end " },
    { "goaway before it", "GET", goaway_beyond, "reset EUPREFUSED by upstream " },
    { "goaway after it", "GET", goaway_after, "200 length 2 content-length=2 x-a=b body[ok] end " },
    { "101", "GET", switch_101, "reset EUPHEAD by upstream " },
    { "transfer-encoding", "GET", bad_answer, "reset EUPHEAD by upstream " },
    { "cut in the body", "GET", half, "200 chunked body[half] reset EUPBODY by upstream ", true },
    { "cut before", "GET", none, "reset EUPCLOSED by upstream ", true },
    { "tunnel", "ws", tunnel, "101 tunnel upgrade=websocket body[framesmore] end " },
    { "no tunnel", "ws", no_tunnel, "403 chunked body[no] end " },
    { "connect", "CONNECT", tunnel, "200 tunnel body[framesmore] end " },
    { "push", "GET", push, "reset EUPFRAMING by upstream " },
};

static struct h2_log *holder(const struct transcript *t)
{
    struct h2_log *log = h2_log_new(!t->request, NULL, NULL, NULL);
    struct h2_wire settings;

    if (t->request)
        h2_log_request(log, t->request, WEIR_BODY_NONE, true);
    h2_log_turn(log);
    if (t->request &&
        strcmp(t->request, "ws") == 0) { /* it waits until the server says that it may come */
        h2_wire_init(&settings);
        h2_put_setting(&settings, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1);
        assert_int_equal(h2_log_feed(log, settings.data, settings.len), settings.len);
        h2_log_turn(log);
        h2_wire_fini(&settings);
    }
    return log;
}

/* To one that does not say so it is not sent. */
static void test_no_upgrade(void **state)
{
    struct h2_log *log = h2_log_new(false, NULL, NULL, NULL);
    struct h2_wire settings;

    h2_log_request(log, "ws", WEIR_BODY_NONE, true);
    h2_log_turn(log);
    h2_wire_init(&settings);
    h2_put_settings(&settings);
    assert_int_equal(h2_log_feed(log, settings.data, settings.len), settings.len);
    h2_log_turn(log);
    assert_string_equal(h2_log_all(log), "reset EUPNOUPGRADE by upstream ");
    h2_wire_fini(&settings);
    h2_log_free(log);
}

/* Feeds pieces that end at `cut_at` (and everywhere, when `every`). */
static void play(const struct transcript *t, const struct h2_wire *wire, size_t cut_at, bool every)
{
    struct h2_log *log = holder(t);
    ssize_t n = 0;

    for (size_t at = 0; n >= 0 && at < wire->len && !weir_codec_over(log->codec);) {
        size_t end = every ? at + 1 : at < cut_at ? cut_at : wire->len;
        uint8_t *piece = malloc(end - at);

        assert_non_null(piece);
        memcpy(piece, wire->data + at, end - at);
        n = h2_log_feed(log, piece, end - at);
        free(piece);
        at = end;
    }
    if (t->eof)
        weir_codec_eof(log->codec, WEIR_OK);
    if (strcmp(h2_log_all(log), t->log) != 0)
        fail_msg("%s, cut at %zu of %zu%s:\n  got  %s\n  want %s", t->name, cut_at, wire->len,
                 every ? ", byte by byte" : "", h2_log_all(log), t->log);
    h2_log_free(log);
}

static void play_all(const struct transcript *t)
{
    struct h2_wire wire;

    h2_wire_init(&wire);
    if (t->request)
        h2_put_settings(&wire);
    else
        h2_put_preface(&wire);
    t->build(&wire);
    play(t, &wire, wire.len, false);
    for (size_t at = 1; at < wire.len; at++)
        play(t, &wire, at, false);
    play(t, &wire, 0, true);
    h2_wire_fini(&wire);
}

static void test_requests(void **state)
{
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        play_all(&requests[i]);
}

static void test_answers(void **state)
{
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        play_all(&answers[i]);
}

/* How much of a piece that is too much is handed out depends on the cuts; that it ends badly does not. */
static void test_too_long(void **state)
{
    struct h2_wire wire;
    struct h2_log *log = h2_log_new(true, NULL, NULL, NULL);

    h2_wire_init(&wire);
    h2_put_preface(&wire);
    too_long(&wire);
    assert_true(h2_log_feed_wire(log, &wire) > 0);
    assert_true(log->exchanges[0].reset && log->exchanges[0].why.code == WEIR_EBADCL);
    h2_log_free(log);
    h2_wire_fini(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_no_upgrade),
        cmocka_unit_test(test_too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
