/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/reload.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/str.h"
#include "net/loop.h"

#include <stdio.h>
#include <stdlib.h>

struct asker {
    struct weir_list link;
    const char *who;
    weir_reload_fn fn;
    void *arg;
};

struct weir_reload {
    struct weir_reload_opts opts;
    struct weir_conf *conf;  /* in force */
    struct weir_list askers; /* of the next one */
    struct weir_list served; /* of the one that is under way */
    struct weir_later begin;
    bool busy;
    bool asked; /* for what is to be read */
    /* of the one that is under way: */
    struct weir_diags diags;
    struct weir_conf *next; /* prepared, and waits for weir_reload_go; else NULL */
    struct weir_snapshot *snapshot;
    struct weir_reload_change *changes;
    size_t change_count;
    uint64_t began_us;
};

static void on_begin(void *arg);

struct weir_reload *weir_reload_new(const struct weir_reload_opts *opts, struct weir_conf *conf)
{
    struct weir_reload *reload = calloc(1, sizeof(*reload));

    if (!reload)
        return NULL;
    reload->opts = *opts;
    reload->conf = conf;
    weir_list_init(&reload->askers);
    weir_list_init(&reload->served);
    return reload;
}

static void askers_free(struct weir_list *askers)
{
    weir_list_each(link, next, askers)
    {
        free(weir_list_entry(link, struct asker, link));
    }
}

void weir_reload_free(struct weir_reload *reload)
{
    if (!reload)
        return;
    weir_later_cancel(&reload->begin);
    askers_free(&reload->askers);
    askers_free(&reload->served);
    if (reload->busy) {
        weir_diags_fini(&reload->diags);
        free(reload->changes);
    }
    weir_conf_free(reload->next); /* its snapshot was freed with the service */
    weir_conf_free(reload->conf);
    free(reload);
}

int weir_reload_ask(struct weir_reload *reload, const char *who, weir_reload_fn fn, void *arg)
{
    struct asker *asker = calloc(1, sizeof(*asker));

    if (!asker)
        return WEIR_ENOMEM;
    *asker = (struct asker){ .who = who, .fn = fn, .arg = arg };
    weir_list_push_back(&reload->askers, &asker->link);
    if (!reload->busy && !weir_later_queued(&reload->begin))
        weir_loop_defer(reload->opts.loop, &reload->begin, on_begin, reload);
    return 0;
}

static void forget(struct weir_list *askers, const void *arg)
{
    weir_list_each(pos, next, askers)
    {
        struct asker *asker = weir_list_entry(pos, struct asker, link);

        if (asker->arg == arg)
            asker->fn = NULL;
    }
}

void weir_reload_forget(struct weir_reload *reload, const void *arg)
{
    forget(&reload->askers, arg);
    forget(&reload->served, arg);
}

/* ---- telling ---- */

static void log_diag(struct weir_log *log, const struct weir_diag *diag)
{
    enum weir_log_level level = diag->severity == WEIR_DIAG_ERROR ? WEIR_LOG_ERROR : WEIR_LOG_WARN;
    struct weir_str hint = diag->hint.len ? diag->hint : WEIR_STR("");
    const char *and = hint.len ? "; " : "";

    if (diag->line)
        weir_log(log, level, "reload: %.*s:%u:%u: %.*s%s%.*s", WEIR_FMT(diag->file), diag->line,
                 diag->column, WEIR_FMT(diag->message), and, WEIR_FMT(hint));
    else
        weir_log(log, level, "reload: %.*s%s%.*s", WEIR_FMT(diag->message), and, WEIR_FMT(hint));
}

/* "listeners.web changed, upstreams.app added": as many as fit into a line. */
static void log_changes(const struct weir_reload *reload, const struct weir_reload_result *result)
{
    static const char *const words[] = { "added", "removed", "changed" };
    char text[1024] = "";
    size_t at = 0;

    for (size_t i = 0; i < result->change_count && at < sizeof(text); i++) {
        const struct weir_reload_change *change = &result->changes[i];
        struct weir_str name = change->name.len ? change->name : WEIR_STR("");
        int n = snprintf(text + at, sizeof(text) - at, "%s%s%s%.*s %s", at ? ", " : "", change->key,
                         name.len ? "." : "", WEIR_FMT(name), words[change->change]);

        at += n > 0 ? (size_t)n : 0;
    }
    weir_log(reload->opts.log, WEIR_LOG_INFO, "reload: done in %llu ms: %s",
             (unsigned long long)result->took_ms,
             at ? text : "the file says the same; what it names was read again");
}

/* All who have asked are told; then those who have asked meanwhile get the next one. */
static void finish(struct weir_reload *reload, bool done, const char *why)
{
    struct weir_reload_result result = {
        .done = done,
        .why = why,
        .diags = &reload->diags,
        .changes = reload->changes,
        .change_count = reload->change_count,
        .took_ms = (weir_clock_us() - reload->began_us) / 1000,
    };

    for (size_t i = 0; i < reload->diags.count; i++)
        log_diag(reload->opts.log, &reload->diags.at[i]);
    if (done)
        log_changes(reload, &result);
    else
        weir_log(reload->opts.log, WEIR_LOG_ERROR,
                 "reload: refused: %s; the configuration that runs goes on", why);
    weir_service_count_reload(reload->opts.service, done);
    weir_list_each(link, next, &reload->served)
    {
        struct asker *asker = weir_list_entry(link, struct asker, link);

        weir_list_remove(link);
        if (asker->fn)
            asker->fn(asker->arg, &result);
        free(asker);
    }
    weir_diags_fini(&reload->diags);
    free(reload->changes);
    reload->changes = NULL;
    reload->change_count = 0;
    reload->busy = false;
    if (!weir_list_empty(&reload->askers))
        weir_loop_defer(reload->opts.loop, &reload->begin, on_begin, reload);
}

/* ---- doing ---- */

static void on_change(void *arg, const char *key, struct weir_str name,
                      enum weir_conf_change change)
{
    struct weir_reload *reload = arg;
    struct weir_reload_change *changes =
        realloc(reload->changes, (reload->change_count + 1) * sizeof(*changes));

    if (!changes)
        return; /* told of fewer */
    reload->changes = changes;
    changes[reload->change_count++] = (struct weir_reload_change){ key, name, change };
}

static void on_old_free(void *arg)
{
    weir_conf_free(arg);
}

static void on_installed(void *arg, int err)
{
    struct weir_reload *reload = arg;

    if (err)
        weir_log(reload->opts.log, WEIR_LOG_ERROR,
                 "reload: a worker could not take over all of it: %s",
                 weir_err_text((enum weir_err)err));
    finish(reload, true, NULL);
}

static void install(struct weir_reload *reload)
{
    struct weir_conf *before = reload->conf, *next = weir_take(&reload->next);

    weir_conf_diff(before, next, on_change, reload);
    reload->conf = next;
    reload->opts.on_conf(reload->opts.arg, next, before);
    weir_service_install(weir_take(&reload->snapshot), on_old_free, before, on_installed, reload);
}

/* Read and checked: compiled and bound it is what nothing can be wrong with any more. */
static void prepare(struct weir_reload *reload, struct weir_conf *next)
{
    struct weir_tls_fault fault = { "" };
    bool waits;

    reload->next = next;
    reload->snapshot = weir_service_prepare(reload->opts.service, &next->proxy, &fault);
    waits =
        reload->opts.confirm && reload->opts.confirm(reload->opts.arg, reload->snapshot != NULL);
    if (!reload->snapshot) {
        weir_conf_free(weir_take(&reload->next));
        finish(reload, false, fault.text);
    } else if (!waits) {
        install(reload);
    }
}

static void refuse(struct weir_reload *reload, const char *otherwise)
{
    char why[64];

    snprintf(why, sizeof(why), "%zu error%s in the configuration", reload->diags.errors,
             reload->diags.errors == 1 ? "" : "s");
    finish(reload, false, reload->diags.errors ? why : otherwise);
}

static void read_done(struct weir_reload *reload, int err, struct weir_conf *next)
{
    if (!err) {
        prepare(reload, next);
        return;
    }
    if (reload->opts.confirm)
        (void)!reload->opts.confirm(reload->opts.arg, false);
    refuse(reload, weir_err_text((enum weir_err)err));
}

void weir_reload_given(struct weir_reload *reload, int err, struct weir_conf *conf,
                       struct weir_diags *diags, const char *why)
{
    if (!reload->asked) { /* nobody waits for it */
        weir_conf_free(conf);
        return;
    }
    reload->asked = false;
    if (diags) {
        weir_diags_fini(&reload->diags);
        reload->diags = *diags;
        weir_diags_init(diags);
    }
    if (!why) {
        read_done(reload, err, conf);
        return;
    }
    weir_diags_read(&reload->diags, weir_str(why));
    refuse(reload, why);
}

void weir_reload_go(struct weir_reload *reload)
{
    if (reload->next)
        install(reload);
}

void weir_reload_alone(struct weir_reload *reload)
{
    weir_reload_given(reload, WEIR_ECONFIG, NULL, NULL, "the keeper, which could read it, is gone");
    weir_reload_go(reload);
}

static void on_begin(void *arg)
{
    struct weir_reload *reload = arg;
    struct weir_conf *next = NULL;
    int err;

    reload->busy = true;
    reload->began_us = weir_clock_us();
    weir_list_take_all(&reload->served, &reload->askers);
    weir_log(reload->opts.log, WEIR_LOG_INFO, "%s: reading the configuration anew",
             weir_list_entry(reload->served.next, struct asker, link)->who);
    weir_diags_init(&reload->diags);
    if (reload->opts.request) {
        reload->asked = true;
        if (!reload->opts.request(reload->opts.arg))
            weir_reload_alone(reload);
        return;
    }
    if (!reload->opts.read) {
        finish(reload, false, "there is no file to read: weir was started without one");
        return;
    }
    err = reload->opts.read(reload->opts.read_arg, reload->conf, &next, &reload->diags);
    read_done(reload, err, next);
}
