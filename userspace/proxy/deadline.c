/* SPDX-License-Identifier: Apache-2.0 */
/**
 * deadline.c: one timer a request, set for whichever deadline is next: who owes the next byte, and
 * since when. Who waits for us (a filter, a slow other side) owes nothing.
 *
 * gRPC is different: its streams may be quiet both ways for hours, so nobody owes a byte. What ends
 * such a request is its own grpc-timeout, timeouts.request, timeouts.grpc_idle, or the end of a
 * connection (PING, TCP keep-alive); a side that does not take what is sent to it is timed as any.
 */
#include "proxy/grpc.h"
#include "proxy/pass.h"

const struct weir_timeouts *weir_req_timeouts(const struct weir_req *req)
{
    return req->route ? &req->route->conf->timeouts : &req->listener->conf->timeouts;
}

const struct weir_limit_conf *weir_req_limits(const struct weir_req *req)
{
    return req->route ? &req->route->conf->limits : &req->listener->conf->limits;
}

/* A deadline that is in force, and what it means when it passes. */
struct deadline {
    uint64_t at_ms;
    enum weir_err code;
    enum weir_by by;
};

static void sooner(struct deadline *best, uint64_t since_ms, int64_t timeout_ms, enum weir_err code,
                   enum weir_by by)
{
    uint64_t at;

    if (timeout_ms < 0)
        return;
    at = since_ms + (uint64_t)timeout_ms;
    if (at < best->at_ms)
        *best = (struct deadline){ at, code, by };
}

/* For the upstream's 100 (RFC 9110 10.1.1). */
static bool client_may_wait(const struct weir_req *req)
{
    return req->in.expect_continue && !req->rate_ms;
}

/* As long as it may take, and be silent. */
static void grpc_deadline(const struct weir_req *req, struct deadline *best)
{
    uint64_t moved_ms = req->up_ms > req->recv_ms ? req->up_ms : req->recv_ms;

    if (req->grpc_until_us)
        sooner(best, (req->grpc_until_us + 999) / 1000, 0, WEIR_EREQTIME, WEIR_BY_UPSTREAM);
    if (req->up_open && !req->parked)
        sooner(best, moved_ms, req->route->conf->timeouts.grpc_idle, WEIR_EUPIDLE,
               WEIR_BY_UPSTREAM);
}

static struct deadline req_deadline(const struct weir_req *req)
{
    const struct weir_timeouts *t = &req->route->conf->timeouts;
    struct deadline best = { UINT64_MAX, WEIR_OK, WEIR_BY_US };
    bool grpc = weir_grpc_kind(&req->in) != WEIR_GRPC_NONE;
    bool down_blocked = req->session && req->down &&
                        (weir_hstream_pending(req->down) || weir_pass_waits(req, WEIR_SPLICE_UP));
    bool up_full = req->up_open &&
                   (weir_hstream_pending(&req->conn->hs) || weir_pass_waits(req, WEIR_SPLICE_DOWN));
    bool client_owes = !req->to_up.ended && !req->own_answer && req->up_open && !up_full &&
                       !req->parked && !client_may_wait(req) &&
                       req->to_up.owed < WEIR_STREAM_HIGH_BYTES;

    sooner(&best, req->began_us / 1000, t->request, WEIR_EREQTIME, WEIR_BY_UPSTREAM);
    if (down_blocked)
        sooner(&best, req->send_ms, t->send, WEIR_ESENDTIME, WEIR_BY_CLIENT);
    if (grpc) {
        grpc_deadline(req, &best);
        return best;
    }
    if (client_owes)
        sooner(&best, req->recv_ms, t->receive, WEIR_EBODYTIME, WEIR_BY_CLIENT);
    if (req->up_open && !req->response_started) {
        if (req->to_up.end_sent || client_may_wait(req))
            sooner(&best, req->to_up.end_sent ? req->sent_us / 1000 : req->up_ms, t->first_byte,
                   WEIR_EUPTIME, WEIR_BY_UPSTREAM);
        else if (up_full) /* the upstream does not read */
            sooner(&best, req->up_ms, t->idle, WEIR_EUPTIME, WEIR_BY_UPSTREAM);
    } else if (req->up_open && !req->to_down.ended && !down_blocked && !req->parked) {
        sooner(&best, req->up_ms, t->idle, WEIR_EUPIDLE, WEIR_BY_UPSTREAM);
    }
    return best;
}

/* Bytes a second of a body, once it has had time to start. */
static bool body_too_slow(const struct weir_req *req, uint64_t now_ms)
{
    const struct weir_timeouts *t = &req->route->conf->timeouts;
    uint64_t took_ms = now_ms - req->rate_ms;

    if (!req->rate_ms || t->body_rate_min <= 0 || req->to_up.ended || req->own_answer ||
        !req->up_open || req->to_up.blocked || req->blocked_ever || req->response_started ||
        took_ms < WEIR_BODY_RATE_GRACE_MS || weir_grpc_kind(&req->in) != WEIR_GRPC_NONE)
        return false;
    return req->to_up.bytes * 1000 / took_ms < (uint64_t)t->body_rate_min;
}

/* Bytes of the connection that the client has; where it has many streams, counted from any point at all: what it took of
 * the answers to its PINGs is nothing. */
static int64_t acked(const struct weir_req *req)
{
    const struct weir_session *session = req->session;
    uint64_t out = session->multiplexed ? 0 : session->bytes_out;

    return (int64_t)out - (int64_t)weir_stream_unacked(session->stream) -
           (int64_t)weir_pass_waits(req, WEIR_SPLICE_UP);
}

static uint64_t left_of(const struct weir_req *req)
{
    size_t waits = weir_hstream_pending(req->down) + weir_pass_waits(req, WEIR_SPLICE_UP);

    return req->to_down.sent > waits ? req->to_down.sent - waits : 0;
}

static void time_client(struct weir_req *req, uint64_t left)
{
    req->left = left;
    req->acked = acked(req);
}

void weir_req_await_client(struct weir_req *req)
{
    uint64_t left = left_of(req);

    if (req->send_ms && left <= req->left)
        return;
    req->send_ms = req->worker->loop.now_ms;
    time_client(req, left);
}

/* Slowly, but since the last look it has taken something: some of the body, or of what stands before it: the kernel's queue
 * may be large, and tells of room only when much of it is free. What it takes of others does not count for one whose window
 * it keeps shut. */
static bool client_reads(struct weir_req *req)
{
    uint64_t left = req->left;
    int64_t before = req->acked;

    time_client(req, left_of(req));
    return req->left > left || (req->acked > before && !weir_hstream_shut(req->down));
}

static void on_deadline(struct weir_timer *timer, void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);
    struct deadline d = req_deadline(req);
    uint64_t now_ms = req->worker->loop.now_ms;

    (void)timer;
    if (body_too_slow(req, now_ms))
        d = (struct deadline){ now_ms, WEIR_EBODYTIME, WEIR_BY_CLIENT };
    if (d.code == WEIR_ESENDTIME && d.at_ms <= now_ms && client_reads(req)) {
        req->send_ms = now_ms;
        d.at_ms = UINT64_MAX;
    }
    if (d.at_ms > now_ms) {
        weir_req_watch(req);
        return;
    }
    if (d.by == WEIR_BY_CLIENT || d.code == WEIR_EREQTIME) {
        weir_req_note_error(req, d.code, d.by, WEIR_RETRY_NO, 0, "deadline");
        req->attempt_error.code = WEIR_OK;
        req->broken = req->head_sent || req->own_answer || d.code == WEIR_ESENDTIME;
        weir_req_goto(req, req->broken ? WEIR_STEP_FINISH : WEIR_STEP_FAIL);
        return;
    }
    weir_req_fault(req,
                   &(struct weir_error){ d.code, d.by, WEIR_RETRY_IDEMPOTENT_ONLY, 0, "deadline" });
}

void weir_req_watch(struct weir_req *req)
{
    struct deadline d;
    uint64_t now_ms = req->worker->loop.now_ms, at;

    if (!req->route || req->over || req->tunnel)
        return;
    d = req_deadline(req);
    at = d.at_ms;
    if (req->down && !req->to_up.ended && req->route->conf->timeouts.body_rate_min > 0 &&
        at > now_ms + 2000 && weir_grpc_kind(&req->in) == WEIR_GRPC_NONE)
        at = now_ms + 2000; /* look at the rate */
    if (at == UINT64_MAX ||
        (weir_timer_armed(&req->timer) && req->timer_ms <= at && req->timer_ms > now_ms))
        return;
    req->timer_ms = at;
    weir_loop_timer(&req->worker->loop, &req->timer, at > now_ms ? at - now_ms : 0, on_deadline,
                    req);
}
