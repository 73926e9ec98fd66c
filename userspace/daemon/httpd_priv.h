/* SPDX-License-Identifier: Apache-2.0 */
/** httpd_priv.h: what httpd.c (doors, answers), httpd_conn.c (a connection) and httpd_mux.c (one of HTTP/2) share. */
#ifndef DAEMON_HTTPD_PRIV_H
#define DAEMON_HTTPD_PRIV_H

#include "daemon/httpd.h"

#include "net/io.h"

enum conn_state {
    CONN_HANDSHAKE,
    CONN_IDLE,
    CONN_BUSY,
    CONN_TUNNEL,
    CONN_MUX,
    CONN_LINGER,
    CONN_CLOSING,
};

enum { LISTENERS_MAX = 32, KEPT_BYTES_MAX = 256 * 1024, PREFACE_BYTES = 24 };
#define CONN_MAGIC 0x77686363u

struct httpd_lsock {
    struct weir_lsock lsock;
    struct weir_httpd *httpd;
    unsigned tag;
};

struct weir_httpd {
    struct weir_httpd_opts opts;
    struct weir_guard_limits limits;
    struct weir_h2_limits h2_limits;
    struct weir_h2_shared h2;
    struct weir_slab reqs;
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
    struct weir_codec *codec; /* &h1.codec, or h2's */
    struct weir_h1 h1;
    struct weir_h2 *h2; /* NULL: HTTP/1 */
    struct weir_list reqs;
    struct weir_httpd_req *req; /* of HTTP/1: the one in progress, or NULL */
    struct weir_buf kept;
    struct weir_timer timer;
    struct weir_later later;
    size_t lingered;
    unsigned tag;
    bool feeding, paused, eof, broken;
    bool sniffed;                            /* it is known which protocol it speaks */
    uint8_t first[PREFACE_BYTES], first_len; /* bytes that may be a preface */
    enum weir_err why;                       /* it is broken */
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
/** An exchange of that connection; NULL without memory. */
struct weir_httpd_req *weir_httpd_req_new(struct weir_httpd_conn *conn, struct weir_hstream *hs);
/** on_gone, and its memory. */
void weir_httpd_req_drop(struct weir_httpd_req *req);
/** The answer to a request that was refused before anybody has answered it. */
void weir_httpd_req_refuse(struct weir_httpd_req *req, enum weir_err why);
extern const struct weir_codec_sink weir_httpd_codec_sink;

/* httpd_mux.c */

/** The connection speaks HTTP/2 from here on. 0 or WEIR_ENOMEM. */
int weir_httpd_mux_start(struct weir_httpd_conn *conn);
void weir_httpd_mux_feed(struct weir_httpd_conn *conn, const uint8_t *data, size_t len);
void weir_httpd_mux_eof(struct weir_httpd_conn *conn);
/** At the end of a turn: exchanges that are over go, frames are sent. */
void weir_httpd_mux_settle(struct weir_httpd_conn *conn);
void weir_httpd_mux_time_over(struct weir_httpd_conn *conn);
void weir_httpd_mux_drain(struct weir_httpd_conn *conn);
extern const struct weir_hstream_sink weir_httpd_mux_sink;

#endif
