/* SPDX-License-Identifier: Apache-2.0 */
/** acquire.h: between pool.c and acquire.c. */
#ifndef UPSTREAM_ACQUIRE_H
#define UPSTREAM_ACQUIRE_H

#include "upstream/state.h"

/** Is a connection wanted that serves nobody else, before or after? */
static inline bool weir_acquire_own(const struct weir_acquire_opts *opts)
{
    return opts->raw || opts->first.len;
}
/** Nothing idle here: ask, connect or wait. Never calls fn. */
void weir_acquire_begin(struct weir_acquire *acq);
/** The first that waits here and may have this connection, or NULL. */
struct weir_acquire *weir_acquire_first(struct weir_server_view *sv,
                                        const struct weir_upconn *conn);
/** What it waited for has come to nothing. */
void weir_acquire_again(struct weir_acquire *acq);
/** It is its; fn is called at the end of the turn. */
void weir_acquire_ready(struct weir_acquire *acq, struct weir_upconn *conn);
/** The connection begins to serve a request. */
void weir_pool_hold(struct weir_upconn *conn);

#endif
