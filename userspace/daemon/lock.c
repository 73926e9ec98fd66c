/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIES_MAX = 16 };

static pid_t read_holder(int fd)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    if (n <= 0)
        return 0;
    text[n] = '\0';
    return (pid_t)strtol(text, NULL, 10);
}

/* Is the file that we locked still the one that the path names? Its last holder may have removed
 * it between our open and our lock. */
static bool same_file(int fd, const char *path)
{
    struct stat ours, theirs;

    return fstat(fd, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino &&
           ours.st_dev == theirs.st_dev;
}

static int lock_try(const char *path, int *out, pid_t *holder)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    int err;

    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        err = errno == EWOULDBLOCK ? -EEXIST : -errno;
        *holder = read_holder(fd);
        close(fd);
        return err;
    }
    if (!same_file(fd, path)) {
        close(fd);
        return -EAGAIN;
    }
    *out = fd;
    return 0;
}

int weir_lock_name(int fd, pid_t holder)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%d\n", (int)holder);

    return ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n ? -errno : 0;
}

int weir_lock_take(struct weir_lock *lock, const char *path, pid_t *holder)
{
    int err = -EAGAIN;

    *holder = 0;
    lock->fd = -1;
    for (int i = 0; i < TRIES_MAX && err == -EAGAIN; i++)
        err = lock_try(path, &lock->fd, holder);
    if (err)
        return err;
    snprintf(lock->path, sizeof(lock->path), "%s", path);
    err = weir_lock_name(lock->fd, getpid());
    if (err)
        weir_lock_drop(lock);
    return err;
}

void weir_lock_drop(struct weir_lock *lock)
{
    if (lock->fd < 0)
        return;
    unlink(lock->path);
    close(lock->fd);
    lock->fd = -1;
}
