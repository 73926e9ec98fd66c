/* SPDX-License-Identifier: Apache-2.0 */
/**
 * keep.h: tunnels that outlive this process. Of a tunnel that the kernel moves somebody else is given copies of both sockets,
 * and a record of what the next process has to know: the daemon's keeper, by a table of functions (weir_keeping). A worker
 * says what it has to say in one message for all tunnels of a moment; what is not said before the process dies is not kept.
 *
 *   hold ──(the tunnel ends)──▶ let go        (the process dies) ──▶ the next one adopts: tunnel_light.h
 *                                  hand (at an upgrade: hand_over.c) ──▶ likewise
 */
#ifndef PROXY_KEEP_H
#define PROXY_KEEP_H

#include "accel/splice.h"

enum {
    WEIR_KEPT_VERSION = 1,
    WEIR_KEPT_MESSAGE_MAX = 120 /* tunnels; a message has 253 descriptors */
};

/** What a tunnel was, for the process that adopts it; for all others it is bytes. Names are hashed: a small record. */
struct weir_kept_record {
    uint32_t version; /* WEIR_KEPT_VERSION */
    uint32_t kern;    /* weir_splicer.kern_id */
    struct weir_splice_mark mark;
    uint64_t began_us; /* of the monotonic clock */
    uint64_t listener, route, upstream, server;
    uint32_t connect_us;
    uint16_t local_port, peer_port;
    uint8_t peer_ip[16], id[16];
    uint8_t attempts, used;
    uint8_t slot, peer_unix; /* 0: no; whatever a proxy that somebody had taken says */
    uint32_t zero;
};
_Static_assert(sizeof(struct weir_kept_record) == 128, "a tunnel costs its keeper little");

/** By side of the splice; the descriptors are whose the call says. */
struct weir_kept {
    int fd[2];
    struct weir_kept_record record;
};

/** Whoever keeps them. Any thread. 0; -EAGAIN: not now; or another -errno: nobody keeps any more. */
struct weir_keeping {
    int (*hold)(void *arg, const struct weir_kept *at, unsigned count);
    /** The same, and they are another process's from now on, which adopts them. Kept before or not. */
    int (*hand)(void *arg, const struct weir_kept *at, unsigned count);
    /** A tunnel is named by the cookie of its client's socket. `cut`: its connections end by RST when nobody has them any more. */
    int (*let_go)(void *arg, const uint64_t *cookies, unsigned count, bool cut);
    void *arg;
    unsigned max; /* of this process */
};

/** Of a worker. */
struct weir_keep {
    const struct weir_keeping *keeping; /* NULL: nobody keeps */
    _Atomic unsigned *total;            /* of all workers */
    struct weir_loop *loop;
    struct weir_timer timer;
    struct weir_kept *holds; /* to be said; room for WEIR_KEPT_MESSAGE_MAX */
    uint64_t *names;         /* of those */
    unsigned hold_count;
    struct {
        uint64_t *names;
        unsigned count, room;
    } gone[2]; /* cut: [1] */
    struct weir_splice_stats *stats;
};

void weir_keep_init(struct weir_keep *keep, struct weir_loop *loop, _Atomic unsigned *total,
                    struct weir_splice_stats *stats);
/** What was not said yet is said, if it can be. */
void weir_keep_fini(struct weir_keep *keep);
/** The descriptors stay the caller's, who has them until weir_keep_let_go. False: it is not kept. */
bool weir_keep_hold(struct weir_keep *keep, const struct weir_kept *kept, uint64_t cookie);
/** Now, or not: WEIR_KEPT_MESSAGE_MAX at most go on elsewhere. True: none is ours any more; where it was kept, weir_keep_gone. */
bool weir_keep_hand(struct weir_keep *keep, const struct weir_kept *kept, unsigned count);
/** One that was kept is kept for another process now. */
void weir_keep_gone(struct weir_keep *keep, uint64_t cookie);
void weir_keep_let_go(struct weir_keep *keep, uint64_t cookie, bool cut);
/** One that was kept before this process began counts as one of ours. */
void weir_keep_resume(struct weir_keep *keep);
void weir_keep_flush(struct weir_keep *keep);

/** A name, as records have it. */
uint64_t weir_kept_name(struct weir_str name);
/** What it is called; 0: it is none. */
uint64_t weir_kept_cookie(const struct weir_kept *kept);
/** Events that concern nobody. */
extern const struct weir_stream_sink weir_kept_nobody;

#endif
