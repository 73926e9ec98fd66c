/* SPDX-License-Identifier: Apache-2.0 */
/** sockmap.h: the mover by sockmap of one worker: given to its splicer where this host has the program (weir/kern.h). */
#ifndef ACCEL_SOCKMAP_H
#define ACCEL_SOCKMAP_H

#include "accel/splicer.h"
#include "weir/kern.h"

/** `kern` outlives it; `ring` is this worker's own. 0, WEIR_ENOMEM, WEIR_ESYS: the splicer goes on without. */
int weir_sockmap_open(struct weir_splicer *splicer, struct weir_splice_kern *kern, unsigned ring)
    __attribute__((warn_unused_result));
/** No splice is left. Harmless where it was not opened. */
void weir_sockmap_close(struct weir_splicer *splicer);

#endif
