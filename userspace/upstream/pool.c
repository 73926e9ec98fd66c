/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pool.c: idle connections of one worker, and who gets them. Hot path: acquire takes the newest
 * idle one, release puts it back; nothing is allocated, locked or asked of the kernel. Acquires
 * that wait are in acquire.c.
 */
#include "upstream/upmux.h"

/* Which states may follow which: an illegal move stops here. */
#define MAY(state) (1u << UPCONN_##state)
static const unsigned upconn_may[] = {
    [UPCONN_NONE] = MAY(CONNECTING) | MAY(READY) | MAY(HELD) | MAY(IDLE) | MAY(CLOSING),
    [UPCONN_CONNECTING] = MAY(READY) | MAY(IDLE) | MAY(CLOSING),
    [UPCONN_READY] = MAY(HELD) | MAY(IDLE) | MAY(READY) | MAY(CLOSING),
    [UPCONN_HELD] = MAY(RELEASING) | MAY(IDLE) | MAY(READY) | MAY(DETACHED) | MAY(CLOSING),
    [UPCONN_RELEASING] = MAY(IDLE) | MAY(READY) | MAY(CLOSING),
    [UPCONN_IDLE] = MAY(HELD) | MAY(READY) | MAY(GIVING) | MAY(DETACHED) | MAY(CLOSING),
    [UPCONN_GIVING] = 0,
    [UPCONN_DETACHED] = 0,
    [UPCONN_CLOSING] = 0,
};
#undef MAY

static void count_down(weir_counter *counter)
{
    weir_count(counter, UINT64_MAX); /* + -1 */
}

static void idle_leave(struct weir_upconn *conn, struct weir_server_view *sv)
{
    weir_list_remove(&conn->lru);
    conn->view->idle--;
    count_down(&sv->idle_count);
}

static void idle_enter(struct weir_upconn *conn, struct weir_server_view *sv)
{
    weir_list_push_front(&sv->idle, &conn->link);
    weir_list_push_front(&conn->view->lru, &conn->lru);
    conn->view->idle++;
    weir_count(&sv->idle_count, 1);
}

void weir_upconn_set_state(struct weir_upconn *conn, enum weir_upconn_state next)
{
    struct weir_server_view *sv = server_view(conn->view, conn->server);

    weir_assert(upconn_may[conn->state] & (1u << next));
    weir_list_remove(&conn->link);
    if (conn->state == UPCONN_IDLE)
        idle_leave(conn, sv);
    else if (conn->state == UPCONN_HELD)
        count_down(&sv->active);
    else if (conn->state == UPCONN_RELEASING)
        sv->releasing--;
    else if (conn->state == UPCONN_CONNECTING)
        sv->connecting -= !conn->http1;
    if (next == UPCONN_IDLE)
        idle_enter(conn, sv);
    else
        weir_list_push_back(&conn->view->busy, &conn->link);
    if (next == UPCONN_HELD)
        weir_count(&sv->active, 1);
    else if (next == UPCONN_RELEASING)
        sv->releasing++;
    else if (next == UPCONN_CONNECTING)
        sv->connecting += !conn->http1;
    conn->state = (uint8_t)next;
}

static bool over(uint64_t since_ms, uint64_t now_ms, int64_t limit_ms)
{
    return limit_ms > 0 && now_ms - since_ms >= (uint64_t)limit_ms;
}

static bool upconn_expired(const struct weir_upconn *conn)
{
    const struct weir_pool_conf *pool = &conn->view->cluster->conf->pool;
    uint64_t now_ms = conn->view->loop->now_ms;

    if (conn->state == UPCONN_IDLE &&
        over(conn->idle_since_ms, now_ms, conn->view->idle_timeout_ms))
        return true;
    if (pool->requests_max > 0 && conn->requests >= (uint64_t)pool->requests_max)
        return true;
    return over(conn->born_ms, now_ms, pool->age_max_ms);
}

/* One timer for all idle connections of a view. It is armed when one becomes idle, and looks when
 * the oldest may be due; a connection that is used again moves away from the end meanwhile: a busy
 * pool pays for no timer. */
static void on_sweep(struct weir_timer *timer, void *arg);

static void pool_arm_sweep(struct weir_cluster_view *view)
{
    const struct weir_pool_conf *pool = &view->cluster->conf->pool;
    struct weir_upconn *oldest;
    uint64_t age, wait = UINT64_MAX;

    if (weir_timer_armed(&view->sweep) || weir_list_empty(&view->lru))
        return;
    oldest = weir_list_entry(view->lru.prev, struct weir_upconn, lru);
    age = view->loop->now_ms - oldest->idle_since_ms;
    if (view->idle_timeout_ms > 0)
        wait = age < (uint64_t)view->idle_timeout_ms ? (uint64_t)view->idle_timeout_ms - age : 0;
    if (pool->age_max_ms > 0 && wait > (uint64_t)pool->age_max_ms / 2)
        wait = (uint64_t)pool->age_max_ms / 2; /* any of them may be due then */
    if (wait != UINT64_MAX)
        weir_loop_timer(view->loop, &view->sweep, wait + 1, on_sweep, view);
}

static void on_sweep(struct weir_timer *timer, void *arg)
{
    struct weir_cluster_view *view = weir_cast(struct weir_cluster_view, arg, WEIR_VIEW_MAGIC);
    bool ages = view->cluster->conf->pool.age_max_ms > 0;

    for (struct weir_list *pos = view->lru.prev, *prev; pos != &view->lru; pos = prev) {
        struct weir_upconn *conn = weir_list_entry(pos, struct weir_upconn, lru);

        prev = pos->prev;
        if (upconn_expired(conn))
            weir_upconn_close(conn);
        else if (!ages)
            break; /* all others are younger */
    }
    pool_arm_sweep(view);
}

static void pool_keep(struct weir_upconn *conn)
{
    struct weir_cluster_view *view = conn->view;

    conn->idle_since_ms = view->loop->now_ms;
    weir_upconn_set_state(conn, UPCONN_IDLE);
    if (view->idle > view->idle_max)
        weir_upconn_close(weir_list_entry(view->lru.prev, struct weir_upconn, lru));
    pool_arm_sweep(view);
    if (view->cluster->conf->connections_max > 0) {
        atomic_thread_fence(memory_order_seq_cst); /* acquire.c counts itself as queued, then looks
                                                      at our idle_count */
        if (atomic_load(&conn->server->queued))
            weir_share_wake(view, conn->server);
    }
}

/* May it serve another exchange? What was read up to the end of an answer, and no further, may have bytes behind it: they would
 * be the answer to the next request, whoever asks. */
static bool upconn_is_clean(const struct weir_upconn *conn)
{
    return !conn->own && !conn->no_pool && !conn->http1 && !conn->eof && !conn->dead &&
           !conn->rest.len && weir_codec_idle(&conn->h1.codec) &&
           !weir_stream_pending(conn->stream) && !weir_stream_unread(conn->stream);
}

bool weir_server_is_wanted(const struct weir_server_view *sv, const struct weir_addr *addr,
                           uint32_t *epoch)
{
    unsigned flags = atomic_load_explicit(&sv->server->flags, memory_order_relaxed);

    if (flags & WEIR_SERVER_DRAINING)
        return false;
    for (unsigned i = 0; i < sv->addr_count && *epoch != sv->epoch; i++)
        if (weir_addr_eq(&sv->addrs[i], addr))
            *epoch = sv->epoch;
    return *epoch == sv->epoch;
}

static bool upconn_is_wanted(struct weir_upconn *conn, const struct weir_server_view *sv)
{
    return weir_server_is_wanted(sv, &conn->addr, &conn->epoch);
}

void weir_pool_offer(struct weir_upconn *conn)
{
    struct weir_cluster_view *view = conn->view;
    struct weir_server_view *sv = server_view(view, conn->server);
    struct weir_acquire *acq = conn->acq;

    if (conn->mux) { /* nobody's any more; the connection serves on */
        weir_upmux_release(conn);
        return;
    }
    conn->acq = NULL;
    /* made for somebody: new, and clean but for the end of its handshake, which may be pending */
    if (!acq && (!upconn_is_clean(conn) || upconn_expired(conn) || !upconn_is_wanted(conn, sv))) {
        weir_upconn_close(conn);
        return;
    }
    if (!acq)
        acq = weir_acquire_first(sv, conn);
    if (acq)
        weir_acquire_ready(acq, conn);
    else if (atomic_load_explicit(&view->open, memory_order_relaxed))
        pool_keep(conn);
    else
        weir_upconn_close(conn);
}

bool weir_pool_move(struct weir_upconn *conn, struct weir_cluster_view *view,
                    struct weir_server *server)
{
    struct weir_server_view *sv = server_view(view, server);
    struct weir_upconn *moved;
    uint32_t epoch = 0;

    if (!weir_server_is_wanted(sv, &conn->addr, &epoch) || !weir_slot_take(server))
        return false;
    moved = weir_upconn_new(view, server);
    if (!moved) {
        weir_slot_put(view, server);
        return false;
    }
    moved->slot = true;
    moved->requests = conn->requests;
    moved->born_ms = conn->born_ms;
    moved->idle_since_ms = conn->idle_since_ms;
    moved->addr = conn->addr;
    moved->epoch = epoch;
    moved->stream = conn->stream;
    weir_upconn_set_state(conn, UPCONN_DETACHED);
    weir_upconn_free(conn);
    weir_stream_set_sink(moved->stream, &weir_upconn_sink, moved);
    weir_upconn_begin(moved);
    weir_upconn_set_state(moved, UPCONN_IDLE);
    if (view->idle > view->idle_max)
        weir_upconn_close(weir_list_entry(view->lru.prev, struct weir_upconn, lru));
    pool_arm_sweep(view);
    return true;
}

static struct weir_upconn *pool_newest(struct weir_server_view *sv)
{
    while (!weir_list_empty(&sv->idle)) {
        struct weir_upconn *conn = weir_list_entry(sv->idle.next, struct weir_upconn, link);

        if (!upconn_expired(conn))
            return conn;
        weir_upconn_close(conn);
    }
    return NULL;
}

void weir_pool_hold(struct weir_upconn *conn)
{
    struct weir_server_view *sv = server_view(conn->view, conn->server);

    weir_upconn_set_state(conn, UPCONN_HELD);
    conn->reused = conn->requests > 0;
    conn->requests++;
    conn->bytes_in = conn->bytes_out = 0;
    if (conn->reused)
        conn->connect_us = 0;
    weir_count(conn->reused ? &sv->requests_reused : &sv->requests_new, 1);
}

struct weir_upconn *weir_pool_acquire(struct weir_acquire *acq, struct weir_cluster_view *view,
                                      struct weir_server *server,
                                      const struct weir_acquire_opts *opts, weir_acquire_fn fn,
                                      void *arg)
{
    struct weir_server_view *sv = server_view(view, server);
    bool http1 = weir_upmux_avoids(view, sv, opts);
    struct weir_upconn *conn;
    bool alone;

    weir_view_sync(view);
    alone = http1 || weir_acquire_own(opts);
    conn = opts->fresh || alone ? NULL : pool_newest(sv);
    if (!conn && sv->mux_count && !alone)
        conn = weir_upmux_lease(sv, opts->fresh);
    if (conn) {
        weir_pool_hold(conn);
        return conn;
    }
    *acq = (struct weir_acquire){
        .view = view,
        .server = server,
        .opts = *opts,
        .fn = fn,
        .arg = arg,
        .started_us = view->loop->now_us,
    };
    acq->opts.http1 = http1;
    acq->opts.fresh |= weir_acquire_own(opts);
    weir_acquire_begin(acq);
    return NULL;
}

/* What is left of an exchange that was given up says nothing to its holder any more. */
static void mute_message(void *arg, struct weir_message *msg)
{
}
static void mute_body(void *arg, struct weir_str data)
{
}
static void mute(void *arg)
{
}
static void mute_reset(void *arg, const struct weir_error *why)
{
}
static const struct weir_hstream_sink mute_sink = {
    .on_head = mute_message,
    .on_body = mute_body,
    .on_trailer = mute_message,
    .on_end = mute,
    .on_drained = mute,
    .on_reset = mute_reset,
    .on_flush = mute,
};

void weir_pool_release(struct weir_upconn **connp)
{
    struct weir_upconn *conn = weir_take(connp);

    weir_assert(conn->magic == WEIR_UPCONN_MAGIC && conn->state == UPCONN_HELD);
    if (conn->mux) {
        weir_upmux_release(conn);
        return;
    }
    if (conn->raw) {
        weir_upconn_close(conn);
        return;
    }
    if (!weir_codec_idle(&conn->h1.codec) &&
        (conn->no_pool || conn->eof || conn->dead || !weir_hstream_done(&conn->hs))) {
        conn->no_pool = true;
        conn->hs.sink = &mute_sink;
        weir_hstream_reset(&conn->hs, WEIR_ECANCELED);
    }
    if (conn->in_event)
        weir_upconn_set_state(conn, UPCONN_RELEASING);
    else
        weir_pool_offer(conn);
}

void weir_pool_purge(struct weir_cluster_view *view, struct weir_server_view *sv, bool all)
{
    weir_list_each(pos, tmp, &sv->idle)
    {
        struct weir_upconn *conn = weir_list_entry(pos, struct weir_upconn, link);

        if (all || !upconn_is_wanted(conn, sv))
            weir_upconn_close(conn);
    }
    if (sv->mux_count)
        weir_upmux_purge(view, sv, all);
}

struct weir_stream *weir_pool_detach(struct weir_upconn **connp, struct weir_buf *rest)
{
    struct weir_upconn *conn = weir_take(connp);
    struct weir_stream *stream = conn->stream;

    weir_assert(conn->magic == WEIR_UPCONN_MAGIC && conn->state == UPCONN_HELD && !conn->mux);
    weir_upconn_set_state(conn, UPCONN_DETACHED);
    conn->hs.sink = &mute_sink;
    weir_later_cancel(&conn->later);
    if (conn->in_event)
        return stream; /* upconn.c hands on what follows, and frees */
    if (rest)
        weir_buf_splice(rest, &conn->rest);
    weir_upconn_free(conn);
    return stream;
}

void weir_pool_token_take(struct weir_upconn *conn, struct weir_pool_token *token)
{
    weir_assert(conn->magic == WEIR_UPCONN_MAGIC && conn->state == UPCONN_HELD && !conn->mux);
    *token = (struct weir_pool_token){ conn->view, conn->server, conn->slot };
    conn->slot = false;
    conn->view->tokens++;
    weir_count(&server_view(conn->view, conn->server)->active, 1);
}

void weir_pool_token_resume(struct weir_pool_token *token)
{
    if (!token->view)
        return;
    token->view->tokens++;
    weir_count(&server_view(token->view, token->server)->active, 1);
    token->slot = token->slot && weir_slot_take(token->server);
}

void weir_pool_token_put(struct weir_pool_token *token)
{
    struct weir_cluster_view *view = token->view;

    if (!view)
        return;
    view->tokens--;
    count_down(&server_view(view, token->server)->active);
    if (token->slot)
        weir_slot_put(view, token->server);
    *token = (struct weir_pool_token){ 0 };
}

static bool has_connection_scheme(struct weir_str value)
{
    struct weir_str element, scheme, rest;

    while (weir_str_next_element(&value, &element)) { /* "Negotiate abc", "Basic realm=x, NTLM" */
        scheme = weir_str_cut(element, ' ', &rest);
        if (weir_str_ieq(scheme, WEIR_STR("ntlm")) || weir_str_ieq(scheme, WEIR_STR("negotiate")))
            return true;
    }
    return false;
}

bool weir_pool_is_connection_auth(const struct weir_message *msg)
{
    static const uint64_t any =
        (uint64_t)1 << WEIR_F_AUTHORIZATION | (uint64_t)1 << WEIR_F_WWW_AUTHENTICATE |
        (uint64_t)1 << WEIR_F_PROXY_AUTHORIZATION | (uint64_t)1 << WEIR_F_PROXY_AUTHENTICATE;

    if (!(msg->has & any))
        return false;
    for (unsigned i = 0; i < msg->count; i++)
        if (msg->fields[i].id && (any >> msg->fields[i].id & 1) &&
            has_connection_scheme(msg->fields[i].value))
            return true;
    return false;
}
