/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tunnel.c: after a 101, or a 2xx to CONNECT, or from the beginning of a connection of protocol tcp,
 * bytes go both ways unread. Here the two sides are found and joined, timed, and logged; accel/splice
 * moves the bytes. A side is a whole connection (h1: the session lets go of its stream's events, the
 * pool of its stream), or one exchange of a connection that goes on (h2: tunnel_stream.h).
 *
 *   open ──both sent FIN, all drained──▶ closing ──both streams closed──▶ the request finishes
 *     └──error, idle, stop──▶ closing (RST)
 */
#include "proxy/tunnel_light.h"

#include "proxy/exchange.h"
#include "proxy/tunnel_stream.h"

static struct weir_tunnel *tunnel_of(struct weir_splice_owner *owner)
{
    struct weir_tunnel *tunnel = weir_container(owner, struct weir_tunnel, owner);

    weir_assert(tunnel->magic == WEIR_TUNNEL_MAGIC);
    return tunnel;
}

/* The exchange ends, its connection goes on, or ends before the tunnel's other side has closed: they part now. */
static void down_part(struct weir_tunnel *tunnel, bool reset)
{
    struct weir_req *req = tunnel->req;
    struct weir_session *session = req->session;

    weir_stream_close(tunnel->splice.stream[WEIR_SPLICE_DOWN], reset);
    weir_hstream_done(req->down);
    weir_session_part(session, req);
    weir_session_request_done(session, true, false, false);
}

/* Asked while the socket is there; the log is written when it has closed. */
static void note_path(struct weir_tunnel *tunnel)
{
    struct weir_req *req = tunnel->req;
    struct weir_path_info info;

    if (req->route->log && weir_stream_path_info(tunnel->splice.stream[WEIR_SPLICE_DOWN], &info)) {
        tunnel->path = weir_arena_zalloc(&req->arena, sizeof(info));
        if (tunnel->path)
            *tunnel->path = info;
    }
}

static void tunnel_end(struct weir_tunnel *tunnel, bool reset)
{
    struct weir_splice *splice = &tunnel->splice;

    if (splice->stopped)
        return;
    note_path(tunnel);
    weir_splice_sync(splice);
    weir_splice_stop(splice);
    tunnel->req->to_up.bytes += splice->bytes[WEIR_SPLICE_DOWN];
    tunnel->req->to_down.sent += splice->bytes[WEIR_SPLICE_UP];
    weir_stream_close(splice->stream[WEIR_SPLICE_UP], reset);
    if (tunnel->session)
        weir_session_close(tunnel->session, reset);
    else
        down_part(tunnel, reset);
}

void weir_tunnel_press(struct weir_tunnel *tunnel)
{
    weir_splice_press(&tunnel->splice);
}

void weir_tunnel_splice(struct weir_tunnel *tunnel)
{
    if (!tunnel->splice.stopped)
        weir_splice_set_policy(&tunnel->splice, weir_req_splice(tunnel->req));
}

void weir_tunnel_stop(struct weir_tunnel *tunnel)
{
    tunnel_end(tunnel, true);
}

/* --- what the splice says -----------------------------------------------------------------------
 */

struct weir_error weir_tunnel_error(enum weir_err err, unsigned side)
{
    enum weir_err code = err != WEIR_ERESET         ? err
                         : side == WEIR_SPLICE_DOWN ? WEIR_ECLIENTGONE
                                                    : WEIR_EUPRESET;

    return (struct weir_error){ code,
                                side == WEIR_SPLICE_DOWN ? WEIR_BY_CLIENT
                                : side == WEIR_SPLICE_UP ? WEIR_BY_UPSTREAM
                                                         : WEIR_BY_US,
                                WEIR_RETRY_NO, 0, "tunnel" };
}

static void on_over(struct weir_splice_owner *owner, enum weir_err err, unsigned side)
{
    struct weir_tunnel *tunnel = tunnel_of(owner);
    struct weir_error error = weir_tunnel_error(err, side);

    if (err)
        weir_req_note_error(tunnel->req, error.code, error.by, error.retry, error.sys, error.where);
    tunnel_end(tunnel, err != WEIR_OK);
}

static void down_closed(struct weir_tunnel *tunnel)
{
    struct weir_session *session = tunnel->session;

    if (tunnel->req->session)
        weir_session_part(tunnel->req->session, tunnel->req);
    if (session)
        weir_session_free(session);
}

static void on_closed(struct weir_splice_owner *owner, unsigned side)
{
    struct weir_tunnel *tunnel = tunnel_of(owner);

    tunnel->closed |= 1u << side;
    if (side == WEIR_SPLICE_UP)
        weir_pool_token_put(&tunnel->token);
    else
        down_closed(tunnel);
    if (tunnel->closed == 3)
        weir_req_goto(tunnel->req, WEIR_STEP_FINISH);
}

/* Milliseconds without a byte that it may have; UINT64_MAX: any. */
static uint64_t idle_max_ms(const struct weir_splice *splice, const struct weir_timeouts *t)
{
    bool half =
        weir_splice_eof(splice, WEIR_SPLICE_DOWN) || weir_splice_eof(splice, WEIR_SPLICE_UP);
    uint64_t max = t->tunnel < 0 ? UINT64_MAX : (uint64_t)t->tunnel;

    return half && t->half_closed >= 0 && (uint64_t)t->half_closed < max ? (uint64_t)t->half_closed
                                                                         : max;
}

bool weir_tunnel_idle(struct weir_splice *splice, const struct weir_timeouts *timeouts)
{
    uint64_t idle = weir_splice_idle_ms(splice), max = idle_max_ms(splice, timeouts);

    if (idle >= max && weir_splice_stands(splice))
        return true;
    weir_splice_look_after(splice, idle < max ? max - idle : max);
    return false;
}

static void on_look(struct weir_splice_owner *owner)
{
    struct weir_tunnel *tunnel = tunnel_of(owner);

    if (weir_light_take(tunnel))
        return;
    if (weir_tunnel_idle(&tunnel->splice, weir_req_timeouts(tunnel->req)))
        on_over(owner, WEIR_ETIMEDOUT, WEIR_SPLICE_US);
}

static const struct weir_splice_sink splice_sink = {
    .on_over = on_over,
    .on_closed = on_closed,
    .on_look = on_look,
};

/* --- beginning ----------------------------------------------------------------------------------
 */

/* Sides that are exchanges: what may fail, before a whole connection is given away. 0 or WEIR_ENOMEM. */
static int join_exchanges(struct weir_req *req, struct weir_splice_opts *opts)
{
    struct weir_loop *loop = &req->worker->loop;
    bool mux = req->conn->mux != NULL;

    if (mux && weir_dir_keep(&req->to_down))
        return WEIR_ENOMEM;
    if (req->session->multiplexed) { /* what the client has sent comes as its first bytes */
        opts->stream[WEIR_SPLICE_DOWN] =
            weir_tunnel_stream(req->down, req->to_up.owed, false, loop, WEIR_ECLIENTGONE);
        if (!opts->stream[WEIR_SPLICE_DOWN])
            return WEIR_ENOMEM;
    }
    if (mux) {
        opts->stream[WEIR_SPLICE_UP] = weir_tunnel_stream(&req->conn->hs, req->to_down.owed,
                                                          req->to_down.ended, loop, WEIR_EUPRESET);
        if (!opts->stream[WEIR_SPLICE_UP])
            return WEIR_ENOMEM;
        weir_buf_splice(opts->kept[WEIR_SPLICE_UP], &req->to_down.held);
    }
    return 0;
}

/* Sides that are whole connections: their owners let go of them. */
static void join_connections(struct weir_tunnel *tunnel, struct weir_splice_opts *opts)
{
    struct weir_req *req = tunnel->req;

    if (!opts->stream[WEIR_SPLICE_DOWN]) {
        tunnel->session = req->session;
        opts->stream[WEIR_SPLICE_DOWN] = req->session->stream;
        weir_session_tunnel(req->session, tunnel, opts->kept[WEIR_SPLICE_DOWN]);
    }
    if (!opts->stream[WEIR_SPLICE_UP]) {
        weir_pool_token_take(req->conn, &tunnel->token);
        opts->stream[WEIR_SPLICE_UP] = weir_pool_detach(&req->conn, opts->kept[WEIR_SPLICE_UP]);
    }
}

/* A copy: that of the stream goes with it. Without memory the log tells less. */
static void note_tls(struct weir_tunnel *tunnel, struct weir_stream *down)
{
    struct weir_req *req = tunnel->req;
    struct weir_tls_info passed = { .sni = req->sni };
    const struct weir_tls_info *tls = req->sni.len ? &passed : weir_stream_tls(down);

    if (!tls)
        return;
    tunnel->tls = weir_arena_zalloc(&req->arena, sizeof(*tls));
    if (!tunnel->tls)
        return;
    *tunnel->tls = (struct weir_tls_info){ .version = tls->version,
                                           .cipher = tls->cipher,
                                           .sni = weir_arena_copy(&req->arena, tls->sni),
                                           .resumed = tls->resumed };
}

static void start_failed(struct weir_req *req)
{
    weir_req_fault(req,
                   &(struct weir_error){ WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "tunnel" });
}

/* What may prevent a tunnel before anybody has let go of anything: true when it does, and the request goes on without. */
static bool prevented(struct weir_req *req)
{
    if (req->conn->dead && !req->down) { /* while a filter waited; not one byte was sent */
        weir_req_fault(req, &(struct weir_error){ (enum weir_err)req->conn->fault, WEIR_BY_UPSTREAM,
                                                  WEIR_RETRY_UNSENT, 0, "tunnel" });
        return true;
    }
    if (req->down && weir_hstream_send(req->down, &req->out, NULL, 0, NULL, 0)) {
        start_failed(req);
        return true;
    }
    return false;
}

void weir_tunnel_start(struct weir_req *req)
{
    struct weir_loop *loop = &req->worker->loop;
    struct weir_session *session = req->session;
    struct weir_tunnel *tunnel = weir_arena_zalloc(&req->arena, sizeof(*tunnel));
    struct weir_buf from_client = { .cache = &loop->bufs },
                    from_upstream = { .cache = &loop->bufs };
    struct weir_splice_opts opts = {
        .kept = { &from_client, &from_upstream },
        /* the upstream's is told already; that of an exchange is told again */
        .ended = { !session->multiplexed && session->eof,
                   req->conn->mux ? req->to_down.ended : req->conn->eof },
        .policy = weir_req_splice(req),
    };

    req->tunnel_due = false;
    if (!tunnel) {
        start_failed(req);
        return;
    }
    *tunnel =
        (struct weir_tunnel){ .magic = WEIR_TUNNEL_MAGIC, .owner = { &splice_sink }, .req = req };
    if (prevented(req))
        return;
    req->head_sent = true;
    if (join_exchanges(req, &opts)) {
        start_failed(req);
        return;
    }
    note_tls(tunnel, session->stream);
    join_connections(tunnel, &opts);
    req->tunnel = tunnel;
    req->up_open = false;
    weir_timer_stop(&loop->wheel, &req->timer);
    weir_splice_start(&tunnel->splice, &tunnel->owner, &opts);
}
