/* SPDX-License-Identifier: Apache-2.0 */
/** reply.c: weir's own answers: of filters and of errors. */
#include "proxy/grpc.h"

#include <stdio.h>

int weir_reply_make(struct weir_req *req, int status, struct weir_str body)
{
    struct weir_message *out = &req->out;
    int err;

    weir_message_init(out, &req->arena, false);
    out->status = status;
    out->reason = weir_status_reason(status);
    out->keep_alive = true;
    req->own_body = weir_str_absent(body) ? WEIR_STR("") : body;
    req->own_answer = true;
    req->response_ready = false;
    if (req->in.method_id == WEIR_M_CONNECT) {
        /* What follows may be bytes for the tunnel that there is not, chosen by somebody else: it is
         * not to be taken for a request. */
        req->close_after = true;
        weir_hstream_last(req->down);
    }
    err = weir_message_push(out, WEIR_F_CONTENT_TYPE, weir_field_name(WEIR_F_CONTENT_TYPE),
                            WEIR_STR("text/plain; charset=utf-8"));
    if (!err)
        err = weir_forward_date(req, out);
    return err
               ?: weir_message_push(out, WEIR_F_SERVER, weir_field_name(WEIR_F_SERVER),
                                    WEIR_STR("weir"));
}

int weir_reply_error(struct weir_req *req)
{
    enum weir_err code = req->error.code ? req->error.code : WEIR_EINTERNAL;
    int status = weir_err_status(code);
    struct weir_str body;
    char text[256];
    int n;

    if (weir_req_is_grpc(req))
        return weir_grpc_reply(req, code);
    if (status == 499) /* nobody reads it */
        status = 400;
    n = snprintf(text, sizeof(text), "%d %.*s: %s\n", status, WEIR_FMT(weir_status_reason(status)),
                 weir_err_text(code));
    body = weir_arena_copy(&req->arena, (struct weir_str){ text, (size_t)n });
    if (weir_str_absent(body) || weir_reply_make(req, status, body))
        return WEIR_ENOMEM;
    if (status == 503 || status == 429)
        return weir_message_push(&req->out, WEIR_F_RETRY_AFTER, weir_field_name(WEIR_F_RETRY_AFTER),
                                 WEIR_STR("1"));
    if (status == 405)
        return weir_message_push(&req->out, WEIR_F_OTHER, WEIR_STR("allow"),
                                 WEIR_STR("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
    return 0;
}
