/* SPDX-License-Identifier: Apache-2.0 */
/**
 * resolve_query.c: one question. For each name the hosts file first, then A and AAAA; for SRV the
 * targets of the lowest priority, each of them so. What the network says is filtered: never a
 * multicast address, and a local one only when the configuration allows it, so that a name server
 * can not point weir at its own host or at a metadata service.
 */
#include "net/resolve_impl.h"

#include <arpa/nameser.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

struct resolve_lookup {
    struct resolve_query *query;
    uint16_t port;
    char host[];
};

static void query_put(struct resolve_query *query)
{
    if (--query->pending)
        return;
    if (query->resolution) {
        query->resolution->query = NULL;
        weir_resolve_answered(query->resolution, query);
    }
    free(query->addrs);
    free(query);
}

static bool in_any(const struct weir_prefix *prefixes, unsigned count, const uint8_t bytes[16])
{
    for (unsigned i = 0; i < count; i++)
        if (weir_prefix_has(&prefixes[i], bytes))
            return true;
    return false;
}

static bool query_accepts(const struct resolve_query *query, const struct weir_addr *addr,
                          bool trusted)
{
    const struct weir_resolver *resolver = query->resolver;
    uint8_t bytes[16];

    if (!weir_addr_bytes(addr, bytes) || in_any(resolver->never, resolver->never_count, bytes))
        return false;
    return trusted || resolver->conf.allow_local ||
           !in_any(resolver->local, resolver->local_count, bytes);
}

static void query_add(struct resolve_query *query, const struct sockaddr *sa, socklen_t len,
                      uint16_t port, bool trusted)
{
    int64_t max = query->resolver->conf.addresses_max;
    struct weir_addr addr = { .len = len }, *grown;

    if (max <= 0 || max > RESOLVE_ADDRESSES_MAX)
        max = RESOLVE_ADDRESSES_MAX;
    if (query->count >= (unsigned)max || len > sizeof(addr.in6))
        return;
    memcpy(&addr.sa, sa, len);
    weir_addr_set_port(&addr, port);
    if (!query_accepts(query, &addr, trusted))
        return;
    for (unsigned i = 0; i < query->count; i++)
        if (weir_addr_eq(&query->addrs[i], &addr))
            return;
    grown = realloc(query->addrs, (query->count + 1) * sizeof(addr));
    if (!grown)
        return;
    query->addrs = grown;
    query->addrs[query->count++] = addr;
}

static void query_ttl(struct resolve_query *query, uint64_t ttl_ms)
{
    if (ttl_ms < query->ttl_ms)
        query->ttl_ms = ttl_ms;
}

static void lookup_take(struct resolve_lookup *lookup, struct ares_addrinfo *info, bool trusted)
{
    for (struct ares_addrinfo_node *node = info->nodes; node; node = node->ai_next) {
        query_add(lookup->query, node->ai_addr, (socklen_t)node->ai_addrlen, lookup->port, trusted);
        query_ttl(lookup->query, trusted ? RESOLVE_HOSTS_TTL_MS
                                         : (uint64_t)(node->ai_ttl > 0 ? node->ai_ttl : 0) * 1000);
    }
    for (struct ares_addrinfo_cname *cname = info->cnames; cname && !trusted; cname = cname->next)
        query_ttl(lookup->query, (uint64_t)(cname->ttl > 0 ? cname->ttl : 0) * 1000);
    ares_freeaddrinfo(info);
}

static void lookup_end(struct resolve_lookup *lookup)
{
    struct resolve_query *query = lookup->query;

    free(lookup);
    query_put(query);
}

static const struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
                                                  .ai_socktype = SOCK_STREAM,
                                                  .ai_flags = ARES_AI_NOSORT };

static void on_dns(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct resolve_lookup *lookup = arg;

    if (status == ARES_SUCCESS && info)
        lookup_take(lookup, info, false);
    lookup_end(lookup);
}

static void on_hosts(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct resolve_lookup *lookup = arg;

    if (status == ARES_SUCCESS && info && info->nodes) {
        lookup_take(lookup, info, true);
        lookup_end(lookup);
        return;
    }
    if (info)
        ares_freeaddrinfo(info);
    if (status == ARES_EDESTRUCTION) {
        lookup_end(lookup);
        return;
    }
    ares_getaddrinfo(lookup->query->resolver->dns, lookup->host, NULL, &hints, on_dns, lookup);
}

static void query_lookup(struct resolve_query *query, const char *host, uint16_t port)
{
    size_t len = strlen(host);
    struct resolve_lookup *lookup = malloc(sizeof(*lookup) + len + 1);

    if (!lookup)
        return;
    lookup->query = query;
    lookup->port = port;
    memcpy(lookup->host, host, len + 1);
    query->pending++;
    ares_getaddrinfo(query->resolver->hosts, lookup->host, NULL, &hints, on_hosts, lookup);
}

/* The lowest TTL of the answers of a reply: c-ares does not tell it for SRV. */
static uint64_t reply_ttl_ms(const unsigned char *reply, int len)
{
    unsigned answers = len >= NS_HFIXEDSZ ? (unsigned)reply[6] << 8 | reply[7] : 0;
    const unsigned char *at = reply + NS_HFIXEDSZ, *end = reply + len;
    uint32_t lowest = UINT32_MAX;
    char *name;
    long used;

    if (!answers || ares_expand_name(at, reply, len, &name, &used) != ARES_SUCCESS)
        return 0;
    ares_free_string(name);
    at += used + NS_QFIXEDSZ;
    while (answers--) {
        uint32_t ttl;

        if (at >= end || ares_expand_name(at, reply, len, &name, &used) != ARES_SUCCESS)
            break;
        ares_free_string(name);
        at += used;
        if (end - at < NS_RRFIXEDSZ)
            break;
        ttl = (uint32_t)at[4] << 24 | (uint32_t)at[5] << 16 | (uint32_t)at[6] << 8 | at[7];
        if (ttl < lowest)
            lowest = ttl;
        at += NS_RRFIXEDSZ + ((size_t)at[8] << 8 | at[9]);
    }
    return lowest == UINT32_MAX ? 0 : (uint64_t)lowest * 1000;
}

static void query_targets(struct resolve_query *query, struct ares_srv_reply *first)
{
    unsigned lowest = UINT16_MAX, targets = 0;

    for (struct ares_srv_reply *srv = first; srv; srv = srv->next)
        if (srv->priority < lowest)
            lowest = srv->priority;
    for (struct ares_srv_reply *srv = first; srv && targets < RESOLVE_SRV_TARGETS_MAX;
         srv = srv->next) {
        if (srv->priority != lowest || !srv->host[0] ||
            !srv->port) /* "." is "not here" (RFC 2782) */
            continue;
        query_lookup(query, srv->host, srv->port);
        targets++;
    }
}

static void on_srv(void *arg, int status, int timeouts, unsigned char *reply, int len)
{
    struct resolve_query *query = arg;
    struct ares_srv_reply *first = NULL;

    if (status == ARES_SUCCESS && query->resolution &&
        ares_parse_srv_reply(reply, len, &first) == ARES_SUCCESS) {
        query_ttl(query, reply_ttl_ms(reply, len));
        query_targets(query, first);
    }
    if (first)
        ares_free_data(first);
    query_put(query);
}

int weir_resolve_ask(struct weir_resolution *resolution)
{
    struct weir_resolver *resolver = resolution->resolver;
    struct resolve_query *query = calloc(1, sizeof(*query));

    if (!query)
        return WEIR_ENOMEM;
    query->resolver = resolver;
    query->resolution = resolution;
    query->ttl_ms = UINT64_MAX;
    query->pending = 2; /* ours, so that an answer inside the call is not the end yet */
    resolution->query = query;
    if (resolution->srv) {
        ares_query(resolver->dns, resolution->host, ns_c_in, ns_t_srv, on_srv, query);
    } else {
        query_lookup(query, resolution->host, resolution->port);
        query->pending--;
    }
    weir_resolve_ares_arm(resolver);
    query_put(query);
    return 0;
}
