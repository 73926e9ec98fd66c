/* SPDX-License-Identifier: Apache-2.0 */
/** exchange_up.c: from the client to the upstream: the request's head and body, and what the client's codec tells. */
#include "proxy/exchange.h"
#include "proxy/pass.h"

/* A body is kept for another attempt only where another attempt could follow: a server of HTTP/2 may say that it has not
 * begun (REFUSED_STREAM, GOAWAY), whatever the method. */
bool weir_exchange_keeps_replay(const struct weir_req *req)
{
    const struct weir_retry_conf *retry = &req->route->conf->retry;

    if (req->response_started)
        return false;
    return weir_method_idempotent((enum weir_method)req->in.method_id) || retry->any_method ||
           (req->conn->mux && retry->when & WEIR_RETRY_ON_UNPROCESSED);
}

void weir_exchange_pump_up(struct weir_req *req)
{
    struct weir_flow_dir *dir = &req->to_up;
    uint64_t sent = dir->sent;
    bool keep, bytes;
    int err;

    if (!req->up_open || req->tunnel_due || weir_pass_on(req, WEIR_SPLICE_DOWN))
        return;
    keep = weir_exchange_keeps_replay(req);
    bytes = weir_dir_has_bytes(dir);
    if (dir->head_due || bytes)
        req->up_sent = true;
    err = weir_dir_send(dir, &req->conn->hs, &req->up_head, keep ? req : NULL);
    weir_count_up(req, WEIR_DIR_OUT, dir->sent - sent);
    if (bytes && !keep)
        req->replayable = false;
    if (err) {
        weir_req_fault(req, &(struct weir_error){ (enum weir_err)err, WEIR_BY_US, WEIR_RETRY_NO, 0,
                                                  "upstream_request" });
        return;
    }
    if (dir->blocked)
        req->blocked_ever = true;
    if (dir->end_sent && !req->sent_us) {
        req->sent_us = req->worker->loop.now_us;
        weir_req_watch(req);
    }
    weir_dir_credit(dir, req->down, &req->conn->hs);
}

enum weir_flow weir_exchange_start(struct weir_req *req)
{
    struct weir_upconn *conn = req->conn;
    enum weir_verdict verdict;
    int err;

    if (req->cursor_phase != WEIR_PH_UP_REQUEST + 1) {
        err = weir_forward_request(req, &req->up_head);
        if (err)
            goto fault;
        if (req->route->chains.phase[WEIR_PH_REQUEST_BODY].count &&
            req->up_head.body == WEIR_BODY_LENGTH) { /* filters may change how long it is */
            weir_message_drop(&req->up_head, WEIR_F_CONTENT_LENGTH);
            req->up_head.body = WEIR_BODY_CHUNKED;
        }
    }
    verdict = weir_filters_run(req, WEIR_PH_UP_REQUEST, &req->up_head, NULL);
    if (verdict == WEIR_WAIT)
        return WEIR_FLOW_WAIT;
    if (verdict != WEIR_NEXT) {
        if (verdict == WEIR_DONE && req->own_answer)
            return WEIR_FLOW_MORE;
        weir_req_note_error(req, WEIR_EFILTER, WEIR_BY_US, WEIR_RETRY_NO, 0, "upstream_request");
        req->step = WEIR_STEP_FAIL;
        return WEIR_FLOW_MORE;
    }
    conn->hs = (struct weir_hstream){ .sink = &weir_req_up_sink, .arg = req, .arena = &req->arena };
    req->was_reused = conn->reused;
    err = weir_codec_open(conn->codec, &conn->hs);
    if (err == WEIR_ELIMIT) { /* GOAWAY, or less room, has come since the connection was ours */
        req->attempt_error = (struct weir_error){ WEIR_EUPREFUSED, WEIR_BY_UPSTREAM,
                                                  WEIR_RETRY_UNPROCESSED, 0, "upstream_request" };
        req->step = WEIR_STEP_FAIL;
        return WEIR_FLOW_MORE;
    }
    if (err)
        goto fault;
    weir_hstream_pace(&conn->hs, weir_hstream_room(req->down));
    req->up_open = true;
    req->up_sent = false;
    req->response_started = false;
    req->sent_us = 0;
    req->up_ms = req->recv_ms = req->worker->loop.now_ms;
    if (!req->in.expect_continue && !req->rate_ms)
        req->rate_ms = req->recv_ms;
    req->to_up.head_due = true;
    err = weir_exchange_body_begin(req, WEIR_PH_REQUEST_BODY, &req->to_up);
    if (!err)
        err = weir_exchange_body_resume(req, WEIR_PH_REQUEST_BODY, &req->to_up);
    if (err)
        goto fault;
    if (req->moved)
        return WEIR_FLOW_WAIT;
    if (req->step == WEIR_STEP_EXCHANGE)
        weir_exchange_pump_up(req);
    if (req->step == WEIR_STEP_EXCHANGE && !req->sent_us) /* else the pump has looked */
        weir_req_watch(req);
    return WEIR_FLOW_WAIT;
fault:
    req->attempt_error =
        (struct weir_error){ (enum weir_err)err, WEIR_BY_US, WEIR_RETRY_NO, 0, "upstream_request" };
    req->step = WEIR_STEP_FAIL;
    return WEIR_FLOW_MORE;
}

/* The request as the client sends it. */

static void client_fault(struct weir_req *req, enum weir_err code, const char *where)
{
    weir_req_note_error(req, code, WEIR_BY_CLIENT, WEIR_RETRY_NO, 0, where);
    req->close_after = true;
    if (!req->started) { /* the head itself was refused: the machine begins with its failure */
        req->started = true;
        weir_forward_name(req);
        weir_req_goto(req, WEIR_STEP_FAIL);
        return;
    }
    if (req->step >= WEIR_STEP_FAIL || req->own_answer)
        return;
    req->attempt_error.code = WEIR_OK;
    weir_req_goto(req, WEIR_STEP_FAIL);
}

static void down_on_head(void *arg, struct weir_message *msg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->in = *msg;
}

static bool body_over_limit(const struct weir_req *req)
{
    int64_t limit = req->route ? weir_req_limits(req)->body : WEIR_UNLIMITED;

    return limit >= 0 && req->to_up.bytes > (uint64_t)limit;
}

static void down_on_body(void *arg, struct weir_str data)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);
    struct weir_flow_dir *dir = &req->to_up;

    req->recv_ms = req->worker->loop.now_ms;
    if (!req->rate_ms)
        req->rate_ms = req->recv_ms;
    dir->bytes += data.len;
    dir->owed += data.len;
    if (req->own_answer || req->step >= WEIR_STEP_FAIL) { /* unwanted: read away, without credit */
        return;
    }
    if (body_over_limit(req)) {
        client_fault(req, WEIR_EBODYSIZE, "request_body");
        return;
    }
    if (weir_exchange_body(req, WEIR_PH_REQUEST_BODY, dir, data))
        weir_req_fault(
            req, &(struct weir_error){ WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "request_body" });
}

static void down_on_trailer(void *arg, struct weir_message *msg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->to_up.trailer = msg;
}

static void down_on_end(void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->to_up.ended = true;
    req->recv_ms = req->worker->loop.now_ms;
    if (!req->own_answer && req->step < WEIR_STEP_FAIL &&
        weir_exchange_body_end(req, WEIR_PH_REQUEST_BODY, &req->to_up))
        weir_req_fault(
            req, &(struct weir_error){ WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "request_body" });
}

static void down_on_flush(void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    weir_req_pin(req);
    if (!req->started) {
        req->started = true;
        weir_req_run(req);
    } else {
        weir_exchange_pump_up(req);
    }
    if (!weir_req_unpin(req))
        return;
    if (weir_dir_keep(&req->to_up))
        weir_req_fault(
            req, &(struct weir_error){ WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "request_body" });
    else if (WEIR_UNLIKELY(req->worker->tight))
        weir_exchange_press(req);
    else
        weir_pass_try(req, WEIR_SPLICE_DOWN);
}

static void down_on_drained(void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->send_ms = req->up_ms = req->worker->loop.now_ms;
    if (weir_pass_on(req, WEIR_SPLICE_UP)) {
        weir_pass_run(req, WEIR_SPLICE_UP);
        return;
    }
    weir_req_pin(req);
    weir_exchange_pump(req);
    if (weir_req_unpin(req))
        weir_pass_try(req, WEIR_SPLICE_UP);
}

static void down_on_readable(void *arg)
{
    weir_pass_run(weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC), WEIR_SPLICE_DOWN);
}

static void down_on_reset(void *arg, const struct weir_error *why)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    if (why->code == WEIR_ECANCELED) /* the client does not want an answer any more */
        weir_req_client_gone(req, WEIR_ECANCELED);
    else
        client_fault(req, why->code, "request");
}

const struct weir_hstream_sink weir_req_down_sink = {
    .on_head = down_on_head,
    .on_body = down_on_body,
    .on_trailer = down_on_trailer,
    .on_end = down_on_end,
    .on_drained = down_on_drained,
    .on_reset = down_on_reset,
    .on_flush = down_on_flush,
    .on_readable = down_on_readable,
};
