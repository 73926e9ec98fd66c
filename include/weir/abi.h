/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause OR Apache-2.0 */
/**
 * abi.h: what the programs in the kernel and user space say to each other, and what `bpftool map dump` shows. Fixed widths,
 * no hidden padding, checked by both compilers. Maps are pinned below a folder that is named by WEIR_ABI: a change of
 * anything here that older programs would misread raises it.
 *
 * Splice by sockmap. A direction is a source socket and a target socket, known by their cookies (SO_COOKIE); a tunnel has
 * two. The source is in weir_sp_src, whose program redirects what it receives to the target, which is in weir_sp_dst.
 * User space writes struct weir_sp_pair and the program reads it; the program writes struct weir_sp_flow and user space
 * reads it: neither ever overwrites what the other has said.
 */
#ifndef WEIR_ABI_H
#define WEIR_ABI_H

#include <linux/types.h>

#define WEIR_ABI 1

#ifdef __cplusplus
#define WEIR_ABI_BYTES(name, bytes) static_assert(sizeof(struct name) == (bytes), #name)
#else
#define WEIR_ABI_BYTES(name, bytes) _Static_assert(sizeof(struct name) == (bytes), #name)
#endif

enum {
    WEIR_SP_PAIRS_MAX = 1 << 16,
    WEIR_SP_RINGS_MAX = 512,
    WEIR_SP_BOUND_BYTES = 1 << 20, /* redirected and not yet taken by the target, of a direction */
};

struct weir_sp_key {
    __u64 cookie;
};
WEIR_ABI_BYTES(weir_sp_key, 8);

enum weir_sp_state {
    WEIR_SP_PASSING = 0, /* all goes to user space, which reads */
    WEIR_SP_MOVING = 1,
};

/** What user space has decided about a direction; the key is the cookie of the source. */
struct weir_sp_pair {
    __u64 peer;        /* the cookie of the target */
    __u64 since_ns;    /* CLOCK_MONOTONIC */
    __u64 limit_bytes; /* moved_bytes never exceeds it; ~0: no limit */
    __u64 taken_bytes; /* of moved_bytes, known to be in the target: credit */
    __u64 read_bytes;  /* of passed_bytes, dealt with when the epoch began: all of them */
    __u64 token;       /* the owner's: it comes with each event */
    __u64 in_base;     /* the owner's: what the source had received before, */
    __u64 out_base;    /*   and what had been written to the target */
    __u32 epoch;       /* another one: begin anew, nothing is held, nothing is passed */
    __u32 state;       /* enum weir_sp_state */
    __u32 ring;        /* who is told when bytes are passed: index into weir_sp_ring */
    __u32 dealt;       /* the owner's: of passed_bytes, dealt with by now; the low half */
};
WEIR_ABI_BYTES(weir_sp_pair, 80);

/* What becomes of a piece, and why. */
/* clang-format off */
#define WEIR_SP_WHYS(X) \
    X(MOVED,    "redirected to the target") \
    X(FIN,      "an empty piece, which is a FIN: dropped here, user space ends the direction") \
    X(UNPAIRED, "passed: its pair is not known") \
    X(ASKED,    "passed: user space asked for it") \
    X(BOUND,    "passed: the target has not taken what it was given") \
    X(MEMORY,   "passed: all directions together hold splice_memory") \
    X(LIMIT,    "passed: it has more bytes than are left to move") \
    X(GONE,     "passed: the target is not there") \
    X(DOUBLED,  "passed: it begins with bytes that have come before (sent again by the peer)") \
    X(LATCHED,  "passed: something before it was, and user space has not read that yet")
/* clang-format on */

#define WEIR_SP_ENUM(name, text) WEIR_SP_##name,
enum weir_sp_why { WEIR_SP_WHYS(WEIR_SP_ENUM) WEIR_SP_WHYS_COUNT };
#undef WEIR_SP_ENUM

/** What has become of a direction; the key is the cookie of the source. */
struct weir_sp_flow {
    __u64 moved_bytes;
    __u64 moved_skbs;
    __u64 passed_bytes;
    __u64 held_bytes; /* of moved_bytes: at most so much has the target not taken yet */
    __u32 seq;        /* the target's write_seq when it was last looked at */
    __u32 epoch;
    __u32 latched; /* enum weir_sp_why: everything is passed since then; 0: nothing is */
    __u32 told;    /* its owner was */
    __u32 next;    /* the sequence number that the next piece begins with, */
    __u32 known;   /*   where it is known */
    __u32 broken; /* a piece has begun before that, or behind it: the direction can only be ended */
    __u32 pad;
};
WEIR_ABI_BYTES(weir_sp_flow, 64);

/** Per processor, an entry for each enum weir_sp_why. */
struct weir_sp_count {
    __u64 skbs;
    __u64 bytes;
    enum weir_sp_why why; /* the key, so that a dump names it */
    __u32 pad;
};
WEIR_ABI_BYTES(weir_sp_count, 24);

/** One entry, mapped by user space too. */
struct weir_sp_held {
    __u64 held_bytes;    /* the sum of all flows */
    __u64 ceiling_bytes; /* it never exceeds this */
};
WEIR_ABI_BYTES(weir_sp_held, 16);

/** In the ring of the direction's owner: from now on its bytes are passed to user space. */
struct weir_sp_event {
    __u64 token;
    __u64 cookie;
    __u32 why; /* enum weir_sp_why */
    __u32 epoch;
};
WEIR_ABI_BYTES(weir_sp_event, 24);

#endif
