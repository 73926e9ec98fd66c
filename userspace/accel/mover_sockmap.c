/* SPDX-License-Identifier: Apache-2.0 */
/**
 * mover_sockmap.c: bytes go from socket to socket inside the kernel; this process sleeps. For long plain tunnels, where the
 * operator has chosen it.
 *
 *   start ─▶ DRAIN ──EAGAIN: into the maps, kick──▶ MOVING ──the ring tells: bytes are passed──▶ PASSING
 *              └──ended, refused──▶ copy               ▲ └──FIN──▶ PASSING (ending) ──all given──▶ on_eof
 *   found ─▶ FOUND ──known how far──▶ PASSING          └──all sent on: another epoch──┘ └──leaving, all sent on──▶ copy
 *
 * Both sockets are muted meanwhile (weir_stream_mute): only their ends wake us. What cannot go on waits on a timer that
 * becomes slower: it is the target that is slow. The owner's clock ends what stands still (on_look): a wait always has an end.
 */
#include "accel/sockmap_way.h"

#include "base/panic.h"
#include "net/watch.h"

#include <stdlib.h>
#include <sys/socket.h>

enum { WAIT_MAX_MS = 64, GONE_MS = 50 };

static struct weir_sockmap *map_of(const struct weir_splice *splice)
{
    return weir_splice_splicer(splice)->kern;
}

static struct way *way_of(const struct weir_splice *splice, unsigned dir)
{
    return splice->dir[dir].mover == WEIR_MOVER_SOCKMAP ? splice->own[dir].data : NULL;
}

static bool in_kernel(const struct weir_splice *splice, unsigned dir)
{
    const struct way *way = way_of(splice, dir);

    return way &&
           (way->state == WAY_MOVING || way->state == WAY_PASSING || way->state == WAY_FOUND);
}

/* Only the kernel writes to its target, nothing stands in our queue. */
static bool fills(const struct weir_splice *splice, unsigned dir)
{
    return in_kernel(splice, dir) && !way_of(splice, dir)->leaving;
}

/* A socket is deaf for what the kernel does with it, as source and as target. */
static void mute(struct weir_splice *splice)
{
    for (unsigned side = 0; side < 2; side++)
        (void)weir_stream_mute(splice->stream[side], in_kernel(splice, side), fills(splice, !side));
}

static void on_timer(struct weir_timer *timer, void *arg);

static void wait(struct way *way)
{
    struct weir_loop *loop = way->map->splicer->loop;

    weir_loop_timer(loop, &way->timer, way->wait_ms, on_timer, way);
    way->wait_ms = way->wait_ms < WAIT_MAX_MS ? (uint8_t)(way->wait_ms * 2) : WAIT_MAX_MS;
}

/* --- back to copy -----------------------------------------------------------------------------------------------------
 */

static void let_go(struct way *way)
{
    struct weir_splice *splice = way->splice;
    unsigned dir = way->dir;

    weir_way_free(way);
    splice->own[dir].data = NULL;
    mute(splice);
    weir_stream_hand(splice->stream[dir], false);
    weir_splice_left(splice, dir);
    weir_splice_settle(splice); /* a FIN may have waited for it (shut) */
}

/* From DRAIN: it has left nothing but a target that may be redirected to. */
static void give_up(struct way *way, enum weir_splice_why why)
{
    struct weir_splice *splice = way->splice;
    unsigned dir = way->dir;

    if (way->leaving)
        return;
    weir_splice_refuse(splice, dir, why, false); /* leave() comes */
}

/* --- the states -------------------------------------------------------------------------------------------------------
 */

static void drain(struct way *way)
{
    struct weir_splice *splice = way->splice;
    enum weir_splice_why why;
    enum way_end end = weir_way_enter(way, &why);

    if (end == WAY_FAILED)
        return;
    if (why) {
        give_up(way, why);
        return;
    }
    if (end == WAY_DONE) {
        way->state = WAY_MOVING;
        mute(splice);
        (void)way->map->kern->ops->kick(weir_stream_fd(splice->stream[way->dir]));
        if (in_kernel(splice, !way->dir))
            weir_splice_moving(splice);
        return;
    }
    if (weir_stream_pending(splice->stream[!way->dir]))
        return; /* on_drained */
    wait(way);
}

/* What was passed is sent on, and then: the end, or on again. Or out. */
static void tend(struct way *way)
{
    struct weir_splice *splice = way->splice;
    struct weir_sp_flow flow = { 0 };
    uint64_t read = way->read, moved = way->counted;
    enum way_end end = way->leaving ? weir_way_leave(way) : weir_way_pass(way, &flow);
    uint8_t byte;

    if (end == WAY_FAILED)
        return;
    if (way->leaving && end == WAY_DONE) {
        let_go(way);
        return;
    }
    if (!way->leaving && (way->read != read || way->counted != moved))
        way->wait_ms = 1;
    if (end == WAY_DONE && way->ending)
        end = weir_way_ended(way, &flow);
    else if (end == WAY_DONE && (flow.latched || way->pair.state == WEIR_SP_PASSING))
        end = weir_way_renew(way);
    if (end == WAY_FAILED)
        return;
    if (end == WAY_BLOCKED) {
        wait(way);
        return;
    }
    if (way->ending) { /* the backend meets the FIN now, and says on_eof */
        if (!way->told)
            (void)weir_stream_take(splice->stream[way->dir], &byte, sizeof(byte), 0);
        way->told = true;
    } else {
        way->state = WAY_MOVING;
    }
}

static void resume(struct way *way)
{
    enum way_end end = weir_way_resume(way);

    if (end == WAY_BLOCKED)
        wait(way);
    if (end != WAY_DONE)
        return;
    way->state = WAY_PASSING;
    way->wait_ms = 1;
    tend(way);
}

static void on_timer(struct weir_timer *timer, void *arg)
{
    struct way *way = arg;

    (void)timer;
    if (way->state == WAY_DRAIN) {
        drain(way);
    } else if (way->state == WAY_FOUND) {
        resume(way);
    } else if (way->state == WAY_GONE) {
        way->map->kern->ops->source_forget(way->map->kern, way->cookie);
        weir_way_free(way);
    } else {
        tend(way);
    }
}

static void pass(struct way *way)
{
    if (way->state == WAY_FOUND) /* its timer comes */
        return;
    way->state = WAY_PASSING;
    way->wait_ms = 1;
    tend(way);
}

/* --- the mover --------------------------------------------------------------------------------------------------------
 */

static enum weir_splice_why can(const struct weir_splice *splice, unsigned dir)
{
    enum weir_splice_why why = weir_splice_unplain(splice);

    if (why)
        return why;
    if (splice->dir[!dir].mover == WEIR_MOVER_PIPE) /* no splice(2) on a socket of a sockmap (16) */
        return WEIR_WHY_waits;
    return weir_splice_splicer(splice)->tight ? WEIR_WHY_memory : WEIR_WHY_none;
}

static enum weir_splice_why start(struct weir_splice *splice, unsigned dir)
{
    struct way *way = weir_way_new(map_of(splice), splice, dir);
    enum weir_splice_why why;

    if (!way)
        return WEIR_WHY_memory;
    why = weir_way_prepare(way);
    if (why) {
        weir_way_free(way);
        return why;
    }
    way->wait_ms = 1;
    splice->own[dir].data = way;
    weir_stream_hand(splice->stream[dir], true);
    weir_stream_read(splice->stream[dir], true);
    weir_loop_timer(way->map->splicer->loop, &way->timer, 0, on_timer, way);
    return WEIR_WHY_none;
}

static void leave(struct weir_splice *splice, unsigned dir)
{
    struct way *way = way_of(splice, dir);

    way->leaving = true;
    if (way->state == WAY_DRAIN || way->told) {
        weir_way_quit(way);
        let_go(way);
        return;
    }
    weir_way_ask(way);
    mute(splice);
    pass(way);
}

/* What the program still counts while the sockets close is given back when they have. */
static void stop(struct weir_splice *splice, unsigned dir)
{
    struct way *way = way_of(splice, dir);
    struct weir_sp_flow flow;

    splice->own[dir].data = NULL;
    if (way->state == WAY_DRAIN) {
        weir_way_free(way);
        return;
    }
    (void)weir_way_count(way, &flow);
    way->state = WAY_GONE;
    way->splice = NULL;
    weir_loop_timer(way->map->splicer->loop, &way->timer, GONE_MS, on_timer, way);
}

/* FIN is told when all before it was given (tend). */
static bool flushed(struct weir_splice *splice, unsigned dir)
{
    const struct way *way = way_of(splice, dir);

    return way->state == WAY_DRAIN || way->told;
}

/* When the peer then sends FIN as well, the kernel takes the socket out of the maps (TIME_WAIT), with what it had passed to us. */
static bool shut(struct weir_splice *splice, unsigned dir)
{
    const struct way *way = way_of(splice, dir);

    if (way->state == WAY_DRAIN || way->told) /* told: nothing can come any more */
        return true;
    if (!way->leaving)
        weir_splice_refuse(splice, dir, WEIR_WHY_ended, true);
    return !in_kernel(splice, dir);
}

static void press(struct weir_splice *splice, unsigned dir)
{
}

static void on_readable(struct weir_splice *splice, unsigned dir)
{
    struct way *way = way_of(splice, dir);
    int fd = weir_stream_fd(splice->stream[dir]), sys = 0;
    struct weir_splice_path path = { 0 };
    socklen_t len = sizeof(sys);

    if (way->state == WAY_DRAIN) {
        drain(way);
        return;
    }
    if (way->told || way->map->kern->ops->path(fd, &path))
        return;
    if (path.fin_received) {
        way->ending = true;
        pass(way);
    } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &len) != 0 || sys || !path.established) {
        /* RST, or what was redirected to it could not be sent */
        weir_splice_fail(splice, sys ? weir_err_from_errno(sys) : WEIR_ERESET, dir);
    }
}

/* What its stream had in hand when it started: before all that is drained. */
static void on_data(struct weir_splice *splice, unsigned dir, const uint8_t *data, size_t len)
{
    weir_assert(way_of(splice, dir)->state == WAY_DRAIN);
    weir_mover_copy.on_data(splice, dir, data, len);
}

static void on_drained(struct weir_splice *splice, unsigned dir)
{
    struct way *way = way_of(splice, dir);

    if (way->state == WAY_DRAIN)
        drain(way);
}

/* Where the ring was full, this is when we hear of it. */
static void bring_up_to_date(struct weir_splice *splice, unsigned dir)
{
    struct way *way = way_of(splice, dir);
    struct weir_sp_flow flow;

    if (way->state != WAY_MOVING || !weir_way_count(way, &flow) || !flow.latched)
        return;
    way->state = WAY_PASSING;
    way->wait_ms = 1;
    wait(way);
}

static void moved(struct weir_splice *splice, unsigned dir)
{
    way_of(splice, dir)->splice = splice;
}

static void part(struct weir_splice *splice, unsigned dir)
{
    weir_way_free(way_of(splice, dir));
    splice->own[dir].data = NULL;
}

static bool mark(const struct weir_splice *splice, unsigned dir, uint64_t *in, uint64_t *out)
{
    const struct way *way = way_of(splice, dir);
    uint64_t before;

    if (!in_kernel(splice, dir) || way->leaving)
        return false;
    before = splice->bytes[dir] - way->counted - way->read;
    *in = way->pair.in_base - before;
    *out = way->pair.out_base - before;
    return true;
}

static bool found(struct weir_splice *splice, unsigned dir, const struct weir_splice_mark *mark,
                  bool ended, uint64_t *bytes)
{
    struct way *way = weir_way_new(map_of(splice), splice, dir);

    if (!way)
        return false;
    if (!weir_way_find(way, ended)) {
        weir_way_free(way);
        return false;
    }
    *bytes = way->pair.in_base - mark->in[dir] + way->counted + way->read;
    way->state = WAY_FOUND;
    way->wait_ms = 1;
    splice->own[dir].data = way;
    weir_stream_hand(splice->stream[dir], true);
    weir_stream_read(splice->stream[dir], true);
    mute(splice);
    weir_loop_timer(way->map->splicer->loop, &way->timer, 0, on_timer, way);
    return true;
}

static const struct weir_mover_ops weir_mover_sockmap = {
    .can = can,
    .start = start,
    .leave = leave,
    .stop = stop,
    .flushed = flushed,
    .shut = shut,
    .press = press,
    .on_data = on_data,
    .on_readable = on_readable,
    .on_drained = on_drained,
    .sync = bring_up_to_date,
    .moved = moved,
    .part = part,
    .mark = mark,
    .found = found,
};

/* --- of a worker ------------------------------------------------------------------------------------------------------
 */

static void on_event(void *arg, const struct weir_sp_event *event)
{
    struct way *way = weir_way_of_token(arg, event->token);

    if (way && way->state == WAY_MOVING && way->pair.epoch == event->epoch)
        pass(way);
}

static void on_ring(void *arg)
{
    struct weir_sockmap *map = arg;

    (void)map->kern->ops->ring_read(map->kern, map->ring, on_event, map);
}

int weir_sockmap_open(struct weir_splicer *splicer, struct weir_splice_kern *kern, unsigned ring)
{
    int fd = kern->ops->ring_fd(kern, ring);
    struct weir_sockmap *map;

    if (fd < 0)
        return WEIR_ESYS;
    map = calloc(1, sizeof(*map));
    if (!map)
        return WEIR_ENOMEM;
    *map = (struct weir_sockmap){ .splicer = splicer, .kern = kern, .ring = ring };
    weir_slab_init(&map->slab, sizeof(struct way));
    weir_list_init(&map->ways);
    map->watch = weir_watch_start(splicer->loop, fd, on_ring, map);
    if (!map->watch) {
        free(map);
        return WEIR_ENOMEM;
    }
    splicer->kern = map;
    splicer->kern_id = kern->ops->id(kern);
    splicer->movers[WEIR_MOVER_SOCKMAP] = &weir_mover_sockmap;
    return 0;
}

void weir_sockmap_close(struct weir_splicer *splicer)
{
    struct weir_sockmap *map = splicer->kern;

    if (!map)
        return;
    splicer->kern = NULL;
    splicer->kern_id = 0;
    splicer->movers[WEIR_MOVER_SOCKMAP] = NULL;
    weir_watch_stop(&map->watch);
    weir_list_each(pos, tmp, &map->ways)
    {
        struct way *way = weir_list_entry(pos, struct way, link);

        weir_assert(way->state == WAY_GONE);
        map->kern->ops->source_forget(map->kern, way->cookie);
        weir_way_free(way);
    }
    weir_slab_fini(&map->slab);
    free(map->slots);
    free(map);
}
