/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/session.h"

#include "net/tls.h"
#include "proxy/tunnel_light.h"

#include <stdlib.h>

/* --- states ------------------------------------------------------------------------------------
 */

void weir_session_set_state(struct weir_session *session, enum weir_session_state next)
{
    weir_count(&session->wl->idle, (uint64_t)(next == WEIR_SESSION_IDLE) -
                                       (uint64_t)(session->state == WEIR_SESSION_IDLE));
    session->state = (uint8_t)next;
    session->since_ms = session->wl->worker->loop.now_ms;
    weir_list_remove(&session->link);
    weir_list_push_back(&session->wl->sessions[next], &session->link);
}

static struct weir_loop *loop_of(const struct weir_session *session)
{
    return &session->wl->worker->loop;
}

/* --- close --------------------------------------------------------------------------
 */

void weir_session_drop_held(struct weir_session *session)
{
    if (!session->held)
        return;
    weir_later_cancel(&session->held->later);
    weir_buf_clear(&session->held->bytes);
    free(session->held);
    session->held = NULL;
}

void weir_session_free(struct weir_session *session)
{
    struct weir_worker *worker = session->wl->worker;

    weir_session_leave(session);
    worker->session_count--;
    if (session->multiplexed) {
        weir_count(&session->wl->stats.h2_abuse[weir_h2_abused(session->mux.h2)], 1);
        weir_later_cancel(&session->mux.flush);
        weir_h2_free(session->mux.h2);
    } else if (!session->raw) {
        weir_h1_fini(&session->h1);
    }
    weir_session_drop_held(session);
    weir_list_remove(&session->link);
    weir_slab_put(&worker->sessions, session);
}

void weir_session_close(struct weir_session *session, bool reset)
{
    bool light = session->state == WEIR_SESSION_TUNNEL;

    if (session->closed)
        return;
    session->closed = true;
    weir_session_set_state(session, WEIR_SESSION_CLOSING); /* nobody else is to choose it */
    for (struct weir_req *req = session->reqs, *next; req; req = next) {
        next = req->session_next;
        if (req->tunnel)
            weir_tunnel_stop(req->tunnel);
        else
            weir_req_client_gone(req, WEIR_ECLIENTGONE);
    }
    if (light)
        weir_light_stop(session);
    weir_stream_close(session->stream, reset);
}

/* Answered, and not to be used again: what was sent must arrive, so FIN first, and what the client
 * still sends is read away for a while; a close with unread bytes would be a RST that takes the
 * answer with it. */
void weir_session_linger(struct weir_session *session)
{
    weir_session_set_state(session, WEIR_SESSION_CLOSING);
    session->lingered = session->stalls = 0;
    session->unsent = 0;
    if (session->held && !session->feeding) /* else they are being fed from: feed_held drops them */
        weir_buf_clear(&session->held->bytes);
    weir_stream_shutdown(session->stream);
    weir_stream_read(session->stream, true);
}

/* No request is in progress: goes, at once when nothing is on its way to the client. Of HTTP/2 a GOAWAY is, which tells
 * what of it will not be answered: something may come as long as the client has not read that. */
void weir_session_end(struct weir_session *session)
{
    if (session->multiplexed && !weir_codec_over(weir_session_codec(session)))
        weir_h2_goodbye(session->mux.h2, WEIR_OK);
    weir_codec_flush(weir_session_codec(session));
    if (weir_stream_pending(session->stream) || (session->multiplexed && !session->eof))
        weir_session_linger(session);
    else
        weir_session_close(session, false);
}

/* --- requests ----------------------------------------------------------------------------------
 */

struct weir_str weir_session_protocol(const struct weir_session *session)
{
    return session->raw ? WEIR_STR("tcp")
                        : weir_session_codec((struct weir_session *)session)->ops->protocol;
}

void weir_session_add(struct weir_session *session, struct weir_req *req)
{
    req->session_next = session->reqs;
    if (session->reqs)
        session->reqs->session_prev = req;
    session->reqs = req;
    session->requests++;
    if (session->state != WEIR_SESSION_ACTIVE)
        weir_session_set_state(session, WEIR_SESSION_ACTIVE);
}

static int on_begin(void *arg, struct weir_hstream *hs)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);
    struct weir_req *req = weir_req_new(session, hs);

    if (!req)
        return WEIR_ENOMEM;
    hs->sink = &weir_req_down_sink;
    hs->arg = req;
    hs->arena = &req->arena;
    weir_session_add(session, req);
    return 0;
}

void weir_session_part(struct weir_session *session, struct weir_req *req)
{
    if (req->session_prev)
        req->session_prev->session_next = req->session_next;
    else
        session->reqs = req->session_next;
    if (req->session_next)
        req->session_next->session_prev = req->session_prev;
    req->session_next = req->session_prev = NULL;
    req->session = NULL;
}

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    if (session->closed || session->broken)
        return;
    session->bytes_out += weir_iov_len(iov, count);
    if (weir_stream_write(session->stream, iov, count))
        session->broken = true; /* no memory: the next event, or the sweep, closes it */
}

static size_t on_pending(void *arg)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    return session->closed ? 0 : weir_stream_pending(session->stream);
}

static void on_pause(void *arg, bool pause)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    if (!session->closed)
        weir_stream_read(session->stream, !pause);
}

static void on_pace(void *arg, size_t bytes)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    if (!session->closed)
        weir_stream_pace(session->stream, bytes);
}

static void flush(void *arg)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    if (session->closed)
        return;
    weir_codec_flush(weir_session_codec(session));
    weir_session_settle(session);
}

/* What many requests have to say leaves in one write at the end of the turn. */
static void on_wanted(void *arg)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    if (session->multiplexed && !weir_later_queued(&session->mux.flush))
        weir_loop_defer(loop_of(session), &session->mux.flush, flush, session);
}

const struct weir_codec_sink weir_session_codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
    .on_pace = on_pace,
    .on_begin = on_begin,
    .on_wanted = on_wanted,
};

int weir_session_need_held(struct weir_session *session)
{
    if (session->held)
        return 0;
    session->held = calloc(1, sizeof(*session->held));
    if (!session->held)
        return WEIR_ENOMEM;
    weir_buf_init(&session->held->bytes, &loop_of(session)->bufs);
    session->held->session = session;
    return 0;
}

int weir_session_hold(struct weir_session *session, const uint8_t *data, size_t len)
{
    if (weir_session_need_held(session))
        return WEIR_ENOMEM;
    if (session->held->bytes.len + len >= WEIR_READ_BUFFER_BYTES / 4)
        weir_stream_read(session->stream, false);
    return weir_buf_append(&session->held->bytes, data, len);
}

/* The codec is dead, or refused to begin. An answer (of the machine, or a minimal one) is on its
 * way where one can be. */
static void feed_failed(struct weir_session *session, enum weir_err err)
{
    if (session->closed || session->state == WEIR_SESSION_CLOSING)
        return;
    if (session->multiplexed) {
        weir_session_goodbye(session, err);
    } else if (!session->reqs) { /* else the request has been told, and ends the session */
        weir_h1_refuse(&session->h1, err);
        weir_session_linger(session);
    }
}

/* A client that sends one request after the other and reads no answer waits, unread, until it has
 * read. */
static bool may_feed(const struct weir_session *session)
{
    return !session->closed && !session->tunnel && session->state != WEIR_SESSION_CLOSING &&
           (session->reqs || session->multiplexed ||
            weir_stream_pending(session->stream) < WEIR_STREAM_HIGH_BYTES);
}

/**
 * Feeds until all is eaten, or the codec waits for the request in progress to end. Returns how much
 * was eaten.
 */
static size_t session_feed(struct weir_session *session, const uint8_t *data, size_t len)
{
    size_t eaten = 0;
    int known = session->sniffed ? 1 : weir_session_sniff(session, data, len);

    if (known <= 0) {
        session->broken = known < 0;
        return 0;
    }
    session->feeding = true;
    while (eaten < len && may_feed(session)) {
        ssize_t n = weir_codec_feed(weir_session_codec(session), data + eaten, len - eaten);

        if (n < 0) {
            feed_failed(session, (enum weir_err)n);
            eaten = len;
            break;
        }
        eaten += (size_t)n;
        if (n == 0)
            break;
    }
    session->feeding = false;
    return eaten;
}

static void after_feed(struct weir_session *session)
{
    bool in_head;

    if (session->multiplexed) {
        weir_session_settle(session);
        return;
    }
    if (session->closed || session->reqs || session->tunnel ||
        session->state == WEIR_SESSION_CLOSING)
        return;
    in_head = weir_h1_in_head(&session->h1);
    if (in_head && session->state != WEIR_SESSION_HEAD)
        weir_session_set_state(session,
                               WEIR_SESSION_HEAD); /* the deadline counts from the first byte */
    if (session->eof && !in_head)
        weir_session_end(session);
}

/* One call of the codec with what was kept; false when it took nothing, or nothing more is to be
 * fed. */
static bool feed_held_some(struct weir_session *session, struct weir_buf *held)
{
    struct iovec iov;
    size_t eaten;

    if (!held->len || !may_feed(session))
        return false;
    weir_buf_peek(held, 0, &iov, 1);
    eaten = session_feed(session, iov.iov_base, iov.iov_len);
    weir_buf_consume(held, eaten);
    return eaten > 0;
}

/* FIN, where it cannot mean that an answer is still waited for: a client of HTTP/2 could open no window any more, and one
 * whose first bytes say nothing yet has asked for nothing. */
static void client_has_gone(struct weir_session *session)
{
    if (session->multiplexed)
        weir_session_close(session, false);
    else
        weir_session_end(session);
}

static void feed_held(void *arg)
{
    struct weir_held *held = arg;
    struct weir_session *session =
        weir_cast(struct weir_session, held->session, WEIR_SESSION_MAGIC);

    while (feed_held_some(session, &held->bytes))
        ;
    if (session->state == WEIR_SESSION_CLOSING)
        weir_buf_clear(&held->bytes);
    if (session->closed || session->tunnel)
        return;
    if (session->eof && session->state != WEIR_SESSION_CLOSING &&
        (session->multiplexed || !session->sniffed)) {
        client_has_gone(session);
        return;
    }
    if (held->bytes.len)
        return; /* until the request in progress is done, or the client has read */
    if (session->multiplexed || !session->h1.paused)
        weir_stream_read(session->stream, true);
    if (session->eof && session->state != WEIR_SESSION_CLOSING)
        weir_codec_eof(&session->h1.codec, WEIR_OK);
    after_feed(session);
}

void weir_session_feed_held(struct weir_session *session)
{
    struct weir_held *held = session->held;

    if (held && held->bytes.len && !session->feeding && !weir_later_queued(&held->later))
        weir_loop_defer(loop_of(session), &held->later, feed_held, held);
}

void weir_session_request_done(struct weir_session *session, bool reusable, bool cut, bool finished)
{
    if (session->closed || session->tunnel)
        return;
    if (session->multiplexed) {
        weir_session_settle(session);
        return;
    }
    if (cut || session->broken || session->raw) {
        /* RST where an end of the stream could be taken for the end of the body; a length or chunks
         * show the cut. Bytes alone say nothing either: no server could be reached. */
        weir_session_close(session, true);
        return;
    }
    if (!reusable || weir_session_is_last(session)) {
        bool quiet = session->eof || (finished && !(session->held && session->held->bytes.len));

        if (quiet)
            weir_session_end(session);
        else
            weir_session_linger(session);
        return;
    }
    weir_session_set_state(session, WEIR_SESSION_IDLE);
    if (session->feeding)
        return; /* whoever feeds looks what comes next */
    if (session->held && session->held->bytes.len)
        weir_session_feed_held(session);
    else
        after_feed(session);
}

void weir_session_tunnel(struct weir_session *session, struct weir_tunnel *tunnel,
                         struct weir_buf *held)
{
    session->tunnel = tunnel;
    if (session->held)
        weir_buf_splice(held, &session->held->bytes);
}

/* --- the stream's events -----------------------------------------------------------------------
 */

static void on_open(void *arg)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);
    const struct weir_tls_info *tls = weir_stream_tls(session->stream);

    if (tls)
        weir_count(&session->wl->stats
                        .handshakes[weir_str_eq(tls->version, WEIR_STR("TLSv1.3"))][tls->resumed],
                   1);
    if (session->stale) { /* what it was let in by is not in force any more */
        weir_session_close(session, false);
        return;
    }
    if (session->raw) {
        weir_stream_read(session->stream, false);
        weir_session_raw(session, NULL);
        return;
    }
    weir_session_set_state(session, WEIR_SESSION_HEAD);
    if (!tls || weir_str_absent(tls->alpn))
        return; /* the first bytes tell */
    session->sniffed = true;
    if (weir_str_eq(tls->alpn, WEIR_STR("h2")) && weir_session_multiplex(session))
        weir_session_close(session, true);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);
    size_t eaten = 0;

    session->bytes_in += len;
    if (WEIR_UNLIKELY(session->stage)) {
        weir_session_prefix(session, data, len);
        return;
    }
    if (session->state == WEIR_SESSION_CLOSING) {
        session->lingered += (uint32_t)len;
        if (session->lingered > WEIR_DRAIN_LINGER_BYTES_MAX)
            weir_session_close(session, false);
        return;
    }
    if (!session->held || !session->held->bytes.len)
        eaten = session_feed(session, data, len);
    if (session->closed)
        return;
    if (session->broken) {
        weir_session_close(session, true);
        return;
    }
    if (eaten < len && session->state != WEIR_SESSION_CLOSING &&
        weir_session_hold(session, data + eaten, len - eaten)) {
        weir_session_close(session, true);
        return;
    }
    if (eaten < len && !session->reqs && may_feed(session))
        weir_session_feed_held(session);
    after_feed(session);
}

static void on_eof(void *arg)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    session->eof = true;
    if (session->stage) {
        weir_session_prefix_eof(session);
        return;
    }
    if (session->state == WEIR_SESSION_CLOSING) {
        if (!weir_stream_pending(session->stream))
            weir_session_close(session, false);
        return;
    }
    if (session->held && session->held->bytes.len &&
        (session->sniffed || weir_later_queued(&session->held->later)))
        return; /* its requests are answered first */
    if (session->multiplexed) {
        client_has_gone(session);
        return;
    }
    if (session->reqs) {
        if (!session->reqs->to_up.ended)
            weir_codec_eof(&session->h1.codec, WEIR_OK);
        return; /* half-close: the answer still goes out */
    }
    weir_session_end(session);
}

static void on_drained(void *arg)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    if (session->state == WEIR_SESSION_CLOSING) {
        if (session->eof)
            weir_session_close(session, false);
        else
            weir_session_set_state(session,
                                   WEIR_SESSION_CLOSING); /* the time to linger counts from here */
        return;
    }
    if (session->raw)
        return;
    if (!session->reqs)
        weir_session_feed_held(session);
    weir_codec_drained(weir_session_codec(session));
    if (session->multiplexed)
        weir_session_settle(session);
}

/* Bytes of a body that pass by. */
static void on_readable(void *arg)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);
    struct weir_hstream *hs = session->multiplexed ? NULL : session->h1.hs;

    if (hs && hs->sink->on_readable)
        hs->sink->on_readable(hs->arg);
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    struct weir_session *session = weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC);

    (void)sys;
    session->broken = true;
    if (session->state == WEIR_SESSION_HANDSHAKE)
        weir_worker_refused(session->wl, WEIR_REFUSED_handshake, weir_err_text(err));
    weir_session_close(session, true);
}

static void on_closed(void *arg)
{
    weir_session_free(weir_cast(struct weir_session, arg, WEIR_SESSION_MAGIC));
}

const struct weir_stream_sink weir_session_stream_sink = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_error = on_error,
    .on_closed = on_closed,
    .on_readable = on_readable,
};
