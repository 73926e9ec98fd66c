/* SPDX-License-Identifier: Apache-2.0 */
/**
 * stream.h: a connection as a stream of bytes: TCP (tcp.h), or TLS over another stream (tls.h). No
 * HTTP.
 *
 *   opening ──on_open──▶ open ──weir_stream_close──▶ closing ──on_closed──▶ gone
 *      └──────on_error──▶ dead ──weir_stream_close──▶ closing
 *
 * Who holds a stream closes it, exactly once, also after on_error; memory of the holder and of the
 * stream is freed only in or after on_closed, which always comes, at the end of a turn. Events
 * never come inside a call to the stream. After on_eof no on_data comes; writing goes on
 * (half-close). Loop thread only.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include "net/addr.h"
#include "net/loop.h"
#include "weir/error.h"

struct weir_stream;

/** on_open, on_drained and on_readable may be NULL. */
struct weir_stream_sink {
    void (*on_open)(void *arg); /* connected, handshake done; not for accepted TCP */
    void (*on_data)(void *arg, const uint8_t *data,
                    size_t len);   /* borrowed for the call; keep what you need */
    void (*on_eof)(void *arg);     /* FIN; for TLS after close_notify */
    void (*on_drained)(void *arg); /* pending has fallen to 0 after a write that pended; or there is
                                      room after a weir_stream_splice_out that did not take all */
    void (*on_error)(void *arg, enum weir_err err,
                     int sys); /* dead; WEIR_ETRUNCATED: TLS ended by FIN alone */
    void (*on_closed)(void *arg);
    void (*on_readable)(
        void *arg); /* by hand (weir_stream_hand): there may be bytes; may be NULL */
};

/** What TLS has to say of a stream; strings live as long as the stream. */
struct weir_tls_info {
    struct weir_str version, cipher, sni, alpn; /* "TLSv1.3"; alpn and sni may be absent */
    bool resumed;
    uint32_t rtt_ms; /* our last flight of the handshake and its answer, rounded up; 0: not known */
    struct weir_str
        client_subject; /* of a verified client certificate (RFC 2253), absent without one */
    const char
        *fault; /* why the handshake failed, in the words of OpenSSL (static); NULL: it did not */
    const void *policy; /* which certificate policy answered: a request for another host gets 421 */
};

/** What leaves a loop with a stream, for another loop to adopt. */
struct weir_parcel {
    int fd;
    void *tls; /* SSL *, or NULL */
};

struct weir_stream_ops {
    void (*read)(struct weir_stream *stream, bool on);
    void (*pace)(struct weir_stream *stream, size_t bytes);
    int (*write)(struct weir_stream *stream, const struct iovec *iov, int count);
    size_t (*pending)(const struct weir_stream *stream);
    void (*shutdown)(struct weir_stream *stream);
    void (*close)(struct weir_stream *stream, bool reset);
    bool (*release)(struct weir_stream *stream, struct weir_parcel *parcel);
    const struct weir_tls_info *(*tls_info)(struct weir_stream *stream);
    int (*fd)(const struct weir_stream *stream);
    /* All or none: a stream whose bytes are those of its socket. */
    bool (*unread)(struct weir_stream *stream);
    void (*hand)(struct weir_stream *stream, bool on);
    ssize_t (*take)(struct weir_stream *stream, void *data, size_t len, int flags);
    ssize_t (*splice_in)(struct weir_stream *stream, int pipe, size_t len);
    ssize_t (*splice_out)(struct weir_stream *stream, int pipe, size_t len);
    int (*mute)(struct weir_stream *stream, bool in, bool out);
    void (*share)(struct weir_stream *stream);
};

struct weir_stream {
    const struct weir_stream_ops *ops;
    const struct weir_stream_sink *sink;
    void *arg;
    struct weir_loop *loop;
};

static inline void weir_stream_set_sink(struct weir_stream *stream,
                                        const struct weir_stream_sink *sink, void *arg)
{
    stream->sink = sink;
    stream->arg = arg;
}
/** Starts or stops on_data. A new stream does not read. */
static inline void weir_stream_read(struct weir_stream *stream, bool on)
{
    stream->ops->read(stream, on);
}
/** Reads at most so many bytes at once (whole KiB, up to WEIR_READ_BUFFER_BYTES, which is the default; of TLS: bytes of its
 * records): what the holder cannot pass on would only wait with it. */
static inline void weir_stream_pace(struct weir_stream *stream, size_t bytes)
{
    if (stream->ops->pace)
        stream->ops->pace(stream, bytes);
}
/**
 * Writes all of it: what the kernel does not take now is copied and sent later. Writers stop while
 * weir_stream_pending() >= WEIR_STREAM_HIGH_BYTES and go on at on_drained. 0, WEIR_ENOMEM (some of
 * it may have been sent then: the stream is to be closed), WEIR_EINVAL (after
 * weir_stream_shutdown). A stream that has failed takes and drops the bytes; on_error tells.
 */
static inline int weir_stream_write(struct weir_stream *stream, const struct iovec *iov, int count)
{
    return stream->ops->write(stream, iov, count);
}
/** Bytes written and not yet in the kernel. */
static inline size_t weir_stream_pending(const struct weir_stream *stream)
{
    return stream->ops->pending(stream);
}
/**
 * Bytes written that the peer's host has not acknowledged, pending ones included: it falls as long as a slow peer reads,
 * also where the kernel's own queue is large (tcp(7), SIOCOUTQ). A system call: for deadlines, not for each write.
 */
size_t weir_stream_unacked(const struct weir_stream *stream);
/** What the kernel has measured of a connection (tcp(7), TCP_INFO). */
struct weir_path_info {
    uint32_t rtt_us;  /* smoothed */
    uint32_t retrans; /* segments sent again, of all */
};
/** False: no TCP connection of its own (a UNIX socket, an exchange of HTTP/2). A system call. */
bool weir_stream_path_info(const struct weir_stream *stream, struct weir_path_info *info);
/**
 * How much the kernel takes that it cannot put on the wire yet (tcp(7), TCP_NOTSENT_LOWAT): where many share a connection,
 * what is urgent must not stand behind megabytes of what is not. Nothing happens on other sockets than TCP.
 */
void weir_stream_limit_unsent(struct weir_stream *stream, unsigned bytes);
/**
 * The peer's host is asked by TCP after `quiet_s` seconds without a word of it, and the stream fails (WEIR_ETIMEDOUT) when
 * it has acknowledged nothing, neither that nor what was written, for twice as long (tcp(7), TCP_USER_TIMEOUT). Whether a
 * program still runs there TCP does not know. Nothing happens on other sockets than TCP.
 */
void weir_stream_watch(struct weir_stream *stream, unsigned quiet_s);
/** No more writes: after what is pending, close_notify (TLS) and FIN. */
static inline void weir_stream_shutdown(struct weir_stream *stream)
{
    stream->ops->shutdown(stream);
}
/** Drops what is pending and closes; then on_closed. `reset`: by RST, so that the peer cannot take
 * a cut for an end. */
static inline void weir_stream_close(struct weir_stream *stream, bool reset)
{
    stream->ops->close(stream, reset);
}
/**
 * Takes an idle stream (nothing pending, nothing unread) off its loop: false when it cannot leave
 * now, and nothing has changed. Otherwise the stream is gone when on_closed has come, and `parcel`
 * can be adopted by any loop from then on.
 */
static inline bool weir_stream_release(struct weir_stream *stream, struct weir_parcel *parcel)
{
    return stream->ops->release(stream, parcel);
}
/** Are its bytes those of its socket? Then it can be read by hand. */
static inline bool weir_stream_plain(const struct weir_stream *stream)
{
    return stream->ops->hand != NULL;
}
/**
 * Is there something that on_data has not brought, bytes or an end? Of a plain stream; others say no. A system call where the
 * last read took all that it asked for: else there was nothing.
 */
static inline bool weir_stream_unread(struct weir_stream *stream)
{
    return stream->ops->unread && stream->ops->unread(stream);
}
/**
 * By hand, or not any more; of a plain stream. While weir_stream_read is on, on_readable comes instead of on_data when there
 * may be bytes, and again in a later turn where they were not taken until the kernel had none. Also inside on_data, which is
 * the last one then. FIN and errors that are met come as on_eof and on_error, after the call that met them; a RST or FIN of
 * which epoll tells makes it readable, so that it is met.
 */
static inline void weir_stream_hand(struct weir_stream *stream, bool on)
{
    stream->ops->hand(stream, on);
}
/** By hand: bytes taken; 0: none now. `flags`: MSG_PEEK, or none. */
static inline ssize_t weir_stream_take(struct weir_stream *stream, void *data, size_t len,
                                       int flags)
{
    return stream->ops->take(stream, data, len, flags);
}
/** By hand: bytes moved to the write end of an empty pipe, at most `len`; 0: none now; -errno: this socket cannot be spliced,
 * and nothing has happened. */
static inline ssize_t weir_stream_splice_in(struct weir_stream *stream, int pipe, size_t len)
{
    return stream->ops->splice_in(stream, pipe, len);
}
/** Writes the `len` bytes that are in a pipe, from its read end; nothing is pending and weir_stream_shutdown was not called.
 * Bytes taken: when not all, on_drained says when there is room. -errno: it has failed, on_error comes. */
static inline ssize_t weir_stream_splice_out(struct weir_stream *stream, int pipe, size_t len)
{
    return stream->ops->splice_out(stream, pipe, len);
}
/** Of a plain stream whose bytes the kernel moves (`in`: from it, `out`: to it): events for them do not come, but its end and
 * errors do, as on_readable where it is read by hand. 0 or WEIR_ESYS, and nothing has changed. */
static inline int weir_stream_mute(struct weir_stream *stream, bool in, bool out)
{
    return stream->ops->mute(stream, in, out);
}
/** Another process has the socket of a plain stream open too: a close is not the end of the connection then, nor RST, until
 * that one has closed it as well. */
static inline void weir_stream_share(struct weir_stream *stream)
{
    stream->ops->share(stream);
}
/** How far the connection has come, as TCP counts; of two processes that had it one after the other both read the same. */
struct weir_stream_reach {
    uint64_t received; /* bytes that have come in order, without the FIN, */
    uint64_t written;  /* bytes that it was given to send, likewise; at least: never too many */
    bool fin_received, fin_sent;
    bool failed; /* reset, or timed out: the rest means nothing */
};
/** False: no TCP connection of its own. System calls. */
bool weir_stream_reach(const struct weir_stream *stream, struct weir_stream_reach *reach);
/** What the kernel calls the socket (SO_COOKIE), in all processes; 0: there is none. */
uint64_t weir_stream_cookie(const struct weir_stream *stream);
/** Bytes of it that wait unread in the kernel; -1: no TCP connection, or it is broken. A system call. */
ssize_t weir_stream_waiting(const struct weir_stream *stream);
/** NULL for plain streams and before the handshake has ended. */
static inline const struct weir_tls_info *weir_stream_tls(struct weir_stream *stream)
{
    return stream->ops->tls_info ? stream->ops->tls_info(stream) : NULL;
}
static inline int weir_stream_fd(const struct weir_stream *stream)
{
    return stream->ops->fd(stream);
}

#endif
