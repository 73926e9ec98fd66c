/* SPDX-License-Identifier: Apache-2.0 */
/** lock.h: one daemon an instance: a locked file with the pid of its holder. */
#ifndef DAEMON_LOCK_H
#define DAEMON_LOCK_H

#include "daemon/paths.h"

#include <sys/types.h>

struct weir_lock {
    int fd; /* -1: not held */
    char path[WEIR_PATH_BYTES];
};

/** 0; -EEXIST with *holder (0 when it cannot be told): another daemon has it; or another -errno. */
int weir_lock_take(struct weir_lock *lock, const char *path, pid_t *holder)
    __attribute__((warn_unused_result));
/** Whose pid stands in the file: it is told to who comes second. 0 or -errno. */
int weir_lock_name(int fd, pid_t holder) __attribute__((warn_unused_result));
/** Removes the file, when this process still may, and lets go. */
void weir_lock_drop(struct weir_lock *lock);

#endif
