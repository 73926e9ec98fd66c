/* SPDX-License-Identifier: Apache-2.0 */
/**
 * selftest.c: whether this kernel does what the mover relies on. What was measured on one kernel is not promised by the
 * next; so it is looked at, here and at each start, and never a version is read.
 */
#include "loader/selftest_lab.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LARGE_BYTES = 2 << 20, STOP_ROUNDS = 40, SMALL_BUFFER = 256 * 1024 };

typedef bool (*test_fn)(struct lab *lab, char *why, size_t size);

static bool fails(char *why, size_t size, const char *format, ...) WEIR_PRINTF(3, 4);
static bool fails(char *why, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, size, format, args);
    va_end(args);
    return false;
}

static bool enter_both(struct lab *lab, char *why, size_t size)
{
    int err = lab_enter(lab, 0);

    if (!err)
        err = lab_enter(lab, 1);
    return err ? fails(why, size, "a socket cannot become a source: %s", strerror(-err)) : true;
}

static bool told(const struct lab *lab, char *why, size_t size)
{
    return fails(why, size, "%llu of %llu bytes went down, %llu of %llu up%s",
                 (unsigned long long)lab->end[1].got, (unsigned long long)lab->end[0].sent,
                 (unsigned long long)lab->end[0].got, (unsigned long long)lab->end[1].sent,
                 lab->end[0].wrong || lab->end[1].wrong ? ", and some were wrong" : "");
}

static bool intact(const struct lab *lab)
{
    return !lab->end[0].wrong && !lab->end[1].wrong;
}

static bool test_both(struct lab *lab, char *why, size_t size)
{
    struct weir_sp_flow down, up;

    if (!enter_both(lab, why, size))
        return false;
    if (!lab_run(lab, 1000, 2000) || !intact(lab))
        return told(lab, why, size);
    down = lab_flow(lab, 0);
    up = lab_flow(lab, 1);
    if (down.moved_bytes != 1000 || up.moved_bytes != 2000)
        return fails(why, size, "the program has moved %llu and %llu bytes of 1000 and 2000",
                     (unsigned long long)down.moved_bytes, (unsigned long long)up.moved_bytes);
    return true;
}

static bool test_queued(struct lab *lab, char *why, size_t size)
{
    uint64_t since = lab_now_ms();
    struct weir_splice_path path = { 0 };

    for (int i = 0; i < 8; i++)
        if (lab_send(&lab->end[0], 700) != 700)
            return fails(why, size, "%s", strerror(errno));
    while (path.received < lab->end[0].sent) {
        if (lab->ops->path(lab->side[0], &path) || !lab_wait(since))
            return fails(why, size, "what was sent did not come over loopback");
    }
    if (!enter_both(lab, why, size))
        return false;
    return (lab_run(lab, lab->end[0].sent + 500, 0) && intact(lab)) || told(lab, why, size);
}

/* A source is watched for its end alone, and who is redirected to wakes up. */
static bool test_poll(struct lab *lab, char *why, size_t size)
{
    struct epoll_event event = { .events = EPOLLRDHUP };
    struct pollfd server = { .fd = lab->end[1].fd, .events = POLLIN };
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    bool good = false;

    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, lab->side[0], &event) != 0)
        fails(why, size, "epoll: %s", strerror(errno));
    else if (!enter_both(lab, why, size) || lab_send(&lab->end[0], 100) != 100)
        fails(why, size, "nothing could be sent");
    else if (poll(&server, 1, LAB_PATIENCE_MS) != 1)
        fails(why, size, "poll does not wake who is redirected to");
    else if (epoll_wait(epoll, &event, 1, 0) != 0)
        fails(why, size, "a piece that was moved wakes its source");
    else if (shutdown(lab->end[0].fd, SHUT_WR) != 0 ||
             epoll_wait(epoll, &event, 1, LAB_PATIENCE_MS) != 1 || !(event.events & EPOLLRDHUP))
        fails(why, size, "EPOLLRDHUP does not come");
    else
        good = true;
    if (epoll >= 0)
        close(epoll);
    return good;
}

static bool settled_in_time(struct lab *lab, unsigned dir)
{
    uint64_t since = lab_now_ms();

    while (!lab_settled(lab, dir))
        if (!lab_tend(lab) || !lab_wait(since))
            return false;
    return true;
}

static bool test_half_close(struct lab *lab, char *why, size_t size)
{
    uint64_t since = lab_now_ms();
    struct weir_splice_path path = { 0 };

    if (!enter_both(lab, why, size) || lab_send(&lab->end[0], 300) != 300 ||
        shutdown(lab->end[0].fd, SHUT_WR) != 0)
        return false;
    while (!path.fin_received)
        if (lab->ops->path(lab->side[0], &path) || !lab_wait(since))
            return fails(why, size, "FIN did not come over loopback");
    if (!settled_in_time(lab, 0))
        return fails(why, size, "what came before the FIN is not all with the target");
    if (shutdown(lab->side[1], SHUT_WR) != 0)
        return fails(why, size, "shutdown: %s", strerror(errno));
    while (!lab->end[1].ended)
        if (lab_recv(&lab->end[1], 4096) < 0 && !lab_wait(since))
            return fails(why, size, "the end is not passed on");
    if (lab->end[1].got != 300 || !intact(lab))
        return told(lab, why, size);
    return (lab_run(lab, 300, 5000) && intact(lab)) ||
           fails(why, size, "after a FIN the other direction stands still");
}

static bool test_large(struct lab *lab, char *why, size_t size)
{
    if (!enter_both(lab, why, size))
        return false;
    return (lab_run(lab, LARGE_BYTES, LARGE_BYTES) && intact(lab)) || told(lab, why, size);
}

/* The server reads nothing: the client is stopped by what TCP and the bound hold, and then not one byte is missing. */
static bool test_bound(struct lab *lab, char *why, size_t size)
{
    struct weir_sp_flow flow;
    uint64_t most = 0;

    if (!enter_both(lab, why, size))
        return false;
    for (int idle = 0; idle < STOP_ROUNDS;) {
        idle = lab_send(&lab->end[0], SMALL_BUFFER) > 0 ? 0 : idle + 1;
        lab_wait(0);
        flow = lab_flow(lab, 0);
        most = flow.held_bytes > most ? flow.held_bytes : most;
        if (lab->end[0].sent > 64 << 20)
            return fails(why, size, "a target that reads nothing has taken 64 MiB");
    }
    if (most > WEIR_SP_BOUND_BYTES)
        return fails(why, size, "%llu KiB were queued for a target that reads nothing",
                     (unsigned long long)most / 1024);
    return (lab_run(lab, lab->end[0].sent, 0) && intact(lab)) || told(lab, why, size);
}

static bool test_leave(struct lab *lab, char *why, size_t size)
{
    if (!enter_both(lab, why, size) || !lab_run(lab, 5000, 5000))
        return told(lab, why, size);
    if (!settled_in_time(lab, 0) || !lab_leave(lab, 0))
        return fails(why, size, "a source does not come to rest");
    if (lab_send(&lab->end[0], 100) != 100)
        return fails(why, size, "%s", strerror(errno));
    for (uint64_t since = lab_now_ms();;) {
        char byte;

        if (recv(lab->side[0], &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1)
            break;
        if (!lab_wait(since))
            return fails(why, size, "a socket that was a source reads nothing any more");
    }
    return true;
}

/* Only to be told: weir asks no socket so; but others might, in a debugger. */
static bool test_fionread(struct lab *lab, char *why, size_t size)
{
    uint64_t since = lab_now_ms();
    int there = 0;

    if (lab_send(&lab->end[0], 100) != 100)
        return fails(why, size, "%s", strerror(errno));
    while (ioctl(lab->side[0], FIONREAD, &there) == 0 && there != 100)
        if (lab_now_ms() - since > 50 || !lab_wait(since))
            return fails(why, size, "FIONREAD says %d of 100 on a target (a regression of Linux)",
                         there);
    return true;
}

static const struct {
    const char *name;
    test_fn test;
    bool gates;
    int rcvbuf;
} tests[] = {
    { "both directions", test_both, true, 0 }, { "bytes queued before", test_queued, true, 0 },
    { "poll wake-up", test_poll, true, 0 },    { "half-close", test_half_close, true, 0 },
    { "large transfer", test_large, true, 0 }, { "bound held", test_bound, true, SMALL_BUFFER },
    { "leaving", test_leave, true, 0 },        { "FIONREAD", test_fionread, false, 0 },
};
enum { TESTS_COUNT = sizeof(tests) / sizeof(tests[0]) };
_Static_assert((int)TESTS_COUNT <= (int)WEIR_SPLICE_FINDINGS_MAX, "every finding has a place");

int weir_splice_selftest(struct weir_splice_kern *kern, unsigned ring,
                         struct weir_splice_finding findings[WEIR_SPLICE_FINDINGS_MAX])
{
    for (int i = 0; i < TESTS_COUNT; i++) {
        struct weir_splice_finding *finding = &findings[i];
        struct lab lab;
        int err = lab_open(&lab, kern, ring, tests[i].rcvbuf);

        *finding = (struct weir_splice_finding){ .name = tests[i].name, .gates = tests[i].gates };
        if (err) {
            fails(finding->why, sizeof(finding->why), "no tunnel over loopback: %s",
                  strerror(-err));
            continue;
        }
        finding->good = tests[i].test(&lab, finding->why, sizeof(finding->why));
        if (!finding->good && !finding->why[0])
            fails(finding->why, sizeof(finding->why), "%s", strerror(errno));
        lab_close(&lab);
    }
    return TESTS_COUNT;
}

const struct weir_splice_finding *weir_splice_refuted(const struct weir_splice_finding *findings,
                                                      int count)
{
    for (int i = 0; i < count; i++)
        if (findings[i].gates && !findings[i].good)
            return &findings[i];
    return NULL;
}
