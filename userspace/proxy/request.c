/* SPDX-License-Identifier: Apache-2.0 */
/** request.c: what filters may ask of a request (include/weir/request.h). */
#include "proxy/grpc.h"
#include "proxy/hops.h"

struct weir_message *weir_req_request(struct weir_req *req)
{
    return &req->in;
}

struct weir_message *weir_req_response(struct weir_req *req)
{
    return req->own_answer || req->response_started ? &req->out : NULL;
}

struct weir_message *weir_req_take_trailer(struct weir_req *req)
{
    struct weir_message *trailer = req->to_down.trailer;

    if (!trailer || req->to_down.trailer_seen)
        return NULL;
    weir_grpc_note(req, trailer);
    req->to_down.trailer = NULL;
    return trailer;
}

struct weir_str weir_req_id(const struct weir_req *req)
{
    return req->id;
}

struct weir_str weir_req_client(const struct weir_req *req)
{
    return req->client;
}

struct weir_str weir_req_listener(const struct weir_req *req)
{
    return req->listener->conf->name;
}

struct weir_str weir_req_route(const struct weir_req *req)
{
    return req->route ? req->route->conf->name : (struct weir_str){ NULL, 0 };
}

struct weir_str weir_req_upstream(const struct weir_req *req)
{
    return req->target ? weir_cluster_name(req->target->cluster) : (struct weir_str){ NULL, 0 };
}

struct weir_str weir_req_server(const struct weir_req *req)
{
    return req->server_chosen ? weir_server_name(req->server_chosen) : (struct weir_str){ NULL, 0 };
}

bool weir_req_is_tls(const struct weir_req *req)
{
    return req->listener->tls != NULL;
}

const struct weir_error *weir_req_error(const struct weir_req *req)
{
    return req->error.code ? &req->error : NULL;
}

unsigned weir_req_attempts(const struct weir_req *req)
{
    return req->attempts;
}

void *weir_req_alloc(struct weir_req *req, size_t size)
{
    return weir_arena_zalloc(&req->arena, size);
}

struct weir_str weir_req_copy(struct weir_req *req, struct weir_str text)
{
    return weir_arena_copy(&req->arena, text);
}

int weir_req_set_upstream(struct weir_req *req, struct weir_str name)
{
    const struct weir_target *target = weir_snapshot_target(req->listener->snapshot, name);

    if (!target)
        return WEIR_ENOENT;
    if (req->step > WEIR_STEP_PEER) /* a server of the other one was chosen */
        return WEIR_EINVAL;
    req->target = target;
    return 0;
}

enum weir_verdict weir_req_reply(struct weir_req *req, int status, struct weir_str body)
{
    if (status < 200 || status > 599)
        return weir_req_fail(req, WEIR_EINVAL, WEIR_BY_US);
    if (!req->down) /* there is no message to answer */
        return weir_req_fail(req, WEIR_EFILTER, WEIR_BY_US);
    if (req->head_sent || weir_reply_make(req, status, weir_arena_copy(&req->arena, body))) {
        weir_req_note_error(req, req->head_sent ? WEIR_EFILTER : WEIR_ENOMEM, WEIR_BY_US,
                            WEIR_RETRY_NO, 0, "reply");
        return WEIR_FAIL;
    }
    return WEIR_DONE;
}

enum weir_verdict weir_req_fail(struct weir_req *req, enum weir_err code, enum weir_by by)
{
    weir_req_note_error(req, code, by, WEIR_RETRY_NO, 0, "filter");
    return WEIR_FAIL;
}

/* One line a second, whoever is banned: a flood has many senders. */
static void tell_ban(struct weir_req *req, const struct weir_prefix *prefix, uint64_t for_ms,
                     struct weir_str why)
{
    struct weir_service *service = req->worker->service;
    uint64_t count = weir_log_due(&service->bans, req->worker->loop.now_ms);
    char text[WEIR_ADDR_TEXT_MAX];
    size_t len;

    if (!count)
        return;
    len = weir_prefix_print(prefix, text);
    weir_log(service->log, WEIR_LOG_WARN,
             "listener '%.*s': %.*s is banned for %llu s: %.*s (%llu since the last line)",
             WEIR_FMT(req->listener->conf->name), (int)len, text,
             (unsigned long long)((for_ms + 999) / 1000), WEIR_FMT(why), (unsigned long long)count);
}

int weir_req_ban(struct weir_req *req, uint64_t for_ms, struct weir_str why)
{
    const struct weir_listener *listener = req->listener;
    struct weir_loop *loop = &req->worker->loop;
    struct weir_prefix prefix;
    struct weir_addr peer;
    uint8_t bytes[16];
    int err;

    if (!req->session)
        return WEIR_EINVAL;
    weir_session_addr(req->session, &peer);
    if (!weir_addr_bytes(&peer, bytes))
        return WEIR_EADDR;
    if (weir_hops_trusted(listener, &peer))
        return WEIR_EDENIED;
    err = weir_access_client_prefix(&peer, &prefix);
    if (err)
        return err;
    err =
        weir_access_ban(req->listener->snapshot->access, &prefix, for_ms, why, NULL, loop->now_ms);
    if (!err)
        tell_ban(req, &prefix, for_ms, why);
    return err;
}
