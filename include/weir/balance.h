/* SPDX-License-Identifier: Apache-2.0 */
/** balance.h: servers of an upstream, and how one is chosen. */
#ifndef WEIR_BALANCE_H
#define WEIR_BALANCE_H

#include "weir/types.h"

WEIR_BEGIN

/** One server of an upstream: an address, or a name that is resolved. Lives as long as its
 * upstream. */
struct weir_server;
/** The upstream's servers as of now, on one worker. */
struct weir_cluster;

struct weir_peer_choice {
    struct weir_cluster *cluster;
    const struct weir_server *server;       /* out: NULL leaves it to the balancer */
    const struct weir_server *const *tried; /* servers that failed for this request */
    unsigned tried_count;
    uint64_t hash; /* of hash_on */
};

/** Number of servers; weir_cluster_server(cluster, i) for i below it. */
WEIR_API unsigned weir_cluster_count(const struct weir_cluster *cluster);
WEIR_API const struct weir_server *weir_cluster_server(const struct weir_cluster *cluster,
                                                       unsigned i);
/** "10.0.0.1:80" as configured. */
WEIR_API struct weir_str weir_server_name(const struct weir_server *server);
WEIR_API unsigned weir_server_weight(const struct weir_server *server);
WEIR_API bool weir_server_is_backup(const struct weir_server *server);
/** Healthy, has an address, not draining. */
WEIR_API bool weir_server_is_up(const struct weir_server *server);
/** Requests that are at the server now, of all workers: a sum of their counters, a little old. */
WEIR_API unsigned weir_server_active(const struct weir_server *server);

/** A balancer is a vtable as well: one instance a cluster and worker. */
struct weir_balancer {
    size_t size;
    const char *name;
    /** State of one worker; NULL without memory. `self` is what was given with the balancer. */
    void *(*create)(struct weir_cluster *cluster, void *self);
    void (*destroy)(void *state);
    /** Weights, health, draining or addresses have changed; also called once after create. May be
     * NULL. */
    void (*changed)(void *state, struct weir_cluster *cluster);
    /** A server that is up and not among choice->tried, or NULL. Must not block. */
    const struct weir_server *(*pick)(void *state, const struct weir_peer_choice *choice);
};

WEIR_END
#endif
