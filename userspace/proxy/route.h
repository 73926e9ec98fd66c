/* SPDX-License-Identifier: Apache-2.0 */
/**
 * route.h: the routes of a listener, compiled: the first one whose conditions all hold wins.
 * Immutable, shared by all workers; a worker brings its own scratch for patterns.
 */
#ifndef PROXY_ROUTE_H
#define PROXY_ROUTE_H

#include "http/message.h"
#include "proxy/access_log.h"
#include "proxy/filters.h"
#include "proxy/policy.h"

struct weir_match; /* compiled conditions */
struct weir_route_row;
struct weir_target;
struct weir_door;

struct weir_route {
    const struct weir_route_conf *conf;
    unsigned index;             /* in its listener */
    unsigned slot;              /* in the snapshot: of its filters' per-worker state */
    struct weir_route_row *row; /* of its counters; counted */
    struct weir_target *target; /* NULL: answers itself, or hands over */
    struct weir_door *door;     /* to which connections are handed over; NULL: none */
    struct weir_match *match;   /* NULL: matches everything */
    struct weir_chains chains;
    struct weir_access_log *log; /* NULL: off */
};

struct weir_routes {
    struct weir_route *at;
    unsigned count;
    struct weir_access_log *log; /* of requests that no route matches; NULL: off */
};

/** What a match looks at besides the message. */
struct weir_match_input {
    const struct weir_message *msg;
    struct weir_str host; /* without port and final dot */
    const struct weir_addr *client;
    uint16_t port;       /* local */
    struct weir_str sni; /* absent without TLS */
};

/** Scratch of a worker for PCRE2. */
struct weir_match_scratch;
struct weir_match_scratch *weir_match_scratch_new(void);
void weir_match_scratch_free(struct weir_match_scratch *scratch);

/** Compiles the conditions of `route->conf`. 0 or WEIR_ECONFIG with *fault. */
int weir_route_compile(struct weir_route *route, struct weir_tls_fault *fault)
    __attribute__((warn_unused_result));
void weir_route_free(struct weir_route *route);
/** *found NULL when no route matches. 0, or WEIR_EMATCHLIMIT: a pattern gave up, which is never "no
 * match". */
int weir_routes_find(const struct weir_routes *routes, const struct weir_match_input *input,
                     struct weir_match_scratch *scratch, const struct weir_route **found)
    __attribute__((warn_unused_result));
/** Host without port and final dot. */
struct weir_str weir_host_name(struct weir_str host);

#endif
