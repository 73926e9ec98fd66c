/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/selftest_lab.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_BYTES = 32 * 1024, ROUND_BYTES = 8 * PIECE_BYTES };

uint64_t lab_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool lab_wait(uint64_t since_ms)
{
    struct timespec nap = { 0, 200 * 1000 };

    nanosleep(&nap, NULL);
    return lab_now_ms() - since_ms < LAB_PATIENCE_MS;
}

/* ---- sockets ------------------------------------------------------------------------------ */

static int connect_pair(int rcvbuf, int *near, int *far)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, err = 0;

    *near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *far = -1;
    if (listener < 0 || *near < 0)
        return -errno;
    if (rcvbuf) {
        (void)setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
        (void)setsockopt(*near, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
    }
    if (bind(listener, (struct sockaddr *)&addr, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&addr, &len) ||
        connect(*near, (struct sockaddr *)&addr, len))
        err = -errno;
    if (!err)
        *far = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (!err && *far < 0)
        err = -errno;
    if (!err) {
        (void)setsockopt(*near, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        (void)setsockopt(*far, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    close(listener);
    return err;
}

int lab_open(struct lab *lab, struct weir_splice_kern *kern, unsigned ring, int rcvbuf)
{
    int err;

    memset(lab, 0, sizeof(*lab));
    lab->kern = kern;
    lab->ops = kern->ops;
    lab->ring = ring;
    lab->end[0].fd = lab->end[1].fd = lab->side[0] = lab->side[1] = -1;
    err = connect_pair(rcvbuf, &lab->end[0].fd, &lab->side[0]);
    if (!err)
        err = connect_pair(rcvbuf, &lab->side[1], &lab->end[1].fd);
    for (unsigned i = 0; !err && i < 2; i++) {
        lab->cookie[i] = lab->ops->cookie(lab->side[i]);
        err = lab->ops->target_add(kern, lab->cookie[i], lab->side[i]);
    }
    if (err)
        lab_close(lab);
    return err;
}

void lab_close(struct lab *lab)
{
    for (unsigned i = 0; i < 2; i++) {
        if (lab->side[i] >= 0)
            close(lab->side[i]);
        if (lab->end[i].fd >= 0)
            close(lab->end[i].fd);
        lab->side[i] = lab->end[i].fd = -1;
        if (lab->pair[i].epoch)
            lab->ops->source_forget(lab->kern, lab->cookie[i]);
    }
}

/* ---- the ends ----------------------------------------------------------------------------- */

/* The byte at a place of a stream; no two places near each other look alike. */
static uint8_t byte_at(uint64_t place)
{
    uint64_t x = place * 0x9e3779b97f4a7c15u;

    return (uint8_t)(x >> 56 ^ x >> 24);
}

long lab_send(struct lab_end *end, size_t bytes)
{
    uint8_t piece[PIECE_BYTES];
    long all = 0;

    while ((size_t)all < bytes) {
        size_t want = bytes - (size_t)all < sizeof(piece) ? bytes - (size_t)all : sizeof(piece);
        ssize_t n;

        for (size_t i = 0; i < want; i++)
            piece[i] = byte_at(end->sent + i);
        n = send(end->fd, piece, want, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            return all ? all : -errno;
        end->sent += (uint64_t)n;
        all += n;
    }
    return all;
}

long lab_recv(struct lab_end *end, size_t bytes)
{
    uint8_t piece[PIECE_BYTES];
    long all = 0;

    while ((size_t)all < bytes) {
        size_t want = bytes - (size_t)all < sizeof(piece) ? bytes - (size_t)all : sizeof(piece);
        ssize_t n = recv(end->fd, piece, want, MSG_DONTWAIT);

        if (n < 0)
            return all ? all : -errno;
        if (n == 0) {
            end->ended = true;
            break;
        }
        for (ssize_t i = 0; i < n; i++)
            end->wrong = end->wrong || piece[i] != byte_at(end->got + (uint64_t)i);
        end->got += (uint64_t)n;
        all += n;
    }
    return all;
}

/* ---- the mover's rules -------------------------------------------------------------------- */

struct weir_sp_flow lab_flow(const struct lab *lab, unsigned dir)
{
    struct weir_sp_flow flow = { 0 };

    (void)lab->ops->source_get(lab->kern, lab->cookie[dir], NULL, &flow);
    return flow;
}

int lab_enter(struct lab *lab, unsigned dir)
{
    struct weir_splice_path in, out;
    int err = lab->ops->path(lab->side[dir], &in);

    if (!err)
        err = lab->ops->path(lab->side[!dir], &out);
    if (err)
        return err;
    lab->pair[dir] = (struct weir_sp_pair){ .peer = lab->cookie[!dir],
                                            .limit_bytes = ~0ull,
                                            .in_base = in.received,
                                            .out_base = out.written,
                                            .epoch = 1,
                                            .state = WEIR_SP_MOVING,
                                            .ring = lab->ring };
    lab->read[dir] = 0;
    err = lab->ops->source_add(lab->kern, lab->cookie[dir], lab->side[dir], &lab->pair[dir]);
    if (err)
        lab->pair[dir].epoch = 0;
    return err ? err : lab->ops->kick(lab->side[dir]);
}

/* The target has what was redirected, and what was sent on. */
static bool all_taken(const struct lab *lab, unsigned dir, const struct weir_sp_flow *flow)
{
    struct weir_splice_path out;

    return lab->ops->path(lab->side[!dir], &out) == 0 &&
           out.written - lab->pair[dir].out_base == flow->moved_bytes + lab->read[dir];
}

/* Peeked, sent, consumed; never more than was passed, since what lies behind that is the program's. */
bool lab_pass(struct lab *lab, unsigned dir)
{
    struct weir_sp_flow flow = lab_flow(lab, dir);
    uint8_t piece[PIECE_BYTES];

    if (flow.passed_bytes > lab->read[dir] && !all_taken(lab, dir, &flow))
        return true; /* not yet: it would overtake */
    while (flow.passed_bytes > lab->read[dir]) {
        uint64_t left = flow.passed_bytes - lab->read[dir];
        size_t want = left < sizeof(piece) ? (size_t)left : sizeof(piece);
        ssize_t n = recv(lab->side[dir], piece, want, MSG_PEEK | MSG_DONTWAIT), sent;

        if (n <= 0) {
            lab->last_errno = n ? errno : EPIPE;
            return n < 0 &&
                   errno == EAGAIN; /* the program has said so before the kernel has queued it */
        }
        sent = send(lab->side[!dir], piece, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            lab->last_errno = errno;
            return errno == EAGAIN;
        }
        if (recv(lab->side[dir], piece, (size_t)sent, MSG_DONTWAIT) != sent)
            return false;
        lab->read[dir] += (uint64_t)sent;
    }
    return true;
}

bool lab_settled(const struct lab *lab, unsigned dir)
{
    struct weir_sp_flow flow = lab_flow(lab, dir);
    struct weir_splice_path in;

    return lab->ops->path(lab->side[dir], &in) == 0 &&
           in.received - lab->pair[dir].in_base == flow.moved_bytes + flow.passed_bytes &&
           flow.passed_bytes == lab->read[dir] && all_taken(lab, dir, &flow);
}

bool lab_renew(struct lab *lab, unsigned dir)
{
    struct weir_sp_flow flow = lab_flow(lab, dir);
    struct weir_splice_frost frost;
    int err = 0;

    if (!flow.latched || flow.passed_bytes != lab->read[dir] || !all_taken(lab, dir, &flow))
        return true;
    if (lab->ops->freeze(lab->side[dir], &frost))
        return false;
    flow = lab_flow(lab, dir); /* again: a piece may have come */
    if (flow.passed_bytes == lab->read[dir]) {
        lab->pair[dir].epoch++;
        lab->pair[dir].taken_bytes = flow.moved_bytes;
        lab->pair[dir].read_bytes = lab->read[dir];
        err = lab->ops->source_set(lab->kern, lab->cookie[dir], &lab->pair[dir]);
        lab->laps++;
    }
    return lab->ops->thaw(lab->side[dir], &frost) == 0 && !err;
}

/* Nothing is redirected any more, so that there is a moment at which the target has taken all. */
static bool ask(struct lab *lab, unsigned dir)
{
    if (lab->pair[dir].state == WEIR_SP_PASSING)
        return true;
    lab->pair[dir].state = WEIR_SP_PASSING;
    return lab->ops->source_set(lab->kern, lab->cookie[dir], &lab->pair[dir]) == 0;
}

bool lab_leave(struct lab *lab, unsigned dir)
{
    struct weir_splice_frost frost;
    struct weir_sp_flow flow;
    bool quiet;

    if (!ask(lab, dir) || !lab_pass(lab, dir) || lab->ops->freeze(lab->side[dir], &frost))
        return false;
    flow = lab_flow(lab, dir);
    quiet = flow.passed_bytes == lab->read[dir] && all_taken(lab, dir, &flow) &&
            lab->ops->source_del(lab->kern, lab->cookie[dir], &flow) == 0;
    if (quiet)
        lab->pair[dir].epoch = 0;
    (void)lab->ops->thaw(lab->side[dir], &frost);
    return quiet;
}

bool lab_tend(struct lab *lab)
{
    for (unsigned dir = 0; dir < 2; dir++)
        if (lab->pair[dir].epoch && (!lab_pass(lab, dir) || !lab_renew(lab, dir)))
            return false;
    return true;
}

bool lab_run(struct lab *lab, uint64_t down_bytes, uint64_t up_bytes)
{
    uint64_t want[2] = { down_bytes, up_bytes }, since = lab_now_ms();

    for (;;) {
        bool done = true, moved = false;

        for (unsigned i = 0; i < 2; i++) {
            struct lab_end *from = &lab->end[i], *to = &lab->end[!i];
            uint64_t left = want[i] - from->sent;

            moved = lab_send(from, left < ROUND_BYTES ? (size_t)left : ROUND_BYTES) > 0 || moved;
            moved = lab_recv(to, ROUND_BYTES) > 0 || moved;
            done = done && to->got >= want[i];
        }
        if (done || !lab_tend(lab))
            return done;
        if (!moved && !lab_wait(since))
            return false;
    }
}
