/* SPDX-License-Identifier: Apache-2.0 */
/**
 * reload.h: the configuration is read anew while the daemon runs: SIGHUP, `weir reload`, POST /v1/reload.
 *
 *   asked ──▶ read and checked, whole ──wrong──▶ told; the old one goes on
 *               └──right──▶ compiled, new addresses bound ──▶ in force on all workers ──▶ told what has changed
 *
 * Reading is the caller's: a function that gives a configuration, or what is wrong with it; or, where another process has the
 * right to, one that asks for it, and is told of what comes (weir_reload_given, weir_reload_go). Those who ask while one is
 * coming into force get the next one, all of them the same. On the daemon's loop, which it blocks while the file is read.
 */
#ifndef DAEMON_RELOAD_H
#define DAEMON_RELOAD_H

#include "daemon/conf.h"
#include "proxy/service.h"

struct weir_reload;

/** Reads the configuration that is to follow `running`: as weir_conf_load_opts with `before`. */
typedef int (*weir_conf_reader_fn)(void *arg, const struct weir_conf *running,
                                   struct weir_conf **conf, struct weir_diags *diags);

struct weir_reload_opts {
    struct weir_log *log;
    struct weir_loop *loop;
    struct weir_service *service;
    weir_conf_reader_fn read; /* NULL: there is no file to read */
    void *read_arg;
    /** In place of `read`: asks for it. False: nobody is there who could. */
    bool (*request)(void *arg);
    /** What came can come into force (`good`), or not: true when weir_reload_go will say that it may. */
    bool (*confirm)(void *arg, bool good);
    /** Another one is in force; `before` lives until this returns, at least. */
    void (*on_conf)(void *arg, const struct weir_conf *conf, const struct weir_conf *before);
    void *arg;
};

/** One thing that another configuration has changed. */
struct weir_reload_change {
    const char *key; /* "listeners", "upstreams", or another key of the top */
    struct weir_str name;
    enum weir_conf_change change;
};

/** How it went. Borrowed for the call that tells it. */
struct weir_reload_result {
    bool done;
    const char *why;                /* not done: a sentence */
    const struct weir_diags *diags; /* errors, and warnings in either case */
    const struct weir_reload_change *changes;
    size_t change_count;
    uint64_t took_ms;
};
typedef void (*weir_reload_fn)(void *arg, const struct weir_reload_result *result);

/** `conf`: the one in force, which is the reloader's from now on. NULL without memory (and then `conf` stays the caller's). */
struct weir_reload *weir_reload_new(const struct weir_reload_opts *opts, struct weir_conf *conf);
/** After the service has been freed: frees what is in force. */
void weir_reload_free(struct weir_reload *reload);
/** Asks for one; `fn` (may be NULL) comes once, later; or never, when the daemon ends first. `who` is for the log. */
int weir_reload_ask(struct weir_reload *reload, const char *who, weir_reload_fn fn,
                    void *arg) WEIR_MUST_CHECK;
/** What `request` has asked for. `conf` is the reloader's, what is in `diags` moved; `why`: nothing could be
 * read; what it has of a configuration's errors is told as such. */
void weir_reload_given(struct weir_reload *reload, int err, struct weir_conf *conf,
                       struct weir_diags *diags, const char *why);
/** What was confirmed may come into force. */
void weir_reload_go(struct weir_reload *reload);
/** Nobody is there any more who could be asked, or could say that it may. */
void weir_reload_alone(struct weir_reload *reload);
/** Whoever asked with this arg does not want to be told any more. */
void weir_reload_forget(struct weir_reload *reload, const void *arg);

#endif
