/* SPDX-License-Identifier: Apache-2.0 */
/**
 * exchange.c: heads and bodies both ways, between two exchanges of whatever protocols.
 *
 * What arrives in one feed leaves in one send: pieces stay borrowed until on_flush, and then go out
 * with the head before them and the end behind them. What the other side does not take is copied to
 * `held`; the sender gets its credit back when that has drained, so that at most its window (64 KiB
 * and one read) waits here.
 */
#include "proxy/exchange.h"

#include "base/clock.h"

/* --- a direction -------------------------------------------------------------------------------
 */

void weir_dir_fini(struct weir_flow_dir *dir)
{
    weir_buf_clear(&dir->held);
    for (unsigned i = 0; i < dir->stage_count; i++)
        weir_buf_clear(&dir->stages[i].bytes);
    dir->piece_count = 0;
}

void weir_dir_reset(struct weir_flow_dir *dir)
{
    struct weir_buf_cache *cache = dir->held.cache;

    weir_dir_fini(dir);
    *dir = (struct weir_flow_dir){ .held = { .cache = cache } };
}

size_t weir_dir_staged(const struct weir_flow_dir *dir)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < dir->stage_count; i++)
        bytes += dir->stages[i].bytes.len;
    return bytes;
}

/* Pieces that could not leave in this feed are copied: their bytes are about to go. */
int weir_dir_keep(struct weir_flow_dir *dir)
{
    int err;

    if (!dir->piece_count)
        return 0;
    err = weir_buf_append_iov(&dir->held, dir->pieces, dir->piece_count, 0);
    dir->piece_count = 0;
    return err;
}

int weir_dir_push(struct weir_flow_dir *dir, struct weir_str data, bool borrowed)
{
    if (!data.len)
        return 0;
    if (borrowed && dir->piece_count < WEIR_PIECES_MAX && !dir->held.len) {
        dir->pieces[dir->piece_count++] = (struct iovec){ (void *)data.ptr, data.len };
        return 0;
    }
    return weir_dir_keep(dir) ?: weir_buf_append(&dir->held, data.ptr, data.len);
}

static bool dir_has_bytes(const struct weir_flow_dir *dir)
{
    return dir->piece_count || dir->held.len;
}

/* The source of a direction gets its credit back. */
static void dir_credit(struct weir_flow_dir *dir, struct weir_hstream *from)
{
    if (!dir->owed || dir_has_bytes(dir) || weir_dir_staged(dir))
        return;
    weir_hstream_consume(from, dir->owed);
    dir->owed = 0;
}

/* Keeps what is about to be sent of a body that may have to be sent again. */
static void remember(struct weir_req *req, const struct iovec *iov, int count)
{
    int64_t limit = weir_req_limits(req)->replay;
    size_t len = weir_iov_len(iov, count);

    if (!len || !req->replayable)
        return;
    if ((limit >= 0 && req->replay.len + len > (size_t)limit) ||
        weir_buf_append_iov(&req->replay, iov, count, 0)) {
        req->replayable = false;
        weir_buf_clear(&req->replay);
    }
}

/**
 * Sends what there is: head, bytes, end. `to` is blocked when it has too much unsent: then nothing
 * is sent, and its on_drained calls again. `replay`: the request whose replay buffer gets a copy,
 * or NULL.
 */
static int dir_send(struct weir_flow_dir *dir, struct weir_hstream *to,
                    const struct weir_message *head, struct weir_req *replay)
{
    do {
        struct iovec iov[WEIR_PIECES_MAX + 8];
        int count = weir_buf_peek(&dir->held, 0, iov, 8);
        size_t held = weir_iov_len(iov, count);
        bool last = held == dir->held.len, end;
        int err;

        if (last)
            for (int i = 0; i < dir->piece_count; i++)
                iov[count++] = dir->pieces[i];
        end = last && dir->filtered_end && !dir->end_sent;
        if (!dir->head_due && !count && !end)
            return 0;
        if (!dir->head_due && weir_hstream_pending(to) >= WEIR_STREAM_HIGH_BYTES) {
            dir->blocked = true;
            return 0;
        }
        if (replay)
            remember(replay, iov, count);
        err = weir_hstream_send(to, dir->head_due ? head : NULL, iov, count,
                                end ? dir->trailer : NULL, end ? WEIR_SEND_END : 0);
        if (err)
            return err;
        dir->blocked = dir->head_due = false;
        dir->sent += weir_iov_len(iov, count);
        weir_buf_consume(&dir->held, held);
        if (last)
            dir->piece_count = 0;
        dir->end_sent = dir->end_sent || end;
    } while (dir->held.len);
    return 0;
}

/* --- towards the upstream ----------------------------------------------------------------------
 */

/* A body is kept for another attempt only where another attempt could follow. */
static bool keeps_replay(const struct weir_req *req)
{
    const struct weir_retry_conf *retry = &req->route->conf->retry;

    return (weir_method_idempotent((enum weir_method)req->in.method_id) || retry->any_method) &&
           !req->response_started;
}

static void pump_up(struct weir_req *req)
{
    struct weir_flow_dir *dir = &req->to_up;
    bool keep, bytes;
    int err;

    if (!req->up_open || req->tunnel_due)
        return;
    keep = keeps_replay(req);
    bytes = dir_has_bytes(dir);
    if (dir->head_due || bytes)
        req->up_sent = true;
    err = dir_send(dir, &req->conn->hs, &req->up_head, keep ? req : NULL);
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
    if (!weir_hstream_pending(&req->conn->hs))
        dir_credit(dir, req->down);
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
    err = weir_codec_open(&conn->h1.codec, &conn->hs);
    if (err)
        goto fault;
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
        pump_up(req);
    if (req->step == WEIR_STEP_EXCHANGE)
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
    struct weir_session *session = req->session;

    if (!req->started) {
        req->started = true;
        weir_req_run(req);
    } else {
        pump_up(req);
    }
    if (session->req == req && weir_dir_keep(&req->to_up))
        weir_req_fault(
            req, &(struct weir_error){ WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "request_body" });
}

static void down_on_drained(void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->send_ms = req->up_ms = req->worker->loop.now_ms;
    weir_exchange_pump(req);
}

static void down_on_reset(void *arg, const struct weir_error *why)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

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
};

/* --- towards the client ------------------------------------------------------------------------
 */

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
    if (weir_filters_run(req, WEIR_PH_TRAILER, dir->trailer, NULL) != WEIR_NEXT) {
        answer_broken(req, WEIR_EFILTER, WEIR_BY_US);
        return false;
    }
    if (!req->in.te_trailers) /* RFC 9110 6.5.1: to those that said so */
        dir->trailer = NULL;
    return true;
}

/** Sends the answer's head and bytes; the request may be gone afterwards when it was the end of
 * them. */
static void pump_down(struct weir_req *req)
{
    struct weir_flow_dir *dir = &req->to_down;
    int err;

    if (!req->response_ready || req->over)
        return;
    if (dir->filtered_end && dir->trailer && !trailer_passes(req))
        return;
    if (dir->head_due)
        req->head_sent = true;
    err = dir_send(dir, req->down, &req->out, NULL);
    if (err) {
        answer_broken(req, (enum weir_err)err, WEIR_BY_US);
        return;
    }
    if (dir->end_sent) {
        weir_req_goto(req, WEIR_STEP_FINISH);
        return;
    }
    if (weir_hstream_pending(req->down)) {
        if (!req->send_ms || !dir->blocked) {
            req->send_ms = req->worker->loop.now_ms;
            req->unsent = weir_hstream_pending(req->down);
        }
        weir_req_watch(req);
    } else if (req->up_open) {
        dir_credit(dir, &req->conn->hs);
    }
}

void weir_exchange_pump(struct weir_req *req)
{
    struct weir_session *session = req->session;

    if (!req->over && req->up_open)
        pump_up(req);
    if (session && session->req == req)
        pump_down(req);
}

/* Response filters, then the head is due. */
static enum weir_verdict prepare_answer(struct weir_req *req)
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

static void answer_verdict(struct weir_req *req, enum weir_verdict verdict)
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
        !weir_budget_spend(&req->worker->budgets[req->cluster], req->worker->loop.now_ms))
        return false;
    weir_count(&req->worker->stats.retries[req->cluster][why], 1);
    weir_exchange_release(req);
    weir_exchange_rewind(req);
    weir_req_goto(req, WEIR_STEP_PEER);
    return true;
}

static void up_on_head(void *arg, struct weir_message *msg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);
    bool filtered;

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
    if (weir_pool_is_connection_auth(msg) || weir_pool_is_connection_auth(&req->in))
        req->conn->no_pool = true;
    req->tunnel_due = msg->body == WEIR_BODY_TUNNEL;
    if (weir_forward_answer(req, &req->out)) {
        weir_req_fault(
            req, &(struct weir_error){ WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "response" });
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
    answer_verdict(req, prepare_answer(req));
}

static void up_on_body(void *arg, struct weir_str data)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);
    struct weir_flow_dir *dir = &req->to_down;

    req->up_ms = req->worker->loop.now_ms;
    dir->bytes += data.len;
    dir->owed += data.len;
    if (dir->piece_count == WEIR_PIECES_MAX && req->response_ready && !dir->held.len) {
        struct weir_session *session = req->session;

        pump_down(req);
        if (!session || session->req != req)
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
    struct weir_session *session = req->session;

    if (req->tunnel_due && req->response_ready) {
        weir_tunnel_start(req);
        return;
    }
    pump_down(req);
    if (!session || session->req != req)
        return;
    if (weir_dir_keep(&req->to_down)) {
        answer_broken(req, WEIR_ENOMEM, WEIR_BY_US);
        return;
    }
    weir_req_watch(req); /* for the rest of the answer timeouts.idle counts */
}

static void up_on_drained(void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->up_ms = req->recv_ms = req->worker->loop.now_ms;
    pump_up(req);
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
};

/* --- ends and beginnings -----------------------------------------------------------------------
 */

static enum weir_flow out_of_memory(struct weir_req *req)
{
    weir_req_note_error(req, WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "body");
    weir_req_goto(req, WEIR_STEP_FAIL);
    return WEIR_FLOW_WAIT;
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
        pump_up(req);
    if (req->moved || !req->response_started || req->parked)
        return WEIR_FLOW_WAIT;
    verdict = prepare_answer(req);
    answer_verdict(req, verdict);
    if (req->moved || verdict != WEIR_NEXT)
        return WEIR_FLOW_WAIT;
    if (weir_exchange_body_resume(req, WEIR_PH_RESPONSE_BODY, &req->to_down))
        return out_of_memory(req);
    if (req->moved)
        return WEIR_FLOW_WAIT;
    if (req->tunnel_due)
        weir_tunnel_start(req);
    else
        pump_down(req);
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
            weir_codec_shutdown(req->down->codec);
    }
    verdict = prepare_answer(req);
    if (verdict == WEIR_WAIT)
        return WEIR_FLOW_WAIT;
    if (verdict != WEIR_NEXT &&
        !req->response_ready) { /* a failing response filter cannot stop weir's own answer */
        req->response_ready = true;
        dir->head_due = true;
    }
    if (!dir->ended) {
        req->out.body = WEIR_BODY_LENGTH;
        req->out.length = req->own_body.len;
        if (weir_dir_push(dir, req->own_body, true)) {
            req->broken = true;
            req->step = WEIR_STEP_FINISH;
            return WEIR_FLOW_MORE;
        }
        dir->ended = dir->filtered_end = true;
    }
    pump_down(req);
    return WEIR_FLOW_WAIT;
}

void weir_exchange_release(struct weir_req *req)
{
    struct weir_upconn *conn = req->conn;
    bool whole;

    if (!conn)
        return;
    if (req->up_open) {
        whole = req->to_up.end_sent && req->to_down.ended && !conn->no_pool;
        if (whole)
            weir_cluster_view_count(conn->view, conn->server,
                                    weir_clock_us() -
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

const struct weir_timeouts *weir_req_timeouts(const struct weir_req *req)
{
    return req->route ? &req->route->conf->timeouts : &req->wl->listener->conf->timeouts;
}

const struct weir_limit_conf *weir_req_limits(const struct weir_req *req)
{
    return req->route ? &req->route->conf->limits : &req->wl->listener->conf->limits;
}
