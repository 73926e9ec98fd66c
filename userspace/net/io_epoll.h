/* SPDX-License-Identifier: Apache-2.0 */
/** io_epoll.h: what the files of the epoll backend share: io_epoll.c (sockets), io_epoll_hand.c (those that are read by
 * hand), io_epoll_listen.c (listening ones). */
#ifndef NET_IO_EPOLL_H
#define NET_IO_EPOLL_H

#include "net/io.h"

#include <sys/epoll.h>

enum {
    WEIR_EPOLL_EVENTS_MAX = 256, /* of a turn */
    WEIR_EPOLL_TRIES_MAX = 8,    /* of a call that was interrupted, or that has no reason to fail */
};

/* What a registration's data is: the kind in the low bits of a pointer. */
enum { DATA_SOCK = 0, DATA_LSOCK = 1, DATA_UV = 2, DATA_KIND = 3 };

struct weir_io_epoll {
    struct weir_io io;
    int fd;
    struct weir_list ready, starved, going;
    struct epoll_event events[WEIR_EPOLL_EVENTS_MAX];
};

static inline struct weir_io_epoll *weir_epoll_of(const struct weir_loop *loop)
{
    return (struct weir_io_epoll *)loop->io;
}

/* io_epoll.c */
int weir_epoll_register(struct weir_loop *loop, int fd, uint32_t events, void *ptr, unsigned kind)
    __attribute__((warn_unused_result));
/** For descriptors that live on. It has no reason to fail; were it to, their events would name memory of the past. */
void weir_epoll_unregister(struct weir_loop *loop, int fd);
/** Stands in this list, and in no other; nothing for one that goes. */
void weir_epoll_queue(struct weir_list *list, struct weir_sock *sock);
/** Has the kernel look at it again: what it is ready for now comes as an event. False: it could not. */
bool weir_epoll_rearm(struct weir_loop *loop, struct weir_sock *sock);
/** SO_ERROR; asking clears it. */
int weir_epoll_error(const struct weir_sock *sock);
/** A send took nothing, and errno is `sys`: 0 or -sys, as weir_sock_send says. */
ssize_t weir_epoll_unsent(struct weir_loop *loop, struct weir_sock *sock, int sys);
void weir_epoll_fail(struct weir_sock *sock, int sys);
void weir_epoll_at_eof(struct weir_sock *sock);

/* io_epoll_hand.c */
/** It may be readable, and is read by hand: its owner, or what he has met, is told. */
void weir_epoll_by_hand(struct weir_sock *sock);
void weir_epoll_hand(struct weir_loop *loop, struct weir_sock *sock, bool on);
ssize_t weir_epoll_take(struct weir_loop *loop, struct weir_sock *sock, void *data, size_t len,
                        int flags);
int weir_epoll_mute(struct weir_loop *loop, struct weir_sock *sock, bool in, bool out);
ssize_t weir_epoll_splice_in(struct weir_loop *loop, struct weir_sock *sock, int pipe, size_t len);
ssize_t weir_epoll_splice_out(struct weir_loop *loop, struct weir_sock *sock, int pipe, size_t len);

/* io_epoll_listen.c */
void weir_epoll_accept(struct weir_lsock *lsock);
int weir_epoll_listen(struct weir_loop *loop, struct weir_lsock *lsock, bool on);

#endif
