/* SPDX-License-Identifier: Apache-2.0 */
/** reply.c: weir's own answers: of filters, of routes that reply or redirect, of errors. */
#include "proxy/req.h"

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
        weir_codec_shutdown(req->down->codec);
    }
    err = weir_message_push(out, WEIR_F_CONTENT_TYPE, weir_field_name(WEIR_F_CONTENT_TYPE),
                            WEIR_STR("text/plain; charset=utf-8"));
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

/* "//evil.test/" would be another host to a client that is redirected there. */
static struct weir_str one_slash(struct weir_str path)
{
    while (path.len > 1 && path.ptr[0] == '/' && path.ptr[1] == '/') {
        path.ptr++;
        path.len--;
    }
    return path;
}

/* $path $query $host $client $id, and $$ for a dollar; any other $ stays. The query comes with its '?'. */
static struct weir_str value_of(const struct weir_req *req, struct weir_str text, size_t *len)
{
    const struct {
        struct weir_str name, value;
    } values[] = {
        { WEIR_STR("$$"), WEIR_STR("$") },     { WEIR_STR("$path"), one_slash(req->in.path) },
        { WEIR_STR("$query"), req->in.query }, { WEIR_STR("$host"), weir_host_name(req->in.host) },
        { WEIR_STR("$client"), req->client },  { WEIR_STR("$id"), req->id },
    };

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        if (weir_str_starts(text, values[i].name)) {
            *len = values[i].name.len;
            return values[i].value;
        }
    *len = 0;
    return (struct weir_str){ NULL, 0 };
}

struct weir_str weir_reply_expand(struct weir_req *req, struct weir_str text)
{
    size_t room = text.len + 1, used = 0, name;
    char *out;

    if (!text.len || !memchr(text.ptr, '$', text.len))
        return text;
    for (size_t i = 0; i < text.len; i++) /* how long it becomes */
        if (text.ptr[i] == '$')
            room += value_of(req, (struct weir_str){ text.ptr + i, text.len - i }, &name).len + 1;
    out = weir_arena_text(&req->arena, room);
    if (!out)
        return (struct weir_str){ NULL, 0 };
    for (size_t i = 0; i < text.len;) {
        struct weir_str value =
            value_of(req, (struct weir_str){ text.ptr + i, text.len - i }, &name);

        if (text.ptr[i] != '$' || !name) {
            out[used++] = text.ptr[i++];
            continue;
        }
        if (weir_str_starts((struct weir_str){ text.ptr + i, text.len - i }, WEIR_STR("$query")) &&
            !weir_str_absent(value))
            out[used++] = '?';
        if (value.len)
            memcpy(out + used, value.ptr, value.len);
        used += value.len;
        i += name;
    }
    return (struct weir_str){ out, used };
}

int weir_reply_route(struct weir_req *req)
{
    const struct weir_route_conf *conf = req->route->conf;
    struct weir_str text =
        weir_reply_expand(req, conf->has_redirect ? conf->redirect_to : conf->reply_body);
    int err;

    if (weir_str_absent(text) && (conf->has_redirect ? conf->redirect_to : conf->reply_body).len)
        return WEIR_ENOMEM;
    if (!conf->has_redirect)
        return weir_reply_make(req, (int)conf->reply_status, text);
    err = weir_reply_make(req, (int)conf->redirect_status, WEIR_STR(""));
    return err
               ?: weir_message_push(&req->out, WEIR_F_LOCATION, weir_field_name(WEIR_F_LOCATION),
                                    text);
}
