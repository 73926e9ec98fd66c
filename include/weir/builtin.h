/* SPDX-License-Identifier: Apache-2.0 */
/**
 * builtin.h: the filters that come with weir, written with the public headers alone. In a program:
 *
 *     static const struct weir_rate_limit_conf conf = { .rate = 5, .burst = 10 };
 *     char fault[256];
 *     struct weir_filter_ref use = { weir_filter_rate_limit_type.filter };
 *
 *     use.self = weir_filter_rate_limit_type.create(&conf, fault, sizeof(fault));
 */
#ifndef WEIR_BUILTIN_H
#define WEIR_BUILTIN_H

#include "weir/conf.h"
#include "weir/filter.h"

WEIR_BEGIN

/** What happens to the fields of one direction: `remove` first, then `set`, then `add`. Values may
 * hold $client $id $host $path $query: $path begins with one '/' and is never decoded, $query comes
 * with its '?', $host is without port; $$ is a dollar. */
struct weir_headers_edit {
    struct weir_pairs set, add;
    struct weir_strs remove;
};

struct weir_headers_conf {
    struct weir_headers_edit request;  /* of what is sent to the upstream */
    struct weir_headers_edit response; /* of what goes to the client, also of weir's own answers */
};

struct weir_rate_limit_conf {
    struct weir_str
        key;     /* "client" (an IPv6 client is its /64), "route", "header:NAME"; absent: client */
    double rate; /* requests a second */
    int64_t burst;  /* requests that may come at once; 0: 200 */
    int64_t status; /* of the refusal; 0: 429 */
    int64_t ban_ms; /* ban whom we refuse for this long; 0, WEIR_UNLIMITED: off */
};

/** The answer to every request that comes to it: list it last. The body may hold $client $id $host
 * $path $query. */
struct weir_reply_conf {
    int64_t status;       /* 200 to 599; 0: 200 */
    struct weir_str body; /* absent: empty */
};

/** The same, to another URL, in which the same names may stand. */
struct weir_redirect_conf {
    int64_t status; /* 301, 302, 303, 307, 308; 0: 308 */
    struct weir_str to;
};

/** Serves clients of gRPC-Web by a gRPC upstream; it has no settings. Filters behind it see requests as gRPC and answers as
 * gRPC-Web. */
WEIR_API extern const struct weir_filter_type weir_filter_grpc_web_type;
WEIR_API extern const struct weir_filter_type weir_filter_headers_type;
WEIR_API extern const struct weir_filter_type weir_filter_rate_limit_type;
WEIR_API extern const struct weir_filter_type weir_filter_reply_type;
WEIR_API extern const struct weir_filter_type weir_filter_redirect_type;

WEIR_END
#endif
