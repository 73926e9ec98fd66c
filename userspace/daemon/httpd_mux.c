/* SPDX-License-Identifier: Apache-2.0 */
/**
 * httpd_mux.c: a connection of HTTP/2: many exchanges, each ended by itself. What is said in a turn
 * leaves at its end, in one write; exchanges that are over are let go there as well, outside of the
 * codec's events.
 */
#include "daemon/httpd_priv.h"

int weir_httpd_mux_start(struct weir_httpd_conn *conn)
{
    struct weir_httpd *httpd = conn->httpd;
    struct weir_h2 *h2 = weir_h2_new_server(&httpd->h2, &httpd->limits, &httpd->h2_limits,
                                            &weir_httpd_codec_sink, conn);

    if (!h2)
        return WEIR_ENOMEM;
    weir_h1_fini(&conn->h1);
    conn->h2 = h2;
    conn->codec = weir_h2_codec(h2);
    conn->state = CONN_MUX;
    return 0;
}

static void mux_end(struct weir_httpd_conn *conn, enum weir_err why)
{
    if (!weir_codec_over(conn->codec))
        weir_h2_goodbye(conn->h2, why);
    weir_codec_flush(conn->codec);
    weir_httpd_conn_linger(conn);
}

void weir_httpd_mux_feed(struct weir_httpd_conn *conn, const uint8_t *data, size_t len)
{
    while (len > 0 && conn->state == CONN_MUX) {
        ssize_t n;

        conn->feeding = true;
        n = weir_codec_feed(conn->codec, data, len);
        conn->feeding = false;
        if (n <= 0) {
            if (conn->state == CONN_MUX)
                mux_end(conn, n ? (enum weir_err)n : WEIR_OK);
            return;
        }
        data += n;
        len -= (size_t)n;
    }
    if (conn->state == CONN_MUX)
        weir_httpd_conn_later(conn);
}

void weir_httpd_mux_eof(struct weir_httpd_conn *conn)
{
    conn->feeding = true;
    weir_codec_eof(conn->codec, WEIR_OK);
    conn->feeding = false;
    if (conn->state == CONN_MUX)
        mux_end(conn, WEIR_OK);
}

static bool req_over(const struct weir_httpd_req *req)
{
    return req->over || req->answered;
}

/* True: some have gone. */
static bool mux_let_go(struct weir_httpd_conn *conn)
{
    bool gone = false;

    weir_list_each(pos, tmp, &conn->reqs)
    {
        struct weir_httpd_req *req = weir_list_entry(pos, struct weir_httpd_req, link);

        if (!req_over(req))
            continue;
        (void)weir_hstream_done(req->hs);
        weir_httpd_req_drop(req);
        gone = true;
    }
    return gone;
}

void weir_httpd_mux_settle(struct weir_httpd_conn *conn)
{
    bool gone = mux_let_go(conn);

    weir_codec_flush(conn->codec);
    if (conn->state != CONN_MUX)
        return;
    if (weir_codec_over(conn->codec))
        mux_end(conn, WEIR_OK);
    else if (gone && weir_list_empty(&conn->reqs))
        weir_httpd_conn_timer(conn, conn->httpd->opts.idle_ms);
}

void weir_httpd_mux_drain(struct weir_httpd_conn *conn)
{
    weir_codec_shutdown(conn->codec);
    weir_httpd_conn_later(conn);
}

/* Does the client owe something: bytes of a request, or a window? */
static bool client_owes(const struct weir_httpd_conn *conn)
{
    if (weir_stream_pending(conn->stream) > 0 || weir_h2_queued(conn->h2) > 0)
        return true;
    weir_list_each(pos, tmp, &conn->reqs)
    {
        if (!weir_list_entry(pos, struct weir_httpd_req, link)->ended)
            return true;
    }
    return false;
}

void weir_httpd_mux_time_over(struct weir_httpd_conn *conn)
{
    const struct weir_httpd_opts *opts = &conn->httpd->opts;
    uint64_t quiet_ms = opts->loop->now_ms - weir_h2_alive_ms(conn->h2);

    if (client_owes(conn) && quiet_ms >= opts->send_ms)
        weir_httpd_conn_close(conn, true);
    else if (weir_list_empty(&conn->reqs) && weir_h2_queued(conn->h2) == 0)
        mux_end(conn, WEIR_OK);
    else
        weir_httpd_conn_timer(conn, opts->send_ms);
}

/* ---- events of an exchange ---------------------------------------------------------------- */

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

static void on_tunnel(struct weir_httpd_req *req, struct weir_str data)
{
    const struct weir_httpd_opts *opts = &req->httpd->opts;

    req->untaken += data.len;
    opts->handler->on_tunnel(opts->arg, req, data);
    if (req->paused)
        return; /* weir_httpd_tunnel_read takes them */
    weir_httpd_consume(req, req->untaken);
    req->untaken = 0;
}

static void on_body(void *arg, struct weir_str data)
{
    struct weir_httpd_req *req = req_of(arg);
    const struct weir_httpd_opts *opts = &req->httpd->opts;

    if (req_over(req))
        weir_httpd_consume(req, data.len);
    else if (req->tunnel)
        on_tunnel(req, data);
    else if (opts->handler->on_body)
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
    if (req->tunnel)
        weir_httpd_tunnel_end(req);
    else if (!req_over(req))
        opts->handler->on_end(opts->arg, req);
}

static void on_drained(void *arg)
{
    struct weir_httpd_req *req = req_of(arg);
    const struct weir_httpd_opts *opts = &req->httpd->opts;

    if (req->head && !req_over(req) && opts->handler->on_drained)
        opts->handler->on_drained(opts->arg, req);
}

/* A head that is too large and the like is answered; what is malformed is reset already, and the
 * answer is dropped. */
static void on_reset(void *arg, const struct weir_error *why)
{
    struct weir_httpd_req *req = req_of(arg);

    if (!req->head && !req->head_sent)
        weir_httpd_req_refuse(req, why->code);
    req->over = true;
    weir_httpd_conn_later(req->conn);
}

const struct weir_hstream_sink weir_httpd_mux_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_trailer = on_trailer,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_reset = on_reset,
};
