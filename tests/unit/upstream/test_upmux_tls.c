/* SPDX-License-Identifier: Apache-2.0 */
/** test_upmux_tls.c: what ALPN decides: h2 alone, auto both ways, what is remembered, and a server that changes its mind. */
#include "upmux_kit.h"

static int set_up(void **state)
{
    kit_begin();
    kit.conf.tls_on = true;
    return 0;
}

static void open_all(int protocol, const char *alpn)
{
    h2s_use_tls(server, alpn);
    h2s_start(server);
    kit.conf.protocol = protocol;
    kit_server_port(&kit, server->port);
    begin();
}

/* `count` at once; all are answered. */
static void run(unsigned from, unsigned count)
{
    for (unsigned i = from; i < from + count; i++)
        call_start(&calls[i], view, sv->server, "/");
    for (unsigned i = from; i < from + count; i++) {
        kit_until(&loop, call_done(&calls[i]));
        assert_int_equal(calls[i].status, 200);
        assert_int_equal(calls[i].body, 2);
    }
    weir_loop_turn(&loop, 0);
}

static void h2_by_alpn(void **state)
{
    open_all(WEIR_UPSTREAM_H2, "h2");
    run(0, 20);
    run(20, 1);
    assert_int_equal(atomic_load(&server->accepted), 1);
}

static void h2_or_nothing(void **state)
{
    struct weir_server_status status;

    open_all(WEIR_UPSTREAM_H2, NULL);
    for (unsigned i = 0; i < 5; i++)
        call_start(&calls[i], view, sv->server, "/");
    for (unsigned i = 0; i < 5; i++) {
        kit_until(&loop, call_done(&calls[i]));
        assert_int_equal(calls[i].error.code, WEIR_EUPTLS);
        assert_int_equal(calls[i].error.retry, WEIR_RETRY_UNSENT);
        assert_string_equal(calls[i].error.where, "alpn");
    }
    weir_server_get_status(sv->server, &status);
    assert_non_null(strstr(status.last_fault, "does not speak h2"));
    assert_int_equal(status.failed, 5);
}

static void auto_is_h2(void **state)
{
    open_all(WEIR_UPSTREAM_AUTO, "h2");
    run(0, 20); /* one connects, all others wait to see */
    assert_int_equal(atomic_load(&server->accepted), 1);
    assert_int_equal(sv->speaks, UPSPEAKS_H2);
    run(20, 20);
    assert_int_equal(atomic_load(&server->accepted), 1);
}

static void auto_is_h1(void **state)
{
    open_all(WEIR_UPSTREAM_AUTO, NULL);
    run(0, 10); /* a connection each, or one that was given back meanwhile */
    assert_in_range(atomic_load(&server->accepted), 2, 10);
    assert_int_equal(sv->speaks, UPSPEAKS_H1);
    assert_int_equal(sv->mux_count, 0);
    run(10, 10);
    assert_in_range(atomic_load(&server->accepted), 2, 20);
    run(20, 15); /* known: those beyond the idle ones do not wait for each other */
    assert_int_equal(sv->sharing, 0);
    assert_in_range(atomic_load(&server->accepted), 2, 35);
    assert_int_equal(sv->mux_count, 0);
}

/* Also those that were made for who got another one meanwhile. */
static void purge(void)
{
    kit_until(&loop, (weir_pool_purge(view, sv, true), weir_cluster_view_conns(view) == 0));
}

/* What is known is believed for a time, and until a connection says otherwise. */
static void auto_changes(void **state)
{
    open_all(WEIR_UPSTREAM_AUTO, "h2");
    atomic_store(&server->h1, true);
    run(0, 2);
    assert_int_equal(sv->speaks, UPSPEAKS_H1);
    atomic_store(&server->h1, false);
    purge();
    for (unsigned i = 2; i < 8; i++) /* each connects, and finds h2 */
        call_start(&calls[i], view, sv->server, "/");
    assert_int_equal(sv->connecting, 6);
    for (unsigned i = 2; i < 8; i++)
        kit_until(&loop, call_done(&calls[i]) && calls[i].status == 200);
    assert_int_equal(sv->speaks, UPSPEAKS_H2);
    atomic_store(&server->h1, true);
    kit_turn_ms(&loop, 20);
    purge();
    run(8, 10);
    assert_int_equal(sv->speaks, UPSPEAKS_H1);
    purge();
    sv->learned_ms -= UPMUX_SPEAKS_MS;
    call_start(&calls[20], view, sv->server, "/");
    call_start(&calls[21], view, sv->server, "/");
    assert_int_equal(sv->connecting, 1); /* it is asked anew */
    assert_int_equal(sv->sharing, 1);
    kit_until(&loop, call_done(&calls[20]) && call_done(&calls[21]));
}

static void nobody_waits_for_ever(void **state)
{
    open_all(WEIR_UPSTREAM_AUTO, "h2");
    atomic_store(&server->accept_delay_ms, 300);
    call_opts.connect_timeout_ms = 60;
    for (unsigned i = 0; i < 8; i++) {
        call_start(&calls[i], view, sv->server, "/");
        kit_turn_ms(&loop, 5);
    }
    weir_pool_cancel(&calls[1].acq);
    for (unsigned i = 0; i < 8; i++)
        if (i != 1) {
            kit_until(&loop, call_done(&calls[i]));
            assert_int_equal(calls[i].error.code, WEIR_ECONNTIME);
        }
    assert_int_equal(sv->sharing, 0);
}

static void one_more(unsigned at, bool by_http1)
{
    call_start(&calls[at], view, sv->server, "/");
    kit_until(&loop, calls[at].conn);
    assert_int_equal(calls[at].conn->mux == NULL, by_http1);
    kit_until(&loop, call_done(&calls[at]));
    assert_int_equal(calls[at].status, 200);
    kit_turn_ms(&loop, 10);
}

/* Who needs HTTP/1.1 of a server that chooses HTTP/2 gets a connection that serves nobody else. */
static void http1_beside_h2(void **state)
{
    open_all(WEIR_UPSTREAM_AUTO, "h2");
    server->alpn_http1 = true;
    call_opts.upgrade = true;
    one_more(0, false); /* not known yet */
    assert_true(sv->no_upgrade);
    one_more(1, true);
    call_opts.upgrade = false;
    one_more(2, false);
    call_opts.http1 = true;
    one_more(3, true);
    assert_int_equal(sv->connecting, 0);
    assert_int_equal(sv->speaks, UPSPEAKS_H2);
    assert_int_equal(atomic_load(&server->accepted), 3);
    kit_until(&loop, atomic_load(&server->open) == 1);
    assert_int_equal(weir_cluster_view_conns(view), 1);
}

/* Nobody waits for it, or with it, who could share a connection. */
static void http1_is_not_shared(void **state)
{
    open_all(WEIR_UPSTREAM_AUTO, "h2");
    server->alpn_http1 = true;
    run(0, 1);
    weir_upmux_purge(view, sv, true);
    call_opts.http1 = true;
    call_start(&calls[1], view, sv->server, "/");
    call_start(&calls[2], view, sv->server, "/");
    assert_int_equal(sv->connecting, 0);
    call_opts.http1 = false;
    call_start(&calls[3], view, sv->server, "/");
    assert_int_equal(sv->connecting, 1);
    weir_pool_cancel(&calls[2].acq);
    for (unsigned i = 1; i < 4; i++)
        kit_until(&loop, i == 2 || (call_done(&calls[i]) && calls[i].status == 200));
    kit_until(&loop, weir_cluster_view_conns(view) == 1);
}

/* The slot of an idle connection of HTTP/2 is given up for it. */
static void http1_takes_a_slot(void **state)
{
    kit.conf.connections_max = 1;
    open_all(WEIR_UPSTREAM_AUTO, "h2");
    server->alpn_http1 = true;
    run(0, 1);
    call_opts.http1 = true;
    one_more(1, true);
    call_opts.http1 = false;
    run(2, 1);
    assert_int_equal(atomic_load(&server->accepted), 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(h2_by_alpn),      TEST(h2_or_nothing),       TEST(auto_is_h2),
        TEST(auto_is_h1),      TEST(auto_changes),        TEST(nobody_waits_for_ever),
        TEST(http1_beside_h2), TEST(http1_is_not_shared), TEST(http1_takes_a_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
