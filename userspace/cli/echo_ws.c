/* SPDX-License-Identifier: Apache-2.0 */
/**
 * echo_ws.c: a WebSocket that sends every message back (RFC 6455). Data frames are echoed piece by
 * piece as their payload comes, so that a frame of any size needs no memory; control frames are
 * small and are taken whole.
 *
 *   head (2 to 14 bytes) ─▶ payload: data, echoed at once | control, kept ─▶ head …
 */
#include "cli/echo.h"

#include "proxy/websocket.h"

#include "base/utf8.h"

enum {
    OP_CONTINUATION = 0,
    OP_TEXT = 1,
    OP_BINARY = 2,
    OP_CLOSE = 8,
    OP_PING = 9,
    OP_PONG = 10,
};
enum { CLOSE_PROTOCOL = 1002, CLOSE_NOT_UTF8 = 1007 };

/* ---- the handshake ------------------------------------------------------------------------ */

struct weir_message *weir_ws_accept(struct weir_httpd_req *req)
{
    struct weir_message *answer;
    struct weir_str key = weir_message_field(req->head, WEIR_F_SEC_WEBSOCKET_KEY);
    struct weir_str version = weir_message_get(req->head, "sec-websocket-version");
    struct weir_str accepted;

    if (!weir_str_eq(version, WEIR_STR("13"))) {
        answer = weir_httpd_answer(req, 426, "text/plain");
        answer->upgrade = WEIR_STR("websocket");
        if (weir_message_push(answer, WEIR_F_OTHER, WEIR_STR("sec-websocket-version"),
                              WEIR_STR("13")) != 0)
            weir_httpd_abort(req);
        return answer;
    }
    if (req->head->must_switch) { /* HTTP/2 has neither key nor Accept (RFC 8441 5) */
        answer = weir_httpd_answer(req, 101, NULL);
        answer->upgrade = WEIR_STR("websocket");
        return answer;
    }
    if (req->head->method_id != WEIR_M_GET || !weir_websocket_key_good(key))
        return weir_httpd_answer(req, 400, "text/plain");
    accepted = weir_websocket_accept(&req->arena, key);
    answer = weir_httpd_answer(req, 101, NULL);
    answer->upgrade = WEIR_STR("websocket");
    if (weir_str_absent(accepted) ||
        weir_message_push(answer, WEIR_F_SEC_WEBSOCKET_ACCEPT,
                          weir_field_name(WEIR_F_SEC_WEBSOCKET_ACCEPT), accepted) != 0)
        weir_httpd_abort(req);
    return answer;
}

/* ---- frames out --------------------------------------------------------------------------- */

static size_t put_head(uint8_t *out, bool fin, uint8_t opcode, uint64_t len)
{
    unsigned bytes = len < 126 ? 0 : len < 65536 ? 2 : 8;

    out[0] = (uint8_t)(fin ? 0x80 | opcode : opcode);
    out[1] = (uint8_t)(bytes == 0 ? len : bytes == 2 ? 126 : 127);
    for (unsigned i = 0; i < bytes; i++)
        out[2 + i] = (uint8_t)(len >> 8 * (bytes - 1 - i));
    return 2 + bytes;
}

static size_t put_close(struct weir_ws *ws, uint16_t code, uint8_t *out)
{
    size_t n = put_head(out, true, OP_CLOSE, code ? 2 : 0);

    ws->closed = true;
    if (code) {
        out[n++] = (uint8_t)(code >> 8);
        out[n++] = (uint8_t)code;
    }
    return n;
}

/* In the middle of an echoed frame nothing but its payload may be sent: just end then. */
static size_t fail(struct weir_ws *ws, uint16_t code, uint8_t *out)
{
    if (!ws->in_payload || ws->opcode >= OP_CLOSE)
        return put_close(ws, code, out);
    ws->closed = true;
    return 0;
}

/* ---- frames in ---------------------------------------------------------------------------- */

/* How long the head in ws->head is, as far as it can be told. */
static size_t head_bytes(const struct weir_ws *ws)
{
    uint8_t len = ws->head[1] & 0x7f;

    if (ws->head_len < 2)
        return 2;
    return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + 4;
}

/* Length of the payload; false when it is not in its shortest form. */
static bool head_length(const uint8_t *head, uint64_t *len)
{
    unsigned bytes = (head[1] & 0x7f) == 126 ? 2 : (head[1] & 0x7f) == 127 ? 8 : 0;

    *len = head[1] & 0x7f;
    if (!bytes)
        return true;
    *len = 0;
    for (unsigned i = 0; i < bytes; i++)
        *len = *len << 8 | head[2 + i];
    return bytes == 2 ? *len >= 126 : *len >= 65536 && *len >> 63 == 0;
}

/* May this frame come now? */
static bool head_good(const struct weir_ws *ws, uint64_t len)
{
    bool masked = (ws->head[1] & 0x80) != 0, rsv = (ws->head[0] & 0x70) != 0;

    if (rsv || !masked)
        return false;
    switch (ws->opcode) {
    case OP_CONTINUATION:
        return ws->fragmented;
    case OP_TEXT:
    case OP_BINARY:
        return !ws->fragmented;
    case OP_CLOSE:
    case OP_PING:
    case OP_PONG:
        return ws->fin && len <= WEIR_WS_CONTROL_MAX;
    default:
        return false;
    }
}

/* A head is whole: begins the payload. */
static size_t begin_frame(struct weir_ws *ws, uint8_t *out)
{
    uint64_t len;
    bool good = head_length(ws->head, &len);

    ws->fin = (ws->head[0] & 0x80) != 0;
    ws->opcode = ws->head[0] & 0x0f;
    if (!good || !head_good(ws, len))
        return fail(ws, CLOSE_PROTOCOL, out);
    memcpy(ws->mask, ws->head + ws->head_len - 4, 4);
    ws->left = len;
    ws->at = 0;
    ws->in_payload = true;
    ws->control_len = 0;
    if (ws->opcode >= OP_CLOSE)
        return 0;
    if (ws->opcode != OP_CONTINUATION) {
        ws->text = ws->opcode == OP_TEXT;
        ws->utf8 = 0;
    }
    ws->fragmented = !ws->fin;
    return put_head(out, ws->fin, ws->opcode, len);
}

static bool close_code_good(unsigned code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static size_t end_control(struct weir_ws *ws, uint8_t *out)
{
    unsigned code;
    size_t n;

    switch (ws->opcode) {
    case OP_PING:
        n = put_head(out, true, OP_PONG, ws->control_len);
        memcpy(out + n, ws->control, ws->control_len);
        return n + ws->control_len;
    case OP_CLOSE:
        if (ws->control_len == 0)
            return put_close(ws, 0, out);
        code = (unsigned)ws->control[0] << 8 | ws->control[1];
        if (ws->control_len == 1 || !close_code_good(code))
            return put_close(ws, CLOSE_PROTOCOL, out);
        if (!weir_utf8_good(ws->control + 2, ws->control_len - 2u))
            return put_close(ws, CLOSE_NOT_UTF8, out);
        return put_close(ws, (uint16_t)code, out);
    default: /* a pong nobody asked for */
        return 0;
    }
}

static size_t end_frame(struct weir_ws *ws, uint8_t *out)
{
    size_t n = 0;

    if (ws->opcode >= OP_CLOSE)
        n = end_control(ws, out);
    ws->in_payload = false;
    ws->head_len = 0;
    if (ws->opcode < OP_CLOSE && ws->fin && ws->text && ws->utf8)
        n = fail(ws, CLOSE_NOT_UTF8, out); /* ends within a character */
    return n;
}

/* Payload; returns what goes back, *used of `data`. */
static size_t take_payload(struct weir_ws *ws, const uint8_t *data, size_t len, uint8_t *out,
                           size_t *used)
{
    bool control = ws->opcode >= OP_CLOSE;
    uint8_t *to = control ? ws->control + ws->control_len : out;
    size_t n = len < ws->left ? len : (size_t)ws->left;

    for (size_t i = 0; i < n; i++) {
        to[i] = data[i] ^ ws->mask[(ws->at + i) & 3];
        if (!control && ws->text && !weir_utf8_step(&ws->utf8, to[i])) {
            ws->closed = true;
            *used = len;
            return 0;
        }
    }
    ws->at += n;
    ws->left -= n;
    *used = n;
    if (control)
        ws->control_len = (uint8_t)(ws->control_len + n);
    return control ? 0 : n;
}

size_t weir_ws_feed(struct weir_ws *ws, const uint8_t *data, size_t len, uint8_t *out)
{
    size_t n = 0, at = 0;

    while (!ws->closed && (at < len || (ws->in_payload && ws->left == 0))) {
        size_t used = 0;

        if (ws->in_payload) {
            n += take_payload(ws, data + at, len - at, out + n, &used);
            if (ws->left == 0 && !ws->closed)
                n += end_frame(ws, out + n);
        } else {
            ws->head[ws->head_len++] = data[at];
            used = 1;
            if (ws->head_len == 2 && !(ws->head[1] & 0x80)) /* a client must mask */
                n += fail(ws, CLOSE_PROTOCOL, out + n);
            else if (ws->head_len == head_bytes(ws))
                n += begin_frame(ws, out + n);
        }
        at += used;
    }
    return n;
}
