/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tunnel.c: after a 101, or a 2xx to CONNECT, or from the beginning of a connection of protocol tcp,
 * bytes go both ways unread: each side's bytes to the
 * other, a side is not read while the other has too much unsent, a FIN is passed on when what was
 * before it has been, a RST ends both. A side is a whole connection (h1: the session hands its events
 * over, the pool its stream), or one exchange of a connection that goes on (h2: tunnel_stream.h).
 *
 *   open ──both sent FIN, all drained──▶ closing ──both streams closed──▶ the request finishes
 *     └──error, idle, stop──▶ closing (RST)
 */
#include "proxy/exchange.h"
#include "proxy/tunnel_stream.h"

struct side {
    struct weir_stream *stream;
    bool eof;  /* it has sent FIN */
    bool shut; /* we have sent FIN to it */
    bool closed;
};

struct weir_tunnel {
    uint32_t magic;
    bool ending;
    struct weir_req *req;
    struct weir_session
        *session; /* whose whole connection it is; NULL: it is one of many exchanges */
    struct side down, up;
    struct weir_pool_token token; /* it counts as a connection of its server as long as it lasts */
    struct weir_timer idle;
    uint64_t active_ms;
};
#define TUNNEL_MAGIC 0x7774756eu

/* The exchange ends, its connection goes on, or ends before the tunnel's other side has closed: they part now. */
static void down_part(struct weir_tunnel *tunnel, bool reset)
{
    struct weir_req *req = tunnel->req;
    struct weir_session *session = req->session;

    weir_stream_close(tunnel->down.stream, reset);
    weir_hstream_done(req->down);
    weir_session_part(session, req);
    weir_session_request_done(session, true, false, false);
}

/* Asked while the socket is there; the log is written when it has closed. */
static void note_path(struct weir_tunnel *tunnel)
{
    struct weir_req *req = tunnel->req;
    struct weir_path_info info;

    if (req->route->log && weir_stream_path_info(tunnel->down.stream, &info)) {
        req->tunnel_path = weir_arena_zalloc(&req->arena, sizeof(info));
        if (req->tunnel_path)
            *req->tunnel_path = info;
    }
}

static void tunnel_end(struct weir_tunnel *tunnel, bool reset)
{
    if (tunnel->ending)
        return;
    tunnel->ending = true;
    note_path(tunnel);
    weir_timer_stop(&tunnel->req->worker->loop.wheel, &tunnel->idle);
    weir_stream_close(tunnel->up.stream, reset);
    if (tunnel->session)
        weir_session_close(tunnel->session, reset);
    else
        down_part(tunnel, reset);
}

static void tunnel_closed(struct weir_tunnel *tunnel)
{
    if (tunnel->down.closed && tunnel->up.closed)
        weir_req_goto(tunnel->req, WEIR_STEP_FINISH);
}

/* FIN goes on once what came before it has been handed over. Both ways: the tunnel is over. */
static void settle(struct weir_tunnel *tunnel)
{
    if (tunnel->down.eof && !tunnel->up.shut) {
        tunnel->up.shut = true;
        weir_stream_shutdown(tunnel->up.stream);
    }
    if (tunnel->up.eof && !tunnel->down.shut) {
        tunnel->down.shut = true;
        weir_stream_shutdown(tunnel->down.stream);
    }
    if (tunnel->down.eof && tunnel->up.eof && !weir_stream_pending(tunnel->down.stream) &&
        !weir_stream_pending(tunnel->up.stream))
        tunnel_end(tunnel, false);
}

/* Has this side as much unsent as it may? While memory is short: anything. */
static bool side_full(const struct weir_tunnel *tunnel, const struct side *side)
{
    size_t pending = weir_stream_pending(side->stream);

    return pending >= WEIR_STREAM_HIGH_BYTES || (pending && tunnel->req->worker->tight);
}

static void relay(struct weir_tunnel *tunnel, struct side *from, struct side *to,
                  const struct iovec *iov, int count)
{
    tunnel->active_ms = tunnel->req->worker->loop.now_ms;
    if (tunnel->ending || to->shut)
        return;
    if (weir_stream_write(to->stream, iov, count)) {
        weir_req_note_error(tunnel->req, WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "tunnel");
        tunnel_end(tunnel, true);
        return;
    }
    if (side_full(tunnel, to))
        weir_stream_read(from->stream, false);
}

void weir_tunnel_press(struct weir_tunnel *tunnel)
{
    if (tunnel->ending)
        return;
    weir_stream_read(tunnel->down.stream, !side_full(tunnel, &tunnel->up));
    weir_stream_read(tunnel->up.stream, !side_full(tunnel, &tunnel->down));
}

static void broke(struct weir_tunnel *tunnel, enum weir_err err, enum weir_by by)
{
    if (!tunnel->ending)
        weir_req_note_error(tunnel->req, err, by, WEIR_RETRY_NO, 0, "tunnel");
    tunnel_end(tunnel, true);
}

/* --- the client's side: the session hands its events over ---------------------------------------
 */

void weir_tunnel_on_data(struct weir_tunnel *tunnel, const uint8_t *data, size_t len)
{
    struct iovec iov = { (void *)data, len };

    tunnel->req->to_up.bytes += len;
    weir_count_up(tunnel->req, WEIR_DIR_OUT, len);
    relay(tunnel, &tunnel->down, &tunnel->up, &iov, 1);
}

void weir_tunnel_on_eof(struct weir_tunnel *tunnel)
{
    tunnel->down.eof = true;
    if (!tunnel->ending)
        settle(tunnel);
}

void weir_tunnel_on_drained(struct weir_tunnel *tunnel)
{
    if (tunnel->ending)
        return;
    weir_stream_read(tunnel->up.stream, true);
    settle(tunnel);
}

void weir_tunnel_on_error(struct weir_tunnel *tunnel, enum weir_err err)
{
    broke(tunnel, err == WEIR_ERESET ? WEIR_ECLIENTGONE : err, WEIR_BY_CLIENT);
}

void weir_tunnel_on_closed(struct weir_tunnel *tunnel)
{
    tunnel->down.closed = true;
    if (tunnel->req->session)
        weir_session_part(tunnel->req->session, tunnel->req);
    tunnel_closed(tunnel);
}

void weir_tunnel_stop(struct weir_tunnel *tunnel)
{
    tunnel_end(tunnel, true);
}

static void down_on_data(void *arg, const uint8_t *data, size_t len)
{
    weir_tunnel_on_data(weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC), data, len);
}

static void down_on_eof(void *arg)
{
    weir_tunnel_on_eof(weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC));
}

static void down_on_drained(void *arg)
{
    weir_tunnel_on_drained(weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC));
}

static void down_on_error(void *arg, enum weir_err err, int sys)
{
    (void)sys;
    weir_tunnel_on_error(weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC), err);
}

static void down_on_closed(void *arg)
{
    weir_tunnel_on_closed(weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC));
}

static const struct weir_stream_sink down_sink = {
    .on_data = down_on_data,
    .on_eof = down_on_eof,
    .on_drained = down_on_drained,
    .on_error = down_on_error,
    .on_closed = down_on_closed,
};

/* --- the upstream's side ------------------------------------------------------------------------
 */

static void up_on_data(void *arg, const uint8_t *data, size_t len)
{
    struct weir_tunnel *tunnel = weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC);
    struct iovec iov = { (void *)data, len };

    tunnel->req->to_down.sent += len;
    weir_count_up(tunnel->req, WEIR_DIR_IN, len);
    relay(tunnel, &tunnel->up, &tunnel->down, &iov, 1);
}

static void up_on_eof(void *arg)
{
    struct weir_tunnel *tunnel = weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC);

    tunnel->up.eof = true;
    if (!tunnel->ending)
        settle(tunnel);
}

static void up_on_drained(void *arg)
{
    struct weir_tunnel *tunnel = weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC);

    if (tunnel->ending)
        return;
    weir_stream_read(tunnel->down.stream, true);
    settle(tunnel);
}

static void up_on_error(void *arg, enum weir_err err, int sys)
{
    struct weir_tunnel *tunnel = weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC);

    (void)sys;
    broke(tunnel, err == WEIR_ERESET ? WEIR_EUPRESET : err, WEIR_BY_UPSTREAM);
}

static void up_on_closed(void *arg)
{
    struct weir_tunnel *tunnel = weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC);

    tunnel->up.closed = true;
    weir_pool_token_put(&tunnel->token);
    tunnel_closed(tunnel);
}

static const struct weir_stream_sink up_sink = {
    .on_data = up_on_data,
    .on_eof = up_on_eof,
    .on_drained = up_on_drained,
    .on_error = up_on_error,
    .on_closed = up_on_closed,
};

/* --- beginning ----------------------------------------------------------------------------------
 */

static void on_idle(struct weir_timer *timer, void *arg)
{
    struct weir_tunnel *tunnel = weir_cast(struct weir_tunnel, arg, TUNNEL_MAGIC);
    struct weir_loop *loop = &tunnel->req->worker->loop;
    uint64_t due = tunnel->active_ms + (uint64_t)weir_req_timeouts(tunnel->req)->tunnel;

    (void)timer;
    if (due > loop->now_ms) {
        weir_loop_timer(loop, &tunnel->idle, due - loop->now_ms, on_idle, tunnel);
        return;
    }
    broke(tunnel, WEIR_ETIMEDOUT, WEIR_BY_US);
}

/* What was kept of one side before the tunnel stood. */
static void relay_kept(struct weir_tunnel *tunnel, struct side *from, struct side *to,
                       struct weir_buf *kept)
{
    while (kept->len && !tunnel->ending) {
        struct iovec iov[8];
        int count = weir_buf_peek(kept, 0, iov, 8);
        size_t len = weir_iov_len(iov, count);

        relay(tunnel, from, to, iov, count);
        weir_buf_consume(kept, len);
    }
    weir_buf_clear(kept);
}

/* Sides that are exchanges: what may fail, before a whole connection is given away. 0 or WEIR_ENOMEM. */
static int join_exchanges(struct weir_tunnel *tunnel, struct weir_buf *from_upstream)
{
    struct weir_req *req = tunnel->req;
    struct weir_loop *loop = &req->worker->loop;
    struct weir_stream *down = NULL, *up = NULL;
    bool mux = req->conn->mux != NULL;

    if (mux && weir_dir_keep(&req->to_down))
        return WEIR_ENOMEM;
    if (req->session->multiplexed) { /* what the client has sent comes as its first bytes */
        down = weir_tunnel_stream(req->down, req->to_up.owed, false, loop, WEIR_ECLIENTGONE,
                                  &down_sink, tunnel);
        if (!down)
            return WEIR_ENOMEM;
    }
    if (mux) {
        up = weir_tunnel_stream(&req->conn->hs, req->to_down.owed, req->to_down.ended, loop,
                                WEIR_EUPRESET, &up_sink, tunnel);
        if (!up)
            return WEIR_ENOMEM;
        weir_buf_splice(from_upstream, &req->to_down.held);
    }
    tunnel->down.stream = down;
    tunnel->up.stream = up;
    return 0;
}

/* Sides that are whole connections: their owners let go of them. */
static void join_connections(struct weir_tunnel *tunnel, struct weir_buf *from_client,
                             struct weir_buf *from_upstream)
{
    struct weir_req *req = tunnel->req;

    if (!tunnel->down.stream) {
        tunnel->session = req->session;
        tunnel->down.stream = req->session->stream;
        weir_session_tunnel(req->session, tunnel, from_client);
    }
    if (!tunnel->up.stream) {
        weir_pool_token_take(req->conn, &tunnel->token);
        tunnel->up.stream = weir_pool_detach(&req->conn, from_upstream);
        weir_stream_set_sink(tunnel->up.stream, &up_sink, tunnel);
    }
}

/* A copy: that of the stream goes with it. Without memory the log tells less. */
static void note_tls(struct weir_req *req, struct weir_stream *down)
{
    struct weir_tls_info passed = { .sni = req->sni };
    const struct weir_tls_info *tls = req->sni.len ? &passed : weir_stream_tls(down);

    if (!tls)
        return;
    req->tunnel_tls = weir_arena_zalloc(&req->arena, sizeof(*tls));
    if (!req->tunnel_tls)
        return;
    *req->tunnel_tls = (struct weir_tls_info){ .version = tls->version,
                                               .cipher = tls->cipher,
                                               .sni = weir_arena_copy(&req->arena, tls->sni),
                                               .resumed = tls->resumed };
}

static void start_failed(struct weir_req *req)
{
    weir_req_fault(req,
                   &(struct weir_error){ WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "tunnel" });
}

void weir_tunnel_start(struct weir_req *req)
{
    struct weir_loop *loop = &req->worker->loop;
    struct weir_session *session = req->session;
    struct weir_tunnel *tunnel = weir_arena_zalloc(&req->arena, sizeof(*tunnel));
    struct weir_buf from_client = { .cache = &loop->bufs },
                    from_upstream = { .cache = &loop->bufs };
    bool up_eof = req->conn->mux ? req->to_down.ended : req->conn->eof, /* told already */
        down_eof = !session->multiplexed && session->eof; /* an exchange tells it again */

    req->tunnel_due = false;
    if (!tunnel) {
        start_failed(req);
        return;
    }
    *tunnel = (struct weir_tunnel){ .magic = TUNNEL_MAGIC, .req = req, .active_ms = loop->now_ms };
    if (req->conn->dead && !req->down) { /* while a filter waited; not one byte was sent */
        weir_req_fault(req, &(struct weir_error){ (enum weir_err)req->conn->fault, WEIR_BY_UPSTREAM,
                                                  WEIR_RETRY_UNSENT, 0, "tunnel" });
        return;
    }
    if (req->down && weir_hstream_send(req->down, &req->out, NULL, 0, NULL, 0)) {
        start_failed(req);
        return;
    }
    req->head_sent = true;
    if (join_exchanges(tunnel, &from_upstream)) {
        start_failed(req);
        return;
    }
    note_tls(req, session->stream);
    join_connections(tunnel, &from_client, &from_upstream);
    req->tunnel = tunnel;
    req->up_open = false;
    weir_timer_stop(&loop->wheel, &req->timer);
    if (weir_req_timeouts(req)->tunnel >= 0)
        weir_loop_timer(loop, &tunnel->idle, (uint64_t)weir_req_timeouts(req)->tunnel, on_idle,
                        tunnel);
    weir_stream_read(tunnel->up.stream, true);
    weir_stream_read(tunnel->down.stream, true);
    req->to_up.bytes += from_client.len;
    req->to_down.sent += from_upstream.len;
    weir_count_up(req, WEIR_DIR_OUT, from_client.len);
    weir_count_up(req, WEIR_DIR_IN, from_upstream.len);
    relay_kept(tunnel, &tunnel->down, &tunnel->up, &from_client);
    relay_kept(tunnel, &tunnel->up, &tunnel->down, &from_upstream);
    if (up_eof)
        up_on_eof(tunnel);
    if (down_eof)
        weir_tunnel_on_eof(tunnel);
}
