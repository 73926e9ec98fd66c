/* SPDX-License-Identifier: Apache-2.0 */
/**
 * attach.c: the verdict program to its map: by a link, which is pinned; where the kernel makes none for a sockmap (before
 * 6.10: EINVAL) by BPF_PROG_ATTACH, which lasts as long as the map does and is taken back by name.
 *
 * Sockets that are in the map keep the program that they came with; another one holds for those that come.
 */
#include "kern_priv.h"

#include <errno.h>
#include <unistd.h>

/* A link that was left by one that crashed: the same one goes on with our program. -ENOENT: there is none. */
static int renew(struct kern_pins *pins, int prog, int *link)
{
    int fd = kern_pin_get(pins, "links", KERN_PROG), err;

    if (fd < 0)
        return fd;
    err = bpf_link_update(fd, prog, NULL);
    if (!err) {
        *link = fd;
        return 0;
    }
    close(fd);
    (void)kern_pin_drop(pins, "links", KERN_PROG);
    return -ENOENT;
}

static int attach(int prog, int map, bool no_link, int *link, struct weir_kern_fault *fault)
{
    int fd = no_link ? -EINVAL : bpf_link_create(prog, map, BPF_SK_SKB_STREAM_VERDICT, NULL), err;

    if (fd >= 0) {
        *link = fd;
        return 0;
    }
    if (fd != -EINVAL && fd != -EOPNOTSUPP) {
        kern_explain(fault, fd, "the program is not attached to its map");
        return fd;
    }
    err = bpf_prog_attach(prog, map, BPF_SK_SKB_STREAM_VERDICT, 0);
    if (err)
        kern_explain(fault, err, "the program is not attached to its map");
    return err;
}

/* The pin is how a later start, and `kern unload`, find what was attached. */
static int pin_prog(struct kern_pins *pins, int prog, struct weir_kern_fault *fault)
{
    int err;

    if (!pins->on)
        return 0;
    err = kern_pin_drop(pins, "progs", KERN_PROG); /* that of who crashed */
    if (err && err != -ENOENT) {
        kern_fault_set(fault, "", "%s/progs/%s cannot be removed", pins->dir, KERN_PROG);
        return err;
    }
    return kern_pin_fd(pins, prog, "progs", KERN_PROG, fault);
}

int kern_attach(struct kern_pins *pins, int prog, int map, bool no_link, int *link,
                struct weir_kern_fault *fault)
{
    int err;

    *link = -1;
    if (renew(pins, prog, link) == 0)
        return pin_prog(pins, prog, fault);
    err = attach(prog, map, no_link, link, fault);
    if (err)
        return err;
    err = pin_prog(pins, prog, fault);
    if (!err && *link >= 0)
        err = kern_pin_fd(pins, *link, "links", KERN_PROG, fault);
    if (!err)
        return 0;
    if (*link >= 0)
        close(*link);
    else
        (void)bpf_prog_detach2(prog, map, BPF_SK_SKB_STREAM_VERDICT);
    *link = -1;
    return err;
}

void kern_detach(const char *dir)
{
    char path[PATH_MAX];
    int prog, map;

    snprintf(path, sizeof(path), "%s/progs/%s", dir, KERN_PROG);
    prog = bpf_obj_get(path);
    snprintf(path, sizeof(path), "%s/maps/weir_sp_src", dir);
    map = bpf_obj_get(path);
    if (prog >= 0 && map >= 0)
        (void)bpf_prog_detach2(prog, map,
                               BPF_SK_SKB_STREAM_VERDICT); /* by link: it goes with its pin */
    if (prog >= 0)
        close(prog);
    if (map >= 0)
        close(map);
}
