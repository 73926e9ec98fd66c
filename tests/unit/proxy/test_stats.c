/* SPDX-License-Identifier: Apache-2.0 */
/** /metrics: what workers count becomes Prometheus text, with the names, kinds and labels of the
 * table. */
#include "proxy/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { WORKERS = 2, LISTENERS = 2, ROUTES = 2 };

/* ---- the fake: a service of two workers, and one upstream ---- */

struct weir_service {
    int unused;
};

static struct weir_service service;
static struct weir_route_conf routes[ROUTES] = { { .name = { "a\"\\\nb", 5 } },
                                                 { .name = { NULL, 0 } } };
static struct weir_listener_conf listeners[LISTENERS] = {
    { .name = { "web", 3 }, .routes = { routes, ROUTES } },
    { .name = { "tls", 3 }, .tls_on = true },
};
static struct weir_proxy_conf conf = { .listeners = { listeners, LISTENERS } };
static struct weir_route_stats route_stats[WORKERS][LISTENERS][ROUTES + 1];
static struct weir_listener_stats listener_stats[WORKERS][LISTENERS];
static weir_counter retries[WORKERS][1][WEIR_RETRIED_COUNT];
static struct weir_worker_stats stats[WORKERS];
static struct weir_histogram upstream_duration;

const struct weir_proxy_conf *weir_service_conf(const struct weir_service *s)
{
    return &conf;
}

unsigned weir_service_workers(const struct weir_service *s)
{
    return WORKERS;
}

unsigned weir_service_clusters(const struct weir_service *s)
{
    return 1;
}

struct weir_cluster *weir_service_cluster(const struct weir_service *s, unsigned i)
{
    return (struct weir_cluster *)&service;
}

const struct weir_worker_stats *weir_service_stats(const struct weir_service *s, unsigned worker)
{
    return &stats[worker];
}

const struct weir_listener_stats *weir_service_listener_stats(const struct weir_service *s,
                                                              unsigned listener, unsigned worker)
{
    return &listener_stats[worker][listener];
}

const struct weir_route_stats *weir_service_route_stats(const struct weir_service *s,
                                                        unsigned listener, unsigned route,
                                                        unsigned worker)
{
    return &route_stats[worker][listener][route];
}

uint64_t weir_service_retries(const struct weir_service *s, unsigned upstream,
                              enum weir_retried why, unsigned worker)
{
    return weir_counter_read(&retries[worker][upstream][why]);
}

uint64_t weir_service_reloads(const struct weir_service *s, bool good)
{
    return good ? 5 : 2;
}

uint64_t weir_service_busy_us(const struct weir_service *s, unsigned worker)
{
    return 1000001 * (worker + 1);
}

struct weir_tls_server *weir_service_tls(const struct weir_service *s, unsigned listener)
{
    return listener ? (struct weir_tls_server *)&service : NULL;
}

bool weir_service_memory(const struct weir_service *s, uint64_t *resident, uint64_t *limit)
{
    *resident = 1024;
    *limit = 4096;
    return false;
}

void weir_tls_server_certs(const struct weir_tls_server *policy,
                           void (*fn)(void *arg, struct weir_str file, struct weir_str names,
                                      int64_t not_after),
                           void *arg)
{
    fn(arg, WEIR_STR("/etc/a.pem"), WEIR_STR("a.test"), 1800000000);
    fn(arg, WEIR_STR("/etc/a.pem"), WEIR_STR("b.test"), 1800000000);
    fn(arg, WEIR_STR("/etc/b.pem"), WEIR_STR("b.test"), 1700000000);
}

struct weir_str weir_cluster_name(const struct weir_cluster *cluster)
{
    return WEIR_STR("app");
}

void weir_cluster_get_totals(const struct weir_cluster *cluster, struct weir_cluster_totals *totals)
{
    totals->requests_new = 3;
    totals->requests_reused = 97;
    totals->opened = 4;
    totals->active = 2;
    totals->idle = 1;
    memcpy(&totals->duration, &upstream_duration, sizeof(upstream_duration));
}

unsigned weir_cluster_count(const struct weir_cluster *cluster)
{
    return 2;
}

const struct weir_server *weir_cluster_server(const struct weir_cluster *cluster, unsigned i)
{
    return (const struct weir_server *)((const char *)&stats + i);
}

void weir_server_get_status(const struct weir_server *server, struct weir_server_status *status)
{
    bool first = (const void *)server == (const void *)&stats;

    status->name = first ? WEIR_STR("10.0.0.1:80") : WEIR_STR("10.0.0.2:80");
    status->up = true;
    status->draining = !first;
}

/* ---- tests ---- */

static char *metrics(void)
{
    size_t len = 0;
    char *text = weir_service_metrics(&service, &len);

    assert_non_null(text);
    assert_int_equal(strlen(text), len);
    return text;
}

static int set_up(void **state)
{
    memset(route_stats, 0, sizeof(route_stats));
    memset(listener_stats, 0, sizeof(listener_stats));
    memset(retries, 0, sizeof(retries));
    memset(stats, 0, sizeof(stats));
    memset(&upstream_duration, 0, sizeof(upstream_duration));
    return 0;
}

#define has(text, line) assert_non_null(strstr(text, line "\n"))

static void test_sums(void **state)
{
    char *text;

    weir_codes_add(&route_stats[0][0][0].codes, 200);
    weir_codes_add(&route_stats[0][0][0].codes, 404);
    weir_codes_add(&route_stats[1][0][0].codes, 404); /* its slots have another order */
    weir_codes_add(&route_stats[1][0][2].codes, 404); /* no route */
    weir_count(&listener_stats[0][0].connections, (uint64_t)-1);
    weir_count(&listener_stats[1][0].connections, 3);
    weir_count(&listener_stats[1][0].refused[WEIR_REFUSED_banned], 5);
    weir_count(&listener_stats[1][0].h2_abuse[WEIR_H2_ABUSE_PINGS], 6);
    weir_count(&listener_stats[0][1].handshakes[1][0], 6);
    weir_count(&retries[1][0][WEIR_RETRIED_stale], 7);
    weir_count(&stats[0].bytes[WEIR_SIDE_UP][WEIR_DIR_IN], 8);
    weir_count(&stats[1].bugs, 9);
    text = metrics();
    has(text, "weir_requests_total{listener=\"web\",route=\"a\\\"\\\\\\nb\",code=\"200\"} 1");
    has(text, "weir_requests_total{listener=\"web\",route=\"a\\\"\\\\\\nb\",code=\"404\"} 2");
    has(text, "weir_requests_total{listener=\"web\",route=\"\",code=\"404\"} 1");
    has(text, "weir_connections{listener=\"web\"} 2");
    has(text, "weir_connections_refused_total{listener=\"web\",reason=\"banned\"} 5");
    has(text, "weir_h2_abuse_total{listener=\"web\",reason=\"pings\"} 6");
    has(text,
        "weir_tls_handshakes_total{listener=\"tls\",version=\"TLSv1.3\",resumed=\"false\"} 6");
    has(text, "weir_retries_total{upstream=\"app\",why=\"stale\"} 7");
    has(text, "weir_bytes_total{side=\"up\",direction=\"in\",mover=\"copy\"} 8");
    has(text, "weir_bugs_total 9");
    has(text, "weir_upstream_requests_total{upstream=\"app\",reused=\"true\"} 97");
    has(text, "weir_upstream_connections{upstream=\"app\",state=\"idle\"} 1");
    has(text, "weir_upstream_up{upstream=\"app\",server=\"10.0.0.1:80\"} 1");
    has(text, "weir_upstream_up{upstream=\"app\",server=\"10.0.0.2:80\"} 0");
    has(text, "weir_worker_busy_seconds_total{worker=\"1\"} 2.000002");
    has(text, "weir_memory_bytes{pool=\"limit\"} 4096");
    has(text, "weir_config_reloads_total{result=\"done\"} 5");
    has(text, "weir_config_reloads_total{result=\"refused\"} 2");
    has(text, "weir_certificate_expiry_seconds{cert=\"/etc/b.pem\"} 1700000000");
    assert_non_null(strstr(text, "weir_build_info{version=\""));
    assert_non_null(strstr(text, "\nweir_listen_drops_total "));
    free(text);
}

static void test_histogram(void **state)
{
    char *text;

    weir_histogram_add(&route_stats[0][0][1].duration, 64);
    weir_histogram_add(&route_stats[1][0][1].duration, 65);
    weir_histogram_add(&route_stats[1][0][1].duration, 1ull << 40);
    text = metrics();
#define AT "{listener=\"web\",route=\"#2\""
    has(text, "weir_request_duration_seconds_bucket" AT ",le=\"0.000064\"} 1");
    has(text, "weir_request_duration_seconds_bucket" AT ",le=\"0.000128\"} 2");
    has(text, "weir_request_duration_seconds_bucket" AT ",le=\"67.108864\"} 2");
    has(text, "weir_request_duration_seconds_bucket" AT ",le=\"+Inf\"} 3");
    has(text, "weir_request_duration_seconds_count" AT "} 3");
    has(text, "weir_request_duration_seconds_sum" AT "} 1099511.627905");
    assert_non_null(strstr(text, "# TYPE weir_request_duration_seconds histogram\n"));
    free(text);
}

static void test_errors(void **state)
{
    struct weir_error refused = { .code = WEIR_ECONNREFUSED, .by = WEIR_BY_UPSTREAM };
    struct weir_error alias = { .code = WEIR_ECONNREFUSED - WEIR_ERROR_SLOTS, .by = WEIR_BY_US };
    char *text;

    weir_error_stats_add(&stats[0].errors, &alias); /* the same home slot */
    weir_error_stats_add(&stats[0].errors, &refused);
    weir_error_stats_add(&stats[1].errors, &refused);
    text = metrics();
    has(text, "weir_errors_total{by=\"upstream\",code=\"ECONNREFUSED\"} 2");
    free(text);
}

struct row {
    const char *name, *kind, *labels;
};
#define ROW(name, kind, labels, text) { #name, #kind, labels },
static const struct row rows[] = { WEIR_METRICS(ROW) };

/* The labels of a sample line, comma-separated, without `le`. */
static void labels_of(const char *line, char *out)
{
    const char *at = strchr(line, '{');

    *out = 0;
    while (at && *at != '}') {
        const char *end = strchr(++at, '=');

        if (strncmp(at, "le=", 3) != 0)
            sprintf(out + strlen(out), "%s%.*s", *out ? "," : "", (int)(end - at), at);
        for (at = end + 2; *at != '"'; at++)
            at += *at == '\\';
        at++;
    }
}

/* Every sample is of a row of the table, with its labels, after one HELP and TYPE. */
static void test_table(void **state)
{
    char *text, *rest = NULL, seen[64] = { 0 };
    unsigned families = 0;

    weir_codes_add(&route_stats[0][0][0].codes, 200);
    text = metrics();
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char name[128], labels[128];
        const struct row *row = NULL;

        if (sscanf(line, "# TYPE weir_%100s", name) == 1) {
            families++;
            for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                seen[i] += !strcmp(rows[i].name, name);
        }
        if (*line == '#')
            continue;
        assert_int_equal(sscanf(line, "weir_%100[a-z0-9_]", name), 1);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            size_t len = strlen(rows[i].name);

            if (!strcmp(name, rows[i].name) ||
                (!strncmp(name, rows[i].name, len) && !strcmp(rows[i].kind, "HISTOGRAM")))
                row = &rows[i];
        }
        assert_non_null(row);
        assert_int_equal(seen[row - rows], 1);
        labels_of(line, labels);
        assert_string_equal(labels, row->labels);
    }
    assert_true(families >= 18);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sums, set_up),
        cmocka_unit_test_setup(test_histogram, set_up),
        cmocka_unit_test_setup(test_errors, set_up),
        cmocka_unit_test_setup(test_table, set_up),
    };

    return cmocka_run_group_tests_name("proxy/stats", tests, NULL, NULL);
}
