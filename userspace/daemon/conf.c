/* SPDX-License-Identifier: Apache-2.0 */
/* conf.c: one load from the files to the snapshot. Each step goes on after errors, so that all are
 * told in one pass. */
#include "daemon/conf_internal.h"

#include "daemon/paths.h"
#include "proxy/filters.h"
#include "weir/builtin.h"
#include "weir/error.h"

#include <stdlib.h>

const struct weir_filter_type *const conf_filter_types[] = {
    &weir_filter_grpc_web_type,
    &weir_filter_headers_type,
    &weir_filter_rate_limit_type,
    NULL,
};

/* To those who read files when the service is made, and when it is checked here. */
static void hand_door(struct conf_load *load)
{
    struct weir_proxy_conf *proxy = &load->conf->proxy;
    struct weir_listener_conf *listeners = proxy->listeners.at;
    struct weir_cluster_conf *upstreams = proxy->upstreams.at;

    proxy->access.files = load->door;
    for (size_t i = 0; i < proxy->listeners.count; i++)
        listeners[i].tls.files = load->door;
    for (size_t i = 0; i < proxy->upstreams.count; i++)
        upstreams[i].tls.files = load->door;
}

static void load_sections(struct conf_load *load)
{
    conf_defaults(load, conf_top_items, load->conf, false);
    if (!load->root) {
        if (load->diags->errors == load->errors_before)
            conf_error(load, NULL, "the configuration is empty: it needs at least 'listeners'");
        return;
    }
    conf_plugins_load(load);
    if (load->plugins_only)
        return;
    conf_fill(load, conf_top_items, load->conf, load->root, NULL);
    hand_door(load);
    conf_check(load);
}

/* The command line's word is the last. */
static void load_said(struct conf_load *load, const struct weir_conf_opts *opts)
{
    struct weir_conf *conf = load->conf;

    if (opts && opts->instance && weir_conf_set_instance(conf, weir_str(opts->instance)))
        load->nomem = true;
    if (opts && opts->socket) {
        conf->admin.socket = conf_copy(load, weir_str(opts->socket));
        conf->admin.socket_said = true;
    }
}

static int load_all(struct conf_load *load, const char *path, const struct weir_str *text,
                    const struct weir_conf_opts *opts)
{
    load->conf->path = conf_copy(load, weir_str(path));
    conf_file_load(load, path, text);
    if (!load->nomem)
        load_sections(load);
    load_said(load, opts);
    if (!load->nomem)
        conf_check_fixed(load);
    if (!load->nomem && load->diags->errors == load->errors_before)
        conf_resolve(load);
    if (load->nomem)
        return WEIR_ENOMEM;
    return load->diags->errors == load->errors_before ? 0 : WEIR_ECONFIG;
}

static int load_new(const char *path, const struct weir_str *text,
                    const struct weir_conf_opts *opts, struct weir_conf **out,
                    struct weir_diags *diags)
{
    struct conf_load load = { .diags = diags, .errors_before = diags->errors };
    int err;

    *out = NULL;
    load.files_end = &load.files;
    load.filters = opts && opts->filters ? opts->filters : conf_filter_types;
    load.door = opts ? opts->files : NULL;
    load.no_files = opts && opts->no_files;
    load.no_host = load.no_files || weir_files_replays(load.door);
    load.plugins_only = opts && opts->plugins_only;
    load.before = opts ? opts->before : NULL;
    load.conf = calloc(1, sizeof(*load.conf));
    if (!load.conf)
        return WEIR_ENOMEM;
    weir_arena_init(&load.conf->arena, NULL);
    weir_arena_init(&load.scratch, NULL);
    err = load_all(&load, path, text, opts);
    conf_diags_sort(diags);
    weir_arena_fini(&load.scratch);
    load.conf->filters = load.filters;
    if (err)
        weir_conf_free(load.conf);
    else
        *out = load.conf;
    return err;
}

int weir_conf_load_opts(const char *path, const struct weir_conf_opts *opts, struct weir_conf **out,
                        struct weir_diags *diags)
{
    return load_new(path, NULL, opts, out, diags);
}

int weir_conf_load(const char *path, struct weir_conf **out, struct weir_diags *diags)
{
    return load_new(path, NULL, NULL, out, diags);
}

int weir_conf_load_text(const char *name, const char *text, size_t len,
                        const struct weir_conf_opts *opts, struct weir_conf **out,
                        struct weir_diags *diags)
{
    struct weir_str str = { text, len };

    return load_new(name, &str, opts, out, diags);
}

int weir_conf_set_instance(struct weir_conf *conf, struct weir_str name)
{
    char path[WEIR_PATH_BYTES] = "";
    struct weir_str instance = weir_arena_copy(&conf->arena, name);

    if (!instance.ptr)
        return WEIR_ENOMEM;
    conf->instance = instance;
    if (conf->admin.socket_said)
        return 0;
    (void)weir_instance_path(name, "admin.sock",
                             path); /* one that is too long is told at the start */
    conf->admin.socket = weir_arena_copy(&conf->arena, weir_str(path));
    return conf->admin.socket.ptr ? 0 : WEIR_ENOMEM;
}

void weir_conf_free(struct weir_conf *conf)
{
    struct conf_use *uses;
    struct weir_arena arena;

    if (!conf)
        return;
    uses = conf->uses.at;
    for (size_t i = conf->uses.count; i-- > 0;)
        if (uses[i].self && WEIR_FILTER_HAS(uses[i].type->filter, fini))
            uses[i].type->filter->fini(uses[i].self);
    conf_plugins_free(conf);
    arena = conf->arena;
    free(conf);
    weir_arena_fini(&arena);
}
