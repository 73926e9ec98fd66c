/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2.h: HTTP/2 (RFC 9113), both roles, by nghttp2 with a guard before and behind it, for what nghttp2 does not check.
 * Many exchanges at a time; each has its own window, which follows what its holder consumes, so that one that is not
 * read holds nobody else back.
 *
 *   h2_shared.c  what a worker's sessions share                      h2.c         the session: feed, flush, the vtable
 *   h2_exchange.c  streams as their holders see them
 *   h2_in.c      frames to events                                    h2_guard.c   heads that RFC 9113 8 forbids (pure)
 *   h2_send.c    messages to queues          h2_nv.c  their heads    h2_frame.c   queues to frames, one gathered output
 *   h2_window.c  what the peer may send                              h2_abuse.c   budgets of frames that cost us more than the peer
 *   h2_priority.c  whose DATA goes first
 *
 * The model is that of h1, so that the machine knows no difference: `:authority` is msg->host, never a Host field; a body
 * without a Content-Length is WEIR_BODY_CHUNKED; Cookie crumbs are joined. An extended CONNECT (RFC 8441) is a GET with
 * msg->upgrade set; its answer is 101 with WEIR_BODY_TUNNEL (200 on the wire). After the head of a tunnel DATA comes as
 * on_body, and is sent as body, until END on either side.
 *
 * The request of a tunnel (CONNECT, plain or extended) has no body: on_end follows its head. What the peer sends before the
 * tunnel is granted is kept, within the window, and given in the flush after the head that grants it; on_end comes once
 * more, when the peer ends its side. A request for a tunnel that is sent with WEIR_SEND_END leaves our side open.
 *
 * on_begin comes with the first bytes of a head, since its arena takes the fields. Malformed requests: then on_reset with
 * why (the stream is reset already; what is sent on it is dropped). A head that is merely too large, a target that is too
 * long, an expectation that is unknown: on_reset, and the machine answers. done() is called for every exchange, also
 * after reset(). shutdown() sends its second GOAWAY when a PING came back, or in the first call after a second (a flush of
 * the holder's timer). A fault that ends the connection may show only in the flush: weir_codec_over() is true after it.
 */
#ifndef HTTP_H2_H
#define HTTP_H2_H

#include "base/slab.h"
#include "http/codec.h"
#include "http/guard.h"

/** What a peer may cost (INTERFACE, limits); per connection. 0: the default. */
struct weir_h2_limits {
    uint32_t streams; /* concurrent ones that a client may open; 100 */
    uint32_t
        resets_per_minute;     /* streams that end by RST_STREAM, the peer's or for its faults; 100.
                              Of a server's: what is more than one for each request */
    uint32_t pings_per_minute; /* PING, SETTINGS, PRIORITY_UPDATE and the like, each; 60 */
};

/** Of one worker, for all its h2 connections: memory that none needs between two calls. */
struct weir_h2_shared {
    struct weir_slab streams;
    struct weir_slab sessions;
    struct weir_buf_cache *bufs;
    const uint64_t *now_ms; /* of the loop */
    uint8_t *frame;         /* nghttp2's frame buffer, lent to whoever frames */
    uint8_t *output;        /* where small frames are gathered */
    void *callbacks;        /* nghttp2_session_callbacks, options: made once */
    void *server_option, *client_option;
    void *spare;  /* memory for when there is none */
    bool lending; /* a session is being made: its frame buffer is `frame` */
    bool tight; /* the owner's: memory is short, windows shrink (weir_hstream_hold tells the end) */
};

/** 0 or WEIR_ENOMEM. `bufs` and `now_ms` outlive it. */
int weir_h2_shared_init(struct weir_h2_shared *shared, struct weir_buf_cache *bufs,
                        const uint64_t *now_ms) __attribute__((warn_unused_result));
void weir_h2_shared_fini(struct weir_h2_shared *shared);
/** Gives pages back that a burst has left. */
void weir_h2_shared_trim(struct weir_h2_shared *shared);

/** One connection. Its first member is the codec: weir_codec_* and weir_hstream_* work on it. */
struct weir_h2;

/**
 * Frames of the connection's begin (SETTINGS) are output by the first flush; the sink's on_wanted is said inside this
 * call. `limits` (heads) and `abuse` outlive it. NULL: out of memory.
 */
struct weir_h2 *weir_h2_new_server(struct weir_h2_shared *shared,
                                   const struct weir_guard_limits *limits,
                                   const struct weir_h2_limits *abuse,
                                   const struct weir_codec_sink *sink, void *arg);
struct weir_h2 *weir_h2_new_client(struct weir_h2_shared *shared,
                                   const struct weir_guard_limits *limits,
                                   const struct weir_h2_limits *abuse,
                                   const struct weir_codec_sink *sink, void *arg);
/** Not inside an event. Exchanges that are still open hear nothing. */
void weir_h2_free(struct weir_h2 *h2);
struct weir_codec *weir_h2_codec(struct weir_h2 *h2);

/** How long a way to the peer and back takes, when it is known before HTTP/2 begins (0: it is not): it says how much of a
 * body may be on its way. */
void weir_h2_set_rtt(struct weir_h2 *h2, uint32_t rtt_ms);
/** Client role: the scheme of requests is https; else http. */
void weir_h2_secure(struct weir_h2 *h2, bool secure);
/** Server role: the preface has not come whole, or a header block is not whole: for the head's deadline. */
bool weir_h2_in_head(const struct weir_h2 *h2);
/** Since when (loop time): of the block that comes now, whatever was whole before it. */
uint64_t weir_h2_head_ms(const struct weir_h2 *h2);
/** Server role: the last GOAWAY, now, with the code for `why` (WEIR_OK: NO_ERROR); then weir_codec_over is true. */
void weir_h2_goodbye(struct weir_h2 *h2, enum weir_err why);
/** Server role: streams are open, whatever the holder let go: what it sent on them has not all left, or their requests are
 * not whole. Such a connection is not to be ended without need. */
bool weir_h2_busy(const struct weir_h2 *h2);
/** Bytes of all exchanges that wait for the peer's windows: such a connection is not idle, whatever the holder let go. */
size_t weir_h2_queued(const struct weir_h2 *h2);

/** Client role: how many more exchanges the peer lets us open now. 0 after GOAWAY. Before its SETTINGS have come: 100. */
unsigned weir_h2_room(const struct weir_h2 *h2);
/** The same of a connection that has none open. */
unsigned weir_h2_room_max(const struct weir_h2 *h2);
/** Client role: its SETTINGS have come. Then: does it take extended CONNECT (RFC 8441)? */
bool weir_h2_settled(const struct weir_h2 *h2);
bool weir_h2_takes_upgrade(const struct weir_h2 *h2);
/** Client role: GOAWAY has come, or ids are used up: no new exchange will ever fit. */
bool weir_h2_closing(const struct weir_h2 *h2);
/** Sends a PING. */
void weir_h2_ping(struct weir_h2 *h2);
/** When anything came last (loop time); and when HEADERS or DATA did, 0: not yet. */
uint64_t weir_h2_alive_ms(const struct weir_h2 *h2);
uint64_t weir_h2_spoke_ms(const struct weir_h2 *h2);

/** Why feed said WEIR_EFLOOD. One row each: id, name for a counter. */
#define WEIR_H2_ABUSES(X)                                                                       \
    X(NONE, "none")     /* no budget is exceeded */                                             \
    X(RESETS, "resets") /* streams reset, by the peer or for its faults */                      \
    X(PINGS, "pings")                                                                           \
    X(SETTINGS, "settings")                                                                     \
    X(PRIORITIES, "priorities")       /* PRIORITY, PRIORITY_UPDATE */                           \
    X(WINDOWS, "window_updates")      /* more than what we sent is worth */                     \
    X(EMPTY, "empty_data")            /* DATA without bytes or END_STREAM */                    \
    X(UNKNOWN, "unknown_frames")      /* and GOAWAY */                                          \
    X(CONTINUATIONS, "continuations") /* frames or bytes of one header block */                 \
    X(HEADERS, "header_list")         /* a head far over its limits, once decoded */            \
    X(ACKS, "acks_unread")            /* SETTINGS and PING whose ACKs the peer does not read */ \
    X(FRAMES, "frames_unread")        /* frames of any kind that it does not read */
#define WEIR_H2_ABUSE_ENUM(id, name) WEIR_H2_ABUSE_##id,
enum weir_h2_abuse { WEIR_H2_ABUSES(WEIR_H2_ABUSE_ENUM) WEIR_H2_ABUSE_COUNT };
#undef WEIR_H2_ABUSE_ENUM
enum weir_h2_abuse weir_h2_abused(const struct weir_h2 *h2);
/** Static. */
const char *weir_h2_abuse_name(enum weir_h2_abuse why);

/** Do these bytes begin like the client preface (RFC 9113 3.4)? 1: yes, all of them that matter are there; 0: they may; -1: no. */
int weir_h2_preface(const uint8_t *data, size_t len);

#endif
