/* SPDX-License-Identifier: Apache-2.0 */
/** test_server.c: names, several addresses, cancelling in the rarer states, back-pressure. */
#include "upstream_kit.h"

static struct weir_loop loop;
static struct fake fake;
static struct kit kit;
static struct weir_cluster_view *view;
static struct weir_server *server;
static struct weir_resolver *resolver;

static int setup(void **state)
{
    fake_start(&fake);
    call_opts = (struct weir_acquire_opts){ 0 };
    kit_init(&kit, 1);
    return weir_loop_init(&loop, 0, NULL);
}

static void open_all(const char *host)
{
    char text[64];

    snprintf(text, sizeof(text), "%s:%u", host, fake.port);
    kit_server(&kit, text);
    kit_open(&kit);
    view = weir_cluster_view_new(kit.cluster, &loop, 0, NULL);
    server = &kit.cluster->servers[0];
}

static int teardown(void **state)
{
    weir_cluster_stop(kit.cluster);
    kit_view_end(view, &loop);
    weir_resolver_free(resolver);
    resolver = NULL;
    weir_loop_fini(&loop);
    weir_cluster_free(kit.cluster);
    fake_stop(&fake);
    return 0;
}

static void test_name_resolved_once(void **state)
{
    struct weir_dns_conf conf = { .ttl_min_ms = 1000, .ttl_max_ms = 300000, .stale_ms = 1000 };
    struct call call = { 0 };

    resolver = weir_resolver_new(&loop, &conf);
    assert_non_null(resolver);
    open_all("localhost");
    assert_false(weir_server_is_up(server));
    assert_int_equal(weir_cluster_start(kit.cluster, &loop, resolver), 0);
    kit_until(&loop, weir_server_is_up(server));
    assert_null(server->resolution); /* without `resolve: on` once is enough */
    call_run(&call, view, server, "/");
    assert_int_equal(call.status, 200);
    call_fini(&call);
}

static void test_name_without_resolver(void **state)
{
    struct weir_peer_choice choice = { 0 };
    struct weir_server_status status;

    open_all("nowhere.test");
    assert_int_equal(weir_cluster_start(kit.cluster, &loop, NULL), 0);
    assert_null(weir_cluster_pick(view, &choice));
    weir_server_get_status(server, &status);
    assert_false(status.up);
    assert_int_equal(status.addresses, 0);
    assert_string_equal(status.last_fault, weir_err_text(WEIR_EDNS));
}

/* Addresses as a name server would have given them; port 1 refuses. */
static void set_addresses(const char *a, const char *b)
{
    struct weir_addr *addrs = calloc(2, sizeof(*addrs));

    assert_int_equal(weir_addr_parse(&addrs[0], weir_str(a)), 0);
    assert_int_equal(weir_addr_parse(&addrs[1], weir_str(b ? b : a)), 0);
    pthread_mutex_lock(&kit.cluster->lock);
    free(server->addrs);
    server->addrs = addrs;
    server->addr_count = b ? 2 : 1;
    pthread_mutex_unlock(&kit.cluster->lock);
    weir_cluster_changed(kit.cluster);
}

static void test_next_address(void **state)
{
    struct call call = { 0 };
    char good[32];

    open_all("127.0.0.1");
    snprintf(good, sizeof(good), "127.0.0.1:%u", fake.port);
    set_addresses("127.0.0.1:1", good);
    for (int i = 0; i < 4; i++) {
        call_opts.fresh = true;
        call_run(&call, view, server, "/");
        assert_int_equal(call.status, 200);
        call_fini(&call);
    }
    call_opts.fresh = false;
    call.keep = true;
    call_run(&call, view, server, "/");
    set_addresses("127.0.0.1:1", "127.0.0.2:1");
    kit_until(&loop, weir_cluster_view_conns(view) == 1); /* idle at an address that is gone */
    weir_pool_release(&call.conn);
    kit_until(&loop, weir_cluster_view_conns(view) == 0); /* not to come back there */
    call_fini(&call);
    call_run(&call, view, server, "/");
    assert_int_equal(call.error.code, WEIR_ECONNREFUSED);
    assert_int_equal(call.fns, 1);
    call_fini(&call);
}

static void test_drain(void **state)
{
    struct call a = { .keep = true }, b = { .keep = true };

    open_all("127.0.0.1");
    call_run(&a, view, server, "/");
    call_run(&b, view, server, "/");
    weir_pool_release(&a.conn);
    assert_int_equal(
        weir_cluster_set_state(kit.cluster, weir_str(kit.addresses[0]), WEIR_SERVER_DRAIN), 0);
    kit_until(&loop, weir_cluster_view_conns(view) == 1);
    weir_pool_release(&b.conn); /* ends what it was doing, and goes */
    kit_until(&loop, weir_cluster_view_conns(view) == 0);
    call_fini(&a);
    call_fini(&b);
}

static void test_cancel_in_the_queue(void **state)
{
    struct call a = { .keep = true }, b = { 0 }, c = { 0 };

    kit.conf.connections_max = 1;
    open_all("127.0.0.1");
    call_run(&a, view, server, "/");
    call_start(&b, view, server, "/");
    call_start(&c, view, server, "/");
    assert_int_equal(atomic_load(&server->queued), 2);
    weir_pool_cancel(&b.acq);
    assert_int_equal(atomic_load(&server->queued), 1);
    call_fini(&b);
    weir_pool_release(&a.conn);
    kit_until(&loop, c.ends);
    call_fini(&a);
    call_fini(&c);
}

static void test_cancel_a_promise(void **state)
{
    struct call a = { .keep = true }, b = { 0 };
    struct weir_server_view *sv;

    open_all("127.0.0.1");
    sv = &view->servers[0];
    call_run(&a, view, server, "/");
    weir_hstream_done(&a.conn->hs);
    a.conn->in_event = true; /* as inside an event of its own */
    weir_upconn_set_state(a.conn, UPCONN_RELEASING);
    call_start(&b, view, server, "/");
    assert_int_equal(b.acq.state, ACQUIRE_PROMISED);
    assert_int_equal(sv->promised, 1);
    weir_pool_cancel(&b.acq);
    assert_int_equal(sv->promised, 0);
    a.conn->in_event = false;
    weir_pool_offer(a.conn);
    assert_int_equal(sv->releasing, 0);
    assert_int_equal(weir_counter_read(&sv->idle_count), 1);
    call_fini(&a);
    call_fini(&b);
}

static void test_back_pressure(void **state)
{
    struct call call = { .hold = true };
    size_t held;

    open_all("127.0.0.1");
    call_start(&call, view, server, "/big");
    kit_until(&loop, call.conn && call.conn->paused);
    kit_turn_ms(&loop, 20);
    held = call.body;
    assert_true(held <= 3 * WEIR_STREAM_HIGH_BYTES);
    kit_turn_ms(&loop, 20);
    assert_int_equal(call.body, held); /* nothing more comes */
    call.hold = false;
    weir_hstream_consume(&call.conn->hs, held);
    kit_until(&loop, call.ends);
    assert_int_equal(call.body, FAKE_BIG_BYTES);
    assert_int_equal(weir_cluster_view_conns(view), 1);
    call_fini(&call);
    call.hold = true;
    call_start(&call, view, server, "/big"); /* given up in the middle */
    kit_until(&loop, call.conn->paused);
    weir_pool_release(&call.conn);
    kit_until(&loop, weir_cluster_view_conns(view) == 0);
    call_fini(&call);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_name_resolved_once),
        TEST(test_name_without_resolver),
        TEST(test_next_address),
        TEST(test_cancel_in_the_queue),
        TEST(test_drain),
        TEST(test_cancel_a_promise),
        TEST(test_back_pressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
