/* SPDX-License-Identifier: Apache-2.0 */
/* conf_file.c: the files of a configuration: read, included, merged into one tree. */
#include "daemon/conf_internal.h"

#include <errno.h>

int conf_slurp(struct conf_load *load, const char *path, size_t max, struct weir_str *text)
{
    struct weir_file file;
    int err = weir_files_read(load->door, path, max, &file);

    *text = (struct weir_str){ NULL, 0 };
    if (err)
        return err;
    *text = weir_arena_copy(&load->scratch, (struct weir_str){ file.data, file.len });
    weir_file_drop(&file);
    return text->ptr ? 0 : -ENOMEM;
}

static struct weir_str dir_of(struct weir_str path)
{
    while (path.len && path.ptr[path.len - 1] != '/')
        path.len--;
    return path;
}

struct weir_str conf_path(struct conf_load *load, const struct conf_mark *mark,
                          struct weir_str path)
{
    struct weir_str dir = mark && mark->file ? mark->file->dir : WEIR_STR("");
    struct weir_str joined;
    char *at;

    if (path.len == 0 || path.ptr[0] == '/')
        dir.len = 0;
    at = weir_arena_text(&load->conf->arena, dir.len + path.len + 1);
    if (!at) {
        load->nomem = true;
        return (struct weir_str){ NULL, 0 };
    }
    joined = (struct weir_str){ at, dir.len + path.len };
    memcpy(at, dir.ptr, dir.len);
    if (path.len)
        memcpy(at + dir.len, path.ptr, path.len);
    at[joined.len] = 0;
    conf_secret_copied(load, path, joined);
    return joined;
}

static struct conf_file *file_new(struct conf_load *load, struct weir_str name, unsigned depth)
{
    struct conf_file *file = weir_arena_zalloc(&load->scratch, sizeof(*file));

    if (!file) {
        load->nomem = true;
        return NULL;
    }
    file->name = weir_arena_copy(&load->scratch, name);
    file->dir = dir_of(file->name);
    file->depth = depth;
    file->index = load->file_count++;
    *load->files_end = file;
    load->files_end = &file->next;
    return file;
}

static struct conf_file *file_find(struct conf_load *load, const struct weir_file *seen)
{
    for (struct conf_file *file = load->files; file; file = file->next)
        if (file->ino == seen->ino && file->dev == seen->dev && file->ino)
            return file;
    return NULL;
}

/* Reads a file; `mark`: the include that asks for it, NULL for the first. */
static struct conf_file *file_read(struct conf_load *load, const char *path,
                                   const struct conf_mark *mark, unsigned depth)
{
    struct conf_file *file = NULL;
    struct weir_file seen = { 0 };
    int err = weir_files_read(load->door, path, CONF_FILE_BYTES_MAX, &seen);
    bool again = !err && file_find(load, &seen);

    if (again)
        conf_error(load, mark, "'%.*s' is included already, or includes itself",
                   CONF_QUOTE(weir_str(path)));
    else if (!err)
        file = file_new(load, weir_str(path), depth);
    if (file) {
        file->dev = seen.dev;
        file->ino = seen.ino;
        file->text = weir_arena_copy(&load->scratch, (struct weir_str){ seen.data, seen.len });
        err = file->text.ptr ? 0 : -ENOMEM;
    }
    weir_file_drop(&seen);
    if (err == -EFBIG)
        conf_error(load, mark, "'%.*s' is larger than %d MiB", CONF_QUOTE(weir_str(path)),
                   CONF_FILE_BYTES_MAX >> 20);
    else if (err)
        conf_error(load, mark, "cannot read '%.*s': %s", CONF_QUOTE(weir_str(path)),
                   weir_files_fault(err));
    return err ? NULL : file;
}

static void merge_pair(struct conf_load *load, struct conf_node *into, const struct conf_pair *pair,
                       bool deeper);

static void merge_map(struct conf_load *load, struct conf_node *into, const struct conf_node *from,
                      bool deeper)
{
    for (size_t i = 0; i < from->count; i++)
        if (!deeper || !weir_str_eq(from->pairs[i].key, WEIR_STR("include")))
            merge_pair(load, into, &from->pairs[i], deeper);
}

/* Sections of one name become one; a name in a section, or a setting, may be there once. */
static void merge_pair(struct conf_load *load, struct conf_node *into, const struct conf_pair *pair,
                       bool deeper)
{
    struct conf_pair *first = conf_node_find(into, pair->key);
    struct conf_node *own;

    if (!first) {
        if (!conf_node_add(load, into, pair))
            load->nomem = true;
    } else if (deeper && conf_node_null(first->value)) {
        *first = *pair;
    } else if (deeper && first->value->kind == CONF_MAP && pair->value->kind == CONF_MAP) {
        /* an alias may share the map that is there: merge into a copy */
        own = conf_node_map(load, first->value->mark, first->value->pairs, first->value->count);
        if (own) {
            first->value = own;
            merge_map(load, own, pair->value, false);
        }
    } else if (!deeper || !conf_node_null(pair->value)) {
        conf_error(load, &pair->mark, "'%.*s' is there twice; first at %s", CONF_QUOTE(pair->key),
                   conf_mark_text(load, &first->mark));
    }
}

static void include_all(struct conf_load *load, const struct conf_file *from,
                        const struct conf_node *node);

/* One file into load->root. */
static void file_merge(struct conf_load *load, const struct conf_file *file)
{
    struct conf_node *root = conf_node_parse(load, file);
    struct conf_pair *include;

    if (!root || conf_node_null(root))
        return;
    if (root->kind != CONF_MAP) {
        conf_error(load, &root->mark, "a configuration is a map of sections, not %s",
                   conf_kind_name(root->kind));
        return;
    }
    include = conf_node_find(root, WEIR_STR("include"));
    if (!load->root)
        load->root = root;
    else
        merge_map(load, load->root, root, true);
    if (include && !conf_node_null(include->value)) /* the rows say what is wrong with that */
        include_all(load, file, include->value);
}

static void include_path(struct conf_load *load, const struct conf_file *from,
                         const struct conf_node *node, const char *path)
{
    struct conf_file *file;

    if (from->depth + 1 > CONF_INCLUDE_DEPTH_MAX) {
        conf_error(load, &node->mark, "files include each other more than %d levels deep",
                   CONF_INCLUDE_DEPTH_MAX);
        return;
    }
    if (load->file_count >= CONF_FILES_MAX) {
        conf_error(load, &node->mark, "more than %d files", CONF_FILES_MAX);
        return;
    }
    file = file_read(load, path, &node->mark, from->depth + 1);
    if (file)
        file_merge(load, file);
}

static void include_one(struct conf_load *load, const struct conf_file *from,
                        const struct conf_node *node)
{
    struct weir_str path, pattern;
    struct weir_file found;
    const char *match;
    size_t at = 0;
    int err;

    if (!conf_value_text(load, NULL, node, &path))
        return;
    pattern = conf_path(load, &node->mark, path);
    if (!pattern.ptr || load->no_includes)
        return;
    if (!strpbrk(pattern.ptr, "*?[")) {
        include_path(load, from, node, pattern.ptr);
        return;
    }
    err = weir_files_glob(load->door, pattern.ptr, &found);
    if (err == -ENOMEM)
        load->nomem = true;
    else if (err)
        conf_error(load, &node->mark, "cannot list '%.*s': %s", CONF_QUOTE(pattern),
                   weir_files_fault(err));
    while (!err && (match = weir_file_next(&found, &at))) /* sorted; none is no error */
        include_path(load, from, node, match);
    weir_file_drop(&found);
}

static void include_all(struct conf_load *load, const struct conf_file *from,
                        const struct conf_node *node)
{
    if (node->kind == CONF_MAP)
        conf_error(load, &node->mark, "'include' is a path or a list of paths");
    else if (node->kind == CONF_SCALAR)
        include_one(load, from, node);
    else
        for (size_t i = 0; i < node->count; i++)
            include_one(load, from, node->items[i]);
}

void conf_file_load(struct conf_load *load, const char *path, const struct weir_str *text)
{
    struct conf_file *file;

    load->no_includes = text && load->no_files; /* nothing was read, so nothing else is */
    if (text) {
        file = file_new(load, weir_str(path), 0);
        if (file)
            file->text = *text;
        if (file && text->len > CONF_FILE_BYTES_MAX) {
            conf_error(load, NULL, "larger than %d MiB", CONF_FILE_BYTES_MAX >> 20);
            return;
        }
    } else {
        file = file_read(load, path, NULL, 0);
    }
    if (file)
        file_merge(load, file);
}
