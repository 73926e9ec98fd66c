/* SPDX-License-Identifier: Apache-2.0 */
/** exchange_down.c: from the upstream to the client: the answer through its filters, and what the upstream's codec tells. */
#include "proxy/exchange.h"

#include "proxy/grpc.h"
#include "proxy/pass.h"

static void answer_broken(struct weir_req *req, enum weir_err code, enum weir_by by)
{
    weir_req_note_error(req, code, by, WEIR_RETRY_NO, 0, "response");
    req->broken = true;
    weir_req_goto(req, WEIR_STEP_FINISH);
}

/* The trailer comes after the body in filters as well. It cannot wait: the head is out. */
static bool trailer_passes(struct weir_req *req)
{
    struct weir_flow_dir *dir = &req->to_down;

    if (dir->trailer_seen)
        return true;
    dir->trailer_seen = true;
    weir_grpc_note(req, dir->trailer);
    if (weir_filters_run(req, WEIR_PH_TRAILER, dir->trailer, NULL) != WEIR_NEXT) {
        answer_broken(req, WEIR_EFILTER, WEIR_BY_US);
        return false;
    }
    if (!dir->trailer->count || /* RFC 9110 6.5.1: to those that said so; gRPC is nothing without */
        !(req->in.te_trailers || weir_req_is_grpc(req)))
        dir->trailer = NULL;
    return true;
}

/* An answer that the client does not take is not told as given, nor does its connection count as idle: it stays in progress,
 * timed by timeouts.send, until its last byte has left. Its upstream is free meanwhile. One that came before its request was
 * whole ends at once: the rest of the request is for nobody. */
static bool answer_is_out(struct weir_req *req)
{
    if (!req->to_up.ended || !weir_hstream_pending(req->down))
        return true;
    weir_exchange_release(req);
    return false;
}

/** Sends the answer's head and bytes; the request may be gone afterwards when it was the end of
 * them. */
void weir_exchange_pump_down(struct weir_req *req)
{
    struct weir_flow_dir *dir = &req->to_down;
    int err;

    if (!req->response_ready || req->over || weir_pass_on(req, WEIR_SPLICE_UP))
        return;
    if (dir->filtered_end && dir->trailer && !trailer_passes(req))
        return;
    if (dir->head_due)
        req->head_sent = true;
    err = weir_dir_send(dir, req->down, &req->out, NULL);
    if (err) {
        answer_broken(req, (enum weir_err)err, WEIR_BY_US);
        return;
    }
    if (dir->end_sent && answer_is_out(req)) {
        weir_req_goto(req, WEIR_STEP_FINISH);
        return;
    }
    if (weir_hstream_pending(req->down)) {
        weir_req_await_client(req);
        weir_req_watch(req);
    }
    if (req->up_open)
        weir_dir_credit(dir, &req->conn->hs, req->down);
}

/* Response filters, then the head is due. */
enum weir_verdict weir_exchange_prepare(struct weir_req *req)
{
    enum weir_verdict verdict = WEIR_NEXT;

    if (req->response_ready)
        return WEIR_NEXT;
    if (req->parked) /* a filter of the request's body waits: one after the other */
        return WEIR_WAIT;
    if (!req->own_answer && req->cursor_phase != WEIR_PH_RESPONSE + 1)
        verdict = weir_filters_run(req, WEIR_PH_UP_RESPONSE, &req->out, NULL);
    if (verdict == WEIR_NEXT)
        verdict = weir_filters_run(req, WEIR_PH_RESPONSE, &req->out, NULL);
    if (verdict == WEIR_NEXT) {
        req->response_ready = true;
        req->to_down.head_due = true;
    }
    return verdict;
}

void weir_exchange_verdict(struct weir_req *req, enum weir_verdict verdict)
{
    if (verdict == WEIR_NEXT || verdict == WEIR_WAIT)
        return;
    if (verdict == WEIR_DONE &&
        req->own_answer) { /* the filter's answer instead of the upstream's */
        weir_req_goto(req, WEIR_STEP_EXCHANGE);
        return;
    }
    weir_req_note_error(req, WEIR_EFILTER, WEIR_BY_US, WEIR_RETRY_NO, 0, "response");
    weir_req_goto(req, WEIR_STEP_FAIL);
}

/* 1xx go on to clients that know them (RFC 9110 15.2); 101 ends HTTP on this connection. */
static void up_informational(struct weir_req *req, const struct weir_message *msg)
{
    struct weir_message head;

    if (msg->status == 100 && !req->rate_ms)
        req->rate_ms = req->recv_ms = req->up_ms;
    if (req->in.http10 || req->head_sent)
        return;
    if (weir_message_clone(&head, msg, &req->arena))
        return;
    weir_message_strip_hop(&head);
    weir_message_drop(&head, WEIR_F_CONTENT_LENGTH);
    head.body = WEIR_BODY_NONE;
    if (weir_hstream_send(req->down, &head, NULL, 0, NULL, 0))
        answer_broken(req, WEIR_ENOMEM, WEIR_BY_US);
}

static bool retry_by_status(struct weir_req *req)
{
    struct weir_retry_input in = { .conf = &req->route->conf->retry,
                                   .status = req->out.status,
                                   .attempts = req->attempts,
                                   .idempotent =
                                       weir_method_idempotent((enum weir_method)req->in.method_id),
                                   .replayable = req->replayable && !req->to_up.waiting,
                                   .head_sent = req->head_sent };
    enum weir_retried why;

    if (weir_retry_decide(&in, &why) != WEIR_AGAIN ||
        !weir_budget_spend(weir_req_budget(req), req->worker->loop.now_ms))
        return false;
    weir_req_retried(req, why);
    weir_exchange_release(req);
    weir_exchange_rewind(req);
    weir_req_goto(req, WEIR_STEP_PEER);
    return true;
}

static void up_on_head(void *arg, struct weir_message *msg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);
    bool filtered;
    int err;

    req->up_ms = req->worker->loop.now_ms;
    if (!req->first_byte_us)
        req->first_byte_us = req->worker->loop.now_us;
    if (msg->status < 200 && msg->status != 101) {
        up_informational(req, msg);
        return;
    }
    req->response_started = true;
    req->out = *msg;
    if (retry_by_status(req))
        return;
    if (!req->conn->mux && /* which HTTP/2 has not: its connections are shared anyhow */
        (weir_pool_is_connection_auth(msg) || weir_pool_is_connection_auth(&req->in)))
        req->conn->no_pool = true;
    req->tunnel_due = msg->body == WEIR_BODY_TUNNEL;
    if (req->in.must_switch && !req->tunnel_due && msg->status / 100 == 2) {
        /* It would say that the upgrade was granted. */
        answer_broken(req, WEIR_EUPNOUPGRADE, WEIR_BY_UPSTREAM);
        return;
    }
    err = weir_forward_answer(req, &req->out);
    if (err) {
        weir_req_fault(req,
                       &(struct weir_error){ (enum weir_err)err,
                                             err == WEIR_ENOMEM ? WEIR_BY_US : WEIR_BY_UPSTREAM,
                                             WEIR_RETRY_NO, 0, "response" });
        return;
    }
    filtered = req->route->chains.phase[WEIR_PH_RESPONSE_BODY].count > 0 && !req->tunnel_due;
    if (req->out.body == WEIR_BODY_CLOSE || (filtered && req->out.body == WEIR_BODY_LENGTH))
        req->out.body = WEIR_BODY_CHUNKED;
    if (filtered) /* how long it becomes is not known, also of an answer to HEAD */
        weir_message_drop(&req->out, WEIR_F_CONTENT_LENGTH);
    if (weir_exchange_body_begin(req, WEIR_PH_RESPONSE_BODY, &req->to_down)) {
        weir_req_fault(
            req, &(struct weir_error){ WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "response" });
        return;
    }
    weir_exchange_verdict(req, weir_exchange_prepare(req));
}

static void up_on_body(void *arg, struct weir_str data)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);
    struct weir_flow_dir *dir = &req->to_down;

    req->up_ms = req->worker->loop.now_ms;
    weir_count_up(req, WEIR_DIR_IN, data.len);
    dir->bytes += data.len;
    dir->owed += data.len;
    if (dir->piece_count == WEIR_PIECES_MAX && req->response_ready && !dir->held.len) {
        weir_req_pin(req);
        weir_exchange_pump_down(req);
        if (!weir_req_unpin(req))
            return;
    }
    if (weir_exchange_body(req, WEIR_PH_RESPONSE_BODY, dir, data))
        answer_broken(req, WEIR_ENOMEM, WEIR_BY_US);
}

static void up_on_trailer(void *arg, struct weir_message *msg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->to_down.trailer = msg;
}

static void up_on_end(void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->to_down.ended = true;
    if (weir_exchange_body_end(req, WEIR_PH_RESPONSE_BODY, &req->to_down))
        answer_broken(req, WEIR_ENOMEM, WEIR_BY_US);
}

static void up_on_flush(void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    if (req->tunnel_due && req->response_ready) {
        weir_tunnel_start(req);
        return;
    }
    weir_req_pin(req);
    weir_exchange_pump_down(req);
    if (!weir_req_unpin(req))
        return;
    if (weir_dir_keep(&req->to_down)) {
        answer_broken(req, WEIR_ENOMEM, WEIR_BY_US);
        return;
    }
    if (WEIR_UNLIKELY(req->worker->tight))
        weir_exchange_press(req);
    else
        weir_pass_try(req, WEIR_SPLICE_UP);
    weir_req_watch(req); /* for the rest of the answer timeouts.idle counts */
}

static void up_on_drained(void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->up_ms = req->recv_ms = req->worker->loop.now_ms;
    if (weir_pass_on(req, WEIR_SPLICE_DOWN)) {
        weir_pass_run(req, WEIR_SPLICE_DOWN);
        return;
    }
    weir_req_pin(req);
    weir_exchange_pump_up(req);
    if (weir_req_unpin(req))
        weir_pass_try(req, WEIR_SPLICE_DOWN);
}

static void up_on_readable(void *arg)
{
    weir_pass_run(weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC), WEIR_SPLICE_UP);
}

static void up_on_reset(void *arg, const struct weir_error *why)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);
    struct weir_error error = *why;

    req->conn->no_pool = true;
    error.by = WEIR_BY_UPSTREAM;
    if (error.retry < WEIR_RETRY_UNPROCESSED)
        error.retry = req->up_sent ? WEIR_RETRY_IDEMPOTENT_ONLY : WEIR_RETRY_UNSENT;
    if (req->head_sent) {
        answer_broken(req, error.code, WEIR_BY_UPSTREAM);
        return;
    }
    weir_req_fault(req, &error);
}

const struct weir_hstream_sink weir_req_up_sink = {
    .on_head = up_on_head,
    .on_body = up_on_body,
    .on_trailer = up_on_trailer,
    .on_end = up_on_end,
    .on_drained = up_on_drained,
    .on_reset = up_on_reset,
    .on_flush = up_on_flush,
    .on_readable = up_on_readable,
};
