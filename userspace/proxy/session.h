/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session.h: one client connection: accept, TLS, codec, one request after the other, close.
 *
 *   accept ──▶ HANDSHAKE ──▶ HEAD ──on_begin──▶ ACTIVE ──request done──▶ IDLE ──byte──▶ HEAD …
 *                                                  │ done, not reusable      │ timeout, pressure
 *                                                  ▼                         ▼
 *                                               CLOSING (flush, FIN, read away) ──▶ closed
 */
#ifndef PROXY_SESSION_H
#define PROXY_SESSION_H

#include "http/h1.h"
#include "proxy/worker.h"

struct weir_req;
struct weir_tunnel;

/** Bytes that came while the request before them was not done; and the call that feeds them. */
struct weir_held {
    struct weir_buf bytes;
    struct weir_later later;
    struct weir_session *session;
};

/* There may be very many, and most of them idle: what they are made of is packed. */
struct weir_session {
    uint32_t magic;
    uint8_t state;
    bool eof : 1;    /* the client has sent FIN */
    bool broken : 1; /* the stream has failed */
    bool closed : 1; /* weir_stream_close was called */
    bool feeding : 1;
    bool counted_client : 1;
    bool peer_v4 : 1, peer_unix : 1;
    uint16_t local_port; /* of the address that it came to; 0: a UNIX socket */
    struct weir_list link;
    struct weir_wlistener *wl;
    struct weir_stream *stream;
    struct weir_h1 h1;
    struct weir_req *req;
    struct weir_held *held;
    struct weir_tunnel *tunnel; /* has taken the stream's events */
    uint64_t since_ms;          /* in this state */
    uint64_t born_ms;
    uint64_t bytes_in, bytes_out;
    uint32_t requests;
    uint32_t lingered; /* bytes read away */
    uint32_t unsent;   /* at the last look at a closing session; at most UINT32_MAX */
    uint16_t stalls; /* such looks in a row that saw the client read nothing; at most UINT16_MAX */
    struct {         /* the TCP peer, 18 bytes instead of a sockaddr */
        uint16_t port;
        uint8_t ip[16];
    } peer;
};
_Static_assert(sizeof(struct weir_session) <= 240, "an idle connection is small");
#define WEIR_SESSION_MAGIC 0x77736573u

/** A connection was accepted by one of a weir_wlistener's `socks`. Takes the descriptor. */
void weir_session_accept(const struct weir_lsock *lsock, int fd, const struct sockaddr *peer,
                         socklen_t len);
/**
 * The request of this session is over; `reusable`: the next may come; `cut`: the answer was begun
 * and not finished; `finished`: the client has said all that it will say (it asked to close, and
 * its request is whole): nothing can come that a close would answer with RST.
 */
void weir_session_request_done(struct weir_session *session, bool reusable, bool cut,
                               bool finished);
/** Ends the connection: `reset` by RST, so that a cut answer is not taken for a whole one. */
void weir_session_close(struct weir_session *session, bool reset);
/** The tunnel takes over: the codec is done; what was held goes to `held` (may stay empty). */
void weir_session_tunnel(struct weir_session *session, struct weir_tunnel *tunnel,
                         struct weir_buf *held);
void weir_session_addr(const struct weir_session *session, struct weir_addr *addr);
/* What session_sweep.c needs of session.c. */
void weir_session_set_state(struct weir_session *session, enum weir_session_state next);
/** Answered, and not to be used again: FIN, and what the client still sends is read away for a while. */
void weir_session_linger(struct weir_session *session);
/** No request is in progress: goes, at once when nothing is on its way to the client. */
void weir_session_end(struct weir_session *session);
/** The oldest idle one with nothing on the way; NULL: none among the first ones. */
struct weir_session *weir_sessions_oldest_quiet(struct weir_wlistener *wl);

/* session_sweep.c */
/** Closes sessions whose time is over, oldest first; under memory pressure the oldest idle ones as
 * well. */
void weir_sessions_sweep(struct weir_wlistener *wl);
/** Drain: idle ones go now, others after their answer. */
void weir_sessions_drain(struct weir_wlistener *wl);
void weir_sessions_close_all(struct weir_wlistener *wl);

#endif
