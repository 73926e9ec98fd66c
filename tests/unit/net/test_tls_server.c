/* SPDX-License-Identifier: Apache-2.0 */
/** test_tls_server.c: policies: which certificate answers, ALPN, client certificates, tickets, and
 * what a faulty configuration is told. */
#include "tls_kit.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <sys/stat.h>

static struct weir_loop loop;
static struct weir_tls_client *plain;
static const char *a_pem, *wild_pem, *both_rsa, *both_ec, *old_pem, *ca_pem, *client_pem;

static int setup(void **state)
{
    struct kit_cert ca;

    kit_dir_make(state);
    ca = kit_cert("test ca", NULL, false, 30, NULL);
    ca_pem = strdup(kit_path("ca.pem"));
    kit_save(&ca, ca_pem, kit_path("ca.key"));
    a_pem = strdup(kit_pem("a.pem", "a", "DNS:A.test,DNS:also-a.test", false, 30, NULL));
    wild_pem = strdup(kit_pem("w.pem", "w", "DNS:*.w.test", false, 30, NULL));
    both_rsa = strdup(kit_pem("r.pem", "rsa", "DNS:both.test,DNS:only-rsa.test", true, 30, NULL));
    both_ec = strdup(kit_pem("e.pem", "ec", "DNS:both.test", false, 30, NULL));
    old_pem = strdup(kit_pem("old.pem", "old.test", NULL, false, -1, NULL));
    client_pem = strdup(kit_pem("c.pem", "a client, Inc", NULL, false, 30, &ca));
    kit_cert_free(&ca);
    plain = kit_client((struct weir_tls_client_conf){ .verify = false });
    return weir_loop_init(&loop, 0, NULL);
}

static int teardown(void **state)
{
    weir_loop_fini(&loop);
    weir_tls_client_put(plain);
    for (const char **p = (const char *[]){ a_pem, wild_pem, both_rsa, both_ec, old_pem, ca_pem,
                                            client_pem, NULL };
         *p; p++)
        free((char *)*p);
    return kit_dir_drop(state);
}

/* The common name of the certificate that a client is shown. */
static void shown(struct weir_tls_server *policy, const char *name, const char *sigalgs, char *cn,
                  struct weir_tls_info *info)
{
    struct kit_conn conn;

    kit_conn_start(&conn, &loop, policy, plain, name, NULL);
    if (sigalgs)
        assert_int_equal(SSL_set1_sigalgs_list(kit_ssl(&conn.client), sigalgs), 1);
    kit_conn_run(&conn);
    assert_int_equal(conn.client.opened, 1);
    X509_NAME_get_text_by_NID(
        X509_get_subject_name(SSL_get0_peer_certificate(kit_ssl(&conn.client))), NID_commonName, cn,
        64);
    if (info) {
        *info = conn.server.info;
        info->sni = name ? weir_str(name) : (struct weir_str){ 0 };
    }
    kit_conn_end(&conn);
}

static void test_sni_chooses(void **state)
{
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ .tickets = true }, a_pem, wild_pem, both_rsa);
    static const char *const cases[][2] = {
        { "a.test", "a" },      { "ALSO-A.TEST", "a" },     { "x.w.test", "w" },
        { "both.test", "rsa" }, { "only-rsa.test", "rsa" }, { "w.test", "a" },
        { "y.x.w.test", "a" },  { "nobody", "a" },          { "127.0.0.1", "a" },
        { NULL, "a" },
    };
    char cn[64];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        shown(policy, cases[i][0], NULL, cn, NULL);
        assert_string_equal(cn, cases[i][1]);
    }
    weir_tls_server_put(policy);
}

static void test_rsa_and_ecdsa_for_one_name(void **state)
{
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ 0 }, a_pem, both_rsa, both_ec);
    char cn[64];

    shown(policy, "both.test", "ECDSA+SHA256", cn, NULL);
    assert_string_equal(cn, "ec");
    shown(policy, "both.test", "RSA-PSS+SHA256", cn, NULL);
    assert_string_equal(cn, "rsa");
    shown(policy, "only-rsa.test", NULL, cn, NULL);
    assert_string_equal(cn, "rsa");
    weir_tls_server_put(policy);
    policy =
        kit_server((struct weir_tls_server_conf){ 0 }, both_rsa, both_ec, NULL); /* as default */
    shown(policy, "unknown.test", "ECDSA+SHA256", cn, NULL);
    assert_string_equal(cn, "ec");
    shown(policy, NULL, "RSA-PSS+SHA256", cn, NULL);
    assert_string_equal(cn, "rsa");
    weir_tls_server_put(policy);
}

static void test_serves(void **state)
{
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ 0 }, a_pem, wild_pem, both_rsa);
    struct weir_tls_info info;
    char cn[64];

    shown(policy, "a.test", NULL, cn, &info);
    assert_true(weir_tls_server_serves(&info, WEIR_STR("a.test")));
    assert_true(weir_tls_server_serves(&info, WEIR_STR("also-a.TEST")));
    assert_true(weir_tls_server_serves(&info, WEIR_STR("unknown.test")));
    assert_false(weir_tls_server_serves(&info, WEIR_STR("x.w.test")));
    shown(policy, "x.w.test", NULL, cn, &info);
    assert_true(weir_tls_server_serves(&info, WEIR_STR("y.w.test")));
    assert_false(weir_tls_server_serves(&info, WEIR_STR("a.test")));
    assert_false(weir_tls_server_serves(&info, WEIR_STR("")));
    shown(policy, NULL, NULL, cn, &info);
    assert_true(weir_tls_server_serves(&info, WEIR_STR("x.w.test")));
    weir_tls_server_put(policy);
}

static void count_cert(void *arg, struct weir_str file, struct weir_str names, int64_t not_after)
{
    unsigned *seen = arg;

    assert_true(file.len > 0 && not_after > 1500000000);
    if (weir_str_eq(names, WEIR_STR("A.test also-a.test")))
        *seen |= 1;
    if (weir_str_eq(names, WEIR_STR("*.w.test")))
        *seen |= 2;
    *seen += 4;
}

static void test_certs_are_listed(void **state)
{
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ 0 }, a_pem, wild_pem, NULL);
    unsigned seen = 0;

    weir_tls_server_certs(policy, count_cert, &seen);
    assert_int_equal(seen, 3 + 8);
    weir_tls_server_put(policy);
}

static void test_alpn(void **state)
{
    struct weir_str ours[] = { WEIR_STR("x/2"), WEIR_STR("http/1.1") };
    struct weir_str both[] = { WEIR_STR("http/1.1"), WEIR_STR("x/2") };
    struct weir_str other[] = { WEIR_STR("h3") };
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ .alpn = { ours, 2 } }, a_pem, NULL, NULL);
    struct weir_tls_client *talks =
        kit_client((struct weir_tls_client_conf){ .alpn = { both, 2 } });
    struct weir_tls_client *foreign =
        kit_client((struct weir_tls_client_conf){ .alpn = { other, 1 } });
    struct kit_conn conn;

    kit_conn_start(&conn, &loop, policy, talks, "a.test", NULL);
    kit_conn_run(&conn);
    assert_memory_equal(conn.server.info.alpn.ptr, "x/2", 3); /* in our order */
    assert_int_equal(conn.client.info.alpn.len, 3);
    kit_conn_end(&conn);
    kit_conn_start(&conn, &loop, policy, foreign, "a.test", NULL);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.err, WEIR_ETLS);
    assert_int_equal(conn.client.err, WEIR_EUPTLS);
    kit_conn_end(&conn);
    kit_conn_start(&conn, &loop, policy, plain, "a.test", NULL);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.opened, 1);
    assert_null(conn.server.info.alpn.ptr);
    kit_conn_end(&conn);
    weir_tls_client_put(talks);
    weir_tls_client_put(foreign);
    weir_tls_server_put(policy);
}

/* The alert of RFC 7301 by its number: 120, on the wire in clear. */
static void test_alpn_alert_number(void **state)
{
    struct weir_str ours[] = { WEIR_STR("http/1.1") }, other[] = { WEIR_STR("h3") };
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ .alpn = { ours, 1 } }, a_pem, NULL, NULL);
    struct weir_tls_client *foreign =
        kit_client((struct weir_tls_client_conf){ .alpn = { other, 1 } });
    struct kit_conn conn;
    struct iovec iov;

    kit_conn_start(&conn, &loop, policy, foreign, "a.test", NULL);
    weir_loop_turn(&loop, 0);
    kit_deliver(&conn.down, SIZE_MAX);
    weir_loop_turn(&loop, 0);
    assert_int_equal(conn.server.err, WEIR_ETLS);
    assert_int_equal(weir_buf_peek(&conn.down.out, 0, &iov, 1), 1);
    assert_int_equal(iov.iov_len, 7);
    assert_memory_equal((const char *)iov.iov_base + 3, "\x00\x02\x02\x78", 4);
    kit_conn_end(&conn);
    weir_tls_client_put(foreign);
    weir_tls_server_put(policy);
}

static void test_client_certificates(void **state)
{
    struct weir_tls_client *known = kit_client(
        (struct weir_tls_client_conf){ .cert = weir_str(client_pem), .key = weir_str(client_pem) });
    struct weir_tls_client *stranger =
        kit_client((struct weir_tls_client_conf){ .cert = weir_str(a_pem) });

    for (int optional = 0; optional < 2; optional++) {
        struct weir_tls_server *policy =
            kit_server((struct weir_tls_server_conf){ .client_ca = weir_str(ca_pem),
                                                      .client_verify = optional },
                       a_pem, NULL, NULL);
        struct kit_conn conn;

        kit_conn_start(&conn, &loop, policy, known, "a.test", NULL);
        kit_conn_run(&conn);
        assert_int_equal(conn.server.opened, 1);
        assert_string_equal(weir_stream_tls(conn.server.stream)->client_subject.ptr,
                            "CN=a client\\, Inc");
        kit_conn_end(&conn);
        kit_conn_start(&conn, &loop, policy, stranger, "a.test", NULL);
        kit_conn_run(&conn);
        assert_int_equal(conn.server.err, WEIR_ETLS);
        assert_int_equal(conn.client.err, WEIR_EUPTLS);
        kit_conn_end(&conn);
        kit_conn_start(&conn, &loop, policy, plain, "a.test", NULL);
        kit_conn_run(&conn);
        assert_int_equal(conn.server.opened, optional);
        assert_int_equal(conn.server.err, optional ? 0 : WEIR_ETLS);
        if (optional)
            assert_null(conn.server.info.client_subject.ptr);
        kit_conn_end(&conn);
        weir_tls_server_put(policy);
    }
    weir_tls_client_put(known);
    weir_tls_client_put(stranger);
}

/* ---- versions and ciphers ---- */

static void test_versions(void **state)
{
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ .min_version = WEIR_TLS_1_3 }, a_pem, NULL, NULL);
    struct kit_conn conn;

    kit_conn_start(&conn, &loop, policy, plain, "a.test", NULL);
    SSL_set_max_proto_version(kit_ssl(&conn.client), TLS1_2_VERSION);
    kit_conn_run(&conn);
    assert_int_equal(conn.server.err, WEIR_ETLS);
    kit_conn_end(&conn);
    weir_tls_server_put(policy);
    policy = kit_server((struct weir_tls_server_conf){ 0 }, a_pem, NULL, NULL);
    kit_conn_start(&conn, &loop, policy, plain, "a.test", NULL);
    SSL_set_min_proto_version(kit_ssl(&conn.client), TLS1_VERSION);
    SSL_set_max_proto_version(kit_ssl(&conn.client), TLS1_1_VERSION);
    SSL_set_security_level(kit_ssl(&conn.client), 0);
    SSL_set_cipher_list(kit_ssl(&conn.client), "ALL");
    kit_conn_run(&conn);
    assert_int_equal(conn.server.err, WEIR_ETLS);
    kit_conn_end(&conn);
    weir_tls_server_put(policy);
}

static void test_ciphers(void **state)
{
    struct weir_tls_server *policy = kit_server(
        (struct weir_tls_server_conf){
            .ciphers = WEIR_STR("ECDHE-ECDSA-CHACHA20-POLY1305:TLS_CHACHA20_POLY1305_SHA256") },
        a_pem, NULL, NULL);
    struct weir_tls_fault fault;
    struct kit_conn conn;

    for (int old = 0; old < 2; old++) {
        kit_conn_start(&conn, &loop, policy, plain, "a.test", NULL);
        if (old)
            SSL_set_max_proto_version(kit_ssl(&conn.client), TLS1_2_VERSION);
        kit_conn_run(&conn);
        assert_non_null(strstr(conn.server.info.cipher.ptr, "CHACHA20"));
        kit_conn_end(&conn);
    }
    weir_tls_server_put(policy);
    assert_null(kit_server_from((struct weir_tls_server_conf){ .ciphers = WEIR_STR("nonsense") },
                                a_pem, NULL, NULL, &fault));
    assert_non_null(strstr(fault.text, "nonsense"));
}

/* ---- tickets ---- */

static bool resumed(struct weir_tls_server *policy, struct weir_tls_client *client,
                    struct weir_tls_sessions *sessions, int version)
{
    struct kit_conn conn;
    bool yes;

    kit_conn_start(&conn, &loop, policy, client, "a.test", sessions);
    SSL_set_max_proto_version(kit_ssl(&conn.client), version);
    conn.server.answer = "pong"; /* the ticket of 1.3 goes with it */
    kit_conn_run(&conn);
    assert_int_equal(conn.server.opened, 1);
    kit_write(&conn.client, "ping");
    kit_conn_run(&conn);
    assert_int_equal(conn.client.received, 4);
    yes = conn.server.info.resumed;
    assert_int_equal(conn.client.info.resumed, yes);
    kit_conn_end(&conn);
    return yes;
}

static void check_tickets(int version)
{
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ .tickets = true }, wild_pem, a_pem, NULL);
    struct weir_tls_sessions *sessions = weir_tls_sessions_new();

    assert_false(resumed(policy, plain, sessions, version));
    for (int i = 0; i < 10; i++)
        assert_true(resumed(policy, plain, sessions, version));
    for (int rotations = 1; rotations < 6; rotations++) {
        for (int i = 0; i < rotations; i++)
            assert_int_equal(weir_tls_server_rotate(policy), 0);
        /* OpenSSL's client keeps its first ticket of 1.2: rotations add up there */
        assert_int_equal(resumed(policy, plain, sessions, version),
                         rotations < (version == TLS1_3_VERSION ? 3 : 2));
    }
    weir_tls_sessions_free(sessions);
    weir_tls_server_put(policy);
}

static void test_tickets_and_rotation(void **state)
{
    check_tickets(TLS1_3_VERSION);
    check_tickets(TLS1_2_VERSION);
}

static void test_tickets_off(void **state)
{
    struct weir_tls_server *policy =
        kit_server((struct weir_tls_server_conf){ .tickets = false }, a_pem, NULL, NULL);

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct weir_tls_sessions *sessions = weir_tls_sessions_new();

        assert_false(resumed(policy, plain, sessions, version));
        assert_false(resumed(policy, plain, sessions, version));
        weir_tls_sessions_free(sessions);
    }
    weir_tls_server_put(policy);
}

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    fclose(file);
}

/* Two policies with one file take each other's tickets; with another name they do not. */
static void test_ticket_key_file(void **state)
{
    static const size_t lengths[] = { 48, 80, 160, 144 };
    const char *path = kit_path("keys");

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct weir_tls_server_conf conf = { .tickets = true, .ticket_keys = weir_str(path) };
        struct weir_tls_cert_conf cert = { .cert = weir_str(a_pem) };
        struct weir_tls_sessions *sessions = weir_tls_sessions_new();
        struct weir_tls_server *first, *second, *foreign;
        struct weir_tls_fault fault;
        uint8_t keys[240];

        conf.certs = (struct weir_conf_list){ &cert, 1 };
        RAND_bytes(keys, sizeof(keys));
        write_file(path, keys, lengths[i]);
        first = weir_tls_server_new(&conf, WEIR_STR("web"), &fault);
        if (!first)
            fail_msg("%s", fault.text);
        /* the second host has a newer key in front */
        memmove(keys + (lengths[i] % 80 ? 48 : 80), keys, lengths[i] % 80 ? 48 : 80);
        RAND_bytes(keys, lengths[i] % 80 ? 48 : 80);
        write_file(path, keys, lengths[i] % 80 ? 96 : 160);
        second = weir_tls_server_new(&conf, WEIR_STR("web"), &fault);
        foreign = weir_tls_server_new(&conf, WEIR_STR("other"), &fault);
        assert_non_null(second);
        assert_non_null(foreign);
        assert_false(resumed(first, plain, sessions, TLS1_3_VERSION));
        assert_true(resumed(second, plain, sessions, TLS1_3_VERSION));
        assert_false(resumed(foreign, plain, sessions, TLS1_3_VERSION));
        weir_tls_server_put(first);
        weir_tls_server_put(second);
        weir_tls_server_put(foreign);
        weir_tls_sessions_free(sessions);
    }
}

/* ---- faults ---- */

static void expect_fault(struct weir_tls_server_conf conf, struct weir_tls_cert_conf cert,
                         const char *file, const char *why)
{
    struct weir_tls_fault fault = { { 0 } };

    conf.certs = (struct weir_conf_list){ &cert, 1 };
    assert_null(weir_tls_server_new(&conf, WEIR_STR("x"), &fault));
    if (!strstr(fault.text, file) || !strstr(fault.text, why))
        fail_msg("'%s' lacks '%s' or '%s'", fault.text, file, why);
}

static void test_faults_name_the_file(void **state)
{
    struct weir_tls_server_conf none = { 0 };
    const char *empty = kit_path("empty"), *junk = kit_path("junk.pem"),
               *locked = kit_path("locked.pem"), *half = kit_path("half.pem");
    struct kit_cert cert = kit_cert("x", NULL, false, 3, NULL);
    struct weir_tls_fault fault;
    FILE *file;

    mkdir(empty, 0700);
    write_file(junk, "hello\n", 6);
    file = fopen(locked, "w");
    PEM_write_PrivateKey(file, cert.key, EVP_aes_128_cbc(), NULL, 0, NULL, (void *)"secret");
    fclose(file);
    file = fopen(half, "w");
    PEM_write_X509(file, cert.x509);
    fputs("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", file);
    fclose(file);
    kit_cert_free(&cert);
#define CERT(c, k) ((struct weir_tls_cert_conf){ .cert = weir_str(c), .key = weir_str(k) })
    expect_fault(none, CERT("/no/such.pem", NULL), "/no/such.pem", "No such file");
    expect_fault(none, CERT(a_pem, "/no/such.key"), "/no/such.key", "No such file");
    expect_fault(none, CERT(junk, NULL), junk, "no certificate in PEM form");
    expect_fault(none, CERT(a_pem, junk), junk, "no private key");
    expect_fault(none, CERT(a_pem, wild_pem), wild_pem, "does not fit");
    expect_fault(none, CERT(a_pem, locked), locked, "encrypted");
    expect_fault(none, CERT(half, a_pem), half, "chain");
    expect_fault(none, CERT(NULL, NULL), "cert", "dir");
    expect_fault(none, (struct weir_tls_cert_conf){ .dir = weir_str(empty) }, empty,
                 "no certificate");
    expect_fault(none, (struct weir_tls_cert_conf){ .dir = WEIR_STR("/no/such") }, "/no/such",
                 "folder");
    expect_fault((struct weir_tls_server_conf){ .client_ca = weir_str(junk) }, CERT(a_pem, NULL),
                 junk, "client_ca");
    expect_fault((struct weir_tls_server_conf){ .tickets = true, .ticket_keys = weir_str(junk) },
                 CERT(a_pem, NULL), junk, "80 bytes");
    expect_fault(
        (struct weir_tls_server_conf){ .tickets = true, .ticket_keys = WEIR_STR("/no/keys") },
        CERT(a_pem, NULL), "/no/keys", "No such file");
#undef CERT
    assert_null(kit_server_from(none, NULL, NULL, NULL, &fault));
    assert_non_null(strstr(fault.text, "no certificate"));
}

static void test_not_valid_yet_is_a_warning(void **state)
{
    struct kit_cert cert = kit_cert("early.test", "DNS:early.test", false, 30, NULL);
    const char *path = kit_path("early");
    struct weir_tls_server *policy;
    struct weir_tls_fault fault;

    X509_gmtime_adj(X509_getm_notBefore(cert.x509), 2 * 86400L);
    assert_true(X509_sign(cert.x509, cert.key, EVP_sha256()) > 0);
    kit_save(&cert, path, path);
    kit_cert_free(&cert);
    policy = kit_server_from((struct weir_tls_server_conf){ 0 }, path, NULL, NULL, &fault);
    assert_non_null(policy);
    assert_non_null(strstr(fault.text, "not valid before"));
    weir_tls_server_put(policy);
}

static void test_expired_is_a_warning(void **state)
{
    struct weir_tls_fault fault;
    struct weir_tls_server *policy =
        kit_server_from((struct weir_tls_server_conf){ 0 }, old_pem, NULL, NULL, &fault);

    assert_non_null(policy);
    assert_non_null(strstr(fault.text, "expired"));
    assert_non_null(strstr(fault.text, old_pem));
    weir_tls_server_put(policy);
    policy = kit_server_from((struct weir_tls_server_conf){ 0 }, a_pem, NULL, NULL, &fault);
    assert_string_equal(fault.text, "");
    weir_tls_server_put(policy);
}

static void test_folders(void **state)
{
    const char *dir = kit_path("certs");
    struct weir_tls_cert_conf certs[2] = { { .cert = weir_str(a_pem) }, { .dir = weir_str(dir) } };
    struct weir_tls_server_conf conf = { .certs = { certs, 2 } };
    struct kit_cert cert = kit_cert("two", "DNS:two.test", false, 30, NULL);
    struct weir_tls_server *policy;
    struct weir_tls_fault fault;
    char cn[64];

    mkdir(dir, 0700);
    kit_pem("certs/one.pem", "one", "DNS:one.test", false, 30, NULL);
    kit_save(&cert, kit_path("certs/two.crt"), kit_path("certs/two.key"));
    kit_cert_free(&cert);
    write_file(kit_path("certs/.hidden.pem"), "x", 1);
    write_file(kit_path("certs/README"), "x", 1);
    policy = weir_tls_server_new(&conf, WEIR_STR("x"), &fault);
    if (!policy)
        fail_msg("%s", fault.text);
    shown(policy, "one.test", NULL, cn, NULL);
    assert_string_equal(cn, "one");
    shown(policy, "two.test", NULL, cn, NULL);
    assert_string_equal(cn, "two");
    shown(policy, "three.test", NULL, cn, NULL);
    assert_string_equal(cn, "a");
    weir_tls_server_put(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sni_chooses),
        cmocka_unit_test(test_rsa_and_ecdsa_for_one_name),
        cmocka_unit_test(test_serves),
        cmocka_unit_test(test_certs_are_listed),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_alpn_alert_number),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_ciphers),
        cmocka_unit_test(test_tickets_and_rotation),
        cmocka_unit_test(test_tickets_off),
        cmocka_unit_test(test_ticket_key_file),
        cmocka_unit_test(test_faults_name_the_file),
        cmocka_unit_test(test_expired_is_a_warning),
        cmocka_unit_test(test_not_valid_yet_is_a_warning),
        cmocka_unit_test(test_folders),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
