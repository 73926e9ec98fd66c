/* SPDX-License-Identifier: Apache-2.0 */
/**
 * sni.h: which name a TLS client asks for, told by its first bytes without a handshake: for connections that are passed on
 * as they are. Bytes in, verdict out; nothing is kept between calls.
 */
#ifndef NET_SNI_H
#define NET_SNI_H

#include "weir/types.h"

enum { WEIR_SNI_BYTES_MAX = 255 };

struct weir_sni {
    uint8_t len;
    char name[WEIR_SNI_BYTES_MAX]; /* without the final dot */
};

enum weir_hello {
    WEIR_HELLO_MORE, /* a ClientHello may be beginning; less than WEIR_HELLO_BYTES_MAX are here */
    WEIR_HELLO_NAME, /* whole, and it names a host */
    WEIR_HELLO_NONE, /* whole, and names none; or these are no records of TLS */
    WEIR_HELLO_BAD,  /* what RFC 8446 4.1.2 or RFC 6066 3 forbid, or too large */
};

/**
 * Looks at the first `len` bytes of a client: a ClientHello (RFC 8446 4.1.2), in one record or several (5.1: of at least a
 * byte each), and in it server_name (RFC 6066 3). With an encrypted ClientHello (RFC 9849) that is the outer, public name:
 * the inner one is not to be seen here. `sni` is filled with NAME alone. Any thread.
 */
enum weir_hello weir_sni_peek(const uint8_t *data, size_t len, struct weir_sni *sni);

#endif
