/* SPDX-License-Identifier: Apache-2.0 */
/**
 * trace.c: a line a step of the machine, at the level trace: which request, which step, what it said,
 * what comes next, how long it took and how long the request has lasted. Only the loop of req.c comes
 * here, and only when somebody wants to read it.
 */
#include "proxy/req.h"

#include "base/clock.h"

static const char *const step_names[WEIR_STEPS] = {
    [WEIR_STEP_EARLY] = "early",     [WEIR_STEP_REQUEST] = "request",   [WEIR_STEP_PEER] = "peer",
    [WEIR_STEP_CONNECT] = "connect", [WEIR_STEP_EXCHANGE] = "exchange", [WEIR_STEP_FAIL] = "fail",
    [WEIR_STEP_FINISH] = "finish",
};
static const char *const flow_names[] = {
    [WEIR_FLOW_MORE] = "more",
    [WEIR_FLOW_WAIT] = "wait",
    [WEIR_FLOW_GONE] = "gone",
};

enum { TRACED_ID_BYTES = 64 };

/* The id, as it is before the last step, which frees it. */
static int id_copy(const struct weir_req *req, char id[TRACED_ID_BYTES])
{
    size_t len = req->id.len < TRACED_ID_BYTES ? req->id.len : TRACED_ID_BYTES;

    if (len)
        memcpy(id, req->id.ptr, len);
    else
        id[len++] = '-';
    return (int)len;
}

enum weir_flow weir_req_traced(struct weir_req *req, weir_step_fn run)
{
    struct weir_log *log = req->worker->service->log;
    unsigned step = req->step;
    uint64_t began_us = req->began_us, before_us = weir_clock_us(), after_us;
    char id[TRACED_ID_BYTES];
    int len = id_copy(req, id);
    enum weir_flow flow = run(req);
    const char *next = "";

    after_us = weir_clock_us();
    if (flow != WEIR_FLOW_GONE) { /* the first step gives it its name */
        len = id_copy(req, id);
        next = req->step != step ? step_names[req->step] : "";
    }
    weir_log(log, WEIR_LOG_TRACE, "request %.*s: %s: %s%s%s, %llu us (%llu us since it began)", len,
             id, step_names[step], flow_names[flow], *next ? ", then " : "", next,
             (unsigned long long)(after_us - before_us),
             (unsigned long long)(after_us > began_us ? after_us - began_us : 0));
    return flow;
}
