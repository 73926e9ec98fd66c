/* SPDX-License-Identifier: Apache-2.0 */
/** status.c: numbers for people and scrapers: sums of the workers' counters. Any thread. */
#include "upstream/state.h"

/* What servers and clusters of the same name count that are not gone yet is told with it. */
static void status_add_before(const struct weir_server *server, struct weir_server_status *status)
{
    struct weir_cluster *before = server->cluster->before;
    const struct weir_server *same =
        before ? weir_cluster_find(before, server->conf->address) : NULL;
    struct weir_server_status old = { 0 };

    if (!same)
        return;
    weir_server_get_status(same, &old);
    status->active += old.active;
    status->idle += old.idle;
    status->requests += old.requests;
    status->requests_reused += old.requests_reused;
    status->opened += old.opened;
    status->failed += old.failed;
}

void weir_server_get_status(const struct weir_server *server, struct weir_server_status *status)
{
    struct weir_cluster *cluster = server->cluster;

    *status = (struct weir_server_status){
        .name = server->conf->address,
        .weight = (int)weir_server_weight(server),
        .backup = server->conf->backup,
        .up = weir_server_is_up(server),
        .draining = atomic_load_explicit((_Atomic unsigned *)&server->flags, memory_order_relaxed) &
                    WEIR_SERVER_DRAINING,
    };
    pthread_mutex_lock(&cluster->lock);
    status->addresses = server->addr_count;
    status->requests = server->past.requests_new + server->past.requests_reused;
    status->requests_reused = server->past.requests_reused;
    status->opened = server->past.opened;
    status->failed = server->past.failed;
    memcpy(status->last_fault, server->last_fault, sizeof(status->last_fault));
    for (unsigned i = 0; i < cluster->workers; i++) {
        const struct weir_server_view *sv;
        uint64_t reused;

        if (!cluster->views[i])
            continue;
        sv = server_view(cluster->views[i], server);
        reused = weir_counter_read(&sv->requests_reused);
        status->active += weir_counter_read(&sv->active);
        status->idle += weir_counter_read(&sv->idle_count);
        status->requests += weir_counter_read(&sv->requests_new) + reused;
        status->requests_reused += reused;
        status->opened += weir_counter_read(&sv->opened);
        status->failed += weir_counter_read(&sv->failed);
    }
    pthread_mutex_unlock(&cluster->lock);
    status_add_before(server, status);
}

static void totals_add(struct weir_cluster_totals *totals, const struct weir_cluster_view *view)
{
    for (unsigned i = 0; i < view->cluster->count; i++) {
        const struct weir_server_view *sv = &view->servers[i];

        totals->requests_new += weir_counter_read(&sv->requests_new);
        totals->requests_reused += weir_counter_read(&sv->requests_reused);
        totals->opened += weir_counter_read(&sv->opened);
        totals->active += weir_counter_read(&sv->active);
        totals->idle += weir_counter_read(&sv->idle_count);
    }
    for (int i = 0; i < WEIR_H2_ABUSE_COUNT; i++)
        totals->h2_abuse[i] += weir_counter_read(&view->h2_abuse[i]);
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++)
        weir_count(&totals->duration.bucket[i], weir_counter_read(&view->duration.bucket[i]));
    weir_count(&totals->duration.sum_us, weir_counter_read(&view->duration.sum_us));
}

void weir_cluster_totals_add(struct weir_cluster_totals *totals,
                             const struct weir_cluster_totals *more)
{
    totals->requests_new += more->requests_new;
    totals->requests_reused += more->requests_reused;
    totals->opened += more->opened;
    totals->active += more->active;
    totals->idle += more->idle;
    for (int i = 0; i < WEIR_H2_ABUSE_COUNT; i++)
        totals->h2_abuse[i] += more->h2_abuse[i];
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++)
        weir_count(&totals->duration.bucket[i], weir_counter_read(&more->duration.bucket[i]));
    weir_count(&totals->duration.sum_us, weir_counter_read(&more->duration.sum_us));
}

void weir_cluster_get_totals(const struct weir_cluster *cluster, struct weir_cluster_totals *totals)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&cluster->lock;

    pthread_mutex_lock(lock);
    *totals = cluster->past;
    for (unsigned i = 0; i < cluster->workers; i++)
        if (cluster->views[i])
            totals_add(totals, cluster->views[i]);
    pthread_mutex_unlock(lock);
    if (cluster->before) {
        struct weir_cluster_totals old = { 0 };

        weir_cluster_get_totals(cluster->before, &old);
        weir_cluster_totals_add(totals, &old);
    }
}
