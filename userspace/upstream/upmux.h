/* SPDX-License-Identifier: Apache-2.0 */
/**
 * upmux.h: connections of HTTP/2 to a server, beside the pool of those of HTTP/1.1. Each serves many exchanges; the
 * holder of one has a lease: a weir_upconn of its own whose codec is that of the connection. A connection stays with the
 * worker that opened it, and never moves.
 *
 *   open ──GOAWAY, old, worn, its server drains──▶ retiring ──the last lease ends──▶ closing ──on_closed──▶ gone
 *     └──────────FIN, an error, no answer to a PING, idle too long───────────────────▲      (when no lease is left)
 *
 *   upmux.c       one connection: its stream, its codec, its end
 *   upmux_line.c  which connection is used, who waits for one, what a server is known to speak
 */
#ifndef UPSTREAM_UPMUX_H
#define UPSTREAM_UPMUX_H

#include "http/h2.h"
#include "upstream/acquire.h"

enum {
    UPMUX_MAX = 64,           /* to one server by one worker, retiring ones apart */
    UPMUX_ROOM = 100,         /* exchanges of a connection that is not there yet */
    UPMUX_QUIET_MS = 10000,   /* nothing heard: PING; so long again: dead */
    UPMUX_ASK_MS = 310000,    /* another PING to a server that says nothing: see may_ping() */
    UPMUX_SPARE_MS = 5000,    /* an idle one beside others that have room */
    UPMUX_FRESH_MS = 1000,    /* one this young has not idled */
    UPMUX_TURN_MS = 100,      /* after which a slot goes to another worker that waits for one */
    UPMUX_SPEAKS_MS = 300000, /* HTTP/1.1 by ALPN is believed so long */
};

struct weir_upmux {
    uint32_t magic;
    bool in_event; /* inside the codec: what ends meanwhile is looked at when it has returned */
    bool paused;   /* the codec asked not to be fed */
    bool retiring; /* no new leases */
    bool dead;     /* nothing comes any more; `fault` says why, WEIR_OK: FIN */
    bool told;     /* and the codec knows */
    bool measured; /* the server has said how many exchanges it takes */
    bool closing;  /* the stream is being closed */
    bool closed;   /* and is gone */
    bool slot;     /* it counts in connections_max */
    int fault;
    struct weir_list link; /* of the server's open ones, oldest first; else of nothing */
    struct weir_list idle; /* of all the view's without a lease, newest first */
    struct weir_cluster_view *view;
    struct weir_server *server;
    struct weir_stream *stream;
    struct weir_h2 *h2;
    unsigned leases;
    unsigned ready; /* leases whose holders learn of them at the end of the turn: not open yet */
    uint64_t requests;
    uint64_t born_ms, idle_since_ms, busy_since_ms, pinged_ms;
    uint64_t due_ms; /* of the timer, when it is armed */
    uint32_t connect_us;
    struct weir_addr addr;
    uint32_t epoch;
    struct weir_timer timer; /* idle, old, quiet */
    struct weir_later flush; /* at the end of the turn */
};
#define WEIR_UPMUX_MAGIC 0x77757078u

/* upmux.c */
/** A connection that has been made speaks HTTP/2: it becomes a mux, and serves who waits. */
void weir_upmux_open(struct weir_upconn *conn);
/** An exchange more on it. NULL: no memory. */
struct weir_upconn *weir_upmux_lease_new(struct weir_upmux *mux);
/** The holder lets go, in whatever state the exchange is. */
void weir_upmux_release(struct weir_upconn *lease);
/** No new leases; it closes with the last one. */
void weir_upmux_retire(struct weir_upmux *mux);
/** An idle one. */
void weir_upmux_close(struct weir_upmux *mux);
/** How many more leases it can give. */
unsigned weir_upmux_room(const struct weir_upmux *mux);

/** Its holder learns of the lease now. False: it can open no exchange any more. */
static inline bool weir_upmux_take(struct weir_upconn *lease)
{
    struct weir_upmux *mux = lease->mux;

    if (mux->closing || mux->dead || !weir_h2_room(mux->h2))
        return false;
    mux->ready--;
    return true;
}

/* upmux_line.c */
/** Which protocol a server is expected to speak, before there was a connection. */
void weir_upmux_init(struct weir_cluster_view *view, struct weir_server_view *sv);
/** What a connection that has been made speaks; remembered. UPSPEAKS_UNKNOWN: not what was asked for. */
enum weir_upspeaks weir_upmux_learn(const struct weir_upconn *conn);
/** Has this one to have HTTP/1.1, though the server chooses HTTP/2? */
bool weir_upmux_avoids(const struct weir_cluster_view *view, const struct weir_server_view *sv,
                       const struct weir_acquire_opts *opts);
/** A lease on the first connection with room; `fresh`: that has not idled. NULL: there is none. */
struct weir_upconn *weir_upmux_lease(struct weir_server_view *sv, bool fresh);
/** Room has come, or gone: those that wait, in order. Not while the line is being walked. */
void weir_upmux_serve(struct weir_cluster_view *view, struct weir_server_view *sv);
/** How many may wait for connections that others are making. */
unsigned weir_upmux_supply(const struct weir_cluster_view *view, struct weir_server_view *sv);
/** As many connections as make sense. */
bool weir_upmux_full(const struct weir_server_view *sv);
/** No new leases on all, or on those whose server or address is not to be used any more. */
void weir_upmux_purge(struct weir_cluster_view *view, struct weir_server_view *sv, bool all);
/** Another worker waits for a slot of connections_max that an idle connection of ours holds. */
void weir_upmux_yield(struct weir_server_view *sv);
/** The same, asked of the others; and of ourselves, if ours do not do. */
void weir_upmux_ask_slot(struct weir_cluster_view *view, struct weir_server_view *sv, bool fresh);

#endif
