/* SPDX-License-Identifier: Apache-2.0 */
/** control_bind.c: the sockets of the admin's two doors, bound by whoever may, apart from being served. */
#include "daemon/control_internal.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int fault_say(struct weir_tls_fault *fault, int err, const char *format, ...)
    WEIR_PRINTF(3, 4);
static int fault_say(struct weir_tls_fault *fault, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    return err;
}

/* Its owner and root; and the members of admin.group. */
static int socket_group(const char *path, struct weir_str name, struct weir_tls_fault *fault)
{
    const struct group *group;
    char text[64];

    if (weir_str_absent(name) || name.len == 0)
        return 0;
    snprintf(text, sizeof(text), "%.*s", WEIR_FMT(name));
    group = getgrnam(text);
    if (!group)
        return fault_say(fault, WEIR_ENOENT, "admin.group: there is no group '%s'", text);
    if (chown(path, (uid_t)-1, group->gr_gid) != 0 || chmod(path, 0660) != 0)
        return fault_say(fault, WEIR_EACCESS, "admin.group: %s cannot be given to '%s': %s", path,
                         text, strerror(errno));
    return 0;
}

int weir_control_bind(const char *path, struct weir_str group, int *fd,
                      struct weir_tls_fault *fault)
{
    struct weir_listen_opts opts = { .backlog = CONTROL_BACKLOG, .mode = 0600 };
    struct weir_addr addr = { .len = sizeof(addr.un), .un = { .sun_family = AF_UNIX } };
    size_t len = strlen(path);
    int err;

    *fd = -1;
    if (len >= sizeof(addr.un.sun_path))
        return fault_say(fault, WEIR_EADDR,
                         "admin.socket: %s is longer than the %zu bytes of a socket's name", path,
                         sizeof(addr.un.sun_path) - 1);
    memcpy(addr.un.sun_path, path, len + 1);
    addr.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    *fd = weir_listen_open(&addr, &opts);
    if (*fd < 0)
        return fault_say(fault, WEIR_ESYS, "admin.socket: %s: %s%s", path, strerror(-*fd),
                         *fd == -EADDRINUSE ? "; another daemon serves it" : "");
    err = socket_group(path, group, fault);
    if (!err)
        return 0;
    close(*fd);
    unlink(path);
    *fd = -1;
    return err;
}

int weir_control_bind_tcp(struct weir_str listen, int *fd, struct weir_tls_fault *fault)
{
    struct weir_listen_opts opts = { .backlog = CONTROL_BACKLOG };
    struct weir_addr addr;

    *fd = -1;
    if (weir_addr_parse(&addr, listen) != 0)
        return fault_say(fault, WEIR_EADDR, "admin.listen: '%.*s' is not an address",
                         WEIR_FMT(listen));
    *fd = weir_listen_open(&addr, &opts);
    if (*fd >= 0)
        return 0;
    return fault_say(fault, weir_err_from_errno(-*fd), "admin.listen: %.*s: %s", WEIR_FMT(listen),
                     strerror(-*fd));
}
