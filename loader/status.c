/* SPDX-License-Identifier: Apache-2.0 */
/** status.c: what is pinned, by whom, told and taken away. Knows the folders (pin.c) and no feature. */
#include "kern_priv.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const kinds[] = { "links", "progs", "maps" };

typedef int (*visit_fn)(void *arg, const char *path, const char *name);

/* Each entry of a folder; none when there is no such folder. Stops at the first that is not 0. */
static int visit(const char *dir, visit_fn fn, void *arg)
{
    DIR *stream = opendir(dir);
    struct dirent *entry;
    char path[PATH_MAX];
    int err = 0;

    if (!stream)
        return errno == ENOENT ? 0 : -errno;
    while (!err && (entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name) < (int)sizeof(path))
            err = fn(arg, path, entry->d_name);
    }
    closedir(stream);
    return err;
}

/* ---- taking away -------------------------------------------------------------------------- */

struct removal {
    int count;
    char *what;
    size_t size;
    const char *stays; /* "v1"; NULL: nothing does */
};

static int remove_pin(void *arg, const char *path, const char *name)
{
    struct removal *removal = arg;

    (void)name;
    if (unlink(path) == 0) {
        removal->count++;
        return 0;
    }
    snprintf(removal->what, removal->size, "%s: %s", path, strerror(errno));
    return -errno;
}

static int remove_version(void *arg, const char *dir, const char *name)
{
    struct removal *removal = arg;
    char path[PATH_MAX];
    int err = 0;

    if (removal->stays && strcmp(name, removal->stays) == 0)
        return 0;
    kern_detach(dir);
    for (size_t i = 0; !err && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, kinds[i]);
        err = visit(path, remove_pin, arg);
        if (!err && rmdir(path) != 0 && errno != ENOENT)
            err = -errno;
    }
    if (!err && rmdir(dir) != 0)
        err = -errno;
    if (err && !removal->what[0])
        snprintf(removal->what, removal->size, "%s: %s", dir, strerror(-err));
    return err;
}

/* The folders above go with the last that is in them. */
static void remove_parents(const char *dir, int levels)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s", dir);
    for (int i = 0; i < levels && rmdir(path) == 0; i++) {
        char *slash = strrchr(path, '/');

        if (!slash)
            return;
        *slash = '\0';
    }
}

void kern_pins_remove(const char *dir)
{
    char what[200] = "", parent[PATH_MAX];
    struct removal removal = { 0, what, sizeof(what), NULL };
    char *slash;

    (void)remove_version(&removal, dir, "");
    snprintf(parent, sizeof(parent), "%s", dir);
    slash = strrchr(parent, '/');
    if (slash) {
        *slash = '\0';
        remove_parents(parent, 2);
    }
}

static int unload(const char *bpffs, const char *instance, struct removal *removal)
{
    char dir[PATH_MAX / 4];
    int err;

    removal->what[0] = '\0';
    kern_instance_dir(dir, sizeof(dir), bpffs, instance);
    if (access(dir, F_OK) != 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    err = visit(dir, remove_version, removal);
    if (err)
        return err;
    remove_parents(dir, 2);
    return removal->count;
}

int weir_kern_unload(const char *bpffs, const char *instance, char *what, size_t size)
{
    struct removal removal = { 0, what, size, NULL };

    return unload(bpffs, instance, &removal);
}

int weir_kern_unload_others(const char *bpffs, const char *instance, int abi, char *what,
                            size_t size)
{
    char stays[16];
    struct removal removal = { 0, what, size, stays };

    snprintf(stays, sizeof(stays), "v%d", abi);
    return unload(bpffs, instance, &removal);
}

/* ---- telling ------------------------------------------------------------------------------ */

struct telling {
    FILE *out;
    bool json;
    int instances, lines;
    const char *instance, *version, *kind;
};

/* Keys of a hash that are in use; -1: not a map that is counted so. */
static long entries_of(int fd, const struct bpf_map_info *info)
{
    __u8 key[64], next[64];
    long count = 0;

    if ((info->type != BPF_MAP_TYPE_HASH && info->type != BPF_MAP_TYPE_SOCKHASH) ||
        info->key_size > sizeof(key))
        return -1;
    for (bool first = true; bpf_map_get_next_key(fd, first ? NULL : key, next) == 0;
         first = false) {
        memcpy(key, next, info->key_size);
        if (++count > 2L * WEIR_SP_PAIRS_MAX)
            break; /* it changes while it is read */
    }
    return count;
}

static void tell_map(int fd, char *text, size_t size, unsigned *id)
{
    struct bpf_map_info info = { 0 };
    __u32 len = sizeof(info);
    long count;

    if (bpf_obj_get_info_by_fd(fd, &info, &len))
        return;
    *id = info.id;
    count = entries_of(fd, &info);
    if (count >= 0)
        snprintf(text, size, "%ld of %u entries", count, info.max_entries);
    else
        snprintf(text, size, "%u entries", info.max_entries);
}

static void tell_prog(int fd, char *text, size_t size, unsigned *id)
{
    struct bpf_prog_info info = { 0 };
    __u32 len = sizeof(info);

    if (bpf_obj_get_info_by_fd(fd, &info, &len))
        return;
    *id = info.id;
    snprintf(text, size, "%u bytes of machine code, run %llu times", info.jited_prog_len,
             (unsigned long long)info.run_cnt);
    if (!info.run_cnt) /* kernel.bpf_stats_enabled is off */
        snprintf(text, size, "%u bytes of machine code", info.jited_prog_len);
}

static void tell_link(int fd, char *text, size_t size, unsigned *id)
{
    struct bpf_link_info info = { 0 };
    __u32 len = sizeof(info);

    if (bpf_obj_get_info_by_fd(fd, &info, &len))
        return;
    *id = info.id;
    snprintf(text, size, "of program %u", info.prog_id);
}

static int tell_pin(void *arg, const char *path, const char *name)
{
    struct telling *telling = arg;
    char text[80] = "cannot be read";
    unsigned id = 0;
    int fd = bpf_obj_get(path);

    if (fd >= 0) {
        if (telling->kind[0] == 'm')
            tell_map(fd, text, sizeof(text), &id);
        else if (telling->kind[0] == 'p')
            tell_prog(fd, text, sizeof(text), &id);
        else
            tell_link(fd, text, sizeof(text), &id);
        close(fd);
    }
    if (telling->json)
        fprintf(telling->out,
                "%s{\"instance\":\"%s\",\"abi\":\"%s\",\"kind\":\"%.*s\",\"name\":\"%s\",\"id\":%u,"
                "\"what\":\"%s\"}",
                telling->lines ? "," : "", telling->instance, telling->version,
                (int)strlen(telling->kind) - 1, telling->kind, name, id, text);
    else
        fprintf(telling->out, "%-12s %-4s %-5.*s %-15s id %-6u %s\n", telling->instance,
                telling->version, (int)strlen(telling->kind) - 1, telling->kind, name, id, text);
    telling->lines++;
    return 0;
}

static int tell_version(void *arg, const char *dir, const char *name)
{
    struct telling *telling = arg;
    char path[PATH_MAX];
    int err = 0;

    telling->version = name;
    for (size_t i = 0; !err && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        telling->kind = kinds[i];
        snprintf(path, sizeof(path), "%s/%s", dir, kinds[i]);
        err = visit(path, tell_pin, telling);
    }
    return err;
}

/* The instance's own name (pin.c, kern_instance_dir). */
static void plain_name(char out[NAME_MAX + 1], const char *name)
{
    snprintf(out, NAME_MAX + 1, "%s", name);
    for (char *at = out; *at; at++)
        if (*at == '%')
            *at = '.';
}

static int tell_instance(void *arg, const char *dir, const char *name)
{
    struct telling *telling = arg;
    char plain[NAME_MAX + 1];

    plain_name(plain, name);
    telling->instance = plain;
    telling->instances++;
    return visit(dir, tell_version, telling);
}

int weir_kern_list(const char *bpffs, const char *instance, bool json, FILE *out)
{
    struct telling telling = { .out = out, .json = json };
    char dir[PATH_MAX / 4];
    int err;

    if (json)
        fputc('[', out);
    kern_instance_dir(dir, sizeof(dir), bpffs, instance ? instance : "");
    if (instance)
        err = access(dir, F_OK) == 0 ? tell_instance(&telling, dir, strrchr(dir, '/') + 1) : 0;
    else
        err = visit(dir, tell_instance, &telling);
    if (json)
        fputs("]\n", out);
    return err ? err : telling.instances;
}

struct each {
    int (*fn)(void *arg, const char *instance);
    void *arg;
};

static int each_instance(void *arg, const char *dir, const char *name)
{
    const struct each *each = arg;
    char plain[NAME_MAX + 1];

    (void)dir;
    plain_name(plain, name);
    return each->fn(each->arg, plain);
}

int weir_kern_each(const char *bpffs, int (*fn)(void *arg, const char *instance), void *arg)
{
    struct each each = { fn, arg };
    char dir[PATH_MAX / 4];

    kern_instance_dir(dir, sizeof(dir), bpffs, "");
    return visit(dir, each_instance, &each);
}
