/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf_plugins.c: `plugins`: shared objects with filters of their own. They are loaded before the
 * rest of the configuration is read, since its routes name their filters, and stay loaded as long
 * as the snapshot. What is wrong with one is told at its entry.
 */
#include "daemon/conf_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/* The fields that every version has. */
#define PLUGIN_BYTES_MIN \
    (offsetof(struct weir_plugin, filters) + sizeof(((struct weir_plugin *)0)->filters))
#define PLUGIN_HAS(plugin, field)                                                    \
    ((plugin)->size >= offsetof(struct weir_plugin, field) + sizeof((plugin)->field) \
         ? (plugin)->field                                                           \
         : NULL)

/* The path of an entry, for dlopen: with a slash in it, or it would be looked for in system folders. */
static const char *entry_path(struct conf_load *load, const struct conf_node *node,
                              struct weir_str *said)
{
    static const struct weir_conf_item row = { .name = "plugins", .type = WEIR_CONF_FILE };
    struct weir_str path;
    struct stat st;
    char *here;

    if (!conf_value(load, &row, node, said) || load->no_files)
        return NULL;
    path = *said;
    if (!load->no_host && (stat(path.ptr, &st) || !S_ISREG(st.st_mode))) {
        conf_error(load, &node->mark, "cannot read '%.*s': it is not a regular file",
                   CONF_QUOTE(path));
        return NULL;
    }
    if (memchr(path.ptr, '/', path.len))
        return path.ptr;
    here = weir_arena_text(&load->scratch, path.len + 2);
    if (!here) {
        load->nomem = true;
        return NULL;
    }
    memcpy(here, "./", 2);
    memcpy(here + 2, path.ptr, path.len + 1);
    return here;
}

/* Its one symbol, as far as it can be believed. NULL: wrong (diagnosed). */
static const struct weir_plugin *plugin_of(struct conf_load *load, const struct conf_node *node,
                                           const char *path, void *handle)
{
    const struct weir_plugin *plugin = dlsym(handle, "weir_plugin");

    if (!plugin)
        conf_error(load, &node->mark, "'%s' is no plug-in: it exports no 'weir_plugin'", path);
    else if (plugin->abi != WEIR_PLUGIN_ABI)
        conf_error(load, &node->mark,
                   "the plug-in '%s' is of ABI %u, this weir has ABI %u: build it with the headers "
                   "of this weir",
                   path, (unsigned)plugin->abi, (unsigned)WEIR_PLUGIN_ABI);
    else if (plugin->size < PLUGIN_BYTES_MIN || !plugin->name || !plugin->filters)
        conf_error(load, &node->mark, "the plug-in '%s' lacks its size, its name or its filters",
                   path);
    else
        return plugin;
    return NULL;
}

/* Among the first `count` of them, or fewer when a NULL ends them. */
static const struct weir_filter_type *type_named(const struct weir_filter_type *const *types,
                                                 size_t count, const char *name)
{
    for (size_t i = 0; i < count && types[i]; i++)
        if (strcmp(types[i]->name, name) == 0)
            return types[i];
    return NULL;
}

/* Which plug-in brought a filter; NULL: none, it is built in. */
static const char *owner_name(const struct conf_load *load, const struct weir_filter_type *type)
{
    const struct conf_plugin *loaded = load->conf->loaded.at;

    for (size_t i = 0; i < load->conf->loaded.count; i++)
        for (size_t f = 0; loaded[i].plugin->filters[f]; f++)
            if (loaded[i].plugin->filters[f] == type)
                return loaded[i].plugin->name;
    return NULL;
}

/* Are its filters what they should be, and their names free? Diagnosed. */
static bool filters_good(struct conf_load *load, const struct conf_node *node,
                         const struct weir_plugin *plugin)
{
    const struct weir_filter_type *type, *other;
    const char *fault, *owner;

    for (size_t i = 0; plugin->filters[i]; i++) {
        type = plugin->filters[i];
        fault = i < CONF_PLUGIN_FILTERS_MAX ? conf_plugin_filter_fault(load, type)
                                            : "there are too many";
        if (fault) {
            conf_error(load, &node->mark, "the plug-in '%s': filter '%s': %s", plugin->name,
                       type->name ? type->name : "", fault);
            return false;
        }
        if (type_named(plugin->filters, i, type->name)) {
            conf_error(load, &node->mark, "the plug-in '%s': there are two filters '%s'",
                       plugin->name, type->name);
            return false;
        }
        other = type_named(load->filters, SIZE_MAX, type->name);
        if (other) {
            owner = owner_name(load, other);
            conf_error(load, &node->mark,
                       "the plug-in '%s': the filter '%s' is there already, %s%s%s", plugin->name,
                       type->name, owner ? "of the plug-in '" : "built in", owner ? owner : "",
                       owner ? "'" : "");
            return false;
        }
    }
    return true;
}

static bool filters_add(struct conf_load *load, const struct weir_plugin *plugin)
{
    const size_t one = sizeof(const struct weir_filter_type *);
    const struct weir_filter_type **all;
    size_t had = 0, count = 0;

    while (load->filters[had])
        had++;
    while (plugin->filters[count])
        count++;
    all = conf_alloc(load, (had + count + 1) * one);
    if (!all)
        return false;
    memcpy(all, load->filters, had * one);
    memcpy(all + had, plugin->filters, count * one);
    load->filters = all;
    return true;
}

static bool plugin_init(struct conf_load *load, const struct conf_node *node,
                        const struct weir_plugin *plugin)
{
    int (*init)(char *, size_t) = PLUGIN_HAS(plugin, init);
    char fault[256] = "";

    if (!init || init(fault, sizeof(fault)) == 0)
        return true;
    fault[sizeof(fault) - 1] = 0;
    conf_error(load, &node->mark, "the plug-in '%s' does not start: %s", plugin->name,
               fault[0] ? fault : "it does not say why");
    return false;
}

static void load_error(struct conf_load *load, const struct conf_node *node, const char *path)
{
    const char *why = dlerror();
    size_t len = strlen(path);

    if (!why)
        why = "no reason is known";
    if (strncmp(why, path, len) == 0 && strncmp(why + len, ": ", 2) == 0)
        why += len + 2;
    conf_error(load, &node->mark, "cannot load '%s': %s", path, why);
}

/* At a reload: the one that runs, under another snapshot. Its init has been called, and its old filters are still in use.
 * What does not run is told by conf_check_fixed. */
static bool plugin_share(struct conf_load *load, struct weir_str said)
{
    const struct conf_plugin *running = load->before->loaded.at;
    struct conf_plugin *loaded;

    for (size_t i = 0; i < load->before->loaded.count; i++) {
        if (!weir_str_eq(load->before->plugins.at[i], said))
            continue;
        loaded = conf_list_add(load, &load->conf->loaded, sizeof(*loaded));
        if (!loaded)
            return false;
        *loaded = running[i];
        ++*loaded->refs;
        return filters_add(load, loaded->plugin);
    }
    return false;
}

static bool plugin_load(struct conf_load *load, const struct conf_node *node, struct weir_str *said)
{
    const char *path = entry_path(load, node, said);
    const struct weir_plugin *plugin;
    struct conf_plugin *loaded;
    unsigned *refs;
    void *handle;

    if (!path)
        return false;
    if (load->before)
        return plugin_share(load, *said);
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        load_error(load, node, path);
        return false;
    }
    plugin = plugin_of(load, node, path, handle);
    if (plugin && filters_good(load, node, plugin) && plugin_init(load, node, plugin)) {
        loaded = conf_list_add(load, &load->conf->loaded, sizeof(*loaded));
        refs = loaded ? malloc(sizeof(*refs)) : NULL;
        if (refs) {
            *refs = 1;
            *loaded = (struct conf_plugin){ plugin, handle, refs };
            return filters_add(load, plugin);
        }
        load->nomem = true;
        load->conf->loaded.count -= loaded != NULL;
        if (PLUGIN_HAS(plugin, fini))
            plugin->fini();
    }
    dlclose(handle);
    return false;
}

void conf_plugins_load(struct conf_load *load)
{
    struct conf_pair *pair = load->root && load->root->kind == CONF_MAP
                                 ? conf_node_find(load->root, WEIR_STR("plugins"))
                                 : NULL;
    struct conf_node *one = pair ? pair->value : NULL, **items = &one;
    struct weir_strs *paths = &load->conf->plugins;
    size_t count = 1;

    if (!one || conf_node_null(one))
        return;
    if (one->kind == CONF_LIST) {
        items = one->items;
        count = one->count;
    }
    if (count > CONF_PLUGINS_MAX) {
        conf_error(load, &one->mark, "more than %d plug-ins", CONF_PLUGINS_MAX);
        load->plugins_unread = true;
        return;
    }
    paths->at = conf_alloc(load, count * sizeof(*paths->at));
    for (size_t i = 0; paths->at && i < count; i++)
        if (!plugin_load(load, items[i], &paths->at[paths->count++]))
            load->plugins_unread = true;
}

void conf_plugins_free(struct weir_conf *conf)
{
    struct conf_plugin *loaded = conf->loaded.at;

    for (size_t i = conf->loaded.count; i-- > 0;) {
        const struct weir_plugin *plugin = loaded[i].plugin;

        if (--*loaded[i].refs)
            continue;
        free(loaded[i].refs);
        if (PLUGIN_HAS(plugin, fini))
            plugin->fini();
        dlclose(loaded[i].handle);
    }
}

/* ---- the row: what it says was loaded before ---- */

static void plugins_parse(struct conf_load *load, const struct weir_conf_item *item,
                          const struct conf_pair *pair, void *base, const struct conf_where *where)
{
}

static void plugins_print(struct conf_printer *printer, const struct weir_conf_item *item,
                          const void *base)
{
    struct weir_conf_item rows[2] = { *item, { 0 } };

    rows[0].type = WEIR_CONF_STRS;
    rows[0].custom = NULL;
    conf_print_rows(printer, rows, base);
}

const struct weir_conf_custom conf_plugins_custom = { plugins_parse, plugins_print,
                                                      CONF_SHAPE_TEXT | CONF_SHAPE_LIST };
