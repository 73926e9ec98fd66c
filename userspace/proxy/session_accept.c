/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session_accept.c: how a client connection comes: who may (access, bans, the limits of connections), and who it is; and how
 * it leaves the counts again. Where a PROXY header is to come, who it is is known later: until then it passes the gates as
 * nobody, and is named when the header is there.
 */
#include "proxy/hops.h"
#include "proxy/room.h"
#include "proxy/session.h"

#include <unistd.h>

/* --- who it is ----------------------------------------------------------------------------------
 */

static void peer_set(struct weir_session *session, const struct weir_addr *peer)
{
    session->peer_unix = !weir_addr_bytes(peer, session->peer.ip);
    if (session->peer_unix)
        return;
    session->peer.port = weir_addr_port(peer);
}

int weir_session_set_client(struct weir_session *session, const struct weir_addr *from,
                            const struct weir_addr *to)
{
    peer_set(session, from);
    session->local_port = weir_addr_port(to);
    if (!session->wl->worker->snapshot->tells)
        return 0;
    if (weir_session_need_held(session))
        return WEIR_ENOMEM;
    session->held->to.known = weir_addr_bytes(to, session->held->to.ip);
    return 0;
}

void weir_session_addr(const struct weir_session *session, struct weir_addr *addr)
{
    if (!session->peer_unix) {
        weir_addr_from_bytes(addr, session->peer.ip, session->peer.port);
        return;
    }
    *addr = (struct weir_addr){ .len = sizeof(sa_family_t) };
    addr->un.sun_family = AF_UNIX;
}

/* --- who may ------------------------------------------------------------------------------------
 */

static void refuse_per_client(struct weir_wlistener *wl)
{
    weir_worker_refused(wl, WEIR_REFUSED_per_client, "limits.connections_per_client is reached");
}

/* Past one gate, or told why not. */
static bool pass(struct weir_wlistener *wl, struct weir_gate *gate, bool own,
                 const struct weir_addr *client)
{
    switch (weir_gate_enter(gate, client)) {
    case WEIR_GATE_OPEN:
        return true;
    case WEIR_GATE_PER_CLIENT:
        refuse_per_client(wl);
        return false;
    default:
        break;
    }
    if (weir_room_make(wl, own))
        return true;
    weir_gate_leave(gate, client);
    if (!own && atomic_load_explicit(&wl->worker->service->fds_bound, memory_order_relaxed))
        weir_worker_refused(wl, WEIR_REFUSED_descriptors,
                            "file descriptors allow no more connections and none is idle; raise "
                            "`ulimit -n` (LimitNOFILE=)");
    else
        weir_worker_refused(
            wl, WEIR_REFUSED_limit,
            "limits.connections is reached and none is idle; raise it, or add hosts");
    return false;
}

static void leave(const struct weir_wlistener *wl, const struct weir_addr *client)
{
    weir_gate_leave(&wl->worker->service->gate, client);
    weir_gate_leave(&wl->door->gate, client);
}

/* Past both gates. `client` NULL: it is not known yet. */
static bool enter(struct weir_wlistener *wl, const struct weir_addr *client)
{
    /* Its own first: one of this listener that makes room makes room in both. */
    if (!pass(wl, &wl->door->gate, true, client))
        return false;
    if (pass(wl, &wl->worker->service->gate, false, client))
        return true;
    weir_gate_leave(&wl->door->gate, client);
    return false;
}

/* Of one who has entered as nobody. */
static bool name(struct weir_wlistener *wl, const struct weir_addr *client)
{
    bool own = weir_gate_name(&wl->door->gate, client);

    if (own && weir_gate_name(&wl->worker->service->gate, client))
        return true;
    if (own)
        weir_gate_unname(&wl->door->gate, client);
    refuse_per_client(wl);
    return false;
}

static bool has_access(struct weir_wlistener *wl, const struct weir_addr *client)
{
    switch (weir_access_check(wl->worker->snapshot->access, client, wl->worker->loop.now_ms)) {
    case WEIR_ACCESS_DENIED:
        weir_worker_refused(wl, WEIR_REFUSED_denied, "denied by access");
        return false;
    case WEIR_ACCESS_BANNED:
        weir_worker_refused(wl, WEIR_REFUSED_banned, "banned");
        return false;
    default:
        return true;
    }
}

bool weir_session_admit_client(struct weir_session *session)
{
    struct weir_addr client;

    weir_session_addr(session, &client);
    if (!has_access(session->wl, &client) || !name(session->wl, &client))
        return false;
    session->proxied = false;
    return true;
}

/* Does a PROXY header come from there? A UNIX socket is as open as its mode. False in *may when one must come, and not from
 * there. */
static bool header_comes(struct weir_wlistener *wl, const struct weir_addr *peer, bool *may)
{
    bool trusted = peer->sa.sa_family == AF_UNIX || weir_hops_trusted(wl->listener, peer);
    int mode = wl->listener->conf->proxy_protocol;

    *may = trusted || mode != WEIR_PROXY_REQUIRE;
    if (!*may)
        weir_worker_refused(wl, WEIR_REFUSED_proxy_header, "not one of trusted_proxies");
    return mode != WEIR_PROXY_OFF && trusted;
}

/* May the connection stay? Else it was told and counted why not. */
static bool admit(struct weir_wlistener *wl, const struct weir_addr *peer, bool *proxied)
{
    bool may;

    if (!has_access(wl, peer))
        return false;
    *proxied = header_comes(wl, peer, &may);
    return may && enter(wl, *proxied ? NULL : peer);
}

void weir_session_leave(struct weir_session *session)
{
    struct weir_addr client;

    weir_session_addr(session, &client);
    if (session->admitted)
        leave(session->wl, session->proxied ? NULL : &client);
    session->admitted = false;
    weir_count(&session->wl->stats.connections, (uint64_t)-1);
}

bool weir_session_move(struct weir_session *session, struct weir_wlistener *to)
{
    struct weir_addr client;
    bool may = true;

    weir_session_leave(session);
    weir_session_addr(session, &client);
    session->wl = to;
    weir_count(&to->stats.connections, 1);
    weir_count(&to->stats.accepted, 1);
    session->proxied = !session->told && header_comes(to, &client, &may);
    session->admitted = may && enter(to, session->proxied ? NULL : &client);
    return session->admitted;
}

/* Limits were for when it came. One that its client has too many of counts as nobody's. */
static bool enter_anyway(struct weir_wlistener *wl, const struct weir_addr *client)
{
    if (weir_gate_enter(&wl->door->gate, client) == WEIR_GATE_PER_CLIENT)
        return false;
    if (weir_gate_enter(&wl->worker->service->gate, client) != WEIR_GATE_PER_CLIENT)
        return true;
    weir_gate_leave(&wl->door->gate, client);
    return false;
}

/* --- coming ------------------------------------------------------------------------------------
 */

/* Its memory, with what all have. */
static struct weir_session *session_new(struct weir_wlistener *wl, const struct weir_addr *client,
                                        uint16_t local_port)
{
    struct weir_worker *worker = wl->worker;
    struct weir_session *session = weir_slab_get(&worker->sessions);

    if (!session)
        return NULL;
    session->magic = WEIR_SESSION_MAGIC;
    session->wl = wl;
    session->admitted = true;
    session->born_s = (uint32_t)(worker->loop.now_ms / 1000);
    session->number = worker->session_number++;
    weir_list_init(&session->link);
    peer_set(session, client);
    session->local_port = local_port;
    weir_count(&wl->stats.connections, 1);
    worker->session_count++;
    return session;
}

struct weir_session *weir_session_adopt(struct weir_wlistener *wl, int fd,
                                        const struct weir_addr *client, uint16_t local_port)
{
    struct weir_session *session = session_new(wl, client, local_port);

    if (!session) {
        close(fd);
        return NULL;
    }
    session->raw = true;
    session->proxied = !enter_anyway(wl, client);
    if (session->proxied)
        (void)enter_anyway(wl, NULL);
    session->stream = weir_tcp_adopt(&wl->worker->loop, fd, &weir_session_stream_sink, session);
    if (session->stream)
        return session;
    weir_session_free(session);
    return NULL;
}

void weir_session_accept(const struct weir_bound_at *at, int fd, const struct sockaddr *peer,
                         socklen_t len)
{
    struct weir_wlistener *wl = at->wl;
    struct weir_worker *worker = wl->worker;
    struct weir_session *session;
    struct weir_addr client = { .len = len < sizeof(client.un) ? len : sizeof(client.un) };
    bool proxied;

    memcpy(&client.sa, peer, client.len);
    if (!admit(wl, &client, &proxied)) {
        close(fd);
        return;
    }
    session = session_new(wl, &client, weir_addr_port(&at->bound->addr));
    if (!session) {
        leave(wl, proxied ? NULL : &client);
        weir_worker_refused(wl, WEIR_REFUSED_memory, "out of memory");
        close(fd);
        return;
    }
    session->proxied = proxied;
    weir_count(&wl->stats.accepted, 1);
    session->raw = wl->listener->conf->protocol == WEIR_PROTOCOL_TCP;
    if (!session->raw)
        weir_h1_init_server(&session->h1, &wl->guard, &weir_session_codec_sink, session);
    session->stream = weir_tcp_adopt(&worker->loop, fd, &weir_session_stream_sink, session);
    if (!session->stream) {
        weir_worker_refused(wl, WEIR_REFUSED_memory, "out of memory");
        weir_session_free(session);
        return;
    }
    weir_session_begin(session);
}
