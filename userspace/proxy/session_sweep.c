/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session_sweep.c: all sessions of a listener on one worker, looked at a few times a second: those whose time is over,
 * those that go under memory pressure, those that a drain ends. Each state is a list in order of time, so a look costs
 * what it closes.
 */
#include "proxy/req.h"
#include "proxy/room.h"
#include "proxy/session.h"

enum {
    PRESSURE_CLOSES = 256,  /* in one sweep */
    DRAIN_SILENT_MS = 1000, /* a request that was on its way when a drain began has come by then */
};

static struct weir_session *oldest(struct weir_wlistener *wl, enum weir_session_state state)
{
    struct weir_list *list = &wl->sessions[state];

    return weir_list_empty(list) ? NULL : weir_list_entry(list->next, struct weir_session, link);
}

static void head_too_slow(struct weir_session *session)
{
    if (session->multiplexed) {
        weir_session_goodbye(session, WEIR_EHEADTIME);
    } else if (weir_h1_in_head(&session->h1)) {
        if (weir_h1_give_up(&session->h1, WEIR_EHEADTIME) == 0)
            return; /* the machine answers, counts, logs and ends the session */
        weir_h1_refuse(&session->h1, WEIR_EHEADTIME);
        weir_session_linger(session);
    } else {
        weir_session_end(session); /* not one byte: nothing to answer */
    }
}

/* What was answered is still on its way: as long as the client reads; then a RST, since a FIN could
 * be taken for the end. */
static void linger_more(struct weir_session *session)
{
    int64_t send_ms = session->wl->listener->conf->timeouts.send;
    size_t pending = weir_stream_pending(session->stream);
    size_t unacked = weir_stream_unacked(session->stream);
    uint32_t unsent = unacked < UINT32_MAX ? (uint32_t)unacked : UINT32_MAX;

    if (unsent != session->unsent)
        session->stalls = 0;
    else if (session->stalls < UINT16_MAX)
        session->stalls++;
    session->unsent = unsent;
    if (!pending)
        weir_session_close(session, false);
    else if (send_ms >= 0 && (session->stalls == UINT16_MAX /* 36 hours */ ||
                              session->stalls * (int64_t)WEIR_DRAIN_LINGER_MS >= send_ms))
        weir_session_close(session, true);
    else
        weir_session_set_state(session, WEIR_SESSION_CLOSING);
}

static void time_is_over(struct weir_session *session)
{
    switch (session->state) {
    case WEIR_SESSION_HANDSHAKE:
        weir_worker_refused(session->wl,
                            session->stage == WEIR_STAGE_PROXY   ? WEIR_REFUSED_proxy_header
                            : session->stage == WEIR_STAGE_HELLO ? WEIR_REFUSED_client_hello
                                                                 : WEIR_REFUSED_handshake,
                            "it took longer than timeouts.handshake");
        weir_session_close(session, false);
        break;
    case WEIR_SESSION_HEAD:
        head_too_slow(session);
        break;
    case WEIR_SESSION_CLOSING:
        linger_more(session);
        break;
    case WEIR_SESSION_IDLE:
        if (weir_stream_pending(session->stream))
            weir_session_close(session, true);
        else
            weir_session_end(session);
        break;
    default:
        weir_session_close(session, false);
        break;
    }
}

static void sweep_state(struct weir_wlistener *wl, enum weir_session_state state,
                        int64_t timeout_ms)
{
    uint64_t now = wl->worker->loop.now_ms;
    struct weir_list late;

    if (timeout_ms < 0)
        return;
    weir_list_init(&late);
    for (struct weir_session *s = oldest(wl, state); s && s->since_ms + (uint64_t)timeout_ms <= now;
         s = oldest(wl, state)) {
        weir_list_remove(&s->link);
        weir_list_push_back(&late, &s->link);
    }
    while (!weir_list_empty(&late)) {
        struct weir_session *s = weir_list_entry(late.next, struct weir_session, link);

        weir_list_remove(&s->link);
        weir_list_push_back(&wl->sessions[state], &s->link); /* where it is until it closes */
        if (!s->closed)
            time_is_over(s);
    }
}

static bool has_tunnel(const struct weir_session *session)
{
    if (session->state == WEIR_SESSION_TUNNEL)
        return true;
    for (const struct weir_req *req = session->reqs; req; req = req->session_next)
        if (req->tunnel)
            return true;
    return false;
}

/* Connected, and not a byte of a request yet. */
static bool says_nothing(const struct weir_session *session)
{
    return !session->multiplexed && !session->requests && !weir_h1_in_head(&session->h1);
}

/* A drain has an end: shutdown.tunnels for tunnels, shutdown.drain for all else. */
static void drain_over(struct weir_wlistener *wl)
{
    const struct weir_proxy_conf *conf = weir_worker_conf(wl->worker);
    bool retiring = atomic_load_explicit(&wl->worker->service->retiring, memory_order_relaxed);
    int64_t waited = (int64_t)(wl->worker->loop.now_ms - wl->worker->drain_ms);

    for (int state = 0; state < WEIR_SESSION_STATES; state++)
        weir_list_each(link, next, &wl->sessions[state])
        {
            struct weir_session *session = weir_list_entry(link, struct weir_session, link);
            int64_t limit = has_tunnel(session) ? conf->tunnels_ms : conf->drain_ms;

            if (session->closed)
                continue;
            if (state == WEIR_SESSION_HEAD && !retiring && waited >= DRAIN_SILENT_MS &&
                says_nothing(session)) {
                weir_session_end(session);
                continue;
            }
            if (limit < 0 || waited < limit)
                continue;
            if (state == WEIR_SESSION_CLOSING && !weir_stream_pending(session->stream)) {
                weir_session_close(session, false); /* it has been told all */
                continue;
            }
            if (state == WEIR_SESSION_IDLE ||
                (state == WEIR_SESSION_HEAD && says_nothing(session))) { /* nothing is cut */
                weir_session_end(session);
                continue;
            }
            atomic_store_explicit(&wl->worker->service->drain_cut, true, memory_order_relaxed);
            weir_session_close(session, true);
        }
}

/* A listener that is no more has no end of its own: but who says nothing is not waited for. */
static void leave_silent(struct weir_wlistener *wl)
{
    if (wl->worker->loop.now_ms - wl->leave_ms < DRAIN_SILENT_MS)
        return;
    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_HEAD])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        if (!session->closed && says_nothing(session))
            weir_session_end(session);
    }
}

void weir_sessions_sweep(struct weir_wlistener *wl)
{
    const struct weir_timeouts *t = &wl->listener->conf->timeouts;

    if (wl->worker->draining)
        drain_over(wl);
    else if (wl->leaving)
        leave_silent(wl);
    sweep_state(wl, WEIR_SESSION_HANDSHAKE, t->handshake);
    sweep_state(wl, WEIR_SESSION_HEAD, t->head);
    sweep_state(wl, WEIR_SESSION_IDLE, t->keepalive);
    sweep_state(wl, WEIR_SESSION_CLOSING, WEIR_DRAIN_LINGER_MS);
    if (!atomic_load_explicit(&wl->worker->service->pressure, memory_order_relaxed))
        return;
    weir_room_close_idle(wl, PRESSURE_CLOSES);
}

void weir_sessions_press(struct weir_wlistener *wl)
{
    static const enum weir_session_state states[] = { WEIR_SESSION_ACTIVE, WEIR_SESSION_HEAD };

    for (int i = 0; i < 2; i++) /* others have no request in progress */
        weir_list_each(link, next, &wl->sessions[states[i]])
        {
            struct weir_session *session = weir_list_entry(link, struct weir_session, link);

            for (struct weir_req *req = session->reqs; req; req = req->session_next)
                weir_exchange_press(req);
        }
    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_TUNNEL])
        weir_splice_press(&weir_list_entry(link, struct weir_session, link)->light.splice);
}

void weir_sessions_drain(struct weir_wlistener *wl)
{
    bool retiring = atomic_load_explicit(&wl->worker->service->retiring, memory_order_relaxed);

    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_IDLE])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        if (retiring && !session->multiplexed)
            continue; /* its next answer says that it is the last */
        if (session->multiplexed && weir_h2_busy(session->mux.h2))
            weir_codec_shutdown(weir_session_codec(session)); /* it settles when all has gone */
        else
            weir_session_end(session);
    }
    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_ACTIVE])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        if (!session->raw)
            weir_codec_shutdown(weir_session_codec(session));
    }
    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_HEAD])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        if (session->multiplexed)
            weir_codec_shutdown(weir_session_codec(session));
    }
}

void weir_sessions_close_all(struct weir_wlistener *wl)
{
    for (int state = 0; state < WEIR_SESSION_STATES; state++)
        weir_list_each(link, next, &wl->sessions[state])
            weir_session_close(weir_list_entry(link, struct weir_session, link), true);
}

void weir_sessions_expire(struct weir_wlistener *wl)
{
    for (int state = 0; state < WEIR_SESSION_STATES; state++)
        weir_list_each(link, next, &wl->sessions[state])
            weir_list_entry(link, struct weir_session, link)
                ->stale = true;
    weir_sessions_drain(wl);
    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_HEAD])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        if (!session->closed && says_nothing(session))
            weir_session_end(session);
    }
}
