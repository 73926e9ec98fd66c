/* SPDX-License-Identifier: Apache-2.0 */
/** tls_pair.h: one policy, one loop, and clients of TLS 1.3 and 1.2: what the tests of the TLS stream begin with. */
#ifndef TLS_PAIR_H
#define TLS_PAIR_H

#include "tls_kit.h"

static struct weir_loop loop;
static struct weir_tls_server *policy;
static struct weir_tls_client *client, *client12;

static inline int setup(void **state)
{
    const char *pem;

    kit_dir_make(state);
    pem = kit_pem("a.pem", "a.test", "DNS:a.test", false, 30, NULL);
    policy = kit_server((struct weir_tls_server_conf){ .tickets = true }, pem, NULL, NULL);
    client = kit_client((struct weir_tls_client_conf){ .verify = false });
    client12 = kit_client((struct weir_tls_client_conf){ .verify = false });
    return weir_loop_init(&loop, 0, NULL);
}

static inline int teardown(void **state)
{
    weir_loop_fini(&loop);
    weir_tls_server_put(policy);
    weir_tls_client_put(client);
    weir_tls_client_put(client12);
    return kit_dir_drop(state);
}

static inline void start(struct kit_conn *conn)
{
    kit_conn_start(conn, &loop, policy, client, "a.test", NULL);
}

static inline void start_12(struct kit_conn *conn)
{
    kit_conn_start(conn, &loop, policy, client12, "a.test", NULL);
    SSL_set_max_proto_version(kit_ssl(&conn->client), TLS1_2_VERSION);
}

static inline void opened(struct kit_conn *conn)
{
    start(conn);
    kit_conn_run(conn);
    assert_int_equal(conn->server.opened, 1);
    assert_int_equal(conn->client.opened, 1);
}

#endif
