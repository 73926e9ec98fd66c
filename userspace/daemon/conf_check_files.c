/* SPDX-License-Identifier: Apache-2.0 */
/* conf_check_files.c: what this host must have. Files that are opened when the daemon starts: what is
 * in them is right, and those that will be written can be. So `check` says what `run` would fail
 * with; and of addresses and accounts, which ones this host does not have. */
#include "daemon/conf_internal.h"

#include "net/addr.h"
#include "proxy/access.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Can the file be made, or written to when it is there? 0 or an errno. */
static int write_fault(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct stat st;
    char *folder;
    int err = 0;

    if (!stat(path, &st))
        return S_ISDIR(st.st_mode) ? EISDIR : access(path, W_OK) ? errno : 0;
    if (errno != ENOENT)
        return errno;
    folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!folder)
        return ENOMEM;
    if (access(folder, W_OK | X_OK))
        err = errno;
    free(folder);
    return err;
}

void conf_check_writable(struct conf_load *load, const struct conf_mark *mark, struct weir_str path)
{
    int err = load->no_host ? 0 : write_fault(path.ptr);

    if (err == ENOENT)
        conf_error(load, mark, "cannot write '%.*s': its folder does not exist", CONF_QUOTE(path));
    else if (err)
        conf_error(load, mark, "cannot write '%.*s': %s", CONF_QUOTE(path), strerror(err));
}

void conf_check_deny_file(struct conf_load *load)
{
    const struct weir_access_conf *access_conf = &load->conf->proxy.access;
    struct weir_access_conf only = { .deny_file = access_conf->deny_file, .files = load->door };
    struct weir_tls_fault fault = { 0 };
    struct weir_access *access_made;

    /* one that cannot be read was named already */
    if (load->no_files || !only.deny_file.len ||
        weir_files_check(load->door, only.deny_file.ptr, false) != 0)
        return;
    access_made = weir_access_new(&only, NULL, &fault);
    if (!access_made)
        conf_error(load, conf_at(load, &access_conf->deny_file, "deny_file"), "%s", fault.text);
    weir_access_free(access_made);
}

bool conf_addr_here(const struct conf_load *load, const struct weir_addr *addr)
{
    struct weir_addr any_port = *addr; /* whether a port is free is another question */
    bool here;
    int fd;

    if (load->no_host || addr->sa.sa_family == AF_UNIX)
        return true;
    weir_addr_set_port(&any_port, 0);
    fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    here = fd < 0 || bind(fd, &any_port.sa, any_port.len) == 0 || errno != EADDRNOTAVAIL;
    if (fd >= 0)
        close(fd);
    return here;
}

void conf_check_source_here(struct conf_load *load, const struct weir_cluster_conf *cluster)
{
    bool v6 = memchr(cluster->source.ptr, ':', cluster->source.len) != NULL;
    struct weir_addr addr;
    char text[64];
    int n = snprintf(text, sizeof(text), v6 ? "[%.*s]:0" : "%.*s:0", WEIR_FMT(cluster->source));

    if (n < 0 || (size_t)n >= sizeof(text) || weir_addr_parse(&addr, weir_str(text)))
        return;
    if (!conf_addr_here(load, &addr))
        conf_warn(load, conf_at(load, &cluster->source, "source"),
                  "'%.*s' is not an address of this host now: until it is, nothing reaches "
                  "upstream '%.*s'",
                  CONF_QUOTE(cluster->source), CONF_QUOTE(cluster->name));
}

/* As the daemon will look them up: the user only where it may become another. */
void conf_check_accounts(struct conf_load *load)
{
    const struct weir_conf *conf = load->conf;
    const char *user = weir_arena_copy(&load->scratch, conf->user).ptr;
    const char *group = weir_arena_copy(&load->scratch, conf->admin.group).ptr;

    if (load->no_host || !user || (conf->admin.group.len && !group))
        return;
    if (conf->admin.group.len && !getgrnam(group))
        conf_error(load, conf_at(load, &conf->admin.group, "group"), "there is no group '%.*s'",
                   CONF_QUOTE(conf->admin.group));
    if (conf->user.len && geteuid() == 0 && !getpwnam(user))
        conf_warn(load, conf_at(load, &conf->user, "user"),
                  "there is no user '%.*s': weir will run as 'nobody'", CONF_QUOTE(conf->user));
}
