/* SPDX-License-Identifier: Apache-2.0 */
/** tcp.h: a stream that is a TCP or UNIX socket. */
#ifndef NET_TCP_H
#define NET_TCP_H

#include "net/io.h"
#include "net/stream.h"

struct weir_tcp_opts {
    const struct weir_addr *source; /* NULL: the kernel's choice */
    uint32_t connect_timeout_ms;    /* 0: WEIR_CONNECT_TIMEOUT_MS */
    struct weir_str first; /* sent before all else, also before TLS; copied; absent: none */
    bool
        http1; /* of a TLS stream: HTTP/1.1 is all that is offered, whatever its client context says */
};

/**
 * A connected descriptor becomes a stream, already open (no on_open). No option of the socket is
 * changed: TCP_NODELAY was inherited from the listening socket. NULL: no memory; the descriptor is
 * then closed.
 */
struct weir_stream *weir_tcp_adopt(struct weir_loop *loop, int fd,
                                   const struct weir_stream_sink *sink, void *arg);
/**
 * Connects; ends in on_open or on_error (WEIR_ECONNREFUSED, WEIR_ECONNTIME, WEIR_ECONNECT,
 * WEIR_EMFILE…). `opts` may be NULL. NULL, with *sys set, when it failed at once: nothing else will
 * come (EADDRNOTAVAIL: no local port is free; ENXIO: opts->source is not an address of this host).
 * What is written before on_open is sent after it.
 */
struct weir_stream *weir_tcp_connect(struct weir_loop *loop, const struct weir_addr *addr,
                                     const struct weir_tcp_opts *opts,
                                     const struct weir_stream_sink *sink, void *arg, int *sys);

/** The memory of a loop's streams; called by weir_loop_init and _fini. */
void weir_tcp_loop_init(struct weir_loop *loop);
void weir_tcp_loop_fini(struct weir_loop *loop);

#endif
