/* SPDX-License-Identifier: Apache-2.0 */
/**
 * codec.h: one protocol on one connection, in either role. A codec owns no socket: it is fed bytes and hands out events,
 * it is told to send and hands out bytes. An exchange (one request and its answer) is a weir_hstream: the machine holds
 * one of each side and does not know which protocol it serves.
 *
 *   server role: feed ──on_begin──▶ on_head ▶ on_body* ▶ [on_trailer] ▶ on_end;   send(head) send(body)* … END ▶ done
 *   client role: open ▶ send(head) … END;   feed ──▶ on_head (1xx)* ▶ on_head ▶ on_body* ▶ [on_trailer] ▶ on_end ▶ done
 *
 * Events come always inside feed(), eof(), drained(), flush() or pass_in(), never inside send(). After on_reset nothing more comes for
 * that exchange. Memory of a message is the arena that the holder put into the hstream. Loop thread only.
 *
 * One exchange at a time (h1), or many (h2): the holder of a connection asks weir_codec_idle() whether any is left, and
 * else knows no difference. A codec that gathers the frames of many exchanges says on_wanted() and waits for flush().
 */
#ifndef HTTP_CODEC_H
#define HTTP_CODEC_H

#include "http/message.h"
#include "weir/error.h"

#include <sys/types.h>
#include <sys/uio.h>

struct weir_codec;
struct weir_hstream;

/** Events of one exchange, towards who holds it. */
struct weir_hstream_sink {
    void (*on_head)(void *arg, struct weir_message *msg);    /* request; or answer, also each 1xx */
    void (*on_body)(void *arg, struct weir_str data);        /* borrowed for the call */
    void (*on_trailer)(void *arg, struct weir_message *msg); /* at least one field; then on_end */
    void (*on_end)(void *arg);                               /* the message is whole */
    void (*on_drained)(void *arg); /* weir_hstream_pending has fallen to 0 */
    void (*on_reset)(void *arg,
                     const struct weir_error *why); /* malformed, cut or reset: no more events */
    /** Last thing in a feed() that gave any event to this exchange (if it is still open and not reset): what on_body lent
     *  is about to go. The holder gathers head, pieces and end of one feed into one send here. May be NULL. */
    void (*on_flush)(void *arg);
    /** Bytes of the body that pass by (weir_hstream_pass_in) wait at the socket. Said by who has the connection. NULL where
     *  nobody lets any pass. */
    void (*on_readable)(void *arg);
};

/** Upward door of a codec, towards who holds the connection. */
struct weir_codec_sink {
    /** Bytes for the wire, in order, borrowed for the call. */
    void (*on_output)(void *arg, const struct iovec *iov, int count);
    /** Bytes of the connection accepted for the wire that are not in the kernel yet. */
    size_t (*on_pending)(void *arg);
    /** Stop or go on feeding: back-pressure of the exchange that is being received. */
    void (*on_pause)(void *arg, bool pause);
    /** What is fed at once is to be at most this (weir_hstream_pace). May be NULL. */
    void (*on_pace)(void *arg, size_t bytes);
    /** Server role: a request begins. The holder sets hs->sink, hs->arg, hs->arena; non-zero (a weir_err) refuses it. */
    int (*on_begin)(void *arg, struct weir_hstream *hs);
    /** Output waits to be gathered: weir_codec_flush() is to be called before this turn of the loop ends. Not said again
     *  until then. Never by h1, which may leave it NULL. */
    void (*on_wanted)(void *arg);
};

struct weir_hstream {
    struct weir_codec *codec;
    const struct weir_hstream_sink *sink;
    void *arg;
    struct weir_arena *arena;
    union {              /* the codec's own; small, since one lies in every idle connection of h1 */
        uint32_t unread; /* h1: body bytes handed out and not consumed yet */
        void *impl;      /* h2 */
    };
};

enum {
    WEIR_SEND_END = 1, /* the message is whole after this */
};

struct weir_codec_ops {
    struct weir_str protocol; /* "HTTP/1.1" as it is logged */
    /** Bytes consumed, or a negative weir_err (the codec is dead then; the holder has got on_reset or on_begin refused). */
    ssize_t (*feed)(struct weir_codec *codec, const uint8_t *data, size_t len);
    /** The peer has sent FIN. `err` 0: cleanly; else why the stream broke. */
    void (*eof)(struct weir_codec *codec, enum weir_err err);
    /** All output is in the kernel. */
    void (*drained)(struct weir_codec *codec);
    /** Gives the gathered output to on_output. NULL: nothing is ever gathered. */
    void (*flush)(struct weir_codec *codec);
    /** Client role: begins an exchange; hs->sink, arg, arena are set. 0, or WEIR_ELIMIT when no more fit. */
    int (*open)(struct weir_codec *codec, struct weir_hstream *hs);
    int (*send)(struct weir_hstream *hs, const struct weir_message *head, const struct iovec *body,
                int count, const struct weir_message *trailer, unsigned flags);
    size_t (*pending)(struct weir_hstream *hs);
    size_t (*room)(struct weir_hstream *hs);
    /** NULL: an exchange has no window of its own. */
    bool (*shut)(struct weir_hstream *hs);
    void (*consume)(struct weir_hstream *hs, size_t bytes);
    void (*hold)(struct weir_hstream *hs, bool on);
    /** NULL: the peer is told by windows, and by nothing else. */
    void (*pace)(struct weir_hstream *hs, size_t bytes);
    /** NULL: the bytes of a body are not those of the connection. */
    uint64_t (*pass_in)(struct weir_hstream *hs, uint64_t bytes);
    uint64_t (*pass_out)(struct weir_hstream *hs, uint64_t bytes);
    void (*reset)(struct weir_hstream *hs, enum weir_err why);
    bool (*done)(struct weir_hstream *hs);
    void (*last)(struct weir_hstream *hs);
    void (*shutdown)(struct weir_codec *codec);
    bool (*idle)(const struct weir_codec *codec);
    bool (*over)(const struct weir_codec *codec);
};

struct weir_codec {
    const struct weir_codec_ops *ops;
    const struct weir_codec_sink *sink;
    void *arg;
};

static inline ssize_t weir_codec_feed(struct weir_codec *codec, const uint8_t *data, size_t len)
{
    return codec->ops->feed(codec, data, len);
}
static inline void weir_codec_eof(struct weir_codec *codec, enum weir_err err)
{
    codec->ops->eof(codec, err);
}
static inline void weir_codec_drained(struct weir_codec *codec)
{
    codec->ops->drained(codec);
}
static inline void weir_codec_flush(struct weir_codec *codec)
{
    if (codec->ops->flush)
        codec->ops->flush(codec);
}
static inline int weir_codec_open(struct weir_codec *codec, struct weir_hstream *hs)
{
    return codec->ops->open(codec, hs);
}
/** Server role: no further requests. What is in progress ends; h1 says so with the answer (Connection: close), h2 at once
 * (GOAWAY twice, RFC 9113 6.8). */
static inline void weir_codec_shutdown(struct weir_codec *codec)
{
    codec->ops->shutdown(codec);
}
/** No exchange and no half message: the connection may be kept, moved or closed. */
static inline bool weir_codec_idle(const struct weir_codec *codec)
{
    return codec->ops->idle(codec);
}
/** Nothing will come or go any more: the connection is to be closed when its output is out. */
static inline bool weir_codec_over(const struct weir_codec *codec)
{
    return codec->ops->over(codec);
}
/**
 * Sends a head (NULL: it was sent), body bytes, a trailer section (NULL: none), in one gathered output. The head's `body`
 * and `length` decide the framing: WEIR_BODY_CHUNKED frames pieces, WEIR_BODY_LENGTH counts them (more, or an END before
 * all: WEIR_EFRAMING). A 1xx head ends nothing. 0, WEIR_ENOMEM, WEIR_EFRAMING.
 */
static inline int weir_hstream_send(struct weir_hstream *hs, const struct weir_message *head,
                                    const struct iovec *body, int count,
                                    const struct weir_message *trailer, unsigned flags)
{
    return hs->codec->ops->send(hs, head, body, count, trailer, flags);
}
/** Bytes sent on this exchange that cannot leave now (the kernel's buffer, the peer's window); writers stop at
 * WEIR_STREAM_HIGH_BYTES and go on at on_drained. */
static inline size_t weir_hstream_pending(struct weir_hstream *hs)
{
    return hs->codec->ops->pending(hs);
}
/** Bytes that would leave at once if they were sent now: no more than WEIR_READ_BUFFER_BYTES, of a stream of HTTP/2 than
 * WEIR_SHARED_STREAM_BYTES. */
static inline size_t weir_hstream_room(struct weir_hstream *hs)
{
    return hs->codec->ops->room(hs);
}
/** What is pending waits for the peer to open the window of this exchange: whatever else of the connection it takes, of
 * this it takes nothing. */
static inline bool weir_hstream_shut(struct weir_hstream *hs)
{
    return hs->codec->ops->shut && hs->codec->ops->shut(hs);
}
/** `bytes` of what on_body gave were taken by the other side: credit for the sender. */
static inline void weir_hstream_consume(struct weir_hstream *hs, size_t bytes)
{
    hs->codec->ops->consume(hs, bytes);
}
/**
 * Memory is short (`on`), or not any more: while bytes that on_body gave are not consumed, the sender brings as little more
 * as the protocol lets us see to. h1 is not read until they are; on h2, whose connection serves others as well, what the
 * window has granted may come. Nothing when all is consumed: what holds an exchange always lets it go.
 */
static inline void weir_hstream_hold(struct weir_hstream *hs, bool on)
{
    hs->codec->ops->hold(hs, on);
}
/** The holder can pass on that many bytes (weir_hstream_room of the other side): larger pieces would wait with it, so
 * that h1 has its connection read in smaller ones. */
static inline void weir_hstream_pace(struct weir_hstream *hs, size_t bytes)
{
    if (hs->codec->ops->pace)
        hs->codec->ops->pace(hs, bytes);
}
/**
 * `bytes` of the body were taken from the connection by the holder himself, and were not fed. How many more come, just as
 * they are; 0: none can be taken so, or it is whole now: then on_end comes inside. Asked with 0: may they pass by?
 */
static inline uint64_t weir_hstream_pass_in(struct weir_hstream *hs, uint64_t bytes)
{
    return hs->codec->ops->pass_in ? hs->codec->ops->pass_in(hs, bytes) : 0;
}
/** `bytes` of the body were written to the connection by the holder himself. How many more may be; the end is sent by
 * weir_hstream_send. Nothing of the exchange is pending meanwhile. */
static inline uint64_t weir_hstream_pass_out(struct weir_hstream *hs, uint64_t bytes)
{
    return hs->codec->ops->pass_out ? hs->codec->ops->pass_out(hs, bytes) : 0;
}
/** Server role: the rest of this request is not wanted: on h1 the connection ends with its answer. */
static inline void weir_hstream_last(struct weir_hstream *hs)
{
    hs->codec->ops->last(hs);
}
/** Gives the exchange up: on h1 the connection is then not usable any more (idle() is false for ever), on h2 a RST_STREAM
 * tells the peer. No event comes any more, and hs is not used again but for weir_hstream_done. */
static inline void weir_hstream_reset(struct weir_hstream *hs, enum weir_err why)
{
    hs->codec->ops->reset(hs, why);
}
/**
 * The holder lets go of an exchange: both messages whole, or reset before; on h2 also an answer that was whole before its
 * request (RST_STREAM NO_ERROR tells). True: the connection may serve another one. In the server role the holder then
 * feeds what it kept. hs may be gone after this.
 */
static inline bool weir_hstream_done(struct weir_hstream *hs)
{
    return hs->codec->ops->done(hs);
}

#endif
