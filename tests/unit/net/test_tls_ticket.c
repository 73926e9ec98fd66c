/* SPDX-License-Identifier: Apache-2.0 */
/* test_tls_ticket.c: keys of tickets over the hours, by a clock that the test sets. */
#include "tls_kit.h"

#include "base/clock.h"
#include "net/tls_ticket.h"

enum { HOUR_S = 60 * 60 };

/* weir_clock_us() of net/ ends here (the linker's --wrap). */
static uint64_t now_s = 100000;

int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    *ts = (struct timespec){ .tv_sec = (time_t)now_s };
    return 0;
}

struct ticket {
    unsigned char name[16], iv[16];
};

static int use(struct tls_tickets *tickets, struct ticket *ticket, int encrypt)
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);
    int answer = tls_tickets_use(tickets, ticket->name, ticket->iv, cipher, mac, encrypt);

    EVP_MAC_CTX_free(mac);
    EVP_MAC_free(hmac);
    EVP_CIPHER_CTX_free(cipher);
    return answer;
}

static bool same_key(const struct ticket *a, const struct ticket *b)
{
    return memcmp(a->name, b->name, sizeof(a->name)) == 0;
}

/* A ticket is good for two hours at least, renewed when its key is not the newest, and for nothing
 * once three newer keys are there. */
static void test_rotation_by_the_hour(void **state)
{
    struct tls_tickets tickets;
    struct weir_tls_fault fault;
    struct ticket first, other;

    assert_int_equal(tls_tickets_init(&tickets, NULL, (struct weir_str){ NULL, 0 }, &fault), 0);
    assert_int_equal(use(&tickets, &first, 1), 1);
    now_s += HOUR_S - 1;
    assert_int_equal(use(&tickets, &other, 1), 1);
    assert_true(same_key(&first, &other));
    assert_int_equal(use(&tickets, &first, 0), 1); /* good, and of the newest key */
    now_s += 1;
    assert_int_equal(use(&tickets, &other, 1), 1);
    assert_false(same_key(&first, &other)); /* an hour: a new key */
    assert_int_equal(use(&tickets, &first, 0), 2);
    now_s += HOUR_S;
    assert_int_equal(use(&tickets, &first, 0), 2); /* a look at an old ticket rotates as well */
    assert_int_equal(use(&tickets, &other, 0), 2);
    now_s += HOUR_S - 1;
    assert_int_equal(use(&tickets, &first, 0), 2);
    now_s += 1;
    assert_int_equal(use(&tickets, &first, 0), 0); /* three hours: its key is gone */
    assert_int_equal(use(&tickets, &other, 0), 2);
    tls_tickets_fini(&tickets);
}

/* Nobody came for a day: that is one rotation, by the first who comes. */
static void test_rotation_after_a_pause(void **state)
{
    struct tls_tickets tickets;
    struct weir_tls_fault fault;
    struct ticket first, other, third;

    assert_int_equal(tls_tickets_init(&tickets, NULL, WEIR_STR("auto"), &fault), 0);
    assert_int_equal(use(&tickets, &first, 1), 1);
    now_s += 24 * HOUR_S;
    assert_int_equal(use(&tickets, &other, 1), 1);
    assert_false(same_key(&first, &other));
    now_s += HOUR_S - 1;
    assert_int_equal(use(&tickets, &third, 1), 1); /* the hour begins with the rotation */
    assert_true(same_key(&other, &third));
    tls_tickets_fini(&tickets);
}

/* Keys of a file are those of other hosts, too: they stay as they are. */
static void test_keys_of_a_file_stay(void **state)
{
    char path[] = "/tmp/weir-ticket-XXXXXX";
    unsigned char keys[160];
    struct tls_tickets tickets;
    struct weir_tls_fault fault;
    struct ticket first, other;
    int fd = mkstemp(path);

    for (size_t i = 0; i < sizeof(keys); i++)
        keys[i] = (unsigned char)i;
    assert_int_equal(write(fd, keys, sizeof(keys)), sizeof(keys));
    close(fd);
    assert_int_equal(tls_tickets_init(&tickets, NULL, weir_str(path), &fault), 0);
    unlink(path);
    assert_int_equal(use(&tickets, &first, 1), 1);
    assert_memory_equal(first.name, keys, 16); /* the first of the file encrypts */
    now_s += 100 * HOUR_S;
    assert_int_equal(use(&tickets, &other, 1), 1);
    assert_true(same_key(&first, &other));
    assert_int_equal(use(&tickets, &first, 0), 1);
    memcpy(other.name, keys + 80, 16); /* a host that is behind still uses the second */
    assert_int_equal(use(&tickets, &other, 0), 2);
    tls_tickets_fini(&tickets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rotation_by_the_hour),
        cmocka_unit_test(test_rotation_after_a_pause),
        cmocka_unit_test(test_keys_of_a_file_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
