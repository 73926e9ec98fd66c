/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/gate.h"

#include "weir/error.h"

#include <string.h>

static int64_t limit_of(const _Atomic int64_t *limit)
{
    return atomic_load_explicit((_Atomic int64_t *)limit, memory_order_relaxed);
}

static struct weir_client_counts *counts_of(const struct weir_gate *gate)
{
    return atomic_load_explicit((_Atomic(struct weir_client_counts *) *)&gate->clients,
                                memory_order_acquire);
}

int weir_gate_init(struct weir_gate *gate, int64_t connections_max, int64_t per_client_max)
{
    memset(gate, 0, sizeof(*gate));
    weir_gate_set(gate, connections_max, per_client_max);
    return per_client_max <= 0 || counts_of(gate) ? 0 : WEIR_ENOMEM;
}

void weir_gate_set(struct weir_gate *gate, int64_t connections_max, int64_t per_client_max)
{
    if (per_client_max > 0 && !counts_of(gate)) /* without memory: no limit */
        atomic_store_explicit(&gate->clients, weir_client_counts_new(), memory_order_release);
    atomic_store_explicit(&gate->connections_max, connections_max, memory_order_relaxed);
    atomic_store_explicit(&gate->per_client_max, per_client_max, memory_order_relaxed);
}

void weir_gate_fini(struct weir_gate *gate)
{
    weir_client_counts_free(counts_of(gate));
    atomic_store(&gate->clients, NULL);
}

bool weir_gate_name(struct weir_gate *gate, const struct weir_addr *client)
{
    struct weir_client_counts *counts = counts_of(gate);
    int64_t max = limit_of(&gate->per_client_max);

    return !counts || weir_client_count_add(counts, client, max > 0 ? (uint64_t)max : UINT64_MAX);
}

void weir_gate_unname(struct weir_gate *gate, const struct weir_addr *client)
{
    struct weir_client_counts *counts = counts_of(gate);

    if (counts)
        weir_client_count_remove(counts, client);
}

enum weir_gate_verdict weir_gate_enter(struct weir_gate *gate, const struct weir_addr *client)
{
    int64_t now;

    if (client && !weir_gate_name(gate, client))
        return WEIR_GATE_PER_CLIENT;
    now = atomic_fetch_add_explicit(&gate->connections, 1, memory_order_relaxed) + 1;
    return limit_of(&gate->connections_max) > 0 && now > limit_of(&gate->connections_max)
               ? WEIR_GATE_CROWDED
               : WEIR_GATE_OPEN;
}

void weir_gate_leave(struct weir_gate *gate, const struct weir_addr *client)
{
    atomic_fetch_sub_explicit(&gate->connections, 1, memory_order_relaxed);
    if (client)
        weir_gate_unname(gate, client);
}
