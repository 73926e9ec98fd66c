/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pool.h: connections to servers: idle ones of this worker (last in, first out), ones given by
 * other workers, new ones.
 *
 *   acquire ──▶ own idle? ──▶ another worker has one? ask it ──▶ connect (TLS) ──▶ fn
 *
 * An idle connection stays registered with its loop: FIN, RST or stray bytes close it at once. A
 * pool belongs to one server of one cluster: TLS settings, source and name are its cluster's, so
 * they need no comparing; connections to an address that the server has no more are closed. A
 * connection moves between workers only when its owner gives it.
 *
 *   connecting ──▶ ready ──▶ held ──release──▶ (releasing) ──▶ idle ──▶ ready | giving
 *                                └──detach──▶ detached          any ──▶ closing
 *
 * releasing: given back inside an event of its own; what follows in the same bytes decides whether
 * it may be idle.
 */
#ifndef UPSTREAM_POOL_H
#define UPSTREAM_POOL_H

#include "http/h1.h"
#include "upstream/cluster.h"

struct weir_upmux;

/** A connection to a server with its codec. Held by one exchange at a time on h1. */
struct weir_upconn {
    uint32_t magic;
    uint8_t state;
    bool reused;   /* it has served an exchange before this one */
    bool no_pool;  /* NTLM, Negotiate, a tunnel, an error: never reused */
    bool eof;      /* the server has sent FIN */
    bool dead;     /* the stream has failed */
    bool in_event; /* an event of the stream is being handled: memory and codec stay */
    bool paused;   /* the codec asked not to be fed */
    bool slot;     /* it counts in connections_max */
    bool late;     /* it ended while no exchange was open: the next sender is told */
    bool own;      /* made for one acquire: nobody else is ever given it */
    bool raw;      /* bytes alone: no codec, and not read before it is detached */
    bool
        http1; /* for one who can use no other, of a server that chooses HTTP/2: serves nobody else */
    int fault;             /* dead: enum weir_err */
    struct weir_list link; /* idle: of the server's idle ones; else of the view's busy ones */
    struct weir_list lru;  /* idle: of all the view's idle ones, newest first */
    struct weir_cluster_view *view;
    struct weir_server *server;
    struct weir_stream *stream;
    struct weir_codec *codec; /* what exchanges are opened on: of h1, or of mux */
    struct weir_upmux *mux;   /* this is one of many on a connection of HTTP/2; NULL: all of one */
    struct weir_h1 h1;        /* client role */
    struct weir_hstream hs;   /* the exchange in progress */
    uint64_t born_ms, idle_since_ms;
    uint64_t requests;
    uint64_t bytes_in, bytes_out; /* since it was acquired */
    uint32_t connect_us; /* how long it took to connect; 0 when reused; connecting: since when */
    struct weir_addr addr;
    uint32_t epoch;           /* of the server's addresses when this one was last among them */
    struct weir_buf rest;     /* bytes that the codec left: after a 101 they belong to the tunnel */
    struct weir_timer timer;  /* connecting: its deadline */
    struct weir_later later;  /* feeds `rest`, or tells a late sender that the stream has ended */
    struct weir_acquire *acq; /* connecting, ready: for whom; NULL: for the pool */
    struct weir_ask *ask;     /* giving: for whom */
};
#define WEIR_UPCONN_MAGIC 0x77757063u

struct weir_acquire;
struct weir_ask; /* a question to another worker */
/** `conn` NULL: *error says why. Never inside weir_pool_acquire. The connection is the caller's. */
typedef void (*weir_acquire_fn)(void *arg, struct weir_upconn *conn,
                                const struct weir_error *error);

struct weir_acquire_opts {
    uint32_t connect_timeout_ms; /* TCP and TLS; 0: WEIR_CONNECT_TIMEOUT_MS */
    uint32_t queue_timeout_ms;   /* with connections_max; 0: 1 s */
    bool fresh;   /* not an idle one: the request was on a reused connection that had died */
    bool upgrade; /* it asks for one: not HTTP/2 where that is known to take none (RFC 8441) */
    bool http1;   /* not HTTP/2: it was refused there. Both matter with WEIR_UPSTREAM_AUTO alone */
    bool raw;     /* a new one without a codec: to be detached, or released, which closes it */
    /** A PROXY header for it, borrowed until fn or weir_pool_cancel: a new one, never pooled; absent: none. */
    struct weir_str first;
};

/** In the caller's memory, zeroed, until fn was called or weir_pool_cancel. */
struct weir_acquire {
    struct weir_list link;
    struct weir_cluster_view *view;
    struct weir_server *server;
    struct weir_acquire_opts opts;
    weir_acquire_fn fn;
    void *arg;
    struct weir_timer timer;
    struct weir_later later;
    struct weir_upconn *conn;
    struct weir_error error;
    uint8_t state;
    uint64_t started_us;
    uint8_t asks;         /* questions asked so far */
    uint8_t connects;     /* addresses tried so far */
    struct weir_ask *ask; /* the question in flight */
};

/**
 * A connection to `server`. An idle one of this worker is returned at once (fn is not called); else
 * NULL, and fn comes. The holder sets conn->hs.{sink,arg,arena}, calls
 * weir_codec_open(conn->codec, &conn->hs) and sends; events of the exchange come to that sink,
 * also on_reset when the connection breaks.
 */
struct weir_upconn *weir_pool_acquire(struct weir_acquire *acq, struct weir_cluster_view *view,
                                      struct weir_server *server,
                                      const struct weir_acquire_opts *opts, weir_acquire_fn fn,
                                      void *arg);
/** The caller is gone: fn will not be called. A connection that is being made goes to the pool when
 * it is there. */
void weir_pool_cancel(struct weir_acquire *acq);
/** Gives a connection back; it is reused when the exchange is done, the codec idle and nothing
 * speaks against it. */
void weir_pool_release(struct weir_upconn **connp);
/**
 * Takes the stream out of a connection for a tunnel; the connection is gone, the stream is the
 * caller's to close. The caller sets its sink (and reads) before it returns to the loop; it has not
 * ended the exchange before (no done, no reset), and has looked at conn->eof: that is not told
 * again. What had come behind the 101 is moved to `rest` (NULL: dropped). Called inside an event of
 * the exchange (on_head), those bytes are not known yet: they come as the stream's first on_data,
 * as soon as the event returns.
 */
struct weir_stream *weir_pool_detach(struct weir_upconn **connp, struct weir_buf *rest);
/** What a tunnel goes on to count in: the active connections of a server, and connections_max.
 * 0-filled: none. */
struct weir_pool_token {
    struct weir_cluster_view *view;
    struct weir_server *server;
    bool slot;
};
/** Before weir_pool_detach. The view is not to be freed before weir_pool_token_put. */
void weir_pool_token_take(struct weir_upconn *conn, struct weir_pool_token *token);
/** One that another process had taken: it counts here from now on. `view` may be NULL: nowhere. */
void weir_pool_token_resume(struct weir_pool_token *token);
/** The stream has closed. Harmless when nothing was taken. */
void weir_pool_token_put(struct weir_pool_token *token);
/** Does this head authenticate the connection rather than the request (NTLM, Negotiate)? Then set
 * conn->no_pool. */
bool weir_pool_is_connection_auth(const struct weir_message *msg);

#endif
