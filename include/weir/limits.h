/* SPDX-License-Identifier: Apache-2.0 */
/** limits.h: every bound of weir that is not a setting, and the defaults of those that are. Sorted by noun. */
#ifndef WEIR_LIMITS_H
#define WEIR_LIMITS_H

/* clang-format off */
enum weir_limits {
    WEIR_ACCEPTS_TURN_MAX        = 64,          /* accepted by a listener in one turn of its loop */
    WEIR_ARENA_CHUNK_BYTES = 4080, /* what a request starts with: 16 fit a page of a slab */
    WEIR_BODY_RATE_GRACE_MS      = 10 * 1000,   /* body_rate_min counts after this */
    WEIR_CHUNK_EXT_BYTES_MAX     = 256,         /* of one chunk line, with its extensions */
    WEIR_CONNECT_TIMEOUT_MS      = 4 * 1000,    /* the first SYN is sent again after 1 s */
    WEIR_DRAIN_LINGER_BYTES_MAX  = 1024 * 1024, /* of an unwanted body that is read away before the close */
    WEIR_DRAIN_LINGER_MS         = 2 * 1000,
    WEIR_HEADERS_BYTES_MAX       = 32 * 1024,
    WEIR_HEADERS_COUNT_MAX       = 100,
    WEIR_HELLO_BYTES_MAX         = 16 * 1024,   /* of a ClientHello that is looked at, and of a PROXY header */
    WEIR_INFORMATIONALS_MAX      = 16,          /* 1xx answers to one request */
    WEIR_LEADING_CRLF_MAX        = 2,           /* empty lines before a request line (RFC 9112 2.2) */
    WEIR_NAME_BYTES_MAX          = 255,         /* of a listener, route, upstream */
    WEIR_PIECE_BYTES_MIN         = 32 * 1024,   /* of a body, read at once although the other side takes nothing now */
    WEIR_READ_BUFFER_BYTES       = 64 * 1024,   /* one a worker, lent to whoever is reading */
    WEIR_READ_LEAST_BYTES        = 15 * 1024,   /* of it, above limits.memory: what one slab takes */
    WEIR_READS_TURN_MAX          = 4,           /* of one socket in one turn */
    WEIR_REPLAY_BYTES_MAX        = 64 * 1024,   /* of a body kept for a retry */
    WEIR_RETRY_BUDGET_FLOOR      = 10,          /* retries a second that are always allowed */
    WEIR_SHARED_STREAM_BYTES     = 48 * 1024,   /* of a stream of HTTP/2 that may wait here: with what it costs, under 64 KiB */
    WEIR_SHARED_UNSENT_BYTES     = 128 * 1024,  /* of a client connection of HTTP/2, in the kernel and not on the wire yet */
    WEIR_SLAB_BYTES = 16368, /* of a buffer: 4 fit a page of a slab */
    WEIR_STREAM_HIGH_BYTES       = 64 * 1024,   /* unsent bytes at which a writer must stop */
    WEIR_STREAM_WAIT_BYTES       = 16 * 1024,   /* of a body that waits for the other side: its source is not read any more */
    WEIR_TARGET_BYTES_MAX        = 16 * 1024,   /* of a request target */
    WEIR_TCP_KEEPALIVE_S         = 60,          /* without a sign of a client: TCP asks */
    WEIR_TCP_PROBE_S             = 15,          /* and again, */
    WEIR_TCP_PROBES              = 3,           /* so often, until it is taken for gone */
    WEIR_TRAILERS_BYTES_MAX      = 8 * 1024,
    WEIR_WORKERS_MAX             = 256,
};
/* clang-format on */

#endif
