/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/tunnel_light.h"

#include "base/clock.h"
#include "base/str.h"

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
};

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
