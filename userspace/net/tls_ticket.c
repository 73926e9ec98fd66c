/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_ticket.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TLS_TICKET_KEY_BYTES = TLS_TICKET_KEY_WORDS * 8,
    TLS_TICKET_FILE_MAX = TLS_TICKET_KEYS_MAX * TLS_TICKET_KEY_BYTES,
    TICKET_FILE_BYTES_MAX =
        64 * 1024 /* what is opened at all; then it is told how long it should be */
};

static void key_from(struct tls_ticket_key *key, const uint64_t words[TLS_TICKET_KEY_WORDS],
                     uint8_t len)
{
    const uint8_t *bytes = (const uint8_t *)words;

    memcpy(key->name, bytes, 16);
    memcpy(key->hmac, bytes + 16, 32);
    memcpy(key->aes, bytes + 48, 32);
    key->aes_len = len;
}

/* A consistent copy of all keys; returns how many. */
static unsigned tickets_copy(struct tls_tickets *tickets,
                             uint64_t words[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_WORDS])
{
    for (;;) {
        unsigned before = atomic_load_explicit(&tickets->sequence, memory_order_acquire);
        unsigned count = atomic_load_explicit(&tickets->count, memory_order_acquire);

        for (unsigned k = 0; k < count; k++)
            for (unsigned i = 0; i < TLS_TICKET_KEY_WORDS; i++)
                words[k][i] = atomic_load_explicit(&tickets->words[k][i], memory_order_acquire);
        if (!(before & 1) &&
            atomic_load_explicit(&tickets->sequence, memory_order_relaxed) == before)
            return count;
    }
}

static void tickets_write(struct tls_tickets *tickets,
                          uint64_t words[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_WORDS], unsigned count)
{
    atomic_fetch_add_explicit(&tickets->sequence, 1, memory_order_acq_rel);
    for (unsigned k = 0; k < count; k++)
        for (unsigned i = 0; i < TLS_TICKET_KEY_WORDS; i++)
            atomic_store_explicit(&tickets->words[k][i], words[k][i], memory_order_release);
    atomic_store_explicit(&tickets->count, count, memory_order_release);
    atomic_fetch_add_explicit(&tickets->sequence, 1, memory_order_release);
}

int tls_tickets_rotate(struct tls_tickets *tickets)
{
    uint64_t words[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_WORDS];
    unsigned count;
    int err = 0;

    if (atomic_flag_test_and_set_explicit(&tickets->changing, memory_order_acquire))
        return 0;
    count = tickets_copy(tickets, words);
    memmove(words[1], words[0], sizeof(words[0]) * (TLS_TICKET_KEYS_MAX - 1));
    if (RAND_bytes((uint8_t *)words[0], 16) == 1 &&
        RAND_priv_bytes((uint8_t *)words[0] + 16, TLS_TICKET_KEY_BYTES - 16) == 1) {
        tickets_write(tickets, words, count < TLS_TICKET_KEYS_MAX ? count + 1 : count);
        atomic_store_explicit(&tickets->next_us,
                              weir_clock_us() + (uint64_t)TLS_TICKET_ROTATE_S * 1000000,
                              memory_order_relaxed);
    } else {
        ERR_clear_error();
        err = WEIR_EINTERNAL;
    }
    OPENSSL_cleanse(words, sizeof(words));
    atomic_flag_clear_explicit(&tickets->changing, memory_order_release);
    return err;
}

/* Keys one behind the other, 48 bytes (name, AES-128, HMAC) or 80 (name, HMAC, AES-256): nginx's
 * formats. */
static int tickets_parse(struct tls_tickets *tickets, const char *file, const uint8_t *data,
                         size_t len, struct weir_tls_fault *fault)
{
    uint64_t words[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_WORDS] = { { 0 } };
    bool small = len % 48 == 0 && len % 80 != 0;
    size_t each = small ? 48 : 80;
    unsigned count = (unsigned)(len / each);

    if (len == 0 || len % each || count > TLS_TICKET_KEYS_MAX)
        return tls_fault(fault, false,
                         "%s: must be 1 to %d keys of 80 bytes (or of 48 bytes); make one with "
                         "`openssl rand 80 > FILE`",
                         file, TLS_TICKET_KEYS_MAX);
    for (unsigned k = 0; k < count; k++) {
        const uint8_t *from = data + k * each;
        uint8_t *to = (uint8_t *)words[k];

        memcpy(to, from, 16);
        memcpy(to + 16, from + (small ? 32 : 16), small ? 16 : 32);
        memcpy(to + 48, from + (small ? 16 : 48), small ? 16 : 32);
    }
    tickets->key_len = small ? 16 : 32;
    tickets_write(tickets, words, count);
    atomic_store_explicit(&tickets->next_us, UINT64_MAX, memory_order_relaxed);
    OPENSSL_cleanse(words, sizeof(words));
    return 0;
}

static int tickets_read(struct tls_tickets *tickets, struct weir_files *files, struct weir_str file,
                        struct weir_tls_fault *fault)
{
    uint8_t data[TLS_TICKET_FILE_MAX + 1];
    char *path = weir_str_dup(file);
    FILE *stream = path ? weir_files_fopen(files, path, TICKET_FILE_BYTES_MAX) : NULL;
    size_t len;
    int err;

    if (!stream) {
        err = tls_fault(fault, false, "%.*s: cannot read the ticket keys: %s", WEIR_FMT(file),
                        weir_files_fault(path ? -errno : -ENOMEM));
        free(path);
        return err;
    }
    setvbuf(stream, NULL, _IONBF, 0); /* no copy of the keys stays behind */
    len = fread(data, 1, sizeof(data), stream);
    fclose(stream);
    err = tickets_parse(tickets, path, data, len, fault);
    OPENSSL_cleanse(data, sizeof(data));
    free(path);
    return err;
}

int tls_tickets_init(struct tls_tickets *tickets, struct weir_files *files, struct weir_str file,
                     struct weir_tls_fault *fault)
{
    int err = 0;

    memset(tickets, 0, sizeof(*tickets));
    atomic_flag_clear(&tickets->changing);
    tickets->key_len = 32;
    if (!weir_str_absent(file) && file.len && !weir_str_eq(file, WEIR_STR("auto")))
        err = tickets_read(tickets, files, file, fault);
    else if (tls_tickets_rotate(tickets))
        err = tls_fault(fault, false, "no random numbers for ticket keys");
    if (err)
        return err;
    tickets->cipher =
        EVP_CIPHER_fetch(NULL, tickets->key_len == 16 ? "AES-128-CBC" : "AES-256-CBC", NULL);
    if (!tickets->cipher)
        return tls_fault(fault, true, "OpenSSL has no AES-CBC for tickets");
    return 0;
}

void tls_tickets_fini(struct tls_tickets *tickets)
{
    EVP_CIPHER_free(tickets->cipher);
    OPENSSL_cleanse((void *)tickets, sizeof(*tickets));
}

void tls_tickets_succeed(struct tls_tickets *tickets, struct tls_tickets *old)
{
    uint64_t words[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_WORDS];
    uint64_t next_us = atomic_load_explicit(&old->next_us, memory_order_relaxed);
    unsigned count;

    if (next_us == UINT64_MAX ||
        atomic_load_explicit(&tickets->next_us, memory_order_relaxed) == UINT64_MAX)
        return; /* of a file */
    count = tickets_copy(old, words);
    tickets_write(tickets, words, count);
    atomic_store_explicit(&tickets->next_us, next_us, memory_order_relaxed);
    OPENSSL_cleanse(words, sizeof(words));
}

static int ticket_arm(struct tls_tickets *tickets, const struct tls_ticket_key *key,
                      const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                      int encrypt)
{
    OSSL_PARAM params[2] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                                              (char *)"SHA256", 0),
                             OSSL_PARAM_construct_end() };

    return EVP_CipherInit_ex(cipher, tickets->cipher, NULL, key->aes, iv, encrypt) == 1 &&
           EVP_MAC_init(mac, key->hmac, key->aes_len, params) == 1;
}

int tls_tickets_use(struct tls_tickets *tickets, unsigned char *name, unsigned char *iv,
                    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    uint64_t words[TLS_TICKET_KEYS_MAX][TLS_TICKET_KEY_WORDS];
    struct tls_ticket_key key;
    unsigned count, found = 0;
    int answer;

    if (weir_clock_us() >= atomic_load_explicit(&tickets->next_us, memory_order_relaxed))
        (void)tls_tickets_rotate(tickets); /* without random numbers the old key serves on */
    count = tickets_copy(tickets, words);
    if (encrypt && RAND_bytes(iv, EVP_CIPHER_get_iv_length(tickets->cipher)) != 1)
        return -1;
    while (!encrypt && found < count && memcmp(name, words[found], sizeof(key.name)) != 0)
        found++;
    if (found == count)
        return 0; /* unknown, or too old: a full handshake */
    key_from(&key, words[found], tickets->key_len);
    if (encrypt)
        memcpy(name, key.name, sizeof(key.name));
    answer = !ticket_arm(tickets, &key, iv, cipher, mac, encrypt) ? -1 : found > 0 ? 2 : 1;
    OPENSSL_cleanse(&key, sizeof(key));
    OPENSSL_cleanse(words, sizeof(words));
    return answer;
}
