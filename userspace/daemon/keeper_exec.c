/* SPDX-License-Identifier: Apache-2.0 */
/**
 * keeper_exec.c: the keeper becomes another binary: the same process, so the same pid and the same children. What it has
 * is left in memory as a manifest, with the numbers of descriptors, which stay open across the exec.
 *
 * An exec cannot be taken back. So a child tries first whether the new binary can read what it would find: when it can not,
 * the old one stays the keeper of a new proxy.
 */
#include "daemon/keeper_internal.h"

#include "weir/weir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what is left ------------------------------------------------------------------------- */

/* The others are given up, and reaped without a name. */
static int leave_children(struct keeper *keeper, struct weir_manifest *all)
{
    int err = 0;

    for (int i = 0; i < KEEPER_CHILDREN_MAX && !err; i++) {
        const struct keeper_child *child = &keeper->children[i];
        char pid[24];
        int fd = -1;

        if (child->role != CHILD_PROXY)
            continue;
        if (child->channel >= 0) { /* else it is about to end, and still to be waited for */
            fd = fcntl(child->channel, F_DUPFD_CLOEXEC, KEEPER_FD_MIN);
            if (fd < 0)
                return -errno;
        }
        snprintf(pid, sizeof(pid), "%d", (int)child->pid);
        err = weir_manifest_add(all, WEIR_GIVEN_PROXY, pid,
                                weir_str(child == keeper->current ? "serving" : "retired"), fd);
    }
    return err;
}

/* Copies with descriptors of their own: where the exec fails, nothing has changed. */
static int leave_estate(const struct keeper *keeper, struct weir_manifest *all)
{
    int err = 0;

    for (size_t i = 0; i < keeper->estate.count && !err; i++) {
        const struct weir_entry *entry = &keeper->estate.at[i];
        int fd = entry->fd >= 0 ? fcntl(entry->fd, F_DUPFD_CLOEXEC, KEEPER_FD_MIN) : -1;

        if (entry->fd >= 0 && fd < 0)
            return -errno;
        err = weir_manifest_add(all, entry->kind, entry->name,
                                (struct weir_str){ entry->value, entry->value_len }, fd);
    }
    return err;
}

static int leave_all(struct keeper *keeper, struct weir_manifest *all)
{
    int exe = fcntl(keeper->exe, F_DUPFD_CLOEXEC, KEEPER_FD_MIN);
    int err = exe < 0 ? -errno : 0;

    if (!err)
        err = weir_manifest_add(all, WEIR_GIVEN_EXE, keeper->exe_path, WEIR_STR(""), exe);
    if (!err)
        err = leave_estate(keeper, all);
    if (!err)
        err = leave_children(keeper, all);
    if (!err)
        err = keeper_held_leave(keeper, all);
    return err ?: weir_manifest_set_number(all, WEIR_SET_STARTS, keeper->starts);
}

int keeper_leave(struct keeper *keeper, struct weir_manifest *left)
{
    char number[16];
    int err = leave_all(keeper, left), fd = err ? err : weir_manifest_save(left);

    if (fd < 0)
        return fd;
    snprintf(number, sizeof(number), "%d", fd);
    return setenv(KEEPER_STATE_ENV, number, 1) == 0 ? 0 : -ENOMEM;
}

/* ---- trying, then doing ------------------------------------------------------------------- */

/* One of an earlier binary says nothing about this one: by its word the keeper would become what nobody has tried. */
void keeper_probe_begin(struct keeper *keeper)
{
    keeper->probe_due = false;
    if (keeper->probe)
        keeper_child_kill(keeper->probe);
    keeper->probe = keeper_spawn(keeper, CHILD_PROBE, keeper->exe, NULL);
    if (!keeper->probe)
        weir_log(keeper->log, WEIR_LOG_WARN,
                 "the keeper stays weir %s: no process can be started to try the new one",
                 weir_version());
}

void keeper_probe_ended(struct keeper *keeper, const struct keeper_child *child, int status,
                        bool late)
{
    char *const *argv = keeper->opts->argv;
    struct weir_manifest left = { 0 };
    int err;

    if (child != keeper->probe)
        return;
    keeper->probe = NULL;
    keeper->probe_due = keeper->task != TASK_NONE;
    if (keeper->stops || keeper->probe_due)
        return;
    if (status != 0) {
        weir_log(keeper->log, WEIR_LOG_WARN,
                 "the keeper stays weir %s: the new binary cannot take its place (it %s%s); "
                 "restart to change it as well",
                 weir_version(), keeper_how(status), late ? ", for it took too long" : "");
        return;
    }
    err = keeper_leave(keeper, &left);
    if (!err) {
        (void)syscall(SYS_execveat, keeper->exe, "", argv, environ, AT_EMPTY_PATH);
        err = -errno;
    }
    weir_manifest_fini(&left);
    unsetenv(KEEPER_STATE_ENV);
    weir_log(keeper->log, WEIR_LOG_ERROR, "the keeper stays weir %s: %s", weir_version(),
             strerror(-err));
}

/* ---- what is found ------------------------------------------------------------------------ */

static int state_load(struct weir_manifest *all)
{
    const char *text = getenv(KEEPER_STATE_ENV);
    char *end;
    long fd;
    int err;

    if (!text)
        return 0;
    fd = strtol(text, &end, 10);
    unsetenv(KEEPER_STATE_ENV);
    if (*end || fd < 0 || fd > INT32_MAX)
        return -EBADMSG;
    err = weir_manifest_load((int)fd, all);
    close((int)fd);
    if (!err && (!weir_manifest_get(all, WEIR_SET_INSTANCE) ||
                 !weir_manifest_next(all, NULL, WEIR_GIVEN_EXE, NULL)))
        err = -EBADMSG;
    return err ? err : 1;
}

int weir_keeper_probe(void)
{
    struct weir_manifest all = { 0 };
    int found = state_load(&all);

    weir_manifest_fini(&all);
    return found == 1 ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}

static void resume_child(struct keeper *keeper, struct weir_entry *entry, int i,
                         struct weir_manifest *all)
{
    struct keeper_child *child = &keeper->children[i];

    *child = (struct keeper_child){
        .role = CHILD_PROXY,
        .state = strcmp(entry->value, "serving") == 0 ? PROXY_SERVING : PROXY_RETIRED,
        .pid = (pid_t)strtol(entry->name, NULL, 10),
        .channel = weir_entry_take(entry),
        .err = -1,
        .ready_ms = keeper_now_ms(),
    };
    if (child->state == PROXY_SERVING)
        keeper->current = child;
    keeper_held_resume(keeper, child, entry->name, all);
}

/* Each to where it belongs; what is of the instance stays in `all`. */
static int resume_all(struct keeper *keeper, struct weir_manifest *all)
{
    struct weir_entry *entry = NULL;
    int children = 0;

    while ((entry = weir_manifest_next(all, entry, WEIR_GIVEN_PROXY, NULL)))
        if (children < KEEPER_CHILDREN_MAX)
            resume_child(keeper, entry, children++, all);
    entry = weir_manifest_next(all, NULL, WEIR_GIVEN_EXE, NULL);
    snprintf(keeper->exe_path, sizeof(keeper->exe_path), "%s", entry->name);
    if (keeper->opts->exe)
        snprintf(keeper->exe_path, sizeof(keeper->exe_path), "%s", keeper->opts->exe);
    close(keeper->exe);
    keeper->exe = weir_entry_take(entry);
    keeper->starts = weir_manifest_number(all, WEIR_SET_STARTS, 1);
    keeper_held_resume(keeper, NULL, "0", all);
    for (size_t i = 0; i < all->count; i++) {
        struct weir_entry *one = &all->at[i];
        int err;

        if (one->kind == WEIR_GIVEN_PROXY || one->kind == WEIR_GIVEN_EXE ||
            one->kind == WEIR_GIVEN_TUNNEL ||
            (one->kind == WEIR_GIVEN_SETTING && strcmp(one->name, WEIR_SET_STARTS) == 0))
            continue;
        err = weir_manifest_add(&keeper->estate, one->kind, one->name,
                                (struct weir_str){ one->value, one->value_len },
                                weir_entry_take(one));
        if (err)
            return err;
    }
    return 0;
}

int keeper_resume(struct keeper *keeper)
{
    struct weir_manifest all = { 0 };
    int found = state_load(&all), err;

    if (found <= 0)
        return found;
    err = resume_all(keeper, &all);
    weir_manifest_fini(&all);
    if (err)
        return err;
    keeper_log_adopt(keeper);
    weir_log(keeper->log, WEIR_LOG_INFO, "the keeper is weir %s now, with the pid it had, %d",
             weir_version(), (int)getpid());
    if (!keeper->current) /* it died meanwhile */
        keeper->restart_ms = keeper_now_ms();
    return 1;
}
