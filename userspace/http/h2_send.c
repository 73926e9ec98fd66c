/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_send.c: messages to queues. A head goes to nghttp2 at once; body waits in the stream's queue for the flush
 * (h2_frame.c takes it from there as windows allow). A large body on an empty queue is framed at once from the caller's
 * memory, and only what the windows refuse is copied.
 */
#include "http/h2_priv.h"

#include <stdlib.h>

/* ---- heads ---- */

static uint8_t answer_body(const struct weir_h2_stream *s, const struct weir_message *head)
{
    if (head->body == WEIR_BODY_TUNNEL)
        return WEIR_BODY_TUNNEL;
    if (s->asked.method == WEIR_M_HEAD || head->status == 204 || head->status == 304)
        return WEIR_BODY_NONE;
    if (head->body == WEIR_BODY_CHUNKED || head->body == WEIR_BODY_CLOSE)
        return WEIR_BODY_CHUNKED;
    return WEIR_BODY_LENGTH;
}

static int remember_request(struct weir_h2_stream *s, const struct weir_message *head)
{
    if (head->body == WEIR_BODY_CLOSE || head->body == WEIR_BODY_TUNNEL)
        return WEIR_EFRAMING;
    s->asked.method = head->method_id;
    s->tunnel_asked = head->upgrade.len || head->form == WEIR_T_AUTHORITY;
    if (!head->upgrade.len)
        return 0;
    s->asked.upgrade = weir_arena_copy(s->hs->arena, head->upgrade);
    return s->asked.upgrade.ptr ? 0 : WEIR_ENOMEM;
}

static int begin_message(struct weir_h2_stream *s, const struct weir_message *head)
{
    int err;

    if (s->out != H2_OUT_HEAD || head->request != (s->h2->role == H2_CLIENT))
        return WEIR_EFRAMING;
    err = head->request ? remember_request(s, head) : 0;
    if (err)
        return err;
    s->out_body = head->request ? head->body : answer_body(s, head);
    if (s->tunnel_asked && head->request)
        s->out_body = WEIR_BODY_TUNNEL;
    s->left_out = head->body == WEIR_BODY_LENGTH ? head->length : 0;
    return 0;
}

/* `end`: END_STREAM goes with the head. */
static int submit(struct weir_h2_stream *s, const struct weir_message *head, bool end)
{
    nghttp2_data_provider provider = { .source.ptr = s, .read_callback = weir_h2_on_read };
    nghttp2_session *session = s->h2->session;
    nghttp2_nv space[H2_NV_STACK];
    char text[H2_NV_TEXT];
    struct weir_h2_nva nva;
    int32_t id;
    int err = weir_h2_nva_head(&nva, space, text, s, head);

    if (err)
        return err;
    if (!head->request)
        return nghttp2_submit_response(session, s->id, nva.at, nva.count, end ? NULL : &provider)
                   ? WEIR_ENOMEM
                   : 0;
    id = nghttp2_submit_request(session, NULL, nva.at, nva.count, end ? NULL : &provider, s);
    if (id < 0)
        return id == NGHTTP2_ERR_NOMEM ? WEIR_ENOMEM : WEIR_ELIMIT;
    s->id = id;
    return 0;
}

static int send_interim(struct weir_h2_stream *s, const struct weir_message *head)
{
    nghttp2_nv space[H2_NV_STACK];
    char text[H2_NV_TEXT];
    struct weir_h2_nva nva;
    int err;

    if (s->h2->role != H2_SERVER || s->out != H2_OUT_HEAD)
        return WEIR_EFRAMING;
    err = weir_h2_nva_head(&nva, space, text, s, head);
    if (err)
        return err;
    return nghttp2_submit_headers(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NULL, nva.at, nva.count,
                                  NULL)
               ? WEIR_ENOMEM
               : 0;
}

/* The answer that grants a tunnel lets what was held go on, when the flush comes. */
static void grant(struct weir_h2_stream *s)
{
    s->tunnel = true;
    if (s->in == H2_IN_HELD)
        weir_h2_due(s, H2_DUE_HELD);
}

/* An extended CONNECT is for servers that said so in their SETTINGS (RFC 8441 3): before they have come it waits. */
static bool upgrade_waits(struct weir_h2_stream *s, const struct weir_message *head)
{
    struct weir_message *copy;

    if (!head->request || !head->upgrade.len || (s->h2->settled && s->h2->takes_upgrade))
        return false;
    if (s->h2->settled) {
        weir_h2_tell_reset(s, WEIR_EUPNOUPGRADE, WEIR_BY_UPSTREAM, "SETTINGS");
        return true;
    }
    copy = weir_arena_alloc(s->hs->arena, sizeof(*copy)); /* its text is in the arena already */
    if (!copy || weir_message_clone(copy, head, s->hs->arena))
        weir_h2_tell_reset(s, WEIR_ENOMEM, WEIR_BY_US, "upgrade");
    else
        s->late = copy;
    return true;
}

void weir_h2_send_late(struct weir_h2_stream *s)
{
    const struct weir_message *head = s->late;
    int err;

    s->late = NULL;
    if (!head || !weir_h2_hears(s) || upgrade_waits(s, head))
        return;
    err = submit(s, head, false);
    if (err)
        weir_h2_tell_reset(s, (enum weir_err)err, WEIR_BY_US, "upgrade");
    weir_h2_want(s->h2);
}

static int send_head(struct weir_h2_stream *s, const struct weir_message *head, bool end)
{
    int err = begin_message(s, head);

    if (!err && !upgrade_waits(s, head))
        err = submit(s, head, end);
    if (err)
        return err;
    s->out = H2_OUT_BODY;
    if (!head->request && head->body == WEIR_BODY_TUNNEL)
        grant(s);
    return 0;
}

/* ---- bodies ---- */

/* Counts against the framing; *drop: it is not for the wire. */
static int count_body(struct weir_h2_stream *s, size_t bytes, bool end, bool *drop)
{
    *drop = s->out_body == WEIR_BODY_NONE;
    if (s->out_body == WEIR_BODY_NONE)
        return bytes && s->h2->role == H2_CLIENT ? WEIR_EFRAMING : 0;
    if (s->out_body != WEIR_BODY_LENGTH)
        return 0;
    if (bytes > s->left_out || (end && bytes != s->left_out))
        return WEIR_EFRAMING;
    s->left_out -= bytes;
    return 0;
}

static int queue(struct weir_h2_stream *s, const struct iovec *body, int count, size_t skip)
{
    size_t before = s->queue.len;
    int err = weir_buf_append_iov(&s->queue, body, count, skip);

    s->h2->queued += s->queue.len - before;
    return err;
}

/* Frames the caller's bytes, and keeps those that could not go. */
static int send_lent(struct weir_h2_stream *s, const struct iovec *body, int count, size_t bytes)
{
    size_t left;

    s->lent = body;
    s->lent_count = count;
    s->lent_bytes = bytes;
    weir_h2_frame(s->h2);
    left = s->lent_bytes;
    s->lent = NULL;
    s->lent_bytes = 0;
    return left && !s->closed && !s->dropped ? queue(s, body, count, bytes - left) : 0;
}

void weir_h2_drop_queue(struct weir_h2_stream *s)
{
    s->h2->queued -= s->queue.len;
    weir_buf_clear(&s->queue);
    weir_buf_clear(&s->held);
    free(s->trailer);
    s->trailer = NULL;
}

/* nghttp2 shall ask for body again. */
static void resume(struct weir_h2_stream *s)
{
    if (!s->deferred)
        return;
    s->deferred = false;
    (void)nghttp2_session_resume_data(s->h2->session, s->id);
}

static int take_trailer(struct weir_h2_stream *s, const struct weir_message *trailer)
{
    struct weir_h2_trailer *copy;

    if (!trailer || s->out_body == WEIR_BODY_NONE || s->out_body == WEIR_BODY_TUNNEL)
        return 0;
    copy = weir_h2_trailer_new(trailer);
    if (!copy)
        return WEIR_ENOMEM;
    if (copy->count)
        s->trailer = copy;
    else
        free(copy);
    return 0;
}

static int send_body(struct weir_h2_stream *s, const struct iovec *body, int count, size_t bytes)
{
    struct weir_h2 *h2 = s->h2;
    int err = 0;

    resume(s);
    if (bytes >= H2_LEND_BYTES_MIN && !s->queue.len && !h2->feeding && !h2->framing)
        return send_lent(s, body, count, bytes);
    if (bytes)
        err = queue(s, body, count, 0);
    weir_h2_want(h2);
    return err;
}

static bool is_interim(const struct weir_message *head)
{
    return !head->request && head->status < 200 && head->status != 101;
}

static int send_message(struct weir_h2_stream *s, const struct weir_message *head,
                        const struct iovec *body, int count, const struct weir_message *trailer,
                        bool end)
{
    size_t bytes = weir_iov_len(body, count);
    bool drop,
        tunnel = head && head->request && (head->upgrade.len || head->form == WEIR_T_AUTHORITY);
    int err;

    if (tunnel) /* its request has no body, and our side stays open */
        end = false;
    if (head) {
        bool empty = end && !bytes && !trailer;

        if (!empty && end && !head->request && answer_body(s, head) == WEIR_BODY_NONE)
            empty = true;
        if (empty && head->body == WEIR_BODY_LENGTH && head->length && s->out == H2_OUT_HEAD &&
            (head->request || answer_body(s, head) == WEIR_BODY_LENGTH))
            return WEIR_EFRAMING;
        err = send_head(s, head, empty);
        if (err)
            return err;
    } else if (s->out != H2_OUT_BODY) {
        return WEIR_EFRAMING;
    }
    err = count_body(s, bytes, end, &drop);
    if (!err && end)
        err = take_trailer(s, trailer);
    if (err)
        return err;
    if (end)
        s->out = H2_OUT_DONE;
    return send_body(s, body, drop ? 0 : count, drop ? 0 : bytes);
}

int weir_h2_send(struct weir_hstream *hs, const struct weir_message *head, const struct iovec *body,
                 int count, const struct weir_message *trailer, unsigned flags)
{
    struct weir_h2_stream *s = hs->impl;
    int err;

    if (!s || s->hs != hs)
        return WEIR_ECLOSED;
    if (s->dropped || s->closed || s->h2->dead)
        return 0;
    if (head && is_interim(head)) {
        err = send_interim(s, head);
        if (!err)
            weir_h2_want(s->h2);
        return err;
    }
    return send_message(s, head, body, count, trailer, flags & WEIR_SEND_END);
}

/* ---- what waits ---- */

static size_t window_of(const struct weir_h2_stream *s)
{
    nghttp2_session *session = s->h2->session;
    int32_t conn = nghttp2_session_get_remote_window_size(session);
    int32_t own = nghttp2_session_get_stream_remote_window_size(session, s->id);

    if (own < 0 && s->h2->role == H2_CLIENT && !s->end_sent) /* its head is not framed yet */
        own = (int32_t)nghttp2_session_get_remote_settings(session,
                                                           NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    if (own > conn)
        own = conn;
    return own > 0 ? (size_t)own : 0;
}

static bool is_blocked(const struct weir_h2_stream *s)
{
    const struct weir_codec *codec = &s->h2->codec;

    return codec->sink->on_pending(codec->arg) >= WEIR_STREAM_HIGH_BYTES;
}

/* What the peer's windows and the kernel let through now. */
static size_t way_of(const struct weir_h2_stream *s)
{
    return is_blocked(s) ? 0 : window_of(s);
}

size_t weir_h2_pending(struct weir_hstream *hs)
{
    struct weir_h2_stream *s = hs->impl;
    size_t room, waiting;

    if (!s || s->closed || s->dropped)
        return 0;
    waiting = weir_h2_waiting(s);
    if (!waiting) { /* but perhaps a head, a trailer or an end, which need no window */
        if (!is_blocked(s) || s->out != H2_OUT_DONE || s->end_sent)
            return 0;
        s->told = true;
        return 1;
    }
    room = way_of(s);
    /* What only waits for the flush is not pending, but there is no end of it. */
    if (waiting < WEIR_STREAM_HIGH_BYTES && waiting <= room)
        return 0;
    s->told = true;
    return waiting < WEIR_STREAM_HIGH_BYTES && room ? waiting - room : waiting;
}

size_t weir_h2_send_room(struct weir_hstream *hs)
{
    struct weir_h2_stream *s = hs->impl;
    size_t room, waiting;

    if (!s || s->closed || s->dropped) /* it is dropped */
        return WEIR_SHARED_STREAM_BYTES;
    room = way_of(s);
    waiting = weir_h2_waiting(s);
    room = room > waiting ? room - waiting : 0;
    return room < WEIR_SHARED_STREAM_BYTES ? room : WEIR_SHARED_STREAM_BYTES;
}

bool weir_h2_shut(struct weir_hstream *hs)
{
    struct weir_h2_stream *s = hs->impl;

    return s && !s->closed && !s->dropped && weir_h2_waiting(s) &&
           nghttp2_session_get_stream_remote_window_size(s->h2->session, s->id) == 0;
}
