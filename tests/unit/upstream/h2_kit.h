/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_kit.h: a server of HTTP/2 (nghttp2's own server side; a thread a connection), plain or with TLS and ALPN. The path
 * of a request is the script of its answer:
 *
 *   /          200 "hi"                           /hang    nothing, until `go` is set
 *   /refuse    RST_STREAM(REFUSED_STREAM)         /mute    reads nothing any more
 *   /goaway    GOAWAY that leaves this one out    /last    GOAWAY that lets this one in
 *   /fin       closes                             /rst     closes by RST
 */
#ifndef TESTS_H2_KIT_H
#define TESTS_H2_KIT_H

#include "upstream_kit.h"

#include "http/h2_priv.h"
#include "upstream/upmux.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>

enum { H2S_CONNS_MAX = 256, H2S_HANGING_MAX = 256 };

struct h2s_conn {
    struct h2s *server;
    pthread_t thread;
    int fd;
    SSL *ssl;
    nghttp2_session *session;
    int32_t hanging[H2S_HANGING_MAX];
    unsigned hanging_count;
    bool mute, end, reset;
    int gone;       /* the order of `goaway` that it has followed */
    bool said;      /* HEADERS or DATA, since the last PING */
    unsigned asked; /* PINGs while it said nothing */
};

struct h2s {
    int fd;
    uint16_t port;
    pthread_t thread;
    SSL_CTX *tls; /* NULL: plain */
    X509 *cert;
    EVP_PKEY *key;
    const char *alpn; /* the server's choice, "h2" or "http/1.1"; NULL: none */
    bool alpn_http1;  /* "http/1.1" where that is not offered */
    _Atomic bool stop, go, h1;
    _Atomic bool strict; /* it ends a connection that pings too much, as servers of gRPC do */
    _Atomic int accepted, requests, open, pings, goaways, max_streams, accept_delay_ms;
    struct h2s_conn conns[H2S_CONNS_MAX];
};

static ssize_t h2s_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                        uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    memcpy(buf, "hi", 2);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return 2;
}

static void h2s_answer(struct h2s_conn *conn, int32_t id)
{
    nghttp2_nv nv = { (uint8_t *)":status", (uint8_t *)"200", 7, 3, NGHTTP2_NV_FLAG_NONE };
    nghttp2_data_provider body = { .read_callback = h2s_body };

    nghttp2_submit_response(conn->session, id, &nv, 1, &body);
}

static void h2s_goaway(struct h2s_conn *conn, int32_t last)
{
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0);
}

static int h2s_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                         size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                         void *arg)
{
    if (name_len == 5 && memcmp(name, ":path", 5) == 0)
        nghttp2_session_set_stream_user_data(session, frame->hd.stream_id,
                                             strndup((const char *)value, value_len));
    return 0;
}

static void h2s_script(struct h2s_conn *conn, int32_t id, const char *path)
{
    atomic_fetch_add(&conn->server->requests, 1);
    if (!strcmp(path, "/hang") && conn->hanging_count < H2S_HANGING_MAX) {
        conn->hanging[conn->hanging_count++] = id;
    } else if (!strcmp(path, "/refuse")) {
        nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    } else if (!strcmp(path, "/goaway")) {
        h2s_goaway(conn, id - 2);
    } else if (!strcmp(path, "/last")) {
        h2s_goaway(conn, id);
        h2s_answer(conn, id);
    } else if (!strcmp(path, "/mute")) {
        conn->mute = true;
    } else if (!strcmp(path, "/fin") || !strcmp(path, "/rst")) {
        conn->end = true;
        conn->reset = path[1] == 'r';
    } else {
        h2s_answer(conn, id);
    }
}

static int h2s_on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2s_conn *conn = arg;

    if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)
        conn->said = true;
    return 0;
}

/* The first PING, and each after something was said, is free; of others the third is too many. No test waits for the five
 * minutes after which one is free again. */
static void h2s_pinged(struct h2s_conn *conn)
{
    if (conn->said)
        conn->asked = 0;
    conn->said = false;
    atomic_fetch_add(&conn->server->pings, 1);
    if (++conn->asked > 3 && atomic_load(&conn->server->strict))
        nghttp2_session_terminate_session(conn->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

static int h2s_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2s_conn *conn = arg;
    char *path;

    if (frame->hd.type == NGHTTP2_PING && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
        h2s_pinged(conn);
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    path = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, NULL);
    h2s_script(conn, frame->hd.stream_id, path ? path : "/");
    free(path);
    return 0;
}

static ssize_t h2s_send(nghttp2_session *session, const uint8_t *data, size_t len, int flags,
                        void *arg)
{
    struct h2s_conn *conn = arg;
    ssize_t n =
        conn->ssl ? SSL_write(conn->ssl, data, (int)len) : send(conn->fd, data, len, MSG_NOSIGNAL);

    return n > 0 ? n : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static ssize_t h2s_recv(struct h2s_conn *conn, uint8_t *data, size_t len)
{
    return conn->ssl ? SSL_read(conn->ssl, data, (int)len) : recv(conn->fd, data, len, 0);
}

static bool h2s_readable(struct h2s_conn *conn)
{
    struct pollfd in = { conn->fd, POLLIN, 0 };

    if (conn->mute) {
        usleep(2000);
        return false;
    }
    return (conn->ssl && SSL_pending(conn->ssl)) || poll(&in, 1, 2) > 0;
}

static void h2s_follow_orders(struct h2s_conn *conn)
{
    int goaways = atomic_load(&conn->server->goaways);

    if (atomic_load(&conn->server->go))
        while (conn->hanging_count)
            h2s_answer(conn, conn->hanging[--conn->hanging_count]);
    if (conn->gone != goaways) {
        conn->gone = goaways;
        h2s_goaway(conn, nghttp2_session_get_last_proc_stream_id(conn->session));
    }
}

static void h2s_serve(struct h2s_conn *conn)
{
    nghttp2_settings_entry max = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                   (uint32_t)atomic_load(&conn->server->max_streams) };
    nghttp2_session_callbacks *callbacks;
    uint8_t data[16384];

    conn->gone = atomic_load(&conn->server->goaways);
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_send_callback(callbacks, h2s_send);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, h2s_on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, h2s_on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, h2s_on_sent);
    nghttp2_session_server_new(&conn->session, callbacks, conn);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, &max, 1);
    while (!atomic_load(&conn->server->stop)) {
        h2s_follow_orders(conn);
        if (!conn->mute && nghttp2_session_send(conn->session))
            break;
        if (conn->end)
            break;
        if (h2s_readable(conn)) {
            ssize_t n = h2s_recv(conn, data, sizeof(data));

            if (n <= 0 || nghttp2_session_mem_recv(conn->session, data, (size_t)n) < 0)
                break;
        }
    }
    nghttp2_session_del(conn->session);
}

/* As much of HTTP/1.1 as ALPN needs. */
static void h2s_serve_h1(struct h2s_conn *conn)
{
    uint8_t data[4096];

    while (!atomic_load(&conn->server->stop)) {
        static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

        if (!h2s_readable(conn))
            continue;
        if (h2s_recv(conn, data, sizeof(data)) <= 0)
            return;
        atomic_fetch_add(&conn->server->requests, 1);
        if (SSL_write(conn->ssl, answer, sizeof(answer) - 1) <= 0)
            return;
    }
}

static void *h2s_conn_run(void *arg)
{
    struct h2s_conn *conn = arg;
    struct linger linger = { .l_onoff = 1 };
    const unsigned char *name = NULL;
    unsigned len = 0;

    if (atomic_load(&conn->server->accept_delay_ms))
        usleep((useconds_t)atomic_load(&conn->server->accept_delay_ms) * 1000);
    if (conn->ssl && SSL_accept(conn->ssl) != 1)
        goto close;
    if (conn->ssl)
        SSL_get0_alpn_selected(conn->ssl, &name, &len);
    if (conn->ssl && (len != 2 || memcmp(name, "h2", 2) != 0))
        h2s_serve_h1(conn);
    else
        h2s_serve(conn);
    if (conn->ssl && !conn->reset)
        SSL_shutdown(conn->ssl);
close:
    if (conn->reset)
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    SSL_free(conn->ssl);
    close(conn->fd);
    atomic_fetch_sub(&conn->server->open, 1);
    return NULL;
}

static void *h2s_run(void *arg)
{
    struct h2s *server = arg;
    int fd, n = 0;

    while (n < H2S_CONNS_MAX && (fd = accept(server->fd, NULL, NULL)) >= 0) {
        struct h2s_conn *conn = &server->conns[n++];

        *conn = (struct h2s_conn){ .server = server, .fd = fd };
        if (server->tls) {
            conn->ssl = SSL_new(server->tls);
            SSL_set_fd(conn->ssl, fd);
        }
        atomic_fetch_add(&server->open, 1);
        atomic_store(&server->accepted, n); /* before it can answer: tests look at it then */
        pthread_create(&conn->thread, NULL, h2s_conn_run, conn);
    }
    return NULL;
}

static int h2s_choose(const char *name, const unsigned char **out, unsigned char *out_len,
                      const unsigned char *in, unsigned in_len)
{
    for (unsigned at = 0; name && at < in_len && at + in[at] < in_len; at += 1u + in[at])
        if (in[at] == strlen(name) && memcmp(in + at + 1, name, in[at]) == 0) {
            *out = in + at + 1;
            *out_len = in[at];
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int h2s_on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    struct h2s *server = arg;
    const char *name = atomic_load(&server->h1) ? "http/1.1" : server->alpn;

    if (h2s_choose(name, out, out_len, in, in_len) == SSL_TLSEXT_ERR_OK)
        return SSL_TLSEXT_ERR_OK;
    return server->alpn_http1 ? h2s_choose("http/1.1", out, out_len, in, in_len)
                              : SSL_TLSEXT_ERR_NOACK;
}

static inline void h2s_use_tls(struct h2s *server, const char *alpn)
{
    server->key = EVP_EC_gen("P-256");
    server->cert = X509_new();
    server->alpn = alpn;
    X509_set_version(server->cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(server->cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(server->cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(server->cert), 86400);
    X509_set_pubkey(server->cert, server->key);
    assert_true(X509_sign(server->cert, server->key, EVP_sha256()) > 0);
    server->tls = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(server->tls, server->cert);
    SSL_CTX_use_PrivateKey(server->tls, server->key);
    SSL_CTX_set_alpn_select_cb(server->tls, h2s_on_alpn, server);
}

/** After h2s_use_tls, if that is wanted; the struct is zeroed before. */
static inline void h2s_start(struct h2s *server)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(in);

    signal(SIGPIPE, SIG_IGN);
    if (!atomic_load(&server->max_streams))
        atomic_store(&server->max_streams, 100);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(server->fd, 128), 0);
    assert_int_equal(getsockname(server->fd, (struct sockaddr *)&in, &len), 0);
    server->port = ntohs(in.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, h2s_run, server), 0);
}

static inline void h2s_stop(struct h2s *server)
{
    atomic_store(&server->stop, true);
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    for (int i = 0; i < atomic_load(&server->accepted); i++)
        pthread_join(server->conns[i].thread, NULL);
    close(server->fd);
    SSL_CTX_free(server->tls);
    X509_free(server->cert);
    EVP_PKEY_free(server->key);
}

#endif
