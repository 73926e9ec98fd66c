/* SPDX-License-Identifier: Apache-2.0 */
/** view.c: what one worker keeps of a cluster. The struct stays until the cluster is freed: other
 * workers may look at it. */
#include "upstream/upmux.h"

#include <stdlib.h>

static void on_kick(struct weir_loop *loop, void *arg)
{
    struct weir_cluster_view *view = arg;

    atomic_store_explicit(&view->kicked, false, memory_order_release);
    if (!atomic_load_explicit(&view->open, memory_order_relaxed))
        return;
    weir_view_sync(view);
    for (unsigned i = 0; i < view->cluster->count; i++) {
        if (view->servers[i].mux_count && view->cluster->conf->connections_max > 0)
            weir_upmux_yield(&view->servers[i]);
        if (!weir_list_empty(&view->servers[i].waiting))
            weir_pool_retry(view, &view->servers[i]);
    }
}

void weir_view_kick(struct weir_cluster_view *view)
{
    if (!atomic_load_explicit(&view->open, memory_order_acquire))
        return;
    if (!atomic_exchange_explicit(&view->kicked, true, memory_order_acq_rel))
        weir_loop_post(view->loop, &view->kick);
}

static uint64_t view_idle_max(const struct weir_cluster *cluster)
{
    int64_t max = cluster->conf->pool.idle_max;

    if (max < 0)
        return UINT64_MAX;
    if (max == 0)
        max = UPSTREAM_IDLE_MAX;
    return ((uint64_t)max + cluster->workers - 1) / cluster->workers;
}

static int view_balancer(struct weir_cluster_view *view)
{
    const struct weir_cluster_conf *conf = view->cluster->conf;
    void *self = conf->balancer ? conf->balancer_self : (void *)(uintptr_t)view->id;

    view->balancer = weir_balancer_of(conf);
    view->balancer_state =
        view->balancer->create ? view->balancer->create(view->cluster, self) : NULL;
    return view->balancer->create && !view->balancer_state ? WEIR_ENOMEM : 0;
}

struct weir_cluster_view *weir_cluster_view_new(struct weir_cluster *cluster,
                                                struct weir_loop *loop, unsigned id,
                                                struct weir_h2_shared *h2)
{
    size_t bytes =
        sizeof(struct weir_cluster_view) + cluster->count * sizeof(struct weir_server_view);
    struct weir_cluster_view *view = aligned_alloc(64, (bytes + 63) & ~(size_t)63);

    weir_assert(id < cluster->workers && !cluster->views[id]);
    weir_assert(h2 || cluster->conf->protocol == WEIR_UPSTREAM_H1);
    if (!view)
        return NULL;
    memset(view, 0, bytes);
    view->magic = WEIR_VIEW_MAGIC;
    view->id = id;
    view->cluster = cluster;
    view->loop = loop;
    view->h2 = h2;
    view->kick = (struct weir_mail){ .fn = on_kick, .arg = view };
    view->idle_max = view_idle_max(cluster);
    view->idle_timeout_ms = cluster->conf->pool.idle_timeout_ms ?: UPSTREAM_IDLE_TIMEOUT_MS;
    view->peer_next = id + 1;
    view->version = UINT64_MAX;
    weir_slab_init(&view->conns, sizeof(struct weir_upconn));
    weir_list_init(&view->lru);
    weir_list_init(&view->busy);
    weir_slab_init(&view->muxes, sizeof(struct weir_upmux));
    weir_list_init(&view->idle_muxes);
    for (unsigned i = 0; i < cluster->count; i++) {
        view->servers[i].server = &cluster->servers[i];
        weir_list_init(&view->servers[i].idle);
        weir_list_init(&view->servers[i].waiting);
        weir_upmux_init(view, &view->servers[i]);
    }
    if (view_balancer(view)) {
        free(view);
        return NULL;
    }
    atomic_store(&view->open, true);
    weir_view_sync(view);
    pthread_mutex_lock(&cluster->lock);
    __atomic_store_n(&cluster->views[id], view, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&cluster->lock);
    return view;
}

void weir_cluster_view_close(struct weir_cluster_view *view)
{
    atomic_store_explicit(&view->open, false, memory_order_release);
    weir_timer_stop(&view->loop->wheel, &view->sweep);
    for (unsigned i = 0; i < view->cluster->count; i++)
        weir_pool_purge(view, &view->servers[i], true);
    weir_list_each(pos, tmp, &view->busy)
    {
        struct weir_upconn *conn = weir_list_entry(pos, struct weir_upconn, link);

        if (conn->state == UPCONN_CONNECTING && !conn->acq)
            weir_upconn_close(conn);
    }
}

unsigned weir_cluster_view_conns(const struct weir_cluster_view *view)
{
    return (unsigned)(view->conns.used + view->muxes.used) + view->tokens;
}

void weir_cluster_view_trim(struct weir_cluster_view *view)
{
    weir_slab_trim(&view->conns);
    weir_slab_trim(&view->muxes);
}

unsigned weir_cluster_view_shed(struct weir_cluster_view *view, unsigned max)
{
    unsigned closed = 0;

    for (; closed < max && !weir_list_empty(&view->lru); closed++)
        weir_upconn_close(weir_list_entry(view->lru.prev, struct weir_upconn, lru));
    for (; closed < max && !weir_list_empty(&view->idle_muxes); closed++)
        weir_upmux_close(weir_list_entry(view->idle_muxes.prev, struct weir_upmux, idle));
    return closed;
}

bool weir_cluster_view_starved(struct weir_cluster_view *view)
{
    bool starved = view->starved;

    view->starved = false;
    return starved;
}

void weir_cluster_view_free(struct weir_cluster_view *view)
{
    struct weir_cluster *cluster;

    if (!view)
        return;
    cluster = view->cluster;
    pthread_mutex_lock(&cluster->lock); /* who reads totals reads them before or after */
    atomic_store_explicit(&view->open, false, memory_order_release);
    if (view->balancer->destroy)
        view->balancer->destroy(view->balancer_state);
    for (unsigned i = 0; i < cluster->count; i++) {
        weir_assert(weir_list_empty(&view->servers[i].waiting));
        free(view->servers[i].addrs);
        view->servers[i].addrs = NULL;
        view->servers[i].addr_count = 0;
    }
    weir_slab_fini(&view->conns);
    weir_slab_fini(&view->muxes);
    view->magic = 0;
    pthread_mutex_unlock(&cluster->lock);
}

/* New addresses of one server; what is idle at those that are gone, or at a server that is down, is
 * closed. */
static void view_sync_server(struct weir_cluster_view *view, struct weir_server_view *sv)
{
    struct weir_server *server = sv->server;
    unsigned flags = atomic_load_explicit(&server->flags, memory_order_relaxed), count;
    struct weir_addr *addrs = weir_server_copy_addrs(server, &count);

    if (addrs || !count) {
        free(sv->addrs);
        sv->addrs = addrs;
        sv->addr_count = count;
        sv->epoch++;
        if (!sv->addr_next)
            sv->addr_next = view->id; /* workers begin at different ones */
    }
    weir_pool_purge(view, sv,
                    (flags & (WEIR_SERVER_HEALTHY | WEIR_SERVER_DRAINING)) != WEIR_SERVER_HEALTHY);
}

void weir_view_sync(struct weir_cluster_view *view)
{
    uint64_t version = atomic_load_explicit(&view->cluster->version, memory_order_acquire);

    if (version == view->version)
        return;
    view->version = version;
    for (unsigned i = 0; i < view->cluster->count; i++)
        view_sync_server(view, &view->servers[i]);
    if (view->balancer->changed)
        view->balancer->changed(view->balancer_state, view->cluster);
}

struct weir_server *weir_cluster_pick(struct weir_cluster_view *view,
                                      struct weir_peer_choice *choice)
{
    const struct weir_server *server = choice->server;

    weir_view_sync(view);
    choice->cluster = view->cluster;
    if (!server)
        server = view->balancer->pick(view->balancer_state, choice);
    if (!server || server->cluster != view->cluster || !server_view(view, server)->addr_count)
        return NULL;
    choice->server = server;
    return (struct weir_server *)server;
}

void weir_cluster_view_count(struct weir_cluster_view *view, struct weir_server *server,
                             uint64_t duration_us)
{
    weir_histogram_add(&view->duration, duration_us);
}
