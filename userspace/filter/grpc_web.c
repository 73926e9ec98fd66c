/* SPDX-License-Identifier: Apache-2.0 */
/**
 * grpc_web.c: the filter `grpc_web`: clients speak gRPC-Web, binary or text, the upstream gRPC. Messages are framed alike
 * in both; what differs is the content type, base64 around both bodies (text), and where the trailer stands: gRPC-Web has
 * it as the last frame of the body. A trailers-only answer has it in its head in both. Requests of other kinds, gRPC
 * itself among them, pass as they are. CORS is not its job. Public headers alone.
 * Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
 */
#include "weir/builtin.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    SLICE_TEXT = 4096, /* characters that are coded at once */
    SLICE_BYTES = SLICE_TEXT / 4 * 3,
    GROUP = 4, /* characters of base64 that are three bytes */
    FRAME_HEAD = 5,
    FRAME_TRAILER = 0x80,
};

enum kind { NONE, BINARY, TEXT };
static const char *const types[] = {
    [NONE] = "application/grpc",
    [BINARY] = "application/grpc-web",
    [TEXT] = "application/grpc-web-text",
};

struct call {
    uint8_t sends;   /* enum kind; NONE: no gRPC-Web, nothing is touched */
    uint8_t takes;   /* what the answer is to be */
    bool translated; /* the answer is gRPC, and becomes gRPC-Web */
    uint8_t held;    /* characters of a group that is not whole */
    char group[GROUP];
};

/* ---- content types ---- */

/* Begins `text` with that type, up to its suffix or parameters? *rest is what follows. */
static bool is_type(struct weir_str text, const char *type, struct weir_str *rest)
{
    size_t len = strlen(type);

    if (text.len < len || strncasecmp(text.ptr, type, len) != 0)
        return false;
    *rest = (struct weir_str){ text.ptr + len, text.len - len };
    return !rest->len || memchr("+; \t,", rest->ptr[0], 5);
}

static enum kind kind_of(struct weir_str type, struct weir_str *rest)
{
    if (is_type(type, types[TEXT], rest) || is_type(type, "application/grpc-web-text-base64", rest))
        return TEXT;
    return is_type(type, types[BINARY], rest) ? BINARY : NONE;
}

/* What the first media type of Accept that is one of ours asks for; else the answer is as the request. */
static enum kind accepted(struct weir_str accept, enum kind otherwise)
{
    for (size_t i = 0; i < accept.len; i++) {
        struct weir_str rest, at = { accept.ptr + i, accept.len - i };
        enum kind kind = kind_of(at, &rest);

        if (kind != NONE)
            return kind;
    }
    return otherwise;
}

static int set_type(struct weir_req *req, struct weir_message *msg, enum kind kind,
                    struct weir_str rest)
{
    size_t len = strlen(types[kind]);
    char *type = weir_req_alloc(req, len + rest.len + 1);

    if (!type)
        return WEIR_ENOMEM;
    memcpy(type, types[kind], len);
    memcpy(type + len, rest.ptr, rest.len);
    return weir_message_set(msg, "content-type", (struct weir_str){ type, len + rest.len });
}

/* ---- the request ---- */

static enum weir_verdict failed(struct weir_req *req, int err)
{
    return weir_req_fail(req, (enum weir_err)err,
                         err == WEIR_EBADREQ ? WEIR_BY_CLIENT : WEIR_BY_US);
}

static enum weir_verdict grpc_web_request(struct weir_req *req, void *self)
{
    struct weir_message *msg = weir_req_request(req);
    struct weir_str rest, type = weir_message_get(msg, "content-type");
    enum kind kind = weir_str_is(weir_message_method(msg), "POST") ? kind_of(type, &rest) : NONE;
    struct call *call;
    int err;

    if (kind == NONE)
        return WEIR_NEXT;
    call = weir_filter_state(req, self);
    err = call ? set_type(req, msg, NONE, rest) : WEIR_ENOMEM;
    if (err)
        return failed(req, err);
    call->sends = (uint8_t)kind;
    call->takes = (uint8_t)accepted(weir_message_get(msg, "accept"), kind);
    return WEIR_NEXT;
}

/* Whole groups, of which the last one alone may be padded. */
static int decode(const char *text, size_t len, struct weir_body_out *out)
{
    unsigned char bytes[SLICE_BYTES];
    size_t pad = text[len - 1] != '=' ? 0 : text[len - 2] != '=' ? 1 : 2;

    if (memchr(text, '=', len - pad) ||
        EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len) != (int)(len / GROUP * 3))
        return WEIR_EBADREQ; /* it skips white space, and then there are fewer */
    return weir_body_emit(out, (struct weir_str){ (char *)bytes, len / GROUP * 3 - pad });
}

/* A body may be several texts, one behind the other, each with its padding: a slice ends with it. */
static size_t slice_of(struct weir_str data)
{
    size_t len = data.len < SLICE_TEXT ? data.len / GROUP * GROUP : SLICE_TEXT;
    const char *pad = memchr(data.ptr, '=', len);

    return pad ? ((size_t)(pad - data.ptr) / GROUP + 1) * GROUP : len;
}

static int decode_all(struct call *call, struct weir_str data, struct weir_body_out *out)
{
    int err = 0;

    while (data.len && !err) {
        size_t len = call->held ? 0 : slice_of(data);

        if (len) {
            err = decode(data.ptr, len, out);
        } else {
            call->group[call->held++] = *data.ptr;
            len = 1;
            if (call->held == GROUP) {
                err = decode(call->group, GROUP, out);
                call->held = 0;
            }
        }
        data.ptr += len;
        data.len -= len;
    }
    return err;
}

static enum weir_verdict grpc_web_request_body(struct weir_req *req, void *self,
                                               struct weir_str data, bool last,
                                               struct weir_body_out *out)
{
    struct call *call = weir_filter_state(req, self);
    int err;

    if (!call || call->sends != TEXT)
        err = call ? weir_body_emit(out, data) : WEIR_ENOMEM;
    else
        err = decode_all(call, data, out);
    if (!err && last && call->held)
        err = WEIR_EBADREQ;
    return err ? failed(req, err) : WEIR_NEXT;
}

/* ---- the answer ---- */

/* An answer that is no gRPC, of a server or of another filter, is for the client to judge. */
static enum weir_verdict grpc_web_response(struct weir_req *req, void *self,
                                           struct weir_message *answer)
{
    struct call *call = weir_filter_state(req, self);
    struct weir_str rest;
    int err;

    if (!call)
        return failed(req, WEIR_ENOMEM);
    call->translated = call->sends != NONE &&
                       is_type(weir_message_get(answer, "content-type"), types[NONE], &rest);
    if (!call->translated)
        return WEIR_NEXT;
    err = set_type(req, answer, call->takes, rest);
    return err ? failed(req, err) : WEIR_NEXT;
}

/* Each piece has its padding: what has come is there for the client at once. */
static int emit(const struct call *call, struct weir_str data, struct weir_body_out *out)
{
    unsigned char text[SLICE_TEXT + 1];
    int err = 0;

    if (call->takes != TEXT)
        return weir_body_emit(out, data);
    while (data.len && !err) {
        size_t len = data.len < SLICE_BYTES ? data.len : SLICE_BYTES;
        int chars = EVP_EncodeBlock(text, (const unsigned char *)data.ptr, (int)len);

        err = weir_body_emit(out, (struct weir_str){ (char *)text, (size_t)chars });
        data.ptr += len;
        data.len -= len;
    }
    return err;
}

static char *put_field(char *at, struct weir_str name, struct weir_str value)
{
    for (size_t i = 0; i < name.len; i++)
        *at++ = name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? (char)(name.ptr[i] | 0x20) : name.ptr[i];
    *at++ = ':';
    memcpy(at, value.ptr, value.len);
    at += value.len;
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static int emit_trailer(struct weir_req *req, const struct call *call,
                        const struct weir_message *trailer, struct weir_body_out *out)
{
    struct weir_str name, value;
    size_t len = 0;
    char *frame, *end;

    for (size_t at = 0; weir_message_next(trailer, &at, &name, &value);)
        len += name.len + value.len + 3;
    frame = weir_req_alloc(req, FRAME_HEAD + len);
    if (!frame)
        return WEIR_ENOMEM;
    frame[0] = (char)FRAME_TRAILER;
    for (unsigned i = 0; i < 4; i++) /* in network order */
        frame[1 + i] = (char)(len >> (24 - 8 * i));
    end = frame + FRAME_HEAD;
    for (size_t at = 0; weir_message_next(trailer, &at, &name, &value);)
        end = put_field(end, name, value);
    return emit(call, (struct weir_str){ frame, FRAME_HEAD + len }, out);
}

static enum weir_verdict grpc_web_response_body(struct weir_req *req, void *self,
                                                struct weir_str data, bool last,
                                                struct weir_body_out *out)
{
    struct call *call = weir_filter_state(req, self);
    struct weir_message *trailer;
    int err;

    if (!call || !call->translated)
        err = call ? weir_body_emit(out, data) : WEIR_ENOMEM;
    else
        err = emit(call, data, out);
    if (!err && last && call->translated) {
        trailer = weir_req_take_trailer(req);
        err = trailer ? emit_trailer(req, call, trailer, out) : 0;
    }
    return err ? failed(req, err) : WEIR_NEXT;
}

/* ---- the type ---- */

static void *grpc_web_create(const void *conf, char *fault, size_t fault_bytes)
{
    void *self = malloc(1); /* its address tells one use of the filter from another */

    if (!self)
        snprintf(fault, fault_bytes, "out of memory");
    return self;
}

static const struct weir_filter grpc_web_filter = {
    .size = sizeof(struct weir_filter),
    .name = "grpc_web",
    .state_bytes = sizeof(struct call),
    .request = grpc_web_request,
    .request_body = grpc_web_request_body,
    .response = grpc_web_response,
    .response_body = grpc_web_response_body,
    .fini = free,
};

static const struct weir_conf_item grpc_web_rows[] = { { 0 } };

const struct weir_filter_type weir_filter_grpc_web_type = {
    .size = sizeof(struct weir_filter_type),
    .name = "grpc_web",
    .text = "clients of gRPC-Web (binary or text) are served by a gRPC upstream",
    .rows = grpc_web_rows,
    .bytes = 1,
    .filter = &grpc_web_filter,
    .create = grpc_web_create,
};
