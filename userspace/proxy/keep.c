/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/keep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { FLUSH_MS = 5, AGAIN_MS = 50, GONE_ROOM_MIN = 64, GONE_MESSAGE_MAX = 1024 };

/* --- what is to be said ---------------------------------------------------------------------------
 */

static void on_timer(struct weir_timer *timer, void *arg)
{
    (void)timer;
    weir_keep_flush(arg);
}

static void soon(struct weir_keep *keep, unsigned ms)
{
    if (!weir_timer_armed(&keep->timer))
        weir_loop_timer(keep->loop, &keep->timer, ms, on_timer, keep);
}

/* Nobody listens any more: what this process has is its own. */
static void quit(struct weir_keep *keep)
{
    keep->keeping = NULL;
    keep->gone[0].count = keep->gone[1].count = 0;
}

/* False: there is more to say, and not now. */
static bool said(struct weir_keep *keep, int err)
{
    if (err == -EAGAIN)
        soon(keep, AGAIN_MS);
    else if (err)
        quit(keep);
    return !err;
}

static bool flush_holds(struct weir_keep *keep)
{
    if (!keep->hold_count)
        return true;
    if (!said(keep, keep->keeping->hold(keep->keeping->arg, keep->holds, keep->hold_count)))
        return false;
    weir_count(&keep->stats->kept, keep->hold_count);
    keep->hold_count = 0;
    return true;
}

static bool flush_gone(struct weir_keep *keep, bool cut)
{
    while (keep->gone[cut].count) {
        unsigned some =
            keep->gone[cut].count < GONE_MESSAGE_MAX ? keep->gone[cut].count : GONE_MESSAGE_MAX;
        unsigned from = keep->gone[cut].count - some;

        if (!said(keep, keep->keeping->let_go(keep->keeping->arg, keep->gone[cut].names + from,
                                              some, cut)))
            return false;
        keep->gone[cut].count = from;
    }
    return true;
}

/* Those that are to be held first: one that was let go meanwhile is none of them. */
void weir_keep_flush(struct weir_keep *keep)
{
    if (keep->keeping && flush_holds(keep) && flush_gone(keep, true))
        (void)flush_gone(keep, false);
}

/* --- tunnels --------------------------------------------------------------------------------------
 */

void weir_keep_init(struct weir_keep *keep, struct weir_loop *loop, _Atomic unsigned *total,
                    struct weir_splice_stats *stats)
{
    *keep = (struct weir_keep){ .loop = loop, .total = total, .stats = stats };
}

void weir_keep_fini(struct weir_keep *keep)
{
    if (!keep->loop)
        return;
    weir_keep_flush(keep);
    weir_timer_stop(&keep->loop->wheel, &keep->timer);
    free(keep->holds);
    free(keep->names);
    free(keep->gone[0].names);
    free(keep->gone[1].names);
}

static bool has_room(struct weir_keep *keep)
{
    if (!keep->holds) {
        keep->holds = malloc(WEIR_KEPT_MESSAGE_MAX * sizeof(*keep->holds));
        keep->names = malloc(WEIR_KEPT_MESSAGE_MAX * sizeof(*keep->names));
    }
    if (!keep->holds || !keep->names)
        return false;
    if (keep->hold_count == WEIR_KEPT_MESSAGE_MAX)
        weir_keep_flush(keep);
    return keep->keeping && keep->hold_count < WEIR_KEPT_MESSAGE_MAX;
}

static bool one_more(struct weir_keep *keep)
{
    if (atomic_fetch_add_explicit(keep->total, 1, memory_order_relaxed) < keep->keeping->max)
        return true;
    atomic_fetch_sub_explicit(keep->total, 1, memory_order_relaxed);
    return false;
}

bool weir_keep_hold(struct weir_keep *keep, const struct weir_kept *kept, uint64_t cookie)
{
    if (!keep->keeping)
        return false;
    if (!cookie || !has_room(keep) || !one_more(keep)) {
        weir_count(&keep->stats->unkept, 1);
        return false;
    }
    keep->holds[keep->hold_count] = *kept;
    keep->names[keep->hold_count++] = cookie;
    soon(keep, FLUSH_MS);
    return true;
}

void weir_keep_resume(struct weir_keep *keep)
{
    atomic_fetch_add_explicit(keep->total, 1, memory_order_relaxed);
    weir_count(&keep->stats->kept, 1);
}

/* It was never said. */
static bool unsaid(struct weir_keep *keep, uint64_t cookie)
{
    for (unsigned i = 0; i < keep->hold_count; i++)
        if (keep->names[i] == cookie) {
            keep->hold_count--;
            keep->holds[i] = keep->holds[keep->hold_count];
            keep->names[i] = keep->names[keep->hold_count];
            return true;
        }
    return false;
}

static bool grow(struct weir_keep *keep, bool cut)
{
    unsigned room = keep->gone[cut].room ? keep->gone[cut].room * 2 : GONE_ROOM_MIN;
    uint64_t *names = realloc(keep->gone[cut].names, room * sizeof(*names));

    if (!names)
        return false;
    keep->gone[cut].names = names;
    keep->gone[cut].room = room;
    return true;
}

/* It counts no more. Was that ever said? */
static bool forget(struct weir_keep *keep, uint64_t cookie)
{
    atomic_fetch_sub_explicit(keep->total, 1, memory_order_relaxed);
    if (unsaid(keep, cookie))
        return false;
    weir_count(&keep->stats->kept, (uint64_t)-1);
    return true;
}

bool weir_keep_hand(struct weir_keep *keep, const struct weir_kept *kept, unsigned count)
{
    weir_keep_flush(keep);
    return keep->keeping && keep->keeping->hand(keep->keeping->arg, kept, count) == 0;
}

void weir_keep_gone(struct weir_keep *keep, uint64_t cookie)
{
    (void)forget(keep, cookie);
}

void weir_keep_let_go(struct weir_keep *keep, uint64_t cookie, bool cut)
{
    if (!forget(keep, cookie) || !keep->keeping)
        return;
    if (keep->gone[cut].count == keep->gone[cut].room && !grow(keep, cut))
        return; /* it is kept until this process ends */
    keep->gone[cut].names[keep->gone[cut].count++] = cookie;
    soon(keep, FLUSH_MS);
}

/* --- for those that adopt -------------------------------------------------------------------------
 */

/* FNV-1a; 0 is no name. */
uint64_t weir_kept_name(struct weir_str name)
{
    uint64_t hash = 0xcbf29ce484222325u;

    if (!name.len)
        return 0;
    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ (uint8_t)name.ptr[i]) * 0x100000001b3u;
    return hash ? hash : 1;
}

uint64_t weir_kept_cookie(const struct weir_kept *kept)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    return getsockopt(kept->fd[WEIR_SPLICE_DOWN], SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0
               ? cookie
               : 0;
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
}

static void on_thing(void *arg)
{
}

static void on_error(void *arg, enum weir_err err, int sys)
{
}

const struct weir_stream_sink weir_kept_nobody = {
    .on_data = on_data,
    .on_eof = on_thing,
    .on_error = on_error,
    .on_closed = on_thing,
};
