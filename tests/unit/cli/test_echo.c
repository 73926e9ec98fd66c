/* SPDX-License-Identifier: Apache-2.0 */
/* The demo upstream over real sockets: its loop on a thread, a blocking client here. */
#include "cli/echo.h"

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

static struct weir_loop loop;
static struct weir_echo *echo;
static pthread_t thread;
static uint16_t port;
static char answer[8 * 1024 * 1024];
static size_t answer_len;

static void *run(void *arg)
{
    weir_loop_run(arg);
    return NULL;
}

static int set_up(void **state)
{
    struct weir_echo_opts opts = { .loop = &loop, .conns_max = 64 };
    struct weir_addr addr;
    int fd;

    (void)state;
    if (weir_loop_init(&loop, 0, NULL) != 0 || weir_addr_parse(&addr, WEIR_STR("127.0.0.1:0")) != 0)
        return -1;
    echo = weir_echo_new(&opts);
    fd = weir_echo_listen(echo, &addr);
    if (fd < 0)
        return -1;
    getsockname(fd, &addr.sa, &addr.len);
    port = weir_addr_port(&addr);
    return pthread_create(&thread, NULL, run, &loop);
}

static int tear_down(void **state)
{
    (void)state;
    weir_loop_stop(&loop);
    pthread_join(thread, NULL);
    weir_echo_close(echo);
    for (int i = 0; i < 100 && weir_echo_conns(echo) > 0; i++)
        weir_loop_turn(&loop, 10);
    assert_int_equal(weir_echo_conns(echo), 0);
    weir_echo_free(echo);
    weir_loop_turn(&loop, 0);
    weir_loop_fini(&loop);
    return 0;
}

static int dial(void)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct timeval wait = { .tv_sec = 10 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    return fd;
}

static void put(int fd, const char *text)
{
    size_t len = strlen(text);

    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), len);
}

static const char *drain(int fd)
{
    ssize_t n;

    answer_len = 0;
    while (answer_len < sizeof(answer) - 1 &&
           (n = recv(fd, answer + answer_len, sizeof(answer) - 1 - answer_len, 0)) > 0)
        answer_len += (size_t)n;
    answer[answer_len] = '\0';
    close(fd);
    return answer;
}

static const char *ask(const char *request)
{
    int fd = dial();

    put(fd, request);
    shutdown(fd, SHUT_WR);
    return drain(fd);
}

static void says(const char *request, const char *expected)
{
    const char *got = ask(request);

    if (!strstr(got, expected))
        fail_msg("%s: %s", request, got);
}

static void tells_back(void **state)
{
    (void)state;
    says("GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Y: z\r\n\r\n", "GET /a?b=c HTTP/1.1\n");
    says("GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Y: z\r\n\r\n", "X-Y: z\n");
    says("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", "\n\nbody");
    says("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
         "4\r\nbody\r\n0\r\n\r\n");
    says("POST / HTTP/1.1\r\nHost: x\r\nAccept: text/html, application/json;q=0.5\r\n"
         "Content-Length: 4\r\n\r\nbo\xff\"",
         "\"body\": \"bo\xc3\xbf\\\"\"");
    says("GET /headers HTTP/1.0\r\nHost: x\r\n\r\n", "\"Host\",");
}

static void paths(void **state)
{
    (void)state;
    says("GET /status/404 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 Not Found");
    says("GET /status/204 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 204 No Content");
    says("GET /status/99 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 ");
    says("GET /delay/30 HTTP/1.1\r\nHost: x\r\n\r\n", "waited 30 ms");
    says("GET /bytes/0 HTTP/1.1\r\nHost: x\r\n\r\n", "Content-Length: 0");
    says("HEAD /bytes/77 HTTP/1.1\r\nHost: x\r\n\r\n", "Content-Length: 77");
    says("GET /bytes/x HTTP/1.1\r\nHost: x\r\n\r\n", "GET /bytes/x");
    ask("GET /bytes/5000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(answer_len > 5000000 && answer_len < 5000300);
}

static void keeps_alive(void **state)
{
    const char *got;

    (void)state;
    got = ask("GET /status/200 HTTP/1.1\r\nHost: x\r\n\r\n"
              "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
              "GET /delay/20 HTTP/1.1\r\nHost: x\r\n\r\n"
              "GET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
              "GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(got, "200 OK\n"));
    assert_non_null(strstr(got, "\n\nhiHTTP/1.1 200"));
    assert_non_null(strstr(got, "waited 20 ms\nHTTP/1.1 200"));
    assert_non_null(strstr(got, "GET /c HTTP/1.1"));
    assert_null(strstr(got, "/never"));
}

static void expects_continue(void **state)
{
    (void)state;
    says("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200");
}

/* Megabytes each way at once, while the client does not read for a while. */
static void back_pressure(void **state)
{
    enum { BYTES = 4 * 1024 * 1024 };
    static char body[BYTES];
    size_t sent = 0, got = 0;
    int fd = dial();
    ssize_t n;

    (void)state;
    for (size_t i = 0; i < BYTES; i++)
        body[i] = (char)('a' + i % 23);
    put(fd, "PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4194304\r\n\r\n");
    while ((n = send(fd, body + sent, BYTES - sent, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
        sent += (size_t)n;
    usleep(30 * 1000);
    do { /* until the connection ends: the answer is its body and a head */
        n = sent < BYTES ? send(fd, body + sent, BYTES - sent, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        sent += n > 0 ? (size_t)n : 0;
        n = recv(fd, answer + got, sizeof(answer) - got, sent < BYTES ? MSG_DONTWAIT : 0);
        got += n > 0 ? (size_t)n : 0;
    } while (n > 0 || (n < 0 && sent < BYTES));
    close(fd);
    assert_int_equal(sent, BYTES);
    assert_true(got > BYTES);
    assert_memory_equal(answer + got - BYTES, body, BYTES);
}

static void malformed(void **state)
{
    (void)state;
    says("GET / HTTP/1.1\r\nHost : x\r\n\r\n", "HTTP/1.1 400 ");
    says("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
    says("GET / HTTP/3.0\r\nHost: x\r\n\r\n", "HTTP/1.1 ");
    says("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 ");
    assert_int_equal(strlen(ask("")), 0);
    assert_int_equal(strlen(ask("GET / HT")), 0);
    says("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK");
}

static void web_socket(void **state)
{
    static const char handshake[] = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                                    "\x81\x82\x01\x02\x03\x04"
                                    "ik" /* "hi" masked, in the same packet */
                                    "\x88\x80\x01\x02\x03\x04";
    const char *got;

    (void)state;
    got = ask(handshake);
    assert_non_null(strstr(got, "HTTP/1.1 101 "));
    assert_non_null(strstr(got, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_memory_equal(got + answer_len - 6, "\x81\x02hi\x88\x00", 6);
    says("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
         "sec-websocket-version: 13");
    says("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n",
         "HTTP/1.1 400 ");
}

/* A client that goes away in every state leaves nothing behind (tear_down counts). */
static void clients_that_leave(void **state)
{
    static const char *const parts[] = {
        "", "GET / HTT", "GET /delay/5000 HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
        "GET /bytes/100000000 HTTP/1.1\r\nHost: x\r\n\r\n"
    };
    struct linger now = { .l_onoff = 1 };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(parts) / sizeof(parts[0]); i++) {
        int fd = dial();

        put(fd, parts[i / 2]);
        usleep(5000);
        if (i % 2) /* by RST */
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(fd);
    }
    says("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_back),    cmocka_unit_test(paths),
        cmocka_unit_test(keeps_alive),   cmocka_unit_test(expects_continue),
        cmocka_unit_test(back_pressure), cmocka_unit_test(malformed),
        cmocka_unit_test(web_socket),    cmocka_unit_test(clients_that_leave),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
