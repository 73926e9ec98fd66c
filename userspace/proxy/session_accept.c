/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session_accept.c: how a client connection comes: who may (access, bans, the limits of connections), who it is, and the
 * streams that it gets; and how it leaves the counts again.
 */
#include "net/tls.h"
#include "proxy/client_count.h"
#include "proxy/session.h"

#include <unistd.h>

enum { LOOKS_MAX = 64 }; /* at idle sessions, for one that may go */

/* --- who it is ----------------------------------------------------------------------------------
 */

static void peer_set(struct weir_session *session, const struct sockaddr *peer, socklen_t len)
{
    struct weir_addr addr = { .len = len < sizeof(addr.un) ? len : sizeof(addr.un) };

    memcpy(&addr.sa, peer, addr.len);
    session->peer_unix = !weir_addr_bytes(&addr, session->peer.ip);
    if (session->peer_unix)
        return;
    session->peer_v4 = !memcmp(session->peer.ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    session->peer.port = weir_addr_port(&addr);
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

/* Nothing of it is on the way: the oldest of those that wait for their next request. NULL: none
 * among the first ones. */
struct weir_session *weir_sessions_oldest_quiet(struct weir_wlistener *wl)
{
    int looks = LOOKS_MAX;

    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_IDLE])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        if (!weir_stream_pending(session->stream))
            return session;
        if (--looks == 0)
            break;
    }
    return NULL;
}

/* The oldest connection that waits for its next request makes room for a newcomer. */
static bool make_room(struct weir_wlistener *wl)
{
    struct weir_session *session = weir_sessions_oldest_quiet(wl);

    if (!session)
        return false;
    weir_session_close(session, false);
    return true;
}

/* 0 when the connection may stay; else why it goes. */
static bool admit(struct weir_wlistener *wl, const struct sockaddr *peer, socklen_t len,
                  bool *counted)
{
    struct weir_service *service = wl->worker->service;
    const struct weir_limit_conf *limits = &wl->listener->conf->limits;
    struct weir_addr addr = { .len = len < sizeof(addr.un) ? len : sizeof(addr.un) };
    int64_t now;

    memcpy(&addr.sa, peer, addr.len);
    switch (weir_access_check(service->access, &addr, wl->worker->loop.now_ms)) {
    case WEIR_ACCESS_DENIED:
        weir_worker_refused(wl, WEIR_REFUSED_denied, "denied by access");
        return false;
    case WEIR_ACCESS_BANNED:
        weir_worker_refused(wl, WEIR_REFUSED_banned, "banned");
        return false;
    default:
        break;
    }
    if (limits->connections_per_client > 0 && service->clients) {
        if (!weir_client_count_add(service->clients, &addr,
                                   (uint64_t)limits->connections_per_client)) {
            weir_worker_refused(wl, WEIR_REFUSED_per_client,
                                "limits.connections_per_client is reached");
            return false;
        }
        *counted = true;
    }
    now = atomic_fetch_add_explicit(&service->connections, 1, memory_order_relaxed) + 1;
    if (limits->connections > 0 && now > limits->connections && !make_room(wl)) {
        atomic_fetch_sub_explicit(&service->connections, 1, memory_order_relaxed);
        if (*counted)
            weir_client_count_remove(service->clients, &addr);
        weir_worker_refused(
            wl, WEIR_REFUSED_limit,
            "limits.connections is reached and none is idle; raise it, or add hosts");
        return false;
    }
    return true;
}

void weir_session_leave(struct weir_session *session)
{
    struct weir_service *service = session->wl->worker->service;

    atomic_fetch_sub_explicit(&service->connections, 1, memory_order_relaxed);
    weir_count(&session->wl->stats->connections, (uint64_t)-1);
    session->wl->worker->session_count--;
    if (session->counted_client) {
        struct weir_addr addr;

        weir_session_addr(session, &addr);
        weir_client_count_remove(service->clients, &addr);
    }
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
    bool counted = false;

    if (!admit(wl, peer, len, &counted)) {
        close(fd);
        return;
    }
    session = weir_slab_get(&worker->sessions);
    if (!session) {
        struct weir_addr addr = { .len = len < sizeof(addr.un) ? len : sizeof(addr.un) };

        memcpy(&addr.sa, peer, addr.len);
        if (counted)
            weir_client_count_remove(worker->service->clients, &addr);
        atomic_fetch_sub_explicit(&worker->service->connections, 1, memory_order_relaxed);
        weir_worker_refused(wl, WEIR_REFUSED_memory, "out of memory");
        close(fd);
        return;
    }
    session->magic = WEIR_SESSION_MAGIC;
    session->wl = wl;
    session->counted_client = counted;
    session->born_ms = worker->loop.now_ms;
    weir_list_init(&session->link);
    peer_set(session, peer, len);
    session->local_port = weir_addr_port(&wl->listener->addrs[lsock - wl->socks]);
    weir_count(&wl->stats->accepted, 1);
    weir_count(&wl->stats->connections, 1);
    worker->session_count++;
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
    weir_stream_read(stream, true);
}
