/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include "base/clock.h"
#include "daemon/paths.h"
#include "http/h1.h"
#include "net/addr.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOCKETS_MAX = 3 };
#define CLIENT_MAGIC 0x77636c69u

struct client {
    uint32_t magic;
    int fd;
    uint64_t until_us;
    struct weir_guard_limits limits;
    struct weir_h1 h1;
    struct weir_hstream hs;
    struct weir_arena arena;
    struct weir_admin_answer *answer;
    size_t room;
    bool ended, failed;
};

/* ---- where the daemon is ------------------------------------------------------------------ */

static bool copy(char out[WEIR_PATH_BYTES], const char *text)
{
    return snprintf(out, WEIR_PATH_BYTES, "%s", text) < WEIR_PATH_BYTES;
}

/* What the file says of the socket and the instance, when a file is meant. */
static bool socket_of_conf(const struct weir_cli *cli, char out[WEIR_PATH_BYTES],
                           char instance[WEIR_PATH_BYTES])
{
    const char *path = cli->conf ? cli->conf : "/etc/weir/weir.yaml";
    struct weir_conf_opts opts = { .size = sizeof(opts), .no_files = true };
    struct weir_conf *conf = NULL;
    struct weir_diags diags;
    bool said = false;

    if (access(path, R_OK) != 0)
        return false;
    weir_diags_init(&diags);
    if (weir_conf_load_opts(path, &opts, &conf, &diags) == 0) {
        said = conf->admin.socket_said;
        if (said)
            snprintf(out, WEIR_PATH_BYTES, "%.*s", WEIR_FMT(conf->admin.socket));
        snprintf(instance, WEIR_PATH_BYTES, "%.*s", WEIR_FMT(conf->instance));
    } else if (!cli->instance) {
        fprintf(cli->err,
                "weir: %s has errors, so the instance that it names is not known: -i INSTANCE says "
                "it, `weir check -c %s` tells them\n",
                path, path);
    }
    weir_conf_free(conf);
    weir_diags_fini(&diags);
    return said;
}

/* Where it may be, in the order of trying: what was said, this user's folder, the system's. */
static unsigned sockets_find(const struct weir_cli *cli, char out[SOCKETS_MAX][WEIR_PATH_BYTES])
{
    char instance[WEIR_PATH_BYTES] = "main";
    unsigned n = 0;
    int len;

    if (cli->socket)
        return copy(out[0], cli->socket);
    if (cli->instance)
        copy(instance, cli->instance);
    if ((cli->conf || !cli->instance) && socket_of_conf(cli, out[0], instance))
        return 1;
    if (cli->instance)
        copy(instance, cli->instance);
    if (!weir_instance_valid(weir_str(instance)))
        return 0;
    if (weir_instance_path(weir_str(instance), "admin.sock", out[n]))
        n++;
    len = snprintf(out[n], WEIR_PATH_BYTES, "/run/weir/%s/admin.sock", instance);
    if (len < WEIR_PATH_BYTES && (n == 0 || strcmp(out[0], out[n]) != 0))
        n++;
    return n;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len = strlen(path);
    int fd, err;

    if (len >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, path, len + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    err = -errno;
    close(fd);
    return err;
}

static int client_connect(const struct weir_cli *cli)
{
    char paths[SOCKETS_MAX][WEIR_PATH_BYTES];
    int fd = -ENOENT, first = 0;
    unsigned n;

    if (cli->conf && !cli->instance && !cli->socket && access(cli->conf, R_OK)) {
        fprintf(cli->err, "weir: %s: %s\n", cli->conf, strerror(errno));
        return -1;
    }
    n = sockets_find(cli, paths);
    if (n == 0) {
        fputs("weir: the name of the instance or its socket is not valid\n", cli->err);
        return -1;
    }
    for (unsigned i = 0; i < n; i++) {
        fd = connect_unix(paths[i]);
        if (fd >= 0)
            return fd;
        if (i == 0 || first == -ENOENT)
            first = fd;
    }
    fprintf(cli->err, "weir: %s: %s; ", paths[0], strerror(-first));
    if (first == -EACCES || first == -EPERM)
        fputs("run this as root or as the daemon's user, or set admin.group\n", cli->err);
    else
        fputs("is the daemon running? -i INSTANCE, -c FILE or --socket PATH say which\n", cli->err);
    return -1;
}

/* ---- codec events ------------------------------------------------------------------------- */

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct client *client = weir_cast(struct client, arg, CLIENT_MAGIC);

    for (int i = 0; i < count && !client->failed; i++) {
        const char *at = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left > 0) {
            ssize_t n = send(client->fd, at, left, MSG_NOSIGNAL);

            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0) {
                client->failed = true;
                return;
            }
            at += n;
            left -= (size_t)n;
        }
    }
}

static size_t on_pending(void *arg)
{
    (void)arg;
    return 0;
}

static void on_pause(void *arg, bool pause)
{
    (void)arg;
    (void)pause;
}

static const struct weir_codec_sink codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
};

static void on_head(void *arg, struct weir_message *msg)
{
    struct client *client = weir_cast(struct client, arg, CLIENT_MAGIC);

    if (msg->status >= 200)
        client->answer->status = msg->status;
}

static void on_body(void *arg, struct weir_str data)
{
    struct client *client = weir_cast(struct client, arg, CLIENT_MAGIC);
    struct weir_admin_answer *answer = client->answer;

    weir_hstream_consume(&client->hs, data.len);
    if (answer->len + data.len + 1 > client->room) {
        size_t room = (answer->len + data.len + 1) * 2;
        char *body = room > WEIR_ADMIN_ANSWER_BYTES_MAX ? NULL : realloc(answer->body, room);

        if (!body) {
            client->failed = true;
            return;
        }
        answer->body = body;
        client->room = room;
    }
    memcpy(answer->body + answer->len, data.ptr, data.len);
    answer->len += data.len;
    answer->body[answer->len] = '\0';
}

static void on_trailer(void *arg, struct weir_message *msg)
{
    (void)arg;
    (void)msg;
}

static void on_end(void *arg)
{
    struct client *client = weir_cast(struct client, arg, CLIENT_MAGIC);

    client->ended = client->answer->status >= 200;
}

static void on_reset(void *arg, const struct weir_error *why)
{
    struct client *client = weir_cast(struct client, arg, CLIENT_MAGIC);

    (void)why;
    client->failed = true;
}

static const struct weir_hstream_sink hstream_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_trailer = on_trailer,
    .on_end = on_end,
    .on_reset = on_reset,
};

/* ---- the exchange ------------------------------------------------------------------------- */

static int client_send(struct client *client, const char *method, const char *target,
                       const char *body)
{
    struct weir_str query, path = weir_str_cut(weir_str(target), '?', &query);
    struct iovec iov = { (void *)body, body ? strlen(body) : 0 };
    struct weir_message head;
    int err;

    weir_message_init(&head, &client->arena, true);
    head.method = weir_str(method);
    head.method_id = (uint8_t)weir_method_id(head.method);
    head.path = path;
    head.query = query;
    head.host = WEIR_STR("weir");
    head.body = body ? WEIR_BODY_LENGTH : WEIR_BODY_NONE;
    head.length = iov.iov_len;
    if (body && weir_message_push(&head, WEIR_F_CONTENT_TYPE, weir_field_name(WEIR_F_CONTENT_TYPE),
                                  WEIR_STR("application/json")) != 0)
        return WEIR_ENOMEM;
    err = weir_codec_open(&client->h1.codec, &client->hs);
    return err ? err
               : weir_hstream_send(&client->hs, &head, &iov, body ? 1 : 0, NULL, WEIR_SEND_END);
}

/* One read, or 0 at the end, or -1 when the time is over or it broke. */
static ssize_t client_read(struct client *client, uint8_t *data, size_t size)
{
    for (;;) {
        struct pollfd poll_fd = { .fd = client->fd, .events = POLLIN };
        uint64_t now = weir_clock_us();
        ssize_t n;

        if (now >= client->until_us)
            return -1;
        if (poll(&poll_fd, 1, (int)((client->until_us - now) / 1000) + 1) <= 0)
            continue;
        n = recv(client->fd, data, size, 0);
        if (n >= 0 || errno != EINTR)
            return n;
    }
}

static bool client_exchange(struct client *client, const char *method, const char *target,
                            const char *body)
{
    uint8_t data[16 * 1024];

    if (client_send(client, method, target, body) != 0)
        return false;
    while (!client->ended && !client->failed) {
        ssize_t n = client_read(client, data, sizeof(data));

        if (n < 0)
            return false;
        if (n == 0)
            weir_codec_eof(&client->h1.codec, WEIR_OK);
        else if (weir_codec_feed(&client->h1.codec, data, (size_t)n) < 0)
            return client->ended;
        if (n == 0)
            break;
    }
    return client->ended && !client->failed;
}

int weir_admin_ask(const struct weir_cli *cli, const char *method, const char *target,
                   const char *body, unsigned timeout_ms, struct weir_admin_answer *answer)
{
    struct client client = { .magic = CLIENT_MAGIC, .answer = answer };
    bool good;

    *answer = (struct weir_admin_answer){ 0 };
    client.fd = client_connect(cli);
    if (client.fd < 0)
        return WEIR_EXIT_FAILED;
    client.until_us =
        weir_clock_us() + (uint64_t)(timeout_ms ? timeout_ms : WEIR_ADMIN_TIMEOUT_MS) * 1000;
    weir_arena_init(&client.arena, NULL);
    client.hs.sink = &hstream_sink;
    client.hs.arg = &client;
    client.hs.arena = &client.arena;
    weir_h1_init_client(&client.h1, &client.limits, &codec_sink, &client);
    good = client_exchange(&client, method, target, body);
    weir_h1_fini(&client.h1);
    weir_arena_fini(&client.arena);
    close(client.fd);
    if (good)
        return WEIR_EXIT_DONE;
    fprintf(cli->err, "weir: the daemon %s\n",
            weir_clock_us() >= client.until_us ? "did not answer in time" : "broke off its answer");
    free(answer->body);
    *answer = (struct weir_admin_answer){ 0 };
    return WEIR_EXIT_FAILED;
}

static int json_fail(const struct weir_cli *cli, int status, const json_t *json)
{
    const char *text = json_string_value(json_object_get(json, "error"));

    fprintf(cli->err, "weir: %s\n", text ? text : "the daemon refused");
    return status == 400 ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}

int weir_admin_json(const struct weir_cli *cli, const char *method, const char *target,
                    json_t *body, unsigned timeout_ms, json_t **out)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct weir_admin_answer answer;
    int status;

    *out = NULL;
    json_decref(body);
    status = weir_admin_ask(cli, method, target, text, timeout_ms, &answer);
    free(text);
    if (status)
        return status;
    *out = json_loadb(answer.body ? answer.body : "", answer.len, JSON_DECODE_ANY, NULL);
    free(answer.body);
    if (!*out) {
        fputs("weir: the daemon's answer is not JSON\n", cli->err);
        return WEIR_EXIT_FAILED;
    }
    if (answer.status / 100 == 2)
        return WEIR_EXIT_DONE;
    status = json_fail(cli, answer.status, *out);
    json_decref(*out);
    *out = NULL;
    return status;
}

int weir_admin_done(const struct weir_cli *cli, int status, json_t *answer)
{
    if (status)
        return status;
    if (cli->json)
        json_dumpf(answer, cli->out, JSON_COMPACT);
    fputs(cli->json ? "\n" : "done\n", cli->out);
    json_decref(answer);
    return status;
}

bool weir_admin_encode(const char *segment, char *out, size_t size)
{
    static const char plain[] = "-._~:[]@!,";
    size_t n = 0;

    for (; *segment; segment++) {
        unsigned char c = (unsigned char)*segment;
        bool alone = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr(plain, c);

        if (n + 4 > size)
            return false;
        n += (size_t)snprintf(out + n, size - n, alone ? "%c" : "%%%02X", c);
    }
    out[n] = '\0';
    return n > 0;
}
