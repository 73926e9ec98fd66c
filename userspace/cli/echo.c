/* SPDX-License-Identifier: Apache-2.0 */
/** echo.c: see echo.h. Each request is a call with a kind; bodies stream with back-pressure: what
 * the client does not read is not read from it. */
#include "cli/echo.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BACKLOG = 4096,
    IDLE_MS = 75 * 1000,
    RECEIVE_MS = 60 * 1000,
    SEND_MS = 60 * 1000,
    DELAY_MS_MAX = 10 * 60 * 1000,
    PATTERN_BYTES = 32 * 1024,
    PIECES_TURN_MAX = 16,
    JSON_BODY_BYTES_MAX = 1024 * 1024,
};

enum echo_kind { ECHO_TEXT, ECHO_JSON, ECHO_BYTES, ECHO_STATUS, ECHO_DELAY, ECHO_HEADERS, ECHO_WS };

struct weir_echo {
    struct weir_loop *loop;
    struct weir_httpd *httpd;
    char pattern[PATTERN_BYTES];
    uint8_t ws_out[WEIR_READ_BUFFER_BYTES + WEIR_WS_SLACK];
};

struct echo_call {
    struct weir_echo *echo;
    struct weir_httpd_req *req;
    enum echo_kind kind;
    uint64_t number;   /* of the path */
    uint64_t left;     /* ECHO_BYTES */
    size_t unconsumed; /* of the request's body, while the client is behind */
    bool ended;        /* ECHO_TEXT: the request is whole */
    char *body;        /* ECHO_JSON */
    size_t body_len, body_room;
    uint64_t body_bytes; /* that came */
    struct weir_timer timer;
    struct weir_later later; /* ECHO_BYTES: goes on in the next turn, so that others are served */
    struct weir_ws *ws;
};

/* ---- telling the request back ------------------------------------------------------------- */

static struct weir_str target_of(const struct weir_message *head, struct weir_arena *arena)
{
    size_t len = head->path.len + 1 + head->query.len;
    char *text;

    if (head->form == WEIR_T_AUTHORITY) /* of CONNECT */
        return head->host;
    if (weir_str_absent(head->query))
        return head->path;
    text = weir_arena_text(arena, len);
    if (!text)
        return head->path;
    memcpy(text, head->path.ptr, head->path.len);
    text[head->path.len] = '?';
    memcpy(text + head->path.len + 1, head->query.ptr, head->query.len);
    return (struct weir_str){ text, len };
}

static struct weir_str text_of(struct weir_httpd_req *req)
{
    const struct weir_message *head = req->head;
    struct weir_str target = target_of(head, &req->arena);
    struct weir_str protocol = weir_httpd_protocol(req);
    size_t room = head->method.len + target.len + head->host.len + 64, n;
    char *text;

    for (unsigned i = 0; i < head->count; i++)
        room += head->fields[i].name.len + head->fields[i].value.len + 3;
    text = weir_arena_text(&req->arena, room);
    if (!text)
        return (struct weir_str){ NULL, 0 };
    n = (size_t)snprintf(text, room, "%.*s %.*s %.*s\n", WEIR_FMT(head->method), WEIR_FMT(target),
                         WEIR_FMT(protocol));
    if (weir_str_absent(weir_message_field(head, WEIR_F_HOST))) /* :authority of HTTP/2 */
        n += (size_t)snprintf(text + n, room - n, "host: %.*s\n", WEIR_FMT(head->host));
    for (unsigned i = 0; i < head->count; i++)
        n += (size_t)snprintf(text + n, room - n, "%.*s: %.*s\n", WEIR_FMT(head->fields[i].name),
                              WEIR_FMT(head->fields[i].value));
    n += (size_t)snprintf(text + n, room - n, "\n");
    return (struct weir_str){ text, n };
}

/* Any bytes as a JSON string: UTF-8 as it is, else as Latin-1 would read it. */
static json_t *json_bytes(const char *data, size_t len)
{
    json_t *json = json_stringn(data, len);
    char *wide;
    size_t n = 0;

    if (json)
        return json;
    wide = malloc(len * 2 + 1);
    if (!wide)
        return json_null();
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];

        if (c < 0x80) {
            wide[n++] = (char)c;
        } else {
            wide[n++] = (char)(0xc0 | c >> 6);
            wide[n++] = (char)(0x80 | (c & 0x3f));
        }
    }
    json = json_stringn(wide, n);
    free(wide);
    return json;
}

static json_t *json_str(struct weir_str text)
{
    return json_bytes(text.ptr ? text.ptr : "", text.len);
}

/* A list of pairs: a name may come more than once, and the order tells something. */
static json_t *fields_json(const struct weir_message *head)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < head->count; i++)
        json_array_append_new(list, json_pack("[o,o]", json_str(head->fields[i].name),
                                              json_str(head->fields[i].value)));
    return list;
}

static void reply_json(struct echo_call *call, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    size_t len = text ? strlen(text) : 0;

    json_decref(json);
    if (!text) {
        weir_httpd_reply(call->req, 503, "text/plain", WEIR_STR("out of memory\n"));
        return;
    }
    text[len] = '\n';
    weir_httpd_reply(call->req, 200, "application/json", (struct weir_str){ text, len + 1 });
    free(text);
}

static json_t *request_json(struct echo_call *call)
{
    const struct weir_message *head = call->req->head;
    json_t *json = json_object();

    json_object_set_new(json, "method", json_str(head->method));
    json_object_set_new(json, "target", json_str(target_of(head, &call->req->arena)));
    json_object_set_new(json, "version", json_str(weir_httpd_protocol(call->req)));
    json_object_set_new(json, "host", json_str(head->host));
    json_object_set_new(json, "headers", fields_json(head));
    if (call->req->trailer)
        json_object_set_new(json, "trailers", fields_json(call->req->trailer));
    json_object_set_new(json, "body", json_bytes(call->body ? call->body : "", call->body_len));
    json_object_set_new(json, "body_bytes", json_integer((json_int_t)call->body_bytes));
    if (call->body_bytes > call->body_len)
        json_object_set_new(json, "body_cut", json_true());
    return json;
}

/* ---- bodies -------------------------------------------------------------------------------- */

static void pump_bytes(void *arg)
{
    struct echo_call *call = arg;

    for (int pieces = 0; call->left > 0 && weir_httpd_writable(call->req); pieces++) {
        uint64_t sent = call->number - call->left;
        size_t from = (size_t)(sent % PATTERN_BYTES), n = PATTERN_BYTES - from;
        struct iovec iov = { call->echo->pattern + from, 0 };

        if (pieces == PIECES_TURN_MAX) {
            weir_loop_defer(call->echo->loop, &call->later, pump_bytes, call);
            return;
        }
        iov.iov_len = n < call->left ? n : (size_t)call->left;
        call->left -= iov.iov_len;
        if (weir_httpd_send(call->req, &iov, 1, call->left ? 0 : WEIR_SEND_END) != 0)
            return;
    }
}

static void start_bytes(struct echo_call *call)
{
    struct weir_message *answer = weir_httpd_answer(call->req, 200, "text/plain");

    answer->body = WEIR_BODY_LENGTH;
    answer->length = call->number;
    if (call->number == 0 || call->req->head->method_id == WEIR_M_HEAD) {
        int err = weir_httpd_send(call->req, NULL, 0, WEIR_SEND_END);

        (void)err; /* the connection is closed then */
        return;
    }
    call->left = call->number;
    pump_bytes(call);
}

static void start_text(struct echo_call *call)
{
    const struct weir_message *head = call->req->head;
    struct weir_message *answer = weir_httpd_answer(call->req, 200, "text/plain");
    struct weir_str text = text_of(call->req);
    struct iovec iov = { (void *)text.ptr, text.len };
    bool bodiless = head->body == WEIR_BODY_NONE;
    int err;

    if (weir_str_absent(text)) {
        weir_httpd_abort(call->req);
        return;
    }
    answer->body = head->body == WEIR_BODY_CHUNKED ? WEIR_BODY_CHUNKED : WEIR_BODY_LENGTH;
    answer->length = text.len + (head->body == WEIR_BODY_LENGTH ? head->length : 0);
    call->ended = bodiless;
    err = weir_httpd_send(call->req, &iov, 1, bodiless ? WEIR_SEND_END : 0);
    (void)err; /* the connection is closed then */
}

static void keep_body(struct echo_call *call, struct weir_str data)
{
    size_t want = call->body_len + data.len;

    if (want > JSON_BODY_BYTES_MAX)
        want = JSON_BODY_BYTES_MAX;
    if (want > call->body_room) {
        size_t room = want * 2;
        char *body = realloc(call->body, room);

        if (!body)
            return;
        call->body = body;
        call->body_room = room;
    }
    memcpy(call->body + call->body_len, data.ptr, want - call->body_len);
    call->body_len = want;
}

static void on_body(void *arg, struct weir_httpd_req *req, struct weir_str data)
{
    struct echo_call *call = req->user;
    struct iovec iov = { (void *)data.ptr, data.len };

    (void)arg;
    if (!call)
        return;
    call->body_bytes += data.len;
    if (call->kind == ECHO_JSON)
        keep_body(call, data);
    if (call->kind == ECHO_TEXT) {
        if (weir_httpd_send(req, &iov, 1, 0) != 0)
            return;
        call->unconsumed += data.len;
        if (!weir_httpd_writable(req))
            return; /* on_drained goes on */
        data.len = call->unconsumed;
        call->unconsumed = 0;
    }
    weir_httpd_consume(req, data.len);
}

/* ---- requests ------------------------------------------------------------------------------ */

static bool path_number(struct weir_str path, struct weir_str prefix, uint64_t *number)
{
    if (!weir_str_starts(path, prefix))
        return false;
    path.ptr += prefix.len;
    path.len -= prefix.len;
    return weir_str_to_u64(path, number);
}

static bool wants_json(const struct weir_message *head)
{
    struct weir_str list = weir_message_field(head, WEIR_F_ACCEPT), element, rest;

    while (weir_str_next_element(&list, &element)) {
        if (weir_str_ieq(weir_str_trim(weir_str_cut(element, ';', &rest)),
                         WEIR_STR("application/json")))
            return true;
    }
    return false;
}

static enum echo_kind kind_of(const struct weir_message *head, uint64_t *number)
{
    if (path_number(head->path, WEIR_STR("/bytes/"), number))
        return ECHO_BYTES;
    if (path_number(head->path, WEIR_STR("/status/"), number))
        return ECHO_STATUS;
    if (path_number(head->path, WEIR_STR("/delay/"), number))
        return ECHO_DELAY;
    if (weir_str_eq(head->path, WEIR_STR("/headers")))
        return ECHO_HEADERS;
    if (weir_str_ieq(head->upgrade, WEIR_STR("websocket")))
        return ECHO_WS;
    return wants_json(head) ? ECHO_JSON : ECHO_TEXT;
}

static void on_request(void *arg, struct weir_httpd_req *req)
{
    struct weir_echo *echo = arg;
    struct echo_call *call = weir_arena_zalloc(&req->arena, sizeof(*call));

    if (!call) {
        weir_httpd_abort(req);
        return;
    }
    call->echo = echo;
    call->req = req;
    call->kind = kind_of(req->head, &call->number);
    req->user = call;
    weir_httpd_continue(req);
    if (call->kind == ECHO_TEXT)
        start_text(call);
}

static void on_delay(struct weir_timer *timer, void *arg)
{
    struct echo_call *call = arg;
    char text[64];
    int n = snprintf(text, sizeof(text), "waited %llu ms\n", (unsigned long long)call->number);

    (void)timer;
    weir_httpd_reply(call->req, 200, "text/plain", (struct weir_str){ text, (size_t)n });
}

static void answer_status(struct echo_call *call)
{
    struct weir_str reason;
    char text[128];
    int n;

    if (call->number < 200 || call->number > 599) {
        weir_httpd_reply(call->req, 400, "text/plain",
                         WEIR_STR("/status/N: N is from 200 to 599\n"));
        return;
    }
    reason = weir_status_reason((int)call->number);
    n = snprintf(text, sizeof(text), "%u %.*s\n", (unsigned)call->number, WEIR_FMT(reason));
    weir_httpd_reply(
        call->req, (int)call->number, "text/plain",
        (struct weir_str){ text, call->number == 204 || call->number == 304 ? 0 : (size_t)n });
}

static void answer_ws(struct echo_call *call)
{
    struct weir_message *answer = weir_ws_accept(call->req);

    if (answer->status != 101) {
        weir_httpd_finish(call->req, WEIR_STR("not a WebSocket handshake of version 13\n"));
        return;
    }
    call->ws = weir_arena_zalloc(&call->req->arena, sizeof(*call->ws));
    if (call->ws)
        weir_httpd_upgrade(call->req);
    else
        weir_httpd_abort(call->req);
}

static void on_end(void *arg, struct weir_httpd_req *req)
{
    struct echo_call *call = req->user;
    int err;

    (void)arg;
    if (!call || req->answered)
        return;
    switch (call->kind) {
    case ECHO_TEXT:
        call->ended = true;
        err = req->trailer ? weir_httpd_send_trailer(req, req->trailer)
                           : weir_httpd_send(req, NULL, 0, WEIR_SEND_END);
        (void)err; /* the connection is closed then */
        break;
    case ECHO_JSON:
        reply_json(call, request_json(call));
        break;
    case ECHO_HEADERS:
        reply_json(call, fields_json(req->head));
        break;
    case ECHO_BYTES:
        start_bytes(call);
        break;
    case ECHO_STATUS:
        answer_status(call);
        break;
    case ECHO_DELAY:
        weir_loop_timer(call->echo->loop, &call->timer,
                        call->number < DELAY_MS_MAX ? call->number : DELAY_MS_MAX, on_delay, call);
        break;
    case ECHO_WS:
        answer_ws(call);
        break;
    }
}

static void on_drained(void *arg, struct weir_httpd_req *req)
{
    struct echo_call *call = req->user;
    size_t bytes = call ? call->unconsumed : 0;

    (void)arg;
    if (!call)
        return;
    call->unconsumed = 0;
    if (call->ws)
        weir_httpd_tunnel_read(req, true);
    else if (bytes > 0)
        weir_httpd_consume(req, bytes);
    else if (call->kind == ECHO_BYTES && !weir_later_queued(&call->later))
        pump_bytes(call);
}

static void on_tunnel(void *arg, struct weir_httpd_req *req, struct weir_str data)
{
    struct weir_echo *echo = arg;
    struct echo_call *call = req->user;

    while (data.len > 0 && !call->ws->closed) {
        size_t len = data.len < WEIR_READ_BUFFER_BYTES ? data.len : WEIR_READ_BUFFER_BYTES;
        size_t n = weir_ws_feed(call->ws, (const uint8_t *)data.ptr, len, echo->ws_out);
        struct iovec iov = { echo->ws_out, n };

        if (n > 0)
            weir_httpd_tunnel_write(req, &iov, 1);
        data.ptr += len;
        data.len -= len;
    }
    if (call->ws->closed)
        weir_httpd_tunnel_end(req);
    else if (!weir_httpd_writable(req))
        weir_httpd_tunnel_read(req, false);
}

static void on_gone(void *arg, struct weir_httpd_req *req)
{
    struct echo_call *call = req->user;

    (void)arg;
    if (!call)
        return;
    weir_timer_stop(&call->echo->loop->wheel, &call->timer);
    weir_later_cancel(&call->later);
    free(call->body);
    req->user = NULL;
}

static const struct weir_httpd_handler handler = {
    .on_request = on_request,
    .on_body = on_body,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_tunnel = on_tunnel,
    .on_gone = on_gone,
};

/* ---- lifetime ------------------------------------------------------------------------------ */

struct weir_echo *weir_echo_new(const struct weir_echo_opts *opts)
{
    struct weir_echo *echo = calloc(1, sizeof(*echo));
    struct weir_httpd_opts httpd = {
        .loop = opts->loop,
        .handler = &handler,
        .arg = echo,
        .tls = opts->tls,
        .conns_max = opts->conns_max,
        .idle_ms = IDLE_MS,
        .receive_ms = RECEIVE_MS,
        .send_ms = SEND_MS,
        .body_extends = true,
        .h2 = true,
    };

    if (!echo)
        return NULL;
    echo->loop = opts->loop;
    echo->httpd = weir_httpd_new(&httpd);
    if (!echo->httpd) {
        free(echo);
        return NULL;
    }
    for (size_t i = 0; i < PATTERN_BYTES; i++) /* lines of 64 bytes */
        echo->pattern[i] = i % 64 == 63 ? '\n' : (char)('!' + i % 64);
    return echo;
}

int weir_echo_listen(struct weir_echo *echo, const struct weir_addr *addr)
{
    return weir_httpd_listen(echo->httpd, addr, BACKLOG, 0);
}

void weir_echo_drain(struct weir_echo *echo)
{
    weir_httpd_drain(echo->httpd);
}

void weir_echo_close(struct weir_echo *echo)
{
    weir_httpd_close(echo->httpd);
}

unsigned weir_echo_conns(const struct weir_echo *echo)
{
    return weir_httpd_conns(echo->httpd);
}

void weir_echo_free(struct weir_echo *echo)
{
    if (!echo)
        return;
    weir_httpd_free(echo->httpd);
    free(echo);
}
