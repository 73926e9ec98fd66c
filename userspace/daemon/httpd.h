/* SPDX-License-Identifier: Apache-2.0 */
/**
 * httpd.h: a small HTTP server of our own codecs over net streams, for what weir itself serves: the
 * admin socket and `weir echo`. HTTP/1.1, one exchange at a time a connection; HTTP/2 where it is
 * wanted, many. Everything bounded, one loop, one thread.
 *
 *   on_request ▶ on_body* ▶ on_end ▶ (answer, now or later) ▶ on_gone
 *
 * on_gone comes exactly once after on_request and is last; `req` and what lives in its arena are
 * valid until it returns. An answer that ends before the request has ended ends the connection (on
 * HTTP/2 its stream).
 */
#ifndef DAEMON_HTTPD_H
#define DAEMON_HTTPD_H

#include "http/h1.h"
#include "http/h2.h"
#include "net/listener.h"
#include "net/loop.h"
#include "net/tls.h"

struct weir_httpd;
struct weir_httpd_conn;

/** One exchange. */
struct weir_httpd_req {
    uint32_t magic;
    struct weir_list link; /* of the connection's */
    struct weir_httpd_conn *conn;
    struct weir_httpd *httpd;
    struct weir_message *head;    /* of the request; NULL: on_request has not come */
    struct weir_message *trailer; /* of the request, NULL: none (yet) */
    struct weir_message answer;   /* set by weir_httpd_answer */
    struct weir_arena arena;
    struct weir_hstream *hs;
    void *user;          /* the handler's */
    unsigned tag;        /* of the listener */
    bool ended;          /* the request is whole */
    bool head_sent;      /* of the answer */
    bool answered;       /* the answer is whole */
    bool over;           /* HTTP/2: reset, by the peer or by us */
    bool tunnel, paused; /* HTTP/2: after weir_httpd_upgrade */
    size_t untaken;      /* HTTP/2: bytes of a paused tunnel */
};
#define WEIR_HTTPD_REQ_MAGIC 0x77687264u

struct weir_httpd_handler {
    void (*on_request)(void *arg, struct weir_httpd_req *req);
    /** Borrowed for the call; weir_httpd_consume says when it was taken. NULL: read away. */
    void (*on_body)(void *arg, struct weir_httpd_req *req, struct weir_str data);
    void (*on_end)(void *arg, struct weir_httpd_req *req);
    /** All that was written is in the kernel. May be NULL. */
    void (*on_drained)(void *arg, struct weir_httpd_req *req);
    /** Bytes after weir_httpd_upgrade, borrowed for the call. NULL: it is never called. */
    void (*on_tunnel)(void *arg, struct weir_httpd_req *req, struct weir_str data);
    /** Free what `user` holds. May be NULL. */
    void (*on_gone)(void *arg, struct weir_httpd_req *req);
};

struct weir_httpd_opts {
    struct weir_loop *loop;
    const struct weir_httpd_handler *handler;
    void *arg;
    struct weir_tls_server *tls; /* NULL: plain; outlives the httpd */
    unsigned conns_max;          /* more are closed at once */
    uint32_t idle_ms;            /* between requests */
    uint32_t receive_ms;         /* of a whole request; see body_extends */
    uint32_t send_ms;            /* the client reads nothing for so long */
    bool body_extends;           /* each piece of a body starts receive_ms anew */
    bool h2;                     /* HTTP/2 as well: by ALPN, or by its preface */
};

struct weir_httpd *weir_httpd_new(const struct weir_httpd_opts *opts);
/** Opens a listening socket (a UNIX one with mode 0600) and serves it; `tag` is handed to the
 * requests. Its descriptor, which stays the httpd's, or -errno. */
int weir_httpd_listen(struct weir_httpd *httpd, const struct weir_addr *addr, int backlog,
                      unsigned tag) __attribute__((warn_unused_result));
/** Serves a listening socket, which becomes the httpd's. 0 or -errno, and it is closed. */
int weir_httpd_serve(struct weir_httpd *httpd, int fd, unsigned tag)
    __attribute__((warn_unused_result));
/** Stops listening and closes idle connections; the others close after their answer. */
void weir_httpd_drain(struct weir_httpd *httpd);
/** Stops listening: another process does. Connections are served on, each until its next answer. */
void weir_httpd_retire(struct weir_httpd *httpd);
/** Closes everything at once; turn the loop until weir_httpd_conns is 0, then free. */
void weir_httpd_close(struct weir_httpd *httpd);
unsigned weir_httpd_conns(const struct weir_httpd *httpd);
void weir_httpd_free(struct weir_httpd *httpd);

/** Begins an answer: status and content type (may be NULL). The caller may push more fields, and
 * sets body and length. */
struct weir_message *weir_httpd_answer(struct weir_httpd_req *req, int status, const char *type);
/** The body is wanted: tells a client that asked (Expect: 100-continue). */
void weir_httpd_continue(struct weir_httpd_req *req);
/** Sends the head when it was not, and body bytes; WEIR_SEND_END ends the answer. 0 or an error:
 * the connection is then closed and on_gone follows. */
int weir_httpd_send(struct weir_httpd_req *req, const struct iovec *body, int count,
                    unsigned flags);
/** Ends the answer with a trailer section (which HTTP/1.1 has only behind WEIR_BODY_CHUNKED). */
int weir_httpd_send_trailer(struct weir_httpd_req *req, const struct weir_message *trailer);
/** A whole answer. */
void weir_httpd_reply(struct weir_httpd_req *req, int status, const char *type,
                      struct weir_str body);
/** Whole answer of an answer that was begun (fields were pushed). */
void weir_httpd_finish(struct weir_httpd_req *req, struct weir_str body);
/** Sends the answer that was begun (101) and makes the connection a tunnel. In or after on_end. */
void weir_httpd_upgrade(struct weir_httpd_req *req);
void weir_httpd_tunnel_write(struct weir_httpd_req *req, const struct iovec *iov, int count);
/** Back-pressure: stop or go on handing out bytes. */
void weir_httpd_tunnel_read(struct weir_httpd_req *req, bool on);
/** Ends our side after what was written; the peer's last bytes are read away. */
void weir_httpd_tunnel_end(struct weir_httpd_req *req);
/** May more be written, or is the client behind? */
bool weir_httpd_writable(struct weir_httpd_req *req);
/** `bytes` of on_body were taken. */
void weir_httpd_consume(struct weir_httpd_req *req, size_t bytes);
/** "HTTP/1.0", "HTTP/1.1" or "HTTP/2". */
struct weir_str weir_httpd_protocol(const struct weir_httpd_req *req);
/** Breaks the connection (on HTTP/2 the stream) off; on_gone follows at the end of the turn. */
void weir_httpd_abort(struct weir_httpd_req *req);
/** The peer's descriptor, for its address; -1 when there is none. */
int weir_httpd_fd(const struct weir_httpd_req *req);

#endif
