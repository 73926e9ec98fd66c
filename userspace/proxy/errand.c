/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/errand.h"

#include "proxy/worker.h"

#include <stdlib.h>

struct errand {
    struct weir_mail mail;
    struct weir_worker *worker;
    void (*fn)(struct weir_worker *worker, void *arg);
    void *arg;
    bool waits; /* the sender waits, and owns this */
    uv_sem_t done;
};

static void on_errand(struct weir_loop *loop, void *arg)
{
    struct errand *errand = arg;

    (void)loop;
    errand->fn(errand->worker, errand->arg);
    if (errand->waits)
        uv_sem_post(&errand->done);
    else
        free(errand);
}

void weir_errand_send(struct weir_worker *worker, void (*fn)(struct weir_worker *worker, void *arg),
                      void *arg)
{
    struct errand *errand = calloc(1, sizeof(*errand));

    if (!errand) {
        weir_log(worker->service->log, WEIR_LOG_ERROR, "worker %u: out of memory for an errand",
                 worker->id);
        return;
    }
    *errand = (struct errand){
        .mail = { .fn = on_errand, .arg = errand }, .worker = worker, .fn = fn, .arg = arg
    };
    weir_loop_post(&worker->loop, &errand->mail);
}

void weir_service_each_worker(struct weir_service *service,
                              void (*fn)(struct weir_worker *worker, void *arg), void *arg)
{
    for (unsigned i = 0; i < service->worker_count; i++) {
        struct weir_worker *worker = &service->workers[i];
        struct errand errand = { .mail = { .fn = on_errand, .arg = &errand },
                                 .worker = worker,
                                 .fn = fn,
                                 .arg = arg,
                                 .waits = true };

        if (!worker->started || uv_sem_init(&errand.done, 0))
            continue;
        weir_loop_post(&worker->loop, &errand.mail);
        uv_sem_wait(&errand.done);
        uv_sem_destroy(&errand.done);
    }
}
