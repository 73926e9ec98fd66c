/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_exchange.c: streams as their holders see them: opened, credited, reset, let go; and what a stream is due when the
 * call into the codec that found it is not the one in which it may be told.
 */
#include "http/h2_priv.h"

/* ---- streams ---- */

struct weir_h2_stream *weir_h2_stream_new(struct weir_h2 *h2)
{
    struct weir_h2_stream *s = weir_slab_get(&h2->shared->streams);

    if (!s)
        return NULL;
    s->h2 = h2;
    s->window = s->bound = weir_h2_window_first(h2);
    weir_buf_init(&s->queue, h2->shared->bufs);
    weir_buf_init(&s->held, h2->shared->bufs);
    weir_list_init(&s->due_link);
    weir_list_init(&s->framed_link);
    weir_list_push_back(&h2->streams, &s->link);
    return s;
}

void weir_h2_stream_free(struct weir_h2_stream *s)
{
    if (s->h2->reading == s)
        s->h2->reading = NULL;
    weir_h2_drop_queue(s);
    weir_list_remove(&s->link);
    weir_list_remove(&s->due_link);
    weir_list_remove(&s->framed_link);
    weir_slab_put(&s->h2->shared->streams, s);
}

void weir_h2_stream_release(struct weir_h2_stream *s)
{
    if (!s->closed || !s->let_go)
        return;
    weir_list_remove(&s->due_link);
    if (s->h2->depth)
        weir_list_push_back(&s->h2->gone, &s->due_link);
    else
        weir_h2_stream_free(s);
}

void weir_h2_leave(struct weir_h2 *h2)
{
    struct weir_list *link;

    if (--h2->depth)
        return;
    while ((link = weir_list_pop_front(&h2->gone)))
        weir_h2_stream_free(weir_list_entry(link, struct weir_h2_stream, due_link));
}

void weir_h2_want(struct weir_h2 *h2)
{
    if (h2->wanted || !h2->codec.sink->on_wanted)
        return;
    h2->wanted = true;
    h2->codec.sink->on_wanted(h2->codec.arg);
}

void weir_h2_due(struct weir_h2_stream *s, unsigned what)
{
    if (!weir_h2_hears(s))
        return;
    s->due |= (uint8_t)what;
    if (weir_list_empty(&s->due_link))
        weir_list_push_back(&s->h2->due, &s->due_link);
    if (!s->h2->depth)
        weir_h2_want(s->h2);
}

static void tell_now(struct weir_h2_stream *s)
{
    struct weir_error why = s->why;

    s->quiet = true;
    s->hs->sink->on_reset(s->hs->arg, &why);
}

static enum weir_retry retry_class(const struct weir_h2_stream *s, enum weir_err code)
{
    if (s->answered)
        return WEIR_RETRY_NO;
    if (!s->id)
        return WEIR_RETRY_UNSENT;
    return code == WEIR_EUPREFUSED ? WEIR_RETRY_UNPROCESSED : WEIR_RETRY_IDEMPOTENT_ONLY;
}

void weir_h2_tell_reset(struct weir_h2_stream *s, enum weir_err code, enum weir_by by,
                        const char *where)
{
    bool ours = code == WEIR_ENOMEM || code == WEIR_EINTERNAL;

    if (!weir_h2_hears(s) || (s->due & H2_DUE_RESET))
        return;
    s->why = (struct weir_error){ .code = code, .by = ours ? WEIR_BY_US : by, .where = where };
    if (s->h2->role == H2_CLIENT) {
        s->why.code = weir_upstream_name(code);
        s->why.retry = retry_class(s, s->why.code);
    }
    if (s->h2->feeding)
        tell_now(s);
    else
        weir_h2_due(s, H2_DUE_RESET);
}

void weir_h2_rst(struct weir_h2_stream *s, uint32_t code)
{
    if (s->closed || !s->id)
        return;
    (void)nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, code);
    weir_h2_want(s->h2);
}

/* What streams are due, once: what comes due meanwhile waits for the next flush. */
void weir_h2_settle(struct weir_h2 *h2)
{
    struct weir_list now, *link;

    weir_list_take_all(&now, &h2->due);
    while ((link = weir_list_pop_front(&now))) {
        struct weir_h2_stream *s = weir_list_entry(link, struct weir_h2_stream, due_link);
        unsigned due = s->due;

        s->due = 0;
        if ((due & H2_DUE_HELD) && weir_h2_hears(s)) {
            weir_h2_give_held(s);
            due |= H2_DUE_FLUSH;
        }
        if ((due & H2_DUE_FLUSH) && weir_h2_hears(s) && s->hs->sink->on_flush)
            s->hs->sink->on_flush(s->hs->arg);
        if ((due & H2_DUE_DRAINED) && weir_h2_hears(s) && s->hs->sink->on_drained)
            s->hs->sink->on_drained(s->hs->arg);
        if ((due & H2_DUE_RESET) && weir_h2_hears(s))
            tell_now(s);
    }
    if (!weir_list_empty(&h2->due))
        weir_h2_want(h2);
}

uint32_t weir_h2_code_of(enum weir_err why)
{
    switch (why) {
    case WEIR_OK:
    case WEIR_ESHUTDOWN:
    case WEIR_EHEADTIME:
    case WEIR_ESENDTIME:
    case WEIR_ETIMEDOUT:
        return NGHTTP2_NO_ERROR;
    case WEIR_ECANCELED:
    case WEIR_ECLIENTGONE:
    case WEIR_EUPCANCEL:
    case WEIR_EREQTIME: /* gRPC wants a deadline told so */
        return NGHTTP2_CANCEL;
    case WEIR_EFLOOD:
    case WEIR_EUPCALM:
        return NGHTTP2_ENHANCE_YOUR_CALM;
    case WEIR_EUPNOUPGRADE:
        return NGHTTP2_CONNECT_ERROR;
    case WEIR_EBADFRAME:
    case WEIR_EBADREQ:
    case WEIR_EBADLINE:
    case WEIR_EBADHEADER:
    case WEIR_EBADHOST:
    case WEIR_EBADTE:
    case WEIR_EBADCL:
    case WEIR_EBADTRAILER:
    case WEIR_EBADTARGET:
    case WEIR_EUPHEAD:
    case WEIR_EUPFRAMING:
        return NGHTTP2_PROTOCOL_ERROR;
    default:
        return NGHTTP2_INTERNAL_ERROR;
    }
}

/* ---- exchanges ---- */

int weir_h2_open(struct weir_codec *codec, struct weir_hstream *hs)
{
    struct weir_h2 *h2 = weir_h2_of(codec);
    struct weir_h2_stream *s = weir_h2_room(h2) ? weir_h2_stream_new(h2) : NULL;

    if (!s)
        return WEIR_ELIMIT;
    s->hs = hs;
    h2->open++;
    hs->codec = codec;
    hs->impl = s;
    return 0;
}

void weir_h2_consume(struct weir_hstream *hs, size_t bytes)
{
    struct weir_h2_stream *s = hs->impl;

    if (!s)
        return;
    if (bytes > s->unread)
        bytes = s->unread;
    s->unread -= (uint32_t)bytes;
    if (bytes)
        weir_h2_window_consume(s, bytes);
}

void weir_h2_hold(struct weir_hstream *hs, bool on)
{
    struct weir_h2_stream *s = hs->impl;

    if (s)
        weir_h2_window_consume(s, 0);
}

/* Client role: a stream that nghttp2 never heard of. */
static void forget_unsent(struct weir_h2_stream *s)
{
    if (s->id || s->closed)
        return;
    s->closed = true;
    s->h2->open--;
}

void weir_h2_reset(struct weir_hstream *hs, enum weir_err why)
{
    struct weir_h2_stream *s = hs->impl;
    uint32_t code;

    if (!s)
        return;
    s->quiet = true;
    if (s->closed || s->dropped)
        return;
    s->dropped = true;
    if (weir_list_empty(&s->framed_link))
        weir_h2_drop_queue(s);
    code = weir_h2_code_of(why);
    weir_h2_rst(s, code == NGHTTP2_NO_ERROR ? NGHTTP2_CANCEL : code); /* it must not look whole */
    forget_unsent(s);
}

/* ---- an answer that is whole before its request ---- */

/* The rest is not wanted, and RST_STREAM(NO_ERROR) says so (RFC 9113 8.1). There are clients (curl 7.88) that drop an answer
 * which they find in one read with it: so it goes when they have answered a PING behind the answer. Until then, and for
 * those that answer none, nobody gives the stream's window back. */

static const uint8_t cut_ping[8] = { 'w', 'e', 'i', 'r', '-', 'c', 'u', 't' };

static void ask_read(struct weir_h2 *h2)
{
    h2->cut_asked = nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, cut_ping) == 0;
    weir_h2_want(h2);
}

void weir_h2_cut(struct weir_h2_stream *s)
{
    s->cut_late = s->h2->cut_asked;
    if (!s->h2->cut_asked)
        ask_read(s->h2);
    if (!s->h2->cut_asked)
        weir_h2_rst(s, NGHTTP2_NO_ERROR);
}

void weir_h2_cut_ack(struct weir_h2 *h2, const uint8_t *opaque)
{
    bool more = false;

    if (!h2->cut_asked || memcmp(opaque, cut_ping, sizeof(cut_ping)) != 0)
        return;
    h2->cut_asked = false;
    weir_list_each(link, next, &h2->streams)
    {
        struct weir_h2_stream *s = weir_list_entry(link, struct weir_h2_stream, link);

        if (!s->cut || !s->end_sent)
            continue;
        if (!s->cut_late)
            weir_h2_rst(s, NGHTTP2_NO_ERROR);
        more |= s->cut_late;
        s->cut_late = false;
    }
    if (more)
        ask_read(h2);
}

/* What the peer still expects, or still sends, is told to be over. */
static void part(struct weir_h2_stream *s)
{
    bool in_whole = s->in == H2_IN_DONE || (s->in == H2_IN_HELD && s->held_end);

    if (s->closed || s->dropped)
        return;
    if (s->out != H2_OUT_DONE || (!in_whole && s->h2->role == H2_CLIENT)) {
        s->dropped = true;
        if (weir_list_empty(&s->framed_link))
            weir_h2_drop_queue(s);
        weir_h2_rst(s, NGHTTP2_CANCEL);
        return;
    }
    if (in_whole)
        return;
    s->cut = true;
    if (s->end_sent)
        weir_h2_cut(s);
}

bool weir_h2_done(struct weir_hstream *hs)
{
    struct weir_h2 *h2 = weir_h2_of(hs->codec);
    struct weir_h2_stream *s = hs->impl;
    bool again = !h2->dead && !h2->eof;

    if (!s)
        return again;
    hs->impl = NULL;
    s->quiet = true;
    forget_unsent(s);
    part(s);
    s->hs = NULL;
    s->let_go = true;
    weir_h2_stream_release(s);
    return again;
}
