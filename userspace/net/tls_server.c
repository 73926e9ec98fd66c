/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls_server.c: a server policy: one SSL_CTX a group of names (tls_names.c), chosen by SNI; ticket
 * keys, ALPN, client certificates are the same in all of them. Immutable once made, but for the
 * ticket keys; shared by all threads.
 */
#include "net/tls_impl.h"
#include "net/tls_ticket.h"

#include "base/str.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>

struct tls_group {
    SSL_CTX *ctx;
    struct weir_tls_server *server;
};

struct weir_tls_server {
    _Atomic unsigned refs;
    struct tls_names names;
    struct tls_group *groups; /* [0] is the default */
    struct tls_tickets tickets;
    uint8_t *alpn;
    unsigned alpn_len;
    bool with_tickets, asks_cert, needs_cert;
    uint8_t sid_ctx[32];
};

static struct tls_group *group_of(const SSL *ssl)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

struct weir_tls_server *tls_server_of(const SSL *ssl)
{
    return group_of(ssl)->server;
}

const void *tls_server_group_of(const SSL *ssl)
{
    return group_of(ssl);
}

bool tls_server_asks_cert(const struct weir_tls_server *server)
{
    return server->asks_cert;
}

/* ---- callbacks of OpenSSL ---- */

static int on_servername(SSL *ssl, int *alert, void *arg)
{
    struct weir_tls_server *server = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    int found = name ? tls_names_find(&server->names, weir_str(name)) : -1;

    if (found < 0)
        return SSL_TLSEXT_ERR_NOACK; /* the default certificate */
    if (found > 0 && !SSL_set_SSL_CTX(ssl, server->groups[found].ctx)) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return SSL_TLSEXT_ERR_OK;
}

/* Ours in our order; without one in common the handshake ends by no_application_protocol (RFC
 * 7301 3.2). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    const struct weir_tls_server *server = arg;

    (void)ssl;
    for (unsigned mine = 0; mine < server->alpn_len; mine += 1u + server->alpn[mine]) {
        for (unsigned at = 0; at < in_len; at += 1u + in[at]) {
            if (in[at] == server->alpn[mine] && at + 1u + in[at] <= in_len &&
                memcmp(in + at + 1, server->alpn + mine + 1, in[at]) == 0) {
                *out = in + at + 1;
                *out_len = in[at];
                return SSL_TLSEXT_ERR_OK;
            }
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt)
{
    return tls_tickets_use(&tls_server_of(ssl)->tickets, name, iv, cipher, mac, encrypt);
}

/* ---- contexts ---- */

static int ctx_client_ca(SSL_CTX *ctx, const struct weir_tls_server_conf *conf,
                         struct weir_tls_fault *fault)
{
    STACK_OF(X509_NAME) *names = NULL;
    int err = tls_ca_load(ctx, conf->files, conf->client_ca, &names);

    if (err)
        err = tls_fault(fault, true,
                        "%.*s: cannot read client_ca; it must be a PEM file of CA certificates",
                        WEIR_FMT(conf->client_ca));
    else
        SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(
        ctx, SSL_VERIFY_PEER | (conf->client_verify == 0 ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
        NULL);
    return err;
}

static void ctx_tickets(SSL_CTX *ctx, bool on)
{
    /* no cache: a ticket is the only memory of a session, so idle sessions cost nothing and threads
     * share no lock */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(
        ctx, 0); /* tls_write makes one before the first data, and both are one write */
    SSL_CTX_set_timeout(ctx, TLS_TICKET_LIFE_S);
    if (on)
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    else
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
}

static SSL_CTX *group_ctx(struct weir_tls_server *server, const struct weir_tls_server_conf *conf,
                          const int *certs, struct weir_tls_fault *fault)
{
    SSL_CTX *ctx = tls_ctx_new(TLS_server_method(), conf->min_version, conf->ciphers, fault);

    if (!ctx)
        return NULL;
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    ctx_tickets(ctx, conf->tickets);
    SSL_CTX_set_session_id_context(ctx, server->sid_ctx, sizeof(server->sid_ctx));
    SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
    SSL_CTX_set_tlsext_servername_arg(ctx, server);
    if (server->alpn_len)
        SSL_CTX_set_alpn_select_cb(ctx, on_alpn, server);
    for (int kind = 0; kind < 3; kind++)
        if (certs[kind] >= 0 && tls_cert_use(&server->names.certs[certs[kind]], ctx, fault))
            goto fail;
    if (server->asks_cert && ctx_client_ca(ctx, conf, fault))
        goto fail;
    return ctx;
fail:
    SSL_CTX_free(ctx);
    return NULL;
}

static int server_groups(struct weir_tls_server *server, const struct weir_tls_server_conf *conf,
                         struct weir_tls_fault *fault)
{
    server->groups = calloc(server->names.group_count, sizeof(*server->groups));
    if (!server->groups)
        return tls_fault(fault, false, "out of memory");
    for (size_t i = 0; i < server->names.group_count; i++) {
        struct tls_group *group = &server->groups[i];

        group->server = server;
        group->ctx = group_ctx(server, conf, server->names.groups[i], fault);
        if (!group->ctx)
            return WEIR_ECONFIG;
        SSL_CTX_set_app_data(group->ctx, group);
    }
    return 0;
}

/* Sessions of one policy are not taken by another, even when a ticket key file is shared, or one is reloaded with other
 * authorities: a session that is resumed shows no certificate again. */
static int server_sid_ctx(struct weir_tls_server *server, const struct weir_tls_server_conf *conf,
                          struct weir_str name)
{
    uint8_t ca[TLS_DIGEST_BYTES] = { 0 };
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool done = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(md, name.ptr, name.len) == 1 && EVP_DigestUpdate(md, "", 1) == 1 &&
                EVP_DigestUpdate(md, conf->client_ca.ptr, conf->client_ca.len) == 1 &&
                (!server->asks_cert || !tls_digest(conf->files, &conf->client_ca, 1, ca)) &&
                EVP_DigestUpdate(md, ca, sizeof(ca)) == 1 &&
                EVP_DigestFinal_ex(md, server->sid_ctx, NULL) == 1;

    EVP_MD_CTX_free(md);
    return done ? 0 : WEIR_EINTERNAL;
}

static void server_free(struct weir_tls_server *server)
{
    for (size_t i = 0; server->groups && i < server->names.group_count; i++)
        SSL_CTX_free(server->groups[i].ctx);
    free(server->groups);
    tls_names_fini(&server->names);
    tls_tickets_fini(&server->tickets);
    free(server->alpn);
    free(server);
}

struct weir_tls_server *weir_tls_server_new(const struct weir_tls_server_conf *conf,
                                            struct weir_str name, struct weir_tls_fault *fault)
{
    struct weir_tls_server *server = calloc(1, sizeof(*server));
    int err;

    fault->text[0] = 0;
    ERR_clear_error();
    if (!server) {
        tls_fault(fault, false, "out of memory");
        return NULL;
    }
    atomic_init(&server->refs, 1);
    server->with_tickets = conf->tickets;
    server->asks_cert = !weir_str_absent(conf->client_ca) && conf->client_ca.len > 0;
    server->needs_cert = server->asks_cert && conf->client_verify == 0;
    err = tls_names_load(&server->names, conf->files, &conf->certs, fault);
    if (!err && tls_alpn_wire(&conf->alpn, &server->alpn, &server->alpn_len))
        err = tls_fault(fault, false, "alpn: names must have 1 to 255 bytes");
    if (!err && server_sid_ctx(server, conf, name))
        err = tls_fault(fault, true, "OpenSSL has no SHA-256");
    if (!err && conf->tickets)
        err = tls_tickets_init(&server->tickets, conf->files, conf->ticket_keys, fault);
    if (!err)
        err = server_groups(server, conf, fault);
    if (err) {
        server_free(server);
        return NULL;
    }
    ERR_clear_error();
    return server;
}

void tls_server_get(struct weir_tls_server *server)
{
    atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed);
}

void weir_tls_server_put(struct weir_tls_server *server)
{
    if (atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel) == 1)
        server_free(server);
}

SSL *tls_server_ssl(struct weir_tls_server *server)
{
    SSL *ssl = SSL_new(server->groups[0].ctx);

    if (ssl)
        SSL_set_accept_state(ssl);
    return ssl;
}

bool tls_server_owes_ticket(const struct weir_tls_server *server, const SSL *ssl)
{
    return server->with_tickets && SSL_version(ssl) == TLS1_3_VERSION;
}

int weir_tls_server_rotate(struct weir_tls_server *policy)
{
    return policy->with_tickets ? tls_tickets_rotate(&policy->tickets) : 0;
}

bool weir_tls_server_serves(const struct weir_tls_info *info, struct weir_str host)
{
    const struct tls_group *group = info->policy;
    int found;

    if (weir_str_absent(info->sni) || weir_str_ieq(info->sni, host))
        return true; /* a client that named no host was promised none */
    found = tls_names_find(&group->server->names, host);
    return group == &group->server->groups[found < 0 ? 0 : found];
}

void weir_tls_server_succeed(struct weir_tls_server *policy, struct weir_tls_server *old)
{
    if (policy->with_tickets && old->with_tickets)
        tls_tickets_succeed(&policy->tickets, &old->tickets);
}

bool weir_tls_server_admits_alike(const struct weir_tls_server *a, const struct weir_tls_server *b)
{
    return a->asks_cert == b->asks_cert && a->needs_cert == b->needs_cert &&
           memcmp(a->sid_ctx, b->sid_ctx, sizeof(a->sid_ctx)) == 0;
}

struct names_text {
    char text[1024];
    size_t len;
};

static void names_join(void *arg, struct weir_str name)
{
    struct names_text *names = arg;

    if (names->len + name.len + 1 > sizeof(names->text))
        return; /* a certificate of very many names: those that fit */
    if (names->len)
        names->text[names->len++] = ' ';
    memcpy(names->text + names->len, name.ptr, name.len);
    names->len += name.len;
}

void weir_tls_server_certs(const struct weir_tls_server *policy,
                           void (*fn)(void *arg, struct weir_str file, struct weir_str names,
                                      int64_t not_after),
                           void *arg)
{
    for (size_t i = 0; i < policy->names.cert_count; i++) {
        const struct tls_cert *cert = &policy->names.certs[i];
        struct names_text names = { .len = 0 };

        tls_cert_names(cert, names_join, &names);
        fn(arg, weir_str(cert->file), (struct weir_str){ names.text, names.len }, cert->not_after);
    }
}
