/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c: the turns of a worker.
 *
 * The backend's wait is the only place that blocks. libuv is run only when its descriptor was
 * ready, when a timer of its own is due, or when a handle was started or closed (uv_backend_timeout
 * says 0 then): in the busy case a turn costs one system call and no call of uv_run.
 */
#include "net/loop.h"

#include "base/clock.h"
#include "net/io.h"
#include "net/tcp.h"
#include "net/tls.h"
#include "weir/error.h"
#include "weir/limits.h"

#include <stdlib.h>
#include <unistd.h>

enum { FINI_TURNS_MAX = 1000 };

/* The letters are read in every turn; this handle only ends the wait. */
static void on_wake(uv_async_t *wake)
{
}

static int loop_open_uv(struct weir_loop *loop)
{
    if (uv_loop_init(&loop->uv))
        return WEIR_ESYS;
    loop->uv.data = loop;
    if (uv_async_init(&loop->uv, &loop->wake, on_wake)) {
        weir_assert(uv_loop_close(&loop->uv) == 0);
        return WEIR_ESYS;
    }
    uv_run(&loop->uv, UV_RUN_NOWAIT); /* registers it */
    return 0;
}

/* All handles that are not ours must be closed, or closing, by now. */
static void loop_close_uv(struct weir_loop *loop)
{
    int turns = 0;

    uv_close((uv_handle_t *)&loop->wake, NULL);
    while (uv_run(&loop->uv, UV_RUN_NOWAIT) && turns++ < FINI_TURNS_MAX)
        usleep(1000);
    weir_assert(uv_loop_close(&loop->uv) == 0);
}

static int loop_open_io(struct weir_loop *loop)
{
    int err = weir_io_epoll.open(loop);

    if (err)
        return err;
    err = loop->io->ops->watch_uv(loop, uv_backend_fd(&loop->uv));
    if (err)
        loop->io->ops->close(loop);
    return err;
}

static void loop_set_time(struct weir_loop *loop, uint64_t now_us)
{
    loop->now_us = now_us;
    loop->now_ms = now_us / 1000;
}

int weir_loop_init(struct weir_loop *loop, unsigned id, struct weir_log *log)
{
    int err;

    *loop = (struct weir_loop){ .id = id, .log = log, .read_bytes = WEIR_READ_BUFFER_BYTES };
    loop_set_time(loop, weir_clock_us());
    weir_wheel_init(&loop->wheel, loop->now_ms);
    weir_list_init(&loop->deferred);
    weir_list_init(&loop->last);
    weir_list_init(&loop->heavy);
    weir_arena_cache_init(&loop->arenas);
    weir_buf_cache_init(&loop->bufs);
    weir_tcp_loop_init(loop);
    loop->read_buffer = aligned_alloc(64, WEIR_READ_BUFFER_BYTES);
    if (!loop->read_buffer)
        return WEIR_ENOMEM;
    err = loop_open_uv(loop);
    if (err)
        goto free_buffer;
    err = loop_open_io(loop);
    if (err)
        goto close_uv;
    err = weir_tls_loop_init(loop);
    if (err)
        goto close_io;
    return 0;
close_io:
    loop->io->ops->close(loop);
close_uv:
    loop_close_uv(loop);
free_buffer:
    free(loop->read_buffer);
    return err;
}

static void loop_run_list(struct weir_list *list)
{
    struct weir_list now; /* what these put off is for the next turn */

    weir_list_take_all(&now, list);
    while (!weir_list_empty(&now)) {
        struct weir_later *later =
            weir_list_entry(weir_list_pop_front(&now), struct weir_later, link);

        later->fn(later->arg);
    }
}

static void loop_run_deferred(struct weir_loop *loop)
{
    if (!weir_list_empty(&loop->deferred))
        loop_run_list(&loop->deferred);
    if (!weir_list_empty(&loop->last))
        loop_run_list(&loop->last);
}

/* Letters that came after the last turn, and what was closed in it and has still to say so. */
static void loop_settle(struct weir_loop *loop)
{
    int turns = 0;

    do
        weir_loop_turn(loop, 0);
    while (loop->io->ops->pending(loop) && ++turns < FINI_TURNS_MAX);
    loop_run_deferred(loop);
}

void weir_loop_fini(struct weir_loop *loop)
{
    loop_settle(loop);
    weir_assert(loop->tcps.used == 0);
    weir_assert(weir_list_empty(&loop->deferred) && weir_list_empty(&loop->last) &&
                weir_list_empty(&loop->heavy));
    weir_assert(loop->wheel.armed == 0);
    weir_tls_loop_fini(loop);
    loop->io->ops->close(loop);
    loop_close_uv(loop);
    weir_tcp_loop_fini(loop);
    weir_arena_cache_fini(&loop->arenas);
    weir_buf_cache_fini(&loop->bufs);
    free(loop->read_buffer);
    loop->read_buffer = NULL;
}

void weir_loop_trim(struct weir_loop *loop)
{
    weir_slab_trim(&loop->arenas.chunks);
    weir_slab_trim(&loop->bufs.chunks);
    weir_slab_trim(&loop->tcps);
    weir_slab_trim(&loop->tcp_extras);
    weir_slab_trim(&loop->tlss);
}

void weir_loop_woke(struct weir_loop *loop)
{
    uint64_t now = weir_clock_us();
    uint64_t busy_until = loop->wait_us ? loop->wait_us : now;

    atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    weir_count(&loop->busy_us, busy_until - loop->now_us);
    loop_set_time(loop, now);
    if (loop->uv_ms != loop->now_ms) { /* no more often than its clock shows */
        loop->uv_ms = loop->now_ms;
        uv_update_time(&loop->uv);
    }
}

static int min_wait(int a, int b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return a < b ? a : b;
}

/* How long this turn may wait. libuv is brought up to date first: a handle that was started since
 * then does not make its descriptor ready, and a timer of its own that is due is run here. */
static int loop_wait_ms(struct weir_loop *loop, int max_ms)
{
    int uv_ms = uv_backend_timeout(&loop->uv);

    if (uv_ms == 0) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
        return 0; /* a turn that has run something does not block */
    }
    if (loop->io->ops->pending(loop) || !weir_list_empty(&loop->heavy) ||
        !weir_list_empty(&loop->deferred) || !weir_list_empty(&loop->last))
        return 0;
    return min_wait(min_wait(max_ms, uv_ms), weir_wheel_next_ms(&loop->wheel, loop->now_ms));
}

/* A sender looks at `asleep` after its letter is in the box, and we look into the box after
 * `asleep` is set: one of the two sees the other. */
static int loop_fall_asleep(struct weir_loop *loop, int ms)
{
    loop->wait_us = 0;
    if (ms == 0)
        return 0;
    atomic_store(&loop->asleep, true);
    if (atomic_load(&loop->mail) || atomic_load(&loop->stopping))
        return 0;
    loop->wait_us = weir_clock_us();
    return ms;
}

/* Newest first in the box, oldest first to the readers. */
static void loop_read_mail(struct weir_loop *loop)
{
    struct weir_mail *mail, *oldest = NULL;

    if (!atomic_load_explicit(&loop->mail, memory_order_relaxed))
        return;
    mail = atomic_exchange_explicit(&loop->mail, NULL, memory_order_acquire);
    while (mail) {
        struct weir_mail *next = mail->next;

        mail->next = oldest;
        oldest = mail;
        mail = next;
    }
    while (oldest) {
        mail = oldest;
        oldest = mail->next;
        mail->fn(loop,
                 mail->arg); /* the letter is the sender's again, and may be on its way again */
    }
}

/* At least one, and on until the time of a turn is used up: two cheap steps need no turn each. What
 * they put off is for the next turn (or for this one, when the last of them was taken back). */
static void loop_run_heavy(struct weir_loop *loop)
{
    const struct weir_list *last = loop->heavy.prev, *link;
    uint64_t start = weir_clock_us();

    do {
        struct weir_later *later =
            weir_list_entry(weir_list_pop_front(&loop->heavy), struct weir_later, link);

        link = &later->link;
        later->fn(later->arg);
    } while (link != last && !weir_list_empty(&loop->heavy) &&
             weir_clock_us() - start < WEIR_HEAVY_TURN_US);
}

static void loop_finish(struct weir_loop *loop)
{
    loop_run_deferred(loop);
    loop->io->ops->reap(loop);
}

void weir_loop_turn(struct weir_loop *loop, int max_ms)
{
    int ms = loop_fall_asleep(loop, loop_wait_ms(loop, max_ms));

    if (loop->io->ops->wait(loop, ms))
        uv_run(&loop->uv, UV_RUN_NOWAIT);
    loop_read_mail(loop);
    weir_wheel_advance(&loop->wheel, loop->now_ms);
    loop_finish(loop); /* no answer, and no end of one, waits for somebody's handshake */
    if (!weir_list_empty(&loop->heavy)) {
        loop_run_heavy(loop);
        loop_finish(loop);
    }
}

void weir_loop_run(struct weir_loop *loop)
{
    loop_set_time(loop, weir_clock_us());
    while (!atomic_load_explicit(&loop->stopping, memory_order_acquire))
        weir_loop_turn(loop, -1);
    atomic_store(&loop->stopping, false);
}

static void loop_wake(struct weir_loop *loop)
{
    if (atomic_load(&loop->asleep))
        uv_async_send(&loop->wake);
}

void weir_loop_stop(struct weir_loop *loop)
{
    atomic_store(&loop->stopping, true);
    loop_wake(loop);
}

void weir_loop_post(struct weir_loop *loop, struct weir_mail *mail)
{
    struct weir_mail *head = atomic_load_explicit(&loop->mail, memory_order_relaxed);

    do {
        mail->next = head;
    } while (!atomic_compare_exchange_weak(&loop->mail, &head, mail));
    if (!head) /* else the sender of `head` wakes it */
        loop_wake(loop);
}

static void later_queue(struct weir_list *list, struct weir_later *later, void (*fn)(void *arg),
                        void *arg)
{
    weir_assert(!weir_later_queued(later));
    later->fn = fn;
    later->arg = arg;
    weir_list_push_back(list, &later->link);
}

void weir_loop_defer(struct weir_loop *loop, struct weir_later *later, void (*fn)(void *arg),
                     void *arg)
{
    later_queue(&loop->deferred, later, fn, arg);
}

void weir_loop_defer_last(struct weir_loop *loop, struct weir_later *later, void (*fn)(void *arg),
                          void *arg)
{
    later_queue(&loop->last, later, fn, arg);
}

void weir_loop_heavy(struct weir_loop *loop, struct weir_later *later, void (*fn)(void *arg),
                     void *arg)
{
    later_queue(&loop->heavy, later, fn, arg);
}

void weir_later_cancel(struct weir_later *later)
{
    if (weir_later_queued(later))
        weir_list_remove(&later->link);
}
