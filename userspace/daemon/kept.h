/* SPDX-License-Identifier: Apache-2.0 */
/**
 * kept.h: tunnels that outlive their proxy, between it and the keeper: what is said of them, and the proxy's end of it.
 *
 *   HOLD, HAND, TUNNELS   two entries a tunnel: the client's socket with the record, the upstream's socket
 *   LET_GO                one entry: the cookies of the clients' sockets, as numbers of 8 bytes; named "cut": end by RST
 */
#ifndef DAEMON_KEPT_H
#define DAEMON_KEPT_H

#include "daemon/link.h"
#include "proxy/keep.h"

enum { WEIR_TUNNEL_RECORD_MAX = 192 };
#define WEIR_TUNNELS_CUT "cut"

/** One tunnel of a message, or of a manifest that a keeper has left to itself. */
struct weir_tunnel_given {
    int fd[2];
    struct weir_str record;
};
/** Adds one; `name` is the sender's. 0, and the descriptors are the manifest's, or -errno. */
int weir_tunnels_add(struct weir_manifest *to, const char *name,
                     const struct weir_tunnel_given *one) WEIR_MUST_CHECK;
/** Empties it; all descriptors go back to whom they were of. */
void weir_tunnels_return(struct weir_manifest *manifest);
/** The next one after `*at` (NULL: the first) with that name (NULL: any), whose descriptors are the caller's then. False: there
 * is none, or what comes next is none. */
bool weir_tunnels_next(struct weir_manifest *from, struct weir_entry **at, const char *name,
                       struct weir_tunnel_given *one);

/** The proxy's line to its keeper for this; any thread. */
struct weir_kept_line {
    struct weir_keeping keeping;
    int fd; /* of its own: workers use it whatever becomes of the link's; -1: none */
};
/** False: this keeper keeps nothing. */
bool weir_kept_open(struct weir_kept_line *line, const struct weir_link *link);
void weir_kept_close(struct weir_kept_line *line);
/** What TUNNELS gives, at most `max`. How many. */
unsigned weir_kept_take(struct weir_manifest *body, struct weir_kept *kept, unsigned max);

#endif
