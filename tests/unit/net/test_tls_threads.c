/* SPDX-License-Identifier: Apache-2.0 */
/** test_tls_threads.c: two loops in two threads share one policy, one client context and its
 * sessions, while ticket keys rotate. For the thread sanitizer. */
#include "tls_kit.h"

#include <pthread.h>

enum { THREADS = 2, ROUNDS = 60 };

static struct weir_tls_server *policy;
static struct weir_tls_client *client;
static struct weir_tls_sessions *sessions;

struct worker {
    pthread_t thread;
    unsigned id;
    int resumed, done;
};

static void *work(void *arg)
{
    static const char *const names[] = { "a.test", "b.test", "x.w.test" };
    struct worker *worker = arg;
    struct weir_loop *loop = malloc(sizeof(*loop));

    assert_non_null(loop);
    assert_int_equal(weir_loop_init(loop, worker->id, NULL), 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct kit_conn conn;

        kit_conn_start(&conn, loop, policy, client, names[i % 3], sessions);
        conn.server.answer = "pong";
        kit_conn_run(&conn);
        assert_int_equal(conn.server.opened, 1);
        kit_write(&conn.client, "ping");
        kit_conn_run(&conn);
        assert_int_equal(conn.client.received, 4);
        worker->resumed += conn.server.info.resumed;
        worker->done++;
        kit_conn_end(&conn);
        if (i % 8 == (int)worker->id)
            assert_int_equal(weir_tls_server_rotate(policy), 0);
    }
    weir_loop_fini(loop);
    free(loop);
    return NULL;
}

static void test_shared_policy(void **state)
{
    struct worker workers[THREADS] = { { .id = 0 }, { .id = 1 } };

    kit_dir_make(state);
    policy = kit_server((struct weir_tls_server_conf){ .tickets = true },
                        kit_pem("a.pem", "a", "DNS:a.test", false, 30, NULL),
                        kit_pem("b.pem", "b", "DNS:b.test", false, 30, NULL),
                        kit_pem("w.pem", "w", "DNS:*.w.test", false, 30, NULL));
    client = kit_client((struct weir_tls_client_conf){ .verify = false });
    sessions = weir_tls_sessions_new();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(workers[i].done, ROUNDS);
        assert_true(workers[i].resumed > ROUNDS / 4);
    }
    weir_tls_sessions_free(sessions);
    weir_tls_client_put(client);
    weir_tls_server_put(policy);
    kit_dir_drop(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_shared_policy) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
