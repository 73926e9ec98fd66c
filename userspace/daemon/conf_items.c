/* SPDX-License-Identifier: Apache-2.0 */
/* conf_items.c: the tables of the top of a configuration and of what several levels share. */
#include "daemon/conf_internal.h"
#include "weir/limits.h"

/* clang-format off */
enum { HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS };
#define TIMES_MAX ((int64_t)30 * DAY_MS)
#define TERA      ((int64_t)1 << 40)
#define LIVE      WEIR_CONF_RELOADS

#define AT(field) offsetof(struct weir_timeouts, field)
/* Of connections, which no route has found yet; and of requests. */
#define CONNECTION_TIMEOUT_ROWS \
    { "handshake", WEIR_CONF_MS, AT(handshake), 1, TIMES_MAX, "10s", "from accept to the end of the TLS handshake", WEIR_CONF_OFF | LIVE }, \
    { "head", WEIR_CONF_MS, AT(head), 1, TIMES_MAX, "10s", "a deadline for the head of a request", WEIR_CONF_OFF | LIVE }, \
    { "keepalive", WEIR_CONF_MS, AT(keepalive), 1, TIMES_MAX, "60s", "an idle client connection is kept this long", WEIR_CONF_OFF | LIVE }
#define REQUEST_TIMEOUT_ROWS \
    { "receive", WEIR_CONF_MS, AT(receive), 1, TIMES_MAX, "60s", "the client sends nothing of its body", WEIR_CONF_OFF | LIVE }, \
    { "body_rate_min", WEIR_CONF_BYTES, AT(body_rate_min), 1, TERA, "500", "bytes a second that a client must send of its body after 10 s", WEIR_CONF_OFF | LIVE }, \
    { "send", WEIR_CONF_MS, AT(send), 1, TIMES_MAX, "60s", "the client reads nothing of the answer", WEIR_CONF_OFF | LIVE }, \
    { "connect", WEIR_CONF_MS, AT(connect), 1, TIMES_MAX, "4s", "for a connection to a server, with its TLS handshake", WEIR_CONF_OFF | LIVE }, \
    { "queue", WEIR_CONF_MS, AT(queue), 1, TIMES_MAX, "1s", "for a connection to become free where connections_max is reached", WEIR_CONF_OFF | LIVE }, \
    { "first_byte", WEIR_CONF_MS, AT(first_byte), 1, TIMES_MAX, "60s", "from the end of the request to the first byte of the answer", WEIR_CONF_OFF | LIVE }, \
    { "idle", WEIR_CONF_MS, AT(idle), 1, TIMES_MAX, "60s", "the upstream sends nothing of its body", WEIR_CONF_OFF | LIVE }, \
    { "request", WEIR_CONF_MS, AT(request), 1, TIMES_MAX, "off", "the whole of a request, with its retries", WEIR_CONF_OFF | LIVE }, \
    { "tunnel", WEIR_CONF_MS, AT(tunnel), 1, TIMES_MAX, "1h", "nothing passes through a tunnel (WebSocket, CONNECT)", WEIR_CONF_OFF | LIVE }, \
    { "half_closed", WEIR_CONF_MS, AT(half_closed), 1, TIMES_MAX, "5m", "one side of a tunnel has ended, and nothing passes through the other way", WEIR_CONF_OFF | LIVE }, \
    { "grpc_idle", WEIR_CONF_MS, AT(grpc_idle), 1, TIMES_MAX, "off", "of a gRPC request, instead of receive, body_rate_min, first_byte and idle: neither side sends anything", WEIR_CONF_OFF | LIVE }
const struct weir_conf_item conf_timeout_items[] = { CONNECTION_TIMEOUT_ROWS, REQUEST_TIMEOUT_ROWS, { 0 } };
const struct weir_conf_item conf_route_timeout_items[] = { REQUEST_TIMEOUT_ROWS, { 0 } };
#undef AT

#define AT(field) offsetof(struct weir_limit_conf, field)
#define CONNECTION_LIMIT_ROWS \
    { "connections", WEIR_CONF_INT, AT(connections), 1, 100000000, "100000", "client connections at a time", WEIR_CONF_OFF | LIVE }, \
    { "connections_per_client", WEIR_CONF_INT, AT(connections_per_client), 1, 100000000, "off", "connections of one client address at a time", WEIR_CONF_OFF | LIVE }, \
    { "head", WEIR_CONF_BYTES, AT(head), 256, 16 << 20, "32KiB", "the head of a request or an answer", LIVE }, \
    { "headers", WEIR_CONF_INT, AT(headers), 1, 10000, "100", "header fields of a request or an answer", LIVE }, \
    { "streams", WEIR_CONF_INT, AT(streams), 1, 1000000, "100", "requests at a time on one connection of HTTP/2", LIVE }, \
    { "resets", WEIR_CONF_RATE, AT(resets), 0, 0, "100/m", "streams of one connection of HTTP/2 that are reset, by the peer or for its faults (a server may reset each request); more ends it", WEIR_CONF_OFF | LIVE }, \
    { "pings", WEIR_CONF_RATE, AT(pings), 0, 0, "60/m", "frames of one connection of HTTP/2 that bring nothing (PING, SETTINGS, ...), of each kind; more ends it", WEIR_CONF_OFF | LIVE }
#define REQUEST_LIMIT_ROWS \
    { "body", WEIR_CONF_BYTES, AT(body), 1, INT64_MAX, "off", "the body of a request; more is answered by 413", WEIR_CONF_OFF | LIVE }, \
    { "replay", WEIR_CONF_BYTES, AT(replay), 1, 1 << 30, "64KiB", "of a body that is kept for a retry; off: none", WEIR_CONF_OFF | LIVE }, \
    { "keepalive_requests", WEIR_CONF_INT, AT(keepalive_requests), 1, INT64_MAX, "off", "requests on one client connection", WEIR_CONF_OFF | LIVE }
const struct weir_conf_item conf_limit_items[] = { CONNECTION_LIMIT_ROWS, REQUEST_LIMIT_ROWS, { 0 } };
const struct weir_conf_item conf_route_limit_items[] = { REQUEST_LIMIT_ROWS, { 0 } };
const struct weir_conf_item conf_top_limit_items[] = {
    CONNECTION_LIMIT_ROWS,
    REQUEST_LIMIT_ROWS,
    { "memory", WEIR_CONF_CUSTOM, 0, 0, 0, "75%", "of the process: a share of the cgroup's or host's, or a size; above it new work is refused", WEIR_CONF_OFF | LIVE, .custom = &conf_memory_custom },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_access_log_conf, field)
static const char *const format_words[] = { "json", "combined", NULL };
static const char *const access_to_words[] = { "stdout", "stderr", NULL };
const struct weir_conf_item conf_access_log_items[] = {
    { "format", WEIR_CONF_CUSTOM, AT(format), 0, 0, "json", "json, combined, or a line with $names", WEIR_CONF_TEMPLATE | LIVE, .words = format_words, .custom = &conf_access_format_custom },
    { "to", WEIR_CONF_CUSTOM, AT(to), 0, 0, "stdout", "stdout, stderr, or { file: PATH }", LIVE, .words = access_to_words, .custom = &conf_access_to_custom },
    { "sample", WEIR_CONF_PERCENT, AT(sample), 0, 0, "100%", "the share of requests that is logged", LIVE },
    { "redact", WEIR_CONF_STRS, AT(redact), 0, 0, "[query]", "fields that are never written in clear: query, user_agent, referer, client, path, host; off: none", WEIR_CONF_OFF | LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_access_conf, field)
static const char *const scope_words[] = { "listeners", NULL };
static const struct weir_conf_item access_items[] = {
    { "allow", WEIR_CONF_STRS, AT(allow), 0, 0, "[]", "when there are any: only these prefixes may connect", LIVE },
    { "deny", WEIR_CONF_STRS, AT(deny), 0, 0, "[]", "prefixes that may not connect", LIVE },
    { "deny_file", WEIR_CONF_FILE, AT(deny_file), 0, 0, NULL, "a file of such prefixes, one a line, # begins a comment", LIVE },
    { "never_ban", WEIR_CONF_STRS, AT(never_ban), 0, 0, "[]", "prefixes that neither `deny` nor a ban hits", LIVE },
    { "scope", WEIR_CONF_CUSTOM, 0, 0, 0, "listeners", "what it is enforced for: the listeners of weir", LIVE, .words = scope_words, .custom = &conf_word_custom },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_dns_conf, field)
static const struct weir_conf_item dns_items[] = {
    { "servers", WEIR_CONF_STRS, AT(servers), 0, 0, "[]", "name servers: 192.0.2.1, 192.0.2.1:53, [2001:db8::1]:53; none: the system's" },
    { "ttl_min", WEIR_CONF_MS, AT(ttl_min_ms), 0, DAY_MS, "1s", "an answer is kept at least this long" },
    { "ttl_max", WEIR_CONF_MS, AT(ttl_max_ms), 1, DAY_MS * (int64_t)7, "5m", "an answer is kept at most this long" },
    { "stale", WEIR_CONF_MS, AT(stale_ms), 0, TIMES_MAX, "1h", "an old answer is used this long when there is no new one" },
    { "addresses_max", WEIR_CONF_INT, AT(addresses_max), 1, 1024, "64", "addresses of one name" },
    { "allow_local", WEIR_CONF_BOOL, AT(allow_local), 0, 0, "off", "accept answers that are loopback, link-local or metadata addresses" },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_proxy_conf, field)
static const struct weir_conf_item shutdown_items[] = {
    { "announce", WEIR_CONF_MS, AT(announce_ms), 0, HOUR_MS, "5s", "/readyz says 503 this long before accepting ends", WEIR_CONF_OFF | LIVE },
    { "drain", WEIR_CONF_MS, AT(drain_ms), 0, DAY_MS, "30s", "requests in flight may take this long", WEIR_CONF_OFF | LIVE },
    { "tunnels", WEIR_CONF_MS, AT(tunnels_ms), 0, DAY_MS, "30s", "tunnels may take this long", WEIR_CONF_OFF | LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_kernel_conf, field)
static const char *const splice_words[] = { "auto", "off", "copy", "pipe", "sockmap", NULL };
static const struct weir_conf_item kernel_items[] = {
    { "splice", WEIR_CONF_ENUM, AT(splice), 0, 0, "auto", "who moves the bytes of plain tunnels and large bodies: auto (by pipe what is large), off or copy, pipe, sockmap (long plain tunnels, inside the kernel); listeners and routes may say their own", LIVE, splice_words },
    { "sockmap_after", WEIR_CONF_MS, AT(sockmap_after_ms), 0, 60000, "250ms", "sockmap takes a tunnel that has lasted so long: getting there costs tens of microseconds" },
    { "splice_memory", WEIR_CONF_BYTES, AT(splice_memory), 1 << 20, TERA, "256MiB", "of the kernel that all of those may take together", LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_admin_conf, field)
static const struct weir_conf_item admin_items[] = {
    { "socket", WEIR_CONF_PATH, AT(socket), 0, 0, NULL, "the UNIX socket that commands use; default /run/weir/<instance>/admin.sock; of others than root below $XDG_RUNTIME_DIR/weir, or /tmp/weir-<uid>" },
    { "group", WEIR_CONF_STR, AT(group), 0, 0, NULL, "a group that may use the socket besides its owner" },
    { "listen", WEIR_CONF_STR, AT(listen), 0, 0, "off", "a TCP address for what needs no password: / /metrics /healthz /readyz /v1/status /v1/upstreams", WEIR_CONF_OFF },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_log_conf, field)
static const char *const level_words[] = { "error", "warn", "info", "debug", "trace", NULL };
static const char *const log_format_words[] = { "text", "json", NULL };
static const char *const log_to_words[] = { "stderr", "syslog", "journal", NULL };
static const struct weir_conf_item log_items[] = {
    { "level", WEIR_CONF_ENUM, AT(level), 0, 0, "info", "what is less important than this is not written", LIVE, level_words },
    { "format", WEIR_CONF_ENUM, AT(format), 0, 0, "text", "how a line looks", 0, log_format_words },
    { "to", WEIR_CONF_CUSTOM, AT(to), 0, 0, "stderr", "stderr, syslog, journal, or { file: PATH }", 0, .words = log_to_words, .custom = &conf_log_to_custom },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_conf, field)
static const char *const io_words[] = { "auto", "epoll", NULL };
static const char *const confine_words[] = { "auto", "off", "require", NULL };
const struct weir_conf_item conf_top_items[] = {
    { "instance", WEIR_CONF_STR, AT(instance), 0, 0, "main", "names the socket, the pins, the lock; several may run on one host" },
    { "user", WEIR_CONF_STR, AT(user), 0, 0, "weir", "what the proxy runs as when it was started by root" },
    { "confine", WEIR_CONF_ENUM, AT(confine), 0, 0, "auto", "system calls and files of the proxy are what it needs and no more (seccomp, Landlock), where the kernel can; require: or it does not start; off: for plug-ins that do other things", 0, confine_words },
    { "workers", WEIR_CONF_INT, AT(proxy.workers), 1, WEIR_WORKERS_MAX, "auto", "threads; auto: as many as CPUs may be used", WEIR_CONF_AUTO },
    { "io", WEIR_CONF_ENUM, AT(io), 0, 0, "auto", "how sockets are waited for", 0, io_words },
    { "plugins", WEIR_CONF_CUSTOM, AT(plugins), 0, 0, "[]", "shared objects whose filters `filters` may name", 0, .custom = &conf_plugins_custom },
    { "include", WEIR_CONF_CUSTOM, 0, 0, 0, NULL, "files whose sections are merged into this one: a path, a pattern, or a list", WEIR_CONF_ALIAS | LIVE, .custom = &conf_include_custom },
    { "listeners", WEIR_CONF_NAMED, AT(proxy.listeners), 0, 0, NULL, "where clients connect", WEIR_CONF_REQUIRED | LIVE, .rows = conf_listener_items, .bytes = sizeof(struct weir_listener_conf) },
    { "routes", WEIR_CONF_CUSTOM, 0, 0, 0, NULL, "lists of routes that listeners name; the first that matches wins", WEIR_CONF_ALIAS | LIVE, .rows = conf_route_items, .bytes = sizeof(struct weir_route_conf), .custom = &conf_top_routes_custom },
    { "upstreams", WEIR_CONF_NAMED, AT(proxy.upstreams), 0, 0, NULL, "groups of servers", LIVE, .rows = conf_upstream_items, .bytes = sizeof(struct weir_cluster_conf) },
    { "timeouts", WEIR_CONF_SECTION, AT(proxy.timeouts), 0, 0, NULL, "how long is waited; listeners and routes may say their own", LIVE, .rows = conf_timeout_items },
    { "limits", WEIR_CONF_SECTION, AT(proxy.limits), 0, 0, NULL, "ceilings; listeners and routes may say smaller ones", LIVE, .rows = conf_top_limit_items },
    { "access", WEIR_CONF_SECTION, AT(proxy.access), 0, 0, NULL, "who may connect; enforced at accept", LIVE, .rows = access_items },
    { "dns", WEIR_CONF_SECTION, AT(proxy.dns), 0, 0, NULL, "how names of servers are resolved", 0, .rows = dns_items },
    { "kernel", WEIR_CONF_SECTION, AT(proxy.kernel), 0, 0, NULL, "what the kernel does for weir", LIVE, .rows = kernel_items },
    { "shutdown", WEIR_CONF_SECTION, AT(proxy), 0, 0, NULL, "what happens between SIGTERM and the end", LIVE, .rows = shutdown_items },
    { "admin", WEIR_CONF_SECTION, AT(admin), 0, 0, NULL, "how the running daemon is asked and changed", 0, .rows = admin_items },
    { "log", WEIR_CONF_SECTION, AT(log), 0, 0, NULL, "what weir tells its operator", LIVE, .rows = log_items },
    { "access_log", WEIR_CONF_CUSTOM, AT(proxy.access_log), 0, 0, "on", "one line a request, or off; listeners and routes may say their own", LIVE, .rows = conf_access_log_items, .custom = &conf_access_log_custom },
    { 0 },
};
#undef AT
/* clang-format on */
