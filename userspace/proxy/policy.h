/* SPDX-License-Identifier: Apache-2.0 */
/**
 * policy.h: what an operator decides about listeners and routes, as plain data: filled by the daemon from YAML or by a
 * program through weir/server.h, read by the proxy, immutable once in use. Times are milliseconds, sizes bytes;
 * WEIR_UNLIMITED (-1) is `off`, WEIR_INHERIT is "as the level above says" (route ← listener ← top).
 */
#ifndef PROXY_POLICY_H
#define PROXY_POLICY_H

#include "accel/splice.h"
#include "http/path.h"
#include "net/tls.h"
#include "upstream/cluster.h"
#include "weir/filter.h"

#define WEIR_INHERIT INT64_MIN

struct weir_timeouts {
    int64_t handshake, head, receive, body_rate_min /* bytes a second */, send, keepalive, connect,
        queue, first_byte, idle, request, tunnel, half_closed, grpc_idle;
};

struct weir_limit_conf {
    int64_t connections, connections_per_client, head, headers, body, keepalive_requests,
        streams;          /* h2, of one connection at a time */
    int64_t replay;       /* bytes; WEIR_UNLIMITED (off): none are kept */
    double resets, pings; /* h2, of one connection, a second; 0: as the level above says */
    int64_t memory;       /* bytes; 0: memory_share counts */
    double memory_share;  /* of the cgroup's or host's; top level only */
};

struct weir_access_conf {
    struct weir_strs allow, deny, never_ban; /* prefixes */
    struct weir_str deny_file;
    struct weir_files *files; /* where it is read; NULL: the disk */
};

enum { WEIR_LOG_JSON, WEIR_LOG_COMBINED, WEIR_LOG_FORMAT };
struct weir_access_log_conf {
    bool set; /* said at this level */
    bool off;
    int format;
    struct weir_str template_text; /* WEIR_LOG_FORMAT: with $names */
    struct weir_str to;            /* "stdout", "stderr", or a file */
    double sample;
    struct weir_strs redact;
};

/** One condition on a name and its value: exact, or a PCRE2 pattern when it begins with '~'; absent value: is there. */
struct weir_match_conf {
    struct weir_strs host, path, method; /* path: "/prefix/", "=/exact", "~pattern" */
    struct weir_pairs header, query, cookie;
    struct weir_strs client, sni; /* prefixes; names */
    struct weir_strs port;        /* local port */
};

/** A configured filter: the vtable and its instance. */
struct weir_filter_use {
    const struct weir_filter *filter;
    void *self;
};

enum { WEIR_HOST_PASS, WEIR_HOST_SERVER, WEIR_HOST_NAME };
enum {
    WEIR_RETRY_ON_CONNECT = 1,
    WEIR_RETRY_ON_UNPROCESSED = 2,
    WEIR_RETRY_ON_RESET = 4,
    WEIR_RETRY_ON_TIMEOUT = 8,
    WEIR_RETRY_ON_STATUS = 16
};

struct weir_retry_conf {
    int64_t attempts;     /* in all, with the first */
    unsigned when;        /* WEIR_RETRY_ON_* */
    uint16_t statuses[8]; /* 502, 503, 504, 429 …; 0 ends */
    bool any_method;      /* methods: all; else idempotent */
    double budget;        /* share of requests */
};

struct weir_route_conf {
    struct weir_str name;
    struct weir_match_conf match;
    struct weir_str to; /* an upstream; or reply, or redirect */
    bool has_reply, has_redirect;
    int64_t reply_status, redirect_status;
    struct weir_str reply_body, redirect_to; /* with $path $query $host $client $id */
    struct weir_timeouts timeouts;
    struct weir_limit_conf limits;
    struct weir_retry_conf retry;
    struct weir_strs upgrade; /* protocols let through */
    bool connect;
    int host; /* WEIR_HOST_* */
    struct weir_str host_name;
    struct weir_access_log_conf access_log;
    int splice; /* enum weir_splice_policy; 0: as the listener says */
    struct weir_filter_use *filters;
    size_t filter_count;
};

enum { WEIR_PROTOCOL_HTTP, WEIR_PROTOCOL_TCP };
enum { WEIR_PROXY_OFF, WEIR_PROXY_ACCEPT, WEIR_PROXY_REQUIRE };
enum { WEIR_UNDERSCORES_DROP, WEIR_UNDERSCORES_REJECT, WEIR_UNDERSCORES_PASS };
enum { WEIR_FORWARDED_X, WEIR_FORWARDED_RFC7239, WEIR_FORWARDED_OFF };

struct weir_listener_conf {
    struct weir_str name;
    struct weir_strs bind;
    int protocol; /* WEIR_PROTOCOL_* */
    bool tls_on;
    struct weir_tls_server_conf tls;
    struct weir_strs trusted_proxies;
    int proxy_protocol; /* WEIR_PROXY_* */
    bool freebind;
    int64_t backlog;
    struct weir_str device;
    int64_t mode;
    int paths; /* enum weir_paths */
    int underscores;
    int forwarded;
    struct weir_str via;        /* absent: off */
    struct weir_str request_id; /* header name; absent: off */
    int splice;                 /* enum weir_splice_policy; 0: as the top says */
    struct weir_timeouts timeouts;
    struct weir_limit_conf limits;
    struct weir_access_log_conf access_log;
    struct weir_conf_list
        routes; /* struct weir_route_conf, resolved: `to: app` is one route that matches all */
};

struct weir_kernel_conf {
    int splice; /* enum weir_splice_policy, less one: there is nothing above to inherit from */
    int64_t splice_memory;    /* bytes that all splices may hold in the kernel */
    int64_t sockmap_after_ms; /* how old a tunnel is that `sockmap` takes */
};

struct weir_proxy_conf {
    int64_t workers; /* 0: auto */
    struct weir_kernel_conf kernel;
    struct weir_timeouts timeouts;
    struct weir_limit_conf limits;
    struct weir_access_conf access;
    struct weir_access_log_conf access_log;
    struct weir_dns_conf dns;
    struct weir_conf_list listeners;           /* struct weir_listener_conf */
    struct weir_conf_list upstreams;           /* struct weir_cluster_conf */
    int64_t announce_ms, drain_ms, tunnels_ms; /* shutdown */
};

/** The documented defaults in every field; then fill what differs. */
void weir_proxy_conf_init(struct weir_proxy_conf *conf);
void weir_listener_conf_init(struct weir_listener_conf *conf);
void weir_route_conf_init(struct weir_route_conf *conf);
void weir_cluster_conf_init(struct weir_cluster_conf *conf);
/** Does `to` of a route name another listener ("listener:web")? *name: which. */
bool weir_route_hands_over(struct weir_str to, struct weir_str *name);
/** What clients speak there, in a word: "http", "https", "tcp", "tls". Static. */
const char *weir_listener_speaks(const struct weir_listener_conf *conf);
/** Levels into one: a field of `low` that is WEIR_INHERIT takes that of `high`; limits take the smaller one. */
void weir_timeouts_inherit(struct weir_timeouts *low, const struct weir_timeouts *high);
void weir_limits_inherit(struct weir_limit_conf *low, const struct weir_limit_conf *high);

#endif
