/* SPDX-License-Identifier: Apache-2.0 */
/** log_target.h: where the lines of the log go: stderr, a file, syslog, the journal. */
#ifndef DAEMON_LOG_TARGET_H
#define DAEMON_LOG_TARGET_H

#include "daemon/conf.h"
#include "weir/log.h"

#include <sys/un.h>

struct weir_log_target {
    int to; /* WEIR_LOG_TO_* */
    int fd; /* a file, or the journal's socket; -1: stderr */
    bool json;
    char *path;
    struct sockaddr_un journal;
};

/** 0, or -errno: the file cannot be opened. A journal that is not there is stderr with <N>. */
int weir_log_target_open(struct weir_log_target *target, const struct weir_log_conf *conf)
    __attribute__((warn_unused_result));
/** The same with a file that was opened by somebody else: `fd` becomes the target's. 0 or -errno. */
int weir_log_target_adopt(struct weir_log_target *target, const struct weir_log_conf *conf, int fd)
    __attribute__((warn_unused_result));
/** A weir_log_fn; arg is the target. Any thread. */
void weir_log_target_write(void *arg, enum weir_log_level level, const char *line, size_t len);
/** Opens the file anew and keeps the old one when that fails (-errno). Any thread. */
int weir_log_target_reopen(struct weir_log_target *target) __attribute__((warn_unused_result));
/** Gives a file of ours to the user that the process will be, so that it can be opened anew. */
void weir_log_target_give(struct weir_log_target *target, unsigned uid, unsigned gid);
/** Puts (a copy of) `fd` in place of its file. 0 or -errno. Any thread. */
int weir_log_target_replace(struct weir_log_target *target, int fd)
    __attribute__((warn_unused_result));
void weir_log_target_close(struct weir_log_target *target);

#endif
