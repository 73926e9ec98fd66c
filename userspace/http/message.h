/* SPDX-License-Identifier: Apache-2.0 */
/**
 * message.h: the message model behind include/weir/message.h: what codecs fill, the machine reads, codecs serialise.
 * Text points into the message's arena.
 */
#ifndef HTTP_MESSAGE_H
#define HTTP_MESSAGE_H

#include "base/arena.h"
#include "base/str.h"
#include "weir/error.h"
#include "weir/limits.h"
#include "weir/message.h"

/* Fields that weir itself reads or writes: id, name, flags. */
enum {
    WEIR_FIELD_HOP = 1, /* belongs to one hop: never forwarded as it came (RFC 9110 7.6.1) */
    WEIR_FIELD_FRAMING =
        2, /* decides where a message ends, or routes it: never in a trailer, never set by filters */
};
/* clang-format off */
#define WEIR_FIELDS(X)                                                 \
    X(HOST,               "host",               WEIR_FIELD_FRAMING)    \
    X(CONTENT_LENGTH,     "content-length",     WEIR_FIELD_FRAMING)    \
    X(TRANSFER_ENCODING,  "transfer-encoding",  WEIR_FIELD_FRAMING | WEIR_FIELD_HOP) \
    X(CONNECTION,         "connection",         WEIR_FIELD_FRAMING | WEIR_FIELD_HOP) \
    X(KEEP_ALIVE,         "keep-alive",         WEIR_FIELD_HOP)        \
    X(PROXY_CONNECTION,   "proxy-connection",   WEIR_FIELD_HOP)        \
    X(TE,                 "te",                 WEIR_FIELD_HOP)        \
    X(TRAILER,            "trailer",            0)                     \
    X(UPGRADE,            "upgrade",            WEIR_FIELD_HOP)        \
    X(HTTP2_SETTINGS,     "http2-settings",     WEIR_FIELD_HOP)        \
    X(EXPECT,             "expect",             0)                     \
    X(DATE,               "date",               0)                     \
    X(SERVER,             "server",             0)                     \
    X(VIA,                "via",                0)                     \
    X(FORWARDED,          "forwarded",          0)                     \
    X(X_FORWARDED_FOR,    "x-forwarded-for",    0)                     \
    X(X_FORWARDED_PROTO,  "x-forwarded-proto",  0)                     \
    X(X_FORWARDED_HOST,   "x-forwarded-host",   0)                     \
    X(X_FORWARDED_PORT,   "x-forwarded-port",   0)                     \
    X(X_REQUEST_ID,       "x-request-id",       0)                     \
    X(USER_AGENT,         "user-agent",         0)                     \
    X(REFERER,            "referer",            0)                     \
    X(COOKIE,             "cookie",             0)                     \
    X(SET_COOKIE,         "set-cookie",         0)                     \
    X(CONTENT_TYPE,       "content-type",       0)                     \
    X(CONTENT_ENCODING,   "content-encoding",   0)                     \
    X(AUTHORIZATION,      "authorization",      0)                     \
    X(PROXY_AUTHORIZATION, "proxy-authorization", 0)                   \
    X(PROXY_AUTHENTICATE, "proxy-authenticate", 0)                     \
    X(WWW_AUTHENTICATE,   "www-authenticate",   0)                     \
    X(LOCATION,           "location",           0)                     \
    X(RETRY_AFTER,        "retry-after",        0)                     \
    X(CACHE_CONTROL,      "cache-control",      0)                     \
    X(ACCEPT,             "accept",             0)                     \
    X(ACCEPT_ENCODING,    "accept-encoding",    0)                     \
    X(SEC_WEBSOCKET_KEY,  "sec-websocket-key",  0)                     \
    X(SEC_WEBSOCKET_ACCEPT, "sec-websocket-accept", 0)
/* clang-format on */
#define WEIR_FIELD_ENUM(id, name, flags) WEIR_F_##id,
enum weir_field_id { WEIR_F_OTHER = 0, WEIR_FIELDS(WEIR_FIELD_ENUM) WEIR_F_COUNT };
#undef WEIR_FIELD_ENUM

struct weir_field {
    struct weir_str name, value; /* as they came; the value is trimmed */
    uint8_t id;                  /* enum weir_field_id */
    bool never_indexed;          /* no table of HPACK may keep it (RFC 7541 6.2.3) */
};

enum weir_method {
    WEIR_M_OTHER = 0,
    WEIR_M_GET,
    WEIR_M_HEAD,
    WEIR_M_POST,
    WEIR_M_PUT,
    WEIR_M_DELETE,
    WEIR_M_OPTIONS,
    WEIR_M_TRACE,
    WEIR_M_CONNECT,
    WEIR_M_PATCH
};

enum weir_target_form { WEIR_T_ORIGIN, WEIR_T_ABSOLUTE, WEIR_T_AUTHORITY, WEIR_T_ASTERISK };

/** How a body ends, as the framing engine decided it; codecs of both roles obey. */
enum weir_body_kind {
    WEIR_BODY_NONE,
    WEIR_BODY_LENGTH,
    WEIR_BODY_CHUNKED,
    WEIR_BODY_CLOSE,
    WEIR_BODY_TUNNEL
};

struct weir_message {
    struct weir_arena *arena;
    struct weir_field *fields;
    uint16_t count, room;
    bool request;         /* else an answer, or a trailer section when status is 0 */
    bool keep_alive;      /* the sender lets the connection be used again */
    bool te_trailers;     /* TE: trailers */
    bool expect_continue; /* Expect: 100-continue on 1.1 */
    bool http10;          /* the sender speaks 1.0 */
    bool http2;           /* the sender speaks 2 */
    bool must_switch;     /* an upgrade that cannot be passed over: extended CONNECT (RFC 8441) */
    bool never_indexed;   /* the same of a pseudo field as of a field */
    uint8_t method_id;    /* enum weir_method */
    uint8_t form;         /* enum weir_target_form */
    uint8_t body;         /* enum weir_body_kind */
    uint64_t length;      /* WEIR_BODY_LENGTH */
    uint64_t has;         /* a bit a field id that is there */
    struct weir_str method, scheme, host, path, query; /* requests; scheme only in absolute form */
    struct weir_str
        upgrade; /* the protocol asked for or granted, when Connection says upgrade; else absent */
    int status;
    struct weir_str reason;
};

void weir_message_init(struct weir_message *msg, struct weir_arena *arena, bool request);
/** A copy with its own field array in `arena`; the text stays borrowed from `from`. 0 or WEIR_ENOMEM. */
int weir_message_clone(struct weir_message *to, const struct weir_message *from,
                       struct weir_arena *arena) __attribute__((warn_unused_result));
/** The id of a name, without case. */
enum weir_field_id weir_field_id(struct weir_str name);
struct weir_str weir_field_name(enum weir_field_id id);
unsigned weir_field_flags(enum weir_field_id id);
/** The first value of a known field, or absent. */
struct weir_str weir_message_field(const struct weir_message *msg, enum weir_field_id id);
/** Room for `room` fields in all (>= msg->count). 0 or WEIR_ENOMEM. */
int weir_message_reserve(struct weir_message *msg, unsigned room)
    __attribute__((warn_unused_result));
/** Room for at least one more. 0 or WEIR_ENOMEM. */
int weir_message_grow(struct weir_message *msg) __attribute__((warn_unused_result));
/** Appends without any check; text is borrowed. 0 or WEIR_ENOMEM. For codecs and the machine. */
static inline __attribute__((warn_unused_result)) int weir_message_push(struct weir_message *msg,
                                                                        enum weir_field_id id,
                                                                        struct weir_str name,
                                                                        struct weir_str value)
{
    if (msg->count == msg->room && weir_message_grow(msg))
        return WEIR_ENOMEM;
    msg->fields[msg->count++] = (struct weir_field){ name, value, (uint8_t)id, false };
    msg->has |= UINT64_C(1) << id;
    return 0;
}
/** The field that was appended last: no table of HPACK may keep it (RFC 7541 6.2.3). */
static inline void weir_message_never_index(struct weir_message *msg)
{
    msg->fields[msg->count - 1].never_indexed = true;
}
/** Removes every field of that id; returns how many. */
unsigned weir_message_drop(struct weir_message *msg, enum weir_field_id id);
/** Removes every field of that name (without case); returns how many. */
unsigned weir_message_drop_name(struct weir_message *msg, struct weir_str name);
/** Hop-by-hop fields go, and those that Connection nominates (never Host, Content-Length, Transfer-Encoding by nomination). */
void weir_message_strip_hop(struct weir_message *msg);
/** "Not Found"; "" for an unknown status. */
struct weir_str weir_status_reason(int status);
enum weir_method weir_method_id(struct weir_str method);
/** RFC 9110 9.2.2 */
bool weir_method_idempotent(enum weir_method method);

#endif
