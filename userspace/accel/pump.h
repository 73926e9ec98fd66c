/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pump.h: bytes from one plain stream to another by splice(2), through a pipe: socket ─▶ pipe ─▶ socket, without a copy into this
 * process. Bounded: at most one pipe is full of them; nothing is taken while the target has not taken all.
 */
#ifndef ACCEL_PUMP_H
#define ACCEL_PUMP_H

#include "accel/pipes.h"
#include "net/stream.h"

struct weir_pump {
    struct weir_splicer *splicer;
    struct weir_stream *from; /* read by hand */
    struct weir_stream *to;   /* nothing pending */
    struct weir_pipe *pipe;   /* with bytes in it; NULL: there are none */
    uint64_t left;            /* bytes still to be taken */
};

enum weir_pump_end {
    WEIR_PUMP_WAITS, /* nothing is there: run it when `from` is readable; its end comes as an event */
    WEIR_PUMP_BLOCKED, /* run it when `to` has drained; `from` is not to be read until then */
    WEIR_PUMP_AGAIN,   /* others are to have a turn: there may be more */
    WEIR_PUMP_DONE,    /* `left` is 0, and all has been taken by `to` */
    WEIR_PUMP_FAILED,  /* `to` has failed, which it tells; what was on its way is lost */
    WEIR_PUMP_REFUSED, /* not by pipe: *why; nothing is on its way */
};

/** Moves what it can now. *taken: bytes from `from`. */
enum weir_pump_end weir_pump_run(struct weir_pump *pump, uint64_t *taken,
                                 enum weir_splice_why *why);
/** Only what is on its way: WAITS (there is nothing any more), BLOCKED, FAILED. */
enum weir_pump_end weir_pump_flush(struct weir_pump *pump);
/** Whatever is on its way is lost. */
void weir_pump_stop(struct weir_pump *pump);

#endif
