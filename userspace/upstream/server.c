/* SPDX-License-Identifier: Apache-2.0 */
/** server.c: one server: what its configuration says, its addresses, and what changes while it
 * runs. */
#include "upstream/state.h"

#include <stdio.h>
#include <stdlib.h>

static int server_fault(const struct weir_server *server, struct weir_tls_fault *fault,
                        const char *what)
{
    snprintf(fault->text, sizeof(fault->text), "upstream '%.*s': server '%.*s': %s",
             WEIR_FMT(server->cluster->conf->name), WEIR_FMT(server->conf->address), what);
    return WEIR_ECONFIG;
}

/* "srv:_http._tcp.app.internal" is verified as "app.internal" (RFC 6125 1.8: the source domain). */
static struct weir_str srv_domain(struct weir_str name)
{
    for (int i = 0; i < 2 && name.len && name.ptr[0] == '_'; i++) {
        struct weir_str rest;

        weir_str_cut(name, '.', &rest);
        name = rest;
    }
    return name;
}

static int server_set_literal(struct weir_server *server, const struct weir_addr *addr)
{
    server->addrs = malloc(sizeof(*addr));
    if (!server->addrs)
        return WEIR_ENOMEM;
    server->addrs[0] = *addr;
    server->addr_count = 1;
    atomic_fetch_or(&server->flags, WEIR_SERVER_ADDRESSED);
    return 0;
}

/* The Host header omits the port of the scheme. */
static struct weir_str server_make_authority(const struct weir_server *server, struct weir_str all)
{
    uint16_t usual = server->cluster->conf->tls_on ? 443 : 80;

    if (server->kind == WEIR_SERVER_SRV || server->port == usual)
        return all.ptr[0] == '[' ? (struct weir_str){ all.ptr, server->host.len + 2 }
                                 : server->host;
    return all;
}

static int server_parse(struct weir_server *server, struct weir_tls_fault *fault)
{
    struct weir_str text = weir_str(server->text);
    struct weir_addr addr;

    if (weir_str_starts(text, WEIR_STR("srv:"))) {
        server->kind = WEIR_SERVER_SRV;
        server->host = srv_domain((struct weir_str){ text.ptr + 4, text.len - 4 });
        server->authority = server->host;
        return server->host.len
                   ? 0
                   : server_fault(server, fault,
                                  "'srv:' needs a name, as in srv:_http._tcp.app.internal");
    }
    if (weir_str_starts(text, WEIR_STR("unix:"))) {
        server->authority = WEIR_STR("localhost");
        if (weir_addr_parse(&addr, text))
            return server_fault(server, fault, "is not the path of a socket");
        return server_set_literal(server, &addr);
    }
    if (!weir_addr_split(text, &server->host, &server->port) || !server->host.len || !server->port)
        return server_fault(
            server, fault,
            "is not an address and port, as in 10.0.0.1:80, [2001:db8::1]:80 or name:80");
    server->authority = server_make_authority(server, text);
    if (!weir_addr_parse(&addr, text))
        return server_set_literal(server, &addr);
    server->kind = WEIR_SERVER_NAME;
    return 0;
}

int weir_server_init(struct weir_server *server, struct weir_cluster *cluster, unsigned index,
                     struct weir_tls_fault *fault)
{
    const struct weir_cluster_conf *conf = cluster->conf;
    int err;

    server->cluster = cluster;
    server->index = index;
    server->conf = (const struct weir_server_conf *)conf->servers.at + index;
    atomic_init(&server->flags, WEIR_SERVER_HEALTHY);
    atomic_init(&server->weight, (int)server->conf->weight);
    for (unsigned i = 0; i < index; i++)
        if (weir_str_eq(cluster->servers[i].conf->address, server->conf->address))
            return server_fault(server, fault, "is listed twice");
    if (server->conf->weight < 0 || server->conf->weight > UPSTREAM_WEIGHT_MAX)
        return server_fault(server, fault, "the weight is not between 0 and 1000");
    server->text = weir_str_dup(server->conf->address);
    if (!server->text)
        return server_fault(server, fault, weir_err_text(WEIR_ENOMEM));
    err = server_parse(server, fault);
    if (err)
        return err == WEIR_ENOMEM ? server_fault(server, fault, weir_err_text(err)) : err;
    if (!conf->tls_on)
        return 0;
    if (conf->tls.verify && !conf->tls.sni.len && server->kind == WEIR_SERVER_LITERAL)
        return server_fault(server, fault,
                            "TLS needs a name to verify: give the server's name, or tls.sni");
    server->sessions = weir_tls_sessions_new();
    return server->sessions ? 0 : server_fault(server, fault, weir_err_text(WEIR_ENOMEM));
}

void weir_server_fini(struct weir_server *server)
{
    weir_assert(!server->resolution && !server->health); /* weir_cluster_stop was called */
    if (server->sessions)
        weir_tls_sessions_free(server->sessions);
    free(server->addrs);
    free(server->text);
}

struct weir_str weir_server_authority(const struct weir_server *server)
{
    return server->authority;
}

void weir_server_set_fault(struct weir_server *server, const char *text)
{
    pthread_mutex_lock(&server->cluster->lock);
    snprintf(server->last_fault, sizeof(server->last_fault), "%s", text);
    pthread_mutex_unlock(&server->cluster->lock);
}

void weir_server_failed(struct weir_server *server, const struct weir_error *error,
                        const char *detail, uint64_t now_ms)
{
    uint64_t count = weir_log_due(&server->failures, now_ms);
    char text[sizeof(server->last_fault)];

    if (!count)
        return;
    if (!detail && error->sys)
        detail = strerror(error->sys);
    snprintf(text, sizeof(text), "%s%s%s", weir_err_text(error->code), detail ? ": " : "",
             detail ? detail : "");
    weir_server_set_fault(server, text);
    weir_log(server->cluster->log, weir_err_level(error->code),
             "upstream %.*s: server %s: %s (%llu since the last line)",
             WEIR_FMT(server->cluster->conf->name), server->text, text, (unsigned long long)count);
}

void weir_server_set_flag(struct weir_server *server, enum weir_server_flag flag, bool on)
{
    unsigned before;

    if (on)
        before = atomic_fetch_or(&server->flags, flag);
    else
        before = atomic_fetch_and(&server->flags, ~(unsigned)flag);
    if (!!(before & flag) != on)
        weir_cluster_changed(server->cluster);
}

struct weir_addr *weir_server_copy_addrs(struct weir_server *server, unsigned *count)
{
    struct weir_addr *copy = NULL;

    pthread_mutex_lock(&server->cluster->lock);
    *count = server->addr_count;
    if (server->addr_count)
        copy = malloc(server->addr_count * sizeof(*copy));
    if (copy)
        memcpy(copy, server->addrs, server->addr_count * sizeof(*copy));
    pthread_mutex_unlock(&server->cluster->lock);
    return copy;
}

/* A line when a name gets its first addresses, and when it loses them. */
static void server_tell(struct weir_server *server, unsigned before, unsigned now,
                        enum weir_err err)
{
    struct weir_log *log = server->cluster->log;
    struct weir_str up = server->cluster->conf->name;

    if (now && !before)
        weir_log(log, WEIR_LOG_INFO, "upstream %.*s: server %s has %u address%s", WEIR_FMT(up),
                 server->text, now, now == 1 ? "" : "es");
    else if (!now && (before || !server->last_fault[0]))
        weir_log(log, WEIR_LOG_WARN,
                 "upstream %.*s: server %s is down: %s; its name is asked for again", WEIR_FMT(up),
                 server->text, weir_err_text(err));
}

static void on_addrs(void *arg, const struct weir_addr *addrs, unsigned count, enum weir_err err)
{
    struct weir_server *server = arg;
    struct weir_addr *copy = count ? malloc(count * sizeof(*copy)) : NULL, *old;
    unsigned before;

    if ((count && !copy) || (!count && server->inherited))
        return; /* the old ones stay */
    server->inherited = false;
    if (copy)
        memcpy(copy, addrs, count * sizeof(*copy));
    server_tell(server, server->addr_count, count, err);
    pthread_mutex_lock(&server->cluster->lock);
    old = server->addrs;
    before = server->addr_count;
    server->addrs = copy;
    server->addr_count = count;
    snprintf(server->last_fault, sizeof(server->last_fault), "%s", count ? "" : weir_err_text(err));
    pthread_mutex_unlock(&server->cluster->lock);
    free(old);
    if (!count != !before)
        weir_server_set_flag(server, WEIR_SERVER_ADDRESSED, count > 0);
    else if (count)
        weir_cluster_changed(server->cluster);
    server->resolved |= count > 0;
    if (server->resolved && !server->conf->resolve && server->kind == WEIR_SERVER_NAME)
        weir_server_unfollow(server); /* once is what was asked for */
}

void weir_server_follow(struct weir_server *server, struct weir_resolver *resolver)
{
    if (server->kind == WEIR_SERVER_LITERAL || server->resolution)
        return;
    if (server->kind == WEIR_SERVER_NAME && !server->conf->resolve &&
        (server->inherited || server->resolved))
        return; /* once is what was asked for */
    if (resolver) {
        bool srv = server->kind == WEIR_SERVER_SRV;

        server->resolution =
            weir_resolve_start(resolver, srv ? weir_str(server->text + 4) : server->host,
                               server->port, srv, on_addrs, server);
    }
    if (!server->resolution)
        on_addrs(server, NULL, 0, resolver ? WEIR_ENOMEM : WEIR_EDNS);
}

void weir_server_unfollow(struct weir_server *server)
{
    if (server->resolution)
        weir_resolve_stop(&server->resolution);
}
