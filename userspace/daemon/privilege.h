/* SPDX-License-Identifier: Apache-2.0 */
/** privilege.h: as many descriptors as are needed, and no more rights than are needed. */
#ifndef DAEMON_PRIVILEGE_H
#define DAEMON_PRIVILEGE_H

#include "weir/log.h"

#include <sys/types.h>

/** Descriptors that a daemon needs for that many client connections: two each (client and
 * upstream), and a reserve for listeners, logs, health checks and the admin. */
uint64_t weir_nofile_needed(int64_t connections);
/** Raises RLIMIT_NOFILE (soft, and hard when allowed) to `needed`; warns with the numbers and with
 * what to do when that is not allowed. Returns the limit in force. */
uint64_t weir_nofile_raise(uint64_t needed, struct weir_log *log);

enum { WEIR_USER_GROUPS_MAX = 64 };

/** The same, and nothing is said. */
uint64_t weir_nofile_try(uint64_t needed);

/** Whom the process will be. */
struct weir_user {
    bool change; /* false: stays what it is */
    bool nobody; /* the wanted one does not exist */
    uid_t uid;
    gid_t gid;
    gid_t groups[WEIR_USER_GROUPS_MAX];
    int groups_count;
    char name[64];
};

/** Looks `name` up when started as root: `nobody` with a warning that says how to make it, when it
 * does not exist. 0, or WEIR_ENOENT: not even that one exists. */
int weir_user_find(struct weir_user *user, struct weir_str name, struct weir_log *log)
    __attribute__((warn_unused_result));
/**
 * Becomes that user for good: groups, ids, every capability, no new ones. Before any thread is
 * started. 0, or -errno with what failed in *what; the process must not go on then.
 */
int weir_user_become(const struct weir_user *user, const char **what)
    __attribute__((warn_unused_result));

#endif
