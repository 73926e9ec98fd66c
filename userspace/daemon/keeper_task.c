/* SPDX-License-Identifier: Apache-2.0 */
/**
 * keeper_task.c: the first start, and an upgrade, which is the same beside what serves:
 *
 *   begin ─▶ reader (new binary: the configuration, what is open already) ─ESTATE, 0─▶ proxy ─READY─▶ in force
 *                │                                                              │
 *                └────────────── wrong, late, killed ───────────────────────────┴──▶ nothing has happened
 *
 * In force: the old proxy is told to end its connections, and then the keeper itself becomes the new binary
 * (keeper_exec.c).
 *
 * A reload is the same with the binary that runs and the proxy that serves, which is given what was read, says whether it can
 * take it, and is told when what it listens on no more is closed here:
 *
 *   begin ─▶ reader ─ESTATE, 0─▶ the proxy that has asked ─TAKEN─▶ in force ─RELOADED─▶ it installs it
 */
#include "daemon/keeper_internal.h"

#include "daemon/fdstore.h"
#include "daemon/kernel.h"
#include "daemon/notify.h"
#include "daemon/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what came of it ---------------------------------------------------------------------- */

static void answer(struct keeper *keeper, enum keeper_task task, bool ok, const char *text)
{
    struct keeper_child *asker = keeper->asker;
    struct weir_manifest body = { 0 };
    int err;

    keeper->asker = NULL;
    if (!asker || asker->channel < 0)
        return;
    err = weir_manifest_set_number(&body, WEIR_SET_OK, ok);
    if (!err)
        err = weir_manifest_set(&body, WEIR_SET_TEXT, text);
    if (!err)
        err = weir_manifest_send(asker->channel,
                                 task == TASK_RELOAD ? WEIR_SAYS_RELOADED : WEIR_SAYS_DONE, &body);
    weir_manifest_fini(&body);
    if (err && err != -EAGAIN && err != -EPIPE) /* it has not read hundreds of them; it has ended */
        weir_log(keeper->log, WEIR_LOG_WARN, "who asked for it cannot be told: %s", strerror(-err));
}

void keeper_forget(const struct weir_manifest *gone, const struct weir_manifest *stays)
{
    const struct weir_entry *entry = NULL;
    const char *instance = weir_manifest_get(gone, WEIR_SET_INSTANCE);

    while ((entry = weir_manifest_next(gone, entry, WEIR_GIVEN_UNLINK, NULL)))
        if (!weir_manifest_next(stays, NULL, WEIR_GIVEN_UNLINK, entry->name))
            unlink(entry->name);
    weir_kernel_forget(gone, stays, instance);
    entry = weir_manifest_next(gone, NULL, WEIR_GIVEN_LOCK, NULL);
    if (!entry || weir_manifest_next(stays, NULL, WEIR_GIVEN_LOCK, NULL))
        return;
    unlink(entry->name);
    if (instance)
        weir_instance_rmdir(weir_str(instance));
}

static void task_over(struct keeper *keeper)
{
    keeper_forget(&keeper->next, &keeper->estate);
    weir_manifest_fini(&keeper->next);
    if (keeper->next_exe >= 0)
        close(keeper->next_exe);
    keeper->next_exe = -1;
    keeper->task = TASK_NONE;
    keeper->candidate = NULL;
    keeper->candidate_reads = false;
    keeper->said_len = 0;
    keeper->said[0] = '\0';
}

/* An error of a configuration shows the line that it is in: each is a line of the log. */
static void log_lines(struct keeper *keeper, const char *before, char *text)
{
    char *rest = text, *line;

    while ((line = strsep(&rest, "\n")))
        if (*line)
            weir_log(keeper->log, WEIR_LOG_ERROR, "%s%s", before, line);
}

void keeper_task_fail(struct keeper *keeper, int status, const char *format, ...)
{
    bool first = keeper->task == TASK_START, reload = keeper->task == TASK_RELOAD;
    char text[KEEPER_SAID_BYTES_MAX + 512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (keeper->candidate) {
        keeper_child_kill(keeper->candidate); /* it is reaped as any other */
        keeper->candidate->deadline_ms = 0;
        keeper->candidate->given_up = true;
    }
    answer(keeper, keeper->task, false, text);
    if (first && !keeper->stops) {
        log_lines(keeper, "", text);
    } else if (!first && !reload) { /* the proxy tells of that */
        log_lines(keeper, "upgrade: ", text);
        weir_log(keeper->log, WEIR_LOG_WARN, "upgrade: nothing was changed: what served serves on");
    }
    task_over(keeper);
    if (first)
        keeper_end(keeper, keeper->stops ? WEIR_EXIT_DONE : status);
}

/* ---- its steps ---------------------------------------------------------------------------- */

static int exe_open(struct keeper *keeper)
{
    int fd = keeper->task != TASK_UPGRADE ? fcntl(keeper->exe, F_DUPFD_CLOEXEC, KEEPER_FD_MIN)
                                          : open(keeper->exe_path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    keeper->next_exe = fcntl(fd, F_DUPFD_CLOEXEC, KEEPER_FD_MIN);
    close(fd);
    return keeper->next_exe < 0 ? -errno : 0;
}

void keeper_task_begin(struct keeper *keeper, enum keeper_task task, struct keeper_child *asker)
{
    int err;

    if (keeper->stops || keeper->task != TASK_NONE) {
        const char *why = keeper->stops ? "this instance is stopping" : "another one is under way";
        struct keeper_child *other = keeper->asker;

        if (!asker) /* who asks by the admin is told, as often as it asks */
            weir_log(keeper->log, WEIR_LOG_WARN, "%s: %s",
                     task == TASK_RELOAD ? "reload" : "upgrade", why);
        keeper->asker = asker;
        answer(keeper, task, false, why);
        keeper->asker = other;
        return;
    }
    keeper->task = task;
    keeper->asker = asker;
    keeper->said_len = 0;
    keeper->said[0] = '\0';
    err = exe_open(keeper);
    if (err) {
        keeper_task_fail(keeper, WEIR_EXIT_FAILED, "%s cannot be opened: %s", keeper->exe_path,
                         strerror(-err));
        return;
    }
    keeper->candidate = keeper_spawn(keeper, CHILD_READER, keeper->next_exe, NULL);
    keeper->candidate_reads = true;
    if (!keeper->candidate) {
        keeper_task_fail(keeper, WEIR_EXIT_FAILED, "no process can be started: %s",
                         keeper_spawn_fault(errno));
        return;
    }
    err = keeper->task == TASK_START
              ? 0
              : weir_manifest_set_number(&keeper->estate, WEIR_SET_FOR_RELOAD,
                                         keeper->task == TASK_RELOAD);
    if (!err)
        err = weir_manifest_send(keeper->candidate->channel, WEIR_SAYS_HAVE, &keeper->estate);
    if (err && err != -EPIPE) /* then it ends, and says why */
        keeper_task_fail(keeper, WEIR_EXIT_FAILED, "%s does not listen: %s", keeper->exe_path,
                         strerror(-err));
}

void keeper_task_estate(struct keeper *keeper, struct weir_manifest *estate)
{
    weir_manifest_fini(&keeper->next);
    keeper->next = *estate;
    *estate = (struct weir_manifest){ 0 };
}

/* The last line of what it said is enough for a log; who asked gets all. */
static void strip(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
}

/* All of it, which may be more than a socket holds: until it takes nothing for KEEPER_SEND_MS. */
static void give_config(struct keeper *keeper)
{
    struct keeper_child *asker = keeper->asker;
    int err = -EPIPE;

    if (asker && asker->channel >= 0) {
        (void)fcntl(asker->channel, F_SETFL, 0);
        err = weir_manifest_send(asker->channel, WEIR_SAYS_CONFIG, &keeper->next);
        (void)fcntl(asker->channel, F_SETFL, O_NONBLOCK);
    }
    if (!err)
        return;
    if (err == -EAGAIN)
        keeper_child_kill(asker);
    keeper_task_fail(keeper, WEIR_EXIT_FAILED, "the proxy does not listen: %s", strerror(-err));
}

static void reader_ended(struct keeper *keeper, int status, bool late)
{
    int code = WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : WEIR_EXIT_FAILED;
    bool whole = weir_manifest_get(&keeper->next, WEIR_SET_INSTANCE) &&
                 weir_manifest_next(&keeper->next, NULL, WEIR_GIVEN_BUNDLE, NULL);

    strip(keeper->said);
    if (status == 0 && whole && !keeper->stops && keeper->task == TASK_RELOAD) {
        give_config(keeper);
        return;
    }
    if (status == 0 && whole && !keeper->stops) {
        keeper->candidate = keeper_spawn_proxy(keeper, keeper->next_exe, &keeper->next);
        if (!keeper->candidate)
            keeper_task_fail(keeper, WEIR_EXIT_FAILED, "no process can be started: %s",
                             keeper_spawn_fault(errno));
        return;
    }
    if (keeper->task == TASK_START && status && WIFEXITED(status)) { /* it has said why */
        task_over(keeper);
        keeper_end(keeper, keeper->stops ? WEIR_EXIT_DONE : code);
        return;
    }
    if (late)
        keeper_task_fail(keeper, code, "reading the configuration took longer than %u ms",
                         keeper->opts->ready_ms);
    else if (keeper->said[0])
        keeper_task_fail(keeper, code, "%s", keeper->said);
    else
        keeper_task_fail(keeper, code, "the process that reads the configuration %s",
                         status ? keeper_how(status) : "gave nothing");
}

void keeper_task_ended(struct keeper *keeper, int status, bool late)
{
    bool reader = keeper->candidate_reads;
    int code = WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : WEIR_EXIT_FAILED;

    keeper->candidate = NULL;
    keeper->candidate_reads = false;
    if (reader)
        reader_ended(keeper, status, late);
    else if (late)
        keeper_task_fail(keeper, code, "the new proxy was not ready within %u ms",
                         keeper->opts->ready_ms);
    else
        keeper_task_fail(keeper, code, "the new proxy %s", keeper_how(status));
}

void keeper_task_deserted(struct keeper *keeper, const struct keeper_child *child)
{
    if (keeper->task != TASK_RELOAD || keeper->asker != child)
        return;
    keeper->asker = NULL;
    keeper_task_fail(keeper, WEIR_EXIT_FAILED, "the proxy has ended");
}

static void in_force(struct keeper *keeper)
{
    keeper_forget(&keeper->estate, &keeper->next);
    weir_manifest_fini(&keeper->estate);
    keeper->estate = keeper->next;
    keeper->next = (struct weir_manifest){ 0 };
    close(keeper->exe);
    keeper->exe = keeper->next_exe;
    keeper->next_exe = -1;
    keeper->current = keeper->candidate;
    keeper->crashes = 0;
    keeper->restart_ms = 0;
    keeper_log_adopt(keeper);
}

static void store(struct keeper *keeper, bool again)
{
    if (!weir_fdstore_put(&keeper->estate, again))
        weir_log(
            keeper->log, WEIR_LOG_WARN,
            "systemd does not take the listening sockets: if it has to start this keeper anew, "
            "they are bound anew");
}

static void retire(struct keeper *keeper, struct keeper_child *old,
                   const struct keeper_child *fresh)
{
    struct weir_manifest body = { 0 };
    int err = weir_manifest_set_number(&body, WEIR_SET_BY, fresh->pid);

    if (!err)
        err = weir_manifest_set_number(&body, WEIR_SET_KERN, weir_kernel_id(&keeper->estate));
    keeper_say(keeper, old, WEIR_SAYS_RETIRE, &body, err);
    weir_manifest_fini(&body);
}

void keeper_task_ready(struct keeper *keeper)
{
    struct keeper_child *old = keeper->current, *fresh = keeper->candidate;
    bool first = keeper->task == TASK_START;
    bool resumed = keeper->estate.count > 0; /* of what systemd had kept */
    char text[256];

    in_force(keeper);
    if (first) {
        task_over(keeper);
        weir_notify("READY=1");
        store(keeper, resumed);
        return;
    }
    snprintf(text, sizeof(text), "weir %s serves now, pid %d",
             weir_manifest_get(&keeper->estate, WEIR_SET_VERSION), (int)fresh->pid);
    weir_log(keeper->log, WEIR_LOG_INFO, "upgrade: %s", text);
    store(keeper, true);
    if (old) {
        old->state = PROXY_RETIRED;
        old->deadline_ms = 0;
        retire(keeper, old, fresh);
    }
    answer(keeper, TASK_UPGRADE, true,
           text); /* then who is told of it meets the new one's admin, and no other */
    task_over(keeper);
    keeper_probe_begin(keeper);
}

void keeper_task_taken(struct keeper *keeper, bool ok)
{
    if (keeper->task != TASK_RELOAD)
        return;
    if (!ok) { /* who has asked knows why */
        keeper->asker = NULL;
        task_over(keeper);
        return;
    }
    keeper_forget(&keeper->estate, &keeper->next);
    weir_manifest_fini(&keeper->estate); /* what nobody listens on any more closes with it */
    keeper->estate = keeper->next;
    keeper->next = (struct weir_manifest){ 0 };
    keeper_log_adopt(keeper);
    answer(keeper, TASK_RELOAD, true, "");
    store(keeper, true);
    task_over(keeper);
}
