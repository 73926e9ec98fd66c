/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_priv.h: what the files of the h2 codec share.
 *
 * A stream of ours (struct weir_h2_stream) lives while nghttp2 knows the stream or the holder has the exchange, whichever
 * is longer; `hs` is who listens. Events are given inside feed, flush, drained and eof: at once when bytes of the peer
 * cause them, and otherwise from the list of streams that are due something (weir_h2_settle).
 */
#ifndef HTTP_H2_PRIV_H
#define HTTP_H2_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "http/h2.h"

#include <nghttp2/nghttp2.h>

enum {
    H2_OUTPUT_BYTES = 64 * 1024, /* small frames of one output */
    H2_FRAME_BYTES = 20 * 1024,  /* at least what nghttp2 asks for its frame buffer */
    H2_FRAME_ASKED_MIN = 16384, /* so large is nothing else that a session allocates at its begin */
    H2_COPY_BYTES_MAX = 2048,   /* DATA up to this is copied behind its frame header */
    H2_LEND_BYTES_MIN = 4096,   /* a body from this on is framed at once, and not copied */
    H2_WINDOW_BYTES = 48 * 1024,   /* of a stream to a server, at first: what waits of it for a side
                                    that stands still, and what goes with it, is less than 64 KiB */
    H2_WINDOW_BYTES_LEAST = 16384, /* while memory is short: one frame */
    H2_CONN_WINDOW_BYTES = 64 << 20,
    H2_STREAM_WINDOW_BYTES_MAX = 16 << 20, /* of the only stream that brings a body */
    H2_STREAMS_WINDOW_BYTES_MAX = 8 << 20, /* of all of them, where there are more */
    H2_FAR_OVER = 4, /* a head so many times over its limit ends the connection */
    H2_STREAMS_UNSETTLED =
        100,               /* that we open before the peer's SETTINGS have come (RFC 9113 6.5.2) */
    H2_SHUTDOWN_MS = 1000, /* between the two GOAWAYs, when no PING comes back */
    H2_PRIORITIZED = 4,    /* streams that are told of before they began */
    H2_PRIORITY_BYTES_MAX = 60, /* of one PRIORITY_UPDATE: longer ones are passed over */
};

enum { H2_SERVER, H2_CLIENT };

/* What is expected from the peer. HELD: bytes of a tunnel that is not granted yet. */
enum h2_in { H2_IN_HEAD, H2_IN_BODY, H2_IN_HELD, H2_IN_DONE };

/* What the holder has sent. */
enum h2_out { H2_OUT_HEAD, H2_OUT_BODY, H2_OUT_DONE };

/* What a stream is due, outside of feed. */
enum { H2_DUE_FLUSH = 1, H2_DUE_DRAINED = 2, H2_DUE_RESET = 4, H2_DUE_HELD = 8 };

/* ---- heads (h2_guard.c) ---- */

enum h2_kind { H2_REQUEST, H2_ANSWER, H2_TRAILER };

/** One Cookie field of several. */
struct weir_h2_crumb {
    struct weir_h2_crumb *next;
    struct weir_str text;
};

/** A header section while its fields come; in the arena of its exchange. */
struct weir_h2_head {
    struct weir_message *msg;
    struct weir_str authority, target, protocol, status, host; /* absent: not there */
    struct weir_str length;
    struct weir_h2_crumb *crumbs, **crumbs_end;
    size_t crumbs_bytes;
    size_t bytes; /* as HTTP/1 would need for the fields */
    unsigned count;
    uint8_t kind;     /* enum h2_kind */
    bool regular;     /* a field that is not a pseudo field has come */
    bool prioritized; /* Priority (RFC 9218) */
    bool far_over;    /* of the limits: not one to be answered */
    bool crumbs_never_indexed;
    enum weir_err err; /* the first fault; what comes after it is passed over */
};

/** What an answer is judged by. */
struct weir_h2_asked {
    uint8_t method;          /* enum weir_method */
    struct weir_str upgrade; /* of an extended CONNECT, or absent */
};

/** NULL: no memory. */
struct weir_h2_head *weir_h2_head_new(struct weir_arena *arena, enum h2_kind kind);
/** One field, copied into the arena. Faults are kept in head->err. `never_indexed`: as its sender said. */
void weir_h2_head_field(struct weir_h2_head *head, struct weir_str name, struct weir_str value,
                        bool never_indexed, const struct weir_guard_limits *limits);
/** The section is whole; `end`: and so is the message. 0, and head->msg is what h1 would give; or an error. */
int weir_h2_guard_request(struct weir_h2_head *head, bool end);
int weir_h2_guard_answer(struct weir_h2_head *head, bool end, const struct weir_h2_asked *asked);
int weir_h2_guard_trailer(struct weir_h2_head *head);
/** A fault of the request that an answer of its own tells best (RFC 9110 15.5): not a malformed one. */
bool weir_h2_answerable(enum weir_err err);

/* ---- budgets (h2_abuse.c) ---- */

enum h2_bucket {
    H2_B_RESETS,
    H2_B_PINGS,
    H2_B_SETTINGS,
    H2_B_PRIORITIES,
    H2_B_WINDOWS,
    H2_B_EMPTY,
    H2_B_UNKNOWN,
    H2_BUCKETS
};

struct weir_h2_bucket {
    uint64_t at_ms;
    uint32_t tokens;
};

enum { H2_OPENED_WORDS = 4, H2_ENDED = 8 };

/** Reads the headers of frames along with nghttp2, and counts. */
struct weir_h2_watch {
    uint64_t opened[H2_OPENED_WORDS]; /* which of the last ids up to last_id were opened: a ring */
    uint32_t last_id;
    uint32_t ended[H2_ENDED]; /* the last streams whose end the peer has sent: a ring */
    uint32_t code;            /* of the connection error: see `broken` */
    struct weir_h2_bucket buckets[H2_BUCKETS];
    uint32_t skip;        /* of the payload of the frame that comes */
    uint32_t block_bytes; /* of the header block that comes */
    uint32_t sent_bytes;  /* not yet worth a WINDOW_UPDATE */
    uint32_t blocks;      /* header blocks begun */
    uint32_t asked;       /* client role: requests sent, as many resets of which are paid for */
    uint16_t block_frames;
    uint8_t header[9], header_len;
    uint8_t preface_left;
    bool server; /* our role */
    bool block;  /* HEADERS without END_HEADERS */
    bool broken; /* a frame that nghttp2 would pass over, and must not; for `code` */
    uint8_t ended_at;
    uint8_t served; /* streams, not yet worth a reset */
    uint8_t abuse;  /* enum weir_h2_abuse */
};

void weir_h2_watch_init(struct weir_h2_watch *watch, bool server);
/** Bytes of `data` that may be handed on: all, or up to the frame that was too much (watch->abuse is set then) or has no
 * place here (watch->broken). */
size_t weir_h2_watch_feed(struct weir_h2_watch *watch, const uint8_t *data, size_t len,
                          const struct weir_h2_limits *limits, size_t block_bytes_max,
                          uint64_t now_ms);
/** One event of that kind; false: that was too much. */
bool weir_h2_watch_take(struct weir_h2_watch *watch, enum h2_bucket bucket,
                        const struct weir_h2_limits *limits, uint64_t now_ms);
/** The same of a stream that ends by RST_STREAM, the peer's or for its fault. */
bool weir_h2_watch_reset(struct weir_h2_watch *watch, const struct weir_h2_limits *limits,
                         uint64_t now_ms);
/** Client role: a request went out. */
void weir_h2_watch_asked(struct weir_h2_watch *watch, const struct weir_h2_limits *limits);
/** DATA or HEADERS went out: what the peer may answer to it. */
void weir_h2_watch_sent(struct weir_h2_watch *watch, size_t bytes,
                        const struct weir_h2_limits *limits);

/** A stream has closed whose answer went out whole; `reset`: by the peer, which then had no more to wait for. */
void weir_h2_watch_served(struct weir_h2_watch *watch, bool reset,
                          const struct weir_h2_limits *limits);

/* ---- priorities (h2_priority.c) ---- */

struct weir_h2_priorities {
    struct {
        int32_t id; /* 0: none */
        uint8_t urgency;
        bool incremental;
    } early[H2_PRIORITIZED]; /* a ring */
    uint8_t early_at;
    uint8_t len, frame[H2_PRIORITY_BYTES_MAX]; /* the PRIORITY_UPDATE that comes */
};

/* ---- streams and sessions ---- */

struct weir_h2_trailer;
struct weir_h2_stream {
    struct weir_list link;        /* of h2->streams */
    struct weir_list due_link;    /* of h2->due, or h2->gone */
    struct weir_list framed_link; /* of h2->framed */
    struct weir_h2 *h2;
    struct weir_hstream *hs;  /* who listens; NULL: nobody any more */
    struct weir_hstream self; /* server role */
    struct weir_h2_head *head;
    const struct weir_message *late; /* the holder's request that waits for the peer's SETTINGS */
    struct weir_h2_trailer *trailer; /* that goes when the queue is empty */
    struct weir_buf queue;           /* body that waits for a window or for the flush */
    struct weir_buf held;            /* DATA of a tunnel that is not granted */
    const struct iovec *lent;        /* body that is the caller's, during a send */
    size_t lent_bytes;
    int lent_count;
    uint32_t framed; /* bytes of queue or lent that lie in the gathered output */
    int32_t id;      /* 0: not on the wire (client role) */
    uint64_t left_in, left_out;
    struct weir_h2_asked asked;
    struct weir_error why; /* H2_DUE_RESET */
    uint32_t unread;       /* body bytes handed out and not consumed yet */
    uint32_t window;       /* what may be here and on the way of it */
    uint32_t bound;        /* what is: more, while it gets smaller */
    uint32_t credit;       /* consumed, and not looked yet whether it is to be given back */
    uint32_t ungiven;      /* what nghttp2 takes for given, and had no memory to send */
    uint32_t half_bytes;   /* consumed since half_ms: up to half a window */
    uint64_t half_ms;      /* 0: no body has come yet */
    uint32_t waits_bytes; /* consumed since waits_ms, while there was always something to consume */
    uint64_t waits_ms;
    uint8_t in, out, out_body, due, informationals;
    uint8_t halves; /* of the window that were consumed fast, one after the other */
    bool slowed;    /* its holder was too slow for the window that it had */
    bool length_in; /* left_in counts */
    bool deferred;  /* nghttp2 waits to be told of more body */
    bool answered;  /* client role: the final head has come */
    bool quiet;     /* no event comes any more */
    bool let_go;    /* done: the holder does not know it any more */
    bool closed;    /* nghttp2 does not know it any more */
    bool dropped;   /* reset: what is sent is dropped */
    bool rejected;  /* the request is answered for what its head was: its body is not for anyone */
    bool peer_reset;
    bool told;     /* pending was said to be > 0 */
    bool cut;      /* RST_STREAM(NO_ERROR) follows END_STREAM; */
    bool cut_late; /* not with the next ACK, since our PING had gone before its END_STREAM */
    bool held_end; /* the peer's side of a tunnel that is not granted has ended */
    bool tunnel_asked, tunnel; /* an extended or plain CONNECT; granted */
    bool end_sent;             /* END_STREAM is on the wire */
};

struct weir_h2_gather;

struct weir_h2 {
    struct weir_codec codec;
    struct weir_h2_shared *shared;
    const struct weir_guard_limits *limits;
    const struct weir_h2_limits *abuse; /* ours, or NULL: what was announced holds to the end */
    struct weir_h2_limits abuse_own;
    nghttp2_session *session;
    struct weir_list streams, due, gone, framed;
    struct weir_h2_stream *reading; /* whose header block came last, or comes */
    struct weir_h2_gather *gather;  /* during a framing */
    uint64_t alive_ms, shutdown_ms;
    uint64_t spoke_ms;   /* when HEADERS or DATA came last; 0: not yet */
    uint64_t head_ms;    /* since when the header block that is not whole comes */
    uint32_t head_block; /* and its number */
    size_t queued;       /* bytes in the queues of all streams */
    size_t extra;        /* what streams may bring, above first windows */
    struct weir_h2_watch watch;
    unsigned open;        /* streams that are neither closed nor (client role) unsent */
    uint32_t rtt_ms;      /* a round trip to the peer; 0: not known */
    uint64_t settings_ms; /* when our SETTINGS went; 0: they are acknowledged */
    uint64_t ping_ms;     /* when the PING went that asks for it; 0: none is on its way */
    int64_t widest;       /* window of the peer's that a stream has, as SETTINGS begin */
    uint32_t peer_window; /* that its streams begin with */
    struct weir_h2_priorities priorities;
    uint8_t role, depth;
    bool feeding, framing, wanted;
    bool magic;   /* client role: the preface is to be sent */
    bool settled; /* the peer's SETTINGS have come */
    bool takes_upgrade;
    bool secure; /* client role: the scheme of requests that have none is https */
    bool rtt_asked;
    bool goaway;     /* the peer's GOAWAY has come */
    bool leaving;    /* server role: the first GOAWAY is out, or queued */
    bool left_asked; /* and the PING behind it */
    bool left;       /* the last GOAWAY is out, or queued */
    bool cut_asked;  /* the PING is out that tells of answers that were read */
    bool dead;       /* nothing goes or comes any more */
    bool eof;
    bool fatal;           /* nghttp2 must not be asked to send any more */
    bool spoilt;          /* nghttp2's memory is not to be trusted */
    enum weir_err broken; /* the error that ended the connection */
};

static inline struct weir_h2 *weir_h2_of(const struct weir_codec *codec)
{
    return weir_container(codec, struct weir_h2, codec);
}

static inline bool weir_h2_hears(const struct weir_h2_stream *s)
{
    return s->hs && !s->quiet;
}

static inline uint64_t weir_h2_now(const struct weir_h2 *h2)
{
    return *h2->shared->now_ms;
}

/* h2_exchange.c */
struct weir_h2_stream *weir_h2_stream_new(struct weir_h2 *h2);
/** Frees it if neither nghttp2 nor the holder knows it; inside a call into the codec at the end of that. */
void weir_h2_stream_release(struct weir_h2_stream *s);
void weir_h2_stream_free(struct weir_h2_stream *s);
/** A call into the codec is over (h2->depth). */
void weir_h2_leave(struct weir_h2 *h2);
/** The ACK of the PING between the two GOAWAYs, perhaps. */
void weir_h2_gone_ack(struct weir_h2 *h2, const uint8_t *opaque);
/** A GOAWAY is on its way: after the first a PING follows. */
void weir_h2_gone_sent(struct weir_h2 *h2);
/** h2_shared.c: makes h2->session. */
int weir_h2_session_new(struct weir_h2 *h2);
/** Asks for a flush, once. */
void weir_h2_want(struct weir_h2 *h2);
void weir_h2_due(struct weir_h2_stream *s, unsigned what);
/** The holder is told why, at once or when it is due; nothing comes after that. */
void weir_h2_tell_reset(struct weir_h2_stream *s, enum weir_err code, enum weir_by by,
                        const char *where);
/** RST_STREAM, unless one is on its way. */
void weir_h2_rst(struct weir_h2_stream *s, uint32_t code);
/** END_STREAM is on its way, and what the peer still sends is not wanted. */
void weir_h2_cut(struct weir_h2_stream *s);
/** The ACK of the PING behind such ends, perhaps. */
void weir_h2_cut_ack(struct weir_h2 *h2, const uint8_t *opaque);
/** What streams are due, once: what comes due meanwhile waits for the next flush. */
void weir_h2_settle(struct weir_h2 *h2);
/** The HTTP/2 code that tells the peer. */
uint32_t weir_h2_code_of(enum weir_err why);
int weir_h2_open(struct weir_codec *codec, struct weir_hstream *hs);
void weir_h2_consume(struct weir_hstream *hs, size_t bytes);
void weir_h2_hold(struct weir_hstream *hs, bool on);
void weir_h2_reset(struct weir_hstream *hs, enum weir_err why);
bool weir_h2_done(struct weir_hstream *hs);

/* h2.c */
/** The connection is broken: every exchange that listens is told. */
void weir_h2_die(struct weir_h2 *h2, enum weir_err err);
/** Over a budget: GOAWAY(ENHANCE_YOUR_CALM). */
void weir_h2_flood(struct weir_h2 *h2, enum weir_h2_abuse why);
/** A fault of the peer's that nghttp2 lets pass: GOAWAY with that code. */
void weir_h2_break(struct weir_h2 *h2, uint32_t code);

/* h2_in.c */
int weir_h2_on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg);
int weir_h2_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg);
int weir_h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                      size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                      void *arg);
int weir_h2_on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                              const uint8_t *name, size_t name_len, const uint8_t *value,
                              size_t value_len, uint8_t flags, void *arg);
int weir_h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg);
int weir_h2_on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *arg);
int weir_h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                    size_t len, void *arg);
int weir_h2_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg);
/** DATA that came before its tunnel was granted. */
void weir_h2_give_held(struct weir_h2_stream *s);

/* h2_send.c: the `send`, `pending`, `room` and `shut` of the vtable */
int weir_h2_send(struct weir_hstream *hs, const struct weir_message *head, const struct iovec *body,
                 int count, const struct weir_message *trailer, unsigned flags);
size_t weir_h2_pending(struct weir_hstream *hs);
size_t weir_h2_send_room(struct weir_hstream *hs);
bool weir_h2_shut(struct weir_hstream *hs);
/** The peer's SETTINGS have come: what waited for them. */
void weir_h2_send_late(struct weir_h2_stream *s);
/** Body that is not framed yet. */
static inline size_t weir_h2_waiting(const struct weir_h2_stream *s)
{
    return s->queue.len + s->lent_bytes - s->framed;
}
/** Drops what waits. */
void weir_h2_drop_queue(struct weir_h2_stream *s);

/* h2_nv.c: heads as nghttp2 takes them */
struct weir_h2_nva {
    nghttp2_nv *at;
    unsigned count;
};
enum { H2_NV_STACK = 96, H2_NV_TEXT = 64 };
/** The fields of a head for the wire; `space` (H2_NV_STACK) is used unless more are needed, `text` holds numbers. */
int weir_h2_nva_head(struct weir_h2_nva *nva, nghttp2_nv *space, char *text,
                     const struct weir_h2_stream *s, const struct weir_message *head);
struct weir_h2_trailer {
    unsigned count;
    nghttp2_nv nv[]; /* and their text */
};
/** A trailer, copied: it goes after the body. NULL: no memory. */
struct weir_h2_trailer *weir_h2_trailer_new(const struct weir_message *msg);
int weir_h2_trailer_submit(struct weir_h2_stream *s);

/* h2_frame.c: the loop that frames */
void weir_h2_frame(struct weir_h2 *h2);
ssize_t weir_h2_on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                        uint32_t *flags, nghttp2_data_source *source, void *arg);
int weir_h2_on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                         size_t len, nghttp2_data_source *source, void *arg);
int weir_h2_on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg);

/* h2_priority.c: whose DATA goes first (server role) */
/** A request is whole; `header`: it had a Priority field, which nghttp2 has read. */
void weir_h2_priority_begin(struct weir_h2_stream *s, bool header);
/** The payload of a PRIORITY_UPDATE: pieces, and its end. */
int weir_h2_on_priority_bytes(nghttp2_session *session, const nghttp2_frame_hd *hd,
                              const uint8_t *data, size_t len, void *arg);
int weir_h2_on_priority_end(nghttp2_session *session, void **payload, const nghttp2_frame_hd *hd,
                            void *arg);

/* h2_window.c: what the peer may send */
/** Of a stream: what the peer may send before it is given more. */
uint32_t weir_h2_window_first(const struct weir_h2 *h2);
/** Body has come, and is about to be handed out. `s` may be NULL: nobody takes it. */
int weir_h2_window_received(struct weir_h2 *h2, struct weir_h2_stream *s, size_t bytes);
/** The holder has taken so many (0: the window is merely made to fit what memory there is). */
void weir_h2_window_consume(struct weir_h2_stream *s, size_t bytes);
/** So many of them were padding, which nobody gets. */
void weir_h2_window_pad(struct weir_h2_stream *s, size_t bytes);
/** The peer has acknowledged our SETTINGS. */
void weir_h2_window_settled(struct weir_h2 *h2);
/** Is this ACK that of our PING for the estimate? */
bool weir_h2_window_pong(struct weir_h2 *h2, const uint8_t *opaque);
/** The peer has sent all: only what waits of it counts from here on. */
void weir_h2_window_whole(struct weir_h2_stream *s);
void weir_h2_window_forget(struct weir_h2_stream *s);

#endif
