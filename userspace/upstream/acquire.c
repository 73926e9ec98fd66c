/* SPDX-License-Identifier: Apache-2.0 */
/**
 * acquire.c: those who found no idle connection.
 *
 *   begin ──▶ promised: one of this worker is being released, in an event that still goes on
 *         ──▶ asking: another worker says that it has one; 20 ms, then on
 *         ──▶ sharing: others are connecting, and it is HTTP/2, or not known yet
 *         ──▶ connecting ◀──▶ queued: connections_max is reached
 *                        ◀──▶ starved: no file descriptor is free; every 20 ms again
 *
 *   any of them ──▶ ready | failed ──end of turn──▶ fn
 *
 * All that wait for a server stand in one line; whatever becomes free first (given, released,
 * connected) goes to the head of it, and a connection that was made for somebody who got another
 * goes to the pool. So a connection that is being made is never made in vain, and an answer never
 * comes too late. Who wants one of his own (bytes without a codec) waits for that one alone, and it
 * for him.
 */
#include "upstream/upmux.h"

static void acquire_go_on(struct weir_acquire *acq);
static void acquire_connect(struct weir_acquire *acq);
static void acquire_connect_now(struct weir_acquire *acq);

enum { STARVED_RETRY_MS = 20 };

static void on_timer(struct weir_timer *timer, void *arg);

/* What an acquire is in when it leaves a state, and what it needs in the next. */
static void acquire_set_state(struct weir_acquire *acq, enum weir_acquire_state next)
{
    struct weir_server_view *sv = server_view(acq->view, acq->server);

    weir_timer_stop(&acq->view->loop->wheel, &acq->timer);
    if (acq->state == ACQUIRE_PROMISED)
        sv->promised--;
    else if (acq->state == ACQUIRE_SHARING)
        sv->sharing--;
    else if (acq->state == ACQUIRE_QUEUED) {
        sv->queued--;
        atomic_fetch_sub(&acq->server->queued, 1);
    } else if (acq->state == ACQUIRE_CONNECTING && acq->conn) {
        acq->conn->acq = NULL; /* it goes on, for the pool */
        if (acq->conn->own || !atomic_load_explicit(&acq->view->open, memory_order_relaxed))
            weir_upconn_close(acq->conn);
        acq->conn = NULL;
    }
    if (next == ACQUIRE_PROMISED)
        sv->promised++;
    else if (next == ACQUIRE_SHARING)
        sv->sharing++;
    else if (next == ACQUIRE_QUEUED) {
        sv->queued++;
        atomic_fetch_add(&acq->server->queued, 1);
    }
    acq->state = (uint8_t)next;
}

static void acquire_wait(struct weir_acquire *acq)
{
    struct weir_server_view *sv = server_view(acq->view, acq->server);

    weir_list_push_back(&sv->waiting, &acq->link);
    weir_count(&sv->waiting_count, 1);
}

static void acquire_leave(struct weir_acquire *acq, enum weir_acquire_state next)
{
    struct weir_server_view *sv = server_view(acq->view, acq->server);

    weir_share_forget(acq);
    acquire_set_state(acq, next);
    weir_list_remove(&acq->link);
    weir_count(&sv->waiting_count, UINT64_MAX); /* + -1 */
}

static void on_failed(void *arg)
{
    struct weir_acquire *acq = arg;
    struct weir_error error = acq->error;

    acq->state = ACQUIRE_NONE;
    acq->fn(acq->arg, NULL, &error);
}

static void acquire_fail(struct weir_acquire *acq, struct weir_error error)
{
    acquire_leave(acq, ACQUIRE_FAILED);
    acq->error = error;
    weir_loop_defer(acq->view->loop, &acq->later, on_failed, acq);
}

/* Between the promise and the end of the turn the connection may have ended. */
static void acquire_lost(struct weir_acquire *acq)
{
    struct weir_upconn *conn = acq->conn;
    bool used = conn->requests > 0;

    acq->conn = NULL;
    conn->acq = NULL;
    acq->state = ACQUIRE_NONE;
    weir_upconn_close(conn);
    acquire_wait(acq);
    if (used)
        acquire_go_on(acq);
    else
        acquire_fail(acq, weir_connect_error(WEIR_EUPCLOSED, 0));
}

static void on_ready(void *arg)
{
    struct weir_acquire *acq = arg;
    struct weir_upconn *conn = acq->conn;

    weir_assert(conn && conn->acq == acq && conn->state == UPCONN_READY);
    if (conn->mux ? !weir_upmux_take(conn) : conn->eof || conn->dead || conn->no_pool) {
        acquire_lost(acq);
        return;
    }
    acq->state = ACQUIRE_NONE;
    acq->conn = NULL;
    conn->acq = NULL;
    weir_pool_hold(conn);
    acq->fn(acq->arg, conn, NULL);
}

void weir_acquire_ready(struct weir_acquire *acq, struct weir_upconn *conn)
{
    if (acq->conn == conn)
        acq->conn = NULL; /* made for it: not to be parted from it */
    acquire_leave(acq, ACQUIRE_READY);
    acq->conn = conn;
    conn->acq = acq;
    if (conn->mux)
        conn->mux->ready++;
    weir_upconn_set_state(conn, UPCONN_READY);
    weir_loop_defer(acq->view->loop, &acq->later, on_ready, acq);
}

struct weir_acquire *weir_acquire_first(struct weir_server_view *sv, const struct weir_upconn *conn)
{
    weir_list_each(pos, tmp, &sv->waiting)
    {
        struct weir_acquire *acq = weir_list_entry(pos, struct weir_acquire, link);

        if (!weir_acquire_own(&acq->opts) && (!acq->opts.fresh || conn->requests == 0))
            return acq;
    }
    return NULL;
}

static uint64_t acquire_age_ms(const struct weir_acquire *acq)
{
    return (acq->view->loop->now_us - acq->started_us) / 1000;
}

static uint32_t connect_timeout(const struct weir_acquire *acq)
{
    return acq->opts.connect_timeout_ms ? acq->opts.connect_timeout_ms : WEIR_CONNECT_TIMEOUT_MS;
}

static uint64_t queue_timeout(const struct weir_acquire *acq)
{
    return acq->opts.queue_timeout_ms ? acq->opts.queue_timeout_ms : UPSTREAM_QUEUE_MS;
}

static bool acquire_slot(struct weir_acquire *acq)
{
    if (!acq->opts.http1 && weir_upmux_full(server_view(acq->view, acq->server)))
        return false;
    return weir_slot_take(acq->server);
}

/* connections_max is reached. First counted, then looked once more: who frees one does it the other
 * way round. */
static void acquire_queue(struct weir_acquire *acq)
{
    struct weir_server_view *sv = server_view(acq->view, acq->server);
    uint64_t limit = queue_timeout(acq), age = acquire_age_ms(acq);

    acquire_set_state(acq, ACQUIRE_QUEUED);
    if (acquire_slot(acq)) {
        acquire_connect_now(acq);
        return;
    }
    if (acq->opts.fresh &&
        !weir_list_empty(&sv->idle)) /* its slot is wanted; it is given back when it is closed */
        weir_upconn_close(weir_list_entry(sv->idle.prev, struct weir_upconn, link));
    if (sv->speaks != UPSPEAKS_H1)
        weir_upmux_ask_slot(acq->view, sv, acq->opts.fresh || acq->opts.http1);
    weir_loop_timer(acq->view->loop, &acq->timer, age < limit ? limit - age : 0, on_timer, acq);
}

/* What idles makes room meanwhile: ours at once, that of others at their next sweep. */
static bool acquire_starve(struct weir_acquire *acq, const struct weir_error *error)
{
    uint64_t limit = queue_timeout(acq);

    if (error->code != WEIR_EMFILE || acquire_age_ms(acq) >= limit)
        return false;
    acquire_set_state(acq, ACQUIRE_STARVED);
    weir_loop_timer(acq->view->loop, &acq->timer, STARVED_RETRY_MS, on_timer, acq);
    return true;
}

static void acquire_connect(struct weir_acquire *acq)
{
    if (acquire_slot(acq))
        acquire_connect_now(acq);
    else
        acquire_queue(acq);
}

/* Others are connecting, and what they make will have room, or will tell what is spoken. */
static bool acquire_share(struct weir_acquire *acq)
{
    struct weir_server_view *sv = server_view(acq->view, acq->server);
    bool before = acq->state == ACQUIRE_SHARING;
    uint64_t limit = connect_timeout(acq), age = acquire_age_ms(acq);

    if (sv->sharing - before >= weir_upmux_supply(acq->view, sv))
        return false;
    if (!before) {
        acquire_set_state(acq, ACQUIRE_SHARING);
        weir_loop_timer(acq->view->loop, &acq->timer, age < limit ? limit - age : 0, on_timer, acq);
    }
    return true;
}

/* A name may have several addresses: the next one, while the time for connecting lasts. */
static bool acquire_try_next(struct weir_acquire *acq)
{
    struct weir_server_view *sv = server_view(acq->view, acq->server);
    unsigned max = sv->addr_count < 3 ? sv->addr_count : 3;

    return acq->connects < max && acquire_age_ms(acq) < connect_timeout(acq);
}

/* No route, no such socket, no port left, no source (which one family alone has): told at once, and
 * of this address alone. */
static bool of_one_address(const struct weir_error *error)
{
    return error->by == WEIR_BY_UPSTREAM || error->code == WEIR_ENOPORT ||
           error->code == WEIR_ENOSOURCE;
}

/* The slot has been taken. */
static void acquire_connect_now(struct weir_acquire *acq)
{
    uint32_t timeout = connect_timeout(acq), age = (uint32_t)acquire_age_ms(acq);
    struct weir_error error;
    struct weir_upconn *conn;

    if (acq->state == ACQUIRE_SHARING) /* it has waited for a connect already */
        timeout = age < timeout ? timeout - age : 1;
    acquire_set_state(acq, ACQUIRE_CONNECTING);
    do {
        acq->connects++;
        conn = weir_connect(acq, timeout, &error);
    } while (!conn && of_one_address(&error) && acquire_try_next(acq));
    if (!conn) {
        weir_slot_put(acq->view, acq->server);
        if (!acquire_starve(acq, &error))
            acquire_fail(acq, error);
        return;
    }
    acq->conn = conn;
    conn->acq = acq;
}

static void acquire_go_on(struct weir_acquire *acq)
{
    struct weir_server_view *sv = server_view(acq->view, acq->server);
    struct weir_upconn *lease = NULL;

    if (acq->opts.http1 || weir_acquire_own(&acq->opts)) { /* nothing else will do */
        acquire_connect(acq);
        return;
    }
    if (sv->mux_count)
        lease = weir_upmux_lease(sv, acq->opts.fresh);
    if (lease) {
        weir_acquire_ready(acq, lease);
    } else if (!acq->opts.fresh && sv->releasing > sv->promised) {
        acquire_set_state(acq, ACQUIRE_PROMISED);
    } else if (acquire_share(acq)) {
        return;
    } else if (!acq->opts.fresh && sv->speaks != UPSPEAKS_H2 && weir_share_ask(acq)) {
        acquire_set_state(acq, ACQUIRE_ASKING);
        weir_loop_timer(acq->view->loop, &acq->timer, UPSTREAM_ASK_MS, on_timer, acq);
    } else {
        acquire_connect(acq);
    }
}

void weir_acquire_again(struct weir_acquire *acq)
{
    acquire_go_on(acq);
}

void weir_acquire_begin(struct weir_acquire *acq)
{
    acquire_wait(acq);
    acquire_go_on(acq);
}

static void on_timer(struct weir_timer *timer, void *arg)
{
    struct weir_acquire *acq = arg;

    if (acq->state == ACQUIRE_ASKING || acq->state == ACQUIRE_STARVED)
        acquire_connect(acq); /* what others may give or release is still welcome */
    else if (acq->state == ACQUIRE_SHARING)
        acquire_fail(acq, weir_connect_error(WEIR_ECONNTIME, 0));
    else if (acq->state == ACQUIRE_QUEUED)
        acquire_fail(acq,
                     (struct weir_error){ WEIR_EQUEUE, WEIR_BY_US, WEIR_RETRY_UNSENT, 0, "queue" });
}

void weir_pool_asked_in_vain(struct weir_acquire *acq)
{
    if (acq->state == ACQUIRE_ASKING)
        acquire_go_on(acq);
}

void weir_pool_retry(struct weir_cluster_view *view, struct weir_server_view *sv)
{
    weir_list_each(pos, tmp, &sv->waiting)
    {
        struct weir_acquire *acq = weir_list_entry(pos, struct weir_acquire, link);

        if (acq->state == ACQUIRE_QUEUED)
            acq->asks = 0; /* something has changed since they said no */
        else if (acq->state == ACQUIRE_SHARING && sv->sharing <= weir_upmux_supply(view, sv))
            continue;
        else if (acq->state != ACQUIRE_SHARING &&
                 (acq->state != ACQUIRE_PROMISED || sv->promised <= sv->releasing))
            continue;
        acquire_go_on(acq);
    }
}

void weir_pool_connect_failed(struct weir_upconn *conn, struct weir_error error)
{
    struct weir_cluster_view *view = conn->view;
    struct weir_server_view *sv = server_view(view, conn->server);
    struct weir_acquire *acq = conn->acq;

    const struct weir_tls_info *tls = conn->stream ? weir_stream_tls(conn->stream) : NULL;

    weir_count(&sv->failed, 1);
    weir_server_failed(conn->server, &error, tls ? tls->fault : NULL, view->loop->now_ms);
    conn->acq = NULL;
    weir_upconn_close(conn);
    if (acq) {
        acq->conn = NULL;
        if (acquire_try_next(acq))
            acquire_connect(acq);
        else
            acquire_fail(acq, error);
    }
    if (sv->sharing) /* the next of them tries */
        weir_pool_retry(view, sv);
}

void weir_pool_cancel(struct weir_acquire *acq)
{
    struct weir_upconn *conn = acq->conn;

    weir_later_cancel(&acq->later);
    if (acq->state == ACQUIRE_READY) {
        acq->state = ACQUIRE_NONE;
        acq->conn = NULL;
        conn->acq = NULL;
        weir_pool_offer(conn);
    } else if (acq->state == ACQUIRE_FAILED) {
        acq->state = ACQUIRE_NONE;
    } else if (acq->state != ACQUIRE_NONE) {
        acquire_leave(acq, ACQUIRE_NONE);
    }
}
