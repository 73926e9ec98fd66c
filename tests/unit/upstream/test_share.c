/* SPDX-License-Identifier: Apache-2.0 */
/** test_share.c: several workers give connections to each other: step by step on two loops of one
 * thread, then on threads. */
#include "upstream_kit.h"

enum { WORKERS = 2, THREAD_CALLS = 300, THREAD_CLIENTS = 8 };

static struct weir_loop loops[WORKERS];
static struct weir_cluster_view *views[WORKERS];
static struct fake fake;
static struct kit kit;
static struct weir_server *server;

static void open_all(void)
{
    kit_server_port(&kit, fake.port);
    kit_open(&kit);
    server = &kit.cluster->servers[0];
    for (unsigned i = 0; i < WORKERS; i++) {
        views[i] = weir_cluster_view_new(kit.cluster, &loops[i], i, NULL);
        assert_non_null(views[i]);
    }
}

static int setup(void **state)
{
    fake_start(&fake);
    call_opts = (struct weir_acquire_opts){ 0 };
    kit_init(&kit, WORKERS);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(weir_loop_init(&loops[i], i, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    for (unsigned i = 0; i < WORKERS; i++)
        weir_cluster_view_close(views[i]);
    for (unsigned i = 0; i < WORKERS; i++)
        kit_view_end(views[i], &loops[i]);
    for (unsigned i = 0; i < WORKERS; i++)
        weir_loop_fini(&loops[i]);
    weir_cluster_free(kit.cluster);
    fake_stop(&fake);
    return 0;
}

/* Both loops in turn, on this thread. */
#define both_until(cond) kit_until(&loops[0], (weir_loop_turn(&loops[1], 0), (cond)))

static uint64_t idle_of(unsigned id)
{
    return weir_counter_read(&views[id]->servers[0].idle_count);
}

static void test_given(void **state)
{
    struct call call = { 0 };

    open_all();
    call_run(&call, views[0], server, "/");
    call_fini(&call);
    for (int i = 0; i < 10; i++) {
        unsigned id = (unsigned)(i + 1) % 2;

        call_start(&call, views[id], server, "/");
        assert_null(call.conn);
        assert_int_equal(call.acq.state, ACQUIRE_ASKING);
        both_until(call.ends);
        assert_true(call.reused);
        both_until(idle_of(id) == 1);
        assert_int_equal(idle_of(!id), 0);
        call_fini(&call);
    }
    assert_int_equal(atomic_load(&fake.accepted), 1);
    assert_int_equal(weir_cluster_view_conns(views[0]) + weir_cluster_view_conns(views[1]), 1);
}

/* The count said that there is one; when the question arrives it is in use. */
static void test_refused(void **state)
{
    struct call a = { .keep = true }, b = { 0 };

    open_all();
    call_run(&a, views[0], server, "/");
    weir_pool_release(&a.conn);
    call_start(&b, views[1], server, "/");
    call_fini(&a);
    a.keep = true;
    call_start(&a, views[0], server, "/");
    assert_non_null(a.conn);
    both_until(b.ends);
    assert_false(b.reused);
    assert_int_equal(atomic_load(&fake.accepted), 2);
    both_until(a.ends);
    weir_pool_release(&a.conn);
    call_fini(&a);
    call_fini(&b);
}

static void test_asker_leaves(void **state)
{
    struct call call = { 0 };

    open_all();
    call_run(&call, views[0], server, "/");
    call_fini(&call);
    call_start(&call, views[1], server, "/");
    weir_pool_cancel(&call.acq);
    call_fini(&call); /* its memory may go at once */
    both_until(idle_of(1) == 1);
    assert_int_equal(idle_of(0), 0);
    assert_int_equal(atomic_load(&fake.accepted), 1);
}

static void test_owner_is_silent(void **state)
{
    struct call call = { 0 };

    open_all();
    call_run(&call, views[0], server, "/");
    call_fini(&call);
    call_start(&call, views[1], server, "/");
    kit_until(&loops[1], call.ends); /* the owner's loop does not turn */
    assert_false(call.reused);
    assert_int_equal(atomic_load(&fake.accepted), 2);
    both_until(idle_of(1) == 2); /* what it gives at last is kept */
    call_fini(&call);
}

static void test_asker_view_closes(void **state)
{
    struct call call = { 0 };

    open_all();
    call_run(&call, views[0], server, "/");
    call_fini(&call);
    call_start(&call, views[1], server, "/");
    weir_pool_cancel(&call.acq);
    weir_cluster_view_close(views[1]);
    both_until(weir_cluster_view_conns(views[0]) == 0);
    both_until(atomic_load(&fake.open) == 0);
    call_fini(&call);
}

/* A parcel that nobody comes to read: the cluster closes it. */
static void test_parcel_in_the_mail(void **state)
{
    struct call call = { 0 };

    open_all();
    call_run(&call, views[0], server, "/");
    call_fini(&call);
    call_start(&call, views[1], server, "/");
    weir_pool_cancel(&call.acq);
    kit_until(&loops[0], weir_cluster_view_conns(views[0]) == 0);
    call_fini(&call);
}

static void test_queue_over_workers(void **state)
{
    struct call a = { .keep = true }, b = { 0 };

    kit.conf.connections_max = 1;
    open_all();
    call_run(&a, views[0], server, "/");
    call_start(&b, views[1], server, "/");
    assert_int_equal(b.acq.state, ACQUIRE_QUEUED);
    weir_pool_release(&a.conn); /* idle here, wanted there */
    both_until(b.ends);
    assert_true(b.reused);
    assert_int_equal(atomic_load(&fake.accepted), 1);
    assert_int_equal(atomic_load(&server->conns), 1);
    both_until(idle_of(1) == 1);
    call_fini(&a);
    call_fini(&b);
    a.keep = true;
    call_start(&a, views[1], server, "/");
    both_until(a.ends);
    call_start(&b, views[0], server, "/");
    a.conn->no_pool = true; /* its slot is wanted there */
    weir_pool_release(&a.conn);
    both_until(b.ends);
    assert_false(b.reused);
    call_fini(&a);
    call_fini(&b);
}

static void test_down_closes_idle_everywhere(void **state)
{
    struct call a = { .keep = true }, b = { .keep = true };

    open_all();
    call_run(&a, views[0], server, "/");
    call_run(&b, views[1], server, "/");
    weir_pool_release(&a.conn);
    weir_pool_release(&b.conn);
    weir_server_set_flag(server, WEIR_SERVER_HEALTHY, false);
    both_until(weir_cluster_view_conns(views[0]) + weir_cluster_view_conns(views[1]) == 0);
    call_fini(&a);
    call_fini(&b);
}

/* --- on threads --- */

struct client {
    struct call call;
    struct weir_timer timer;
    unsigned random;
};

struct thread {
    pthread_t thread;
    unsigned id;
    struct client clients[THREAD_CLIENTS];
    int done, failed;
};

static void client_go(struct weir_timer *timer, void *arg)
{
    struct client *client = arg;

    client->call.ends = 0;
    call_start(&client->call, client->call.view, server, client->random >> 16 & 15 ? "/" : "/fin");
}

static unsigned client_random(struct client *client)
{
    return client->random = client->random * 1103515245 + 12345;
}

static void client_step(struct thread *self, struct client *client)
{
    struct call *call = &client->call;
    struct weir_cluster_view *view = views[self->id];

    if (call->view && !call_done(call)) {
        if (call->acq.state && (client_random(client) >> 16) % 8 == 0) {
            weir_pool_cancel(&call->acq);
            call_fini(call);
        }
        return;
    }
    if (call->view) {
        self->failed += call->status != 200;
        self->done++;
        call_fini(call);
    }
    if (self->done >= THREAD_CALLS)
        return;
    call->view = view;
    weir_loop_timer(&loops[self->id], &client->timer, (client_random(client) >> 16) % 3 * 4,
                    client_go, client);
}

static bool thread_busy(struct thread *self)
{
    for (int i = 0; i < THREAD_CLIENTS; i++)
        if (self->clients[i].call.view)
            return true;
    return false;
}

static _Atomic int finished, closed;

static void *thread_run(void *arg)
{
    struct thread *self = arg;
    struct weir_loop *loop = &loops[self->id];
    uint64_t end = weir_clock_us() + 30 * 1000000ull;

    while ((self->done < THREAD_CALLS || thread_busy(self)) && weir_clock_us() < end) {
        for (int i = 0; i < THREAD_CLIENTS; i++) {
            if (!weir_timer_armed(&self->clients[i].timer))
                client_step(self, &self->clients[i]);
        }
        weir_loop_turn(loop, 1);
    }
    atomic_fetch_add(&finished, 1);
    while (atomic_load(&finished) < WORKERS)
        weir_loop_turn(loop, 1);
    weir_cluster_view_close(views[self->id]);
    atomic_fetch_add(&closed, 1);
    while (atomic_load(&closed) < WORKERS || weir_cluster_view_conns(views[self->id]))
        weir_loop_turn(loop, 1);
    return NULL;
}

static void client_begin(struct client *client, unsigned seed)
{
    client->random = seed;
}

static void test_threads(void **state)
{
    static struct thread threads[WORKERS];
    struct weir_cluster_totals totals;

    memset(threads, 0, sizeof(threads));
    atomic_store(&finished, 0);
    atomic_store(&closed, 0);
    open_all();
    for (unsigned i = 0; i < WORKERS; i++) {
        threads[i].id = i;
        for (unsigned c = 0; c < THREAD_CLIENTS; c++)
            client_begin(&threads[i].clients[c], i * 100 + c + 1);
        assert_int_equal(pthread_create(&threads[i].thread, NULL, thread_run, &threads[i]), 0);
    }
    while (atomic_load(&closed) < WORKERS) {
        weir_cluster_get_totals(kit.cluster, &totals); /* any thread, at any time */
        weir_cluster_set_weight(kit.cluster, kit.servers[0].address, 1 + rand() % 5);
        usleep(2000);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i].thread, NULL);
        assert_true(threads[i].done >= THREAD_CALLS);
        /* "/fin" closes what may have been used again already: some fail, most do not */
        assert_true(threads[i].failed < THREAD_CALLS / 4);
    }
    weir_cluster_get_totals(kit.cluster, &totals);
    assert_int_equal(totals.active, 0);
    assert_int_equal(totals.idle, 0);
    print_message("opened %d for %d requests\n", (int)totals.opened,
                  (int)(totals.requests_new + totals.requests_reused));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_given),
        TEST(test_refused),
        TEST(test_asker_leaves),
        TEST(test_owner_is_silent),
        TEST(test_asker_view_closes),
        TEST(test_parcel_in_the_mail),
        TEST(test_queue_over_workers),
        TEST(test_down_closes_idle_everywhere),
        TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
