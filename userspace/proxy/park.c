/* SPDX-License-Identifier: Apache-2.0 */
/**
 * park.c: requests that wait for somebody else, and their wakes.
 *
 * A token is {worker, generation}: a number that is never used again. A wake looks the number up
 * among the worker's parked requests, so that a wake of a request that has died touches no memory
 * of it.
 */
#include "proxy/req.h"

#include <stdlib.h>

struct wake_mail {
    struct weir_mail mail;
    uint64_t generation;
    enum weir_verdict verdict;
};

static struct weir_list *bucket(struct weir_worker *worker, uint64_t generation)
{
    return &worker->parked[generation % WEIR_PARKED_BUCKETS];
}

static void unpark(struct weir_req *req)
{
    weir_timer_stop(&req->worker->loop.wheel, &req->sleep);
    weir_list_remove(&req->parked_link);
    req->parked = 0;
    req->on_cancel = NULL;
}

struct weir_wake weir_req_park(struct weir_req *req, weir_cancel_fn on_cancel, void *arg)
{
    struct weir_worker *worker = req->worker;

    if (req->parked)
        unpark(req); /* parking again forgets the token before */
    req->parked = ++worker->generation;
    req->on_cancel = on_cancel;
    req->cancel_arg = arg;
    weir_list_push_back(bucket(worker, req->parked), &req->parked_link);
    return (struct weir_wake){ worker, req->parked };
}

enum weir_verdict weir_park_checked(struct weir_req *req, enum weir_verdict verdict)
{
    if (WEIR_LIKELY(verdict != WEIR_WAIT)) {
        if (WEIR_UNLIKELY(req->parked))
            weir_park_cancel(req); /* a wake of it must not reach another filter's wait */
        return verdict;
    }
    if (req->parked)
        return verdict;
    weir_log(req->worker->service->log, WEIR_LOG_ERROR,
             "route '%.*s': a filter waits and nothing will wake it",
             WEIR_FMT(req->route->conf->name));
    return weir_req_fail(req, WEIR_EFILTER, WEIR_BY_US);
}

/* The one that waited goes on with `verdict`. */
static void resume(struct weir_req *req, enum weir_verdict verdict)
{
    bool body = req->to_up.waiting || req->to_down.waiting;

    unpark(req);
    if (verdict == WEIR_REPEAT && req->cursor_next && !body)
        req->cursor_next--;
    req->wake_verdict = verdict == WEIR_WAIT || verdict == WEIR_REPEAT ? WEIR_NEXT : verdict;
    weir_req_run(req);
}

static struct weir_req *find_parked(struct weir_worker *worker, uint64_t generation)
{
    weir_list_each(link, next, bucket(worker, generation))
    {
        struct weir_req *req = weir_list_entry(link, struct weir_req, parked_link);

        if (req->parked == generation)
            return req;
    }
    return NULL;
}

static void wake_now(struct weir_worker *worker, uint64_t generation, enum weir_verdict verdict)
{
    struct weir_req *req = find_parked(worker, generation);

    if (req)
        resume(req, verdict);
}

static void on_wake_mail(struct weir_loop *loop, void *arg)
{
    struct wake_mail *wake = arg;
    uint64_t generation = wake->generation;
    enum weir_verdict verdict = wake->verdict;

    free(wake);
    wake_now(weir_container(loop, struct weir_worker, loop), generation, verdict);
}

void weir_req_wake(struct weir_wake token, enum weir_verdict verdict)
{
    struct weir_worker *worker = token.worker;
    struct wake_mail *wake;

    if (!worker)
        return;
    wake = malloc(sizeof(*wake));
    if (!wake) { /* the worker ends all that are parked at its next sweep: better than waiting for ever */
        atomic_store_explicit(&worker->wakes_lost, true, memory_order_relaxed);
        return;
    }
    *wake = (struct wake_mail){ .mail = { .fn = on_wake_mail, .arg = wake },
                                .generation = token.generation,
                                .verdict = verdict };
    weir_loop_post(&worker->loop, &wake->mail);
}

void weir_park_cancel(struct weir_req *req)
{
    weir_cancel_fn fn = req->on_cancel;

    req->wake_verdict = WEIR_NEXT;
    if (!req->parked)
        return;
    unpark(req);
    if (fn)
        fn(req, req->cancel_arg);
}

static void on_slept(struct weir_timer *timer, void *arg)
{
    struct weir_req *req = weir_cast(struct weir_req, arg, WEIR_REQ_MAGIC);

    (void)timer;
    resume(req, WEIR_NEXT);
}

enum weir_verdict weir_req_sleep(struct weir_req *req, uint32_t ms)
{
    if (!req->parked)
        weir_req_park(req, NULL, NULL);
    weir_loop_timer(&req->worker->loop, &req->sleep, ms, on_slept, req);
    return WEIR_WAIT;
}

/* Work on a thread of the pool. It pins the request: the arena stays, whatever becomes of the
 * client. */
struct offload {
    uv_work_t work;
    struct weir_req *req;
    struct weir_wake token;
    weir_work_fn fn;
    weir_work_done_fn done;
    void *arg;
};

static void on_work(uv_work_t *work)
{
    struct offload *offload = work->data;

    offload->fn(offload->arg);
}

static void on_worked(uv_work_t *work, int status)
{
    struct offload *offload = work->data;
    struct weir_req *req = offload->req;
    struct weir_worker *worker = req->worker;
    struct weir_wake token = offload->token;
    bool alive = !req->over && req->parked == token.generation;
    enum weir_verdict verdict = WEIR_NEXT;

    if (alive)
        verdict = status ? WEIR_FAIL : offload->done(req, offload->arg);
    weir_req_unpin(req);
    if (!alive || (verdict == WEIR_WAIT &&
                   (req->parked != token.generation || weir_timer_armed(&req->sleep))))
        return; /* dead, or it waits for something else now */
    wake_now(worker, token.generation, verdict);
}

void weir_park_lost(struct weir_worker *worker)
{
    for (int i = 0; i < WEIR_PARKED_BUCKETS; i++) {
        struct weir_list lost;

        weir_list_take_all(&lost, &worker->parked[i]);
        while (!weir_list_empty(&lost)) {
            struct weir_list *link = lost.next;
            struct weir_req *req = weir_list_entry(link, struct weir_req, parked_link);

            weir_req_note_error(req, WEIR_ENOMEM, WEIR_BY_US, WEIR_RETRY_NO, 0, "wake");
            resume(req, WEIR_FAIL);
        }
    }
}

enum weir_verdict weir_req_offload(struct weir_req *req, weir_work_fn work, weir_work_done_fn done,
                                   void *arg)
{
    struct offload *offload = weir_arena_zalloc(&req->arena, sizeof(*offload));

    if (!offload)
        return weir_req_fail(req, WEIR_ENOMEM, WEIR_BY_US);
    *offload = (struct offload){ .req = req, .fn = work, .done = done, .arg = arg };
    offload->work.data = offload;
    if (uv_queue_work(&req->worker->loop.uv, &offload->work, on_work, on_worked))
        return weir_req_fail(req, WEIR_ESYS, WEIR_BY_US);
    req->pins++;
    offload->token = weir_req_park(req, NULL, NULL);
    return WEIR_WAIT;
}
