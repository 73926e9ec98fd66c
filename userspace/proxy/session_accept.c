/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session_accept.c: how a client connection comes: who may (access, bans, the limits of connections), who it is, and the
 * streams that it gets; and how it leaves the counts again.
 */
#include "net/tls.h"
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
    session->peer_v4 = !memcmp(session->peer.ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    session->peer.port = weir_addr_port(peer);
}

void weir_session_addr(const struct weir_session *session, struct weir_addr *addr)
{
    *addr = (struct weir_addr){ 0 };
    if (session->peer_unix) {
        addr->un.sun_family = AF_UNIX;
        addr->len = sizeof(sa_family_t);
    } else if (session->peer_v4) {
        addr->in.sin_family = AF_INET;
        addr->in.sin_port = htons(session->peer.port);
        memcpy(&addr->in.sin_addr, session->peer.ip + 12, 4);
        addr->len = sizeof(addr->in);
    } else {
        addr->in6.sin6_family = AF_INET6;
        addr->in6.sin6_port = htons(session->peer.port);
        memcpy(&addr->in6.sin6_addr, session->peer.ip, 16);
        addr->len = sizeof(addr->in6);
    }
}

/* --- who may ------------------------------------------------------------------------------------
 */

/* Past one gate, or told why not. */
static bool pass(struct weir_wlistener *wl, struct weir_gate *gate, bool own,
                 const struct weir_addr *client)
{
    switch (weir_gate_enter(gate, client)) {
    case WEIR_GATE_OPEN:
        return true;
    case WEIR_GATE_PER_CLIENT:
        weir_worker_refused(wl, WEIR_REFUSED_per_client,
                            "limits.connections_per_client is reached");
        return false;
    default:
        break;
    }
    if (weir_room_make(wl, own))
        return true;
    weir_gate_leave(gate, client);
    if (!own && wl->worker->service->fds_bound)
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
    if (wl->listener->gate)
        weir_gate_leave(wl->listener->gate, client);
}

/* May the connection stay? Else it was told and counted why not. */
static bool admit(struct weir_wlistener *wl, const struct weir_addr *client)
{
    struct weir_service *service = wl->worker->service;

    switch (weir_access_check(service->access, client, wl->worker->loop.now_ms)) {
    case WEIR_ACCESS_DENIED:
        weir_worker_refused(wl, WEIR_REFUSED_denied, "denied by access");
        return false;
    case WEIR_ACCESS_BANNED:
        weir_worker_refused(wl, WEIR_REFUSED_banned, "banned");
        return false;
    default:
        break;
    }
    /* Its own first: one of this listener that makes room makes room in both. */
    if (wl->listener->gate && !pass(wl, wl->listener->gate, true, client))
        return false;
    if (pass(wl, &service->gate, false, client))
        return true;
    if (wl->listener->gate)
        weir_gate_leave(wl->listener->gate, client);
    return false;
}

void weir_session_leave(struct weir_session *session)
{
    struct weir_addr addr;

    weir_session_addr(session, &addr);
    leave(session->wl, &addr);
    weir_count(&session->wl->stats->connections, (uint64_t)-1);
    session->wl->worker->session_count--;
}

/* --- coming ------------------------------------------------------------------------------------
 */

void weir_session_accept(const struct weir_lsock *lsock, int fd, const struct sockaddr *peer,
                         socklen_t len)
{
    struct weir_wlistener *wl = lsock->arg;
    struct weir_worker *worker = wl->worker;
    struct weir_session *session;
    struct weir_stream *stream;
    struct weir_addr client = { .len = len < sizeof(client.un) ? len : sizeof(client.un) };

    memcpy(&client.sa, peer, client.len);
    if (!admit(wl, &client)) {
        close(fd);
        return;
    }
    session = weir_slab_get(&worker->sessions);
    if (!session) {
        leave(wl, &client);
        weir_worker_refused(wl, WEIR_REFUSED_memory, "out of memory");
        close(fd);
        return;
    }
    session->magic = WEIR_SESSION_MAGIC;
    session->wl = wl;
    session->born_s = (uint32_t)(worker->loop.now_ms / 1000);
    session->number = worker->session_number++;
    weir_list_init(&session->link);
    peer_set(session, &client);
    session->local_port = weir_addr_port(&wl->listener->addrs[lsock - wl->socks]);
    weir_count(&wl->stats->accepted, 1);
    weir_count(&wl->stats->connections, 1);
    worker->session_count++;
    session->raw = wl->listener->conf->protocol == WEIR_PROTOCOL_TCP;
    if (!session->raw)
        weir_h1_init_server(&session->h1, &wl->listener->guard, &weir_session_codec_sink, session);
    stream = weir_tcp_adopt(&worker->loop, fd, &weir_session_stream_sink, session);
    if (stream && wl->listener->tls)
        stream = weir_tls_accept(wl->listener->tls, &stream, &weir_session_stream_sink, session);
    if (!stream) {
        weir_worker_refused(wl, WEIR_REFUSED_memory, "out of memory");
        weir_session_free(session);
        return;
    }
    session->stream = stream;
    weir_session_set_state(session, wl->listener->tls ? WEIR_SESSION_HANDSHAKE : WEIR_SESSION_HEAD);
    if (session->raw && !wl->listener->tls)
        weir_session_raw(session);
    else
        weir_stream_read(stream, true);
}
