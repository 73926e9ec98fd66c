/* SPDX-License-Identifier: Apache-2.0 */
/** bind.c: the listening sockets of a service, one a worker, opened apart from being served. */
#include "proxy/bound.h"
#include "proxy/worker.h"

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
    const struct weir_bind_source *source = service->bind;
    struct weir_listen_opts opts = { .backlog = (int)conf->backlog,
                                     .freebind = conf->freebind,
                                     .device = conf->device,
                                     .mode = (unsigned)conf->mode };
    unsigned count = service->worker_count;
    int *fds = &listener->fds[a * count], err;

    if (fds[0] >= 0)
        return 0;
    err = source ? source->open(source->arg, &listener->addrs[a], &opts, fds, count)
                 : weir_bound_open(&listener->addrs[a], &opts, fds, count);
    if (err) {
        for (unsigned w = 0; w < count; w++)
            fds[w] = -1;
        return weir_bind_fault(conf, a, -err, fault);
    }
    learn_port(listener, a, fds[0]);
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
    service->opened = !service->bind; /* paths of UNIX sockets are theirs who made them */
    return 0;
}

uint16_t weir_service_port(const struct weir_service *service, unsigned listener)
{
    return listener < service->listener_count ? service->listeners[listener].port : 0;
}
