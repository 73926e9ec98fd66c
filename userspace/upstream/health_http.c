/* SPDX-License-Identifier: Apache-2.0 */
/** health_http.c: GET path, and a final status that `expect` has: the body is not waited for. */
#include "upstream/health.h"

/* The next "200" or "200-299" of a list; false at its end, or when it is malformed (*bad). */
static bool next_range(struct weir_str *list, uint64_t *low, uint64_t *high, bool *bad)
{
    struct weir_str element, to, from;

    if (!weir_str_next_element(list, &element))
        return false;
    from = weir_str_cut(element, '-', &to);
    *bad = !weir_str_to_u64(weir_str_trim(from), low);
    *high = *low;
    if (!*bad && !weir_str_absent(to))
        *bad = !weir_str_to_u64(weir_str_trim(to), high);
    *bad = *bad || *low < 100 || *high > 599 || *low > *high;
    return !*bad;
}

bool weir_health_expect_ok(struct weir_str expect)
{
    uint64_t low, high;
    bool bad = false;

    while (next_range(&expect, &low, &high, &bad))
        ;
    return !bad;
}

static bool is_expected(struct weir_str expect, uint64_t status)
{
    uint64_t low, high;
    bool bad = false;

    if (!expect.len)
        return status >= 200 && status <= 299;
    while (next_range(&expect, &low, &high, &bad))
        if (status >= low && status <= high)
            return true;
    return false;
}

static void on_head(void *arg, struct weir_message *msg)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    if (msg->status < 200)
        return;
    if (is_expected(weir_health_conf(health)->expect, (uint64_t)msg->status))
        weir_health_end(health, NULL);
    else
        weir_health_fail(health, "it answers %d", msg->status);
}

static void on_body(void *arg, struct weir_str data)
{
}
static void on_trailer(void *arg, struct weir_message *msg)
{
}
static void on_nothing(void *arg)
{
}
static void on_reset(void *arg, const struct weir_error *why)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    weir_health_end(health, weir_err_text(why->code));
}

static int http_request(struct weir_health *health, struct weir_message *msg, struct weir_str *body)
{
    const struct weir_health_conf *conf = weir_health_conf(health);
    struct weir_str query,
        path = weir_str_cut(conf->path.len ? conf->path : WEIR_STR("/"), '?', &query);
    int err;

    msg->method_id = WEIR_M_GET;
    msg->method = WEIR_STR("GET");
    msg->body = WEIR_BODY_NONE;
    msg->keep_alive = false;
    err = weir_message_set_path(msg, path, query);
    if (!err)
        err = weir_message_set_host(msg, conf->host.len ? conf->host : health->server->authority);
    if (!err)
        err = weir_message_set(msg, "user-agent", WEIR_STR("weir-health"));
    return err;
}

const struct weir_health_kind weir_health_http = {
    .request = http_request,
    .sink = { .on_head = on_head,
              .on_body = on_body,
              .on_trailer = on_trailer,
              .on_end = on_nothing,
              .on_drained = on_nothing,
              .on_reset = on_reset },
};
