/* SPDX-License-Identifier: Apache-2.0 */
/**
 * failover.c: a balancer of one's own: the first server of the list that works. A server that did
 * not accept a connection rests for two seconds, on this worker; meanwhile, and for the request
 * that found out, the next one is used.
 *
 *   cc failover.c $(pkg-config --cflags --libs weir) -o failover
 *   ./failover 127.0.0.1:8080 127.0.0.1:9001 127.0.0.1:9002
 */
#include <weir/weir.h>

#include <signal.h>
#include <stdio.h>
#include <time.h>

enum { REST_SECONDS = 2, SERVERS_MAX = 16 };

/* Of a worker; its requests share it without a lock. */
struct rest {
    time_t until[SERVERS_MAX]; /* by place in the cluster */
};

/* Of a request. */
struct choice {
    unsigned place; /* of the server that was chosen last */
};

static struct weir_proxy *proxy;

static time_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

static bool was_tried(const struct weir_peer_choice *choice, const struct weir_server *server)
{
    for (unsigned i = 0; i < choice->tried_count; i++)
        if (choice->tried[i] == server)
            return true;
    return false;
}

static enum weir_verdict failover_peer(struct weir_req *req, void *self,
                                       struct weir_peer_choice *choice)
{
    const struct rest *rest = weir_filter_worker(req, self);
    struct choice *mine = weir_filter_state(req, self);

    for (unsigned i = 0; i < weir_cluster_count(choice->cluster) && i < SERVERS_MAX; i++) {
        const struct weir_server *server = weir_cluster_server(choice->cluster, i);

        if (!weir_server_is_up(server) || was_tried(choice, server) || rest->until[i] > now())
            continue;
        choice->server = server;
        mine->place = i;
        return WEIR_NEXT;
    }
    return WEIR_NEXT; /* all rest: weir's own balancer takes one that was not tried */
}

static enum weir_verdict failover_fail_to_connect(struct weir_req *req, void *self,
                                                  const struct weir_error *error, bool *again)
{
    struct rest *rest = weir_filter_worker(req, self);
    const struct choice *mine = weir_filter_state(req, self);

    rest->until[mine->place] = now() + REST_SECONDS;
    *again = true; /* failover_peer runs once more, within the attempts of the route */
    return WEIR_NEXT;
}

static enum weir_verdict failover_response(struct weir_req *req, void *self,
                                           struct weir_message *answer)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%u", weir_req_attempts(req));
    int err = weir_message_set(answer, "x-attempts", (struct weir_str){ text, (size_t)len });

    return err ? weir_req_fail(req, (enum weir_err)err, WEIR_BY_US) : WEIR_NEXT;
}

static const struct weir_filter failover = {
    .size = sizeof(struct weir_filter),
    .name = "failover",
    .state_bytes = sizeof(struct choice),
    .worker_bytes = sizeof(struct rest),
    .upstream_peer = failover_peer,
    .fail_to_connect = failover_fail_to_connect,
    .response = failover_response,
};

static int set_up(const char *bind, const char *const *servers)
{
    const struct weir_filter_ref use = { &failover, NULL };
    int err;

    err = weir_proxy_add_upstream(
        proxy, &(struct weir_upstream_opts){ WEIR_SIZE(weir_upstream_opts), .name = "app",
                                             .servers = servers });
    if (!err)
        err = weir_proxy_add_route(proxy, &(struct weir_route_opts){ WEIR_SIZE(weir_route_opts),
                                                                     .name = "all", .to = "app",
                                                                     .attempts = 3, .filters = &use,
                                                                     .filter_count = 1 });
    if (!err)
        err = weir_proxy_add_listener(proxy,
                                      &(struct weir_listener_opts){ WEIR_SIZE(weir_listener_opts),
                                                                    .name = "web", .bind = bind });
    return err ? err : weir_proxy_start(proxy);
}

static void on_signal(int number)
{
    weir_proxy_quit(proxy);
}

int main(int argc, char **argv)
{
    int err;

    if (argc < 3)
        return fprintf(stderr, "usage: failover BIND SERVER...\n"), 2;
    proxy = weir_proxy_new(&(struct weir_proxy_opts){ WEIR_SIZE(weir_proxy_opts), .workers = 1 });
    err = proxy ? set_up(argv[1], (const char *const *)argv + 2) : WEIR_ENOMEM;
    if (err) {
        fprintf(stderr, "failover: %s: %s\n", weir_err_text((enum weir_err)err),
                proxy ? weir_proxy_fault(proxy) : "");
        return 1;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    printf("listening on port %u\n", weir_proxy_port(proxy, "web"));
    fflush(stdout);
    err = weir_proxy_run(proxy);
    weir_proxy_free(proxy);
    return err != 0;
}
