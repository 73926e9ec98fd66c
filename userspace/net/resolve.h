/* SPDX-License-Identifier: Apache-2.0 */
/** resolve.h: names to addresses by c-ares, followed by their TTL. One resolver, on one loop;
 * answers come there. */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H

#include "net/addr.h"
#include "net/loop.h"
#include "weir/conf.h"
#include "weir/error.h"

struct weir_dns_conf {
    struct weir_strs
        servers; /* empty: the system's; "192.0.2.1", "192.0.2.1:53", "[2001:db8::1]:53" */
    int64_t ttl_min_ms, ttl_max_ms;
    int64_t stale_ms; /* keep an old answer this long when there is no new one */
    int64_t addresses_max;
    bool allow_local; /* accept loopback, link-local and metadata addresses */
};

struct weir_resolver;
struct weir_resolution;

/** `addrs` borrowed. count 0: no usable answer (err says why). Called again whenever the set has
 * changed. On the loop. */
typedef void (*weir_addrs_fn)(void *arg, const struct weir_addr *addrs, unsigned count,
                              enum weir_err err);

struct weir_resolver *weir_resolver_new(struct weir_loop *loop, const struct weir_dns_conf *conf);
/** All resolutions must be stopped. Asynchronous parts end on the loop before weir_loop_fini. */
void weir_resolver_free(struct weir_resolver *resolver);
/** Follows `host` (A and AAAA, with `port`), or an SRV name ("_http._tcp.app.internal") when `srv`.
 * NULL: no memory. */
struct weir_resolution *weir_resolve_start(struct weir_resolver *resolver, struct weir_str host,
                                           uint16_t port, bool srv, weir_addrs_fn fn, void *arg);
void weir_resolve_stop(struct weir_resolution **resolution);

#endif
