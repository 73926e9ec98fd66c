/* SPDX-License-Identifier: Apache-2.0 */
/** test_tls_owed.c: when the ticket of a server is made, and with what it leaves. */
#include "tls_pair.h"

static struct weir_tls *server_of(struct kit_conn *conn)
{
    return (struct weir_tls *)conn->server.stream;
}

static bool has_ticket(struct kit_conn *conn)
{
    return SSL_SESSION_has_ticket(SSL_get_session(kit_ssl(&conn->client)));
}

/* To where the client's Finished is on the wire, with `text` behind it. Returns its length without. */
static size_t finishing(struct kit_conn *conn, const char *text)
{
    size_t finished;

    start(conn);
    weir_loop_turn(&loop, 0);
    kit_deliver(&conn->down, SIZE_MAX);
    weir_loop_turn(&loop, 0);
    kit_deliver(&conn->up, SIZE_MAX);
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn->client.opened, 1);
    assert_int_equal(conn->server.opened, 0);
    finished = conn->up.out.len;
    if (text)
        assert_int_equal(kit_write(&conn->client, text), 0);
    weir_loop_turn(&loop, 0);
    return finished;
}

/* It is made after the request that came along was handed on, and goes out with the answer. */
static void test_made_while_the_holder_works(void **state)
{
    struct kit_conn conn;

    finishing(&conn, "ping");
    kit_deliver(&conn.down, SIZE_MAX);
    assert_string_equal(conn.server.last, "ping");
    assert_true(server_of(&conn)->ticket_due);
    assert_null(server_of(&conn)->owed);
    weir_loop_turn(&loop, 0);
    assert_false(server_of(&conn)->ticket_due);
    assert_non_null(server_of(&conn)->owed);
    assert_int_equal(conn.down.writes, 1); /* the flight */
    assert_int_equal(kit_write(&conn.server, "pong"), 0);
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.down.writes, 2);
    assert_null(server_of(&conn)->owed);
    kit_conn_run(&conn);
    assert_string_equal(conn.client.last, "pong");
    assert_true(has_ticket(&conn));
    kit_conn_end(&conn);
}

/* An answer that is quicker makes it itself, and there is no second one. */
static void test_made_by_the_first_answer(void **state)
{
    struct kit_conn conn;
    size_t len;

    finishing(&conn, "ping");
    conn.server.answer = "pong";
    kit_deliver(&conn.down, SIZE_MAX);
    assert_false(server_of(&conn)->ticket_due);
    weir_loop_turn(&loop, 0);
    assert_null(server_of(&conn)->owed);
    assert_int_equal(conn.down.writes, 2);
    kit_conn_run(&conn);
    assert_true(has_ticket(&conn));
    assert_int_equal(kit_write(&conn.server, "pong"), 0);
    weir_loop_turn(&loop, 0);
    len = conn.down.out.len;
    assert_int_equal(len, 5 + 4 + 1 + 16);
    kit_conn_end(&conn);
}

/* A client that is quiet gets it as soon as it is seen to be quiet. */
static void test_leaves_alone_when_all_is_quiet(void **state)
{
    struct kit_conn conn;

    finishing(&conn, NULL);
    kit_deliver(&conn.down, SIZE_MAX);
    weir_loop_turn(&loop, 0);
    assert_non_null(server_of(&conn)->owed);
    assert_int_equal(conn.down.writes, 1);
    for (int i = 0; i < 200 && server_of(&conn)->owed; i++)
        weir_loop_turn(&loop, 10); /* the timer ends the wait */
    assert_null(server_of(&conn)->owed);
    assert_int_equal(conn.down.writes, 2);
    kit_conn_run(&conn);
    assert_true(has_ticket(&conn));
    kit_conn_end(&conn);
}

/* To where the ticket of a quiet client has been made and not sent. */
static void owing(struct kit_conn *conn)
{
    finishing(conn, NULL);
    kit_deliver(&conn->down, SIZE_MAX);
    weir_loop_turn(&loop, 0);
    assert_non_null(server_of(conn)->owed);
}

static void test_leaves_with_goodbye_but_not_with_a_reset(void **state)
{
    struct kit_conn conn;

    owing(&conn);
    kit_close(&conn.server);
    assert_int_equal(conn.down.writes, 2);
    kit_conn_run(&conn);
    assert_int_equal(conn.client.eofs, 1);
    assert_true(has_ticket(&conn));
    kit_conn_end(&conn);

    owing(&conn);
    conn.server.reset = true;
    kit_close(&conn.server);
    assert_int_equal(conn.down.writes, 1);
    kit_conn_run(&conn);
    kit_conn_end(&conn);
}

/* Shut down, or closed, before its turn has come. */
static void test_ends_before_it_is_made(void **state)
{
    struct kit_conn conn;

    finishing(&conn, NULL);
    kit_deliver(&conn.down, SIZE_MAX);
    weir_stream_shutdown(conn.server.stream);
    weir_loop_turn(&loop, 0);
    assert_null(server_of(&conn)->owed);
    kit_conn_run(&conn);
    assert_int_equal(conn.client.eofs, 1);
    kit_conn_end(&conn);

    finishing(&conn, NULL);
    kit_deliver(&conn.down, SIZE_MAX);
    kit_close(&conn.server);
    assert_true(weir_list_empty(&loop.heavy));
    kit_conn_end(&conn);
}

/* Who is to move leaves nothing behind, even when he cannot move. */
static void test_leaves_before_a_move(void **state)
{
    struct weir_parcel parcel;
    struct kit_conn conn;

    owing(&conn);
    assert_false(weir_stream_release(conn.server.stream, &parcel)); /* not from this wire */
    assert_null(server_of(&conn)->owed);
    assert_int_equal(conn.down.writes, 2);
    kit_conn_run(&conn);
    assert_true(has_ticket(&conn));
    kit_conn_end(&conn);
}

/* What cannot be sent before a move is told, once, and not in the call. */
static void test_lost_before_a_move(void **state)
{
    struct tls_scratch *scratch;
    struct weir_parcel parcel;
    struct kit_conn conn;

    owing(&conn);
    scratch = tls_bio_enter(server_of(&conn));
    memset(scratch->out, 0, sizeof(scratch->out)); /* as much as there is room for is corked */
    scratch->out_len = sizeof(scratch->out);
    conn.down.no_memory = true;
    assert_false(weir_stream_release(conn.server.stream, &parcel));
    assert_int_equal(conn.server.errors, 0);
    assert_int_equal(kit_write(&conn.server, "pong"), WEIR_ENOMEM);
    weir_loop_turn(&loop, 0);
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.server.errors, 1);
    assert_int_equal(conn.server.err, WEIR_ENOMEM);
    kit_conn_end(&conn);
}

/* Writes, and fails to, before the ticket is made, as when another stream needs the buffer. */
static void on_open_and_lost(void *arg)
{
    struct kit_peer *peer = arg;
    struct weir_tls *tls = (struct weir_tls *)peer->stream;
    struct iovec iov = { (char *)"early", 5 };

    kit_on_open(peer);
    ((struct kit_lower *)tls->lower)->no_memory = true;
    assert_int_equal(weir_stream_write(&tls->stream, &iov, 1), 0);
    tls_bio_uncork(tls);
    tls->ticket_due = true; /* the worst that a later change could do */
}

static void test_lost_at_open(void **state)
{
    struct weir_stream_sink sink = kit_sink;
    struct kit_conn conn;

    sink.on_open = on_open_and_lost;
    finishing(&conn, "ping");
    weir_stream_set_sink(conn.server.stream, &sink, &conn.server);
    kit_deliver(&conn.down, SIZE_MAX);
    weir_loop_turn(&loop, 0);
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.server.opened, 1);
    assert_int_equal(conn.server.errors, 1);
    assert_int_equal(conn.server.err, WEIR_ENOMEM);
    kit_conn_end(&conn);
}

/* Data that was not wanted, and then is, does not wait for the ticket; no event is lost by it. */
static void test_reading_again_comes_first(void **state)
{
    struct kit_conn conn;

    finishing(&conn, "ping");
    conn.server.read_at_open = false;
    kit_deliver(&conn.down, SIZE_MAX);
    assert_int_equal(conn.server.received, 0);
    kit_read(&conn.server, true);
    assert_true(weir_list_empty(&loop.heavy));
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.server.received, 4);
    assert_int_equal(kit_write(&conn.server, "pong"), 0);
    kit_conn_run(&conn);
    assert_true(has_ticket(&conn));
    kit_conn_end(&conn);

    finishing(&conn, "ping"); /* the other way round */
    conn.server.read_at_open = false;
    kit_deliver(&conn.down, SIZE_MAX);
    weir_loop_turn(&loop, 0);
    assert_non_null(server_of(&conn)->owed);
    kit_read(&conn.server, true);
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.server.received, 4);
    kit_conn_end(&conn);
}

/* Making it gives buffers back while any part of the next record is there. */
static void test_made_inside_a_record(void **state)
{
    size_t whole = 5 + 3 + 1 + 16;

    for (int inline_too = 0; inline_too < 2; inline_too++) {
        for (size_t cut = 0; cut < whole; cut++) {
            struct kit_conn conn;
            size_t finished = finishing(&conn, "one");

            if (inline_too)
                conn.server.answer = "first";
            kit_deliver(&conn.down, finished + cut);
            weir_loop_turn(&loop, 0);
            assert_int_equal(conn.server.opened, 1);
            kit_conn_run(&conn);
            assert_int_equal(conn.server.err, 0);
            assert_string_equal(conn.server.last, "one");
            assert_int_equal(kit_write(&conn.server, "last"), 0);
            kit_conn_run(&conn);
            assert_string_equal(conn.client.last, "last");
            assert_true(has_ticket(&conn));
            kit_conn_end(&conn);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_while_the_holder_works),
        cmocka_unit_test(test_made_by_the_first_answer),
        cmocka_unit_test(test_leaves_alone_when_all_is_quiet),
        cmocka_unit_test(test_leaves_with_goodbye_but_not_with_a_reset),
        cmocka_unit_test(test_ends_before_it_is_made),
        cmocka_unit_test(test_leaves_before_a_move),
        cmocka_unit_test(test_lost_before_a_move),
        cmocka_unit_test(test_lost_at_open),
        cmocka_unit_test(test_reading_again_comes_first),
        cmocka_unit_test(test_made_inside_a_record),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
