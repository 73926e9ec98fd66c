/* SPDX-License-Identifier: Apache-2.0 */
/** test_succeed.c: a cluster takes the place of another of its name: what it knows, which connections it has, what it tells. */
#include "upstream_kit.h"

static struct weir_loop loop;
static struct fake fake;
static struct kit kit;
static struct weir_cluster *old, *new;
static struct weir_cluster_view *old_view, *new_view;

static int setup(void **state)
{
    fake_start(&fake);
    call_opts = (struct weir_acquire_opts){ 0 };
    kit_init(&kit, 1);
    assert_int_equal(weir_loop_init(&loop, 0, NULL), 0);
    kit_server_port(&kit, fake.port);
    kit_server_port(&kit, 1); /* nobody */
    return 0;
}

static struct weir_cluster *open_one(struct weir_cluster_view **view)
{
    kit_open(&kit);
    *view = weir_cluster_view_new(kit.cluster, &loop, 0, NULL);
    assert_non_null(*view);
    return kit.cluster;
}

static int teardown(void **state)
{
    kit_view_end(new_view, &loop);
    kit_view_end(old_view, &loop);
    weir_loop_fini(&loop);
    weir_cluster_free(new);
    weir_cluster_free(old);
    fake_stop(&fake);
    return 0;
}

static void ask(struct weir_cluster_view *view, struct weir_server *server)
{
    struct call call = { 0 };

    call_run(&call, view, server, "/");
    call_fini(&call);
}

static uint64_t idle_of(struct weir_cluster_view *view, unsigned server)
{
    return weir_counter_read(&view->servers[server].idle_count);
}

static struct weir_cluster_totals totals_of(const struct weir_cluster *cluster)
{
    struct weir_cluster_totals totals = { 0 };

    weir_cluster_get_totals(cluster, &totals);
    return totals;
}

/* It means the same as long as nothing of it is another one: then it is not replaced at all. */
static void test_same(void **state)
{
    struct weir_cluster_conf other;
    struct weir_upstreams_opts opts;
    struct weir_guard_limits limits = { .head_bytes = 99 };

    old = open_one(&old_view);
    assert_true(weir_cluster_is_of(old, &kit.conf, &kit.opts));
    other = kit.conf;
    other.pool.idle_max++;
    assert_false(weir_cluster_is_of(old, &other, &kit.opts));
    other = kit.conf;
    other.source = WEIR_STR("127.0.0.9");
    assert_false(weir_cluster_is_of(old, &other, &kit.opts));
    kit.servers[1].weight = 9;
    assert_false(weir_cluster_is_of(old, &kit.conf, &kit.opts));
    kit.servers[1].weight = old->servers[1].conf->weight;
    opts = kit.opts;
    opts.limits = &limits;
    assert_false(weir_cluster_is_of(old, &kit.conf, &opts));
    assert_true(weir_cluster_is_of(old, &kit.conf, &kit.opts));
    new = open_one(&new_view); /* for the teardown */
}

/* Idle connections to the server that both have go to the new one; what is counted is told on, also when the old is gone. */
static void test_pool_and_counters(void **state)
{
    old = open_one(&old_view);
    ask(old_view, &old->servers[0]);
    ask(old_view, &old->servers[0]);
    assert_int_equal(idle_of(old_view, 0), 1);
    kit.conf.pool.idle_max = 7;
    kit.servers[1] = kit.servers[0]; /* another place, and the other one is gone */
    kit.servers[0].address = WEIR_STR("127.0.0.1:2");
    new = open_one(&new_view);
    weir_cluster_succeed(new, old);
    weir_cluster_view_succeed(new_view, old_view);
    assert_int_equal(idle_of(old_view, 0), 0);
    assert_int_equal(idle_of(new_view, 1), 1);
    ask(new_view, &new->servers[1]);
    assert_int_equal(atomic_load(&fake.accepted), 1);
    assert_int_equal(totals_of(new).requests_new + totals_of(new).requests_reused, 3);
    assert_int_equal(totals_of(new).opened, 1);
    kit_until(&loop, weir_cluster_view_is_quiet(old_view));
    weir_cluster_retire(old);
    assert_int_equal(totals_of(old).requests_new + totals_of(old).requests_reused, 2);
    assert_int_equal(totals_of(new).requests_new + totals_of(new).requests_reused, 3);
    assert_int_equal(totals_of(new).active, 0);
    assert_int_equal(totals_of(new).idle, 1);
    {
        struct weir_server_status status = { 0 };

        weir_server_get_status(&new->servers[1], &status);
        assert_int_equal(status.requests, 3);
        weir_server_get_status(&new->servers[0], &status);
        assert_int_equal(status.requests, 0);
    }
}

/* Connections that are made of something else are not taken over. */
static void test_other_connections(void **state)
{
    old = open_one(&old_view);
    ask(old_view, &old->servers[0]);
    kit.conf.source = WEIR_STR("127.0.0.1");
    new = open_one(&new_view);
    weir_cluster_succeed(new, old);
    weir_cluster_view_succeed(new_view, old_view);
    assert_int_equal(idle_of(old_view, 0) + idle_of(new_view, 0), 0);
    kit_until(&loop, weir_cluster_view_is_quiet(old_view));
    weir_cluster_retire(old);
}

/* What is in use when the new one comes is closed when it is given back; the old one goes on meanwhile. */
static void test_in_use(void **state)
{
    struct call call = { 0 };

    atomic_store(&fake.delay_us, 50000);
    old = open_one(&old_view);
    call_start(&call, old_view, &old->servers[0], "/");
    kit_until(&loop, call.conn);
    kit.conf.pool.idle_max = 7;
    new = open_one(&new_view);
    weir_cluster_succeed(new, old);
    weir_cluster_view_succeed(new_view, old_view);
    assert_false(weir_cluster_view_is_quiet(old_view));
    kit_until(&loop, call_done(&call));
    assert_int_equal(call.ends, 1);
    call_fini(&call);
    kit_until(&loop, weir_cluster_view_is_quiet(old_view));
    assert_int_equal(idle_of(new_view, 0), 0);
    weir_cluster_retire(old);
}

/* What was set at run time, and who is down; nobody stays down where there are no checks. */
static void test_knowledge(void **state)
{
    struct weir_cluster *last;
    struct weir_cluster_view *last_view;

    kit.conf.health = (struct weir_health_conf){ .type = WEIR_HEALTH_TCP, .every_ms = 1000 };
    old = open_one(&old_view);
    assert_int_equal(weir_cluster_set_weight(old, old->servers[0].conf->address, 9), 0);
    assert_int_equal(weir_cluster_set_state(old, old->servers[0].conf->address, WEIR_SERVER_DRAIN),
                     0);
    weir_server_set_flag(&old->servers[1], WEIR_SERVER_HEALTHY, false);
    kit.servers[1].weight = 3;
    kit.conf.pool.idle_max = 7;
    new = open_one(&new_view);
    weir_cluster_succeed(new, old);
    assert_int_equal(weir_server_weight(&new->servers[0]), 9); /* set at run time */
    assert_int_equal(weir_server_weight(&new->servers[1]), 3); /* the file's new one */
    assert_true(atomic_load(&new->servers[0].flags) & WEIR_SERVER_DRAINING);
    assert_false(weir_server_is_up(&new->servers[1]));
    kit.conf.health.type = WEIR_HEALTH_NONE;
    last = open_one(&last_view);
    weir_cluster_succeed(last, new);
    assert_true(weir_server_is_up(&last->servers[1]));
    /* of three in a row one may go from the middle */
    weir_cluster_retire(new);
    assert_ptr_equal(last->before, old);
    assert_ptr_equal(old->after, last);
    weir_cluster_retire(old);
    assert_null(last->before);
    kit_view_end(last_view, &loop);
    weir_loop_turn(&loop, 0); /* what was sent to the view is read */
    weir_cluster_free(last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pool_and_counters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(test_knowledge, setup, teardown),
    };

    return cmocka_run_group_tests_name("upstream/succeed", tests, NULL, NULL);
}
