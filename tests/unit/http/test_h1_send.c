/* SPDX-License-Identifier: Apache-2.0 */
/** What goes onto the wire, when the connection may be used again, and how much may be unread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "http/h1.h"

#include <stdio.h>
#include <stdlib.h>

struct holder {
    struct weir_h1 h1;
    struct weir_hstream hs;
    struct weir_arena arena;
    char out[128 * 1024];
    size_t out_len, outputs, body;
    unsigned pauses, resumes, heads, ends, drained;
    enum weir_err reset;
    enum weir_by reset_by;
    enum weir_retry retry;
    bool reset_on_body, keep_unread;
};

static void on_head(void *arg, struct weir_message *msg)
{
    ((struct holder *)arg)->heads++;
}

static void on_body(void *arg, struct weir_str data)
{
    struct holder *h = arg;

    h->body += data.len;
    if (h->reset_on_body) {
        weir_hstream_reset(h->h1.hs, WEIR_EBODYSIZE);
        weir_arena_fini(&h->arena); /* the memory of the exchange may go at once */
    } else if (!h->keep_unread) {
        weir_hstream_consume(h->h1.hs, data.len);
    }
}

static void on_end(void *arg)
{
    ((struct holder *)arg)->ends++;
}

static void on_drained(void *arg)
{
    ((struct holder *)arg)->drained++;
}

static void on_reset(void *arg, const struct weir_error *why)
{
    struct holder *h = arg;

    h->reset = why->code;
    h->reset_by = why->by;
    h->retry = why->retry;
}

static const struct weir_hstream_sink stream_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_reset = on_reset,
};

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct holder *h = arg;

    h->outputs++;
    for (int i = 0; i < count; i++) {
        assert_true(h->out_len + iov[i].iov_len < sizeof(h->out));
        assert_true(iov[i].iov_len > 0);
        memcpy(h->out + h->out_len, iov[i].iov_base, iov[i].iov_len);
        h->out_len += iov[i].iov_len;
    }
}

static size_t on_pending(void *arg)
{
    return 0;
}

static void on_pause(void *arg, bool pause)
{
    struct holder *h = arg;

    if (pause)
        h->pauses++;
    else
        h->resumes++;
}

static int on_begin(void *arg, struct weir_hstream *hs)
{
    struct holder *h = arg;

    hs->sink = &stream_sink;
    hs->arg = h;
    hs->arena = &h->arena;
    return 0;
}

static const struct weir_codec_sink codec_sink = { on_output, on_pending, on_pause, on_begin };

static struct holder *holder_new(bool server)
{
    struct holder *h = calloc(1, sizeof(*h));

    assert_non_null(h);
    weir_arena_init(&h->arena, NULL);
    if (server)
        weir_h1_init_server(&h->h1, NULL, &codec_sink, h);
    else
        weir_h1_init_client(&h->h1, NULL, &codec_sink, h);
    return h;
}

static void holder_free(struct holder *h)
{
    weir_h1_fini(&h->h1);
    weir_arena_fini(&h->arena);
    free(h);
}

static ssize_t feed(struct holder *h, const char *text)
{
    return weir_codec_feed(&h->h1.codec, (const uint8_t *)text, strlen(text));
}

static void expect_out(struct holder *h, const char *want)
{
    if (h->out_len != strlen(want) || memcmp(h->out, want, h->out_len) != 0)
        fail_msg("sent:\n%.*s\nnot:\n%s", (int)h->out_len, h->out, want);
    h->out_len = h->outputs = 0;
}

static struct weir_message answer(struct holder *h, int status, enum weir_body_kind body,
                                  uint64_t length)
{
    struct weir_message msg;

    weir_message_init(&msg, &h->arena, false);
    msg.status = status;
    msg.reason = weir_status_reason(status);
    msg.body = (uint8_t)body;
    msg.length = length;
    return msg;
}

static struct weir_message request(struct holder *h, const char *method, enum weir_body_kind body,
                                   uint64_t length)
{
    struct weir_message msg;

    weir_message_init(&msg, &h->arena, true);
    msg.method = weir_str(method);
    msg.method_id = (uint8_t)weir_method_id(msg.method);
    msg.host = WEIR_STR("a.test");
    msg.path = WEIR_STR("/x");
    msg.body = (uint8_t)body;
    msg.length = length;
    return msg;
}

static int send_text(struct holder *h, const struct weir_message *head, const char *text,
                     unsigned flags)
{
    struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };

    return weir_hstream_send(h->h1.hs, head, &iov, 1, NULL, flags);
}

static struct holder *server_with(const char *input)
{
    struct holder *h = holder_new(true);

    assert_int_equal(feed(h, input), strlen(input));
    return h;
}

#define GET   "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define GET10 "GET / HTTP/1.0\r\n\r\n"

static void test_answers(void **state)
{
    static const struct {
        const char *input;
        int status;
        enum weir_body_kind body;
        uint64_t length;
        const char *text, *out;
        bool again;
    } rows[] = {
        { GET, 200, WEIR_BODY_LENGTH, 2, "ok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
          true },
        { GET, 200, WEIR_BODY_NONE, 0, "", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true },
        { GET, 200, WEIR_BODY_CHUNKED, 0, "0123456789abcdefg",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
          "chunked\r\n\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n",
          true },
        { GET, 200, WEIR_BODY_CLOSE, 0, "ok",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true },
        { GET, 200, WEIR_BODY_CHUNKED, 0, "",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true },
        { GET10, 200, WEIR_BODY_CHUNKED, 0, "ok", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
          false },
        { GET10, 200, WEIR_BODY_LENGTH, 2, "ok",
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false },
        { "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, WEIR_BODY_LENGTH, 2, "ok",
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", true },
        { "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, WEIR_BODY_CLOSE, 0, "ok",
          "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", false },
        { "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, WEIR_BODY_LENGTH, 2, "ok",
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false },
        { "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, WEIR_BODY_LENGTH, 2, "ok",
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true },
        { "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, WEIR_BODY_CHUNKED, 0, "ok",
          "HTTP/1.1 200 OK\r\n\r\n", true },
        { GET, 204, WEIR_BODY_NONE, 0, "", "HTTP/1.1 204 No Content\r\n\r\n", true },
        { GET, 304, WEIR_BODY_NONE, 0, "", "HTTP/1.1 304 Not Modified\r\n\r\n", true },
        { GET, 299, WEIR_BODY_NONE, 0, "", "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n", true },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct holder *h = server_with(rows[i].input);
        struct weir_message msg = answer(h, rows[i].status, rows[i].body, rows[i].length);

        assert_int_equal(h->ends, 1);
        assert_int_equal(send_text(h, &msg, rows[i].text, WEIR_SEND_END), 0);
        assert_int_equal(h->outputs, 1);
        expect_out(h, rows[i].out);
        assert_int_equal(weir_hstream_done(h->h1.hs), rows[i].again);
        assert_int_equal(weir_codec_idle(&h->h1.codec), rows[i].again);
        assert_int_equal(feed(h, GET), rows[i].again ? (int)sizeof(GET) - 1 : WEIR_ECLOSED);
        holder_free(h);
    }
}

static void test_answer_fields(void **state)
{
    struct holder *h = server_with("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    struct weir_message msg = answer(h, 200, WEIR_BODY_NONE, 7);

    /* As it came from an upstream: framing and hop fields are ours, the rest goes as it is. */
    assert_int_equal(
        weir_message_push(&msg, WEIR_F_CONTENT_LENGTH, WEIR_STR("content-length"), WEIR_STR("7")),
        0);
    assert_int_equal(
        weir_message_push(&msg, WEIR_F_CONNECTION, WEIR_STR("Connection"), WEIR_STR("close")), 0);
    assert_int_equal(weir_message_push(&msg, WEIR_F_TRANSFER_ENCODING,
                                       WEIR_STR("Transfer-Encoding"), WEIR_STR("x")),
                     0);
    assert_int_equal(weir_message_push(&msg, WEIR_F_TRAILER, WEIR_STR("Trailer"), WEIR_STR("x")),
                     0);
    assert_int_equal(weir_message_push(&msg, WEIR_F_SERVER, WEIR_STR("SERVER"), WEIR_STR("s")), 0);
    assert_int_equal(weir_message_push(&msg, WEIR_F_OTHER, WEIR_STR("X-A"), WEIR_STR("")), 0);
    assert_int_equal(weir_hstream_send(h->h1.hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h, "HTTP/1.1 200 OK\r\nSERVER: s\r\nX-A: \r\nContent-Length: 7\r\n\r\n");
    holder_free(h);
}

static void test_pieces_and_trailer(void **state)
{
    struct holder *h = server_with(GET);
    struct weir_message msg = answer(h, 200, WEIR_BODY_CHUNKED, 0), trailer;
    struct iovec many[40];

    for (int i = 0; i < 40; i++)
        many[i] = (struct iovec){ (void *)(uintptr_t) "ab", i % 10 == 3 ? 0 : 2 };
    weir_message_init(&trailer, &h->arena, false);
    assert_int_equal(weir_message_push(&trailer, WEIR_F_OTHER, WEIR_STR("X-T"), WEIR_STR("1")), 0);
    assert_int_equal(weir_message_push(&trailer, WEIR_F_CONTENT_LENGTH, WEIR_STR("Content-Length"),
                                       WEIR_STR("1")),
                     0);
    assert_int_equal(send_text(h, &msg, "one", 0), 0);
    assert_int_equal(send_text(h, NULL, "two", 0), 0);
    assert_int_equal(send_text(h, NULL, "", 0), 0);
    assert_int_equal(h->outputs, 2);
    expect_out(h, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n");
    assert_int_equal(weir_hstream_send(h->h1.hs, NULL, many, 40, &trailer, WEIR_SEND_END), 0);
    expect_out(h,
               "48\r\nabababababababababababababababababababababababababababababababababababab\r\n"
               "0\r\nX-T: 1\r\n\r\n");
    assert_int_equal(send_text(h, NULL, "more", 0), WEIR_EFRAMING);
    holder_free(h);
}

static void test_framing_is_kept(void **state)
{
    struct holder *h = server_with(GET);
    struct weir_message msg = answer(h, 200, WEIR_BODY_LENGTH, 4);

    assert_int_equal(send_text(h, NULL, "x", 0), WEIR_EFRAMING); /* no head yet */
    assert_int_equal(send_text(h, &msg, "ab", 0), 0);
    assert_int_equal(send_text(h, &msg, "", 0), WEIR_EFRAMING); /* two heads */
    assert_int_equal(send_text(h, NULL, "abc", 0), WEIR_EFRAMING);
    assert_int_equal(send_text(h, NULL, "", WEIR_SEND_END), WEIR_EFRAMING);
    assert_false(weir_hstream_done(h->h1.hs));
    holder_free(h);
}

static void test_interim(void **state)
{
    struct holder *h = server_with(GET);
    struct weir_message early = answer(h, 103, WEIR_BODY_NONE, 0),
                        last = answer(h, 200, WEIR_BODY_NONE, 0);

    assert_int_equal(weir_message_push(&early, WEIR_F_OTHER, WEIR_STR("Link"), WEIR_STR("l")), 0);
    assert_int_equal(weir_hstream_send(h->h1.hs, &early, NULL, 0, NULL, 0), 0);
    assert_int_equal(weir_hstream_send(h->h1.hs, &last, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(
        h,
        "HTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    holder_free(h);

    h = server_with(GET10);
    early = answer(h, 103, WEIR_BODY_NONE, 0);
    assert_int_equal(weir_hstream_send(h->h1.hs, &early, NULL, 0, NULL, 0), 0);
    expect_out(h, "");
    holder_free(h);
}

static void test_tunnels(void **state)
{
    static const char ws[] =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct holder *h = holder_new(true);
    struct weir_message msg = answer(h, 101, WEIR_BODY_TUNNEL, 0);

    assert_int_equal(weir_codec_feed(&h->h1.codec, (const uint8_t *)ws, sizeof(ws) - 1),
                     sizeof(ws) - 1);
    msg.upgrade = WEIR_STR("websocket");
    assert_int_equal(weir_hstream_send(h->h1.hs, &msg, NULL, 0, NULL, 0), 0);
    expect_out(
        h, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_int_equal(feed(h, "bytes"), 0);
    assert_false(weir_hstream_done(h->h1.hs));
    holder_free(h);

    h = server_with("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    msg = answer(h, 200, WEIR_BODY_TUNNEL, 0);
    assert_int_equal(weir_hstream_send(h->h1.hs, &msg, NULL, 0, NULL, 0), 0);
    expect_out(h, "HTTP/1.1 200 OK\r\n\r\n");
    assert_int_equal(feed(h, "bytes"), 0);
    holder_free(h);
}

/* The answer ends before the request does: the connection says that it will not go on. */
static void test_early_answer(void **state)
{
    struct holder *h = server_with("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    struct weir_message msg = answer(h, 413, WEIR_BODY_NONE, 0);

    assert_int_equal(weir_hstream_send(h->h1.hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h,
               "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_false(weir_hstream_done(h->h1.hs));
    assert_int_equal(feed(h, "defghi"), WEIR_ECLOSED);
    holder_free(h);

    /* ... but when the rest comes while the answer is on its way, it goes on. */
    h = server_with("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    msg = answer(h, 200, WEIR_BODY_LENGTH, 2);
    assert_int_equal(send_text(h, &msg, "o", 0), 0);
    assert_int_equal(feed(h, "defghi"), 6);
    assert_int_equal(send_text(h, NULL, "k", WEIR_SEND_END), 0);
    assert_true(weir_hstream_done(h->h1.hs));
    holder_free(h);
}

static void test_malformed_is_answered(void **state)
{
    struct holder *h = holder_new(true);
    struct weir_message msg = answer(h, 400, WEIR_BODY_LENGTH, 3);

    assert_int_equal(feed(h, "GET / HTTP/1.1\r\nX : y\r\n\r\n"), WEIR_EBADHEADER);
    assert_int_equal(h->reset, WEIR_EBADHEADER);
    assert_int_equal(h->reset_by, WEIR_BY_CLIENT);
    assert_int_equal(send_text(h, &msg, "bad", WEIR_SEND_END), 0);
    expect_out(h, "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad");
    assert_false(weir_hstream_done(h->h1.hs));
    assert_false(weir_codec_idle(&h->h1.codec));
    holder_free(h);
}

static void test_refuse_and_shutdown(void **state)
{
    struct holder *h = holder_new(true);
    struct weir_message msg;

    assert_int_equal(feed(h, "GET / HT"), 8);
    assert_true(weir_h1_in_head(&h->h1));
    assert_false(weir_codec_idle(&h->h1.codec));
    weir_h1_refuse(&h->h1, WEIR_EHEADTIME);
    expect_out(h, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    holder_free(h);

    h = server_with(GET);
    weir_codec_shutdown(&h->h1.codec);
    msg = answer(h, 200, WEIR_BODY_NONE, 0);
    assert_int_equal(weir_hstream_send(h->h1.hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_false(weir_hstream_done(h->h1.hs));
    holder_free(h);
}

static struct holder *client_with(struct weir_message *msg, const char *method,
                                  enum weir_body_kind body, uint64_t length)
{
    struct holder *h = holder_new(false);

    h->hs = (struct weir_hstream){ .sink = &stream_sink, .arg = h, .arena = &h->arena };
    assert_true(weir_codec_idle(&h->h1.codec));
    assert_int_equal(weir_codec_open(&h->h1.codec, &h->hs), 0);
    *msg = request(h, method, body, length);
    return h;
}

static void test_requests(void **state)
{
    struct weir_message msg;
    struct holder *h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);

    assert_int_equal(weir_codec_open(&h->h1.codec, &h->hs), WEIR_ELIMIT);
    msg.query = WEIR_STR("q=1");
    msg.te_trailers = true;
    assert_int_equal(weir_message_push(&msg, WEIR_F_ACCEPT, WEIR_STR("Accept"), WEIR_STR("*/*")),
                     0);
    assert_int_equal(weir_message_push(&msg, WEIR_F_HOST, WEIR_STR("host"), WEIR_STR("a.test")), 0);
    assert_int_equal(weir_message_push(&msg, WEIR_F_TE, WEIR_STR("te"), WEIR_STR("trailers")), 0);
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h, "GET /x?q=1 HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\nTE: "
                  "trailers\r\nConnection: TE\r\n\r\n");
    holder_free(h);

    h = client_with(&msg, "POST", WEIR_BODY_LENGTH, 2);
    assert_int_equal(
        weir_message_push(&msg, WEIR_F_EXPECT, WEIR_STR("Expect"), WEIR_STR("100-continue")), 0);
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, 0), 0);
    expect_out(
        h, "POST /x HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_int_equal(send_text(h, NULL, "ok", WEIR_SEND_END), 0);
    expect_out(h, "ok");
    holder_free(h);

    h = client_with(&msg, "PUT", WEIR_BODY_CHUNKED, 0);
    msg.host = WEIR_STR("");
    assert_int_equal(send_text(h, &msg, "ok", WEIR_SEND_END), 0);
    expect_out(
        h, "PUT /x HTTP/1.1\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    holder_free(h);

    h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);
    msg.upgrade = WEIR_STR("websocket");
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(
        h, "GET /x HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    holder_free(h);

    h = client_with(&msg, "OPTIONS", WEIR_BODY_NONE, 0);
    msg.form = WEIR_T_ASTERISK;
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h, "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n");
    holder_free(h);

    h = client_with(&msg, "GET", WEIR_BODY_CLOSE, 0);
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), WEIR_EFRAMING);
    holder_free(h);
}

static void test_large_head(void **state)
{
    struct weir_message msg;
    struct holder *h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);
    char *value = calloc(1, 30001);

    assert_non_null(value);
    memset(value, 'v', 30000);
    assert_int_equal(weir_message_push(&msg, WEIR_F_OTHER, WEIR_STR("X"), weir_str(value)), 0);
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    assert_int_equal(h->outputs, 1);
    assert_int_equal(h->out_len, 30000 + strlen("GET /x HTTP/1.1\r\nHost: a.test\r\nX: \r\n\r\n"));
    free(value);
    holder_free(h);
}

/* One client connection, used twice, then spoilt by bytes that nobody asked for. */
static void test_reuse(void **state)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    static const char more[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200";
    struct weir_message msg;
    struct holder *h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);

    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    assert_int_equal(feed(h, ok), sizeof(ok) - 1);
    assert_true(weir_hstream_done(&h->hs));
    assert_true(weir_codec_idle(&h->h1.codec));
    assert_int_equal(weir_codec_open(&h->h1.codec, &h->hs), 0);
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    assert_int_equal(feed(h, more), sizeof(more) - 1);
    assert_int_equal(h->ends, 2);
    assert_false(weir_hstream_done(&h->hs));
    holder_free(h);

    h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    assert_int_equal(feed(h, ok), sizeof(ok) - 1);
    assert_true(weir_hstream_done(&h->hs));
    assert_int_equal(feed(h, ok), WEIR_EUPFRAMING); /* idle */
    assert_false(weir_codec_idle(&h->h1.codec));
    assert_int_equal(weir_codec_open(&h->h1.codec, &h->hs), WEIR_ELIMIT);
    holder_free(h);

    h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);
    assert_int_equal(feed(h, ok), WEIR_EUPFRAMING); /* before the request */
    assert_int_equal(h->retry, WEIR_RETRY_UNSENT);
    assert_int_equal(h->heads, 0);
    holder_free(h);

    /* An answer before the request is whole: fine, but the end of one connection. */
    h = client_with(&msg, "POST", WEIR_BODY_LENGTH, 4);
    assert_int_equal(send_text(h, &msg, "ab", 0), 0);
    assert_int_equal(feed(h, ok), sizeof(ok) - 1);
    assert_int_equal(h->ends, 1);
    assert_false(weir_hstream_done(&h->hs));
    holder_free(h);
}

static void test_retry_class(void **state)
{
    struct weir_message msg;
    struct holder *h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);

    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    weir_codec_eof(&h->h1.codec, WEIR_ERESET);
    assert_int_equal(h->reset, WEIR_EUPRESET);
    assert_int_equal(h->reset_by, WEIR_BY_UPSTREAM);
    assert_int_equal(h->retry, WEIR_RETRY_IDEMPOTENT_ONLY);
    holder_free(h);

    h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    assert_true(feed(h, "HTTP/1.1 200 OK\r\n\r\nsome") > 0);
    weir_codec_eof(&h->h1.codec, WEIR_ETRUNCATED); /* no close_notify: not an end */
    assert_int_equal(h->reset, WEIR_EUPBODY);
    assert_int_equal(h->retry, WEIR_RETRY_NO);
    assert_int_equal(h->ends, 0);
    holder_free(h);
}

static void test_half_close(void **state)
{
    struct holder *h = server_with(GET);
    struct weir_message msg = answer(h, 200, WEIR_BODY_NONE, 0);

    weir_codec_eof(&h->h1.codec, WEIR_OK);
    assert_int_equal(h->reset, 0);
    assert_int_equal(weir_hstream_send(h->h1.hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_false(weir_hstream_done(h->h1.hs));
    holder_free(h);

    h = server_with(GET);
    weir_codec_eof(&h->h1.codec, WEIR_ERESET);
    assert_int_equal(h->reset, WEIR_ECLIENTGONE);
    holder_free(h);
}

static void test_back_pressure(void **state)
{
    struct holder *h = server_with("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    char *piece = calloc(1, 40001);

    assert_non_null(piece);
    memset(piece, 'x', 40000);
    h->keep_unread = true;
    assert_int_equal(feed(h, piece), 40000);
    assert_int_equal(h->pauses, 0);
    assert_int_equal(feed(h, piece), 40000);
    assert_int_equal(h->pauses, 1);
    weir_hstream_consume(h->h1.hs, 40000);
    assert_int_equal(h->resumes, 0);
    weir_hstream_consume(h->h1.hs, 10000);
    assert_int_equal(h->resumes, 1);
    weir_hstream_consume(h->h1.hs, 30000);
    weir_hstream_consume(h->h1.hs, 1); /* more than there is: harmless */
    assert_int_equal(h->resumes, 1);
    weir_codec_drained(&h->h1.codec);
    assert_int_equal(h->drained, 1);
    free(piece);
    holder_free(h);
}

/* The holder may end an exchange, and free its arena, inside an event. */
static void test_reset_in_event(void **state)
{
    struct holder *h = holder_new(true);

    h->reset_on_body = true;
    assert_int_equal(feed(h, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
                             "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
                     WEIR_ECANCELED);
    assert_int_equal(h->body, 5);
    assert_int_equal(h->ends, 0);
    assert_int_equal(h->reset, 0);
    holder_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answer_fields),
        cmocka_unit_test(test_pieces_and_trailer),
        cmocka_unit_test(test_framing_is_kept),
        cmocka_unit_test(test_interim),
        cmocka_unit_test(test_tunnels),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_malformed_is_answered),
        cmocka_unit_test(test_refuse_and_shutdown),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_large_head),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_retry_class),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_reset_in_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
