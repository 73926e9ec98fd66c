/* SPDX-License-Identifier: Apache-2.0 */
/**
 * forward.c: what a proxy adds to and takes from a message: who the client is, the path that is
 * matched and forwarded, X-Forwarded-* or Forwarded, Via, the request id, hop-by-hop fields.
 * (INTERFACE, listener keys.)
 */
#include "proxy/grpc.h"
#include "proxy/hops.h"
#include "proxy/websocket.h"

#include <stdio.h>

/* --- who asks ----------------------------------------------------------------------------------
 */

/* A trusted proxy named the request already. */
static bool take_id(struct weir_req *req)
{
    const struct weir_listener *listener = req->listener;
    struct weir_str header = listener->conf->request_id;
    struct weir_addr peer;

    if (!listener->trusted_count || weir_str_absent(header))
        return false;
    weir_session_addr(req->session, &peer);
    if (!weir_hops_trusted(listener, &peer))
        return false;
    for (unsigned i = 0; i < req->in.count; i++)
        if (weir_str_ieq(req->in.fields[i].name, header))
            req->id = req->in.fields[i].value;
    return req->id.len && req->id.len <= 128;
}

/* The 8 low digits of `word` in hexadecimal, all at once: each nibble to a byte of its own, then to its letter. */
static uint64_t hex8(uint32_t word)
{
    uint64_t digits = word, letters;

    digits = (digits | digits << 16) & UINT64_C(0x0000ffff0000ffff);
    digits = (digits | digits << 8) & UINT64_C(0x00ff00ff00ff00ff);
    digits = (digits | digits << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    letters = (digits + UINT64_C(0x0606060606060606)) >> 4 & UINT64_C(0x0101010101010101);
    return digits + UINT64_C(0x3030303030303030) + letters * ('a' - '0' - 10);
}

static void make_id(struct weir_req *req)
{
    char *out;

    if (take_id(req))
        return;
    out = weir_arena_text(&req->arena, 32);
    if (!out)
        return;
    for (int i = 0; i < 2; i++) {
        uint64_t word = weir_worker_random(req->worker);
        uint64_t text[2] = { hex8((uint32_t)word), hex8((uint32_t)(word >> 32)) };

        memcpy(out + i * sizeof(text), text, sizeof(text));
    }
    req->id = (struct weir_str){ out, 32 };
}

/* Names with '_' are another name to CGI-like servers: X_Forwarded_For. */
static int apply_underscores(struct weir_req *req)
{
    int how = req->listener->conf->underscores;
    unsigned kept = 0;

    if (how == WEIR_UNDERSCORES_PASS)
        return 0;
    for (unsigned i = 0; i < req->in.count; i++) {
        const struct weir_field *field = &req->in.fields[i];

        if (field->id == WEIR_F_OTHER && memchr(field->name.ptr, '_', field->name.len)) {
            if (how == WEIR_UNDERSCORES_REJECT)
                return WEIR_EUNDERSCORE;
            continue;
        }
        if (kept != i)
            req->in.fields[kept] = *field;
        kept++;
    }
    req->in.count = (uint16_t)kept;
    return 0;
}

static int find_route(struct weir_req *req)
{
    const struct weir_listener *listener = req->listener;
    const struct weir_tls_info *tls = listener->tls ? weir_stream_tls(req->session->stream) : NULL;
    struct weir_match_input in = { .msg = &req->in,
                                   .host = weir_host_name(req->in.host),
                                   .client = &req->client_addr,
                                   .sni = req->sni,
                                   .port = req->session->local_port };
    int err;

    if (tls) {
        in.sni = tls->sni;
        if (in.host.len && !weir_tls_server_serves(tls, in.host))
            return WEIR_EMISDIRECTED;
    }
    err = weir_routes_find(&listener->routes, &in, req->worker->scratch, &req->route);
    if (err)
        return err;
    if (!req->route)
        return WEIR_ENOROUTE;
    req->target = req->route->target;
    return 0;
}

static bool upgrade_allowed(const struct weir_route_conf *conf, struct weir_str protocol)
{
    for (size_t i = 0; i < conf->upgrade.count; i++)
        if (weir_str_ieq(conf->upgrade.at[i], protocol))
            return true;
    return false;
}

static int check_method(struct weir_req *req)
{
    switch (req->in.method_id) {
    case WEIR_M_TRACE:
        return WEIR_EMETHOD;
    case WEIR_M_CONNECT:
        return req->route->conf->connect ? 0 : WEIR_EMETHOD;
    default:
        return 0;
    }
}

void weir_forward_name(struct weir_req *req)
{
    weir_session_addr(req->session, &req->client_addr);
    weir_hops_client(req->listener, &req->in, &req->client_addr);
    req->client = (struct weir_str){ req->client_text,
                                     weir_addr_print_ip(&req->client_addr, req->client_text) };
    make_id(req);
}

/* As HTTP: what is done to its head before a route is looked for, and what the route allows. */
static int begin_http(struct weir_req *req)
{
    struct weir_limit_conf const *limits;
    int err = apply_underscores(req);

    if (!err && req->in.form != WEIR_T_AUTHORITY && req->in.form != WEIR_T_ASTERISK)
        err = weir_path_apply((enum weir_paths)req->listener->conf->paths, &req->in.path,
                              &req->arena);
    if (!err)
        err = find_route(req);
    if (!err)
        err = check_method(req);
    if (err)
        return err;
    limits = weir_req_limits(req);
    if (limits->body >= 0 &&
        ((req->in.body == WEIR_BODY_LENGTH && req->in.length > (uint64_t)limits->body) ||
         req->to_up.bytes > (uint64_t)limits->body)) { /* chunks that came with the head */
        req->close_after = true;
        return WEIR_EBODYSIZE;
    }
    if (limits->keepalive_requests > 0 && req->session->requests >= limits->keepalive_requests)
        req->close_after = true;
    if (weir_session_is_last(req->session))
        req->close_after = true;
    if (req->close_after) /* the connection has had its share, or all end */
        weir_codec_shutdown(req->down->codec);
    if (req->in.upgrade.len && !upgrade_allowed(req->route->conf, req->in.upgrade)) {
        if (req->in.must_switch)
            return WEIR_ENOUPGRADE;
        req->in.upgrade = (struct weir_str){ NULL, 0 };
    }
    return weir_grpc_begin(req);
}

int weir_forward_begin(struct weir_req *req)
{
    weir_forward_name(req);
    if (atomic_load_explicit(&req->worker->service->pressure, memory_order_relaxed)) {
        req->close_after = true;
        return WEIR_EOVERLOAD;
    }
    return req->down ? begin_http(req) : find_route(req);
}

/* --- to the upstream ---------------------------------------------------------------------------
 */

static struct weir_str join(struct weir_arena *arena, struct weir_str a, struct weir_str sep,
                            struct weir_str b)
{
    char *out = weir_arena_text(arena, a.len + sep.len + b.len);

    if (!out)
        return (struct weir_str){ NULL, 0 };
    memcpy(out, a.ptr, a.len);
    memcpy(out + a.len, sep.ptr, sep.len);
    memcpy(out + a.len + sep.len, b.ptr, b.len);
    return (struct weir_str){ out, a.len + sep.len + b.len };
}

static int push(struct weir_message *msg, enum weir_field_id id, struct weir_str value)
{
    return weir_str_absent(value) ? WEIR_ENOMEM
                                  : weir_message_push(msg, id, weir_field_name(id), value);
}

/* All fields of a name in one list. */
static struct weir_str list_of(struct weir_req *req, const struct weir_message *msg,
                               enum weir_field_id id)
{
    struct weir_str list = { NULL, 0 };

    for (unsigned i = 0; i < msg->count; i++)
        if (msg->fields[i].id == id)
            list = list.len ? join(&req->arena, list, WEIR_STR(", "), msg->fields[i].value)
                            : msg->fields[i].value;
    return list;
}

enum { FORWARDED_VALUE_MAX = 1024 };

/* What is said of how a request came: by a trusted proxy as far as it knows, else by us. */
struct forwarded {
    struct weir_str hop, proto, host;
    struct weir_str x_list, list; /* of a trusted proxy: X-Forwarded-For, Forwarded */
};

static int push_x_forwarded(struct weir_req *req, struct weir_message *up,
                            const struct forwarded *f)
{
    int err = push(up, WEIR_F_X_FORWARDED_FOR,
                   f->x_list.len ? join(&req->arena, f->x_list, WEIR_STR(", "), f->hop) : f->hop);

    if (!err)
        err = push(up, WEIR_F_X_FORWARDED_PROTO, f->proto);
    if (!err && f->host.len)
        err = push(up, WEIR_F_X_FORWARDED_HOST, f->host);
    return err;
}

static char *put(char *at, struct weir_str text)
{
    memcpy(at, text.ptr, text.len);
    return at + text.len;
}

/* A quoted-string: at most twice as long, and 2. */
static char *put_quoted(char *at, struct weir_str text)
{
    *at++ = '"';
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            *at++ = '\\';
        *at++ = text.ptr[i];
    }
    *at++ = '"';
    return at;
}

/* "for": an IPv6 address stands in brackets, so it is quoted; what is no address (UNIX) is unknown. */
static char *put_for(char *at, struct weir_str hop)
{
    if (memchr(hop.ptr, ':', hop.len)) {
        at = put(put(at, WEIR_STR("for=\"[")), hop);
        return put(at, WEIR_STR("]\""));
    }
    return put(put(at, WEIR_STR("for=")),
               memchr(hop.ptr, '.', hop.len) ? hop : WEIR_STR("unknown"));
}

/* One element of RFC 7239 4: values that are no token are quoted; one that is empty, or longer than
 * any host or scheme is, is left out. */
static struct weir_str rfc7239_element(struct weir_arena *arena, const struct forwarded *f)
{
    bool host = f->host.len && f->host.len <= FORWARDED_VALUE_MAX;
    bool proto = f->proto.len && f->proto.len <= FORWARDED_VALUE_MAX;
    size_t room = f->hop.len + 2 * (host ? f->host.len : 0) + 2 * (proto ? f->proto.len : 0);
    char *out = weir_arena_text(arena, room + sizeof("for=\"[unknown]\";host=\"\";proto=\"\""));
    char *at;

    if (!out)
        return (struct weir_str){ NULL, 0 };
    at = put_for(out, f->hop);
    if (host)
        at = put_quoted(put(at, WEIR_STR(";host=")), f->host);
    if (proto) {
        at = put(at, WEIR_STR(";proto="));
        at = weir_guard_name(f->proto) ? put(at, f->proto) : put_quoted(at, f->proto);
    }
    return (struct weir_str){ out, (size_t)(at - out) };
}

static int push_rfc7239(struct weir_req *req, struct weir_message *up, const struct forwarded *f)
{
    struct weir_str element = rfc7239_element(&req->arena, f);

    if (element.len && f->list.len)
        element = join(&req->arena, f->list, WEIR_STR(", "), element);
    return push(up, WEIR_F_FORWARDED, element);
}

static void drop_forwarded(struct weir_message *up)
{
    static const enum weir_field_id ids[] = { WEIR_F_X_FORWARDED_FOR, WEIR_F_X_FORWARDED_PROTO,
                                              WEIR_F_X_FORWARDED_HOST, WEIR_F_X_FORWARDED_PORT,
                                              WEIR_F_FORWARDED };

    if (up->has & (1ull << WEIR_F_X_FORWARDED_FOR | 1ull << WEIR_F_X_FORWARDED_PROTO |
                   1ull << WEIR_F_X_FORWARDED_HOST | 1ull << WEIR_F_X_FORWARDED_PORT |
                   1ull << WEIR_F_FORWARDED))
        for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
            weir_message_drop(up, ids[i]);
}

/* What an untrusted client sent of both kinds is removed in every mode; a trusted one's list is
 * continued, or goes on as it is when we say nothing. */
static int push_forwarded(struct weir_req *req, struct weir_message *up)
{
    const struct weir_listener *listener = req->listener;
    struct forwarded f = { .hop = req->client, /* the peer, where nobody is trusted */
                           .proto = listener->tls ? WEIR_STR("https") : WEIR_STR("http"),
                           .host = req->in.host };
    char text[WEIR_ADDR_TEXT_MAX];
    struct weir_addr peer;
    bool trusted = false;

    if (listener->trusted_count) {
        weir_session_addr(req->session, &peer);
        trusted = weir_hops_trusted(listener, &peer);
        f.hop = weir_arena_copy(&req->arena,
                                (struct weir_str){ text, weir_addr_print_ip(&peer, text) });
        if (weir_str_absent(f.hop))
            return WEIR_ENOMEM;
    }
    if (trusted && listener->conf->forwarded == WEIR_FORWARDED_OFF)
        return 0;
    if (trusted) {
        struct weir_str told = weir_message_field(up, WEIR_F_X_FORWARDED_PROTO);

        f.x_list = list_of(req, up, WEIR_F_X_FORWARDED_FOR);
        f.list = list_of(req, up, WEIR_F_FORWARDED);
        f.proto = told.len ? told : f.proto;
        told = weir_message_field(up, WEIR_F_X_FORWARDED_HOST);
        f.host = told.len ? told : f.host;
    }
    drop_forwarded(up);
    switch (listener->conf->forwarded) {
    case WEIR_FORWARDED_X:
        return push_x_forwarded(req, up, &f);
    case WEIR_FORWARDED_RFC7239:
        return push_rfc7239(req, up, &f);
    default:
        return 0;
    }
}

static int push_via(struct weir_req *req, struct weir_message *msg, const struct weir_message *came)
{
    struct weir_str via = req->listener->via[came->http2 ? 2 : came->http10 ? 1 : 0];

    return via.len ? push(msg, WEIR_F_VIA, via) : 0;
}

/* A client of HTTP/1.0 may name none; what we send must have one (RFC 9112 3.2, RFC 9113 8.3.1). */
static struct weir_str host_for(const struct weir_req *req)
{
    if (req->route->conf->host == WEIR_HOST_NAME)
        return req->route->conf->host_name;
    if (req->route->conf->host == WEIR_HOST_SERVER || !req->in.host.len)
        return weir_server_authority(req->server_chosen);
    return req->in.host;
}

static bool is_websocket(const struct weir_message *msg)
{
    return msg->upgrade.len && weir_str_ieq(msg->upgrade, WEIR_STR("websocket"));
}

/* A client of HTTP/2 has none (RFC 8441 5), a server of HTTP/1.1 wants one. */
static int push_websocket_key(struct weir_req *req, struct weir_message *up)
{
    uint64_t random[2] = { weir_worker_random(req->worker), weir_worker_random(req->worker) };

    if (!is_websocket(up) || weir_message_field(up, WEIR_F_SEC_WEBSOCKET_KEY).len)
        return 0;
    return push(up, WEIR_F_SEC_WEBSOCKET_KEY, weir_websocket_key(&req->arena, random));
}

int weir_forward_request(struct weir_req *req, struct weir_message *up)
{
    const struct weir_listener_conf *conf = req->listener->conf;
    int err = weir_message_clone(up, &req->in, &req->arena);

    if (err)
        return err;
    weir_message_strip_hop(up);
    if (up->form == WEIR_T_ABSOLUTE)
        up->form = WEIR_T_ORIGIN;
    up->host = host_for(req);
    up->keep_alive = true;
    up->http10 = false;
    err = push_websocket_key(req, up);
    if (!err)
        err = push_forwarded(req, up);
    if (!err)
        err = push_via(req, up, &req->in);
    if (!err && conf->request_id.len) {
        enum weir_field_id id = weir_field_id(conf->request_id);

        if (id)
            weir_message_drop(up, id);
        else
            weir_message_drop_name(up, conf->request_id);
        err = req->id.len ? weir_message_push(up, id, conf->request_id, req->id) : WEIR_ENOMEM;
        if (!err) /* it never comes again */
            weir_message_never_index(up);
    }
    return err ?: weir_grpc_forward(req, up);
}

/* --- to the client -----------------------------------------------------------------------------
 */

/* A server of HTTP/2 proves nothing, a client of HTTP/1.1 wants proof of its key; what a server of HTTP/1.1 proves is
 * looked at where the key was ours: where the client's, it looks itself. */
static int check_websocket(struct weir_req *req, struct weir_message *answer)
{
    struct weir_str key = weir_message_field(&req->in, WEIR_F_SEC_WEBSOCKET_KEY),
                    asked = weir_message_field(&req->up_head, WEIR_F_SEC_WEBSOCKET_KEY),
                    proof = weir_message_field(answer, WEIR_F_SEC_WEBSOCKET_ACCEPT);

    if (key.len && !proof.len && answer->http2)
        return push(answer, WEIR_F_SEC_WEBSOCKET_ACCEPT, weir_websocket_accept(&req->arena, key));
    if (!key.len && !answer->http2 &&
        !weir_str_eq(proof, weir_websocket_accept(&req->arena, asked)))
        return WEIR_EUPSWITCH;
    return 0;
}

int weir_forward_answer(struct weir_req *req, struct weir_message *answer)
{
    if (req->in.method_id == WEIR_M_CONNECT && answer->status / 100 != 2) {
        req->close_after = true; /* reply.c says why */
        weir_hstream_last(req->down);
    }
    if (answer->status != 101) {
        weir_message_strip_hop(answer);
    } else if (is_websocket(&req->in)) {
        int err = check_websocket(req, answer);

        if (err)
            return err;
    }
    answer->keep_alive = true;
    return weir_forward_date(req, answer) ?: push_via(req, answer, answer);
}

int weir_forward_date(struct weir_req *req, struct weir_message *answer)
{
    struct weir_str now;

    if (!weir_str_absent(weir_message_field(answer, WEIR_F_DATE)))
        return 0;
    now = weir_arena_copy(&req->arena, weir_worker_date(req->worker));
    return weir_str_absent(now) ? WEIR_ENOMEM : push(answer, WEIR_F_DATE, now);
}
