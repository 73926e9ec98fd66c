/* SPDX-License-Identifier: Apache-2.0 */
/**
 * adopt.c: a splice that another process had. It may have been killed at any point; the kernel has both sockets, whatever it
 * moves by itself, and TCP's counts of what each has received and was given. Together with where the splice began (the mark)
 * they tell whether a byte was in that process when it ended: then it is lost, and the splice ends by RST.
 *
 *   each direction:  end passed on already ─▶ ended  |  in the kernel ─▶ its mover has it  |  as much given as taken ─▶ copy
 */
#include "accel/splice.h"

enum { LOOKS = 4 };

/* Was all that was taken from the source given to the target? Counts that change meanwhile are taken anew. */
static bool whole(const struct weir_splice *splice, unsigned dir,
                  const struct weir_splice_mark *mark, uint64_t *bytes)
{
    const struct weir_stream *source = splice->stream[dir];

    for (int i = 0; i < LOOKS; i++) {
        struct weir_stream_reach in, later, out;
        ssize_t unread;

        if (!weir_stream_reach(source, &in))
            return false;
        unread = weir_stream_waiting(source);
        if (unread < 0 || !weir_stream_reach(source, &later) ||
            !weir_stream_reach(splice->stream[!dir], &out))
            return false;
        *bytes = in.received - (uint64_t)unread - mark->in[dir];
        if (in.received == later.received && out.written - mark->out[dir] == *bytes)
            return true;
    }
    return false;
}

static bool in_kernel(struct weir_splice *splice, unsigned dir, const struct weir_splice_mark *mark,
                      bool ended, uint64_t *bytes)
{
    const struct weir_mover_ops *sockmap = weir_splice_splicer(splice)->movers[WEIR_MOVER_SOCKMAP];

    if (!sockmap)
        return false;
    weir_splice_give(splice, dir, WEIR_MOVER_SOCKMAP);
    if (sockmap->found(splice, dir, mark, ended, bytes))
        return true;
    weir_splice_give(splice, dir, WEIR_MOVER_COPY);
    splice->own[dir].run = 0;
    return false;
}

/* `given`: what its target was. False: bytes are lost. */
static bool take_up(struct weir_splice *splice, unsigned dir, const struct weir_splice_mark *mark,
                    const struct weir_stream_reach *given)
{
    if (in_kernel(splice, dir, mark, given->fin_sent, &splice->bytes[dir]))
        return true;
    if (given->fin_sent) {
        splice->bytes[dir] = given->written - mark->out[dir];
        weir_splice_passed_end(splice, dir);
        return true;
    }
    return whole(splice, dir, mark, &splice->bytes[dir]);
}

/* The side that has gone, or -1; what there is of the splice in the kernel goes, too. */
static int gone(struct weir_splice *splice, struct weir_stream_reach reach[2],
                const struct weir_splice_mark *mark)
{
    int side = -1;
    uint64_t bytes;

    for (int i = 0; i < 2; i++)
        if (!weir_stream_reach(splice->stream[i], &reach[i]) || reach[i].failed)
            side = i;
    for (unsigned dir = 0; dir < 2 && side >= 0; dir++)
        (void)in_kernel(splice, dir, mark, true, &bytes);
    return side;
}

void weir_splice_adopt(struct weir_splice *splice, struct weir_splice_owner *owner,
                       const struct weir_splice_found *found)
{
    struct weir_stream_reach reach[2];
    int side;

    weir_splice_begin(splice, owner, found->stream, WEIR_SPLICE_LOOK_MS);
    splice->settled = splice->lasting = true;
    splice->used = found->used & ((1u << WEIR_MOVERS) - 1);
    side = gone(splice, reach, &found->mark);
    if (side >= 0) {
        weir_splice_fail(splice, WEIR_ERESET, (unsigned)side);
        return;
    }
    for (unsigned dir = 0; dir < 2; dir++)
        if (!take_up(splice, dir, &found->mark, &reach[!dir])) {
            weir_splice_fail(splice, WEIR_EORPHAN, WEIR_SPLICE_US);
            return;
        }
    weir_stream_read(found->stream[1], true);
    weir_stream_read(found->stream[0], true);
    weir_splice_set_policy(splice, found->policy);
    weir_splice_settle(splice);
}
