/* SPDX-License-Identifier: Apache-2.0 */
/**
 * control.h: the admin: HTTP/1.1 and JSON over a UNIX socket, and a few figures, without a password, over
 * TCP. It lives on a loop of its own, so that a stuck worker can still be looked at, and it never
 * waits for a worker: what needs one is asked from a thread, with a deadline.
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include "daemon/conf.h"
#include "daemon/reload.h"
#include "net/loop.h"
#include "proxy/service.h"

struct weir_control;
struct weir_link;

enum weir_control_state { WEIR_CONTROL_STARTING, WEIR_CONTROL_READY, WEIR_CONTROL_DRAINING };

struct weir_control_opts {
    struct weir_loop *loop;
    struct weir_log *log;
    const struct weir_conf *conf;
    struct weir_service *service;
    struct weir_reload *reload;  /* POST /v1/reload; NULL: there is none */
    void (*on_drain)(void *arg); /* POST /v1/drain: begin; weir_control_drained ends it */
    struct weir_link *link;      /* to the keeper; NULL: there is none */
    void *arg;
};

struct weir_control *weir_control_new(const struct weir_control_opts *opts);
/** Binds the socket at `path` (NULL: none) and admin.listen. 0, or an error with *fault filled. */
int weir_control_open(struct weir_control *control, const char *path, struct weir_tls_fault *fault)
    __attribute__((warn_unused_result));
/** The two by themselves, for who has the rights: listening sockets to be served by anybody. 0 with *fd; an error with
 * *fault. What is left of a socket's file at an error is removed. */
int weir_control_bind(const char *path, struct weir_str group, int *fd,
                      struct weir_tls_fault *fault) WEIR_MUST_CHECK;
int weir_control_bind_tcp(struct weir_str listen, int *fd,
                          struct weir_tls_fault *fault) WEIR_MUST_CHECK;
/** Serves such sockets, which become the control's (-1: none). 0 or an error. */
int weir_control_serve(struct weir_control *control, int local, int remote) WEIR_MUST_CHECK;
/** Answers no new connections: another process does. */
void weir_control_retire(struct weir_control *control);
void weir_control_set_state(struct weir_control *control, enum weir_control_state state);
/** Another configuration is in force. */
void weir_control_set_conf(struct weir_control *control, const struct weir_conf *conf);
/** Answers those who asked for the drain: what was left, and how long it took. */
void weir_control_drained(struct weir_control *control, bool clean, uint64_t took_ms);
/** Answers those who asked the keeper for an upgrade: what came of it. */
void weir_control_changed(struct weir_control *control, bool ok, const char *text);
/** Waits at most `ms` for a question to the workers that is under way. False: it still hangs. */
bool weir_control_quiesce(struct weir_control *control, unsigned ms);
/** Closes all connections; turn the loop until weir_control_idle, then free. */
void weir_control_close(struct weir_control *control);
bool weir_control_idle(const struct weir_control *control);
void weir_control_free(struct weir_control *control);

#endif
