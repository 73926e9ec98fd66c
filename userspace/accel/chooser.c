/* SPDX-License-Identifier: Apache-2.0 */
/**
 * chooser.c: who moves a direction. What was measured (microseconds of CPU, all of it): a ping-pong of 128 bytes 29 by copy, 36 by
 * pipe; 64 KiB 144 and 151; 256 KiB 364 and 262; 16 MiB 13100 and 9300. So a direction begins with copy, goes to a pipe when
 * much has come in large pieces, and comes back when the pieces become small (mover_pipe.c). sockmap costs no less than a
 * pipe, but nothing in this process, and it outlives it: by the operator's choice alone, for what has lasted a while.
 */
#include "accel/splice.h"

enum {
    BULK_BYTES = 128 * 1024, /* in large pieces, with no small one in between */
    LARGE_BYTES = 16 * 1024,
    SMALL_BYTES = 4 * 1024,
};

static enum weir_splice_why unplain(const struct weir_stream *stream)
{
    return weir_stream_plain(stream)     ? WEIR_WHY_none
           : weir_stream_fd(stream) >= 0 ? WEIR_WHY_tls
                                         : WEIR_WHY_shared;
}

enum weir_splice_why weir_splice_unplain(const struct weir_splice *splice)
{
    return unplain(splice->stream[0]) ?: unplain(splice->stream[1]);
}

/* Reasons that do not pass. */
static bool lasts(enum weir_splice_why why)
{
    return why == WEIR_WHY_off || why == WEIR_WHY_tls || why == WEIR_WHY_shared ||
           why == WEIR_WHY_refused;
}

static bool wants_pipe(const struct weir_splice *splice)
{
    return splice->policy != WEIR_SPLICE_OFF && splice->policy != WEIR_SPLICE_COPY;
}

static void try(struct weir_splice *splice, unsigned dir, enum weir_mover mover)
{
    enum weir_splice_why why = weir_splice_take(splice, dir, mover);

    splice->dir[dir].never = lasts(why);
    if (why && why != WEIR_WHY_waits && splice->dir[dir].mover == WEIR_MOVER_COPY)
        splice->own[dir].run = 0; /* after as much again */
}

/* By choice, after a while, where this host has it; and not through a pipe on the way there. */
static bool sockmap_first(const struct weir_splice *splice)
{
    return splice->policy == WEIR_SPLICE_SOCKMAP && splice->lasting &&
           weir_splice_splicer(splice)->movers[WEIR_MOVER_SOCKMAP];
}

void weir_splice_choose(struct weir_splice *splice, unsigned dir, size_t bytes)
{
    if (splice->dir[dir].never || splice->dir[dir].mover != WEIR_MOVER_COPY)
        return;
    if (sockmap_first(splice)) { /* the target has taken all: now, where it only waited for that */
        if (!bytes && splice->dir[dir].why == WEIR_WHY_waits)
            try(splice, dir, WEIR_MOVER_SOCKMAP);
        return;
    }
    if (splice->policy != WEIR_SPLICE_PIPE) {
        if (bytes >= LARGE_BYTES)
            splice->own[dir].run += bytes;
        else if (bytes && bytes < SMALL_BYTES)
            splice->own[dir].run = 0;
        if (splice->own[dir].run < BULK_BYTES)
            return;
    }
    try(splice, dir, WEIR_MOVER_PIPE);
}

static void apply(struct weir_splice *splice, unsigned dir)
{
    const struct weir_splicer *splicer = weir_splice_splicer(splice);
    struct weir_splice_dir *d = &splice->dir[dir];
    enum weir_splice_why why;

    d->never = false;
    if (!wants_pipe(splice)) {
        weir_splice_refuse(splice, dir, WEIR_WHY_off, true);
        return;
    }
    if (splice->policy == WEIR_SPLICE_PIPE) {
        try(splice, dir, WEIR_MOVER_PIPE);
        return;
    }
    if (d->mover != WEIR_MOVER_COPY)
        return;
    why = splicer->movers[WEIR_MOVER_PIPE] ? splicer->movers[WEIR_MOVER_PIPE]->can(splice, dir)
                                           : splicer->lacks[WEIR_MOVER_PIPE];
    d->never = lasts(why);
    weir_splice_note(splice, dir, d->never ? why : WEIR_WHY_few);
    if (splice->policy == WEIR_SPLICE_SOCKMAP && !splicer->sockmap_after_ms && !d->never) {
        splice->lasting = true;
        (void)weir_splice_take(splice, dir, WEIR_MOVER_SOCKMAP);
    }
}

void weir_splice_set_policy(struct weir_splice *splice, enum weir_splice_policy policy)
{
    splice->policy = (uint8_t)(policy ?: WEIR_SPLICE_AUTO) & 7;
    for (unsigned dir = 0; dir < 2 && !splice->over; dir++)
        apply(splice, dir);
}

void weir_splice_look(struct weir_splice *splice)
{
    weir_splice_sync(splice);
    splice->lasting |= splice->settled; /* its owner has put it where it stays */
    for (unsigned dir = 0; dir < 2 && !splice->over && sockmap_first(splice); dir++)
        if (splice->dir[dir].mover == WEIR_MOVER_PIPE) /* neither could go before the other */
            (void)weir_splice_take(splice, dir, WEIR_MOVER_COPY);
    for (unsigned dir = 0; dir < 2 && !splice->over; dir++)
        if (splice->policy == WEIR_SPLICE_SOCKMAP && splice->lasting)
            (void)weir_splice_take(splice, dir, WEIR_MOVER_SOCKMAP);
    splice->settled = true;
    if (!splice->over)
        splice->owner->sink->on_look(splice->owner);
}
