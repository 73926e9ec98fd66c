/* SPDX-License-Identifier: Apache-2.0 */
/**
 * conf.h: the configuration: one or more YAML files into an immutable snapshot, every error in one
 * pass.
 *
 *   text ─conf_node─▶ node tree with marks ─conf_fill (rows of conf_items)─▶ structs ─conf_check─▶
 * struct weir_conf
 *
 * One arena holds all of a snapshot; it may be read by any thread and is freed at once. Nothing
 * here logs or exits: what is wrong is in the diagnostics.
 */
#ifndef DAEMON_CONF_H
#define DAEMON_CONF_H

#include "base/arena.h"
#include "base/files.h"
#include "proxy/policy.h"
#include "weir/conf.h"

#include <stdio.h>

enum weir_severity { WEIR_DIAG_ERROR, WEIR_DIAG_WARNING };

/** One thing that is wrong. */
struct weir_diag {
    enum weir_severity severity;
    struct weir_str file;
    unsigned line, column; /* from 1; 0: the file as a whole */
    unsigned width;        /* characters to underline */
    struct weir_str message;
    struct weir_str hint;   /* "did you mean 'health'?"; absent: none */
    struct weir_str source; /* the line of the file; absent: none */
    unsigned order, seq;    /* of the file; of this among those of one place: for sorting */
};

/** All that is wrong, errors and warnings in the order of their places. Owns its texts. */
struct weir_diags {
    struct weir_arena arena;
    struct weir_diag *at;
    size_t count, room;
    size_t errors, warnings; /* also those beyond WEIR_DIAGS_MAX, which are not kept */
};
enum { WEIR_DIAGS_MAX = 200 };

void weir_diags_init(struct weir_diags *diags);
void weir_diags_fini(struct weir_diags *diags);
/** As INTERFACE has it: place, sentence, source line, underline; then "2 errors, 1 warning".
 * `json`: an array. */
void weir_diags_print(const struct weir_diags *diags, FILE *out, bool json);
/** Adds what another process has printed so; lines that are something else are passed over. */
void weir_diags_read(struct weir_diags *diags, struct weir_str text);

enum { WEIR_IO_AUTO, WEIR_IO_EPOLL };
enum { WEIR_LOG_TO_STDERR, WEIR_LOG_TO_FILE, WEIR_LOG_TO_SYSLOG, WEIR_LOG_TO_JOURNAL };
enum { WEIR_LOG_TEXT, WEIR_LOG_AS_JSON };

struct weir_admin_conf {
    struct weir_str socket; /* a path: the default (paths.h) or what the file says */
    bool socket_said;
    struct weir_str group;  /* who may use the socket besides its owner; absent: nobody */
    struct weir_str listen; /* TCP address of what needs no password; absent: off */
};

struct weir_log_conf {
    int level;  /* enum weir_log_level */
    int format; /* WEIR_LOG_TEXT, WEIR_LOG_AS_JSON */
    int to;     /* WEIR_LOG_TO_* */
    struct weir_str file;
};

/** A snapshot. Everything that is inherited is resolved: see weir_listener_conf.routes. */
struct weir_conf {
    struct weir_arena arena;
    struct weir_str path; /* of the main file, as given */
    struct weir_str instance;
    struct weir_str user;
    int io;      /* WEIR_IO_* */
    int confine; /* confine.h: WEIR_CONFINE_* */
    struct weir_admin_conf admin;
    struct weir_log_conf log;
    struct weir_proxy_conf proxy;
    struct weir_conf_list
        uses; /* conf_internal.h: struct conf_use, the filters that weir_conf_free ends */
    struct weir_conf_list
        secrets; /* conf_internal.h: struct conf_secret, texts of files and the environment */
    struct weir_strs plugins;     /* paths of shared objects */
    struct weir_conf_list loaded; /* conf_internal.h: struct conf_plugin */
    /** The kinds of filters that this file can name, NULL-terminated: the built-in ones and those of plug-ins. */
    const struct weir_filter_type *const *filters;
};

struct weir_conf_opts {
    size_t size;
    /** Kinds of filters, NULL-terminated; NULL: the built-in ones. Outlives the snapshot. */
    const struct weir_filter_type *const *filters;
    /** No file is opened but those of the configuration itself (none, when that is a text): what they
     * name is not looked at, TLS is not built, plug-ins are not loaded and what their filters say is skipped. For what is
     * only parsed. */
    bool no_files;
    /** Where the files come from that it reads, and that its certificates, keys, secrets and deny_file are: the
     * snapshot keeps it for the service that is made of it. NULL: the disk. What replays was checked against the host by
     * whom it comes from, so that is not done again. */
    struct weir_files *files;
    /** Of all that the file says, `plugins` alone is read: the snapshot has their filters, and defaults. */
    bool plugins_only;
    /** What counts in place of what the file says: -i and --socket of the command line; NULL: nothing is said. */
    const char *instance, *socket;
    /** The snapshot that runs, for a reload: what is another one and a reload cannot change is an error; plug-ins are those
     * that it has, and not loaded again. On the thread that frees it. */
    const struct weir_conf *before;
};

/**
 * Reads a file and all that it includes. 0 with *out, or WEIR_ECONFIG with the errors in `diags`,
 * or WEIR_ENOMEM. Warnings may be there in either case. `diags` was initialised by the caller.
 */
int weir_conf_load(const char *path, struct weir_conf **out,
                   struct weir_diags *diags) WEIR_MUST_CHECK;
/** The same from memory: `name` stands in the diagnostics, relative paths are relative to the
 * folder it names. */
int weir_conf_load_text(const char *name, const char *text, size_t len,
                        const struct weir_conf_opts *opts, struct weir_conf **out,
                        struct weir_diags *diags) WEIR_MUST_CHECK;
/** weir_conf_load with options (NULL: none). */
int weir_conf_load_opts(const char *path, const struct weir_conf_opts *opts, struct weir_conf **out,
                        struct weir_diags *diags) WEIR_MUST_CHECK;
/** What is another one in `after`: a listener, an upstream, or a whole section (name absent), by its key at the top. */
enum weir_conf_change { WEIR_CONF_ADDED, WEIR_CONF_REMOVED, WEIR_CONF_CHANGED };
typedef void (*weir_conf_change_fn)(void *arg, const char *key, struct weir_str name,
                                    enum weir_conf_change change);
void weir_conf_diff(const struct weir_conf *before, const struct weir_conf *after,
                    weir_conf_change_fn fn, void *arg);
/** Another name than the file's; the socket follows, when the file names none. Before anything uses the snapshot. 0, or
 * WEIR_ENOMEM. */
int weir_conf_set_instance(struct weir_conf *conf, struct weir_str name) WEIR_MUST_CHECK;
/** Ends the filters, frees everything. NULL is allowed. */
void weir_conf_free(struct weir_conf *conf);
/** How many of a route's filters stand under `filters`: the one behind them is its reply or
 * redirect. */
size_t weir_conf_filters_listed(const struct weir_route_conf *route);

/** A text of the snapshot as it may be shown: the file's own words where its value is a secret, which
 * is what comes from a file or the environment; else itself. Borrowed from the snapshot. */
struct weir_str weir_conf_told(const struct weir_conf *conf, struct weir_str text);

/** The complete configuration with all defaults, as YAML that reads to the same. Texts with ${NAME} and
 * { file: PATH } stand as they were written; numbers, words and paths as what they have become. */
void weir_conf_print_effective(const struct weir_conf *conf, FILE *out);
/**
 * `weir config explain`: type, range, default and sentence of a key ("upstreams.*.health.every";
 * any name may stand for the `*`) and of all below it; NULL: of all. With the filters of the plug-ins
 * of `conf` (NULL: the built-in ones alone). 0, or WEIR_ENOENT with the nearest key said on `out`.
 */
int weir_conf_explain(const char *key, const struct weir_conf *conf, FILE *out) WEIR_MUST_CHECK;
/** The keys that weir_conf_explain knows of the built-in tables, one a line. */
void weir_conf_keys(FILE *out);
/** `weir config schema`: JSON Schema, draft 2020-12; `conf` as above. */
int weir_conf_schema(const struct weir_conf *conf, FILE *out) WEIR_MUST_CHECK;

#endif
