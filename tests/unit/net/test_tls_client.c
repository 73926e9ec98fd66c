/* SPDX-License-Identifier: Apache-2.0 */
/** test_tls_client.c: who is believed, by which name; sessions; real sockets; moving between loops.
 */
#include "tls_kit.h"

#include "net/listener.h"
#include "net/tcp.h"

#include <errno.h>
#include <sys/socket.h>

static struct weir_loop loop, other;
static struct weir_tls_server *policy;
static const char *ca_pem, *server_pem, *stranger_pem;

static int setup(void **state)
{
    struct kit_cert ca;

    kit_dir_make(state);
    ca = kit_cert("ca", NULL, false, 30, NULL);
    ca_pem = strdup(kit_path("ca.pem"));
    kit_save(&ca, ca_pem, kit_path("ca.key"));
    server_pem = strdup(
        kit_pem("s.pem", "cn.test", "DNS:a.test,DNS:*.w.test,IP:127.0.0.1,IP:::1", false, 30, &ca));
    stranger_pem = strdup(kit_pem("x.pem", "x.test", "DNS:a.test", false, 30, NULL));
    kit_cert_free(&ca);
    policy = kit_server((struct weir_tls_server_conf){ .tickets = true }, server_pem, NULL, NULL);
    return weir_loop_init(&loop, 0, NULL) || weir_loop_init(&other, 1, NULL);
}

static int teardown(void **state)
{
    weir_loop_fini(&loop);
    weir_loop_fini(&other);
    weir_tls_server_put(policy);
    free((char *)ca_pem);
    free((char *)server_pem);
    free((char *)stranger_pem);
    return kit_dir_drop(state);
}

static enum weir_err attempt(struct weir_tls_client *client, struct weir_tls_server *server,
                             const char *name, const char *sni)
{
    struct kit_conn conn;
    enum weir_err err;

    kit_conn_start(&conn, &loop, server, client, name, NULL);
    assert_non_null(conn.client.stream);
    kit_conn_run(&conn);
    err = conn.client.err;
    assert_int_equal(conn.client.opened, err == 0);
    if (!err) {
        if (sni)
            assert_string_equal(conn.server.info.sni.ptr, sni);
        else
            assert_null(conn.server.info.sni.ptr);
    } else {
        assert_int_equal(conn.server.opened, 0);
        assert_int_equal(conn.server.err, WEIR_ETLS);
    }
    kit_conn_end(&conn);
    return err;
}

static void test_names(void **state)
{
    struct weir_tls_client *client =
        kit_client((struct weir_tls_client_conf){ .verify = true, .ca = weir_str(ca_pem) });

    assert_int_equal(attempt(client, policy, "a.test", "a.test"), 0);
    assert_int_equal(attempt(client, policy, "A.TEST", "A.TEST"), 0);
    assert_int_equal(attempt(client, policy, "x.w.test", "x.w.test"), 0);
    assert_int_equal(attempt(client, policy, "127.0.0.1", NULL), 0);
    assert_int_equal(attempt(client, policy, "::1", NULL), 0);
    assert_int_equal(attempt(client, policy, "127.0.0.2", NULL), WEIR_EUPVERIFY);
    assert_int_equal(attempt(client, policy, "b.test", NULL), WEIR_EUPVERIFY);
    assert_int_equal(attempt(client, policy, "w.test", NULL), WEIR_EUPVERIFY);
    assert_int_equal(attempt(client, policy, "x.y.w.test", NULL), WEIR_EUPVERIFY);
    assert_int_equal(attempt(client, policy, "cn.test", NULL), WEIR_EUPVERIFY); /* SANs count */
    weir_tls_client_put(client);
}

static void test_sni_of_the_configuration(void **state)
{
    struct weir_tls_client *client = kit_client((struct weir_tls_client_conf){
        .verify = true, .ca = weir_str(ca_pem), .sni = WEIR_STR("a.test") });

    assert_int_equal(attempt(client, policy, "10.0.0.1", "a.test"), 0);
    assert_int_equal(attempt(client, policy, NULL, "a.test"), 0);
    weir_tls_client_put(client);
}

static void test_who_is_not_believed(void **state)
{
    struct weir_tls_server *stranger =
        kit_server((struct weir_tls_server_conf){ 0 }, stranger_pem, NULL, NULL);
    struct weir_tls_client *strict =
        kit_client((struct weir_tls_client_conf){ .verify = true, .ca = weir_str(ca_pem) });
    struct weir_tls_client *system = kit_client((struct weir_tls_client_conf){ .verify = true });
    struct weir_tls_client *lax = kit_client((struct weir_tls_client_conf){ .verify = false });
    struct weir_tls_client *new_only =
        kit_client((struct weir_tls_client_conf){ .verify = false, .min_version = WEIR_TLS_1_3 });

    assert_int_equal(attempt(strict, stranger, "a.test", NULL), WEIR_EUPVERIFY);
    assert_int_equal(attempt(system, policy, "a.test", NULL), WEIR_EUPVERIFY);
    assert_int_equal(attempt(lax, stranger, "b.test", "b.test"), 0);
    assert_int_equal(attempt(lax, stranger, NULL, NULL), 0);
    assert_int_equal(attempt(new_only, stranger, NULL, NULL), 0);
    weir_tls_client_put(strict);
    weir_tls_client_put(system);
    weir_tls_client_put(lax);
    weir_tls_client_put(new_only);
    weir_tls_server_put(stranger);
}

static void test_no_name_no_connection(void **state)
{
    struct weir_tls_client *client =
        kit_client((struct weir_tls_client_conf){ .verify = true, .ca = weir_str(ca_pem) });
    char longest[400];
    struct kit_conn conn;

    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    for (int i = 0; i < 2; i++) {
        kit_conn_start(&conn, &loop, policy, client, i ? longest : NULL, NULL);
        assert_null(conn.client.stream);
        assert_int_equal(conn.sys, EINVAL);
        assert_true(conn.up.closing);
        kit_conn_end(&conn);
    }
    weir_tls_client_put(client);
}

static void test_faults(void **state)
{
    struct weir_tls_client_conf confs[] = {
        { .verify = true, .ca = WEIR_STR("/no/ca.pem") },
        { .cert = WEIR_STR("/no/c.pem") },
        { .cert = weir_str(server_pem), .key = weir_str(stranger_pem) },
        { .sni = { "a\0b", 3 } },
    };
    static const char *const words[] = { "/no/ca.pem", "/no/c.pem", "does not fit", "sni" };

    for (size_t i = 0; i < sizeof(confs) / sizeof(confs[0]); i++) {
        struct weir_tls_fault fault;

        assert_null(weir_tls_client_new(&confs[i], &fault));
        if (!strstr(fault.text, words[i]))
            fail_msg("'%s' lacks '%s'", fault.text, words[i]);
    }
}

/* Plain HTTP, or nothing, from an upstream that should speak TLS. */
static void test_upstream_without_tls(void **state)
{
    struct weir_tls_client *client = kit_client((struct weir_tls_client_conf){ .verify = false });

    for (int silent = 0; silent < 2; silent++) {
        struct kit_peer peer = { .read_at_open = true };
        struct kit_lower down, up;
        struct weir_stream *lower = &up.stream;
        int sys;

        kit_wire(&down, &up, &loop);
        down.stream.sink = &kit_sink;
        peer.stream =
            weir_tls_connect_over(client, &lower, WEIR_STR("a.test"), NULL, &kit_sink, &peer, &sys);
        assert_non_null(peer.stream);
        if (!silent)
            assert_int_equal(weir_buf_append(&down.out, "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 0);
        down.fin = true;
        kit_run(&down, &up, SIZE_MAX);
        assert_int_equal(peer.err, WEIR_EUPTLS);
        kit_close(&peer);
        kit_run(&down, &up, SIZE_MAX);
        weir_loop_turn(&loop, 0);
        assert_int_equal(peer.closed, 1);
        kit_wire_drop(&down, &up);
    }
    weir_tls_client_put(client);
}

static void test_sessions_are_used_once(void **state)
{
    struct weir_tls_client *client =
        kit_client((struct weir_tls_client_conf){ .verify = true, .ca = weir_str(ca_pem) });
    struct weir_tls_sessions *sessions = weir_tls_sessions_new();
    struct kit_conn conns[3];

    kit_conn_start(&conns[0], &loop, policy, client, "a.test", sessions);
    conns[0].server.answer = "pong";
    kit_conn_run(&conns[0]);
    kit_write(&conns[0].client, "ping");
    kit_conn_run(&conns[0]);
    kit_conn_end(&conns[0]);
    for (int i = 1; i < 3; i++) /* both at once: one ticket is there */
        kit_conn_start(&conns[i], &loop, policy, client, "a.test", sessions);
    weir_tls_sessions_free(sessions); /* the streams hold it */
    for (int i = 1; i < 3; i++) {
        kit_conn_run(&conns[i]);
        assert_int_equal(conns[i].client.info.resumed, i == 1);
        kit_write(&conns[i].server, "x"); /* with a ticket */
        kit_conn_run(&conns[i]);
        kit_conn_end(&conns[i]);
    }
    weir_tls_client_put(client);
}

/* ---- real sockets ---- */

struct acceptor {
    struct weir_lsock lsock;
    struct kit_peer *peer;
};

static void on_accept(struct weir_lsock *lsock, int fd, const struct sockaddr *from, socklen_t len)
{
    struct acceptor *acceptor = weir_container(lsock, struct acceptor, lsock);
    struct weir_stream *lower;

    (void)from;
    (void)len;
    lower = weir_tcp_adopt(lsock->loop, fd, &kit_sink, NULL);
    assert_non_null(lower);
    acceptor->peer->stream = weir_tls_accept(policy, &lower, &kit_sink, acceptor->peer);
    assert_non_null(acceptor->peer->stream);
}

static void on_accept_fail(struct weir_lsock *lsock, int sys)
{
    (void)lsock;
    fail_msg("accept: %s", strerror(sys));
}

#define RUN_UNTIL(cond)                                         \
    do {                                                        \
        for (int turn_ = 0; turn_ < 5000 && !(cond); turn_++) { \
            weir_loop_turn(&loop, 1);                           \
            weir_loop_turn(&other, 0);                          \
        }                                                       \
        assert_true(cond);                                      \
    } while (0)

static int listen_here(struct acceptor *acceptor, struct weir_addr *addr)
{
    struct weir_listen_opts opts = { .backlog = 16 };
    socklen_t len = sizeof(*addr) - offsetof(struct weir_addr, sa);

    assert_int_equal(weir_addr_parse(addr, WEIR_STR("127.0.0.1:0")), 0);
    acceptor->lsock.fd = weir_listen_open(addr, &opts);
    assert_true(acceptor->lsock.fd >= 0);
    acceptor->lsock.on_accept = on_accept;
    acceptor->lsock.on_fail = on_accept_fail;
    acceptor->lsock.loop = &loop;
    assert_int_equal(getsockname(acceptor->lsock.fd, &addr->sa, &len), 0);
    addr->len = len;
    return weir_listen_serve(&loop, &acceptor->lsock, true);
}

static void test_sockets_and_parcels(void **state)
{
    struct weir_tls_client *client =
        kit_client((struct weir_tls_client_conf){ .verify = true, .ca = weir_str(ca_pem) });
    struct kit_peer server = { .read_at_open = true }, up = { .read_at_open = true };
    struct acceptor acceptor = { .peer = &server };
    struct weir_parcel parcel;
    struct weir_addr addr;
    int sys;

    assert_int_equal(listen_here(&acceptor, &addr), 0);
    up.stream = weir_tls_connect(client, &loop, &addr, NULL, WEIR_STR("127.0.0.1"), NULL, &kit_sink,
                                 &up, &sys);
    assert_non_null(up.stream);
    RUN_UNTIL(up.opened && server.opened);
    server.answer = "pong";
    assert_int_equal(kit_write(&up, "ping"), 0);
    RUN_UNTIL(up.received == 4);
    /* the client side goes to another loop and keeps its keys */
    assert_true(weir_stream_release(up.stream, &parcel));
    up.stream = NULL;
    RUN_UNTIL(up.closed);
    up = (struct kit_peer){ 0 };
    up.stream = weir_parcel_adopt(&parcel, &other, &kit_sink, &up);
    assert_non_null(up.stream);
    assert_string_equal(weir_stream_tls(up.stream)->version.ptr, "TLSv1.3");
    weir_stream_read(up.stream, true);
    assert_int_equal(kit_write(&up, "ping"), 0);
    RUN_UNTIL(up.received == 4);
    assert_int_equal(server.received, 8);
    /* the server side as well, and is then dropped */
    assert_true(weir_stream_release(server.stream, &parcel));
    server.stream = NULL;
    RUN_UNTIL(server.closed);
    weir_parcel_drop(&parcel);
    RUN_UNTIL(up.errors || up.eofs);
    assert_int_equal(up.err, WEIR_ETRUNCATED);
    kit_close(&up);
    RUN_UNTIL(up.closed);
    weir_listen_serve(&loop, &acceptor.lsock, false);
    close(acceptor.lsock.fd);
    weir_tls_client_put(client);
}

/* More than the kernel takes: pending, drained, all of it there. */
static void test_back_pressure_over_sockets(void **state)
{
    struct weir_tls_client *client = kit_client((struct weir_tls_client_conf){ .verify = false });
    struct kit_peer server = { .read_at_open = true }, up = { .read_at_open = false };
    struct acceptor acceptor = { .peer = &server };
    static uint8_t data[200000];
    struct iovec iov = { data, sizeof(data) };
    size_t total = 0;
    struct weir_addr addr;
    int sys;

    assert_int_equal(listen_here(&acceptor, &addr), 0);
    up.stream =
        weir_tls_connect(client, &loop, &addr, NULL, WEIR_STR("a"), NULL, &kit_sink, &up, &sys);
    RUN_UNTIL(up.opened && server.opened);
    for (int i = 0; i < 400 && weir_stream_pending(server.stream) < WEIR_STREAM_HIGH_BYTES; i++) {
        assert_int_equal(weir_stream_write(server.stream, &iov, 1), 0);
        total += sizeof(data);
    }
    assert_true(weir_stream_pending(server.stream) >= WEIR_STREAM_HIGH_BYTES);
    kit_read(&up, true);
    RUN_UNTIL(server.drained && up.received == total);
    weir_stream_shutdown(server.stream);
    weir_stream_shutdown(up.stream);
    RUN_UNTIL(server.eofs && up.eofs);
    kit_close(&server);
    kit_close(&up);
    RUN_UNTIL(server.closed && up.closed);
    weir_listen_serve(&loop, &acceptor.lsock, false);
    close(acceptor.lsock.fd);
    weir_tls_client_put(client);
}

static void test_connection_refused(void **state)
{
    struct weir_tls_client *client = kit_client((struct weir_tls_client_conf){ .verify = false });
    struct kit_peer up = { 0 };
    struct weir_addr addr;
    int sys;

    assert_int_equal(weir_addr_parse(&addr, WEIR_STR("127.0.0.1:1")), 0);
    up.stream =
        weir_tls_connect(client, &loop, &addr, NULL, WEIR_STR("a"), NULL, &kit_sink, &up, &sys);
    if (up.stream) {
        RUN_UNTIL(up.errors);
        assert_int_equal(up.err, WEIR_ECONNREFUSED);
        kit_close(&up);
        RUN_UNTIL(up.closed);
    }
    weir_tls_client_put(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_sni_of_the_configuration),
        cmocka_unit_test(test_who_is_not_believed),
        cmocka_unit_test(test_no_name_no_connection),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_upstream_without_tls),
        cmocka_unit_test(test_sessions_are_used_once),
        cmocka_unit_test(test_sockets_and_parcels),
        cmocka_unit_test(test_back_pressure_over_sockets),
        cmocka_unit_test(test_connection_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
