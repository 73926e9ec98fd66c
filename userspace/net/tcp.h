/* SPDX-License-Identifier: Apache-2.0 */
/** tcp.h: a stream that is a TCP or UNIX socket. */
#ifndef NET_TCP_H
#define NET_TCP_H

#include "net/io.h"
#include "net/stream.h"

struct weir_tcp_opts {
    const struct weir_addr *source; /* NULL: the kernel's choice */
    uint32_t connect_timeout_ms;    /* 0: WEIR_CONNECT_TIMEOUT_MS */
};

/** A connected descriptor becomes a stream, already open (no on_open). NULL: no memory; the descriptor is then closed. */
struct weir_stream *weir_tcp_adopt(struct weir_loop *loop, int fd, const struct weir_stream_sink *sink, void *arg);
/**
 * Connects; ends in on_open or on_error (WEIR_ECONNREFUSED, WEIR_ECONNTIME, WEIR_ECONNECT, WEIR_EMFILE…). `opts` may be NULL.
 * NULL, with *sys set, when it failed at once: nothing else will come.
 */
struct weir_stream *weir_tcp_connect(struct weir_loop *loop, const struct weir_addr *addr, const struct weir_tcp_opts *opts,
                                     const struct weir_stream_sink *sink, void *arg, int *sys);

#endif
