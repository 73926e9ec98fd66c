/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pipes.h: pipes of a worker, for splice(2). One is needed only while bytes are in it: a direction takes one, empties it, and
 * gives it back in the same turn unless the other side takes no more. So few serve many.
 */
#ifndef ACCEL_PIPES_H
#define ACCEL_PIPES_H

#include "accel/splicer.h"

struct weir_pipe {
    struct weir_pipe *next;
    int in, out; /* the end that is written to, and the one that is read from */
    size_t fill; /* bytes in it */
};

/** Bytes that may lie in one; taken from the budget for each that is open. Its slots hold more than a page of a socket's each. */
enum { WEIR_PIPE_BYTES = 256 * 1024 };

/** An empty one; NULL: why not. */
struct weir_pipe *weir_pipe_get(struct weir_splicer *splicer, enum weir_splice_why *why);
/** Would weir_pipe_get find one, as far as is known? WEIR_WHY_none: yes. No system call. */
enum weir_splice_why weir_pipe_could(const struct weir_splicer *splicer);
/** Gives it back; one that is not empty is closed. */
void weir_pipe_put(struct weir_splicer *splicer, struct weir_pipe *pipe);
/** Closes all that wait. */
void weir_pipes_fini(struct weir_splicer *splicer);

#endif
