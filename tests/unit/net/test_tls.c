/* SPDX-License-Identifier: Apache-2.0 */
/** test_tls.c: the TLS stream: handshakes cut anywhere, data, back-pressure, every ending. */
#include "tls_pair.h"

#include <malloc.h>

static void test_handshake_and_data_at_any_cut(void **state)
{
    static const size_t chunks[] = { 1, 2, 5, 6, 7, 100, 1000, SIZE_MAX };

    for (size_t version = 0; version < 2; version++) {
        for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
            struct kit_conn conn;

            (version ? start_12 : start)(&conn);
            kit_run(&conn.down, &conn.up, chunks[i]);
            assert_int_equal(conn.server.opened, 1);
            assert_int_equal(conn.client.opened, 1);
            assert_string_equal(conn.server.info.version.ptr, version ? "TLSv1.2" : "TLSv1.3");
            assert_string_equal(conn.server.info.sni.ptr, "a.test");
            assert_null(conn.server.info.alpn.ptr);
            conn.server.answer = "pong";
            assert_int_equal(kit_write(&conn.client, "ping"), 0);
            kit_run(&conn.down, &conn.up, chunks[i]);
            assert_string_equal(conn.server.last, "ping");
            assert_string_equal(conn.client.last, "pong");
            kit_conn_end(&conn);
        }
    }
}

static void test_bulk_arrives_whole(void **state)
{
    size_t len = 900 * 1000;
    uint8_t *data = malloc(len);
    struct kit_conn conn;
    struct iovec iov[3];
    uint64_t hash;

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 31 + (i >> 8));
    hash = kit_hash(0, data, len);
    for (size_t cut = 0; cut < 40000; cut += 7919) {
        opened(&conn);
        iov[0] = (struct iovec){ data, cut };
        iov[1] = (struct iovec){ data + cut, 100000 };
        iov[2] = (struct iovec){ data + cut + 100000, len - cut - 100000 };
        assert_int_equal(weir_stream_write(conn.client.stream, iov, 3), 0);
        kit_run(&conn.down, &conn.up, cut % 2 ? 30000 : SIZE_MAX);
        assert_int_equal(conn.server.received, len);
        assert_true(conn.server.hash == hash);
        kit_conn_end(&conn);
    }
    free(data);
}

static void test_small_pieces_are_one_record_and_one_write(void **state)
{
    struct iovec iov[3] = { { (void *)"HTTP/1.1 200 OK\r\n", 17 },
                            { (void *)"\r\n", 2 },
                            { (void *)"hello", 5 } };
    struct kit_conn conn;
    unsigned writes;
    size_t before;

    opened(&conn);
    assert_int_equal(kit_write(&conn.server, "x"), 0); /* the ticket goes along */
    assert_int_equal(conn.down.writes, 1);             /* the flight */
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.down.writes, 2); /* and this */
    kit_conn_run(&conn);
    writes = conn.down.writes;
    before = conn.client.received;
    assert_int_equal(weir_stream_write(conn.server.stream, iov, 3), 0);
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.down.writes, writes + 1);
    assert_int_equal(conn.down.out.len, 5 + 24 + 1 + 16);
    kit_conn_run(&conn);
    assert_int_equal(conn.client.received, before + 24);
    kit_conn_end(&conn);
}

/* Writes, and tells the plaintext of each record that came of it; how many there are. */
static unsigned records_of(struct kit_conn *conn, size_t len, uint16_t *bytes, unsigned max)
{
    static char data[100 * 1024];
    struct iovec iov = { data, len };
    size_t at = 0;
    unsigned n = 0;

    assert_int_equal(conn->down.out.len, 0);
    assert_int_equal(weir_stream_write(conn->server.stream, &iov, 1), 0);
    weir_loop_turn(&loop, 0);
    while (at < conn->down.out.len) {
        uint8_t header[5];

        for (size_t i = 0; i < sizeof(header); i++) {
            struct iovec byte;

            assert_true(weir_buf_peek(&conn->down.out, at + i, &byte, 1) > 0);
            header[i] = *(uint8_t *)byte.iov_base;
        }
        assert_true(n < max);
        bytes[n] = (uint16_t)(header[3] << 8 | header[4]);
        at += sizeof(header) + bytes[n];
        bytes[n++] -= 1 + 16;
    }
    kit_conn_run(conn);
    return n;
}

/* What a client can read of the first flight is not in a record that needs the second; what flows is in large ones. */
static void test_records_grow(void **state)
{
    enum { MAX = 100 };
    uint16_t bytes[MAX] = { 0 };
    struct kit_conn conn;
    unsigned n, small;

    opened(&conn);
    assert_int_equal(kit_write(&conn.server, "x"), 0);
    kit_conn_run(&conn);
    for (int i = 0; i < 2; i++) {
        n = records_of(&conn, 100 * 1024, bytes, MAX);
        for (small = 0; small < n && bytes[small] <= TLS_SEGMENT_BYTES; small++)
            ;
        assert_in_range(small, TLS_START_BYTES / TLS_SEGMENT_BYTES, 32);
        assert_int_equal(n - small, (100 * 1024 - TLS_START_BYTES) / TLS_RECORD_BYTES + 1);
        assert_int_equal(bytes[n - 2], TLS_RECORD_BYTES);
        assert_int_equal(records_of(&conn, TLS_RECORD_BYTES, bytes, MAX), 1);
        ((struct weir_tls *)conn.server.stream)->wrote_ms -= TLS_PAUSE_MS;
    }
    kit_conn_end(&conn);
}

/* The first answer gives buffers back while any part of the next record is there. */
static void test_first_answer_inside_a_record(void **state)
{
    size_t whole = 6;

    for (size_t cut = 0; cut < whole; cut++) {
        struct kit_conn conn;
        size_t first;

        opened(&conn);
        assert_int_equal(kit_write(&conn.client, "one"), 0);
        weir_loop_turn(&loop, 0);
        first = conn.up.out.len;
        assert_int_equal(kit_write(&conn.client, "two"), 0);
        weir_loop_turn(&loop, 0);
        whole = conn.up.out.len - first;
        assert_true(kit_deliver(&conn.down, first + cut));
        assert_string_equal(conn.server.last, "one");
        assert_int_equal(kit_write(&conn.server, "first"), 0);
        kit_conn_run(&conn);
        assert_int_equal(conn.server.err, 0);
        assert_int_equal(conn.server.received, 6);
        assert_int_equal(conn.client.received, 5);
        kit_conn_end(&conn);
    }
}

/* What is written in one turn leaves at its end, at a close, or when another stream works. */
static void test_writes_of_a_turn_are_one(void **state)
{
    struct kit_conn conn, other;
    unsigned writes;

    opened(&conn);
    opened(&other);
    writes = conn.down.writes;
    assert_int_equal(kit_write(&conn.server, "a"), 0);
    assert_int_equal(kit_write(&conn.server, "b"), 0);
    assert_int_equal(conn.down.writes, writes);
    assert_int_equal(kit_write(&other.server, "c"), 0);
    assert_int_equal(conn.down.writes, writes + 1);
    kit_conn_run(&conn);
    kit_conn_run(&other);
    assert_int_equal(conn.client.received, 2);
    assert_int_equal(other.client.received, 1);
    assert_int_equal(kit_write(&conn.server, "d"), 0);
    kit_close(&conn.server);
    assert_int_equal(conn.down.writes, writes + 2); /* with close_notify */
    kit_conn_run(&conn);
    assert_int_equal(conn.client.received, 3);
    assert_int_equal(conn.client.eofs, 1);
    assert_int_equal(conn.client.err, 0);
    kit_conn_end(&conn);
    kit_conn_end(&other);
}

static void test_64k_is_one_write_and_one_on_data(void **state)
{
    static uint8_t data[64 * 1024];
    struct iovec iov = { data, sizeof(data) };
    struct kit_conn conn;
    unsigned writes;

    opened(&conn);
    assert_int_equal(kit_write(&conn.server, "x"), 0);
    kit_conn_run(&conn);
    writes = conn.down.writes;
    conn.client.calls = 0;
    assert_int_equal(weir_stream_write(conn.server.stream, &iov, 1), 0);
    assert_int_equal(conn.down.writes, writes + 1);
    kit_conn_run(&conn);
    assert_int_equal(conn.client.received, 1 + sizeof(data));
    assert_true(conn.client.calls <= 2); /* the wire hands over 64 KiB at a time */
    kit_conn_end(&conn);
}

static void test_reading_stops_in_a_batch(void **state)
{
    static uint8_t data[150 * 1000];
    struct iovec iov = { data, sizeof(data) };
    struct kit_conn conn;
    size_t seen = 0;

    opened(&conn);
    conn.server.stop_in_data = true;
    assert_int_equal(weir_stream_write(conn.client.stream, &iov, 1), 0);
    weir_stream_shutdown(conn.client.stream);
    kit_conn_run(&conn);
    for (int i = 0; i < 100 && !conn.server.eofs; i++) {
        assert_true(conn.server.calls <= i + 1);
        assert_int_equal(conn.down.reading, false);
        seen = conn.server.received;
        kit_read(&conn.server, true);
        assert_int_equal(conn.server.received, seen); /* never inside the call */
        kit_conn_run(&conn);
    }
    assert_int_equal(conn.server.received, sizeof(data));
    assert_int_equal(conn.server.eofs, 1);
    kit_conn_end(&conn);
}

static void test_nothing_comes_before_reading_is_asked_for(void **state)
{
    struct kit_conn conn;

    start(&conn);
    conn.server.read_at_open = false;
    kit_conn_run(&conn);
    assert_int_equal(kit_write(&conn.client, "early"), 0);
    weir_stream_close(weir_take(&conn.client.stream), false);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.received, 0);
    assert_int_equal(conn.server.eofs, 0);
    kit_read(&conn.server, true);
    kit_conn_run(&conn);
    assert_string_equal(conn.server.last, "early");
    assert_int_equal(conn.server.eofs, 1);
    kit_conn_end(&conn);
}

static void test_half_close(void **state)
{
    struct kit_conn conn;

    opened(&conn);
    weir_stream_shutdown(conn.client.stream);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.eofs, 1);
    assert_int_equal(conn.server.errors, 0);
    assert_int_equal(kit_write(&conn.server, "still here"), 0);
    assert_int_equal(kit_write(&conn.client, "too late"), WEIR_EINVAL);
    kit_conn_run(&conn);
    assert_string_equal(conn.client.last, "still here");
    weir_stream_shutdown(conn.server.stream);
    kit_conn_run(&conn);
    assert_int_equal(conn.client.eofs, 1);
    kit_conn_end(&conn);
}

static void test_fin_alone_is_a_truncation(void **state)
{
    struct kit_conn conn;

    opened(&conn);
    assert_int_equal(kit_write(&conn.client, "half"), 0);
    weir_loop_turn(&loop, 0);
    conn.up.fin = true;
    kit_conn_run(&conn);
    assert_string_equal(conn.server.last, "half");
    assert_int_equal(conn.server.eofs, 0);
    assert_int_equal(conn.server.errors, 1);
    assert_int_equal(conn.server.err, WEIR_ETRUNCATED);
    kit_close(&conn.server);
    kit_conn_run(&conn);
    conn.client.stream = NULL; /* its lower end was shut behind its back: drop it by hand below */
    assert_int_equal(conn.server.closed, 1);
    {
        struct weir_tls *tls = conn.up.stream.arg;

        conn.up.fin = false;
        weir_stream_close(&tls->stream, true);
        for (int i = 0; i < 3; i++)
            weir_loop_turn(&loop, 0);
    }
    kit_wire_drop(&conn.down, &conn.up);
}

static void test_reset_is_told(void **state)
{
    struct kit_conn conn;

    opened(&conn);
    conn.client.reset = true;
    kit_close(&conn.client);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.errors, 1);
    assert_int_equal(conn.server.err, WEIR_ERESET);
    kit_conn_end(&conn);
}

static void test_close_says_goodbye(void **state)
{
    struct kit_conn conn;

    opened(&conn);
    kit_close(&conn.client);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.eofs, 1);
    kit_conn_end(&conn);
}

static void test_close_inside_every_event(void **state)
{
    static const enum kit_event events[] = { KIT_OPEN, KIT_DATA, KIT_EOF, KIT_DRAINED, KIT_ERROR };

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        for (int reset = 0; reset < 2; reset++) {
            struct kit_conn conn;

            start(&conn);
            conn.server.close_in = events[i];
            conn.server.reset = reset;
            kit_conn_run(&conn);
            if (conn.client.stream && conn.client.opened) {
                if (!conn.down.closing && conn.server.opened)
                    conn.down.stream.sink->on_drained(conn.down.stream.arg);
                kit_write(&conn.client, "one");
                kit_write(&conn.client, "two");
                kit_conn_run(&conn);
                if (events[i] == KIT_ERROR)
                    conn.client.reset = true;
                kit_close(&conn.client);
                kit_conn_run(&conn);
            }
            assert_null(conn.server.stream);
            assert_int_equal(conn.server.closed, 1);
            kit_conn_end(&conn);
        }
    }
}

/* ---- our own troubles ---- */

static void test_no_memory_below(void **state)
{
    struct kit_conn conn;

    start(&conn);
    conn.down.no_memory = true;
    kit_conn_run(&conn);
    assert_int_equal(conn.server.err, WEIR_ENOMEM);
    kit_conn_end(&conn);
    opened(&conn);
    conn.down.no_memory = true;
    assert_int_equal(kit_write(&conn.server, "x"), 0);
    assert_int_equal(conn.server.err, 0); /* never inside the call */
    weir_loop_turn(&loop, 0);
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.server.err, WEIR_ENOMEM);
    assert_int_equal(kit_write(&conn.server, "x"), 0); /* taken and dropped */
    kit_conn_end(&conn);
    opened(&conn);
    conn.down.no_memory = true;
    SSL_key_update(kit_ssl(&conn.client), SSL_KEY_UPDATE_REQUESTED);
    kit_write(&conn.client, "x");
    kit_conn_run(&conn);
    conn.down.no_memory = true;
    kit_conn_end(&conn);
}

static void test_handshakes_take_turns(void **state)
{
    enum { COUNT = 8 };
    struct kit_conn conns[COUNT];
    int flights;

    for (int i = 0; i < COUNT; i++)
        start(&conns[i]);
    weir_loop_turn(&loop, 0); /* the hellos are out */
    for (int i = 0; i < COUNT; i++) {
        kit_deliver(&conns[i].down, 50); /* half a hello takes no turn */
        assert_true(weir_list_empty(&loop.heavy) || i == 0);
    }
    assert_true(weir_list_empty(&loop.heavy));
    for (int i = 0; i < COUNT; i++)
        kit_deliver(&conns[i].down, SIZE_MAX);
    for (int turn = 1; turn <= COUNT; turn++) {
        weir_loop_turn(&loop, 0);
        flights = 0;
        for (int i = 0; i < COUNT; i++)
            flights += (int)conns[i].down.writes;
        assert_true(flights >= turn && flights <= COUNT); /* as many as there is time for */
    }
    for (int i = 0; i < COUNT; i++) {
        kit_conn_run(&conns[i]);
        assert_int_equal(conns[i].server.opened, 1);
        kit_conn_end(&conns[i]);
    }
}

/* Time passes between the server's flight and the client's answer: that is the way there and back. */
static void test_the_way_is_timed(void **state)
{
    enum { AWAY_MS = 40, MUCH = 60 * 1000 };
    struct kit_conn conn;

    start(&conn);
    while (!conn.up.out.len) /* hello */
        weir_loop_turn(&loop, 0);
    kit_deliver(&conn.down, SIZE_MAX);
    while (!conn.down.out.len) /* the server's flight */
        weir_loop_turn(&loop, 0);
    kit_deliver(&conn.up, SIZE_MAX);
    while (!conn.up.out.len) /* what finishes it */
        weir_loop_turn(&loop, 0);
    loop.now_ms += AWAY_MS;
    kit_deliver(&conn.down, SIZE_MAX);
    loop.now_ms -= AWAY_MS;
    kit_conn_run(&conn);
    assert_in_range(conn.server.info.rtt_ms, AWAY_MS + 1, MUCH);
    assert_in_range(conn.client.info.rtt_ms, 1, MUCH);
    kit_conn_end(&conn);
}

static void test_close_while_a_step_waits(void **state)
{
    struct kit_conn conn;

    start(&conn);
    weir_loop_turn(&loop, 0);
    kit_deliver(&conn.down, SIZE_MAX);
    assert_false(weir_list_empty(&loop.heavy));
    kit_close(&conn.server);
    assert_true(weir_list_empty(&loop.heavy));
    kit_conn_end(&conn);
}

static void test_idle_holds_no_buffer(void **state)
{
    struct weir_tls *tls;
    struct kit_conn conn;
    size_t used;

    opened(&conn);
    conn.server.answer = "pong";
    kit_write(&conn.client, "ping");
    kit_conn_run(&conn);
    tls = (struct weir_tls *)conn.server.stream;
    assert_null(tls->held.first);
    assert_false(SSL_has_pending(tls->ssl));
    used = mallinfo2().uordblks;
    SSL_free_buffers(tls->ssl);
    assert_int_equal(mallinfo2().uordblks, used); /* it had none */
    kit_conn_end(&conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_and_data_at_any_cut),
        cmocka_unit_test(test_bulk_arrives_whole),
        cmocka_unit_test(test_small_pieces_are_one_record_and_one_write),
        cmocka_unit_test(test_records_grow),
        cmocka_unit_test(test_first_answer_inside_a_record),
        cmocka_unit_test(test_writes_of_a_turn_are_one),
        cmocka_unit_test(test_64k_is_one_write_and_one_on_data),
        cmocka_unit_test(test_reading_stops_in_a_batch),
        cmocka_unit_test(test_nothing_comes_before_reading_is_asked_for),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_fin_alone_is_a_truncation),
        cmocka_unit_test(test_reset_is_told),
        cmocka_unit_test(test_close_says_goodbye),
        cmocka_unit_test(test_close_inside_every_event),
        cmocka_unit_test(test_no_memory_below),
        cmocka_unit_test(test_handshakes_take_turns),
        cmocka_unit_test(test_the_way_is_timed),
        cmocka_unit_test(test_close_while_a_step_waits),
        cmocka_unit_test(test_idle_holds_no_buffer),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
