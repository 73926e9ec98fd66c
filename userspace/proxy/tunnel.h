/* SPDX-License-Identifier: Apache-2.0 */
/** tunnel.h: bytes both ways between a client and a server, unread; see tunnel.c. */
#ifndef PROXY_TUNNEL_H
#define PROXY_TUNNEL_H

#include "accel/splice.h"
#include "proxy/req.h"

struct weir_tunnel {
    struct weir_splice_owner owner;
    uint32_t magic;
    uint8_t closed; /* streams that are gone, a bit a side */
    struct weir_req *req;
    struct weir_session
        *session;              /* whose whole connection it is; NULL: it is one of many exchanges */
    struct weir_tls_info *tls; /* of the client's side, which has closed when it is logged */
    struct weir_path_info *path;  /* likewise; NULL: not known */
    struct weir_pool_token token; /* it counts as a connection of its server as long as it lasts */
    struct weir_splice splice;
};
#define WEIR_TUNNEL_MAGIC 0x7774756eu

/** What weir_splice_sink.on_over says, as a request's error. */
struct weir_error weir_tunnel_error(enum weir_err err, unsigned side);
/** In on_look: has nothing moved for as long as nothing may? Otherwise it is looked at again. */
bool weir_tunnel_idle(struct weir_splice *splice, const struct weir_timeouts *timeouts);

#endif
