/* SPDX-License-Identifier: Apache-2.0 */
/** sockmap_way.h: what mover_sockmap.c (the mover: events, states) and sockmap_way.c (one direction in the kernel) share. */
#ifndef ACCEL_SOCKMAP_WAY_H
#define ACCEL_SOCKMAP_WAY_H

#include "accel/sockmap.h"
#include "accel/splice.h"

enum way_state {
    WAY_DRAIN,   /* its source is read until the kernel says EAGAIN */
    WAY_MOVING,  /* the kernel moves it */
    WAY_PASSING, /* it passes bytes to us: we send them on */
    WAY_FOUND,   /* its owner was killed: how far that one had come is not known yet */
    WAY_GONE,    /* its streams are closed; the entries are taken away a little later */
};

/* One direction. */
struct way {
    struct weir_sockmap *map;
    struct weir_splice *splice;
    struct weir_list link; /* of map->ways */
    struct weir_timer timer;
    struct weir_sp_pair pair;
    uint64_t cookie;   /* of the source */
    uint64_t read;     /* bytes passed to us that we have consumed, */
    uint64_t counted;  /* of those that the kernel has moved */
    uint64_t since_ms; /* ending: when something has changed last */
    uint32_t slot;
    int window; /* of the source, before it was made narrow; 0: it was not */
    uint8_t state, dir, wait_ms, tries;
    bool leaving, ending, told;
    bool asked; /* found: its owner was taking it out */
};

/* What a worker has. */
struct weir_sockmap {
    struct weir_splicer *splicer;
    struct weir_splice_kern *kern;
    unsigned ring;
    struct weir_watch *watch;
    struct weir_slab slab; /* of ways */
    struct weir_list ways;
    struct way_slot *slots; /* tokens: an event names one, which may be of the past */
    uint32_t slots_count, slots_free;
};

struct way_slot {
    struct way *way;
    uint32_t generation;
    uint32_t next_free; /* + 1; 0: none */
};

/* What is there of a direction whose owner was killed: sockmap_found.c, and tests. */
struct way_left {
    uint64_t moved, passed; /* as the program counts */
    uint64_t begun;         /* of those passed: dealt with when the epoch began */
    uint32_t dealt;         /* likewise, as its owner said last; the low half */
    uint64_t written;       /* to the target, of this direction */
    int64_t unread; /* of those passed: are with the source's socket; -1: nobody has looked */
    bool settled;   /* no more of them is on its way there */
    bool asked;     /* it was being taken out */
};
enum way_left_verdict {
    LEFT_KNOWN, /* *read bytes of those passed have been read and sent; the next *skip sent, and not read */
    LEFT_LOOK, /* it takes to know what is unread */
    LEFT_WAIT, /* not to be known now */
    LEFT_LOST, /* bytes went with it */
};
enum way_left_verdict weir_way_left(const struct way_left *left, uint64_t *read, uint64_t *skip);

enum way_end {
    WAY_DONE,    /* nothing is left to do */
    WAY_BLOCKED, /* not now */
    WAY_FAILED,  /* the splice has ended, and this way with it */
};

struct way *weir_way_new(struct weir_sockmap *map, struct weir_splice *splice, unsigned dir);
void weir_way_free(struct way *way);
/* What it is called in events. */
uint64_t weir_way_token(const struct way *way);
/* NULL: that direction is gone. */
struct way *weir_way_of_token(const struct weir_sockmap *map, uint64_t token);

/* WEIR_WHY_none: its target may be redirected to. */
enum weir_splice_why weir_way_prepare(struct way *way);
/* DRAIN: WAY_DONE: it is empty, and a source now; WAY_BLOCKED: the target or the kernel has to come first; WAY_FAILED. Or *why. */
enum way_end weir_way_enter(struct way *way, enum weir_splice_why *why);
/* Sends on what was passed, as far as it goes. */
enum way_end weir_way_pass(struct way *way, struct weir_sp_flow *flow);
/* All was sent on: the kernel moves it again. */
enum way_end weir_way_renew(struct way *way);
/* What was passed goes into the target's queue: the direction is ours again. */
enum way_end weir_way_leave(struct way *way);
/* At once: it was no source yet, or gives nothing any more. */
void weir_way_quit(struct way *way);
/* Nothing is redirected any more. */
void weir_way_ask(struct way *way);
/* The source has sent FIN: is all before it with the target? */
enum way_end weir_way_ended(struct way *way, const struct weir_sp_flow *flow);
/* Of another process: into the maps' word of it, whose owner we are now. False: it is not there (any more). `ended`: what there
 * is of it goes. */
bool weir_way_find(struct way *way, bool ended);
/* FOUND: WAY_DONE: how far it has come is known, and nothing is lost or doubled when it goes on. */
enum way_end weir_way_resume(struct way *way);
/* Brings the splice's count up to date. False: the kernel knows it no more. */
bool weir_way_count(struct way *way, struct weir_sp_flow *flow);

#endif
