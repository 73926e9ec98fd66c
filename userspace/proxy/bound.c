/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/bound.h"

#include "base/str.h"

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

int weir_bind_fault(const struct weir_listener_conf *listener, size_t bind, int sys,
                    struct weir_tls_fault *fault)
{
    struct weir_str text = listener->bind.at[bind];

    snprintf(fault->text, sizeof(fault->text), "listener '%.*s': %.*s: %s%s",
             WEIR_FMT(listener->name), WEIR_FMT(text), strerror(sys),
             bind_advice(sys, !weir_str_starts(text, WEIR_STR("unix:"))));
    return weir_err_from_errno(sys);
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
