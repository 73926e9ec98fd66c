/* SPDX-License-Identifier: Apache-2.0 */
/**
 * mover_pipe.c: bytes go from socket to socket by splice(2), through a pipe of the worker. For what comes in large pieces,
 * between two plain sockets (TCP, UNIX). What waits here is one pipe full, in the kernel.
 *
 * own[dir].data is the pipe while there are bytes in it; the source is not read then.
 */
#include "accel/pump.h"
#include "accel/splice.h"

enum {
    SMALL_BYTES = 8 * 1024, /* when it was readable, and brought no more */
    SMALL_MAX = 7,          /* so often in a row: copying is cheaper */
};

static struct weir_pump pump_of(const struct weir_splice *splice, unsigned dir)
{
    return (struct weir_pump){ .splicer = weir_splice_splicer(splice),
                               .from = splice->stream[dir],
                               .to = splice->stream[!dir],
                               .pipe = splice->own[dir].data,
                               .left = UINT64_MAX };
}

static enum weir_splice_why can(const struct weir_splice *splice, unsigned dir)
{
    enum weir_splice_why why = weir_splice_unplain(splice);

    if (why)
        return why;
    return weir_splice_splicer(splice)->tight ? WEIR_WHY_memory
                                              : weir_pipe_could(weir_splice_splicer(splice));
}

static enum weir_splice_why start(struct weir_splice *splice, unsigned dir)
{
    splice->dir[dir].small = 0;
    weir_stream_hand(splice->stream[dir], true);
    weir_stream_read(splice->stream[dir], true);
    return WEIR_WHY_none;
}

static void left(struct weir_splice *splice, unsigned dir)
{
    weir_stream_hand(splice->stream[dir], false);
    weir_splice_left(splice, dir);
}

static void leave(struct weir_splice *splice, unsigned dir)
{
    if (splice->own[dir].data)
        weir_stream_read(splice->stream[dir], false);
    else
        left(splice, dir);
}

static void stop(struct weir_splice *splice, unsigned dir)
{
    struct weir_pump pump = pump_of(splice, dir);

    weir_pump_stop(&pump);
    splice->own[dir].data = NULL;
}

static bool flushed(struct weir_splice *splice, unsigned dir)
{
    return !splice->own[dir].data;
}

static void press(struct weir_splice *splice, unsigned dir)
{
    weir_stream_read(splice->stream[dir], !splice->own[dir].data);
}

/* Is it still worth a pipe? */
static void judge(struct weir_splice *splice, unsigned dir, uint64_t taken)
{
    struct weir_splice_dir *d = &splice->dir[dir];

    if (taken >= SMALL_BYTES)
        d->small = 0;
    else if (taken && d->small < SMALL_MAX)
        d->small++;
    if (d->small == SMALL_MAX && splice->policy != WEIR_SPLICE_PIPE)
        weir_splice_refuse(splice, dir, WEIR_WHY_small, false);
}

static void on_readable(struct weir_splice *splice, unsigned dir)
{
    struct weir_pump pump = pump_of(splice, dir);
    enum weir_splice_why why;
    enum weir_pump_end end;
    uint64_t taken;

    if (splice->own[dir].data || splice->dir[dir].leaving)
        return;
    if (weir_stream_pending(pump.to)) { /* of what was read before: on_drained comes */
        weir_stream_read(pump.from, false);
        return;
    }
    end = weir_pump_run(&pump, &taken, &why);
    splice->own[dir].data = pump.pipe;
    if (taken)
        weir_splice_moved(splice, dir, (size_t)taken);
    if (end == WEIR_PUMP_REFUSED)
        weir_splice_refuse(splice, dir, why, why == WEIR_WHY_refused);
    else if (end == WEIR_PUMP_WAITS)
        judge(splice, dir, taken);
    else
        weir_stream_read(splice->stream[dir], end == WEIR_PUMP_AGAIN);
}

static void on_drained(struct weir_splice *splice, unsigned dir)
{
    struct weir_pump pump = pump_of(splice, dir);
    enum weir_pump_end end = weir_pump_flush(&pump);

    splice->own[dir].data = pump.pipe;
    if (end != WEIR_PUMP_WAITS)
        return;
    splice->active_ms = (uint32_t)weir_splice_splicer(splice)->loop->now_ms;
    if (splice->dir[dir].leaving)
        left(splice, dir);
    else
        weir_stream_read(splice->stream[dir], true);
}

/* Read before it was by hand. */
static void on_data(struct weir_splice *splice, unsigned dir, const uint8_t *data, size_t len)
{
    weir_mover_copy.on_data(splice, dir, data, len);
}

/* The pipe is the direction's own, and knows nobody. */
static void moved(struct weir_splice *splice, unsigned dir)
{
}

const struct weir_mover_ops weir_mover_pipe = {
    .can = can,
    .start = start,
    .leave = leave,
    .stop = stop,
    .flushed = flushed,
    .press = press,
    .on_data = on_data,
    .on_readable = on_readable,
    .on_drained = on_drained,
    .moved = moved,
};
