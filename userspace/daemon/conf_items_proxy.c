/* SPDX-License-Identifier: Apache-2.0 */
/* conf_items_proxy.c: the tables of listeners, routes and upstreams. */
#include "daemon/conf_internal.h"

/* clang-format off */
#define DAY_MS    ((int64_t)24 * 3600 * 1000)
#define LIVE      WEIR_CONF_RELOADS

#define AT(field) offsetof(struct weir_tls_cert_conf, field)
static const struct weir_conf_item cert_items[] = {
    { "cert", WEIR_CONF_FILE, AT(cert), 0, 0, NULL, "the certificate and its chain (PEM)", LIVE },
    { "key", WEIR_CONF_FILE, AT(key), 0, 0, NULL, "its private key (PEM); default: in the file of the certificate", LIVE },
    { "dir", WEIR_CONF_DIR, AT(dir), 0, 0, NULL, "or a folder of NAME.pem with both, or NAME.crt and NAME.key", LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_tls_server_conf, field)
static const char *const version_words[] = { "1.2", "1.3", NULL };
static const char *const client_verify_words[] = { "require", "optional", NULL };
const struct weir_conf_item conf_tls_items[] = {
    { "certs", WEIR_CONF_LIST, AT(certs), 0, 0, NULL, "certificates, chosen by SNI from their names; the first is the default", LIVE, .rows = cert_items, .bytes = sizeof(struct weir_tls_cert_conf), .brief = "cert" },
    { "cert", WEIR_CONF_FILE, 0, 0, 0, NULL, "short for a single element of certs", WEIR_CONF_ALIAS | LIVE },
    { "key", WEIR_CONF_FILE, 0, 0, 0, NULL, "short for a single element of certs", WEIR_CONF_ALIAS | LIVE },
    { "dir", WEIR_CONF_DIR, 0, 0, 0, NULL, "short for a single element of certs", WEIR_CONF_ALIAS | LIVE },
    { "client_ca", WEIR_CONF_FILE, AT(client_ca), 0, 0, NULL, "who may sign certificates of clients (PEM); default: clients show none", LIVE },
    { "client_verify", WEIR_CONF_CUSTOM, AT(client_verify), 0, 0, "require", "must a client show a certificate, where there is a client_ca?", LIVE, client_verify_words, .custom = &conf_client_verify_custom },
    { "min_version", WEIR_CONF_ENUM, AT(min_version), 0, 0, "1.2", "the oldest TLS that is spoken", LIVE, version_words },
    { "alpn", WEIR_CONF_STRS, AT(alpn), 0, 0, "[h2, http/1.1]", "protocols that are offered, the preferred one first", LIVE },
    { "tickets", WEIR_CONF_BOOL, AT(tickets), 0, 0, "on", "resume sessions by tickets", LIVE },
    { "ticket_keys", WEIR_CONF_FILE, AT(ticket_keys), 0, 0, "auto", "auto: our own, rotated; or a file of keys that hosts share", WEIR_CONF_AUTO | LIVE },
    { "ciphers", WEIR_CONF_STR, AT(ciphers), 0, 0, NULL, "cipher list of OpenSSL, for TLS 1.2", LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_listener_conf, field)
static const char *const protocol_words[] = { "http", "tcp", NULL };
static const char *const proxy_words[] = { "off", "accept", "require", NULL };
static const char *const splice_words[] = { "inherit", "auto", "off", "copy", "pipe", "sockmap", NULL };
static const char *const paths_words[] = { "normalize", "strict", "raw", NULL };
static const char *const underscore_words[] = { "drop", "reject", "pass", NULL };
static const char *const forwarded_words[] = { "x-forwarded", "rfc7239", "off", NULL };
const struct weir_conf_item conf_listener_items[] = {
    { "bind", WEIR_CONF_STRS, AT(bind), 0, 0, NULL, "addresses: \":443\" is v4 and v6, \"192.0.2.1:80\", \"[2001:db8::1]:443\", \"unix:/run/x.sock\"", WEIR_CONF_REQUIRED | LIVE },
    { "protocol", WEIR_CONF_ENUM, AT(protocol), 0, 0, "http", "what clients speak: http (1.1, and 2 by ALPN or its preface), or tcp: bytes, passed on unread", LIVE, protocol_words },
    { "tls", WEIR_CONF_CUSTOM, AT(tls), 0, 0, "off", "terminate TLS", LIVE, .rows = conf_tls_items, .custom = &conf_tls_custom },
    { "to", WEIR_CONF_CUSTOM, AT(routes), 0, 0, NULL, "the upstream for all requests or connections, instead of routes", WEIR_CONF_ALIAS | LIVE, .custom = &conf_to_custom },
    { "routes", WEIR_CONF_CUSTOM, AT(routes), 0, 0, NULL, "a name in `routes`, or a list in place; the first that matches wins", LIVE, .rows = conf_route_items, .bytes = sizeof(struct weir_route_conf), .custom = &conf_listener_routes_custom },
    { "trusted_proxies", WEIR_CONF_STRS, AT(trusted_proxies), 0, 0, "[]", "prefixes whose PROXY header, X-Forwarded-For and Forwarded are believed", LIVE },
    { "proxy_protocol", WEIR_CONF_ENUM, AT(proxy_protocol), 0, 0, "off", "a PROXY header (v1, v2) of trusted_proxies says who the client is; require: nobody else may connect", LIVE, proxy_words },
    { "freebind", WEIR_CONF_BOOL, AT(freebind), 0, 0, "off", "bind addresses that this host does not have yet", LIVE },
    { "backlog", WEIR_CONF_INT, AT(backlog), 1, 1000000, "4096", "connections that the kernel keeps until they are accepted", LIVE },
    { "device", WEIR_CONF_STR, AT(device), 0, 0, NULL, "accept from this network interface alone", LIVE },
    { "mode", WEIR_CONF_CUSTOM, AT(mode), 0, 0, "0600", "permissions of a UNIX socket, octal", LIVE, .custom = &conf_mode_custom },
    { "paths", WEIR_CONF_ENUM, AT(paths), 0, 0, "normalize", "what is done to request paths before they are matched and forwarded", LIVE, paths_words },
    { "underscores", WEIR_CONF_ENUM, AT(underscores), 0, 0, "drop", "header names with an underscore", LIVE, underscore_words },
    { "forwarded", WEIR_CONF_ENUM, AT(forwarded), 0, 0, "x-forwarded", "how the upstream is told who the client is", LIVE, forwarded_words },
    { "via", WEIR_CONF_STR, AT(via), 0, 0, "weir", "our name in Via", WEIR_CONF_OFF | LIVE },
    { "request_id", WEIR_CONF_STR, AT(request_id), 0, 0, "x-request-id", "the header that carries the id of a request", WEIR_CONF_OFF | LIVE },
    { "splice", WEIR_CONF_ENUM, AT(splice), 0, 0, "inherit", "kernel.splice for connections of this listener; inherit: as it says there", LIVE, splice_words },
    { "timeouts", WEIR_CONF_SECTION, AT(timeouts), 0, 0, NULL, "where they differ from those at the top", WEIR_CONF_INHERIT | LIVE, .rows = conf_timeout_items },
    { "limits", WEIR_CONF_SECTION, AT(limits), 0, 0, NULL, "where they are smaller than those at the top", WEIR_CONF_INHERIT | LIVE, .rows = conf_limit_items },
    { "access_log", WEIR_CONF_CUSTOM, AT(access_log), 0, 0, NULL, "where it differs from that at the top, or off", LIVE, .rows = conf_access_log_items, .custom = &conf_access_log_custom },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_match_conf, field)
static const struct weir_conf_item match_items[] = {
    { "host", WEIR_CONF_STRS, AT(host), 0, 0, NULL, "names without port; \"*.example.com\": one label or more before it", LIVE },
    { "path", WEIR_CONF_STRS, AT(path), 0, 0, NULL, "/v1/ a prefix at a '/' boundary, =/v1 exact, ~re PCRE2", LIVE },
    { "method", WEIR_CONF_STRS, AT(method), 0, 0, NULL, "methods", LIVE },
    { "header", WEIR_CONF_MAP, AT(header), 0, 0, NULL, "header fields: exact, ~re, or no value: is there; or { file: PATH }", WEIR_CONF_SECRET | LIVE },
    { "query", WEIR_CONF_MAP, AT(query), 0, 0, NULL, "parameters of the query, likewise", WEIR_CONF_SECRET | LIVE },
    { "cookie", WEIR_CONF_MAP, AT(cookie), 0, 0, NULL, "cookies, likewise", WEIR_CONF_SECRET | LIVE },
    { "client", WEIR_CONF_STRS, AT(client), 0, 0, NULL, "prefixes of client addresses", LIVE },
    { "port", WEIR_CONF_STRS, AT(port), 0, 0, NULL, "local ports", LIVE },
    { "sni", WEIR_CONF_STRS, AT(sni), 0, 0, NULL, "names that the client asked for in its TLS handshake", LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_retry_conf, field)
static const char *const when_words[] = { "connect", "unprocessed", "reset", "timeout", NULL };
static const char *const methods_words[] = { "idempotent", "all", NULL };
static const struct weir_conf_item retry_items[] = {
    { "attempts", WEIR_CONF_INT, AT(attempts), 1, 10, "2", "in all, with the first", LIVE },
    { "when", WEIR_CONF_CUSTOM, AT(when), 0, 0, "[connect, unprocessed]", "connect, unprocessed, reset, timeout, and statuses like 503", LIVE, .words = when_words, .custom = &conf_when_custom },
    { "methods", WEIR_CONF_CUSTOM, AT(any_method), 0, 0, "idempotent", "what may be sent again when it may have been processed", LIVE, .words = methods_words, .custom = &conf_methods_custom },
    { "budget", WEIR_CONF_PERCENT, AT(budget), 0, 0, "20%", "retries as a share of requests; 10 a second are always allowed", LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_route_conf, field)
static const struct weir_conf_item reply_items[] = {
    { "status", WEIR_CONF_INT, AT(reply_status), 200, 599, "200", "the status", LIVE },
    { "body", WEIR_CONF_STR, AT(reply_body), 0, 0, NULL, "the body, with $path $query $host $client $id; or { file: PATH }, as it is", WEIR_CONF_TEMPLATE | WEIR_CONF_SECRET | LIVE },
    { 0 },
};
static const struct weir_conf_item redirect_items[] = {
    { "status", WEIR_CONF_INT, AT(redirect_status), 301, 308, "308", "301, 302, 303, 307 or 308", LIVE },
    { "to", WEIR_CONF_STR, AT(redirect_to), 0, 0, NULL, "the URL, with $path $query $host $client $id", WEIR_CONF_TEMPLATE | WEIR_CONF_REQUIRED | LIVE },
    { 0 },
};
static const char *const host_words[] = { "pass", "server", NULL };
const struct weir_conf_item conf_route_items[] = {
    { "name", WEIR_CONF_STR, AT(name), 0, 0, NULL, "for logs and metrics; default: route-N", LIVE },
    { "match", WEIR_CONF_SECTION, AT(match), 0, 0, NULL, "all keys hold, of a list any; nothing: every request", LIVE, .rows = match_items },
    { "to", WEIR_CONF_STR, AT(to), 0, 0, NULL, "the upstream; of a tcp listener also listener:NAME, which takes the connection over", LIVE },
    { "reply", WEIR_CONF_CUSTOM, 0, 0, 0, NULL, "or an answer of our own", LIVE, .rows = reply_items, .custom = &conf_reply_custom },
    { "redirect", WEIR_CONF_CUSTOM, 0, 0, 0, NULL, "or an answer that sends the client elsewhere", LIVE, .rows = redirect_items, .custom = &conf_redirect_custom },
    { "filters", WEIR_CONF_CUSTOM, AT(filters), 0, 0, NULL, "a list of { FILTER: { … } }, run in this order", LIVE, .custom = &conf_filters_custom },
    { "retry", WEIR_CONF_SECTION, AT(retry), 0, 0, NULL, "when a request is sent once more", LIVE, .rows = retry_items },
    { "upgrade", WEIR_CONF_STRS, AT(upgrade), 0, 0, "[websocket]", "protocols that may be switched to; off: none", WEIR_CONF_OFF | LIVE },
    { "connect", WEIR_CONF_BOOL, AT(connect), 0, 0, "off", "pass CONNECT to the upstream", LIVE },
    { "host", WEIR_CONF_CUSTOM, AT(host), 0, 0, "pass", "Host for the upstream: the client's (pass), the server's name (server), or a name", LIVE, .words = host_words, .custom = &conf_host_custom },
    { "splice", WEIR_CONF_ENUM, AT(splice), 0, 0, "inherit", "kernel.splice for what goes this way; inherit: as the listener says", LIVE, splice_words },
    { "timeouts", WEIR_CONF_SECTION, AT(timeouts), 0, 0, NULL, "where they differ from the listener's", WEIR_CONF_INHERIT | LIVE, .rows = conf_route_timeout_items },
    { "limits", WEIR_CONF_SECTION, AT(limits), 0, 0, NULL, "where they are smaller than the listener's", WEIR_CONF_INHERIT | LIVE, .rows = conf_route_limit_items },
    { "access_log", WEIR_CONF_CUSTOM, AT(access_log), 0, 0, NULL, "where it differs from the listener's, or off", LIVE, .rows = conf_access_log_items, .custom = &conf_access_log_custom },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_server_conf, field)
static const struct weir_conf_item server_items[] = {
    { "address", WEIR_CONF_STR, AT(address), 0, 0, NULL, "10.0.0.1:80, [2001:db8::1]:80, name:80, srv:_http._tcp.name, unix:/path", WEIR_CONF_REQUIRED | LIVE },
    { "weight", WEIR_CONF_INT, AT(weight), 0, 1000, "1", "its share of requests", LIVE },
    { "backup", WEIR_CONF_BOOL, AT(backup), 0, 0, "off", "used when no other server is up", LIVE },
    { "resolve", WEIR_CONF_BOOL, AT(resolve), 0, 0, "off", "follow the name by its TTL; off: resolve it once, at the start", LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_tls_client_conf, field)
static const struct weir_conf_item upstream_tls_items[] = {
    { "sni", WEIR_CONF_STR, AT(sni), 0, 0, NULL, "the name that is asked for and verified; default: the server's", LIVE },
    { "ca", WEIR_CONF_FILE, AT(ca), 0, 0, NULL, "who may sign the server's certificate (PEM); default: the system's", LIVE },
    { "cert", WEIR_CONF_FILE, AT(cert), 0, 0, NULL, "our certificate (PEM)", LIVE },
    { "key", WEIR_CONF_FILE, AT(key), 0, 0, NULL, "its private key (PEM)", LIVE },
    { "min_version", WEIR_CONF_ENUM, AT(min_version), 0, 0, "1.2", "the oldest TLS that is spoken", LIVE, version_words },
    { "verify", WEIR_CONF_BOOL, AT(verify), 0, 0, "on", "short for `verify` of the upstream", WEIR_CONF_ALIAS | LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_pool_conf, field)
static const struct weir_conf_item pool_items[] = {
    { "idle_max", WEIR_CONF_INT, AT(idle_max), 0, 1000000, "1024", "idle connections that a worker keeps", WEIR_CONF_OFF | LIVE },
    { "idle_timeout", WEIR_CONF_MS, AT(idle_timeout_ms), 1, DAY_MS, "60s", "close a connection after this long without use", WEIR_CONF_OFF | LIVE },
    { "requests_max", WEIR_CONF_INT, AT(requests_max), 1, INT64_MAX, "off", "requests on one connection", WEIR_CONF_OFF | LIVE },
    { "age_max", WEIR_CONF_MS, AT(age_max_ms), 1, DAY_MS * 30, "off", "no new request on a connection older than this", WEIR_CONF_OFF | LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_health_conf, field)
static const char *const health_words[] = { "none", "tcp", "http", "grpc", NULL };
static const struct weir_conf_item health_items[] = {
    { "type", WEIR_CONF_ENUM, AT(type), 0, 0, "http", "what is tried", LIVE, health_words },
    { "path", WEIR_CONF_STR, AT(path), 0, 0, "/", "what is asked for", LIVE },
    { "host", WEIR_CONF_STR, AT(host), 0, 0, NULL, "the Host that is sent; default: the server's address", LIVE },
    { "service", WEIR_CONF_STR, AT(service), 0, 0, NULL, "of type grpc: the service that is asked for; default: the server as a whole", LIVE },
    { "expect", WEIR_CONF_STR, AT(expect), 0, 0, "200-299", "statuses of a healthy server: 200-299,404", LIVE },
    { "every", WEIR_CONF_MS, AT(every_ms), 10, DAY_MS, "2s", "the time between two checks", LIVE },
    { "timeout", WEIR_CONF_MS, AT(timeout_ms), 1, DAY_MS, "1s", "a check that takes longer has failed", LIVE },
    { "rise", WEIR_CONF_INT, AT(rise), 1, 1000, "2", "good checks in a row until a server is used", LIVE },
    { "fall", WEIR_CONF_INT, AT(fall), 1, 1000, "3", "failed checks in a row until a server is not used", LIVE },
    { "panic", WEIR_CONF_PERCENT, AT(panic), 0, 0, "0%", "when a smaller share is up, all servers are used", LIVE },
    { 0 },
};
#undef AT

#define AT(field) offsetof(struct weir_cluster_conf, field)
static const char *const upstream_protocol_words[] = { "h1", "h2", "auto", NULL };
static const char *const upstream_proxy_words[] = { "off", "v1", "v2", NULL };
static const char *const balance_words[] = { "round-robin", NULL };
const struct weir_conf_item conf_upstream_items[] = {
    { "servers", WEIR_CONF_LIST, AT(servers), 0, 0, NULL, "addresses, or maps", WEIR_CONF_REQUIRED | LIVE, .rows = server_items, .bytes = sizeof(struct weir_server_conf), .brief = "address" },
    { "protocol", WEIR_CONF_ENUM, AT(protocol), 0, 0, "h1", "what the servers speak; auto: as each chooses by ALPN", LIVE, upstream_protocol_words },
    { "tls", WEIR_CONF_CUSTOM, AT(tls), 0, 0, "off", "on, or how TLS is spoken to the servers", LIVE, .rows = upstream_tls_items, .custom = &conf_upstream_tls_custom },
    { "verify", WEIR_CONF_BOOL, AT(tls.verify), 0, 0, "on", "verify the certificates of the servers by name", LIVE },
    { "balance", WEIR_CONF_ENUM, AT(balance), 0, 0, "round-robin", "how a server is chosen", LIVE, balance_words },
    { "proxy_protocol", WEIR_CONF_ENUM, AT(proxy_protocol), 0, 0, "off", "each connection begins with a PROXY header that says who the client is; it is then that client's alone, and never used again", LIVE, upstream_proxy_words },
    { "connections_max", WEIR_CONF_INT, AT(connections_max), 1, 100000000, "off", "connections to a server, of all workers", WEIR_CONF_OFF | LIVE },
    { "source", WEIR_CONF_STR, AT(source), 0, 0, NULL, "the address from which is connected", LIVE },
    { "pool", WEIR_CONF_SECTION, AT(pool), 0, 0, NULL, "idle connections that are used again", LIVE, .rows = pool_items },
    { "health", WEIR_CONF_CUSTOM, AT(health), 0, 0, "off", "active checks of each server", LIVE, .rows = health_items, .custom = &conf_health_custom },
    { 0 },
};
#undef AT
/* clang-format on */
