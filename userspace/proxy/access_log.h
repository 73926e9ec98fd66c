/* SPDX-License-Identifier: Apache-2.0 */
/** access_log.h: one line a request, one write, valid JSON for any bytes in it. */
#ifndef PROXY_ACCESS_LOG_H
#define PROXY_ACCESS_LOG_H

#include "proxy/policy.h"

/** What a line can tell; absent strings and zeros are left out or "-". All borrowed for the call.
 */
struct weir_access_record {
    uint64_t wall_us; /* when the head was there */
    struct weir_str id, listener, route, client, method, host, path, query, protocol;
    int status;
    uint64_t bytes_in, bytes_out, duration_us;
    struct weir_str upstream, server;
    unsigned attempts;
    bool reused;
    uint64_t connect_us, first_byte_us;
    struct weir_str user_agent, referer;
    const struct weir_tls_info *tls;
    const struct weir_error *error;
    struct weir_str mover;                  /* of a tunnel */
    const struct weir_path_info *path_info; /* to the client; NULL: not known */
    bool grpc;
    int grpc_status;
    struct weir_str grpc_service, grpc_method; /* absent: the path is none of gRPC's */
};

struct weir_access_log;

/** Is the format one, and does `redact` name fields? 0, or WEIR_EINVAL with *fault. */
int weir_access_log_check(const struct weir_access_log_conf *conf,
                          struct weir_tls_fault *fault) WEIR_MUST_CHECK;
/** Gives a descriptor to write to, which becomes the log's, or -errno. */
typedef int (*weir_access_log_door)(void *arg, struct weir_str to);
/** Opens the target, or is given it by `door` (NULL: opened here). Logs of one file are descriptors of their own that append
 * whole lines. NULL with *fault. `conf` outlives it. */
struct weir_access_log *weir_access_log_open(const struct weir_access_log_conf *conf,
                                             weir_access_log_door door, void *arg,
                                             struct weir_tls_fault *fault);
/** Opens what `to` names ("stdout", "stderr", a file) as a log does. A descriptor or -errno. */
int weir_access_log_target(struct weir_str to) WEIR_MUST_CHECK;
void weir_access_log_close(struct weir_access_log *log);
/** Any worker; one write(2) (or nothing, when the sample or `off` says so). A full pipe drops the
 * line and counts it, never blocks. */
void weir_access_log_write(struct weir_access_log *log, const struct weir_access_record *record);
/** Where lost lines are told, at most once a second; NULL: standard error. Before the first write.
 */
void weir_access_log_set_log(struct weir_access_log *log, struct weir_log *to);
/** Lines that could not be written. */
uint64_t weir_access_log_lost(const struct weir_access_log *log);
/** Of a file that can be reopened; else NULL. */
const char *weir_access_log_path(const struct weir_access_log *log);
/** Gives the file to the user that the process will be. */
void weir_access_log_give(struct weir_access_log *log, unsigned uid, unsigned gid);
/** Writes to (a copy of) `fd` from now on, if it is a log to that file or stream. 0 or -errno. Any thread. */
int weir_access_log_replace(struct weir_access_log *log, struct weir_str to, int fd)
    __attribute__((warn_unused_result));
/** Opens the file anew (SIGUSR1); each line goes to the old one or the new one, which stays where this
 * fails (-errno). Any thread. */
int weir_access_log_reopen(struct weir_access_log *log) __attribute__((warn_unused_result));

#endif
