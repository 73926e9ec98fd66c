/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/room.h"

#include "proxy/session.h"

enum {
    LOOKS_MAX = 64,     /* at idle sessions, for one that may go */
    STARVED_SHEDS = 16, /* connections to servers of one upstream, or of clients, at a time */
    STARVED_MS = 500,   /* how long others go on making room */
};

/* Has it got all that was sent to it, as far as we know? */
static bool quiet(const struct weir_session *session)
{
    return !weir_stream_pending(session->stream) &&
           !(session->multiplexed && weir_h2_busy(session->mux.h2));
}

/* Nothing of it is on the way: the oldest of those that wait for their next request. NULL: none
 * among the first ones. */
static struct weir_session *oldest_quiet(struct weir_wlistener *wl)
{
    int looks = LOOKS_MAX;

    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_IDLE])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        if (quiet(session))
            return session;
        if (--looks == 0)
            break;
    }
    return NULL;
}

unsigned weir_room_close_idle(struct weir_wlistener *wl, unsigned max)
{
    unsigned closed = 0;

    while (closed < max) {
        struct weir_session *session = oldest_quiet(wl);

        if (!session)
            break;
        weir_session_close(session, false);
        closed++;
    }
    return closed;
}

static struct weir_session *oldest_of_worker(struct weir_worker *worker)
{
    struct weir_session *best = NULL;

    weir_each_listener(wl, worker)
    {
        struct weir_session *session = oldest_quiet(wl);

        if (session && (!best || session->since_ms < best->since_ms))
            best = session;
    }
    return best;
}

/* --- other workers ------------------------------------------------------------------------------
 */

static void on_room(struct weir_loop *loop, void *arg)
{
    struct weir_worker *worker = arg;

    (void)loop;
    atomic_store(&worker->room_posted, false); /* what is asked for from here on comes anew */
    weir_each_listener(wl, worker)
    {
        weir_room_close_idle(wl, (unsigned)atomic_exchange(&wl->room_wanted, 0));
    }
}

/* No more are asked to go than are idle. */
static bool ask(struct weir_wlistener *wl)
{
    struct weir_worker *worker = wl->worker;
    uint64_t wanted = atomic_load(&wl->room_wanted);

    do {
        if (wanted >= weir_counter_read(&wl->idle))
            return false;
    } while (!atomic_compare_exchange_weak(&wl->room_wanted, &wanted, wanted + 1));
    if (!atomic_exchange(&worker->room_posted, true)) {
        worker->room.fn = on_room;
        worker->room.arg = worker;
        weir_loop_post(&worker->loop, &worker->room);
    }
    return true;
}

/* The others may have entered another snapshot already; the doors of ours stay as long as we have it. */
static bool ask_others(const struct weir_wlistener *wl, bool own)
{
    const struct weir_snapshot *snapshot = wl->worker->snapshot;
    struct weir_service *service = wl->worker->service;

    for (unsigned w = 0; w < service->worker_count; w++) {
        struct weir_worker *worker = &service->workers[w];

        if (worker == wl->worker)
            continue;
        for (unsigned i = 0; i < snapshot->listener_count; i++) {
            struct weir_door *door = snapshot->listeners[i].door;

            if ((!own || door == wl->door) && ask(&door->at[w]))
                return true;
        }
    }
    return false;
}

bool weir_room_make(struct weir_wlistener *wl, bool own)
{
    struct weir_session *session = own ? oldest_quiet(wl) : oldest_of_worker(wl->worker);

    if (!session)
        return ask_others(wl, own);
    weir_session_close(session, false);
    return true;
}

/* --- file descriptors ---------------------------------------------------------------------------
 */

static void give_descriptors(struct weir_worker *worker)
{
    const struct weir_snapshot *snapshot = worker->snapshot;
    unsigned closed = 0;

    for (unsigned i = 0; i < snapshot->target_count; i++)
        closed +=
            weir_cluster_view_shed(weir_worker_view(worker, snapshot->targets[i]), STARVED_SHEDS);
    weir_each_listener(wl, worker)
    {
        if (!closed)
            closed = weir_room_close_idle(wl, STARVED_SHEDS);
    }
}

void weir_room_starved(struct weir_worker *worker)
{
    atomic_store_explicit(&worker->service->starved_ms, worker->loop.now_ms, memory_order_relaxed);
    give_descriptors(worker);
}

void weir_room_sweep(struct weir_worker *worker)
{
    uint64_t last = atomic_load_explicit(&worker->service->starved_ms, memory_order_relaxed);

    for (unsigned i = 0; i < worker->snapshot->target_count; i++)
        if (weir_cluster_view_starved(weir_worker_view(worker, worker->snapshot->targets[i])))
            last = worker->loop.now_ms;
    if (!last || worker->loop.now_ms > last + STARVED_MS)
        return;
    if (last == worker->loop.now_ms)
        weir_room_starved(worker);
    else
        give_descriptors(worker);
}
