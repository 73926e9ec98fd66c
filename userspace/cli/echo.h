/* SPDX-License-Identifier: Apache-2.0 */
/**
 * echo.h: the demo upstream of `weir echo`: answers with what it received, on HTTP/1.1 and HTTP/2
 * (by ALPN, or by its preface).
 *
 *   /bytes/N   N bytes of a pattern, streamed        /delay/MS  an answer that comes late
 *   /status/N  an answer of that status              /headers   the request's fields, as JSON
 *   anything else: the request, told back as text (with its trailers) or (Accept:
 *   application/json) as JSON
 *   a WebSocket: every message comes back (RFC 6455, 8441)
 */
#ifndef CLI_ECHO_H
#define CLI_ECHO_H

#include "daemon/httpd.h"

struct weir_echo;

struct weir_echo_opts {
    struct weir_loop *loop;
    struct weir_tls_server *tls; /* NULL: plain; outlives the echo */
    unsigned conns_max;
};

struct weir_echo *weir_echo_new(const struct weir_echo_opts *opts);
/** Listens there as well: a descriptor that stays the echo's, or -errno. */
int weir_echo_listen(struct weir_echo *echo, const struct weir_addr *addr)
    __attribute__((warn_unused_result));
void weir_echo_drain(struct weir_echo *echo);
void weir_echo_close(struct weir_echo *echo);
unsigned weir_echo_conns(const struct weir_echo *echo);
/** When weir_echo_conns is 0. */
void weir_echo_free(struct weir_echo *echo);

/* ---- echo_ws.c ---- */

enum { WEIR_WS_CONTROL_MAX = 125 };

/** The reading side of one WebSocket, in its request's arena. */
struct weir_ws {
    uint8_t head[14], head_len; /* of a frame that is not whole */
    uint8_t mask[4];
    uint64_t left; /* payload to come */
    uint64_t at;   /* payload that has come, for the mask */
    uint8_t opcode;
    bool fin;
    bool in_payload;
    bool fragmented; /* a message has begun and not ended */
    bool text;       /* it is text: must be UTF-8 */
    bool closed;     /* we have sent Close */
    uint32_t utf8;   /* state of the check: bytes still to come, and the range of the next */
    uint8_t control[WEIR_WS_CONTROL_MAX], control_len;
};

/** Does the request ask for a WebSocket, rightly? Sets status and fields of the answer: 101, or
 * 400, 426. */
struct weir_message *weir_ws_accept(struct weir_httpd_req *req);
/**
 * Takes `len` bytes from the client and puts what goes back into `out` (which has room for len and
 * WEIR_WS_SLACK more). Returns how many bytes; ws->closed: the connection ends after them.
 */
size_t weir_ws_feed(struct weir_ws *ws, const uint8_t *data, size_t len, uint8_t *out);
enum { WEIR_WS_SLACK = 160 };

#endif
