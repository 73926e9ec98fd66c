/* SPDX-License-Identifier: Apache-2.0 */
/**
 * gateway.c: a gateway in 80 lines. Requests with "x-version: 2" go to another upstream,
 * /api/… is known to the upstreams as /…, and each answer says which server made it.
 *
 *   cc gateway.c $(pkg-config --cflags --libs weir) -o gateway
 *   ./gateway 127.0.0.1:8080 127.0.0.1:9001 127.0.0.1:9002
 */
#include <weir/weir.h>

#include <signal.h>
#include <stdio.h>

static struct weir_proxy *proxy;

/* The route is known, nothing was sent yet. A phase says what happens next; it never blocks. */
static enum weir_verdict on_request(struct weir_req *req, void *self)
{
    struct weir_message *request = weir_req_request(req);
    struct weir_str path = weir_message_path(request);
    int err = 0;

    if (weir_str_is(weir_message_get(request, "x-version"), "2"))
        err = weir_req_set_upstream(req, WEIR_STR("v2"));
    if (!err && path.len > 4 && memcmp(path.ptr, "/api/", 5) == 0)
        err = weir_message_set_path(request, (struct weir_str){ path.ptr + 4, path.len - 4 },
                                    weir_message_query(request));
    return err ? weir_req_fail(req, (enum weir_err)err, WEIR_BY_US) : WEIR_NEXT;
}

/* The head that goes to the client. */
static enum weir_verdict on_response(struct weir_req *req, void *self, struct weir_message *answer)
{
    struct weir_str server = weir_req_server(req); /* absent when the answer is weir's own */
    int err = server.ptr ? weir_message_set(answer, "x-served-by", server) : 0;

    return err ? weir_req_fail(req, (enum weir_err)err, WEIR_BY_US) : WEIR_NEXT;
}

static const struct weir_filter gateway = { WEIR_SIZE(weir_filter), .name = "gateway",
                                            .request = on_request, .response = on_response };

static int set_up(const char *bind, const char *v1, const char *v2)
{
    const struct weir_filter_ref use = { &gateway, NULL };
    struct weir_upstream_opts one = { WEIR_SIZE(weir_upstream_opts), .name = "v1",
                                      .servers = (const char *[]){ v1, NULL } };
    struct weir_upstream_opts two = { WEIR_SIZE(weir_upstream_opts), .name = "v2",
                                      .servers = (const char *[]){ v2, NULL } };
    struct weir_route_opts all = { WEIR_SIZE(weir_route_opts), .name = "all", .to = "v1",
                                   .filters = &use, .filter_count = 1 };
    struct weir_listener_opts web = { WEIR_SIZE(weir_listener_opts), .name = "web", .bind = bind };

    return weir_proxy_add_upstream(proxy, &one) ?: weir_proxy_add_upstream(proxy, &two) ?:
           weir_proxy_add_route(proxy, &all) ?: weir_proxy_add_listener(proxy, &web) ?:
           weir_proxy_start(proxy);
}

static void on_signal(int number)
{
    weir_proxy_quit(proxy);
}

int main(int argc, char **argv)
{
    int err;

    if (argc != 4)
        return fprintf(stderr, "usage: gateway BIND V1 V2\n"), 2;
    proxy = weir_proxy_new(NULL);
    if (!proxy || set_up(argv[1], argv[2], argv[3]))
        return fprintf(stderr, "gateway: %s\n", proxy ? weir_proxy_fault(proxy) : "no memory"), 1;
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    printf("listening on port %u\n", weir_proxy_port(proxy, "web"));
    fflush(stdout);
    err = weir_proxy_run(proxy);
    weir_proxy_free(proxy);
    return err != 0;
}
