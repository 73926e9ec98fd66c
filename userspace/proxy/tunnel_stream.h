/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tunnel_stream.h: an exchange as a stream of bytes: after the head of a tunnel (RFC 8441, RFC 9113 8.5) the body of an
 * HTTP/2 stream is what the bytes of the connection are on HTTP/1. So that a tunnel knows one kind of end.
 */
#ifndef PROXY_TUNNEL_STREAM_H
#define PROXY_TUNNEL_STREAM_H

#include "http/codec.h"
#include "net/stream.h"

/**
 * Takes the events of `hs` over: the stream lies in `hs->arena`, and ends by weir_stream_close: what has not ended is
 * reset then, and `hs` is not touched any more. It reads from the start, within the window: bytes that came while it did
 * not are handed on, and not credited until it does. The caller sets its sink before it returns to the loop. `owed`: bytes that came before, not credited yet; `eof`: its end came, too. `reset_code`: what a reset by the peer is called. NULL: out of memory.
 */
struct weir_stream *weir_tunnel_stream(struct weir_hstream *hs, size_t owed, bool eof,
                                       struct weir_loop *loop, enum weir_err reset_code);

#endif
