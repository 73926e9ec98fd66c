/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_stall.c: a client of HTTP/2 that asks for much and takes little, and then takes one stream as fast as it comes.
 * slow_streams.py compiles and drives it.
 *
 *   h2_stall ADDRESS PORT COUNT PATH WINDOW MODE     MODE: get   the streams' windows are never opened again
 *                                                          deaf  the socket is not read
 *                                                          put   bodies without end, as far as they are taken
 *
 * It opens COUNT streams, waits until nothing moves any more and says `quiet BYTES`: of bodies, in whole. Then each line
 * of its input is a path: one more stream, whose window is large and always open; it says `STATUS BYTES SECONDS`. The end
 * of the input is its own.
 */
#include <nghttp2/nghttp2.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WIDE_BYTES = 1 << 30, READ_BYTES = 256 * 1024, QUIET_MS = 700, PATIENCE_MS = 60 * 1000 };

struct stall {
    int fd;
    bool deaf;
    uint64_t moved;   /* bytes of bodies */
    uint64_t used_ms; /* when any moved last */
    nghttp2_session *session;
    const uint8_t *out;
    size_t out_len;
    int32_t fast; /* the stream that is read; 0: none */
    uint64_t got; /* on it */
    bool over;    /* it has ended */
    char status[4];
};

static uint8_t buffer[READ_BYTES];

static void die(const char *what)
{
    fprintf(stderr, "h2_stall: %s: %s\n", what, errno ? strerror(errno) : "");
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t now_ms(void)
{
    return (uint64_t)(now() * 1e3);
}

/* ---- what comes ---- */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t len, void *arg)
{
    struct stall *stall = arg;

    stall->moved += len;
    stall->used_ms = now_ms();
    nghttp2_session_consume_connection(session, len);
    if (id == stall->fast) {
        stall->got += len;
        nghttp2_session_consume_stream(session, id, len);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    struct stall *stall = arg;

    if (frame->hd.stream_id == stall->fast && name_len == 7 && memcmp(name, ":status", 7) == 0)
        snprintf(stall->status, sizeof(stall->status), "%.*s", (int)value_len, value);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct stall *stall = arg;

    if (id != stall->fast && code)
        fprintf(stderr, "h2_stall: stream %d was reset: %u\n", id, code);
    stall->over |= id == stall->fast;
    return 0;
}

static void read_some(struct stall *stall)
{
    ssize_t n = recv(stall->fd, buffer, sizeof(buffer), 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        die("the connection ended");
    if (nghttp2_session_mem_recv(stall->session, buffer, (size_t)n) < 0)
        die("frames");
}

/* ---- what goes ---- */

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct stall *stall = arg;

    stall->moved += len;
    stall->used_ms = now_ms();
    memset(buf, 'u', len);
    return (ssize_t)len;
}

/* False: the kernel takes no more for now. */
static bool write_some(struct stall *stall)
{
    for (;;) {
        ssize_t n;

        if (!stall->out_len) {
            n = nghttp2_session_mem_send(stall->session, &stall->out);
            if (n < 0)
                die("framing");
            if (n == 0)
                return true;
            stall->out_len = (size_t)n;
        }
        n = send(stall->fd, stall->out, stall->out_len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0)
            die("send");
        stall->out += n;
        stall->out_len -= (size_t)n;
    }
}

static int32_t ask(struct stall *stall, const char *method, const char *path, bool body)
{
#define NV(n, v) { (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, strlen(v), NGHTTP2_NV_FLAG_NONE }
    nghttp2_nv fields[] = { NV(":method", method), NV(":scheme", "http"), NV(":path", path),
                            NV(":authority", "slow.test"), NV("content-length", "1073741824") };
    nghttp2_data_provider provider = { .read_callback = on_read };
    int32_t id = nghttp2_submit_request(stall->session, NULL, fields, body ? 5 : 4,
                                        body ? &provider : NULL, NULL);

    if (id < 0)
        die("request");
    return id;
}

/* One turn; at most `ms`. */
static void turn(struct stall *stall, int ms)
{
    bool all = write_some(stall);
    struct pollfd wait = { stall->fd, all ? 0 : POLLOUT, 0 };

    if (!stall->deaf)
        wait.events |= POLLIN;
    if (poll(&wait, 1, ms) > 0 && wait.revents & (POLLIN | POLLHUP | POLLERR))
        read_some(stall);
}

/* ---- set-up ---- */

static int dial(const char *address, const char *port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void begin(struct stall *stall, uint32_t window)
{
    nghttp2_settings_entry settings = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window };
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_peer_max_concurrent_streams(option, 1000);
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    if (nghttp2_session_client_new2(&stall->session, callbacks, stall, option))
        die("session");
    nghttp2_submit_settings(stall->session, 0, &settings, 1);
    nghttp2_session_set_local_window_size(stall->session, 0, 0, WIDE_BYTES);
}

static void run_fast(struct stall *stall, const char *path)
{
    double from = now();

    stall->got = 0;
    stall->over = false;
    stall->fast = ask(stall, "GET", path, false);
    write_some(stall); /* it has to exist */
    nghttp2_session_set_local_window_size(stall->session, 0, stall->fast, WIDE_BYTES);
    while (!stall->over) {
        if (now() - from > PATIENCE_MS / 1e3)
            die("the fast stream takes too long");
        turn(stall, 1000);
    }
    printf("%s %llu %.6f\n", stall->status, (unsigned long long)stall->got, now() - from);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct stall stall = { .used_ms = now_ms() };
    uint64_t from = stall.used_ms;
    char line[1000];
    bool put;

    if (argc != 7) {
        fprintf(stderr, "usage: h2_stall ADDRESS PORT COUNT PATH WINDOW get|deaf|put\n");
        return 2;
    }
    put = strcmp(argv[6], "put") == 0;
    stall.fd = dial(argv[1], argv[2]);
    begin(&stall, (uint32_t)atol(argv[5]));
    for (int i = 0; i < atoi(argv[3]); i++)
        ask(&stall, put ? "PUT" : "GET", argv[4], put);
    write_some(&stall);
    stall.deaf = strcmp(argv[6], "deaf") == 0;
    while (now_ms() - stall.used_ms < QUIET_MS && now_ms() - from < PATIENCE_MS)
        turn(&stall, 50);
    printf("quiet %llu\n", (unsigned long long)stall.moved);
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = 0;
        run_fast(&stall, line);
    }
    return 0;
}
