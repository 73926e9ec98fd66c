/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: every default reads, what programs get (policy.c) is what people read, explain and schema know all keys. */
#include "daemon/conf_internal.h"
#include "conf_text.h"

#include <jansson.h>

static struct conf_load *load_begin(struct conf_load *load, struct weir_conf *conf,
                                    struct weir_diags *diags)
{
    memset(conf, 0, sizeof(*conf));
    weir_diags_init(diags);
    *load = (struct conf_load){ .conf = conf, .diags = diags, .no_files = true };
    weir_arena_init(&conf->arena, NULL);
    weir_arena_init(&load->scratch, NULL);
    return load;
}

static void load_end(struct conf_load *load)
{
    assert_int_equal(load->diags->errors, 0);
    assert_false(load->nomem);
    weir_arena_fini(&load->scratch);
    weir_arena_fini(&load->conf->arena);
    weir_diags_fini(load->diags);
}

static void same_strs(const char *name, const struct weir_strs *a, const struct weir_strs *b)
{
    if (a->count != b->count)
        fail_msg("%s: %zu and %zu texts", name, a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        assert_true(weir_str_eq(a->at[i], b->at[i]));
}

static void same_rows(const struct weir_conf_item *rows, const void *mine, const void *theirs)
{
    for (const struct weir_conf_item *item = rows; item->name; item++) {
        const char *a = (const char *)mine + item->offset, *b = (const char *)theirs + item->offset;
        bool same = true;

        switch (item->type) {
        case WEIR_CONF_SECTION:
            same_rows(item->rows, a, b);
            break;
        case WEIR_CONF_STR:
        case WEIR_CONF_FILE:
            same = item->flags & WEIR_CONF_ALIAS ||
                   weir_str_eq(*(const struct weir_str *)a, *(const struct weir_str *)b);
            break;
        case WEIR_CONF_STRS:
            same_strs(item->name, (const void *)a, (const void *)b);
            break;
        case WEIR_CONF_BOOL:
            same = *(const bool *)a == *(const bool *)b;
            break;
        case WEIR_CONF_ENUM:
            same = *(const int *)a == *(const int *)b;
            break;
        case WEIR_CONF_INT:
        case WEIR_CONF_MS:
        case WEIR_CONF_BYTES:
            same = *(const int64_t *)a == *(const int64_t *)b;
            break;
        case WEIR_CONF_PERCENT:
            same = *(const double *)a == *(const double *)b;
            break;
        default:
            break;
        }
        if (!same)
            fail_msg("the default of '%s' is not the same in the table and in policy.c",
                     item->name);
    }
}

static void test_defaults_agree(void **state)
{
    struct conf_load load;
    struct weir_conf conf, init = { .instance = WEIR_STR("main"),
                                    .user = WEIR_STR("weir"),
                                    .log.level = WEIR_LOG_INFO };
    struct weir_diags diags;
    struct weir_listener_conf *listener, listener_init;
    struct weir_route_conf *route, route_init;
    struct weir_cluster_conf *cluster, cluster_init;

    load_begin(&load, &conf, &diags);
    conf_defaults(&load, conf_top_items, &conf, false);
    weir_proxy_conf_init(&init.proxy);
    same_rows(conf_top_items, &conf, &init);
    assert_true(conf.proxy.limits.memory_share == init.proxy.limits.memory_share);
    same_rows(conf_access_log_items, &conf.proxy.access_log, &init.proxy.access_log);
    listener = conf_alloc(&load, sizeof(*listener));
    conf_defaults(&load, conf_listener_items, listener, false);
    weir_listener_conf_init(&listener_init);
    same_rows(conf_listener_items, listener, &listener_init);
    same_rows(conf_tls_items, &listener->tls, &listener_init.tls);
    assert_int_equal(listener->mode, listener_init.mode);
    route = conf_alloc(&load, sizeof(*route));
    conf_defaults(&load, conf_route_items, route, false);
    weir_route_conf_init(&route_init);
    same_rows(conf_route_items, route, &route_init);
    assert_int_equal(route->retry.when, route_init.retry.when);
    assert_int_equal(route->host, route_init.host);
    cluster = conf_alloc(&load, sizeof(*cluster));
    conf_defaults(&load, conf_upstream_items, cluster, false);
    weir_cluster_conf_init(&cluster_init);
    same_rows(conf_upstream_items, cluster, &cluster_init);
    same_rows(conf_item_find(conf_upstream_items, WEIR_STR("health"))->rows + 1, &cluster->health,
              &cluster_init.health);
    assert_int_equal(cluster->health.type, WEIR_HEALTH_NONE);
    load_end(&load);
}

static void test_inherit(void **state)
{
    struct weir_limit_conf low, high;
    struct weir_listener_conf listener;
    struct weir_proxy_conf proxy;

    weir_proxy_conf_init(&proxy);
    weir_listener_conf_init(&listener);
    low = listener.limits;
    high = proxy.limits;
    low.body = WEIR_UNLIMITED;
    high.body = 10;
    low.headers = 200;
    low.head = 1000;
    weir_limits_inherit(&low, &high);
    assert_int_equal(low.body, 10);
    assert_int_equal(low.headers, 100);
    assert_int_equal(low.head, 1000);
    assert_int_equal(low.connections, 100000);
    listener.timeouts.request = WEIR_UNLIMITED;
    proxy.timeouts.request = 5;
    weir_timeouts_inherit(&listener.timeouts, &proxy.timeouts);
    assert_int_equal(listener.timeouts.request, WEIR_UNLIMITED);
    assert_int_equal(listener.timeouts.connect, 4000);
}

static void test_numbers(void **state)
{
    static const struct {
        enum weir_conf_type type;
        const char *text;
        int64_t value;
        const char *again;
    } numbers[] = {
        { WEIR_CONF_MS, "200ms", 200, "200ms" },
        { WEIR_CONF_MS, "90s", 90000, "90s" },
        { WEIR_CONF_MS, "3600s", 3600000, "1h" },
        { WEIR_CONF_MS, "0", 0, "0s" },
        { WEIR_CONF_BYTES, "16KiB", 16384, "16KiB" },
        { WEIR_CONF_BYTES, "1000", 1000, "1000" },
        { WEIR_CONF_BYTES, "1024MiB", 1 << 30, "1GiB" },
        { WEIR_CONF_INT, "-5", -5, "-5" },
        { WEIR_CONF_INT, "9223372036854775807", INT64_MAX, "9223372036854775807" },
    };
    static const char *const bad[] = {
        "", "-", "5", "5 s", "5S", "1.5s", "99999999999999999999s", "9223372036854775807h", "s"
    };
    char text[CONF_NUMBER_MAX];
    int64_t value;
    double fraction;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        assert_true(conf_number(numbers[i].type, weir_str(numbers[i].text), &value));
        assert_true(value == numbers[i].value);
        conf_number_print(numbers[i].type, value, text);
        assert_string_equal(text, numbers[i].again);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(conf_number(WEIR_CONF_MS, weir_str(bad[i]), &value));
    assert_true(conf_fraction(WEIR_CONF_RATE, WEIR_STR("6000/m"), &fraction) && fraction == 100);
    conf_fraction_print(WEIR_CONF_RATE, fraction, NULL, text);
    assert_string_equal(text, "100/s");
    assert_true(conf_fraction(WEIR_CONF_RATE, WEIR_STR("0.5/s"), &fraction) && fraction == 0.5);
    conf_fraction_print(WEIR_CONF_RATE, fraction, NULL, text);
    assert_string_equal(text, "30/m");
    conf_fraction_print(WEIR_CONF_RATE, 1, "60/m", text);
    assert_string_equal(text, "60/m"); /* in the unit of the default */
    conf_fraction_print(WEIR_CONF_RATE, 100, "100/s", text);
    assert_string_equal(text, "100/s");
    conf_fraction_print(WEIR_CONF_RATE, 90 / 3600.0, "60/m", text);
    assert_string_equal(text, "90/h"); /* unless it is not whole in that */
    assert_true(conf_fraction(WEIR_CONF_PERCENT, WEIR_STR("33.3%"), &fraction));
    conf_fraction_print(WEIR_CONF_PERCENT, fraction, NULL, text);
    assert_string_equal(text, "33.3%");
    assert_false(conf_fraction(WEIR_CONF_RATE, WEIR_STR("5/d"), &fraction));
    assert_false(conf_fraction(WEIR_CONF_RATE, WEIR_STR("-5/s"), &fraction));
    assert_false(conf_fraction(WEIR_CONF_PERCENT, WEIR_STR("1e3%"), &fraction));
}

static char *explained(const char *key, int wanted)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_int_equal(weir_conf_explain(key, NULL, out), wanted);
    fclose(out);
    return text;
}

static void test_explain(void **state)
{
    char *text = explained("upstreams.*.health.every", 0);

    assert_string_equal(text, "upstreams.*.health.every: duration from 10ms to 24h; default 2s\n"
                              "    the time between two checks\n");
    free(text);
    text = explained("upstreams.app.servers.weight", 0);
    assert_non_null(strstr(text, "upstreams.*.servers[].weight: number from 0 to 1000; default 1"));
    free(text);
    text = explained("first_bite", WEIR_ENOENT);
    assert_non_null(strstr(text, "did you mean 'timeouts.first_byte'?"));
    free(text);
    text = explained("upstreams.*.helth", WEIR_ENOENT);
    assert_string_equal(
        text, "there is no key 'upstreams.*.helth'; did you mean 'upstreams.*.health'?\n");
    free(text);
    text = explained(NULL, 0);
    assert_non_null(strstr(text, "routes.*[].filters[].rate_limit.rate: rate"));
    free(text);
}

static void test_schema(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    json_t *schema;

    assert_int_equal(weir_conf_schema(NULL, out), 0);
    fclose(out);
    schema = json_loads(text, 0, NULL);
    assert_non_null(schema);
    assert_string_equal(json_string_value(json_object_get(schema, "$schema")),
                        "https://json-schema.org/draft/2020-12/schema");
    for (const struct weir_conf_item *item = conf_top_items; item->name; item++)
        assert_non_null(json_object_get(json_object_get(schema, "properties"), item->name));
    json_decref(schema);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_agree), cmocka_unit_test(test_inherit),
        cmocka_unit_test(test_numbers),        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_schema),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
