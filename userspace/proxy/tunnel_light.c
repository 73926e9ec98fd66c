/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/tunnel_light.h"

#include "base/clock.h"
#include "base/str.h"
#include "net/tcp.h"
#include "weir/balance.h"

#include <stdlib.h>

static struct weir_session *session_of(struct weir_splice_owner *owner)
{
    struct weir_session *session = weir_container(owner, struct weir_session, light.owner);

    weir_assert(session->magic == WEIR_SESSION_MAGIC);
    return session;
}

static struct weir_worker *worker_of(const struct weir_session *session)
{
    return session->wl->worker;
}

static struct weir_seat *seat_of(const struct weir_session *session)
{
    return &session->light.more->listener->snapshot->seats[worker_of(session)->id];
}

/* --- beginning ----------------------------------------------------------------------------------
 */

static bool read_hex(struct weir_str text, uint8_t *bytes, size_t count)
{
    if (text.len != 2 * count)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (digit < 0)
            return false;
        bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | digit);
    }
    return true;
}

static struct weir_str put(char **at, struct weir_str text)
{
    struct weir_str copy = { *at, text.len };

    if (!text.len)
        return (struct weir_str){ NULL, 0 };
    memcpy(*at, text.ptr, text.len);
    *at += text.len;
    return copy;
}

/* One piece of memory; NULL without. */
static struct weir_tls_info *copy_tls(const struct weir_tls_info *tls)
{
    struct weir_tls_info *copy =
        malloc(sizeof(*copy) + tls->version.len + tls->cipher.len + tls->sni.len);
    char *at = (char *)(copy + 1);

    if (copy)
        *copy = (struct weir_tls_info){ .version = put(&at, tls->version),
                                        .cipher = put(&at, tls->cipher),
                                        .sni = put(&at, tls->sni),
                                        .resumed = tls->resumed };
    return copy;
}

/* Does anybody still need the request, or know it? */
static bool needed(const struct weir_req *req)
{
    return req->down || req->pins || req->running || req->parked || req->conn ||
           req->route->chains.phase[WEIR_PH_LOGGING].count;
}

/* --- what outlives this process ------------------------------------------------------------------
 */

/* What the next process has to know, and the sockets. False: it is not to be known now. */
static bool describe(const struct weir_session *session, struct weir_kept *kept)
{
    const struct weir_light *light = &session->light;
    const struct weir_light_more *more = light->more;

    *kept = (struct weir_kept){ .record = { .version = WEIR_KEPT_VERSION,
                                            .began_us = light->began_us,
                                            .connect_us = more->connect_us,
                                            .local_port = session->local_port,
                                            .peer_port = session->peer.port,
                                            .attempts = more->attempts,
                                            .used = light->splice.used,
                                            .slot = more->slot,
                                            .peer_unix = session->peer_unix } };
    memcpy(kept->record.id, more->id, sizeof(more->id));
    memcpy(kept->record.peer_ip, session->peer.ip, sizeof(session->peer.ip));
    kept->record.listener = weir_kept_name(more->listener->conf->name);
    kept->record.route = weir_kept_name(more->route->conf->name);
    kept->record.upstream = weir_kept_name(weir_light_upstream(session));
    kept->record.server = weir_kept_name(weir_light_server(session));
    for (unsigned side = 0; side < 2; side++)
        kept->fd[side] = weir_stream_fd(light->splice.stream[side]);
    if (light->splice.dir[0].mover == WEIR_MOVER_SOCKMAP ||
        light->splice.dir[1].mover == WEIR_MOVER_SOCKMAP)
        kept->record.kern = worker_of(session)->splicer.kern_id;
    return weir_splice_mark(&light->splice, &kept->record.mark);
}

/* The kernel moves it: the keeper has it from now on. */
static void keep(struct weir_session *session)
{
    struct weir_light *light = &session->light;
    struct weir_light_more *more = light->more;
    struct weir_kept kept;

    if (more->kept || !worker_of(session)->keep.keeping || !weir_splice_in_kernel(&light->splice) ||
        !describe(session, &kept))
        return;
    more->kept = weir_keep_hold(&worker_of(session)->keep, &kept,
                                weir_stream_cookie(light->splice.stream[WEIR_SPLICE_DOWN]));
    for (unsigned side = 0; side < 2 && more->kept; side++)
        weir_stream_share(light->splice.stream[side]);
}

static void on_moving(struct weir_splice_owner *owner)
{
    keep(session_of(owner));
}

static const struct weir_splice_sink light_sink;

bool weir_light_take(struct weir_tunnel *tunnel)
{
    struct weir_session *session = tunnel->session;
    struct weir_req *req = tunnel->req;
    struct weir_light_more *more;
    uint64_t began_us = req->began_us;

    if (!session || !session->raw || needed(req))
        return false;
    more = weir_slab_get(&req->worker->lights);
    if (!more)
        return false;
    more->tls = tunnel->tls ? copy_tls(tunnel->tls) : NULL;
    if ((tunnel->tls && !more->tls) || !read_hex(req->id, more->id, sizeof(more->id)) ||
        !weir_splice_move(&session->light.splice, &tunnel->splice)) {
        free(more->tls);
        weir_slab_put(&req->worker->lights, more);
        return false;
    }
    more->view = tunnel->token.view;
    more->server = tunnel->token.server;
    more->slot = tunnel->token.slot;
    more->listener = req->listener;
    more->route = req->route;
    more->connect_us = req->connect_us > UINT32_MAX ? UINT32_MAX : (uint32_t)req->connect_us;
    more->attempts = (uint8_t)req->attempts;
    session->light.owner.sink = &light_sink;
    session->light.splice.owner = &session->light.owner;
    session->light.more = more;
    weir_seat_hold(seat_of(session));
    session->light.began_us = began_us;
    session->tunnel = NULL;
    weir_session_drop_held(session);
    weir_session_part(session, req);
    weir_session_set_state(session, WEIR_SESSION_TUNNEL);
    weir_req_drop(req);
    keep(session);
    light_sink.on_look(&session->light.owner);
    return true;
}

/* --- its end, and what is told of it ------------------------------------------------------------
 */

static void light_log(struct weir_session *session, const struct weir_error *error,
                      uint64_t took_us)
{
    const struct weir_light_more *more = session->light.more;
    const struct weir_splice *splice = &session->light.splice;
    char id[2 * sizeof(more->id)], client[WEIR_ADDR_TEXT_MAX];
    struct weir_access_record record;
    struct weir_path_info info;
    struct weir_addr addr;

    if (!more->route->log)
        return;
    for (size_t i = 0; i < sizeof(id); i++)
        id[i] = "0123456789abcdef"[more->id[i / 2] >> (i % 2 ? 0 : 4) & 15];
    weir_session_addr(session, &addr);
    record = (struct weir_access_record){
        .wall_us = weir_clock_wall_us() - took_us,
        .id = { id, sizeof(id) },
        .listener = weir_str(session->wl->door->name),
        .route = more->route->conf->name,
        .client = { client, weir_addr_print_ip(&addr, client) },
        .protocol = WEIR_STR("tcp"),
        .status = 200,
        .bytes_in = splice->bytes[WEIR_SPLICE_DOWN],
        .bytes_out = splice->bytes[WEIR_SPLICE_UP],
        .duration_us = took_us,
        .upstream = weir_light_upstream(session),
        .server = weir_light_server(session),
        .attempts = more->attempts,
        .connect_us = more->connect_us,
        .tls = more->tls,
        .error = error->code ? error : NULL,
        .mover = weir_str(weir_splice_mover(splice)),
    };
    if (weir_stream_path_info(session->stream, &info))
        record.path_info = &info;
    weir_access_log_write(more->route->log, &record);
}

static void light_end(struct weir_session *session, const struct weir_error *error)
{
    struct weir_splice *splice = &session->light.splice;
    uint64_t now_us = weir_clock_us(), began_us = session->light.began_us;
    uint64_t took_us = now_us > began_us ? now_us - began_us : 0;

    if (splice->stopped)
        return;
    weir_splice_sync(splice);
    if (session->light.more->kept)
        weir_keep_let_go(&worker_of(session)->keep,
                         weir_stream_cookie(splice->stream[WEIR_SPLICE_DOWN]),
                         error->code != WEIR_OK);
    weir_splice_stop(splice);
    light_log(session, error, took_us);
    weir_req_stats(session->light.more->listener, worker_of(session), session->light.more->route,
                   200, took_us, error);
    weir_stream_close(splice->stream[WEIR_SPLICE_UP], error->code || session->closed);
    weir_session_close(session, error->code != WEIR_OK);
}

void weir_light_stop(struct weir_session *session)
{
    light_end(session, &(struct weir_error){ WEIR_OK, WEIR_BY_US, WEIR_RETRY_NO, 0, "tunnel" });
}

static void on_over(struct weir_splice_owner *owner, enum weir_err err, unsigned side)
{
    struct weir_error error = weir_tunnel_error(err, side);

    light_end(session_of(owner), &error);
}

static void on_closed(struct weir_splice_owner *owner, unsigned side)
{
    struct weir_session *session = session_of(owner);
    struct weir_light_more *more = session->light.more;

    more->closed |= (1u << side) & 3;
    if (side == WEIR_SPLICE_UP) {
        struct weir_pool_token token = { more->view, more->server, more->slot };

        weir_pool_token_put(&token);
    }
    if (more->closed != 3)
        return;
    weir_seat_drop(seat_of(session));
    free(more->tls);
    weir_slab_put(&worker_of(session)->lights, more);
    weir_session_free(session);
}

static void on_look(struct weir_splice_owner *owner)
{
    struct weir_session *session = session_of(owner);
    struct weir_splice *splice = &session->light.splice;

    if (weir_tunnel_idle(splice, &session->light.more->route->conf->timeouts))
        on_over(owner, WEIR_ETIMEDOUT, WEIR_SPLICE_US);
}

static const struct weir_splice_sink light_sink = {
    .on_over = on_over,
    .on_closed = on_closed,
    .on_look = on_look,
    .on_moving = on_moving,
};

/* --- at an upgrade --------------------------------------------------------------------------------
 */

bool weir_light_describe(struct weir_session *session, uint32_t kern, struct weir_kept *kept)
{
    struct weir_splice *splice = &session->light.splice;
    uint32_t ours = worker_of(session)->splicer.kern_id;

    if (splice->over || weir_splice_unplain(splice))
        return false;
    if (describe(session, kept) && (!kept->record.kern || kept->record.kern == kern))
        return true;
    if (!ours || ours != kern || !weir_splice_in_kernel(splice)) /* by copy it can */
        weir_splice_set_policy(splice, WEIR_SPLICE_OFF);
    return false;
}

void weir_light_part(struct weir_session *session)
{
    struct weir_light_more *more = session->light.more;
    struct weir_splice *splice = &session->light.splice;
    struct weir_worker *worker = worker_of(session);

    if (more->kept)
        weir_keep_gone(&worker->keep, weir_stream_cookie(splice->stream[WEIR_SPLICE_DOWN]));
    weir_splice_part(splice);
    weir_count(&more->listener->door->at[worker->id].stats.in_flight, (uint64_t)-1);
    for (unsigned side = 0; side < 2; side++)
        weir_stream_share(splice->stream[side]);
    weir_stream_close(splice->stream[WEIR_SPLICE_UP], false);
    weir_session_close(session, false);
}

/* --- one of a process before this one -----------------------------------------------------------
 */

/* Where it belongs now: what had these names when it began, or what comes next to that. NULL: nowhere. */
static const struct weir_listener *home_of(const struct weir_snapshot *snapshot, uint64_t name)
{
    const struct weir_listener *any = NULL;

    for (unsigned i = 0; i < snapshot->listener_count; i++) {
        const struct weir_listener *one = &snapshot->listeners[i];

        if (!one->routes.count)
            continue;
        if (weir_kept_name(one->conf->name) == name)
            return one;
        any = any ? any : one;
    }
    return any;
}

static const struct weir_route *route_of(const struct weir_listener *listener, uint64_t name)
{
    for (unsigned i = 0; i < listener->routes.count; i++)
        if (weir_kept_name(listener->routes.at[i].conf->name) == name)
            return &listener->routes.at[i];
    return &listener->routes.at[0];
}

/* Its server goes on to count it; one that is gone has nothing to count. */
static void token_of(const struct weir_worker *worker, const struct weir_kept_record *record,
                     struct weir_pool_token *token)
{
    const struct weir_snapshot *snapshot = worker->snapshot;

    for (unsigned i = 0; i < snapshot->target_count; i++) {
        struct weir_cluster *cluster = snapshot->targets[i]->cluster;

        for (unsigned s = 0; s < weir_cluster_count(cluster); s++) {
            const struct weir_server *server = weir_cluster_server(cluster, s);

            if (weir_kept_name(weir_cluster_name(cluster)) != record->upstream ||
                weir_kept_name(weir_server_name(server)) != record->server)
                continue;
            *token = (struct weir_pool_token){ weir_worker_view(worker, snapshot->targets[i]),
                                               (struct weir_server *)server, record->slot != 0 };
            weir_pool_token_resume(token);
            return;
        }
    }
}

/* NULL: no memory. */
static struct weir_light_more *more_of(struct weir_worker *worker,
                                       const struct weir_listener *listener,
                                       const struct weir_kept_record *record)
{
    struct weir_light_more *more = weir_slab_get(&worker->lights);
    struct weir_pool_token token = { 0 };

    if (!more)
        return NULL;
    token_of(worker, record, &token);
    memcpy(more->id, record->id, sizeof(more->id));
    more->view = token.view;
    more->server = token.server;
    more->slot = token.slot;
    more->listener = listener;
    more->route = route_of(listener, record->route);
    more->connect_us = record->connect_us;
    more->attempts = record->attempts;
    more->kept = true;
    return more;
}

static void client_of(const struct weir_kept_record *record, struct weir_addr *client)
{
    *client = (struct weir_addr){ .len = sizeof(sa_family_t) };
    client->sa.sa_family = AF_UNIX;
    if (!record->peer_unix)
        weir_addr_from_bytes(client, record->peer_ip, record->peer_port);
}

/* Both streams; `found` gets them. NULL: no memory, and nothing of it is left here. */
static struct weir_session *session_for(struct weir_wlistener *wl, const struct weir_kept *kept,
                                        struct weir_splice_found *found)
{
    struct weir_stream *up =
        weir_tcp_adopt(&wl->worker->loop, kept->fd[WEIR_SPLICE_UP], NULL, NULL);
    struct weir_session *session;
    struct weir_addr client;

    client_of(&kept->record, &client);
    session = weir_session_adopt(wl, kept->fd[WEIR_SPLICE_DOWN], &client, kept->record.local_port);
    found->stream[WEIR_SPLICE_DOWN] = session ? session->stream : NULL;
    found->stream[WEIR_SPLICE_UP] = up;
    for (unsigned side = 0; side < 2; side++)
        if (found->stream[side])
            weir_stream_share(found->stream[side]);
    if (session && up)
        return session;
    if (session)
        weir_session_close(session, true);
    if (up) {
        weir_stream_set_sink(up, &weir_kept_nobody, NULL);
        weir_stream_close(up, true);
    }
    return NULL;
}

static void refuse(struct weir_worker *worker, const struct weir_kept *kept, uint64_t cookie)
{
    weir_keep_let_go(&worker->keep, cookie, true);
    for (unsigned side = 0; side < 2; side++)
        close(kept->fd[side]);
}

static void go_on(struct weir_session *session, const struct weir_splice_found *found)
{
    struct weir_light *light = &session->light;
    const struct weir_listener *listener = light->more->listener;

    light->owner.sink = &light_sink;
    session->requests = 1;
    weir_seat_hold(seat_of(session));
    weir_count(&listener->door->at[worker_of(session)->id].stats.in_flight, 1);
    weir_session_set_state(session, WEIR_SESSION_TUNNEL);
    weir_splice_adopt(&light->splice, &light->owner, found);
}

void weir_light_adopt(struct weir_worker *worker, const struct weir_kept *kept)
{
    const struct weir_kept_record *record = &kept->record;
    const struct weir_listener *listener = home_of(worker->snapshot, record->listener);
    struct weir_splice_found found = { .mark = record->mark, .used = record->used };
    uint64_t cookie = weir_kept_cookie(kept);
    bool good = listener && record->version == WEIR_KEPT_VERSION &&
                (!record->kern || record->kern == worker->splicer.kern_id);
    struct weir_light_more *more = good ? more_of(worker, listener, record) : NULL;
    struct weir_session *session;

    if (!more) {
        refuse(worker, kept, cookie);
        return;
    }
    session = session_for(&listener->door->at[worker->id], kept, &found);
    if (!session) { /* descriptors are gone */
        struct weir_pool_token token = { more->view, more->server, more->slot };

        weir_pool_token_put(&token);
        weir_slab_put(&worker->lights, more);
        weir_keep_let_go(&worker->keep, cookie, true);
        return;
    }
    session->light.more = more;
    session->light.began_us = record->began_us;
    session->born_s = (uint32_t)(record->began_us / 1000000);
    found.policy = weir_light_splice(session);
    go_on(session, &found);
}

/* --- for people ---------------------------------------------------------------------------------
 */

struct weir_str weir_light_route(const struct weir_session *session)
{
    return session->light.more->route->conf->name;
}

struct weir_str weir_light_upstream(const struct weir_session *session)
{
    return weir_view_name(session->light.more->view);
}

struct weir_str weir_light_server(const struct weir_session *session)
{
    return weir_server_name(session->light.more->server);
}
