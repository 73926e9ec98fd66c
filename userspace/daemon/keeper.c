/* SPDX-License-Identifier: Apache-2.0 */
/**
 * keeper.c: its one loop: signals, what children say, and the times when something is due.
 *
 *   start ─reader─▶ ─proxy─▶ serving ─SIGTERM─▶ stopping ─last child─▶ over
 *                      ▲        │ it dies
 *                      └─delay──┘
 */
#include "daemon/keeper_internal.h"

#include "base/clock.h"
#include "base/logfile.h"
#include "daemon/fdstore.h"
#include "daemon/kernel.h"
#include "daemon/notify.h"
#include "daemon/paths.h"
#include "weir/weir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t keeper_now_ms(void)
{
    return weir_clock_us() / 1000;
}

/* ---- the log ------------------------------------------------------------------------------ */

void keeper_log_adopt(struct keeper *keeper)
{
    struct weir_log_target target;
    struct weir_log_conf conf;
    struct weir_log_opts opts = { .size = sizeof(opts),
                                  .fn = weir_log_target_write,
                                  .arg = &keeper->target };
    struct weir_entry *file;
    struct weir_log *log;
    int fd = -1;

    weir_estate_log(&keeper->estate, &conf);
    file = conf.to == WEIR_LOG_TO_FILE
               ? weir_manifest_next(&keeper->estate, NULL, WEIR_GIVEN_LOG, conf.file.ptr)
               : NULL;
    if (file)
        fd = fcntl(file->fd, F_DUPFD_CLOEXEC, KEEPER_FD_MIN);
    opts.level = (enum weir_log_level)conf.level;
    opts.json = conf.format == WEIR_LOG_AS_JSON;
    log = weir_log_new(&opts);
    if (!log || weir_log_target_adopt(&target, &conf, fd) != 0) {
        weir_log_free(log);
        return;
    }
    weir_log_free(keeper->log);
    weir_log_target_close(&keeper->target);
    keeper->target = target;
    keeper->log = log;
}

/* Opens the files of logs anew and gives them to all who write to them. */
static void logs_reopen(struct keeper *keeper)
{
    struct weir_manifest fresh = { 0 };
    struct weir_entry *entry = NULL;
    int err = 0;

    while ((entry = weir_manifest_next(&keeper->estate, entry, WEIR_GIVEN_LOG, NULL))) {
        int fd;

        if (strcmp(entry->name, "stdout") == 0 || strcmp(entry->name, "stderr") == 0)
            continue;
        fd = weir_logfile_open(entry->name);
        if (fd < 0) {
            weir_log(keeper->log, WEIR_LOG_ERROR,
                     "'%s' cannot be opened anew: %s%s; the old file is kept", entry->name,
                     strerror(-fd), weir_logfile_hint(entry->name, fd));
            continue;
        }
        (void)!dup3(fd, entry->fd, O_CLOEXEC);
        if (keeper->target.path && strcmp(keeper->target.path, entry->name) == 0)
            (void)!weir_log_target_replace(&keeper->target, fd);
        err = weir_manifest_add(&fresh, WEIR_GIVEN_LOG, entry->name, WEIR_STR(""), fd) ?: err;
    }
    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++) {
        struct keeper_child *child = &keeper->children[i];

        if (child->role == CHILD_PROXY && child->channel >= 0)
            err = weir_manifest_send(child->channel, WEIR_SAYS_LOGS, &fresh) ?: err;
    }
    if (err)
        weir_log(keeper->log, WEIR_LOG_ERROR, "logs were opened anew, but not by all: %s",
                 strerror(-err));
    weir_manifest_fini(&fresh);
}

/* ---- the end ------------------------------------------------------------------------------ */

static bool any_child(const struct keeper *keeper)
{
    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++)
        if (keeper->children[i].role)
            return true;
    return false;
}

/* As long as they are open here, the kernel accepts for nobody. */
static void sockets_drop(struct keeper *keeper)
{
    struct weir_entry *entry = NULL;

    while ((entry = weir_manifest_next(&keeper->estate, entry, WEIR_GIVEN_SOCKET, NULL)))
        if (entry->fd >= 0)
            close(weir_entry_take(entry));
}

/* Each signal goes to the proxy that serves; a second one also to those that end their last connections. One that has not
 * ended soon after the second, or at the third, is ended. */
void keeper_stop(struct keeper *keeper, int number)
{
    keeper->stops++;
    keeper->restart_ms = 0;
    if (keeper->stops == 1) {
        weir_notify("STOPPING=1");
        sockets_drop(keeper);
    }
    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++) {
        struct keeper_child *child = &keeper->children[i];

        if (child->role == CHILD_PROXY && child->state != PROXY_STARTING) {
            if (child->state == PROXY_SERVING || keeper->stops > 1)
                keeper_tell(keeper, child, WEIR_SAYS_SIGNAL, WEIR_SET_SIGNAL, number);
            if (keeper->stops == 2)
                child->deadline_ms = keeper_now_ms() + KEEPER_END_MS;
            else if (keeper->stops > 2)
                keeper_child_kill(child);
        } else if (child->role && (child->role != CHILD_READER || keeper->stops > 1)) {
            child->given_up = true;
            keeper_child_kill(child); /* a reader cleans up what it has made, so it may go on */
        }
    }
}

void keeper_end(struct keeper *keeper, int status)
{
    keeper->status = status;
    keeper->over = true;
}

/* ---- children that end -------------------------------------------------------------------- */

static uint64_t delay_of(unsigned crashes)
{
    unsigned doubled = crashes > 1 ? crashes - 2 : 0;

    if (crashes <= 1)
        return 0;
    return doubled > 7 ? KEEPER_BACKOFF_MAX_MS : (uint64_t)KEEPER_BACKOFF_MS << doubled;
}

static void current_died(struct keeper *keeper, const struct keeper_child *child, int status)
{
    uint64_t now = keeper_now_ms(), delay;
    const char *why;

    keeper->current = NULL;
    if (keeper->stops) {
        keeper_held_drop(keeper, NULL);
        if (WIFSIGNALED(status) && !child->given_up)
            weir_log(keeper->log, WEIR_LOG_ERROR, "the proxy, pid %d, %s%s", (int)child->pid,
                     keeper_how(status), child->late ? ": it did not end when it was told to" : "");
        if (status && !keeper->status && !child->given_up)
            keeper->status = WIFEXITED(status) ? WEXITSTATUS(status) : WEIR_EXIT_FAILED;
        return;
    }
    if (child->ready_ms && now - child->ready_ms >= KEEPER_STEADY_MS)
        keeper->crashes = 0;
    why = !child->late      ? ""
          : child->ready_ms ? " for it heard us no more"
                            : " for it was not ready in time";
    delay = delay_of(++keeper->crashes);
    if (keeper->crashes > KEEPER_HELD_CRASHES)
        keeper_held_drop(keeper, NULL);
    if (delay > KEEPER_BACKOFF_MAX_MS)
        delay = KEEPER_BACKOFF_MAX_MS;
    keeper->restart_ms = now + delay ?: 1;
    weir_log(keeper->log, WEIR_LOG_ERROR,
             "the proxy, pid %d, %s%s: starting another one in %llu ms; listeners stay open",
             (int)child->pid, keeper_how(status), why, (unsigned long long)delay);
}

/* Is there a process that ends what an earlier configuration or binary began? */
static bool any_of_before(const struct keeper *keeper)
{
    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++)
        if (keeper->children[i].role == CHILD_PROXY && keeper->children[i].state == PROXY_RETIRED)
            return true;
    return false;
}

static void child_ended(struct keeper *keeper, struct keeper_child *child, int status)
{
    struct keeper_child ended;

    for (int i = 0; i < KEEPER_LAST_MAX && child->channel >= 0; i++) /* its last words */
        keeper_hear(keeper, child);
    keeper_overhear(keeper, child);
    if (child == keeper->current && !keeper->stops)
        keeper_held_orphan(keeper, child);
    else
        keeper_held_drop(keeper, child);
    ended = *child;
    keeper_child_fini(child);
    keeper_task_deserted(keeper, child);
    if (keeper->asker == child)
        keeper->asker = NULL;
    if (child == keeper->candidate)
        keeper_task_ended(keeper, status, ended.late);
    else if (ended.role == CHILD_PROBE)
        keeper_probe_ended(keeper, child, status, ended.late);
    else if (child == keeper->current)
        current_died(keeper, &ended, status);
    else if (!ended.given_up)
        weir_log(keeper->log, status ? WEIR_LOG_WARN : WEIR_LOG_INFO,
                 "the proxy that served before, pid %d, %s", (int)ended.pid, keeper_how(status));
    if (ended.state == PROXY_RETIRED && !any_of_before(keeper))
        weir_kernel_forget_others(
            &keeper->estate, weir_manifest_get(&keeper->estate, WEIR_SET_INSTANCE), keeper->log);
}

/* Also those that are not in the table: of who executed weir, orphans where it is the first process of a container, and who
 * was given up and had not ended yet when the keeper became another binary. */
static void children_reap(struct keeper *keeper)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < KEEPER_CHILDREN_MAX; i++) {
            struct keeper_child *child = &keeper->children[i];

            if (!child->role || child->pid != pid)
                continue;
            child_ended(keeper, child, status);
            break;
        }
}

/* ---- the loop ----------------------------------------------------------------------------- */

static void on_signal(struct keeper *keeper, int number)
{
    switch (number) {
    case SIGCHLD:
        children_reap(keeper);
        break;
    case SIGTERM:
    case SIGINT:
        children_reap(keeper); /* who died before that has crashed, and is no failure of the stop */
        keeper_stop(keeper, number);
        break;
    case SIGUSR1:
        weir_log(keeper->log, WEIR_LOG_INFO, "SIGUSR1: reopening logs");
        logs_reopen(keeper);
        break;
    case SIGUSR2:
        weir_log(keeper->log, WEIR_LOG_INFO, "SIGUSR2: upgrading");
        keeper_task_begin(keeper, TASK_UPGRADE, NULL);
        break;
    default:
        if (keeper->current && keeper->current->state == PROXY_SERVING)
            keeper_tell(keeper, keeper->current, WEIR_SAYS_SIGNAL, WEIR_SET_SIGNAL, number);
    }
}

static void signals_take(struct keeper *keeper)
{
    struct signalfd_siginfo info;

    while (read(keeper->signals, &info, sizeof(info)) == sizeof(info))
        on_signal(keeper, (int)info.ssi_signo);
}

/* Milliseconds until something is due, at most what poll takes; -1: nothing is. */
static int until_due(const struct keeper *keeper)
{
    uint64_t now = keeper_now_ms(), first = keeper->restart_ms;

    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++) {
        uint64_t one = keeper->children[i].role ? keeper->children[i].deadline_ms : 0;

        if (one && (!first || one < first))
            first = one;
    }
    return !first ? -1 : first <= now ? 0 : first - now > 60000 ? 60000 : (int)(first - now);
}

static void do_what_is_due(struct keeper *keeper)
{
    uint64_t now = keeper_now_ms();

    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++) {
        struct keeper_child *child = &keeper->children[i];

        if (!child->role || !child->deadline_ms || child->deadline_ms > now)
            continue;
        child->deadline_ms = 0;
        child->late = true;
        keeper_child_kill(child);
    }
    if (keeper->probe_due && keeper->task == TASK_NONE && !keeper->stops)
        keeper_probe_begin(keeper);
    if (!keeper->restart_ms || keeper->restart_ms > now)
        return;
    keeper->restart_ms = 0;
    keeper->current = keeper_spawn_proxy(keeper, keeper->exe, &keeper->estate);
    if (!keeper->current) /* no memory, no process: later, perhaps */
        keeper->restart_ms = now + KEEPER_BACKOFF_MAX_MS;
}

enum { KEEPER_POLL_MAX = 1 + 2 * KEEPER_CHILDREN_MAX };

/* Only what is open: poll takes no more entries than the process may have descriptors. */
static nfds_t listen_to(struct keeper *keeper, struct pollfd *fds, struct keeper_child **whose)
{
    nfds_t n = 0;

    fds[n++] = (struct pollfd){ keeper->signals, POLLIN, 0 };
    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++) {
        struct keeper_child *child = &keeper->children[i];
        const int open[] = { child->channel, child->err };

        for (int j = 0; j < 2; j++) {
            if (!child->role || open[j] < 0)
                continue;
            whose[n] = child;
            fds[n++] = (struct pollfd){ open[j], POLLIN, 0 };
        }
    }
    return n;
}

static void turn(struct keeper *keeper)
{
    struct pollfd fds[KEEPER_POLL_MAX];
    struct keeper_child *whose[KEEPER_POLL_MAX];
    nfds_t n = listen_to(keeper, fds, whose);

    if (poll(fds, n, until_due(keeper)) < 0)
        return;
    for (nfds_t i = 1; i < n; i++) {
        if (fds[i].revents && whose[i]->channel == fds[i].fd)
            keeper_hear(keeper, whose[i]);
        else if (fds[i].revents && whose[i]->err == fds[i].fd)
            keeper_overhear(keeper, whose[i]);
    }
    if (fds[0].revents)
        signals_take(keeper);
    do_what_is_due(keeper);
}

/* ---- from beginning to end ---------------------------------------------------------------- */

static int signals_open(struct keeper *keeper)
{
    static const int caught[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD };
    sigset_t set;

    signal(SIGCHLD, SIG_DFL); /* who started us may ignore it: then no child's end is told */
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
        sigaddset(&set, caught[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -errno;
    keeper->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return keeper->signals < 0 ? -errno : 0;
}

static int exe_find(struct keeper *keeper)
{
    const char *exe = keeper->opts->exe;
    ssize_t n = readlink("/proc/self/exe", keeper->exe_path, sizeof(keeper->exe_path) - 1);
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    if (n < 0 || fd < 0)
        return -errno;
    keeper->exe_path[n] = '\0';
    if (exe)
        snprintf(keeper->exe_path, sizeof(keeper->exe_path), "%s", exe);
    keeper->exe = fcntl(fd, F_DUPFD_CLOEXEC, KEEPER_FD_MIN);
    close(fd);
    return keeper->exe < 0 ? -errno : 0;
}

static void keeper_fini(struct keeper *keeper)
{
    static const struct weir_manifest nothing = { 0 };

    keeper_forget(&keeper->estate, &nothing);
    weir_manifest_fini(&keeper->estate);
    weir_manifest_fini(&keeper->next);
    weir_log_free(keeper->log);
    weir_log_target_close(&keeper->target);
    keeper_held_drop(keeper, NULL);
    close(keeper->signals);
    close(keeper->exe);
}

int weir_keeper_run(const struct weir_keeper_opts *opts)
{
    struct keeper keeper = { .opts = opts, .signals = -1, .exe = -1, .next_exe = -1 };
    int err;

    keeper.target.fd = -1;
    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++)
        keeper.children[i].channel = keeper.children[i].err = -1;
    signal(SIGPIPE, SIG_IGN);
    keeper_held_open(&keeper);
    err = signals_open(&keeper);
    if (!err)
        err = keeper_closes_soon();
    if (!err)
        err = exe_find(&keeper);
    if (!err)
        err = keeper_resume(&keeper);
    if (err < 0) {
        weir_log(NULL, WEIR_LOG_ERROR, "the keeper cannot start: %s", strerror(-err));
        return WEIR_EXIT_FAILED;
    }
    if (err == 0 && weir_fdstore_take(&keeper.estate))
        weir_log(NULL, WEIR_LOG_INFO, "systemd has kept the listening sockets: they serve on");
    if (err == 0)
        keeper_task_begin(&keeper, TASK_START, NULL);
    children_reap(&keeper);
    while (!keeper.over && (!keeper.stops || any_child(&keeper)))
        turn(&keeper);
    keeper_fini(&keeper);
    return keeper.status;
}
