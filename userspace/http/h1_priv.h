/* SPDX-License-Identifier: Apache-2.0 */
/** h1_priv.h: what the files of the h1 codec share: h1.c (states), h1_head.c, h1_chunk.c (in),
 * h1_send.c (out), h1_pace.c (how much comes). */
#ifndef HTTP_H1_PRIV_H
#define HTTP_H1_PRIV_H

#include "base/panic.h"
#include "http/h1.h"

enum { H1_SERVER, H1_CLIENT };

/* What is expected from the peer. */
enum h1_in { H1_IN_HEAD, H1_IN_LENGTH, H1_IN_CHUNKED, H1_IN_CLOSE, H1_IN_TUNNEL, H1_IN_DONE };

/* What has been sent. */
enum h1_out { H1_OUT_HEAD, H1_OUT_BODY, H1_OUT_DONE };

/** A head that came in pieces. */
struct weir_h1_head {
    size_t len, room;
    size_t seen, skip; /* of weir_guard_head */
    uint8_t data[];
};

static inline struct weir_h1 *weir_h1_of(struct weir_codec *codec)
{
    return weir_container(codec, struct weir_h1, codec);
}

/**
 * Parses a whole head (without empty lines before it), which is copied into `arena`: *msgp has
 * fields and first line, not judged yet (weir_guard_request, weir_guard_response).
 */
int weir_h1_parse(const uint8_t *data, size_t len, bool request,
                  const struct weir_guard_limits *limits, struct weir_arena *arena,
                  struct weir_message **msgp);

/** Begins a chunked body: state in the arena of the exchange. */
int weir_h1_chunk_open(struct weir_h1 *h1);
/**
 * Decodes; calls weir_h1_emit_body. Bytes consumed, or an error (WEIR_ECANCELED: the sink has given
 * the exchange up).
 * `*done`: the last byte was the end, and *trailer is the section, or NULL.
 */
ssize_t weir_h1_chunk_feed(struct weir_h1 *h1, const uint8_t *data, size_t len, bool *done,
                           struct weir_message **trailer);
/** Hands a piece of the body to the sink; false when the exchange is gone after that. */
bool weir_h1_emit_body(struct weir_h1 *h1, const uint8_t *data, size_t len);

/** `pass_in` and `pass_out` of the vtable. */
uint64_t weir_h1_pass_in(struct weir_hstream *hs, uint64_t bytes);
uint64_t weir_h1_pass_out(struct weir_hstream *hs, uint64_t bytes);

/** The `send` of the vtable. */
int weir_h1_send(struct weir_hstream *hs, const struct weir_message *head, const struct iovec *body,
                 int count, const struct weir_message *trailer, unsigned flags);

/** A piece has been handed out: no more is to come when much waits with the holder. */
void weir_h1_brake(struct weir_h1 *h1);
/** The next message: it may come as it does. */
void weir_h1_let_run(struct weir_h1 *h1);
/** The `consume`, `hold` and `pace` of the vtable. */
void weir_h1_consume(struct weir_hstream *hs, size_t bytes);
void weir_h1_hold(struct weir_hstream *hs, bool on);
void weir_h1_pace(struct weir_hstream *hs, size_t bytes);

#endif
