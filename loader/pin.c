/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pin.c: pins below <bpffs>/weir/<instance>/v<abi>/{maps,progs,links}. A pin that is there is used again when it is what we
 * would have made, and is otherwise in the way: nothing foreign is replaced unless that was asked for. What a start has made
 * is remembered in order, and undone backwards when it fails.
 */
#include "kern_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BPFFS_MAGIC 0xcafe4a11

static int made(struct kern_pins *pins, const char *path)
{
    char *copy = strdup(path);

    if (!copy || pins->made_count == KERN_MADE_MAX) {
        free(copy);
        return -ENOMEM;
    }
    pins->made[pins->made_count++] = copy;
    return 0;
}

void kern_pins_keep(struct kern_pins *pins)
{
    while (pins->made_count)
        free(pins->made[--pins->made_count]);
}

void kern_pins_undo(struct kern_pins *pins)
{
    while (pins->made_count) {
        char *path = pins->made[--pins->made_count];

        if (unlink(path) != 0) /* a folder; not an empty one: somebody else's pins are in it */
            (void)rmdir(path);
        free(path);
    }
}

static void pin_path(const struct kern_pins *pins, char *out, size_t size, const char *kind,
                     const char *name)
{
    snprintf(out, size, "%s/%s/%s", pins->dir, kind, name);
}

void kern_instance_dir(char *out, size_t size, const char *bpffs, const char *instance)
{
    size_t from = (size_t)snprintf(out, size, "%s/weir/", bpffs ? bpffs : KERN_BPFFS);

    if (from >= size)
        return;
    snprintf(out + from, size - from, "%s", instance);
    for (char *at = out + from; *at; at++)
        if (*at == '.')
            *at = '%';
}

static int make_dir(struct kern_pins *pins, const char *path, struct weir_kern_fault *fault)
{
    if (mkdir(path, 0700) == 0)
        return made(pins, path);
    if (errno == EEXIST)
        return 0;
    kern_fault_set(fault, "", "%s cannot be made: %s", path, strerror(errno));
    return -errno;
}

/* Each folder on the way, from the mount point on. */
static int make_dirs(struct kern_pins *pins, size_t from, struct weir_kern_fault *fault)
{
    static const char *const kinds[] = { "maps", "progs", "links" };
    char path[PATH_MAX];
    int err = 0;

    for (size_t i = from; !err && i <= strlen(pins->dir); i++) {
        if (pins->dir[i] != '/' && pins->dir[i] != '\0')
            continue;
        snprintf(path, sizeof(path), "%.*s", (int)i, pins->dir);
        err = make_dir(pins, path, fault);
    }
    for (size_t i = 0; !err && i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", pins->dir, kinds[i]);
        err = make_dir(pins, path, fault);
    }
    return err;
}

int kern_pins_open(struct kern_pins *pins, const struct weir_kern_opts *opts,
                   struct weir_kern_fault *fault)
{
    const char *bpffs = opts->bpffs ? opts->bpffs : KERN_BPFFS;
    char dir[PATH_MAX / 8];
    struct statfs fs;
    int err;

    *pins = (struct kern_pins){ .on = false };
    if (!opts->instance)
        return 0;
    if (statfs(bpffs, &fs) != 0 || (unsigned long)fs.f_type != BPFFS_MAGIC) {
        kern_fault_set(fault, "mount -t bpf bpf /sys/fs/bpf",
                       "nothing is pinned: there is no BPF filesystem at %s", bpffs);
        return -ENOTSUP;
    }
    kern_instance_dir(dir, sizeof(dir), bpffs, opts->instance);
    snprintf(pins->dir, sizeof(pins->dir), "%s/v%d", dir, WEIR_ABI);
    err = make_dirs(pins, strlen(bpffs) + 1, fault);
    if (err) {
        kern_pins_undo(pins);
        return err;
    }
    pins->on = true;
    return 0;
}

int kern_pin_get(const struct kern_pins *pins, const char *kind, const char *name)
{
    char path[PATH_MAX];

    if (!pins->on)
        return -ENOENT;
    pin_path(pins, path, sizeof(path), kind, name);
    return bpf_obj_get(path);
}

int kern_pin_drop(const struct kern_pins *pins, const char *kind, const char *name)
{
    char path[PATH_MAX];

    pin_path(pins, path, sizeof(path), kind, name);
    return unlink(path) == 0 ? 0 : -errno;
}

int kern_pin_fd(struct kern_pins *pins, int fd, const char *kind, const char *name,
                struct weir_kern_fault *fault)
{
    char path[PATH_MAX];
    int err;

    if (!pins->on)
        return 0;
    pin_path(pins, path, sizeof(path), kind, name);
    err = bpf_obj_pin(fd, path);
    if (!err)
        return made(pins, path);
    kern_fault_set(fault, "", "%s cannot be pinned: %s", path, strerror(-err));
    return err;
}

/* Is it what the object would make? */
static bool same_map(int fd, const struct bpf_map *map)
{
    struct bpf_map_info info = { 0 };
    __u32 len = sizeof(info);

    return bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type == bpf_map__type(map) &&
           info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
           info.max_entries == bpf_map__max_entries(map) &&
           info.map_flags == bpf_map__map_flags(map);
}

static int adopt_map(struct kern_pins *pins, struct bpf_map *map, bool replace,
                     struct weir_kern_fault *fault)
{
    int fd = kern_pin_get(pins, "maps", bpf_map__name(map)), err;

    if (fd == -ENOENT)
        return 0;
    if (fd >= 0 && same_map(fd, map)) {
        err = bpf_map__reuse_fd(map, fd);
        close(fd);
        pins->adopted = pins->adopted || !err;
        return err;
    }
    if (fd >= 0)
        close(fd);
    if (!replace) {
        kern_fault_set(fault, "look at it with bpftool; `weir kern unload` takes it away",
                       "%s/maps/%s is there and is not what this weir makes", pins->dir,
                       bpf_map__name(map));
        return -EEXIST;
    }
    return kern_pin_drop(pins, "maps", bpf_map__name(map));
}

int kern_pins_adopt(struct kern_pins *pins, struct bpf_object *object, bool replace,
                    struct weir_kern_fault *fault)
{
    struct bpf_map *map;
    int err = 0;

    if (!pins->on)
        return 0;
    bpf_object__for_each_map(map, object)
    {
        if (!err && !bpf_map__is_internal(map))
            err = adopt_map(pins, map, replace, fault);
    }
    return err;
}

int kern_pins_store(struct kern_pins *pins, struct bpf_object *object,
                    struct weir_kern_fault *fault)
{
    struct bpf_map *map;
    int err = 0;

    if (!pins->on)
        return 0;
    bpf_object__for_each_map(map, object)
    {
        int fd;

        if (err || bpf_map__is_internal(map))
            continue;
        fd = kern_pin_get(pins, "maps", bpf_map__name(map));
        if (fd >= 0)
            close(fd); /* that one is used */
        else
            err = kern_pin_fd(pins, bpf_map__fd(map), "maps", bpf_map__name(map), fault);
    }
    return err;
}
