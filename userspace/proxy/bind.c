/* SPDX-License-Identifier: Apache-2.0 */
/** bind.c: the listening sockets of a service, one a worker, opened apart from being served. */
#include "proxy/worker.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static const char *bind_advice(int sys, bool ip)
{
    switch (sys) {
    case EACCES:
        return !ip ? ""
                   : "; ports below 1024 need root or CAP_NET_BIND_SERVICE (or: sysctl "
                     "net.ipv4.ip_unprivileged_port_start)";
    case EADDRINUSE:
        return "; `ss -ltnp` shows who has it";
    case EADDRNOTAVAIL:
        return "; no interface has this address (freebind: on binds it all the same)";
    default:
        return "";
    }
}

static int bind_failed(const struct weir_listener *listener, unsigned a, int sys,
                       struct weir_tls_fault *fault)
{
    snprintf(fault->text, sizeof(fault->text), "listener '%.*s': %.*s: %s%s",
             WEIR_FMT(listener->conf->name), WEIR_FMT(listener->conf->bind.at[a]), strerror(sys),
             bind_advice(sys, listener->addrs[a].sa.sa_family != AF_UNIX));
    return weir_err_from_errno(sys);
}

/* The port that the kernel chose for port 0 counts for all workers. */
static void learn_port(struct weir_listener *listener, unsigned a, int fd)
{
    struct weir_addr bound = { .len = sizeof(bound.un) };

    if (getsockname(fd, &bound.sa, &bound.len) || listener->addrs[a].sa.sa_family == AF_UNIX)
        return;
    weir_addr_set_port(&listener->addrs[a], weir_addr_port(&bound));
    if (a == 0)
        listener->port = weir_addr_port(&bound);
}

static int open_addr(struct weir_service *service, struct weir_listener *listener, unsigned a,
                     struct weir_tls_fault *fault)
{
    const struct weir_listener_conf *conf = listener->conf;
    struct weir_listen_opts opts = { .backlog = (int)conf->backlog,
                                     .freebind = conf->freebind,
                                     .device = conf->device,
                                     .mode = (unsigned)conf->mode };
    bool shared = listener->addrs[a].sa.sa_family != AF_UNIX;
    int *fds = &listener->fds[a * service->worker_count];
    int fd;

    if (fds[0] >= 0)
        return 0;
    fd = weir_listen_open(&listener->addrs[a],
                          &opts); /* without SO_REUSEPORT: is somebody else there? */
    if (fd < 0)
        return bind_failed(listener, a, -fd, fault);
    learn_port(listener, a, fd);
    if (!shared || service->worker_count == 1) {
        for (unsigned w = 0; w < service->worker_count; w++) {
            fds[w] = w == 0 ? fd : dup(fd);
            if (fds[w] < 0)
                return bind_failed(listener, a, errno, fault);
        }
        return 0;
    }
    close(fd);
    opts.reuseport = true;
    for (unsigned w = 0; w < service->worker_count; w++) {
        fds[w] = weir_listen_open(&listener->addrs[a], &opts);
        if (fds[w] < 0)
            return bind_failed(listener, a, -fds[w], fault);
    }
    return 0;
}

int weir_service_open(struct weir_service *service, struct weir_tls_fault *fault)
{
    fault->text[0] = 0;
    for (unsigned i = 0; i < service->listener_count; i++)
        for (unsigned a = 0; a < service->listeners[i].addr_count; a++) {
            int err = open_addr(service, &service->listeners[i], a, fault);

            if (err)
                return err;
        }
    service->opened = true;
    return 0;
}

uint16_t weir_service_port(const struct weir_service *service, unsigned listener)
{
    return listener < service->listener_count ? service->listeners[listener].port : 0;
}
