/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session_mux.c: which protocol a connection speaks, and what is different where many requests share it (HTTP/2): it is
 * idle when the last of them has gone and nothing of their answers waits for the client's windows; it ends by GOAWAY.
 */
#include "proxy/req.h"
#include "proxy/session.h"

int weir_session_sniff(struct weir_session *session, const uint8_t *data, size_t len)
{
    int preface = weir_h2_preface(data, len);

    if (preface == 0)
        return 0;
    session->sniffed = true;
    if (preface < 0)
        return 1;
    return weir_session_multiplex(session) ?: 1;
}

int weir_session_multiplex(struct weir_session *session)
{
    struct weir_wlistener *wl = session->wl;
    const struct weir_tls_info *tls = weir_stream_tls(session->stream);
    struct weir_h2 *h2 =
        weir_h2_new_server(&wl->worker->h2, &wl->guard, &wl->h2, &weir_session_codec_sink, session);

    if (!h2)
        return WEIR_ENOMEM;
    weir_h1_fini(&session->h1);
    memset(&session->mux, 0, sizeof(session->mux));
    session->mux.h2 = h2;
    weir_h2_set_rtt(h2, tls ? tls->rtt_ms : 0);
    weir_stream_limit_unsent(session->stream, WEIR_SHARED_UNSENT_BYTES);
    session->multiplexed = session->sniffed = true;
    weir_session_codec_sink.on_wanted(session); /* said inside weir_h2_new_server, in vain */
    return 0;
}

void weir_session_goodbye(struct weir_session *session, enum weir_err why)
{
    if (!weir_codec_over(weir_session_codec(session)))
        weir_h2_goodbye(session->mux.h2, why);
    weir_codec_flush(weir_session_codec(session));
    weir_session_linger(session);
}

/* The head that is being read has a deadline of its own, whatever else goes on. */
static enum weir_session_state state_of(const struct weir_session *session)
{
    if (weir_h2_in_head(session->mux.h2))
        return WEIR_SESSION_HEAD;
    return session->reqs ? WEIR_SESSION_ACTIVE : WEIR_SESSION_IDLE;
}

void weir_session_settle(struct weir_session *session)
{
    bool quiet = !session->reqs && !weir_h2_busy(session->mux.h2);
    enum weir_session_state state;

    if (session->closed || session->feeding || session->state == WEIR_SESSION_CLOSING)
        return;
    if (session->broken) {
        weir_session_close(session, true);
        return;
    }
    if (weir_codec_over(weir_session_codec(session)) ||
        (quiet && (session->eof || weir_session_is_last(session)))) {
        weir_session_end(session);
        return;
    }
    state = state_of(session);
    if (state != session->state ||
        (state == WEIR_SESSION_HEAD && session->since_ms < weir_h2_head_ms(session->mux.h2)))
        weir_session_set_state(session, state);
}
