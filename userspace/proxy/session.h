/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session.h: one client connection: accept, TLS, codec, requests, close.
 *
 *   accept ──▶ HANDSHAKE ──▶ HEAD ──on_begin──▶ ACTIVE ──request done──▶ IDLE ──byte──▶ HEAD …
 *                                                  │ done, not reusable      │ timeout, pressure
 *                                                  ▼                         ▼
 *                                               CLOSING (flush, FIN, read away) ──▶ closed
 *
 * ALPN or the first bytes choose the codec: h1 has one request after the other, h2 many at a time (session_mux.c); those
 * in progress are the list `reqs`. A listener of `protocol: tcp` has no codec: its sessions go from HANDSHAKE to ACTIVE, with
 * one request that becomes a tunnel as soon as there is a connection to a server; nothing is read before (session_raw.c). When
 * that has lasted a moment the request goes, and the session is TUNNEL (tunnel_light.h).
 */
#ifndef PROXY_SESSION_H
#define PROXY_SESSION_H

#include "http/h1.h"
#include "http/h2.h"
#include "proxy/worker.h"

struct weir_req;
struct weir_tunnel;

/** Bytes that came while the request before them was not done; and the call that feeds them. */
struct weir_held {
    struct weir_buf bytes;
    struct weir_later later;
    struct weir_session *session;
    struct {
        bool known;
        uint8_t ip[16];
    } to; /* where the client had connected to, as a PROXY header said; kept where a server is told */
};

/** A tunnel without a request, where the codec would be (tunnel_light.h). */
struct weir_light {
    struct weir_splice_owner owner;
    struct weir_splice splice;
    struct weir_light_more *more;
    uint64_t began_us;
};

enum weir_session_stage { WEIR_STAGE_NONE, WEIR_STAGE_PROXY, WEIR_STAGE_HELLO };

/* There may be very many, and most of them idle: what they are made of is packed. */
struct weir_session {
    uint32_t magic;
    uint8_t state : 3;
    bool eof : 1;    /* the client has sent FIN */
    bool broken : 1; /* the stream has failed */
    bool closed : 1; /* weir_stream_close was called */
    bool feeding : 1;
    bool sniffed : 1;     /* which protocol it is is known */
    bool multiplexed : 1; /* h2: `mux` is in force, not `h1` */
    uint8_t stage : 2;    /* enum weir_session_stage: what comes before its protocol */
    bool admitted : 1;    /* it has passed the gates, and leaves them */
    bool proxied : 1;     /* a PROXY header may come, and is believed; until then it is nobody */
    bool told : 1;        /* it came */
    bool raw : 1;         /* protocol tcp: no codec, and one request, a tunnel from its beginning */
    bool peer_unix : 1;
    uint16_t local_port; /* of the address that it came to; 0: a UNIX socket */
    struct weir_list link;
    struct weir_wlistener *wl;
    struct weir_stream *stream;
    union {
        struct weir_h1 h1;
        struct {
            struct weir_h2 *h2;
            struct weir_later flush;
        } mux;
        struct weir_light light; /* in the state TUNNEL, and behind it */
    };
    struct weir_req *reqs; /* in progress; the newest first */
    struct weir_held *held;
    struct weir_tunnel *tunnel; /* has taken the stream's events, and frees the session */
    uint64_t since_ms;          /* in this state */
    uint32_t born_s;            /* of the loop's clock */
    uint32_t number;            /* of the connections of its worker; from 0 again after the last */
    uint64_t bytes_in, bytes_out;
    uint32_t requests;
    uint32_t lingered : 31; /* bytes read away */
    uint32_t
        stale : 1;   /* made under a snapshot that let others in: it ends with what it does now */
    uint32_t unsent; /* at the last look at a closing session; at most UINT32_MAX */
    uint16_t stalls; /* such looks in a row that saw the client read nothing; at most UINT16_MAX */
    struct {         /* the TCP peer, 18 bytes instead of a sockaddr */
        uint16_t port;
        uint8_t ip[16];
    } peer;
};
_Static_assert(sizeof(struct weir_session) <= 240, "an idle connection is small");
#define WEIR_SESSION_MAGIC 0x77736573u

/** A connection was accepted there. Takes the descriptor. */
void weir_session_accept(const struct weir_bound_at *at, int fd, const struct sockaddr *peer,
                         socklen_t len);
/** One that another process had accepted there, from this client: it is neither judged nor counted as new. Takes the descriptor;
 * NULL without memory. Its stream's sink and its state are for the caller to set. */
struct weir_session *weir_session_adopt(struct weir_wlistener *wl, int fd,
                                        const struct weir_addr *client, uint16_t local_port);
static inline struct weir_codec *weir_session_codec(struct weir_session *session)
{
    return session->multiplexed ? weir_h2_codec(session->mux.h2) : &session->h1.codec;
}
/** Is a header section begun and not whole? */
static inline bool weir_session_in_head(const struct weir_session *session)
{
    return session->multiplexed ? weir_h2_in_head(session->mux.h2) : weir_h1_in_head(&session->h1);
}
/** Is the request that it has, or the next one, its last? */
static inline bool weir_session_is_last(const struct weir_session *session)
{
    const struct weir_wlistener *wl = session->wl;

    return wl->leaving || wl->worker->draining || session->stale;
}
/** "HTTP/1.1", "HTTP/2", "tcp". */
struct weir_str weir_session_protocol(const struct weir_session *session);
/** A request begins on it. */
void weir_session_add(struct weir_session *session, struct weir_req *req);
/** The request knows its session no more, and it the request. */
void weir_session_part(struct weir_session *session, struct weir_req *req);
/**
 * A request of this session, parted, is over; `reusable`: the next may come; `cut`: the answer was begun
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
/* What session_accept.c, session_prefix.c, session_sweep.c and session_mux.c need of session.c. */
/** session->held is there. 0 or WEIR_ENOMEM. */
int weir_session_need_held(struct weir_session *session) __attribute__((warn_unused_result));
/** Keeps bytes that cannot be fed yet; the client waits meanwhile. 0 or WEIR_ENOMEM. */
int weir_session_hold(struct weir_session *session, const uint8_t *data, size_t len)
    __attribute__((warn_unused_result));
/** Nothing will be held any more. */
void weir_session_drop_held(struct weir_session *session);
/** What is held is fed at the end of the turn. */
void weir_session_feed_held(struct weir_session *session);
extern const struct weir_stream_sink weir_session_stream_sink;
/** Its stream has closed, or never came. */
void weir_session_free(struct weir_session *session);
extern const struct weir_codec_sink weir_session_codec_sink;
void weir_session_set_state(struct weir_session *session, enum weir_session_state next);
/** Answered, and not to be used again: FIN, and what the client still sends is read away for a while. */
void weir_session_linger(struct weir_session *session);
/** No request is in progress: goes, at once when nothing is on its way to the client. */
void weir_session_end(struct weir_session *session);

/* session_accept.c */
/** Who is at the other side of the proxy that speaks to us, and where it had connected to. 0 or WEIR_ENOMEM. */
int weir_session_set_client(struct weir_session *session, const struct weir_addr *from,
                            const struct weir_addr *to) __attribute__((warn_unused_result));
/** Now it is known who the client is: may it, and is it not there too often? False, and counted, when not. */
bool weir_session_admit_client(struct weir_session *session);
/** It counts as one of `to` from here on, whose limits are asked. False, and counted, when it may not come there. */
bool weir_session_move(struct weir_session *session, struct weir_wlistener *to);
/** It counts no more. */
void weir_session_leave(struct weir_session *session);

/* session_prefix.c */
/** Accepted, its TCP stream there: what comes before its protocol, or that at once. The session may be gone afterwards. */
void weir_session_begin(struct weir_session *session);
/** Bytes, and FIN, while a stage lasts. Likewise. */
void weir_session_prefix(struct weir_session *session, const uint8_t *data, size_t len);
void weir_session_prefix_eof(struct weir_session *session);

/* session_raw.c */
/** A connection of a tcp listener is there, its handshake done: its only request begins. `sni`: what a ClientHello that is
 * passed on asks for; NULL, or empty: nothing. */
struct weir_sni;
void weir_session_raw(struct weir_session *session, const struct weir_sni *sni);
/** It goes on as a connection of another listener of its worker (`to: "listener:NAME"`), with the bytes that it holds. */
void weir_session_hand_over(struct weir_session *session, struct weir_wlistener *to);

/* session_mux.c: what is different with many requests at a time. */
/** Which protocol do these first bytes speak? Chooses the codec. 0 when more must come, else 1, or WEIR_ENOMEM. */
int weir_session_sniff(struct weir_session *session, const uint8_t *data, size_t len);
/** HTTP/2 from the next byte on. 0 or WEIR_ENOMEM. */
int weir_session_multiplex(struct weir_session *session) __attribute__((warn_unused_result));
/** After whatever may have ended the last request or the codec: which state it is in now. */
void weir_session_settle(struct weir_session *session);
/** GOAWAY, for the reason `why` (WEIR_OK: none); then the connection ends. */
void weir_session_goodbye(struct weir_session *session, enum weir_err why);

/* session_sweep.c */
/** kernel.splice has been changed: all tunnels are told. */
void weir_sessions_splice(struct weir_wlistener *wl);
/** Memory is short, or not any more (worker->tight): all requests are told. */
void weir_sessions_press(struct weir_wlistener *wl);
/** Closes sessions whose time is over, oldest first; under memory pressure the oldest idle ones as
 * well. */
void weir_sessions_sweep(struct weir_wlistener *wl);
/** Drain: idle ones go now, others after their answer. */
void weir_sessions_drain(struct weir_wlistener *wl);
void weir_sessions_close_all(struct weir_wlistener *wl);
/** What they were let in by is not in force any more: they end as by weir_sessions_drain, those too that have not asked for
 * anything yet; others that come are none of them. */
void weir_sessions_expire(struct weir_wlistener *wl);

#endif
