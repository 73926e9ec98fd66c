/* SPDX-License-Identifier: Apache-2.0 */
/**
 * metrics.c: /metrics in Prometheus text. Each row of WEIR_METRICS has its function here, or this
 * file does not link; name, kind and sentence come from the row. A family without a sample is left
 * out. Numbers are printed as integers and millionths: the locale of a program cannot change them.
 */
#include "proxy/metrics_out.h"

#include "base/str.h"
#include "weir/weir.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- sums over the workers ---- */

static const struct weir_worker_stats *stats_of(const struct weir_metrics_out *out, unsigned worker)
{
    return weir_service_stats(out->service, worker);
}

static const struct weir_listener_conf *listener_of(const struct weir_metrics_out *out, size_t i)
{
    return &((const struct weir_listener_conf *)out->conf->listeners.at)[i];
}

static const struct weir_route_stats *route_of(const struct weir_metrics_out *out, size_t listener,
                                               unsigned route, unsigned worker)
{
    return weir_service_route_stats(out->service, (unsigned)listener, route, worker);
}

/* Sums a counter that is a member of a worker's stats of a listener. */
#define SUM_LISTENER(out, listener, member)                                                      \
    ({                                                                                           \
        uint64_t sum_ = 0;                                                                       \
        for (unsigned w_ = 0; w_ < (out)->workers; w_++)                                         \
            sum_ += weir_counter_read(                                                           \
                &weir_service_listener_stats((out)->service, (unsigned)(listener), w_)->member); \
        sum_;                                                                                    \
    })

#define EACH_LISTENER(out, i) for (size_t i = 0; i < (out)->conf->listeners.count; i++)

static void label_listener(struct weir_metrics_out *out, size_t i)
{
    sample_label(out, "listener", listener_of(out, i)->name);
}

/* The last row is "no route": the label is empty. A route without a name is told by its place. */
static void label_route(struct weir_metrics_out *out, size_t listener, unsigned route)
{
    const struct weir_conf_list *routes = &listener_of(out, listener)->routes;
    struct weir_str name = { "", 0 };
    char place[16];

    if (route < routes->count)
        name = ((const struct weir_route_conf *)routes->at)[route].name;
    if (route < routes->count && !name.len) {
        snprintf(place, sizeof(place), "#%u", route + 1);
        name = weir_str(place);
    }
    sample_label(out, "route", name);
}

/* Status codes of a route, over the workers; each has its own order. */
struct code_sums {
    uint16_t code[1024];
    uint64_t count[1024];
    unsigned used;
};

static void codes_add(struct code_sums *sums, const struct weir_codes *codes)
{
    for (unsigned i = 0; i < WEIR_CODES_MAX; i++) {
        uint16_t code =
            atomic_load_explicit((_Atomic uint16_t *)&codes->code[i], memory_order_acquire);
        uint64_t count = weir_counter_read(&codes->count[i]);
        unsigned at = 0;

        if (!count)
            continue;
        while (at < sums->used && sums->code[at] != code)
            at++;
        if (at == sums->used) {
            if (at == sizeof(sums->code) / sizeof(sums->code[0]))
                return;
            sums->code[sums->used++] = code;
        }
        sums->count[at] += count;
    }
}

static void histogram_sum(struct weir_histogram *sum, const struct weir_histogram *from)
{
    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++)
        weir_count(&sum->bucket[i], weir_counter_read(&from->bucket[i]));
    weir_count(&sum->sum_us, weir_counter_read(&from->sum_us));
}

/* ---- families of listeners ---- */

static void put_requests_total(struct weir_metrics_out *out)
{
    char code[16];

    EACH_LISTENER(out, i)
    {
        unsigned routes = (unsigned)listener_of(out, i)->routes.count + 1;

        for (unsigned r = 0; r < routes; r++) {
            struct code_sums sums = { .used = 0 };

            for (unsigned w = 0; w < out->workers; w++)
                codes_add(&sums, &route_of(out, i, r, w)->codes);
            for (unsigned c = 0; c < sums.used; c++) {
                snprintf(code, sizeof(code), "%u", sums.code[c]);
                sample_begin(out, "");
                label_listener(out, i);
                label_route(out, i, r);
                sample_label(out, "code", sums.code[c] ? weir_str(code) : WEIR_STR("other"));
                sample_u64(out, sums.count[c]);
            }
        }
    }
}

struct route_place {
    size_t listener;
    unsigned route;
};

static void labels_of_route(struct weir_metrics_out *out, const void *arg)
{
    const struct route_place *place = arg;

    label_listener(out, place->listener);
    label_route(out, place->listener, place->route);
}

static void put_request_duration_seconds(struct weir_metrics_out *out)
{
    EACH_LISTENER(out, i)
    {
        struct route_place place = { .listener = i };

        for (; place.route <= listener_of(out, i)->routes.count; place.route++) {
            struct weir_histogram sum = { 0 };

            for (unsigned w = 0; w < out->workers; w++)
                histogram_sum(&sum, &route_of(out, i, place.route, w)->duration);
            sample_histogram(out, &sum, labels_of_route, &place);
        }
    }
}

#define LISTENER_FAMILY(family_, member, value)             \
    static void put_##family_(struct weir_metrics_out *out) \
    {                                                       \
        EACH_LISTENER(out, i)                               \
        {                                                   \
            sample_begin(out, "");                          \
            label_listener(out, i);                         \
            value(out, SUM_LISTENER(out, i, member));       \
        }                                                   \
    }
LISTENER_FAMILY(requests_in_flight, in_flight, sample_gauge)
LISTENER_FAMILY(connections, connections, sample_gauge)
LISTENER_FAMILY(connections_accepted_total, accepted, sample_u64)

static void put_connections_refused_total(struct weir_metrics_out *out)
{
#define REFUSAL_NAME(name) #name,
    static const char *const reasons[] = { WEIR_REFUSALS(REFUSAL_NAME) };

    EACH_LISTENER(out, i)
    {
        for (unsigned r = 0; r < WEIR_REFUSALS_COUNT; r++) {
            sample_begin(out, "");
            label_listener(out, i);
            sample_label(out, "reason", weir_str(reasons[r]));
            sample_u64(out, SUM_LISTENER(out, i, refused[r]));
        }
    }
}

static void put_h2_abuse_total(struct weir_metrics_out *out)
{
    EACH_LISTENER(out, i)
    {
        for (unsigned why = WEIR_H2_ABUSE_NONE + 1; why < WEIR_H2_ABUSE_COUNT; why++) {
            sample_begin(out, "");
            label_listener(out, i);
            sample_label(out, "reason", weir_str(weir_h2_abuse_name((enum weir_h2_abuse)why)));
            sample_u64(out, SUM_LISTENER(out, i, h2_abuse[why]));
        }
    }
}

static void put_tls_handshakes_total(struct weir_metrics_out *out)
{
    EACH_LISTENER(out, i)
    {
        for (unsigned k = 0; k < 4 && listener_of(out, i)->tls_on; k++) {
            sample_begin(out, "");
            label_listener(out, i);
            sample_label(out, "version", k / 2 ? WEIR_STR("TLSv1.3") : WEIR_STR("TLSv1.2"));
            sample_label(out, "resumed", k % 2 ? WEIR_STR("true") : WEIR_STR("false"));
            sample_u64(out, SUM_LISTENER(out, i, handshakes[k / 2][k % 2]));
        }
    }
}

/* A certificate that several listeners have is one series. */
struct certs {
    struct weir_metrics_out *out;
    char **seen;
    size_t count;
};

static void put_cert(void *arg, struct weir_str file, struct weir_str names, int64_t not_after)
{
    struct certs *certs = arg;
    char *name = weir_str_dup(file), **seen;

    for (size_t i = 0; name && i < certs->count; i++) {
        if (strcmp(certs->seen[i], name) != 0)
            continue;
        free(name);
        return;
    }
    seen = name ? realloc(certs->seen, (certs->count + 1) * sizeof(*seen)) : NULL;
    if (!seen) {
        free(name);
        return;
    }
    certs->seen = seen;
    seen[certs->count++] = name;
    sample_begin(certs->out, "");
    sample_label(certs->out, "cert", file);
    fprintf(certs->out->to, "} %lld\n", (long long)not_after);
}

static void put_certificate_expiry_seconds(struct weir_metrics_out *out)
{
    struct certs certs = { .out = out };

    EACH_LISTENER(out, i)
    {
        const struct weir_tls_server *tls = weir_service_tls(out->service, (unsigned)i);

        if (tls)
            weir_tls_server_certs(tls, put_cert, &certs);
    }
    for (size_t i = 0; i < certs.count; i++)
        free(certs.seen[i]);
    free(certs.seen);
}

/* ---- families of upstreams ---- */

static struct weir_cluster *cluster_of(const struct weir_metrics_out *out, unsigned i)
{
    return weir_service_cluster(out->service, i);
}

#define EACH_CLUSTER(out, i) for (unsigned i = 0; i < weir_service_clusters((out)->service); i++)

static void upstream_pair(struct weir_metrics_out *out, unsigned i, const char *name,
                          const char *first, uint64_t a, const char *second, uint64_t b)
{
    struct weir_str upstream = weir_cluster_name(cluster_of(out, i));

    sample_begin(out, "");
    sample_label(out, "upstream", upstream);
    sample_label(out, name, weir_str(first));
    sample_u64(out, a);
    sample_begin(out, "");
    sample_label(out, "upstream", upstream);
    sample_label(out, name, weir_str(second));
    sample_u64(out, b);
}

static void put_upstream_requests_total(struct weir_metrics_out *out)
{
    EACH_CLUSTER(out, i)
    {
        struct weir_cluster_totals totals = { 0 };

        weir_cluster_get_totals(cluster_of(out, i), &totals);
        upstream_pair(out, i, "reused", "false", totals.requests_new, "true",
                      totals.requests_reused);
    }
}

static void put_upstream_connections(struct weir_metrics_out *out)
{
    EACH_CLUSTER(out, i)
    {
        struct weir_cluster_totals totals = { 0 };

        weir_cluster_get_totals(cluster_of(out, i), &totals);
        upstream_pair(out, i, "state", "active", totals.active, "idle", totals.idle);
    }
}

static void put_upstream_connections_opened_total(struct weir_metrics_out *out)
{
    EACH_CLUSTER(out, i)
    {
        struct weir_cluster_totals totals = { 0 };

        weir_cluster_get_totals(cluster_of(out, i), &totals);
        sample_begin(out, "");
        sample_label(out, "upstream", weir_cluster_name(cluster_of(out, i)));
        sample_u64(out, totals.opened);
    }
}

static void put_upstream_h2_abuse_total(struct weir_metrics_out *out)
{
    EACH_CLUSTER(out, i)
    {
        struct weir_cluster_totals totals = { 0 };

        weir_cluster_get_totals(cluster_of(out, i), &totals);
        for (unsigned why = WEIR_H2_ABUSE_NONE + 1; why < WEIR_H2_ABUSE_COUNT; why++) {
            sample_begin(out, "");
            sample_label(out, "upstream", weir_cluster_name(cluster_of(out, i)));
            sample_label(out, "reason", weir_str(weir_h2_abuse_name((enum weir_h2_abuse)why)));
            sample_u64(out, totals.h2_abuse[why]);
        }
    }
}

static void labels_of_upstream(struct weir_metrics_out *out, const void *arg)
{
    sample_label(out, "upstream", weir_cluster_name(arg));
}

static void put_upstream_duration_seconds(struct weir_metrics_out *out)
{
    EACH_CLUSTER(out, i)
    {
        struct weir_cluster_totals totals = { 0 };

        weir_cluster_get_totals(cluster_of(out, i), &totals);
        sample_histogram(out, &totals.duration, labels_of_upstream, cluster_of(out, i));
    }
}

static void put_upstream_up(struct weir_metrics_out *out)
{
    EACH_CLUSTER(out, i)
    {
        const struct weir_cluster *cluster = cluster_of(out, i);

        for (unsigned s = 0; s < weir_cluster_count(cluster); s++) {
            struct weir_server_status status = { 0 };

            weir_server_get_status(weir_cluster_server(cluster, s), &status);
            sample_begin(out, "");
            sample_label(out, "upstream", weir_cluster_name(cluster));
            sample_label(out, "server", status.name);
            sample_u64(out, status.up && !status.draining);
        }
    }
}

static void put_retries_total(struct weir_metrics_out *out)
{
#define RETRY_NAME(name) #name,
    static const char *const whys[] = { WEIR_RETRIES(RETRY_NAME) };

    EACH_CLUSTER(out, i)
    {
        for (unsigned why = 0; why < WEIR_RETRIED_COUNT; why++) {
            uint64_t sum = 0;

            for (unsigned w = 0; w < out->workers; w++)
                sum += weir_service_retries(out->service, i, (enum weir_retried)why, w);
            sample_begin(out, "");
            sample_label(out, "upstream", weir_cluster_name(cluster_of(out, i)));
            sample_label(out, "why", weir_str(whys[why]));
            sample_u64(out, sum);
        }
    }
}

/* ---- families of the process ---- */

static uint64_t errors_of(const struct weir_metrics_out *out, int code, unsigned by)
{
    uint64_t sum = 0;

    for (unsigned w = 0; w < out->workers; w++) {
        const struct weir_error_stats *errors = &stats_of(out, w)->errors;

        for (unsigned i = 0; i < WEIR_ERROR_SLOTS; i++)
            if (atomic_load_explicit((_Atomic int *)&errors->code[i], memory_order_acquire) == code)
                sum += weir_counter_read(&errors->count[i][by]);
    }
    return sum;
}

static void put_errors_total(struct weir_metrics_out *out)
{
#define ERROR_CODE(name, code, http, grpc, level, text) WEIR_##name,
    static const int codes[] = { WEIR_ERRORS(ERROR_CODE) };

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        for (unsigned by = WEIR_BY_US; by <= WEIR_BY_UPSTREAM; by++) {
            uint64_t count = errors_of(out, codes[i], by);

            if (!count)
                continue;
            sample_begin(out, "");
            sample_label(out, "by", weir_str(weir_by_name((enum weir_by)by)));
            sample_label(out, "code", weir_str(weir_err_name((enum weir_err)codes[i])));
            sample_u64(out, count);
        }
    }
}

/* ListenDrops of /proc/net/netstat: a line of names, then a line of numbers. */
static bool listen_drops(uint64_t *drops)
{
    FILE *in = fopen("/proc/net/netstat", "re");
    char names[4096], numbers[4096];
    bool found = false;

    if (!in)
        return false;
    while (!found && fgets(names, sizeof(names), in) && fgets(numbers, sizeof(numbers), in)) {
        char *name_at = NULL, *number_at = NULL;
        char *name = strtok_r(names, " \n", &name_at),
             *number = strtok_r(numbers, " \n", &number_at);

        while (name && number && !found) {
            found = !strcmp(name, "ListenDrops") && weir_str_to_u64(weir_str(number), drops);
            name = strtok_r(NULL, " \n", &name_at);
            number = strtok_r(NULL, " \n", &number_at);
        }
    }
    fclose(in);
    return found;
}

static void put_listen_drops_total(struct weir_metrics_out *out)
{
    uint64_t drops;

    if (!listen_drops(&drops))
        return;
    sample_begin(out, "");
    sample_u64(out, drops);
}

static void put_config_reloads_total(struct weir_metrics_out *out)
{
    for (int good = 0; good < 2; good++) {
        sample_begin(out, "");
        sample_label(out, "result", good ? WEIR_STR("done") : WEIR_STR("refused"));
        sample_u64(out, weir_service_reloads(out->service, good));
    }
}

static void put_worker_busy_seconds_total(struct weir_metrics_out *out)
{
    char id[16];

    for (unsigned w = 0; w < out->workers; w++) {
        snprintf(id, sizeof(id), "%u", w);
        sample_begin(out, "");
        sample_label(out, "worker", weir_str(id));
        sample_us(out, weir_service_busy_us(out->service, w));
    }
}

static void put_memory_bytes(struct weir_metrics_out *out)
{
    uint64_t resident = 0, limit = 0;

    weir_service_memory(out->service, &resident, &limit);
    sample_begin(out, "");
    sample_label(out, "pool", WEIR_STR("resident"));
    sample_u64(out, resident);
    sample_begin(out, "");
    sample_label(out, "pool", WEIR_STR("limit"));
    sample_u64(out, limit);
}

static void put_bugs_total(struct weir_metrics_out *out)
{
    uint64_t sum = 0;

    for (unsigned w = 0; w < out->workers; w++)
        sum += weir_counter_read(&stats_of(out, w)->bugs);
    sample_begin(out, "");
    sample_u64(out, sum);
}

static void put_build_info(struct weir_metrics_out *out)
{
    sample_begin(out, "");
    sample_label(out, "version", WEIR_STR(WEIR_VERSION));
    sample_u64(out, 1);
}

/* ---- all ---- */

#define KIND_COUNTER                      "counter"
#define KIND_GAUGE                        "gauge"
#define KIND_HISTOGRAM                    "histogram"
#define ROW(name_, kind_, labels_, text_) { #name_, KIND_##kind_, text_, put_##name_ },
static const struct {
    const char *name, *kind, *text;
    void (*put)(struct weir_metrics_out *out);
} rows[] = { WEIR_METRICS(ROW) };

char *weir_service_metrics(struct weir_service *service, size_t *len)
{
    struct weir_metrics_out out = {
        .service = service,
        .conf = weir_service_conf(service),
        .workers = weir_service_workers(service),
    };
    char *text = NULL;
    bool failed;

    out.to = open_memstream(&text, len);
    if (!out.to)
        return NULL;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        out.name = rows[i].name;
        out.kind = rows[i].kind;
        out.text = rows[i].text;
        out.begun = false;
        rows[i].put(&out);
    }
    failed = ferror(out.to);
    if (fclose(out.to) || failed) {
        free(text);
        return NULL;
    }
    return text;
}
