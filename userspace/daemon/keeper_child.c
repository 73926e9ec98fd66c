/* SPDX-License-Identifier: Apache-2.0 */
/** keeper_child.c: starting children and talking to them. What they say is not believed. */
#include "daemon/keeper_internal.h"

#include "daemon/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- in the child, before it is weir again ------------------------------------------------ */

enum { ARGS_MAX = 16 };

static void child_signals(enum keeper_role role)
{
    static const int ours[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };
    sigset_t none;

    /* A terminal, or who ends a whole group, tells the keeper, and that one tells the proxy. */
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]) && role == CHILD_PROXY; i++)
        signal(ours[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int child_rights(struct keeper *keeper, const struct weir_manifest *estate)
{
    const char *what = "";
    struct weir_user user;
    int err;

    (void)weir_nofile_try((uint64_t)weir_manifest_number(estate, WEIR_SET_NOFILE, 0));
    weir_estate_user(estate, &user);
    err = weir_user_become(&user, &what);
    if (err)
        weir_log(keeper->log, WEIR_LOG_ERROR,
                 "becoming user '%s': %s: %s; start weir as that user, or set `user: root`",
                 user.name, what, strerror(-err));
    return err;
}

static const char *called(enum keeper_role role)
{
    return role == CHILD_READER  ? WEIR_CALLED_READER
           : role == CHILD_PROXY ? WEIR_CALLED_PROXY
                                 : WEIR_CALLED_PROBE;
}

static void child_exec(const struct keeper *keeper, enum keeper_role role, int exe)
{
    const char *args[ARGS_MAX] = { called(role) };
    size_t n = 1;

    for (const char *const *arg = keeper->opts->reader_args;
         role == CHILD_READER && *arg && n + 1 < ARGS_MAX; arg++)
        args[n++] = *arg;
    if (role != CHILD_PROBE) /* to whom descriptors are left on purpose */
        (void)syscall(SYS_close_range, WEIR_CHANNEL_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    unsetenv("NOTIFY_SOCKET");
    (void)syscall(SYS_execveat, exe, "", args, environ, AT_EMPTY_PATH);
    fprintf(stderr, "weir: the binary cannot be executed: %s\n", strerror(errno));
}

__attribute__((noreturn)) static void child_main(struct keeper *keeper, enum keeper_role role,
                                                 int exe, int channel, int err,
                                                 const struct weir_manifest *estate)
{
    struct weir_manifest left = { 0 };

    child_signals(role);
    if (role == CHILD_PROXY && child_rights(keeper, estate) != 0)
        _exit(WEIR_EXIT_HOST);
    if (role == CHILD_PROBE && keeper_leave(keeper, &left) != 0)
        _exit(WEIR_EXIT_FAILED);
    if (err >= 0 && dup2(err, STDERR_FILENO) < 0)
        _exit(WEIR_EXIT_FAILED);
    if (role != CHILD_PROBE && (channel == WEIR_CHANNEL_FD ? fcntl(channel, F_SETFD, 0)
                                                           : dup2(channel, WEIR_CHANNEL_FD)) < 0)
        _exit(WEIR_EXIT_FAILED);
    child_exec(keeper, role, exe);
    _exit(WEIR_EXIT_FAILED);
}

/* ---- what children give ------------------------------------------------------------------- */

static void on_tick(int number)
{
    (void)number;
}

int keeper_closes_soon(void)
{
    struct sigaction action = { .sa_handler = on_tick };

    return sigaction(SIGALRM, &action, NULL) == 0 ? 0 : -errno;
}

/* While it ticks, what waits in the kernel is interrupted. Only around what is taken from a child: a send that is
 * interrupted waits anew. */
void keeper_tick(bool on)
{
    struct timeval soon = { .tv_usec = on ? KEEPER_CLOSE_MS * 1000 : 0 };
    struct itimerval timer = { .it_interval = soon, .it_value = soon };

    (void)setitimer(ITIMER_REAL, &timer, NULL);
}

static int take(struct keeper_child *child, unsigned *word, struct weir_manifest *body)
{
    int n;

    keeper_tick(true);
    n = weir_manifest_recv(child->channel, MSG_DONTWAIT, &child->inbox, word, body);
    keeper_tick(false);
    return n;
}

static void let_go(struct weir_manifest *body)
{
    keeper_tick(true);
    weir_manifest_fini(body);
    keeper_tick(false);
}

static void channel_close(struct keeper_child *child)
{
    if (child->channel < 0)
        return;
    keeper_tick(true); /* what was not taken from it is closed as well */
    close(child->channel);
    keeper_tick(false);
    child->channel = -1;
}

/* ---- starting ----------------------------------------------------------------------------- */

/* Its two ends: a send that finds no room for long fails. */
static int channel_make(int ends[2])
{
    struct timeval limit = { .tv_sec = KEEPER_SEND_MS / 1000 };

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    (void)setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return 0;
}

static struct keeper_child *child_place(struct keeper *keeper)
{
    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++)
        if (!keeper->children[i].role)
            return &keeper->children[i];
    errno = EUSERS;
    return NULL;
}

const char *keeper_spawn_fault(int err)
{
    return err == EUSERS ? "too many processes of earlier upgrades have tunnels still: end those, "
                           "or lower shutdown.tunnels"
                         : strerror(err);
}

struct keeper_child *keeper_spawn(struct keeper *keeper, enum keeper_role role, int exe,
                                  const struct weir_manifest *estate)
{
    /* At the first start what a reader says is for the terminal; later for who has asked. */
    bool overhear = role != CHILD_PROXY && keeper->task != TASK_START;
    struct keeper_child *child = child_place(keeper);
    int ends[2] = { -1, -1 }, pipes[2] = { -1, -1 };
    pid_t pid = -1;
    int err;

    if (child && channel_make(ends) == 0 &&
        (!overhear || pipe2(pipes, O_CLOEXEC | O_NONBLOCK) == 0))
        pid = fork();
    err = errno;
    if (pid == 0)
        child_main(keeper, role, exe, ends[1], pipes[1], estate);
    if (pid < 0)
        weir_log(keeper->log, WEIR_LOG_ERROR, "a process cannot be started: %s",
                 keeper_spawn_fault(err));
    if (ends[1] >= 0)
        close(ends[1]);
    if (pipes[1] >= 0)
        close(pipes[1]);
    if (pid < 0) {
        if (ends[0] >= 0)
            close(ends[0]);
        if (pipes[0] >= 0)
            close(pipes[0]);
        errno = err;
        return NULL;
    }
    *child = (struct keeper_child){ .role = role, .pid = pid, .channel = ends[0], .err = pipes[0] };
    child->deadline_ms = keeper_now_ms() + keeper->opts->ready_ms;
    return child;
}

/* The proxy before had the same sockets: what it did to them is undone. */
static void sockets_mend(const struct weir_manifest *estate)
{
    for (size_t i = 0; i < estate->count; i++) {
        const struct weir_entry *entry = &estate->at[i];
        int listens = 1;
        socklen_t len = sizeof(listens);

        if (entry->kind != WEIR_GIVEN_SOCKET && entry->kind != WEIR_GIVEN_ADMIN &&
            entry->kind != WEIR_GIVEN_ADMIN_TCP)
            continue;
        (void)fcntl(entry->fd, F_SETFL, O_NONBLOCK);
        if (getsockopt(entry->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && !listens)
            (void)listen(entry->fd, SOMAXCONN);
    }
}

struct keeper_child *keeper_spawn_proxy(struct keeper *keeper, int exe,
                                        struct weir_manifest *estate)
{
    struct keeper_child *child = keeper_spawn(keeper, CHILD_PROXY, exe, estate);
    struct weir_manifest hello = { 0 };
    int err;

    if (!child)
        return NULL;
    sockets_mend(estate);
    /* Whole messages have one word: what is new this time is told with the rest. */
    hello = *estate;
    hello.at = malloc((estate->count + 3) * sizeof(*hello.at));
    hello.room = estate->count + 3;
    err = hello.at ? 0 : -ENOMEM;
    if (!err) {
        memcpy(hello.at, estate->at, estate->count * sizeof(*hello.at));
        err = weir_manifest_set_number(&hello, WEIR_SET_KEEPER, getpid());
    }
    if (!err)
        err = weir_manifest_set_number(&hello, WEIR_SET_STARTS, ++keeper->starts);
    if (!err) /* a proxy of an upgrade has its own beside the one before */
        err = weir_manifest_set_number(&hello, WEIR_SET_HELD_MAX, keeper->tunnel_max / 2);
    if (!err)
        err = weir_manifest_send(child->channel, WEIR_SAYS_ESTATE, &hello);
    for (size_t i = estate->count; hello.at && i < hello.count; i++) {
        free(hello.at[i].name);
        free(hello.at[i].value);
    }
    free(hello.at);
    if (err) { /* it ends, which is told then */
        weir_log(keeper->log, WEIR_LOG_ERROR,
                 "the proxy, pid %d, cannot be given what it needs: %s", (int)child->pid,
                 strerror(-err));
        keeper_child_kill(child);
    }
    (void)fcntl(child->channel, F_SETFL, O_NONBLOCK); /* from now on it reads hostile bytes */
    return child;
}

void keeper_child_kill(struct keeper_child *child)
{
    if (child->role)
        kill(child->pid, SIGKILL);
}

void keeper_child_fini(struct keeper_child *child)
{
    channel_close(child);
    if (child->err >= 0)
        close(child->err);
    weir_inbox_fini(&child->inbox);
    *child = (struct keeper_child){ .channel = -1, .err = -1 };
}

const char *keeper_how(int status)
{
    static char text[64];

    if (WIFSIGNALED(status))
        snprintf(text, sizeof(text), "was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(text, sizeof(text), "ended with status %d", WEXITSTATUS(status));
    return text;
}

/* ---- talking ------------------------------------------------------------------------------ */

void keeper_tell(struct keeper *keeper, struct keeper_child *child, enum weir_word word,
                 const char *name, int64_t value)
{
    struct weir_manifest body = { 0 };

    keeper_say(keeper, child, word, &body, name ? weir_manifest_set_number(&body, name, value) : 0);
    weir_manifest_fini(&body);
}

void keeper_say(struct keeper *keeper, struct keeper_child *child, enum weir_word word,
                const struct weir_manifest *body, int err)
{
    if (!err && child->channel >= 0)
        err = weir_manifest_send(child->channel, word, body);
    if (!err || err == -EPIPE) /* it ends, which is told then */
        return;
    weir_log(keeper->log, WEIR_LOG_ERROR, "the process %d does not listen: %s", (int)child->pid,
             strerror(-err));
    if (err == -EAGAIN) /* hundreds of messages wait for it */
        keeper_child_kill(child);
}

static void heard_from_proxy(struct keeper *keeper, struct keeper_child *child, unsigned word,
                             struct weir_manifest *body)
{
    if (word == WEIR_SAYS_READY && child->state == PROXY_STARTING) {
        child->state = PROXY_SERVING;
        child->deadline_ms = 0;
        child->ready_ms = keeper_now_ms();
        if (child == keeper->candidate)
            keeper_task_ready(keeper);
        if (child == keeper->current)
            keeper_held_give(keeper, child);
    } else if (word == WEIR_SAYS_DRAIN && child == keeper->current && !keeper->stops) {
        keeper_stop(keeper, SIGTERM); /* the admin may end it, as who may send signals */
    } else if (word == WEIR_SAYS_UPGRADE && child == keeper->current) {
        keeper_task_begin(keeper, TASK_UPGRADE, child);
    } else if (word == WEIR_SAYS_RELOAD && child == keeper->current) {
        keeper_task_begin(keeper, TASK_RELOAD, child);
    } else if (word == WEIR_SAYS_HOLD) {
        keeper_held_take(keeper, child, body);
    } else if (word == WEIR_SAYS_HAND && child->state == PROXY_RETIRED) {
        keeper_held_hand(keeper, child, body);
    } else if (word == WEIR_SAYS_LET_GO) {
        keeper_held_let_go(keeper, child, body);
    } else if (word == WEIR_SAYS_TAKEN && child == keeper->asker && !keeper->candidate) {
        keeper_task_taken(keeper, weir_manifest_number(body, WEIR_SET_OK, 0) == 1);
    }
}

void keeper_hear(struct keeper *keeper, struct keeper_child *child)
{
    pid_t pid = child->pid;
    int n = 0;

    for (int i = 0; i < KEEPER_HEAR_MAX && n >= 0 && child->pid == pid && child->channel >= 0;
         i++) {
        struct weir_manifest body = { 0 };
        unsigned word = 0;

        n = take(child, &word, &body);
        if (n > 0 && child->role == CHILD_PROXY)
            heard_from_proxy(keeper, child, word, &body);
        else if (n > 0 && child == keeper->candidate && word == WEIR_SAYS_ESTATE)
            keeper_task_estate(keeper, &body);
        let_go(&body);
        if (n == 0 && child->role == CHILD_PROXY && child->pid == pid)
            n = -EBADMSG; /* what it may say fits in a frame: it is not to fill our memory */
    }
    if (n >= 0 || n == -EAGAIN || child->pid != pid)
        return;
    if (n != -EPIPE) {
        weir_log(keeper->log, WEIR_LOG_ERROR, "what the process %d says is not understood: %s",
                 (int)pid, strerror(-n));
        keeper_child_kill(child);
    }
    if (child->role == CHILD_PROXY) /* it ends; were it to live on, no signal would reach it */
        child->deadline_ms = keeper_now_ms() + KEEPER_END_MS;
    channel_close(child);
}

void keeper_overhear(struct keeper *keeper, struct keeper_child *child)
{
    char text[1024];
    ssize_t n;

    while (child->err >= 0) {
        size_t room = sizeof(keeper->said) - 1 - keeper->said_len;

        n = read(child->err, text, sizeof(text));
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close(child->err);
            child->err = -1;
            return;
        }
        if ((size_t)n > room)
            n = (ssize_t)room;
        memcpy(keeper->said + keeper->said_len, text, (size_t)n);
        keeper->said_len += (size_t)n;
        keeper->said[keeper->said_len] = '\0';
    }
}
