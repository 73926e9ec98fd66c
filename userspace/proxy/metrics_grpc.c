/* SPDX-License-Identifier: Apache-2.0 */
/**
 * metrics_grpc.c: gRPC requests by route and grpc-status. A route that several listeners have is one series: its label is
 * the route's name alone. Routes that have served no gRPC are left out.
 */
#include "proxy/metrics_out.h"

#include "base/str.h"

#include <stdlib.h>

enum { SLOTS = WEIR_GRPC_STATUS_COUNT + 1, PLACE_BYTES = 16 };

struct route_sums {
    struct weir_str name;    /* of the route */
    char place[PLACE_BYTES]; /* "#2": of one that has none */
    uint64_t count[SLOTS];
};

struct sums {
    struct route_sums *at;
    size_t used;
};

static const struct weir_route_stats *stats_of(const struct weir_metrics_out *out, unsigned worker,
                                               size_t listener, size_t route)
{
    return weir_service_route_stats(out->service, (unsigned)listener, (unsigned)route, worker);
}

/* All workers. False: nothing was counted. */
static bool route_count(const struct weir_metrics_out *out, size_t listener, size_t route,
                        struct route_sums *sums)
{
    uint64_t all = 0;

    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (unsigned w = 0; w < out->workers; w++)
            sums->count[slot] += weir_counter_read(&stats_of(out, w, listener, route)->grpc[slot]);
        all += sums->count[slot];
    }
    return all > 0;
}

/* The last row is "no route": the label is empty. A route without a name is told by its place. */
static void route_name(const struct weir_conf_list *routes, size_t route, struct route_sums *sums)
{
    sums->name = WEIR_STR("");
    if (route < routes->count)
        sums->name = ((const struct weir_route_conf *)routes->at)[route].name;
    if (route < routes->count && !sums->name.len)
        snprintf(sums->place, sizeof(sums->place), "#%zu", route + 1);
}

static bool same_route(const struct route_sums *a, const struct route_sums *b)
{
    return weir_str_eq(a->name, b->name) && strcmp(a->place, b->place) == 0;
}

/* Without memory the row is left out. */
static void sums_add(struct sums *sums, const struct route_sums *row)
{
    struct route_sums *more;

    for (size_t i = 0; i < sums->used; i++) {
        if (!same_route(&sums->at[i], row))
            continue;
        for (unsigned slot = 0; slot < SLOTS; slot++)
            sums->at[i].count[slot] += row->count[slot];
        return;
    }
    more = realloc(sums->at, (sums->used + 1) * sizeof(*more));
    if (!more)
        return;
    sums->at = more;
    more[sums->used++] = *row;
}

void put_grpc_requests_total(struct weir_metrics_out *out)
{
    const struct weir_listener_conf *listeners = out->conf->listeners.at;
    struct sums sums = { NULL, 0 };

    for (size_t i = 0; i < out->conf->listeners.count; i++)
        for (size_t r = 0; r <= listeners[i].routes.count; r++) {
            struct route_sums row = { .name = { NULL, 0 } };

            route_name(&listeners[i].routes, r, &row);
            if (route_count(out, i, r, &row))
                sums_add(&sums, &row);
        }
    for (size_t i = 0; i < sums.used; i++)
        for (unsigned slot = 0; slot < SLOTS; slot++) {
            const struct route_sums *row = &sums.at[i];
            char status[16];

            if (!row->count[slot])
                continue;
            snprintf(status, sizeof(status), "%u", slot);
            sample_begin(out, "");
            sample_label(out, "route", row->place[0] ? weir_str(row->place) : row->name);
            sample_label(out, "status",
                         slot < WEIR_GRPC_STATUS_COUNT ? weir_str(status) : WEIR_STR("other"));
            sample_u64(out, row->count[slot]);
        }
    free(sums.at);
}
