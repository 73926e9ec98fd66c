/* SPDX-License-Identifier: Apache-2.0 */
/** tls_client.c: contexts for connections to upstreams, and the sessions that one server has given
 * us. */
#include "net/tls_impl.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct weir_tls_client {
    _Atomic unsigned refs;
    SSL_CTX *ctx;
    bool verify;
    char *sni;
};

struct weir_tls_sessions {
    _Atomic unsigned refs;
    pthread_mutex_t lock;
    SSL_SESSION *at[TLS_SESSIONS_MAX]; /* newest last */
    unsigned count;
};

/* ---- sessions ---- */

struct weir_tls_sessions *weir_tls_sessions_new(void)
{
    struct weir_tls_sessions *sessions = calloc(1, sizeof(*sessions));

    if (!sessions)
        return NULL;
    atomic_init(&sessions->refs, 1);
    pthread_mutex_init(&sessions->lock, NULL);
    return sessions;
}

void tls_sessions_get(struct weir_tls_sessions *sessions)
{
    atomic_fetch_add_explicit(&sessions->refs, 1, memory_order_relaxed);
}

void weir_tls_sessions_free(struct weir_tls_sessions *sessions)
{
    if (!sessions || atomic_fetch_sub_explicit(&sessions->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < sessions->count; i++)
        SSL_SESSION_free(sessions->at[i]);
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}

/* Takes the reference; the oldest goes when there are too many. A session of 1.2 replaces what
 * there is. */
static void sessions_keep(struct weir_tls_sessions *sessions, SSL_SESSION *session)
{
    bool once = SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION;
    SSL_SESSION *drop = NULL;

    pthread_mutex_lock(&sessions->lock);
    if (sessions->count && (!once || sessions->count == TLS_SESSIONS_MAX)) {
        unsigned at = once ? 0 : sessions->count - 1;

        drop = sessions->at[at];
        memmove(&sessions->at[at], &sessions->at[at + 1],
                (sessions->count - at - 1) * sizeof(drop));
        sessions->count--;
    }
    sessions->at[sessions->count++] = session;
    pthread_mutex_unlock(&sessions->lock);
    SSL_SESSION_free(drop);
}

/* A ticket of 1.3 is used once (RFC 8446 C.4); a session of 1.2 stays. */
static SSL_SESSION *sessions_take(struct weir_tls_sessions *sessions)
{
    SSL_SESSION *session = NULL;

    pthread_mutex_lock(&sessions->lock);
    if (sessions->count) {
        session = sessions->at[sessions->count - 1];
        if (SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION)
            sessions->count--;
        else
            SSL_SESSION_up_ref(session);
    }
    pthread_mutex_unlock(&sessions->lock);
    return session;
}

/* The worker's BIO knows the stream that OpenSSL works for. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_scratch *scratch = BIO_get_data(SSL_get_rbio(ssl));

    weir_assert(scratch->current->ssl == ssl);
    if (!scratch->current->sessions)
        return 0;
    sessions_keep(scratch->current->sessions, session);
    return 1;
}

/* ---- contexts ---- */

static int client_ca(SSL_CTX *ctx, struct weir_files *files, struct weir_str ca,
                     struct weir_tls_fault *fault)
{
    if (weir_str_absent(ca) || ca.len == 0) {
        if (SSL_CTX_set_default_verify_paths(ctx) != 1)
            return tls_fault(fault, true,
                             "the system's CA certificates cannot be read; install "
                             "ca-certificates, or give `ca: FILE`");
        return 0;
    }
    if (tls_ca_load(ctx, files, ca, NULL) != 0)
        return tls_fault(fault, true,
                         "%.*s: cannot read ca; it must be a PEM file of CA certificates",
                         WEIR_FMT(ca));
    return 0;
}

static int client_cert(SSL_CTX *ctx, const struct weir_tls_client_conf *conf,
                       struct weir_tls_fault *fault)
{
    struct tls_cert cert;
    int err;

    if (weir_str_absent(conf->cert) || conf->cert.len == 0)
        return 0;
    err = tls_cert_load(&cert, conf->files, conf->cert, conf->key, fault);
    if (err)
        return err;
    err = tls_cert_use(&cert, ctx, fault);
    tls_cert_fini(&cert);
    return err;
}

static int client_alpn(SSL_CTX *ctx, const struct weir_strs *names, struct weir_tls_fault *fault)
{
    uint8_t *wire;
    unsigned len;
    int err = 0;

    if (tls_alpn_wire(names, &wire, &len))
        return tls_fault(fault, false, "alpn: names must have 1 to 255 bytes");
    if (len && SSL_CTX_set_alpn_protos(ctx, wire, len) != 0)
        err = tls_fault(fault, true, "alpn: OpenSSL does not take the names");
    free(wire);
    return err;
}

static int client_setup(struct weir_tls_client *client, const struct weir_tls_client_conf *conf,
                        struct weir_tls_fault *fault)
{
    int err;

    if (!weir_str_absent(conf->sni) && conf->sni.len) {
        if (conf->sni.len > TLS_NAME_BYTES_MAX || memchr(conf->sni.ptr, 0, conf->sni.len))
            return tls_fault(fault, false, "sni: '%.*s' is not a name", WEIR_FMT(conf->sni));
        client->sni = weir_str_dup(conf->sni);
        if (!client->sni)
            return tls_fault(fault, false, "out of memory");
    }
    client->ctx =
        tls_ctx_new(TLS_client_method(), conf->min_version, (struct weir_str){ 0 }, fault);
    if (!client->ctx)
        return WEIR_ECONFIG;
    SSL_CTX_set_app_data(client->ctx, client);
    SSL_CTX_set_session_cache_mode(client->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client->ctx, on_session);
    SSL_CTX_set_verify(client->ctx, conf->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    err = conf->verify ? client_ca(client->ctx, conf->files, conf->ca, fault) : 0;
    if (!err)
        err = client_cert(client->ctx, conf, fault);
    if (!err)
        err = client_alpn(client->ctx, &conf->alpn, fault);
    return err;
}

static void client_free(struct weir_tls_client *client)
{
    SSL_CTX_free(client->ctx);
    free(client->sni);
    free(client);
}

struct weir_tls_client *weir_tls_client_new(const struct weir_tls_client_conf *conf,
                                            struct weir_tls_fault *fault)
{
    struct weir_tls_client *client = calloc(1, sizeof(*client));

    fault->text[0] = 0;
    ERR_clear_error();
    if (!client) {
        tls_fault(fault, false, "out of memory");
        return NULL;
    }
    atomic_init(&client->refs, 1);
    client->verify = conf->verify;
    if (client_setup(client, conf, fault)) {
        client_free(client);
        return NULL;
    }
    ERR_clear_error();
    return client;
}

void tls_client_get(struct weir_tls_client *client)
{
    atomic_fetch_add_explicit(&client->refs, 1, memory_order_relaxed);
}

void weir_tls_client_put(struct weir_tls_client *client)
{
    if (atomic_fetch_sub_explicit(&client->refs, 1, memory_order_acq_rel) == 1)
        client_free(client);
}

struct weir_tls_client *tls_client_of(const SSL *ssl)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

enum weir_err tls_client_why(const SSL *ssl)
{
    return tls_client_of(ssl)->verify && SSL_get_verify_result(ssl) != X509_V_OK ? WEIR_EUPVERIFY
                                                                                 : WEIR_EUPTLS;
}

/* ---- a connection ---- */

static bool is_ip(const char *name)
{
    uint8_t bytes[16];

    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

/* SNI and what the certificate must be for. An address is never sent as SNI (RFC 6066 3). */
static int client_name(const struct weir_tls_client *client, SSL *ssl, const char *name)
{
    bool ip = is_ip(name);
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

    if (!ip && SSL_set_tlsext_host_name(ssl, name) != 1)
        return ENOMEM;
    if (!client->verify)
        return 0;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if ((ip ? X509_VERIFY_PARAM_set1_ip_asc(param, name)
            : X509_VERIFY_PARAM_set1_host(param, name, 0)) != 1)
        return ENOMEM;
    return 0;
}

int tls_client_http1(SSL *ssl)
{
    static const uint8_t wire[] = "\x08http/1.1";

    return SSL_set_alpn_protos(ssl, wire, sizeof(wire) - 1) ? ENOMEM : 0;
}

SSL *tls_client_ssl(struct weir_tls_client *client, struct weir_str name,
                    struct weir_tls_sessions *sessions, int *err)
{
    char text[TLS_NAME_BYTES_MAX + 1] = "";
    const char *who = client->sni ? client->sni : text;
    SSL_SESSION *session;
    SSL *ssl;

    *err = EINVAL;
    if (name.len > TLS_NAME_BYTES_MAX || (name.len && memchr(name.ptr, 0, name.len)))
        return NULL;
    if (name.len)
        memcpy(text, name.ptr, name.len);
    if (!*who && client->verify)
        return NULL;
    *err = ENOMEM;
    ssl = SSL_new(client->ctx);
    if (!ssl)
        return NULL;
    SSL_set_connect_state(ssl);
    if (*who) {
        *err = client_name(client, ssl, who);
        if (*err) {
            SSL_free(ssl);
            return NULL;
        }
    }
    session = sessions ? sessions_take(sessions) : NULL;
    if (session) {
        SSL_set_session(ssl, session);
        SSL_SESSION_free(session);
    }
    *err = 0;
    return ssl;
}
