/* SPDX-License-Identifier: Apache-2.0 */
/**
 * upconn.c: a connection between its stream and its codec. The holder may release or detach it
 * inside any event that the codec hands out: `in_event` keeps memory, codec and stream in place
 * until the event has returned, and what is then known (were there bytes behind the answer?)
 * decides. Freed in on_closed, or after a detach.
 */
#include "upstream/upmux.h"

struct weir_upconn *weir_upconn_new(struct weir_cluster_view *view, struct weir_server *server)
{
    struct weir_upconn *conn = weir_slab_get(&view->conns);

    if (!conn)
        return NULL;
    conn->magic = WEIR_UPCONN_MAGIC;
    conn->view = view;
    conn->server = server;
    conn->born_ms = view->loop->now_ms;
    weir_list_init(&conn->link);
    weir_list_init(&conn->lru);
    weir_buf_init(&conn->rest, &view->loop->bufs);
    return conn;
}

void weir_upconn_free(struct weir_upconn *conn)
{
    struct weir_cluster_view *view = conn->view;
    struct weir_server *server = conn->server;
    bool slot = conn->slot;

    weir_list_remove(&conn->link);
    weir_later_cancel(&conn->later);
    weir_timer_stop(&view->loop->wheel, &conn->timer);
    if (conn->h1.codec.ops)
        weir_h1_fini(&conn->h1);
    weir_buf_clear(&conn->rest);
    weir_slab_put(&view->conns, conn);
    if (slot)
        weir_slot_put(view, server);
}

void weir_upconn_close(struct weir_upconn *conn)
{
    if (conn->state == UPCONN_CLOSING)
        return;
    if (conn->mux) {
        weir_upmux_release(conn);
        return;
    }
    weir_timer_stop(&conn->view->loop->wheel, &conn->timer);
    weir_later_cancel(&conn->later);
    weir_upconn_set_state(conn, UPCONN_CLOSING);
    weir_stream_close(conn->stream, false);
}

/* What did not fit into the event: the tunnel's first bytes. */
static void upconn_hand_on(struct weir_upconn *conn, const uint8_t *data, size_t len)
{
    struct weir_stream *stream = conn->stream;
    struct weir_buf rest = conn->rest;

    weir_buf_init(&conn->rest, rest.cache);
    weir_upconn_free(conn);
    while (rest.len && stream->sink != &weir_upconn_sink) {
        struct iovec iov;

        weir_buf_peek(&rest, 0, &iov, 1);
        stream->sink->on_data(stream->arg, iov.iov_base, iov.iov_len);
        weir_buf_consume(&rest, iov.iov_len);
    }
    weir_buf_clear(&rest);
    if (len && stream->sink != &weir_upconn_sink)
        stream->sink->on_data(stream->arg, data, len);
}

/* The bytes that the codec left: for later, or for a tunnel. */
static void upconn_keep(struct weir_upconn *conn, const uint8_t *data, size_t len)
{
    if (conn->rest.len + len > UPSTREAM_REST_BYTES_MAX || weir_buf_append(&conn->rest, data, len)) {
        conn->no_pool = conn->late = true;
        conn->fault = WEIR_EUPFRAMING;
    }
    weir_stream_read(conn->stream, false);
}

/* The event is over: what became of the connection meanwhile? `data` was left by the codec. */
static void upconn_settle(struct weir_upconn *conn, const uint8_t *data, size_t len)
{
    struct weir_cluster_view *view = conn->view;
    struct weir_server_view *sv = server_view(view, conn->server);

    conn->in_event = false;
    switch (conn->state) {
    case UPCONN_HELD:
        if (len)
            upconn_keep(conn, data, len);
        break;
    case UPCONN_RELEASING:
        conn->no_pool |= len > 0; /* bytes of no exchange */
        weir_pool_offer(conn);
        if (sv->promised > sv->releasing)
            weir_pool_retry(view, sv);
        break;
    case UPCONN_DETACHED:
        upconn_hand_on(conn, data, len);
        break;
    default:
        break;
    }
}

static void upconn_feed(struct weir_upconn *conn, const uint8_t *data, size_t len)
{
    ssize_t n;

    if (weir_codec_idle(&conn->h1.codec)) { /* held, and nothing was asked yet */
        conn->no_pool = conn->late = true;
        weir_stream_read(conn->stream, false);
        return;
    }
    conn->in_event = true;
    n = weir_codec_feed(&conn->h1.codec, data, len);
    if (n < 0) {
        conn->no_pool = true;
        n = (ssize_t)len;
        if (conn->state == UPCONN_HELD)
            weir_stream_read(conn->stream, false);
    }
    upconn_settle(conn, data + n, len - (size_t)n);
}

static void upconn_tell_end(struct weir_upconn *conn)
{
    if (conn->raw || weir_codec_idle(&conn->h1.codec)) {
        conn->late = true;
        return;
    }
    conn->in_event = true;
    weir_codec_eof(&conn->h1.codec, conn->dead ? (enum weir_err)conn->fault : WEIR_OK);
    upconn_settle(conn, NULL, 0);
}

static void on_late_end(void *arg)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    if (conn->state != UPCONN_HELD || weir_codec_idle(&conn->h1.codec))
        return;
    conn->in_event = true;
    weir_codec_eof(&conn->h1.codec, (enum weir_err)conn->fault);
    upconn_settle(conn, NULL, 0);
}

/* After a pause: first what was kept, then the stream again. */
static void on_feed_rest(void *arg)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    while (conn->rest.len && !conn->paused) {
        struct iovec iov;
        ssize_t n;

        weir_buf_peek(&conn->rest, 0, &iov, 1);
        conn->in_event = true;
        n = weir_codec_feed(&conn->h1.codec, iov.iov_base, iov.iov_len);
        if (n < 0) {
            conn->no_pool = true;
            weir_buf_clear(&conn->rest);
        } else {
            weir_buf_consume(&conn->rest, (size_t)n);
        }
        if (conn->state != UPCONN_HELD || n < (ssize_t)iov.iov_len) {
            upconn_settle(conn, NULL, 0);
            return;
        }
        upconn_settle(conn, NULL, 0);
    }
    if (conn->paused)
        return;
    if (conn->eof || conn->dead)
        upconn_tell_end(conn);
    else
        weir_stream_read(conn->stream, true);
}

/* `protocol: h2`, and ALPN has not chosen it. */
static void upconn_refuse(struct weir_upconn *conn)
{
    struct weir_error error = weir_connect_error(WEIR_EUPTLS, 0);
    struct weir_server *server = conn->server;

    error.where = "alpn";
    weir_pool_connect_failed(conn, error);
    weir_server_set_fault(server, "the server does not speak h2: ALPN has not chosen it");
}

static void on_open(void *arg)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);
    struct weir_cluster_view *view = conn->view;
    struct weir_server_view *sv = server_view(view, conn->server);

    weir_assert(conn->state == UPCONN_CONNECTING);
    weir_timer_stop(&view->loop->wheel, &conn->timer);
    conn->connect_us = (uint32_t)view->loop->now_us - conn->connect_us;
    conn->born_ms = view->loop->now_ms;
    weir_count(&sv->opened, 1);
    if (conn->raw) { /* what it speaks is between it and the client; who begins is as well */
        weir_pool_offer(conn);
        return;
    }
    switch (conn->http1 ? UPSPEAKS_H1 : weir_upmux_learn(conn)) {
    case UPSPEAKS_H2:
        weir_upmux_open(conn);
        return;
    case UPSPEAKS_H1:
        weir_upconn_begin(conn);
        weir_pool_offer(conn);
        break;
    default:
        upconn_refuse(conn);
        break;
    }
    if (sv->sharing)
        weir_pool_retry(view, sv);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    switch (conn->state) {
    case UPCONN_HELD:
        conn->bytes_in += len;
        if (conn->rest.len)
            upconn_keep(conn, data, len);
        else
            upconn_feed(conn, data, len);
        break;
    case UPCONN_READY:
        conn->no_pool = true;
        break;
    case UPCONN_IDLE:
        weir_upconn_close(conn); /* an answer that nobody asked for */
        break;
    default:
        break;
    }
}

static void on_eof(void *arg)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    conn->eof = true;
    if (conn->state == UPCONN_IDLE)
        weir_upconn_close(conn);
    else if (conn->state == UPCONN_HELD && !(conn->paused && conn->rest.len))
        upconn_tell_end(conn);
}

/* Bytes of a body that pass by. */
static void on_readable(void *arg)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    if (conn->state != UPCONN_HELD || !conn->hs.sink->on_readable)
        return;
    conn->in_event = true;
    conn->hs.sink->on_readable(conn->hs.arg);
    upconn_settle(conn, NULL, 0);
}

static void on_drained(void *arg)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    if (conn->state != UPCONN_HELD || conn->raw)
        return;
    conn->in_event = true;
    weir_codec_drained(&conn->h1.codec);
    upconn_settle(conn, NULL, 0);
}

/* The same end has other names when it is the upstream's. */
enum weir_err weir_upstream_fault(enum weir_err err)
{
    switch (err) {
    case WEIR_ETRUNCATED:
    case WEIR_ECLOSED:
        return WEIR_EUPCLOSED;
    case WEIR_ETIMEDOUT:
        return WEIR_EUPTIME;
    case WEIR_ENOMEM:
        return err;
    default:
        return WEIR_EUPRESET;
    }
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    conn->dead = true;
    conn->fault = weir_upstream_fault(err);
    if (conn->state == UPCONN_CONNECTING)
        weir_pool_connect_failed(conn, weir_connect_error(err, sys));
    else if (conn->state == UPCONN_IDLE)
        weir_upconn_close(conn);
    else if (conn->state == UPCONN_HELD)
        upconn_tell_end(conn);
}

static void on_closed(void *arg)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    weir_assert(conn->state == UPCONN_CLOSING || conn->state == UPCONN_GIVING);
    if (conn->state == UPCONN_GIVING)
        weir_share_released(conn);
    weir_upconn_free(conn);
}

const struct weir_stream_sink weir_upconn_sink = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_error = on_error,
    .on_closed = on_closed,
    .on_readable = on_readable,
};

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct weir_upconn *conn = arg;

    conn->bytes_out += weir_iov_len(iov, count);
    if (WEIR_UNLIKELY(conn->state == UPCONN_CLOSING || conn->state == UPCONN_DETACHED))
        return;
    if (weir_stream_write(conn->stream, iov, count)) {
        conn->late = conn->dead = true;
        conn->fault = WEIR_ENOMEM;
    }
    if (WEIR_UNLIKELY(conn->late) && !weir_later_queued(&conn->later))
        weir_loop_defer(conn->view->loop, &conn->later, on_late_end, conn);
}

static size_t on_pending(void *arg)
{
    struct weir_upconn *conn = arg;

    return conn->state == UPCONN_CLOSING ? 0 : weir_stream_pending(conn->stream);
}

static void on_pause(void *arg, bool pause)
{
    struct weir_upconn *conn = arg;

    conn->paused = pause;
    if (conn->state != UPCONN_HELD && conn->state != UPCONN_RELEASING)
        return;
    if (!pause && conn->rest.len) {
        if (!weir_later_queued(&conn->later))
            weir_loop_defer(conn->view->loop, &conn->later, on_feed_rest, conn);
    } else if (!conn->dead) {
        weir_stream_read(conn->stream, !pause);
    }
}

static void on_pace(void *arg, size_t bytes)
{
    struct weir_upconn *conn = arg;

    if (conn->state != UPCONN_CLOSING && conn->state != UPCONN_DETACHED)
        weir_stream_pace(conn->stream, bytes);
}

static const struct weir_codec_sink codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
    .on_pace = on_pace,
};

void weir_upconn_begin(struct weir_upconn *conn)
{
    weir_h1_init_client(&conn->h1, conn->view->cluster->limits, &codec_sink, conn);
    conn->codec = &conn->h1.codec;
    weir_stream_read(conn->stream, true);
}
