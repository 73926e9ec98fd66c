/* SPDX-License-Identifier: Apache-2.0 */
/** httpd_priv.h: what httpd.c (doors, answers) and httpd_conn.c (a connection) share. */
#ifndef DAEMON_HTTPD_PRIV_H
#define DAEMON_HTTPD_PRIV_H

#include "daemon/httpd.h"

#include "net/io.h"

enum conn_state {
    CONN_HANDSHAKE,
    CONN_IDLE,
    CONN_BUSY,
    CONN_TUNNEL,
    CONN_LINGER,
    CONN_CLOSING,
};

enum { LISTENERS_MAX = 32, KEPT_BYTES_MAX = 256 * 1024 };
#define CONN_MAGIC 0x77686363u

struct httpd_lsock {
    struct weir_lsock lsock;
    struct weir_httpd *httpd;
    unsigned tag;
};

struct weir_httpd {
    struct weir_httpd_opts opts;
    struct weir_guard_limits limits;
    struct weir_list conns;
    unsigned conns_count;
    int spare; /* a descriptor for when none is left; -1: in use */
    bool draining;
    unsigned listeners_count;
    struct httpd_lsock listeners[LISTENERS_MAX];
};

struct weir_httpd_conn {
    uint32_t magic;
    enum conn_state state;
    struct weir_list link;
    struct weir_httpd *httpd;
    struct weir_stream *stream;
    struct weir_h1 h1;
    struct weir_buf kept;
    struct weir_timer timer;
    struct weir_later later;
    size_t lingered;
    unsigned tag;
    bool feeding, paused, eof, broken, has_req;
    enum weir_err why; /* it is broken */
    struct weir_httpd_req req;
};

/** httpd_conn.c: a connection of that door; takes the descriptor, also when it fails. */
void weir_httpd_conn_open(struct weir_httpd *httpd, int fd, unsigned tag);
/** A connection has closed. */
void weir_httpd_conn_gone(struct weir_httpd *httpd);
/** At once; its memory goes in on_closed. */
void weir_httpd_conn_close(struct weir_httpd_conn *conn, bool reset);
/** Our side is done: FIN, then what still comes is read away. */
void weir_httpd_conn_linger(struct weir_httpd_conn *conn);
/** Goes on at the end of the turn: an answer is whole, a pause is over. */
void weir_httpd_conn_later(struct weir_httpd_conn *conn);
/** Its timer, anew. */
void weir_httpd_conn_timer(struct weir_httpd_conn *conn, uint32_t ms);

#endif
