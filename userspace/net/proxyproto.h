/* SPDX-License-Identifier: Apache-2.0 */
/**
 * proxyproto.h: the PROXY protocol, versions 1 and 2 (haproxy.org, doc/proxy-protocol.txt): what a proxy says, before the
 * first byte of a connection, about who is at its other side. Bytes in, verdict out; and the way back.
 */
#ifndef NET_PROXYPROTO_H
#define NET_PROXYPROTO_H

#include "net/addr.h"

enum weir_pp {
    WEIR_PP_MORE, /* a header may be beginning */
    WEIR_PP_DONE, /* whole */
    WEIR_PP_NONE, /* these bytes begin none */
    WEIR_PP_BAD,  /* it began as one, and is none; or too large (WEIR_HELLO_BYTES_MAX) */
};

/** What a header said. */
struct weir_pp_header {
    size_t len; /* of the header: what follows belongs to the connection */
    bool
        known; /* the two addresses; else (LOCAL, UNKNOWN, UNIX sockets) those of the connection itself count */
    struct weir_addr from, to;
};

/**
 * Looks at the first `len` bytes of a connection. Version 2: TLVs are walked, and a PP2_TYPE_CRC32C must be right (2.2.3).
 * `header` is filled with DONE alone. Any thread.
 */
enum weir_pp weir_pp_parse(const uint8_t *data, size_t len, struct weir_pp_header *header);

enum { WEIR_PP_OFF = 0, WEIR_PP_V1, WEIR_PP_V2 };
enum { WEIR_PP_ID_BYTES_MAX = 128, WEIR_PP_OUT_BYTES_MAX = 512 };

/** What is to be said. */
struct weir_pp_out {
    int version;                       /* WEIR_PP_V1, WEIR_PP_V2 */
    const struct weir_addr *from, *to; /* NULL: a connection of our own (a health check) */
    struct weir_str
        authority; /* v2: the name that the client asked for by SNI; absent, or at most 255 bytes */
    struct weir_str id; /* v2: PP2_TYPE_UNIQUE_ID; absent, or at most WEIR_PP_ID_BYTES_MAX */
};

/** Writes a header; returns its length. `out` has WEIR_PP_OUT_BYTES_MAX bytes. v2 has a CRC32C always. */
size_t weir_pp_make(const struct weir_pp_out *what, uint8_t *out);

#endif
