/* SPDX-License-Identifier: Apache-2.0 */
/**
 * guard.h: what must be refused before and after the parser (ARCHITECTURE, "HTTP/1 guard"), and the one framing engine
 * that decides where a message ends, for both roles. Pure functions.
 */
#ifndef HTTP_GUARD_H
#define HTTP_GUARD_H

#include "http/message.h"

#include <sys/types.h>

enum {
    WEIR_METHOD_BYTES_MAX = 64,
    WEIR_CONNECTION_OPTIONS_MAX =
        64, /* elements of all Connection fields of a head: each costs a walk */
};

struct weir_guard_limits {
    uint32_t head_bytes;   /* of a head, with its empty line; 0: WEIR_HEADERS_BYTES_MAX */
    uint32_t head_count;   /* fields; 0: WEIR_HEADERS_COUNT_MAX */
    uint32_t target_bytes; /* 0: WEIR_TARGET_BYTES_MAX */
};

/**
 * Looks for the end of a head in `data`, and refuses on the way what no head may have: bare CR or LF, NUL and other
 * controls, obs-fold, an empty or malformed name, space before the colon, too many or too large.
 * `*seen` (0 at first) is where to go on when more bytes have come. `role`: requests begin with up to
 * WEIR_LEADING_CRLF_MAX empty lines (skipped: *skip).
 * @return length of the head with its empty line and what was skipped, 0 when more is needed, or a negative weir_err.
 */
ssize_t weir_guard_head(const uint8_t *data, size_t len, bool request,
                        const struct weir_guard_limits *limits, size_t *seen, size_t *skip);

/** The same for a trailer section: fields and the empty line, none of them a first line. */
ssize_t weir_guard_section(const uint8_t *data, size_t len, size_t bytes_max, size_t *seen);

/** After the parse: version, target form, Host, TE, Content-Length, Expect; sets body, length, keep_alive, upgrade, …. 0 or an error. */
int weir_guard_request(struct weir_message *msg);
/** The same for an answer to a request of that method; `connect`/upgrade answers become WEIR_BODY_TUNNEL. */
int weir_guard_response(struct weir_message *msg, enum weir_method asked, bool upgrade_asked);
/** A trailer section: fields that frame, route or authorise are refused (RFC 9110 6.5.1). */
int weir_guard_trailer(struct weir_message *trailer);
/** The same fault has another name when an upstream commits it: for codecs in the client role. */
enum weir_err weir_upstream_name(enum weir_err err);
/** Is this a legal field value for a setter (RFC 9110 5.5), and name: a token (5.6.2)? */
bool weir_guard_value(struct weir_str value);
bool weir_guard_name(struct weir_str name);
static inline bool weir_is_hex(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}
/** Host [":" port] as RFC 3986 3.2.2 has it; an empty host is allowed by `empty`. */
bool weir_guard_host(struct weir_str host, bool empty);

#endif
