/* SPDX-License-Identifier: Apache-2.0 */
/**
 * sockmap_found.c: one direction in the kernel whose owner was killed. The program went on meanwhile; how far the owner had
 * come with what it was passed is told by three counts: what it said last (dealt), what the target was given, and what the
 * source has unread.
 *
 *   passed    ├──── dealt ────┼─ sent, perhaps read ─┼──── unread ────┤
 *
 * It peeks, sends, consumes, and then says so: killed between two of these it has sent one piece more than it said, and
 * whether that has been read as well is to be seen by what is unread. What is taken out of the kernel is read before it is
 * sent: there, bytes may be missing.
 */
#include "accel/sockmap_way.h"

#include "weir/limits.h"

#include <stdlib.h>
#include <sys/socket.h>

enum { DOUBT_MS = 5 * 1000, WINDOW_BYTES = 16 << 20 };

enum way_left_verdict weir_way_left(const struct way_left *left, uint64_t *read, uint64_t *skip)
{
    uint64_t dealt = left->begun + (uint32_t)(left->dealt - (uint32_t)left->begun), sent, waits;

    *read = dealt;
    *skip = 0;
    if (dealt > left->passed)
        return LEFT_LOST;
    if (left->written < left->moved + dealt) /* it has sent nothing since: that would overtake */
        return dealt == left->begun ? LEFT_KNOWN
                                    : LEFT_WAIT; /* then it is the count that is late */
    sent = left->written - left->moved - dealt;
    waits = left->passed - dealt;
    if (!sent && !left->asked)
        return LEFT_KNOWN;
    if (sent > waits || (sent > WEIR_READ_BUFFER_BYTES && !left->asked))
        return LEFT_LOST;
    if (left->unread < 0)
        return LEFT_LOOK;
    if ((uint64_t)left->unread == waits) {
        *skip = sent;
        return LEFT_KNOWN;
    }
    if (!left->settled)
        return LEFT_WAIT;
    if (sent && (uint64_t)left->unread == waits - sent) {
        *read = dealt + sent;
        return LEFT_KNOWN;
    }
    return (uint64_t)left->unread < waits - sent ? LEFT_LOST : LEFT_WAIT;
}

static int fd_of(const struct way *way, unsigned side)
{
    return weir_stream_fd(way->splice->stream[side]);
}

static const struct weir_splice_ops *ops_of(const struct way *way)
{
    return way->map->kern->ops;
}

bool weir_way_find(struct way *way, bool ended)
{
    struct weir_splice_kern *kern = way->map->kern;
    struct weir_sp_flow flow;
    uint64_t peer = ops_of(way)->cookie(fd_of(way, !way->dir));

    way->cookie = ops_of(way)->cookie(fd_of(way, way->dir));
    if (ops_of(way)->source_get(kern, way->cookie, &way->pair, &flow))
        return false;
    if (ended || way->pair.peer != peer || !ops_of(way)->source_is(kern, way->cookie)) {
        (void)ops_of(way)->source_del(kern, way->cookie, NULL);
        return false;
    }
    way->counted = flow.moved_bytes;
    way->read = way->pair.read_bytes + (uint32_t)(way->pair.dealt - (uint32_t)way->pair.read_bytes);
    way->asked = way->pair.state == WEIR_SP_PASSING;
    way->pair.token = weir_way_token(way);
    way->pair.ring = way->map->ring;
    (void)ops_of(way)->source_set(kern, way->cookie, &way->pair);
    if (way->asked) /* it may have been made narrow */
        (void)ops_of(way)->widen(fd_of(way, way->dir), WINDOW_BYTES);
    (void)ops_of(way)->kick(fd_of(way, way->dir)); /* or frozen */
    return true;
}

/* Has all that the other direction redirects to our source been taken? What is passed stands in one row with that. */
static bool settled(const struct way *way)
{
    struct weir_splice_path path;
    struct weir_sp_pair pair;
    struct weir_sp_flow flow;

    return ops_of(way)->source_get(way->map->kern, way->pair.peer, &pair, &flow) != 0 ||
           (ops_of(way)->path(fd_of(way, way->dir), &path) == 0 &&
            path.written - pair.out_base >= flow.moved_bytes);
}

/* How many of the bytes that were passed the source has, up to `max`. */
static int64_t unread(const struct way *way, uint64_t max)
{
    uint8_t *bytes = malloc(max + 1);
    ssize_t n = bytes ? recv(fd_of(way, way->dir), bytes, max, MSG_PEEK | MSG_DONTWAIT) : 0;

    free(bytes);
    return n < 0 ? 0 : n;
}

/* The target first: where it has been given more by the time that the flow is read, that counts as on its way. */
static bool look(const struct way *way, struct way_left *left)
{
    struct weir_splice_path out;
    struct weir_sp_flow flow;

    if (ops_of(way)->path(fd_of(way, !way->dir), &out) ||
        ops_of(way)->source_get(way->map->kern, way->cookie, NULL, &flow))
        return false;
    left->moved = flow.moved_bytes;
    left->passed = flow.passed_bytes;
    left->begun = way->pair.read_bytes;
    left->dealt = way->pair.dealt;
    left->written = out.written - way->pair.out_base;
    left->asked = way->asked;
    return true;
}

static enum way_left_verdict judge(const struct way *way, uint64_t *read, uint64_t *skip)
{
    struct way_left left = { .unread = -1 }, later = { 0 };
    enum way_left_verdict verdict;

    if (!look(way, &left))
        return LEFT_LOST;
    verdict = weir_way_left(&left, read, skip);
    if (verdict != LEFT_LOOK)
        return verdict;
    left.settled = settled(way);
    left.unread = unread(way, left.passed - way->read);
    if (!look(way, &later) || later.passed != left.passed || later.written != left.written)
        return LEFT_WAIT;
    return weir_way_left(&left, read, skip);
}

static bool skip_bytes(const struct way *way, uint64_t bytes)
{
    return bytes == 0 || recv(fd_of(way, way->dir), way->map->splicer->loop->read_buffer,
                              (size_t)bytes, MSG_DONTWAIT) == (ssize_t)bytes;
}

enum way_end weir_way_resume(struct way *way)
{
    uint64_t now_ms = way->map->splicer->loop->now_ms, read = 0, skip = 0;
    enum way_left_verdict verdict = judge(way, &read, &skip);

    if (!way->since_ms)
        way->since_ms = now_ms;
    if (verdict == LEFT_WAIT && now_ms - way->since_ms < DOUBT_MS)
        return WAY_BLOCKED;
    if (verdict != LEFT_KNOWN || !skip_bytes(way, skip)) {
        weir_splice_fail(way->splice, WEIR_EORPHAN, WEIR_SPLICE_US);
        return WAY_FAILED;
    }
    read += skip;
    weir_splice_moved(way->splice, way->dir, (size_t)(read - way->read));
    way->read = read;
    way->since_ms = 0;
    way->pair.dealt = (uint32_t)read;
    (void)ops_of(way)->source_set(way->map->kern, way->cookie, &way->pair);
    return WAY_DONE;
}
