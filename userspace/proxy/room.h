/* SPDX-License-Identifier: Apache-2.0 */
/**
 * room.h: making room: an idle connection goes so that a newcomer can stay, or so that a file
 * descriptor is free. Worker thread only.
 */
#ifndef PROXY_ROOM_H
#define PROXY_ROOM_H

#include "proxy/worker.h"

/** Room for one more connection: the oldest idle one of this worker goes, of this listener (`own`)
 * or of any; else another worker that has one is asked to. False: nothing is idle. */
bool weir_room_make(struct weir_wlistener *wl, bool own);
/** Closes up to `max` idle connections of a listener, the oldest first. How many. */
unsigned weir_room_close_idle(struct weir_wlistener *wl, unsigned max);
/** No file descriptor was free: idle connections to servers go, then those of clients, here now, and
 * on the other workers at their next sweep. */
void weir_room_starved(struct weir_worker *worker);
/** At every sweep: has somebody, here or elsewhere, just missed a descriptor? */
void weir_room_sweep(struct weir_worker *worker);

#endif
