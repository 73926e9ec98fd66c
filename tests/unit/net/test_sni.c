/* SPDX-License-Identifier: Apache-2.0 */
/** The name in a ClientHello: of OpenSSL's own hellos and of written ones, at every split point and in records of any size. */
#include "net/sni.h"
#include "weir/limits.h"

#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- hellos ------------------------------------------------------------------------------------ */

struct bytes {
    uint8_t at[2 * WEIR_HELLO_BYTES_MAX];
    size_t len;
};

static void put(struct bytes *b, const void *data, size_t len)
{
    assert_true(b->len + len <= sizeof(b->at));
    memcpy(b->at + b->len, data, len);
    b->len += len;
}

static void put_number(struct bytes *b, size_t value, size_t bytes)
{
    for (size_t i = bytes; i-- > 0;)
        put(b, &(uint8_t){ (uint8_t)(value >> 8 * i) }, 1);
}

/* What OpenSSL sends first. */
static void openssl_hello(struct bytes *b, const char *name)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    char *at;
    long len;

    SSL_set_bio(ssl, in, out);
    if (name)
        assert_int_equal(SSL_set_tlsext_host_name(ssl, name), 1);
    assert_int_equal(SSL_connect(ssl), -1);
    len = BIO_get_mem_data(out, &at);
    assert_true(len > 100);
    b->len = 0;
    put(b, at, (size_t)len);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* The same message in records of at most `size` bytes. */
static void in_records(const struct bytes *from, struct bytes *to, size_t size)
{
    to->len = 0;
    for (size_t at = 5; at < from->len; at += size) {
        size_t len = from->len - at < size ? from->len - at : size;

        put(to, from->at, 3);
        put_number(to, len, 2);
        put(to, from->at + at, len);
    }
}

/* A hello written by hand: these extensions, `suites` and the rest as they must be. */
struct hello {
    struct bytes ext;
    size_t version, session_len, suites_len, compressions_len, tail;
    bool no_extensions;
};

static struct hello plain(void)
{
    return (struct hello){ .version = 0x0303, .suites_len = 2, .compressions_len = 1 };
}

static void put_vector(struct bytes *b, size_t bytes, const struct bytes *data)
{
    put_number(b, data->len, bytes);
    put(b, data->at, data->len);
}

static void put_extension(struct bytes *ext, unsigned type, const struct bytes *data)
{
    put_number(ext, type, 2);
    put_vector(ext, 2, data);
}

/* server_name with these names, each "T" + text: its type as a digit. */
static void put_names(struct bytes *ext, size_t count, const char *const *names)
{
    struct bytes *list = calloc(2, sizeof(*list)), *data = list + 1;

    for (size_t i = 0; i < count; i++) {
        put_number(list, (size_t)(names[i][0] - '0'), 1);
        put_number(list, strlen(names[i] + 1), 2);
        put(list, names[i] + 1, strlen(names[i] + 1));
    }
    put_vector(data, 2, list);
    put_extension(ext, 0, data);
    free(list);
}

static void write_hello(const struct hello *h, struct bytes *record)
{
    struct bytes *b = calloc(1, sizeof(*b));
    uint8_t zeros[256] = { 0 };

    put_number(b, h->version, 2);
    put(b, zeros, 32);
    put_number(b, h->session_len, 1);
    put(b, zeros, h->session_len);
    put_number(b, h->suites_len, 2);
    put(b, zeros, h->suites_len);
    put_number(b, h->compressions_len, 1);
    put(b, zeros, h->compressions_len);
    if (!h->no_extensions)
        put_vector(b, 2, &h->ext);
    put(b, zeros, h->tail);
    record->len = 0;
    put(record, "\x16\x03\x01", 3);
    put_number(record, b->len + 4, 2);
    put_number(record, 1, 1);
    put_number(record, b->len, 3);
    put(record, b->at, b->len);
    free(b);
}

static enum weir_hello peek_hello(const struct hello *h, struct weir_sni *sni)
{
    struct bytes *record = calloc(1, sizeof(*record));
    enum weir_hello verdict;

    write_hello(h, record);
    verdict = weir_sni_peek(record->at, record->len, sni);
    free(record);
    return verdict;
}

static enum weir_hello peek_names(size_t count, const char *const *names, struct weir_sni *sni)
{
    struct hello *h = malloc(sizeof(*h));
    enum weir_hello verdict;

    *h = plain();
    put_names(&h->ext, count, names);
    verdict = peek_hello(h, sni);
    free(h);
    return verdict;
}

static enum weir_hello peek_name(const char *name)
{
    struct weir_sni sni;
    char text[400];
    const char *names[] = { text };

    snprintf(text, sizeof(text), "0%s", name);
    return peek_names(1, names, &sni);
}

static void is_name(const struct weir_sni *sni, const char *name)
{
    assert_int_equal(sni->len, strlen(name));
    assert_memory_equal(sni->name, name, strlen(name));
}

/* --- tests ------------------------------------------------------------------------------------- */

static void test_openssl_at_every_split(void **state)
{
    static struct bytes hello, split;
    struct weir_sni sni;

    openssl_hello(&hello, "db.example.com");
    assert_int_equal(weir_sni_peek(hello.at, hello.len, &sni), WEIR_HELLO_NAME);
    is_name(&sni, "db.example.com");
    for (size_t n = 0; n < hello.len; n++)
        assert_int_equal(weir_sni_peek(hello.at, n, &sni), WEIR_HELLO_MORE);
    put(&hello, "more bytes", 10); /* what follows is not looked at */
    assert_int_equal(weir_sni_peek(hello.at, hello.len, &sni), WEIR_HELLO_NAME);
    hello.len -= 10;
    for (size_t size = hello.len / 60 + 1; size < hello.len; size++) {
        in_records(&hello, &split, size);
        memset(&sni, 0, sizeof(sni));
        assert_int_equal(weir_sni_peek(split.at, split.len, &sni), WEIR_HELLO_NAME);
        is_name(&sni, "db.example.com");
        for (size_t n = 0; n < split.len; n += 1 + n % 7)
            assert_int_equal(weir_sni_peek(split.at, n, &sni), WEIR_HELLO_MORE);
    }
    openssl_hello(&hello, NULL);
    assert_int_equal(weir_sni_peek(hello.at, hello.len, &sni), WEIR_HELLO_NONE);
}

/* A client may send so many records that looking at them is the work. */
static void test_many_records(void **state)
{
    static struct bytes hello, split;
    struct weir_sni sni;

    openssl_hello(&hello, "a.test");
    in_records(&hello, &split, 1);
    assert_int_equal(weir_sni_peek(split.at, split.len, &sni), WEIR_HELLO_BAD);
}

static void test_not_tls(void **state)
{
    static const char *const others[] = { "GET / HTTP/1.1\r\n", "SSH-2.0-x", "\x80\x2e\x01\x03\x01",
                                          "\x15\x03\x01", "\x16\x02\x00" };
    struct weir_sni sni;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_int_equal(weir_sni_peek((const uint8_t *)others[i], strlen(others[i]), &sni),
                         WEIR_HELLO_NONE);
    assert_int_equal(weir_sni_peek((const uint8_t *)"", 0, &sni), WEIR_HELLO_MORE);
    assert_int_equal(weir_sni_peek((const uint8_t *)"\x16", 1, &sni), WEIR_HELLO_MORE);
}

static void test_bad_records(void **state)
{
    struct weir_sni sni;
    static struct bytes hello, split;

    assert_int_equal(weir_sni_peek((const uint8_t *)"\x16\x03\x01\x00\x00", 5, &sni),
                     WEIR_HELLO_BAD); /* empty */
    assert_int_equal(weir_sni_peek((const uint8_t *)"\x16\x03\x01\x40\x01", 5, &sni),
                     WEIR_HELLO_BAD); /* 2^14 + 1 */
    assert_int_equal(weir_sni_peek((const uint8_t *)"\x16\x03\x01\x00\x05\x02", 6, &sni),
                     WEIR_HELLO_BAD); /* ServerHello */
    assert_int_equal(
        weir_sni_peek((const uint8_t *)"\x16\x03\x01\x00\x05\x01\x00\x40\x00", 9, &sni),
        WEIR_HELLO_BAD); /* too large */
    openssl_hello(&hello, "a.test");
    in_records(&hello, &split, 40);
    split.at[45] = 0x17; /* the second one is none of a handshake */
    assert_int_equal(weir_sni_peek(split.at, split.len, &sni), WEIR_HELLO_BAD);
}

static void test_names(void **state)
{
    const char *twice[] = { "0a.test", "0b.test" }, *other[] = { "7x", "0a.test", "9" },
               *only_other[] = { "1x" };
    char longest[300];
    struct weir_sni sni;

    assert_int_equal(peek_names(2, twice, &sni), WEIR_HELLO_BAD);
    assert_int_equal(peek_names(3, other, &sni), WEIR_HELLO_NAME);
    is_name(&sni, "a.test");
    assert_int_equal(peek_names(1, only_other, &sni), WEIR_HELLO_NONE);
    assert_int_equal(peek_names(0, NULL, &sni), WEIR_HELLO_BAD);
    assert_int_equal(peek_name("A_b-1.TEST"), WEIR_HELLO_NAME);
    assert_int_equal(peek_names(1, (const char *[]){ "0a.test." }, &sni), WEIR_HELLO_NAME);
    is_name(&sni, "a.test");
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(
            peek_name((const char *[]){ "", ".", "..", "a..b", ".a", "a b", "a\xc3\xa4" }[i]),
            WEIR_HELLO_BAD);
    memset(longest, 'a', sizeof(longest));
    longest[255] = 0;
    assert_int_equal(peek_name(longest), WEIR_HELLO_NAME);
    longest[255] = 'a';
    longest[256] = 0;
    assert_int_equal(peek_name(longest), WEIR_HELLO_BAD);
}

static void test_bad_hellos(void **state)
{
    struct hello *h = malloc(sizeof(*h));
    struct bytes *none = calloc(1, sizeof(*none));
    struct weir_sni sni;

    *h = plain();
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_NONE);
    h->no_extensions = true;
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_NONE);
    h->tail = 1; /* half a length */
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_BAD);
    *h = plain();
    h->tail = 1; /* behind the extensions */
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_BAD);
    *h = plain();
    h->version = 0x0203;
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_BAD);
    *h = plain();
    h->session_len = 32;
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_NONE);
    h->session_len = 33;
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_BAD);
    for (size_t len = 0; len < 4; len++) {
        *h = plain();
        h->suites_len = len;
        assert_int_equal(peek_hello(h, &sni), len == 2 ? WEIR_HELLO_NONE : WEIR_HELLO_BAD);
    }
    *h = plain();
    h->compressions_len = 0;
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_BAD);
    *h = plain();
    put_names(&h->ext, 1, (const char *[]){ "0a.test" });
    put_extension(&h->ext, 0xfe0d,
                  none); /* encrypted_client_hello: the outer name is what is seen */
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_NAME);
    put_names(&h->ext, 1, (const char *[]){ "0b.test" }); /* a second server_name */
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_BAD);
    *h = plain();
    put_extension(&h->ext, 0, none); /* an empty server_name is of servers */
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_BAD);
    *h = plain();
    put_number(&h->ext, 0x0a, 2); /* an extension without its length */
    assert_int_equal(peek_hello(h, &sni), WEIR_HELLO_BAD);
    free(none);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openssl_at_every_split),
        cmocka_unit_test(test_many_records),
        cmocka_unit_test(test_not_tls),
        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bad_hellos),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
