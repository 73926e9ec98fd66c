/* SPDX-License-Identifier: Apache-2.0 */
/**
 * balance_rr.c: round robin. With equal weights the servers in turn; otherwise smooth weighted
 * round robin: each pick raises every server's current value by its weight, takes the highest and
 * lowers it by the sum of the weights, so that {5, 1, 1} gives a a b a c a a and not five times a.
 *
 * `changed` decides who takes part: primaries that are up; all primaries that have an address when
 * fewer than `panic` are up; backups when no primary takes part.
 */
#include "upstream/state.h"

#include <stdlib.h>

struct rr_entry {
    const struct weir_server *server;
    int weight, current;
};

struct rr {
    unsigned count; /* that take part, first in `entries` */
    unsigned next;  /* with equal weights */
    bool equal;
    struct rr_entry entries[];
};

static void *rr_create(struct weir_cluster *cluster, void *self)
{
    unsigned count = weir_cluster_count(cluster);
    struct rr *rr = calloc(1, sizeof(*rr) + count * sizeof(struct rr_entry));

    if (rr)
        rr->next = (unsigned)(uintptr_t)self; /* workers begin at different servers */
    return rr;
}

static void rr_destroy(void *state)
{
    free(state);
}

static bool rr_is_panic(const struct weir_cluster *cluster)
{
    unsigned up = 0, all = 0;

    if (cluster->conf->health.panic <= 0)
        return false;
    for (unsigned i = 0; i < cluster->count; i++) {
        if (cluster->servers[i].conf->backup)
            continue;
        all++;
        up += weir_server_is_up(&cluster->servers[i]);
    }
    return up < cluster->conf->health.panic * all;
}

static void rr_gather(struct rr *rr, const struct weir_cluster *cluster, bool backup, bool panic)
{
    for (unsigned i = 0; i < cluster->count; i++) {
        const struct weir_server *server = &cluster->servers[i];
        int weight = (int)weir_server_weight(server);

        if (server->conf->backup != backup || weight == 0)
            continue;
        if (panic ? server_usable(server) : weir_server_is_up(server))
            rr->entries[rr->count++] = (struct rr_entry){ server, weight, 0 };
    }
}

static void rr_changed(void *state, struct weir_cluster *cluster)
{
    struct rr *rr = state;

    rr->count = 0;
    rr_gather(rr, cluster, false, rr_is_panic(cluster));
    if (!rr->count)
        rr_gather(rr, cluster, true, false);
    rr->equal = true;
    for (unsigned i = 1; i < rr->count; i++)
        rr->equal &= rr->entries[i].weight == rr->entries[0].weight;
}

static const struct weir_server *rr_in_turn(struct rr *rr, const struct weir_peer_choice *choice)
{
    for (unsigned i = 0; i < rr->count; i++) {
        const struct weir_server *server;

        if (rr->next >= rr->count)
            rr->next %= rr->count;
        server = rr->entries[rr->next++].server;
        if (!weir_choice_tried(choice, server))
            return server;
    }
    return NULL;
}

static const struct weir_server *rr_pick(void *state, const struct weir_peer_choice *choice)
{
    struct rr *rr = state;
    struct rr_entry *best = NULL;
    int sum = 0;

    if (rr->equal)
        return rr_in_turn(rr, choice);
    for (unsigned i = 0; i < rr->count; i++) {
        struct rr_entry *entry = &rr->entries[i];

        if (weir_choice_tried(choice, entry->server))
            continue;
        entry->current += entry->weight;
        sum += entry->weight;
        if (!best || entry->current > best->current)
            best = entry;
    }
    if (!best)
        return NULL;
    best->current -= sum;
    return best->server;
}

const struct weir_balancer weir_balancer_round_robin = {
    .size = sizeof(struct weir_balancer),
    .name = "round-robin",
    .create = rr_create,
    .destroy = rr_destroy,
    .changed = rr_changed,
    .pick = rr_pick,
};
