/* SPDX-License-Identifier: Apache-2.0 */
/**
 * loader.h: the BPF programs of weir: loading and pinning them (privileged), making the table of weir/kern.h of their
 * descriptors (needs no capability), and proving on this host what the table is relied on for.
 *
 *   weir_kern_open ─▶ weir_kern_splice_fds ─▶ … perhaps to another process … ─▶ weir_splice_use ─▶ weir_splice_selftest
 *
 * libbpf is called in this folder alone. One skeleton a feature: one that is refused takes no other down.
 */
#ifndef LOADER_LOADER_H
#define LOADER_LOADER_H

#include "weir/kern.h"

#include <stdio.h>

/* ---- the table ---------------------------------------------------------------------------- */

/** The descriptors that the table is made of. They stay the caller's, and open as long as the table is in use. */
struct weir_splice_fds {
    int src, dst, pair, flow, held, count; /* the maps of bpf/sockmap.bpf.c */
    int link;                              /* holds the program at its map; -1: none does */
    int cpus;                              /* possible ones, by which counters are kept */
    unsigned ring_base;                    /* ring[0] is entry ring_base of weir_sp_ring */
    unsigned ring_count;
    int ring[WEIR_SP_RINGS_MAX];
};

/** -EBADF, -ENOMEM, or what the kernel says when they are none of these maps. */
int weir_splice_use(const struct weir_splice_fds *fds,
                    struct weir_splice_kern **kern) WEIR_MUST_CHECK;
void weir_splice_done(struct weir_splice_kern **kern);
/** weir_splice_ops.id, of the map of pairs; 0: it is none. */
uint32_t weir_splice_id(int pair);
/** SO_COOKIE; 0: it has none (no socket). */
uint64_t weir_splice_cookie(int fd);
/** The sentence for a verdict. Static. */
const char *weir_sp_why_text(unsigned why);

/* ---- the self-tests ----------------------------------------------------------------------- */

/** One thing that the mover relies on, seen on this host or not. */
struct weir_splice_finding {
    const char *name; /* "bytes queued before" */
    bool good;
    bool gates; /* without it nothing is spliced */
    char why[160];
};
enum { WEIR_SPLICE_FINDINGS_MAX = 12 };

/** Over loopback, some milliseconds; nothing of it stays. The number of findings; -errno: it could not be run. */
int weir_splice_selftest(struct weir_splice_kern *kern, unsigned ring,
                         struct weir_splice_finding findings[WEIR_SPLICE_FINDINGS_MAX])
    WEIR_MUST_CHECK;
/** The first that gates and is not good; NULL: there is none. */
const struct weir_splice_finding *weir_splice_refuted(const struct weir_splice_finding *findings,
                                                      int count);

/* ---- loading: libweir-kern ---------------------------------------------------------------- */

struct weir_kern;

struct weir_kern_opts {
    size_t size;
    const char *instance;  /* names the pins; NULL: nothing is pinned */
    const char *bpffs;     /* NULL: /sys/fs/bpf */
    unsigned ring_base;    /* who shares the maps with another process takes other rings */
    unsigned rings;        /* 0: 1 */
    uint64_t bound_bytes;  /* of a direction; 0: WEIR_SP_BOUND_BYTES */
    uint64_t memory_bytes; /* of all directions; 0: 256 MiB */
    bool shared;           /* another process uses these pins now: what it holds is left alone */
    bool replace;          /* what stands in the way of the pins, and is none of ours */
    bool credit;           /* do as if CAP_PERFMON were missing, */
    bool no_link;          /*   as if the kernel had no links for sockmaps */
};

/** Why there is none, or how it is, in sentences for the operator. */
struct weir_kern_fault {
    char text[400];
    char todo[200];
};

/** What is there, for `doctor` and `kern status`. */
struct weir_kern_state {
    bool pinned, adopted; /* below `pins`; the maps were there from before */
    bool by_link;         /* false: attached to the map by BPF_PROG_ATTACH */
    bool looks; /* the program may read the target's progress; false: credit of user space */
    const char *pins;
    char note[200]; /* what it does without, "" when nothing is missing */
};

/**
 * Loads, attaches, pins. Pins of the same ABI are used again with all that is in them; a failed call undoes what it has
 * made, and nothing else. -EPERM, -ENOTSUP, -EEXIST (foreign pins), or what the kernel said; `fault` tells.
 */
int weir_kern_open(struct weir_kern **kern, const struct weir_kern_opts *opts,
                   struct weir_kern_fault *fault) WEIR_MUST_CHECK;
/** `detach`: pins and attachments go too; otherwise they stay for the next start. */
void weir_kern_close(struct weir_kern **kern, bool detach);
void weir_kern_state(const struct weir_kern *kern, struct weir_kern_state *state);
/** Borrowed: they are closed by weir_kern_close. */
const struct weir_splice_fds *weir_kern_splice_fds(const struct weir_kern *kern);

/** Prints what is pinned below `bpffs` (NULL: /sys/fs/bpf), of one instance or (NULL) all. The number of instances, or -errno. */
int weir_kern_list(const char *bpffs, const char *instance, bool json, FILE *out);
/** "1.1": of libbpf. Static. */
const char *weir_kern_libbpf(void);
/** Each instance that has pins; stops at the first answer that is not 0, and returns it. -errno: it could not be looked. */
int weir_kern_each(const char *bpffs, int (*fn)(void *arg, const char *instance), void *arg);
/** Detaches and unpins all that is pinned of an instance, of every ABI. The number of things taken away, or -errno with *what. */
int weir_kern_unload(const char *bpffs, const char *instance, char *what, size_t size);
/** The same of every ABI but this one, whose programs and maps are in use. */
int weir_kern_unload_others(const char *bpffs, const char *instance, int abi, char *what,
                            size_t size);

#endif
