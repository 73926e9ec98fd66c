/* SPDX-License-Identifier: Apache-2.0 */
#include "net/listener.h"

#include "weir/error.h"
#include "weir/limits.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

static int set_device(int fd, struct weir_str device)
{
    if (device.len == 0)
        return 0;
    return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device.ptr, (socklen_t)device.len) ? -errno
                                                                                          : 0;
}

/* A client that has vanished without a FIN is found, also where no timeout waits for it: in a
 * tunnel, in a stream of gRPC. */
static int set_keepalive(int fd)
{
    int err = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);

    if (!err)
        err = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, WEIR_TCP_KEEPALIVE_S);
    if (!err)
        err = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, WEIR_TCP_PROBE_S);
    return err ? err : set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, WEIR_TCP_PROBES);
}

/* TCP_NODELAY and what else is set here is inherited by accepted sockets: no call for each of them.
 */
static int set_options(int fd, const struct weir_addr *addr, const struct weir_listen_opts *opts)
{
    int err = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);

    if (!err)
        err = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (!err)
        err = set_keepalive(fd);
    if (!err && opts->reuseport)
        err = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!err && opts->freebind)
        err = set_option(fd, IPPROTO_IP, IP_FREEBIND, 1); /* of v6 sockets as well */
    if (!err && addr->sa.sa_family == AF_INET6)
        err = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !addr->dual);
    return err ? err : set_device(fd, opts->device);
}

static int open_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

static int listen_ip(const struct weir_addr *addr, const struct weir_listen_opts *opts)
{
    int fd = open_socket(addr->sa.sa_family), err;

    if (fd < 0)
        return fd;
    err = set_options(fd, addr, opts);
    if (!err && bind(fd, &addr->sa, addr->len))
        err = -errno;
    if (!err && listen(fd, opts->backlog))
        err = -errno;
    if (!err)
        return fd;
    close(fd);
    return err;
}

/* ":80" on a host without IPv6. */
static int listen_v4_any(const struct weir_addr *addr, const struct weir_listen_opts *opts)
{
    struct weir_addr any = { .len = sizeof(any.in) };

    any.in.sin_family = AF_INET;
    any.in.sin_port = addr->in6.sin6_port;
    return listen_ip(&any, opts);
}

/* Is there a socket at this path that nobody serves any more? */
static bool unix_is_stale(const struct weir_addr *addr)
{
    struct stat st;
    bool refused;
    int fd;

    if (lstat(addr->un.sun_path, &st) || !S_ISSOCK(st.st_mode))
        return false;
    fd = open_socket(AF_UNIX);
    if (fd < 0)
        return false;
    refused = connect(fd, &addr->sa, addr->len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_unix(int fd, const struct weir_addr *addr)
{
    if (bind(fd, &addr->sa, addr->len) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return -errno;
    if (!unix_is_stale(addr))
        return -EADDRINUSE;
    if (unlink(addr->un.sun_path) && errno != ENOENT)
        return -errno;
    return bind(fd, &addr->sa, addr->len) ? -errno : 0;
}

static int listen_unix(const struct weir_addr *addr, const struct weir_listen_opts *opts)
{
    int fd = open_socket(AF_UNIX), err;

    if (fd < 0)
        return fd;
    if (fchmod(fd,
               opts->mode)) { /* what bind creates has no more than this, from the first moment */
        err = -errno;
        goto close_fd;
    }
    err = bind_unix(fd, addr);
    if (err)
        goto close_fd;
    if (chmod(addr->un.sun_path, opts->mode)) { /* and what the umask took away */
        err = -errno;
        goto unlink_path;
    }
    if (listen(fd, opts->backlog)) {
        err = -errno;
        goto unlink_path;
    }
    return fd;
unlink_path:
    unlink(addr->un.sun_path);
close_fd:
    close(fd);
    return err;
}

int weir_listen_open(const struct weir_addr *addr, const struct weir_listen_opts *opts)
{
    int fd;

    if (!addr->len)
        return -EINVAL;
    if (addr->sa.sa_family == AF_UNIX)
        return listen_unix(addr, opts);
    fd = listen_ip(addr, opts);
    if (addr->dual && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL))
        return listen_v4_any(addr, opts);
    return fd;
}

int weir_listen_serve(struct weir_loop *loop, struct weir_lsock *lsock, bool on)
{
    return loop->io->ops->listen(loop, lsock, on);
}
