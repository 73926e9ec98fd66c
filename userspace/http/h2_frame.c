/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_frame.c: queues to frames. One loop takes what nghttp2 has to say and gathers it: small frames and DATA headers are
 * copied, large DATA is referenced where it lies, and one output hands on up to 64 KiB. It stops when the connection has
 * as much unsent as it may, so that at most that much stands in front of what comes later.
 *
 * nghttp2's frame buffer is lent by the worker (h2_shared.c): that is right as long as nothing of it is needed once
 * nghttp2_session_mem_send is called for another session. Whole frames are copied from it at once; DATA is never asked to
 * wait in the middle (weir_h2_on_send_data always takes all), the loop stops in weir_h2_on_read, before a frame begins.
 */
#include "http/h2_priv.h"

enum {
    GATHER_BYTES = 64 * 1024,
    GATHER_PIECES = 60,
    PIECES_OF_FRAME = 20, /* at most, of one DATA frame: the rest is copied */
    FRAME_HEADER_BYTES = 9,
    FRAME_ROOM = 17 * 1024, /* what the output must have for any frame */
};

struct weir_h2_gather {
    struct iovec iov[GATHER_PIECES + PIECES_OF_FRAME + 4];
    int count;
    size_t bytes, used; /* in all; of shared->output */
    bool full, blocked;
};

static void put_piece(struct weir_h2_gather *gather, void *at, size_t len)
{
    struct iovec *last = gather->count ? &gather->iov[gather->count - 1] : NULL;

    if (last && (char *)last->iov_base + last->iov_len == at)
        last->iov_len += len;
    else
        gather->iov[gather->count++] = (struct iovec){ at, len };
    gather->bytes += len;
}

static void put_copy(struct weir_h2 *h2, const void *data, size_t len)
{
    struct weir_h2_gather *gather = h2->gather;
    uint8_t *at = h2->shared->output + gather->used;

    memcpy(at, data, len);
    gather->used += len;
    put_piece(gather, at, len);
}

static bool is_full(const struct weir_h2_gather *gather)
{
    return gather->bytes >= GATHER_BYTES || gather->count >= GATHER_PIECES ||
           gather->used > H2_OUTPUT_BYTES - FRAME_ROOM;
}

/* What lies in the output has gone: queues let it go. */
static void settle_framed(struct weir_h2 *h2)
{
    struct weir_list *link;

    while ((link = weir_list_pop_front(&h2->framed))) {
        struct weir_h2_stream *s = weir_list_entry(link, struct weir_h2_stream, framed_link);

        if (s->lent) {
            s->lent_bytes -= s->framed;
        } else {
            weir_buf_consume(&s->queue, s->framed);
            h2->queued -= s->framed;
        }
        s->framed = 0;
        if (s->closed) /* what was left is for nobody */
            weir_h2_drop_queue(s);
        if (s->told && !weir_h2_waiting(s)) {
            s->told = false;
            weir_h2_due(s, H2_DUE_DRAINED);
        }
    }
}

static void emit(struct weir_h2 *h2)
{
    struct weir_h2_gather *gather = h2->gather;

    if (gather->count)
        h2->codec.sink->on_output(h2->codec.arg, gather->iov, gather->count);
    gather->count = 0;
    gather->bytes = gather->used = 0;
    gather->full = false;
    settle_framed(h2);
    gather->blocked = h2->codec.sink->on_pending(h2->codec.arg) >= WEIR_STREAM_HIGH_BYTES;
}

/* ---- nghttp2 asks for body ---- */

ssize_t weir_h2_on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
                        uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct weir_h2 *h2 = arg;
    struct weir_h2_stream *s = source->ptr;
    size_t left = weir_h2_waiting(s);

    if (is_full(h2->gather)) {
        h2->gather->full = true;
        return NGHTTP2_ERR_PAUSE;
    }
    if (!left && s->out != H2_OUT_DONE) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (len > left)
        len = left;
    if (len == left && s->out == H2_OUT_DONE) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->trailer) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (weir_h2_trailer_submit(s))
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    if (len)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return (ssize_t)len;
}

/* The pieces of [s->framed, + len) of what waits. */
static int pieces_of(const struct weir_h2_stream *s, size_t len, struct iovec *iov, int max)
{
    size_t skip = s->framed;
    int n = 0;

    if (!s->lent) {
        n = weir_buf_peek(&s->queue, skip, iov, max);
    } else {
        size_t gone = weir_iov_len(s->lent, s->lent_count) - s->lent_bytes;

        skip += gone;
        for (int i = 0; i < s->lent_count && n < max; i++) {
            size_t bytes = s->lent[i].iov_len;

            if (skip >= bytes) {
                skip -= bytes;
                continue;
            }
            iov[n++] = (struct iovec){ (char *)s->lent[i].iov_base + skip, bytes - skip };
            skip = 0;
        }
    }
    for (int i = 0; i < n; i++) {
        if (iov[i].iov_len >= len) {
            iov[i].iov_len = len;
            return i + 1;
        }
        len -= iov[i].iov_len;
    }
    return n;
}

int weir_h2_on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                         size_t len, nghttp2_data_source *source, void *arg)
{
    struct weir_h2 *h2 = arg;
    struct weir_h2_stream *s = source->ptr;

    put_copy(h2, header, FRAME_HEADER_BYTES);
    if (weir_list_empty(&s->framed_link))
        weir_list_push_back(&h2->framed, &s->framed_link);
    while (len) {
        struct iovec iov[PIECES_OF_FRAME];
        int n = pieces_of(s, len, iov, PIECES_OF_FRAME);
        bool copy =
            len <= H2_COPY_BYTES_MAX || h2->gather->count + n > GATHER_PIECES + PIECES_OF_FRAME;

        for (int i = 0; i < n; i++) {
            if (copy)
                put_copy(h2, iov[i].iov_base, iov[i].iov_len);
            else
                put_piece(h2->gather, iov[i].iov_base, iov[i].iov_len);
            s->framed += (uint32_t)iov[i].iov_len;
            len -= iov[i].iov_len;
        }
    }
    return 0;
}

/* ---- what is on its way ---- */

static void on_rst_sent(struct weir_h2 *h2, uint32_t code)
{
    switch (code) {
    case NGHTTP2_NO_ERROR:
    case NGHTTP2_CANCEL:
    case NGHTTP2_INTERNAL_ERROR:
    case NGHTTP2_REFUSED_STREAM: /* of a burst before it knew our SETTINGS, or for want of memory */
        return;
    default: /* the peer made us do it */
        if (!weir_h2_watch_reset(&h2->watch, h2->abuse, weir_h2_now(h2)))
            weir_h2_flood(h2, WEIR_H2_ABUSE_RESETS);
    }
}

static void on_end_sent(struct weir_h2 *h2, int32_t id)
{
    struct weir_h2_stream *s = nghttp2_session_get_stream_user_data(h2->session, id);

    if (!s)
        return;
    s->end_sent = true;
    if (s->told && !weir_h2_waiting(s)) {
        s->told = false;
        weir_h2_due(s, H2_DUE_DRAINED);
    }
    if (s->cut && s->in != H2_IN_DONE)
        weir_h2_cut(s);
}

int weir_h2_on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct weir_h2 *h2 = arg;

    switch (frame->hd.type) {
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
        weir_h2_watch_sent(&h2->watch, frame->hd.length, h2->abuse);
        if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            weir_h2_watch_asked(&h2->watch, h2->abuse);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            on_end_sent(h2, frame->hd.stream_id);
        return 0;
    case NGHTTP2_RST_STREAM:
        on_rst_sent(h2, frame->rst_stream.error_code);
        return 0;
    case NGHTTP2_GOAWAY:
        weir_h2_gone_sent(h2);
        if (frame->goaway.error_code != NGHTTP2_NO_ERROR && !h2->broken)
            h2->broken = h2->role == H2_SERVER ? WEIR_EBADFRAME : WEIR_EUPFRAMING;
        return 0;
    default:
        return 0;
    }
}

static void frame_some(struct weir_h2 *h2)
{
    struct weir_h2_gather *gather = h2->gather;

    while (!gather->blocked) {
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(h2->session, &data);

        if (n < 0) {
            h2->fatal = true;
            weir_h2_die(h2, n == NGHTTP2_ERR_NOMEM ? WEIR_ENOMEM : WEIR_EINTERNAL);
            return;
        }
        if (n > 0)
            put_copy(h2, data, (size_t)n);
        else if (!gather->full)
            return;
        if (gather->full || is_full(gather))
            emit(h2);
    }
}

void weir_h2_frame(struct weir_h2 *h2)
{
    struct weir_h2_gather gather;

    if (h2->framing || h2->feeding || h2->fatal)
        return;
    gather.count = 0;
    gather.bytes = gather.used = 0;
    gather.full = false;
    gather.blocked = h2->codec.sink->on_pending(h2->codec.arg) >= WEIR_STREAM_HIGH_BYTES;
    h2->gather = &gather;
    h2->framing = true;
    h2->depth++;
    if (h2->magic && !gather.blocked) {
        h2->magic = false;
        put_copy(h2, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    }
    frame_some(h2);
    emit(h2);
    h2->gather = NULL;
    h2->framing = false;
    weir_h2_leave(h2);
}
