/* SPDX-License-Identifier: Apache-2.0 */
/** grpc.c: deadlines, own answers and outcomes of gRPC requests (grpc.h). */
#include "proxy/grpc.h"

static const struct weir_str timeout_name = { "grpc-timeout", 12 };

int weir_grpc_begin(struct weir_req *req)
{
    uint64_t us;

    if (weir_grpc_kind(&req->in) == WEIR_GRPC_NONE ||
        !weir_grpc_timeout_parse(weir_message_get(&req->in, timeout_name.ptr), &us))
        return 0; /* a malformed one is the server's to judge */
    req->grpc_until_us = req->began_us + us;
    return us ? 0 : WEIR_EREQTIME;
}

/* Rounded down: the server is to give up before we do, so that its answer is the one that counts. */
static int push_timeout(struct weir_req *req, struct weir_message *up)
{
    uint64_t now_us = req->worker->loop.now_us;
    char text[WEIR_GRPC_TIMEOUT_BYTES];
    struct weir_str value = { text, 0 };

    if (now_us >= req->grpc_until_us)
        return WEIR_EREQTIME;
    value.len = weir_grpc_timeout_print(req->grpc_until_us - now_us, text);
    value = weir_arena_copy(&req->arena, value);
    if (weir_str_absent(value))
        return WEIR_ENOMEM;
    weir_message_drop_name(up, timeout_name);
    return weir_message_push(up, WEIR_F_OTHER, timeout_name, value);
}

int weir_grpc_forward(struct weir_req *req, struct weir_message *up)
{
    if (weir_grpc_kind(up) == WEIR_GRPC_NONE)
        return 0;
    up->te_trailers = true; /* servers may refuse gRPC from a proxy that drops trailers */
    return req->grpc_until_us ? push_timeout(req, up) : 0;
}

int weir_grpc_reply(struct weir_req *req, enum weir_err code)
{
    struct weir_str text = weir_str(weir_err_text(code)), message, number;
    char *encoded = weir_arena_text(&req->arena, 3 * text.len), digits[20];
    int err = encoded ? weir_reply_make(req, 200, WEIR_STR("")) : WEIR_ENOMEM;

    if (err)
        return err;
    message = (struct weir_str){ encoded, weir_grpc_message_encode(text, encoded) };
    number = (struct weir_str){ digits, weir_u64_to_str((uint64_t)weir_err_grpc(code), digits) };
    err = weir_message_set(&req->out, "content-type", WEIR_STR("application/grpc"));
    if (!err)
        err = weir_message_set(&req->out, "grpc-status", number);
    return err ?: weir_message_push(&req->out, WEIR_F_OTHER, WEIR_STR("grpc-message"), message);
}

static int status_of(struct weir_str text)
{
    int status = weir_grpc_status_parse(text);

    return status < 0 ? WEIR_GRPC_UNKNOWN : status;
}

void weir_grpc_note(struct weir_req *req, const struct weir_message *trailer)
{
    struct weir_str text = weir_message_get(trailer, "grpc-status");

    if (!weir_str_absent(text))
        req->grpc_said = (uint16_t)(status_of(text) + 1);
}

int weir_grpc_outcome(const struct weir_req *req)
{
    struct weir_str text;

    if (!req->head_sent || req->broken)
        return req->error.code ? weir_err_grpc(req->error.code) : WEIR_GRPC_CANCELLED;
    if (req->grpc_said)
        return req->grpc_said - 1;
    text = weir_message_get(&req->out, "grpc-status");
    return weir_str_absent(text) ? (int)weir_grpc_status_of_http(req->out.status) : status_of(text);
}
