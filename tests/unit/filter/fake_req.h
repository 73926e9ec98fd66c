/* SPDX-License-Identifier: Apache-2.0 */
/** fake_req.h: the little of a request that built-in filters use; messages are the real ones. One
 * request at a time. */
#ifndef TESTS_FAKE_REQ_H
#define TESTS_FAKE_REQ_H

#include "base/arena.h"
#include "http/message.h"
#include "weir/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct weir_req {
    struct weir_arena arena;
    struct weir_message request, response;
    struct weir_str client;
    int replied;
    struct weir_str body; /* of the reply */
    enum weir_err failed;
    unsigned bans;
    uint64_t ban_ms;
};

static struct weir_req fake;

static inline void fake_begin(const char *client)
{
    weir_arena_fini(&fake.arena);
    memset(&fake, 0, sizeof(fake));
    weir_arena_init(&fake.arena, NULL);
    weir_message_init(&fake.request, &fake.arena, true);
    weir_message_init(&fake.response, &fake.arena, false);
    fake.client = weir_str(client);
    fake.request.host = WEIR_STR("a.test:81");
    fake.request.path = WEIR_STR("/p/q");
}

struct weir_message *weir_req_request(struct weir_req *req)
{
    return &req->request;
}

struct weir_message *weir_req_response(struct weir_req *req)
{
    return &req->response;
}

struct weir_str weir_req_id(const struct weir_req *req)
{
    return WEIR_STR("id-7");
}

struct weir_str weir_req_client(const struct weir_req *req)
{
    return req->client;
}

void *weir_req_alloc(struct weir_req *req, size_t size)
{
    return weir_arena_zalloc(&req->arena, size);
}

enum weir_verdict weir_req_reply(struct weir_req *req, int status, struct weir_str body)
{
    req->replied = status;
    req->body = weir_arena_copy(&req->arena, body);
    return WEIR_DONE;
}

enum weir_verdict weir_req_fail(struct weir_req *req, enum weir_err code, enum weir_by by)
{
    req->failed = code;
    return WEIR_FAIL;
}

int weir_req_ban(struct weir_req *req, uint64_t for_ms, struct weir_str why)
{
    req->bans++;
    req->ban_ms = for_ms;
    return 0;
}

#endif
