/* SPDX-License-Identifier: Apache-2.0 */
/**
 * enter.c: a snapshot comes into force on one worker, in one turn of its loop: between two requests.
 *
 * Requests in progress keep the snapshot that they have. Connections stay where they are, and their next request finds the
 * new one; unless what made them what they are has changed (who may connect by TLS, what is spoken): those end as at a
 * drain. What waits at a socket that no listener has any more was accepted in our name, and is served before it closes.
 */
#include "proxy/snapshot.h"

#include "proxy/session.h"
#include "proxy/worker.h"

#include <unistd.h>

/* ---- upstreams ---- */

static const struct weir_target *successor(const struct weir_snapshot *snapshot,
                                           const struct weir_target *old)
{
    for (unsigned i = 0; i < snapshot->target_count; i++)
        if (snapshot->targets[i]->replaces == old)
            return snapshot->targets[i];
    return NULL;
}

/* Those of the snapshot before that this one has not. */
static void leave_targets(struct weir_worker *worker, const struct weir_snapshot *before,
                          const struct weir_snapshot *snapshot)
{
    for (unsigned i = 0; i < before->target_count; i++) {
        struct weir_target *old = before->targets[i];
        struct weir_cluster_view *view = weir_cluster_view_of(old->cluster, worker->id);
        const struct weir_target *next;

        if (old->claimed == snapshot->serial)
            continue;
        if (worker->id == 0)
            weir_cluster_stop(old->cluster);
        next = successor(snapshot, old);
        if (next)
            weir_cluster_view_succeed(weir_cluster_view_of(next->cluster, worker->id), view);
        else
            weir_cluster_view_retire(view);
    }
}

static int start_targets(struct weir_worker *worker, const struct weir_snapshot *snapshot)
{
    int err = 0;

    for (unsigned i = 0; worker->id == 0 && i < snapshot->target_count && !err; i++)
        err = weir_cluster_start(snapshot->targets[i]->cluster, &worker->loop,
                                 worker->service->resolver); /* again: nothing happens */
    return err;
}

/* ---- listeners ---- */

/* May a connection that was made under the one go on under the other? */
static bool alike(const struct weir_listener *a, const struct weir_listener *b)
{
    return a->conf->protocol == b->conf->protocol && !a->tls == !b->tls &&
           (!a->tls || weir_tls_server_admits_alike(a->tls, b->tls));
}

static void enter_listener(struct weir_worker *worker, const struct weir_listener *listener)
{
    struct weir_wlistener *wl = &listener->door->at[worker->id];
    const struct weir_listener *old = wl->listener;

    weir_seat_hold(&listener->snapshot->seats[worker->id]);
    wl->listener = listener;
    wl->guard = listener->guard;
    wl->h2 = listener->h2;
    if (!old) {
        weir_list_push_back(&worker->listeners, &wl->link);
        return;
    }
    if (!alike(old, listener))
        weir_sessions_expire(wl);
    weir_seat_drop(&old->snapshot->seats[worker->id]);
}

static void leave_listeners(struct weir_worker *worker, const struct weir_snapshot *before,
                            const struct weir_snapshot *snapshot)
{
    for (unsigned i = 0; i < before->listener_count; i++) {
        struct weir_wlistener *wl = &before->listeners[i].door->at[worker->id];

        if (!wl->listener || wl->listener->snapshot == snapshot)
            continue;
        wl->leaving = true;
        wl->leave_ms = worker->loop.now_ms;
        weir_sessions_drain(wl);
    }
}

void weir_worker_let_go(struct weir_worker *worker)
{
    weir_list_each(pos, next, &worker->listeners)
    {
        struct weir_wlistener *wl = weir_list_entry(pos, struct weir_wlistener, link);
        const struct weir_listener *listener = wl->listener;
        bool empty = wl->leaving;

        for (int state = 0; state < WEIR_SESSION_STATES && empty; state++)
            empty = weir_list_empty(&wl->sessions[state]);
        if (!empty)
            continue;
        weir_list_remove(&wl->link);
        wl->listener = NULL;
        weir_seat_drop(&listener->snapshot->seats[worker->id]);
    }
}

/* ---- sockets ---- */

static void on_accept(struct weir_lsock *lsock, int fd, const struct sockaddr *peer, socklen_t len)
{
    weir_session_accept(lsock->arg, fd, peer, len);
}

static void on_accept_fail(struct weir_lsock *lsock, int sys)
{
    const struct weir_bound_at *at = lsock->arg;

    weir_worker_accept_failed(at->wl, sys);
}

static int serve(struct weir_worker *worker, const struct weir_listener *listener)
{
    int first = 0;

    for (unsigned b = 0; b < listener->bound_count; b++) {
        struct weir_bound_at *at = &listener->bounds[b]->at[worker->id];
        int err;

        at->wl = &listener->door->at[worker->id];
        if (at->lsock.on || at->fd < 0)
            continue;
        at->lsock.fd = at->fd;
        at->lsock.on_accept = on_accept;
        at->lsock.on_fail = on_accept_fail;
        at->lsock.arg = at;
        err = weir_listen_serve(&worker->loop, &at->lsock, true);
        first = first ? first : err;
    }
    return first;
}

/* What waits in an accept queue was accepted by the kernel in our name: it is taken before the door
 * closes. */
static void close_bound(struct weir_worker *worker, struct weir_bound_at *at)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int fd;

    if (at->fd < 0)
        return;
    (void)!weir_listen_serve(&worker->loop, &at->lsock, false);
    while (at->wl && (fd = accept4(at->fd, (struct sockaddr *)&peer, &len,
                                   SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        weir_session_accept(at, fd, (struct sockaddr *)&peer, len);
        len = sizeof(peer);
    }
    close(at->fd);
    at->fd = -1;
}

static void close_bounds(struct weir_worker *worker, const struct weir_snapshot *before,
                         uint64_t kept)
{
    for (unsigned i = 0; i < before->listener_count; i++)
        for (unsigned b = 0; b < before->listeners[i].bound_count; b++) {
            struct weir_bound *bound = before->listeners[i].bounds[b];

            if (bound->claimed != kept)
                close_bound(worker, &bound->at[worker->id]);
        }
}

void weir_worker_close_doors(struct weir_worker *worker)
{
    if (worker->snapshot)
        close_bounds(worker, worker->snapshot, 0);
}

/* ---- all of it ---- */

int weir_worker_enter(struct weir_worker *worker, struct weir_snapshot *snapshot)
{
    struct weir_snapshot *before = worker->snapshot;
    int err = 0, first;

    weir_seat_hold(&snapshot->seats[worker->id]);
    if (before)
        leave_targets(worker, before, snapshot);
    first = start_targets(worker, snapshot);
    worker->snapshot = snapshot;
    for (unsigned i = 0; i < snapshot->listener_count; i++) {
        enter_listener(worker, &snapshot->listeners[i]);
        err = serve(worker, &snapshot->listeners[i]);
        first = first ? first : err;
    }
    if (!before)
        return first;
    close_bounds(worker, before, snapshot->serial);
    leave_listeners(worker, before, snapshot);
    return first;
}

void weir_worker_leave(struct weir_worker *worker, struct weir_snapshot *before)
{
    before->seats[worker->id].over = true;
    weir_seat_drop(&before->seats[worker->id]);
}
