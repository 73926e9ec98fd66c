/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_tls_server.c: bytes into the server side of a TLS stream, over a lower stream in memory.
 *
 * The first byte: bit 0: 1 drives a real client beside it, so that the input gets behind the
 * handshake; bit 1: TLS 1.2; bit 2: close by a reset; bit 3: the client shows a certificate, a name
 * and a protocol. Without a client the rest is fed as it is, in pieces of 1 to 255 bytes (second
 * byte). With a client the rest is a script: an operation and a number each.
 *
 * The rest of TLS (tls.c: connecting, adopting) is not driven by what a client sends.
 *
 * fuzz-room: net
 * covers: userspace/net/tls_flow.c userspace/net/tls_bio.c
 */
#include "base/panic.h"
#include "net/tls.h"
#include "weir/limits.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { SETTLE_TURNS = 64, SCRIPT_MAX = 512 };

static struct weir_loop loop;
static struct weir_tls_server *policy;
static SSL_CTX *client_ctx, *showing_ctx; /* the second shows a certificate */

/* ---- the stream below ---- */

static struct {
    struct weir_stream stream;
    struct weir_later later;
    BIO *to_client; /* NULL: what the server says is dropped */
    bool reading, shut, closing, gone;
    bool full; /* writes fail: there is no memory to keep them */
} lower;

static void lower_read(struct weir_stream *stream, bool on)
{
    lower.reading = on;
}

static int lower_write(struct weir_stream *stream, const struct iovec *iov, int count)
{
    weir_assert(!lower.closing && !lower.shut);
    if (lower.full)
        return WEIR_ENOMEM;
    for (int i = 0; i < count && lower.to_client; i++)
        if (iov[i].iov_len && BIO_write(lower.to_client, iov[i].iov_base, (int)iov[i].iov_len) <= 0)
            return WEIR_ENOMEM;
    return 0;
}

static size_t lower_pending(const struct weir_stream *stream)
{
    return 0;
}

static void lower_shutdown(struct weir_stream *stream)
{
    lower.shut = true;
}

static void lower_closed(void *arg)
{
    lower.gone = true;
    lower.stream.sink->on_closed(lower.stream.arg);
}

static void lower_close(struct weir_stream *stream, bool reset)
{
    weir_assert(!lower.closing);
    lower.closing = true;
    weir_loop_defer(&loop, &lower.later, lower_closed, NULL);
}

static bool lower_release(struct weir_stream *stream, struct weir_parcel *parcel)
{
    return false;
}

static int lower_fd(const struct weir_stream *stream)
{
    return -1;
}

static const struct weir_stream_ops lower_ops = {
    .read = lower_read,
    .write = lower_write,
    .pending = lower_pending,
    .shutdown = lower_shutdown,
    .close = lower_close,
    .release = lower_release,
    .fd = lower_fd,
};

/* ---- the holder ---- */

static struct weir_stream *stream;
static bool opened, closed, reading;
static bool told;  /* eof or error has come: nothing may follow but on_closed */
static bool ended; /* the script is over */

static void on_open(void *arg)
{
    weir_assert(!opened && !told && weir_stream_tls(stream));
    opened = reading = true;
    weir_stream_read(stream, true);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct iovec iov = { (void *)data, len };

    weir_assert(opened && !told && len);
    if (weir_stream_write(stream, &iov, 1)) /* an echo */
        ended = true;
}

static void on_eof(void *arg)
{
    weir_assert(opened && !told);
    told = ended = true;
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    weir_assert(err < 0 && (!told || opened));
    told = ended = true;
}

static void on_drained(void *arg)
{
    weir_assert(opened && !closed);
}

static void on_closed(void *arg)
{
    weir_assert(!closed);
    closed = true;
}

static const struct weir_stream_sink sink = { on_open,    on_data,  on_eof,
                                              on_drained, on_error, on_closed };

/* ---- once ---- */

static void make_cert(FILE *file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x509 = X509_new();
    X509_NAME *name = X509_get_subject_name(x509);

    X509_gmtime_adj(X509_getm_notBefore(x509), 0);
    X509_gmtime_adj(X509_getm_notAfter(x509), 86400 * 30L);
    X509_set_pubkey(x509, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"a.test", -1, -1,
                               0);
    X509_set_issuer_name(x509, name);
    weir_assert(X509_sign(x509, key, EVP_sha256()) > 0);
    PEM_write_X509(file, x509);
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    X509_free(x509);
    EVP_PKEY_free(key);
}

static void over(void)
{
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(showing_ctx);
    weir_tls_server_put(policy);
    weir_loop_fini(&loop);
}

static void client_init(const char *cert)
{
    client_ctx = SSL_CTX_new(TLS_client_method());
    showing_ctx = SSL_CTX_new(TLS_client_method());
    weir_assert(client_ctx != NULL && showing_ctx != NULL);
    weir_assert(SSL_CTX_use_certificate_chain_file(showing_ctx, cert) == 1);
    weir_assert(SSL_CTX_use_PrivateKey_file(showing_ctx, cert, SSL_FILETYPE_PEM) == 1);
    weir_assert(SSL_CTX_set_alpn_protos(showing_ctx, (const uint8_t *)"\x08http/1.1", 9) == 0);
}

static void once(void)
{
    int fd = memfd_create("cert", MFD_CLOEXEC);
    FILE *file = fdopen(fd, "w");
    struct weir_str alpn[] = { WEIR_STR("http/1.1") };
    struct weir_tls_cert_conf cert = { 0 };
    struct weir_tls_server_conf conf = {
        .certs = { &cert, 1 }, .client_verify = 1, .tickets = true, .alpn = { alpn, 1 }
    };
    struct weir_tls_fault fault;
    char path[64];

    weir_assert(file != NULL);
    make_cert(file);
    fflush(file);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    cert.cert = conf.client_ca = weir_str(path);
    policy = weir_tls_server_new(&conf, WEIR_STR("fuzz"), &fault);
    weir_assert(policy != NULL);
    client_init(path);
    fclose(file);
    weir_assert(weir_loop_init(&loop, 0, NULL) == 0);
    atexit(over);
}

/* ---- driving ---- */

static void give(const uint8_t *data, size_t len)
{
    uint8_t *copy;

    if (!lower.reading || lower.closing || !len)
        return;
    copy = malloc(len); /* of exactly its size: a read behind the end is seen */
    weir_assert(copy != NULL);
    memcpy(copy, data, len);
    lower.stream.sink->on_data(lower.stream.arg, copy, len);
    free(copy);
}

static void give_raw(const uint8_t *data, size_t len)
{
    size_t piece = len && data[0] ? data[0] : 1;

    for (size_t at = 1; at < len && !ended; at += piece) {
        give(data + at, len - at < piece ? len - at : piece);
        weir_loop_turn(&loop, 0);
    }
}

/* What the client has to say, at most `max` bytes of it. */
static void give_from(BIO *from, size_t max)
{
    uint8_t data[4096];
    int n;

    if (!lower.reading || lower.closing)
        return;
    n = BIO_read(from, data, (int)(max < sizeof(data) ? max : sizeof(data)));
    if (n > 0)
        give(data, (size_t)n);
    weir_loop_turn(&loop, 0);
}

static void step(SSL *client, BIO *from, uint8_t op, uint8_t number, const uint8_t *rest,
                 size_t left)
{
    static const uint8_t text[4096];
    uint8_t sink_bytes[4096];
    struct iovec iov = { (void *)text, number * 16u };

    switch (op % 14) {
    case 0:
        give_from(from, number + 1u);
        break;
    case 1:
        SSL_write(client, text, number * 16 + 1);
        break;
    case 2:
        SSL_read(client, sink_bytes, sizeof(sink_bytes));
        break;
    case 3:
        give(rest, left < number ? left : number);
        break;
    case 4:
        reading = !reading;
        if (opened)
            weir_stream_read(stream, reading);
        break;
    case 5:
        if (opened && weir_stream_write(stream, &iov, 1))
            ended = true;
        break;
    case 6:
        SSL_key_update(client, number % 2);
        SSL_do_handshake(client);
        break;
    case 7:
        SSL_shutdown(client);
        break;
    case 8:
        if (opened)
            weir_stream_shutdown(stream);
        break;
    case 9:
        if (lower.reading)
            lower.stream.sink->on_eof(lower.stream.arg);
        break;
    case 10:
        lower.stream.sink->on_drained(lower.stream.arg);
        break;
    case 11:
        lower.full = number % 2;
        break;
    case 12:
        weir_loop_turn(&loop, 0);
        break;
    case 13:
        if (!lower.closing)
            lower.stream.sink->on_error(lower.stream.arg, WEIR_ECLOSED, 0);
        break;
    }
}

static void with_client(const uint8_t *data, size_t len, uint8_t mode)
{
    BIO *from = BIO_new(BIO_s_mem()), *to = BIO_new(BIO_s_mem());
    SSL *client = SSL_new(mode & 8 ? showing_ctx : client_ctx);

    weir_assert(from && to && client);
    if (mode & 2)
        SSL_set_max_proto_version(client, TLS1_2_VERSION);
    if (mode & 8)
        SSL_set_tlsext_host_name(client, "a.test");
    SSL_set_bio(client, to, from);
    SSL_set_connect_state(client);
    lower.to_client = to;
    if (len && data[0] % 4) /* mostly the handshake comes first */
        for (int i = 0; i < SETTLE_TURNS && !opened && !ended; i++) {
            SSL_do_handshake(client);
            give_from(from, SIZE_MAX);
        }
    for (size_t at = 0; at + 1 < len && at < SCRIPT_MAX && !ended; at += 2)
        step(client, from, data[at], data[at + 1], data + at + 2, len - at - 2);
    for (int i = 0; i < SETTLE_TURNS && !ended; i++)
        give_from(from, SIZE_MAX);
    lower.to_client = NULL;
    SSL_free(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct weir_stream *below = &lower.stream;
    uint8_t mode = len ? data[0] : 0;

    if (!policy)
        once();
    memset(&lower, 0, sizeof(lower));
    lower.stream = (struct weir_stream){ .ops = &lower_ops, .loop = &loop };
    opened = told = ended = closed = reading = false;
    stream = weir_tls_accept(policy, &below, &sink, NULL);
    weir_assert(stream != NULL);
    if (mode & 1)
        with_client(data + 1, len - 1, mode);
    else if (len)
        give_raw(data + 1, len - 1);
    weir_stream_close(stream, mode & 4);
    for (int i = 0; i < SETTLE_TURNS && !closed; i++)
        weir_loop_turn(&loop, 0);
    weir_assert(closed && loop.tlss.used == 0);
    return 0;
}
