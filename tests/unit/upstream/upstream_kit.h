/* SPDX-License-Identifier: Apache-2.0 */
/**
 * upstream_kit.h: a fake upstream on a thread of its own, and exchanges that are driven by the
 * test. The path of a request is the script of its answer.
 */
#ifndef TESTS_UPSTREAM_KIT_H
#define TESTS_UPSTREAM_KIT_H

#include "base/clock.h"
#include "upstream/state.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { FAKE_CONNS_MAX = 256, KIT_WAIT_MS = 5000 };

struct fake_conn {
    int fd; /* -1: free */
    uint64_t used_us, junk_us;
    size_t len;
    char data[2048];
};

struct fake {
    int fd;
    uint16_t port;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic int accepted, requests, open, status, idle_us, delay_us;
    struct fake_conn conns[FAKE_CONNS_MAX];
};

static void fake_drop(struct fake *fake, struct fake_conn *conn, bool reset)
{
    struct linger linger = { .l_onoff = 1 };

    if (reset)
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(conn->fd);
    conn->fd = -1;
    atomic_fetch_sub(&fake->open, 1);
}

static void fake_say(struct fake_conn *conn, const char *text)
{
    ssize_t n = send(conn->fd, text, strlen(text), MSG_NOSIGNAL);

    (void)n;
}

enum { FAKE_BIG_BYTES = 4 << 20 };

static void fake_big(struct fake_conn *conn)
{
    static const char piece[64 * 1024];
    char head[64];

    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", FAKE_BIG_BYTES);
    fake_say(conn, head);
    for (size_t sent = 0; sent < FAKE_BIG_BYTES;) {
        ssize_t n = send(conn->fd, piece, sizeof(piece), MSG_NOSIGNAL);

        if (n <= 0)
            return;
        sent += (size_t)n;
    }
}

static void fake_answer(struct fake *fake, struct fake_conn *conn, const char *path)
{
    char text[128];

    atomic_fetch_add(&fake->requests, 1);
    if (atomic_load(&fake->delay_us))
        usleep((useconds_t)atomic_load(&fake->delay_us));
    if (!strcmp(path, "/close")) {
        fake_say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        fake_drop(fake, conn, false);
    } else if (!strcmp(path, "/fin")) { /* promises to stay, and goes */
        fake_say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        fake_drop(fake, conn, false);
    } else if (!strcmp(path, "/stray")) {
        fake_say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 "
                       "OK\r\nContent-Length: 4\r\n\r\nevil");
    } else if (!strcmp(path, "/later")) {
        fake_say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        conn->junk_us = weir_clock_us() + 20000;
    } else if (!strcmp(path, "/reset")) {
        fake_drop(fake, conn, true);
    } else if (!strcmp(path, "/half")) {
        fake_say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi");
        fake_drop(fake, conn, false);
    } else if (!strcmp(path, "/big")) {
        fake_big(conn);
    } else if (!strcmp(path, "/up")) {
        fake_say(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: "
                       "toy\r\n\r\nfirst bytes");
    } else if (!strcmp(path, "/status")) {
        snprintf(text, sizeof(text), "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n",
                 atomic_load(&fake->status));
        fake_say(conn, text);
    } else if (strcmp(path, "/hang")) {
        fake_say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    }
}

static void fake_read(struct fake *fake, struct fake_conn *conn)
{
    ssize_t n = recv(conn->fd, conn->data + conn->len, sizeof(conn->data) - 1 - conn->len, 0);
    char *end, path[64];

    if (n <= 0) {
        fake_drop(fake, conn, false);
        return;
    }
    conn->len += (size_t)n;
    conn->data[conn->len] = 0;
    end = strstr(conn->data, "\r\n\r\n");
    if (!end)
        return;
    if (sscanf(conn->data, "%*s %63s", path) != 1)
        path[0] = 0;
    conn->len = 0;
    conn->used_us = weir_clock_us();
    fake_answer(fake, conn, path);
}

static void fake_accept(struct fake *fake)
{
    int fd = accept(fake->fd, NULL, NULL);

    if (fd < 0)
        return;
    atomic_fetch_add(&fake->accepted, 1);
    for (int i = 0; i < FAKE_CONNS_MAX; i++)
        if (fake->conns[i].fd < 0) {
            fake->conns[i] = (struct fake_conn){ .fd = fd, .used_us = weir_clock_us() };
            atomic_fetch_add(&fake->open, 1);
            return;
        }
    close(fd);
}

static void fake_tick(struct fake *fake, struct fake_conn *conn)
{
    uint64_t now = weir_clock_us();
    int idle_us = atomic_load(&fake->idle_us);

    if (conn->junk_us && now >= conn->junk_us) {
        conn->junk_us = 0;
        fake_say(conn, "!");
    }
    if (idle_us && now - conn->used_us > (uint64_t)idle_us)
        fake_drop(fake, conn, false);
}

static void *fake_run(void *arg)
{
    struct fake *fake = arg;

    while (!atomic_load(&fake->stop)) {
        struct pollfd polls[FAKE_CONNS_MAX + 1];
        int at[FAKE_CONNS_MAX + 1], count = 1;

        polls[0] = (struct pollfd){ fake->fd, POLLIN, 0 };
        for (int i = 0; i < FAKE_CONNS_MAX; i++)
            if (fake->conns[i].fd >= 0) {
                at[count] = i;
                polls[count++] = (struct pollfd){ fake->conns[i].fd, POLLIN, 0 };
            }
        poll(polls, (nfds_t)count, 2);
        for (int i = 1; i < count; i++) {
            if (polls[i].revents)
                fake_read(fake, &fake->conns[at[i]]);
            if (fake->conns[at[i]].fd >= 0)
                fake_tick(fake, &fake->conns[at[i]]);
        }
        if (polls[0].revents)
            fake_accept(fake);
    }
    return NULL;
}

static inline void fake_start(struct fake *fake)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(in);

    memset(fake, 0, sizeof(*fake));
    for (int i = 0; i < FAKE_CONNS_MAX; i++)
        fake->conns[i].fd = -1;
    atomic_store(&fake->status, 200);
    fake->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fake->fd >= 0);
    assert_int_equal(bind(fake->fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(fake->fd, 128), 0);
    assert_int_equal(getsockname(fake->fd, (struct sockaddr *)&in, &len), 0);
    fake->port = ntohs(in.sin_port);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
}

static inline void fake_stop(struct fake *fake)
{
    atomic_store(&fake->stop, true);
    pthread_join(fake->thread, NULL);
    for (int i = 0; i < FAKE_CONNS_MAX; i++)
        if (fake->conns[i].fd >= 0)
            close(fake->conns[i].fd);
    close(fake->fd);
}

/* --- a cluster --- */

enum { KIT_SERVERS_MAX = 4 };

struct kit {
    struct weir_cluster_conf conf;
    struct weir_server_conf servers[KIT_SERVERS_MAX];
    char addresses[KIT_SERVERS_MAX][64];
    struct weir_upstreams_opts opts;
    struct weir_cluster *cluster;
};

/** Defaults of the documentation; no servers yet. */
static void kit_init(struct kit *kit, unsigned workers)
{
    memset(kit, 0, sizeof(*kit));
    kit->conf = (struct weir_cluster_conf){
        .name = WEIR_STR("app"),
        .servers = { .at = kit->servers },
        .connections_max = WEIR_UNLIMITED,
        .pool = { .idle_max = 1024,
                  .idle_timeout_ms = 60000,
                  .requests_max = WEIR_UNLIMITED,
                  .age_max_ms = WEIR_UNLIMITED },
    };
    kit->opts = (struct weir_upstreams_opts){ .workers = workers };
}

static struct weir_server_conf *kit_server(struct kit *kit, const char *address)
{
    struct weir_server_conf *server = &kit->servers[kit->conf.servers.count];
    char *text = kit->addresses[kit->conf.servers.count++];

    snprintf(text, sizeof(kit->addresses[0]), "%s", address);
    *server = (struct weir_server_conf){ .address = weir_str(text), .weight = 1 };
    return server;
}

static inline struct weir_server_conf *kit_server_port(struct kit *kit, uint16_t port)
{
    char text[32];

    snprintf(text, sizeof(text), "127.0.0.1:%u", port);
    return kit_server(kit, text);
}

static void kit_open(struct kit *kit)
{
    struct weir_tls_fault fault;

    kit->cluster = weir_cluster_new(&kit->conf, &kit->opts, &fault);
    if (!kit->cluster)
        fail_msg("%s", fault.text);
}

/** Turns the loop until the condition holds; fails when it does not within KIT_WAIT_MS. */
#define kit_until(loop, cond)                                                     \
    do {                                                                          \
        uint64_t end_ = weir_clock_us() + KIT_WAIT_MS * 1000ull;                  \
        while (!(cond)) {                                                         \
            if (weir_clock_us() > end_)                                           \
                fail_msg("%s:%d: did not happen: %s", __FILE__, __LINE__, #cond); \
            weir_loop_turn(loop, 5);                                              \
        }                                                                         \
    } while (0)

static inline void kit_turn_ms(struct weir_loop *loop, unsigned ms)
{
    uint64_t end = weir_clock_us() + ms * 1000ull;

    while (weir_clock_us() < end)
        weir_loop_turn(loop, 1);
}

static inline void kit_view_end(struct weir_cluster_view *view, struct weir_loop *loop)
{
    weir_cluster_view_close(view);
    kit_until(loop, weir_cluster_view_conns(view) == 0);
    weir_cluster_view_free(view);
}

/* --- an exchange --- */

struct call {
    struct weir_acquire acq;
    struct weir_cluster_view *view;
    struct weir_server *server;
    struct weir_upconn *conn;
    struct weir_arena arena;
    const char *path;
    bool keep;    /* does not release at the end */
    bool hold;    /* takes nothing of the body */
    bool upgrade; /* asks for "toy", and detaches inside on_head */
    bool counted; /* and its tunnel goes on to count */
    struct weir_pool_token token;
    int status, heads, ends, resets, fns;
    size_t body;
    bool reused;
    struct weir_error error;
    struct weir_stream *stream; /* detached */
    char tunnel[64];
    size_t tunnel_len;
    bool tunnel_closed;
    struct call *next; /* started in on_end, as a pipelined request would be */
};

static inline void call_start(struct call *call, struct weir_cluster_view *view,
                              struct weir_server *server, const char *path);

static void call_over(struct call *call)
{
    if (call->conn && !call->keep) {
        weir_hstream_done(&call->conn->hs);
        weir_pool_release(&call->conn);
    }
    if (call->next)
        call_start(call->next, call->view, call->server, call->next->path);
}

static void tunnel_data(void *arg, const uint8_t *data, size_t len)
{
    struct call *call = arg;

    assert_true(call->tunnel_len + len <= sizeof(call->tunnel));
    memcpy(call->tunnel + call->tunnel_len, data, len);
    call->tunnel_len += len;
}
static void tunnel_nothing(void *arg)
{
}
static void tunnel_error(void *arg, enum weir_err err, int sys)
{
}
static void tunnel_closed(void *arg)
{
    struct call *call = arg;

    call->tunnel_closed = true;
    weir_pool_token_put(&call->token);
}
static const struct weir_stream_sink tunnel_sink = {
    .on_data = tunnel_data,
    .on_eof = tunnel_nothing,
    .on_drained = tunnel_nothing,
    .on_error = tunnel_error,
    .on_closed = tunnel_closed,
};

static void call_head(void *arg, struct weir_message *msg)
{
    struct call *call = arg;

    call->heads++;
    call->status = msg->status;
    if (msg->status != 101)
        return;
    if (call->counted)
        weir_pool_token_take(call->conn, &call->token);
    call->stream = weir_pool_detach(&call->conn, NULL);
    weir_stream_set_sink(call->stream, &tunnel_sink, call);
    weir_stream_read(call->stream, true);
}
static void call_body(void *arg, struct weir_str data)
{
    struct call *call = arg;

    call->body += data.len;
    if (!call->hold)
        weir_hstream_consume(&call->conn->hs, data.len);
}
static void call_trailer(void *arg, struct weir_message *msg)
{
}
static void call_end(void *arg)
{
    struct call *call = arg;

    call->ends++;
    call_over(call);
}
static void call_drained(void *arg)
{
}
static void call_reset(void *arg, const struct weir_error *why)
{
    struct call *call = arg;

    call->resets++;
    call->error = *why;
    call_over(call);
}
static const struct weir_hstream_sink call_sink = {
    .on_head = call_head,
    .on_body = call_body,
    .on_trailer = call_trailer,
    .on_end = call_end,
    .on_drained = call_drained,
    .on_reset = call_reset,
};

static void call_send(struct call *call)
{
    struct weir_upconn *conn = call->conn;
    struct weir_message msg;

    call->reused = conn->reused;
    conn->hs.sink = &call_sink;
    conn->hs.arg = call;
    conn->hs.arena = &call->arena;
    assert_int_equal(weir_codec_open(conn->codec, &conn->hs), 0);
    weir_message_init(&msg, &call->arena, true);
    msg.method_id = WEIR_M_GET;
    msg.method = WEIR_STR("GET");
    msg.keep_alive = true;
    assert_int_equal(
        weir_message_set_path(&msg, weir_str(call->path), (struct weir_str){ NULL, 0 }), 0);
    assert_int_equal(weir_message_set_host(&msg, WEIR_STR("app")), 0);
    if (call->upgrade)
        msg.upgrade = WEIR_STR("toy");
    assert_int_equal(weir_hstream_send(&conn->hs, &msg, NULL, 0, NULL, WEIR_SEND_END), 0);
}

static void call_ready(void *arg, struct weir_upconn *conn, const struct weir_error *error)
{
    struct call *call = arg;

    call->fns++;
    if (!conn) {
        call->error = *error;
        return;
    }
    assert_null(error);
    call->conn = conn;
    call_send(call);
}

static struct weir_acquire_opts call_opts __attribute__((unused));

static inline void call_start(struct call *call, struct weir_cluster_view *view,
                              struct weir_server *server, const char *path)
{
    call->view = view;
    call->server = server;
    call->path = path;
    weir_arena_init(&call->arena, NULL);
    call->conn = weir_pool_acquire(&call->acq, view, server, &call_opts, call_ready, call);
    if (call->conn)
        call_send(call);
}

static inline bool call_done(const struct call *call)
{
    return call->ends || call->resets || call->error.code;
}

static inline void call_fini(struct call *call)
{
    weir_arena_fini(&call->arena);
    memset(call, 0, sizeof(*call));
}

/** One whole exchange. */
static inline void call_run(struct call *call, struct weir_cluster_view *view,
                            struct weir_server *server, const char *path)
{
    call_start(call, view, server, path);
    kit_until(view->loop, call_done(call));
    weir_loop_turn(view->loop, 0);
}

#endif
