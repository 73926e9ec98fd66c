/* SPDX-License-Identifier: Apache-2.0 */
/**
 * access_log.c: where lines go. Workers share the descriptor and take no lock: one line is one
 * write(2). To reopen, the new file is put in place of the descriptor (dup3), so that each line
 * goes to the old file or to the new one.
 */
#include "proxy/access_log.h"

#include "base/clock.h"
#include "base/logfile.h"
#include "base/str.h"
#include "proxy/access_log_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum target { TARGET_FILE, TARGET_STREAM /* pipe, tty */, TARGET_SOCKET };

struct weir_access_log {
    const struct weir_access_log_conf *conf;
    struct weir_log *log;
    struct weir_log_style style;
    enum target target;
    int fd;
    char *path; /* of a file that can be reopened; else NULL */
    uint64_t salt;
    _Atomic uint64_t lost, untold; /* lines */
    _Atomic uint64_t told_us;
    _Atomic bool
        torn; /* the last line was written in part: the next one begins on a line of its own */
};

/* A standard descriptor is shared with other processes, and so are its flags: a pipe or terminal is
 * opened anew to be non-blocking for us alone. Where that is impossible the flag is set on what we
 * have. */
static int open_standard(int number)
{
    char path[32];
    struct stat st;
    int fd = -1;

    if (fstat(number, &st))
        return -1;
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
        fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    }
    if (fd < 0) {
        fd = fcntl(number, F_DUPFD_CLOEXEC, 3);
        if (fd >= 0 && S_ISFIFO(st.st_mode))
            (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    }
    return fd;
}

static int standard_of(struct weir_str to)
{
    return weir_str_eq(to, WEIR_STR("stdout")) || !to.len ? STDOUT_FILENO
           : weir_str_eq(to, WEIR_STR("stderr"))          ? STDERR_FILENO
                                                          : -1;
}

int weir_access_log_target(struct weir_str to)
{
    int standard = standard_of(to), fd;
    char *path;

    if (standard >= 0) {
        fd = open_standard(standard);
        return fd < 0 ? -errno : fd;
    }
    path = weir_str_dup(to);
    fd = path ? weir_logfile_open(path) : -ENOMEM;
    free(path);
    return fd;
}

static int open_target(struct weir_access_log *log, weir_access_log_door door, void *arg)
{
    struct stat st;

    if (standard_of(log->conf->to) < 0) {
        log->path = weir_str_dup(log->conf->to);
        if (!log->path)
            return -ENOMEM;
    }
    log->fd = door ? door(arg, log->conf->to) : weir_access_log_target(log->conf->to);
    if (log->fd < 0)
        return log->fd;
    if (fstat(log->fd, &st))
        return -errno;
    log->target = S_ISSOCK(st.st_mode)  ? TARGET_SOCKET
                  : S_ISREG(st.st_mode) ? TARGET_FILE
                                        : TARGET_STREAM;
    return 0;
}

struct weir_access_log *weir_access_log_open(const struct weir_access_log_conf *conf,
                                             weir_access_log_door door, void *arg,
                                             struct weir_tls_fault *fault)
{
    struct weir_access_log *log = calloc(1, sizeof(*log));
    int err;

    if (!log) {
        snprintf(fault->text, sizeof(fault->text), "access_log: out of memory");
        return NULL;
    }
    log->conf = conf;
    log->fd = -1;
    if (getentropy(&log->salt, sizeof(log->salt)))
        log->salt = weir_clock_wall_us();
    if (conf->off)
        return log;
    err = open_target(log, door, arg);
    if (err) {
        snprintf(fault->text, sizeof(fault->text), "access_log: %.*s: %s", WEIR_FMT(conf->to),
                 strerror(-err));
        weir_access_log_close(log);
        return NULL;
    }
    if (weir_log_style_init(&log->style, conf, log->target == TARGET_STREAM, fault)) {
        weir_access_log_close(log);
        return NULL;
    }
    return log;
}

int weir_access_log_check(const struct weir_access_log_conf *conf, struct weir_tls_fault *fault)
{
    struct weir_log_style style;
    int err = weir_log_style_init(&style, conf, false, fault);

    if (!err)
        weir_log_style_fini(&style);
    return err;
}

void weir_access_log_set_log(struct weir_access_log *log, struct weir_log *to)
{
    log->log = to;
}

void weir_access_log_close(struct weir_access_log *log)
{
    if (!log)
        return;
    if (log->fd >= 0)
        close(log->fd);
    weir_log_style_fini(&log->style);
    free(log->path);
    free(log);
}

uint64_t weir_access_log_lost(const struct weir_access_log *log)
{
    return atomic_load_explicit(&log->lost, memory_order_relaxed);
}

/* Mixes all bits (a bijection by multiplications and shifts): a client can know its id, but not the
 * salt. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93ull;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93ull;
    return x ^ x >> 32;
}

static bool sampled(const struct weir_access_log *log, const struct weir_access_record *record)
{
    uint64_t roll;

    if (log->conf->sample >= 1)
        return true;
    roll = mix(mix(log->salt ^ record->wall_us) ^ (uintptr_t)record->id.ptr ^
               record->duration_us << 20);
    return (double)(roll >> 11) * 0x1p-53 < log->conf->sample;
}

/* Once a second, by whoever comes first. */
static void tell(struct weir_access_log *log, int sys)
{
    uint64_t now_us = weir_clock_us(), told_us = atomic_load(&log->told_us), lines;

    if ((told_us && now_us - told_us < 1000000) ||
        !atomic_compare_exchange_strong(&log->told_us, &told_us, now_us))
        return;
    lines = atomic_exchange(&log->untold, 0);
    if (lines)
        weir_log(log->log, WEIR_LOG_WARN, "access_log: %.*s: %llu %s lost: %s",
                 WEIR_FMT(log->conf->to), (unsigned long long)lines,
                 lines == 1 ? "line was" : "lines were",
                 sys == EAGAIN ? "its reader is too slow"
                 : sys         ? strerror(sys)
                               : "written in part");
}

static void lose(struct weir_access_log *log, int sys)
{
    atomic_fetch_add_explicit(&log->lost, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&log->untold, 1, memory_order_relaxed);
    tell(log, sys);
}

static ssize_t put(const struct weir_access_log *log, const char *text, size_t len)
{
    ssize_t n;

    do
        n = log->target == TARGET_SOCKET ? send(log->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                                         : write(log->fd, text, len);
    while (n < 0 && errno == EINTR);
    return n;
}

void weir_access_log_write(struct weir_access_log *log, const struct weir_access_record *record)
{
    char text[WEIR_LOG_LINE_BYTES + 1], *line = text + 1;
    size_t len;
    ssize_t n;

    if (log->fd < 0 || !sampled(log, record))
        return;
    len = weir_log_line(&log->style, record, line);
    if (atomic_load_explicit(&log->torn, memory_order_relaxed) &&
        atomic_exchange(&log->torn, false)) {
        *--line = '\n';
        len++;
    }
    n = put(log, line, len);
    if (n == (ssize_t)len) {
        if (atomic_load_explicit(&log->untold, memory_order_relaxed))
            tell(log, EAGAIN);
        return;
    }
    if (n > 0 || line == text) /* what was torn before still is */
        atomic_store(&log->torn, true);
    lose(log, n < 0 ? errno : 0);
}

const char *weir_access_log_path(const struct weir_access_log *log)
{
    return log->path;
}

void weir_access_log_give(struct weir_access_log *log, unsigned uid, unsigned gid)
{
    if (log->path)
        weir_logfile_give(log->fd, log->path, uid, gid);
}

int weir_access_log_reopen(struct weir_access_log *log)
{
    return log->path ? weir_logfile_reopen(log->path, log->fd) : 0;
}

int weir_access_log_replace(struct weir_access_log *log, struct weir_str to, int fd)
{
    bool same = standard_of(to) >= 0 ? standard_of(to) == standard_of(log->conf->to)
                                     : weir_str_eq(to, log->conf->to);

    if (!same || log->fd < 0)
        return 0;
    return dup3(fd, log->fd, O_CLOEXEC) < 0 ? -errno : 0;
}
