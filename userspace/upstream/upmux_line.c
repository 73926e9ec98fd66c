/* SPDX-License-Identifier: Apache-2.0 */
/**
 * upmux_line.c: which connection of HTTP/2 an exchange goes to, and when another is opened.
 *
 * The first with room, oldest first: so the others run empty and close. Nobody connects while a connection that is being
 * made will have room for all that wait; while it is not known what the server speaks, for any number: the first answer
 * tells (ALPN). What is done then depends on it: leases, or a connection each.
 *
 * Requests do not wait for the server's SETTINGS: until they have come a connection takes what the one before it took, and
 * the first one 100, which is the least that RFC 9113 6.5.2 recommends (and what nghttp2, Go and HAProxy take). A server
 * that allows fewer refuses the rest (REFUSED_STREAM), which is sent again at once, whatever the method, without a token
 * of the retry budget; by then its SETTINGS are known, since they come first. Waiting would cost every connection a round
 * trip, for what happens to the first connection of a worker to a server of that kind.
 */
#include "upstream/upmux.h"

void weir_upmux_init(struct weir_cluster_view *view, struct weir_server_view *sv)
{
    const struct weir_cluster_conf *conf = view->cluster->conf;

    weir_list_init(&sv->muxes);
    sv->mux_room = UPMUX_ROOM;
    if (conf->protocol == WEIR_UPSTREAM_AUTO)
        sv->speaks = view->cluster->tls ? UPSPEAKS_UNKNOWN : UPSPEAKS_H1;
    else
        sv->speaks = conf->protocol == WEIR_UPSTREAM_H2 ? UPSPEAKS_H2 : UPSPEAKS_H1;
}

bool weir_upstream_is_h2(const struct weir_server *server, struct weir_stream *stream)
{
    const struct weir_tls_info *tls = weir_stream_tls(stream);

    if (tls)
        return weir_str_eq(tls->alpn, WEIR_STR("h2"));
    return server->cluster->conf->protocol == WEIR_UPSTREAM_H2;
}

enum weir_upspeaks weir_upmux_learn(const struct weir_upconn *conn)
{
    struct weir_server_view *sv = server_view(conn->view, conn->server);
    int protocol = conn->view->cluster->conf->protocol;
    bool h2;

    if (protocol == WEIR_UPSTREAM_H1)
        return UPSPEAKS_H1;
    h2 = weir_upstream_is_h2(conn->server, conn->stream);
    if (protocol == WEIR_UPSTREAM_H2)
        return h2 ? UPSPEAKS_H2 : UPSPEAKS_UNKNOWN;
    sv->speaks = h2 ? UPSPEAKS_H2 : UPSPEAKS_H1;
    sv->learned_ms = conn->view->loop->now_ms;
    return (enum weir_upspeaks)sv->speaks;
}

bool weir_upmux_avoids(const struct weir_cluster_view *view, const struct weir_server_view *sv,
                       const struct weir_acquire_opts *opts)
{
    return view->cluster->conf->protocol == WEIR_UPSTREAM_AUTO && sv->speaks == UPSPEAKS_H2 &&
           (opts->http1 || (opts->upgrade && sv->no_upgrade));
}

/* What is known, unless it was learned too long ago. */
static enum weir_upspeaks sv_speaks(const struct weir_cluster_view *view,
                                    struct weir_server_view *sv)
{
    if (sv->learned_ms && sv->speaks == UPSPEAKS_H1 &&
        view->loop->now_ms - sv->learned_ms >= UPMUX_SPEAKS_MS)
        sv->speaks = UPSPEAKS_UNKNOWN;
    return (enum weir_upspeaks)sv->speaks;
}

/* --- which one --- */

static bool mux_is_worn(const struct weir_upmux *mux, const struct weir_server_view *sv)
{
    const struct weir_cluster_conf *conf = mux->view->cluster->conf;
    uint64_t age = mux->view->loop->now_ms - mux->born_ms;

    if (conf->pool.requests_max > 0 && mux->requests >= (uint64_t)conf->pool.requests_max)
        return true;
    if (conf->pool.age_max_ms > 0 && age >= (uint64_t)conf->pool.age_max_ms)
        return true;
    return conf->connections_max > 0 && age >= UPMUX_TURN_MS && /* now others may have its slot */
           atomic_load_explicit(&mux->server->queued, memory_order_relaxed) > sv->queued;
}

static struct weir_upmux *sv_pick(struct weir_server_view *sv, bool fresh)
{
    weir_list_each(pos, tmp, &sv->muxes)
    {
        struct weir_upmux *mux = weir_list_entry(pos, struct weir_upmux, link);

        if (mux_is_worn(mux, sv))
            weir_upmux_retire(mux);
        else if (weir_upmux_room(mux) &&
                 (!fresh || mux->view->loop->now_ms - mux->born_ms < UPMUX_FRESH_MS))
            return mux;
    }
    return NULL;
}

struct weir_upconn *weir_upmux_lease(struct weir_server_view *sv, bool fresh)
{
    struct weir_upmux *mux = sv_pick(sv, fresh);

    return mux ? weir_upmux_lease_new(mux) : NULL;
}

/* --- the line --- */

bool weir_upmux_full(const struct weir_server_view *sv)
{
    unsigned max = sv->mux_room ? UPMUX_MAX : 1; /* where it allows none another is no help */

    return sv->speaks == UPSPEAKS_H2 && sv->mux_count + sv->connecting >= max;
}

unsigned weir_upmux_supply(const struct weir_cluster_view *view, struct weir_server_view *sv)
{
    switch (sv_speaks(view, sv)) {
    case UPSPEAKS_H1:
        return 0;
    case UPSPEAKS_H2: /* each has somebody who makes it */
        return sv->mux_room ? sv->connecting * (sv->mux_room - 1) : 0;
    default:
        return sv->connecting ? UINT32_MAX : 0;
    }
}

void weir_upmux_serve(struct weir_cluster_view *view, struct weir_server_view *sv)
{
    weir_list_each(pos, tmp, &sv->waiting)
    {
        struct weir_acquire *acq = weir_list_entry(pos, struct weir_acquire, link);
        struct weir_upconn *lease = acq->opts.http1 ? NULL : weir_upmux_lease(sv, acq->opts.fresh);

        if (lease)
            weir_acquire_ready(acq, lease);
        else if (!acq->opts.fresh && !acq->opts.http1)
            break;
    }
    if (sv->sharing > weir_upmux_supply(view, sv))
        weir_pool_retry(view, sv);
}

/* --- what is not wanted --- */

void weir_upmux_purge(struct weir_cluster_view *view, struct weir_server_view *sv, bool all)
{
    weir_list_each(pos, tmp, &sv->muxes)
    {
        struct weir_upmux *mux = weir_list_entry(pos, struct weir_upmux, link);

        if (all || !weir_server_is_wanted(sv, &mux->addr, &mux->epoch))
            weir_upmux_retire(mux);
    }
}

static void sv_close_idle(struct weir_server_view *sv)
{
    weir_list_each(pos, tmp, &sv->muxes)
    {
        struct weir_upmux *mux = weir_list_entry(pos, struct weir_upmux, link);

        if (!mux->leases) {
            weir_upmux_close(mux);
            return;
        }
    }
}

void weir_upmux_yield(struct weir_server_view *sv)
{
    if (atomic_load(&sv->server->queued) > sv->queued)
        sv_close_idle(sv);
}

void weir_upmux_ask_slot(struct weir_cluster_view *view, struct weir_server_view *sv, bool fresh)
{
    if (fresh)
        sv_close_idle(sv);
    for (unsigned id = 0; id < view->cluster->workers; id++) {
        struct weir_cluster_view *peer = id == view->id ? NULL : weir_share_peer(view->cluster, id);

        if (peer && weir_counter_read(&server_view(peer, sv->server)->idle_count))
            weir_view_kick(peer);
    }
}
