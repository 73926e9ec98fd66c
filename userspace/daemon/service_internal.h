/* SPDX-License-Identifier: Apache-2.0 */
/** service_internal.h: the daemon, for the files that make it up: service.c, service_keeper.c, service_rights.c. */
#ifndef DAEMON_SERVICE_INTERNAL_H
#define DAEMON_SERVICE_INTERNAL_H

#include "daemon/control.h"
#include "daemon/kept.h"
#include "daemon/kernel.h"
#include "daemon/link.h"
#include "daemon/lock.h"
#include "daemon/log_target.h"
#include "daemon/reload.h"
#include "daemon/service.h"

enum { DAEMON_SIGNALS = 5 };

enum daemon_state { DAEMON_RUNNING, DAEMON_ANNOUNCING, DAEMON_DRAINING, DAEMON_STOPPED };

struct weir_daemon {
    const struct weir_daemon_opts *opts;
    const struct weir_conf *conf;
    enum daemon_state state;
    struct weir_log_target target;
    struct weir_log *log;
    struct weir_lock lock;
    struct weir_loop loop;
    struct weir_bind_source bind; /* of the keeper's sockets */
    struct weir_service *service;
    struct weir_control *control;
    struct weir_kernel kernel;
    struct weir_kept_line kept;
    struct weir_reload *reload;
    struct weir_timer timer;
    uv_signal_t signals[DAEMON_SIGNALS];
    unsigned signals_open;
    uint64_t drain_ms; /* when draining began */
    uint64_t asked_ms; /* when the end was asked for */
    bool clean;
    bool retired; /* another process serves: idle connections end in their own time */
};

/* service.c */
void daemon_signal(struct weir_daemon *daemon, int number);
int daemon_signals_open(struct weir_daemon *daemon);
/** The end begins, or is hurried when it has begun. `announce`: as shutdown.announce says. */
void daemon_end(struct weir_daemon *daemon, bool announce, const char *why);

/* service_keeper.c */
bool daemon_ask_keeper(void *arg);
bool daemon_tell_keeper(void *arg, bool good);
/** Listens to the keeper from now on. 0 or an error. */
int daemon_hear_keeper(struct weir_daemon *daemon) WEIR_MUST_CHECK;

/* service_rights.c: an exit status. */
/** Everything is open: becomes the user of the configuration, when there is no keeper. */
int daemon_rights_drop(struct weir_daemon *daemon) WEIR_MUST_CHECK;
/** Everything is read and open; nothing of the network was read. */
int daemon_confine(struct weir_daemon *daemon) WEIR_MUST_CHECK;

#endif
