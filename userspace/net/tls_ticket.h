/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tls_ticket.h: keys of session tickets, shared by all threads of a policy. The newest encrypts, it
 * and the two before it decrypt. Our own are made anew every hour, by whichever thread notices
 * first; those of a file stay. Readers take no lock: they copy the keys under a sequence counter
 * and copy again when a rotation came in between.
 */
#ifndef NET_TLS_TICKET_H
#define NET_TLS_TICKET_H

#include "net/tls_impl.h"

#include <stdatomic.h>

enum {
    TLS_TICKET_KEYS_MAX = 3,
    TLS_TICKET_KEY_WORDS = 10, /* 16 bytes name, 32 HMAC key, 32 AES key */
    TLS_TICKET_ROTATE_S = 60 * 60,
    TLS_TICKET_LIFE_S = 2 * 60 * 60, /* what clients are told: a key decrypts that long at least */
};

struct tls_ticket_key {
    uint8_t name[16], hmac[32], aes[32];
    uint8_t aes_len; /* 16 or 32; the HMAC key has as many bytes */
};

struct tls_tickets {
    _Atomic unsigned sequence; /* odd: being changed */
    _Atomic uint64_t words[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_WORDS];
    _Atomic unsigned count;
    _Atomic uint64_t next_us; /* monotonic: when to make a new key; UINT64_MAX: never */
    atomic_flag changing;
    uint8_t key_len;    /* 16 or 32 */
    EVP_CIPHER *cipher; /* fetched once: a look-up by name a handshake is slow */
};

/** `file` absent or "auto": our own. 0 or WEIR_ECONFIG. */
int tls_tickets_init(struct tls_tickets *tickets, struct weir_files *files, struct weir_str file,
                     struct weir_tls_fault *fault) __attribute__((warn_unused_result));
void tls_tickets_fini(struct tls_tickets *tickets);
/** Makes a new key now. Any thread; a no-op while another thread does it. 0 or WEIR_EINTERNAL (no
 * random numbers). */
int tls_tickets_rotate(struct tls_tickets *tickets);
/** With keys of our own in both: those of `old` are those of `tickets` as well, as they are now. Before it is used. */
void tls_tickets_succeed(struct tls_tickets *tickets, struct tls_tickets *old);
/** What OpenSSL calls, with the tickets found by the caller. */
int tls_tickets_use(struct tls_tickets *tickets, unsigned char *name, unsigned char *iv,
                    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt);

#endif
