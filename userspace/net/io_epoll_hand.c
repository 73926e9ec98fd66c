/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_epoll_hand.c: sockets that are read by hand: their owner moves what comes, mostly from the socket to another without a
 * copy (splice(2)).
 *
 * A read by hand goes on until the kernel says EAGAIN: a short one says nothing, since a pipe is full when its slots are.
 * Where bytes had come since the edge such an EAGAIN is the truth, and no doubt as in io_epoll.c.
 */
#include "net/io_epoll.h"

#include "base/panic.h"
#include "weir/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPLICE_FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK };

#ifndef WEIR_RAW_SYSCALLS /* why: io_epoll.c */
static ssize_t sys_splice(int from, int to, size_t len)
{
    return splice(from, NULL, to, NULL, len, SPLICE_FLAGS);
}

static ssize_t sys_recv(int fd, void *data, size_t len, int flags)
{
    return recv(fd, data, len, flags);
}
#else
static ssize_t sys_splice(int from, int to, size_t len)
{
    return syscall(SYS_splice, from, NULL, to, NULL, len, SPLICE_FLAGS);
}

static ssize_t sys_recv(int fd, void *data, size_t len, int flags)
{
    return syscall(SYS_recvfrom, fd, data, len, flags, NULL, NULL);
}
#endif

void weir_epoll_by_hand(struct weir_sock *sock)
{
    if (sock->lost)
        weir_epoll_fail(sock, sock->sys);
    else if (sock->at_end)
        weir_epoll_at_eof(sock);
    else
        sock->sink->on_readable(sock);
}

void weir_epoll_hand(struct weir_loop *loop, struct weir_sock *sock, bool on)
{
    if (sock->going || sock->failed)
        return;
    weir_assert(!on || sock->sink->on_readable);
    sock->by_hand = on;
    sock->taken = false;
    if (sock->receiving && sock->readable && !sock->eof)
        weir_epoll_queue(&weir_epoll_of(loop)->ready, sock);
}

/* It cannot be told inside the call. */
static void lose(struct weir_loop *loop, struct weir_sock *sock, int sys)
{
    sock->lost = true;
    sock->sys = (uint8_t)sys;
    weir_epoll_queue(&weir_epoll_of(loop)->ready, sock);
}

/* Nothing is there. */
static void unread(struct weir_loop *loop, struct weir_sock *sock)
{
    int sys = sock->broken ? sock->sys : sock->hungup ? weir_epoll_error(sock) : 0;

    if (sys) {
        lose(loop, sock, sys);
        return;
    }
    if (sock->taken) {
        sock->taken = sock->readable = false;
        return;
    }
    sock->recv_doubted = !sock->recv_doubted;
    if (sock->recv_doubted && weir_epoll_rearm(loop, sock))
        sock->readable = false;
    else
        weir_epoll_queue(&weir_epoll_of(loop)->starved, sock);
}

/* What a read has said, as weir_sock_take does. False: it is for the caller to say. */
static bool took(struct weir_loop *loop, struct weir_sock *sock, ssize_t n, int sys)
{
    struct weir_io_epoll *io = weir_epoll_of(loop);

    if (n > 0) {
        sock->taken = true;
        sock->recv_doubted = false;
        return true;
    }
    if (n == 0) {
        sock->at_end = true;
        weir_epoll_queue(&io->ready, sock);
        return true;
    }
    switch (sys) {
    case EAGAIN:
        unread(loop, sock);
        return true;
    case EINTR:
        weir_epoll_queue(&io->ready, sock);
        return true;
    case ENOMEM:
    case ENOBUFS:
        weir_epoll_queue(&io->starved, sock);
        return true;
    default:
        return false;
    }
}

static bool readable(const struct weir_sock *sock)
{
    return sock->readable && !sock->going && !sock->failed && !sock->eof && !sock->at_end &&
           !sock->lost;
}

ssize_t weir_epoll_take(struct weir_loop *loop, struct weir_sock *sock, void *data, size_t len,
                        int flags)
{
    ssize_t n;

    weir_assert(sock->by_hand);
    if (!readable(sock))
        return 0;
    n = sys_recv(sock->fd, data, len, flags | MSG_DONTWAIT);
    if (!took(loop, sock, n, errno))
        lose(loop, sock, errno);
    return n > 0 ? n : 0;
}

/* Is this an error of the call, not of the connection (splice(2))? */
static bool is_refusal(int sys)
{
    return sys == EINVAL || sys == ENOSYS || sys == EBADF || sys == EPERM || sys == EOPNOTSUPP;
}

ssize_t weir_epoll_splice_in(struct weir_loop *loop, struct weir_sock *sock, int pipe, size_t len)
{
    ssize_t n;

    weir_assert(sock->by_hand);
    if (!readable(sock))
        return 0;
    n = sys_splice(sock->fd, pipe, len);
    if (took(loop, sock, n, errno))
        return n > 0 ? n : 0;
    if (is_refusal(errno))
        return -errno;
    lose(loop, sock, errno);
    return 0;
}

ssize_t weir_epoll_splice_out(struct weir_loop *loop, struct weir_sock *sock, int pipe, size_t len)
{
    ssize_t n;
    int tries = 0;

    if (WEIR_UNLIKELY(sock->going || sock->failed || sock->broken))
        return -EPIPE;
    do
        n = sys_splice(pipe, sock->fd, len);
    while (n < 0 && errno == EINTR && ++tries < WEIR_EPOLL_TRIES_MAX);
    if (n < 0)
        return weir_epoll_unsent(loop, sock, errno);
    sock->send_doubted = false;
    sock->blocked = (size_t)n < len;
    return n;
}

int weir_epoll_mute(struct weir_loop *loop, struct weir_sock *sock, bool in, bool out)
{
    bool was_in = sock->mute_in, was_out = sock->mute_out;

    if (sock->going || (was_in == in && was_out == out))
        return 0;
    sock->mute_in = in;
    sock->mute_out = out;
    if (weir_epoll_rearm(loop, sock))
        return 0;
    sock->mute_in = was_in;
    sock->mute_out = was_out;
    return WEIR_ESYS;
}
