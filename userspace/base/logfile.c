/* SPDX-License-Identifier: Apache-2.0 */
#include "base/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int weir_logfile_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0640);

    return fd < 0 ? -errno : fd;
}

void weir_logfile_give(int fd, const char *path, uid_t uid, gid_t gid)
{
    struct stat open, named;

    if (fstat(fd, &open) != 0 || lstat(path, &named) != 0 || !S_ISREG(named.st_mode) ||
        open.st_dev != named.st_dev || open.st_ino != named.st_ino || open.st_nlink != 1 ||
        open.st_uid != geteuid())
        return;
    (void)!fchown(fd, uid, gid);
}

bool weir_logfile_renewable(const char *path)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX] = ".";

    if (slash)
        snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0;
}

int weir_logfile_reopen(const char *path, int fd)
{
    int fresh = weir_logfile_open(path), err = 0;

    if (fresh < 0)
        return fresh;
    if (dup3(fresh, fd, O_CLOEXEC) < 0)
        err = -errno;
    close(fresh);
    return err;
}

const char *weir_logfile_hint(const char *path, int err)
{
    if (err != -EACCES)
        return "";
    return access(path, F_OK) == 0 ? "; the file must be writable for the user that weir runs as"
                                   : "; its folder must be writable for the user that weir runs as";
}
