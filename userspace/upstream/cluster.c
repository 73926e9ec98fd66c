/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/state.h"

#include <stdio.h>
#include <stdlib.h>

/* The source is an address without a port. */
static int cluster_source(struct weir_cluster *cluster, struct weir_tls_fault *fault)
{
    struct weir_str source = cluster->conf->source;
    char text[WEIR_ADDR_TEXT_MAX];
    bool v6 = source.len && memchr(source.ptr, ':', source.len) && source.ptr[0] != '[';
    int n;

    if (!source.len)
        return 0;
    n = snprintf(text, sizeof(text), v6 ? "[%.*s]:0" : "%.*s:0", WEIR_FMT(source));
    if (n > 0 && (size_t)n < sizeof(text) && !weir_addr_parse(&cluster->source, weir_str(text)) &&
        cluster->source.sa.sa_family != AF_UNIX)
        return 0;
    snprintf(fault->text, sizeof(fault->text), "source '%.*s' is not an address", WEIR_FMT(source));
    return WEIR_EADDR;
}

static int cluster_check(const struct weir_cluster_conf *conf,
                         const struct weir_upstreams_opts *opts, struct weir_tls_fault *fault)
{
    const char *wrong = NULL;

    if (!conf->servers.count)
        wrong = "it has no servers";
    else if (conf->servers.count > UPSTREAM_SERVERS_MAX)
        wrong = "it has more than 1024 servers";
    else if (conf->protocol < WEIR_UPSTREAM_H1 || conf->protocol > WEIR_UPSTREAM_AUTO)
        wrong = "its protocol must be h1, h2 or auto";
    else if (!opts->workers || opts->workers > WEIR_WORKERS_MAX)
        wrong = "it needs between 1 and 256 workers";
    else if (!weir_balancer_of(conf))
        wrong = "its balancer is not built yet";
    else if (conf->health.type == WEIR_HEALTH_HTTP && !weir_health_expect_ok(conf->health.expect))
        wrong = "health.expect must be statuses as in '200-299' or '200,204'";
    if (!wrong)
        return 0;
    snprintf(fault->text, sizeof(fault->text), "upstream '%.*s': %s", WEIR_FMT(conf->name), wrong);
    return WEIR_ECONFIG;
}

static int cluster_servers(struct weir_cluster *cluster, struct weir_tls_fault *fault)
{
    size_t count = cluster->conf->servers.count;

    cluster->servers = calloc(count, sizeof(*cluster->servers));
    cluster->views = calloc(cluster->workers, sizeof(struct weir_cluster_view *));
    if (!cluster->servers || !cluster->views) {
        snprintf(fault->text, sizeof(fault->text), "%s", weir_err_text(WEIR_ENOMEM));
        return WEIR_ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        int err;

        cluster->count = i + 1;
        err = weir_server_init(&cluster->servers[i], cluster, i, fault);
        if (err)
            return err;
    }
    return 0;
}

/* What is offered follows from what is to be spoken. */
static struct weir_tls_client *cluster_tls(const struct weir_cluster_conf *conf,
                                           struct weir_tls_fault *fault)
{
    struct weir_str names[] = { WEIR_STR("h2"), WEIR_STR("http/1.1") };
    struct weir_tls_client_conf tls = conf->tls;

    if (conf->protocol != WEIR_UPSTREAM_H1)
        tls.alpn = (struct weir_strs){ names, conf->protocol == WEIR_UPSTREAM_H2 ? 1 : 2 };
    return weir_tls_client_new(&tls, fault);
}

/* What it is made of may be gone before it is. */
static int cluster_own(struct weir_cluster *cluster, const struct weir_cluster_conf *conf,
                       const struct weir_upstreams_opts *opts)
{
    weir_arena_init(&cluster->arena, NULL);
    if (opts->limits) {
        cluster->limits_own = *opts->limits;
        cluster->limits = &cluster->limits_own;
    }
    if (opts->h2) {
        cluster->h2_own = *opts->h2;
        cluster->h2 = &cluster->h2_own;
    }
    cluster->conf = &cluster->conf_own;
    if (weir_cluster_conf_copy(&cluster->conf_own, conf, &cluster->arena))
        return WEIR_ENOMEM;
    cluster->stamp = weir_cluster_conf_stamp(conf);
    return 0;
}

struct weir_cluster *weir_cluster_new(const struct weir_cluster_conf *conf,
                                      const struct weir_upstreams_opts *opts,
                                      struct weir_tls_fault *fault)
{
    struct weir_cluster *cluster;

    fault->text[0] = 0;
    if (cluster_check(conf, opts, fault))
        return NULL;
    cluster = calloc(1, sizeof(*cluster));
    if (!cluster) {
        snprintf(fault->text, sizeof(fault->text), "%s", weir_err_text(WEIR_ENOMEM));
        return NULL;
    }
    cluster->log = opts->log;
    cluster->workers = opts->workers;
    pthread_mutex_init(&cluster->lock, NULL);
    if (cluster_own(cluster, conf, opts)) {
        snprintf(fault->text, sizeof(fault->text), "%s", weir_err_text(WEIR_ENOMEM));
        goto free;
    }
    if (cluster_source(cluster, fault) || cluster_servers(cluster, fault))
        goto free;
    if (conf->tls_on) {
        cluster->tls = cluster_tls(conf, fault);
        if (!cluster->tls)
            goto free;
    }
    return cluster;
free:
    weir_cluster_free(cluster);
    return NULL;
}

void weir_cluster_free(struct weir_cluster *cluster)
{
    if (!cluster)
        return;
    weir_share_fini(cluster);
    for (unsigned i = 0; i < cluster->count; i++)
        weir_server_fini(&cluster->servers[i]);
    for (unsigned i = 0; cluster->views && i < cluster->workers; i++) {
        struct weir_cluster_view *view = cluster->views[i];

        weir_assert(!view || view->magic == 0); /* weir_cluster_view_free was called */
        free(view);
    }
    if (cluster->tls)
        weir_tls_client_put(cluster->tls);
    pthread_mutex_destroy(&cluster->lock);
    free(cluster->servers);
    free(cluster->views);
    weir_arena_fini(&cluster->arena);
    free(cluster);
}

struct weir_str weir_cluster_name(const struct weir_cluster *cluster)
{
    return cluster->conf->name;
}

struct weir_str weir_view_name(const struct weir_cluster_view *view)
{
    return weir_cluster_name(view->cluster);
}

const struct weir_cluster_conf *weir_cluster_get_conf(const struct weir_cluster *cluster)
{
    return cluster->conf;
}

int weir_cluster_start(struct weir_cluster *cluster, struct weir_loop *loop,
                       struct weir_resolver *resolver)
{
    int err = 0;

    cluster->home = loop;
    for (unsigned i = 0; i < cluster->count && !err; i++) {
        weir_server_follow(&cluster->servers[i], resolver);
        err = weir_health_start(&cluster->servers[i], loop);
    }
    if (err)
        weir_cluster_stop(cluster);
    return err;
}

void weir_cluster_stop(struct weir_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->count; i++) {
        weir_server_unfollow(&cluster->servers[i]);
        weir_health_stop(&cluster->servers[i]);
    }
}

void weir_cluster_changed(struct weir_cluster *cluster)
{
    atomic_fetch_add_explicit(&cluster->version, 1, memory_order_release);
    pthread_mutex_lock(&cluster->lock); /* a view is not freed meanwhile */
    for (unsigned i = 0; i < cluster->workers; i++)
        if (cluster->views[i])
            weir_view_kick(cluster->views[i]);
    pthread_mutex_unlock(&cluster->lock);
}

struct weir_server *weir_cluster_find(struct weir_cluster *cluster, struct weir_str name)
{
    for (unsigned i = 0; i < cluster->count; i++)
        if (weir_str_eq(cluster->servers[i].conf->address, name))
            return &cluster->servers[i];
    return NULL;
}

int weir_cluster_set_weight(struct weir_cluster *cluster, struct weir_str name, int weight)
{
    struct weir_server *server = weir_cluster_find(cluster, name);

    if (!server)
        return WEIR_ENOENT;
    if (weight < 0 || weight > UPSTREAM_WEIGHT_MAX)
        return WEIR_EINVAL;
    atomic_store_explicit(&server->weight, weight, memory_order_relaxed);
    weir_cluster_changed(cluster);
    return 0;
}

int weir_cluster_set_state(struct weir_cluster *cluster, struct weir_str name,
                           enum weir_server_state state)
{
    struct weir_server *server = weir_cluster_find(cluster, name);

    if (!server)
        return WEIR_ENOENT;
    if (state != WEIR_SERVER_READY && state != WEIR_SERVER_DRAIN)
        return WEIR_EINVAL;
    weir_server_set_flag(server, WEIR_SERVER_DRAINING, state == WEIR_SERVER_DRAIN);
    return 0;
}
