/* SPDX-License-Identifier: Apache-2.0 */
/** server_conf.h: the options of weir/server.h become the configuration of a service, in memory.
 * For server.c. */
#ifndef PROXY_SERVER_CONF_H
#define PROXY_SERVER_CONF_H

#include "base/arena.h"
#include "proxy/policy.h"
#include "weir/server.h"

/** A route as it was added: of which listener is decided when all are known. */
struct weir_server_route {
    struct weir_str listener; /* absent: of every listener */
    struct weir_route_conf conf;
};

/** Growing arrays; text is in the arena. */
struct weir_server_conf_set {
    struct weir_arena arena;
    struct weir_listener_conf *listeners;
    struct weir_cluster_conf *upstreams;
    struct weir_server_route *routes;
    size_t listener_count, upstream_count, route_count;
    struct weir_tls_fault fault; /* of the last call that failed */
};

/** Each: 0, WEIR_EINVAL, WEIR_EEXISTS, WEIR_ENOMEM with `fault` filled. */
int weir_server_add_upstream(struct weir_server_conf_set *set,
                             const struct weir_upstream_opts *opts);
int weir_server_add_route(struct weir_server_conf_set *set, const struct weir_route_opts *opts);
int weir_server_add_listener(struct weir_server_conf_set *set,
                             const struct weir_listener_opts *opts);
/** All that was added into `conf`, which borrows it: routes go to their listeners, names are looked
 * up. */
int weir_server_build(struct weir_server_conf_set *set, struct weir_proxy_conf *conf);
/** Ends the filters of all routes, each once, and frees everything. */
void weir_server_conf_fini(struct weir_server_conf_set *set);

#endif
