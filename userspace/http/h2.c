/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2.c: a session: set-up, feeding and flushing, what streams are due, and how it ends.
 *
 *   feed ──▶ watch (budgets) ──▶ nghttp2 ──▶ h2_in.c: events at once;   what is to be sent: on_wanted
 *   flush, drained ──▶ h2_frame.c ──▶ on_output;                        then on_drained, on_reset of streams that are due
 *
 * Nothing of ours is freed inside a call into the codec (`depth`): streams that nobody knows any more go at its end.
 */
#include "http/h2_priv.h"

#include "base/panic.h"

static const uint8_t gone_ping[8] = { 'w', 'e', 'i', 'r', 'g', 'o', 'n', 'e' };
static const uint8_t alive_ping[8] = { 'w', 'e', 'i', 'r', 'p', 'i', 'n', 'g' };

/* ---- streams ---- */

struct weir_h2_stream *weir_h2_stream_new(struct weir_h2 *h2)
{
    struct weir_h2_stream *s = weir_slab_get(&h2->shared->streams);

    if (!s)
        return NULL;
    s->h2 = h2;
    s->window = H2_WINDOW_BYTES;
    weir_buf_init(&s->queue, h2->shared->bufs);
    weir_buf_init(&s->held, h2->shared->bufs);
    weir_list_init(&s->due_link);
    weir_list_init(&s->framed_link);
    weir_list_push_back(&h2->streams, &s->link);
    return s;
}

static void stream_free(struct weir_h2_stream *s)
{
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
        stream_free(s);
}

void weir_h2_leave(struct weir_h2 *h2)
{
    struct weir_list *link;

    if (--h2->depth)
        return;
    while ((link = weir_list_pop_front(&h2->gone)))
        stream_free(weir_list_entry(link, struct weir_h2_stream, due_link));
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
        s->why.code = weir_h2_upstream_name(code);
        s->why.retry = retry_class(s, s->why.code);
    }
    if (s->h2->feeding)
        tell_now(s);
    else
        weir_h2_due(s, H2_DUE_RESET);
}

enum weir_err weir_h2_upstream_name(enum weir_err err)
{
    switch (err) {
    case WEIR_EHDRSIZE:
    case WEIR_EHDRCOUNT:
        return WEIR_EUPSIZE;
    case WEIR_EBADTE:
    case WEIR_EBADCL:
    case WEIR_EBADTRAILER:
    case WEIR_EBADFRAME:
    case WEIR_EFLOOD:
        return WEIR_EUPFRAMING;
    case WEIR_EBADREQ:
    case WEIR_EBADLINE:
    case WEIR_EBADHEADER:
        return WEIR_EUPHEAD;
    default:
        return err;
    }
}

void weir_h2_rst(struct weir_h2_stream *s, uint32_t code)
{
    if (s->closed || !s->id)
        return;
    (void)nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, code);
    weir_h2_want(s->h2);
}

/* What streams are due, once: what comes due meanwhile waits for the next flush. */
static void settle(struct weir_h2 *h2)
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

/* ---- how it ends ---- */

void weir_h2_die(struct weir_h2 *h2, enum weir_err err)
{
    if (!h2->broken)
        h2->broken = err;
    h2->dead = true;
    weir_list_each(link, next, &h2->streams)
    {
        struct weir_h2_stream *s = weir_list_entry(link, struct weir_h2_stream, link);

        if (h2->role == H2_SERVER)
            weir_h2_tell_reset(s, err, WEIR_BY_CLIENT, "connection");
        else if (s->in != H2_IN_DONE) /* a whole answer needs no more */
            weir_h2_tell_reset(s, err, WEIR_BY_UPSTREAM, "connection");
    }
}

static uint32_t code_of(enum weir_err why)
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
        return NGHTTP2_CANCEL;
    case WEIR_EFLOOD:
        return NGHTTP2_ENHANCE_YOUR_CALM;
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

void weir_h2_goodbye(struct weir_h2 *h2, enum weir_err why)
{
    if (h2->dead)
        return;
    h2->dead = h2->left = true;
    if (nghttp2_session_terminate_session(h2->session, code_of(why)))
        return;
    if (h2->feeding || h2->framing)
        weir_h2_want(h2);
    else
        weir_h2_frame(h2);
}

void weir_h2_flood(struct weir_h2 *h2, enum weir_h2_abuse why)
{
    h2->watch.abuse = (uint8_t)why;
    if (!h2->broken)
        h2->broken = WEIR_EFLOOD;
    (void)nghttp2_session_terminate_session(h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

enum weir_h2_abuse weir_h2_abused(const struct weir_h2 *h2)
{
    return (enum weir_h2_abuse)h2->watch.abuse;
}

/* The second GOAWAY: streams that the client had begun meanwhile are in. */
static void leave_now(struct weir_h2 *h2)
{
    if (h2->left || h2->dead)
        return;
    h2->left = true;
    (void)nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(h2->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
    weir_h2_want(h2);
}

void weir_h2_gone_ack(struct weir_h2 *h2, const uint8_t *opaque)
{
    if (h2->leaving && memcmp(opaque, gone_ping, sizeof(gone_ping)) == 0)
        leave_now(h2);
}

static void check_leaving(struct weir_h2 *h2)
{
    if (h2->leaving && !h2->left && weir_h2_now(h2) - h2->shutdown_ms >= H2_SHUTDOWN_MS)
        leave_now(h2);
}

static void h2_shutdown(struct weir_codec *codec)
{
    struct weir_h2 *h2 = weir_h2_of(codec);

    if (h2->leaving || h2->dead)
        return;
    h2->leaving = true;
    h2->shutdown_ms = weir_h2_now(h2);
    if (h2->role == H2_CLIENT) /* it opens no more */
        return;
    (void)nghttp2_submit_shutdown_notice(h2->session);
    (void)nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, gone_ping);
    weir_h2_want(h2);
}

static bool h2_idle(const struct weir_codec *codec)
{
    const struct weir_h2 *h2 = weir_h2_of(codec);

    return !h2->dead && !h2->eof && weir_list_empty(&h2->streams) && !weir_h2_in_head(h2);
}

static bool h2_over(const struct weir_codec *codec)
{
    const struct weir_h2 *h2 = weir_h2_of(codec);
    bool last = h2->left || h2->eof || (h2->role == H2_CLIENT && (h2->goaway || h2->leaving));

    return h2->dead ||
           (last && weir_list_empty(&h2->streams) && !nghttp2_session_want_write(h2->session));
}

/* ---- bytes ---- */

/* A connection error that nghttp2 found shows when its GOAWAY is framed. */
static void after_framing(struct weir_h2 *h2)
{
    if (h2->broken && !h2->dead)
        weir_h2_die(h2, h2->broken);
    settle(h2);
}

static void h2_flush(struct weir_codec *codec)
{
    struct weir_h2 *h2 = weir_h2_of(codec);

    h2->wanted = false;
    h2->depth++;
    check_leaving(h2);
    weir_h2_frame(h2);
    after_framing(h2);
    weir_h2_leave(h2);
}

static void h2_drained(struct weir_codec *codec)
{
    struct weir_h2 *h2 = weir_h2_of(codec);

    if (!h2->framing && !h2->feeding)
        h2_flush(codec);
}

static enum weir_err name_of(ssize_t err)
{
    switch (err) {
    case NGHTTP2_ERR_FLOODED:
        return WEIR_EFLOOD;
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
        return WEIR_EBADFRAME;
    default:
        return WEIR_ENOMEM;
    }
}

/* nghttp2 has refused to go on. What it can still say it says. */
static void give_up(struct weir_h2 *h2, ssize_t err)
{
    enum weir_err name = name_of(err);

    if (err == NGHTTP2_ERR_FLOODED)
        h2->watch.abuse = WEIR_H2_ABUSE_ACKS;
    if (err == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
        h2->watch.abuse = WEIR_H2_ABUSE_CONTINUATIONS;
    if (!h2->broken)
        h2->broken = name;
    h2->fatal = name == WEIR_ENOMEM;
    if (!h2->fatal)
        (void)nghttp2_session_terminate_session(h2->session, err == NGHTTP2_ERR_BAD_CLIENT_MAGIC
                                                                 ? NGHTTP2_PROTOCOL_ERROR
                                                                 : NGHTTP2_ENHANCE_YOUR_CALM);
}

static size_t block_bytes_max(const struct weir_h2 *h2)
{
    size_t head =
        h2->limits && h2->limits->head_bytes ? h2->limits->head_bytes : WEIR_HEADERS_BYTES_MAX;

    return H2_FAR_OVER * head;
}

/* The connection is not to be gone on with: its streams are told, the GOAWAY goes. */
static ssize_t fail(struct weir_h2 *h2)
{
    enum weir_err err = h2->broken;

    h2->feeding = true; /* events come at once */
    weir_h2_die(h2, err);
    h2->feeding = false;
    settle(h2);
    weir_h2_frame(h2);
    weir_h2_leave(h2);
    return h2->role == H2_CLIENT ? weir_h2_upstream_name(err) : err;
}

static ssize_t h2_feed(struct weir_codec *codec, const uint8_t *data, size_t len)
{
    struct weir_h2 *h2 = weir_h2_of(codec);
    size_t taken;
    ssize_t n;

    if (h2->dead || h2->eof)
        return WEIR_ECLOSED;
    h2->alive_ms = weir_h2_now(h2);
    h2->depth++;
    taken = h2->role == H2_SERVER ? weir_h2_watch_feed(&h2->watch, data, len, h2->abuse,
                                                       block_bytes_max(h2), h2->alive_ms)
                                  : len;
    h2->feeding = true;
    n = nghttp2_session_mem_recv(h2->session, data, taken);
    h2->feeding = false;
    if (n < 0)
        give_up(h2, n);
    else if (h2->watch.abuse && !h2->broken)
        weir_h2_flood(h2, (enum weir_h2_abuse)h2->watch.abuse);
    if (h2->broken)
        return fail(h2);
    check_leaving(h2);
    settle(h2);
    if (!h2->dead && nghttp2_session_want_write(h2->session))
        weir_h2_want(h2);
    weir_h2_leave(h2);
    return (ssize_t)len;
}

static enum weir_err cut_name(const struct weir_h2_stream *s, enum weir_err err)
{
    if (s->h2->role == H2_SERVER)
        return WEIR_ECLIENTGONE;
    if (s->answered)
        return WEIR_EUPBODY;
    if (err)
        return err == WEIR_ERESET ? WEIR_EUPRESET : err;
    return WEIR_EUPCLOSED;
}

static void h2_eof(struct weir_codec *codec, enum weir_err err)
{
    struct weir_h2 *h2 = weir_h2_of(codec);
    bool server = h2->role == H2_SERVER;

    if (h2->dead || h2->eof)
        return;
    h2->eof = true;
    h2->depth++;
    h2->feeding = true;
    weir_list_each(link, next, &h2->streams)
    {
        struct weir_h2_stream *s = weir_list_entry(link, struct weir_h2_stream, link);

        /* A client may close its side and wait for the answer; whole answers need no more. */
        if (s->in == H2_IN_DONE && (!server || !err))
            continue;
        weir_h2_tell_reset(s, cut_name(s, err), server ? WEIR_BY_CLIENT : WEIR_BY_UPSTREAM,
                           "end of stream");
    }
    h2->feeding = false;
    if (err || !server)
        h2->dead = true;
    settle(h2);
    weir_h2_leave(h2);
}

/* ---- exchanges ---- */

static int h2_open(struct weir_codec *codec, struct weir_hstream *hs)
{
    struct weir_h2 *h2 = weir_h2_of(codec);
    struct weir_h2_stream *s = weir_h2_room(h2) ? weir_h2_stream_new(h2) : NULL;

    if (!s)
        return WEIR_ELIMIT;
    s->hs = hs;
    h2->open++;
    hs->codec = codec;
    hs->impl = s;
    hs->id = 0;
    hs->unread = 0;
    return 0;
}

static void h2_consume(struct weir_hstream *hs, size_t bytes)
{
    struct weir_h2_stream *s = hs->impl;

    if (bytes > hs->unread)
        bytes = hs->unread;
    hs->unread -= (uint32_t)bytes;
    if (s)
        weir_h2_window_consume(s, bytes);
}

/* Client role: a stream that nghttp2 never heard of. */
static void forget_unsent(struct weir_h2_stream *s)
{
    if (s->id || s->closed)
        return;
    s->closed = true;
    s->h2->open--;
}

static void h2_reset(struct weir_hstream *hs, enum weir_err why)
{
    struct weir_h2_stream *s = hs->impl;

    if (!s)
        return;
    s->quiet = true;
    if (s->closed || s->dropped)
        return;
    s->dropped = true;
    if (weir_list_empty(&s->framed_link))
        weir_h2_drop_queue(s);
    weir_h2_rst(s, why == WEIR_OK ? NGHTTP2_CANCEL : code_of(why));
    forget_unsent(s);
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
        weir_h2_rst(s, NGHTTP2_NO_ERROR);
}

static bool h2_done(struct weir_hstream *hs)
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

static void h2_last(struct weir_hstream *hs)
{
    /* The stream ends with its answer anyhow; the connection goes on. */
}

static const struct weir_codec_ops ops = {
    .protocol = { "HTTP/2.0", sizeof("HTTP/2.0") - 1 },
    .feed = h2_feed,
    .eof = h2_eof,
    .drained = h2_drained,
    .flush = h2_flush,
    .open = h2_open,
    .send = weir_h2_send,
    .pending = weir_h2_pending,
    .consume = h2_consume,
    .reset = h2_reset,
    .done = h2_done,
    .last = h2_last,
    .shutdown = h2_shutdown,
    .idle = h2_idle,
    .over = h2_over,
};

/* ---- set-up ---- */

static uint32_t list_size(const struct weir_h2 *h2)
{
    return h2->limits && h2->limits->head_bytes ? h2->limits->head_bytes : WEIR_HEADERS_BYTES_MAX;
}

static int submit_settings(struct weir_h2 *h2)
{
    uint32_t streams = h2->abuse && h2->abuse->streams ? h2->abuse->streams : H2_STREAMS_UNSETTLED;
    const nghttp2_settings_entry server[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, list_size(h2) },
        { NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1 },
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
    };
    const nghttp2_settings_entry client[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, list_size(h2) },
    };
    bool is_server = h2->role == H2_SERVER;

    if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, is_server ? server : client,
                                is_server ? sizeof(server) / sizeof(server[0])
                                          : sizeof(client) / sizeof(client[0])))
        return WEIR_ENOMEM;
    h2->conn_window = H2_CONN_WINDOW_BYTES;
    return nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                 H2_CONN_WINDOW_BYTES)
               ? WEIR_ENOMEM
               : 0;
}

/* The preface lies in the frame buffer, which is not ours to keep: it is taken out, and sent by the first flush. */
static void take_magic(struct weir_h2 *h2)
{
    const uint8_t *data;

    h2->magic = nghttp2_session_mem_send(h2->session, &data) == NGHTTP2_CLIENT_MAGIC_LEN;
}

static struct weir_h2 *h2_new(uint8_t role, struct weir_h2_shared *shared,
                              const struct weir_guard_limits *limits,
                              const struct weir_h2_limits *abuse,
                              const struct weir_codec_sink *sink, void *arg)
{
    struct weir_h2 *h2 = weir_slab_get(&shared->sessions);

    if (!h2)
        return NULL;
    h2->codec = (struct weir_codec){ .ops = &ops, .sink = sink, .arg = arg };
    h2->shared = shared;
    h2->limits = limits;
    h2->abuse = abuse;
    h2->role = role;
    h2->alive_ms = weir_h2_now(h2);
    weir_list_init(&h2->streams);
    weir_list_init(&h2->due);
    weir_list_init(&h2->gone);
    weir_list_init(&h2->framed);
    weir_h2_watch_init(&h2->watch, role == H2_SERVER);
    if (weir_h2_session_new(h2)) {
        weir_slab_put(&shared->sessions, h2);
        return NULL;
    }
    if (role == H2_CLIENT)
        take_magic(h2);
    if (submit_settings(h2)) {
        weir_h2_free(h2);
        return NULL;
    }
    weir_h2_want(h2);
    return h2;
}

struct weir_h2 *weir_h2_new_server(struct weir_h2_shared *shared,
                                   const struct weir_guard_limits *limits,
                                   const struct weir_h2_limits *abuse,
                                   const struct weir_codec_sink *sink, void *arg)
{
    return h2_new(H2_SERVER, shared, limits, abuse, sink, arg);
}

struct weir_h2 *weir_h2_new_client(struct weir_h2_shared *shared,
                                   const struct weir_guard_limits *limits,
                                   const struct weir_h2_limits *abuse,
                                   const struct weir_codec_sink *sink, void *arg)
{
    return h2_new(H2_CLIENT, shared, limits, abuse, sink, arg);
}

void weir_h2_free(struct weir_h2 *h2)
{
    struct weir_h2_shared *shared = h2->shared;

    weir_assert(h2->depth == 0);
    nghttp2_session_del(h2->session);
    weir_list_each(link, next, &h2->streams)
    {
        struct weir_h2_stream *s = weir_list_entry(link, struct weir_h2_stream, link);

        if (s->hs)
            s->hs->impl = NULL;
        stream_free(s);
    }
    weir_slab_put(&shared->sessions, h2);
}

/* ---- questions ---- */

struct weir_codec *weir_h2_codec(struct weir_h2 *h2)
{
    return &h2->codec;
}

void weir_h2_secure(struct weir_h2 *h2, bool secure)
{
    h2->secure = secure;
}

bool weir_h2_in_head(const struct weir_h2 *h2)
{
    return h2->watch.preface_left || h2->watch.block;
}

size_t weir_h2_queued(const struct weir_h2 *h2)
{
    return h2->queued;
}

unsigned weir_h2_room(const struct weir_h2 *h2)
{
    uint32_t max = H2_STREAMS_UNSETTLED;

    if (weir_h2_closing(h2))
        return 0;
    if (h2->settled)
        max = nghttp2_session_get_remote_settings(h2->session,
                                                  NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    return h2->open < max ? max - h2->open : 0;
}

bool weir_h2_settled(const struct weir_h2 *h2)
{
    return h2->settled;
}

bool weir_h2_takes_upgrade(const struct weir_h2 *h2)
{
    return h2->takes_upgrade;
}

bool weir_h2_closing(const struct weir_h2 *h2)
{
    return h2->dead || h2->eof || h2->goaway || h2->leaving || h2->role != H2_CLIENT ||
           !nghttp2_session_check_request_allowed(h2->session);
}

void weir_h2_ping(struct weir_h2 *h2)
{
    if (!h2->dead && nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, alive_ping) == 0)
        weir_h2_want(h2);
}

uint64_t weir_h2_alive_ms(const struct weir_h2 *h2)
{
    return h2->alive_ms;
}

int weir_h2_preface(const uint8_t *data, size_t len)
{
    /* "PRI *": no method of ours begins so, and the rest is nghttp2's to judge. */
    enum { MATTER = 5 };
    size_t n = len < MATTER ? len : MATTER;

    if (n && memcmp(data, NGHTTP2_CLIENT_MAGIC, n) != 0)
        return -1;
    return n == MATTER;
}
