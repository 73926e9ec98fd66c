/* SPDX-License-Identifier: Apache-2.0 */
/**
 * splice.c: what all movers share: the events of both streams, ends, who has a direction and who is next. Who is chosen is
 * in chooser.c.
 */
#include "accel/splice.h"

#include "base/panic.h"

#define SPLICE_MAGIC 0x77737063u

static const struct weir_mover_ops *ops_of(const struct weir_splice *splice, unsigned dir)
{
    return weir_splice_splicer(splice)->movers[splice->dir[dir].mover];
}

static void count_active(struct weir_splice *splice, unsigned dir, uint64_t n)
{
    weir_count(&weir_splice_splicer(splice)->stats->active[splice->dir[dir].mover], n);
}

/* --- who has a direction ----------------------------------------------------------------------------------------------
 */

void weir_splice_give(struct weir_splice *splice, unsigned dir, enum weir_mover mover)
{
    count_active(splice, dir, (uint64_t)-1);
    splice->dir[dir].mover = (uint8_t)mover;
    count_active(splice, dir, 1);
}

/* Those that pass by themselves: they are counted where they have not passed before the end. */
static bool passes(enum weir_splice_why why)
{
    return why == WEIR_WHY_none || why == WEIR_WHY_few || why == WEIR_WHY_waits ||
           why == WEIR_WHY_quiet;
}

static void count_why(struct weir_splice *splice, enum weir_splice_why why)
{
    weir_count(&weir_splice_splicer(splice)->stats->fallback[why], 1);
}

void weir_splice_note(struct weir_splice *splice, unsigned dir, enum weir_splice_why why)
{
    if (splice->dir[dir].why == why)
        return;
    splice->dir[dir].why = (uint8_t)why & 31;
    if (!passes(why))
        count_why(splice, why);
}

/* From copy to somebody else. */
static enum weir_splice_why begin(struct weir_splice *splice, unsigned dir, enum weir_mover mover)
{
    uint64_t run = splice->own[dir].run;
    enum weir_splice_why why;

    if (weir_stream_pending(splice->stream[!dir])) {
        weir_splice_note(splice, dir, WEIR_WHY_waits);
        return WEIR_WHY_waits;
    }
    splice->own[dir].data = NULL;
    weir_splice_give(splice, dir, mover); /* whatever comes is his from here on */
    why = weir_splice_splicer(splice)->movers[mover]->start(splice, dir);
    if (why) {
        weir_splice_give(splice, dir, WEIR_MOVER_COPY);
        splice->own[dir].run = run;
    }
    weir_splice_note(splice, dir, why);
    return why;
}

enum weir_splice_why weir_splice_take(struct weir_splice *splice, unsigned dir,
                                      enum weir_mover mover)
{
    const struct weir_splicer *splicer = weir_splice_splicer(splice);
    const struct weir_mover_ops *ops = splicer->movers[mover];
    struct weir_splice_dir *d = &splice->dir[dir];
    enum weir_splice_why why;

    if (d->mover == mover && !d->leaving)
        return WEIR_WHY_none;
    why = mover == WEIR_MOVER_COPY       ? WEIR_WHY_none
          : !ops                         ? splicer->lacks[mover]
          : weir_splice_eof(splice, dir) ? WEIR_WHY_ended
                                         : ops->can(splice, dir);
    if (why) {
        weir_splice_note(splice, dir, why);
        return why;
    }
    if (d->mover == WEIR_MOVER_COPY)
        return begin(splice, dir, mover);
    d->next = (uint8_t)mover & 7;
    if (!d->leaving) {
        d->leaving = true;
        ops_of(splice, dir)->leave(splice, dir);
    }
    return WEIR_WHY_none;
}

void weir_splice_left(struct weir_splice *splice, unsigned dir)
{
    struct weir_splice_dir *d = &splice->dir[dir];
    enum weir_mover next = d->next;

    weir_assert(d->leaving);
    d->leaving = false;
    d->next = WEIR_MOVER_COPY;
    weir_splice_give(splice, dir, WEIR_MOVER_COPY);
    splice->own[dir].run = 0;
    if (next != WEIR_MOVER_COPY && weir_splice_take(splice, dir, next) == WEIR_WHY_none)
        return;
    if (weir_splice_eof(splice, dir))
        weir_splice_settle(splice);
    else
        weir_mover_copy.press(splice, dir);
}

void weir_splice_refuse(struct weir_splice *splice, unsigned dir, enum weir_splice_why why,
                        bool never)
{
    struct weir_splice_dir *d = &splice->dir[dir];

    weir_splice_note(splice, dir, why);
    d->never |= never;
    if (!d->leaving)
        (void)weir_splice_take(splice, dir, WEIR_MOVER_COPY);
}

void weir_splice_moved(struct weir_splice *splice, unsigned dir, size_t bytes)
{
    struct weir_splicer *splicer = weir_splice_splicer(splice);
    unsigned mover = splice->dir[dir].mover;

    splice->bytes[dir] += bytes;
    splice->active_ms = (uint32_t)splicer->loop->now_ms;
    splice->used |= (uint8_t)(1u << mover) & 31;
    weir_count(&splicer->stats->moved[mover][dir], bytes);
}

/* --- ends -------------------------------------------------------------------------------------------------------------
 */

static void over(struct weir_splice *splice, enum weir_err err, unsigned side)
{
    if (splice->over)
        return;
    splice->over = true;
    splice->owner->sink->on_over(splice->owner, err, side);
}

void weir_splice_fail(struct weir_splice *splice, enum weir_err err, unsigned side)
{
    over(splice, err, side);
}

static void set_shut(struct weir_splice *splice, unsigned side)
{
    if (side == WEIR_SPLICE_UP)
        splice->shut_up = true;
    else
        splice->shut_down = true;
    weir_stream_shutdown(splice->stream[side]);
}

static void set_eof(struct weir_splice *splice, unsigned side)
{
    if (side == WEIR_SPLICE_DOWN)
        splice->eof_down = true;
    else
        splice->eof_up = true;
}

void weir_splice_passed_end(struct weir_splice *splice, unsigned dir)
{
    set_eof(splice, dir);
    set_shut(splice, !dir);
}

/* FIN goes on once what came before it has been handed over. */
static void pass_end(struct weir_splice *splice, unsigned dir)
{
    if (!weir_splice_eof(splice, dir) || weir_splice_shut(splice, !dir) ||
        !ops_of(splice, dir)->flushed(splice, dir))
        return;
    if (ops_of(splice, !dir)->shut && !ops_of(splice, !dir)->shut(splice, !dir))
        return;
    set_shut(splice, !dir);
}

void weir_splice_settle(struct weir_splice *splice)
{
    if (splice->over)
        return;
    pass_end(splice, WEIR_SPLICE_DOWN);
    pass_end(splice, WEIR_SPLICE_UP);
    if (splice->shut_down && splice->shut_up && !weir_stream_pending(splice->stream[0]) &&
        !weir_stream_pending(splice->stream[1]))
        over(splice, WEIR_OK, WEIR_SPLICE_US);
}

/* Its owner looks anew: other times count for who has ended. */
static void ended(struct weir_splice *splice, unsigned side)
{
    const struct weir_mover_ops *ops = ops_of(splice, side);
    struct weir_splicer *splicer = weir_splice_splicer(splice);

    splice->active_ms = (uint32_t)splicer->loop->now_ms;
    weir_splicer_unlook(splicer, splice);
    weir_splicer_look(splicer, splice, WEIR_SPLICE_LOOK_MS);

    set_eof(splice, side);
    if (ops->on_eof)
        ops->on_eof(splice, side);
    weir_splice_settle(splice);
}

/* --- events of the streams --------------------------------------------------------------------------------------------
 */

static struct weir_splice *splice_of(void *arg)
{
    return weir_cast(struct weir_splice, arg, SPLICE_MAGIC);
}

static void data_of(struct weir_splice *splice, unsigned side, const uint8_t *data, size_t len)
{
    if (!splice->over)
        ops_of(splice, side)->on_data(splice, side, data, len);
}

static void readable_of(struct weir_splice *splice, unsigned side)
{
    if (!splice->over)
        ops_of(splice, side)->on_readable(splice, side);
}

static void drained_of(struct weir_splice *splice, unsigned side)
{
    if (splice->over)
        return;
    ops_of(splice, !side)->on_drained(splice, !side);
    weir_splice_settle(splice);
}

static void down_on_data(void *arg, const uint8_t *data, size_t len)
{
    data_of(splice_of(arg), WEIR_SPLICE_DOWN, data, len);
}

static void up_on_data(void *arg, const uint8_t *data, size_t len)
{
    data_of(splice_of(arg), WEIR_SPLICE_UP, data, len);
}

static void down_on_readable(void *arg)
{
    readable_of(splice_of(arg), WEIR_SPLICE_DOWN);
}

static void up_on_readable(void *arg)
{
    readable_of(splice_of(arg), WEIR_SPLICE_UP);
}

static void down_on_eof(void *arg)
{
    struct weir_splice *splice = splice_of(arg);

    if (!splice->over)
        ended(splice, WEIR_SPLICE_DOWN);
}

static void up_on_eof(void *arg)
{
    struct weir_splice *splice = splice_of(arg);

    if (!splice->over)
        ended(splice, WEIR_SPLICE_UP);
}

static void down_on_drained(void *arg)
{
    drained_of(splice_of(arg), WEIR_SPLICE_DOWN);
}

static void up_on_drained(void *arg)
{
    drained_of(splice_of(arg), WEIR_SPLICE_UP);
}

static void down_on_error(void *arg, enum weir_err err, int sys)
{
    (void)sys;
    over(splice_of(arg), err, WEIR_SPLICE_DOWN);
}

static void up_on_error(void *arg, enum weir_err err, int sys)
{
    (void)sys;
    over(splice_of(arg), err, WEIR_SPLICE_UP);
}

static void down_on_closed(void *arg)
{
    struct weir_splice *splice = splice_of(arg);

    splice->owner->sink->on_closed(splice->owner, WEIR_SPLICE_DOWN);
}

static void up_on_closed(void *arg)
{
    struct weir_splice *splice = splice_of(arg);

    splice->owner->sink->on_closed(splice->owner, WEIR_SPLICE_UP);
}

static const struct weir_stream_sink sinks[2] = {
    [WEIR_SPLICE_DOWN] = { .on_data = down_on_data,
                           .on_eof = down_on_eof,
                           .on_drained = down_on_drained,
                           .on_error = down_on_error,
                           .on_closed = down_on_closed,
                           .on_readable = down_on_readable },
    [WEIR_SPLICE_UP] = { .on_data = up_on_data,
                         .on_eof = up_on_eof,
                         .on_drained = up_on_drained,
                         .on_error = up_on_error,
                         .on_closed = up_on_closed,
                         .on_readable = up_on_readable },
};

/* --- life -------------------------------------------------------------------------------------------------------------
 */

static void feed_kept(struct weir_splice *splice, unsigned dir, struct weir_buf *kept)
{
    while (kept && kept->len && !splice->over) {
        struct iovec iov;

        weir_buf_peek(kept, 0, &iov, 1);
        weir_mover_copy.on_data(splice, dir, iov.iov_base, iov.iov_len);
        weir_buf_consume(kept, iov.iov_len);
    }
    if (kept)
        weir_buf_clear(kept);
}

void weir_splice_begin(struct weir_splice *splice, struct weir_splice_owner *owner,
                       struct weir_stream *const stream[2], uint64_t look_ms)
{
    struct weir_splicer *splicer = stream[0]->loop->splicer;

    splice->magic = SPLICE_MAGIC;
    splice->owner = owner;
    splice->policy = WEIR_SPLICE_COPY; /* until all that came before has gone */
    splice->active_ms = (uint32_t)splicer->loop->now_ms;
    weir_list_init(&splice->link);
    for (unsigned side = 0; side < 2; side++) {
        splice->stream[side] = stream[side];
        weir_stream_set_sink(stream[side], &sinks[side], splice);
        splice->dir[side].never = true;
        weir_count(&splicer->stats->active[WEIR_MOVER_COPY], 1);
    }
    weir_splicer_look(splicer, splice, look_ms);
}

void weir_splice_start(struct weir_splice *splice, struct weir_splice_owner *owner,
                       const struct weir_splice_opts *opts)
{
    uint64_t after_ms = opts->stream[0]->loop->splicer->sockmap_after_ms;
    bool later = opts->policy == WEIR_SPLICE_SOCKMAP && after_ms > WEIR_SPLICE_LOOK_MS;

    weir_splice_begin(splice, owner, opts->stream, later ? after_ms : WEIR_SPLICE_LOOK_MS);
    weir_stream_read(splice->stream[1], true);
    weir_stream_read(splice->stream[0], true);
    feed_kept(splice, WEIR_SPLICE_DOWN, opts->kept[0]);
    feed_kept(splice, WEIR_SPLICE_UP, opts->kept[1]);
    if (opts->ended[1] && !splice->over)
        ended(splice, WEIR_SPLICE_UP);
    if (opts->ended[0] && !splice->over)
        ended(splice, WEIR_SPLICE_DOWN);
    if (!splice->over)
        weir_splice_set_policy(splice, opts->policy);
}

static void end(struct weir_splice *splice, bool part)
{
    if (splice->stopped)
        return;
    splice->over = splice->stopped = true;
    weir_splicer_unlook(weir_splice_splicer(splice), splice);
    for (unsigned dir = 0; dir < 2; dir++) {
        enum weir_splice_why why = splice->dir[dir].why;

        if (why && passes(why))
            count_why(splice, why);
        if (part && ops_of(splice, dir)->part)
            ops_of(splice, dir)->part(splice, dir);
        else
            ops_of(splice, dir)->stop(splice, dir);
        count_active(splice, dir, (uint64_t)-1);
    }
}

void weir_splice_stop(struct weir_splice *splice)
{
    end(splice, false);
}

void weir_splice_part(struct weir_splice *splice)
{
    end(splice, true);
}

void weir_splice_press(struct weir_splice *splice)
{
    for (unsigned dir = 0; dir < 2 && !splice->over; dir++)
        ops_of(splice, dir)->press(splice, dir);
}

void weir_splice_sync(struct weir_splice *splice)
{
    for (unsigned dir = 0; dir < 2 && !splice->over; dir++)
        if (ops_of(splice, dir)->sync)
            ops_of(splice, dir)->sync(splice, dir);
}

uint32_t weir_splice_idle_ms(const struct weir_splice *splice)
{
    return (uint32_t)weir_splice_splicer(splice)->loop->now_ms - splice->active_ms;
}

bool weir_splice_stands(struct weir_splice *splice)
{
    size_t unacked =
        weir_stream_unacked(splice->stream[0]) + weir_stream_unacked(splice->stream[1]);
    uint16_t folded = (uint16_t)(unacked ^ unacked >> 16), before = splice->unacked;

    splice->unacked = folded;
    if (folded == before || !unacked)
        return true;
    splice->active_ms = (uint32_t)weir_splice_splicer(splice)->loop->now_ms;
    return false;
}

/* A direction that could go into the kernel but for the moment is asked again soon. */
static bool soon(const struct weir_splice *splice)
{
    if (splice->policy == WEIR_SPLICE_SOCKMAP && !splice->lasting)
        return true;
    for (unsigned dir = 0; dir < 2 && splice->policy == WEIR_SPLICE_SOCKMAP; dir++)
        if (splice->dir[dir].mover != WEIR_MOVER_SOCKMAP && splice->dir[dir].why == WEIR_WHY_waits)
            return true;
    return false;
}

void weir_splice_look_after(struct weir_splice *splice, uint64_t ms)
{
    if (ms > WEIR_SPLICE_LOOK_MS && soon(splice))
        ms = WEIR_SPLICE_LOOK_MS;
    weir_splicer_look(weir_splice_splicer(splice), splice, ms);
}

bool weir_splice_move(struct weir_splice *to, struct weir_splice *from)
{
    for (unsigned dir = 0; dir < 2; dir++)
        if (from->dir[dir].mover != WEIR_MOVER_COPY && !ops_of(from, dir)->moved)
            return false;
    weir_assert(weir_list_empty(&from->link) && !from->stopped);
    *to = *from;
    weir_list_init(&to->link);
    for (unsigned side = 0; side < 2; side++)
        weir_stream_set_sink(to->stream[side], &sinks[side], to);
    from->magic = 0;
    for (unsigned dir = 0; dir < 2; dir++)
        if (ops_of(to, dir)->moved)
            ops_of(to, dir)->moved(to, dir);
    return true;
}

bool weir_splice_mark(const struct weir_splice *splice, struct weir_splice_mark *mark)
{
    for (unsigned dir = 0; dir < 2; dir++)
        if (splice->over || !ops_of(splice, dir)->mark ||
            !ops_of(splice, dir)->mark(splice, dir, &mark->in[dir], &mark->out[dir]))
            return false;
    return true;
}

void weir_splice_moving(struct weir_splice *splice)
{
    if (!splice->over && splice->owner->sink->on_moving)
        splice->owner->sink->on_moving(splice->owner);
}

const char *weir_splice_mover(const struct weir_splice *splice)
{
    unsigned mover = splice->used ? 31 - (unsigned)__builtin_clz(splice->used) : 0;

    return weir_mover_name(mover);
}
