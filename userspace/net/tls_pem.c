/* SPDX-License-Identifier: Apache-2.0 */
/** tls_pem.c: a certificate, its chain and its key from PEM files; every refusal says which file
 * and what to do. */
#include "net/tls_impl.h"

#include "base/str.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TLS_CHAIN_MAX = 32 }; /* certificates of one file */

/* Never asks at a terminal. */
static int no_password(char *buf, int size, int rw, void *asked)
{
    (void)buf;
    (void)size;
    (void)rw;
    *(bool *)asked = true;
    return -1;
}

static BIO *pem_open(struct weir_files *files, const char *file, const char *what,
                     struct weir_tls_fault *fault)
{
    FILE *stream = weir_files_fopen(files, file, WEIR_PEM_BYTES_MAX);
    BIO *bio;

    if (!stream) {
        tls_fault(fault, false, "%s: cannot read the %s: %s", file, what, weir_files_fault(-errno));
        return NULL;
    }
    bio = BIO_new_fp(stream, BIO_CLOSE);
    if (!bio) {
        fclose(stream);
        tls_fault(fault, false, "out of memory");
    }
    return bio;
}

static int pem_chain(struct tls_cert *cert, struct weir_files *files, const char *file,
                     struct weir_tls_fault *fault)
{
    BIO *bio = pem_open(files, file, "certificate", fault);
    X509 *x509;
    int err = 0;

    if (!bio)
        return WEIR_ECONFIG;
    cert->leaf = PEM_read_bio_X509_AUX(bio, NULL, no_password, &(bool){ false });
    cert->chain = sk_X509_new_null();
    if (!cert->leaf || !cert->chain) {
        BIO_free(bio);
        return tls_fault(fault, true,
                         "%s: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
                         file);
    }
    while (!err && (x509 = PEM_read_bio_X509(bio, NULL, no_password, &(bool){ false }))) {
        if (sk_X509_num(cert->chain) >= TLS_CHAIN_MAX || !sk_X509_push(cert->chain, x509)) {
            X509_free(x509);
            err = tls_fault(fault, false, "%s: a chain of more than %d certificates", file,
                            TLS_CHAIN_MAX);
        }
    }
    if (!err && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        err = tls_fault(fault, true, "%s: a certificate of the chain cannot be read", file);
    ERR_clear_error();
    BIO_free(bio);
    return err;
}

static int pem_key(struct tls_cert *cert, struct weir_files *files, const char *file,
                   struct weir_tls_fault *fault)
{
    BIO *bio = pem_open(files, file, "key", fault);
    bool asked = false;

    if (!bio)
        return WEIR_ECONFIG;
    cert->key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &asked);
    BIO_free(bio);
    if (cert->key)
        return 0;
    if (asked)
        return tls_fault(
            fault, false,
            "%s: the key is encrypted; decrypt it with `openssl pkey -in KEY -out NEWKEY`", file);
    return tls_fault(fault, true,
                     "%s: holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)", file);
}

static int pem_check(struct tls_cert *cert, const char *key_file, struct weir_tls_fault *fault)
{
    const ASN1_TIME *from = X509_get0_notBefore(cert->leaf);
    struct tm tm = { 0 }, begin = { 0 };
    int64_t now = time(NULL);

    if (X509_check_private_key(cert->leaf, cert->key) != 1)
        return tls_fault(
            fault, false,
            "%s: the key does not fit the certificate %s; give the key that it was made for",
            key_file, cert->file);
    cert->kind = EVP_PKEY_get_base_id(cert->key);
    if (ASN1_TIME_to_tm(X509_get0_notAfter(cert->leaf), &tm) == 1)
        cert->not_after = timegm(&tm);
    if (cert->not_after < now && !fault->text[0])
        tls_fault(fault, false,
                  "%s: the certificate expired on %04d-%02d-%02d; clients will refuse it: renew it",
                  cert->file, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    else if (ASN1_TIME_to_tm(from, &begin) == 1 && timegm(&begin) > now && !fault->text[0])
        tls_fault(fault, false,
                  "%s: the certificate is not valid before %04d-%02d-%02d; until then clients will "
                  "refuse it: is the clock right?",
                  cert->file, begin.tm_year + 1900, begin.tm_mon + 1, begin.tm_mday);
    return 0;
}

int tls_cert_load(struct tls_cert *cert, struct weir_files *files, struct weir_str file,
                  struct weir_str key, struct weir_tls_fault *fault)
{
    char *key_file;
    int err;

    *cert = (struct tls_cert){ 0 };
    if (weir_str_absent(file) || file.len == 0)
        return tls_fault(fault, false,
                         "a certificate needs `cert: FILE` (and `key: FILE`), or `dir: FOLDER`");
    cert->file = weir_str_dup(file);
    key_file = weir_str_dup(weir_str_absent(key) || key.len == 0 ? file : key);
    if (!cert->file || !key_file)
        err = tls_fault(fault, false, "out of memory");
    else
        err = pem_chain(cert, files, cert->file, fault);
    if (!err)
        err = pem_key(cert, files, key_file, fault);
    if (!err)
        err = pem_check(cert, key_file, fault);
    free(key_file);
    if (err)
        tls_cert_fini(cert);
    return err;
}

void tls_cert_fini(struct tls_cert *cert)
{
    X509_free(cert->leaf);
    sk_X509_pop_free(cert->chain, X509_free);
    EVP_PKEY_free(cert->key);
    free(cert->file);
    *cert = (struct tls_cert){ 0 };
}

int tls_cert_use(const struct tls_cert *cert, SSL_CTX *ctx, struct weir_tls_fault *fault)
{
    if (SSL_CTX_use_cert_and_key(ctx, cert->leaf, cert->key, cert->chain, 1) != 1)
        return tls_fault(fault, true, "%s: OpenSSL does not take the certificate", cert->file);
    return 0;
}

/* ---- whom we believe ---- */

static int subject_order(const X509_NAME *const *a, const X509_NAME *const *b)
{
    return X509_NAME_cmp(*a, *b);
}

static bool subject_add(STACK_OF(X509_NAME) * names, const X509 *cert)
{
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(cert));

    if (!name)
        return false;
    if (sk_X509_NAME_find(names, name) >= 0) {
        X509_NAME_free(name);
        return true;
    }
    if (sk_X509_NAME_push(names, name))
        return true;
    X509_NAME_free(name);
    return false;
}

static bool ca_take(X509_STORE *store, const STACK_OF(X509_INFO) * found,
                    STACK_OF(X509_NAME) * names)
{
    int count = 0;

    for (int i = 0; i < sk_X509_INFO_num(found); i++) {
        const X509_INFO *one = sk_X509_INFO_value(found, i);

        if (one->x509 && (X509_STORE_add_cert(store, one->x509) != 1 ||
                          (names && !subject_add(names, one->x509))))
            return false;
        if (one->crl && X509_STORE_add_crl(store, one->crl) != 1)
            return false;
        count += one->x509 != NULL;
    }
    return count > 0;
}

int tls_ca_load(SSL_CTX *ctx, struct weir_files *files, struct weir_str file,
                STACK_OF(X509_NAME) * *names)
{
    char *path = weir_str_dup(file);
    FILE *stream = path ? weir_files_fopen(files, path, WEIR_PEM_BYTES_MAX) : NULL;
    BIO *bio = stream ? BIO_new_fp(stream, BIO_CLOSE) : NULL;
    STACK_OF(X509_INFO) *found =
        bio ? PEM_X509_INFO_read_bio(bio, NULL, no_password, &(bool){ false }) : NULL;
    bool good;

    if (names)
        *names = sk_X509_NAME_new(subject_order);
    good = found && (!names || *names) &&
           ca_take(SSL_CTX_get_cert_store(ctx), found, names ? *names : NULL);
    if (names && !good) {
        sk_X509_NAME_pop_free(*names, X509_NAME_free);
        *names = NULL;
    }
    sk_X509_INFO_pop_free(found, X509_INFO_free);
    if (stream && !bio)
        fclose(stream);
    BIO_free(bio);
    free(path);
    return good ? 0 : WEIR_ECONFIG;
}

static void cert_common_name(const struct tls_cert *cert,
                             void (*fn)(void *arg, struct weir_str name), void *arg)
{
    X509_NAME *subject = X509_get_subject_name(cert->leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    ASN1_STRING *text = at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));

    if (text)
        fn(arg, (struct weir_str){ (const char *)ASN1_STRING_get0_data(text),
                                   (size_t)ASN1_STRING_length(text) });
}

void tls_cert_names(const struct tls_cert *cert, void (*fn)(void *arg, struct weir_str name),
                    void *arg)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert->leaf, NID_subject_alt_name, NULL, NULL);
    bool any = false;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_DNS)
            continue;
        any = true;
        fn(arg, (struct weir_str){ (const char *)ASN1_STRING_get0_data(name->d.dNSName),
                                   (size_t)ASN1_STRING_length(name->d.dNSName) });
    }
    GENERAL_NAMES_free(names);
    if (!any)
        cert_common_name(cert, fn, arg);
}
