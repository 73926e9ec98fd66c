/* SPDX-License-Identifier: Apache-2.0 */
/** errand.h: something that each worker does on its own thread, for one who waits or does not. */
#ifndef PROXY_ERRAND_H
#define PROXY_ERRAND_H

struct weir_worker;

/** Runs fn on the worker's thread, some time. Nothing happens without memory, but a line in the log. */
void weir_errand_send(struct weir_worker *worker, void (*fn)(struct weir_worker *worker, void *arg),
                      void *arg);

#endif
