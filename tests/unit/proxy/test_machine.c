/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The machine whole: sessions over loopback, an upstream that answers by path, and a filter that
 * does one thing in one phase. Each phase times each verdict; errors at bad moments; a worker whose
 * n-th allocation fails.
 */
#include "machine_kit.h"

/* ---- a filter that does one thing in one phase ---- */

enum phase {
    EARLY,
    REQUEST,
    PEER,
    CONNECTED,
    UP_REQUEST,
    REQUEST_BODY,
    UP_RESPONSE,
    RESPONSE,
    RESPONSE_BODY,
    CONNECT_FAILED,
    PROXY_ERROR,
    PROXY_FAILED,
    PHASES
};
enum action {
    ANSWER,
    FAIL,
    SLEEP,
    WAKE_NEXT,
    WAKE_FAIL,
    WAKE_REPEAT_ANSWER,
    OFFLOAD_NEXT,
    OFFLOAD_ANSWER,
    WAIT_FOR_NOTHING,
    PARK_AND_GO_ON,
    ACTIONS
};

static struct script {
    _Atomic int phase, action; /* enum phase, enum action */
    _Atomic bool off;
    _Atomic unsigned called, cancelled, logged;
} script;

struct state {
    bool done;
    struct weir_wake wake;
};

static void *waker(void *arg)
{
    struct weir_wake *wake = arg;

    spared = true;
    usleep(10 * 1000);
    weir_req_wake(*wake, script.action == WAKE_FAIL            ? WEIR_FAIL
                         : script.action == WAKE_REPEAT_ANSWER ? WEIR_REPEAT
                                                               : WEIR_NEXT);
    free(wake);
    return NULL;
}

static void on_cancel(struct weir_req *req, void *arg)
{
    (void)req;
    (void)arg;
    script.cancelled++;
}

static enum weir_verdict wait_for_waker(struct weir_req *req)
{
    struct weir_wake *wake = __real_malloc(sizeof(*wake));
    pthread_t thread;

    *wake = weir_req_park(req, on_cancel, NULL);
    if (pthread_create(&thread, NULL, waker, wake))
        abort();
    pthread_detach(thread);
    return WEIR_WAIT;
}

static enum weir_verdict teapot(struct weir_req *req)
{
    return weir_req_reply(req, 418, weir_str("teapot\n"));
}

static void work(void *arg)
{
    usleep(5000);
    *(int *)arg = 1;
}

static enum weir_verdict worked(struct weir_req *req, void *arg)
{
    assert_int_equal(*(int *)arg, 1);
    return script.action == OFFLOAD_ANSWER ? teapot(req) : WEIR_NEXT;
}

static enum weir_verdict offload(struct weir_req *req)
{
    int *arg = weir_req_alloc(req, sizeof(*arg));

    return arg ? weir_req_offload(req, work, worked, arg)
               : weir_req_fail(req, WEIR_ENOMEM, WEIR_BY_US);
}

static enum weir_verdict act(struct weir_req *req, void *self, enum phase phase)
{
    struct state *state = weir_filter_state(req, self);

    if (!state)
        return weir_req_fail(req, WEIR_ENOMEM, WEIR_BY_US);
    if (script.off || (int)phase != script.phase || state->done) {
        if (state->done && (int)phase == script.phase && script.action == WAKE_REPEAT_ANSWER &&
            phase != REQUEST_BODY && phase != RESPONSE_BODY)
            return teapot(req);
        return WEIR_NEXT;
    }
    script.called++;
    state->done = true;
    switch ((int)script.action) {
    case ANSWER:
        return teapot(req);
    case FAIL:
        return weir_req_fail(req, WEIR_EFILTER, WEIR_BY_US);
    case SLEEP:
        return weir_req_sleep(req, 10);
    case OFFLOAD_NEXT:
    case OFFLOAD_ANSWER:
        return offload(req);
    case WAIT_FOR_NOTHING:
        return WEIR_WAIT;
    case PARK_AND_GO_ON:
        wait_for_waker(req);
        return WEIR_NEXT;
    default:
        return wait_for_waker(req);
    }
}

static enum weir_verdict f_early(struct weir_req *req, void *self)
{
    return act(req, self, EARLY);
}
static enum weir_verdict f_request(struct weir_req *req, void *self)
{
    return act(req, self, REQUEST);
}
static enum weir_verdict f_peer(struct weir_req *req, void *self, struct weir_peer_choice *choice)
{
    (void)choice;
    return act(req, self, PEER);
}
static enum weir_verdict f_connected(struct weir_req *req, void *self,
                                     const struct weir_server *server, bool reused)
{
    (void)server;
    (void)reused;
    return act(req, self, CONNECTED);
}
static enum weir_verdict f_connect_failed(struct weir_req *req, void *self,
                                          const struct weir_error *error, bool *again)
{
    (void)error;
    (void)again;
    return act(req, self, CONNECT_FAILED);
}
static enum weir_verdict f_up_request(struct weir_req *req, void *self, struct weir_message *up)
{
    (void)up;
    return act(req, self, UP_REQUEST);
}
static enum weir_verdict f_request_body(struct weir_req *req, void *self, struct weir_str data,
                                        bool last, struct weir_body_out *out)
{
    (void)last;
    if (weir_body_emit(out, data))
        return weir_req_fail(req, WEIR_ENOMEM, WEIR_BY_US);
    return act(req, self, REQUEST_BODY);
}
static enum weir_verdict f_up_response(struct weir_req *req, void *self,
                                       struct weir_message *answer)
{
    (void)answer;
    return act(req, self, UP_RESPONSE);
}
static enum weir_verdict f_response(struct weir_req *req, void *self, struct weir_message *answer)
{
    (void)answer;
    return act(req, self, RESPONSE);
}
static enum weir_verdict f_response_body(struct weir_req *req, void *self, struct weir_str data,
                                         bool last, struct weir_body_out *out)
{
    if (weir_body_emit(out, data) || (last && weir_body_emit(out, weir_str("!"))))
        return weir_req_fail(req, WEIR_ENOMEM, WEIR_BY_US);
    return act(req, self, RESPONSE_BODY);
}
static enum weir_verdict f_proxy_error(struct weir_req *req, void *self,
                                       const struct weir_error *error, bool *again)
{
    (void)error;
    (void)again;
    return act(req, self, PROXY_ERROR);
}
static enum weir_verdict f_proxy_failed(struct weir_req *req, void *self,
                                        const struct weir_error *error)
{
    (void)error;
    return act(req, self, PROXY_FAILED);
}
static void f_logging(struct weir_req *req, void *self)
{
    (void)req;
    (void)self;
    script.logged++;
}

static const struct weir_filter actor = { .size = sizeof(actor),
                                          .name = "actor",
                                          .state_bytes = sizeof(struct state),
                                          .early_request = f_early,
                                          .request = f_request,
                                          .upstream_peer = f_peer,
                                          .connected_to_upstream = f_connected,
                                          .fail_to_connect = f_connect_failed,
                                          .upstream_request = f_up_request,
                                          .request_body = f_request_body,
                                          .upstream_response = f_up_response,
                                          .response = f_response,
                                          .response_body = f_response_body,
                                          .error_while_proxy = f_proxy_error,
                                          .fail_to_proxy = f_proxy_failed,
                                          .logging = f_logging };

/* Another with the same `self` (NULL) and no state, before it. */
static enum weir_verdict pass(struct weir_req *req, void *self, struct weir_str data, bool last,
                              struct weir_body_out *out)
{
    (void)req;
    (void)self;
    (void)last;
    for (size_t i = 0; i < data.len; i++) /* byte by byte, and no look at what comes back */
        if (weir_body_emit(out, (struct weir_str){ data.ptr + i, 1 }))
            return WEIR_NEXT;
    return WEIR_NEXT;
}

static const struct weir_filter passer = {
    .size = sizeof(passer), .name = "pass", .request_body = pass, .response_body = pass
};

/* Of a route without an upstream: chooses one, answers, or neither. */
static enum weir_verdict choose(struct weir_req *req, void *self)
{
    struct weir_str path = weir_message_path(weir_req_request(req));

    (void)self;
    if (weir_str_is(path, "/own/tea"))
        return teapot(req);
    if (weir_str_is(path, "/own/app") && weir_req_set_upstream(req, weir_str("app")))
        return weir_req_fail(req, WEIR_EFILTER, WEIR_BY_US);
    return WEIR_NEXT;
}

static enum weir_verdict choose_late(struct weir_req *req, void *self, struct weir_message *up)
{
    (void)self;
    (void)up;
    return weir_req_set_upstream(req, weir_str("dead")) == WEIR_EINVAL
               ? WEIR_NEXT
               : weir_req_fail(req, WEIR_EFILTER, WEIR_BY_US);
}

static const struct weir_filter chooser = {
    .size = sizeof(chooser), .name = "choose", .request = choose, .upstream_request = choose_late
};

/* ---- the proxy ---- */

static struct weir_proxy *proxy;
static unsigned port;

static void add_upstream(const char *name, unsigned up)
{
    char text[32];
    const char *servers[] = { text, NULL };

    snprintf(text, sizeof(text), "127.0.0.1:%u", up);
    assert_int_equal(weir_proxy_add_upstream(
                         proxy, &(struct weir_upstream_opts){ WEIR_SIZE(weir_upstream_opts),
                                                              .name = name, .servers = servers }),
                     0);
}

static void add_route(const char *name, const char *path, const char *to,
                      const struct weir_filter_ref *uses, size_t count)
{
    assert_int_equal(
        weir_proxy_add_route(
            proxy, &(struct weir_route_opts){ WEIR_SIZE(weir_route_opts), .name = name,
                                              .path = path, .to = to, .filters = uses,
                                              .filter_count = count, .connect_timeout_ms = 300 }),
        0);
}

static int full_fd, full_fill[4];

/* A listener of bytes with one route of its own. */
static void add_raw(const char *name, const char *to, const struct weir_filter_ref *uses,
                    size_t count)
{
    assert_int_equal(
        weir_proxy_add_route(
            proxy, &(struct weir_route_opts){ WEIR_SIZE(weir_route_opts), .name = name,
                                              .listener = name, .to = to, .filters = uses,
                                              .filter_count = count, .connect_timeout_ms = 300 }),
        0);
    assert_int_equal(
        weir_proxy_add_listener(
            proxy, &(struct weir_listener_opts){ WEIR_SIZE(weir_listener_opts), .name = name,
                                                 .bind = "127.0.0.1:0", .tcp = true }),
        0);
}

static int set_up(void **state)
{
    static const struct weir_filter_ref uses[] = { { &passer, NULL }, { &actor, NULL } };
    static const struct weir_filter_ref own[] = { { &chooser, NULL } };
    struct weir_proxy_opts opts = { WEIR_SIZE(weir_proxy_opts), .workers = 1, .drain_ms = 1000 };
    unsigned dead, full;
    pthread_t thread;

    (void)state;
    spared = true;
    up_fd = listen_on(64, &up_port);
    assert_int_equal(pthread_create(&thread, NULL, up_accept, NULL), 0);
    pthread_detach(thread);
    close(listen_on(1, &dead));
    full_fd = listen_on(0, &full);
    for (size_t i = 0; i < 4; i++) { /* nobody accepts: the next ones wait for ever */
        struct sockaddr_in addr = { .sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                    .sin_port = htons((uint16_t)full) };

        full_fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(full_fill[i], (struct sockaddr *)&addr, sizeof(addr));
    }
    proxy = weir_proxy_new(&opts);
    add_upstream("app", up_port);
    add_upstream("dead", dead);
    add_upstream("full", full);
    add_route("filtered", "/f/", "app", uses, 2);
    add_route("dead", "/dead/", "dead", uses, 2);
    add_route("full", "/full/", "full", NULL, 0);
    add_route("plain", "/p/", "app", NULL, 0);
    add_route("own", "/own/", NULL, own, 1);
    assert_int_equal(
        weir_proxy_add_listener(proxy, &(struct weir_listener_opts){ WEIR_SIZE(weir_listener_opts),
                                                                     .name = "web",
                                                                     .bind = "127.0.0.1:0" }),
        0);
    add_raw("raw", "app", uses, 2);
    add_raw("raw-dead", "dead", uses, 2);
    add_raw("raw-full", "full", NULL, 0);
    assert_int_equal(weir_proxy_start(proxy), 0);
    port = weir_proxy_port(proxy, "web");
    return 0;
}

/* The whole of one exchange by a listener of bytes: how much came; -1: RST. */
static ssize_t ask_raw(const char *listener, const char *request, char *text, size_t room)
{
    int fd = try_dial(weir_proxy_port(proxy, listener));
    size_t have = 0;
    ssize_t n = 1;

    if (fd < 0)
        return -1;
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
        n = -1; /* told now, it would not be told again */
    shutdown(fd, SHUT_WR);
    while (n > 0 && have + 1 < room && (n = recv(fd, text + have, room - have - 1, 0)) > 0)
        have += (size_t)n;
    text[have] = 0;
    close(fd);
    assert_true(n >= 0 || errno != EAGAIN); /* nothing hangs */
    return n < 0 ? -1 : (ssize_t)have;
}

static int tear_down(void **state)
{
    (void)state;
    weir_proxy_free(proxy);
    shutdown(up_fd, SHUT_RDWR);
    for (size_t i = 0; i < 4; i++)
        close(full_fill[i]);
    close(full_fd);
    return 0;
}

/* The status of one request on a connection of its own; 0: none came. *text is the whole answer. */
static int ask(const char *request, char *text, size_t room)
{
    int fd = dial(port), status = 0;

    say(fd, request);
    hear(fd, text, room);
    sscanf(text, "HTTP/1.1 %d", &status);
    close(fd);
    return status;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
#define POST(path) \
    "POST " path " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"

static void still_serves(void)
{
    char text[4096];

    script.off = true;
    assert_int_equal(ask(POST("/f/x"), text, sizeof(text)), 200);
    assert_non_null(strstr(text, "chunked"));
    script.off = false;
}

/* ---- tests ---- */

/* The head has left while the filter waited: what fails then is cut. */
static bool is_cut(enum phase phase, enum action action)
{
    return phase == RESPONSE_BODY && (action == WAKE_FAIL || action == OFFLOAD_ANSWER);
}

static int expected(enum phase phase, enum action action)
{
    int fine = phase == CONNECT_FAILED || phase == PROXY_ERROR || phase == PROXY_FAILED ? 502 : 200;

    if (is_cut(phase, action))
        return 200;
    switch (action) {
    case ANSWER:
    case OFFLOAD_ANSWER:
        return 418;
    case WAKE_REPEAT_ANSWER: /* not for body filters */
        return phase == REQUEST_BODY || phase == RESPONSE_BODY ? fine : 418;
    case FAIL:
    case WAKE_FAIL:
    case WAIT_FOR_NOTHING:
        return fine == 502 ? 0 : 500;
    default:
        return fine;
    }
}

static void test_phases(void **state)
{
    char text[8192];

    (void)state;
    for (int phase = 0; phase < PHASES; phase++)
        for (int action = 0; action < ACTIONS; action++) {
            const char *request = phase == CONNECT_FAILED || phase == PROXY_FAILED ? POST("/dead/x")
                                  : phase == PROXY_ERROR ? POST("/f/close")
                                                         : POST("/f/x");
            int want = expected((enum phase)phase, (enum action)action), status;

            script.phase = (enum phase)phase;
            script.action = (enum action)action;
            script.called = script.logged = 0;
            status = ask(request, text, sizeof(text));
            if (want ? status != want : status < 500)
                fail_msg("phase %d, action %d: %d instead of %d: %s", phase, action, status, want,
                         text);
            if (is_cut((enum phase)phase, (enum action)action))
                assert_null(strstr(text, "\r\n0\r\n\r\n"));
            assert_true(script.called >= 1);
            usleep(1000);
            assert_int_equal(script.logged, 1);
        }
    usleep(50 * 1000);
    still_serves();
}

/* The client leaves while a filter waits, in each phase. */
static void test_client_leaves(void **state)
{
    (void)state;
    for (int phase = 0; phase < PHASES; phase++)
        for (int action = SLEEP; action <= OFFLOAD_ANSWER; action++) {
            struct linger linger = { 1, 0 };
            int fd = dial(port);

            script.phase = (enum phase)phase;
            script.action = (enum action)action;
            say(fd, POST("/f/x"));
            usleep(3000);
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
            close(fd);
        }
    usleep(100 * 1000);
    still_serves();
}

/* What is answered at once, behind something that was not: all in one read. */
static void test_pipelined(void **state)
{
    char text[65536];
    int fd = dial(port), found = 0;

    (void)state;
    say(fd, "GET /p/slow HTTP/1.1\r\nHost: a\r\n\r\n");
    usleep(20 * 1000);
    for (int i = 0; i < 20; i++)
        say(fd, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    say(fd, GET("/p/x"));
    hear(fd, text, sizeof(text));
    close(fd);
    for (char *at = text; (at = strstr(at, " 404 ")); at++)
        found++;
    assert_int_equal(found, 20);
    assert_non_null(strstr(text + 1, "HTTP/1.1 200 OK"));
    still_serves();
}

/* The request ends while its connection is being made. */
static void test_fault_while_connecting(void **state)
{
    char text[4096];
    int fd = dial(port);

    (void)state;
    say(fd, "POST /full/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    usleep(30 * 1000);
    say(fd, "zz\r\n");
    hear(fd, text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 400"));
    close(fd);
    for (int i = 0; i < 8; i++) /* its memory is used again */
        assert_int_equal(ask(GET("/p/x"), text, sizeof(text)), 200);
    usleep(600 * 1000);
    still_serves();
}

/* A client that has said all it will say reads slowly: it gets all of it. */
static void test_half_closed_reader(void **state)
{
    static char text[1024 * 1024];
    int fd = dial(port), small = 4096;
    size_t have = 0;
    ssize_t n;

    (void)state;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    say(fd, "GET /p/big HTTP/1.1\r\nHost: a\r\n\r\n");
    shutdown(fd, SHUT_WR);
    usleep(200 * 1000);
    while ((n = recv(fd, text + have, sizeof(text) - have, 0)) > 0)
        have += (size_t)n;
    close(fd);
    assert_int_equal(n, 0);
    assert_true(have > 512 * 1024);
}

static void test_trailer_and_head(void **state)
{
    char text[4096];

    (void)state;
    script.off = true;
    assert_int_equal(
        ask("GET /f/trailer HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n",
            text, sizeof(text)),
        200);
    assert_non_null(strstr(text, "!\r\n0\r\nx-t: 1\r\n\r\n"));
    assert_int_equal(
        ask("HEAD /f/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", text, sizeof(text)), 200);
    assert_null(strstr(text, "ontent-Length"));
    assert_null(strchr(text, '!'));
    script.off = false;
}

static void test_no_upstream(void **state)
{
    char text[4096];

    (void)state;
    assert_int_equal(ask(GET("/own/app"), text, sizeof(text)), 200);
    assert_int_equal(ask(GET("/own/tea"), text, sizeof(text)), 418);
    assert_int_equal(ask(POST("/own/x"), text, sizeof(text)), 404);
    assert_non_null(strstr(text, "no route matches"));
}

/* The n-th allocation of the proxy fails, for every n: no crash, no hang, and the next one is served. */
static void test_no_memory(void **state)
{
    static const char *const requests[] = { POST("/f/x"), GET("/p/big"), POST("/dead/x") };
    static char text[1024 * 1024];

    (void)state;
    script.off = true;
    for (size_t r = 0; r < sizeof(requests) / sizeof(requests[0]); r++)
        for (long n = 1; n < 400; n++) {
            uint64_t start = weir_clock_us();
            long left;

            atomic_store(&fail_in, n);
            ask(requests[r], text, sizeof(text));
            left = atomic_exchange(&fail_in, 0);
            assert_true(weir_clock_us() - start < 4500000);
            if (left > 0)
                break;
        }
    still_serves();
}

/* Of bytes the phases about a connection run, with every verdict; what cannot be answered ends by RST. */
static void test_raw_phases(void **state)
{
    static const enum phase phases[] = { PEER, CONNECTED, CONNECT_FAILED };
    static char text[4096];

    (void)state;
    for (size_t p = 0; p < sizeof(phases) / sizeof(phases[0]); p++)
        for (int action = 0; action < ACTIONS; action++) {
            bool fails = phases[p] == CONNECT_FAILED;
            unsigned called = script.called;
            ssize_t have;

            script.phase = phases[p];
            script.action = action;
            have = ask_raw(fails ? "raw-dead" : "raw", GET("/p/x"), text, sizeof(text));
            assert_true(script.called > called);
            if (fails)
                assert_true(have <= 0);
            else if (action == SLEEP || action == WAKE_NEXT || action == OFFLOAD_NEXT)
                assert_true(have > 0 && strstr(text, "200 OK"));
            else if (action == ANSWER || action == FAIL || action == WAKE_FAIL)
                assert_int_equal(have, -1);
        }
    script.off = true;
    assert_true(ask_raw("raw", GET("/p/x"), text, sizeof(text)) > 0);
    script.off = false;
}

static void test_raw_connect(void **state)
{
    char text[256];
    int fd;

    (void)state;
    script.off = true;
    assert_int_equal(ask_raw("raw-dead", "x", text, sizeof(text)), -1);
    assert_int_equal(ask_raw("raw-full", "x", text, sizeof(text)), -1);
    fd = dial(weir_proxy_port(proxy, "raw-full")); /* the client does not wait for it */
    say(fd, "x");
    close(fd);
    script.off = false;
}

static void test_raw_no_memory(void **state)
{
    static const char *const listeners[] = { "raw", "raw-dead" };
    static char text[1024 * 1024];

    (void)state;
    script.off = true;
    for (size_t i = 0; i < 2; i++)
        for (long n = 1; n < 200; n++) {
            long left;

            atomic_store(&fail_in, n);
            ask_raw(listeners[i], GET("/p/big"), text, sizeof(text));
            left = atomic_exchange(&fail_in, 0);
            if (left > 0)
                break;
        }
    assert_true(ask_raw("raw", GET("/p/big"), text, sizeof(text)) > 512 * 1024);
    script.off = false;
    still_serves();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_fault_while_connecting),
        cmocka_unit_test(test_half_closed_reader),
        cmocka_unit_test(test_trailer_and_head),
        cmocka_unit_test(test_no_upstream),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_raw_phases),
        cmocka_unit_test(test_raw_connect),
        cmocka_unit_test(test_raw_no_memory),
    };

    return cmocka_run_group_tests_name("proxy/machine", tests, set_up, tear_down);
}
