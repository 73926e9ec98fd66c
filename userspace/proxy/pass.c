/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pass.c: bodies that pass by. A body begins as any: its head is made from the model, what came with the head is copied. Then,
 * when enough is left and nothing waits anywhere, the source is read by hand: the pump moves the rest, the codecs only count
 * (weir_hstream_pass_in, _out), and each still says when its message is whole. A piece that cannot pass is copied again: both
 * ways are the same to the peers.
 *
 *   copied ──try──▶ passing ──all taken──▶ flushing ──all written──▶ END is sent, by the codec
 *      ▲               │ no pipe
 *      └───────────────┘
 */
#include "proxy/pass.h"

#include "proxy/exchange.h"

enum { LEAST_BYTES = 128 * 1024 }; /* what is left of the body: less is cheaper to copy */

static struct weir_hstream *hstream_of(const struct weir_req *req, unsigned side)
{
    return side == WEIR_SPLICE_DOWN ? req->down : &req->conn->hs;
}

static struct weir_stream *stream_of(const struct weir_req *req, unsigned side)
{
    return side == WEIR_SPLICE_DOWN ? req->session->stream : req->conn->stream;
}

static struct weir_flow_dir *flow_of(struct weir_req *req, unsigned dir)
{
    return dir == WEIR_SPLICE_DOWN ? &req->to_up : &req->to_down;
}

/* --- may it? ------------------------------------------------------------------------------------
 */

/* A body that may have to be sent again is kept, and so read. */
static bool kept_for_replay(const struct weir_req *req)
{
    int64_t limit = weir_req_limits(req)->replay;

    return req->replayable && limit >= 0 && req->in.length <= (uint64_t)limit &&
           weir_exchange_keeps_replay(req);
}

/* Nothing of it waits anywhere: the next byte of the socket is the next one of the body. */
static bool at_the_socket(struct weir_req *req, unsigned dir)
{
    const struct weir_flow_dir *flow = flow_of(req, dir);
    const struct weir_held *held = req->session->held;

    if (flow->head_due || flow->blocked || flow->owed || flow->ended || weir_dir_has_bytes(flow) ||
        weir_stream_pending(stream_of(req, !dir)))
        return false;
    if (dir == WEIR_SPLICE_DOWN)
        return !(held && held->bytes.len) && !req->session->eof && !kept_for_replay(req);
    return req->response_ready && req->head_sent && !req->conn->rest.len && !req->conn->eof &&
           !req->conn->dead && !req->conn->paused;
}

static enum weir_splice_why why_not(struct weir_req *req, unsigned dir)
{
    const struct weir_splicer *splicer = &req->worker->splicer;
    enum weir_splice_policy policy = weir_req_splice(req);

    if (policy == WEIR_SPLICE_OFF || policy == WEIR_SPLICE_COPY)
        return WEIR_WHY_off;
    if (!weir_stream_plain(stream_of(req, 0)) || !weir_stream_plain(stream_of(req, 1)))
        return WEIR_WHY_tls;
    return splicer->tight ? WEIR_WHY_memory : weir_pipe_could(splicer);
}

/* Once for a body, however often it is asked. */
static void note(struct weir_req *req, struct weir_pass *pass, enum weir_splice_why why)
{
    if (!pass->why)
        weir_count(&req->worker->splicer.stats->fallback[why], 1);
    pass->why = (uint8_t)why;
    pass->never |= why == WEIR_WHY_off || why == WEIR_WHY_filter || why == WEIR_WHY_tls ||
                   why == WEIR_WHY_refused;
}

static struct weir_pass *pass_of(struct weir_req *req, unsigned dir)
{
    if (!req->passes)
        req->passes = weir_arena_zalloc(&req->arena, 2 * sizeof(*req->passes));
    return req->passes ? &req->passes[dir] : NULL;
}

void weir_pass_try(struct weir_req *req, unsigned dir)
{
    uint64_t least = LEAST_BYTES, left;
    struct weir_pass *pass;
    enum weir_splice_why why;

    if (!req->up_open || req->over || req->parked || !req->session || req->session->closed ||
        req->step != WEIR_STEP_EXCHANGE || req->own_answer)
        return;
    left = weir_hstream_pass_in(hstream_of(req, dir), 0);
    if (left < least && (!left || weir_req_splice(req) != WEIR_SPLICE_PIPE))
        return;
    pass = pass_of(req, dir);
    if (!pass || pass->on || pass->never)
        return;
    if (flow_of(req, dir)->stages) {
        note(req, pass, WEIR_WHY_filter);
        return;
    }
    /* A codec of many exchanges takes none, and its connection is no stream of this request. */
    if (weir_hstream_pass_out(hstream_of(req, !dir), 0) != left || !at_the_socket(req, dir))
        return;
    why = why_not(req, dir);
    if (why) {
        note(req, pass, why);
        return;
    }
    pass->on = true;
    pass->pump = (struct weir_pump){ .splicer = &req->worker->splicer,
                                     .from = stream_of(req, dir),
                                     .to = stream_of(req, !dir),
                                     .left = left };
    weir_count(&req->worker->splicer.stats->active[WEIR_MOVER_PIPE], 1);
    weir_stream_hand(pass->pump.from, true);
    weir_stream_read(pass->pump.from, true);
}

/* --- moving -------------------------------------------------------------------------------------
 */

size_t weir_pass_waits(const struct weir_req *req, unsigned dir)
{
    return weir_pass_on(req, dir) && req->passes[dir].pump.pipe ? req->passes[dir].pump.pipe->fill
                                                                : 0;
}

uint64_t weir_pass_bytes(const struct weir_req *req, unsigned dir)
{
    return req->passes ? req->passes[dir].bytes : 0;
}

enum weir_splice_why weir_pass_why(const struct weir_req *req, unsigned dir)
{
    return req->passes && req->passes[dir].why ? (enum weir_splice_why)req->passes[dir].why
                                               : WEIR_WHY_few;
}

/* Its source is read as ever from here on. */
static void hand_back(struct weir_pass *pass)
{
    if (!pass->pump.from)
        return;
    weir_stream_hand(pass->pump.from, false);
    weir_stream_read(pass->pump.from, true);
    pass->pump.from = NULL;
}

static void end_pass(struct weir_req *req, struct weir_pass *pass)
{
    if (!pass->on)
        return;
    pass->on = false;
    weir_count(&req->worker->splicer.stats->active[WEIR_MOVER_PIPE], (uint64_t)-1);
    weir_pump_stop(&pass->pump);
}

/* So much has left the source's socket. */
static void account(struct weir_req *req, unsigned dir, uint64_t taken)
{
    struct weir_flow_dir *flow = flow_of(req, dir);
    uint64_t now_ms = req->worker->loop.now_ms;

    req->passes[dir].bytes += taken;
    flow->bytes += taken;
    flow->sent += taken;
    weir_count(&req->worker->splicer.stats->moved[WEIR_MOVER_PIPE][dir], taken);
    if (dir == WEIR_SPLICE_DOWN) {
        req->recv_ms = now_ms;
        if (!req->rate_ms)
            req->rate_ms = now_ms;
        req->session->bytes_in += taken;
        req->replayable = false; /* no byte of it is kept from here on */
        weir_buf_clear(&req->replay);
    } else {
        req->up_ms = now_ms;
        req->session->bytes_out += taken;
    }
    weir_hstream_pass_out(hstream_of(req, !dir), taken);
    if (!req->passes[dir].pump.left)
        hand_back(&req->passes[dir]);
    weir_hstream_pass_in(hstream_of(req, dir), taken); /* the last ones end the message */
}

/* The other side takes no more now: its time counts from here. */
static void blocked(struct weir_req *req, unsigned dir)
{
    struct weir_pass *pass = &req->passes[dir];

    if (pass->pump.from)
        weir_stream_read(pass->pump.from, false);
    if (dir == WEIR_SPLICE_DOWN) {
        req->blocked_ever = true;
        return;
    }
    weir_req_await_client(req);
    if (!pass->pump.from && req->to_up.end_sent) /* all is on its way: the upstream is free */
        weir_exchange_release(req);
}

void weir_pass_run(struct weir_req *req, unsigned dir)
{
    struct weir_pass *pass = &req->passes[dir];
    enum weir_splice_why why = WEIR_WHY_none;
    enum weir_pump_end end;
    uint64_t taken;

    if (!pass->on)
        return;
    weir_req_pin(req);
    end = weir_pump_run(&pass->pump, &taken, &why);
    if (taken)
        account(req, dir, taken);
    switch (end) {
    case WEIR_PUMP_BLOCKED:
        blocked(req, dir);
        break;
    case WEIR_PUMP_WAITS:
    case WEIR_PUMP_AGAIN:
        if (pass->pump.from)
            weir_stream_read(pass->pump.from, true);
        break;
    case WEIR_PUMP_REFUSED:
        note(req, pass, why);
        hand_back(pass);
        end_pass(req, pass);
        break;
    case WEIR_PUMP_DONE:
        end_pass(req, pass);
        if (dir == WEIR_SPLICE_UP)
            weir_exchange_pump_down(req); /* and the request is over */
        else
            weir_exchange_pump_up(req);
        break;
    default: /* its end, or the other side's, comes as an event */
        break;
    }
    if (weir_req_unpin(req))
        weir_req_watch(req);
}

void weir_pass_part(struct weir_req *req)
{
    for (unsigned dir = 0; req->passes && dir < 2; dir++) {
        struct weir_pass *pass = &req->passes[dir];

        if (!pass->on || (dir == WEIR_SPLICE_UP && !pass->pump.from))
            continue;
        if (dir == WEIR_SPLICE_UP || (req->session && !req->session->closed))
            hand_back(pass);
        end_pass(req, pass);
    }
}

void weir_pass_stop(struct weir_req *req)
{
    weir_pass_part(req);
    for (unsigned dir = 0; req->passes && dir < 2; dir++)
        end_pass(req, &req->passes[dir]);
}
