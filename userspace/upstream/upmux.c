/* SPDX-License-Identifier: Apache-2.0 */
/**
 * upmux.c: one connection of HTTP/2 to a server: between its stream, its codec and its leases. Holders end their
 * exchanges inside events of the codec: `in_event` puts off what must not happen there, and mux_settle() looks at it
 * when the codec has returned. The codec lives as long as a lease, whatever became of the stream.
 *
 * One timer for all that can be due, armed for the earliest and not moved when that changes to later: a busy connection
 * pays for it once in some seconds.
 */
#include "upstream/upmux.h"

static void count_down(weir_counter *counter)
{
    weir_count(counter, UINT64_MAX); /* + -1 */
}

unsigned weir_upmux_room(const struct weir_upmux *mux)
{
    unsigned room = mux->retiring ? 0 : weir_h2_room(mux->h2), taken = mux->ready;

    if (!mux->measured && room) { /* it will be as the one before it */
        room = server_view(mux->view, mux->server)->mux_room;
        taken = mux->leases;
    }
    return room > taken ? room - taken : 0;
}

static bool mux_is_idle(const struct weir_upmux *mux)
{
    return mux->leases == 0;
}

/* --- its end --- */

static void mux_free(struct weir_upmux *mux)
{
    weir_count(&mux->view->h2_abuse[weir_h2_abused(mux->h2)], 1);
    weir_h2_free(mux->h2);
    weir_slab_put(&mux->view->muxes, mux);
}

static void mux_leave_idle(struct weir_upmux *mux)
{
    struct weir_cluster_view *view = mux->view;

    if (weir_list_empty(&mux->idle))
        return;
    weir_list_remove(&mux->idle);
    view->idle--;
    count_down(&server_view(view, mux->server)->idle_count);
}

void weir_upmux_close(struct weir_upmux *mux)
{
    if (mux->closing)
        return;
    if (!mux->in_event && !mux->told && mux_is_idle(mux))
        weir_h2_goodbye(mux->h2, WEIR_OK);
    mux->closing = true;
    mux_leave_idle(mux);
    weir_upmux_retire(mux);
    weir_timer_stop(&mux->view->loop->wheel, &mux->timer);
    weir_later_cancel(&mux->flush);
    weir_stream_close(mux->stream, false);
}

/* Nothing more is to be heard or said on it. What the codec has to say last goes out first. */
static bool mux_is_over(const struct weir_upmux *mux)
{
    if (mux->told)
        return true;
    return ((mux->retiring && mux_is_idle(mux)) || weir_codec_over(weir_h2_codec(mux->h2))) &&
           !weir_later_queued(&mux->flush);
}

void weir_upmux_retire(struct weir_upmux *mux)
{
    struct weir_cluster_view *view = mux->view;
    struct weir_server_view *sv = server_view(view, mux->server);

    if (mux->retiring)
        return;
    mux->retiring = true;
    weir_list_remove(&mux->link);
    sv->mux_count--;
    if (!weir_list_empty(&sv->waiting))
        weir_view_kick(view); /* there may be another one now; not here: the line may be walked */
    if (!mux->in_event && mux_is_over(mux))
        weir_upmux_close(mux);
}

/* How many exchanges its SETTINGS allow: as many another connection to this server is expected to take. */
static void mux_measure(struct weir_upmux *mux, struct weir_server_view *sv)
{
    unsigned all = weir_h2_room_max(mux->h2);

    mux->measured = true;
    sv->no_upgrade = !weir_h2_takes_upgrade(mux->h2);
    sv->mux_room = all > UPMUX_ROOM ? UPMUX_ROOM : all;
}

/* The codec has returned, or a lease has ended. */
static void mux_settle(struct weir_upmux *mux)
{
    struct weir_cluster_view *view = mux->view;
    struct weir_server_view *sv = server_view(view, mux->server);

    if (mux->dead && !mux->told) {
        mux->told = true;
        mux->in_event = true;
        weir_codec_eof(weir_h2_codec(mux->h2), (enum weir_err)mux->fault);
    }
    mux->in_event = false;
    if ((!mux->measured || !sv->mux_room) && !mux->retiring && weir_h2_settled(mux->h2))
        mux_measure(mux, sv);
    if (!mux->closing && weir_h2_closing(mux->h2))
        weir_upmux_retire(mux);
    if (!mux->closing && mux_is_over(mux))
        weir_upmux_close(mux);
    if (mux->closed && mux_is_idle(mux))
        mux_free(mux);
    if (!weir_list_empty(&sv->waiting))
        weir_upmux_serve(view, sv);
}

static void mux_die(struct weir_upmux *mux, enum weir_err why)
{
    if (mux->dead || mux->closing)
        return;
    mux->dead = true;
    mux->fault = why;
    mux_settle(mux);
}

/* --- time --- */

static void on_timer(struct weir_timer *timer, void *arg);

/* WEIR_UNLIMITED: for ever. */
static int64_t mux_idle_ms(const struct weir_upmux *mux)
{
    const struct weir_server_view *sv = server_view(mux->view, mux->server);
    int64_t limit = mux->view->idle_timeout_ms;
    bool spare = sv->mux_count > 1 && sv->muxes.next != &mux->link; /* the first has room enough */

    return spare && (limit < 0 || limit > UPMUX_SPARE_MS) ? UPMUX_SPARE_MS : limit;
}

static uint64_t mux_heard_ms(const struct weir_upmux *mux)
{
    uint64_t alive_ms = weir_h2_alive_ms(mux->h2);

    return alive_ms > mux->busy_since_ms ? alive_ms : mux->busy_since_ms;
}

static uint64_t mux_due_ms(const struct weir_upmux *mux)
{
    int64_t age = mux->view->cluster->conf->pool.age_max_ms, limit;
    uint64_t due = UINT64_MAX, heard, now = mux->view->loop->now_ms;

    if (mux_is_idle(mux)) {
        limit = mux_idle_ms(mux);
        if (limit >= 0)
            due = mux->idle_since_ms + (uint64_t)limit;
    } else {
        heard = mux_heard_ms(mux);
        due = (mux->pinged_ms > heard ? mux->pinged_ms : heard) + UPMUX_QUIET_MS;
        if (due <= now) /* it has been looked at, and is left alone */
            due = now + UPMUX_QUIET_MS;
    }
    if (age > 0 && !mux->retiring && due > mux->born_ms + (uint64_t)age)
        due = mux->born_ms + (uint64_t)age;
    return due;
}

static void mux_arm(struct weir_upmux *mux)
{
    uint64_t due = mux_due_ms(mux), now = mux->view->loop->now_ms;

    if (due == UINT64_MAX || (weir_timer_armed(&mux->timer) && mux->due_ms <= due))
        return;
    mux->due_ms = due > now ? due : now + 1;
    weir_loop_timer(mux->view->loop, &mux->timer, mux->due_ms - now, on_timer, mux);
}

/* Servers of gRPC count PINGs that come more often than every 5 minutes while they send no HEADERS and no DATA, and end the
 * connection at the third (gRPC's A8; ENHANCE_YOUR_CALM, too_many_pings): a quiet stream would die of being asked. So a
 * server is asked once for all that it says; whether its host is there TCP asks (mux_new). */
static bool may_ping(const struct weir_upmux *mux)
{
    return !mux->pinged_ms || weir_h2_spoke_ms(mux->h2) > mux->pinged_ms ||
           mux->view->loop->now_ms - mux->pinged_ms >= UPMUX_ASK_MS;
}

/* Is there anybody at the other end? */
static void mux_probe(struct weir_upmux *mux)
{
    uint64_t now = mux->view->loop->now_ms, heard = mux_heard_ms(mux);

    if (now - heard < UPMUX_QUIET_MS || mux->paused)
        return;
    if (mux->pinged_ms > heard) {
        if (now - mux->pinged_ms >= UPMUX_QUIET_MS)
            mux_die(mux, WEIR_EUPTIME);
    } else if (may_ping(mux)) {
        mux->pinged_ms = now;
        weir_h2_ping(mux->h2);
    }
}

static void on_timer(struct weir_timer *timer, void *arg)
{
    struct weir_upmux *mux = weir_cast(struct weir_upmux, arg, WEIR_UPMUX_MAGIC);
    uint64_t now = mux->view->loop->now_ms;
    int64_t age = mux->view->cluster->conf->pool.age_max_ms, limit = mux_idle_ms(mux);

    if (mux_is_idle(mux)) {
        if (limit >= 0 && now - mux->idle_since_ms >= (uint64_t)limit)
            weir_upmux_close(mux);
    } else {
        mux_probe(mux);
    }
    if (!mux->closing && age > 0 && now - mux->born_ms >= (uint64_t)age)
        weir_upmux_retire(mux);
    if (!mux->closing)
        mux_arm(mux);
}

/* --- leases --- */

static void mux_enter_idle(struct weir_upmux *mux)
{
    struct weir_cluster_view *view = mux->view;
    struct weir_server_view *sv = server_view(view, mux->server);

    mux->idle_since_ms = view->loop->now_ms;
    weir_list_push_front(&view->idle_muxes, &mux->idle);
    view->idle++;
    weir_count(&sv->idle_count, 1);
}

/* It may be one too many, or its slot wanted elsewhere. */
static void mux_keep(struct weir_upmux *mux)
{
    struct weir_cluster_view *view = mux->view;

    if (view->idle > view->idle_max)
        weir_upmux_close(weir_list_entry(view->idle_muxes.prev, struct weir_upmux, idle));
    if (view->cluster->conf->connections_max > 0) {
        atomic_thread_fence(memory_order_seq_cst); /* acquire.c counts itself as queued, then looks
                                                      at our idle_count */
        weir_upmux_yield(server_view(view, mux->server));
    }
    if (!mux->closing)
        mux_arm(mux);
}

struct weir_upconn *weir_upmux_lease_new(struct weir_upmux *mux)
{
    struct weir_upconn *lease = weir_upconn_new(mux->view, mux->server);

    if (!lease)
        return NULL;
    lease->mux = mux;
    lease->codec = weir_h2_codec(mux->h2);
    lease->born_ms = mux->born_ms;
    lease->requests = mux->requests++;
    lease->connect_us = mux->connect_us;
    if (mux_is_idle(mux)) {
        mux_leave_idle(mux);
        mux->busy_since_ms = mux->view->loop->now_ms;
    }
    if (!mux->leases++)
        mux_arm(mux);
    return lease;
}

void weir_upmux_release(struct weir_upconn *lease)
{
    struct weir_upmux *mux = lease->mux;

    if (lease->hs.impl) {
        weir_hstream_reset(&lease->hs, WEIR_ECANCELED);
        weir_hstream_done(&lease->hs);
    }
    if (lease->state == UPCONN_READY)
        mux->ready--;
    mux->leases--;
    weir_upconn_set_state(lease, UPCONN_CLOSING);
    weir_upconn_free(lease);
    if (mux_is_idle(mux) && !mux->closing) {
        mux_enter_idle(mux);
        mux_keep(mux);
    }
    if (!mux->in_event)
        mux_settle(mux);
}

/* --- its stream --- */

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct weir_upmux *mux = weir_cast(struct weir_upmux, arg, WEIR_UPMUX_MAGIC);
    ssize_t n;

    if (mux->closing || mux->dead)
        return;
    mux->in_event = true;
    n = weir_codec_feed(weir_h2_codec(mux->h2), data, len);
    if (n >= 0 && (size_t)n < len) { /* frames are never left */
        mux->dead = true;
        mux->fault = WEIR_EUPFRAMING;
    }
    mux_settle(mux);
}

static void on_eof(void *arg)
{
    mux_die(weir_cast(struct weir_upmux, arg, WEIR_UPMUX_MAGIC), WEIR_OK);
}

static void on_drained(void *arg)
{
    struct weir_upmux *mux = weir_cast(struct weir_upmux, arg, WEIR_UPMUX_MAGIC);

    if (mux->closing)
        return;
    mux->in_event = true;
    weir_codec_drained(weir_h2_codec(mux->h2));
    mux_settle(mux);
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    mux_die(weir_cast(struct weir_upmux, arg, WEIR_UPMUX_MAGIC), weir_upstream_fault(err));
}

static void on_closed(void *arg)
{
    struct weir_upmux *mux = weir_cast(struct weir_upmux, arg, WEIR_UPMUX_MAGIC);
    struct weir_cluster_view *view = mux->view;
    struct weir_server *server = mux->server;

    weir_assert(mux->closing);
    mux->closed = true;
    if (mux->slot)
        weir_slot_put(view, server);
    mux->slot = false;
    if (mux_is_idle(mux))
        mux_free(mux);
}

static const struct weir_stream_sink stream_sink = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_error = on_error,
    .on_closed = on_closed,
};

/* --- its codec --- */

static void on_flush(void *arg)
{
    struct weir_upmux *mux = weir_cast(struct weir_upmux, arg, WEIR_UPMUX_MAGIC);

    mux->in_event = true;
    if (!mux->dead)
        weir_codec_flush(weir_h2_codec(mux->h2));
    mux_settle(mux);
}

static void on_wanted(void *arg)
{
    struct weir_upmux *mux = arg;

    if (!mux->closing && !weir_later_queued(&mux->flush))
        weir_loop_defer(mux->view->loop, &mux->flush, on_flush, mux);
}

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct weir_upmux *mux = arg;

    if (mux->closing || !weir_stream_write(mux->stream, iov, count))
        return;
    mux->dead = true;
    mux->fault = WEIR_ENOMEM;
    on_wanted(mux); /* the codec is told of it then */
}

static size_t on_pending(void *arg)
{
    struct weir_upmux *mux = arg;

    return mux->closing ? 0 : weir_stream_pending(mux->stream);
}

static void on_pause(void *arg, bool pause)
{
    struct weir_upmux *mux = arg;

    mux->paused = pause;
    if (!mux->closing && !mux->dead)
        weir_stream_read(mux->stream, !pause);
}

static const struct weir_codec_sink codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
    .on_wanted = on_wanted,
};

/* --- its begin --- */

/* As the kernels had it at the handshake: what the server's SETTINGS and PING tell may be long merely because it is busy, and
 * that is what its windows would grow by. */
static uint32_t rtt_of(struct weir_stream *stream)
{
    const struct weir_tls_info *tls = weir_stream_tls(stream);
    uint32_t tls_ms = tls ? tls->rtt_ms : 0, tcp_ms;
    struct weir_path_info path;

    if (!weir_stream_path_info(stream, &path) || !path.rtt_us)
        return tls_ms;
    tcp_ms = path.rtt_us / 1000 + 1;
    return tls_ms && tls_ms < tcp_ms ? tls_ms : tcp_ms;
}

static struct weir_upmux *mux_new(struct weir_upconn *conn)
{
    struct weir_cluster_view *view = conn->view;
    struct weir_upmux *mux = weir_slab_get(&view->muxes);

    if (!mux)
        return NULL;
    mux->magic = WEIR_UPMUX_MAGIC;
    mux->view = view;
    mux->server = conn->server;
    weir_list_init(&mux->link);
    weir_list_init(&mux->idle);
    mux->born_ms = mux->busy_since_ms = view->loop->now_ms;
    mux->connect_us = conn->connect_us;
    mux->addr = conn->addr;
    mux->h2 =
        weir_h2_new_client(view->h2, view->cluster->limits, view->cluster->h2, &codec_sink, mux);
    if (!mux->h2) {
        weir_later_cancel(&mux->flush);
        weir_slab_put(&view->muxes, mux);
        return NULL;
    }
    weir_h2_secure(mux->h2, view->cluster->tls != NULL);
    mux->slot = conn->slot;
    mux->stream = conn->stream;
    weir_h2_set_rtt(mux->h2, rtt_of(mux->stream));
    weir_stream_watch(mux->stream, UPMUX_QUIET_MS / 1000);
    weir_stream_set_sink(mux->stream, &stream_sink, mux);
    return mux;
}

void weir_upmux_open(struct weir_upconn *conn)
{
    struct weir_cluster_view *view = conn->view;
    struct weir_server_view *sv = server_view(view, conn->server);
    struct weir_acquire *acq = conn->acq;
    struct weir_upmux *mux = mux_new(conn);

    if (!mux) {
        weir_pool_connect_failed(conn, weir_connect_error(WEIR_ENOMEM, 0));
        return;
    }
    conn->acq = NULL;
    conn->slot = false;
    weir_upconn_set_state(conn, UPCONN_CLOSING);
    weir_upconn_free(conn);
    weir_list_push_back(&sv->muxes, &mux->link);
    sv->mux_count++;
    mux_enter_idle(mux);
    weir_stream_read(mux->stream, true);
    if (acq)
        acq->conn = NULL; /* it stands in the line with all others */
    weir_upmux_serve(view, sv);
    if (acq && acq->state == ACQUIRE_CONNECTING && !acq->conn)
        weir_acquire_again(acq);
    if (!atomic_load_explicit(&view->open, memory_order_relaxed) || sv->mux_count > UPMUX_MAX ||
        !weir_server_is_wanted(sv, &mux->addr, &mux->epoch))
        weir_upmux_retire(mux);
    else if (mux_is_idle(mux))
        mux_keep(mux);
    if (!mux->closing) { /* behind those that are served now: what they send goes with the preface */
        weir_later_cancel(&mux->flush);
        on_wanted(mux);
    }
}
