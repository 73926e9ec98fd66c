/* SPDX-License-Identifier: Apache-2.0 */
/**
 * door.h: a listener by its name: what outlives a reload. Its counters and those of its routes, its limits, what it has
 * said, and the connections that came to it (a struct weir_wlistener a worker). What happens to them is the word of the
 * snapshot in force: a struct weir_listener (snapshot.h).
 *
 * Counted by the snapshots that have a listener of that name, on the service's thread; so are the rows of routes.
 */
#ifndef PROXY_DOOR_H
#define PROXY_DOOR_H

#include "base/list.h"
#include "base/log_rate.h"
#include "http/guard.h"
#include "http/h2.h"
#include "proxy/gate.h"
#include "proxy/stats.h"

struct weir_worker;
struct weir_listener;

/* Where a client connection is; each state is a list in order of time, so that one timer checks the
 * oldest of each. */
enum weir_session_state {
    WEIR_SESSION_HANDSHAKE, /* TLS; deadline timeouts.handshake */
    WEIR_SESSION_HEAD,      /* waiting for (the rest of) a head; deadline timeouts.head */
    WEIR_SESSION_IDLE,      /* between requests; timeouts.keepalive */
    WEIR_SESSION_ACTIVE,    /* a request has it; the request has its own timer */
    WEIR_SESSION_CLOSING, /* answered, flushing or lingering; WEIR_DRAIN_LINGER_MS or timeouts.send
                           */
    WEIR_SESSION_TUNNEL, /* bytes alone, and no request any more (tunnel_light.h); timed by itself */
    WEIR_SESSION_STATES,
};

/** A listener on one worker. */
struct weir_wlistener {
    struct weir_worker *worker;
    struct weir_door *door;
    const struct weir_listener *listener; /* in force here; its snapshot is held. NULL: not yet */
    struct weir_list link;                /* worker->listeners */
    struct weir_list sessions[WEIR_SESSION_STATES];
    struct weir_listener_stats stats;
    weir_counter idle; /* sessions between requests */
    _Atomic uint64_t
        room_wanted; /* as many of them are to go, for newcomers elsewhere: any thread */
    bool leaving;    /* the listener is no more: no new connections, each ends after its answer */
    uint64_t leave_ms;
    /* Of `listener`, copied: codecs of connections point here. */
    struct weir_guard_limits guard;
    struct weir_h2_limits h2;
};

/** The counters of a route by its name; the name of those that no route matches is "". */
struct weir_route_row {
    struct weir_list link;
    unsigned refs;
    unsigned nth; /* of several of that name */
    char *name;
    struct weir_route_stats at[]; /* by worker */
};

struct weir_door {
    char *name;
    unsigned refs, workers;
    struct weir_list rows;
    struct weir_gate gate;                              /* its own limits */
    struct weir_log_rate refusals[WEIR_REFUSALS_COUNT]; /* by enum weir_refusal */
    struct weir_wlistener at[];                         /* by worker */
};

/** `all`: the workers, a row of them. NULL without memory. */
struct weir_door *weir_door_new(struct weir_str name, struct weir_worker *all, unsigned workers);
static inline struct weir_door *weir_door_get(struct weir_door *door)
{
    door->refs++;
    return door;
}
void weir_door_put(struct weir_door *door);
/** The row of a route, counted; NULL without memory. */
struct weir_route_row *weir_door_row(struct weir_door *door, struct weir_str name, unsigned nth);
void weir_route_row_put(struct weir_route_row *row);

#endif
