/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cluster_succeed.c: a cluster that takes the place of another of the same name, when a reload has changed it.
 *
 *   old ──succeed──▶ new      health, addresses, run-time weights and states: copied once, before the new one is used
 *    │ views: succeed         idle connections of HTTP/1.1 move; those of HTTP/2 take no new requests, and end
 *    │ views: close … quiet   requests that began with the old one end with it
 *    └──retire──▶ freed       its counters are added to the new one's
 *
 * `before` and `after` are a chain of those that live: one may go from its middle.
 */
#include "upstream/upmux.h"

#include <stdlib.h>

bool weir_cluster_is_of(const struct weir_cluster *cluster, const struct weir_cluster_conf *conf,
                        const struct weir_upstreams_opts *opts)
{
    const struct weir_guard_limits none = { 0 }, *limits = opts->limits ? opts->limits : &none;
    const struct weir_h2_limits zero = { 0 }, *h2 = opts->h2 ? opts->h2 : &zero;

    return weir_cluster_conf_same(cluster->conf, conf) &&
           memcmp(&cluster->limits_own, limits, sizeof(*limits)) == 0 &&
           memcmp(&cluster->h2_own, h2, sizeof(*h2)) == 0 &&
           weir_cluster_conf_stamp(conf) == cluster->stamp;
}

/* ---- what a server knows ---- */

static void take_addrs(struct weir_server *server, struct weir_server *old)
{
    unsigned count;
    struct weir_addr *addrs;

    if (server->kind == WEIR_SERVER_LITERAL)
        return;
    addrs = weir_server_copy_addrs(old, &count);
    if (!addrs)
        return;
    server->addrs = addrs;
    server->addr_count = count;
    atomic_fetch_or(&server->flags, WEIR_SERVER_ADDRESSED);
    server->inherited = true;
}

static void take_health(struct weir_server *server, struct weir_server *old)
{
    unsigned flags = atomic_load(&old->flags);

    if (flags & WEIR_SERVER_DRAINING)
        atomic_fetch_or(&server->flags, WEIR_SERVER_DRAINING);
    if (server->cluster->conf->health.type == WEIR_HEALTH_NONE)
        return; /* nobody would find out that it is up again */
    if (!(flags & WEIR_SERVER_HEALTHY))
        atomic_fetch_and(&server->flags, ~(unsigned)WEIR_SERVER_HEALTHY);
    pthread_mutex_lock(&old->cluster->lock);
    memcpy(server->last_fault, old->last_fault, sizeof(server->last_fault));
    pthread_mutex_unlock(&old->cluster->lock);
}

/* A weight that was set at run time is kept; else the file's, which may be a new one, counts. */
static void take_weight(struct weir_server *server, const struct weir_server *old)
{
    int weight = atomic_load((_Atomic int *)&old->weight);

    if (weight != (int)old->conf->weight)
        atomic_store(&server->weight, weight);
}

void weir_cluster_succeed(struct weir_cluster *cluster, struct weir_cluster *old)
{
    for (unsigned i = 0; i < cluster->count; i++) {
        struct weir_server *server = &cluster->servers[i],
                           *same = weir_cluster_find(old, server->conf->address);

        if (!same)
            continue;
        take_weight(server, same);
        take_health(server, same);
        take_addrs(server, same);
    }
    cluster->before = old;
    old->after = cluster;
    weir_cluster_changed(cluster); /* views that exist already look */
}

/* ---- what was counted ---- */

static void add_server(struct weir_server *server, const struct weir_server *old)
{
    struct weir_past *past = &server->past;

    past->requests_new += old->past.requests_new;
    past->requests_reused += old->past.requests_reused;
    past->opened += old->past.opened;
    past->failed += old->past.failed;
    for (unsigned w = 0; w < old->cluster->workers; w++) {
        const struct weir_server_view *sv;

        if (!old->cluster->views[w])
            continue;
        sv = server_view(old->cluster->views[w], old);
        past->requests_new += weir_counter_read(&sv->requests_new);
        past->requests_reused += weir_counter_read(&sv->requests_reused);
        past->opened += weir_counter_read(&sv->opened);
        past->failed += weir_counter_read(&sv->failed);
    }
}

void weir_cluster_retire(struct weir_cluster *old)
{
    struct weir_cluster *heir = old->after, *before = old->before;
    struct weir_cluster_totals totals = { 0 };

    old->before = old->after = NULL;
    if (before)
        before->after = heir;
    if (!heir)
        return;
    weir_cluster_get_totals(old, &totals); /* of itself, with what it had taken over */
    totals.active = totals.idle = 0;
    pthread_mutex_lock(&heir->lock);
    heir->before = before;
    weir_cluster_totals_add(&heir->past, &totals);
    for (unsigned i = 0; i < heir->count; i++) {
        const struct weir_server *same = weir_cluster_find(old, heir->servers[i].conf->address);

        if (same)
            add_server(&heir->servers[i], same);
    }
    pthread_mutex_unlock(&heir->lock);
}

/* ---- views ---- */

void weir_cluster_view_retire(struct weir_cluster_view *old)
{
    old->idle_max = 0;
    for (unsigned i = 0; i < old->cluster->count; i++)
        weir_pool_purge(old, &old->servers[i], true);
}

void weir_cluster_view_succeed(struct weir_cluster_view *view, struct weir_cluster_view *old)
{
    weir_view_sync(view);
    if (weir_cluster_conf_connects_alike(view->cluster->conf, old->cluster->conf) &&
        view->cluster->stamp == old->cluster->stamp)
        for (struct weir_list *pos = old->lru.prev, *next; pos != &old->lru; pos = next) {
            struct weir_upconn *conn = weir_list_entry(pos, struct weir_upconn, lru);
            struct weir_server *server =
                weir_cluster_find(view->cluster, conn->server->conf->address);

            next = pos->prev; /* towards the newest */
            if (!server || !weir_pool_move(conn, view, server))
                continue; /* closed below */
        }
    weir_cluster_view_retire(old);
}

bool weir_cluster_view_is_quiet(const struct weir_cluster_view *view)
{
    for (unsigned i = 0; i < view->cluster->count; i++)
        if (!weir_list_empty(&view->servers[i].waiting))
            return false;
    return weir_cluster_view_conns(view) == 0 && view->asks_out == 0;
}

struct weir_cluster_view *weir_cluster_view_of(const struct weir_cluster *cluster, unsigned id)
{
    return __atomic_load_n(&cluster->views[id], __ATOMIC_ACQUIRE);
}
