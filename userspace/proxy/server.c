/* SPDX-License-Identifier: Apache-2.0 */
/**
 * server.c: weir/server.h: a service made and run by a program. Signals, exit and standard output
 * stay the program's. weir_proxy_run sleeps on a semaphore, because sem_post is what a signal
 * handler may call.
 */
#include "base/clock.h"
#include "proxy/server_conf.h"
#include "proxy/service.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { DRAIN_DEFAULT_MS = 30 * 1000, DRAIN_LOOK_MS = 10 };

struct weir_proxy {
    struct weir_server_conf_set set;
    struct weir_proxy_conf conf;
    struct weir_service_opts opts;
    struct weir_service *service;
    uint32_t drain_ms;
    sem_t quit;
    _Atomic unsigned quits;
};

struct weir_proxy *weir_proxy_new(const struct weir_proxy_opts *from)
{
    struct weir_proxy *proxy = calloc(1, sizeof(*proxy));
    struct weir_proxy_opts opts = { 0 };

    if (!proxy)
        return NULL;
    if (from)
        memcpy(&opts, from, from->size < sizeof(opts) ? from->size : sizeof(opts));
    if (sem_init(&proxy->quit, 0, 0)) {
        free(proxy);
        return NULL;
    }
    weir_proxy_conf_init(&proxy->conf);
    proxy->conf.workers = opts.workers;
    proxy->conf.access_log.set = proxy->conf.access_log.off =
        true; /* standard output is the program's */
    proxy->drain_ms = opts.drain_ms ? opts.drain_ms : DRAIN_DEFAULT_MS;
    proxy->conf.drain_ms = proxy->drain_ms;
    proxy->opts.log = opts.log;
    weir_arena_init(&proxy->set.arena, NULL);
    return proxy;
}

static int while_set_up(struct weir_proxy *proxy)
{
    proxy->set.fault.text[0] = 0;
    if (!proxy->service)
        return 0;
    snprintf(proxy->set.fault.text, sizeof(proxy->set.fault.text), "the proxy runs already");
    return WEIR_EINVAL;
}

int weir_proxy_add_upstream(struct weir_proxy *proxy, const struct weir_upstream_opts *opts)
{
    int err = while_set_up(proxy);

    return err ? err : weir_server_add_upstream(&proxy->set, opts);
}

int weir_proxy_add_route(struct weir_proxy *proxy, const struct weir_route_opts *opts)
{
    int err = while_set_up(proxy);

    return err ? err : weir_server_add_route(&proxy->set, opts);
}

int weir_proxy_add_listener(struct weir_proxy *proxy, const struct weir_listener_opts *opts)
{
    int err = while_set_up(proxy);

    return err ? err : weir_server_add_listener(&proxy->set, opts);
}

static void service_end(struct weir_proxy *proxy)
{
    weir_service_free(proxy->service);
    proxy->service = NULL;
}

int weir_proxy_start(struct weir_proxy *proxy)
{
    struct weir_tls_fault *fault = &proxy->set.fault;
    int err = while_set_up(proxy);

    if (!err)
        err = weir_server_build(&proxy->set, &proxy->conf);
    if (err)
        return err;
    proxy->service = weir_service_new(&proxy->conf, &proxy->opts, fault);
    if (!proxy->service)
        return WEIR_ECONFIG;
    err = weir_service_open(proxy->service, fault);
    if (!err) {
        err = weir_service_start(proxy->service);
        if (err)
            snprintf(fault->text, sizeof(fault->text), "the workers did not start: %s",
                     weir_err_text((enum weir_err)err));
    }
    if (err)
        service_end(proxy);
    else
        fault->text[0] = 0; /* a warning is in the log */
    return err;
}

unsigned weir_proxy_port(const struct weir_proxy *proxy, const char *listener)
{
    if (!proxy->service || !listener)
        return 0;
    for (size_t i = 0; i < proxy->set.listener_count; i++)
        if (!strcmp(proxy->set.listeners[i].name.ptr, listener))
            return weir_service_port(proxy->service, (unsigned)i);
    return 0;
}

/* Until all is quiet, the time is over, or quit was called once more. */
static void drain(struct weir_proxy *proxy)
{
    uint64_t end_us = weir_clock_us() + (uint64_t)proxy->drain_ms * 1000;

    weir_service_drain(proxy->service);
    while (!weir_service_idle(proxy->service) && weir_clock_us() < end_us &&
           atomic_load(&proxy->quits) < 2) {
        struct timespec look = { .tv_nsec = DRAIN_LOOK_MS * 1000000 };

        nanosleep(&look, NULL); /* a signal may end it early */
    }
}

int weir_proxy_run(struct weir_proxy *proxy)
{
    int err = proxy->service ? 0 : weir_proxy_start(proxy);

    if (err)
        return err;
    while (sem_wait(&proxy->quit) && errno == EINTR)
        ;
    drain(proxy);
    weir_service_stop(proxy->service);
    service_end(proxy);
    atomic_store(&proxy->quits, 0);
    while (!sem_trywait(&proxy->quit)) /* a second quit is not for the next run */
        ;
    return 0;
}

void weir_proxy_quit(struct weir_proxy *proxy)
{
    atomic_fetch_add(&proxy->quits, 1);
    sem_post(&proxy->quit);
}

void weir_proxy_free(struct weir_proxy *proxy)
{
    if (!proxy)
        return;
    if (proxy->service) {
        weir_service_stop(proxy->service);
        service_end(proxy);
    }
    weir_server_conf_fini(&proxy->set);
    sem_destroy(&proxy->quit);
    free(proxy);
}

const char *weir_proxy_fault(const struct weir_proxy *proxy)
{
    return proxy->set.fault.text;
}
