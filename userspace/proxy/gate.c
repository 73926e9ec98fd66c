/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/gate.h"

#include "weir/error.h"

int weir_gate_init(struct weir_gate *gate, int64_t connections_max, int64_t per_client_max)
{
    *gate =
        (struct weir_gate){ .connections_max = connections_max, .per_client_max = per_client_max };
    if (per_client_max <= 0)
        return 0;
    gate->clients = weir_client_counts_new();
    return gate->clients ? 0 : WEIR_ENOMEM;
}

void weir_gate_fini(struct weir_gate *gate)
{
    weir_client_counts_free(gate->clients);
    gate->clients = NULL;
}

bool weir_gate_name(struct weir_gate *gate, const struct weir_addr *client)
{
    return !gate->clients ||
           weir_client_count_add(gate->clients, client, (uint64_t)gate->per_client_max);
}

void weir_gate_unname(struct weir_gate *gate, const struct weir_addr *client)
{
    if (gate->clients)
        weir_client_count_remove(gate->clients, client);
}

enum weir_gate_verdict weir_gate_enter(struct weir_gate *gate, const struct weir_addr *client)
{
    int64_t now;

    if (client && !weir_gate_name(gate, client))
        return WEIR_GATE_PER_CLIENT;
    now = atomic_fetch_add_explicit(&gate->connections, 1, memory_order_relaxed) + 1;
    return gate->connections_max > 0 && now > gate->connections_max ? WEIR_GATE_CROWDED
                                                                    : WEIR_GATE_OPEN;
}

void weir_gate_leave(struct weir_gate *gate, const struct weir_addr *client)
{
    atomic_fetch_sub_explicit(&gate->connections, 1, memory_order_relaxed);
    if (client)
        weir_gate_unname(gate, client);
}
