/* SPDX-License-Identifier: Apache-2.0 */
/** test_pool.c: reuse, and everything that ends a connection, on one worker. */
#include "upstream_kit.h"

static struct weir_loop loop;
static struct fake fake;
static struct kit kit;
static struct weir_cluster_view *view;
static struct weir_server *server;

static void open_all(void)
{
    kit_server_port(&kit, fake.port);
    kit_open(&kit);
    view = weir_cluster_view_new(kit.cluster, &loop, 0, NULL);
    assert_non_null(view);
    server = &kit.cluster->servers[0];
}

static int setup(void **state)
{
    fake_start(&fake);
    call_opts = (struct weir_acquire_opts){ 0 };
    kit_init(&kit, 1);
    return weir_loop_init(&loop, 0, NULL);
}

static int teardown(void **state)
{
    kit_view_end(view, &loop);
    weir_loop_fini(&loop);
    weir_cluster_free(kit.cluster);
    fake_stop(&fake);
    return 0;
}

static struct weir_server_status status_now(void)
{
    struct weir_server_status status;

    weir_server_get_status(server, &status);
    return status;
}

static void get(const char *path, bool reused, int code)
{
    struct call call = { 0 };

    call_run(&call, view, server, path);
    assert_int_equal(call.status, code);
    assert_int_equal(call.reused, reused);
    call_fini(&call);
}

static void test_reuse(void **state)
{
    open_all();
    get("/", false, 200);
    for (int i = 0; i < 20; i++)
        get("/", true, 200);
    assert_int_equal(atomic_load(&fake.accepted), 1);
    assert_int_equal(status_now().idle, 1);
    assert_int_equal(status_now().active, 0);
    assert_int_equal(status_now().requests, 21);
    assert_int_equal(status_now().requests_reused, 20);
    assert_int_equal(status_now().opened, 1);
}

static void test_newest_first(void **state)
{
    struct call a = { .keep = true }, b = { .keep = true };
    struct weir_upconn *first, *second;

    open_all();
    call_run(&a, view, server, "/");
    call_run(&b, view, server, "/");
    first = a.conn;
    second = b.conn;
    assert_ptr_not_equal(first, second);
    weir_pool_release(&a.conn);
    weir_pool_release(&b.conn);
    assert_int_equal(status_now().idle, 2);
    call_fini(&a);
    a.keep = true;
    call_start(&a, view, server, "/hang");
    assert_ptr_equal(a.conn, second);
    assert_int_equal(status_now().active, 1);
    weir_pool_release(&a.conn); /* in the middle: not to be used again */
    assert_int_equal(status_now().idle, 1);
    kit_until(&loop, atomic_load(&fake.open) == 1);
    call_fini(&a);
    call_fini(&b);
}

static void test_bytes_behind_the_answer(void **state)
{
    open_all();
    get("/stray", false, 200);
    kit_until(&loop, atomic_load(&fake.open) == 0);
    assert_int_equal(status_now().idle, 0);
    get("/", false, 200);
}

static void test_byte_while_idle(void **state)
{
    open_all();
    get("/later", false, 200);
    assert_int_equal(status_now().idle, 1);
    kit_until(&loop, status_now().idle == 0);
    get("/", false, 200);
    assert_int_equal(atomic_load(&fake.accepted), 2);
}

static void test_close_while_idle(void **state)
{
    open_all();
    get("/fin", false, 200);
    kit_until(&loop, status_now().idle == 0 && weir_cluster_view_conns(view) == 0);
    get("/close", false, 200);
    kit_until(&loop, weir_cluster_view_conns(view) == 0);
}

static void test_broken_answers(void **state)
{
    struct call call = { 0 };

    open_all();
    call_run(&call, view, server, "/half");
    assert_int_equal(call.error.code, WEIR_EUPBODY);
    assert_int_equal(call.error.by, WEIR_BY_UPSTREAM);
    call_fini(&call);
    call_run(&call, view, server, "/reset");
    assert_int_equal(call.error.code, WEIR_EUPRESET);
    assert_int_equal(call.error.retry, WEIR_RETRY_IDEMPOTENT_ONLY);
    call_fini(&call);
    kit_until(&loop, weir_cluster_view_conns(view) == 0);
    assert_int_equal(status_now().active, 0);
}

static void test_refused(void **state)
{
    struct call call = { 0 };

    open_all();
    fake_stop(&fake);
    call_start(&call, view, server, "/");
    assert_int_equal(call.fns, 0); /* never inside the call */
    kit_until(&loop, call.fns);
    assert_int_equal(call.error.code, WEIR_ECONNREFUSED);
    assert_int_equal(call.error.retry, WEIR_RETRY_UNSENT);
    assert_int_equal(status_now().failed, 1);
    call_fini(&call);
    fake_start(&fake);
}

/* The first of two addresses cannot be connected to, and the kernel says so at once. */
static void test_next_address_at_once(void **state)
{
    struct weir_addr *addrs = calloc(2, sizeof(*addrs));

    open_all();
    assert_non_null(addrs);
    assert_int_equal(weir_addr_parse(&addrs[0], WEIR_STR("unix:/nonexistent/socket")), 0);
    addrs[1] = server->addrs[0];
    free(server->addrs);
    server->addrs = addrs;
    server->addr_count = 2;
    weir_cluster_changed(kit.cluster);
    get("/", false, 200);
    assert_int_equal(status_now().failed, 1);
    assert_int_equal(status_now().opened, 1);
}

/* As when the kernel has not taken the last flight of a TLS handshake yet. */
static void test_opened_with_bytes_pending(void **state)
{
    struct iovec iov = { (void *)"\r\n", 2 };
    struct call call = { 0 };

    open_all();
    call_start(&call, view, server, "/");
    assert_int_equal(weir_stream_write(call.acq.conn->stream, &iov, 1), 0);
    assert_int_equal(weir_stream_pending(call.acq.conn->stream), 2);
    kit_until(&loop, call_done(&call));
    assert_int_equal(call.status, 200);
    call_fini(&call);
}

static void test_fresh_skips_idle(void **state)
{
    open_all();
    get("/", false, 200);
    call_opts.fresh = true;
    get("/", false, 200);
    call_opts.fresh = false;
    assert_int_equal(atomic_load(&fake.accepted), 2);
    assert_int_equal(status_now().idle, 2);
}

static void test_limits_of_a_connection(void **state)
{
    kit.conf.pool.requests_max = 3;
    kit.conf.pool.idle_timeout_ms = 100;
    open_all();
    get("/", false, 200);
    get("/", true, 200);
    get("/", true, 200);
    get("/", false, 200);
    assert_int_equal(status_now().idle, 1);
    kit_turn_ms(&loop, 50);
    get("/", true, 200); /* moves away from the end of the list, the timer stays */
    kit_turn_ms(&loop, 70);
    assert_int_equal(status_now().idle, 1);
    kit_until(&loop, status_now().idle == 0);
    assert_false(weir_timer_armed(&view->sweep));
}

static void test_age(void **state)
{
    kit.conf.pool.age_max_ms = 60;
    open_all();
    get("/", false, 200);
    get("/", true, 200);
    kit_turn_ms(&loop, 70);
    get("/", false, 200);
    kit_until(&loop, status_now().idle == 0);
}

static void test_idle_max(void **state)
{
    struct call calls[4] = { 0 };

    kit.conf.pool.idle_max = 2;
    open_all();
    for (int i = 0; i < 4; i++) {
        calls[i].keep = true;
        call_run(&calls[i], view, server, "/");
    }
    for (int i = 0; i < 4; i++)
        weir_pool_release(&calls[i].conn);
    assert_int_equal(status_now().idle, 2);
    kit_until(&loop, weir_cluster_view_conns(view) == 2);
    for (int i = 0; i < 4; i++)
        call_fini(&calls[i]);
}

/* What a burst has left goes back, oldest first, and its memory with it. */
static void test_shed_and_trim(void **state)
{
    enum { BURST = 240 };
    static struct call calls[BURST];
    size_t pages;

    open_all();
    for (int i = 0; i < BURST; i++) {
        calls[i].keep = true;
        call_run(&calls[i], view, server, "/");
    }
    for (int i = 0; i < BURST; i++) {
        weir_pool_release(&calls[i].conn);
        call_fini(&calls[i]);
    }
    pages = view->conns.pages;
    assert_true(pages > 1);
    assert_int_equal(status_now().idle, BURST);
    weir_cluster_view_shed(view, 10);
    assert_int_equal(status_now().idle, BURST - 10);
    weir_cluster_view_shed(view, 2 * BURST);
    assert_int_equal(status_now().idle, 0);
    kit_until(&loop, weir_cluster_view_conns(view) == 0);
    weir_cluster_view_trim(view);
    weir_cluster_view_trim(view);
    assert_int_equal(view->conns.pages, 1);
    get("/", false, 200);
}

static void test_no_pool(void **state)
{
    struct call call = { .keep = true };

    open_all();
    call_run(&call, view, server, "/");
    call.conn->no_pool = true;
    weir_pool_release(&call.conn);
    assert_int_equal(status_now().idle, 0);
    call_fini(&call);
}

static void test_cancel_while_connecting(void **state)
{
    struct call call = { 0 };

    open_all();
    call_start(&call, view, server, "/");
    weir_pool_cancel(&call.acq);
    kit_until(&loop, status_now().idle == 1); /* what was begun is of use to the next one */
    assert_int_equal(call.fns, 0);
    get("/", false, 200);
    assert_int_equal(atomic_load(&fake.accepted), 1);
    call_fini(&call);
}

/* Its view is closed: what is being made for it would only keep the loop. */
static void test_cancel_after_close(void **state)
{
    struct call call = { 0 };

    open_all();
    call_start(&call, view, server, "/");
    assert_int_equal(call.acq.state, ACQUIRE_CONNECTING);
    weir_cluster_view_close(view);
    weir_pool_cancel(&call.acq);
    assert_int_equal(weir_list_entry(view->busy.next, struct weir_upconn, link)->state,
                     UPCONN_CLOSING);
    weir_loop_turn(&loop, 0);
    weir_loop_turn(&loop, 0);
    assert_int_equal(weir_cluster_view_conns(view), 0);
    assert_int_equal(call.fns, 0);
    call_fini(&call);
}

static void test_cancel_of_a_failure(void **state)
{
    struct call call = { 0 };

    open_all();
    view->servers[0].addr_count = 0;
    call_start(&call, view, server, "/");
    weir_pool_cancel(&call.acq);
    kit_turn_ms(&loop, 10);
    assert_int_equal(call.fns, 0);
    call_start(&call, view, server, "/");
    kit_until(&loop, call.fns);
    assert_int_equal(call.error.code, WEIR_EDNS);
    view->servers[0].addr_count = 1;
    call_fini(&call);
}

static void test_who_waits_gets_what_is_released(void **state)
{
    struct call a = { .keep = true }, b = { .keep = true };

    open_all();
    call_run(&a, view, server, "/");
    call_start(&b, view, server, "/"); /* begins to connect */
    weir_pool_release(&a.conn);
    kit_until(&loop, b.ends);
    assert_true(b.reused); /* it was faster; the new one goes to the pool */
    weir_pool_release(&b.conn);
    kit_until(&loop, status_now().idle == 2);
    call_fini(&a);
    call_fini(&b);
}

/* A released connection dies before the one that waited for it is told. */
static void test_cancel_when_ready(void **state)
{
    struct call a = { .keep = true }, b = { .keep = true };

    open_all();
    call_run(&a, view, server, "/");
    call_start(&b, view, server, "/");
    weir_pool_release(&a.conn);
    assert_int_equal(b.acq.state, ACQUIRE_READY);
    weir_pool_cancel(&b.acq);
    assert_int_equal(status_now().idle, 1);
    kit_until(&loop, status_now().idle == 2);
    assert_int_equal(b.fns, 0);
    call_fini(&a);
    call_fini(&b);
}

static void test_next_request_inside_the_end_of_one(void **state)
{
    struct call a = { 0 }, b = { .path = "/" };

    open_all();
    a.next = &b;
    call_start(&a, view, server, "/");
    kit_until(&loop, b.ends);
    assert_true(b.reused);
    assert_int_equal(atomic_load(&fake.accepted), 1);
    call_fini(&a);
    a.next = &b;
    call_fini(&b);
    b.path = "/";
    call_start(&a, view, server, "/stray"); /* what was promised is spoilt */
    kit_until(&loop, b.ends);
    assert_false(b.reused);
    call_fini(&a);
    call_fini(&b);
}

static void test_tunnel(void **state)
{
    struct call call = { .upgrade = true };

    open_all();
    call_start(&call, view, server, "/up");
    kit_until(&loop, call.tunnel_len == 11);
    assert_memory_equal(call.tunnel, "first bytes", 11);
    assert_int_equal(weir_cluster_view_conns(view), 0);
    assert_int_equal(status_now().active, 0);
    weir_stream_close(call.stream, false);
    kit_until(&loop, call.tunnel_closed);
    call_fini(&call);
}

/* A tunnel is a connection to the server, too: it is counted, and holds its place. */
static void test_tunnel_counts(void **state)
{
    struct call call = { .upgrade = true, .counted = true }, next = { 0 };

    kit.conf.connections_max = 1;
    call_opts.queue_timeout_ms = 2000;
    open_all();
    call_start(&call, view, server, "/up");
    kit_until(&loop, call.tunnel_len == 11);
    assert_int_equal(weir_cluster_view_conns(view), 1);
    assert_int_equal(status_now().active, 1);
    call_start(&next, view, server, "/");
    assert_int_equal(next.acq.state, ACQUIRE_QUEUED);
    kit_turn_ms(&loop, 30);
    assert_int_equal(next.fns, 0);
    weir_stream_close(call.stream, false);
    kit_until(&loop, call.tunnel_closed);
    kit_until(&loop, next.ends);
    assert_int_equal(status_now().active, 0);
    assert_int_equal(atomic_load(&server->conns), 1);
    call_fini(&call);
    call_fini(&next);
}

static void test_ends_before_the_request(void **state)
{
    struct call call = { .keep = true };

    open_all();
    atomic_store(&fake.idle_us, 30000);
    call_run(&call, view, server, "/");
    assert_true(weir_hstream_done(&call.conn->hs));
    kit_until(&loop, call.conn->eof); /* a filter thinks about it, the server leaves */
    call.ends = 0;
    call_send(&call);
    kit_until(&loop, call.resets);
    assert_true(call.error.code == WEIR_EUPCLOSED || call.error.code == WEIR_EUPRESET);
    weir_pool_release(&call.conn);
    call_fini(&call);
}

static void test_queue(void **state)
{
    struct call a = { .keep = true }, b = { .keep = true }, c = { .keep = true };

    kit.conf.connections_max = 1;
    open_all();
    call_opts.queue_timeout_ms = 60;
    call_run(&a, view, server, "/");
    call_start(&b, view, server, "/");
    call_start(&c, view, server, "/");
    assert_int_equal(b.acq.state, ACQUIRE_QUEUED);
    weir_pool_release(&a.conn);
    kit_until(&loop, b.ends);
    assert_true(b.reused);
    assert_int_equal(c.fns, 0);
    kit_until(&loop, c.fns);
    assert_int_equal(c.error.code, WEIR_EQUEUE);
    assert_int_equal(weir_err_status(c.error.code), 503);
    assert_int_equal(atomic_load(&fake.accepted), 1);
    call_fini(&c);
    c.keep = true;
    call_start(&c, view, server, "/");
    b.conn->no_pool = true; /* its slot is free when it is closed */
    weir_pool_release(&b.conn);
    kit_until(&loop, c.ends);
    assert_false(c.reused);
    weir_pool_release(&c.conn);
    call_fini(&a);
    call_fini(&b);
    call_fini(&c);
    call_opts.fresh = true; /* makes room by closing an idle one */
    get("/", false, 200);
    call_opts.fresh = false;
    assert_int_equal(atomic_load(&server->queued), 0);
    assert_int_equal(atomic_load(&server->conns), 1);
}

static void test_connection_auth(void **state)
{
    struct weir_arena arena;
    struct weir_message msg;
    struct weir_str text[] = { WEIR_STR("Basic realm=x, NTLM"), WEIR_STR("negotiate abc=="),
                               WEIR_STR("Basic bnRsbQ==") };

    open_all();
    weir_arena_init(&arena, NULL);
    for (int i = 0; i < 3; i++) {
        weir_message_init(&msg, &arena, false);
        assert_false(weir_pool_is_connection_auth(&msg));
        assert_int_equal(
            weir_message_push(&msg, WEIR_F_WWW_AUTHENTICATE, WEIR_STR("WWW-Authenticate"), text[i]),
            0);
        assert_int_equal(weir_pool_is_connection_auth(&msg), i < 2);
    }
    weir_arena_fini(&arena);
}

static void on_raw(void *arg, struct weir_upconn *conn, const struct weir_error *error)
{
    assert_null(error);
    *(struct weir_upconn **)arg = conn;
}

/* A connection without a codec: a new one, its holder's alone, never kept. */
static void test_raw(void **state)
{
    static const struct weir_acquire_opts raw = { .raw = true };
    struct weir_acquire acq = { 0 }, other = { 0 };
    struct weir_upconn *conn = NULL, *second = NULL;
    struct call call = { 0 };
    struct weir_stream *stream;
    static const char ask[] = "GET /close HTTP/1.1\r\nHost: a\r\n\r\n";
    struct iovec iov = { (void *)ask, sizeof(ask) - 1 };

    open_all();
    get("/", false, 200);
    assert_int_equal(status_now().idle, 1);
    assert_null(weir_pool_acquire(&acq, view, server, &raw, on_raw, &conn));
    assert_null(weir_pool_acquire(&other, view, server, &raw, on_raw, &second));
    get("/", true, 200); /* meanwhile the idle one serves others */
    kit_until(&loop, conn && second);
    assert_int_equal(atomic_load(&fake.accepted), 3);
    assert_false(conn->reused);
    assert_int_equal(status_now().active, 2);
    weir_pool_release(&conn); /* let go of: it closes */
    kit_until(&loop, atomic_load(&fake.open) == 2);
    assert_int_equal(status_now().idle, 1);
    stream = weir_pool_detach(&second, NULL);
    weir_stream_set_sink(stream, &tunnel_sink, &call);
    weir_stream_read(stream, true);
    assert_int_equal(weir_stream_write(stream, &iov, 1), 0);
    kit_until(&loop, call.tunnel_len > 0);
    assert_memory_equal(call.tunnel, "HTTP/1.1", 8);
    weir_stream_close(stream, true);
    kit_until(&loop, call.tunnel_closed);
    assert_null(weir_pool_acquire(&acq, view, server, &raw, on_raw, &conn));
    weir_pool_cancel(&acq); /* what was being made goes to nobody */
    kit_until(&loop, weir_cluster_view_conns(view) == 1);
    assert_int_equal(status_now().idle, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reuse),
        TEST(test_newest_first),
        TEST(test_bytes_behind_the_answer),
        TEST(test_byte_while_idle),
        TEST(test_close_while_idle),
        TEST(test_broken_answers),
        TEST(test_refused),
        TEST(test_next_address_at_once),
        TEST(test_opened_with_bytes_pending),
        TEST(test_fresh_skips_idle),
        TEST(test_limits_of_a_connection),
        TEST(test_age),
        TEST(test_idle_max),
        TEST(test_shed_and_trim),
        TEST(test_no_pool),
        TEST(test_cancel_while_connecting),
        TEST(test_cancel_after_close),
        TEST(test_cancel_of_a_failure),
        TEST(test_who_waits_gets_what_is_released),
        TEST(test_cancel_when_ready),
        TEST(test_next_request_inside_the_end_of_one),
        TEST(test_tunnel),
        TEST(test_tunnel_counts),
        TEST(test_ends_before_the_request),
        TEST(test_queue),
        TEST(test_connection_auth),
        TEST(test_raw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
