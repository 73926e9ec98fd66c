/* SPDX-License-Identifier: Apache-2.0 */
/**
 * body.c: bodies through filters. Before each filter of the chain stands a stage: what it has still
 * to be given. A piece goes to the first filter; what a filter emits is the input of the next one,
 * after it has returned, and what the last one emits goes into the direction.
 *
 *   bytes ─▶ [stage 0] filter 0 ─▶ [stage 1] filter 1 ─▶ … ─▶ filter n-1 ─▶ pieces, held
 *
 * Pieces that the last filter hands on unchanged stay borrowed; others are copied. While anybody
 * waits (a filter of the other direction or of the head as well) no filter runs and stages keep
 * what comes, within the sender's credit: so one token is enough for a request.
 */
#include "proxy/exchange.h"

struct weir_body_out {
    struct weir_req *req;
    enum weir_phase phase;
    struct weir_flow_dir *dir;
    unsigned next;         /* stage of what is emitted */
    struct weir_str input; /* of the call in progress */
    bool borrowed;
    enum weir_verdict verdict; /* DONE or FAIL: of the filter that ended the body */
    int err;                   /* the first one, also when the filter does not look */
};

static const struct weir_chain *chain_of(const struct weir_body_out *out)
{
    return &out->req->route->chains.phase[out->phase];
}

static void call_filter(struct weir_body_out *out, unsigned at, struct weir_str data, bool last,
                        bool borrowed)
{
    struct weir_req *req = out->req;
    unsigned index = chain_of(out)->at[at];
    const struct weir_filter_use *use = &req->route->chains.uses[index];
    weir_body_fn fn =
        out->phase == WEIR_PH_REQUEST_BODY ? use->filter->request_body : use->filter->response_body;
    enum weir_verdict verdict;

    out->next = at + 1;
    out->input = data;
    out->borrowed = borrowed;
    req->use_now = (uint8_t)index;
    verdict = weir_park_checked(req, fn(req, use->self, data, last, out));
    if (verdict == WEIR_WAIT)
        out->dir->waiting = true;
    else if (verdict != WEIR_NEXT)
        out->verdict = verdict;
    if (last)
        out->dir->stages[at + 1].last = true;
}

/* The stage nearest to the end that has something; the count of filters: only the end itself. */
static bool stage_due(const struct weir_body_out *out, unsigned *at)
{
    for (unsigned i = chain_of(out)->count + 1; i-- > 0;)
        if (out->dir->stages[i].bytes.len || out->dir->stages[i].last) {
            *at = i;
            return true;
        }
    return false;
}

/* Filters run, the last ones first, until all is handed on or somebody waits. */
static void stages_run(struct weir_body_out *out)
{
    struct weir_flow_dir *dir = out->dir;
    unsigned at;

    while (!out->err && out->verdict == WEIR_NEXT && !dir->waiting && stage_due(out, &at)) {
        struct weir_stage *stage = &dir->stages[at];

        if (at == chain_of(out)->count) {
            stage->last = false;
            dir->filtered_end = true;
        } else if (stage->bytes.len) {
            struct iovec iov;

            weir_buf_peek(&stage->bytes, 0, &iov, 1);
            call_filter(out, at, (struct weir_str){ iov.iov_base, iov.iov_len }, false, false);
            weir_buf_consume(&stage->bytes, iov.iov_len);
        } else {
            stage->last = false;
            call_filter(out, at, WEIR_STR(""), true, false);
        }
    }
}

int weir_body_emit(struct weir_body_out *out, struct weir_str data)
{
    bool inside = out->borrowed && data.ptr >= out->input.ptr &&
                  data.ptr + data.len <= out->input.ptr + out->input.len;
    int err = 0;

    if (out->err || !data.len)
        return out->err;
    if (out->next < chain_of(out)->count)
        err = weir_buf_append(&out->dir->stages[out->next].bytes, data.ptr, data.len);
    else
        err = weir_dir_push(out->dir, data, inside);
    out->err = err;
    return err;
}

size_t weir_body_credit(const struct weir_body_out *out)
{
    size_t held = out->dir->held.len + weir_iov_len(out->dir->pieces, out->dir->piece_count) +
                  weir_dir_staged(out->dir);

    return held >= WEIR_STREAM_HIGH_BYTES ? 0 : WEIR_STREAM_HIGH_BYTES - held;
}

/* A filter ended the request in the middle of a body. */
static void body_verdict(struct weir_req *req, enum weir_verdict verdict)
{
    if (verdict == WEIR_DONE && req->own_answer && !req->head_sent) {
        weir_req_goto(req, WEIR_STEP_EXCHANGE);
        return;
    }
    weir_req_note_error(req, WEIR_EFILTER, WEIR_BY_US, WEIR_RETRY_NO, 0, "body");
    weir_req_goto(req, WEIR_STEP_FAIL);
}

/* The request may be gone afterwards when a filter ended it. */
static int settle(struct weir_body_out *out)
{
    stages_run(out);
    if (!out->err && out->verdict != WEIR_NEXT)
        body_verdict(out->req, out->verdict);
    return out->err;
}

static bool may_run(const struct weir_req *req, enum weir_phase phase)
{
    return !req->parked && req->up_open && req->step == WEIR_STEP_EXCHANGE &&
           (phase == WEIR_PH_REQUEST_BODY || req->response_ready);
}

int weir_exchange_body(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir,
                       struct weir_str data)
{
    struct weir_body_out out = { .req = req, .phase = phase, .dir = dir, .verdict = WEIR_NEXT };
    unsigned at;

    if (!dir->stages)
        return weir_dir_push(dir, data, true);
    if (!may_run(req, phase) || stage_due(&out, &at))
        return weir_buf_append(&dir->stages[0].bytes, data.ptr, data.len);
    call_filter(&out, 0, data, false, true);
    return settle(&out);
}

int weir_exchange_body_end(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir)
{
    if (dir->stages)
        dir->stages[0].last = true;
    else if (dir->begun)
        dir->filtered_end = true;
    return weir_exchange_body_resume(req, phase, dir);
}

int weir_exchange_body_begin(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir)
{
    unsigned count = req->route->chains.phase[phase].count;
    int err;

    if (dir->begun)
        return 0;
    dir->begun = true;
    if (!count) {
        dir->filtered_end = dir->ended;
        return 0;
    }
    err = weir_dir_keep(dir); /* what came before the exchange has not been filtered */
    if (err)
        return err;
    dir->stages = weir_arena_zalloc(&req->arena, (count + 1) * sizeof(*dir->stages));
    if (!dir->stages)
        return WEIR_ENOMEM;
    dir->stage_count = (uint8_t)(count + 1);
    for (unsigned i = 0; i <= count; i++)
        weir_buf_init(&dir->stages[i].bytes, dir->held.cache);
    weir_buf_splice(&dir->stages[0].bytes, &dir->held);
    dir->stages[0].last = dir->ended;
    return 0;
}

int weir_exchange_body_resume(struct weir_req *req, enum weir_phase phase,
                              struct weir_flow_dir *dir)
{
    struct weir_body_out out = { .req = req, .phase = phase, .dir = dir, .verdict = WEIR_NEXT };

    if (!dir->stages || !may_run(req, phase))
        return 0;
    dir->waiting = false;
    return settle(&out);
}

void weir_exchange_body_wake(struct weir_req *req, enum weir_verdict verdict)
{
    if (verdict == WEIR_FAIL || verdict == WEIR_DONE)
        body_verdict(req, verdict);
}
