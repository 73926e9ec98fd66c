/* SPDX-License-Identifier: Apache-2.0 */
/** Whose DATA goes first (RFC 9218): by the Priority field, by PRIORITY_UPDATE before and after the request begins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_log.h"

enum { PRIORITY_UPDATE = 0x10, STREAMS = 4, BYTES = 40000 };

static char big[BYTES];

static void put_update(struct h2_wire *w, uint32_t id, const char *value)
{
    h2_put_header(w, 4 + strlen(value), PRIORITY_UPDATE, 0, 0);
    h2_put_u32(w, id);
    h2_put(w, value, strlen(value));
}

static void answer_all(struct h2_log *log)
{
    for (unsigned i = 0; i < log->count; i++) {
        struct iovec body = { big, BYTES };
        struct weir_message msg;

        weir_message_init(&msg, &log->exchanges[i].arena, false);
        msg.status = 200;
        msg.body = WEIR_BODY_LENGTH;
        msg.length = BYTES;
        assert_int_equal(
            weir_hstream_send(log->exchanges[i].hs, &msg, &body, 1, NULL, WEIR_SEND_END), 0);
    }
}

/* The streams of the DATA that went out, each once for all its frames in a row. */
static void expect_order(struct h2_log *log, const uint32_t *order)
{
    struct h2_frame frame;
    size_t n = 0;

    for (size_t at = 0; h2_next_frame(&log->out, &at, &frame);)
        if (frame.type == NGHTTP2_DATA) {
            n += frame.id != order[n];
            assert_true(n < STREAMS);
            assert_int_equal(frame.id, order[n]);
        }
    assert_int_equal(n, STREAMS - 1);
}

static void expect_data(void (*build)(struct h2_wire *wire), size_t piece, const uint32_t *order)
{
    struct h2_log *log = h2_log_new(true, NULL, NULL, NULL);
    struct h2_wire wire;

    log->manual = true;
    h2_wire_init(&wire);
    h2_put_preface(&wire);
    build(&wire);
    h2_put_window(&wire, 0, 1 << 20);
    for (size_t at = 0; at < wire.len; at += piece)
        assert_true(
            h2_log_feed(log, wire.data + at, wire.len - at < piece ? wire.len - at : piece) > 0);
    h2_wire_fini(&wire);
    log->out.len = 0;
    log->pending = WEIR_STREAM_HIGH_BYTES;
    answer_all(log);
    log->pending = 0;
    weir_codec_drained(log->codec);
    expect_order(log, order);
    h2_log_free(log);
}

/* Urgent streams first; of one urgency those that are not incremental one after another. */
static void fields(struct h2_wire *w)
{
    h2_put_headers(w, 1, true, H2_GET "priority: u=7\n");
    h2_put_headers(w, 3, true, H2_GET "priority: u=0\n");
    h2_put_headers(w, 5, true, H2_GET "priority: u=0\n");
    h2_put_headers(w, 7, true, H2_GET "priority: u=6\n");
}

static void updates_before(struct h2_wire *w)
{
    put_update(w, 7, "u=1");
    put_update(w, 5, "u=7");
    put_update(w, 5, "u=0, x=\"y\"");
    put_update(w, 1, "u=6;a=b, i=?0");
    put_update(w, 3, "u=5");
    h2_put_headers(w, 1, true, H2_GET "priority: u=0\n"); /* which the frame overrides */
    h2_put_headers(w, 3, true, H2_GET);
    h2_put_headers(w, 5, true, H2_GET);
    h2_put_headers(w, 7, true, H2_GET);
}

static void updates_after(struct h2_wire *w)
{
    for (uint32_t id = 1; id < 8; id += 2)
        h2_put_headers(w, id, true, H2_GET "priority: u=2\n");
    put_update(w, 1, "u=6");
    put_update(w, 3, "u=9, u=x, u"); /* says nothing: the default, 3 */
    put_update(w, 5, "  u=0  ,i=?0");
    put_update(w, 7, "u=5");
}

/* One that is longer than any that makes sense is passed over. */
static void too_long(struct h2_wire *w)
{
    updates_after(w);
    put_update(w, 1, "u=0, x=\"123456789012345678901234567890123456789012345678901234567890\"");
}

static void test_order(void **state)
{
    static const uint32_t by_field[] = { 3, 5, 7, 1 }, before[] = { 5, 7, 3, 1 },
                          after[] = { 5, 3, 7, 1 };

    for (size_t piece = 1; piece < 8; piece++) {
        expect_data(fields, piece, by_field);
        expect_data(updates_before, piece, before);
        expect_data(updates_after, piece, after);
        expect_data(too_long, piece, after);
    }
    expect_data(updates_before, SIZE_MAX / 2, before);
}

/* A client that prioritises each of its requests, before it sends it: nghttp2 by itself would write to freed memory. */
static void test_each_request(void **state)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    h2_wire_init(&wire);
    for (uint32_t id = 1; id < 2 * 300; id += 2) {
        put_update(&wire, id, "u=1");
        h2_put_headers(&wire, id, true, H2_GET);
        log->out.len = 0;
        assert_true(h2_log_feed_wire(log, &wire) > 0);
        assert_int_equal(h2_count_frames(&log->out, NGHTTP2_DATA, id, NULL), 1);
        assert_true(weir_codec_idle(log->codec));
        if (log->count == H2_LOG_EXCHANGES) { /* the log's room is used again */
            for (unsigned i = 0; i < log->count; i++) {
                weir_arena_fini(&log->exchanges[i].arena);
                free(log->exchanges[i].text);
            }
            log->count = 0;
        }
    }
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void expect_goaway(const char *payload, size_t len, uint32_t code)
{
    struct h2_log *log = h2_server_new(NULL);
    struct h2_wire wire;

    h2_wire_init(&wire);
    h2_put_frame(&wire, PRIORITY_UPDATE, 0, 0, payload, len);
    assert_int_equal(h2_log_feed_wire(log, &wire), WEIR_EBADFRAME);
    assert_int_equal(h2_goaway_code(log), code);
    h2_wire_fini(&wire);
    h2_log_free(log);
}

static void test_faults(void **state)
{
    expect_goaway("", 0, NGHTTP2_FRAME_SIZE_ERROR);
    expect_goaway("\0\0\0", 3, NGHTTP2_FRAME_SIZE_ERROR);
    expect_goaway("\0\0\0\0u=1", 7, NGHTTP2_PROTOCOL_ERROR);
    expect_goaway("\0\0\0\2u=1", 7, NGHTTP2_PROTOCOL_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_each_request),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
