/* SPDX-License-Identifier: Apache-2.0 */
/** test_resolve.c: names against a name server that lies, falls silent and comes back. */
#include "base/clock.h"
#include "base/str.h"
#include "net/resolve_impl.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { GOOD, NXDOMAIN = 3, SERVFAIL = 2, SILENT = -1 };
enum { TYPE_A = 1, TYPE_CNAME = 5, TYPE_AAAA = 28, TYPE_SRV = 33, WAIT_MS = 8000 };

/* --- the name server: a thread --- */

static struct {
    int fd;
    uint16_t port;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic int mode, ttl, last, queries; /* `last`: byte of the address of up.test */
} dns;

struct packet {
    uint8_t at[1500];
    size_t len;
    unsigned answers;
};

static void put(struct packet *p, const void *data, size_t len)
{
    assert_true(p->len + len <= sizeof(p->at));
    memcpy(p->at + p->len, data, len);
    p->len += len;
}

static void put16(struct packet *p, unsigned value)
{
    uint8_t bytes[2] = { (uint8_t)(value >> 8), (uint8_t)value };

    put(p, bytes, 2);
}

static void put_name(struct packet *p, const char *name)
{
    while (*name) {
        size_t len = strcspn(name, ".");
        uint8_t byte = (uint8_t)len;

        put(p, &byte, 1);
        put(p, name, len);
        name += len + (name[len] == '.');
    }
    put(p, "", 1);
}

/* An answer of the name that was asked for (a pointer to the question). */
static void put_answer(struct packet *p, unsigned type, const void *data, size_t len)
{
    int ttl = atomic_load(&dns.ttl);

    put16(p, 0xc00c);
    put16(p, type);
    put16(p, 1);
    put16(p, (unsigned)ttl >> 16);
    put16(p, (unsigned)ttl & 0xffff);
    put16(p, (unsigned)len);
    put(p, data, len);
    p->answers++;
}

static void put_a(struct packet *p, const char *text)
{
    struct in_addr in;

    assert_int_equal(inet_pton(AF_INET, text, &in), 1);
    put_answer(p, TYPE_A, &in, 4);
}

static void put_srv(struct packet *p, unsigned priority, unsigned port, const char *target)
{
    struct packet data = { .len = 0 };

    put16(&data, priority);
    put16(&data, 1);
    put16(&data, port);
    put_name(&data, target);
    put_answer(p, TYPE_SRV, data.at, data.len);
}

static void answer_a(struct packet *p, const char *name)
{
    char text[32];

    snprintf(text, sizeof(text), "10.0.0.%d", atomic_load(&dns.last));
    if (!strcmp(name, "up.test"))
        put_a(p, text);
    else if (!strcmp(name, "a.test"))
        put_a(p, "10.1.0.1");
    else if (!strcmp(name, "b.test"))
        put_a(p, "10.1.0.2");
    else if (!strcmp(name, "local.test"))
        put_a(p, "127.0.0.1"), put_a(p, "169.254.169.254"), put_a(p, "224.0.0.1");
    else if (!strcmp(name, "half.test"))
        put_a(p, "127.0.0.1"), put_a(p, "10.2.0.1"), put_a(p, "255.255.255.255");
    for (int i = 1; i <= 20 && !strcmp(name, "many.test"); i++) {
        snprintf(text, sizeof(text), "10.3.0.%d", i);
        put_a(p, text);
    }
}

static void answer(const struct sockaddr_in *from, const uint8_t *query, size_t len)
{
    struct packet p = { .len = 0 };
    char name[256] = "";
    size_t at = 12;
    int mode = atomic_load(&dns.mode);
    unsigned type;

    atomic_fetch_add(&dns.queries, 1);
    while (at < len && query[at] && strlen(name) + query[at] + 2 < sizeof(name)) {
        size_t have = strlen(name);

        snprintf(name + have, sizeof(name) - have, "%s%.*s", have ? "." : "", query[at],
                 (const char *)query + at + 1);
        at += query[at] + 1u;
    }
    if (mode == SILENT || at + 5 > len)
        return;
    type = (unsigned)query[at + 1] << 8 | query[at + 2];
    put(&p, query, 2);
    put16(&p, 0x8180 | (unsigned)mode);
    put16(&p, 1);
    put16(&p, 0); /* answers: below */
    put16(&p, 0);
    put16(&p, 0);
    put(&p, query + 12, at + 5 - 12);
    if (mode == GOOD && type == TYPE_A)
        answer_a(&p, name);
    else if (mode == GOOD && type == TYPE_AAAA && !strcmp(name, "six.test"))
        put_answer(&p, TYPE_AAAA, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7", 16);
    else if (mode == GOOD && type == TYPE_SRV) {
        put_srv(&p, 1, 81, "a.test");
        put_srv(&p, 5, 83, "up.test");
        put_srv(&p, 1, 82, "b.test");
    }
    p.at[7] = (uint8_t)p.answers;
    sendto(dns.fd, p.at, p.len, 0, (const struct sockaddr *)from, sizeof(*from));
}

static void *dns_run(void *arg)
{
    while (!atomic_load(&dns.stop)) {
        struct pollfd poll_fd = { dns.fd, POLLIN, 0 };
        struct sockaddr_in from;
        socklen_t from_len = sizeof(from);
        uint8_t query[512];
        ssize_t n;

        if (poll(&poll_fd, 1, 10) <= 0)
            continue;
        n = recvfrom(dns.fd, query, sizeof(query), 0, (struct sockaddr *)&from, &from_len);
        if (n > 12)
            answer(&from, query, (size_t)n);
    }
    return NULL;
}

static void dns_start(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(in);

    memset(&dns, 0, sizeof(dns));
    dns.ttl = 60;
    dns.last = 1;
    dns.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(dns.fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(getsockname(dns.fd, (struct sockaddr *)&in, &len), 0);
    dns.port = ntohs(in.sin_port);
    assert_int_equal(pthread_create(&dns.thread, NULL, dns_run, NULL), 0);
}

/* --- the resolver --- */

static struct weir_loop loop;
static struct weir_resolver *resolver;
static struct weir_resolution *resolution;
static struct weir_dns_conf conf;
static char server_text[32];
static struct weir_str server_str;
static char heard[2048]; /* the last set: "10.0.0.1:80 10.0.0.2:80", or the name of the error */
static int times;
static bool stop_inside;

static void on_addrs(void *arg, const struct weir_addr *addrs, unsigned count, enum weir_err err)
{
    size_t n = 0;

    times++;
    heard[0] = 0;
    if (!count)
        snprintf(heard, sizeof(heard), "%s", weir_err_name(err));
    for (unsigned i = 0; i < count; i++) {
        char text[WEIR_ADDR_TEXT_MAX];
        size_t len = weir_addr_print(&addrs[i], text);

        n += (size_t)snprintf(heard + n, sizeof(heard) - n, "%s%.*s", i ? " " : "", (int)len, text);
    }
    if (stop_inside)
        weir_resolve_stop(&resolution);
}

static int setup(void **state)
{
    dns_start();
    snprintf(server_text, sizeof(server_text), "127.0.0.1:%u", dns.port);
    server_str = weir_str(server_text);
    conf = (struct weir_dns_conf){ .servers = { &server_str, 1 },
                                   .ttl_min_ms = 100,
                                   .ttl_max_ms = 300000,
                                   .stale_ms = 3600000,
                                   .addresses_max = 64 };
    heard[0] = 0;
    times = 0;
    stop_inside = false;
    return weir_loop_init(&loop, 0, NULL);
}

static int teardown(void **state)
{
    if (resolution)
        weir_resolve_stop(&resolution);
    weir_resolver_free(resolver);
    resolver = NULL;
    weir_loop_fini(&loop);
    atomic_store(&dns.stop, true);
    pthread_join(dns.thread, NULL);
    close(dns.fd);
    return 0;
}

static void follow(const char *name, bool srv)
{
    if (!resolver)
        resolver = weir_resolver_new(&loop, &conf);
    assert_non_null(resolver);
    resolution = weir_resolve_start(resolver, weir_str(name), 80, srv, on_addrs, NULL);
    assert_non_null(resolution);
    assert_int_equal(times, 0); /* never inside the call */
}

static void turn_ms(unsigned ms)
{
    uint64_t end = weir_clock_us() + ms * 1000ull;

    while (weir_clock_us() < end)
        weir_loop_turn(&loop, 5);
}

/* Milliseconds until `text` was heard. */
static unsigned expect_heard(const char *text)
{
    uint64_t begin = weir_clock_us();

    while (strcmp(heard, text)) {
        if (weir_clock_us() > begin + WAIT_MS * 1000ull)
            fail_msg("heard '%s', not '%s'", heard, text);
        weir_loop_turn(&loop, 5);
    }
    return (unsigned)((weir_clock_us() - begin) / 1000);
}

static void test_addresses(void **state)
{
    follow("up.test", false);
    expect_heard("10.0.0.1:80");
    turn_ms(50);
    assert_int_equal(times, 1);
    weir_resolve_stop(&resolution);
    times = 0;
    follow("six.test", false);
    expect_heard("[2001:db8::7]:80");
}

static void test_ttl_is_followed(void **state)
{
    dns.ttl = 0; /* ttl_min makes it 100 ms */
    follow("up.test", false);
    expect_heard("10.0.0.1:80");
    atomic_store(&dns.last, 2);
    assert_true(expect_heard("10.0.0.2:80") < 1000);
    turn_ms(350);
    assert_int_equal(times, 2); /* told only when it has changed */
    assert_true(atomic_load(&dns.queries) >= 6);
}

static void test_srv(void **state)
{
    follow("_http._tcp.app.test", true);
    expect_heard("10.1.0.1:81 10.1.0.2:82"); /* of the lowest priority */
}

static void test_local_answers(void **state)
{
    follow("local.test", false);
    expect_heard("EDNS");
    weir_resolve_stop(&resolution);
    times = 0;
    follow("half.test", false);
    expect_heard("10.2.0.1:80");
    weir_resolve_stop(&resolution);
    weir_resolver_free(resolver);
    resolver = NULL;
    conf.allow_local = true;
    times = 0;
    follow("local.test", false);
    expect_heard("127.0.0.1:80 169.254.169.254:80");
}

static void test_hosts_file(void **state)
{
    follow("localhost", false); /* the operator's own word */
    while (!heard[0])
        weir_loop_turn(&loop, 5);
    assert_non_null(strstr(heard, "1:80"));
    assert_int_equal(atomic_load(&dns.queries), 0);
}

static void test_at_most(void **state)
{
    conf.addresses_max = 3;
    follow("many.test", false);
    while (!heard[0])
        weir_loop_turn(&loop, 5);
    assert_string_equal(heard, "10.3.0.1:80 10.3.0.2:80 10.3.0.3:80");
}

static void test_stale_then_gone_then_back(void **state)
{
    static const int modes[] = { NXDOMAIN, SERVFAIL, SILENT };

    dns.ttl = 0;
    conf.stale_ms = 400;
    follow("up.test", false);
    for (int i = 0; i < 3; i++) {
        expect_heard("10.0.0.1:80");
        atomic_store(&dns.mode, modes[i]);
        turn_ms(250);
        assert_string_equal(heard, "10.0.0.1:80"); /* stale, and kept */
        expect_heard("EDNS");
        atomic_store(&dns.mode, GOOD);
        assert_true(expect_heard("10.0.0.1:80") < 4500);
    }
}

static void test_start_without(void **state)
{
    atomic_store(&dns.mode, NXDOMAIN);
    follow("up.test", false);
    expect_heard("EDNS");
    turn_ms(1200);
    assert_int_equal(times, 1);
    atomic_store(&dns.mode, GOOD);
    assert_true(expect_heard("10.0.0.1:80") < 2500);
}

static void test_stop(void **state)
{
    stop_inside = true;
    follow("up.test", false);
    expect_heard("10.0.0.1:80");
    assert_null(resolution);
    stop_inside = false;
    atomic_store(&dns.mode, SILENT);
    times = 0;
    follow("up.test", false);
    turn_ms(20);
    weir_resolve_stop(&resolution); /* with a question in flight */
    turn_ms(20);
    assert_int_equal(times, 0);
}

/* A host that gets its name servers after we have started. */
static void test_system_file_changes(void **state)
{
    char path[] = "/tmp/weir-resolv-XXXXXX";
    int fd = mkstemp(path);
    ares_channel before;

    assert_true(fd >= 0);
    assert_true(write(fd, "nameserver 127.0.0.3\n", 21) == 21);
    conf.servers.count = 0;
    resolver = weir_resolver_new(&loop, &conf);
    resolver->system_file = path;
    weir_resolve_ares_reread(resolver);
    before = resolver->dns;
    follow("up.test", false);
    expect_heard("EDNS");
    assert_int_equal(futimens(fd, (struct timespec[2]){ { 1, 0 }, { 1, 0 } }), 0);
    for (int i = 0; i < 500 && resolver->dns == before; i++)
        turn_ms(10);
    assert_ptr_not_equal(resolver->dns, before);
    turn_ms(20); /* the question goes to the new ones */
    weir_resolve_stop(&resolution);
    weir_resolve_ares_reread(resolver); /* nothing new */
    close(fd);
    unlink(path);
}

static void test_bad_servers(void **state)
{
    struct weir_str bad = WEIR_STR("not an address");

    conf.servers = (struct weir_strs){ &bad, 1 };
    assert_null(weir_resolver_new(&loop, &conf));
    bad = WEIR_STR("::1");
    resolver = weir_resolver_new(&loop, &conf);
    assert_non_null(resolver);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_addresses),
        TEST(test_ttl_is_followed),
        TEST(test_srv),
        TEST(test_local_answers),
        TEST(test_hosts_file),
        TEST(test_at_most),
        TEST(test_stale_then_gone_then_back),
        TEST(test_start_without),
        TEST(test_stop),
        TEST(test_system_file_changes),
        TEST(test_bad_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
