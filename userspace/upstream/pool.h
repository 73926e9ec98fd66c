/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pool.h: connections to servers: idle ones of this worker (last in, first out), ones given by other workers, new ones.
 *
 *   acquire ──▶ own idle? ──▶ another worker has one? ask it ──▶ connect (TLS) ──▶ fn
 *
 * An idle connection stays registered with its loop: FIN, RST or stray bytes close it at once. The full key is compared
 * (server, address, TLS context, source). A connection moves between workers only when its owner gives it.
 */
#ifndef UPSTREAM_POOL_H
#define UPSTREAM_POOL_H

#include "http/h1.h"
#include "upstream/cluster.h"

/** A connection to a server with its codec. Held by one exchange at a time on h1. */
struct weir_upconn {
    uint32_t magic;
    uint8_t state;
    bool reused;                 /* it has served an exchange before this one */
    bool no_pool;                /* NTLM, Negotiate, a tunnel, an error: never reused */
    bool eof;                    /* the server has sent FIN */
    struct weir_list link;
    struct weir_cluster_view *view;
    struct weir_server *server;
    struct weir_stream *stream;
    struct weir_h1 h1;           /* client role; its codec is what exchanges use */
    struct weir_hstream hs;      /* the exchange in progress */
    uint64_t born_ms, idle_since_ms;
    uint64_t requests;
    uint64_t bytes_in, bytes_out; /* since it was acquired */
    uint32_t connect_us;         /* how long it took to connect; 0 when reused */
    struct weir_addr addr;
};
#define WEIR_UPCONN_MAGIC 0x77757063u

struct weir_acquire;
/** `conn` NULL: *error says why. Never inside weir_pool_acquire. The connection is the caller's. */
typedef void (*weir_acquire_fn)(void *arg, struct weir_upconn *conn, const struct weir_error *error);

struct weir_acquire_opts {
    uint32_t connect_timeout_ms, queue_timeout_ms;
    bool fresh; /* not an idle one: the request was on a reused connection that had died */
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
    uint64_t token; /* pairs an answer of another worker with the question: it may come after a cancel */
};

/**
 * A connection to `server`. An idle one of this worker is returned at once (fn is not called); else NULL, and fn comes.
 * The holder sets conn->hs.{sink,arg,arena}, calls weir_codec_open(&conn->h1.codec, &conn->hs) and sends; events of the
 * exchange come to that sink, also on_reset when the connection breaks.
 */
struct weir_upconn *weir_pool_acquire(struct weir_acquire *acq, struct weir_cluster_view *view, struct weir_server *server,
                                      const struct weir_acquire_opts *opts, weir_acquire_fn fn, void *arg);
/** The caller is gone: fn will not be called. A connection that is being made goes to the pool when it is there. */
void weir_pool_cancel(struct weir_acquire *acq);
/** Gives a connection back; it is reused when the exchange is done, the codec idle and nothing speaks against it. */
void weir_pool_release(struct weir_upconn **connp);
/** Takes the stream out of a connection for a tunnel; the connection is gone, the stream is the caller's to close. */
struct weir_stream *weir_pool_detach(struct weir_upconn **connp);

#endif
