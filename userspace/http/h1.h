/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h1.h: HTTP/1.0 and 1.1 (RFC 9112), both roles, by llhttp behind the guard. One exchange at a time: a pipelined request
 * waits, unread, until the answer before it is done. Embedded in the connection: an idle codec holds no memory but this.
 *
 * A sink may call send, consume, reset and done from inside its events; the codec's memory stays until feed or eof has
 * returned. After the head of a tunnel (101, or 2xx to CONNECT) feed takes nothing more: the bytes are the holder's.
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
    struct weir_hstream *hs; /* the exchange; server role: &self */
    union {
        struct weir_hstream self; /* server role */
        const struct weir_str
            *upgrade; /* client role: the protocol that the request in flight asks for */
    };
    struct weir_h1_head *partial;
    union {
        struct weir_h1_chunk *chunk; /* of a chunked body */
        uint64_t left_in;            /* of a body with a length */
    };
    uint64_t left_out; /* the same */
    uint8_t role : 1, in : 4, out : 3;
    uint8_t out_body;
    uint8_t asked; /* enum weir_method of the request in flight */
    uint8_t informationals;
    uint8_t pace_kib; /* at most so much is fed at once */
    bool
        keep_alive : 1; /* as far as the peer's head says, and no byte came that belongs to nothing */
    bool keep_alive_asked : 1; /* server role: the client is 1.0 and asked for it: it is told */
    bool answered : 1;         /* client role: the final head has come */
    bool dead : 1, closing : 1, http10_peer : 1, paused : 1;
};
/* One lies in every connection, also in idle ones. */
_Static_assert(sizeof(struct weir_h1) <= 112, "an idle codec is small");

/** `limits` outlives the codec. */
void weir_h1_init_server(struct weir_h1 *h1, const struct weir_guard_limits *limits,
                         const struct weir_codec_sink *sink, void *arg);
void weir_h1_init_client(struct weir_h1 *h1, const struct weir_guard_limits *limits,
                         const struct weir_codec_sink *sink, void *arg);
/** Frees what an unfinished message held. */
void weir_h1_fini(struct weir_h1 *h1);
/** Has the first byte of a head come, and is the head not whole? For the head's deadline. */
bool weir_h1_in_head(const struct weir_h1 *h1);
/** Server role, inside a head: its time is over. The request begins, and is reset by `why`: its holder answers. Not from
 * inside feed(). 0, or why it could not begin; the codec is dead either way. */
int weir_h1_give_up(struct weir_h1 *h1, enum weir_err why) __attribute__((warn_unused_result));
/** Server role, no exchange: writes a minimal answer by itself for an error before a request (400, 408, 431 …). */
void weir_h1_refuse(struct weir_h1 *h1, enum weir_err why);

#endif
