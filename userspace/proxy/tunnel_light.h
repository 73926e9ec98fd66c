/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tunnel_light.h: a tunnel that has lasted a moment, without its request. A request is 4 KiB; what a tunnel still needs of it
 * (its route, its server, what its line in the log says) lies where the session's codec would be, and in 64 bytes beside it.
 * Of connections of `protocol: tcp`: WEIR_SESSION_TUNNEL. Others keep their request: a log tells much of it.
 */
#ifndef PROXY_TUNNEL_LIGHT_H
#define PROXY_TUNNEL_LIGHT_H

#include "proxy/tunnel.h"

struct weir_light_more {
    uint8_t id[16]; /* of the log, in hexadecimal there */
    struct weir_cluster_view *view;
    struct weir_server *server;
    const struct weir_listener *listener; /* of the snapshot that it began with, which it holds */
    const struct weir_route *route;
    struct weir_tls_info *tls; /* and its texts behind it; NULL: none */
    uint32_t connect_us;
    uint8_t attempts;
    bool slot : 1;
    bool kept : 1;      /* the keeper has its sockets too (keep.h) */
    uint8_t closed : 2; /* streams that are gone */
};
_Static_assert(sizeof(struct weir_light_more) <= 64, "an idle tunnel is small");

/** In weir_splice_sink.on_look: the tunnel, and its request, are gone when this is true. */
bool weir_light_take(struct weir_tunnel *tunnel);
/** The session closes. */
void weir_light_stop(struct weir_session *session);
/** One that a process before this one had, and the keeper has kept. Takes its descriptors; where it cannot be, it ends by RST. */
struct weir_kept;
void weir_light_adopt(struct weir_worker *worker, const struct weir_kept *kept);
/** May another process go on with it now, where `kern` names the maps of that one (0: none)? Then it is described. Else it is
 * brought to where it may, if it can be; it may end by this. */
bool weir_light_describe(struct weir_session *session, uint32_t kern, struct weir_kept *kept);
/** It does: nothing of it is left here. */
void weir_light_part(struct weir_session *session);
/** kernel.splice, as it is for this one. */
enum weir_splice_policy weir_light_splice(const struct weir_session *session);
struct weir_str weir_light_route(const struct weir_session *session);
struct weir_str weir_light_upstream(const struct weir_session *session);
struct weir_str weir_light_server(const struct weir_session *session);

#endif
