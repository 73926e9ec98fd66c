/* SPDX-License-Identifier: Apache-2.0 */
/** test_balance.c: configuration of a cluster, round robin, run-time changes, a program's own
 * balancer. */
#include "upstream_kit.h"

static struct weir_loop loop;
static struct kit kit;
static struct weir_cluster_view *view;

static int setup(void **state)
{
    kit_init(&kit, 2);
    view = NULL;
    return weir_loop_init(&loop, 0, NULL);
}

static int teardown(void **state)
{
    if (view)
        kit_view_end(view, &loop);
    weir_loop_fini(&loop);
    weir_cluster_free(kit.cluster);
    return 0;
}

static void open_all(void)
{
    kit_open(&kit);
    view = weir_cluster_view_new(kit.cluster, &loop, 0, NULL);
    assert_non_null(view);
}

static const struct weir_server *at(unsigned i)
{
    return weir_cluster_server(kit.cluster, i);
}

static const struct weir_server *pick(const struct weir_server *const *tried, unsigned count)
{
    struct weir_peer_choice choice = { .tried = tried, .tried_count = count };

    return weir_cluster_pick(view, &choice);
}

/* "abc" for servers 0, 1, 2; '-' for none. */
static void expect_picks(const char *order)
{
    for (; *order; order++) {
        const struct weir_server *server = pick(NULL, 0);

        assert_int_equal(server ? 'a' + (char)server->index : '-', *order);
    }
}

static void test_in_turn(void **state)
{
    kit_server(&kit, "127.0.0.1:1");
    kit_server(&kit, "127.0.0.1:2");
    kit_server(&kit, "127.0.0.1:3");
    open_all();
    expect_picks("abcabc");
    assert_int_equal(
        weir_cluster_set_state(kit.cluster, WEIR_STR("127.0.0.1:2"), WEIR_SERVER_DRAIN), 0);
    assert_false(weir_server_is_up(at(1)));
    expect_picks("caca");
    assert_int_equal(
        weir_cluster_set_state(kit.cluster, WEIR_STR("127.0.0.1:2"), WEIR_SERVER_READY), 0);
    expect_picks("bca");
    assert_int_equal(
        weir_cluster_set_state(kit.cluster, WEIR_STR("127.0.0.1:9"), WEIR_SERVER_READY),
        WEIR_ENOENT);
    assert_int_equal(weir_cluster_set_weight(kit.cluster, WEIR_STR("127.0.0.1:2"), 1001),
                     WEIR_EINVAL);
}

static void test_smooth(void **state)
{
    kit_server(&kit, "127.0.0.1:1")->weight = 5;
    kit_server(&kit, "127.0.0.1:2");
    kit_server(&kit, "127.0.0.1:3");
    open_all();
    expect_picks("aabacaaaabacaa");
    assert_int_equal(weir_cluster_set_weight(kit.cluster, WEIR_STR("127.0.0.1:1"), 0), 0);
    expect_picks("bcbc");
}

static void test_tried_and_backup(void **state)
{
    const struct weir_server *tried[2];

    kit_server(&kit, "127.0.0.1:1");
    kit_server(&kit, "127.0.0.1:2")->weight = 3;
    kit_server(&kit, "127.0.0.1:3")->backup = true;
    open_all();
    tried[0] = at(1);
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(pick(tried, 1), at(0));
    tried[1] = at(0);
    assert_null(pick(tried, 2)); /* a backup is no second try while primaries are up */
    weir_server_set_flag(&kit.cluster->servers[0], WEIR_SERVER_HEALTHY, false);
    expect_picks("bbb");
    weir_server_set_flag(&kit.cluster->servers[1], WEIR_SERVER_HEALTHY, false);
    expect_picks("cc");
    weir_server_set_flag(&kit.cluster->servers[2], WEIR_SERVER_HEALTHY, false);
    expect_picks("-");
}

static void test_panic(void **state)
{
    kit.conf.health.panic = 0.5;
    kit_server(&kit, "127.0.0.1:1");
    kit_server(&kit, "127.0.0.1:2");
    kit_server(&kit, "127.0.0.1:3");
    open_all();
    weir_server_set_flag(&kit.cluster->servers[0], WEIR_SERVER_HEALTHY, false);
    expect_picks("bcbc");
    weir_server_set_flag(&kit.cluster->servers[1], WEIR_SERVER_HEALTHY, false);
    expect_picks("cabcab");
    weir_server_set_flag(&kit.cluster->servers[2], WEIR_SERVER_DRAINING, true);
    expect_picks("abab"); /* draining is what the operator wants */
}

static void test_a_choice_is_kept(void **state)
{
    struct weir_peer_choice choice = { 0 };

    kit_server(&kit, "127.0.0.1:1");
    kit_server(&kit, "127.0.0.1:2");
    kit_server(&kit, "nowhere.test:80");
    open_all();
    choice.server = at(1);
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(weir_cluster_pick(view, &choice), at(1));
    choice.server = at(2);
    assert_null(weir_cluster_pick(view, &choice)); /* it has no address */
}

static int changes;
static void *own_create(struct weir_cluster *cluster, void *self)
{
    return self;
}
static void own_changed(void *balancer, struct weir_cluster *cluster)
{
    changes++;
}
static const struct weir_server *own_pick(void *balancer, const struct weir_peer_choice *choice)
{
    return weir_cluster_server(choice->cluster, *(unsigned *)balancer);
}

static void test_own_balancer(void **state)
{
    static unsigned which = 1;
    static const struct weir_balancer own = { sizeof(own), "own",       own_create,
                                              NULL,        own_changed, own_pick };

    kit_server(&kit, "127.0.0.1:1");
    kit_server(&kit, "127.0.0.1:2");
    kit.conf.balancer = &own;
    kit.conf.balancer_self = &which;
    changes = 0;
    open_all();
    assert_int_equal(changes, 1);
    expect_picks("bb");
    weir_server_set_flag(&kit.cluster->servers[0], WEIR_SERVER_HEALTHY, false);
    expect_picks("b");
    assert_int_equal(changes, 2);
    assert_int_equal(weir_server_active(at(1)), 0);
}

static void expect_fault(const char *part)
{
    struct weir_tls_fault fault;

    assert_null(weir_cluster_new(&kit.conf, &kit.opts, &fault));
    if (!strstr(fault.text, part))
        fail_msg("'%s' does not say '%s'", fault.text, part);
    kit_init(&kit, 1);
}

static void test_faults(void **state)
{
    expect_fault("no servers");
    kit_server(&kit, "127.0.0.1");
    expect_fault("127.0.0.1");
    kit_server(&kit, "127.0.0.1:0");
    expect_fault("not an address");
    kit_server(&kit, "srv:");
    expect_fault("needs a name");
    kit_server(&kit, "a.test:1");
    kit_server(&kit, "a.test:1");
    expect_fault("twice");
    kit_server(&kit, "a.test:1")->weight = 1001;
    expect_fault("weight");
    kit_server(&kit, "127.0.0.1:1");
    kit.conf.source = WEIR_STR("nine");
    expect_fault("source");
    kit_server(&kit, "127.0.0.1:1");
    kit.conf.tls_on = kit.conf.tls.verify = true;
    expect_fault("a name to verify");
    kit_server(&kit, "127.0.0.1:1");
    kit.conf.health.type = WEIR_HEALTH_HTTP;
    kit.conf.health.expect = WEIR_STR("2xx");
    expect_fault("expect");
}

static void test_names(void **state)
{
    static const struct {
        const char *address, *authority;
    } rows[] = {
        { "10.0.0.1:80", "10.0.0.1" },
        { "app.internal:8080", "app.internal:8080" },
        { "[2001:db8::1]:80", "[2001:db8::1]" },
        { "srv:_http._tcp.app.internal", "app.internal" },
    };

    for (unsigned i = 0; i < 4; i++)
        kit_server(&kit, rows[i].address);
    open_all();
    for (unsigned i = 0; i < 4; i++) {
        struct weir_str authority = weir_server_authority(at(i)), name = weir_server_name(at(i));

        assert_true(weir_str_eq(authority, weir_str(rows[i].authority)));
        assert_true(weir_str_eq(name, weir_str(rows[i].address)));
    }
    assert_true(weir_server_is_up(at(0)));
    assert_false(weir_server_is_up(at(1)));
    assert_null(weir_cluster_server(kit.cluster, 4));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_in_turn),          TEST(test_smooth),
        TEST(test_tried_and_backup), TEST(test_panic),
        TEST(test_a_choice_is_kept), TEST(test_own_balancer),
        TEST(test_faults),           TEST(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
