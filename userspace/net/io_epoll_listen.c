/* SPDX-License-Identifier: Apache-2.0 */
/* io_epoll_listen.c: listening sockets. They are level-triggered, and exclusive: one of several loops that share one is woken. */
#include "net/io_epoll.h"

#include "weir/limits.h"

#include <errno.h>

enum {
    ACCEPT_PAUSE_MS = 50,
    ACCEPT_STREAK = 4, /* full bursts before a larger one is tried */
};

static int lsock_register(struct weir_lsock *lsock)
{
    return weir_epoll_register(lsock->loop, lsock->fd, EPOLLIN | EPOLLEXCLUSIVE, lsock, DATA_LSOCK);
}

static void lsock_pause(struct weir_lsock *lsock);

static void on_pause_over(struct weir_timer *timer, void *arg)
{
    struct weir_lsock *lsock = arg;

    lsock->paused = false;
    if (lsock_register(lsock))
        lsock_pause(lsock);
}

static void lsock_pause(struct weir_lsock *lsock)
{
    lsock->paused = true;
    weir_loop_timer(lsock->loop, &lsock->pause, ACCEPT_PAUSE_MS, on_pause_over, lsock);
}

/* Errors that concern the one connection that was to be accepted (accept(2)). */
static bool accept_may_go_on(int sys)
{
    switch (sys) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

/* False: no more for now. */
static bool lsock_accept(struct weir_lsock *lsock)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int fd = accept4(lsock->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (WEIR_LIKELY(fd >= 0)) {
        lsock->on_accept(lsock, fd, (struct sockaddr *)&peer, len);
        return lsock->on && !lsock->paused;
    }
    if (accept_may_go_on(errno))
        return true;
    if (errno != EAGAIN) {
        int sys = errno;

        weir_epoll_unregister(lsock->loop, lsock->fd);
        lsock_pause(lsock);
        lsock->on_fail(lsock, sys);
    }
    return false;
}

void weir_epoll_accept(struct weir_lsock *lsock)
{
    unsigned n = 0;

    if (!lsock->on || lsock->paused)
        return;
    while (n < lsock->burst && lsock_accept(lsock))
        n++;
    if (n < lsock->burst) {
        lsock->burst = n ? n : 1;
        lsock->streak = 0;
    } else if (++lsock->streak >= ACCEPT_STREAK && n < WEIR_ACCEPTS_TURN_MAX) {
        lsock->burst *= 2;
        lsock->streak = 0;
    }
}

int weir_epoll_listen(struct weir_loop *loop, struct weir_lsock *lsock, bool on)
{
    int err = 0;

    if (on == lsock->on)
        return 0;
    lsock->loop = loop;
    if (on) {
        lsock->burst = 1;
        lsock->streak = 0;
        err = lsock_register(lsock);
    } else if (lsock->paused) {
        weir_timer_stop(&loop->wheel, &lsock->pause);
        lsock->paused = false;
    } else {
        weir_epoll_unregister(loop, lsock->fd);
    }
    if (!err)
        lsock->on = on;
    return err;
}
