/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/log_target.h"

#include "base/logfile.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_DEBUG };
static const char journal_path[] = "/run/systemd/journal/socket";

static void journal_open(struct weir_log_target *target)
{
    target->journal.sun_family = AF_UNIX;
    memcpy(target->journal.sun_path, journal_path, sizeof(journal_path));
    if (access(journal_path, F_OK) == 0)
        target->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

int weir_log_target_adopt(struct weir_log_target *target, const struct weir_log_conf *conf, int fd)
{
    *target = (struct weir_log_target){ .to = conf->to, .fd = fd };
    target->json = conf->format == WEIR_LOG_AS_JSON;
    switch (conf->to) {
    case WEIR_LOG_TO_FILE:
        target->path = weir_str_dup(conf->file);
        if (target->path)
            return 0;
        weir_log_target_close(target);
        return -ENOMEM;
    case WEIR_LOG_TO_SYSLOG:
        openlog("weir", LOG_PID | LOG_NDELAY, LOG_DAEMON);
        return 0;
    case WEIR_LOG_TO_JOURNAL:
        journal_open(target);
        return 0;
    default:
        return 0;
    }
}

int weir_log_target_open(struct weir_log_target *target, const struct weir_log_conf *conf)
{
    char *path;
    int fd = -1;

    *target = (struct weir_log_target){ .fd = -1 };
    if (conf->to == WEIR_LOG_TO_FILE) {
        path = weir_str_dup(conf->file);
        fd = path ? weir_logfile_open(path) : -ENOMEM;
        free(path);
        if (fd < 0)
            return fd;
    }
    return weir_log_target_adopt(target, conf, fd);
}

int weir_log_target_replace(struct weir_log_target *target, int fd)
{
    return target->fd >= 0 && dup3(fd, target->fd, O_CLOEXEC) < 0 ? -errno : 0;
}

/* One line, one write: lines of threads never mix. */
static void write_line(int fd, const char *prefix, const char *line, size_t len)
{
    struct iovec iov[] = {
        { (void *)prefix, strlen(prefix) },
        { (void *)line, len },
        { (void *)"\n", 1 },
    };

    while (writev(fd, iov, 3) < 0 && errno == EINTR)
        ;
}

/* Without the time, which syslog and the journal put there themselves. */
static void skip_time(bool json, const char **line, size_t *len)
{
    const char *space = json ? NULL : memchr(*line, ' ', *len);

    if (!space)
        return;
    *len -= (size_t)(space + 1 - *line);
    *line = space + 1;
}

static bool journal_send(struct weir_log_target *target, int priority, const char *line, size_t len)
{
    char head[64];
    int n = snprintf(head, sizeof(head), "PRIORITY=%d\nSYSLOG_IDENTIFIER=weir\nMESSAGE=", priority);
    struct iovec iov[] = { { head, (size_t)n }, { (void *)line, len }, { (void *)"\n", 1 } };
    struct msghdr msg = {
        .msg_name = &target->journal,
        .msg_namelen = sizeof(target->journal),
        .msg_iov = iov,
        .msg_iovlen = 3,
    };

    return target->fd >= 0 && sendmsg(target->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

void weir_log_target_write(void *arg, enum weir_log_level level, const char *line, size_t len)
{
    struct weir_log_target *target = arg;
    int priority = priorities[level];
    char prefix[8];

    switch (target->to) {
    case WEIR_LOG_TO_FILE:
        write_line(target->fd, "", line, len);
        return;
    case WEIR_LOG_TO_SYSLOG:
        skip_time(target->json, &line, &len);
        syslog(priority, "%.*s", (int)len, line);
        return;
    case WEIR_LOG_TO_JOURNAL:
        skip_time(target->json, &line, &len);
        if (journal_send(target, priority, line, len))
            return;
        snprintf(prefix, sizeof(prefix), "<%d>", priority);
        write_line(STDERR_FILENO, prefix, line, len);
        return;
    default:
        write_line(STDERR_FILENO, "", line, len);
    }
}

int weir_log_target_reopen(struct weir_log_target *target)
{
    return target->to == WEIR_LOG_TO_FILE ? weir_logfile_reopen(target->path, target->fd) : 0;
}

void weir_log_target_give(struct weir_log_target *target, unsigned uid, unsigned gid)
{
    if (target->to == WEIR_LOG_TO_FILE)
        weir_logfile_give(target->fd, target->path, uid, gid);
}

void weir_log_target_close(struct weir_log_target *target)
{
    if (target->fd >= 0)
        close(target->fd);
    if (target->to == WEIR_LOG_TO_SYSLOG)
        closelog();
    free(target->path);
    target->path = NULL;
    target->fd = -1;
    target->to = WEIR_LOG_TO_STDERR;
}
