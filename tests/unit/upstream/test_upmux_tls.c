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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(h2_by_alpn), TEST(h2_or_nothing), TEST(auto_is_h2),
        TEST(auto_is_h1), TEST(auto_changes),  TEST(nobody_waits_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
