/* SPDX-License-Identifier: Apache-2.0 */
/** confine.c: Landlock by its system calls (no library has them everywhere), and what both have in common. */
#include "daemon/confine.h"

#include "daemon/confine_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

/* By version of the interface: newer headers have names for them. */
enum {
    ACCESS_V1 = (1 << 13) - 1, /* execute, write, read, list, remove, make */
    ACCESS_REFER = 1 << 13,    /* 2 */
    ACCESS_TRUNCATE = 1 << 14, /* 3 */
    ACCESS_IOCTL = 1 << 15,    /* 5 */
    ACCESS_READ = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
};

/* Of the system, none of it the operator's for weir: names and certificates (resolv.conf may be replaced at any time, so it
 * is its folder), shared objects that libc loads late, what the kernel tells, and the null device. */
static const struct {
    const char *path;
    uint64_t access;
} readable[] = {
    { "/etc", ACCESS_READ },
    { "/run/systemd/resolve", ACCESS_READ },
    { "/run/resolvconf", ACCESS_READ },
    { "/run/NetworkManager", ACCESS_READ },
    { "/usr/lib", ACCESS_READ },
    { "/usr/lib64", ACCESS_READ },
    { "/usr/share/ca-certificates", ACCESS_READ },
    { "/usr/local/share/ca-certificates", ACCESS_READ },
    { "/usr/local/lib", ACCESS_READ },
    { "/usr/share/zoneinfo", ACCESS_READ },
    { "/proc", ACCESS_READ },
    { "/sys/fs/cgroup", ACCESS_READ },
    { "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE },
    { "/dev/urandom", LANDLOCK_ACCESS_FS_READ_FILE },
};

/* Sanitizers, coverage and profiles call and write what they like. */
#ifdef WEIR_INSTRUMENTED
static const bool instrumented = true;
#else
static const bool instrumented = false;
#endif

static int landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    return version < 0 ? -errno : (int)version;
}

/* A path that is not there needs no rule. */
static int rule_add(int rules, const char *path, uint64_t access)
{
    struct landlock_path_beneath_attr rule = { .allowed_access = access };
    int err = 0;

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return 0;
    if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
        err = -errno;
    close(rule.parent_fd);
    return err;
}

static int landlock_on(void)
{
    struct landlock_ruleset_attr attr = { .handled_access_fs = ACCESS_V1 };
    int version = landlock_version(), rules, err = 0;

    if (version < 0)
        return version;
    if (version >= 2)
        attr.handled_access_fs |= ACCESS_REFER;
    if (version >= 3)
        attr.handled_access_fs |= ACCESS_TRUNCATE;
    if (version >= 5)
        attr.handled_access_fs |= ACCESS_IOCTL;
    rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
    if (rules < 0)
        return -errno;
    for (size_t i = 0; i < sizeof(readable) / sizeof(readable[0]) && !err; i++)
        err = rule_add(rules, readable[i].path, readable[i].access);
    if (!err && syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        err = -errno;
    close(rules);
    return err ? err : version;
}

void weir_confine(struct weir_confinement *done)
{
    *done = (struct weir_confinement){ .seccomp = -EOPNOTSUPP, .landlock = -EOPNOTSUPP };
    if (instrumented)
        return;
    done->landlock = landlock_on();
    done->seccomp = confine_calls();
}

void weir_confine_probe(struct weir_confinement *can)
{
    can->landlock = landlock_version();
    can->seccomp = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 ? -errno : 0;
}

bool weir_confine_told(const struct weir_confinement *done, int how, struct weir_log *log)
{
    bool whole = done->seccomp == 0 && done->landlock > 0;
    enum weir_log_level level = whole                         ? WEIR_LOG_INFO
                                : how == WEIR_CONFINE_REQUIRE ? WEIR_LOG_ERROR
                                                              : WEIR_LOG_WARN;
    char landlock[64];

    if (done->landlock > 0)
        snprintf(landlock, sizeof(landlock), "version %d", done->landlock);
    else
        snprintf(landlock, sizeof(landlock), "off (%s)", strerror(-done->landlock));
    if (whole)
        weir_log(log, level, "confined: system calls by seccomp, files by Landlock %s", landlock);
    else
        weir_log(log, level, "not wholly confined: seccomp %s%s%s, Landlock %s%s",
                 done->seccomp ? "off (" : "on", done->seccomp ? strerror(-done->seccomp) : "",
                 done->seccomp ? ")" : "", landlock,
                 how == WEIR_CONFINE_REQUIRE ? "; `confine: require` asks for both" : "");
    return whole || how != WEIR_CONFINE_REQUIRE;
}
