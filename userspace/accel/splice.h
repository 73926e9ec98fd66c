/* SPDX-License-Identifier: Apache-2.0 */
/**
 * splice.h: the bytes of two streams, each to the other: who moves them, and why nobody better does.
 *
 *   down ──direction DOWN──▶ up      a direction has the number of the side that its bytes come from
 *   down ◀──direction UP──── up
 *
 *   COPY ──the chooser: it pays, can()──▶ start() ──▶ PIPE | SOCKMAP ──leave() … weir_splice_left()──▶ COPY | another
 *
 * A splice is told of every event of both streams and hands each to the mover that has the direction; what all movers share
 * is here (splice.c): ends, half-close, errors, who is next. A mover (mover_copy.c, mover_pipe.c, …) is a table of functions
 * behind which a direction's bytes go; both directions have movers of their own, and each may change at any time.
 *
 * What always holds, whoever moves:
 *   - A byte belongs to one mover. It starts when nothing of the direction waits in this process (weir_stream_pending of the
 *     target is 0), and gives it back when it has handed over all that it took: nothing is lost, doubled or overtaken.
 *   - FIN of a side goes to the other after the bytes before it: flushed() says when. The other direction goes on.
 *   - A side that fails ends all by on_over; the owner then closes both by RST: never a clean end in the middle.
 *   - A side that takes nothing keeps its source from being read: what waits here is bounded by the mover, and less while
 *     memory is short (weir_splicer.tight).
 *   - No event comes inside a call of the owner but weir_splice_start and weir_splice_set_policy, which may end in on_over.
 *
 * Its memory is the owner's, until both on_closed have come. One loop, its thread.
 */
#ifndef ACCEL_SPLICE_H
#define ACCEL_SPLICE_H

#include "accel/splicer.h"
#include "net/stream.h"

/** Sides; and, as a direction, where the bytes come from. */
enum { WEIR_SPLICE_DOWN, WEIR_SPLICE_UP, WEIR_SPLICE_US /* in on_over: no side, this process */ };

/** What an operator has chosen for it. */
enum weir_splice_policy {
    WEIR_SPLICE_INHERIT, /* as the level above says; of a splice: auto */
    WEIR_SPLICE_AUTO,    /* copy, and pipe for what is large */
    WEIR_SPLICE_OFF,     /* copy */
    WEIR_SPLICE_COPY,    /* likewise */
    WEIR_SPLICE_PIPE,    /* wherever it can be, from the first byte on */
    WEIR_SPLICE_SOCKMAP, /* in the kernel, when it has lasted; else as auto */
};

struct weir_splice;
struct weir_splice_owner;

/** Upward door. */
struct weir_splice_sink {
    /**
     * It is over: both sides have ended and have been given all (WEIR_OK), or `side` has failed (WEIR_SPLICE_US: none has; a
     * mover, memory). Once. The owner calls weir_splice_stop and closes both streams, by RST unless WEIR_OK; now or later.
     */
    void (*on_over)(struct weir_splice_owner *owner, enum weir_err err, unsigned side);
    /** The stream of `side` has closed, and is gone. */
    void (*on_closed)(struct weir_splice_owner *owner, unsigned side);
    /** WEIR_SPLICE_LOOK_MS after the start, and when the owner has said by weir_splice_look_after: idle ones are ended here.
     * Bytes and activity are up to date; it may be moved. */
    void (*on_look)(struct weir_splice_owner *owner);
    /** Both directions are in the kernel now, and could outlive this process. May be NULL. */
    void (*on_moving)(struct weir_splice_owner *owner);
};

/** Embedded in whoever has a splice. */
struct weir_splice_owner {
    const struct weir_splice_sink *sink;
};

/** One direction; small: there may be very many. */
struct weir_splice_dir {
    uint8_t mover : 3; /* enum weir_mover: who has it */
    uint8_t next : 3;  /* leaving: who gets it */
    bool leaving : 1;  /* leave() was called, weir_splice_left was not */
    bool never : 1;    /* the chooser asks no more: `why` does not pass */
    uint8_t
        why : 5; /* enum weir_splice_why: why not somebody better; WEIR_WHY_none: it has the best */
    uint8_t small : 3; /* of pipe: small pieces in a row */
};

_Static_assert(WEIR_MOVERS <= 5 && WEIR_WHYS_COUNT <= 32, "they fit their bits");

struct weir_splice {
    struct weir_list link; /* splicer.c: to be looked at */
    struct weir_splice_owner *owner;
    struct weir_stream *stream[2];
    uint64_t bytes[2]; /* of a direction: taken from its side and counted */
    union {
        void *data;   /* the mover's own: NULL when start() is called and after weir_splice_left */
        uint64_t run; /* of copy: bytes in large pieces since the last small one */
    } own[2];
    uint32_t magic;
    uint32_t active_ms; /* of the loop's clock, cut: when a byte moved last */
    struct weir_splice_dir dir[2];
    uint8_t policy : 3; /* enum weir_splice_policy */
    uint8_t used : 5;   /* bits of enum weir_mover: by whom bytes were moved */
    bool over : 1;      /* on_over was called */
    bool stopped : 1;
    bool settled : 1;              /* it has been looked at: its owner has put it where it stays */
    bool eof_down : 1, eof_up : 1; /* it has sent FIN (weir_splice_eof) */
    bool shut_down : 1, shut_up : 1; /* we have sent FIN to it */
    bool lasting : 1;                /* it was looked at: it is none of the short ones */
    uint16_t unacked;                /* of both, folded: at the last weir_splice_stands */
};
_Static_assert(sizeof(struct weir_splice) <= 88, "an idle tunnel is small");

/** Has this side sent FIN? */
static inline bool weir_splice_eof(const struct weir_splice *splice, unsigned side)
{
    return side ? splice->eof_up : splice->eof_down;
}
/** Have we sent FIN to this side? */
static inline bool weir_splice_shut(const struct weir_splice *splice, unsigned side)
{
    return side ? splice->shut_up : splice->shut_down;
}

/* ---- for owners ---- */

struct weir_splice_opts {
    struct weir_stream *stream[2];
    struct weir_buf
        *kept[2];  /* by side: what it has sent before, which is consumed; NULL: nothing */
    bool ended[2]; /* this side has sent FIN before, behind those bytes */
    enum weir_splice_policy policy;
};

/** Takes the events of both streams, of which nobody reads by hand. `splice` is zeroed. May end in on_over. */
void weir_splice_start(struct weir_splice *splice, struct weir_splice_owner *owner,
                       const struct weir_splice_opts *opts);
/** Movers let go, no event but on_closed comes any more; the owner closes the streams. Harmless when it is stopped. */
void weir_splice_stop(struct weir_splice *splice);
/** Memory is short, or not any more (weir_splicer.tight has changed). */
void weir_splice_press(struct weir_splice *splice);
/** As weir_splice_stop, after weir_splice_mark: another process goes on with it, and nothing is changed of what the kernel has. */
void weir_splice_part(struct weir_splice *splice);
/** Are both directions in the kernel? They go on without this process. */
static inline bool weir_splice_in_kernel(const struct weir_splice *splice)
{
    return splice->dir[0].mover == WEIR_MOVER_SOCKMAP && splice->dir[1].mover == WEIR_MOVER_SOCKMAP;
}
/** Brings bytes and active_ms up to date, where a mover lets the kernel count. */
void weir_splice_sync(struct weir_splice *splice);
/** on_look comes again after so many milliseconds (at most WEIR_SPLICE_LOOK_MAX_MS), a little late. In on_look. */
void weir_splice_look_after(struct weir_splice *splice, uint64_t ms);
/** Milliseconds since a byte has moved. */
uint32_t weir_splice_idle_ms(const struct weir_splice *splice);
/** Has no peer taken anything since the last call? What is on its way to a slow one is no byte that moves here. System calls. */
bool weir_splice_stands(struct weir_splice *splice);
/** Another policy from now on: who must not have it any more gives it back. */
void weir_splice_set_policy(struct weir_splice *splice, enum weir_splice_policy policy);
/** Puts it elsewhere, in on_look: false, and nothing is done, where a mover cannot follow. `to` is not initialised. */
bool weir_splice_move(struct weir_splice *to, struct weir_splice *from);
/**
 * Where a splice begins, as TCP counts: by direction, what its source had received and its target been given before the
 * first byte of `bytes`. The same all its life, and enough for another process to tell how far it has come.
 */
struct weir_splice_mark {
    uint64_t in[2], out[2];
};
/** False: that is not to be known now: a direction waits for its mover, or has bytes in this process. System calls. */
bool weir_splice_mark(const struct weir_splice *splice, struct weir_splice_mark *mark);
struct weir_splice_found {
    struct weir_stream *stream[2]; /* nobody has read of them, or written */
    struct weir_splice_mark mark;
    uint8_t used; /* weir_splice.used */
    enum weir_splice_policy policy;
};
/** Takes over one that another process had, and may have been killed in the middle of (adopt.c). As weir_splice_start;
 * WEIR_EORPHAN in on_over: bytes of it are lost. */
void weir_splice_adopt(struct weir_splice *splice, struct weir_splice_owner *owner,
                       const struct weir_splice_found *found);
/** For a log: the best mover that has moved bytes of it. */
const char *weir_splice_mover(const struct weir_splice *splice);

/* ---- for movers ---- */

/**
 * A way to move one direction. All functions run on the loop's thread; `dir` is the direction, splice->stream[dir] its source
 * and splice->stream[!dir] its target; splice->own[dir].data is the mover's. What a mover keeps in the kernel or in pipes it
 * takes from weir_splicer.budget. Once stop() was called for a direction nothing else is.
 */
struct weir_mover_ops {
    /** Could it have this direction now? WEIR_WHY_none: yes. Cheap, no system call. */
    enum weir_splice_why (*can)(const struct weir_splice *splice, unsigned dir);
    /**
     * Takes it: weir_stream_pending(target) is 0, and the source has not ended. What was read before may still come, by on_data,
     * before the first on_readable: weir_mover_copy.on_data writes it, so that the target may have something pending for a
     * while. WEIR_WHY_none: it has it, also where it is not moving yet (it may wait for a quiet point by itself); else nothing
     * has changed.
     */
    enum weir_splice_why (*start)(struct weir_splice *splice, unsigned dir);
    /** Gives it back, when all that it took has been handed to the target: by weir_splice_left, inside or in a later turn, or
     * never where the splice is stopped before. Events come to it until then; it takes nothing new. */
    void (*leave)(struct weir_splice *splice, unsigned dir);
    /** At once, with whatever it holds: the streams are about to be closed. No call of weir_splice_left. */
    void (*stop)(struct weir_splice *splice, unsigned dir);
    /** Is all that came before the FIN of the source with the target's socket? Then FIN goes there. Where not, the mover calls
     * weir_splice_settle as soon as it is. */
    bool (*flushed)(struct weir_splice *splice, unsigned dir);
    /** The source is to be sent FIN, as the other direction has ended: false where the mover cannot go on with it then; it gives
     * the direction back, and calls weir_splice_settle. NULL: it may be sent. */
    bool (*shut)(struct weir_splice *splice, unsigned dir);
    /** The source may be read again, or is to be read less (weir_splicer.tight); after start() of its side as well. */
    void (*press)(struct weir_splice *splice, unsigned dir);
    /** Events of the source, and of the target. on_data: bytes, borrowed; on_readable: by hand (weir_stream_hand); NULL where
     * nobody turns that on. */
    void (*on_data)(struct weir_splice *splice, unsigned dir, const uint8_t *data, size_t len);
    void (*on_readable)(struct weir_splice *splice, unsigned dir);
    void (*on_drained)(struct weir_splice *splice, unsigned dir);
    /** The source has sent FIN (splice->eof is set). NULL: nothing to do but flushed(). */
    void (*on_eof)(struct weir_splice *splice, unsigned dir);
    /** Counts what the kernel has moved since, by weir_splice_moved. NULL: it is counted as it moves. */
    void (*sync)(struct weir_splice *splice, unsigned dir);
    /** The splice has been put where it is now. NULL: the mover cannot follow. */
    void (*moved)(struct weir_splice *splice, unsigned dir);
    /** Of weir_splice_part: instead of stop(). NULL: that. */
    void (*part)(struct weir_splice *splice, unsigned dir);
    /** Of weir_splice_mark. NULL: it does not know. */
    bool (*mark)(const struct weir_splice *splice, unsigned dir, uint64_t *in, uint64_t *out);
    /** Has it got this direction, of a splice that another process had? Then it is this mover's as after start(), and *bytes of
     * it had gone on. `ended`: it has been passed on to its end: what there may be of it goes. NULL: what it has ends with its
     * process. */
    bool (*found)(struct weir_splice *splice, unsigned dir, const struct weir_splice_mark *mark,
                  bool ended, uint64_t *bytes);
};
extern const struct weir_mover_ops weir_mover_copy, weir_mover_pipe;

/** Why its sides are not two sockets of which the kernel may move the bytes as they are; WEIR_WHY_none: they are. */
enum weir_splice_why weir_splice_unplain(const struct weir_splice *splice);
/** So many bytes were taken from the source: counts, and it is not idle. */
void weir_splice_moved(struct weir_splice *splice, unsigned dir, size_t bytes);
/** To be said by a mover for which that may be true from now on (on_moving). */
void weir_splice_moving(struct weir_splice *splice);
/** The beginning that weir_splice_start and weir_splice_adopt share: whose events come here, nobody reads yet. Between splice.c
 * and adopt.c, as the next two. */
void weir_splice_begin(struct weir_splice *splice, struct weir_splice_owner *owner,
                       struct weir_stream *const stream[2], uint64_t look_ms);
void weir_splice_give(struct weir_splice *splice, unsigned dir, enum weir_mover mover);
/** The direction's end has been passed on already. */
void weir_splice_passed_end(struct weir_splice *splice, unsigned dir);
/** The direction is free: whoever is next gets it. Events of it go there from now on. */
void weir_splice_left(struct weir_splice *splice, unsigned dir);
/** The mover wants to be rid of it, for this reason, which is counted: it goes back to copy by leave(). `never`: for good. */
void weir_splice_refuse(struct weir_splice *splice, unsigned dir, enum weir_splice_why why,
                        bool never);
/** Sends FIN where one is due, and ends the splice when both ways are done. May end in on_over. */
void weir_splice_settle(struct weir_splice *splice);
/** It cannot go on. Ends in on_over, at once; nothing of the splice may be touched after it. */
void weir_splice_fail(struct weir_splice *splice, enum weir_err err, unsigned side);
/** The direction is to go to this mover, whatever the chooser thinks: WEIR_WHY_none when it goes there, or has it. */
enum weir_splice_why weir_splice_take(struct weir_splice *splice, unsigned dir,
                                      enum weir_mover mover);
/** Why it has nobody better, from now on; counted where that does not pass by itself. */
void weir_splice_note(struct weir_splice *splice, unsigned dir, enum weir_splice_why why);
/** Copy has passed on a piece of so many bytes; 0: the target has taken all: is it time for somebody better? */
void weir_splice_choose(struct weir_splice *splice, unsigned dir, size_t bytes);
static inline struct weir_splicer *weir_splice_splicer(const struct weir_splice *splice)
{
    return splice->stream[0]->loop->splicer;
}

#endif
