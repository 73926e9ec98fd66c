/* SPDX-License-Identifier: Apache-2.0 */
/**
 * hand_over.c: tunnels at an upgrade. Whoever serves now goes on with each that has no byte in this process: at once those that
 * the kernel moves by maps that both have, others at the first sweep that finds them quiet; copied, for that. Those of TLS, of
 * HTTP, and those that never are quiet live on here, until shutdown.tunnels.
 */
#include "proxy/session.h"
#include "proxy/tunnel_light.h"

struct batch {
    unsigned count;
    struct weir_kept kept[WEIR_KEPT_MESSAGE_MAX];
    struct weir_session *session[WEIR_KEPT_MESSAGE_MAX];
};

/* In the turn in which they were described: nothing has moved since. */
static void hand(struct weir_worker *worker, struct batch *batch)
{
    bool gone = batch->count && weir_keep_hand(&worker->keep, batch->kept, batch->count);

    for (unsigned i = 0; i < batch->count && gone; i++) {
        if (!batch->session[i]->light.more->kept)
            atomic_fetch_add_explicit(&worker->service->handed, 1, memory_order_relaxed);
        weir_light_part(batch->session[i]);
    }
    batch->count = 0;
}

/* What the keeper has no room for would be cut: that lives on here. */
static bool fits(const struct weir_worker *worker, const struct weir_session *session)
{
    const struct weir_keep *keep = &worker->keep;
    unsigned handed = atomic_load_explicit(&worker->service->handed, memory_order_relaxed),
             kept = atomic_load_explicit(&worker->service->kept, memory_order_relaxed);

    return keep->keeping && (session->light.more->kept ||
                             handed + kept + WEIR_KEPT_MESSAGE_MAX < keep->keeping->max);
}

void weir_worker_hand_over(struct weir_worker *worker)
{
    uint32_t kern = atomic_load_explicit(&worker->service->heir_kern, memory_order_relaxed);
    struct batch batch = { 0 };

    weir_each_listener(wl, worker)
    {
        weir_list_each(link, next, &wl->sessions[WEIR_SESSION_TUNNEL])
        {
            struct weir_session *session = weir_list_entry(link, struct weir_session, link);

            if (!fits(worker, session) ||
                !weir_light_describe(session, kern, &batch.kept[batch.count]))
                continue;
            batch.session[batch.count++] = session;
            if (batch.count == WEIR_KEPT_MESSAGE_MAX)
                hand(worker, &batch);
        }
    }
    hand(worker, &batch);
}
