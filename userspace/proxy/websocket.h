/* SPDX-License-Identifier: Apache-2.0 */
/**
 * websocket.h: the key and its answer, by which both ends of a WebSocket over HTTP/1.1 prove that they mean it (RFC 6455
 * 4.1, 4.2.2). HTTP/2 has neither (RFC 8441 5): where a client of one meets a server of the other they are made here.
 */
#ifndef PROXY_WEBSOCKET_H
#define PROXY_WEBSOCKET_H

#include "base/arena.h"
#include "base/str.h"

/** A key of these 16 bytes, which should be random; in the arena, absent without memory. */
struct weir_str weir_websocket_key(struct weir_arena *arena, const uint64_t random[2]);
/** Is it the base64 of 16 bytes? */
bool weir_websocket_key_good(struct weir_str key);
/** The Sec-WebSocket-Accept that answers a good key; in the arena, absent without memory. */
struct weir_str weir_websocket_accept(struct weir_arena *arena, struct weir_str key);

#endif
