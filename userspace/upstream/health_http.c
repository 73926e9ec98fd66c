/* SPDX-License-Identifier: Apache-2.0 */
/** health_http.c: GET path, and a final status that `expect` has: the body is not waited for. */
#include "upstream/health.h"

#include <stdio.h>

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
    if (is_expected(health->server->cluster->conf->health.expect, (uint64_t)msg->status)) {
        weir_health_end(health, NULL);
        return;
    }
    snprintf(health->fault, sizeof(health->fault), "it answers %d", msg->status);
    weir_health_end(health, health->fault);
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

static const struct weir_hstream_sink exchange_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_trailer = on_trailer,
    .on_end = on_nothing,
    .on_drained = on_nothing,
    .on_reset = on_reset,
};

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    if (weir_stream_write(health->stream, iov, count))
        weir_health_end(health, weir_err_text(WEIR_ENOMEM));
}
static size_t on_pending(void *arg)
{
    return 0;
}
static void on_pause(void *arg, bool pause)
{
}
static const struct weir_codec_sink codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
};

static int health_request(struct weir_health *health, struct weir_message *msg)
{
    const struct weir_health_conf *conf = &health->server->cluster->conf->health;
    struct weir_str query,
        path = weir_str_cut(conf->path.len ? conf->path : WEIR_STR("/"), '?', &query);
    int err;

    weir_message_init(msg, &health->arena, true);
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

void weir_health_http_begin(struct weir_health *health)
{
    struct weir_message msg;
    int err;

    health->opened = health->http = true;
    weir_arena_init(&health->arena, &health->loop->arenas);
    weir_h1_init_client(&health->h1, health->server->cluster->limits, &codec_sink, health);
    health->hs =
        (struct weir_hstream){ .sink = &exchange_sink, .arg = health, .arena = &health->arena };
    err = health_request(health, &msg);
    if (!err)
        err = weir_codec_open(&health->h1.codec, &health->hs);
    if (!err)
        err = weir_hstream_send(&health->hs, &msg, NULL, 0, NULL, WEIR_SEND_END);
    if (err)
        weir_health_end(health, weir_err_text((enum weir_err)err));
    else
        weir_stream_read(health->stream, true);
}

void weir_health_http_feed(struct weir_health *health, const uint8_t *data, size_t len)
{
    if (weir_codec_feed(&health->h1.codec, data, len) < 0)
        weir_health_end(health, weir_err_text(WEIR_EUPHEAD)); /* unless on_reset has said more */
}

void weir_health_http_fini(struct weir_health *health)
{
    if (!health->http)
        return;
    weir_h1_fini(&health->h1);
    weir_arena_fini(&health->arena);
    health->http = false;
}
