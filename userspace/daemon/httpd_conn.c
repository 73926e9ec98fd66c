/* SPDX-License-Identifier: Apache-2.0 */
/**
 * httpd_conn.c: see httpd.h. A connection's states:
 *
 *   handshake ─▶ idle ─▶ busy (request, answer) ─▶ idle …
 *        │         │       ├─▶ tunnel (after 101) ─┐
 *        │         ├─▶ mux (HTTP/2: httpd_mux.c) ──┤
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

    if (conn->state == CONN_MUX) {
        weir_httpd_mux_time_over(conn);
        return;
    }
    if (conn->state == CONN_BUSY && conn->req->ended) {
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

static void conn_drop_reqs(struct weir_httpd_conn *conn)
{
    weir_list_each(pos, tmp, &conn->reqs)
        weir_httpd_req_drop(weir_list_entry(pos, struct weir_httpd_req, link));
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
    bool again = conn->req->ended && weir_hstream_done(conn->req->hs);

    conn_drop_reqs(conn);
    if (conn->state != CONN_BUSY)
        return;
    if (!again || conn->httpd->draining) {
        weir_httpd_conn_linger(conn);
        return;
    }
    conn->state = CONN_IDLE;
    weir_list_remove(&conn->link); /* the list is in the order in which they became idle */
    weir_list_push_back(&conn->httpd->conns, &conn->link);
    conn->paused = false;
    weir_httpd_conn_timer(conn, conn->httpd->opts.idle_ms);
}

/* ---- bytes in ----------------------------------------------------------------------------- */

static void conn_keep(struct weir_httpd_conn *conn, const uint8_t *data, size_t len)
{
    if (conn->kept.len + len > KEPT_BYTES_MAX || weir_buf_append(&conn->kept, data, len) != 0)
        weir_httpd_conn_close(conn, true);
}

/* A codec that has died: answer when nothing was answered, then end. */
static void conn_broken(struct weir_httpd_conn *conn, enum weir_err why)
{
    conn->broken = true;
    if (conn->state != CONN_CLOSING && conn->req && !conn->req->head_sent)
        weir_httpd_req_refuse(conn->req, why);
    conn_drop_reqs(conn);
    weir_httpd_conn_linger(conn);
}

/* Feeds until the codec wants no more; returns how many bytes it took. */
static size_t conn_feed(struct weir_httpd_conn *conn, const uint8_t *data, size_t len)
{
    size_t took = 0;

    while (took < len && !conn->paused && (conn->state == CONN_IDLE || conn->state == CONN_BUSY)) {
        ssize_t n;

        conn->feeding = true;
        n = weir_codec_feed(conn->codec, data + took, len - took);
        conn->feeding = false;
        if (n < 0) {
            conn_broken(conn, conn->why ? conn->why : (enum weir_err)n);
            return len;
        }
        took += (size_t)n;
        if (conn->req && conn->req->answered && conn->state == CONN_BUSY)
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
    opts->handler->on_tunnel(opts->arg, conn->req, (struct weir_str){ data, len });
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
    if (conn->req && conn->req->answered && conn->state == CONN_BUSY)
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

    if (conn->state == CONN_MUX)
        weir_httpd_mux_settle(conn);
    else if (conn->state != CONN_CLOSING)
        conn_go_on(conn);
}

void weir_httpd_conn_later(struct weir_httpd_conn *conn)
{
    if (!weir_later_queued(&conn->later))
        weir_loop_defer(conn->httpd->opts.loop, &conn->later, on_later, conn);
}

/* ---- stream events ------------------------------------------------------------------------ */

static void linger_data(struct weir_httpd_conn *conn, size_t len)
{
    conn->lingered += len;
    if (conn->lingered > WEIR_DRAIN_LINGER_BYTES_MAX)
        weir_httpd_conn_close(conn, true);
}

/* Bytes of a connection whose protocol is known. */
static void conn_data(struct weir_httpd_conn *conn, const uint8_t *data, size_t len)
{
    size_t took;

    if (conn->state == CONN_MUX) {
        weir_httpd_mux_feed(conn, data, len);
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

/* The first bytes tell the protocol (RFC 9113 3.3). Returns how many of `data` were looked at. */
static size_t conn_sniff(struct weir_httpd_conn *conn, const uint8_t *data, size_t len)
{
    size_t at = 0;
    int preface = 0;

    while (at < len && conn->first_len < PREFACE_BYTES && preface == 0) {
        conn->first[conn->first_len++] = data[at++];
        preface = weir_h2_preface(conn->first, conn->first_len);
    }
    if (preface == 0)
        return at;
    conn->sniffed = true;
    if (preface > 0 && weir_httpd_mux_start(conn) != 0)
        weir_httpd_conn_close(conn, true);
    else
        conn_data(conn, conn->first, conn->first_len);
    return at;
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);
    size_t at = 0;

    if (conn->state == CONN_CLOSING)
        return;
    if (!conn->sniffed && conn->state == CONN_IDLE) {
        if (conn->first_len == 0)
            weir_httpd_conn_timer(conn, conn->httpd->opts.receive_ms);
        at = conn_sniff(conn, data, len);
        if (at == len || conn->state == CONN_CLOSING)
            return;
    }
    if (conn->state == CONN_LINGER)
        linger_data(conn, len - at);
    else
        conn_data(conn, data + at, len - at);
}

static void on_open(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);
    const struct weir_tls_info *tls = weir_stream_tls(conn->stream);

    if (conn->state != CONN_HANDSHAKE)
        return;
    conn->state = CONN_IDLE;
    weir_httpd_conn_timer(conn, conn->httpd->opts.idle_ms);
    if (tls && !weir_str_absent(tls->alpn)) {
        conn->sniffed = true;
        if (weir_str_eq(tls->alpn, WEIR_STR("h2")) && weir_httpd_mux_start(conn) != 0) {
            weir_httpd_conn_close(conn, true);
            return;
        }
    }
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
    if (conn->state == CONN_MUX) {
        weir_httpd_mux_eof(conn);
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
    weir_codec_eof(conn->codec, WEIR_OK);
    conn->feeding = false;
    if (conn->broken || conn->state == CONN_IDLE)
        weir_httpd_conn_close(conn, false);
    else if (conn->req && conn->req->answered)
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
        on_drained(conn->req);
    if (conn->state == CONN_BUSY && conn->req->ended)
        weir_httpd_conn_timer(conn, conn->httpd->opts.send_ms);
    if (conn->state == CONN_BUSY || conn->state == CONN_MUX)
        weir_codec_drained(conn->codec);
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    (void)err;
    (void)sys;
    weir_httpd_conn_close(conn, false);
}

static void conn_codec_free(struct weir_httpd_conn *conn)
{
    if (conn->h2)
        weir_h2_free(conn->h2);
    else
        weir_h1_fini(&conn->h1);
}

static void on_closed(void *arg)
{
    struct weir_httpd_conn *conn = weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC);

    conn_drop_reqs(conn);
    weir_timer_stop(&conn->httpd->opts.loop->wheel, &conn->timer);
    weir_later_cancel(&conn->later);
    conn_codec_free(conn);
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

static void on_wanted(void *arg)
{
    weir_httpd_conn_later(weir_cast(struct weir_httpd_conn, arg, CONN_MAGIC));
}

static struct weir_httpd_req *req_of(void *arg)
{
    return weir_cast(struct weir_httpd_req, arg, WEIR_HTTPD_REQ_MAGIC);
}

static void on_head(void *arg, struct weir_message *msg)
{
    struct weir_httpd_req *req = req_of(arg);
    const struct weir_httpd_opts *opts = &req->httpd->opts;

    req->head = msg;
    req->ended = msg->body == WEIR_BODY_NONE;
    opts->handler->on_request(opts->arg, req);
}

static void on_body(void *arg, struct weir_str data)
{
    struct weir_httpd_req *req = req_of(arg);
    const struct weir_httpd_opts *opts = &req->httpd->opts;

    if (opts->body_extends)
        weir_httpd_conn_timer(req->conn, opts->receive_ms);
    if (opts->handler->on_body && !req->answered)
        opts->handler->on_body(opts->arg, req, data);
    else
        weir_httpd_consume(req, data.len);
}

static void on_trailer(void *arg, struct weir_message *msg)
{
    req_of(arg)->trailer = msg;
}

static void on_end(void *arg)
{
    struct weir_httpd_req *req = req_of(arg);
    const struct weir_httpd_opts *opts = &req->httpd->opts;

    req->ended = true;
    weir_httpd_conn_timer(req->conn, opts->send_ms);
    opts->handler->on_end(opts->arg, req);
}

static void on_drained(void *arg)
{
    struct weir_httpd_req *req = req_of(arg);
    const struct weir_httpd_opts *opts = &req->httpd->opts;

    if (req->head && opts->handler->on_drained &&
        (!req->answered || req->conn->state == CONN_TUNNEL))
        opts->handler->on_drained(opts->arg, req);
}

static void on_reset(void *arg, const struct weir_error *why)
{
    struct weir_httpd_conn *conn = req_of(arg)->conn;

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
    struct weir_httpd_req *req = weir_httpd_req_new(conn, hs);

    if (!req)
        return WEIR_ENOMEM;
    hs->sink = conn->h2 ? &weir_httpd_mux_sink : &hstream_sink;
    if (conn->h2)
        return 0;
    weir_assert(!conn->req);
    conn->req = req;
    conn->state = CONN_BUSY;
    return 0;
}

const struct weir_codec_sink weir_httpd_codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
    .on_begin = on_begin,
    .on_wanted = on_wanted,
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
    conn->sniffed = !httpd->opts.h2;
    weir_list_init(&conn->reqs);
    weir_buf_init(&conn->kept, &httpd->opts.loop->bufs);
    weir_h1_init_server(&conn->h1, &httpd->limits, &weir_httpd_codec_sink, conn);
    conn->codec = &conn->h1.codec;
    if (!conn_start(conn, fd)) {
        conn_codec_free(conn);
        free(conn);
        return;
    }
    weir_list_push_back(&httpd->conns, &conn->link);
    httpd->conns_count++;
}
