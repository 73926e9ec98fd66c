/* SPDX-License-Identifier: Apache-2.0 */
/**
 * share.c: idle connections move between workers, by question and answer.
 *
 *   asker                                     owner
 *     idle_count of the owner says "maybe"
 *     ask ────────────────mailbox───────────▶ the newest idle one is released from its loop,
 *                                             on_closed: nothing of it is in flight here any more
 *     adopt the parcel ◀──mailbox──────────── given, or "no"
 *
 * Nobody takes: a descriptor may be in the owner's ring, and only the owner knows when it is out.
 * The question belongs to whom it was sent; it is never freed before the cluster, so that neither a
 * cancelled asker nor a worker that has stopped can leave it dangling. What is given to an asker
 * that does not wait any more goes to its pool.
 *
 * Views of other workers are read without the lock: the pointer is set once, the struct stays until
 * the cluster is freed, `open` and the counters are atomics.
 */
#include "upstream/state.h"

#include <errno.h>
#include <stdlib.h>

struct weir_ask {
    struct weir_mail mail;
    struct weir_ask *next_made; /* of the cluster */
    struct weir_ask *next_free; /* of the asker */
    struct weir_cluster_view *from, *to;
    unsigned server;
    struct weir_acquire *acq; /* the asker's thread only; NULL: it does not wait any more */
    bool given;
    struct weir_parcel parcel;
    struct weir_addr addr;
    uint64_t requests, born_ms;
};

static struct weir_ask *ask_get(struct weir_cluster_view *view)
{
    struct weir_cluster *cluster = view->cluster;
    struct weir_ask *ask = view->asks_free;

    if (view->asks_out >= UPSTREAM_ASKS_MAX)
        return NULL;
    if (ask) {
        view->asks_free = ask->next_free;
    } else {
        ask = calloc(1, sizeof(*ask));
        if (!ask)
            return NULL;
        pthread_mutex_lock(&cluster->lock); /* once for each of at most UPSTREAM_ASKS_MAX */
        ask->next_made = cluster->asks;
        cluster->asks = ask;
        pthread_mutex_unlock(&cluster->lock);
    }
    view->asks_out++;
    return ask;
}

static void ask_put(struct weir_ask *ask)
{
    struct weir_cluster_view *view = ask->from;

    ask->given = false;
    ask->next_free = view->asks_free;
    view->asks_free = ask;
    view->asks_out--;
}

struct weir_cluster_view *weir_share_peer(struct weir_cluster *cluster, unsigned id)
{
    struct weir_cluster_view *view = __atomic_load_n(&cluster->views[id], __ATOMIC_ACQUIRE);

    return view && atomic_load_explicit(&view->open, memory_order_acquire) ? view : NULL;
}

/* --- the asker, second half --- */

/* The connection is here. NULL: no memory; it is closed then. */
static struct weir_upconn *ask_adopt(struct weir_ask *ask)
{
    struct weir_cluster_view *view = ask->from;
    struct weir_upconn *conn = weir_upconn_new(view, &view->cluster->servers[ask->server]);

    if (!conn) {
        weir_parcel_drop(&ask->parcel);
        weir_slot_put(view, &view->cluster->servers[ask->server]);
        return NULL;
    }
    conn->slot = true;
    conn->requests = ask->requests;
    conn->born_ms = ask->born_ms;
    conn->addr = ask->addr;
    conn->stream = weir_parcel_adopt(&ask->parcel, view->loop, &weir_upconn_sink, conn);
    if (!conn->stream) {
        weir_upconn_free(conn);
        return NULL;
    }
    weir_upconn_begin(conn);
    return conn;
}

static void on_answer(struct weir_loop *loop, void *arg)
{
    struct weir_ask *ask = arg;
    struct weir_cluster_view *view = ask->from;
    struct weir_acquire *acq = ask->acq;
    struct weir_upconn *conn = NULL;

    if (view->magic != WEIR_VIEW_MAGIC) { /* freed meanwhile */
        if (ask->given)
            weir_parcel_drop(&ask->parcel);
        ask->given = false; /* its slot goes with the cluster */
        return;
    }
    view->servers[ask->server].asking--;
    if (acq)
        acq->ask = NULL;
    if (ask->given)
        conn = ask_adopt(ask);
    ask_put(ask);
    if (conn)
        weir_pool_offer(conn); /* to the first in the line */
    if (acq)
        weir_pool_asked_in_vain(acq); /* unless it was that one */
}

/* --- the owner --- */

static void ask_answer(struct weir_ask *ask)
{
    ask->mail.fn = on_answer;
    weir_loop_post(ask->from->loop, &ask->mail);
}

void weir_share_released(struct weir_upconn *conn)
{
    struct weir_ask *ask = conn->ask;

    conn->ask = NULL;
    conn->slot = false; /* it moves with the connection */
    ask->given = true;
    ask_answer(ask);
}

/* A connection whose end has come and was not told yet is not given away: one look, off the hot
 * path. */
static bool is_alive(const struct weir_upconn *conn)
{
    uint8_t byte;
    ssize_t n = recv(weir_stream_fd(conn->stream), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return n < 0 && errno == EAGAIN;
}

static void on_asked(struct weir_loop *loop, void *arg)
{
    struct weir_ask *ask = arg;
    struct weir_cluster_view *view = ask->to;
    struct weir_server_view *sv = &view->servers[ask->server];

    if (atomic_load_explicit(&view->open, memory_order_relaxed)) {
        weir_list_each(pos, tmp, &sv->idle)
        {
            struct weir_upconn *conn = weir_list_entry(pos, struct weir_upconn, link);

            if (!is_alive(conn) || !weir_stream_release(conn->stream, &ask->parcel))
                continue; /* it is about to hear from its peer */
            ask->requests = conn->requests;
            ask->born_ms = conn->born_ms;
            ask->addr = conn->addr;
            conn->ask = ask;
            weir_upconn_set_state(conn, UPCONN_GIVING);
            return;
        }
    }
    ask_answer(ask);
}

/* --- the asker, first half --- */

/* A worker that seems to have more than we have asked for already. */
static struct weir_cluster_view *share_find(struct weir_cluster_view *view,
                                            struct weir_server_view *sv, unsigned server)
{
    unsigned workers = view->cluster->workers;
    uint64_t have = 0;

    for (unsigned i = 0; i < workers; i++) {
        unsigned id = (view->peer_next + i) % workers;
        struct weir_cluster_view *peer = id == view->id ? NULL : weir_share_peer(view->cluster, id);

        if (!peer)
            continue;
        have += weir_counter_read(&peer->servers[server].idle_count);
        if (have > sv->asking) {
            view->peer_next = id;
            return peer;
        }
    }
    return NULL;
}

bool weir_share_ask(struct weir_acquire *acq)
{
    struct weir_cluster_view *view = acq->view, *peer;
    unsigned server = acq->server->index;
    struct weir_server_view *sv = &view->servers[server];
    struct weir_ask *ask;

    if (view->cluster->workers == 1 || acq->ask || acq->asks >= UPSTREAM_ASKS_ACQUIRE)
        return false;
    peer = share_find(view, sv, server);
    if (!peer)
        return false;
    ask = ask_get(view);
    if (!ask)
        return false;
    ask->from = view;
    ask->to = peer;
    ask->server = server;
    ask->acq = acq;
    acq->ask = ask;
    acq->asks++;
    sv->asking++;
    ask->mail.fn = on_asked;
    ask->mail.arg = ask;
    weir_loop_post(peer->loop, &ask->mail);
    return true;
}

void weir_share_forget(struct weir_acquire *acq)
{
    if (!acq->ask)
        return;
    acq->ask->acq = NULL;
    acq->ask = NULL;
}

void weir_share_wake(struct weir_cluster_view *view, struct weir_server *server)
{
    for (unsigned id = 0; id < view->cluster->workers; id++) {
        struct weir_cluster_view *peer = weir_share_peer(view->cluster, id);

        if (peer && weir_counter_read(&server_view(peer, server)->waiting_count))
            weir_view_kick(peer);
    }
}

void weir_share_fini(struct weir_cluster *cluster)
{
    while (cluster->asks) {
        struct weir_ask *ask = cluster->asks;

        cluster->asks = ask->next_made;
        if (ask->given)
            weir_parcel_drop(&ask->parcel);
        free(ask);
    }
}
