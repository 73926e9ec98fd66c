/* SPDX-License-Identifier: Apache-2.0 */
/**
 * sockmap_way.c: one direction in the kernel: into the maps, what was passed to us, out of the maps. Numbers are those of the
 * rules in docs/kernel.md.
 *
 * What always holds: of the source we read no more than was passed (behind that it is the program's), and to the target we
 * write nothing while what was redirected is not all with it: so nothing is overtaken, doubled or lost. The bytes that the
 * source has received, those that were moved and passed, and those that the target was given are counted by three parties;
 * where they differ at the end, it is RST.
 */
#include "accel/sockmap_way.h"

#include "base/clock.h"
#include "weir/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { ENDING_MS = 10 * 1000, PIECES_MAX = 16, TAKEN_MAX = 16 << 20, TRIES_WIDE = 4 };

static int source_of(const struct way *way)
{
    return weir_stream_fd(way->splice->stream[way->dir]);
}

static int target_of(const struct way *way)
{
    return weir_stream_fd(way->splice->stream[!way->dir]);
}

static const struct weir_splice_ops *ops_of(const struct way *way)
{
    return way->map->kern->ops;
}

/* --- names ------------------------------------------------------------------------------------------------------------
 */

static bool slots_grow(struct weir_sockmap *map)
{
    uint32_t count = map->slots_count ? map->slots_count * 2 : 64;
    struct way_slot *slots = realloc(map->slots, count * sizeof(*slots));

    if (!slots)
        return false;
    for (uint32_t i = map->slots_count; i < count; i++)
        slots[i] = (struct way_slot){ .next_free = i + 1 < count ? i + 2 : map->slots_free };
    map->slots_free = map->slots_count + 1;
    map->slots = slots;
    map->slots_count = count;
    return true;
}

struct way *weir_way_new(struct weir_sockmap *map, struct weir_splice *splice, unsigned dir)
{
    struct way_slot *slot;
    struct way *way;

    if (!map->slots_free && !slots_grow(map))
        return NULL;
    way = weir_slab_get(&map->slab);
    if (!way)
        return NULL;
    way->map = map;
    way->splice = splice;
    way->dir = (uint8_t)dir;
    way->slot = map->slots_free - 1;
    slot = &map->slots[way->slot];
    map->slots_free = slot->next_free;
    slot->way = way;
    weir_list_push_back(&map->ways, &way->link);
    return way;
}

void weir_way_free(struct way *way)
{
    struct weir_sockmap *map = way->map;
    struct way_slot *slot = &map->slots[way->slot];

    weir_timer_stop(&map->splicer->loop->wheel, &way->timer);
    slot->way = NULL;
    slot->generation++;
    slot->next_free = map->slots_free;
    map->slots_free = way->slot + 1;
    weir_list_remove(&way->link);
    weir_slab_put(&map->slab, way);
}

uint64_t weir_way_token(const struct way *way)
{
    return (uint64_t)way->map->slots[way->slot].generation << 32 | way->slot;
}

struct way *weir_way_of_token(const struct weir_sockmap *map, uint64_t token)
{
    uint32_t slot = (uint32_t)token;

    return slot < map->slots_count && map->slots[slot].generation == token >> 32
               ? map->slots[slot].way
               : NULL;
}

/* --- in ---------------------------------------------------------------------------------------------------------------
 */

static enum weir_splice_why why_of(int err)
{
    switch (err) {
    case 0:
        return WEIR_WHY_none;
    case -EOPNOTSUPP: /* not ESTABLISHED any more (7) */
        return WEIR_WHY_not_open;
    case -E2BIG:
        return WEIR_WHY_ceiling;
    case -ENOMEM:
        return WEIR_WHY_memory;
    default:
        return WEIR_WHY_refused;
    }
}

enum weir_splice_why weir_way_prepare(struct way *way)
{
    struct weir_splice_path path;
    int err = ops_of(way)->path(source_of(way), &path);

    if (err)
        return WEIR_WHY_not_tcp;
    if (!path.established || ops_of(way)->path(target_of(way), &path) || !path.established)
        return WEIR_WHY_not_open;
    way->cookie = ops_of(way)->cookie(source_of(way));
    way->pair.peer = ops_of(way)->cookie(target_of(way));
    err = ops_of(way)->target_add(way->map->kern, way->pair.peer, target_of(way));
    return why_of(err == -EEXIST ? 0 : err);
}

static enum way_end failed(struct way *way, enum weir_err err, unsigned side)
{
    weir_splice_fail(way->splice, err, side);
    return WAY_FAILED;
}

enum { DRAIN_EMPTY, DRAIN_MORE, DRAIN_FULL, DRAIN_ENDED, DRAIN_FAILED };

/* As copy would. EMPTY: the source has said EAGAIN; FULL: the target has to come first. */
static int drain_once(struct way *way)
{
    struct weir_splice *splice = way->splice;
    struct weir_loop *loop = way->map->splicer->loop;
    ssize_t n = recv(source_of(way), loop->read_buffer, loop->read_bytes, MSG_DONTWAIT);
    struct iovec iov = { loop->read_buffer, n > 0 ? (size_t)n : 0 };

    if (n == 0)
        return DRAIN_ENDED;
    if (n < 0 && errno == EAGAIN)
        return DRAIN_EMPTY;
    if (n < 0 && errno == EINTR)
        return DRAIN_MORE;
    if (n < 0) {
        (void)failed(way, weir_err_from_errno(errno), way->dir);
        return DRAIN_FAILED;
    }
    weir_splice_moved(splice, way->dir, iov.iov_len);
    if (weir_stream_write(splice->stream[!way->dir], &iov, 1)) {
        (void)failed(way, WEIR_ENOMEM, WEIR_SPLICE_US);
        return DRAIN_FAILED;
    }
    return weir_stream_pending(splice->stream[!way->dir]) ? DRAIN_FULL : DRAIN_MORE;
}

/* It was read until EAGAIN after TCP had said `received`: so just that much of it was read (6). */
static int insert(struct way *way, uint64_t received, uint64_t written)
{
    way->pair.since_ns = weir_clock_us() * 1000;
    way->pair.limit_bytes = UINT64_MAX;
    way->pair.token = weir_way_token(way);
    way->pair.in_base = received;
    way->pair.out_base = written;
    way->pair.epoch = 1;
    way->pair.state = WEIR_SP_MOVING;
    way->pair.ring = way->map->ring;
    return ops_of(way)->source_add(way->map->kern, way->cookie, source_of(way), &way->pair);
}

enum way_end weir_way_enter(struct way *way, enum weir_splice_why *why)
{
    struct weir_splice_path in = { 0 }, out = { 0 };
    int state = DRAIN_MORE;

    *why = WEIR_WHY_none;
    for (int i = 0; i < WEIR_READS_TURN_MAX && state == DRAIN_MORE; i++) {
        if (ops_of(way)->path(source_of(way), &in) || !in.established) {
            *why = WEIR_WHY_not_open;
            return WAY_BLOCKED;
        }
        state = drain_once(way);
    }
    if (state == DRAIN_FAILED)
        return WAY_FAILED;
    if (state == DRAIN_ENDED)
        *why = WEIR_WHY_ended;
    else if (state == DRAIN_EMPTY)
        *why = ops_of(way)->path(target_of(way), &out)
                   ? WEIR_WHY_not_open
                   : why_of(insert(way, in.received, out.written));
    return state == DRAIN_EMPTY && !*why ? WAY_DONE : WAY_BLOCKED;
}

/* --- what was passed --------------------------------------------------------------------------------------------------
 */

bool weir_way_count(struct way *way, struct weir_sp_flow *flow)
{
    if (ops_of(way)->source_get(way->map->kern, way->cookie, NULL, flow))
        return false;
    if (flow->moved_bytes > way->counted) {
        weir_splice_moved(way->splice, way->dir, (size_t)(flow->moved_bytes - way->counted));
        way->counted = flow->moved_bytes;
    }
    return true;
}

/* Is all that was redirected, and all that we have sent on, with the target's socket (9), or behind that in our own queue? */
static bool all_taken(const struct way *way, const struct weir_sp_flow *flow)
{
    size_t queued = weir_stream_pending(way->splice->stream[!way->dir]);
    struct weir_splice_path out;

    return ops_of(way)->path(target_of(way), &out) == 0 &&
           out.written - way->pair.out_base + queued == flow->moved_bytes + way->read;
}

/* Peeked, sent, consumed, told: whoever is killed in between has lost no byte, and the next owner can tell whether one would be
 * sent twice (weir_way_left). */
static enum way_end pass_once(struct way *way, uint64_t left)
{
    uint8_t *buffer = way->map->splicer->loop->read_buffer;
    size_t max = left < WEIR_READ_BUFFER_BYTES ? (size_t)left : WEIR_READ_BUFFER_BYTES;
    ssize_t n = recv(source_of(way), buffer, max, MSG_PEEK | MSG_DONTWAIT), sent;

    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return failed(way, weir_err_from_errno(errno), way->dir);
    if (n <= 0) /* the program has counted it, and the kernel has it not queued yet */
        return WAY_BLOCKED;
    sent = send(target_of(way), buffer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM
                   ? WAY_BLOCKED
                   : failed(way, weir_err_from_errno(errno), !way->dir);
    if (recv(source_of(way), buffer, (size_t)sent, MSG_DONTWAIT) != sent)
        return failed(way, WEIR_EINTERNAL, WEIR_SPLICE_US);
    way->read += (uint64_t)sent;
    weir_splice_moved(way->splice, way->dir, (size_t)sent);
    way->pair.dealt = (uint32_t)way->read;
    (void)ops_of(way)->source_set(way->map->kern, way->cookie, &way->pair);
    return WAY_DONE;
}

enum way_end weir_way_pass(struct way *way, struct weir_sp_flow *flow)
{
    for (int i = 0; i < PIECES_MAX; i++) {
        struct weir_sp_flow later; /* knows what is wrong with anything that `flow` counts */
        enum way_end end;

        if (!weir_way_count(way, flow) || !weir_way_count(way, &later))
            return failed(way, WEIR_EINTERNAL, WEIR_SPLICE_US);
        if (later.broken) /* the kernel's own count of what it has is wrong from here on (19) */
            return failed(way, WEIR_ETWICE, way->dir);
        if (!all_taken(way, flow))
            return WAY_BLOCKED; /* it would overtake */
        if (flow->passed_bytes == way->read)
            return WAY_DONE;
        end = pass_once(way, flow->passed_bytes - way->read);
        if (end)
            return end;
    }
    return WAY_BLOCKED;
}

enum way_end weir_way_renew(struct way *way)
{
    struct weir_splice_frost frost;
    struct weir_sp_flow flow;
    enum way_end end = WAY_BLOCKED;

    if (ops_of(way)->freeze(source_of(way), &frost))
        return failed(way, WEIR_ESYS, WEIR_SPLICE_US);
    if (weir_way_count(way, &flow) && flow.passed_bytes == way->read && all_taken(way, &flow)) {
        way->pair.epoch++;
        way->pair.taken_bytes = flow.moved_bytes;
        way->pair.read_bytes = way->read;
        way->pair.dealt = (uint32_t)way->read;
        way->pair.state = WEIR_SP_MOVING;
        if (ops_of(way)->source_set(way->map->kern, way->cookie, &way->pair) == 0)
            end = WAY_DONE;
    }
    (void)ops_of(way)->thaw(source_of(way), &frost);
    return end;
}

/* --- out --------------------------------------------------------------------------------------------------------------
 */

void weir_way_ask(struct way *way)
{
    way->pair.state = WEIR_SP_PASSING;
    (void)ops_of(way)->source_set(way->map->kern, way->cookie, &way->pair);
}

/*
 * What was passed, by one recv: it is what the source's window has let in, and goes to the target's own queue here, so that
 * a sender which never pauses is caught up with, and a slow reader waits for nothing but itself. In pieces, each would open
 * the window for more. While it is frozen: what comes now waits behind, and then the kernel says EAGAIN.
 */
static enum weir_err take(struct way *way, size_t left)
{
    struct weir_stream *to = way->splice->stream[!way->dir];
    uint8_t *room = left > WEIR_READ_BUFFER_BYTES ? malloc(left) : NULL,
            *bytes = room ? room : way->map->splicer->loop->read_buffer;
    size_t max = room || left < WEIR_READ_BUFFER_BYTES ? left : WEIR_READ_BUFFER_BYTES;
    ssize_t n = recv(source_of(way), bytes, max, MSG_DONTWAIT);
    struct iovec iov = { bytes, n > 0 ? (size_t)n : 0 };
    enum weir_err err = WEIR_OK;

    if (n > 0) {
        way->read += iov.iov_len;
        weir_splice_moved(way->splice, way->dir, iov.iov_len);
        err = weir_stream_write(to, &iov, 1) ? WEIR_ENOMEM : WEIR_OK;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        err = weir_err_from_errno(errno);
    }
    free(room);
    return err;
}

/* Frozen: read empty, DELETE (8). What is passed at the last moment would be lost with the entry: it is looked at once more,
 * and a stream that is short ends by RST. */
static enum weir_err take_out(struct way *way, bool *out)
{
    struct weir_sp_flow flow;
    enum weir_err err;

    if (!weir_way_count(way, &flow))
        return WEIR_EINTERNAL;
    if (!all_taken(way, &flow) || weir_stream_pending(way->splice->stream[!way->dir]) > TAKEN_MAX)
        return WEIR_OK;
    err = flow.passed_bytes == way->read ? WEIR_OK : take(way, flow.passed_bytes - way->read);
    if (err || !weir_way_count(way, &flow) || flow.passed_bytes != way->read)
        return err;
    *out = ops_of(way)->source_del(way->map->kern, way->cookie, &flow) == 0;
    if (flow.broken) /* the kernel's own count of what it has is wrong from here on (19) */
        return WEIR_ETWICE;
    return flow.passed_bytes == way->read ? WEIR_OK : WEIR_EINTERNAL;
}

/* A sender on this host fills what a recv has let it send before that recv returns: no freeze holds against a window that is
 * full. So in the end it may send no segment, waits (its probe comes after 200 ms), and this is that moment. */
static void narrow(struct way *way)
{
    int was;

    if (way->tries < TRIES_WIDE) {
        way->tries++;
        return;
    }
    was = ops_of(way)->narrow(source_of(way));
    if (was > 0 && !way->window)
        way->window = was;
}

enum way_end weir_way_leave(struct way *way)
{
    struct weir_splice_frost frost;
    enum weir_err err;
    bool out = false;

    if (ops_of(way)->freeze(source_of(way), &frost))
        return failed(way, WEIR_ESYS, WEIR_SPLICE_US);
    narrow(way);
    err = take_out(way, &out);
    if (out && way->window)
        (void)ops_of(way)->widen(source_of(way), way->window);
    (void)ops_of(way)->thaw(source_of(way), &frost);
    if (err)
        return failed(way, err,
                      err == WEIR_ENOMEM || err == WEIR_EINTERNAL ? WEIR_SPLICE_US : way->dir);
    if (!out)
        return WAY_BLOCKED;
    ops_of(way)->target_del(way->map->kern, way->pair.peer);
    return WAY_DONE;
}

/* It was never a source, or has given all that it will ever give. */
void weir_way_quit(struct way *way)
{
    if (way->state != WAY_DRAIN)
        (void)ops_of(way)->source_del(way->map->kern, way->cookie, NULL);
    ops_of(way)->target_del(way->map->kern, way->pair.peer);
}

enum way_end weir_way_ended(struct way *way, const struct weir_sp_flow *flow)
{
    uint64_t now_ms = way->map->splicer->loop->now_ms,
             seen = flow->moved_bytes + flow->passed_bytes;
    struct weir_splice_path in;

    if (ops_of(way)->path(source_of(way), &in))
        return failed(way, WEIR_ESYS, way->dir);
    if (in.received - way->pair.in_base == seen)
        return WAY_DONE;
    if (in.received - way->pair.in_base < seen) /* the kernel has given the program a byte twice */
        return failed(way, WEIR_EINTERNAL, WEIR_SPLICE_US);
    if (!way->since_ms)
        way->since_ms = now_ms;
    if (now_ms - way->since_ms > ENDING_MS)
        return failed(way, WEIR_EINTERNAL, WEIR_SPLICE_US);
    (void)ops_of(way)->kick(source_of(way));
    return WAY_BLOCKED;
}
