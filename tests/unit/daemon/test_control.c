/* SPDX-License-Identifier: Apache-2.0 */
/* The admin over its socket: a real service and the admin on a thread, a plain socket as client. */
#include "daemon/control.h"

#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

static const char text[] = "instance: test\n"
                           "listeners: { web: { bind: \"127.0.0.1:0\", to: app } }\n"
                           "upstreams:\n"
                           "  app: { servers: [ \"127.0.0.1:9\", \"unix:/tmp/no/such\" ] }\n"
                           "  \"a%?c\": { servers: [ \"127.0.0.1:9\" ] }\n"
                           "access: { never_ban: [ 10.0.0.0/8 ] }\n";

struct bench {
    struct weir_conf *conf;
    struct weir_log *log;
    struct weir_loop loop;
    struct weir_service *service;
    struct weir_control *control;
    pthread_t thread;
    char dir[64], path[96];
    _Atomic int drains;
};

static struct bench bench;

static void drop_line(void *arg, enum weir_log_level level, const char *line, size_t len)
{
    (void)arg;
    (void)level;
    (void)line;
    (void)len;
}

static void on_drain(void *arg)
{
    struct bench *b = arg;

    b->drains++;
    weir_control_set_state(b->control, WEIR_CONTROL_DRAINING);
    weir_control_drained(b->control, true, 7);
}

static void *run(void *arg)
{
    weir_loop_run(&((struct bench *)arg)->loop);
    return NULL;
}

static int set_up(void **state)
{
    struct weir_log_opts log = { .size = sizeof(log), .level = WEIR_LOG_INFO, .fn = drop_line };
    struct weir_service_opts opts = { 0 };
    struct weir_control_opts control = { 0 };
    struct weir_tls_fault fault = { "" };
    struct weir_diags diags;

    (void)state;
    weir_diags_init(&diags);
    if (weir_conf_load_text("test.yaml", text, sizeof(text) - 1, NULL, &bench.conf, &diags) != 0) {
        weir_diags_print(&diags, stderr, false);
        return -1;
    }
    weir_diags_fini(&diags);
    strcpy(bench.dir, "/tmp/weir-test-XXXXXX");
    if (!mkdtemp(bench.dir))
        return -1;
    snprintf(bench.path, sizeof(bench.path), "%s/admin.sock", bench.dir);
    bench.log = opts.log = weir_log_new(&log);
    bench.service = weir_service_new(&bench.conf->proxy, &opts, &fault);
    if (!bench.service || weir_service_open(bench.service, &fault) != 0 ||
        weir_service_start(bench.service) != 0 || weir_loop_init(&bench.loop, 0, bench.log) != 0) {
        fprintf(stderr, "%s\n", fault.text);
        return -1;
    }
    control.loop = &bench.loop;
    control.log = bench.log;
    control.conf = bench.conf;
    control.service = bench.service;
    control.on_drain = on_drain;
    control.arg = &bench;
    bench.control = weir_control_new(&control);
    if (weir_control_open(bench.control, bench.path, &fault) != 0)
        return -1;
    weir_control_set_state(bench.control, WEIR_CONTROL_READY);
    return pthread_create(&bench.thread, NULL, run, &bench);
}

static int tear_down(void **state)
{
    (void)state;
    weir_loop_stop(&bench.loop);
    pthread_join(bench.thread, NULL);
    assert_true(weir_control_quiesce(bench.control, 2000));
    weir_control_close(bench.control);
    for (int i = 0; i < 100 && !weir_control_idle(bench.control); i++)
        weir_loop_turn(&bench.loop, 10);
    weir_control_free(bench.control);
    weir_service_stop(bench.service);
    weir_service_free(bench.service);
    weir_loop_turn(&bench.loop, 0);
    weir_loop_fini(&bench.loop);
    weir_log_free(bench.log);
    weir_conf_free(bench.conf);
    return rmdir(bench.dir); /* the socket is gone */
}

/* ---- a client ------------------------------------------------------------------------------ */

static int dial(void)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct timeval wait = { .tv_sec = 5 };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(addr.sun_path, bench.path);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    return fd;
}

static void put(int fd, const char *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

/* Everything until the daemon closes; static. */
static const char *drain(int fd)
{
    static char answer[1024 * 1024];
    size_t len = 0;
    ssize_t n;

    while (len < sizeof(answer) - 1 &&
           (n = recv(fd, answer + len, sizeof(answer) - 1 - len, 0)) > 0)
        len += (size_t)n;
    answer[len] = '\0';
    close(fd);
    return answer;
}

static const char *ask(const char *method, const char *target, const char *body)
{
    char request[2048];
    int fd = dial(), n;

    n = snprintf(
        request, sizeof(request),
        "%s %s HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
        method, target, strlen(body), body);
    put(fd, request, (size_t)n);
    return drain(fd);
}

static void says(const char *method, const char *target, const char *body, int status,
                 const char *expected)
{
    const char *answer = ask(method, target, body);
    char line[32];

    snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
    if (strncmp(answer, line, strlen(line)) != 0 || !strstr(answer, expected))
        fail_msg("%s %s %s: %s", method, target, body, answer);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void reads(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(stat(bench.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    says("GET", "/healthz", "", 200, "ok");
    says("GET", "/readyz", "", 200, "ready");
    says("GET", "/", "", 200, "<!doctype html>");
    says("GET", "/metrics", "", 200, "# TYPE weir_requests_in_flight gauge");
    says("GET", "/v1/status", "", 200, "\"instance\":\"test\"");
    says("GET", "/v1/connections", "", 200, "\"total\":0");
    says("GET", "/v1/connections?limit=x", "", 400, "limit is a number");
    says("GET", "/v1/upstreams", "", 200, "\"unix:/tmp/no/such\"");
    says("GET", "/v1/pools", "", 200, "\"upstream\":\"a%?c\"");
    says("GET", "/v1/routes", "", 200, "\"to\":\"app\"");
    says("GET", "/v1/certs", "", 200, "[]");
    says("GET", "/v1/bans", "", 200, "[]");
    says("GET", "/v1/config", "", 200, "never_ban");
    says("GET", "/v1/config?diff", "", 200, "[]");
}

static void every_answer_is_json(void **state)
{
    static const char *const targets[] = { "/v1/status", "/v1/connections", "/v1/upstreams",
                                           "/v1/pools",  "/v1/routes",      "/v1/certs",
                                           "/v1/bans",   "/v1/config",      "/v1/nothing" };

    (void)state;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        const char *body = strstr(ask("GET", targets[i], ""), "\r\n\r\n");
        json_t *json;

        assert_non_null(body);
        json = json_loads(body + 4, 0, NULL);
        assert_non_null(json);
        json_decref(json);
    }
}

static void refuses(void **state)
{
    (void)state;
    says("GET", "/v2", "", 404, "there is no /v2");
    says("GET", "/v1/%zz", "", 400, "malformed");
    says("GET", "/v1/%00", "", 400, "");
    says("GET", "/a/b/c/d/e/f/g/h/i/j", "", 400, "malformed");
    says("PUT", "/v1/status", "", 405, "allow: GET");
    says("DELETE", "/v1/drain", "", 405, "allow: POST");
    says("PUT", "/v1/log-level", "", 400, "not a JSON object");
    says("PUT", "/v1/log-level", "[]", 400, "not a JSON object");
    says("PUT", "/v1/log-level", "{\"level\":\"loud\"}", 400, "level is one of");
    says("PUT", "/v1/log-level", "{\"levl\":\"info\"}", 400, "unknown key 'levl'");
    says("PUT", "/v1/upstreams/no/servers/127.0.0.1:9", "{\"weight\":1}", 404, "no upstream 'no'");
    says("PUT", "/v1/upstreams/app/servers/1.1.1.1:1", "{\"weight\":1}", 404, "has no server");
    says("POST", "/v1/bans", "{}", 400, "say \\\"prefix\\\"");
    says("POST", "/v1/bans", "{\"prefix\":\"10.0.0.1/8\"}", 400, "is not a prefix");
    says("POST", "/v1/bans", "{\"prefix\":\"10.1.0.0/16\"}", 409, "never_ban");
    says("POST", "/v1/bans", "{\"prefix\":\"192.0.2.0/24\",\"asker\":\"192.0.2.9\"}", 409, "asks");
    says("DELETE", "/v1/bans?prefix=192.0.2.0%2F24", "", 404, "is not banned");
    says("DELETE", "/v1/bans", "", 400, "say which");
}

/* A change with one wrong part changes nothing. */
static void whole_or_not(void **state)
{
    const char *target = "/v1/upstreams/app/servers/127.0.0.1:9";

    (void)state;
    says("PUT", target, "{\"weight\":5,\"state\":\"gone\"}", 400, "state is");
    says("PUT", target, "{\"weight\":1001,\"state\":\"drain\"}", 400, "weight is");
    says("PUT", target, "{\"weight\":5.5}", 400, "weight is");
    says("GET", "/v1/config?diff", "", 200, "[]");
}

static void changes(void **state)
{
    (void)state;
    says("PUT", "/v1/upstreams/app/servers/127.0.0.1:9", "{\"weight\":5,\"state\":\"drain\"}", 200,
         "ok");
    says("PUT", "/v1/upstreams/app/servers/unix:%2Ftmp%2fno%2Fsuch", "{\"weight\":0}", 200, "ok");
    says("PUT", "/v1/upstreams/a%25%3fc/servers/127.0.0.1%3A9", "{\"weight\":3}", 200, "ok");
    says("PUT", "/v1/log-level", "{\"level\":\"debug\"}", 200, "ok");
    says("POST", "/v1/bans",
         "{\"prefix\":\"192.0.2.0/24\",\"for_ms\":60000,\"why\":\"\\u00e9\\\"\"}", 200, "ok");
    says("GET", "/v1/bans", "", 200, "\"prefix\":\"192.0.2.0/24\"");
    says("GET", "/v1/config?diff", "", 200, "app/127.0.0.1:9 weight\",\"file\":1,\"now\":5");
    says("GET", "/v1/config?diff", "", 200, "a%?c/127.0.0.1:9 weight");
    says("GET", "/v1/config?diff", "", 200, "\"file\":\"info\",\"now\":\"debug\"");
    says("DELETE", "/v1/bans?prefix=192.0.2.0/24", "", 200, "ok");
    says("PUT", "/v1/upstreams/app/servers/127.0.0.1:9", "{\"weight\":1,\"state\":\"ready\"}", 200,
         "ok");
    says("PUT", "/v1/upstreams/app/servers/unix:%2Ftmp%2fno%2Fsuch", "{\"weight\":1}", 200, "ok");
    says("PUT", "/v1/upstreams/a%25%3fc/servers/127.0.0.1%3A9", "{\"weight\":1}", 200, "ok");
    says("PUT", "/v1/log-level", "{\"level\":\"info\"}", 200, "ok");
    says("GET", "/v1/config?diff", "", 200, "[]");
}

static void wire(const char *bytes, const char *expected)
{
    int fd = dial();
    const char *answer;

    put(fd, bytes, strlen(bytes));
    shutdown(fd, SHUT_WR);
    answer = drain(fd);
    if (!strstr(answer, expected))
        fail_msg("%s: %s", bytes, answer);
}

static void hostile_bytes(void **state)
{
    static char big[128 * 1024];
    int n;

    (void)state;
    wire("nonsense\r\n\r\n", "HTTP/1.1 400");
    wire("GET / HTTP/1.1\r\nHost : x\r\n\r\n", "HTTP/1.1 400");
    wire("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400");
    wire("PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nx",
         "HTTP/1.1 413");
    n = snprintf(big, sizeof(big),
                 "PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "%x\r\n",
                 100000);
    memset(big + n, ' ', 100000);
    wire(big, "HTTP/1.1 413");
    wire("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n",
         "ready");
    wire("PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
         "16\r\n\r\n"
         "{\"level\":\"info\"}",
         "HTTP/1.1 100 Continue");
    wire("HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "Content-Length: 3");
    says("GET", "/healthz", "", 200, "ok");
}

static void byte_by_byte(void **state)
{
    static const char request[] = "PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                  "Content-Length: 16\r\n\r\n{\"level\":\"info\"}";
    int fd = dial();

    (void)state;
    for (size_t i = 0; i < sizeof(request) - 1; i++)
        put(fd, request + i, 1);
    assert_non_null(strstr(drain(fd), "HTTP/1.1 200"));
}

static void many_clients(void **state)
{
    int fds[80];

    (void)state;
    for (int i = 0; i < 80; i++)
        fds[i] = dial();
    for (int i = 0; i < 80; i++)
        close(fds[i]);
    usleep(50 * 1000);
    says("GET", "/healthz", "", 200, "ok");
}

static void drains(void **state)
{
    (void)state;
    says("POST", "/v1/drain", "", 200, "{\"drained\":true,\"took_ms\":7}");
    assert_int_equal(bench.drains, 1);
    says("GET", "/readyz", "", 503, "draining");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),        cmocka_unit_test(every_answer_is_json),
        cmocka_unit_test(refuses),      cmocka_unit_test(whole_or_not),
        cmocka_unit_test(changes),      cmocka_unit_test(hostile_bytes),
        cmocka_unit_test(byte_by_byte), cmocka_unit_test(many_clients),
        cmocka_unit_test(drains),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
