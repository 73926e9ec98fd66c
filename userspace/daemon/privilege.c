/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/privilege.h"

#include "weir/error.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOFILE_RESERVE = 256, NOFILE_UNLIMITED_CONNECTIONS = 100000 };

uint64_t weir_nofile_needed(int64_t connections)
{
    uint64_t n = connections < 0 ? NOFILE_UNLIMITED_CONNECTIONS : (uint64_t)connections;

    return n * 2 + NOFILE_RESERVE;
}

uint64_t weir_nofile_try(uint64_t needed)
{
    struct rlimit have, want;

    if (getrlimit(RLIMIT_NOFILE, &have) != 0)
        return 0;
    if (have.rlim_cur >= needed)
        return have.rlim_cur;
    want.rlim_cur = needed;
    want.rlim_max = have.rlim_max > needed ? have.rlim_max : needed;
    if (setrlimit(RLIMIT_NOFILE, &want) == 0)
        return needed;
    want.rlim_cur = want.rlim_max = have.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &want) == 0 ? want.rlim_cur : have.rlim_cur;
}

uint64_t weir_nofile_raise(uint64_t needed, struct weir_log *log)
{
    uint64_t have = weir_nofile_try(needed);

    if (have >= needed || have == 0)
        return have;
    weir_log(
        log, WEIR_LOG_WARN,
        "limits.connections needs %llu file descriptors and this process may have %llu: "
        "at most %llu connections fit; raise the limit (LimitNOFILE= of the unit, `ulimit -n`) "
        "or lower limits.connections",
        (unsigned long long)needed, (unsigned long long)have,
        (unsigned long long)(have > NOFILE_RESERVE ? have - NOFILE_RESERVE : have) / 2);
    return have;
}

int weir_user_find(struct weir_user *user, struct weir_str name, struct weir_log *log)
{
    const struct passwd *entry;

    *user = (struct weir_user){ 0 };
    if (geteuid() != 0)
        return 0;
    snprintf(user->name, sizeof(user->name), "%.*s", WEIR_FMT(name));
    entry = getpwnam(user->name);
    if (!entry) {
        weir_log(log, WEIR_LOG_WARN,
                 "there is no user '%s': running as 'nobody'; make it with `useradd --system "
                 "--no-create-home --shell /usr/sbin/nologin %s`, or set `user`",
                 user->name, user->name);
        snprintf(user->name, sizeof(user->name), "nobody");
        user->nobody = true;
        entry = getpwnam("nobody");
    }
    if (!entry)
        return WEIR_ENOENT;
    user->uid = entry->pw_uid;
    user->gid = entry->pw_gid;
    user->change = entry->pw_uid != 0;
    if (user->nobody) /* others share it: not with what it may do besides */
        return 0;
    user->groups_count = WEIR_USER_GROUPS_MAX;
    if (getgrouplist(user->name, user->gid, user->groups, &user->groups_count) < 0) {
        weir_log(log, WEIR_LOG_WARN, "user '%s' is in more than %d groups; the others are left out",
                 user->name, WEIR_USER_GROUPS_MAX);
        user->groups_count = WEIR_USER_GROUPS_MAX;
    }
    return 0;
}

/* setuid() clears the permitted and effective sets; the bounding, ambient and inheritable ones
 * need a word each. */
static int drop_bounding(void)
{
    for (int cap = 0; cap <= 63; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno != EINVAL && errno != EPERM)
            return -errno;
    }
    return 0;
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &header, none) == 0 ? 0 : -errno;
}

int weir_user_become(const struct weir_user *user, const char **what)
{
    int err;

    if (user->change) {
        *what = "dropping the capability bounding set";
        err = drop_bounding();
        if (err)
            return err;
        *what = "setting the groups";
        if (setgroups((size_t)user->groups_count, user->groups) != 0)
            return -errno;
        *what = "setting the group id";
        if (setresgid(user->gid, user->gid, user->gid) != 0)
            return -errno;
        *what = "setting the user id";
        if (setresuid(user->uid, user->uid, user->uid) != 0)
            return -errno;
        *what = "checking that the way back is closed";
        if (setuid(0) == 0)
            return -EPERM;
    }
    *what = "dropping capabilities";
    err = user->change ? drop_capabilities() : 0;
    if (err)
        return err;
    *what = "setting no_new_privs";
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : -errno;
}
