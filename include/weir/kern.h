/* SPDX-License-Identifier: Apache-2.0 */
/**
 * kern.h: the kernel as libweir knows it: a table of functions that it is given. The daemon gets it from loader/, which makes
 * it of descriptors of maps, and needs no capability for that: they may have come from another process.
 *
 * All return 0 (or a count) or -errno: what the kernel said is what decides here. No function is declared: only shapes.
 */
#ifndef WEIR_KERN_H
#define WEIR_KERN_H

#include "weir/abi.h"
#include "weir/types.h"

WEIR_BEGIN

/* ---- splice by sockmap: the table --------------------------------------------------------- */

/** How far a socket has come, as TCP counts. */
struct weir_splice_path {
    uint64_t received; /* bytes that have come in order, without the FIN */
    uint64_t written;  /* bytes that it was given to send; at least: never too many */
    bool established, fin_received;
};

/** What a freeze has changed, for the thaw. */
struct weir_splice_frost {
    int rcvbuf;
    int locks;
};

struct weir_splice_kern {
    const struct weir_splice_ops *ops;
};

/**
 * A direction goes through these in this order; `cookie` is that of the socket. Rules in numbers are
 * those of docs/kernel.md.
 *
 *   target_add ─▶ recv says EAGAIN ─▶ source_add ─▶ kick ─▶ (moving) ─▶ told by the ring, or by path and flow
 *   all taken ─▶ passed bytes: peeked, sent, consumed, never more than flow.passed_bytes ─▶ freeze, look again ─▶
 *   source_set (a new epoch: moving again), or source_del ─▶ thaw
 *
 * A socket that is closed leaves the maps by itself; source_forget then takes away what is left. Any thread; but calls for
 * one direction come one after the other.
 */
struct weir_splice_ops {
    /** May be redirected to from now on. -EOPNOTSUPP: not established any more. */
    int (*target_add)(struct weir_splice_kern *kern, uint64_t cookie, int fd);
    void (*target_del)(struct weir_splice_kern *kern, uint64_t cookie);
    /** Its bytes are judged from the next ones on. -EOPNOTSUPP: not established; -EBUSY: is a source already. */
    int (*source_add)(struct weir_splice_kern *kern, uint64_t cookie, int fd,
                      const struct weir_sp_pair *pair);
    int (*source_set)(struct weir_splice_kern *kern, uint64_t cookie,
                      const struct weir_sp_pair *pair);
    /** While frozen: its bytes are its owner's again. `last` may be NULL. */
    int (*source_del)(struct weir_splice_kern *kern, uint64_t cookie, struct weir_sp_flow *last);
    /** After its socket was closed: the entries, and what they held. */
    void (*source_forget)(struct weir_splice_kern *kern, uint64_t cookie);
    /** Is the socket in the map still? The kernel takes it out when it has ended both ways. */
    bool (*source_is)(struct weir_splice_kern *kern, uint64_t cookie);
    /** Either may be NULL. -ENOENT: it is no source. */
    int (*source_get)(struct weir_splice_kern *kern, uint64_t cookie, struct weir_sp_pair *pair,
                      struct weir_sp_flow *flow);

    /** SO_COOKIE; 0: no socket. */
    uint64_t (*cookie)(int fd);
    /** What was queued before source_add is judged now (rule 6). */
    int (*kick)(int fd);
    /** The verdict is held back, but for what is more than 1 MiB (rule 8). */
    int (*freeze)(int fd, struct weir_splice_frost *frost);
    /** The receive buffer is as it was before (rule 16). */
    int (*thaw)(int fd, const struct weir_splice_frost *frost);
    /** The source lets in no more than a few hundred bytes, beyond what its sender may send already: not even a segment. Returns
     * the bound of before, for widen, or -errno. */
    int (*narrow)(int fd);
    int (*widen)(int fd, int bytes);
    int (*path)(int fd, struct weir_splice_path *path);

    /** A descriptor to wait on for this ring, readable when there are events; -ENOENT: there is no such ring. */
    int (*ring_fd)(struct weir_splice_kern *kern, unsigned ring);
    /** Hands out what came. One thread a ring. The number of events. */
    int (*ring_read)(struct weir_splice_kern *kern, unsigned ring,
                     void (*fn)(void *arg, const struct weir_sp_event *event), void *arg);

    /** Of all directions together (rule 17). */
    void (*set_ceiling)(struct weir_splice_kern *kern, uint64_t bytes);
    uint64_t (*held)(struct weir_splice_kern *kern);
    /** Which maps these are, of all on this host; 0: not known. Two processes that have the same number share them. */
    uint32_t (*id)(struct weir_splice_kern *kern);
    /** By enum weir_sp_why: the sums over all processors, since the maps were made. */
    int (*counts)(struct weir_splice_kern *kern, struct weir_sp_count sums[WEIR_SP_WHYS_COUNT]);
};

WEIR_END
#endif
