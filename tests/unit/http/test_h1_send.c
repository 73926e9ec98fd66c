/* SPDX-License-Identifier: Apache-2.0 */
/** What a server puts onto the wire, and when the connection may be used again. */
#include "h1_send_kit.h"

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

/* Fields whose text lies together go out as the model has them, however they were spaced. */
static void test_fields_as_received(void **state)
{
    static const char text[] = "A: 1\r\nB:2\r\nC:  3\r\nD:\t4\r\nE: \r\nF;:5";
    static const struct {
        size_t name, value, len;
    } at[] = {
        { 0, 3, 1 }, { 6, 8, 1 }, { 11, 15, 1 }, { 18, 21, 1 }, { 24, 27, 0 }, { 29, 32, 1 }
    };
    struct holder *h = server_with("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    struct weir_message msg = answer(h, 200, WEIR_BODY_NONE, 0);

    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
        assert_int_equal(weir_message_push(&msg, WEIR_F_OTHER,
                                           (struct weir_str){ text + at[i].name, 1 },
                                           (struct weir_str){ text + at[i].value, at[i].len }),
                         0);
    assert_int_equal(weir_hstream_send(h->h1.hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
    expect_out(h, "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: \r\nF: 5\r\n\r\n");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answer_fields),
        cmocka_unit_test(test_fields_as_received),
        cmocka_unit_test(test_pieces_and_trailer),
        cmocka_unit_test(test_framing_is_kept),
        cmocka_unit_test(test_interim),
        cmocka_unit_test(test_tunnels),
        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_malformed_is_answered),
        cmocka_unit_test(test_refuse_and_shutdown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
