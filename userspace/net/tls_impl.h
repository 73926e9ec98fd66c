/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls_impl.h: what the files of net/tls*.c share; nobody else includes it.
 *
 *   tls.c         making a stream, the calls of its holder, parcels
 *   tls_flow.c    what comes from below: handshake, data, ends
 *   tls_bio.c     the door between OpenSSL and a worker's buffers
 *   tls_server.c  policies: contexts by SNI, ALPN, client certificates
 *   tls_names.c   certificates sorted by the names they are for
 *   tls_ctx.c     what the contexts of both roles have in common
 *   tls_pem.c     certificates and keys from files, with texts that say what is wrong
 *   tls_ticket.c  keys of session tickets
 *   tls_client.c  client contexts, sessions
 */
#ifndef NET_TLS_IMPL_H
#define NET_TLS_IMPL_H

#include "base/buf.h"
#include "base/panic.h"
#include "net/tls.h"
#include "weir/limits.h"

#include <openssl/ssl.h>

enum {
    TLS_MAGIC = 0x7715a11e,
    TLS_RECORD_BYTES = 16 * 1024, /* plaintext of one record */
    TLS_RECORD_WIRE_MAX =
        TLS_RECORD_BYTES + 2048,    /* ciphertext of one record, without its header */
    TLS_HELD_BYTES_MAX = 32 * 1024, /* ciphertext kept during a handshake before reading pauses */
    TLS_OUT_BYTES =
        4 * (TLS_RECORD_BYTES + 256), /* a write of 64 KiB is one write of the lower stream */
    TLS_CORK_BYTES_MAX = 4096,        /* ciphertext of one turn that waits for its end */
    TLS_SESSIONS_MAX = 4,             /* kept for one upstream server */
    TLS_MESSAGES_MAX = 32,            /* post-handshake messages in a row without data between */
    TLS_NAME_BYTES_MAX = 255,
    TLS_SEGMENT_BYTES = 1370,    /* plaintext that fits one TCP segment, also of IPv6 */
    TLS_START_BYTES = 32 * 1024, /* so much goes in such records, after */
    TLS_PAUSE_MS = 1000,         /* at least, in which nothing was written */
    TLS_QUIET_MS = 4, /* after a handshake: then the ticket does not wait for an answer */
};

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_DEAD, TLS_CLOSING };

struct weir_tls {
    struct weir_stream stream; /* first: what the holder sees */
    uint32_t magic;
    uint8_t state;
    uint8_t messages; /* since the last data */
    bool client : 1;
    bool reading : 1;       /* wanted by the holder */
    bool lower_reading : 1; /* as we asked for */
    bool lower_open : 1;    /* connected */
    bool lower_eof : 1;     /* FIN has come */
    bool peer_closed : 1;   /* close_notify has come and on_eof was told */
    bool shut : 1;          /* we have sent close_notify */
    bool lower_shut : 1;    /* nothing can be written any more */
    bool stalled : 1;       /* stopped before the end of what is there */
    bool pumping : 1;       /* in tls_pump: the loop there looks at `reading` */
    bool unframed : 1;      /* the peer's bytes are no TLS records: OpenSSL finds the words */
    bool released : 1;      /* leaves in a parcel */
    bool ticket_due : 1;    /* a ticket is to be made, before the first data */
    bool asked : 1;         /* the peer has sent data */
    bool lost : 1;          /* bytes that were taken could not be kept: no memory */
    struct weir_stream *lower;
    SSL *ssl;                           /* server: made with the first whole record */
    struct weir_tls_server *server;     /* counted */
    struct weir_tls_client *out;        /* counted */
    struct weir_tls_sessions *sessions; /* counted, may be NULL */
    struct weir_buf held;               /* ciphertext that could not be used yet */
    uint8_t *owed; /* a ticket, encrypted: goes out with what is written next */
    uint32_t owed_len;
    uint32_t wrote_ms;   /* when the holder wrote last (loop time) */
    uint32_t flow_bytes; /* written since the last pause; counted up to TLS_START_BYTES */
    uint32_t flight_ms;  /* when our flight of the handshake left (loop time); 0: it is answered */
    struct weir_timer quiet; /* while something is owed */
    struct weir_later later;
    char *sni;
    struct weir_tls_info info;
};

/**
 * What a worker lends to the one TLS stream that it works on. Small writes of a stream stay in
 * `out` to the end of the turn, or until another stream needs it: the ticket, an answer and
 * close_notify are then one write of the lower stream.
 */
struct tls_scratch {
    BIO_METHOD *method;
    BIO *bio; /* one for all streams of the worker: it has no state but this struct */
    struct weir_tls *current;
    const uint8_t *in; /* ciphertext that `current` may read now */
    size_t in_len;
    size_t held_span;   /* in is a chunk of current->held of this length; 0: it is the borrowed read
                           buffer */
    size_t held_budget; /* bytes of held that may still be read behind it */
    size_t out_len;
    bool out_failed;        /* the lower stream had no memory */
    struct weir_later cork; /* queued: sends what `current` has left in out */
    uint8_t plain[WEIR_READ_BUFFER_BYTES];
    uint8_t gather[TLS_RECORD_BYTES];
    uint8_t out[TLS_OUT_BYTES];
};

static inline struct tls_scratch *tls_scratch(const struct weir_loop *loop)
{
    return loop->tls;
}

/* tls_bio.c */
/** Makes the worker's BIO the two ends of `ssl`. */
void tls_bio_bind(struct weir_loop *loop, SSL *ssl);
/** `current` works from here on; what it writes is flushed by tls_bio_flush or left to tls_bio_cork.
 * What another stream has left is sent. */
struct tls_scratch *tls_bio_enter(struct weir_tls *tls);
/** Lends `data` to be read. */
void tls_bio_lend(struct tls_scratch *scratch, const uint8_t *data, size_t len);
/** Lends the first `budget` bytes of current->held. */
void tls_bio_lend_held(struct tls_scratch *scratch, size_t budget);
/** Bytes lent and not yet read. */
static inline size_t tls_bio_left(const struct tls_scratch *scratch)
{
    return scratch->in_len + scratch->held_budget;
}
/** Ends the loan: drops from `tls`->held what was read, or keeps there what was not. 0 or
 * WEIR_ENOMEM. */
int tls_bio_settle(struct weir_tls *tls, struct tls_scratch *scratch)
    __attribute__((warn_unused_result));
/** Hands what was encrypted to the lower stream. 0 or WEIR_ENOMEM. */
int tls_bio_flush(struct weir_tls *tls, struct tls_scratch *scratch)
    __attribute__((warn_unused_result));
/** Leaves what was encrypted to the end of the turn, when it is little; else as tls_bio_flush. */
int tls_bio_cork(struct weir_tls *tls, struct tls_scratch *scratch)
    __attribute__((warn_unused_result));
/** Keeps what was encrypted with the stream: it goes out before what is encrypted next. What is much,
 * or has no memory, as tls_bio_flush. */
int tls_bio_owe(struct weir_tls *tls, struct tls_scratch *scratch)
    __attribute__((warn_unused_result));
/** Puts what is owed behind what was encrypted; writing does it by itself. 0 or WEIR_ENOMEM. */
int tls_bio_pay(struct weir_tls *tls, struct tls_scratch *scratch)
    __attribute__((warn_unused_result));
/** Sends what `tls` has left, if anything; if that fails, as tls_bio_lose. */
void tls_bio_uncork(struct weir_tls *tls);
/** Bytes that were taken are gone. The holder is told later: this may be inside a call of it, or of
 * another. */
void tls_bio_lose(struct weir_tls *tls);

/* tls.c */
/** The ticket of a handshake that has ended, made while nobody waits for it: it is much of what a
 * short connection costs, and would otherwise be in the time of its first answer. For weir_later. */
void tls_ticket(void *arg);
/** Frees everything of a stream whose lower stream is gone, or never was. */
void tls_put(struct weir_tls *tls);

/* tls_flow.c */
extern const struct weir_stream_sink tls_lower_sink;
/** Starts or stops reading below, as the state asks for. */
void tls_want(struct weir_tls *tls);
/** One step of the handshake, with the whole records that are there; for weir_later. */
void tls_step(void *arg);
/** Goes on with what was kept; for weir_later. */
void tls_resume(void *arg);
/** After a failed call of OpenSSL: its words for those who debug, and an empty queue. */
void tls_complain(struct weir_tls *tls);
void tls_info_fill(struct weir_tls *tls);

/* tls_digest.c */
enum { TLS_DIGEST_BYTES = 32 };
/** Of the contents of these files, in this order; absent names count. 0 or WEIR_EINTERNAL. */
int tls_digest(struct weir_files *files, const struct weir_str *paths, size_t count,
               uint8_t out[TLS_DIGEST_BYTES]) __attribute__((warn_unused_result));

/* tls_ctx.c */
/** A context common to both roles: modes, options, versions, ciphers. NULL: fault filled. */
SSL_CTX *tls_ctx_new(const SSL_METHOD *method, int min_version, struct weir_str ciphers,
                     struct weir_tls_fault *fault);

/* tls_server.c */
SSL *tls_server_ssl(struct weir_tls_server *server);
void tls_server_get(struct weir_tls_server *server);
/** Of an SSL of tls_server_ssl. */
struct weir_tls_server *tls_server_of(const SSL *ssl);
const void *tls_server_group_of(const SSL *ssl);
/** The handshake has ended: does this client get a ticket (of 1.3; those of 1.2 are in it)? */
bool tls_server_owes_ticket(const struct weir_tls_server *server, const SSL *ssl);
bool tls_server_asks_cert(const struct weir_tls_server *server);
/** ALPN names in wire form, malloc'ed; *len 0 when there are none. 0, WEIR_EINVAL or WEIR_ENOMEM.
 */
int tls_alpn_wire(const struct weir_strs *names, uint8_t **wire, unsigned *len)
    __attribute__((warn_unused_result));

/* tls_client.c */
/** NULL without memory or when there is no name to verify (*err). */
/** Offers HTTP/1.1 alone; before the handshake. 0 or errno. */
int tls_client_http1(SSL *ssl);
SSL *tls_client_ssl(struct weir_tls_client *client, struct weir_str name,
                    struct weir_tls_sessions *sessions, int *err);
void tls_client_get(struct weir_tls_client *client);
struct weir_tls_client *tls_client_of(const SSL *ssl);
enum weir_err tls_client_why(const SSL *ssl);
void tls_sessions_get(struct weir_tls_sessions *sessions);

/* tls_pem.c */
struct tls_cert {
    X509 *leaf;
    STACK_OF(X509) * chain; /* without the leaf; may be empty */
    EVP_PKEY *key;
    char *file;
    int64_t not_after;
    int kind; /* EVP_PKEY_RSA, EVP_PKEY_EC … */
};

/** `key` absent: in the same file. 0 or WEIR_ECONFIG with the fault filled; a warning leaves text
 * there and is 0. */
int tls_cert_load(struct tls_cert *cert, struct weir_files *files, struct weir_str file,
                  struct weir_str key, struct weir_tls_fault *fault)
    __attribute__((warn_unused_result));
void tls_cert_fini(struct tls_cert *cert);
/** The CA certificates and revocation lists of a PEM file become what a context trusts; their subjects go to *names
 * (NULL: not wanted), each once. 0 or WEIR_ECONFIG, with no fault filled: the caller knows what the file is for. */
int tls_ca_load(SSL_CTX *ctx, struct weir_files *files, struct weir_str file,
                STACK_OF(X509_NAME) * *names) __attribute__((warn_unused_result));
/** Puts it into a context. */
int tls_cert_use(const struct tls_cert *cert, SSL_CTX *ctx, struct weir_tls_fault *fault)
    __attribute__((warn_unused_result));
/** Fills the text; returns WEIR_ECONFIG. Takes OpenSSL's reason along when `reason`. */
int tls_fault(struct weir_tls_fault *fault, bool reason, const char *format, ...) WEIR_PRINTF(3, 4);

/* tls_names.c */
struct tls_name {
    char *text; /* lower case */
    int group;
};

/** Certificates in the order of the configuration and the names that they are for. */
struct tls_names {
    struct tls_cert *certs;
    size_t cert_count, cert_room;
    struct tls_name *names; /* sorted */
    size_t name_count;
    int (*groups)[3]; /* indexes of the certificates of a group by kind: RSA, EC, other; -1: none */
    size_t group_count;
};

/** Loads all that `conf` names. 0 or WEIR_ECONFIG, WEIR_ENOMEM. */
int tls_names_load(struct tls_names *names, struct weir_files *files,
                   const struct weir_conf_list *conf, struct weir_tls_fault *fault)
    __attribute__((warn_unused_result));
void tls_names_fini(struct tls_names *names);
/** The group for a name (exact, then its wildcard), -1 when no certificate is for it. */
int tls_names_find(const struct tls_names *names, struct weir_str host);
/** Calls back with each DNS name of a certificate; the common name when it has none. */
void tls_cert_names(const struct tls_cert *cert, void (*fn)(void *arg, struct weir_str name),
                    void *arg);

#endif
