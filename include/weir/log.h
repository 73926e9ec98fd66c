/* SPDX-License-Identifier: Apache-2.0 */
/** log.h: what weir tells its operator. One call, one line, one write. */
#ifndef WEIR_LOG_H
#define WEIR_LOG_H

#include "weir/types.h"

WEIR_BEGIN

enum weir_log_level {
    WEIR_LOG_ERROR,
    WEIR_LOG_WARN,
    WEIR_LOG_INFO,
    WEIR_LOG_DEBUG,
    WEIR_LOG_TRACE
};

/** Receives each line that passes the level. Any thread. `line` has no newline and is borrowed for the call. */
typedef void (*weir_log_fn)(void *arg, enum weir_log_level level, const char *line, size_t len);

/** Where a program's log goes; every object of libweir that logs was given one. */
struct weir_log;

struct weir_log_opts {
    size_t size;
    enum weir_log_level level; /* 0 is ERROR */
    bool json;                 /* {"ts":…,"level":…,"msg":…} instead of text */
    weir_log_fn fn;            /* NULL: standard error */
    void *arg;
};

WEIR_API struct weir_log *weir_log_new(const struct weir_log_opts *opts);
WEIR_API void weir_log_free(struct weir_log *log);
WEIR_API void weir_log_set_level(struct weir_log *log, enum weir_log_level level);
WEIR_API enum weir_log_level weir_log_level(const struct weir_log *log);
/** Writes a line of at most 4 KiB (longer ones end in "..."). `log` NULL: standard error, level INFO. Any thread. */
WEIR_API void weir_log(struct weir_log *log, enum weir_log_level level, const char *format, ...)
    WEIR_PRINTF(3, 4);

WEIR_END
#endif
