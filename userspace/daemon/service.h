/* SPDX-License-Identifier: Apache-2.0 */
/**
 * service.h: the daemon: the composition root that joins configuration, proxy service and admin.
 *
 *   log ▶ lock ▶ descriptors ▶ proxy (certificates read) ▶ bind ▶ drop rights ▶ threads ▶ run
 *
 * Under a keeper what is opened there is given, and the lock and the rights are the keeper's:
 *
 *   log ▶ proxy ▶ confine ▶ threads ▶ say READY ▶ run
 *
 *   running ─SIGTERM─▶ announcing ─▶ draining ─▶ stopped      SIGINT goes to draining at once,
 *                                                              a second signal to stopped
 *      SIGHUP: another configuration (reload.h)
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include "daemon/conf.h"
#include "daemon/reload.h"

/** Exit statuses of every verb (INTERFACE, "Commands"). */
enum { WEIR_EXIT_DONE = 0, WEIR_EXIT_FAILED = 1, WEIR_EXIT_USAGE = 2, WEIR_EXIT_HOST = 3 };

struct weir_link;

struct weir_daemon_opts {
    struct weir_conf *conf;   /* the daemon's from now on */
    bool no_admin;            /* weir proxy: no instance, no lock, no admin socket */
    weir_conf_reader_fn read; /* the configuration, anew; NULL: there is no file */
    void *read_arg;
    struct weir_link *link; /* to the keeper, which has opened everything; NULL: one process */
};

/** Runs until it is told to stop; returns an exit status. What went wrong was logged. Frees opts->conf. */
int weir_daemon_run(const struct weir_daemon_opts *opts);

#endif
