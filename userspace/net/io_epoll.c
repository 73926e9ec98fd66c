/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_epoll.c: sockets by edge-triggered epoll.
 *
 * A socket is registered once, for everything, and epoll_ctl is not called for it again (but for a doubt, below): whether its
 * owner wants bytes is a flag. An edge sets `readable`; a read that came back short clears it (unless the peer has hung up:
 * then the end is still to be read), so a small request costs one recv and no EAGAIN. What is left for later stands in one of
 * three lists:
 *
 *   ready    looked at in the next turn, which does not block: reads beyond WEIR_READS_TURN_MAX, recv(on) while readable,
 *            a failed send that is to be told
 *   starved  the kernel had no memory: looked at again after STARVED_MS, so that this never spins
 *   going    closed or released: told at the end of the turn, when no event of the batch can name it any more
 *
 * Doubts: with edges, an EAGAIN that is not true (injected faults, no memory) would be waited on for ever. So where an edge
 * had promised bytes or room, an EAGAIN makes the socket be registered anew: the kernel then reports what it is ready for
 * now, or an edge when it will be. That is rare in truth: an edge is followed by bytes, and a full socket takes a part before
 * it takes nothing. EAGAIN once more, with nothing moved in between, counts as no memory.
 */
#include "net/io_epoll.h"

#include "base/panic.h"
#include "weir/error.h"
#include "weir/limits.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/* The C library makes each of these calls a cancellation point: two atomic exchanges on top of every one in a program
 * with threads. Nobody cancels a worker. The release preset goes around it; the others keep the library's functions, which
 * sanitizers look through and tests replace. */
#ifndef WEIR_RAW_SYSCALLS
static ssize_t sys_recv(int fd, void *buffer, size_t len)
{
    return recv(fd, buffer, len, MSG_DONTWAIT);
}

static ssize_t sys_send(int fd, const void *data, size_t len)
{
    return send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t sys_sendmsg(int fd, const struct msghdr *msg)
{
    return sendmsg(fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}
#else
static ssize_t sys_recv(int fd, void *buffer, size_t len)
{
    return syscall(SYS_recvfrom, fd, buffer, len, MSG_DONTWAIT, NULL, NULL);
}

static ssize_t sys_send(int fd, const void *data, size_t len)
{
    return syscall(SYS_sendto, fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
}

static ssize_t sys_sendmsg(int fd, const struct msghdr *msg)
{
    return syscall(SYS_sendmsg, fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}
#endif

enum { STARVED_MS = 2 };

static int epoll_open(struct weir_loop *loop)
{
    struct weir_io_epoll *io = calloc(1, sizeof(*io));

    if (!io)
        return WEIR_ENOMEM;
    io->io.ops = &weir_io_epoll;
    io->fd = epoll_create1(EPOLL_CLOEXEC);
    if (io->fd < 0) {
        free(io);
        return weir_err_from_errno(errno);
    }
    weir_list_init(&io->ready);
    weir_list_init(&io->starved);
    weir_list_init(&io->going);
    loop->io = &io->io;
    return 0;
}

static void epoll_close(struct weir_loop *loop)
{
    struct weir_io_epoll *io = weir_epoll_of(loop);

    weir_assert(weir_list_empty(&io->ready) && weir_list_empty(&io->starved));
    weir_assert(weir_list_empty(&io->going));
    close(io->fd);
    free(io);
    loop->io = NULL;
}

int weir_epoll_register(struct weir_loop *loop, int fd, uint32_t events, void *ptr, unsigned kind)
{
    struct epoll_event event = { .events = events, .data.u64 = (uintptr_t)ptr | kind };

    if (epoll_ctl(weir_epoll_of(loop)->fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    return errno == ENOMEM || errno == ENOSPC ? WEIR_ENOMEM : WEIR_ESYS;
}

/* For descriptors that live on. It has no reason to fail; were it to, their events would name
 * memory of the past. */
void weir_epoll_unregister(struct weir_loop *loop, int fd)
{
    for (int i = 0; i < WEIR_EPOLL_TRIES_MAX; i++)
        if (epoll_ctl(weir_epoll_of(loop)->fd, EPOLL_CTL_DEL, fd, NULL) == 0 || errno == ENOENT)
            return;
}

static int epoll_watch_uv(struct weir_loop *loop, int fd)
{
    return weir_epoll_register(loop, fd, EPOLLIN, NULL, DATA_UV);
}

void weir_epoll_queue(struct weir_list *list, struct weir_sock *sock)
{
    if (sock->going)
        return;
    weir_list_remove(&sock->link);
    weir_list_push_back(list, &sock->link);
}

enum { SOCK_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP };

static int epoll_add(struct weir_loop *loop, struct weir_sock *sock)
{
    weir_list_init(&sock->link);
    return weir_epoll_register(loop, sock->fd, SOCK_EVENTS | EPOLLET, sock, DATA_SOCK);
}

/* Has the kernel look at it again: what it is ready for now comes as an event. False: it could not. */
bool weir_epoll_rearm(struct weir_loop *loop, struct weir_sock *sock)
{
    uint32_t muted = (sock->mute_in ? EPOLLIN : 0) | (sock->mute_out ? EPOLLOUT : 0);
    struct epoll_event event = { .events = (SOCK_EVENTS & ~muted) | EPOLLET,
                                 .data.u64 = (uintptr_t)sock | DATA_SOCK };

    return epoll_ctl(weir_epoll_of(loop)->fd, EPOLL_CTL_MOD, sock->fd, &event) == 0;
}

static void epoll_leave(struct weir_loop *loop, struct weir_sock *sock, bool keep_fd)
{
    weir_assert(!sock->going);
    weir_epoll_queue(&weir_epoll_of(loop)->going, sock);
    sock->going = true;
    sock->receiving = false;
    sock->keep_fd = keep_fd;
}

/* Closing the descriptor ends its registration: nobody else holds the description of a socket of
 * ours. */
static void epoll_reap(struct weir_loop *loop)
{
    struct weir_io_epoll *io = weir_epoll_of(loop);
    struct weir_list now;

    if (WEIR_LIKELY(weir_list_empty(&io->going)))
        return;
    weir_list_take_all(&now, &io->going); /* who leaves meanwhile is told in the next turn */
    while (!weir_list_empty(&now)) {
        struct weir_sock *sock = weir_list_entry(weir_list_pop_front(&now), struct weir_sock, link);

        if (sock->keep_fd)
            weir_epoll_unregister(loop, sock->fd);
        else
            close(sock->fd);
        sock->sink->on_released(sock);
    }
}

static bool epoll_pending(const struct weir_loop *loop)
{
    const struct weir_io_epoll *io = weir_epoll_of(loop);

    return !weir_list_empty(&io->ready) || !weir_list_empty(&io->going);
}

/* SO_ERROR; asking clears it. */
int weir_epoll_error(const struct weir_sock *sock)
{
    int sys = 0;
    socklen_t len = sizeof(sys);

    if (getsockopt(sock->fd, SOL_SOCKET, SO_ERROR, &sys, &len))
        return errno;
    return sys;
}

void weir_epoll_fail(struct weir_sock *sock, int sys)
{
    weir_list_remove(&sock->link);
    sock->failed = true;
    sock->receiving = sock->blocked = false;
    sock->sink->on_fail(sock, sys);
}

/* The end of the peer's bytes. A send that failed before is told now. */
void weir_epoll_at_eof(struct weir_sock *sock)
{
    sock->readable = sock->receiving = false;
    if (!sock->eof) {
        sock->eof = true;
        sock->sink->on_eof(sock);
    }
    if (sock->broken && !sock->going)
        weir_epoll_fail(sock, sock->sys);
}

/* recv took nothing. */
static void sock_unread(struct weir_loop *loop, struct weir_sock *sock, int sys)
{
    struct weir_io_epoll *io = weir_epoll_of(loop);

    switch (sys) {
    case EAGAIN:
        sys = sock->broken ? sock->sys : sock->hungup ? weir_epoll_error(sock) : 0;
        if (sys) {
            weir_epoll_fail(sock, sys);
            return;
        }
        sock->recv_doubted = !sock->recv_doubted;
        if (sock->recv_doubted && weir_epoll_rearm(loop, sock))
            sock->readable = false;
        else
            weir_epoll_queue(&io->starved, sock);
        return;
    case EINTR:
        weir_epoll_queue(&io->ready, sock);
        return;
    case ENOMEM:
    case ENOBUFS:
        weir_epoll_queue(&io->starved, sock);
        return;
    default:
        weir_epoll_fail(sock, sock->broken ? sock->sys : sys);
    }
}

static size_t recv_max(const struct weir_loop *loop, const struct weir_sock *sock)
{
    size_t paced = (size_t)sock->recv_kib << 10;

    return paced && paced < loop->read_bytes ? paced : loop->read_bytes;
}

static void sock_read(struct weir_loop *loop, struct weir_sock *sock)
{
    if (WEIR_UNLIKELY(sock->by_hand)) {
        weir_epoll_by_hand(sock);
        return;
    }
    for (int i = 0; i < WEIR_READS_TURN_MAX; i++) {
        size_t max = recv_max(loop, sock); /* its owner may change that with each piece */
        ssize_t n = sys_recv(sock->fd, loop->read_buffer, max);

        if (WEIR_UNLIKELY(n <= 0)) {
            if (n == 0)
                weir_epoll_at_eof(sock);
            else
                sock_unread(loop, sock, errno);
            return;
        }
        sock->recv_doubted = false;
        if ((size_t)n < max && !sock->hungup)
            sock->readable = false; /* what comes from now on is a new edge */
        sock->sink->on_recv(sock, loop->read_buffer, (size_t)n);
        if (!sock->readable || !sock->receiving)
            return;
        if (WEIR_UNLIKELY(sock->by_hand))
            break;
    }
    weir_epoll_queue(&weir_epoll_of(loop)->ready, sock);
}

/* RST, or a send that failed. What had come before it is worth more than the news: an early answer
 * of an upstream that then resets is read first, now or when its owner reads again. */
static void sock_ended(struct weir_loop *loop, struct weir_sock *sock)
{
    int unread = 0, sys;

    if (!sock->eof) {
        sock->readable = sock->hungup = true;
        if (sock->receiving) {
            sock_read(loop, sock);
            return;
        }
        if (ioctl(sock->fd, FIONREAD, &unread) == 0 && unread > 0)
            return;
    }
    sys = sock->broken ? sock->sys : weir_epoll_error(sock);
    if (sys)
        weir_epoll_fail(sock, sys);
}

/* Is it connected now? Otherwise nothing more is to be done with this event. */
static bool sock_connected(struct weir_sock *sock, uint32_t events)
{
    int sys;

    if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        return false;
    sock->connecting = false;
    sys = weir_epoll_error(sock);
    if (sys)
        weir_epoll_fail(sock, sys);
    else
        sock->sink->on_writable(sock);
    return !sock->going && !sock->failed;
}

static void sock_event(struct weir_loop *loop, struct weir_sock *sock, uint32_t events)
{
    if (sock->going || sock->failed)
        return;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        sock->hungup = true;
    if (WEIR_UNLIKELY(sock->connecting)) {
        if (!sock_connected(sock, events))
            return;
    } else if (sock->blocked && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        sock->blocked = false;
        sock->sink->on_writable(sock);
        if (sock->going || sock->failed)
            return;
    }
    if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
        return;
    if (!sock->eof)
        sock->readable = true;
    if (sock->receiving)
        sock_read(loop, sock);
    else if (events & EPOLLERR)
        sock_ended(loop, sock);
}

/* One of the ready or starved list. */
static void sock_resume(struct weir_loop *loop, struct weir_sock *sock)
{
    if (sock->blocked && !sock->broken) { /* no memory: the owner tries once more */
        sock->blocked = false;
        sock->sink->on_writable(sock);
        if (sock->going || sock->failed)
            return;
    }
    if (WEIR_UNLIKELY(sock->at_end || sock->lost))
        weir_epoll_by_hand(sock);
    else if (sock->broken)
        sock_ended(loop, sock);
    else if (sock->receiving && sock->readable)
        sock_read(loop, sock);
}

static void epoll_recv(struct weir_loop *loop, struct weir_sock *sock, bool on)
{
    if (sock->going || sock->failed || sock->eof)
        return;
    sock->receiving = on;
    if (on && sock->readable)
        weir_epoll_queue(&weir_epoll_of(loop)->ready, sock);
}

static ssize_t sock_send(int fd, const struct iovec *iov, int count)
{
    struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count };

    if (count == 1)
        return sys_send(fd, iov->iov_base, iov->iov_len);
    return sys_sendmsg(fd, &msg);
}

/* send took nothing. */
ssize_t weir_epoll_unsent(struct weir_loop *loop, struct weir_sock *sock, int sys)
{
    struct weir_io_epoll *io = weir_epoll_of(loop);

    switch (sys) {
    case EAGAIN:
        sock->blocked = true;
        sock->send_doubted = !sock->send_doubted;
        if (!sock->send_doubted || !weir_epoll_rearm(loop, sock))
            weir_epoll_queue(&io->starved, sock);
        return 0;
    case EINTR:
    case ENOMEM:
    case ENOBUFS:
        sock->blocked = true;
        weir_epoll_queue(&io->starved, sock);
        return 0;
    default:
        sock->broken = true;
        sock->blocked = false;
        sock->sys = (uint8_t)sys;
        weir_epoll_queue(&io->ready, sock);
        return -sys;
    }
}

static ssize_t epoll_send(struct weir_loop *loop, struct weir_sock *sock, const struct iovec *iov,
                          int count)
{
    ssize_t n;
    int tries = 0;

    if (WEIR_UNLIKELY(sock->going || sock->failed || sock->broken))
        return -EPIPE;
    do
        n = sock_send(sock->fd, iov, count);
    while (WEIR_UNLIKELY(n < 0) && errno == EINTR && ++tries < WEIR_EPOLL_TRIES_MAX);
    if (WEIR_UNLIKELY(n < 0))
        return weir_epoll_unsent(loop, sock, errno);
    sock->send_doubted = false;
    sock->blocked = (size_t)n < (count == 1 ? iov->iov_len : weir_iov_len(iov, count));
    return n;
}

/* Hands out a batch. True when libuv's descriptor was in it. */
static bool epoll_hand_out(struct weir_loop *loop, const struct epoll_event *events, int count)
{
    bool uv = false;

    for (int i = 0; i < count; i++) {
        uintptr_t data = (uintptr_t)events[i].data.u64;
        void *ptr = (void *)(data & ~(uintptr_t)DATA_KIND);

        if (i + 1 < count) /* many connections: none of them is in a cache any more */
            __builtin_prefetch((void *)(uintptr_t)events[i + 1].data.u64);
        switch (data & DATA_KIND) {
        case DATA_SOCK:
            sock_event(loop, ptr, events[i].events);
            break;
        case DATA_LSOCK:
            weir_epoll_accept(ptr);
            break;
        default:
            uv = true;
        }
    }
    return uv;
}

static bool epoll_wait_turn(struct weir_loop *loop, int ms)
{
    struct weir_io_epoll *io = weir_epoll_of(loop);
    struct weir_list again, starved;
    bool uv;
    int n;

    weir_list_take_all(&again, &io->ready); /* what is queued from now on is for the next turn */
    weir_list_take_all(&starved, &io->starved);
    if (!weir_list_empty(&starved) && (ms < 0 || ms > STARVED_MS))
        ms = STARVED_MS;
    n = epoll_wait(io->fd, io->events, WEIR_EPOLL_EVENTS_MAX,
                   ms); /* interrupted: a turn without events */
    weir_loop_woke(loop);
    uv = epoll_hand_out(loop, io->events, n);
    while (WEIR_UNLIKELY(!weir_list_empty(&again)))
        sock_resume(loop, weir_list_entry(weir_list_pop_front(&again), struct weir_sock, link));
    while (WEIR_UNLIKELY(!weir_list_empty(&starved)))
        sock_resume(loop, weir_list_entry(weir_list_pop_front(&starved), struct weir_sock, link));
    return uv;
}

const struct weir_io_ops weir_io_epoll = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .watch_uv = epoll_watch_uv,
    .wait = epoll_wait_turn,
    .reap = epoll_reap,
    .pending = epoll_pending,
    .add = epoll_add,
    .recv = epoll_recv,
    .send = epoll_send,
    .hand = weir_epoll_hand,
    .take = weir_epoll_take,
    .splice_in = weir_epoll_splice_in,
    .mute = weir_epoll_mute,
    .splice_out = weir_epoll_splice_out,
    .leave = epoll_leave,
    .listen = weir_epoll_listen,
};
