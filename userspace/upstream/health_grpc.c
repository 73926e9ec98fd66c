/* SPDX-License-Identifier: Apache-2.0 */
/**
 * health_grpc.c: grpc.health.v1.Health/Check: a server that answers SERVING, and OK as its status, is healthy.
 * Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 */
#include "upstream/health.h"

#include "http/grpc.h"

#include <health.pb-c.h>

enum { FRAME_HEAD = 5 };

/* A message in its frame: not compressed, its length in network order. */
static int put_message(struct weir_health *health, struct weir_str *body)
{
    Grpc__Health__V1__HealthCheckRequest ask = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct weir_str service = weir_arena_copy(&health->arena, weir_health_conf(health)->service);
    size_t len;
    uint8_t *frame;

    if (service.len)
        ask.service = (char *)service.ptr;
    len = grpc__health__v1__health_check_request__get_packed_size(&ask);
    frame = weir_arena_zalloc(&health->arena, FRAME_HEAD + len);
    if (!frame || (weir_health_conf(health)->service.len && !service.len))
        return WEIR_ENOMEM;
    for (unsigned i = 0; i < 4; i++)
        frame[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    grpc__health__v1__health_check_request__pack(&ask, frame + FRAME_HEAD);
    *body = (struct weir_str){ (char *)frame, FRAME_HEAD + len };
    return 0;
}

static int put_timeout(const struct weir_health *health, struct weir_message *msg)
{
    int64_t ms = weir_health_conf(health)->timeout_ms;
    char text[WEIR_GRPC_TIMEOUT_BYTES];

    if (ms <= 0)
        return 0;
    return weir_message_set(
        msg, "grpc-timeout",
        (struct weir_str){ text, weir_grpc_timeout_print((uint64_t)ms * 1000, text) });
}

static int grpc_request(struct weir_health *health, struct weir_message *msg, struct weir_str *body)
{
    const struct weir_health_conf *conf = weir_health_conf(health);
    int err = put_message(health, body);

    msg->method_id = WEIR_M_POST;
    msg->method = WEIR_STR("POST");
    msg->path = WEIR_STR("/grpc.health.v1.Health/Check");
    msg->body = WEIR_BODY_CHUNKED;
    msg->te_trailers = true;
    if (!err)
        err = weir_message_set_host(msg, conf->host.len ? conf->host : health->server->authority);
    if (!err)
        err = weir_message_set(msg, "content-type", WEIR_STR("application/grpc"));
    if (!err)
        err = put_timeout(health, msg);
    return err ?: weir_message_set(msg, "user-agent", WEIR_STR("weir-health"));
}

static void note_status(struct weir_health *health, const struct weir_message *msg)
{
    struct weir_str text = weir_message_get(msg, "grpc-status");

    if (!weir_str_absent(text))
        health->grpc_status = weir_grpc_status_parse(text);
    if (health->grpc_status > 0)
        weir_health_fail(health, "it answers %s (%d)", weir_grpc_status_name(health->grpc_status),
                         health->grpc_status);
}

static void on_head(void *arg, struct weir_message *msg)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    if (msg->status < 200)
        return;
    if (msg->status != 200)
        weir_health_fail(health, "it answers %d", msg->status);
    else
        note_status(health, msg);
}

static void on_body(void *arg, struct weir_str data)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    if (health->ended)
        return;
    if (data.len > sizeof(health->answer) - health->answered) {
        weir_health_end(health, "its answer is too long");
        return;
    }
    memcpy(health->answer + health->answered, data.ptr, data.len);
    health->answered += data.len;
    weir_hstream_consume(&health->hs, data.len);
}

static void on_trailer(void *arg, struct weir_message *msg)
{
    note_status(weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC), msg);
}

/* One whole message, as it was not compressed: nobody said that it might be. */
static bool whole_message(const struct weir_health *health)
{
    const uint8_t *frame = health->answer;
    size_t len = 0;

    for (unsigned i = 1; i < FRAME_HEAD; i++)
        len = len << 8 | frame[i];
    return health->answered >= FRAME_HEAD && frame[0] == 0 && len == health->answered - FRAME_HEAD;
}

static void on_end(void *arg)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);
    Grpc__Health__V1__HealthCheckResponse *said = NULL;
    const ProtobufCEnumValue *word;

    if (health->ended)
        return;
    if (health->grpc_status != WEIR_GRPC_OK) {
        weir_health_end(health, "its answer has no grpc-status");
        return;
    }
    if (whole_message(health))
        said = grpc__health__v1__health_check_response__unpack(NULL, health->answered - FRAME_HEAD,
                                                               health->answer + FRAME_HEAD);
    if (!said) {
        weir_health_end(health, "its answer is malformed");
        return;
    }
    word = protobuf_c_enum_descriptor_get_value(
        &grpc__health__v1__health_check_response__serving_status__descriptor, said->status);
    if (said->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
        weir_health_end(health, NULL);
    else
        weir_health_fail(health, "it answers %s",
                         word ? word->name : "something else than SERVING");
    grpc__health__v1__health_check_response__free_unpacked(said, NULL);
}

static void on_drained(void *arg)
{
}

static void on_reset(void *arg, const struct weir_error *why)
{
    weir_health_end(weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC),
                    weir_err_text(why->code));
}

const struct weir_health_kind weir_health_grpc = {
    .request = grpc_request,
    .sink = { .on_head = on_head,
              .on_body = on_body,
              .on_trailer = on_trailer,
              .on_end = on_end,
              .on_drained = on_drained,
              .on_reset = on_reset },
};
