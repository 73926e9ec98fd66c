/* SPDX-License-Identifier: Apache-2.0 */
/** test_tls_hostile.c: the TLS stream against what a hostile peer sends: broken records, hellos that never end, floods. */
#include "tls_pair.h"

/* The server against bytes; returns the error, 0 when it waits for more. */
static enum weir_err feed(const void *data, size_t len, size_t chunk, bool fin)
{
    struct kit_conn conn;
    enum weir_err err;

    kit_conn_start(&conn, &loop, policy, NULL, NULL, NULL);
    assert_int_equal(weir_buf_append(&conn.up.out, data, len), 0);
    conn.up.fin = fin;
    conn.up.closing = true;
    kit_run(&conn.down, &conn.up, chunk);
    err = conn.server.err;
    assert_int_equal(conn.server.opened, 0);
    kit_conn_end(&conn);
    return err;
}

static size_t hello(uint8_t *out, size_t max)
{
    struct kit_conn conn;
    struct iovec iov;
    size_t len;

    start(&conn);
    weir_loop_turn(&loop, 0);
    assert_int_equal(weir_buf_peek(&conn.up.out, 0, &iov, 1), 1);
    len = iov.iov_len;
    assert_true(len > 100 && len < max);
    memcpy(out, iov.iov_base, len);
    kit_conn_end(&conn);
    return len;
}

static void test_hello_cut_at_every_byte(void **state)
{
    uint8_t data[2048];
    size_t len = hello(data, sizeof(data));

    for (size_t i = 0; i < len; i++) {
        assert_int_equal(feed(data, i, SIZE_MAX, true), WEIR_ECLOSED);
        assert_int_equal(feed(data, i, SIZE_MAX, false), 0);
    }
}

static void test_hello_with_every_byte_broken(void **state)
{
    uint8_t data[2048], broken[2048];
    size_t len = hello(data, sizeof(data));

    for (size_t i = 0; i < len; i++) {
        enum weir_err err;

        memcpy(broken, data, len);
        broken[i] ^= 0x55;
        err = feed(broken, len, SIZE_MAX, true);
        assert_true(err == WEIR_ETLS || err == WEIR_ECLOSED); /* many bytes mean nothing */
    }
}

static void test_garbage(void **state)
{
    uint8_t data[4096];
    unsigned seed = 1;
    const char http[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    assert_int_equal(feed(http, sizeof(http) - 1, SIZE_MAX, false), WEIR_ETLS);
    assert_int_equal(feed(http, sizeof(http) - 1, 1, true), WEIR_ETLS);
    for (int round = 0; round < 300; round++) {
        enum weir_err err;

        for (size_t i = 0; i < sizeof(data); i++)
            data[i] = (uint8_t)(rand_r(&seed) >> 8);
        if (round % 2)
            memcpy(data, "\x16\x03\x01", 3);
        err = feed(data, sizeof(data), round % 3 ? SIZE_MAX : 100, true);
        assert_true(err == WEIR_ETLS || err == WEIR_ECLOSED);
    }
}

static void test_records_that_are_too_long(void **state)
{
    static uint8_t data[70000] = { 0x16, 3, 1, 0xff, 0xff };

    assert_int_equal(feed(data, sizeof(data), SIZE_MAX, false), WEIR_ETLS);
}

/* A hello that never ends, in whole records: the list of a handshake message has a bound. */
static void test_endless_hello(void **state)
{
    static uint8_t data[300000];
    size_t at = 0;

    while (at + 1029 < sizeof(data)) {
        memcpy(data + at, "\x16\x03\x01\x04\x00", 5);
        memset(data + at + 5, 0, 1024);
        if (at == 0)
            memcpy(data + 5, "\x01\xff\xff\xff", 4);
        at += 1029;
    }
    assert_int_equal(feed(data, at, SIZE_MAX, false), WEIR_ETLS);
}

static void test_held_bytes_are_bounded(void **state)
{
    static uint8_t data[300000];
    struct kit_conn conn;

    for (size_t at = 0; at + 1029 < sizeof(data); at += 1029)
        memcpy(data + at, "\x17\x03\x01\x04\x00", 5);
    kit_conn_start(&conn, &loop, policy, NULL, NULL, NULL);
    assert_int_equal(weir_buf_append(&conn.up.out, data, sizeof(data)), 0);
    conn.up.closing = true;
    for (int i = 0; i < 100; i++) /* no turn of the loop: no step is taken */
        kit_deliver(&conn.down, 10000);
    assert_true(((struct weir_tls *)conn.server.stream)->held.len <= TLS_HELD_BYTES_MAX + 10000);
    kit_conn_end(&conn);
}

static void test_flood_of_key_updates(void **state)
{
    for (int spread = 0; spread < 2; spread++) {
        struct kit_conn conn;
        int i;

        opened(&conn);
        for (i = 0; i < 1000 && !conn.server.errors; i++) {
            struct weir_tls *tls = (struct weir_tls *)conn.client.stream;
            struct tls_scratch *scratch = tls_bio_enter(tls);

            assert_int_equal(SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
            assert_int_equal(SSL_do_handshake(tls->ssl), 1);
            assert_int_equal(tls_bio_flush(tls, scratch), 0);
            if (spread)
                kit_conn_run(&conn);
        }
        kit_conn_run(&conn);
        assert_int_equal(conn.server.err, WEIR_ETLS);
        if (spread)
            assert_true(i > TLS_MESSAGES_MAX && i < TLS_MESSAGES_MAX + 5);
        kit_conn_end(&conn);
    }
}

static void test_key_updates_with_data_go_on(void **state)
{
    struct kit_conn conn;

    opened(&conn);
    for (int i = 0; i < 200; i++) {
        struct weir_tls *tls = (struct weir_tls *)conn.client.stream;

        assert_int_equal(SSL_key_update(tls->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(kit_write(&conn.client, "ping"), 0);
        kit_conn_run(&conn);
        assert_int_equal(kit_write(&conn.server, "pong"), 0);
        kit_conn_run(&conn);
    }
    assert_int_equal(conn.server.errors, 0);
    assert_int_equal(conn.server.received, 800);
    assert_int_equal(conn.client.received, 800);
    kit_conn_end(&conn);
}

static void test_renegotiation_is_refused(void **state)
{
    struct weir_tls *tls;
    struct tls_scratch *scratch;
    struct kit_conn conn;

    start_12(&conn);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.opened, 1);
    tls = (struct weir_tls *)conn.client.stream;
    SSL_clear_options(tls->ssl, SSL_OP_NO_RENEGOTIATION);
    scratch = tls_bio_enter(tls);
    assert_int_equal(SSL_renegotiate(tls->ssl), 1);
    SSL_do_handshake(tls->ssl);
    assert_true(scratch->out_len > 100); /* a second hello */
    assert_int_equal(tls_bio_flush(tls, scratch), 0);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.opened, 1);
    assert_int_equal(SSL_num_renegotiations(kit_ssl(&conn.server)), 0);
    assert_int_equal(((struct weir_tls *)conn.server.stream)->messages, 1); /* a flood would end */
    kit_conn_end(&conn);
}

static void test_broken_record_after_the_handshake(void **state)
{
    struct kit_conn conn;

    opened(&conn);
    weir_stream_shutdown(conn.server.stream); /* an alert has nowhere to go now */
    assert_int_equal(weir_buf_append(&conn.up.out,
                                     "\x17\x03\x03\x00\x20"
                                     "0123456789abcdef0123456789abcdef",
                                     37),
                     0);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.err, WEIR_ETLS);
    kit_conn_end(&conn);
}

/* A fatal alert is an error, not an end: here the client refuses what the server sent. */
static void test_fatal_alert_is_no_end(void **state)
{
    struct kit_conn conn;

    for (int version = 0; version < 2; version++) {
        (version ? start_12 : start)(&conn);
        kit_conn_run(&conn);
        assert_int_equal(weir_buf_append(&conn.down.out,
                                         "\x17\x03\x03\x00\x20"
                                         "0123456789abcdef0123456789abcdef",
                                         37),
                         0);
        kit_conn_run(&conn);
        assert_int_equal(conn.client.err, WEIR_EUPTLS);
        assert_int_equal(conn.server.err, WEIR_ETLS);
        assert_int_equal(conn.server.eofs, 0);
        kit_conn_end(&conn);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_cut_at_every_byte),
        cmocka_unit_test(test_hello_with_every_byte_broken),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_records_that_are_too_long),
        cmocka_unit_test(test_endless_hello),
        cmocka_unit_test(test_held_bytes_are_bounded),
        cmocka_unit_test(test_flood_of_key_updates),
        cmocka_unit_test(test_key_updates_with_data_go_on),
        cmocka_unit_test(test_renegotiation_is_refused),
        cmocka_unit_test(test_broken_record_after_the_handshake),
        cmocka_unit_test(test_fatal_alert_is_no_end),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
