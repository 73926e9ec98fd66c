/* SPDX-License-Identifier: Apache-2.0 */
/**
 * loop.h: the loop of one worker: sockets by an io backend (io.h), everything else by libuv.
 *
 * A turn: wait in the backend (which also watches libuv's own descriptor), hand out events and what
 * other threads sent, fire timers, run what was put off, close what was closed, and then heavy
 * tasks, for WEIR_HEAVY_TURN_US. The wait is
 * in the backend and not in uv_run: one system call a turn instead of two, and the same shape under
 * io_uring (uv_backend_fd is watched, uv_backend_timeout caps the wait). Everything of a loop
 * belongs to its thread, but for weir_loop_post and weir_loop_stop.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/metric.h"
#include "base/slab.h"
#include "base/wheel.h"
#include "weir/log.h"

#include <uv.h>

struct weir_io;
struct weir_loop;
struct weir_splicer;

enum {
    WEIR_HEAVY_TURN_US = 250, /* when heavy tasks have taken this long, others are looked after */
};

/** A message to a loop. Owned by the sender until `fn` is called on the loop's thread; may be sent
 * again from there. */
struct weir_mail {
    struct weir_mail *next;
    void (*fn)(struct weir_loop *loop, void *arg);
    void *arg;
};

/** Something for later on this loop. 0-filled means "not queued". */
struct weir_later {
    struct weir_list link;
    void (*fn)(void *arg);
    void *arg;
};

struct weir_loop {
    unsigned id;
    struct weir_log *log;
    uint64_t now_us; /* of this turn, monotonic */
    uint64_t now_ms;
    struct weir_io *io;
    struct weir_wheel wheel;
    struct weir_list deferred; /* weir_later: at the end of this turn */
    struct weir_list last;     /* weir_later: behind those */
    struct weir_list heavy;    /* weir_later: some a turn */
    uint8_t *read_buffer; /* WEIR_READ_BUFFER_BYTES, lent to whoever is reading in this callback */
    size_t read_bytes;    /* of it, that one read may take: the owner of the loop may set less */
    struct weir_arena_cache arenas;
    struct weir_buf_cache bufs;
    struct weir_slab tcps;        /* struct weir_tcp */
    struct weir_slab tcp_extras;  /* what a stream needs while it connects or has bytes pending */
    struct weir_slab tlss;        /* struct weir_tls */
    void *tls;                    /* net/tls: scratch of this worker */
    struct weir_splicer *splicer; /* accel: what its splices share; NULL: there are none */
    uv_loop_t uv;
    uv_async_t wake;
    _Atomic(struct weir_mail *) mail;
    _Atomic bool asleep; /* blocked in the backend, or about to be: a sender must wake it */
    _Atomic bool stopping;
    uint64_t wait_us;     /* when this turn began to wait, 0: it did not */
    uint64_t uv_ms;       /* now_ms when libuv's cached time was last made right */
    weir_counter busy_us; /* time not spent waiting */
};

/** 0, WEIR_ENOMEM, WEIR_ESYS. `log` may be NULL. */
int weir_loop_init(struct weir_loop *loop, unsigned id, struct weir_log *log)
    __attribute__((warn_unused_result));
/** After its thread has ended. Everything on it must be closed: checked. */
void weir_loop_fini(struct weir_loop *loop);
/** Gives back memory that a burst has left: call it about once a second, from a timer. */
void weir_loop_trim(struct weir_loop *loop);
/** Runs until weir_loop_stop. On the loop's thread. */
void weir_loop_run(struct weir_loop *loop);
/** One turn; waits at most `max_ms` (-1: as long as it takes). For tests and for programs with a
 * loop of their own. */
void weir_loop_turn(struct weir_loop *loop, int max_ms);
/** Ends weir_loop_run after its turn. Any thread. */
void weir_loop_stop(struct weir_loop *loop);
/** Sends; in order for one sender. Any thread. */
void weir_loop_post(struct weir_loop *loop, struct weir_mail *mail);
/** Runs `later` at the end of this turn: for completions, which never run inside the call that
 * asked. */
void weir_loop_defer(struct weir_loop *loop, struct weir_later *later, void (*fn)(void *arg),
                     void *arg);
/** Runs `later` behind all that was deferred in this turn: for what gathers what those have to say. */
void weir_loop_defer_last(struct weir_loop *loop, struct weir_later *later, void (*fn)(void *arg),
                          void *arg);
/** Runs `later` when everybody else has had his turn: for work of 0.1 ms and more (handshakes).
 * Order kept; one a turn, and more of them while they are short. */
void weir_loop_heavy(struct weir_loop *loop, struct weir_later *later, void (*fn)(void *arg),
                     void *arg);
/** Takes it back; harmless when it is not queued. */
void weir_later_cancel(struct weir_later *later);
static inline bool weir_later_queued(const struct weir_later *later)
{
    return later->link.next != NULL && later->link.next != &later->link;
}

/** For io backends: right after the wait and before the first event. Sets the time of the turn. */
void weir_loop_woke(struct weir_loop *loop);

static inline void weir_loop_timer(struct weir_loop *loop, struct weir_timer *timer,
                                   uint64_t after_ms, weir_timer_fn fn, void *arg)
{
    weir_timer_start(&loop->wheel, timer, loop->now_ms, after_ms, fn, arg);
}

#endif
