/* SPDX-License-Identifier: Apache-2.0 */
/** fields.c: the words of HTTP that weir knows: field names, methods, reasons. Tables and their
 * look-ups. */
#include "http/message.h"

#include "base/panic.h"

enum { NAME_BYTES_MAX = 24 };

/* Padded, so that names compare by words. */
struct known {
    char name[NAME_BYTES_MAX];
    uint8_t len, flags;
};

#define ROW(id, text, bits) [WEIR_F_##id] = { text, sizeof(text) - 1, bits },
static const struct known known[WEIR_F_COUNT] = { WEIR_FIELDS(ROW) };
#undef ROW

/* Which ids have a name of that length; a unit test holds this against the rows above. */
static const uint8_t by_length[NAME_BYTES_MAX][8] = {
    [2] = { WEIR_F_TE },
    [3] = { WEIR_F_VIA },
    [4] = { WEIR_F_HOST, WEIR_F_DATE },
    [6] = { WEIR_F_ACCEPT, WEIR_F_COOKIE, WEIR_F_EXPECT, WEIR_F_SERVER },
    [7] = { WEIR_F_REFERER, WEIR_F_UPGRADE, WEIR_F_TRAILER },
    [8] = { WEIR_F_LOCATION },
    [9] = { WEIR_F_FORWARDED },
    [10] = { WEIR_F_USER_AGENT, WEIR_F_CONNECTION, WEIR_F_KEEP_ALIVE, WEIR_F_SET_COOKIE },
    [11] = { WEIR_F_RETRY_AFTER },
    [12] = { WEIR_F_CONTENT_TYPE, WEIR_F_X_REQUEST_ID },
    [13] = { WEIR_F_CACHE_CONTROL, WEIR_F_AUTHORIZATION },
    [14] = { WEIR_F_CONTENT_LENGTH, WEIR_F_HTTP2_SETTINGS },
    [15] = { WEIR_F_ACCEPT_ENCODING, WEIR_F_X_FORWARDED_FOR },
    [16] = { WEIR_F_CONTENT_ENCODING, WEIR_F_PROXY_CONNECTION, WEIR_F_WWW_AUTHENTICATE,
             WEIR_F_X_FORWARDED_HOST, WEIR_F_X_FORWARDED_PORT },
    [17] = { WEIR_F_TRANSFER_ENCODING, WEIR_F_X_FORWARDED_PROTO, WEIR_F_SEC_WEBSOCKET_KEY },
    [18] = { WEIR_F_PROXY_AUTHENTICATE },
    [19] = { WEIR_F_PROXY_AUTHORIZATION },
    [20] = { WEIR_F_SEC_WEBSOCKET_ACCEPT },
};

static uint64_t word8(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word | UINT64_C(0x2020202020202020);
}

/* Setting bit 5 makes letters small; it joins no two bytes that a token may have and `lower` has.
 */
static bool same_name(const char *name, const char *lower, size_t len)
{
    if (len < 8) {
        for (size_t i = 0; i < len; i++)
            if (weir_lower(name[i]) != lower[i])
                return false;
        return true;
    }
    for (size_t i = 0; i + 8 <= len; i += 8)
        if (word8(name + i) != word8(lower + i))
            return false;
    return word8(name + len - 8) == word8(lower + len - 8);
}

enum weir_field_id weir_field_id(struct weir_str name)
{
    if (name.len >= NAME_BYTES_MAX)
        return WEIR_F_OTHER;
    for (const uint8_t *id = by_length[name.len]; *id; id++)
        if (same_name(name.ptr, known[*id].name, name.len))
            return (enum weir_field_id) * id;
    return WEIR_F_OTHER;
}

struct weir_str weir_field_name(enum weir_field_id id)
{
    weir_assert(id < WEIR_F_COUNT);
    return (struct weir_str){ known[id].name, known[id].len };
}

unsigned weir_field_flags(enum weir_field_id id)
{
    return id < WEIR_F_COUNT ? known[id].flags : 0;
}

static const struct {
    struct weir_str name;
    enum weir_method id;
} methods[] = {
    { { "GET", 3 }, WEIR_M_GET },       { { "HEAD", 4 }, WEIR_M_HEAD },
    { { "POST", 4 }, WEIR_M_POST },     { { "PUT", 3 }, WEIR_M_PUT },
    { { "DELETE", 6 }, WEIR_M_DELETE }, { { "OPTIONS", 7 }, WEIR_M_OPTIONS },
    { { "TRACE", 5 }, WEIR_M_TRACE },   { { "CONNECT", 7 }, WEIR_M_CONNECT },
    { { "PATCH", 5 }, WEIR_M_PATCH },
};

enum weir_method weir_method_id(struct weir_str method)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (weir_str_eq(method, methods[i].name))
            return methods[i].id;
    return WEIR_M_OTHER;
}

bool weir_method_idempotent(enum weir_method method)
{
    switch (method) {
    case WEIR_M_GET:
    case WEIR_M_HEAD:
    case WEIR_M_PUT:
    case WEIR_M_DELETE:
    case WEIR_M_OPTIONS:
    case WEIR_M_TRACE:
        return true;
    default:
        return false;
    }
}

/* The IANA registry of status codes. */
/* clang-format off */
#define REASONS(X)                                                                                      \
    X(100, "Continue") X(101, "Switching Protocols") X(102, "Processing") X(103, "Early Hints")         \
    X(200, "OK") X(201, "Created") X(202, "Accepted") X(203, "Non-Authoritative Information")           \
    X(204, "No Content") X(205, "Reset Content") X(206, "Partial Content") X(207, "Multi-Status")       \
    X(208, "Already Reported") X(226, "IM Used")                                                        \
    X(300, "Multiple Choices") X(301, "Moved Permanently") X(302, "Found") X(303, "See Other")          \
    X(304, "Not Modified") X(305, "Use Proxy") X(307, "Temporary Redirect")                             \
    X(308, "Permanent Redirect")                                                                        \
    X(400, "Bad Request") X(401, "Unauthorized") X(402, "Payment Required") X(403, "Forbidden")         \
    X(404, "Not Found") X(405, "Method Not Allowed") X(406, "Not Acceptable")                           \
    X(407, "Proxy Authentication Required") X(408, "Request Timeout") X(409, "Conflict")                \
    X(410, "Gone") X(411, "Length Required") X(412, "Precondition Failed")                              \
    X(413, "Content Too Large") X(414, "URI Too Long") X(415, "Unsupported Media Type")                 \
    X(416, "Range Not Satisfiable") X(417, "Expectation Failed") X(421, "Misdirected Request")          \
    X(422, "Unprocessable Content") X(423, "Locked") X(424, "Failed Dependency") X(425, "Too Early")    \
    X(426, "Upgrade Required") X(428, "Precondition Required") X(429, "Too Many Requests")              \
    X(431, "Request Header Fields Too Large") X(451, "Unavailable For Legal Reasons")                   \
    X(499, "Client Closed Request")                                                                     \
    X(500, "Internal Server Error") X(501, "Not Implemented") X(502, "Bad Gateway")                     \
    X(503, "Service Unavailable") X(504, "Gateway Timeout") X(505, "HTTP Version Not Supported")        \
    X(506, "Variant Also Negotiates") X(507, "Insufficient Storage") X(508, "Loop Detected")            \
    X(511, "Network Authentication Required")
/* clang-format on */

struct weir_str weir_status_reason(int status)
{
    switch (status) {
#define REASON(code, text) \
    case code:             \
        return WEIR_STR(text);
        REASONS(REASON)
#undef REASON
    default:
        return WEIR_STR("");
    }
}
