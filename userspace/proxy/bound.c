/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/bound.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
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

int weir_bind_fault(const struct weir_listener_conf *listener, size_t bind, int sys,
                    struct weir_tls_fault *fault)
{
    struct weir_str text = listener->bind.at[bind];

    snprintf(fault->text, sizeof(fault->text), "listener '%.*s': %.*s: %s%s",
             WEIR_FMT(listener->name), WEIR_FMT(text), strerror(sys),
             bind_advice(sys, !weir_str_starts(text, WEIR_STR("unix:"))));
    return weir_err_from_errno(sys);
}

/* The port that the kernel chose for port 0 counts for all workers. */
static void learn_port(struct weir_bound *bound, int fd)
{
    struct weir_addr addr = { .len = sizeof(addr.un) };

    if (bound->addr.sa.sa_family != AF_UNIX && !getsockname(fd, &addr.sa, &addr.len))
        weir_addr_set_port(&bound->addr, weir_addr_port(&addr));
}

static void close_all(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

/* One socket, for all: a UNIX address has no more, and one worker needs no more. */
static int open_single(int fd, int *fds, unsigned count)
{
    fds[0] = fd;
    for (unsigned i = 1; i < count; i++) {
        fds[i] = dup(fd);
        if (fds[i] < 0) {
            int err = -errno;

            close_all(fds, i);
            return err;
        }
    }
    return 0;
}

int weir_bound_open(const struct weir_addr *addr, const struct weir_listen_opts *opts, int *fds,
                    unsigned count)
{
    struct weir_listen_opts each = *opts;
    struct weir_addr at = *addr, got = { .len = sizeof(got.un) };
    int fd = weir_listen_open(addr, opts); /* without SO_REUSEPORT: is somebody else there? */

    if (fd < 0)
        return fd;
    if (addr->sa.sa_family == AF_UNIX || count == 1)
        return open_single(fd, fds, count);
    if (!getsockname(fd, &got.sa, &got.len)) /* port 0: the one that the kernel chose is for all */
        weir_addr_set_port(&at, weir_addr_port(&got));
    close(fd);
    each.reuseport = true;
    for (unsigned i = 0; i < count; i++) {
        fds[i] = weir_listen_open(&at, &each);
        if (fds[i] < 0) {
            int err = fds[i];

            close_all(fds, i);
            return err;
        }
    }
    return 0;
}

static int open_from(struct weir_bound *bound, const struct weir_listener_conf *listener,
                     const struct weir_bind_source *source)
{
    struct weir_listen_opts opts = { .backlog = (int)listener->backlog,
                                     .freebind = listener->freebind,
                                     .device = listener->device,
                                     .mode = (unsigned)listener->mode };
    int *fds = calloc(bound->workers, sizeof(*fds)), err = -ENOMEM;

    if (fds)
        err = source ? source->open(source->arg, &bound->addr, &opts, fds, bound->workers)
                     : weir_bound_open(&bound->addr, &opts, fds, bound->workers);
    for (unsigned w = 0; !err && w < bound->workers; w++)
        bound->at[w].fd = fds[w];
    free(fds);
    if (err)
        return err;
    bound->opened = !source; /* else the path of a UNIX socket is theirs who made it */
    learn_port(bound, bound->at[0].fd);
    return 0;
}

struct weir_bound *weir_bound_new(const struct weir_listener_conf *listener, size_t bind,
                                  unsigned workers, const struct weir_bind_source *source,
                                  struct weir_tls_fault *fault, int *err)
{
    struct weir_bound *bound = calloc(1, sizeof(*bound) + workers * sizeof(bound->at[0]));
    int sys;

    *err = WEIR_ENOMEM;
    if (!bound)
        return NULL;
    bound->refs = 1;
    bound->workers = workers;
    bound->backlog = (int)listener->backlog;
    bound->mode = (unsigned)listener->mode;
    for (unsigned w = 0; w < workers; w++)
        bound->at[w] = (struct weir_bound_at){ .fd = -1, .bound = bound };
    bound->device = listener->device.len ? weir_str_dup(listener->device) : NULL;
    *err = weir_addr_parse(&bound->asked, listener->bind.at[bind]);
    bound->addr = bound->asked;
    if (*err) {
        snprintf(fault->text, sizeof(fault->text), "'%.*s' is not an address",
                 WEIR_FMT(listener->bind.at[bind]));
        *err = WEIR_ECONFIG;
    } else if (listener->device.len && !bound->device) {
        *err = WEIR_ENOMEM;
    } else {
        sys = open_from(bound, listener, source);
        if (!sys)
            return bound;
        *err = weir_bind_fault(listener, bind, -sys, fault);
    }
    weir_bound_put(bound);
    return NULL;
}

bool weir_bound_fits(const struct weir_bound *bound, const struct weir_listener_conf *listener,
                     const struct weir_addr *addr)
{
    return weir_addr_eq(&bound->asked, addr) && bound->asked.dual == addr->dual &&
           weir_str_eq(weir_str(bound->device ? bound->device : ""), listener->device);
}

void weir_bound_adjust(struct weir_bound *bound, const struct weir_listener_conf *listener)
{
    bool file = bound->addr.sa.sa_family == AF_UNIX;

    if (bound->backlog != (int)listener->backlog)
        for (unsigned w = 0; w < bound->workers; w++)
            (void)!listen(bound->at[w].fd, (int)listener->backlog);
    if (file && bound->mode != (unsigned)listener->mode)
        (void)!chmod(bound->addr.un.sun_path, (mode_t)listener->mode);
    bound->backlog = (int)listener->backlog;
    bound->mode = (unsigned)listener->mode;
}

void weir_bound_gone(struct weir_bound *bound)
{
    if (bound->opened && bound->addr.sa.sa_family == AF_UNIX)
        unlink(bound->addr.un.sun_path);
    bound->opened = false;
}

void weir_bound_put(struct weir_bound *bound)
{
    if (--bound->refs)
        return;
    for (unsigned w = 0; w < bound->workers; w++)
        if (bound->at[w].fd >= 0)
            close(bound->at[w].fd);
    weir_bound_gone(bound);
    free(bound->device);
    free(bound);
}
