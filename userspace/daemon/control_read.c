/* SPDX-License-Identifier: Apache-2.0 */
/** control_read.c: what the admin tells. Everything here is atomics, immutable, or under a short
 * lock: no worker is asked. */
#include "daemon/control_internal.h"

#include "base/clock.h"
#include "weir/weir.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };
static const char *const state_names[] = { "starting", "ready", "draining" };

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static json_t *strs(const struct weir_strs *list)
{
    json_t *array = json_array();

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, control_str(list->at[i]));
    return array;
}

/* ---- status ------------------------------------------------------------------------------- */

static uint64_t route_requests(struct weir_service *service, unsigned listener, unsigned route)
{
    uint64_t n = 0;

    for (unsigned w = 0; w < weir_service_workers(service); w++)
        for (unsigned j = 0; j < WEIR_CODES_MAX; j++)
            n += weir_counter_read(
                &weir_service_route_stats(service, listener, route, w)->codes.count[j]);
    return n;
}

struct listener_sum {
    uint64_t accepted, connections, in_flight, refused, requests;
};

static struct listener_sum listener_sum(struct weir_service *service, unsigned listener,
                                        size_t routes)
{
    struct listener_sum sum = { 0 };

    for (unsigned i = 0; i <= routes; i++)
        sum.requests += route_requests(service, listener, i);
    for (unsigned w = 0; w < weir_service_workers(service); w++) {
        const struct weir_listener_stats *stats = weir_service_listener_stats(service, listener, w);

        sum.accepted += weir_counter_read(&stats->accepted);
        sum.connections += weir_counter_read(&stats->connections);
        sum.in_flight += weir_counter_read(&stats->in_flight);
        for (unsigned i = 0; i < WEIR_REFUSALS_COUNT; i++)
            sum.refused += weir_counter_read(&stats->refused[i]);
    }
    return sum;
}

static json_t *status_listeners(struct weir_control *control, struct listener_sum *total)
{
    const struct weir_conf_list *list = &control->opts.conf->proxy.listeners;
    const struct weir_listener_conf *conf = list->at;
    json_t *array = json_array();

    for (size_t i = 0; i < list->count; i++) {
        struct listener_sum sum =
            listener_sum(control->opts.service, (unsigned)i, conf[i].routes.count);
        json_t *one = json_object();

        put(one, "name", control_str(conf[i].name));
        put(one, "bind", strs(&conf[i].bind));
        put(one, "protocol", json_string(weir_listener_speaks(&conf[i])));
        put(one, "tls", json_boolean(conf[i].tls_on));
        put(one, "connections", control_u64(sum.connections));
        put(one, "in_flight", control_u64(sum.in_flight));
        put(one, "requests", control_u64(sum.requests));
        put(one, "accepted", control_u64(sum.accepted));
        put(one, "refused", control_u64(sum.refused));
        json_array_append_new(array, one);
        total->connections += sum.connections;
        total->in_flight += sum.in_flight;
        total->requests += sum.requests;
        total->accepted += sum.accepted;
        total->refused += sum.refused;
    }
    return array;
}

static json_t *status_upstreams(struct weir_control *control)
{
    struct weir_service *service = control->opts.service;
    json_t *array = json_array();

    for (unsigned i = 0; i < weir_service_clusters(service); i++) {
        struct weir_cluster *cluster = weir_service_cluster(service, i);
        unsigned count = weir_cluster_count(cluster), up = 0;
        struct weir_cluster_totals totals = { 0 };
        json_t *one = json_object();

        for (unsigned s = 0; s < count; s++)
            up += weir_server_is_up(weir_cluster_server(cluster, s));
        weir_cluster_get_totals(cluster, &totals);
        put(one, "name", control_str(weir_cluster_name(cluster)));
        put(one, "servers", control_u64(count));
        put(one, "up", control_u64(up));
        put(one, "active", control_u64(totals.active));
        put(one, "idle", control_u64(totals.idle));
        put(one, "requests", control_u64(totals.requests_new + totals.requests_reused));
        json_array_append_new(array, one);
    }
    return array;
}

static json_t *status_busy(struct weir_service *service)
{
    json_t *array = json_array();

    for (unsigned w = 0; w < weir_service_workers(service); w++)
        json_array_append_new(array, control_u64(weir_service_busy_us(service, w)));
    return array;
}

void control_get_status(struct control_call *call)
{
    struct weir_control *control = call->control;
    struct weir_service *service = control->opts.service;
    const struct weir_conf *conf = control->opts.conf;
    struct listener_sum total = { 0 };
    uint64_t uptime_ms = weir_clock_us() / 1000 - control->started_ms;
    uint64_t resident = 0, limit = 0;
    bool over = weir_service_memory(service, &resident, &limit);
    json_t *json = json_object(), *listeners = status_listeners(control, &total);

    put(json, "version", json_string(weir_version()));
    put(json, "instance", control_str(conf->instance));
    put(json, "pid", json_integer(getpid()));
    put(json, "uid", json_integer(geteuid()));
    put(json, "keeper", control_keeper(control));
    put(json, "state", json_string(state_names[control->state]));
    put(json, "uptime_s", control_u64(uptime_ms / 1000));
    put(json, "uptime_ms", control_u64(uptime_ms));
    put(json, "config", control_str(conf->path));
    put(json, "snapshots", control_u64(weir_service_snapshots(service)));
    put(json, "workers", control_u64(weir_service_workers(service)));
    put(json, "worker_busy_us", status_busy(service));
    put(json, "log_level", json_string(level_names[weir_log_level(control->opts.log)]));
    put(json, "memory_bytes", control_u64(resident));
    put(json, "memory_limit_bytes", control_u64(limit));
    put(json, "memory_over", json_boolean(over));
    put(json, "connections", control_u64(total.connections));
    put(json, "connections_max", json_integer(conf->proxy.limits.connections));
    put(json, "in_flight", control_u64(total.in_flight));
    put(json, "requests", control_u64(total.requests));
    put(json, "accepted", control_u64(total.accepted));
    put(json, "refused", control_u64(total.refused));
    put(json, "listeners", listeners);
    put(json, "upstreams", status_upstreams(control));
    control_reply_json(call, 200, json);
}

/* ---- upstreams, pools --------------------------------------------------------------------- */

static const char *server_state(const struct weir_server_status *status)
{
    return status->draining ? "drain" : status->up ? "up" : "down";
}

static json_t *server_json(struct weir_cluster *cluster, unsigned i, bool pool)
{
    struct weir_server_status status = { 0 };
    json_t *one = json_object();

    weir_server_get_status(weir_cluster_server(cluster, i), &status);
    if (pool)
        put(one, "upstream", control_str(weir_cluster_name(cluster)));
    put(one, pool ? "server" : "name", control_str(status.name));
    if (!pool) {
        put(one, "state", json_string(server_state(&status)));
        put(one, "weight", json_integer(status.weight));
        put(one, "backup", json_boolean(status.backup));
        put(one, "addresses", control_u64(status.addresses));
        put(one, "requests", control_u64(status.requests));
        put(one, "failed", control_u64(status.failed));
        put(one, "last_fault", control_str(weir_str(status.last_fault)));
    }
    put(one, "active", control_u64(status.active));
    put(one, "idle", control_u64(status.idle));
    put(one, "opened", control_u64(status.opened));
    put(one, "reused", control_u64(status.requests_reused));
    return one;
}

void control_get_upstreams(struct control_call *call)
{
    struct weir_service *service = call->control->opts.service;
    json_t *array = json_array();

    for (unsigned i = 0; i < weir_service_clusters(service); i++) {
        struct weir_cluster *cluster = weir_service_cluster(service, i);
        json_t *one = json_object(), *servers = json_array();

        for (unsigned s = 0; s < weir_cluster_count(cluster); s++)
            json_array_append_new(servers, server_json(cluster, s, false));
        put(one, "name", control_str(weir_cluster_name(cluster)));
        put(one, "servers", servers);
        json_array_append_new(array, one);
    }
    control_reply_json(call, 200, array);
}

void control_get_pools(struct control_call *call)
{
    struct weir_service *service = call->control->opts.service;
    json_t *array = json_array();

    for (unsigned i = 0; i < weir_service_clusters(service); i++) {
        struct weir_cluster *cluster = weir_service_cluster(service, i);

        for (unsigned s = 0; s < weir_cluster_count(cluster); s++)
            json_array_append_new(array, server_json(cluster, s, true));
    }
    control_reply_json(call, 200, array);
}

/* ---- routes, certificates, bans ----------------------------------------------------------- */

static void put_strs(const struct weir_conf *conf, json_t *object, const char *key,
                     const struct weir_strs *list)
{
    json_t *array = list->count > 0 ? json_array() : NULL;

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, control_str(weir_conf_told(conf, list->at[i])));
    if (array)
        put(object, key, array);
}

static void put_pairs(const struct weir_conf *conf, json_t *object, const char *key,
                      const struct weir_pairs *pairs)
{
    json_t *map;

    if (pairs->count == 0)
        return;
    map = json_object();
    for (size_t i = 0; i < pairs->count; i++) {
        char name[WEIR_NAME_BYTES_MAX + 1];

        snprintf(name, sizeof(name), "%.*s", WEIR_FMT(pairs->at[i].name));
        put(map, name, control_str(weir_conf_told(conf, pairs->at[i].value)));
    }
    put(object, key, map);
}

static json_t *match_json(const struct weir_conf *conf, const struct weir_match_conf *match)
{
    json_t *json = json_object();

    put_strs(conf, json, "host", &match->host);
    put_strs(conf, json, "path", &match->path);
    put_strs(conf, json, "method", &match->method);
    put_pairs(conf, json, "header", &match->header);
    put_pairs(conf, json, "query", &match->query);
    put_pairs(conf, json, "cookie", &match->cookie);
    put_strs(conf, json, "client", &match->client);
    put_strs(conf, json, "sni", &match->sni);
    put_strs(conf, json, "port", &match->port);
    return json;
}

void control_get_routes(struct control_call *call)
{
    const struct weir_conf *all = call->control->opts.conf;
    const struct weir_conf_list *listeners = &all->proxy.listeners;
    const struct weir_listener_conf *conf = listeners->at;
    json_t *array = json_array();

    for (size_t l = 0; l < listeners->count; l++) {
        const struct weir_route_conf *routes = conf[l].routes.at;

        for (size_t r = 0; r < conf[l].routes.count; r++) {
            json_t *one = json_object();

            put(one, "listener", control_str(conf[l].name));
            put(one, "name", control_str(routes[r].name));
            put(one, "match", match_json(all, &routes[r].match));
            if (routes[r].has_reply)
                put(one, "reply", json_integer(routes[r].reply_status));
            else if (routes[r].has_redirect)
                put(one, "redirect", control_str(weir_conf_told(all, routes[r].redirect_to)));
            else
                put(one, "to", control_str(routes[r].to));
            put(one, "filters", control_u64(weir_conf_filters_listed(&routes[r])));
            put(one, "requests",
                control_u64(route_requests(call->control->opts.service, (unsigned)l, (unsigned)r)));
            json_array_append_new(array, one);
        }
    }
    control_reply_json(call, 200, array);
}

struct certs_walk {
    json_t *array;
    struct weir_str listener;
    int64_t now;
};

static void on_cert(void *arg, struct weir_str file, struct weir_str names, int64_t not_after)
{
    struct certs_walk *walk = arg;
    json_t *one = json_object();

    put(one, "listener", control_str(walk->listener));
    put(one, "file", control_str(file));
    put(one, "names", control_str(names));
    put(one, "not_after", json_integer(not_after));
    put(one, "days_left", json_integer((not_after - walk->now) / 86400));
    json_array_append_new(walk->array, one);
}

void control_get_certs(struct control_call *call)
{
    const struct weir_conf_list *listeners = &call->control->opts.conf->proxy.listeners;
    const struct weir_listener_conf *conf = listeners->at;
    struct certs_walk walk = { .array = json_array(),
                               .now = (int64_t)(weir_clock_wall_us() / 1000000) };

    for (size_t l = 0; l < listeners->count; l++) {
        struct weir_tls_server *tls = weir_service_tls(call->control->opts.service, (unsigned)l);

        walk.listener = conf[l].name;
        if (tls)
            weir_tls_server_certs(tls, on_cert, &walk);
    }
    control_reply_json(call, 200, walk.array);
}

static void on_ban(void *arg, const struct weir_prefix *prefix, uint64_t left_ms,
                   struct weir_str why, uint64_t hits)
{
    json_t *array = arg, *one;
    char text[WEIR_ADDR_TEXT_MAX];
    size_t len;

    if (json_array_size(array) >= CONTROL_BANS_MAX)
        return;
    len = weir_prefix_print(prefix, text);
    one = json_object();
    put(one, "prefix", control_str((struct weir_str){ text, len }));
    put(one, "left_ms", control_u64(left_ms));
    put(one, "why", control_str(why));
    put(one, "hits", control_u64(hits));
    json_array_append_new(array, one);
}

static json_t *bans_json(struct weir_control *control)
{
    json_t *array = json_array();

    weir_access_bans(weir_service_access(control->opts.service), weir_clock_us() / 1000, on_ban,
                     array);
    return array;
}

void control_get_bans(struct control_call *call)
{
    control_reply_json(call, 200, bans_json(call->control));
}

/* ---- configuration ------------------------------------------------------------------------ */

static json_t *diff_row(struct weir_str what, json_t *file, json_t *now)
{
    return json_pack("{s:o,s:o,s:o}", "what", control_str(what), "file", file, "now", now);
}

static int file_weight(const struct weir_cluster_conf *conf, struct weir_str server)
{
    const struct weir_server_conf *servers = conf->servers.at;

    for (size_t i = 0; i < conf->servers.count; i++) {
        if (weir_str_eq(servers[i].address, server))
            return (int)servers[i].weight;
    }
    return 1;
}

static void diff_server(json_t *rows, struct weir_cluster *cluster, unsigned i)
{
    struct weir_server_status status = { 0 };
    char what[2 * WEIR_NAME_BYTES_MAX + 32];
    int weight, n;

    weir_server_get_status(weir_cluster_server(cluster, i), &status);
    weight = file_weight(weir_cluster_get_conf(cluster), status.name);
    if (status.weight != weight) {
        n = snprintf(what, sizeof(what), "upstream %.*s/%.*s weight",
                     WEIR_FMT(weir_cluster_name(cluster)), WEIR_FMT(status.name));
        json_array_append_new(rows, diff_row((struct weir_str){ what, (size_t)n },
                                             json_integer(weight), json_integer(status.weight)));
    }
    if (status.draining) {
        n = snprintf(what, sizeof(what), "upstream %.*s/%.*s state",
                     WEIR_FMT(weir_cluster_name(cluster)), WEIR_FMT(status.name));
        json_array_append_new(rows, diff_row((struct weir_str){ what, (size_t)n },
                                             json_string("ready"), json_string("drain")));
    }
}

/* What was set at run time is not remembered a second time: it is what differs from the file. */
static json_t *config_diff(struct weir_control *control)
{
    struct weir_service *service = control->opts.service;
    enum weir_log_level level = weir_log_level(control->opts.log);
    int splice = (int)weir_service_splice(service) - WEIR_SPLICE_AUTO;
    int file_splice = control->opts.conf->proxy.kernel.splice;
    json_t *rows = json_array(), *bans = bans_json(control), *ban;
    size_t i;

    if (level != control->file_level)
        json_array_append_new(rows, diff_row(WEIR_STR("log-level"),
                                             json_string(level_names[control->file_level]),
                                             json_string(level_names[level])));
    if (splice != file_splice)
        json_array_append_new(rows, diff_row(WEIR_STR("kernel.splice"),
                                             json_string(control_splice_words[file_splice]),
                                             json_string(control_splice_words[splice])));
    for (unsigned c = 0; c < weir_service_clusters(service); c++) {
        struct weir_cluster *cluster = weir_service_cluster(service, c);

        for (unsigned s = 0; s < weir_cluster_count(cluster); s++)
            diff_server(rows, cluster, s);
    }
    json_array_foreach(bans, i, ban)
    {
        char what[WEIR_ADDR_TEXT_MAX + 8];

        snprintf(what, sizeof(what), "ban %s", json_string_value(json_object_get(ban, "prefix")));
        json_array_append_new(rows, diff_row(weir_str(what), json_null(), json_string("banned")));
    }
    json_decref(bans);
    return rows;
}

void control_get_config(struct control_call *call)
{
    const struct weir_conf *conf = call->control->opts.conf;
    char *text = NULL;
    size_t len = 0;
    FILE *out;

    if (!weir_str_absent(control_param(call, "diff"))) {
        control_reply_json(call, 200, config_diff(call->control));
        return;
    }
    out = open_memstream(&text, &len);
    if (!out) {
        control_fail(call, 503, "out of memory");
        return;
    }
    weir_conf_print_effective(conf, out);
    fclose(out);
    control_reply_json(call, 200,
                       json_pack("{s:o,s:o}", "path", control_str(conf->path), "effective",
                                 control_str((struct weir_str){ text, text ? len : 0 })));
    free(text);
}

/* ---- for machines ------------------------------------------------------------------------- */

void control_get_metrics(struct control_call *call)
{
    size_t len = 0;
    char *text = weir_service_metrics(call->control->opts.service, &len);

    text = control_keeper_metrics(call->control, text, &len);
    if (!text) {
        control_fail(call, 503, "out of memory");
        return;
    }
    control_reply_text(call, 200, "text/plain; version=0.0.4; charset=utf-8",
                       (struct weir_str){ text, len });
    free(text);
}

void control_get_health(struct control_call *call)
{
    control_reply_text(call, 200, "text/plain", WEIR_STR("ok\n"));
}

void control_get_ready(struct control_call *call)
{
    const char *state = state_names[call->control->state];
    char text[32];
    int n = snprintf(text, sizeof(text), "%s\n", state);

    control_reply_text(call, call->control->state == WEIR_CONTROL_READY ? 200 : 503, "text/plain",
                       (struct weir_str){ text, (size_t)n });
}
