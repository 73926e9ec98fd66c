/* SPDX-License-Identifier: Apache-2.0 */
/**
 * kern.c: open ─▶ rodata ─▶ load ─▶ pins ─▶ rings ─▶ attach, and all of it backwards.
 *
 * The program reads the progress of the target where it may (CAP_PERFMON). Where the kernel refuses that, the one that
 * does without is loaded.
 */
#include "kern_priv.h"
#include "weir_sockmap.skel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RING_BYTES = 64 * 1024, MEMORY_BYTES = 256 << 20 };

struct weir_kern {
    struct weir_sockmap *skel;
    struct bpf_program *program; /* of the skeleton's two */
    struct kern_pins pins;
    struct weir_splice_fds fds;
    int link; /* -1: attached without one */
    bool looks, adopted;
    char note[200];
};

/* ---- loading ------------------------------------------------------------------------------ */

static int load_once(struct weir_kern *kern, const struct weir_kern_opts *opts, bool looks,
                     struct weir_kern_fault *fault)
{
    int err;

    kern->skel = weir_sockmap__open();
    if (!kern->skel)
        return -errno;
    kern->program = looks ? kern->skel->progs.weir_splice : kern->skel->progs.weir_credit;
    (void)bpf_program__set_autoload(
        looks ? kern->skel->progs.weir_credit : kern->skel->progs.weir_splice, false);
    if (opts->bound_bytes)
        kern->skel->rodata->weir_bound = opts->bound_bytes;
    err = kern_pins_adopt(&kern->pins, kern->skel->obj, opts->replace, fault);
    if (!err) {
        err = weir_sockmap__load(kern->skel);
        if (err)
            kern_explain(fault, err, "the sockmap program is not loaded");
    }
    if (err) {
        weir_sockmap__destroy(kern->skel);
        kern->skel = NULL;
    }
    kern->looks = looks;
    return err;
}

static int load(struct weir_kern *kern, const struct weir_kern_opts *opts,
                struct weir_kern_fault *fault)
{
    struct kern_caps caps;
    int err;

    kern_caps_read(&caps);
    if (opts->credit || !caps.perfmon)
        return load_once(kern, opts, false, fault);
    err = load_once(kern, opts, true, fault);
    if (err && err != -EEXIST)
        err = load_once(kern, opts, false, fault);
    return err;
}

/* ---- rings -------------------------------------------------------------------------------- */

static int ring_make(struct weir_kern *kern, unsigned index)
{
    __u32 key = kern->fds.ring_base + index;
    int outer = bpf_map__fd(kern->skel->maps.weir_sp_ring), err;
    int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "weir_ring", 0, 0, RING_BYTES, NULL);

    if (fd < 0)
        return fd;
    err = bpf_map_update_elem(outer, &key, &fd, BPF_ANY);
    if (err) {
        close(fd);
        return err;
    }
    kern->fds.ring[kern->fds.ring_count++] = fd;
    return 0;
}

/* `keep`: who was given them goes on. */
static void rings_drop(struct weir_kern *kern, bool keep)
{
    while (kern->fds.ring_count) {
        __u32 key = kern->fds.ring_base + --kern->fds.ring_count;

        if (!keep)
            (void)bpf_map_delete_elem(bpf_map__fd(kern->skel->maps.weir_sp_ring), &key);
        close(kern->fds.ring[kern->fds.ring_count]);
    }
}

static int rings_make(struct weir_kern *kern, const struct weir_kern_opts *opts,
                      struct weir_kern_fault *fault)
{
    unsigned count = opts->rings ? opts->rings : 1;
    int err = 0;

    kern->fds.ring_base = opts->ring_base;
    if (opts->ring_base + count > WEIR_SP_RINGS_MAX)
        err = -E2BIG;
    for (unsigned i = 0; !err && i < count; i++)
        err = ring_make(kern, i);
    if (err) {
        kern_explain(fault, err, "no ring for events");
        rings_drop(kern, false);
    }
    return err;
}

/* ---- open and close ----------------------------------------------------------------------- */

static void fds_fill(struct weir_kern *kern)
{
    kern->fds.src = bpf_map__fd(kern->skel->maps.weir_sp_src);
    kern->fds.dst = bpf_map__fd(kern->skel->maps.weir_sp_dst);
    kern->fds.pair = bpf_map__fd(kern->skel->maps.weir_sp_pair);
    kern->fds.flow = bpf_map__fd(kern->skel->maps.weir_sp_flow);
    kern->fds.held = bpf_map__fd(kern->skel->maps.weir_sp_held);
    kern->fds.count = bpf_map__fd(kern->skel->maps.weir_sp_count);
    kern->fds.cpus = libbpf_num_possible_cpus();
}

static int settings(struct weir_kern *kern, const struct weir_kern_opts *opts)
{
    struct weir_sp_held held = { 0 };
    __u32 zero = 0;
    int err = bpf_map_lookup_elem(kern->fds.held, &zero, &held);

    held.ceiling_bytes = opts->memory_bytes ? opts->memory_bytes : MEMORY_BYTES;
    return err ? err : bpf_map_update_elem(kern->fds.held, &zero, &held, BPF_ANY);
}

static void notes(struct weir_kern *kern, bool credit)
{
    if (!kern->looks)
        snprintf(kern->note, sizeof(kern->note),
                 "%s: every %d KiB of a direction user space takes part",
                 credit ? "credit was asked for" : "CAP_PERFMON is missing or refused",
                 WEIR_SP_BOUND_BYTES / 1024);
}

int weir_kern_open(struct weir_kern **out, const struct weir_kern_opts *opts,
                   struct weir_kern_fault *fault)
{
    struct weir_kern *kern = calloc(1, sizeof(*kern));
    int err;

    *out = NULL;
    if (!kern)
        return -ENOMEM;
    kern_said_begin();
    kern->link = -1;
    err = kern_pins_open(&kern->pins, opts, fault);
    if (err == -ENOTSUP)
        snprintf(kern->note, sizeof(kern->note), "%.*s", (int)sizeof(kern->note) - 1, fault->text);
    else if (err)
        goto free;
    err = load(kern, opts, fault);
    if (err)
        goto unpin;
    kern->adopted = kern->pins.adopted;
    fds_fill(kern);
    err = kern_pins_store(&kern->pins, kern->skel->obj, fault);
    if (err)
        goto unload;
    if (kern->adopted && !opts->shared)
        kern_splice_sweep(&kern->fds);
    err = kern->adopted && opts->shared ? 0 : settings(kern, opts);
    if (!err)
        err = rings_make(kern, opts, fault);
    if (err)
        goto unload;
    err = kern_attach(&kern->pins, bpf_program__fd(kern->program), kern->fds.src, opts->no_link,
                      &kern->link, fault);
    if (err)
        goto unring;
    kern->fds.link = kern->link;
    notes(kern, opts->credit);
    kern_pins_keep(&kern->pins);
    *out = kern;
    return 0;
unring:
    rings_drop(kern, false);
unload:
    weir_sockmap__destroy(kern->skel);
unpin:
    kern_pins_undo(&kern->pins);
free:
    free(kern);
    return err;
}

void weir_kern_close(struct weir_kern **kernp, bool detach)
{
    struct weir_kern *kern = *kernp;

    *kernp = NULL;
    if (!kern)
        return;
    rings_drop(kern, !detach);
    if (detach && kern->link < 0)
        (void)bpf_prog_detach2(bpf_program__fd(kern->program), kern->fds.src,
                               BPF_SK_SKB_STREAM_VERDICT);
    if (detach && kern->pins.on)
        kern_pins_remove(kern->pins.dir);
    if (kern->link >= 0)
        close(kern->link);
    weir_sockmap__destroy(kern->skel);
    free(kern);
}

void weir_kern_state(const struct weir_kern *kern, struct weir_kern_state *state)
{
    *state = (struct weir_kern_state){ .pinned = kern->pins.on,
                                       .adopted = kern->adopted,
                                       .by_link = kern->link >= 0,
                                       .looks = kern->looks,
                                       .pins = kern->pins.dir };
    snprintf(state->note, sizeof(state->note), "%s", kern->note);
}

const struct weir_splice_fds *weir_kern_splice_fds(const struct weir_kern *kern)
{
    return &kern->fds;
}

const char *weir_kern_libbpf(void)
{
    const char *version = libbpf_version_string(); /* "v1.1" */

    return version + (version[0] == 'v');
}
