/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls_kit.h: for the tests of TLS: certificates made on the spot, a pair of lower streams in memory
 * that cut the bytes as a test asks, and a holder that writes down what happened.
 */
#ifndef TLS_KIT_H
#define TLS_KIT_H

#include "base/panic.h"
#include "base/str.h"
#include "net/tls_impl.h"
#include "weir/limits.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define KIT __attribute__((unused)) static

enum { KIT_TURNS_MAX = 200000, KIT_DATA_MAX = 1 << 20 };

/* ---- certificates ---- */

KIT char kit_dir[64];
KIT char kit_paths[32][160];
KIT unsigned kit_path_at;

/* A path in the folder of this test. */
KIT const char *kit_path(const char *name)
{
    char *path = kit_paths[kit_path_at++ % 32];

    snprintf(path, sizeof(kit_paths[0]), "%s/%s", kit_dir, name);
    return path;
}

KIT int kit_dir_make(void **state)
{
    (void)state;
    strcpy(kit_dir, "/tmp/weir-tls-XXXXXX");
    return mkdtemp(kit_dir) ? 0 : -1;
}

KIT int kit_dir_drop(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", kit_dir);
    return system(command);
}

struct kit_cert {
    X509 *x509;
    EVP_PKEY *key;
};

KIT void kit_cert_free(struct kit_cert *cert)
{
    X509_free(cert->x509);
    EVP_PKEY_free(cert->key);
}

/* `san` as in "DNS:a.test,IP:127.0.0.1", NULL: none. `issuer` NULL: signed by itself, a CA. */
KIT struct kit_cert kit_cert(const char *cn, const char *san, bool rsa, int days,
                             const struct kit_cert *issuer)
{
    static long serial;
    struct kit_cert cert = { X509_new(), rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256") };
    X509_EXTENSION *ext;
    X509_NAME *name;

    X509_set_version(cert.x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert.x509), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert.x509), -100L * 86400);
    X509_gmtime_adj(X509_getm_notAfter(cert.x509), days * 86400L);
    X509_set_pubkey(cert.x509, cert.key);
    name = X509_get_subject_name(cert.x509);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(cert.x509, issuer ? X509_get_subject_name(issuer->x509) : name);
    ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                              issuer ? "CA:FALSE" : "critical,CA:TRUE");
    X509_add_ext(cert.x509, ext, -1);
    X509_EXTENSION_free(ext);
    if (san) {
        ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
        X509_add_ext(cert.x509, ext, -1);
        X509_EXTENSION_free(ext);
    }
    assert_true(X509_sign(cert.x509, issuer ? issuer->key : cert.key, EVP_sha256()) > 0);
    return cert;
}

KIT void kit_save(const struct kit_cert *cert, const char *cert_file, const char *key_file)
{
    FILE *file = fopen(cert_file, "w");

    assert_non_null(file);
    PEM_write_X509(file, cert->x509);
    if (strcmp(cert_file, key_file) != 0) {
        fclose(file);
        file = fopen(key_file, "w");
    }
    PEM_write_PrivateKey(file, cert->key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
}

/* One cert with key in NAME.pem. */
KIT const char *kit_pem(const char *name, const char *cn, const char *san, bool rsa, int days,
                        const struct kit_cert *issuer)
{
    struct kit_cert cert = kit_cert(cn, san, rsa, days, issuer);
    const char *path = kit_path(name);

    kit_save(&cert, path, path);
    kit_cert_free(&cert);
    return path;
}

/* A policy of up to four PEM files; `conf` holds the rest. */
KIT struct weir_tls_server *kit_server_from(struct weir_tls_server_conf conf, const char *a,
                                            const char *b, const char *c,
                                            struct weir_tls_fault *fault)
{
    struct weir_tls_cert_conf certs[3] = { { .cert = weir_str(a) },
                                           { .cert = weir_str(b) },
                                           { .cert = weir_str(c) } };

    conf.certs.at = certs;
    conf.certs.count = c ? 3 : b ? 2 : a ? 1 : 0;
    return weir_tls_server_new(&conf, WEIR_STR("test"), fault);
}

KIT struct weir_tls_server *kit_server(struct weir_tls_server_conf conf, const char *a,
                                       const char *b, const char *c)
{
    struct weir_tls_fault fault;
    struct weir_tls_server *server = kit_server_from(conf, a, b, c, &fault);

    if (!server)
        fail_msg("%s", fault.text);
    return server;
}

KIT struct weir_tls_client *kit_client(struct weir_tls_client_conf conf)
{
    struct weir_tls_fault fault;
    struct weir_tls_client *client = weir_tls_client_new(&conf, &fault);

    if (!client)
        fail_msg("%s", fault.text);
    return client;
}

/* ---- lower streams in memory ---- */

struct kit_lower {
    struct weir_stream stream;
    struct kit_lower *other;
    struct weir_buf out; /* on its way to the other */
    struct weir_later later;
    bool reading, fin, eof_told, closing, reset, gone, no_memory;
    size_t pending;
    unsigned writes;
};

KIT void kit_lower_read(struct weir_stream *stream, bool on)
{
    ((struct kit_lower *)stream)->reading = on;
}

KIT int kit_lower_write(struct weir_stream *stream, const struct iovec *iov, int count)
{
    struct kit_lower *lower = (struct kit_lower *)stream;

    assert_false(lower->fin || lower->closing);
    if (lower->no_memory)
        return WEIR_ENOMEM;
    lower->writes++;
    return weir_buf_append_iov(&lower->out, iov, count, 0);
}

KIT size_t kit_lower_pending(const struct weir_stream *stream)
{
    return ((const struct kit_lower *)stream)->pending;
}

KIT void kit_lower_shutdown(struct weir_stream *stream)
{
    ((struct kit_lower *)stream)->fin = true;
}

KIT void kit_lower_closed(void *arg)
{
    struct kit_lower *lower = arg;

    lower->gone = true;
    lower->stream.sink->on_closed(lower->stream.arg);
}

KIT void kit_lower_close(struct weir_stream *stream, bool reset)
{
    struct kit_lower *lower = (struct kit_lower *)stream;

    assert_false(lower->closing);
    lower->closing = lower->fin = true;
    lower->reset = reset;
    weir_loop_defer(stream->loop, &lower->later, kit_lower_closed, lower);
}

KIT bool kit_lower_release(struct weir_stream *stream, struct weir_parcel *parcel)
{
    (void)stream;
    (void)parcel;
    return false;
}

KIT int kit_lower_fd(const struct weir_stream *stream)
{
    (void)stream;
    return -1;
}

KIT const struct weir_stream_ops kit_lower_ops = {
    .read = kit_lower_read,
    .write = kit_lower_write,
    .pending = kit_lower_pending,
    .shutdown = kit_lower_shutdown,
    .close = kit_lower_close,
    .release = kit_lower_release,
    .fd = kit_lower_fd,
};

/* Delivers at most `chunk` bytes to `lower`; the bytes are in a block of their own, so that reading
 * past them is seen. True when something happened. */
KIT bool kit_deliver(struct kit_lower *lower, size_t chunk)
{
    struct kit_lower *from = lower->other;
    struct iovec iov;

    if (lower->closing || !lower->reading)
        return false;
    if (from->reset && !lower->eof_told) {
        lower->eof_told = true;
        lower->stream.sink->on_error(lower->stream.arg, WEIR_ERESET, 104);
        return true;
    }
    if (from->out.len) {
        size_t len = from->out.len < chunk ? from->out.len : chunk;
        uint8_t *block, *at;

        if (len > WEIR_READ_BUFFER_BYTES)
            len = WEIR_READ_BUFFER_BYTES;
        block = at = malloc(len);
        assert_non_null(block);
        while (at < block + len) {
            assert_int_equal(weir_buf_peek(&from->out, 0, &iov, 1), 1);
            if (iov.iov_len > (size_t)(block + len - at))
                iov.iov_len = (size_t)(block + len - at);
            memcpy(at, iov.iov_base, iov.iov_len);
            at += iov.iov_len;
            weir_buf_consume(&from->out, iov.iov_len);
        }
        lower->stream.sink->on_data(lower->stream.arg, block, len);
        free(block);
        return true;
    }
    if (from->fin && !lower->eof_told) {
        lower->eof_told = true;
        lower->stream.sink->on_eof(lower->stream.arg);
        return true;
    }
    return false;
}

KIT void kit_wire(struct kit_lower *a, struct kit_lower *b, struct weir_loop *loop)
{
    *a = (struct kit_lower){ .stream = { .ops = &kit_lower_ops, .loop = loop }, .other = b };
    *b = (struct kit_lower){ .stream = { .ops = &kit_lower_ops, .loop = loop }, .other = a };
}

KIT bool kit_loop_busy(struct weir_loop *loop)
{
    return !weir_list_empty(&loop->heavy) || !weir_list_empty(&loop->deferred) ||
           !weir_list_empty(&loop->last);
}

/* Turns until nothing moves any more. */
KIT void kit_run(struct kit_lower *a, struct kit_lower *b, size_t chunk)
{
    for (int i = 0; i < KIT_TURNS_MAX; i++) {
        bool moved = kit_deliver(a, chunk);

        moved |= kit_deliver(b, chunk);
        if (!moved && !kit_loop_busy(a->stream.loop))
            return;
        weir_loop_turn(a->stream.loop, 0);
    }
    fail_msg("it does not come to rest");
}

KIT void kit_wire_drop(struct kit_lower *a, struct kit_lower *b)
{
    weir_buf_clear(&a->out);
    weir_buf_clear(&b->out);
}

/* ---- a holder ---- */

enum kit_event { KIT_NONE, KIT_OPEN, KIT_DATA, KIT_EOF, KIT_DRAINED, KIT_ERROR };

struct kit_peer {
    struct weir_stream *stream;
    int opened, eofs, drained, errors, closed, calls;
    enum weir_err err;
    size_t received;
    uint64_t hash;  /* of all bytes, in order */
    char last[256]; /* the newest bytes, terminated */
    enum kit_event close_in;
    bool read_at_open, stop_in_data, reset, inside;
    const char *answer; /* written at on_data */
    struct weir_tls_info info;
};

KIT uint64_t kit_hash(uint64_t hash, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ data[i]) * 0x100000001b3u;
    return hash;
}

KIT void kit_peer_event(struct kit_peer *peer, enum kit_event event)
{
    assert_false(peer->inside); /* no event inside a call */
    assert_int_equal(peer->closed, 0);
    if (peer->close_in == event && peer->stream) {
        peer->inside = true;
        weir_stream_close(weir_take(&peer->stream), peer->reset);
        peer->inside = false;
    }
}

KIT int kit_write(struct kit_peer *peer, const char *text)
{
    struct iovec iov = { (void *)text, strlen(text) };
    int err;

    peer->inside = true;
    err = weir_stream_write(peer->stream, &iov, 1);
    peer->inside = false;
    return err;
}

KIT void kit_read(struct kit_peer *peer, bool on)
{
    peer->inside = true;
    weir_stream_read(peer->stream, on);
    peer->inside = false;
}

KIT void kit_on_open(void *arg)
{
    struct kit_peer *peer = arg;

    peer->opened++;
    assert_non_null(weir_stream_tls(peer->stream));
    peer->info = *weir_stream_tls(peer->stream);
    if (peer->read_at_open)
        kit_read(peer, true);
    kit_peer_event(peer, KIT_OPEN);
}

KIT void kit_on_data(void *arg, const uint8_t *data, size_t len)
{
    struct kit_peer *peer = arg;
    size_t keep = len < sizeof(peer->last) - 1 ? len : sizeof(peer->last) - 1;

    assert_true(len > 0);
    assert_non_null(peer->stream);
    assert_int_equal(peer->eofs, 0);
    peer->calls++;
    peer->received += len;
    peer->hash = kit_hash(peer->hash, data, len);
    memcpy(peer->last, data + len - keep, keep);
    peer->last[keep] = 0;
    if (peer->stop_in_data)
        kit_read(peer, false);
    if (peer->answer)
        assert_int_equal(kit_write(peer, peer->answer), 0);
    kit_peer_event(peer, KIT_DATA);
}

KIT void kit_on_eof(void *arg)
{
    struct kit_peer *peer = arg;

    peer->eofs++;
    kit_peer_event(peer, KIT_EOF);
}

KIT void kit_on_drained(void *arg)
{
    struct kit_peer *peer = arg;

    peer->drained++;
    kit_peer_event(peer, KIT_DRAINED);
}

KIT void kit_on_error(void *arg, enum weir_err err, int sys)
{
    struct kit_peer *peer = arg;

    (void)sys;
    peer->errors++;
    peer->err = err;
    kit_peer_event(peer, KIT_ERROR);
}

KIT void kit_on_closed(void *arg)
{
    struct kit_peer *peer = arg;

    assert_null(peer->stream);
    peer->closed++;
}

KIT const struct weir_stream_sink kit_sink = { kit_on_open,    kit_on_data,  kit_on_eof,
                                               kit_on_drained, kit_on_error, kit_on_closed };

KIT void kit_close(struct kit_peer *peer)
{
    if (peer->stream)
        weir_stream_close(weir_take(&peer->stream), peer->reset);
}

/* ---- a connection: both ends over the wire ---- */

struct kit_conn {
    struct weir_loop *loop;
    struct kit_lower down, up; /* of the server, of the client */
    struct kit_peer server, client;
    int sys;
};

KIT void kit_conn_start(struct kit_conn *conn, struct weir_loop *loop,
                        struct weir_tls_server *policy, struct weir_tls_client *client,
                        const char *name, struct weir_tls_sessions *sessions)
{
    struct weir_stream *down = &conn->down.stream, *up = &conn->up.stream;

    *conn = (struct kit_conn){ .loop = loop };
    kit_wire(&conn->down, &conn->up, loop);
    conn->server.read_at_open = conn->client.read_at_open = true;
    conn->server.stream = weir_tls_accept(policy, &down, &kit_sink, &conn->server);
    assert_non_null(conn->server.stream);
    assert_null(down);
    if (client)
        conn->client.stream = weir_tls_connect_over(client, &up, weir_str(name), sessions,
                                                    &kit_sink, &conn->client, &conn->sys);
}

KIT void kit_conn_run(struct kit_conn *conn)
{
    kit_run(&conn->down, &conn->up, SIZE_MAX);
}

/* Closes what is open; checks that every stream said so. */
KIT void kit_conn_end(struct kit_conn *conn)
{
    bool had_client = conn->client.stream || conn->client.closed;

    kit_close(&conn->server);
    kit_close(&conn->client);
    kit_conn_run(conn);
    for (int i = 0; i < 3; i++)
        weir_loop_turn(conn->loop, 0);
    assert_int_equal(conn->server.closed, 1);
    if (had_client)
        assert_int_equal(conn->client.closed, 1);
    kit_wire_drop(&conn->down, &conn->up);
}

KIT SSL *kit_ssl(struct kit_peer *peer)
{
    return ((struct weir_tls *)peer->stream)->ssl;
}

#endif
