/* SPDX-License-Identifier: Apache-2.0 */
/**
 * target.c: upstreams as snapshots have them, and their end, which takes all workers:
 *
 *   the last snapshot lets go ──▶ each worker closes its view ──(quiet: no connection, nobody asks)──▶ all are quiet
 *     ──▶ each worker turns once more (what others had sent it is read), frees its view ──▶ the cluster is freed
 *
 * The service's thread counts the answers; it alone touches targets, but for `at`, which goes to and fro with its mail. A
 * worker that stops answers no more: what has not ended by then is freed with the service.
 */
#include "base/alloc.h"
#include "proxy/snapshot.h"
#include "proxy/worker.h"

#include <stdio.h>

/* ---- made ---- */

static struct weir_tally *tally_get(struct weir_tally *tally)
{
    tally->refs++;
    return tally;
}

static struct weir_tally *tally_new(unsigned workers)
{
    struct weir_tally *tally = weir_zalloc_aligned(sizeof(*tally) + workers * sizeof(tally->at[0]));

    if (tally)
        tally->refs = 1;
    return tally;
}

static void tally_put(struct weir_tally *tally)
{
    if (tally && --tally->refs == 0)
        free(tally);
}

/* No thread knows it, or none runs any more. */
static void target_free(struct weir_target *target)
{
    struct weir_service *service = target->service;

    weir_list_remove(&target->link);
    if (target->cluster) {
        for (unsigned w = 0; w < service->worker_count; w++) {
            struct weir_cluster_view *view = weir_cluster_view_of(target->cluster, w);

            if (view)
                weir_cluster_view_free(view);
        }
        weir_cluster_retire(target->cluster);
        weir_cluster_free(target->cluster);
    }
    tally_put(target->tally);
    free(target);
}

static bool make_views(struct weir_target *target, struct weir_tls_fault *fault)
{
    struct weir_service *service = target->service;

    for (unsigned w = 0; w < service->worker_count; w++) {
        struct weir_worker *worker = &service->workers[w];

        target->at[w].target = target;
        target->at[w].worker = worker;
        weir_list_init(&target->at[w].link);
        if (weir_cluster_view_new(target->cluster, &worker->loop, w, &worker->h2))
            continue;
        snprintf(fault->text, sizeof(fault->text), "%s", weir_err_text(WEIR_ENOMEM));
        return false;
    }
    return true;
}

static struct weir_target *target_new(struct weir_service *service, struct weir_target *before,
                                      const struct weir_cluster_conf *conf,
                                      const struct weir_upstreams_opts *opts,
                                      struct weir_tls_fault *fault)
{
    struct weir_target *target =
        calloc(1, sizeof(*target) + service->worker_count * sizeof(target->at[0]));

    if (!target)
        return NULL;
    target->refs = 1;
    target->service = service;
    weir_list_push_back(&service->targets, &target->link);
    target->replaces = before;
    target->tally = before ? tally_get(before->tally) : tally_new(service->worker_count);
    if (target->tally)
        target->cluster = weir_cluster_new(conf, opts, fault);
    if (target->cluster && make_views(target, fault))
        return target;
    target_free(target);
    return NULL;
}

struct weir_target *weir_target_for(struct weir_service *service,
                                    const struct weir_snapshot *before,
                                    const struct weir_cluster_conf *conf,
                                    const struct weir_upstreams_opts *opts,
                                    struct weir_tls_fault *fault)
{
    struct weir_target *old = before ? weir_snapshot_target(before, conf->name) : NULL;

    if (!old || !weir_cluster_is_of(old->cluster, conf, opts))
        return target_new(service, old, conf, opts, fault);
    old->refs++;
    return old;
}

/* ---- its end ---- */

static void to_workers(struct weir_target *target, void (*fn)(struct weir_loop *loop, void *arg))
{
    struct weir_service *service = target->service;

    target->pending = service->worker_count;
    for (unsigned w = 0; w < service->worker_count; w++) {
        target->at[w].mail.fn = fn;
        target->at[w].mail.arg = &target->at[w];
        weir_loop_post(&service->workers[w].loop, &target->at[w].mail);
    }
}

static void to_home(struct weir_target_at *at, void (*fn)(struct weir_loop *loop, void *arg))
{
    at->mail.fn = fn;
    weir_loop_post(at->target->service->home, &at->mail);
}

/* The service's thread. All views are freed. */
static void on_freed(struct weir_loop *loop, void *arg)
{
    struct weir_target_at *at = arg;

    (void)loop;
    if (--at->target->pending)
        return;
    target_free(at->target);
}

/* A worker. What the other views had sent to this one has been read. */
static void on_free(struct weir_loop *loop, void *arg)
{
    struct weir_target_at *at = arg;

    (void)loop;
    if (!at->worker->stopping) /* else all ends with the service */
        to_home(at, on_freed);
}

static void on_quiet(struct weir_loop *loop, void *arg)
{
    struct weir_target_at *at = arg;

    (void)loop;
    if (--at->target->pending == 0)
        to_workers(at->target, on_free);
}

static void on_leave(struct weir_loop *loop, void *arg)
{
    struct weir_target_at *at = arg;

    (void)loop;
    if (at->worker->stopping)
        return;
    weir_cluster_view_close(weir_cluster_view_of(at->target->cluster, at->worker->id));
    weir_list_push_back(&at->worker->leaving, &at->link);
}

void weir_targets_sweep(struct weir_worker *worker)
{
    weir_list_each(pos, next, &worker->leaving)
    {
        struct weir_target_at *at = weir_list_entry(pos, struct weir_target_at, link);

        if (!weir_cluster_view_is_quiet(weir_cluster_view_of(at->target->cluster, worker->id)))
            continue;
        weir_list_remove(&at->link);
        to_home(at, on_quiet);
    }
}

void weir_target_put(struct weir_target *target)
{
    if (--target->refs)
        return;
    if (!target->in_force)
        target_free(target);
    else if (target->service->started)
        to_workers(target, on_leave);
    /* else it goes with the service */
}

void weir_targets_free_views(struct weir_service *service, unsigned worker)
{
    weir_list_each(pos, next, &service->targets)
    {
        struct weir_target *target = weir_list_entry(pos, struct weir_target, link);
        struct weir_cluster_view *view = weir_cluster_view_of(target->cluster, worker);

        if (view)
            weir_cluster_view_free(view);
    }
}

void weir_targets_free(struct weir_service *service)
{
    weir_list_each(pos, next, &service->targets)
    {
        struct weir_target *target = weir_list_entry(pos, struct weir_target, link);

        weir_cluster_retire(target->cluster);
        weir_cluster_free(target->cluster);
        tally_put(target->tally);
        weir_list_remove(&target->link);
        free(target);
    }
}
