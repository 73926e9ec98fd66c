/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cluster_conf.c: the configuration of an upstream as a value. It is copied, since a cluster outlives the configuration that
 * made it; and compared, since a reload keeps a cluster that means the same.
 */
#include "upstream/state.h"

/* ---- a copy ---- */

static bool copy_str(struct weir_arena *arena, struct weir_str *str)
{
    if (weir_str_absent(*str))
        return true;
    *str = weir_arena_copy(arena, *str);
    return !weir_str_absent(*str);
}

static bool copy_strs(struct weir_arena *arena, struct weir_strs *strs)
{
    struct weir_str *at = weir_arena_alloc(arena, (strs->count + 1) * sizeof(*at));

    for (size_t i = 0; at && i < strs->count; i++) {
        at[i] = strs->at[i];
        if (!copy_str(arena, &at[i]))
            return false;
    }
    strs->at = at;
    return at != NULL;
}

static bool copy_servers(struct weir_arena *arena, struct weir_conf_list *list)
{
    const struct weir_server_conf *from = list->at;
    struct weir_server_conf *to = weir_arena_alloc(arena, (list->count + 1) * sizeof(*to));

    for (size_t i = 0; to && i < list->count; i++) {
        to[i] = from[i];
        if (!copy_str(arena, &to[i].address))
            return false;
    }
    list->at = to;
    return to != NULL;
}

int weir_cluster_conf_copy(struct weir_cluster_conf *to, const struct weir_cluster_conf *from,
                           struct weir_arena *arena)
{
    struct weir_str *texts[] = { &to->name,          &to->tls.sni,     &to->tls.ca,
                                 &to->tls.cert,      &to->tls.key,     &to->source,
                                 &to->health.path,   &to->health.host, &to->health.expect,
                                 &to->health.service };

    *to = *from;
    to->tls.files = NULL; /* theirs */
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (!copy_str(arena, texts[i]))
            return WEIR_ENOMEM;
    return copy_servers(arena, &to->servers) && copy_strs(arena, &to->tls.alpn) ? 0 : WEIR_ENOMEM;
}

/* ---- a comparison ---- */

static bool same_strs(const struct weir_strs *a, const struct weir_strs *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!weir_str_eq(a->at[i], b->at[i]))
            return false;
    return true;
}

static bool same_tls(const struct weir_tls_client_conf *a, const struct weir_tls_client_conf *b)
{
    return a->verify == b->verify && weir_str_eq(a->sni, b->sni) && weir_str_eq(a->ca, b->ca) &&
           weir_str_eq(a->cert, b->cert) && weir_str_eq(a->key, b->key) &&
           same_strs(&a->alpn, &b->alpn) && a->min_version == b->min_version;
}

static bool same_servers(const struct weir_conf_list *a, const struct weir_conf_list *b)
{
    const struct weir_server_conf *one = a->at, *other = b->at;

    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!weir_str_eq(one[i].address, other[i].address) || one[i].weight != other[i].weight ||
            one[i].backup != other[i].backup || one[i].resolve != other[i].resolve)
            return false;
    return true;
}

static bool same_pool(const struct weir_pool_conf *a, const struct weir_pool_conf *b)
{
    return a->idle_max == b->idle_max && a->idle_timeout_ms == b->idle_timeout_ms &&
           a->requests_max == b->requests_max && a->age_max_ms == b->age_max_ms;
}

static bool same_health(const struct weir_health_conf *a, const struct weir_health_conf *b)
{
    return a->type == b->type && weir_str_eq(a->path, b->path) && weir_str_eq(a->host, b->host) &&
           weir_str_eq(a->expect, b->expect) && weir_str_eq(a->service, b->service) &&
           a->every_ms == b->every_ms && a->timeout_ms == b->timeout_ms && a->rise == b->rise &&
           a->fall == b->fall && !(a->panic < b->panic || a->panic > b->panic);
}

bool weir_cluster_conf_connects_alike(const struct weir_cluster_conf *a,
                                      const struct weir_cluster_conf *b)
{
    return a->protocol == b->protocol && a->proxy_protocol == b->proxy_protocol &&
           a->tls_on == b->tls_on && same_tls(&a->tls, &b->tls) &&
           weir_str_eq(a->source, b->source);
}

bool weir_cluster_conf_same(const struct weir_cluster_conf *a, const struct weir_cluster_conf *b)
{
    return weir_str_eq(a->name, b->name) && weir_cluster_conf_connects_alike(a, b) &&
           same_servers(&a->servers, &b->servers) && a->balance == b->balance &&
           a->connections_max == b->connections_max && same_pool(&a->pool, &b->pool) &&
           same_health(&a->health, &b->health) && a->balancer == b->balancer &&
           a->balancer_self == b->balancer_self;
}

/* ---- the files that it names ---- */

uint64_t weir_cluster_conf_stamp(const struct weir_cluster_conf *conf)
{
    return conf->tls_on ? weir_tls_client_stamp(&conf->tls) : 0;
}
