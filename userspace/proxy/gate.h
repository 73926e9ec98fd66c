/* SPDX-License-Identifier: Apache-2.0 */
/**
 * gate.h: the limits of connections of one scope: of the whole proxy, or of one listener that has
 * stricter ones. A connection passes the proxy's gate and its listener's, and leaves both. Any
 * thread.
 */
#ifndef PROXY_GATE_H
#define PROXY_GATE_H

#include "proxy/client_count.h"

#include <stdatomic.h>
#include <stdint.h>

struct weir_gate {
    _Atomic int64_t connections_max; /* <= 0: no limit */
    _Atomic int64_t per_client_max;  /* <= 0: no limit */
    /* NULL as long as there was no per_client_max. Who came before that is not counted, and takes one from the count of
     * others of his address when he goes: for a while there may be more of them than they may be. */
    _Atomic(struct weir_client_counts *) clients;
    _Atomic int64_t connections;
};

/** 0 or WEIR_ENOMEM. */
int weir_gate_init(struct weir_gate *gate, int64_t connections_max, int64_t per_client_max)
    __attribute__((warn_unused_result));
/** Other limits; who is there stays. Any thread, one at a time. */
void weir_gate_set(struct weir_gate *gate, int64_t connections_max, int64_t per_client_max);
void weir_gate_fini(struct weir_gate *gate);

enum weir_gate_verdict {
    WEIR_GATE_OPEN,
    WEIR_GATE_CROWDED,    /* connections_max is passed by this one: it is counted, and leaves unless
                             another one goes instead */
    WEIR_GATE_PER_CLIENT, /* not counted */
};
/** `client` is who comes; UNIX peers have no limit of their own. NULL: not known yet, weir_gate_name tells. */
enum weir_gate_verdict weir_gate_enter(struct weir_gate *gate, const struct weir_addr *client);
/** Who it is that has entered as NULL, and leaves as that; false, and nothing counted, when it is there too often. */
bool weir_gate_name(struct weir_gate *gate, const struct weir_addr *client);
void weir_gate_unname(struct weir_gate *gate, const struct weir_addr *client);
/** What was counted by weir_gate_enter and weir_gate_name. */
void weir_gate_leave(struct weir_gate *gate, const struct weir_addr *client);

#endif
