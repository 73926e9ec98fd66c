/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_in.c: frames to events. nghttp2 calls here from inside nghttp2_session_mem_recv; a sink may send, consume, reset and
 * let go from inside its events, since nghttp2 closes a stream only after the callback that ends it, and memory of ours
 * stays until the call into the codec is over.
 */
#include "http/h2_priv.h"

#include "base/panic.h"

static struct weir_h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* The message is wrong: the stream is reset, or (a head that can be answered) left to the machine. */
static void refuse(struct weir_h2_stream *s, enum weir_err err, const char *where)
{
    bool server = s->h2->role == H2_SERVER;

    if (server && s->out == H2_OUT_HEAD && weir_h2_answerable(err)) {
        s->rejected = true;
    } else {
        s->dropped = true;
        weir_h2_rst(s, NGHTTP2_PROTOCOL_ERROR);
    }
    weir_h2_tell_reset(s, err, server ? WEIR_BY_CLIENT : WEIR_BY_UPSTREAM, where);
}

/* ---- heads come ---- */

static struct weir_h2_stream *begin_request(struct weir_h2 *h2, int32_t id)
{
    struct weir_h2_stream *s = h2->dead ? NULL : weir_h2_stream_new(h2);

    if (!s) {
        (void)nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
        return NULL;
    }
    s->id = id;
    s->self = (struct weir_hstream){ .codec = &h2->codec, .impl = s };
    s->hs = &s->self;
    h2->open++;
    (void)nghttp2_session_set_stream_user_data(h2->session, id, s);
    if (h2->codec.sink->on_begin(h2->codec.arg, s->hs)) { /* nobody will let it go */
        s->hs = NULL;
        s->let_go = s->dropped = true;
        weir_h2_rst(s, NGHTTP2_REFUSED_STREAM);
        return NULL;
    }
    weir_assert(s->hs->sink && s->hs->arena);
    return s;
}

int weir_h2_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct weir_h2 *h2 = arg;
    struct weir_h2_stream *s = stream_of(session, frame->hd.stream_id);
    enum h2_kind kind;

    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (!s && h2->role == H2_SERVER && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        s = begin_request(h2, frame->hd.stream_id);
    if (!s)
        return 0;
    h2->reading = s;
    s->head = NULL;
    if (!weir_h2_hears(s) || s->rejected)
        return 0;
    kind = s->in != H2_IN_HEAD ? H2_TRAILER : h2->role == H2_SERVER ? H2_REQUEST : H2_ANSWER;
    s->head = weir_h2_head_new(s->hs->arena, kind);
    if (!s->head)
        refuse(s, WEIR_ENOMEM, "head");
    return 0;
}

int weir_h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                      size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                      void *arg)
{
    struct weir_h2 *h2 = arg;
    struct weir_h2_stream *s = h2->reading;

    if (!s || s->id != frame->hd.stream_id || !s->head || s->quiet)
        return 0;
    weir_h2_head_field(s->head, (struct weir_str){ (const char *)name, name_len },
                       (struct weir_str){ (const char *)value, value_len },
                       flags & NGHTTP2_NV_FLAG_NO_INDEX, h2->limits);
    if (!s->head->far_over)
        return 0;
    weir_h2_flood(h2, WEIR_H2_ABUSE_HEADERS);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* nghttp2 would pass over some malformed fields. */
int weir_h2_on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                              const uint8_t *name, size_t name_len, const uint8_t *value,
                              size_t value_len, uint8_t flags, void *arg)
{
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

int weir_h2_on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *arg)
{
    struct weir_h2_stream *s = stream_of(session, frame->hd.stream_id);
    enum weir_err err;

    if (!s || frame->hd.type != NGHTTP2_HEADERS || !weir_h2_hears(s) ||
        (error != NGHTTP2_ERR_HTTP_HEADER && error != NGHTTP2_ERR_HTTP_MESSAGING))
        return 0;
    err = s->in != H2_IN_HEAD                ? WEIR_EBADTRAILER
          : error == NGHTTP2_ERR_HTTP_HEADER ? WEIR_EBADHEADER
                                             : WEIR_EBADREQ;
    if (s->head && s->head->err && !weir_h2_answerable(s->head->err))
        err = s->head->err;
    s->dropped = true;
    weir_h2_tell_reset(s, err, s->h2->role == H2_SERVER ? WEIR_BY_CLIENT : WEIR_BY_UPSTREAM,
                       "head");
    return 0;
}

/* ---- whole heads ---- */

static void emit_end(struct weir_h2_stream *s)
{
    if (!weir_h2_hears(s))
        return;
    s->hs->sink->on_end(s->hs->arg);
    weir_h2_due(s, H2_DUE_FLUSH);
}

static void come_whole(struct weir_h2_stream *s)
{
    s->in = H2_IN_DONE;
    weir_h2_window_whole(s);
}

static void on_request(struct weir_h2_stream *s, struct weir_h2_head *head, bool end)
{
    struct weir_message *msg = head->msg;
    int err = weir_h2_guard_request(head, end);
    struct weir_hstream *hs = s->hs;

    s->asked.method = msg->method_id;
    s->tunnel_asked = msg->must_switch || msg->method_id == WEIR_M_CONNECT;
    s->in = s->tunnel_asked ? H2_IN_HELD : end ? H2_IN_DONE : H2_IN_BODY;
    s->held_end = s->tunnel_asked && end;
    if (err) {
        refuse(s, err, "head");
        return;
    }
    s->length_in = msg->body == WEIR_BODY_LENGTH && !s->tunnel_asked;
    s->left_in = msg->length;
    weir_h2_priority_begin(s, head->prioritized);
    hs->sink->on_head(hs->arg, msg);
    weir_h2_due(s, H2_DUE_FLUSH);
    if (end || s->tunnel_asked)
        emit_end(s);
}

static void on_answer(struct weir_h2_stream *s, struct weir_h2_head *head, bool end)
{
    struct weir_message *msg = head->msg;
    struct weir_hstream *hs = s->hs;
    int err = weir_h2_guard_answer(head, end, &s->asked);

    if (!err && msg->status < 200 && msg->status != 101 &&
        ++s->informationals > WEIR_INFORMATIONALS_MAX)
        err = WEIR_EBADREQ;
    if (err) {
        refuse(s, err, "head");
        return;
    }
    if (msg->status >= 200 || msg->status == 101) {
        s->answered = true;
        s->in = end ? H2_IN_DONE : H2_IN_BODY;
        s->tunnel = msg->body == WEIR_BODY_TUNNEL;
        s->length_in = msg->body == WEIR_BODY_LENGTH;
        s->left_in = msg->length;
    }
    hs->sink->on_head(hs->arg, msg);
    weir_h2_due(s, H2_DUE_FLUSH);
    if (s->in == H2_IN_DONE)
        emit_end(s);
}

/* Has the body the length that was said? nghttp2 counts as well, but not what it is told to pass over. */
static bool length_met(struct weir_h2_stream *s)
{
    if (!s->length_in || !s->left_in)
        return true;
    refuse(s, WEIR_EBADCL, "body");
    return false;
}

static void on_trailer(struct weir_h2_stream *s, struct weir_h2_head *head)
{
    int err = s->tunnel_asked ? WEIR_EBADTRAILER : weir_h2_guard_trailer(head);
    struct weir_hstream *hs = s->hs;

    if (err) {
        refuse(s, err, "trailer");
        return;
    }
    if (!length_met(s))
        return;
    come_whole(s);
    if (head->msg->count)
        hs->sink->on_trailer(hs->arg, head->msg);
    emit_end(s);
}

static void on_headers(struct weir_h2_stream *s, bool end)
{
    struct weir_h2_head *head = s->head;

    s->head = NULL;
    if (!head || !weir_h2_hears(s)) {
        if (end)
            come_whole(s);
        return;
    }
    if (head->kind == H2_TRAILER)
        on_trailer(s, head);
    else if (head->kind == H2_REQUEST)
        on_request(s, head, end);
    else
        on_answer(s, head, end);
}

/* ---- bodies ---- */

static bool emit_body(struct weir_h2_stream *s, const char *data, size_t len)
{
    struct weir_hstream *hs = s->hs;

    hs->sink->on_body(hs->arg, (struct weir_str){ data, len });
    weir_h2_due(s, H2_DUE_FLUSH);
    return weir_h2_hears(s);
}

int weir_h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                    size_t len, void *arg)
{
    struct weir_h2 *h2 = arg;
    struct weir_h2_stream *s = stream_of(session, id);

    if (weir_h2_window_received(h2, s, len))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (!s || !weir_h2_hears(s) || !len)
        return 0;
    if (s->in == H2_IN_HELD) { /* as much as the window lets come */
        if (weir_buf_append(&s->held, data, len))
            refuse(s, WEIR_ENOMEM, "body");
        return 0;
    }
    if (s->length_in) {
        if (len > s->left_in) {
            refuse(s, WEIR_EBADCL, "body");
            return 0;
        }
        s->left_in -= len;
    }
    s->unread += (uint32_t)len;
    (void)emit_body(s, (const char *)data, len);
    return 0;
}

/* From here on it is the holder's to take: counted once, or what it takes at once would be missing in its window. A reset
 * from inside drops what the stream has, not what is being handed out. */
void weir_h2_give_held(struct weir_h2_stream *s)
{
    struct weir_buf held;
    struct iovec iov;

    if (s->in != H2_IN_HELD)
        return;
    s->in = s->held_end ? H2_IN_DONE : H2_IN_BODY;
    weir_buf_init(&held, s->h2->shared->bufs);
    weir_buf_splice(&held, &s->held);
    s->unread += (uint32_t)held.len;
    while (weir_buf_peek(&held, 0, &iov, 1)) {
        if (!emit_body(s, iov.iov_base, iov.iov_len))
            break;
        weir_buf_consume(&held, iov.iov_len);
    }
    weir_buf_clear(&held);
    if (s->held_end)
        emit_end(s);
}

static void on_data_end(struct weir_h2_stream *s)
{
    if (s->in == H2_IN_HELD) {
        s->held_end = true;
        return;
    }
    if (weir_h2_hears(s) && !length_met(s))
        return;
    come_whole(s);
    emit_end(s);
}

/* ---- frames ---- */

/* SETTINGS may lift the windows of streams, all of which nghttp2 has not changed yet. */
int weir_h2_on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    struct weir_h2 *h2 = arg;

    if (hd->type != NGHTTP2_SETTINGS || (hd->flags & NGHTTP2_FLAG_ACK))
        return 0;
    h2->widest = 0;
    weir_list_each(link, next, &h2->streams)
    {
        struct weir_h2_stream *s = weir_list_entry(link, struct weir_h2_stream, link);
        int64_t window = nghttp2_session_get_stream_remote_window_size(session, s->id);

        if (window > h2->widest)
            h2->widest = window;
    }
    return 0;
}

static void on_settings(struct weir_h2 *h2, uint8_t flags)
{
    uint32_t window =
        nghttp2_session_get_remote_settings(h2->session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);

    if (flags & NGHTTP2_FLAG_ACK) {
        weir_h2_window_settled(h2);
        return;
    }
    h2->settled = true;
    h2->takes_upgrade = nghttp2_session_get_remote_settings(
                            h2->session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
    /* Over the top is an error of the connection (RFC 9113 6.9.2); nghttp2 resets the stream. */
    if (h2->widest + (int64_t)window - (int64_t)h2->peer_window > NGHTTP2_MAX_WINDOW_SIZE)
        weir_h2_break(h2, NGHTTP2_FLOW_CONTROL_ERROR);
    h2->peer_window = window;
    weir_list_each(link, next, &h2->streams)
        weir_h2_send_late(weir_list_entry(link, struct weir_h2_stream, link));
}

static void on_ping_ack(struct weir_h2 *h2, const uint8_t *opaque)
{
    if (weir_h2_window_pong(h2, opaque))
        return;
    weir_h2_gone_ack(h2, opaque);
    weir_h2_cut_ack(h2, opaque);
}

static void on_data_frame(struct weir_h2 *h2, const nghttp2_frame *frame)
{
    struct weir_h2_stream *s = stream_of(h2->session, frame->hd.stream_id);

    if (s && frame->data.padlen)
        weir_h2_window_pad(s, frame->data.padlen);
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        if (s)
            on_data_end(s);
    } else if (frame->hd.length && frame->hd.length == frame->data.padlen &&
               !weir_h2_watch_take(&h2->watch, H2_B_EMPTY, h2->abuse, weir_h2_now(h2))) {
        weir_h2_flood(h2, WEIR_H2_ABUSE_EMPTY); /* nothing but padding */
    }
}

int weir_h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct weir_h2 *h2 = arg;
    struct weir_h2_stream *s;

    switch (frame->hd.type) {
    case NGHTTP2_DATA:
        h2->spoke_ms = h2->alive_ms;
        on_data_frame(h2, frame);
        return 0;
    case NGHTTP2_HEADERS:
        h2->spoke_ms = h2->alive_ms;
        s = stream_of(session, frame->hd.stream_id);
        if (s)
            on_headers(s, frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
        return 0;
    case NGHTTP2_RST_STREAM:
        s = stream_of(session, frame->hd.stream_id);
        if (s)
            s->peer_reset = true;
        return 0;
    case NGHTTP2_SETTINGS:
        on_settings(h2, frame->hd.flags);
        return 0;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            on_ping_ack(h2, frame->ping.opaque_data);
        return 0;
    case NGHTTP2_GOAWAY:
        h2->goaway = true;
        return 0;
    default:
        return 0;
    }
}

/* ---- ends of streams ---- */

static void tell_closed_server(struct weir_h2_stream *s)
{
    if (s->in == H2_IN_DONE && s->end_sent)
        return;
    if (s->peer_reset)
        weir_h2_tell_reset(s, WEIR_ECANCELED, WEIR_BY_CLIENT, "RST_STREAM");
    else
        weir_h2_tell_reset(s, s->length_in ? WEIR_EBADCL : WEIR_EBADFRAME, WEIR_BY_CLIENT,
                           "stream error");
}

/* Each has a status of gRPC of its own (gRPC over HTTP/2, "Errors"): the row of the error says which. */
static enum weir_err reset_name(uint32_t code, bool answered)
{
    switch (code) {
    case NGHTTP2_HTTP_1_1_REQUIRED:
        return answered ? WEIR_EUPSTREAM : WEIR_EUPHTTP1;
    case NGHTTP2_CANCEL:
        return WEIR_EUPCANCEL;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return WEIR_EUPCALM;
    default:
        return WEIR_EUPSTREAM;
    }
}

static void tell_closed_client(struct weir_h2_stream *s, uint32_t code)
{
    if (s->in ==
        H2_IN_DONE) /* RST_STREAM after a whole answer: the rest of the request is not wanted */
        return;
    if (code == NGHTTP2_REFUSED_STREAM && !s->answered) /* or GOAWAY has left it out */
        weir_h2_tell_reset(s, WEIR_EUPREFUSED, WEIR_BY_UPSTREAM, "REFUSED_STREAM");
    else if (s->peer_reset)
        weir_h2_tell_reset(s, reset_name(code, s->answered), WEIR_BY_UPSTREAM, "RST_STREAM");
    else
        weir_h2_tell_reset(s, WEIR_EUPFRAMING, WEIR_BY_UPSTREAM, "stream error");
}

int weir_h2_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct weir_h2_stream *s = stream_of(session, id);

    if (!s)
        return 0;
    s->closed = true;
    s->h2->open--;
    if (s->h2->role == H2_SERVER && s->end_sent)
        weir_h2_watch_served(&s->h2->watch, s->peer_reset, s->h2->abuse);
    weir_h2_window_forget(s);
    if (weir_list_empty(&s->framed_link))
        weir_h2_drop_queue(s);
    if (weir_h2_hears(s)) {
        if (s->h2->role == H2_SERVER)
            tell_closed_server(s);
        else
            tell_closed_client(s, code);
    }
    weir_h2_stream_release(s);
    return 0;
}
