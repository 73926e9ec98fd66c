/* SPDX-License-Identifier: Apache-2.0 */
/** test_tls_pool.c: TLS to upstreams: verified by name, reused, given to another worker with its
 * keys, and refused. */
#include "upstream_kit.h"

#include "upstream/health.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>

enum { WORKERS = 2, CONNS_MAX = 16 };

/* --- an upstream: a thread that accepts, and one for each connection --- */

static struct {
    int fd;
    uint16_t port;
    SSL_CTX *ctx;
    X509 *cert;
    EVP_PKEY *key;
    char ca[64];
    pthread_t thread, conns[CONNS_MAX];
    _Atomic int accepted, resumed;
} up;

static void make_cert(void)
{
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:up.test");
    int fd;
    FILE *file;

    up.key = EVP_EC_gen("P-256");
    up.cert = X509_new();
    X509_set_version(up.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(up.cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(up.cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(up.cert), 86400);
    X509_set_pubkey(up.cert, up.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(up.cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"up.test", -1, -1, 0);
    X509_set_issuer_name(up.cert, X509_get_subject_name(up.cert));
    X509_add_ext(up.cert, san, -1);
    X509_EXTENSION_free(san);
    assert_true(X509_sign(up.cert, up.key, EVP_sha256()) > 0);
    strcpy(up.ca, "/tmp/weir-up-XXXXXX");
    fd = mkstemp(up.ca);
    assert_true(fd >= 0);
    file = fdopen(fd, "w");
    PEM_write_X509(file, up.cert);
    fclose(file);
}

static void *serve(void *arg)
{
    SSL *ssl = arg;
    char data[1024];
    int n;

    if (SSL_accept(ssl) == 1) {
        if (SSL_session_reused(ssl))
            atomic_fetch_add(&up.resumed, 1);
        while ((n = SSL_read(ssl, data, sizeof(data) - 1)) > 0) {
            static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

            data[n] = 0;
            if (SSL_write(ssl, answer, sizeof(answer) - 1) <= 0 || strstr(data, "/fin"))
                break;
        }
        SSL_shutdown(ssl);
    }
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    return NULL;
}

static void *accept_all(void *arg)
{
    int fd;

    while ((fd = accept(up.fd, NULL, NULL)) >= 0) {
        SSL *ssl = SSL_new(up.ctx);

        SSL_set_fd(ssl, fd);
        pthread_create(&up.conns[atomic_fetch_add(&up.accepted, 1) % CONNS_MAX], NULL, serve, ssl);
    }
    return NULL;
}

static void up_start(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(in);

    memset(&up, 0, sizeof(up));
    make_cert();
    up.ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(up.ctx, up.cert);
    SSL_CTX_use_PrivateKey(up.ctx, up.key);
    up.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(up.fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(up.fd, 16), 0);
    assert_int_equal(getsockname(up.fd, (struct sockaddr *)&in, &len), 0);
    up.port = ntohs(in.sin_port);
    assert_int_equal(pthread_create(&up.thread, NULL, accept_all, NULL), 0);
}

static void up_stop(void)
{
    shutdown(up.fd, SHUT_RDWR);
    pthread_join(up.thread, NULL);
    for (int i = 0; i < atomic_load(&up.accepted) && i < CONNS_MAX; i++)
        pthread_join(up.conns[i], NULL);
    close(up.fd);
    unlink(up.ca);
    SSL_CTX_free(up.ctx);
    X509_free(up.cert);
    EVP_PKEY_free(up.key);
}

/* --- */

static struct weir_loop loops[WORKERS];
static struct weir_cluster_view *views[WORKERS];
static struct kit kit;
static struct weir_server *server;

static int setup(void **state)
{
    up_start();
    call_opts = (struct weir_acquire_opts){ 0 };
    kit_init(&kit, WORKERS);
    kit.conf.tls_on = true;
    kit.conf.tls = (struct weir_tls_client_conf){ .verify = true,
                                                  .ca = weir_str(up.ca),
                                                  .sni = WEIR_STR("up.test") };
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(weir_loop_init(&loops[i], i, NULL), 0);
    return 0;
}

static void open_all(void)
{
    kit_server_port(&kit, up.port);
    kit_open(&kit);
    server = &kit.cluster->servers[0];
    for (unsigned i = 0; i < WORKERS; i++)
        views[i] = weir_cluster_view_new(kit.cluster, &loops[i], i, NULL);
}

static int teardown(void **state)
{
    weir_cluster_stop(kit.cluster);
    for (unsigned i = 0; i < WORKERS; i++)
        weir_cluster_view_close(views[i]);
    for (unsigned i = 0; i < WORKERS; i++)
        kit_view_end(views[i], &loops[i]);
    for (unsigned i = 0; i < WORKERS; i++)
        weir_loop_fini(&loops[i]);
    weir_cluster_free(kit.cluster);
    up_stop();
    return 0;
}

#define both_until(cond) kit_until(&loops[0], (weir_loop_turn(&loops[1], 0), (cond)))

static void get(unsigned id, const char *path, bool reused)
{
    struct call call = { 0 };

    call_start(&call, views[id], server, path);
    both_until(call_done(&call));
    assert_int_equal(call.status, 200);
    assert_int_equal(call.reused, reused);
    call_fini(&call);
    weir_loop_turn(&loops[id], 0);
}

static void test_reused_and_given(void **state)
{
    open_all();
    get(0, "/", false);
    get(0, "/", true);
    for (unsigned i = 1; i < 8; i++)
        get(i % 2, "/", true);
    assert_int_equal(atomic_load(&up.accepted), 1);
}

static void test_closed_and_resumed(void **state)
{
    open_all();
    get(0, "/fin", false);
    both_until(weir_cluster_view_conns(views[0]) == 0); /* close_notify while idle */
    get(0, "/", false);
    get(1, "/", true);
    assert_int_equal(atomic_load(&up.resumed), 1);
}

static void expect_failure(enum weir_err code)
{
    struct call call = { 0 };

    call_start(&call, views[0], server, "/");
    both_until(call_done(&call));
    assert_int_equal(call.error.code, code);
    assert_int_equal(call.error.retry, WEIR_RETRY_UNSENT);
    assert_int_equal(call.error.by, WEIR_BY_UPSTREAM);
    call_fini(&call);
}

static void test_another_name(void **state)
{
    kit.conf.tls.sni = WEIR_STR("other.test");
    open_all();
    expect_failure(WEIR_EUPVERIFY);
}

/* Accepts, and never says a word: the deadline covers the handshake. */
static void test_silent_handshake(void **state)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    kit_server_port(&kit, ntohs(in.sin_port));
    open_all();
    call_opts.connect_timeout_ms = 60;
    expect_failure(WEIR_ECONNTIME);
    close(fd);
}

static void test_health_over_tls(void **state)
{
    kit.conf.health = (struct weir_health_conf){ .type = WEIR_HEALTH_HTTP, .every_ms = 20 };
    open_all();
    assert_int_equal(weir_cluster_start(kit.cluster, &loops[0], NULL), 0);
    kit_until(&loops[0], atomic_load(&up.accepted) >= 2);
    kit_until(&loops[0], server->health->good >= 2);
    assert_true(weir_server_is_up(server));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reused_and_given), TEST(test_closed_and_resumed), TEST(test_another_name),
        TEST(test_silent_handshake), TEST(test_health_over_tls),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
