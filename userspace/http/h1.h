/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h1.h: HTTP/1.0 and 1.1 (RFC 9112), both roles, by llhttp behind the guard. One exchange at a time: a pipelined request
 * waits, unread, until the answer before it is done. Embedded in the connection: an idle codec holds no memory but this.
 */
#ifndef HTTP_H1_H
#define HTTP_H1_H

#include "http/codec.h"
#include "http/guard.h"

struct weir_h1_head;  /* an incomplete head that had to be kept; grows from 512 bytes */
struct weir_h1_chunk; /* llhttp and trailer of a chunked body, in the exchange's arena */

struct weir_h1 {
    struct weir_codec codec;
    const struct weir_guard_limits *limits;
    struct weir_hstream *hs;     /* the exchange; server role: &self */
    struct weir_hstream self;
    struct weir_h1_head *partial;
    struct weir_h1_chunk *chunk;
    uint64_t left_in, left_out;  /* of a body with a length */
    uint8_t role, in, out, out_body;
    uint8_t asked;               /* client role: enum weir_method of the request in flight */
    bool keep_alive, upgrade_asked, dead, closing, http10_peer, paused, feeding;
};

/** `limits` outlives the codec. */
void weir_h1_init_server(struct weir_h1 *h1, const struct weir_guard_limits *limits, const struct weir_codec_sink *sink, void *arg);
void weir_h1_init_client(struct weir_h1 *h1, const struct weir_guard_limits *limits, const struct weir_codec_sink *sink, void *arg);
/** Frees what an unfinished message held. */
void weir_h1_fini(struct weir_h1 *h1);
/** Has the first byte of a head come, and is the head not whole? For the head's deadline. */
bool weir_h1_in_head(const struct weir_h1 *h1);
/** Server role, no exchange: writes a minimal answer by itself for an error before a request (400, 408, 431 …). */
void weir_h1_refuse(struct weir_h1 *h1, enum weir_err why);

#endif
