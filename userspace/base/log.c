/* SPDX-License-Identifier: Apache-2.0 */
#include "weir/log.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct weir_log {
    _Atomic int level;
    bool json;
    weir_log_fn fn;
    void *arg;
};

enum { LINE_MAX_BYTES = 4096 };
static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };

struct weir_log *weir_log_new(const struct weir_log_opts *opts)
{
    struct weir_log *log = calloc(1, sizeof(*log));

    if (!log)
        return NULL;
    atomic_init(&log->level, (int)opts->level);
    log->json = opts->json;
    log->fn = opts->fn;
    log->arg = opts->arg;
    return log;
}

void weir_log_free(struct weir_log *log)
{
    free(log);
}

void weir_log_set_level(struct weir_log *log, enum weir_log_level level)
{
    atomic_store_explicit(&log->level, (int)level, memory_order_relaxed);
}

enum weir_log_level weir_log_level(const struct weir_log *log)
{
    return log ? (enum weir_log_level)atomic_load_explicit((_Atomic int *)&log->level,
                                                           memory_order_relaxed)
               : WEIR_LOG_INFO;
}

static size_t put_time(char *out, size_t size)
{
    uint64_t us = weir_clock_wall_us();
    time_t seconds = (time_t)(us / 1000000);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    return (size_t)snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900,
                            tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                            (unsigned)(us / 1000 % 1000));
}

/* JSON string contents; control bytes and what is not ASCII become escapes, so that any bytes make
 * a valid line. */
static size_t put_json(char *out, size_t size, const char *text, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len && n + 7 < size; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '"' || c == '\\')
            n += (size_t)snprintf(out + n, size - n, "\\%c", c);
        else if (c < 0x20 || c > 0x7e)
            n += (size_t)snprintf(out + n, size - n, "\\u%04x", c);
        else
            out[n++] = (char)c;
    }
    return n;
}

static size_t put_text(char *out, size_t size, const char *text, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len && n + 1 < size;
         i++) /* one line stays one line, whatever a peer sent */
        out[n++] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    return n;
}

void weir_log(struct weir_log *log, enum weir_log_level level, const char *format, ...)
{
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES * 2];
    size_t n, len;
    va_list args;
    int wrote;

    if (level > weir_log_level(log))
        return;
    va_start(args, format);
    wrote = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    len = wrote < 0 ? 0 : (size_t)wrote;
    if (len >= sizeof(text)) {
        len = sizeof(text) - 1;
        memset(text + len - 3, '.', 3);
    }
    if (log && log->json) {
        memcpy(line, "{\"ts\":\"", 7);
        n = 7 + put_time(line + 7, sizeof(line) - 7);
        n += (size_t)snprintf(line + n, sizeof(line) - n, "\",\"level\":\"%s\",\"msg\":\"",
                              level_names[level]);
        n += put_json(line + n, sizeof(line) - n - 3, text, len);
        n += (size_t)snprintf(line + n, sizeof(line) - n, "\"}");
    } else {
        n = put_time(line, sizeof(line));
        n += (size_t)snprintf(line + n, sizeof(line) - n, " %s: ", level_names[level]);
        n += put_text(line + n, sizeof(line) - n - 1, text, len);
    }
    if (log && log->fn) {
        log->fn(log->arg, level, line, n);
        return;
    }
    line[n++] = '\n';
    while (write(STDERR_FILENO, line, n) < 0 && errno == EINTR)
        ;
}
