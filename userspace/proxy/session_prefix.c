/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session_prefix.c: what a connection says before its own protocol begins, and the beginning itself.
 *
 *   accept ──▶ [PROXY header] ──▶ [ClientHello, looked at] ──▶ TLS | HTTP | bytes alone
 *
 * While a stage lasts the session reads the TCP stream itself, and keeps what does not come whole in `held`; timeouts.handshake
 * counts. A PROXY header is consumed, a ClientHello is not: what is held when the stages are over are the first bytes of
 * whatever begins.
 */
#include "net/proxyproto.h"
#include "net/sni.h"
#include "net/tls.h"
#include "proxy/session.h"

/* --- what begins -------------------------------------------------------------------------------- */

static void out_of_memory(struct weir_session *session)
{
    weir_worker_refused(session->wl, WEIR_REFUSED_memory, "out of memory");
    if (session->stream)
        weir_session_close(session, true);
    else
        weir_session_free(session);
}

/* TLS on top of what was a TCP stream; the handshake begins with what is held. */
static void begin_tls(struct weir_session *session)
{
    session->stream = weir_tls_accept(session->wl->listener->tls, &session->stream,
                                      &weir_session_stream_sink, session);
    if (!session->stream) {
        out_of_memory(session);
        return;
    }
    if (session->held)
        weir_tls_feed(session->stream, &session->held->bytes);
    weir_stream_read(session->stream, true);
}

static void begin(struct weir_session *session, const struct weir_sni *sni)
{
    session->stage = WEIR_STAGE_NONE;
    if (session->stale) { /* for another protocol than its listener has now */
        weir_session_close(session, false);
        return;
    }
    if (session->wl->listener->tls) {
        begin_tls(session);
    } else if (session->raw) {
        weir_stream_read(session->stream, false);
        weir_session_raw(session, sni);
    } else {
        weir_session_set_state(session, WEIR_SESSION_HEAD);
        weir_stream_read(session->stream, true);
        weir_session_feed_held(session);
    }
}

static enum weir_session_stage stage_after(const struct weir_session *session,
                                           enum weir_session_stage stage)
{
    const struct weir_listener *listener = session->wl->listener;

    if (stage < WEIR_STAGE_PROXY && session->proxied)
        return WEIR_STAGE_PROXY;
    if (stage < WEIR_STAGE_HELLO && listener->peeks)
        return WEIR_STAGE_HELLO;
    return WEIR_STAGE_NONE;
}

void weir_session_begin(struct weir_session *session)
{
    session->stage = stage_after(session, WEIR_STAGE_NONE);
    weir_session_set_state(session, WEIR_SESSION_HANDSHAKE);
    if (!session->stage) {
        begin(session, NULL);
        return;
    }
    weir_stream_read(session->stream, true);
    if (session->held && session->held->bytes.len) /* handed over */
        weir_session_prefix(session, NULL, 0);
}

/* --- the stages --------------------------------------------------------------------------------- */

static void refuse(struct weir_session *session, const char *text)
{
    weir_worker_refused(session->wl,
                        session->stage == WEIR_STAGE_PROXY ? WEIR_REFUSED_proxy_header
                                                           : WEIR_REFUSED_client_hello,
                        text);
    weir_session_close(session, true);
}

enum look { LOOK_MORE, LOOK_DONE, LOOK_REFUSED };

static enum look look_proxy(struct weir_session *session, const uint8_t *data, size_t len,
                            size_t *used)
{
    bool require = session->wl->listener->conf->proxy_protocol == WEIR_PROXY_REQUIRE;
    struct weir_pp_header header = { 0 };
    enum weir_pp verdict = weir_pp_parse(data, len, &header);

    if (verdict == WEIR_PP_MORE)
        return LOOK_MORE;
    if (verdict == WEIR_PP_BAD || (verdict == WEIR_PP_NONE && require)) {
        refuse(session, verdict == WEIR_PP_BAD ? "a malformed PROXY header" : "no PROXY header");
        return LOOK_REFUSED;
    }
    *used = header.len;
    session->told = header.len > 0;
    if (header.known && weir_session_set_client(session, &header.from, &header.to)) {
        out_of_memory(session);
        return LOOK_REFUSED;
    }
    if (weir_session_admit_client(session))
        return LOOK_DONE;
    weir_session_close(session, true);
    return LOOK_REFUSED;
}

static enum look look_hello(struct weir_session *session, const uint8_t *data, size_t len,
                            struct weir_sni *sni)
{
    switch (weir_sni_peek(data, len, sni)) {
    case WEIR_HELLO_MORE:
        return LOOK_MORE;
    case WEIR_HELLO_BAD:
        refuse(session, "a malformed ClientHello");
        return LOOK_REFUSED;
    default:
        return LOOK_DONE;
    }
}

/* The beginning of what is held, in one piece. */
static size_t flatten(const struct weir_buf *held, uint8_t *flat, size_t max)
{
    struct iovec iov[32];
    int count = weir_buf_peek(held, 0, iov, 32);
    size_t len = 0;

    for (int i = 0; i < count && len < max; i++) {
        size_t n = iov[i].iov_len < max - len ? iov[i].iov_len : max - len;

        memcpy(flat + len, iov[i].iov_base, n);
        len += n;
    }
    return len;
}

void weir_session_prefix(struct weir_session *session, const uint8_t *data, size_t len)
{
    uint8_t flat[WEIR_HELLO_BYTES_MAX];
    struct weir_sni sni = { .len = 0 };
    bool held = session->held && session->held->bytes.len;

    if (held && len && weir_session_hold(session, data, len)) {
        out_of_memory(session);
        return;
    }
    while (session->stage) {
        const uint8_t *at = held ? flat : data;
        size_t n = held ? flatten(&session->held->bytes, flat, sizeof(flat)) : len, used = 0;
        enum look look = session->stage == WEIR_STAGE_PROXY ? look_proxy(session, at, n, &used)
                                                            : look_hello(session, at, n, &sni);

        if (look == LOOK_REFUSED)
            return;
        if (look == LOOK_MORE)
            break;
        session->stage = stage_after(session, session->stage);
        if (held) {
            weir_buf_consume(&session->held->bytes, used);
        } else {
            data += used;
            len -= used;
        }
    }
    if (!held && len && weir_session_hold(session, data, len))
        out_of_memory(session);
    else if (!session->stage)
        begin(session, &sni);
}

void weir_session_prefix_eof(struct weir_session *session)
{
    const struct weir_listener *listener = session->wl->listener;
    bool nothing = !session->held || !session->held->bytes.len;

    if (session->stage == WEIR_STAGE_PROXY &&
        listener->conf->proxy_protocol == WEIR_PROXY_REQUIRE && !nothing)
        refuse(session, "the connection ended inside of its PROXY header");
    else if (listener->tls || (nothing && !session->raw))
        weir_session_close(session, false);
    else if (session->stage == WEIR_STAGE_PROXY && !weir_session_admit_client(session))
        weir_session_close(session, true);
    else /* what there is, is no header and no ClientHello: data */
        begin(session, NULL);
}
