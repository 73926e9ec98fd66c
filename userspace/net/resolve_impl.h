/* SPDX-License-Identifier: Apache-2.0 */
/**
 * resolve_impl.h: between resolve.c (when to ask, what an answer means), resolve_query.c (one
 * question: hosts file, A and AAAA, SRV) and resolve_ares.c (c-ares on a loop). Nobody else
 * includes it.
 */
#ifndef NET_RESOLVE_IMPL_H
#define NET_RESOLVE_IMPL_H

#include "net/resolve.h"

#include <ares.h>

enum {
    RESOLVE_QUERY_MS =
        1000, /* for the first answer of a name server; the second try waits twice as long */
    RESOLVE_TRIES = 2,
    RESOLVE_RETRY_MIN_MS = 1000,
    RESOLVE_RETRY_MAX_MS = 30 * 1000,
    RESOLVE_HOSTS_TTL_MS = 10 * 1000, /* the hosts file is looked at again */
    RESOLVE_SRV_TARGETS_MAX = 16,
    RESOLVE_ADDRESSES_MAX = 1024,
    RESOLVE_LOCALS_MAX = 16,
};

struct weir_resolver {
    struct weir_loop *loop;
    struct weir_dns_conf conf;
    ares_channel dns, hosts;     /* network only; file only */
    struct weir_list polls;      /* sockets of `dns` */
    struct weir_timer timer;     /* of c-ares */
    const char *system_file;     /* where the system's name servers stand; conf.servers is empty */
    struct timespec system_time; /* of that file when it was read */
    unsigned handles;            /* uv handles, and one for the owner */
    unsigned resolutions;
    struct weir_prefix local[RESOLVE_LOCALS_MAX], never[RESOLVE_LOCALS_MAX];
    unsigned local_count, never_count;
};

struct weir_resolution {
    struct weir_resolver *resolver;
    char *host;
    uint16_t port;
    bool srv;
    bool told; /* the last thing that fn heard was "none" */
    weir_addrs_fn fn;
    void *arg;
    struct resolve_query *query; /* in flight */
    struct weir_addr *addrs;     /* sorted */
    unsigned count;
    uint64_t valid_until_ms, failing_since_ms;
    struct weir_timer next, stale;
};

/** One question in flight; it ends in weir_resolve_answered, or frees itself when nobody waits for
 * it any more. */
struct resolve_query {
    struct weir_resolver *resolver;
    struct weir_resolution *resolution; /* NULL: stopped meanwhile */
    unsigned pending;
    struct weir_addr *addrs;
    unsigned count;
    uint64_t ttl_ms;
};

/* resolve_ares.c */
int weir_resolve_ares_open(struct weir_resolver *resolver);
/** Ends every question; the resolver is freed when the last handle is closed. */
void weir_resolve_ares_close(struct weir_resolver *resolver);
/** When the system's name servers have changed: those are asked from now on. Not inside an answer.
 */
void weir_resolve_ares_reread(struct weir_resolver *resolver);
/** After any call into c-ares that may have begun something. */
void weir_resolve_ares_arm(struct weir_resolver *resolver);

/* resolve_query.c */
/** Asks; 0 (the answer may have come already, and the resolution be gone), or WEIR_ENOMEM. */
int weir_resolve_ask(struct weir_resolution *resolution);

/* resolve.c */
/** `query` has what was found (count 0: nothing); it is freed after the call. */
void weir_resolve_answered(struct weir_resolution *resolution, struct resolve_query *query);

#endif
