/* SPDX-License-Identifier: Apache-2.0 */
/**
 * control.c: the doors, the table of what they lead to, and what all answers share.
 *
 * The file's mode guards the socket; nothing guards the TCP door. So the latter leads only to what
 * has CONTROL_OPEN: figures and health, and what the page shows; no clients, no configuration.
 */
#include "daemon/control_internal.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const struct control_route control_routes[] = {
    { "GET", "/", control_get_page, CONTROL_OPEN, "this page" },
    { "GET", "/healthz", control_get_health, CONTROL_OPEN, "200 while the process answers" },
    { "GET", "/readyz", control_get_ready, CONTROL_OPEN,
      "200 while it accepts, 503 while it drains" },
    { "GET", "/metrics", control_get_metrics, CONTROL_OPEN, "counters, in Prometheus text" },
    { "GET", "/v1/status", control_get_status, CONTROL_OPEN, "one screen of what runs" },
    { "GET", "/v1/connections", control_get_connections, 0, "connections of clients" },
    { "GET", "/v1/splice", control_get_splice, 0,
      "who moves the bytes of each connection, and why" },
    { "GET", "/v1/upstreams", control_get_upstreams, CONTROL_OPEN, "upstreams and their servers" },
    { "GET", "/v1/pools", control_get_pools, 0, "connections to servers" },
    { "GET", "/v1/routes", control_get_routes, 0, "routes in the order of matching" },
    { "GET", "/v1/certs", control_get_certs, 0, "certificates and when they expire" },
    { "GET", "/v1/bans", control_get_bans, 0, "prefixes that are banned" },
    { "GET", "/v1/config", control_get_config, 0,
      "the configuration in force; ?diff: what was set at run time" },
    { "PUT", "/v1/upstreams/*/servers/*", control_put_server, 0,
      "{\"weight\": 0-1000, \"state\": \"ready\" or \"drain\"}" },
    { "PUT", "/v1/splice", control_put_splice, 0,
      "{\"splice\": \"auto\", \"off\", \"copy\", \"pipe\" or \"sockmap\"}: kernel.splice, also of "
      "what runs" },
    { "PUT", "/v1/log-level", control_put_log_level, 0, "{\"level\": \"debug\"}" },
    { "POST", "/v1/reload", control_post_reload, 0,
      "reads the configuration anew; answers when it is in force, or with what is wrong" },
    { "POST", "/v1/drain", control_post_drain, 0,
      "ends the daemon as SIGTERM does; answers when it is drained" },
    { "POST", "/v1/upgrade", control_post_upgrade, 0,
      "starts the binary and the configuration that lie on the disk, and ends this process when "
      "they serve" },
    { "POST", "/v1/bans", control_post_ban, 0,
      "{\"prefix\": \"192.0.2.0/24\", \"for_ms\": 600000, \"why\": \"text\"}" },
    { "DELETE", "/v1/bans", control_delete_ban, 0, "?prefix=192.0.2.0/24" },
    { NULL, NULL, NULL, 0, NULL },
};

/* ---- answers ------------------------------------------------------------------------------ */

void control_reply_text(struct control_call *call, int status, const char *type,
                        struct weir_str text)
{
    struct weir_message *answer;

    if (call->replied)
        return;
    call->replied = true;
    answer = weir_httpd_answer(call->req, status, type);
    if (weir_message_push(answer, WEIR_F_CACHE_CONTROL, weir_field_name(WEIR_F_CACHE_CONTROL),
                          WEIR_STR("no-store")) != 0 ||
        (!weir_str_absent(call->allow) &&
         weir_message_push(answer, WEIR_F_OTHER, WEIR_STR("allow"), call->allow) != 0)) {
        weir_httpd_abort(call->req);
        return;
    }
    weir_httpd_finish(call->req, text);
}

void control_reply_json(struct control_call *call, int status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    size_t len = text ? strlen(text) : 0;

    json_decref(json);
    if (!text) {
        control_reply_text(call, 503, "application/json",
                           WEIR_STR("{\"error\":\"out of memory\"}\n"));
        return;
    }
    text[len] = '\n'; /* in the place of the 0: the length is told apart */
    control_reply_text(call, status, "application/json", (struct weir_str){ text, len + 1 });
    free(text);
}

void control_fail(struct control_call *call, int status, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    control_reply_json(call, status, json_pack("{s:o}", "error", control_str(weir_str(text))));
}

json_t *control_str(struct weir_str text)
{
    json_t *json = json_stringn(text.ptr ? text.ptr : "", text.len);
    char *clean;

    if (json)
        return json;
    clean = weir_str_dup(text);
    if (!clean)
        return json_string("?");
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)clean[i] >= 0x80)
            clean[i] = '?';
    }
    json = json_stringn(clean, text.len);
    free(clean);
    return json;
}

json_t *control_u64(uint64_t value)
{
    return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

struct weir_cluster *control_cluster(struct weir_control *control, struct weir_str name)
{
    struct weir_service *service = control->opts.service;

    for (unsigned i = 0; i < weir_service_clusters(service); i++) {
        struct weir_cluster *cluster = weir_service_cluster(service, i);

        if (weir_str_eq(weir_cluster_name(cluster), name))
            return cluster;
    }
    return NULL;
}

/* ---- paths, parameters, bodies ------------------------------------------------------------ */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = weir_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes into the arena; absent without memory, or for a malformed or 0 escape. */
static struct weir_str decode(struct weir_arena *arena, struct weir_str text)
{
    char *out = weir_arena_text(arena, text.len + 1);
    size_t n = 0;

    for (size_t i = 0; out && i < text.len; i++) {
        char c = text.ptr[i];

        if (c == '%') {
            int hi = i + 2 < text.len ? hex(text.ptr[i + 1]) : -1;
            int lo = i + 2 < text.len ? hex(text.ptr[i + 2]) : -1;

            if (hi < 0 || lo < 0 || (hi | lo) == 0)
                return (struct weir_str){ NULL, 0 };
            c = (char)(hi << 4 | lo);
            i += 2;
        }
        out[n++] = c;
    }
    return (struct weir_str){ out, out ? n : 0 };
}

static bool split_path(struct control_call *call, struct weir_str path)
{
    struct weir_str rest = path, part;

    if (path.len == 0 || path.ptr[0] != '/')
        return false;
    rest.ptr++;
    rest.len--;
    while (!weir_str_absent(rest) && (rest.len > 0 || call->segments_count == 0)) {
        if (call->segments_count == CONTROL_SEGMENTS_MAX)
            return false;
        part = decode(&call->req->arena, weir_str_cut(rest, '/', &rest));
        if (weir_str_absent(part))
            return false;
        call->segments[call->segments_count++] = part;
    }
    return true;
}

/* Does the pattern fit the segments? Fills call->args. */
static bool route_fits(const char *pattern, struct control_call *call)
{
    struct weir_str rest = weir_str(pattern + 1);
    unsigned i = 0, args = 0;

    while (!weir_str_absent(rest)) {
        struct weir_str want = weir_str_cut(rest, '/', &rest);

        if (i == call->segments_count)
            return false;
        if (weir_str_eq(want, WEIR_STR("*")))
            call->args[args++] = call->segments[i];
        else if (!weir_str_eq(want, call->segments[i]))
            return false;
        i++;
    }
    return i == call->segments_count;
}

struct weir_str control_param(struct control_call *call, const char *name)
{
    struct weir_str rest = call->req->head->query;

    while (!weir_str_absent(rest)) {
        struct weir_str value, pair = weir_str_cut(rest, '&', &rest);
        struct weir_str key = weir_str_cut(pair, '=', &value);

        if (!weir_str_eq(key, weir_str(name)))
            continue;
        return weir_str_absent(value) ? WEIR_STR("") : decode(&call->req->arena, value);
    }
    return (struct weir_str){ NULL, 0 };
}

json_t *control_body(struct control_call *call, const char *const *keys)
{
    json_error_t error;
    json_t *json =
        json_loadb(call->body ? call->body : "", call->body_len, JSON_REJECT_DUPLICATES, &error);
    const char *key;
    json_t *value;

    if (!json_is_object(json)) {
        control_fail(call, 400, "the body is not a JSON object%s%s", json ? "" : ": ",
                     json ? "" : error.text);
        json_decref(json);
        return NULL;
    }
    json_object_foreach(json, key, value)
    {
        unsigned i = 0;

        while (keys[i] && strcmp(keys[i], key) != 0)
            i++;
        if (!keys[i]) {
            control_fail(call, 400, "unknown key '%s'", key);
            json_decref(json);
            return NULL;
        }
    }
    return json;
}

/* ---- requests ----------------------------------------------------------------------------- */

bool control_offers(const struct control_call *call, const struct control_route *route)
{
    return call->req->tag == CONTROL_DOOR_SOCKET || (route->flags & CONTROL_OPEN);
}

static bool method_is(const struct control_route *route, struct weir_str method)
{
    if (weir_str_eq(method, WEIR_STR("HEAD")))
        method = WEIR_STR("GET");
    return weir_str_eq(method, weir_str(route->method));
}

/* No route of that path has the method: 405 with Allow; or 404. */
static void refuse(struct control_call *call)
{
    char allow[64] = "";
    size_t n = 0;

    for (const struct control_route *route = control_routes; route->path; route++) {
        if (route_fits(route->path, call) && n < sizeof(allow) - 16)
            n += (size_t)snprintf(allow + n, sizeof(allow) - n, "%s%s", n ? ", " : "",
                                  route->method);
    }
    if (n == 0) {
        control_fail(call, 404, "there is no %.*s here; GET / lists what there is",
                     WEIR_FMT(call->req->head->path));
        return;
    }
    call->allow = weir_arena_copy(&call->req->arena, weir_str(allow));
    control_fail(call, 405, "this path is for %s", allow);
}

static void find_route(struct control_call *call)
{
    struct weir_message *head = call->req->head;

    if (!split_path(call, head->path)) {
        control_fail(call, 400, "the path is malformed");
        return;
    }
    for (const struct control_route *route = control_routes; route->path && !call->route; route++) {
        if (method_is(route, head->method) && route_fits(route->path, call))
            call->route = route;
    }
    if (!call->route)
        refuse(call);
    else if (!control_offers(call, call->route))
        control_fail(call, 403, "over TCP this is not told; use the admin socket");
    else
        weir_httpd_continue(call->req);
}

static void on_request(void *arg, struct weir_httpd_req *req)
{
    struct weir_control *control = arg;
    struct control_call *call = weir_arena_zalloc(&req->arena, sizeof(*call));

    if (!call) {
        weir_httpd_abort(req);
        return;
    }
    weir_list_init(&call->link);
    call->control = control;
    call->req = req;
    req->user = call;
    if (req->head->body == WEIR_BODY_LENGTH && req->head->length > CONTROL_BODY_BYTES_MAX)
        control_fail(call, 413, "the body is larger than %d bytes", CONTROL_BODY_BYTES_MAX);
    else
        find_route(call);
}

static void on_body(void *arg, struct weir_httpd_req *req, struct weir_str data)
{
    struct control_call *call = req->user;
    char *body;

    (void)arg;
    if (!call || call->replied)
        return;
    if (call->body_len + data.len > CONTROL_BODY_BYTES_MAX) {
        control_fail(call, 413, "the body is larger than %d bytes", CONTROL_BODY_BYTES_MAX);
        return;
    }
    body = realloc(call->body, call->body_len + data.len);
    if (!body) {
        weir_httpd_abort(req);
        return;
    }
    call->body = body;
    memcpy(call->body + call->body_len, data.ptr, data.len);
    call->body_len += data.len;
    weir_httpd_consume(req, data.len);
}

static void on_end(void *arg, struct weir_httpd_req *req)
{
    struct control_call *call = req->user;

    (void)arg;
    if (call && !call->replied && call->route)
        call->route->fn(call);
}

static void on_gone(void *arg, struct weir_httpd_req *req)
{
    struct control_call *call = req->user;

    (void)arg;
    if (!call)
        return;
    weir_list_remove(&call->link);
    if (call->control->opts.reload)
        weir_reload_forget(call->control->opts.reload, call);
    free(call->body);
    req->user = NULL;
}

static const struct weir_httpd_handler handler = {
    .on_request = on_request,
    .on_body = on_body,
    .on_end = on_end,
    .on_gone = on_gone,
};

/* ---- lifetime ----------------------------------------------------------------------------- */

struct weir_control *weir_control_new(const struct weir_control_opts *opts)
{
    struct weir_control *control = calloc(1, sizeof(*control));

    if (!control)
        return NULL;
    control->opts = *opts;
    control->started_ms = weir_clock_us() / 1000;
    control->file_level = (enum weir_log_level)opts->conf->log.level;
    weir_list_init(&control->draining);
    weir_list_init(&control->upgrading);
    return control;
}

static struct weir_httpd *door_new(struct weir_control *control)
{
    struct weir_httpd_opts opts = {
        .loop = control->opts.loop,
        .handler = &handler,
        .arg = control,
        .conns_max = CONTROL_CONNS_MAX,
        .idle_ms = CONTROL_IDLE_MS,
        .receive_ms = CONTROL_RECEIVE_MS,
        .send_ms = CONTROL_SEND_MS,
    };

    return weir_httpd_new(&opts);
}

static int serve(struct weir_httpd **door, struct weir_control *control, int fd, unsigned tag)
{
    int err;

    if (fd < 0)
        return 0;
    *door = door_new(control);
    if (*door) {
        err = weir_httpd_serve(*door, fd, tag);
        return err ? weir_err_from_errno(-err) : 0;
    }
    close(fd);
    return WEIR_ENOMEM;
}

int weir_control_serve(struct weir_control *control, int local, int remote)
{
    int err = serve(&control->local, control, local, CONTROL_DOOR_SOCKET);
    int more = serve(&control->remote, control, remote, CONTROL_DOOR_TCP);
    struct weir_str listen = control->opts.conf->admin.listen;

    if (!more && remote >= 0)
        weir_log(control->opts.log, WEIR_LOG_INFO,
                 "listening on %.*s (admin, without a password: metrics, health, status)",
                 WEIR_FMT(listen));
    return err ? err : more;
}

int weir_control_open(struct weir_control *control, const char *path, struct weir_tls_fault *fault)
{
    const struct weir_admin_conf *admin = &control->opts.conf->admin;
    int local = -1, remote = -1, err = 0;

    if (path)
        err = weir_control_bind(path, admin->group, &local, fault);
    if (local >= 0)
        snprintf(control->socket_path, sizeof(control->socket_path), "%s", path);
    if (!err && !weir_str_absent(admin->listen) && admin->listen.len)
        err = weir_control_bind_tcp(admin->listen, &remote, fault);
    if (!err) {
        err = weir_control_serve(control, local, remote);
        if (err)
            snprintf(fault->text, sizeof(fault->text), "admin.socket: %s",
                     weir_err_text((enum weir_err)err));
        return err;
    }
    if (local >= 0)
        close(local);
    return err;
}

void weir_control_set_state(struct weir_control *control, enum weir_control_state state)
{
    control->state = state;
}

void weir_control_set_conf(struct weir_control *control, const struct weir_conf *conf)
{
    control->opts.conf = conf;
    control->file_level = (enum weir_log_level)conf->log.level;
}

void weir_control_drained(struct weir_control *control, bool clean, uint64_t took_ms)
{
    weir_list_each(pos, tmp, &control->draining)
    {
        struct control_call *call = weir_list_entry(pos, struct control_call, link);

        weir_list_remove(pos);
        control_reply_json(
            call, 200, json_pack("{s:b,s:o}", "drained", clean, "took_ms", control_u64(took_ms)));
    }
}

static void door_close(struct weir_httpd *door)
{
    if (door)
        weir_httpd_close(door);
}

void weir_control_retire(struct weir_control *control)
{
    if (control->local)
        weir_httpd_retire(control->local);
    if (control->remote)
        weir_httpd_retire(control->remote);
}

void weir_control_close(struct weir_control *control)
{
    control_query_end(control);
    door_close(control->local);
    door_close(control->remote);
    if (control->socket_path[0])
        unlink(control->socket_path);
    control->socket_path[0] = '\0';
}

bool weir_control_idle(const struct weir_control *control)
{
    return (!control->local || weir_httpd_conns(control->local) == 0) &&
           (!control->remote || weir_httpd_conns(control->remote) == 0);
}

void weir_control_free(struct weir_control *control)
{
    if (!control)
        return;
    weir_httpd_free(control->local);
    weir_httpd_free(control->remote);
    free(control);
}
