/* SPDX-License-Identifier: Apache-2.0 */
/* conf_check.c: what rows cannot say: names that must exist, addresses, prefixes, what excludes
 * each other. */
#include "daemon/conf_internal.h"

#include "daemon/paths.h"
#include "http/guard.h"
#include "net/addr.h"
#include "upstream/health.h"

enum { ADMIN_SOCKET_BYTES_MAX = 107 };

void conf_check_prefixes(struct conf_load *load, const struct weir_strs *strs, const char *name)
{
    struct weir_prefix prefix;

    for (size_t i = 0; i < strs->count; i++)
        if (weir_prefix_parse(&prefix, strs->at[i]))
            conf_error(load, conf_at_item(load, strs, name, i),
                       "'%.*s' is no prefix: write 10.0.0.0/8, 2001:db8::/32 or an address; host "
                       "bits must be 0",
                       CONF_QUOTE(strs->at[i]));
}

/* The last part of a name is not digits alone: 10.0.0.300 is a mistyped address. */
static bool host_name(struct weir_str host)
{
    size_t at = host.len;

    while (at > 0 && host.ptr[at - 1] >= '0' && host.ptr[at - 1] <= '9')
        at--;
    return at > 0 && (at == host.len || host.ptr[at - 1] != '.');
}

/* It was said, with a value: what has none was told already. */
static bool said(const struct conf_load *load, const void *field, const char *name)
{
    const struct conf_pair *pair = conf_place(load, field, name);

    return pair && !conf_node_null(pair->value);
}

/* ---- listeners ---- */

static void check_header_name(struct conf_load *load, const void *field, const char *name,
                              struct weir_str text)
{
    if (text.ptr && !weir_guard_name(text))
        conf_error(load, conf_at(load, field, name), "'%.*s' is no name of a header",
                   CONF_QUOTE(text));
}

static void check_ceilings(struct conf_load *load, const struct weir_limit_conf *low,
                           const struct weir_limit_conf *top)
{
    for (const struct weir_conf_item *item = conf_limit_items; item->name; item++) {
        const int64_t *mine = (const void *)((const char *)low + item->offset);
        const int64_t *ceiling = (const void *)((const char *)top + item->offset);
        bool above =
            *mine != WEIR_INHERIT && *ceiling > 0 && (*mine == WEIR_UNLIMITED || *mine > *ceiling);

        if (above)
            conf_warn(load, conf_at(load, mine, item->name),
                      "'%s' is above that at the top, which counts", item->name);
    }
}

/* Without a source that is trusted no header is: a UNIX socket is one. */
static void check_proxy_protocol(struct conf_load *load, const struct weir_listener_conf *listener)
{
    const struct conf_mark *mark = conf_at(load, &listener->proxy_protocol, "proxy_protocol");

    if (listener->proxy_protocol == WEIR_PROXY_OFF || listener->trusted_proxies.count)
        return;
    for (size_t i = 0; i < listener->bind.count; i++)
        if (weir_str_starts(listener->bind.at[i], WEIR_STR("unix:")))
            return;
    if (listener->proxy_protocol == WEIR_PROXY_REQUIRE)
        conf_error(load, mark,
                   "nobody could connect: 'require' needs 'trusted_proxies', whose headers are "
                   "believed");
    else
        conf_warn(load, mark, "without 'trusted_proxies' nobody's header is believed");
}

static void check_listener(struct conf_load *load, struct weir_listener_conf *listener,
                           struct weir_conf_list *bound)
{
    const struct conf_mark *mark = conf_at_key(load, listener, "");
    bool to = conf_place(load, &listener->routes, "to"),
         routes = conf_place(load, &listener->routes, "routes");

    conf_check_bind(load, listener, bound);
    if (to && routes)
        conf_error(load, mark, "listener '%.*s' has both 'to' and 'routes'",
                   CONF_QUOTE(listener->name));
    if (!to && !routes)
        conf_error(load, mark, "listener '%.*s' needs 'to' or 'routes'",
                   CONF_QUOTE(listener->name));
    check_header_name(load, &listener->via, "via", listener->via);
    check_header_name(load, &listener->request_id, "request_id", listener->request_id);
    conf_check_prefixes(load, &listener->trusted_proxies, "trusted_proxies");
    check_proxy_protocol(load, listener);
    check_ceilings(load, &listener->limits, &load->conf->proxy.limits);
    conf_check_listener_routes(load, listener);
}

void conf_check_route_limits(struct conf_load *load, const struct weir_route_conf *route)
{
    check_ceilings(load, &route->limits, &load->conf->proxy.limits);
}

/* ---- upstreams ---- */

static bool server_is_literal(struct weir_str address)
{
    struct weir_addr addr;

    return weir_addr_parse(&addr, address) == 0;
}

static void check_address(struct conf_load *load, const struct weir_server_conf *server)
{
    const struct conf_mark *mark = conf_at(load, &server->address, "address");
    struct weir_str host, text = server->address;
    uint16_t port = 0;
    bool good;

    conf_check_unix_path(load, mark, text);
    if (weir_str_starts(text, WEIR_STR("srv:")))
        good = text.len > 4;
    else if (weir_str_starts(text, WEIR_STR("unix:")))
        good = server_is_literal(text);
    else
        good = weir_addr_split(text, &host, &port) && host.len &&
               (server_is_literal(text) || (text.ptr[0] != '[' && host_name(host)));
    if (!good)
        conf_error(load, mark,
                   "'%.*s' is no address of a server: write 10.0.0.1:80, [2001:db8::1]:80, "
                   "name:80, srv:NAME or unix:/path",
                   CONF_QUOTE(text));
    else if (server->resolve && server_is_literal(text))
        conf_warn(load, conf_at(load, &server->resolve, "resolve"),
                  "'%.*s' is an address: there is nothing to resolve", CONF_QUOTE(text));
}

static void check_servers(struct conf_load *load, const struct weir_cluster_conf *cluster)
{
    const struct weir_server_conf *servers = cluster->servers.at;

    if (cluster->servers.count == 0 && said(load, &cluster->servers, "servers"))
        conf_error(load, conf_at(load, &cluster->servers, "servers"),
                   "upstream '%.*s' has no servers", CONF_QUOTE(cluster->name));
    if (cluster->servers.count > CONF_SERVERS_MAX)
        conf_error(load, conf_at(load, &cluster->servers, "servers"), "more than %d servers",
                   CONF_SERVERS_MAX);
    for (size_t i = 0; i < cluster->servers.count; i++) {
        if (!servers[i].address.ptr)
            continue; /* said already */
        check_address(load, &servers[i]);
        if (servers[i].backup && !cluster->health.type)
            conf_warn(load, conf_at(load, &servers[i].backup, "backup"),
                      "a backup serves when no other server is up, and without 'health' a server "
                      "that fails is not seen to be down");
        if (cluster->tls_on && cluster->tls.verify && !cluster->tls.sni.len &&
            (server_is_literal(servers[i].address)))
            conf_error(load, conf_at(load, &servers[i].address, "address"),
                       "upstream '%.*s' uses TLS but '%.*s' has no name to verify: give 'sni' in "
                       "'tls', or 'verify: off'",
                       CONF_QUOTE(cluster->name), CONF_QUOTE(servers[i].address));
        for (size_t j = 0; j < i && i < CONF_SERVERS_MAX; j++)
            if (weir_str_eq(servers[i].address, servers[j].address))
                conf_error(load, conf_at(load, &servers[i].address, "address"),
                           "server '%.*s' is there twice; first at %s",
                           CONF_QUOTE(servers[i].address),
                           conf_mark_text(load, conf_at(load, &servers[j].address, "address")));
    }
}

/* From an address of one family nobody can connect to one of the other. */
static void check_source_family(struct conf_load *load, const struct weir_cluster_conf *cluster)
{
    const struct weir_server_conf *servers = cluster->servers.at;
    bool v6 = memchr(cluster->source.ptr, ':', cluster->source.len) != NULL;
    struct weir_addr addr;

    for (size_t i = 0; i < cluster->servers.count; i++)
        if (servers[i].address.ptr && !weir_addr_parse(&addr, servers[i].address) &&
            addr.sa.sa_family != AF_UNIX && (addr.sa.sa_family == AF_INET6) != v6)
            conf_error(load, conf_at(load, &cluster->source, "source"),
                       "'%.*s' is an IPv%d address, and server '%.*s' has one of IPv%d",
                       CONF_QUOTE(cluster->source), v6 ? 6 : 4, CONF_QUOTE(servers[i].address),
                       v6 ? 4 : 6);
    conf_check_source_here(load, cluster);
}

static void check_source(struct conf_load *load, const struct weir_cluster_conf *cluster)
{
    struct weir_prefix prefix;

    if (!cluster->source.ptr)
        return;
    if (!weir_prefix_parse(&prefix, cluster->source) &&
        !memchr(cluster->source.ptr, '/', cluster->source.len))
        check_source_family(load, cluster);
    else
        conf_error(load, conf_at(load, &cluster->source, "source"),
                   "'%.*s' is no address: write it without a port", CONF_QUOTE(cluster->source));
}

static void check_health(struct conf_load *load, const struct weir_health_conf *health)
{
    if (!weir_health_expect_ok(health->expect))
        conf_error(load, conf_at(load, &health->expect, "expect"),
                   "'%.*s' is no list of statuses: write 200-299 or 200,204",
                   CONF_QUOTE(health->expect));
    if (!weir_str_starts(health->path, WEIR_STR("/")) ||
        memchr(health->path.ptr, ' ', health->path.len) || !weir_guard_value(health->path))
        conf_error(load, conf_at(load, &health->path, "path"),
                   "'path' must begin with '/' and have no space");
    if (health->host.ptr && !weir_guard_host(health->host, false))
        conf_error(load, conf_at(load, &health->host, "host"), "'%.*s' is no host",
                   CONF_QUOTE(health->host));
    if (health->service.ptr && health->type != WEIR_HEALTH_GRPC)
        conf_error(load, conf_at(load, &health->service, "service"),
                   "'service' is asked for by 'type: grpc' alone");
    if (health->service.ptr && !weir_guard_value(health->service))
        conf_error(load, conf_at(load, &health->service, "service"), "'%.*s' is no service",
                   CONF_QUOTE(health->service));
}

/* gRPC is spoken over HTTP/2, which a TLS server is asked for by ALPN. */
static void check_health_protocol(struct conf_load *load, const struct weir_cluster_conf *cluster)
{
    if (cluster->health.type == WEIR_HEALTH_GRPC && cluster->protocol == WEIR_UPSTREAM_H1)
        conf_error(load, conf_at(load, &cluster->health.type, "type"),
                   "'type: grpc' needs an upstream of 'protocol: h2' or 'auto'");
}

static void check_upstream(struct conf_load *load, const struct weir_cluster_conf *cluster)
{
    const struct conf_pair *verify = conf_place(load, &cluster->tls.verify, "verify");
    const struct conf_pair *tls = conf_place(load, &cluster->tls, "tls"), *inner = NULL;
    const struct conf_pair *element = conf_place(load, cluster, "");

    if (tls && tls->value->kind == CONF_MAP)
        inner = conf_node_find(tls->value, WEIR_STR("verify"));
    if (inner && element && element->value->kind == CONF_MAP &&
        conf_node_find(element->value, WEIR_STR("verify")))
        conf_error(load, &inner->mark,
                   "'verify' is there twice: in the upstream, and in its 'tls'");
    check_servers(load, cluster);
    check_source(load, cluster);
    check_health(load, &cluster->health);
    check_health_protocol(load, cluster);
    if (cluster->proxy_protocol != WEIR_PP_OFF && cluster->protocol != WEIR_UPSTREAM_H1)
        conf_error(load, conf_at(load, &cluster->proxy_protocol, "proxy_protocol"),
                   "a connection of HTTP/2 is shared by clients, and a PROXY header is about one: "
                   "'proxy_protocol' needs 'protocol: h1'");
    if (!cluster->tls_on && cluster->protocol == WEIR_UPSTREAM_AUTO)
        conf_warn(
            load, conf_at(load, &cluster->protocol, "protocol"),
            "'auto' needs 'tls', where ALPN tells: without it h1 is spoken; say h2 for servers "
            "that speak it without TLS");
    if (!cluster->tls_on && verify && !cluster->tls.verify)
        conf_warn(load, &verify->mark, "'verify' has no effect without 'tls'");
    if (cluster->tls.cert.ptr && !cluster->tls.key.ptr)
        conf_error(load, conf_at(load, &cluster->tls.cert, "cert"), "'cert' needs 'key'");
    if (cluster->tls.key.ptr && !cluster->tls.cert.ptr)
        conf_error(load, conf_at(load, &cluster->tls.key, "key"), "'key' needs 'cert'");
}

/* ---- the rest ---- */

static void check_names(struct conf_load *load)
{
    struct weir_conf *conf = load->conf;

    for (size_t i = 0; i < conf->instance.len; i++) {
        char c = conf->instance.ptr[i];

        if ((weir_lower(c) < 'a' || weir_lower(c) > 'z') && (c < '0' || c > '9') && c != '-' &&
            c != '_') {
            conf_error(load, conf_at(load, &conf->instance, "instance"),
                       "'instance' may have letters, digits, '-' and '_'");
            break;
        }
    }
    if (conf->instance.len == 0 || conf->instance.len > 32)
        conf_error(load, conf_at(load, &conf->instance, "instance"),
                   "'instance' must have 1 to 32 characters");
    if (conf->user.len == 0)
        conf_error(load, conf_at(load, &conf->user, "user"), "'user' must be the name of a user");
}

/* Right below the folder that the daemon makes for itself when it starts. */
static bool in_instance(const struct weir_conf *conf, struct weir_str path)
{
    char dir[WEIR_PATH_BYTES];
    const char *slash = memrchr(path.ptr, '/', path.len);

    return slash && weir_instance_dir(conf->instance, dir) &&
           weir_str_eq(weir_str(dir), (struct weir_str){ path.ptr, (size_t)(slash - path.ptr) });
}

static void check_admin(struct conf_load *load)
{
    struct weir_admin_conf *admin = &load->conf->admin;
    const struct weir_listener_conf *listeners = load->conf->proxy.listeners.at;
    struct weir_addr addr, other;

    admin->socket_said = admin->socket.ptr != NULL;
    if (weir_conf_set_instance(load->conf, load->conf->instance))
        load->nomem = true;
    if (admin->socket.len > ADMIN_SOCKET_BYTES_MAX)
        conf_error(load, conf_at(load, &admin->socket, "socket"),
                   "the path of a socket has at most %d bytes", ADMIN_SOCKET_BYTES_MAX);
    else if (admin->socket_said && admin->socket.len && !in_instance(load->conf, admin->socket))
        conf_check_writable(load, conf_at(load, &admin->socket, "socket"), admin->socket);
    if (!admin->listen.ptr)
        return;
    if (weir_addr_parse(&addr, admin->listen)) {
        conf_error(load, conf_at(load, &admin->listen, "listen"),
                   "'%.*s' is no address to listen on: write 127.0.0.1:9145",
                   CONF_QUOTE(admin->listen));
        return;
    }
    if (!conf_addr_here(load, &addr))
        conf_error(load, conf_at(load, &admin->listen, "listen"),
                   "'%.*s': no interface of this host has this address", CONF_QUOTE(admin->listen));
    for (size_t i = 0; i < load->conf->proxy.listeners.count; i++)
        for (size_t j = 0; j < listeners[i].bind.count; j++)
            if (!weir_addr_parse(&other, listeners[i].bind.at[j]) &&
                conf_addr_overlap(&addr, &other))
                conf_error(load, conf_at(load, &admin->listen, "listen"),
                           "listener '%.*s' has this address as well",
                           CONF_QUOTE(listeners[i].name));
}

static void check_dns(struct conf_load *load)
{
    const struct weir_dns_conf *dns = &load->conf->proxy.dns;

    for (size_t i = 0; i < dns->servers.count; i++) {
        struct weir_str text = dns->servers.at[i];
        struct weir_prefix prefix;
        struct weir_addr addr;
        bool bare = !weir_prefix_parse(&prefix, text) && !memchr(text.ptr, '/', text.len);
        bool full =
            !weir_addr_parse(&addr, text) && text.ptr[0] != ':' && addr.sa.sa_family != AF_UNIX;

        if (!bare && !full)
            conf_error(
                load, conf_at_item(load, &dns->servers, "servers", i),
                "'%.*s' is no name server: write 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53",
                CONF_QUOTE(text));
    }
    if (dns->ttl_min_ms > dns->ttl_max_ms)
        conf_error(load,
                   conf_at(load, &dns->ttl_min_ms, "ttl_min")
                       ?: conf_at(load, &dns->ttl_max_ms, "ttl_max"),
                   "'ttl_min' is longer than 'ttl_max'");
}

void conf_check(struct conf_load *load)
{
    struct weir_proxy_conf *proxy = &load->conf->proxy;
    struct weir_listener_conf *listeners = proxy->listeners.at;
    const struct weir_cluster_conf *upstreams = proxy->upstreams.at;
    struct weir_conf_list bound = { NULL, 0 };

    check_names(load);
    if (said(load, &proxy->listeners, "listeners") && proxy->listeners.count == 0)
        conf_error(load, conf_at_key(load, &proxy->listeners, "listeners"),
                   "there are no listeners");
    for (size_t i = 0; i < proxy->upstreams.count; i++)
        check_upstream(load, &upstreams[i]);
    conf_check_route_lists(load);
    for (size_t i = 0; i < proxy->listeners.count; i++)
        check_listener(load, &listeners[i], &bound);
    conf_check_prefixes(load, &proxy->access.allow, "allow");
    conf_check_prefixes(load, &proxy->access.deny, "deny");
    conf_check_prefixes(load, &proxy->access.never_ban, "never_ban");
    conf_check_deny_file(load);
    check_admin(load);
    conf_check_accounts(load);
    check_dns(load);
    conf_check_tls(load);
}
