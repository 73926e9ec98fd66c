/* SPDX-License-Identifier: Apache-2.0 */
/** service.c: a proxy from its first configuration to its threads, and their end. What a configuration becomes is
 * snapshot.c, how another one takes its place reload.c, what a connection does session.c. */
#include "proxy/service.h"

#include "accel/sockmap.h"
#include "proxy/descriptors.h"
#include "proxy/errand.h"
#include "proxy/memory.h"
#include "proxy/tunnel_light.h"
#include "proxy/worker.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* CPUs that this process may use: affinity, and the quota of its cgroup (cpu.max, rounded up). */
static unsigned cpus_allowed(void)
{
    static const char *const files[] = { "/sys/fs/cgroup/cpu.max",
                                         "/sys/fs/cgroup/unified/cpu.max" };
    unsigned cpus = 1;
    cpu_set_t set;

    if (!sched_getaffinity(0, sizeof(set), &set))
        cpus = (unsigned)CPU_COUNT(&set);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        FILE *f = fopen(files[i], "re");
        unsigned long quota, period;

        if (!f)
            continue;
        if (fscanf(f, "%lu %lu", &quota, &period) == 2 && period &&
            (quota + period - 1) / period < cpus)
            cpus = (unsigned)((quota + period - 1) / period);
        fclose(f);
        break;
    }
    return cpus > 0 ? cpus : 1;
}

unsigned weir_service_workers_wanted(const struct weir_proxy_conf *conf)
{
    int64_t workers = conf->workers > 0 ? conf->workers : (int64_t)cpus_allowed();

    return (unsigned)(workers < WEIR_WORKERS_MAX ? workers : WEIR_WORKERS_MAX);
}

static int make(struct weir_service *service, const struct weir_proxy_conf *conf,
                struct weir_tls_fault *fault)
{
    int err;

    service->workers = calloc(service->worker_count, sizeof(*service->workers));
    if (!service->workers)
        return WEIR_ENOMEM;
    err = weir_gate_init(&service->gate, 0, 0);
    if (!err)
        err = weir_ban_table_init(&service->ban_table);
    for (unsigned i = 0; i < service->worker_count && !err; i++)
        err = weir_worker_init(&service->workers[i], service, i);
    if (!err)
        service->snapshot = weir_snapshot_new(service, conf, fault, &err);
    if (service->snapshot)
        weir_list_push_back(&service->snapshots, &service->snapshot->link);
    return err;
}

struct weir_service *weir_service_new(const struct weir_proxy_conf *conf,
                                      const struct weir_service_opts *opts,
                                      struct weir_tls_fault *fault)
{
    struct weir_service *service = calloc(1, sizeof(*service));
    int err;

    fault->text[0] = 0;
    if (!service) {
        snprintf(fault->text, sizeof(fault->text), "out of memory");
        return NULL;
    }
    service->log = opts->log;
    service->home = opts->home;
    service->bind = opts->bind;
    service->open_log = opts->open_log;
    service->open_log_arg = opts->arg;
    service->statm_fd = -1;
    service->worker_count = opts->workers ? opts->workers : weir_service_workers_wanted(conf);
    service->splice = conf->kernel.splice + 1;
    weir_list_init(&service->snapshots);
    weir_list_init(&service->targets);
    err = make(service, conf, fault);
    if (!err)
        return service;
    if (!fault->text[0])
        snprintf(fault->text, sizeof(fault->text), "%s", weir_err_text((enum weir_err)err));
    weir_service_free(service);
    return NULL;
}

int weir_service_open(struct weir_service *service, struct weir_tls_fault *fault)
{
    int err;

    fault->text[0] = 0;
    err = weir_snapshot_bind(service->snapshot, fault);
    if (err && !fault->text[0])
        snprintf(fault->text, sizeof(fault->text), "%s", weir_err_text((enum weir_err)err));
    return err;
}

/* ---- threads ---- */

static void *worker_main(void *arg)
{
    struct weir_worker *worker = arg;
    char name[16];
    sigset_t pipe;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE); /* splice(2) to a socket whose peer is gone knows no MSG_NOSIGNAL */
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    snprintf(name, sizeof(name), "weir-w%u", worker->id);
    pthread_setname_np(pthread_self(), name);
    weir_loop_run(&worker->loop);
    return NULL;
}

int weir_service_sockmap(struct weir_service *service, struct weir_splice_kern *kern,
                         unsigned ring_base)
{
    int err = 0;

    service->sockmap = true;
    for (unsigned i = 0; i < service->worker_count; i++)
        service->workers[i].splicer.sockmap_after_ms =
            (uint64_t)service->snapshot->conf->kernel.sockmap_after_ms;
    for (unsigned i = 0; i < service->worker_count && !err; i++)
        err = weir_sockmap_open(&service->workers[i].splicer, kern, ring_base + i);
    return err;
}

/* ---- what outlives the process ---- */

void weir_service_keep(struct weir_service *service, const struct weir_keeping *keeping)
{
    for (unsigned i = 0; i < service->worker_count; i++)
        service->workers[i].keep.keeping = keeping;
}

/* Of one worker. */
struct adoption {
    unsigned count;
    struct weir_kept at[];
};

static void errand_adopt(struct weir_worker *worker, void *arg)
{
    struct adoption *adoption = arg;

    for (unsigned i = 0; i < adoption->count; i++) {
        weir_keep_resume(&worker->keep);
        weir_light_adopt(worker, &adoption->at[i]);
    }
    free(adoption);
}

void weir_service_adopt(struct weir_service *service, const struct weir_kept *kept, unsigned count)
{
    for (unsigned w = 0; w < service->worker_count && w < count; w++) {
        unsigned most = count / service->worker_count + 1;
        struct adoption *part = malloc(sizeof(*part) + most * sizeof(part->at[0]));

        if (!part) {
            weir_log(service->log, WEIR_LOG_ERROR, "out of memory for tunnels of before");
            continue;
        }
        part->count = 0;
        for (unsigned i = w; i < count; i += service->worker_count)
            part->at[part->count++] = kept[i];
        weir_errand_send(&service->workers[w], errand_adopt, part);
    }
}

int weir_service_start(struct weir_service *service)
{
    int err = 0;

    service->resolver = weir_resolver_new(&service->workers[0].loop, &service->snapshot->conf->dns);
    if (!service->resolver)
        return WEIR_ENOMEM;
    weir_descriptors_count(service);
    weir_snapshot_in_force(service->snapshot);
    for (unsigned i = 0; i < service->worker_count && !err; i++)
        err = weir_worker_open(&service->workers[i]);
    if (!err)
        weir_memory_start(service);
    for (unsigned i = 0; i < service->worker_count && !err; i++) {
        err = pthread_create(&service->workers[i].thread, NULL, worker_main, &service->workers[i])
                  ? WEIR_ESYS
                  : 0;
        service->workers[i].started = !err;
    }
    service->started = true;
    return err;
}

static void errand_drain(struct weir_worker *worker, void *arg)
{
    (void)arg;
    weir_worker_drain(worker);
    atomic_fetch_sub(&worker->service->doors_open, 1);
}

void weir_service_drain(struct weir_service *service)
{
    if (atomic_exchange(&service->draining, true))
        return;
    for (unsigned i = 0; i < service->worker_count; i++)
        atomic_fetch_add(&service->doors_open, service->workers[i].started ? 1 : 0);
    for (unsigned i = 0; i < service->worker_count; i++)
        if (service->workers[i].started)
            weir_errand_send(&service->workers[i], errand_drain, NULL);
}

void weir_service_hand_over(struct weir_service *service, uint32_t kern)
{
    atomic_store(&service->heir_kern, kern);
    atomic_store(&service->handing, true);
}

void weir_service_retire(struct weir_service *service)
{
    atomic_store(&service->retiring, true);
    weir_service_drain(service);
}

bool weir_service_idle(const struct weir_service *service)
{
    /* a worker that has not heard of the drain yet goes on accepting */
    return atomic_load((_Atomic unsigned *)&service->doors_open) == 0 &&
           atomic_load((_Atomic int64_t *)&service->gate.connections) <= 0;
}

bool weir_service_drain_cut(const struct weir_service *service)
{
    return atomic_load((_Atomic bool *)&service->drain_cut);
}

/* Who asked for these waits meanwhile: nobody else is at the list of targets. */
static void errand_close_views(struct weir_worker *worker, void *arg)
{
    (void)arg;
    weir_keep_flush(&worker->keep);
    weir_list_each(pos, next, &worker->service->targets)
    {
        weir_cluster_view_close(
            weir_worker_view(worker, weir_list_entry(pos, struct weir_target, link)));
    }
    weir_timer_stop(&worker->loop.wheel, &worker->sweep);
}

static void errand_close(struct weir_worker *worker, void *arg)
{
    struct weir_service *service = worker->service;

    (void)arg;
    weir_worker_close(worker);
    if (worker->id)
        return;
    weir_memory_stop(service);
    weir_list_each(pos, next, &service->targets)
    {
        weir_cluster_stop(weir_list_entry(pos, struct weir_target, link)->cluster);
    }
}

static void errand_count_busy(struct weir_worker *worker, void *arg)
{
    *(size_t *)arg += worker->session_count + worker->req_count;
}

static void errand_count_streams(struct weir_worker *worker, void *arg)
{
    *(size_t *)arg += worker->loop.tcps.used;
}

/* Waits until what `count` adds up over the workers is gone; it was all closed, so this takes a few
 * turns. */
static bool wait_gone(struct weir_service *service,
                      void (*count)(struct weir_worker *worker, void *arg))
{
    for (int i = 0; i < 200; i++) {
        size_t left = 0;

        weir_service_each_worker(service, count, &left);
        if (!left)
            return true;
        usleep(10 * 1000);
    }
    return false;
}

void weir_service_stop(struct weir_service *service)
{
    bool clean;

    if (!service->started)
        return;
    service->started = false;
    atomic_store(&service->draining, true);
    weir_service_each_worker(service, errand_close, NULL);
    clean = wait_gone(service, errand_count_busy);
    weir_service_each_worker(service, errand_close_views, NULL);
    clean = wait_gone(service, errand_count_streams) && clean;
    if (!clean)
        weir_log(service->log, WEIR_LOG_WARN,
                 "some connections did not close in time; they end with the process");
    for (unsigned i = 0; i < service->worker_count; i++) {
        if (!service->workers[i].started)
            continue;
        weir_loop_stop(&service->workers[i].loop);
        pthread_join(service->workers[i].thread, NULL);
        service->workers[i].started = false;
    }
    service->unclean = !clean;
}

void weir_service_free(struct weir_service *service)
{
    if (!service)
        return;
    weir_service_stop(service);
    if (service->unclean) /* something still points into it: the process is about to end anyway */
        return;
    if (service->resolver)
        weir_resolver_free(service->resolver);
    for (unsigned i = 0; service->workers && i < service->worker_count; i++) {
        weir_targets_free_views(service, i);
        weir_worker_fini(&service->workers[i]);
    }
    weir_list_each(pos, next, &service->snapshots)
    {
        struct weir_snapshot *snapshot = weir_list_entry(pos, struct weir_snapshot, link);

        for (unsigned i = 0; i < snapshot->target_count; i++)
            snapshot->targets[i]->in_force = true; /* it goes with all others, below */
        weir_snapshot_free(snapshot);
    }
    weir_targets_free(service);
    weir_gate_fini(&service->gate);
    weir_ban_table_fini(&service->ban_table);
    free(service->workers);
    free(service);
}

/* ---- for the admin: what is in force ---- */

const struct weir_proxy_conf *weir_service_conf(const struct weir_service *service)
{
    return service->snapshot->conf;
}

unsigned weir_service_workers(const struct weir_service *service)
{
    return service->worker_count;
}

unsigned weir_service_clusters(const struct weir_service *service)
{
    return service->snapshot->target_count;
}

struct weir_cluster *weir_service_cluster(const struct weir_service *service, unsigned i)
{
    return service->snapshot->targets[i]->cluster;
}

struct weir_access *weir_service_access(const struct weir_service *service)
{
    return service->snapshot->access;
}

const struct weir_worker_stats *weir_service_stats(const struct weir_service *service,
                                                   unsigned worker)
{
    return &service->workers[worker].stats;
}

const struct weir_listener_stats *weir_service_listener_stats(const struct weir_service *service,
                                                              unsigned listener, unsigned worker)
{
    return &service->snapshot->listeners[listener].door->at[worker].stats;
}

const struct weir_route_stats *weir_service_route_stats(const struct weir_service *service,
                                                        unsigned listener, unsigned route,
                                                        unsigned worker)
{
    const struct weir_listener *one = &service->snapshot->listeners[listener];
    const struct weir_route_row *row =
        route < one->routes.count ? one->routes.at[route].row : one->unrouted;

    return &row->at[worker];
}

uint64_t weir_service_retries(const struct weir_service *service, unsigned upstream,
                              enum weir_retried why, unsigned worker)
{
    return weir_counter_read(&service->snapshot->targets[upstream]->tally->at[worker].retries[why]);
}

uint64_t weir_service_busy_us(const struct weir_service *service, unsigned worker)
{
    return weir_counter_read(&service->workers[worker].loop.busy_us);
}

struct weir_tls_server *weir_service_tls(const struct weir_service *service, unsigned listener)
{
    return service->snapshot->listeners[listener].tls;
}

uint16_t weir_service_port(const struct weir_service *service, unsigned listener)
{
    const struct weir_listener *one = &service->snapshot->listeners[listener];

    return listener < service->snapshot->listener_count && one->bound_count
               ? weir_addr_port(&one->bounds[0]->addr)
               : 0;
}
