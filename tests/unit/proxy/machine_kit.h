/* SPDX-License-Identifier: Apache-2.0 */
/** machine_kit.h: what stands around the proxy in the tests of the request machine: sockets, an upstream of threads, and
 * allocations that fail. For one file: it defines malloc's wrappers. */
#ifndef MACHINE_KIT_H
#define MACHINE_KIT_H

#include "../alloc_wrap.h"
#include "base/clock.h"
#include "weir/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- allocations that fail: of other threads than the test's own ---- */

static _Atomic long fail_in; /* 0: never; n: the n-th from now */
static _Thread_local bool spared;

static bool fails_now(void)
{
    if (spared || atomic_load_explicit(&fail_in, memory_order_relaxed) <= 0)
        return false;
    return atomic_fetch_sub(&fail_in, 1) == 1;
}

/* ---- sockets ---- */

static inline int listen_on(int backlog, unsigned *port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

/* -1: it was reset before connect() has returned. */
static inline int try_dial(unsigned port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)port) };
    struct timeval limit = { .tv_sec = 5 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        assert_int_equal(errno, ECONNRESET);
        close(fd);
        return -1;
    }
    return fd;
}

static inline int dial(unsigned port)
{
    int fd = try_dial(port);

    assert_true(fd >= 0);
    return fd;
}

static inline void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* All until the peer closes: how much, or -1 when it ended by RST or not within 5 s. */
static inline ssize_t hear(int fd, char *text, size_t room)
{
    size_t have = 0;
    ssize_t n = 0;

    while (have + 1 < room && (n = recv(fd, text + have, room - 1 - have, 0)) > 0)
        have += (size_t)n;
    text[have] = 0;
    return n < 0 ? -1 : (ssize_t)have;
}

/* ---- the upstream: a thread a connection ---- */

static unsigned up_port;
static int up_fd;

/* A head, and a body of the length that it says, or in chunks. False: the proxy has gone. */
static inline bool read_request(int fd, char *head, size_t room)
{
    size_t have = 0, need = 0;
    char *end = NULL, *length;

    for (;;) {
        ssize_t n;

        head[have] = 0;
        end = strstr(head, "\r\n\r\n");
        if (end && strstr(head, "chunked") && strstr(end + 2, "\r\n0\r\n\r\n"))
            return true;
        length = end ? strstr(head, "ontent-Length: ") : NULL;
        need = length ? strtoul(length + 15, NULL, 10) : 0;
        if (end && !strstr(head, "chunked") && have >= (size_t)(end + 4 - head) + need)
            return true;
        n = recv(fd, head + have, room - 1 - have, 0);
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
}

static inline void answer(int fd, const char *head)
{
    static const char big[512 * 1024] = { [0 ... 512 * 1024 - 1] = 'x' }; /* of all threads */
    char text[200];

    if (strstr(head, "/close"))
        return;
    if (strstr(head, "/slow"))
        usleep(100 * 1000);
    if (strstr(head, "/big")) {
        snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof(big));
        send(fd, text, strlen(text), MSG_NOSIGNAL);
        for (size_t at = 0; at < sizeof(big);) {
            ssize_t n = send(fd, big + at, sizeof(big) - at, MSG_NOSIGNAL);

            if (n <= 0)
                return;
            at += (size_t)n;
        }
        return;
    }
    if (strstr(head, "/trailer"))
        snprintf(text, sizeof(text),
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-t: "
                 "1\r\n\r\n");
    else
        snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static inline void *up_serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char *head = malloc(1 << 20);

    spared = true;
    while (head && read_request(fd, head, 1 << 20) && !strstr(head, "/close"))
        answer(fd, head);
    free(head);
    close(fd);
    return NULL;
}

static inline void *up_accept(void *arg)
{
    int fd;

    (void)arg;
    spared = true;
    while ((fd = accept(up_fd, NULL, NULL)) >= 0) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, up_serve, (void *)(intptr_t)fd))
            close(fd);
        else
            pthread_detach(thread);
    }
    return NULL;
}

#endif
