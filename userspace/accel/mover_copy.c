/* SPDX-License-Identifier: Apache-2.0 */
/**
 * mover_copy.c: bytes are read, and written: TLS, exchanges of HTTP/2, small pieces, anything. A side is not read while the
 * other has WEIR_STREAM_HIGH_BYTES unsent; while memory is short: anything.
 */
#include "accel/splice.h"

#include "weir/limits.h"

static bool full(const struct weir_splice *splice, unsigned side)
{
    size_t pending = weir_stream_pending(splice->stream[side]);

    return pending >= WEIR_STREAM_HIGH_BYTES || (pending && weir_splice_splicer(splice)->tight);
}

static enum weir_splice_why can(const struct weir_splice *splice, unsigned dir)
{
    return WEIR_WHY_none;
}

static enum weir_splice_why start(struct weir_splice *splice, unsigned dir)
{
    return WEIR_WHY_none;
}

static void leave(struct weir_splice *splice, unsigned dir)
{
}

/* What it has written is the stream's, which sends FIN after it. */
static bool flushed(struct weir_splice *splice, unsigned dir)
{
    return true;
}

static void press(struct weir_splice *splice, unsigned dir)
{
    weir_stream_read(splice->stream[dir], !full(splice, !dir));
}

static void on_data(struct weir_splice *splice, unsigned dir, const uint8_t *data, size_t len)
{
    struct iovec iov = { (void *)(uintptr_t)data, len };

    weir_splice_moved(splice, dir, len);
    if (weir_splice_shut(splice, !dir))
        return;
    if (weir_stream_write(splice->stream[!dir], &iov, 1)) {
        weir_splice_fail(splice, WEIR_ENOMEM, WEIR_SPLICE_US);
        return;
    }
    if (splice->dir[dir].mover != WEIR_MOVER_COPY)
        return; /* the last bytes before somebody else */
    if (full(splice, !dir))
        weir_stream_read(splice->stream[dir], false);
    weir_splice_choose(splice, dir, len);
}

static void on_drained(struct weir_splice *splice, unsigned dir)
{
    weir_stream_read(splice->stream[dir], true);
    weir_splice_choose(splice, dir, 0);
}

/* It has nothing when the target's own queue is empty: then what was taken has been given. */
static bool mark(const struct weir_splice *splice, unsigned dir, uint64_t *in, uint64_t *out)
{
    const struct weir_stream *source = splice->stream[dir], *target = splice->stream[!dir];
    struct weir_stream_reach before, after, given;
    ssize_t waiting;

    if (weir_stream_pending(target) || !weir_stream_reach(source, &before))
        return false;
    waiting = weir_stream_waiting(source);
    if (waiting < 0 || !weir_stream_reach(source, &after) || before.received != after.received ||
        before.failed || !weir_stream_reach(target, &given) || given.failed)
        return false;
    *in = after.received - (uint64_t)waiting - splice->bytes[dir];
    *out = given.written - splice->bytes[dir];
    return true;
}

const struct weir_mover_ops weir_mover_copy = {
    .can = can,
    .start = start,
    .leave = leave,
    .stop = leave,
    .flushed = flushed,
    .press = press,
    .on_data = on_data,
    .on_drained = on_drained,
    .mark = mark,
};
