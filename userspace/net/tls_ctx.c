/* SPDX-License-Identifier: Apache-2.0 */
/** tls_ctx.c: what the contexts of both roles have in common, and the words for what is wrong with
 * a configuration. */
#include "net/tls_impl.h"

#include "base/str.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int tls_fault(struct weir_tls_fault *fault, bool reason, const char *format, ...)
{
    unsigned long code = reason ? ERR_peek_last_error() : 0;
    const char *why = code ? ERR_reason_error_string(code) : NULL;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    if (why && n >= 0 && (size_t)n < sizeof(fault->text))
        snprintf(fault->text + n, sizeof(fault->text) - (size_t)n, " (%s)", why);
    ERR_clear_error();
    return WEIR_ECONFIG;
}

/* One list for both: names that begin with TLS_ are suites of 1.3, the rest is OpenSSL's language
 * for 1.2. */
static int ctx_ciphers(SSL_CTX *ctx, struct weir_str ciphers, struct weir_tls_fault *fault)
{
    char *old = calloc(1, ciphers.len + 2), *suites = calloc(1, ciphers.len + 2);
    int err = 0;

    if (!old || !suites) {
        err = tls_fault(fault, false, "out of memory");
    } else {
        for (size_t at = 0; at < ciphers.len;) {
            const char *word = ciphers.ptr + at;
            const char *end = memchr(word, ':', ciphers.len - at);
            size_t len = end ? (size_t)(end - word) : ciphers.len - at;
            char *to = len > 4 && memcmp(word, "TLS_", 4) == 0 ? suites : old;

            if (*to)
                strncat(to, ":", 2);
            strncat(to, word, len);
            at += len + 1;
        }
        if (*old && SSL_CTX_set_cipher_list(ctx, old) != 1)
            err = tls_fault(
                fault, true,
                "ciphers: '%s' names no cipher that OpenSSL has; `openssl ciphers -v` lists them",
                old);
        else if (*suites && SSL_CTX_set_ciphersuites(ctx, suites) != 1)
            err = tls_fault(fault, true,
                            "ciphers: '%s' is not a list of TLS 1.3 suites; `openssl ciphers -v "
                            "-tls1_3` lists them",
                            suites);
    }
    free(old);
    free(suites);
    return err;
}

SSL_CTX *tls_ctx_new(const SSL_METHOD *method, int min_version, struct weir_str ciphers,
                     struct weir_tls_fault *fault)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (!ctx) {
        tls_fault(fault, true, "OpenSSL makes no context");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx,
                                  min_version == WEIR_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* SSL_read returns after a message that is no data, so that they can be counted */
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_read_ahead(ctx, 0); /* the BIO is memory: looking ahead would only copy */
    /* the same suites as OpenSSL's default, the one that is cheapest and that browsers ask for
     * first */
    if (SSL_CTX_set_ciphersuites(
            ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") != 1)
        ERR_clear_error();
    if (!weir_str_absent(ciphers) && ctx_ciphers(ctx, ciphers, fault)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

int tls_alpn_wire(const struct weir_strs *names, uint8_t **wire, unsigned *len)
{
    size_t need = 0;
    uint8_t *at;

    *wire = NULL;
    *len = 0;
    for (size_t i = 0; i < names->count; i++) {
        if (names->at[i].len < 1 || names->at[i].len > 255)
            return WEIR_EINVAL;
        need += names->at[i].len + 1;
    }
    if (!need)
        return 0;
    if (need > UINT16_MAX)
        return WEIR_EINVAL;
    *wire = at = malloc(need);
    if (!at)
        return WEIR_ENOMEM;
    *len = (unsigned)need;
    for (size_t i = 0; i < names->count; i++) {
        *at++ = (uint8_t)names->at[i].len;
        memcpy(at, names->at[i].ptr, names->at[i].len);
        at += names->at[i].len;
    }
    return 0;
}
