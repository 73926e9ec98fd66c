/* SPDX-License-Identifier: Apache-2.0 */
/**
 * io.h: sockets of one worker behind a backend, in completion style. io_epoll.c is the one there
 * is.
 *
 * Rules that let a backend be epoll or io_uring: received bytes are borrowed for the callback; a
 * send takes what it can take without the caller's memory (epoll: what the kernel takes now; a
 * ring: what it copies for its next submission) and the caller offers the rest after on_writable;
 * an operation is never completed inside the call that asked for it; a descriptor leaves (close,
 * release) only when no operation is in flight, and the backend says so by on_released.
 *
 * By hand: the backend reads no more, it only says when there may be something (on_readable), and the
 * owner takes it by weir_sock_take or weir_sock_splice_in, which never wait. What the backend had
 * received before comes by on_recv, before the first on_readable: a ring cancels its receive and
 * polls. What such a call meets that is not bytes (FIN, an error) is told by on_eof or on_fail later,
 * as ever.
 */
#ifndef NET_IO_H
#define NET_IO_H

#include "net/loop.h"

#include <sys/socket.h>

struct weir_sock;

/** Upward door of a socket. Any of them may close the socket. */
struct weir_sock_sink {
    void (*on_recv)(struct weir_sock *sock, const uint8_t *data, size_t len); /* borrowed */
    void (*on_eof)(struct weir_sock *sock);
    void (*on_writable)(
        struct weir_sock *sock); /* after a send that did not take all; also: connected */
    void (*on_fail)(struct weir_sock *sock, int sys);
    void (*on_released)(struct weir_sock *sock); /* no operation in flight; fd is closed or, after
                                                    release, the caller's */
    void (*on_readable)(
        struct weir_sock *sock); /* by hand: there may be bytes; NULL where nobody reads so */
};

/**
 * Embedded in what owns a socket; type-stable, so that a stale event finds a sock that is closed,
 * never foreign memory. 0-filled before weir_sock_add, but for what that needs. The flags belong to
 * the backend; owners read them.
 */
struct weir_sock {
    const struct weir_sock_sink *sink;
    struct weir_list link; /* backend: looked at in the next turn, or going */
    int fd;
    uint8_t sys;          /* errno of `broken` */
    uint8_t recv_kib : 6; /* set by the owner: received at once at most; 0: what the buffer holds */
    bool mute_in : 1;     /* what comes wakes nobody, but for its end */
    bool mute_out : 1;    /* nor does room */
    bool receiving : 1;   /* wanted by the owner */
    bool readable : 1;    /* there may be bytes */
    bool hungup : 1;      /* the peer has sent FIN or RST: a short read is not the end */
    bool eof : 1;         /* on_eof was called */
    bool blocked : 1;     /* a send did not take all */
    bool connecting : 1;  /* set by the owner before add, when connect() is in progress */
    bool going : 1;       /* closed or being released */
    bool keep_fd : 1;     /* released: the descriptor stays open */
    bool broken : 1;      /* a send failed; on_fail comes, after what can still be read */
    bool failed : 1;      /* on_fail was called; nothing comes any more but on_released */
    bool recv_doubted : 1; /* said EAGAIN where bytes were promised */
    bool send_doubted : 1; /* said EAGAIN where room was believed */
    bool by_hand : 1;      /* on_readable instead of on_recv */
    bool taken : 1;        /* by hand: bytes since it became readable */
    bool at_end : 1;       /* by hand: FIN was met; on_eof comes */
    bool lost : 1;         /* by hand: an error was met (`sys`); on_fail comes */
};

/** A listening socket that is served by this loop. Its memory outlives the turn in which it is
 * stopped. */
struct weir_lsock {
    int fd;
    void (*on_accept)(struct weir_lsock *lsock, int fd, const struct sockaddr *peer, socklen_t len);
    void (*on_fail)(struct weir_lsock *lsock,
                    int sys); /* EMFILE, ENOMEM, …: accepting pauses for 50 ms by itself */
    void *arg;                /* the owner's */
    struct weir_timer pause;
    struct weir_loop *loop;
    unsigned burst;  /* accepted at most in the next turn: grows while there are more, so that one
                        costs no EAGAIN */
    unsigned streak; /* bursts that were full */
    bool on, paused;
};

struct weir_io_ops {
    const char *name;
    int (*open)(struct weir_loop *loop);
    void (*close)(struct weir_loop *loop);
    /** Watches a foreign descriptor (libuv's): when it is readable, wait() says so. */
    int (*watch_uv)(struct weir_loop *loop, int fd);
    /** Waits at most `ms` (-1: no limit), calls weir_loop_woke, hands out events. True when libuv's
     * descriptor is ready. */
    bool (*wait)(struct weir_loop *loop, int ms);
    /** The end of a turn: what left in it is told on_released. */
    void (*reap)(struct weir_loop *loop);
    /** Is there work that needs no event (sockets made readable again, releases)? Then the loop
     * does not block. */
    bool (*pending)(const struct weir_loop *loop);
    int (*add)(struct weir_loop *loop, struct weir_sock *sock);
    void (*recv)(struct weir_loop *loop, struct weir_sock *sock, bool on);
    ssize_t (*send)(struct weir_loop *loop, struct weir_sock *sock, const struct iovec *iov,
                    int count);
    void (*hand)(struct weir_loop *loop, struct weir_sock *sock, bool on);
    ssize_t (*take)(struct weir_loop *loop, struct weir_sock *sock, void *data, size_t len,
                    int flags);
    ssize_t (*splice_in)(struct weir_loop *loop, struct weir_sock *sock, int pipe, size_t len);
    int (*mute)(struct weir_loop *loop, struct weir_sock *sock, bool in, bool out);
    ssize_t (*splice_out)(struct weir_loop *loop, struct weir_sock *sock, int pipe, size_t len);
    void (*leave)(struct weir_loop *loop, struct weir_sock *sock, bool keep_fd);
    int (*listen)(struct weir_loop *loop, struct weir_lsock *lsock, bool on);
};

struct weir_io {
    const struct weir_io_ops *ops;
};

extern const struct weir_io_ops weir_io_epoll;

/** `sock->fd` and `sock->sink` are set. 0, WEIR_ENOMEM, WEIR_ESYS. Nothing is received before
 * recv(on). */
static inline int weir_sock_add(struct weir_loop *loop, struct weir_sock *sock)
{
    return loop->io->ops->add(loop, sock);
}
static inline void weir_sock_recv(struct weir_loop *loop, struct weir_sock *sock, bool on)
{
    loop->io->ops->recv(loop, sock, on);
}
/** Bytes taken (0 to all; when not all: on_writable comes), or -errno: on_fail comes in a later
 * turn. */
static inline ssize_t weir_sock_send(struct weir_loop *loop, struct weir_sock *sock,
                                     const struct iovec *iov, int count)
{
    return loop->io->ops->send(loop, sock, iov, count);
}
/** By hand from now on, or not any more; while recv is on. Also inside on_recv, which then is the last one. */
static inline void weir_sock_hand(struct weir_loop *loop, struct weir_sock *sock, bool on)
{
    loop->io->ops->hand(loop, sock, on);
}
/** By hand: bytes received; 0: nothing now, whatever comes is told by an event. `flags`: MSG_PEEK or none. */
static inline ssize_t weir_sock_take(struct weir_loop *loop, struct weir_sock *sock, void *data,
                                     size_t len, int flags)
{
    return loop->io->ops->take(loop, sock, data, len, flags);
}
/** By hand: bytes moved to the write end of an empty pipe; 0: as weir_sock_take; -errno: this socket is none that can be
 * spliced, and nothing has happened. */
static inline ssize_t weir_sock_splice_in(struct weir_loop *loop, struct weir_sock *sock, int pipe,
                                          size_t len)
{
    return loop->io->ops->splice_in(loop, sock, pipe, len);
}
/** Bytes moved from the read end of a pipe, which has `len`; as weir_sock_send: 0 to all, on_writable comes when not all; or
 * -errno, and on_fail comes. */
static inline ssize_t weir_sock_splice_out(struct weir_loop *loop, struct weir_sock *sock, int pipe,
                                           size_t len)
{
    return loop->io->ops->splice_out(loop, sock, pipe, len);
}
/** Whose bytes the kernel moves is told of its end and of errors alone (as readable): no event for bytes, none for room. Not
 * muted any more: what there is now is told. 0 or WEIR_ESYS, and nothing has changed. */
static inline int weir_sock_mute(struct weir_loop *loop, struct weir_sock *sock, bool in, bool out)
{
    return loop->io->ops->mute(loop, sock, in, out);
}
/** Ends in on_released, at the end of a turn. With `keep_fd` the descriptor is then the caller's.
 * Nothing else comes. */
static inline void weir_sock_leave(struct weir_loop *loop, struct weir_sock *sock, bool keep_fd)
{
    loop->io->ops->leave(loop, sock, keep_fd);
}

#endif
