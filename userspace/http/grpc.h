/* SPDX-License-Identifier: Apache-2.0 */
/**
 * grpc.h: what of gRPC a proxy has to understand: who speaks it, what is called, until when, and how a status is said.
 * Pure functions over text; messages themselves are never looked into.
 * Sources: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md (requests, timeout, status),
 * PROTOCOL-WEB.md (the content types of gRPC-Web), http-grpc-status-mapping.md, statuscodes.md.
 */
#ifndef HTTP_GRPC_H
#define HTTP_GRPC_H

#include "http/message.h"

/* clang-format off */
#define WEIR_GRPC_STATUSES(X)                                                                             \
    X(0, OK) X(1, CANCELLED) X(2, UNKNOWN) X(3, INVALID_ARGUMENT) X(4, DEADLINE_EXCEEDED) X(5, NOT_FOUND) \
    X(6, ALREADY_EXISTS) X(7, PERMISSION_DENIED) X(8, RESOURCE_EXHAUSTED) X(9, FAILED_PRECONDITION)       \
    X(10, ABORTED) X(11, OUT_OF_RANGE) X(12, UNIMPLEMENTED) X(13, INTERNAL) X(14, UNAVAILABLE)            \
    X(15, DATA_LOSS) X(16, UNAUTHENTICATED)
/* clang-format on */
#define WEIR_GRPC_STATUS_ENUM(number, name) WEIR_GRPC_##name = (number),
enum weir_grpc_status { WEIR_GRPC_STATUSES(WEIR_GRPC_STATUS_ENUM) WEIR_GRPC_STATUS_COUNT };
#undef WEIR_GRPC_STATUS_ENUM

enum weir_grpc_kind {
    WEIR_GRPC_NONE,
    WEIR_GRPC_PLAIN,    /* application/grpc, +proto, +json … */
    WEIR_GRPC_WEB,      /* application/grpc-web: the trailer is the last frame of the body */
    WEIR_GRPC_WEB_TEXT, /* application/grpc-web-text: and all of it is base64 */
};

/** What a content type says. */
enum weir_grpc_kind weir_grpc_kind_of(struct weir_str content_type);
/** What a request is: POST, and its content type. */
static inline enum weir_grpc_kind weir_grpc_kind(const struct weir_message *msg)
{
    if (msg->method_id != WEIR_M_POST || !(msg->has >> WEIR_F_CONTENT_TYPE & 1))
        return WEIR_GRPC_NONE;
    return weir_grpc_kind_of(weir_message_field(msg, WEIR_F_CONTENT_TYPE));
}

/** "/pkg.Service/Method" in its two parts; false when it has not that form. */
bool weir_grpc_path(struct weir_str path, struct weir_str *service, struct weir_str *method);

enum { WEIR_GRPC_TIMEOUT_BYTES = 9 };
/** The value of grpc-timeout in microseconds, what is less is rounded up; false when it is malformed. */
bool weir_grpc_timeout_parse(struct weir_str text, uint64_t *us);
/** The same written, rounded down to what eight digits hold, and never 0 unless it is: how many bytes. */
size_t weir_grpc_timeout_print(uint64_t us, char out[WEIR_GRPC_TIMEOUT_BYTES]);

/** The value of grpc-status; -1 when it is malformed. Numbers that nobody has defined yet pass. */
int weir_grpc_status_parse(struct weir_str text);
/** "UNAVAILABLE"; "" for a number that is not defined. Static. */
const char *weir_grpc_status_name(int status);
/** What an answer without grpc-status says by its HTTP status. */
enum weir_grpc_status weir_grpc_status_of_http(int status);

/** Percent-encodes a grpc-message into `out`, which has room for three times the text: how many bytes. */
size_t weir_grpc_message_encode(struct weir_str text, char *out);

#endif
