/* SPDX-License-Identifier: Apache-2.0 */
/** httpd.c: the doors and the answers; a connection is httpd_conn.c, httpd_mux.c. */
#include "daemon/httpd_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Of HTTP/2, which is for trying out and measuring: who cancels much is no enemy. */
enum { STREAMS_MAX = 1000, RESETS_MAX = 1000 * 1000, PINGS_MAX = 1000 * 1000 };

/* ---- listening ---------------------------------------------------------------------------- */

/* As many as there may be: the one that has been between requests, or in a head, for longest goes, or who holds
 * connections open would keep all others out. False: all are busy. */
static bool make_room(struct weir_httpd *httpd)
{
    weir_list_each(pos, tmp, &httpd->conns)
    {
        struct weir_httpd_conn *conn = weir_list_entry(pos, struct weir_httpd_conn, link);

        if (conn->state != CONN_IDLE || weir_stream_pending(conn->stream))
            continue;
        weir_httpd_conn_close(conn, false);
        return true;
    }
    return false;
}

static void on_accept(struct weir_lsock *lsock, int fd, const struct sockaddr *peer, socklen_t len)
{
    struct httpd_lsock *from = weir_container(lsock, struct httpd_lsock, lsock);
    struct weir_httpd *httpd = from->httpd;

    (void)peer;
    (void)len;
    if (httpd->draining || (httpd->conns_count >= httpd->opts.conns_max && !make_room(httpd)))
        close(fd);
    else
        weir_httpd_conn_open(httpd, fd, from->tag);
}

/* A descriptor kept for the time when none is left: that is when people ask. */
static void spare_open(struct weir_httpd *httpd)
{
    if (httpd->spare < 0)
        httpd->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Out of descriptors: the spare one makes room for this one question. Otherwise accepting pauses by
 * itself and goes on. */
static void on_accept_fail(struct weir_lsock *lsock, int sys)
{
    struct weir_httpd *httpd = weir_container(lsock, struct httpd_lsock, lsock)->httpd;
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int fd;

    if (sys != EMFILE || httpd->spare < 0)
        return;
    close(httpd->spare);
    httpd->spare = -1;
    fd = accept4(lsock->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        on_accept(lsock, fd, (struct sockaddr *)&peer, len);
    else
        spare_open(httpd);
}

void weir_httpd_conn_gone(struct weir_httpd *httpd)
{
    httpd->conns_count--;
    spare_open(httpd);
}

struct weir_httpd *weir_httpd_new(const struct weir_httpd_opts *opts)
{
    struct weir_httpd *httpd = calloc(1, sizeof(*httpd));

    if (!httpd)
        return NULL;
    httpd->opts = *opts;
    weir_list_init(&httpd->conns);
    weir_slab_init(&httpd->reqs, sizeof(struct weir_httpd_req));
    httpd->h2_limits = (struct weir_h2_limits){ STREAMS_MAX, RESETS_MAX, PINGS_MAX };
    if (opts->h2 && weir_h2_shared_init(&httpd->h2, &opts->loop->bufs, &opts->loop->now_ms) != 0) {
        free(httpd);
        return NULL;
    }
    httpd->spare = -1;
    spare_open(httpd);
    return httpd;
}

int weir_httpd_serve(struct weir_httpd *httpd, int fd, unsigned tag)
{
    struct httpd_lsock *at;

    if (httpd->listeners_count == LISTENERS_MAX) {
        close(fd);
        return -ENOSPC;
    }
    at = &httpd->listeners[httpd->listeners_count];
    *at = (struct httpd_lsock){ .httpd = httpd, .tag = tag };
    at->lsock.fd = fd;
    at->lsock.on_accept = on_accept;
    at->lsock.on_fail = on_accept_fail;
    if (weir_listen_serve(httpd->opts.loop, &at->lsock, true) != 0) {
        close(fd);
        return -EIO;
    }
    httpd->listeners_count++;
    return 0;
}

int weir_httpd_listen(struct weir_httpd *httpd, const struct weir_addr *addr, int backlog,
                      unsigned tag)
{
    struct weir_listen_opts opts = { .backlog = backlog, .mode = 0600 };
    int fd = weir_listen_open(addr, &opts), err;

    if (fd < 0)
        return fd;
    err = weir_httpd_serve(httpd, fd, tag);
    return err ? err : fd;
}

static void httpd_unlisten(struct weir_httpd *httpd)
{
    for (unsigned i = 0; i < httpd->listeners_count; i++) {
        int err = weir_listen_serve(httpd->opts.loop, &httpd->listeners[i].lsock, false);

        (void)err;
        close(httpd->listeners[i].lsock.fd);
    }
    httpd->listeners_count = 0;
}

void weir_httpd_retire(struct weir_httpd *httpd)
{
    httpd->draining = true;
    httpd_unlisten(httpd);
}

void weir_httpd_drain(struct weir_httpd *httpd)
{
    httpd->draining = true;
    httpd_unlisten(httpd);
    weir_list_each(pos, tmp, &httpd->conns)
    {
        struct weir_httpd_conn *conn = weir_list_entry(pos, struct weir_httpd_conn, link);

        if (conn->state == CONN_MUX)
            weir_httpd_mux_drain(conn);
        else if (conn->state == CONN_BUSY)
            weir_codec_shutdown(conn->codec);
        else if (conn->state == CONN_IDLE && !weir_h1_in_head(&conn->h1))
            weir_httpd_conn_linger(conn);
    }
}

void weir_httpd_close(struct weir_httpd *httpd)
{
    httpd->draining = true;
    httpd_unlisten(httpd);
    weir_list_each(pos, tmp, &httpd->conns)
        weir_httpd_conn_close(weir_list_entry(pos, struct weir_httpd_conn, link), false);
}

unsigned weir_httpd_conns(const struct weir_httpd *httpd)
{
    return httpd->conns_count;
}

void weir_httpd_free(struct weir_httpd *httpd)
{
    if (!httpd)
        return;
    weir_assert(httpd->conns_count == 0);
    httpd_unlisten(httpd);
    if (httpd->spare >= 0)
        close(httpd->spare);
    weir_slab_fini(&httpd->reqs);
    if (httpd->opts.h2)
        weir_h2_shared_fini(&httpd->h2);
    free(httpd);
}

/* ---- exchanges ---------------------------------------------------------------------------- */

struct weir_httpd_req *weir_httpd_req_new(struct weir_httpd_conn *conn, struct weir_hstream *hs)
{
    struct weir_httpd_req *req = weir_slab_get(&conn->httpd->reqs);

    if (!req)
        return NULL;
    req->magic = WEIR_HTTPD_REQ_MAGIC;
    req->conn = conn;
    req->httpd = conn->httpd;
    req->hs = hs;
    req->tag = conn->tag;
    weir_arena_init(&req->arena, &conn->httpd->opts.loop->arenas);
    weir_list_push_back(&conn->reqs, &req->link);
    hs->arg = req;
    hs->arena = &req->arena;
    return req;
}

void weir_httpd_req_drop(struct weir_httpd_req *req)
{
    struct weir_httpd *httpd = req->httpd;

    if (req->conn->req == req)
        req->conn->req = NULL;
    weir_list_remove(&req->link);
    if (req->head && httpd->opts.handler->on_gone)
        httpd->opts.handler->on_gone(httpd->opts.arg, req);
    weir_arena_fini(&req->arena);
    req->magic = 0;
    weir_slab_put(&httpd->reqs, req);
}

/* A malformed request gets its status and a sentence. It may have been refused before or after
 * the handler saw it; the handler has not answered. */
void weir_httpd_req_refuse(struct weir_httpd_req *req, enum weir_err why)
{
    char text[160];
    int n = snprintf(text, sizeof(text), "%s\n", weir_err_text(why));
    struct iovec iov = { text, (size_t)n };
    int err;

    weir_httpd_answer(req, weir_err_status(why), "text/plain");
    req->answer.body = WEIR_BODY_LENGTH;
    req->answer.length = (uint64_t)n;
    req->head_sent = req->answered = true;
    err = weir_hstream_send(req->hs, &req->answer, &iov, 1, NULL, WEIR_SEND_END);
    (void)err; /* it ends in any case */
}

/* ---- answering ---------------------------------------------------------------------------- */

struct weir_message *weir_httpd_answer(struct weir_httpd_req *req, int status, const char *type)
{
    struct weir_message *msg = &req->answer;

    weir_assert(req->magic == WEIR_HTTPD_REQ_MAGIC && !req->head_sent);
    weir_message_init(msg, &req->arena, false);
    msg->status = status;
    msg->reason = weir_status_reason(status);
    if (type && weir_message_push(msg, WEIR_F_CONTENT_TYPE, weir_field_name(WEIR_F_CONTENT_TYPE),
                                  weir_str(type)) != 0)
        weir_httpd_abort(req);
    return msg;
}

void weir_httpd_continue(struct weir_httpd_req *req)
{
    struct weir_message msg;
    int err;

    if (!req->head->expect_continue || req->head_sent || req->head->body == WEIR_BODY_NONE)
        return;
    weir_message_init(&msg, &req->arena, false);
    msg.status = 100;
    msg.reason = weir_status_reason(100);
    err = weir_hstream_send(req->hs, &msg, NULL, 0, NULL, 0);
    (void)err; /* a client that waits in vain sends its body anyway, or ends */
}

/* It did not work: on HTTP/1 that is the end of the connection. */
static int send_failed(struct weir_httpd_req *req, int err)
{
    req->answered = false;
    weir_httpd_abort(req);
    return err;
}

static int send_all(struct weir_httpd_req *req, const struct iovec *body, int count,
                    const struct weir_message *trailer, unsigned flags)
{
    struct weir_httpd_conn *conn = req->conn;
    const struct weir_message *head = req->head_sent ? NULL : &req->answer;
    int err;

    if (conn->state == CONN_CLOSING || conn->broken || req->answered || req->over)
        return WEIR_ECLOSED;
    req->head_sent = true;
    if (flags & WEIR_SEND_END)
        req->answered = true;
    err = weir_hstream_send(req->hs, head, body, count, trailer, flags);
    if (err)
        return send_failed(req, err);
    if (req->answered && !conn->feeding)
        weir_httpd_conn_later(conn);
    return conn->state == CONN_CLOSING ? WEIR_ECLOSED : 0;
}

int weir_httpd_send(struct weir_httpd_req *req, const struct iovec *body, int count, unsigned flags)
{
    return send_all(req, body, count, NULL, flags);
}

int weir_httpd_send_trailer(struct weir_httpd_req *req, const struct weir_message *trailer)
{
    return send_all(req, NULL, 0, trailer, WEIR_SEND_END);
}

void weir_httpd_finish(struct weir_httpd_req *req, struct weir_str body)
{
    struct iovec iov = { (void *)body.ptr, body.len };
    bool bodiless = req->head->method_id == WEIR_M_HEAD || body.len == 0;
    int err;

    req->answer.body = WEIR_BODY_LENGTH;
    req->answer.length = body.len;
    err = weir_httpd_send(req, &iov, bodiless ? 0 : 1, WEIR_SEND_END);
    (void)err; /* the connection is closed then, and on_gone tells */
}

void weir_httpd_reply(struct weir_httpd_req *req, int status, const char *type,
                      struct weir_str body)
{
    weir_httpd_answer(req, status, type);
    weir_httpd_finish(req, body);
}

void weir_httpd_upgrade(struct weir_httpd_req *req)
{
    struct weir_httpd_conn *conn = req->conn;

    weir_assert(conn->httpd->opts.handler->on_tunnel);
    req->answer.body = WEIR_BODY_TUNNEL;
    if (weir_httpd_send(req, NULL, 0, 0) != 0)
        return;
    if (conn->h2) {
        req->tunnel = true;
        req->ended = false; /* on_end comes once more */
        return;
    }
    req->answered = true;
    conn->state = CONN_TUNNEL;
    weir_httpd_conn_timer(conn, conn->httpd->opts.idle_ms);
}

void weir_httpd_tunnel_write(struct weir_httpd_req *req, const struct iovec *iov, int count)
{
    struct weir_httpd_conn *conn = req->conn;

    if (req->tunnel) {
        int err = send_all(req, iov, count, NULL, 0);

        (void)err; /* the stream is over then, and on_gone tells */
    } else if (conn->state == CONN_TUNNEL && weir_stream_write(conn->stream, iov, count) != 0) {
        weir_httpd_conn_close(conn, true);
    }
}

void weir_httpd_tunnel_read(struct weir_httpd_req *req, bool on)
{
    struct weir_httpd_conn *conn = req->conn;

    if (req->tunnel) {
        req->paused = !on;
        if (on)
            weir_httpd_consume(req, req->untaken);
        req->untaken = 0;
        return;
    }
    if (conn->state != CONN_TUNNEL || conn->paused == !on)
        return;
    conn->paused = !on;
    weir_httpd_conn_later(conn);
}

void weir_httpd_tunnel_end(struct weir_httpd_req *req)
{
    if (req->tunnel) {
        int err = send_all(req, NULL, 0, NULL, WEIR_SEND_END);

        (void)err; /* it is over in any case */
    } else if (req->conn->state == CONN_TUNNEL) {
        weir_httpd_conn_linger(req->conn);
    }
}

bool weir_httpd_writable(struct weir_httpd_req *req)
{
    struct weir_httpd_conn *conn = req->conn;

    if (conn->state == CONN_MUX)
        return !req->over && weir_hstream_pending(req->hs) < WEIR_STREAM_HIGH_BYTES;
    return (conn->state == CONN_BUSY || conn->state == CONN_TUNNEL) &&
           weir_stream_pending(conn->stream) < WEIR_STREAM_HIGH_BYTES;
}

void weir_httpd_consume(struct weir_httpd_req *req, size_t bytes)
{
    if (!req->conn->broken && !req->over)
        weir_hstream_consume(req->hs, bytes);
}

struct weir_str weir_httpd_protocol(const struct weir_httpd_req *req)
{
    if (req->conn->h2)
        return WEIR_STR("HTTP/2");
    return req->head->http10 ? WEIR_STR("HTTP/1.0") : WEIR_STR("HTTP/1.1");
}

void weir_httpd_abort(struct weir_httpd_req *req)
{
    struct weir_httpd_conn *conn = req->conn;

    if (!conn->h2) {
        weir_httpd_conn_close(conn, true);
        return;
    }
    if (req->over || conn->state == CONN_CLOSING)
        return;
    req->over = true;
    weir_hstream_reset(req->hs, WEIR_ECANCELED);
    weir_httpd_conn_later(conn);
}

int weir_httpd_fd(const struct weir_httpd_req *req)
{
    return req->conn->state == CONN_CLOSING ? -1 : weir_stream_fd(req->conn->stream);
}
