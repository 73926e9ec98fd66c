/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delay_relay.c: a long way between a client and a proxy, for machines without netem.
 *
 *   delay_relay LISTEN_PORT TARGET_PORT DELAY_MS [MBIT_PER_S]
 *
 * What comes on 127.0.0.1:LISTEN_PORT goes to 127.0.0.1:TARGET_PORT DELAY_MS later, and the same way back: a round trip
 * takes twice that. Both ways hold up to 256 MiB, so that only the windows of HTTP/2 bound what is in flight; with
 * MBIT_PER_S bytes leave no faster than that. TCP itself ends here and sees no delay. Runs until it is ended.
 *
 * Each direction of a connection is one thread with one ring of bytes and one of when they are due.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    RING_BYTES = 256 << 20,
    READ_BYTES = 256 << 10,
    STAMPS = 1 << 16,
};

struct stamp {
    uint64_t due_ns, end; /* bytes before this offset */
};

struct way {
    int from, to;
    char *ring;
    struct stamp *stamps;
    uint64_t in, out, stamped, due; /* bytes read and written; stamps made and passed */
    uint64_t free_ns;               /* when the line has sent all that it took */
    uint64_t eof_ns;                /* when the end is due; 0: not yet read */
};

static uint64_t delay_ns;
static double ns_per_byte;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static size_t least(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

static int has_room(const struct way *w)
{
    return !w->eof_ns && w->in - w->out < RING_BYTES && w->stamped - w->due < STAMPS;
}

/* Bytes that may leave now. */
static uint64_t due_bytes(struct way *w, uint64_t now)
{
    uint64_t end = w->out;

    for (uint64_t i = w->due; i < w->stamped && w->stamps[i % STAMPS].due_ns <= now; i++)
        end = w->stamps[i % STAMPS].end;
    return end - w->out;
}

/* -1: gone, 0: nothing to be read, 1: read. */
static int take(struct way *w)
{
    uint64_t at = w->in % RING_BYTES, now;
    size_t room = least(least(RING_BYTES - at, RING_BYTES - (w->in - w->out)), READ_BYTES);
    ssize_t n = recv(w->from, w->ring + at, room, 0);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    now = now_ns();
    if (n == 0) {
        w->eof_ns = now + delay_ns;
        return 0;
    }
    w->in += (uint64_t)n;
    w->free_ns = (w->free_ns > now ? w->free_ns : now) + (uint64_t)(ns_per_byte * (double)n);
    w->stamps[w->stamped++ % STAMPS] = (struct stamp){ w->free_ns + delay_ns, w->in };
    return 1;
}

/* -1: gone, 0: the other takes no more, 1: all that was due has left. */
static int give(struct way *w)
{
    uint64_t due;

    while ((due = due_bytes(w, now_ns())) > 0) {
        uint64_t at = w->out % RING_BYTES;
        ssize_t n = send(w->to, w->ring + at, least(RING_BYTES - at, due), MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        w->out += (uint64_t)n;
        while (w->due < w->stamped && w->stamps[w->due % STAMPS].end <= w->out)
            w->due++;
    }
    return 1;
}

/* Until a side can do something, or a stamp is due. */
static void wait(const struct way *w, int blocked)
{
    struct pollfd fds[2] = { { has_room(w) ? w->from : -1, POLLIN, 0 },
                             { blocked ? w->to : -1, POLLOUT, 0 } };
    uint64_t now = now_ns(),
             until = w->due < w->stamped ? w->stamps[w->due % STAMPS].due_ns : w->eof_ns;
    uint64_t left = until > now ? until - now : 0;
    struct timespec t = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };

    ppoll(fds, 2, blocked || !until ? NULL : &t, NULL);
}

static void *carry(void *arg)
{
    struct way *w = arg;

    for (;;) {
        int gone = 0, given;

        if (has_room(w))
            gone = take(w) < 0;
        given = give(w);
        if (gone || given < 0 || (w->eof_ns && w->in == w->out && now_ns() >= w->eof_ns))
            break;
        wait(w, given == 0);
    }
    /* the end, or an error: both sides learn it. The descriptors stay: the other direction has them too */
    shutdown(w->to, SHUT_WR);
    if (w->in != w->out)
        shutdown(w->from, SHUT_RD);
    munmap(w->ring, RING_BYTES);
    free(w->stamps);
    free(w);
    return NULL;
}

static void begin(int from, int to)
{
    struct way *w = calloc(1, sizeof(*w));
    pthread_t thread;
    int one = 1;

    setsockopt(to, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(from, F_SETFL, O_NONBLOCK);
    w->from = from;
    w->to = to;
    w->ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    w->stamps = malloc(STAMPS * sizeof(*w->stamps));
    if (w->ring == MAP_FAILED || !w->stamps || pthread_create(&thread, NULL, carry, w)) {
        perror("delay_relay");
        exit(1);
    }
    pthread_detach(thread);
}

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)atoi(port)),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

int main(int argc, char **argv)
{
    struct sockaddr_in here, there;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    if (argc < 4) {
        fprintf(stderr, "usage: delay_relay LISTEN_PORT TARGET_PORT DELAY_MS [MBIT_PER_S]\n");
        return 2;
    }
    here = loopback(argv[1]);
    there = loopback(argv[2]);
    delay_ns = (uint64_t)(atof(argv[3]) * 1e6);
    ns_per_byte = argc > 4 && atof(argv[4]) > 0 ? 8000 / atof(argv[4]) : 0;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, 16)) {
        perror("delay_relay");
        return 1;
    }
    for (;;) {
        int down = accept(listener, NULL, NULL), up = socket(AF_INET, SOCK_STREAM, 0);

        if (down < 0 || up < 0 || connect(up, (struct sockaddr *)&there, sizeof(there))) {
            perror("delay_relay");
            return 1;
        }
        begin(down, up);
        begin(up, down);
    }
}
