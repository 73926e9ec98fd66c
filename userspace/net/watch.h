/* SPDX-License-Identifier: Apache-2.0 */
/** watch.h: a descriptor that is no socket of a stream (a ring buffer of the kernel): told when it is readable. */
#ifndef NET_WATCH_H
#define NET_WATCH_H

#include "net/loop.h"

struct weir_watch;

/** As long as it is readable: so `fn` is to read it. The descriptor stays the caller's. NULL: no memory, or it cannot be
 * watched. */
struct weir_watch *weir_watch_start(struct weir_loop *loop, int fd, void (*fn)(void *arg),
                                    void *arg);
/** Nothing comes any more; takes the pointer. NULL in it is harmless. */
void weir_watch_stop(struct weir_watch **watch);

#endif
