/* SPDX-License-Identifier: Apache-2.0 */
/** The client's side: requests, when the connection may be used again, what may be sent again; and how much may be unread. */
#include "h1_send_kit.h"

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

    h = client_with(&msg, "POST", WEIR_BODY_NONE, 0); /* its client has said so by END_STREAM */
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h, "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    holder_free(h);

    h = client_with(&msg, "DELETE", WEIR_BODY_NONE, 0);
    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h, "DELETE /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
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
    char *piece = calloc(1, 10001);

    assert_non_null(piece);
    memset(piece, 'x', 10000);
    for (int i = 0; i < 10; i++) /* taken at once */
        assert_int_equal(feed(h, piece), 10000);
    assert_int_equal(h->pauses, 0);
    h->keep_unread = true;
    assert_int_equal(feed(h, piece), 10000);
    assert_int_equal(h->pauses, 0);
    assert_int_equal(feed(h, piece), 10000);
    assert_int_equal(h->pauses, 1);
    weir_hstream_consume(h->h1.hs, 10000);
    assert_int_equal(h->resumes, 0);
    weir_hstream_consume(h->h1.hs, 2000);
    assert_int_equal(h->resumes, 1);
    weir_hstream_consume(h->h1.hs, 8000);
    weir_hstream_consume(h->h1.hs, 1); /* more than there is: harmless */
    assert_int_equal(h->resumes, 1);
    weir_codec_drained(&h->h1.codec);
    assert_int_equal(h->drained, 1);
    free(piece);
    holder_free(h);
}

/* While memory is short whatever is unread pauses, until it is read or memory is there again; and nothing else does. */
static void test_hold(void **state)
{
    struct holder *h = server_with("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");

    h->keep_unread = true;
    weir_hstream_hold(h->h1.hs, true);
    assert_int_equal(h->pauses, 0);
    assert_int_equal(feed(h, "abc"), 3);
    assert_int_equal(h->pauses, 0);
    weir_hstream_hold(h->h1.hs, true);
    weir_hstream_hold(h->h1.hs, true);
    assert_int_equal(h->pauses, 1);
    weir_hstream_consume(h->h1.hs, 3);
    assert_int_equal(h->resumes, 1);
    assert_int_equal(feed(h, "def"), 3);
    weir_hstream_hold(h->h1.hs, true);
    weir_hstream_hold(h->h1.hs, false);
    assert_int_equal(h->pauses, 2);
    assert_int_equal(h->resumes, 2);
    assert_int_equal(feed(h, "ghij"), 4); /* whole: the connection has nothing more of it */
    weir_hstream_hold(h->h1.hs, true);
    assert_int_equal(h->pauses, 2);
    holder_free(h);

    h = server_with("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    h->keep_unread = true;
    for (int i = 0; i < WEIR_STREAM_HIGH_BYTES; i += 8)
        assert_int_equal(feed(h, "01234567"), 8);
    assert_int_equal(h->pauses, 1);
    weir_hstream_hold(h->h1.hs, true);
    weir_hstream_hold(h->h1.hs, false); /* it is full, memory or not */
    assert_int_equal(h->pauses, 1);
    assert_int_equal(h->resumes, 0);
    holder_free(h);
}

/* What the holder can pass on is what is read at once: never less than a piece, and all again for the next exchange. */
static void test_pace(void **state)
{
    struct weir_message msg;
    struct holder *h = client_with(&msg, "GET", WEIR_BODY_NONE, 0);

    assert_int_equal(weir_hstream_send(&h->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    weir_hstream_pace(&h->hs, WEIR_READ_BUFFER_BYTES);
    assert_int_equal(h->pace, 0); /* as it is */
    weir_hstream_pace(&h->hs, 40 * 1024 + 1000);
    assert_int_equal(h->pace, 40 * 1024);
    weir_hstream_pace(&h->hs, 0);
    assert_int_equal(h->pace, WEIR_PIECE_BYTES_MIN);
    assert_int_equal(weir_hstream_room(&h->hs), WEIR_READ_BUFFER_BYTES);
    assert_true(feed(h, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") > 0);
    assert_true(weir_hstream_done(&h->hs));
    assert_int_equal(h->pace, WEIR_READ_BUFFER_BYTES);
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
        cmocka_unit_test(test_requests),       cmocka_unit_test(test_large_head),
        cmocka_unit_test(test_reuse),          cmocka_unit_test(test_retry_class),
        cmocka_unit_test(test_half_close),     cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_hold),           cmocka_unit_test(test_pace),
        cmocka_unit_test(test_reset_in_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
