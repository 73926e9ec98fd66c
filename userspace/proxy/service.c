/* SPDX-License-Identifier: Apache-2.0 */
/** service.c: a proxy from its policy to its threads. Set-up and take-down here; what a connection
 * does is session.c. */
#include "proxy/service.h"

#include "accel/sockmap.h"
#include "proxy/descriptors.h"
#include "proxy/memory.h"
#include "proxy/worker.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

/* --- compiling a policy --------------------------------------------------------------------------
 */

int weir_service_find_cluster(const struct weir_service *service, struct weir_str name)
{
    for (unsigned i = 0; i < service->cluster_count; i++)
        if (weir_str_eq(weir_cluster_name(service->clusters[i]), name))
            return (int)i;
    return -1;
}

static int fault_of(struct weir_tls_fault *fault, const char *kind, struct weir_str name, int err)
{
    struct weir_tls_fault why = *fault;

    snprintf(fault->text, sizeof(fault->text), "%s '%.*s': %.400s", kind, WEIR_FMT(name),
             why.text[0] ? why.text : weir_err_text((enum weir_err)err));
    return err;
}

static struct weir_access_log *open_log(struct weir_service *service,
                                        const struct weir_access_log_conf *conf, int *err,
                                        struct weir_tls_fault *fault)
{
    struct weir_access_log *log;

    if (conf->off || weir_str_absent(conf->to))
        return NULL;
    log = weir_access_log_open(conf, service->open_log, service->open_log_arg, fault);
    if (!log) {
        *err = WEIR_ECONFIG;
        return NULL;
    }
    weir_access_log_set_log(log, service->log);
    service->logs[service->log_count++] = log;
    return log;
}

/* Where it leads: an upstream, another listener, or nowhere: then a filter answers. */
static int find_target(const struct weir_service *service, struct weir_route *route,
                       struct weir_tls_fault *fault)
{
    struct weir_str to = route->conf->to, name;

    route->cluster = route->listener = -1;
    if (weir_str_absent(to))
        return 0;
    if (weir_route_hands_over(to, &name)) {
        const struct weir_listener_conf *listeners = service->conf->listeners.at;

        for (size_t i = 0; i < service->conf->listeners.count; i++)
            if (weir_str_eq(listeners[i].name, name))
                route->listener = (int)i;
    } else {
        route->cluster = weir_service_find_cluster(service, to);
    }
    if (route->cluster >= 0 || route->listener >= 0)
        return 0;
    snprintf(fault->text, sizeof(fault->text), "there is no upstream '%.*s'", WEIR_FMT(to));
    return WEIR_ECONFIG;
}

static int compile_routes(struct weir_service *service, struct weir_listener *listener,
                          unsigned *slot, struct weir_tls_fault *fault)
{
    const struct weir_route_conf *confs = listener->conf->routes.at;
    int err = 0;

    listener->routes.at = calloc(listener->conf->routes.count + 1, sizeof(*listener->routes.at));
    if (!listener->routes.at)
        return WEIR_ENOMEM;
    listener->routes.log = open_log(service, &listener->conf->access_log, &err, fault);
    for (unsigned i = 0; !err && i < listener->conf->routes.count; i++) {
        struct weir_route *route = &listener->routes.at[i];

        listener->routes.count++;
        route->conf = &confs[i];
        route->index = i;
        route->slot = (*slot)++;
        err = find_target(service, route, fault);
        if (err)
            return err;
        err = weir_chains_init(&route->chains, confs[i].filters, confs[i].filter_count);
        if (listener->conf->protocol == WEIR_PROTOCOL_TCP) {
            weir_chains_of_tcp(&route->chains);
            listener->peeks |= confs[i].match.sni.count && !listener->conf->tls_on;
        }
        if (!err)
            err = weir_route_compile(route, fault);
        if (!err)
            route->log = open_log(service, &confs[i].access_log, &err, fault);
        if (err)
            return fault_of(fault, "route", confs[i].name, err);
    }
    return err;
}

static int compile_addrs(struct weir_service *service, struct weir_listener *listener,
                         struct weir_tls_fault *fault)
{
    const struct weir_strs *binds = &listener->conf->bind,
                           *trusted = &listener->conf->trusted_proxies;
    unsigned fds = (unsigned)binds->count * service->worker_count;

    listener->addrs = calloc(binds->count + 1, sizeof(*listener->addrs));
    listener->fds = malloc((fds + 1) * sizeof(int));
    listener->trusted = calloc(trusted->count + 1, sizeof(*listener->trusted));
    if (!listener->addrs || !listener->fds || !listener->trusted)
        return WEIR_ENOMEM;
    for (unsigned i = 0; i < fds; i++)
        listener->fds[i] = -1;
    for (; listener->addr_count < binds->count; listener->addr_count++)
        if (weir_addr_parse(&listener->addrs[listener->addr_count],
                            binds->at[listener->addr_count])) {
            snprintf(fault->text, sizeof(fault->text), "'%.*s' is not an address",
                     WEIR_FMT(binds->at[listener->addr_count]));
            return WEIR_ECONFIG;
        }
    for (; listener->trusted_count < trusted->count; listener->trusted_count++)
        if (weir_prefix_parse(&listener->trusted[listener->trusted_count],
                              trusted->at[listener->trusted_count])) {
            snprintf(fault->text, sizeof(fault->text), "trusted_proxies: '%.*s' is not a prefix",
                     WEIR_FMT(trusted->at[listener->trusted_count]));
            return WEIR_ECONFIG;
        }
    return 0;
}

static struct weir_guard_limits guard_limits(const struct weir_limit_conf *limits)
{
    return (struct weir_guard_limits){ .head_bytes = limits->head > 0 ? (uint32_t)limits->head : 0,
                                       .head_count =
                                           limits->headers > 0 ? (uint32_t)limits->headers : 0 };
}

/* `off` is as much as fits. */
static uint32_t count_of(double limit)
{
    return limit < 0 || limit > UINT32_MAX ? UINT32_MAX : limit < 1 ? 1 : (uint32_t)limit;
}

static struct weir_h2_limits h2_limits(const struct weir_limit_conf *limits)
{
    return (struct weir_h2_limits){ .streams = count_of((double)limits->streams),
                                    .resets_per_minute = count_of(limits->resets * 60),
                                    .pings_per_minute = count_of(limits->pings * 60) };
}

/* The values of Via (RFC 9110 7.6.3), written once. */
static int compile_via(struct weir_listener *listener)
{
    struct weir_str name = listener->conf->via;

    static const char *const versions[] = { "1.1", "1.0", "2" };

    for (int i = 0; i < 3 && name.len; i++) {
        char *text = malloc(name.len + 5);

        if (!text)
            return WEIR_ENOMEM;
        listener->via[i] = (struct weir_str){ text, (size_t)sprintf(text, "%s %.*s", versions[i],
                                                                    WEIR_FMT(name)) };
    }
    return 0;
}

/* Said by the listener, and stricter than what holds for all. */
static int64_t own_limit(int64_t own, int64_t all)
{
    return own > 0 && (all <= 0 || own < all) ? own : 0;
}

static int compile_gate(struct weir_service *service, struct weir_listener *listener)
{
    const struct weir_limit_conf *own = &listener->conf->limits, *all = &service->conf->limits;
    int64_t connections = own_limit(own->connections, all->connections),
            per_client = own_limit(own->connections_per_client, all->connections_per_client);

    if (!connections && !per_client)
        return 0;
    listener->gate = calloc(1, sizeof(*listener->gate));
    return listener->gate ? weir_gate_init(listener->gate, connections, per_client) : WEIR_ENOMEM;
}

static int compile_listener(struct weir_service *service, unsigned i, unsigned *slot,
                            struct weir_tls_fault *fault)
{
    struct weir_listener *listener = &service->listeners[i];
    const struct weir_limit_conf *limits;
    int err;

    listener->conf = &((const struct weir_listener_conf *)service->conf->listeners.at)[i];
    listener->index = i;
    limits = &listener->conf->limits;
    listener->guard = guard_limits(limits);
    listener->h2 = h2_limits(limits);
    service->listener_count++;
    listener->refusals = calloc(WEIR_REFUSALS_COUNT, sizeof(*listener->refusals));
    err = listener->refusals ? compile_via(listener) : WEIR_ENOMEM;
    if (!err)
        err = compile_addrs(service, listener, fault);
    if (!err)
        err = compile_routes(service, listener, slot, fault);
    if (!err && listener->conf->tls_on) {
        listener->tls = weir_tls_server_new(&listener->conf->tls, listener->conf->name, fault);
        err = listener->tls ? 0 : WEIR_ECONFIG;
    }
    if (!err)
        err = compile_gate(service, listener);
    return err ? fault_of(fault, "listener", listener->conf->name, err) : 0;
}

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

static int compile(struct weir_service *service, struct weir_tls_fault *fault)
{
    const struct weir_proxy_conf *conf = service->conf;
    unsigned routes = 0, slot = 0;
    int err = 0;

    for (size_t i = 0; i < conf->listeners.count; i++)
        routes +=
            (unsigned)((const struct weir_listener_conf *)conf->listeners.at)[i].routes.count + 1;
    service->logs = calloc(routes + 1, sizeof(*service->logs));
    service->listeners = calloc(conf->listeners.count + 1, sizeof(*service->listeners));
    service->clusters = calloc(conf->upstreams.count + 1, sizeof(*service->clusters));
    service->workers = calloc(service->worker_count, sizeof(*service->workers));
    if (!service->logs || !service->listeners || !service->clusters || !service->workers)
        return WEIR_ENOMEM;
    err = weir_gate_init(&service->gate, conf->limits.connections,
                         conf->limits.connections_per_client);
    if (err)
        return err;
    service->access = weir_access_new(&conf->access, fault);
    if (!service->access)
        return WEIR_ECONFIG;
    for (; service->cluster_count < conf->upstreams.count; service->cluster_count++) {
        const struct weir_cluster_conf *one =
            &((const struct weir_cluster_conf *)conf->upstreams.at)[service->cluster_count];

        service->tells |= one->proxy_protocol != WEIR_PP_OFF;
        service->clusters[service->cluster_count] =
            weir_cluster_new(one, &service->upstreams, fault);
        if (!service->clusters[service->cluster_count])
            return fault_of(fault, "upstream", one->name, WEIR_ECONFIG);
    }
    for (unsigned i = 0; i < conf->listeners.count && !err; i++)
        err = compile_listener(service, i, &slot, fault);
    for (unsigned i = 0; i < service->worker_count && !err; i++)
        err = weir_worker_init(&service->workers[i], service, i);
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
    service->conf = conf;
    service->log = opts->log;
    service->bind = opts->bind;
    service->open_log = opts->open_log;
    service->open_log_arg = opts->arg;
    service->worker_count = opts->workers ? opts->workers : weir_service_workers_wanted(conf);
    service->splice_budget.max = (uint64_t)conf->kernel.splice_memory;
    service->splice = conf->kernel.splice + 1;
    service->answer_limits = guard_limits(&conf->limits); /* connections are shared by routes */
    service->answer_costs = h2_limits(&conf->limits);
    service->upstreams = (struct weir_upstreams_opts){ .log = opts->log,
                                                       .workers = service->worker_count,
                                                       .dns = &conf->dns,
                                                       .limits = &service->answer_limits,
                                                       .h2 = &service->answer_costs };
    err = compile(service, fault);
    if (!err)
        return service;
    if (!fault->text[0])
        snprintf(fault->text, sizeof(fault->text), "%s", weir_err_text((enum weir_err)err));
    weir_service_free(service);
    return NULL;
}

/* --- threads -------------------------------------------------------------------------------------
 */

/* Something that every worker does on its own thread. */
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

static void send_errand(struct weir_worker *worker,
                        void (*fn)(struct weir_worker *worker, void *arg), void *arg)
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

static int start_upstreams(struct weir_service *service)
{
    struct weir_loop *loop = &service->workers[0].loop;

    service->resolver = weir_resolver_new(loop, &service->conf->dns);
    if (!service->resolver)
        return WEIR_ENOMEM;
    for (unsigned i = 0; i < service->cluster_count; i++) {
        int err = weir_cluster_start(service->clusters[i], loop, service->resolver);

        if (err)
            return err;
    }
    return 0;
}

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

    service->splice_budget.max /=
        2; /* the other half is what the program may hold (daemon/kernel.c) */
    for (unsigned i = 0; i < service->worker_count; i++)
        service->workers[i].splicer.sockmap_after_ms =
            (uint64_t)service->conf->kernel.sockmap_after_ms;
    for (unsigned i = 0; i < service->worker_count && !err; i++)
        err = weir_sockmap_open(&service->workers[i].splicer, kern, ring_base + i);
    return err;
}

int weir_service_start(struct weir_service *service)
{
    int err = start_upstreams(service);

    for (unsigned i = 0; i < service->worker_count && !err; i++)
        err = weir_worker_open(&service->workers[i]);
    if (!err) {
        weir_descriptors_bound(service);
        weir_memory_start(service);
    }
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
            send_errand(&service->workers[i], errand_drain, NULL);
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

static void errand_close_views(struct weir_worker *worker, void *arg)
{
    struct weir_service *service = worker->service;

    (void)arg;
    for (unsigned i = 0; i < service->cluster_count; i++)
        weir_cluster_view_close(worker->views[i]);
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
    for (unsigned i = 0; i < service->cluster_count; i++)
        weir_cluster_stop(service->clusters[i]);
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

static void listener_free(struct weir_service *service, struct weir_listener *listener)
{
    for (unsigned i = 0; listener->fds && i < listener->addr_count * service->worker_count; i++)
        if (listener->fds[i] >= 0)
            close(listener->fds[i]);
    for (unsigned a = 0; a < listener->addr_count; a++)
        if (service->opened && listener->addrs[a].sa.sa_family == AF_UNIX)
            unlink(listener->addrs[a].un.sun_path);
    for (unsigned i = 0; i < listener->routes.count; i++) {
        weir_route_free(&listener->routes.at[i]);
        weir_chains_fini(&listener->routes.at[i].chains);
    }
    for (int i = 0; i < 3; i++)
        free((char *)(uintptr_t)listener->via[i].ptr);
    free(listener->routes.at);
    free(listener->fds);
    free(listener->addrs);
    free(listener->trusted);
    free(listener->refusals);
    if (listener->gate) {
        weir_gate_fini(listener->gate);
        free(listener->gate);
    }
    if (listener->tls)
        weir_tls_server_put(listener->tls);
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
    for (unsigned i = 0; service->workers && i < service->worker_count; i++)
        weir_worker_fini(&service->workers[i]);
    for (unsigned i = 0; i < service->listener_count; i++)
        listener_free(service, &service->listeners[i]);
    for (unsigned i = 0; i < service->cluster_count; i++)
        weir_cluster_free(service->clusters[i]);
    for (unsigned i = 0; i < service->log_count; i++)
        weir_access_log_close(service->logs[i]);
    weir_access_free(service->access);
    weir_gate_fini(&service->gate);
    free(service->logs);
    free(service->listeners);
    free(service->clusters);
    free(service->workers);
    free(service);
}

/* --- for the admin -------------------------------------------------------------------------------
 */

const struct weir_proxy_conf *weir_service_conf(const struct weir_service *service)
{
    return service->conf;
}

unsigned weir_service_workers(const struct weir_service *service)
{
    return service->worker_count;
}

unsigned weir_service_clusters(const struct weir_service *service)
{
    return service->cluster_count;
}

struct weir_cluster *weir_service_cluster(const struct weir_service *service, unsigned i)
{
    return service->clusters[i];
}

struct weir_access *weir_service_access(const struct weir_service *service)
{
    return service->access;
}

const struct weir_worker_stats *weir_service_stats(const struct weir_service *service,
                                                   unsigned worker)
{
    return &service->workers[worker].stats;
}

uint64_t weir_service_busy_us(const struct weir_service *service, unsigned worker)
{
    return weir_counter_read(&service->workers[worker].loop.busy_us);
}

struct weir_tls_server *weir_service_tls(const struct weir_service *service, unsigned listener)
{
    return service->listeners[listener].tls;
}
