/* SPDX-License-Identifier: Apache-2.0 */
/**
 * httpd_conn.c: see httpd.h. A connection's states:
 *
 *   handshake ─▶ idle ─▶ busy (request, answer) ─▶ idle …
 *        │         │       ├─▶ tunnel (after 101) ─┐
 *        └─────────┴───────┴──────────▶ linger (answer sent, reading away) ─▶ closing ─▶ freed
 *
 * The codec is fed from on_data; what it leaves (a pipelined request, a paused body) is kept, and
 * nothing more is read until it was fed. An exchange ends in conn_finish, which never runs inside
 * the codec.
 */
#include "daemon/httpd_priv.h"

#include "net/tcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_drained(void *arg);

/* ---- time ------------------------------------------------------------------------------- */

static void on_timer(struct weir_timer *timer, void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);
    const struct weir_httpd_opts *opts = &conn->httpd->opts;

    if (conn->state == CONN_BUSY && conn->req.ended) {
        if (weir_stream_pending(conn->stream) > 0)
            weir_httpd_conn_close(conn, true);
        else /* the handler is at work: that is not the client's fault */
            weir_loop_timer(opts->loop, timer, opts->send_ms, on_timer, conn);
        return;
    }
    weir_httpd_conn_close(conn, conn->state == CONN_BUSY);
}

void weir_httpd_conn_timer(struct weir_httpd_conn *conn, uint32_t ms)
{
    weir_loop_timer(conn->httpd->opts.loop, &conn->timer, ms, on_timer, conn);
}

/* ---- the end of an exchange and of a connection ------------------------------------------ */

static void conn_drop_req(struct weir_httpd_conn *conn)
{
    const struct weir_httpd_opts *opts = &conn->httpd->opts;

    if (!conn->has_req)
        return;
    conn->has_req = false;
    if (conn->req.head && opts->handler->on_gone)
        opts->handler->on_gone(opts->arg, &conn->req);
    weir_arena_fini(&conn->req.arena);
    conn->req.magic = 0;
}

void weir_httpd_conn_close(struct weir_httpd_conn *conn, bool reset)
{
    if (conn->state == CONN_CLOSING)
        return;
    conn->state = CONN_CLOSING;
    weir_timer_stop(&conn->httpd->opts.loop->wheel, &conn->timer);
    weir_stream_close(conn->stream, reset);
}

/* Our side is done: FIN, then read away what still comes, so that the answer is not reset away. */
void weir_httpd_conn_linger(struct weir_httpd_conn *conn)
{
    if (conn->state == CONN_CLOSING || conn->state == CONN_LINGER)
        return;
    conn->state = CONN_LINGER;
    weir_buf_clear(&conn->kept);
    weir_stream_shutdown(conn->stream);
    if (conn->eof && weir_stream_pending(conn->stream) == 0) {
        weir_httpd_conn_close(conn, false);
        return;
    }
    weir_httpd_conn_timer(conn, WEIR_DRAIN_LINGER_MS);
    if (!conn->eof)
        weir_stream_read(conn->stream, true);
}

static void conn_finish(struct weir_httpd_conn *conn)
{
    bool again = conn->req.ended && weir_hstream_done(conn->req.hs);

    conn_drop_req(conn);
    if (conn->state != CONN_BUSY)
        return;
    if (!again || conn->httpd->draining) {
        weir_httpd_conn_linger(conn);
        return;
    }
    conn->state = CONN_IDLE;
    conn->paused = false;
    weir_httpd_conn_timer(conn, conn->httpd->opts.idle_ms);
}

/* ---- bytes in ----------------------------------------------------------------------------- */

static void conn_keep(struct weir_httpd_conn *conn, const uint8_t *data, size_t len)
{
    if (conn->kept.len + len > KEPT_BYTES_MAX || weir_buf_append(&conn->kept, data, len) != 0)
        weir_httpd_conn_close(conn, true);
}

/* A malformed request gets its status and a sentence. It may have been refused before or after
 * the handler saw it; the handler has not answered. */
static void conn_refuse(struct weir_httpd_conn *conn, enum weir_err why)
{
    struct weir_httpd_req *req = &conn->req;
    char text[160];
    int n = snprintf(text, sizeof(text), "%s\n", weir_err_text(why));
    struct iovec iov = { text, (size_t)n };
    int err;

    weir_httpd_answer(req, weir_err_status(why), "text/plain");
    req->answer.body = WEIR_BODY_LENGTH;
    req->answer.length = (uint64_t)n;
    req->head_sent = req->answered = true;
    err = weir_hstream_send(req->hs, &req->answer, &iov, 1, NULL, WEIR_SEND_END);
    (void)err; /* the connection ends in any case */
}

/* A codec that has died: answer when nothing was answered, then end. */
static void conn_broken(struct weir_httpd_conn *conn, enum weir_err why)
{
    conn->broken = true;
    if (conn->state != CONN_CLOSING && conn->has_req && !conn->req.head_sent)
        conn_refuse(conn, why);
    conn_drop_req(conn);
    weir_httpd_conn_linger(conn);
}

/* Feeds until the codec wants no more; returns how many bytes it took. */
static size_t conn_feed(struct weir_httpd_conn *conn, const uint8_t *data, size_t len)
{
    size_t took = 0;

    while (took < len && !conn->paused && (conn->state == CONN_IDLE || conn->state == CONN_BUSY)) {
        ssize_t n;

        conn->feeding = true;
        n = weir_codec_feed(&conn->h1.codec, data + took, len - took);
        conn->feeding = false;
        if (n < 0) {
            conn_broken(conn, conn->why ? conn->why : (enum weir_err)n);
            return len;
        }
        took += (size_t)n;
        if (conn->has_req && conn->req.answered && conn->state == CONN_BUSY)
            conn_finish(conn);
        else if (n == 0)
            break;
    }
    return took;
}

static void conn_read(struct weir_httpd_conn *conn)
{
    bool want = conn->state == CONN_LINGER || (!conn->paused && conn->kept.len == 0);

    if (conn->state != CONN_CLOSING && !conn->eof)
        weir_stream_read(conn->stream, want);
}

static void conn_tunnel_in(struct weir_httpd_conn *conn, const void *data, size_t len)
{
    const struct weir_httpd_opts *opts = &conn->httpd->opts;

    weir_httpd_conn_timer(conn, opts->idle_ms);
    opts->handler->on_tunnel(opts->arg, &conn->req, (struct weir_str){ data, len });
}

/* Bytes that came behind the request that asked for the tunnel. */
static void conn_tunnel_kept(struct weir_httpd_conn *conn)
{
    struct iovec iov;

    while (conn->state == CONN_TUNNEL && !conn->paused &&
           weir_buf_peek(&conn->kept, 0, &iov, 1) > 0) {
        conn_tunnel_in(conn, iov.iov_base, iov.iov_len);
        if (conn->kept.len >= iov.iov_len) /* else it was closed, and cleared */
            weir_buf_consume(&conn->kept, iov.iov_len);
    }
}

/* Feeds what was kept; runs at the end of a turn. */
static void conn_go_on(struct weir_httpd_conn *conn)
{
    if (conn->has_req && conn->req.answered && conn->state == CONN_BUSY)
        conn_finish(conn);
    while (conn->kept.len > 0 && !conn->paused &&
           (conn->state == CONN_IDLE || conn->state == CONN_BUSY)) {
        struct iovec iov;
        size_t took;

        if (weir_buf_peek(&conn->kept, 0, &iov, 1) < 1)
            break;
        took = conn_feed(conn, iov.iov_base, iov.iov_len);
        if (conn->kept.len < took) /* cleared by a close meanwhile */
            break;
        weir_buf_consume(&conn->kept, took);
        if (took == 0)
            break;
    }
    conn_tunnel_kept(conn);
    if (conn->eof && conn->kept.len == 0 &&
        (conn->state == CONN_IDLE || conn->state == CONN_TUNNEL))
        weir_httpd_conn_linger(conn);
    conn_read(conn);
}

static void on_later(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    if (conn->state != CONN_CLOSING)
        conn_go_on(conn);
}

void weir_httpd_conn_later(struct weir_httpd_conn *conn)
{
    if (!weir_later_queued(&conn->later))
        weir_loop_defer(conn->httpd->opts.loop, &conn->later, on_later, conn);
}

/* ---- stream events ------------------------------------------------------------------------ */

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);
    size_t took;

    if (conn->state == CONN_CLOSING)
        return;
    if (conn->state == CONN_LINGER) {
        conn->lingered += len;
        if (conn->lingered > WEIR_DRAIN_LINGER_BYTES_MAX)
            weir_httpd_conn_close(conn, true);
        return;
    }
    if (conn->state == CONN_IDLE && conn->kept.len == 0 && !weir_h1_in_head(&conn->h1))
        weir_httpd_conn_timer(conn, conn->httpd->opts.receive_ms);
    if (conn->kept.len > 0) {
        conn_keep(conn, data, len);
        return;
    }
    took = conn->state == CONN_TUNNEL ? 0 : conn_feed(conn, data, len);
    if (took < len && conn->state == CONN_TUNNEL)
        conn_tunnel_in(conn, data + took, len - took);
    else if (took < len && (conn->state == CONN_IDLE || conn->state == CONN_BUSY))
        conn_keep(conn, data + took, len - took);
    conn_read(conn);
}

static void on_open(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    if (conn->state != CONN_HANDSHAKE)
        return;
    conn->state = CONN_IDLE;
    weir_httpd_conn_timer(conn, conn->httpd->opts.idle_ms);
    weir_stream_read(conn->stream, true);
}

static void on_eof(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    conn->eof = true;
    if (conn->state == CONN_LINGER && weir_stream_pending(conn->stream) == 0) {
        weir_httpd_conn_close(conn, false);
        return;
    }
    if (conn->kept.len > 0) /* pipelined requests are answered first */
        return;
    if (conn->state == CONN_TUNNEL)
        weir_httpd_conn_linger(conn);
    if (conn->state != CONN_IDLE && conn->state != CONN_BUSY)
        return;
    if (conn->state == CONN_IDLE && !weir_h1_in_head(&conn->h1)) {
        weir_httpd_conn_linger(conn);
        return;
    }
    conn->feeding = true;
    weir_codec_eof(&conn->h1.codec, WEIR_OK);
    conn->feeding = false;
    if (conn->broken || conn->state == CONN_IDLE)
        weir_httpd_conn_close(conn, false);
    else if (conn->has_req && conn->req.answered)
        weir_httpd_conn_later(conn);
}

static void on_stream_drained(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    if (conn->state == CONN_LINGER && conn->eof) {
        weir_httpd_conn_close(conn, false);
        return;
    }
    if (conn->state == CONN_TUNNEL)
        on_drained(conn);
    if (conn->state != CONN_BUSY)
        return;
    if (conn->req.ended)
        weir_httpd_conn_timer(conn, conn->httpd->opts.send_ms);
    weir_codec_drained(&conn->h1.codec);
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    (void)err;
    (void)sys;
    weir_httpd_conn_close(conn, false);
}

static void on_closed(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    conn_drop_req(conn);
    weir_timer_stop(&conn->httpd->opts.loop->wheel, &conn->timer);
    weir_later_cancel(&conn->later);
    weir_h1_fini(&conn->h1);
    weir_buf_clear(&conn->kept);
    weir_list_remove(&conn->link);
    weir_httpd_conn_gone(conn->httpd);
    conn->magic = 0;
    free(conn);
}

static const struct weir_stream_sink stream_sink = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drained = on_stream_drained,
    .on_error = on_error,
    .on_closed = on_closed,
};

/* ---- codec events ------------------------------------------------------------------------- */

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    if (conn->state == CONN_CLOSING)
        return;
    if (weir_stream_write(conn->stream, iov, count) != 0)
        weir_httpd_conn_close(conn, true);
}

static size_t on_pending(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    return conn->state == CONN_CLOSING ? 0 : weir_stream_pending(conn->stream);
}

static void on_pause(void *arg, bool pause)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    conn->paused = pause;
    if (!conn->feeding)
        weir_httpd_conn_later(conn);
}

static void on_head(void *arg, struct weir_message *msg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);
    const struct weir_httpd_opts *opts = &conn->httpd->opts;

    conn->req.head = msg;
    conn->req.ended = msg->body == WEIR_BODY_NONE;
    opts->handler->on_request(opts->arg, &conn->req);
}

static void on_body(void *arg, struct weir_str data)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);
    const struct weir_httpd_opts *opts = &conn->httpd->opts;

    if (opts->body_extends)
        weir_httpd_conn_timer(conn, opts->receive_ms);
    if (opts->handler->on_body && !conn->req.answered)
        opts->handler->on_body(opts->arg, &conn->req, data);
    else
        weir_httpd_consume(&conn->req, data.len);
}

static void on_trailer(void *arg, struct weir_message *msg)
{
    (void)arg;
    (void)msg;
}

static void on_end(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);
    const struct weir_httpd_opts *opts = &conn->httpd->opts;

    conn->req.ended = true;
    weir_httpd_conn_timer(conn, opts->send_ms);
    opts->handler->on_end(opts->arg, &conn->req);
}

static void on_drained(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);
    const struct weir_httpd_opts *opts = &conn->httpd->opts;

    if (conn->has_req && conn->req.head && opts->handler->on_drained &&
        (!conn->req.answered || conn->state == CONN_TUNNEL))
        opts->handler->on_drained(opts->arg, &conn->req);
}

static void on_reset(void *arg, const struct weir_error *why)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    conn->broken = true;
    conn->why = why->code;
}

static const struct weir_hstream_sink hstream_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_trailer = on_trailer,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_reset = on_reset,
};

static int on_begin(void *arg, struct weir_hstream *hs)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    weir_assert(!conn->has_req);
    memset(&conn->req, 0, sizeof(conn->req));
    conn->req.magic = WEIR_HTTPD_REQ_MAGIC;
    conn->req.conn = conn;
    conn->req.httpd = conn->httpd;
    conn->req.hs = hs;
    conn->req.tag = conn->tag;
    weir_arena_init(&conn->req.arena, &conn->httpd->opts.loop->arenas);
    conn->has_req = true;
    conn->state = CONN_BUSY;
    hs->sink = &hstream_sink;
    hs->arg = conn;
    hs->arena = &conn->req.arena;
    return 0;
}

static const struct weir_codec_sink codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
    .on_begin = on_begin,
};

/* ---- the beginning ---------------------------------------------------------------------- */

static bool conn_start(struct weir_httpd_conn *conn, int fd)
{
    const struct weir_httpd_opts *opts = &conn->httpd->opts;
    struct weir_stream *lower = weir_tcp_adopt(opts->loop, fd, &stream_sink, conn);

    conn->stream = lower;
    if (!lower)
        return false;
    if (!opts->tls) {
        conn->state = CONN_HANDSHAKE;
        on_open(conn);
        return true;
    }
    weir_httpd_conn_timer(conn, opts->receive_ms);
    conn->stream = weir_tls_accept(opts->tls, &lower, &stream_sink, conn);
    if (!conn->stream)
        weir_timer_stop(&opts->loop->wheel, &conn->timer);
    return conn->stream != NULL;
}

void weir_httpd_conn_open(struct weir_httpd *httpd, int fd, unsigned tag)
{
    struct weir_httpd_conn *conn = calloc(1, sizeof(*conn));

    if (!conn) {
        close(fd);
        return;
    }
    conn->magic = CONN_MAGIC;
    conn->httpd = httpd;
    conn->tag = tag;
    weir_buf_init(&conn->kept, &httpd->opts.loop->bufs);
    weir_h1_init_server(&conn->h1, &httpd->limits, &codec_sink, conn);
    if (!conn_start(conn, fd)) {
        weir_h1_fini(&conn->h1);
        free(conn);
        return;
    }
    weir_list_push_back(&httpd->conns, &conn->link);
    httpd->conns_count++;
}
