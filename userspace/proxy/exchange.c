/* SPDX-License-Identifier: Apache-2.0 */
/**
 * exchange.c: heads and bodies both ways, between two exchanges of whatever protocols.
 *
 *   client ──▶ to_up   ──request_body filters──▶ upstream      exchange_up.c
 *   client ◀──response_body filters── to_down ◀── upstream      exchange_down.c
 *
 * What arrives in one feed leaves in one send: pieces stay borrowed until on_flush, and then go out
 * with the head before them and the end behind them. What the other side does not take is copied to
 * `held`; the sender gets its credit back when that has drained, so that at most its window (h2) or
 * one read (h1, by the room that the other side has) waits here. One filter waits at a time: while the request is parked, what comes is
 * kept in stages (body.c), and a head waits for its filters.
 */
#include "proxy/exchange.h"

#include "base/clock.h"
#include "proxy/grpc.h"
#include "proxy/pass.h"

void weir_exchange_pump(struct weir_req *req)
{
    weir_req_pin(req);
    if (!req->over && req->up_open)
        weir_exchange_pump_up(req);
    if (!req->over)
        weir_exchange_pump_down(req);
    weir_req_unpin(req);
}

static enum weir_flow out_of_memory(struct weir_req *req)
{
    weir_req_note_error(req, WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "body");
    weir_req_goto(req, WEIR_STEP_FAIL);
    return WEIR_FLOW_WAIT;
}

void weir_exchange_press(struct weir_req *req)
{
    bool tight = req->worker->tight;

    if (req->tunnel) {
        weir_tunnel_press(req->tunnel);
        return;
    }
    if (!tight || !(req->own_answer || req->step >= WEIR_STEP_FAIL)) /* else it is read away */
        weir_hstream_hold(req->down, tight);
    if (tight && req->to_up.owed)
        req->blocked_ever = true;
    if (req->up_open)
        weir_hstream_hold(&req->conn->hs, tight);
}

enum weir_flow weir_exchange_resume(struct weir_req *req)
{
    enum weir_verdict verdict;

    if (req->parked) /* something else ran the machine */
        return WEIR_FLOW_WAIT;
    if (req->to_up.waiting || req->to_down.waiting) {
        verdict = req->wake_verdict;
        req->wake_verdict = WEIR_NEXT;
        req->to_up.waiting = req->to_down.waiting = false;
        weir_exchange_body_wake(req, verdict);
        if (req->moved)
            return WEIR_FLOW_WAIT;
    }
    if (weir_exchange_body_resume(req, WEIR_PH_REQUEST_BODY, &req->to_up))
        return out_of_memory(req);
    if (!req->moved)
        weir_exchange_pump_up(req);
    if (req->moved || !req->response_started || req->parked)
        return WEIR_FLOW_WAIT;
    verdict = weir_exchange_prepare(req);
    weir_exchange_verdict(req, verdict);
    if (req->moved || verdict != WEIR_NEXT)
        return WEIR_FLOW_WAIT;
    if (weir_exchange_body_resume(req, WEIR_PH_RESPONSE_BODY, &req->to_down))
        return out_of_memory(req);
    if (req->moved)
        return WEIR_FLOW_WAIT;
    if (req->tunnel_due)
        weir_tunnel_start(req);
    else
        weir_exchange_pump_down(req);
    return WEIR_FLOW_WAIT;
}

enum weir_flow weir_exchange_answer(struct weir_req *req)
{
    struct weir_flow_dir *dir = &req->to_down;
    enum weir_verdict verdict;

    if (!req->answering) { /* nothing of the upstream's answer may get into it */
        req->answering = true;
        weir_exchange_release(req);
        weir_dir_reset(dir);
        if (req->close_after)
            weir_hstream_last(req->down);
    }
    verdict = weir_exchange_prepare(req);
    if (verdict == WEIR_WAIT)
        return WEIR_FLOW_WAIT;
    if (verdict != WEIR_NEXT &&
        !req->response_ready) { /* a failing response filter cannot stop weir's own answer */
        req->response_ready = true;
        dir->head_due = true;
    }
    if (!dir->ended) {
        req->out.body =
            req->own_body.len || !weir_req_is_grpc(req) ? WEIR_BODY_LENGTH : WEIR_BODY_NONE;
        req->out.length = req->own_body.len;
        if (weir_dir_push(dir, req->own_body, true)) {
            req->broken = true;
            req->step = WEIR_STEP_FINISH;
            return WEIR_FLOW_MORE;
        }
        dir->ended = dir->filtered_end = true;
    }
    weir_exchange_pump_down(req);
    return WEIR_FLOW_WAIT;
}

void weir_exchange_release(struct weir_req *req)
{
    struct weir_upconn *conn = req->conn;
    bool whole;

    if (!conn)
        return;
    weir_pass_part(req);
    if (req->up_open) {
        whole = req->to_up.end_sent && req->to_down.ended && !conn->no_pool;
        if (whole)
            weir_cluster_view_count(conn->view, conn->server,
                                    req->worker->loop.now_us -
                                        (req->sent_us ? req->sent_us : req->began_us));
        if (!whole)
            weir_hstream_reset(&conn->hs, WEIR_ECANCELED);
        if (!weir_hstream_done(&conn->hs) || !whole)
            conn->no_pool = true;
        req->up_open = false;
    }
    weir_pool_release(&req->conn);
}

void weir_exchange_rewind(struct weir_req *req)
{
    struct weir_flow_dir *dir = &req->to_up;
    struct weir_buf rest = dir->held;

    dir->held = (struct weir_buf){ .cache = rest.cache };
    weir_buf_splice(&dir->held, &req->replay);
    weir_buf_splice(&dir->held, &rest);
    dir->sent = 0;
    dir->end_sent = dir->blocked = dir->head_due = false;
    weir_dir_reset(&req->to_down);
    req->response_started = req->response_ready = req->tunnel_due = false;
    req->first_byte_us = 0;
}
