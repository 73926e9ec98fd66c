/* SPDX-License-Identifier: Apache-2.0 */
/**
 * body.c: bodies through filters. A piece goes to the first filter of the chain; what a filter
 * emits goes to the next one, and from the last into the direction. Pieces that a filter hands on
 * unchanged stay borrowed; others are copied. A filter that waits stops its chain: input that comes
 * meanwhile is kept in `raw`, within the sender's credit.
 */
#include "proxy/exchange.h"

struct weir_body_out {
    struct weir_req *req;
    enum weir_phase phase;
    struct weir_flow_dir *dir;
    unsigned next;         /* filter that gets what is emitted */
    struct weir_str input; /* of the call in progress */
    bool borrowed;
};

/* Runs filter `i` and those behind it. */
static enum weir_verdict chain_run(struct weir_body_out *out, unsigned i, struct weir_str data,
                                   bool last, bool borrowed, int *err)
{
    const struct weir_chains *chains = &out->req->route->chains;
    const struct weir_chain *chain = &chains->phase[out->phase];
    const struct weir_filter_use *use;
    struct weir_body_out inner;
    enum weir_verdict verdict;
    weir_body_fn fn;

    if (i == chain->count) {
        if (!*err)
            *err = weir_dir_push(out->dir, data, borrowed);
        if (last)
            out->dir->filtered_end = true;
        return WEIR_NEXT;
    }
    use = &chains->uses[chain->at[i]];
    fn =
        out->phase == WEIR_PH_REQUEST_BODY ? use->filter->request_body : use->filter->response_body;
    inner = (struct weir_body_out){ out->req, out->phase, out->dir, i + 1, data, borrowed };
    verdict = fn(out->req, use->self, data, last, &inner);
    if (verdict == WEIR_NEXT && last)
        return chain_run(out, i + 1, WEIR_STR(""), true, false, err);
    if (verdict == WEIR_WAIT) {
        out->dir->waiting = true;
        out->dir->last_at = last ? i + 1 : 0;
    }
    return verdict;
}

int weir_body_emit(struct weir_body_out *out, struct weir_str data)
{
    bool inside = out->borrowed && data.ptr >= out->input.ptr &&
                  data.ptr + data.len <= out->input.ptr + out->input.len;
    enum weir_verdict verdict;
    int err = 0;

    if (!data.len)
        return 0;
    verdict = chain_run(out, out->next, data, false, inside, &err);
    if (verdict == WEIR_FAIL || verdict == WEIR_DONE)
        return err ?: WEIR_EFILTER;
    return err;
}

size_t weir_body_credit(const struct weir_body_out *out)
{
    size_t held = out->dir->held.len + weir_iov_len(out->dir->pieces, out->dir->piece_count);

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

static int body_run(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir,
                    unsigned at, struct weir_str data, bool last, bool borrowed)
{
    struct weir_body_out out = { .req = req, .phase = phase, .dir = dir };
    int err = 0;
    enum weir_verdict verdict = chain_run(&out, at, data, last, borrowed, &err);

    if (!err && (verdict == WEIR_FAIL || verdict == WEIR_DONE))
        body_verdict(req, verdict);
    return err;
}

static bool has_filters(const struct weir_req *req, enum weir_phase phase)
{
    return req->route && req->route->chains.phase[phase].count > 0;
}

int weir_exchange_body(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir,
                       struct weir_str data)
{
    if (!dir->begun || !has_filters(req, phase))
        return weir_dir_push(dir, data, true);
    if (dir->waiting || dir->raw.len || !req->up_open)
        return weir_buf_append(&dir->raw, data.ptr, data.len);
    return body_run(req, phase, dir, 0, data, false, true);
}

void weir_exchange_body_end(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir)
{
    if (!dir->begun || dir->waiting || dir->raw.len)
        return; /* seen again in weir_exchange_body_resume */
    if (!has_filters(req, phase))
        dir->filtered_end = true;
    else if (body_run(req, phase, dir, 0, WEIR_STR(""), true, false))
        body_verdict(req, WEIR_FAIL);
}

int weir_exchange_body_begin(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir)
{
    int err;

    if (dir->begun)
        return 0;
    dir->begun = true;
    if (!has_filters(req, phase))
        return 0;
    err = weir_dir_keep(dir); /* what came before the exchange has not been filtered */
    weir_buf_splice(&dir->raw, &dir->held);
    return err;
}

void weir_exchange_body_resume(struct weir_req *req, enum weir_phase phase,
                               struct weir_flow_dir *dir)
{
    bool filters = has_filters(req, phase);
    unsigned last_at = dir->last_at;

    dir->waiting = false;
    dir->last_at = 0;
    if (last_at) {
        body_run(req, phase, dir, last_at, WEIR_STR(""), true, false);
        return;
    }
    while (dir->raw.len && !dir->waiting && req->step == WEIR_STEP_EXCHANGE) {
        struct iovec iov;
        int err;

        weir_buf_peek(&dir->raw, 0, &iov, 1);
        err = filters ? body_run(req, phase, dir, 0, (struct weir_str){ iov.iov_base, iov.iov_len },
                                 false, false)
                      : weir_buf_append(&dir->held, iov.iov_base, iov.iov_len);
        weir_buf_consume(&dir->raw, iov.iov_len);
        if (err) {
            body_verdict(req, WEIR_FAIL);
            return;
        }
    }
    if (dir->ended && !dir->filtered_end && !dir->waiting && req->step == WEIR_STEP_EXCHANGE)
        weir_exchange_body_end(req, phase, dir);
}
