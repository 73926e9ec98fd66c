/* SPDX-License-Identifier: Apache-2.0 */
/** balance.c: what include/weir/balance.h promises to balancers, and which one a configuration
 * means. */
#include "upstream/state.h"

const struct weir_balancer *weir_balancer_of(const struct weir_cluster_conf *conf)
{
    if (conf->balancer)
        return conf->balancer->pick ? conf->balancer : NULL;
    return conf->balance == 0 ? &weir_balancer_round_robin : NULL;
}

bool weir_choice_tried(const struct weir_peer_choice *choice, const struct weir_server *server)
{
    for (unsigned i = 0; i < choice->tried_count; i++)
        if (choice->tried[i] == server)
            return true;
    return false;
}

unsigned weir_cluster_count(const struct weir_cluster *cluster)
{
    return cluster->count;
}

const struct weir_server *weir_cluster_server(const struct weir_cluster *cluster, unsigned i)
{
    return i < cluster->count ? &cluster->servers[i] : NULL;
}

struct weir_str weir_server_name(const struct weir_server *server)
{
    return server->conf->address;
}

unsigned weir_server_weight(const struct weir_server *server)
{
    return (unsigned)atomic_load_explicit((_Atomic int *)&server->weight, memory_order_relaxed);
}

bool weir_server_is_backup(const struct weir_server *server)
{
    return server->conf->backup;
}

bool weir_server_is_up(const struct weir_server *server)
{
    unsigned flags = atomic_load_explicit((_Atomic unsigned *)&server->flags, memory_order_relaxed);

    return flags == (WEIR_SERVER_HEALTHY | WEIR_SERVER_ADDRESSED);
}

unsigned weir_server_active(const struct weir_server *server)
{
    const struct weir_cluster *cluster = server->cluster;
    uint64_t active = 0;

    for (unsigned i = 0; i < cluster->workers; i++) {
        struct weir_cluster_view *view = __atomic_load_n(&cluster->views[i], __ATOMIC_ACQUIRE);

        if (view)
            active += weir_counter_read(&server_view(view, server)->active);
    }
    return (unsigned)active;
}
