/* SPDX-License-Identifier: Apache-2.0 */
/** test_upmux.c: many exchanges on one connection to a server, and when it is another: room, GOAWAY, refusals, ends, time,
 * connections_max. */
#include "upmux_kit.h"

#include <netinet/tcp.h>

static int set_up(void **state)
{
    kit_begin();
    kit.conf.protocol = WEIR_UPSTREAM_H2;
    return 0;
}

static void open_all(void)
{
    h2s_start(server);
    kit_server_port(&kit, server->port);
    begin();
}

static void start(unsigned from, unsigned count, const char *path)
{
    for (unsigned i = from; i < from + count; i++)
        call_start(&calls[i], view, sv->server, path);
}

static unsigned done(unsigned from, unsigned count)
{
    unsigned n = 0;

    for (unsigned i = from; i < from + count; i++)
        n += call_done(&calls[i]);
    return n;
}

static unsigned good(unsigned from, unsigned count)
{
    unsigned n = 0;

    for (unsigned i = from; i < from + count; i++)
        n += calls[i].ends == 1 && calls[i].status == 200 && calls[i].body == 2;
    return n;
}

static struct weir_upmux *first(void)
{
    assert_false(weir_list_empty(&sv->muxes));
    return weir_list_entry(sv->muxes.next, struct weir_upmux, link);
}

/* Its timer, as if `ms` had gone by without a sound. */
static void age(struct weir_upmux *mux, uint64_t ms)
{
    mux->born_ms -= ms;
    mux->busy_since_ms -= ms;
    mux->idle_since_ms -= ms;
    mux->pinged_ms -= mux->pinged_ms ? ms : 0;
    mux->h2->alive_ms -= ms;
    mux->h2->spoke_ms -= mux->h2->spoke_ms ? ms : 0;
    if (weir_timer_armed(&mux->timer))
        weir_loop_timer(&loop, &mux->timer, 1, mux->timer.fn, mux->timer.arg);
}

static uint64_t read_counter(const weir_counter *counter)
{
    return weir_counter_read(counter);
}

/* --- sharing --- */

static void many_share_one(void **state)
{
    open_all();
    start(0, 50, "/");
    kit_until(&loop, done(0, 50) == 50);
    assert_int_equal(good(0, 50), 50);
    assert_int_equal(atomic_load(&server->accepted), 1);
    assert_int_equal(sv->mux_count, 1);
    assert_int_equal(read_counter(&sv->opened), 1);
    assert_int_equal(read_counter(&sv->requests_new), 1);
    assert_int_equal(read_counter(&sv->requests_reused), 49);
    assert_int_equal(read_counter(&sv->active), 0);
    assert_int_equal(read_counter(&sv->idle_count), 1);
    assert_int_equal(read_counter(&sv->waiting_count), 0);
    assert_false(calls[0].reused);
    assert_true(calls[1].reused);
    call_run(&calls[50], view, sv->server, "/");
    assert_true(calls[50].reused);
    assert_int_equal(calls[50].fns, 0); /* at once */
    assert_int_equal(atomic_load(&server->accepted), 1);
}

static void a_slow_one_holds_nobody_back(void **state)
{
    open_all();
    start(0, 1, "/hang");
    start(1, 20, "/");
    kit_until(&loop, done(1, 20) == 20);
    assert_int_equal(good(1, 20), 20);
    assert_false(call_done(&calls[0]));
    assert_int_equal(read_counter(&sv->active), 1);
    assert_int_equal(atomic_load(&server->accepted), 1);
    atomic_store(&server->go, true);
    kit_until(&loop, call_done(&calls[0]));
    assert_int_equal(good(0, 1), 1);
}

static void a_cancelled_exchange_leaves_the_others(void **state)
{
    open_all();
    start(0, 2, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 2);
    weir_pool_release(&calls[0].conn);
    assert_int_equal(read_counter(&sv->active), 1);
    atomic_store(&server->go, true);
    kit_until(&loop, call_done(&calls[1]));
    assert_int_equal(good(1, 1), 1);
    assert_int_equal(calls[0].resets + calls[0].ends, 0);
}

static void cancelled_acquires(void **state)
{
    open_all();
    start(0, 3, "/");
    weir_pool_cancel(&calls[0].acq); /* it was to make the connection */
    weir_pool_cancel(&calls[2].acq);
    kit_until(&loop, call_done(&calls[1]));
    assert_int_equal(good(1, 1), 1);
    assert_int_equal(atomic_load(&server->accepted), 1);
    start(3, 1, "/hang");
    call_opts.fresh = true;
    age(first(), 5000);
    start(4, 2, "/"); /* a connection of their own */
    weir_pool_cancel(&calls[4].acq);
    weir_pool_cancel(&calls[5].acq);
    kit_until(&loop, sv->mux_count == 2);
    atomic_store(&server->go, true);
    kit_until(&loop, call_done(&calls[3]));
}

/* --- room --- */

static void another_when_full(void **state)
{
    atomic_store(&server->max_streams, 4);
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    start(1, 10, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 11);
    assert_int_equal(atomic_load(&server->accepted), 3);
    assert_int_equal(sv->mux_count, 3);
    atomic_store(&server->go, true);
    kit_until(&loop, done(1, 10) == 10);
    assert_int_equal(good(1, 10), 10);
    start(11, 1, "/"); /* the first is filled first */
    assert_ptr_equal(calls[11].conn->mux, first());
    kit_until(&loop, call_done(&calls[11]));
}

/* More were sent before SETTINGS came: those beyond are refused, and say so. */
static void settings_take_room_away(void **state)
{
    atomic_store(&server->max_streams, 10);
    open_all();
    start(0, 60, "/");
    kit_until(&loop, done(0, 60) == 60);
    for (unsigned i = 0; i < 60; i++)
        if (calls[i].resets) {
            assert_int_equal(calls[i].error.retry, WEIR_RETRY_UNPROCESSED);
            assert_int_equal(calls[i].error.code, WEIR_EUPREFUSED);
        }
    assert_int_equal(sv->mux_room, 10);
    start(60, 25, "/");
    kit_until(&loop, done(60, 25) == 25);
    assert_int_equal(good(60, 25), 25);
    assert_in_range(atomic_load(&server->accepted), 1, 6); /* not one each */
}

static void one_exchange_a_connection(void **state)
{
    atomic_store(&server->max_streams, 1);
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    start(1, 8, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 9);
    assert_int_equal(atomic_load(&server->accepted), 8);
    atomic_store(&server->go, true);
    kit_until(&loop, done(1, 8) == 8);
    assert_int_equal(good(1, 8), 8);
}

static void as_many_connections_as_make_sense(void **state)
{
    atomic_store(&server->max_streams, 1);
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    start(1, 100, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 65);
    kit_turn_ms(&loop, 50);
    assert_int_equal(atomic_load(&server->accepted), UPMUX_MAX);
    assert_int_equal(sv->queued, 100 - UPMUX_MAX);
    atomic_store(&server->go, true);
    kit_until(&loop, done(1, 100) == 100);
    assert_int_equal(good(1, 100), 100);
    assert_int_equal(atomic_load(&server->accepted), UPMUX_MAX);
}

/* MAX_CONCURRENT_STREAMS 0: for a while none are allowed. More connections would be no help, and none is opened. */
static void no_room_at_all(void **state)
{
    open_all();
    atomic_store(&server->max_streams, 0);
    call_run(&calls[0], view, sv->server, "/"); /* sent before SETTINGS came: refused */
    call_opts.queue_timeout_ms = 30;
    start(1, 50, "/");
    kit_until(&loop, done(1, 50) == 50);
    for (unsigned i = 1; i < 51; i++)
        assert_int_equal(calls[i].error.code, WEIR_EQUEUE);
    assert_int_equal(atomic_load(&server->accepted), 1);
    call_opts.queue_timeout_ms = 0;
    start(51, 50, "/");
    kit_turn_ms(&loop, 20);
    assert_int_equal(sv->queued, 50);
    atomic_store(&server->max_streams, 100);
    atomic_fetch_add(&server->goaways, 1); /* the next one allows them */
    kit_until(&loop, done(51, 50) == 50);
    assert_int_equal(good(51, 50), 50);
    assert_int_equal(sv->mux_room, 100);
    assert_int_equal(atomic_load(&server->accepted), 2);
}

static void connections_max(void **state)
{
    atomic_store(&server->max_streams, 4);
    kit.conf.connections_max = 1;
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    start(1, 10, "/");
    kit_until(&loop, done(1, 10) == 10);
    assert_int_equal(good(1, 10), 10);
    assert_int_equal(atomic_load(&server->accepted), 1);
    call_opts.queue_timeout_ms = 30;
    start(11, 4, "/hang");
    start(15, 1, "/");
    kit_until(&loop, call_done(&calls[15]));
    assert_int_equal(calls[15].error.code, WEIR_EQUEUE);
    atomic_store(&server->go, true);
    kit_until(&loop, done(11, 4) == 4);
}

/* --- ends --- */

static void refused_streams(void **state)
{
    open_all();
    start(0, 1, "/hang");
    call_run(&calls[1], view, sv->server, "/refuse");
    assert_int_equal(calls[1].resets, 1);
    assert_int_equal(calls[1].error.code, WEIR_EUPREFUSED);
    assert_int_equal(calls[1].error.retry, WEIR_RETRY_UNPROCESSED);
    call_run(&calls[2], view, sv->server, "/");
    assert_int_equal(good(2, 1), 1);
    assert_int_equal(atomic_load(&server->accepted), 1);
    atomic_store(&server->go, true);
    kit_until(&loop, call_done(&calls[0]));
}

static void goaway_lets_the_rest_end(void **state)
{
    open_all();
    start(0, 3, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 3);
    start(3, 1, "/goaway");
    kit_until(&loop, call_done(&calls[3]));
    assert_int_equal(calls[3].resets, 1);
    assert_int_equal(calls[3].error.retry, WEIR_RETRY_UNPROCESSED);
    assert_int_equal(done(0, 3), 0);
    assert_int_equal(sv->mux_count, 0); /* retired */
    call_run(&calls[4], view, sv->server, "/");
    assert_int_equal(good(4, 1), 1);
    assert_int_equal(atomic_load(&server->accepted), 2);
    assert_int_equal(view->muxes.used, 2);
    atomic_store(&server->go, true);
    kit_until(&loop, done(0, 3) == 3);
    assert_int_equal(good(0, 3), 3);
    kit_until(&loop, view->muxes.used == 1);
    kit_until(&loop, atomic_load(&server->open) == 1);
}

static void goaway_while_idle(void **state)
{
    open_all();
    call_run(&calls[0], view, sv->server, "/last");
    assert_int_equal(good(0, 1), 1);
    kit_until(&loop, view->muxes.used == 0);
    call_run(&calls[1], view, sv->server, "/");
    assert_int_equal(good(1, 1), 1);
    atomic_fetch_add(&server->goaways, 1);
    kit_until(&loop, view->muxes.used == 0);
    kit_until(&loop, atomic_load(&server->open) == 0);
}

static void the_server_closes(void **state)
{
    static const char *const how[] = { "/fin", "/rst" };

    open_all();
    for (unsigned i = 0; i < 2; i++) {
        unsigned at = i * 10;

        start(at, 4, "/hang");
        start(at + 4, 1, how[i]);
        kit_until(&loop, done(at, 5) == 5);
        for (unsigned n = at; n < at + 5; n++) {
            assert_int_equal(calls[n].resets, 1);
            assert_int_equal(calls[n].error.retry, WEIR_RETRY_IDEMPOTENT_ONLY);
            assert_true(calls[n].error.code == WEIR_EUPCLOSED ||
                        calls[n].error.code == WEIR_EUPRESET);
        }
        kit_until(&loop, view->muxes.used == 0);
    }
    call_run(&calls[30], view, sv->server, "/");
    assert_int_equal(good(30, 1), 1);
    assert_int_equal(read_counter(&sv->active), 0);
}

/* A holder that keeps its exchange after the end of the connection: the codec stays for it. */
static void a_lease_outlives_its_connection(void **state)
{
    open_all();
    start(0, 1, "/hang");
    calls[0].keep = true;
    start(1, 1, "/rst");
    kit_until(&loop, done(0, 2) == 2);
    kit_turn_ms(&loop, 20);
    assert_int_equal(view->muxes.used, 1);
    assert_non_null(calls[0].conn);
    weir_pool_release(&calls[0].conn);
    assert_int_equal(view->muxes.used, 0);
}

static void started_in_an_event(void **state)
{
    open_all();
    calls[0].next = &calls[1];
    calls[1].path = "/last";
    calls[1].next = &calls[2];
    calls[2].path = "/";
    start(0, 1, "/");
    kit_until(&loop, call_done(&calls[2]));
    assert_int_equal(good(0, 3), 3);
}

static void nobody_listens(void **state)
{
    h2s_start(server);
    kit_server(&kit, "127.0.0.1:1");
    begin();
    start(0, 20, "/");
    kit_until(&loop, done(0, 20) == 20);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(calls[i].error.code, WEIR_ECONNREFUSED);
        assert_int_equal(calls[i].error.retry, WEIR_RETRY_UNSENT);
    }
    assert_int_equal(sv->sharing + sv->connecting, 0);
}

/* --- time --- */

static void idle_ones_close(void **state)
{
    kit.conf.pool.idle_timeout_ms = 50;
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    assert_int_equal(view->muxes.used, 1);
    kit_until(&loop, view->muxes.used == 0);
    assert_int_equal(read_counter(&sv->idle_count), 0);
    kit_until(&loop, atomic_load(&server->open) == 0);
}

static void spare_ones_close_early(void **state)
{
    atomic_store(&server->max_streams, 2);
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    start(1, 6, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 7);
    atomic_store(&server->go, true);
    kit_until(&loop, done(1, 6) == 6);
    assert_int_equal(sv->mux_count, 3);
    weir_list_each(pos, tmp, &sv->muxes)
        age(weir_list_entry(pos, struct weir_upmux, link), UPMUX_SPARE_MS);
    kit_until(&loop, sv->mux_count == 1);
    kit_turn_ms(&loop, 20);
    assert_int_equal(sv->mux_count, 1);
}

static void requests_max(void **state)
{
    kit.conf.pool.requests_max = 3;
    open_all();
    for (unsigned i = 0; i < 7; i++)
        call_run(&calls[i], view, sv->server, "/");
    assert_int_equal(good(0, 7), 7);
    assert_int_equal(atomic_load(&server->accepted), 3);
    kit_until(&loop, atomic_load(&server->open) == 1);
}

static void age_max(void **state)
{
    kit.conf.pool.age_max_ms = 60;
    open_all();
    start(0, 1, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 1);
    kit_until(&loop, sv->mux_count == 0);
    assert_false(call_done(&calls[0]));
    atomic_store(&server->go, true);
    kit_until(&loop, view->muxes.used == 0);
    assert_int_equal(good(0, 1), 1);
}

static void a_quiet_server_is_asked(void **state)
{
    open_all();
    start(0, 1, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 1);
    kit_turn_ms(&loop, 20);
    age(first(), UPMUX_QUIET_MS);
    kit_until(&loop, atomic_load(&server->pings) == 1);
    kit_turn_ms(&loop, 20);
    age(first(), UPMUX_QUIET_MS / 2);
    kit_turn_ms(&loop, 20);
    assert_int_equal(atomic_load(&server->pings), 1); /* it has answered: heard of 5 s ago */
    assert_int_equal(done(0, 1), 0);
    atomic_store(&server->go, true);
    kit_until(&loop, call_done(&calls[0]));
}

/* A stream may be silent for hours, and servers of gRPC end a connection that asks all the time. */
static void a_quiet_server_is_asked_once(void **state)
{
    atomic_store(&server->strict, true);
    open_all();
    start(0, 2, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 2);
    for (int i = 0; i < 8; i++) {
        age(first(), UPMUX_QUIET_MS);
        kit_turn_ms(&loop, 20);
    }
    assert_int_equal(atomic_load(&server->pings), 1);
    call_run(&calls[2], view, sv->server, "/"); /* once more, now that it has said something */
    for (int i = 0; i < 4; i++) {
        age(first(), UPMUX_QUIET_MS);
        kit_turn_ms(&loop, 20);
    }
    assert_int_equal(atomic_load(&server->pings), 2);
    age(first(), UPMUX_ASK_MS);
    kit_until(&loop, atomic_load(&server->pings) == 3);
    assert_int_equal(done(0, 2), 0);
    atomic_store(&server->go, true);
    kit_until(&loop, done(0, 2) == 2);
    assert_int_equal(good(0, 2), 2);
    assert_int_equal(atomic_load(&server->accepted), 1);
}

static int option_of(const struct weir_upmux *mux, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(weir_stream_fd(mux->stream), level, name, &value, &len), 0);
    return value;
}

/* Where the program is not asked its host is. */
static void tcp_asks_the_host(void **state)
{
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    assert_int_equal(option_of(first(), SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option_of(first(), IPPROTO_TCP, TCP_KEEPIDLE), UPMUX_QUIET_MS / 1000);
    assert_int_equal(option_of(first(), IPPROTO_TCP, TCP_USER_TIMEOUT), 2 * UPMUX_QUIET_MS);
}

static void a_dead_server_is_given_up(void **state)
{
    open_all();
    start(0, 3, "/hang");
    start(3, 1, "/mute");
    kit_until(&loop, atomic_load(&server->requests) == 4);
    kit_turn_ms(&loop, 20);
    age(first(), UPMUX_QUIET_MS);
    kit_turn_ms(&loop, 30);
    assert_int_equal(done(0, 4), 0);
    age(first(), UPMUX_QUIET_MS);
    kit_until(&loop, done(0, 4) == 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(calls[i].error.code, WEIR_EUPTIME);
    kit_until(&loop, view->muxes.used == 0);
}

/* --- what changes --- */

static void a_drained_server(void **state)
{
    open_all();
    start(0, 2, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 2);
    assert_int_equal(
        weir_cluster_set_state(kit.cluster, sv->server->conf->address, WEIR_SERVER_DRAIN), 0);
    kit_until(&loop, sv->mux_count == 0);
    assert_int_equal(done(0, 2), 0);
    assert_int_equal(view->muxes.used, 1);
    atomic_store(&server->go, true);
    kit_until(&loop, view->muxes.used == 0);
    assert_int_equal(good(0, 2), 2);
}

static void a_closing_view(void **state)
{
    open_all();
    start(0, 2, "/hang");
    kit_until(&loop, atomic_load(&server->requests) == 2);
    weir_cluster_view_close(view);
    kit_turn_ms(&loop, 20);
    assert_int_equal(done(0, 2), 0);
    call_run(&calls[2], view, sv->server, "/"); /* what goes on still finds a connection */
    assert_int_equal(good(2, 1), 1);
    atomic_store(&server->go, true);
    kit_until(&loop, weir_cluster_view_conns(view) == 0);
    assert_int_equal(good(0, 2), 2);
}

static void memory_is_short(void **state)
{
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    weir_cluster_view_shed(view, 5);
    kit_until(&loop, view->muxes.used == 0);
    assert_int_equal(read_counter(&sv->idle_count), 0);
}

/* The request was on one that had died: not on another that has idled as long. */
static void fresh(void **state)
{
    open_all();
    call_run(&calls[0], view, sv->server, "/");
    call_opts.fresh = true;
    call_run(&calls[1], view, sv->server, "/"); /* it is young */
    assert_int_equal(atomic_load(&server->accepted), 1);
    age(first(), UPMUX_FRESH_MS);
    start(2, 30, "/");
    kit_until(&loop, done(2, 30) == 30);
    assert_int_equal(good(2, 30), 30);
    assert_int_equal(atomic_load(&server->accepted), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(many_share_one),
        TEST(a_slow_one_holds_nobody_back),
        TEST(a_cancelled_exchange_leaves_the_others),
        TEST(cancelled_acquires),
        TEST(another_when_full),
        TEST(settings_take_room_away),
        TEST(one_exchange_a_connection),
        TEST(as_many_connections_as_make_sense),
        TEST(no_room_at_all),
        TEST(connections_max),
        TEST(refused_streams),
        TEST(goaway_lets_the_rest_end),
        TEST(goaway_while_idle),
        TEST(the_server_closes),
        TEST(a_lease_outlives_its_connection),
        TEST(started_in_an_event),
        TEST(nobody_listens),
        TEST(idle_ones_close),
        TEST(spare_ones_close_early),
        TEST(requests_max),
        TEST(age_max),
        TEST(a_quiet_server_is_asked),
        TEST(a_quiet_server_is_asked_once),
        TEST(tcp_asks_the_host),
        TEST(a_dead_server_is_given_up),
        TEST(a_drained_server),
        TEST(a_closing_view),
        TEST(memory_is_short),
        TEST(fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
