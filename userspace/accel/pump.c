/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/pump.h"

#include "weir/limits.h"

static void let_go(struct weir_pump *pump)
{
    if (pump->pipe)
        weir_pipe_put(pump->splicer, weir_take(&pump->pipe));
}

void weir_pump_stop(struct weir_pump *pump)
{
    let_go(pump);
}

enum weir_pump_end weir_pump_flush(struct weir_pump *pump)
{
    struct weir_pipe *pipe = pump->pipe;
    ssize_t n;

    if (!pipe)
        return WEIR_PUMP_WAITS;
    n = pipe->fill ? weir_stream_splice_out(pump->to, pipe->out, pipe->fill) : 0;
    if (n < 0) {
        let_go(pump);
        return WEIR_PUMP_FAILED;
    }
    pipe->fill -= (size_t)n;
    if (pipe->fill)
        return WEIR_PUMP_BLOCKED;
    let_go(pump);
    return WEIR_PUMP_WAITS;
}

/* A pipe full, if there is one. 0: nothing; -1: *why. */
static ssize_t fill(struct weir_pump *pump, enum weir_splice_why *why)
{
    size_t max = pump->splicer->tight ? WEIR_READ_LEAST_BYTES : WEIR_PIPE_BYTES;
    struct weir_pipe *pipe = weir_pipe_get(pump->splicer, why);
    ssize_t n;

    if (!pipe)
        return -1;
    n = weir_stream_splice_in(pump->from, pipe->in, max < pump->left ? max : (size_t)pump->left);
    if (n <= 0) {
        weir_pipe_put(pump->splicer, pipe);
        *why = WEIR_WHY_refused;
        return n ? -1 : 0;
    }
    pipe->fill = (size_t)n;
    pump->pipe = pipe;
    return n;
}

enum weir_pump_end weir_pump_run(struct weir_pump *pump, uint64_t *taken, enum weir_splice_why *why)
{
    *taken = 0;
    for (int i = 0;; i++) {
        enum weir_pump_end end = weir_pump_flush(pump);
        ssize_t n;

        if (end != WEIR_PUMP_WAITS)
            return end;
        if (!pump->left)
            return WEIR_PUMP_DONE;
        if (i == WEIR_READS_TURN_MAX)
            return WEIR_PUMP_AGAIN;
        n = fill(pump, why);
        if (n <= 0)
            return n ? WEIR_PUMP_REFUSED : WEIR_PUMP_WAITS;
        *taken += (uint64_t)n;
        if (pump->left != UINT64_MAX)
            pump->left -= (uint64_t)n;
    }
}
