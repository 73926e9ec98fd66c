/* SPDX-License-Identifier: Apache-2.0 */
/**
 * req.c: the request as a table of steps, driven by one loop. Read this first.
 *
 *   early ─▶ request ─▶ peer ─▶ connect ─▶ exchange ─▶ finish
 *     │         │         ▲        │          │           ▲
 *     │         │         │        ▼          ▼           │
 *     └─────────┴────────(again)─ fail ◀──────┘           │
 *               │                  └──(own answer)─▶ exchange
 *               └──────(own answer)──────────────────▶ exchange
 *
 * A step sets the next step and says MORE, or says WAIT: an event (a connection, bytes, a wake, a
 * deadline) then runs the machine again, in the same step. Steps are written so that running one
 * again after a wait repeats nothing. The request never calls into the next step itself, and knows
 * no protocol: it holds one weir_hstream of each side. One of a raw session holds none: its exchange
 * is a tunnel, and it cannot be answered.
 */
#include "proxy/req.h"

#include "base/clock.h"
#include "proxy/pass.h"
#include "proxy/tunnel.h"

/* --- life --------------------------------------------------------------------------------------
 */

static struct weir_listener_stats *stats_of(const struct weir_req *req)
{
    return &req->listener->door->at[req->worker->id].stats;
}

static struct weir_seat *seat_of(const struct weir_req *req)
{
    return &req->listener->snapshot->seats[req->worker->id];
}

struct weir_req *weir_req_new(struct weir_session *session, struct weir_hstream *hs)
{
    struct weir_worker *worker = session->wl->worker;
    struct weir_arena arena;
    struct weir_req *req;

    /* The request is the first thing in its own arena: what a plain one needs is one chunk. */
    _Static_assert(sizeof(*req) <= WEIR_ARENA_CHUNK_BYTES / 2 - 16, "half a chunk is left");
    weir_arena_init(&arena, &worker->loop.arenas);
    req = weir_arena_zalloc(&arena, sizeof(*req));
    if (!req)
        return NULL;
    req->arena = arena;
    worker->req_count++;
    req->magic = WEIR_REQ_MAGIC;
    req->session = session;
    req->worker = worker;
    req->listener = session->wl->listener;
    weir_seat_hold(seat_of(req));
    req->down = hs;
    req->replayable = true;
    req->began_us = worker->loop.now_us;
    req->recv_ms = worker->loop.now_ms;
    weir_list_init(&req->parked_link);
    weir_buf_init(&req->replay, &worker->loop.bufs);
    weir_buf_init(&req->to_up.held, &worker->loop.bufs);
    weir_buf_init(&req->to_down.held, &worker->loop.bufs);
    weir_count(&stats_of(req)->in_flight, 1);
    return req;
}

static void req_free(struct weir_req *req)
{
    struct weir_arena arena = req->arena; /* which the request lies in */

    req->worker->req_count--;
    weir_seat_drop(seat_of(req));
    weir_arena_fini(&arena);
}

void weir_req_drop(struct weir_req *req)
{
    weir_assert(!req->pins && !req->running && !req->session && !req->conn);
    weir_timer_stop(&req->worker->loop.wheel, &req->timer);
    weir_dir_fini(&req->to_up);
    weir_dir_fini(&req->to_down);
    weir_buf_clear(&req->replay);
    req->over = true;
    req_free(req);
}

bool weir_req_unpin(struct weir_req *req)
{
    bool over = req->over;

    if (--req->pins == 0 && over)
        req_free(req);
    return !over;
}

/* --- errors ------------------------------------------------------------------------------------
 */

void weir_req_note_error(struct weir_req *req, enum weir_err code, enum weir_by by,
                         enum weir_retry retry, int sys, const char *where)
{
    if (!req->error.code)
        req->error = (struct weir_error){ code, by, retry, sys, where };
}

void weir_req_fault(struct weir_req *req, const struct weir_error *error)
{
    if (req->over || req->step >= WEIR_STEP_FAIL)
        return;
    if (req->step < WEIR_STEP_CONNECT || req->own_answer)
        weir_req_note_error(req, error->code, error->by, error->retry, error->sys, error->where);
    else if (!req->attempt_error.code)
        req->attempt_error = *error;
    weir_req_goto(req, WEIR_STEP_FAIL);
}

static void set_step(struct weir_req *req, enum weir_step step)
{
    req->step = (uint8_t)step;
    req->cursor_phase = 0;
    req->wake_verdict = WEIR_NEXT;
}

/* What a phase said, as a flow. */
static enum weir_flow after_phase(struct weir_req *req, enum weir_verdict verdict,
                                  enum weir_step next, const char *where)
{
    switch (verdict) {
    case WEIR_NEXT:
        set_step(req, next);
        return WEIR_FLOW_MORE;
    case WEIR_WAIT:
        return WEIR_FLOW_WAIT;
    case WEIR_DONE:
        if (req->own_answer) {
            set_step(req, WEIR_STEP_EXCHANGE);
            return WEIR_FLOW_MORE;
        }
        __attribute__((fallthrough)); /* done, but with no answer */
    default:
        weir_req_note_error(req, WEIR_EFILTER, WEIR_BY_US, WEIR_RETRY_NO, 0, where);
        set_step(req, WEIR_STEP_FAIL);
        return WEIR_FLOW_MORE;
    }
}

/* --- steps -------------------------------------------------------------------------------------
 */

static enum weir_flow step_early(struct weir_req *req)
{
    if (!req->route) {
        int err = weir_forward_begin(req);

        if (err) {
            weir_req_note_error(req, (enum weir_err)err,
                                err == WEIR_EOVERLOAD || err == WEIR_ENOMEM ? WEIR_BY_US
                                                                            : WEIR_BY_CLIENT,
                                WEIR_RETRY_NO, 0, "early_request");
            set_step(req, WEIR_STEP_FAIL);
            return WEIR_FLOW_MORE;
        }
        weir_req_watch(req);
    }
    return after_phase(req, weir_filters_run(req, WEIR_PH_EARLY, NULL, NULL), WEIR_STEP_REQUEST,
                       "early_request");
}

static enum weir_flow step_request(struct weir_req *req)
{
    enum weir_verdict verdict = weir_filters_run(req, WEIR_PH_REQUEST, NULL, NULL);

    if (verdict != WEIR_NEXT)
        return after_phase(req, verdict, WEIR_STEP_PEER, "request");
    if (req->route->door) { /* its connection goes on there */
        set_step(req, WEIR_STEP_FINISH);
        return WEIR_FLOW_MORE;
    }
    if (req->target) {
        weir_budget_earn(weir_req_budget(req), req->route->conf->retry.budget,
                         req->worker->loop.now_ms);
        set_step(req, WEIR_STEP_PEER);
        return WEIR_FLOW_MORE;
    }
    /* No filter answered, and there is nobody else who could. */
    weir_req_note_error(req, WEIR_ENOROUTE, WEIR_BY_CLIENT, WEIR_RETRY_NO, 0, "request");
    set_step(req, WEIR_STEP_FAIL);
    return WEIR_FLOW_MORE;
}

static struct weir_cluster_view *req_view(const struct weir_req *req)
{
    return weir_worker_view(req->worker, req->target);
}

static enum weir_flow step_peer(struct weir_req *req)
{
    enum weir_verdict verdict;

    if (req->cursor_phase == 0) {
        req->choice =
            (struct weir_peer_choice){ .cluster = req->target->cluster, .tried = req->tried };
        req->choice.tried_count = req->attempts < WEIR_TRIED_MAX ? req->attempts : WEIR_TRIED_MAX;
    }
    verdict = weir_filters_run(req, WEIR_PH_PEER, &req->choice, NULL);
    if (verdict != WEIR_NEXT)
        return after_phase(req, verdict, WEIR_STEP_CONNECT, "upstream_peer");
    req->choice.cluster = req->target->cluster; /* it may be another now */
    req->server_chosen = (struct weir_server *)req->choice.server;
    if (!req->server_chosen)
        req->server_chosen = weir_cluster_pick(req_view(req), &req->choice);
    if (!req->server_chosen) { /* all that are up were tried: again among all */
        req->choice.tried_count = 0;
        req->server_chosen = weir_cluster_pick(req_view(req), &req->choice);
    }
    if (!req->server_chosen) {
        weir_req_note_error(req, WEIR_ENOPEER, WEIR_BY_UPSTREAM, WEIR_RETRY_NO, 0, "upstream_peer");
        set_step(req, WEIR_STEP_FAIL);
        return WEIR_FLOW_MORE;
    }
    set_step(req, WEIR_STEP_CONNECT);
    return WEIR_FLOW_MORE;
}

static void on_acquired(void *arg, struct weir_upconn *conn, const struct weir_error *error)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    req->acquire.fn = NULL;
    if (!conn) {
        weir_req_fault(req, error);
        return;
    }
    req->conn = conn;
    req->connect_us = conn->connect_us;
    weir_req_run(req);
}

static bool acquire_pending(const struct weir_req *req)
{
    return req->acquire.fn != NULL;
}

/* `off` is as long as it can be: 49 days. */
static uint32_t wait_ms(int64_t timeout_ms)
{
    return timeout_ms < 0 || timeout_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)timeout_ms;
}

static enum weir_flow step_connect(struct weir_req *req)
{
    if (!req->conn) {
        const struct weir_timeouts *t = &req->route->conf->timeouts;
        struct weir_acquire_opts opts = { .fresh = req->fresh,
                                          .http1 = req->http1,
                                          .upgrade = req->in.upgrade.len > 0,
                                          .raw = !req->down,
                                          .connect_timeout_ms = wait_ms(t->connect),
                                          .queue_timeout_ms = wait_ms(t->queue) };

        if (acquire_pending(req))
            return WEIR_FLOW_WAIT;
        if (weir_req_proxy_header(req, &opts.first)) {
            weir_req_note_error(req, WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "upstream_peer");
            set_step(req, WEIR_STEP_FAIL);
            return WEIR_FLOW_MORE;
        }
        req->attempts++;
        if (req->attempts <= WEIR_TRIED_MAX)
            req->tried[req->attempts - 1] = req->server_chosen;
        req->conn = weir_pool_acquire(&req->acquire, req_view(req), req->server_chosen, &opts,
                                      on_acquired, req);
        if (!req->conn) {
            req->acquire.fn = on_acquired; /* pending: until on_acquired or a cancel */
            weir_req_watch(req);
            return WEIR_FLOW_WAIT;
        }
        req->connect_us = 0;
    }
    return after_phase(req, weir_filters_run(req, WEIR_PH_CONNECTED, NULL, NULL),
                       WEIR_STEP_EXCHANGE, "connected_to_upstream");
}

static enum weir_flow step_exchange(struct weir_req *req)
{
    if (req->own_answer)
        return weir_exchange_answer(req);
    if (!req->down) {
        weir_tunnel_start(req);
        return WEIR_FLOW_WAIT;
    }
    return req->up_open ? weir_exchange_resume(req) : weir_exchange_start(req);
}

/* Where the server has chosen HTTP/2, and has it not for this: an upgrade without RFC 8441, or what it said HTTP/1.1 is
 * required for (RFC 9113 7). Nothing has been begun, and it is no attempt more: the same server, once, by HTTP/1.1. */
static bool older_protocol_helps(const struct weir_req *req)
{
    enum weir_err code = req->attempt_error.code;

    return (code == WEIR_EUPNOUPGRADE || code == WEIR_EUPHTTP1) && req->conn && req->conn->mux &&
           !req->http1 && !req->head_sent && req->replayable && !req->to_up.waiting &&
           weir_cluster_get_conf(req->target->cluster)->protocol == WEIR_UPSTREAM_AUTO;
}

/* A failed attempt: again, or not? */
static bool attempt_again(struct weir_req *req)
{
    struct weir_retry_input in = { .conf = &req->route->conf->retry,
                                   .error = &req->attempt_error,
                                   .attempts = req->attempts,
                                   .idempotent =
                                       weir_method_idempotent((enum weir_method)req->in.method_id),
                                   .replayable = req->replayable && !req->to_up.waiting,
                                   .head_sent = req->head_sent,
                                   .reused = req->conn && req->conn->reused,
                                   .first_byte = req->first_byte_us != 0,
                                   .stale_retried = req->stale_retried };
    enum weir_retried why;
    enum weir_retry_verdict verdict;

    if (older_protocol_helps(req)) {
        req->http1 = true;
        req->attempts--;
        weir_req_retried(req, WEIR_RETRIED_unprocessed);
        return true;
    }
    verdict = weir_retry_decide(&in, &why);
    if (verdict == WEIR_AGAIN_NO)
        return false;
    /* A server that says it has not begun (GOAWAY, REFUSED_STREAM) has lost no work by it; one that restarts with a
     * hundred streams has not failed. */
    if (verdict == WEIR_AGAIN && why != WEIR_RETRIED_unprocessed &&
        !weir_budget_spend(weir_req_budget(req), req->worker->loop.now_ms))
        return false;
    weir_req_retried(req, why);
    if (verdict == WEIR_AGAIN_FRESH) {
        req->stale_retried = req->fresh = true;
        req->attempts--; /* it does not count, and its server is not to be avoided */
    }
    return true;
}

/* The phase of a failed attempt, then what it says about another one: NEXT: there is one. */
static enum weir_verdict fail_attempt(struct weir_req *req)
{
    const struct weir_error *why = &req->attempt_error;
    bool connected = req->conn != NULL;
    enum weir_verdict verdict;

    if (req->cursor_phase == 0) {
        req->policy_again = attempt_again(req);
        req->again = connected && req->policy_again;
    }
    verdict = weir_filters_run(req, connected ? WEIR_PH_PROXY_ERROR : WEIR_PH_CONNECT_FAILED,
                               &req->attempt_error, &req->again);
    if (verdict != WEIR_NEXT)
        return verdict;
    if (connected
            ? req->again
            : req->policy_again || (req->again && !req->head_sent && req->replayable &&
                                    (int64_t)req->attempts < req->route->conf->retry.attempts))
        return WEIR_NEXT;
    weir_req_note_error(req, why->code, why->by, why->retry, why->sys, why->where);
    return WEIR_FAIL;
}

static void let_go_of_upstream(struct weir_req *req)
{
    if (acquire_pending(req)) {
        weir_pool_cancel(&req->acquire);
        req->acquire.fn = NULL;
    }
    weir_exchange_release(req);
}

static enum weir_flow step_fail(struct weir_req *req)
{
    enum weir_verdict verdict;

    weir_pass_part(req);
    if (req->up_open) /* filters may wait now, and nothing of that attempt is wanted any more */
        weir_hstream_reset(&req->conn->hs, WEIR_ECANCELED);
    if (req->attempt_error.code) {
        verdict = req->error.code ? WEIR_FAIL : fail_attempt(req);
        if (verdict == WEIR_WAIT)
            return WEIR_FLOW_WAIT;
        let_go_of_upstream(req);
        if (verdict == WEIR_NEXT) {
            req->attempt_error.code = WEIR_OK;
            weir_exchange_rewind(req);
            set_step(req, WEIR_STEP_PEER);
            return WEIR_FLOW_MORE;
        }
        weir_req_note_error(req, req->attempt_error.code, req->attempt_error.by,
                            req->attempt_error.retry, req->attempt_error.sys,
                            req->attempt_error.where);
        req->attempt_error.code = WEIR_OK;
        req->cursor_phase = 0;
        if (verdict == WEIR_DONE && req->own_answer && !req->head_sent) {
            set_step(req, WEIR_STEP_EXCHANGE);
            return WEIR_FLOW_MORE;
        }
    }
    let_go_of_upstream(req);
    if (req->head_sent || !req->session || !req->down) {
        req->broken = true;
        set_step(req, WEIR_STEP_FINISH);
        return WEIR_FLOW_MORE;
    }
    verdict = weir_filters_run(req, WEIR_PH_PROXY_FAILED, &req->error, NULL);
    if (verdict == WEIR_WAIT)
        return WEIR_FLOW_WAIT;
    if (!(verdict == WEIR_DONE && req->own_answer) && weir_reply_error(req)) {
        req->broken = true;
        set_step(req, WEIR_STEP_FINISH);
        return WEIR_FLOW_MORE;
    }
    set_step(req, WEIR_STEP_EXCHANGE);
    return WEIR_FLOW_MORE;
}

bool weir_req_handed_over(const struct weir_req *req)
{
    return req->route && req->route->door && !req->error.code;
}

/* What the client was told: an upgrade that it asked for by extended CONNECT is granted by 200 (RFC 8441 5). A tunnel that
 * nobody asked for in HTTP counts as one that was granted. */
static int status_told(const struct weir_req *req)
{
    return !req->down || (req->out.status == 101 && req->in.must_switch) ? 200 : req->out.status;
}

static enum weir_flow step_finish(struct weir_req *req)
{
    struct weir_session *session = req->session;
    uint64_t now_us = weir_clock_us();
    uint64_t took_us = now_us > req->began_us ? now_us - req->began_us : 0;
    bool cut = req->broken && req->head_sent;
    bool finished = req->to_up.ended && !req->in.keep_alive && !req->error.code;
    struct weir_wlistener *onto =
        weir_req_handed_over(req) ? &req->route->door->at[req->worker->id] : NULL;
    int status = req->head_sent || onto ? status_told(req)
                 : req->error.code      ? weir_err_status(req->error.code)
                                        : 499;
    bool reusable = false;

    weir_timer_stop(&req->worker->loop.wheel, &req->timer);
    weir_park_cancel(req);
    let_go_of_upstream(req);
    req->cursor_phase = 0;
    weir_filters_run(req, WEIR_PH_LOGGING, NULL, NULL);
    weir_park_cancel(req);
    weir_req_record(req, status, took_us);
    weir_pass_stop(req);
    weir_dir_fini(&req->to_up);
    weir_dir_fini(&req->to_down);
    weir_buf_clear(&req->replay);
    req->over = true;
    if (session) {
        if (req->broken && req->down)
            weir_hstream_reset(req->down, req->error.code ? req->error.code : WEIR_EINTERNAL);
        reusable = req->down && weir_hstream_done(req->down) && !req->close_after && !req->broken;
        weir_session_part(session, req);
    }
    if (!req->pins)
        req_free(req);
    if (session && onto)
        weir_session_hand_over(session, onto);
    else if (session)
        weir_session_request_done(session, reusable, cut, finished);
    return WEIR_FLOW_GONE;
}

/* --- the loop ----------------------------------------------------------------------------------
 */

static const weir_step_fn steps[WEIR_STEPS] = {
    [WEIR_STEP_EARLY] = step_early,       [WEIR_STEP_REQUEST] = step_request,
    [WEIR_STEP_PEER] = step_peer,         [WEIR_STEP_CONNECT] = step_connect,
    [WEIR_STEP_EXCHANGE] = step_exchange, [WEIR_STEP_FAIL] = step_fail,
    [WEIR_STEP_FINISH] = step_finish,
};

static bool traced(const struct weir_req *req)
{
    return weir_log_level(req->worker->service->log) >= WEIR_LOG_TRACE;
}

void weir_req_run(struct weir_req *req)
{
    enum weir_flow flow;

    if (req->running || req->over) /* an event inside a step: the loop below sees that it moved */
        return;
    req->running = true;
    do {
        weir_assert(req->magic == WEIR_REQ_MAGIC &&
                    req->step < WEIR_STEPS); /* the one good place to be paranoid */
        req->moved = false;
        flow = __builtin_expect(traced(req), 0) ? weir_req_traced(req, steps[req->step])
                                                : steps[req->step](req);
        if (flow == WEIR_FLOW_GONE)
            return;
    } while (flow == WEIR_FLOW_MORE || req->moved);
    req->running = false;
}

void weir_req_goto(struct weir_req *req, enum weir_step step)
{
    weir_park_cancel(req); /* whoever waits, waits in vain */
    set_step(req, step);
    req->moved = true;
    weir_req_run(req);
}

void weir_req_client_gone(struct weir_req *req, enum weir_err why)
{
    weir_req_note_error(req, why, WEIR_BY_CLIENT, WEIR_RETRY_NO, 0, "client");
    req->client_gone = true;
    req->broken = true;
    weir_req_goto(req, WEIR_STEP_FINISH);
}
