/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2.c: a session: set-up, feeding and flushing, and how it ends.
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

enum {
    UNREAD_FRAMES_MAX = 1000, /* of the connection; and */
    UNREAD_OF_STREAM = 4,     /* of each stream: heads, credit, RST_STREAM */
};

static uint32_t streams_max(const struct weir_h2 *h2)
{
    return h2->abuse && h2->abuse->streams ? h2->abuse->streams : H2_STREAMS_UNSETTLED;
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

void weir_h2_goodbye(struct weir_h2 *h2, enum weir_err why)
{
    weir_h2_frame(h2); /* nghttp2 sends nothing behind a goodbye: the ends of answers first */
    if (h2->dead)
        return;
    h2->dead = h2->left = true;
    if (nghttp2_session_terminate_session(h2->session, weir_h2_code_of(why)))
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

void weir_h2_break(struct weir_h2 *h2, uint32_t code)
{
    if (!h2->broken)
        h2->broken = WEIR_EBADFRAME;
    (void)nghttp2_session_terminate_session(h2->session, code);
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
    weir_h2_want(h2);
}

void weir_h2_gone_sent(struct weir_h2 *h2)
{
    if (!h2->leaving || h2->left || h2->left_asked)
        return;
    h2->left_asked = true; /* not before: nghttp2 would let the PING overtake the GOAWAY */
    (void)nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, gone_ping);
}

static bool h2_idle(const struct weir_codec *codec)
{
    const struct weir_h2 *h2 = weir_h2_of(codec);

    return !h2->dead && !h2->eof && !h2->goaway && weir_list_empty(&h2->streams) &&
           !weir_h2_in_head(h2);
}

static bool h2_over(const struct weir_codec *codec)
{
    const struct weir_h2 *h2 = weir_h2_of(codec);
    /* After the peer's GOAWAY nghttp2 reads nothing once no stream is left, in either role. */
    bool last = h2->left || h2->eof || h2->goaway || (h2->role == H2_CLIENT && h2->leaving);

    return h2->dead ||
           (last && weir_list_empty(&h2->streams) && !nghttp2_session_want_write(h2->session));
}

/* ---- bytes ---- */

/* A connection error that nghttp2 found shows when its GOAWAY is framed. */
static void after_framing(struct weir_h2 *h2)
{
    if (h2->broken && !h2->dead)
        weir_h2_die(h2, h2->broken);
    weir_h2_settle(h2);
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
    weir_h2_settle(h2);
    weir_h2_frame(h2);
    weir_h2_leave(h2);
    return h2->role == H2_CLIENT ? weir_upstream_name(err) : err;
}

/* The watch found something, unless nghttp2 had found something else before: then its GOAWAY is waiting. */
static void stop_watching(struct weir_h2 *h2)
{
    enum weir_h2_abuse why = (enum weir_h2_abuse)h2->watch.abuse;

    h2->watch.abuse = WEIR_H2_ABUSE_NONE;
    weir_h2_frame(h2);
    if (h2->broken)
        return;
    if (h2->watch.broken)
        weir_h2_break(h2, h2->watch.code);
    else
        weir_h2_flood(h2, why);
}

/* A client that does not read makes frames wait: RST_STREAM for each stream over the limit, which until it has ACKed our
 * SETTINGS is no fault of the connection. Those of the streams that it may have are fair. It is read on meanwhile: a client
 * that writes all before it reads would wait for us, as we for it. */
static bool too_much_unread(struct weir_h2 *h2)
{
    size_t fair = UNREAD_FRAMES_MAX + (size_t)UNREAD_OF_STREAM * streams_max(h2);

    if (h2->role == H2_CLIENT || nghttp2_session_get_outbound_queue_size(h2->session) <= fair)
        return false;
    weir_h2_frame(h2); /* what can go is not unread */
    return nghttp2_session_get_outbound_queue_size(h2->session) > fair;
}

/* Whose head is not whole, and since when. */
static void time_head(struct weir_h2 *h2)
{
    if (!weir_h2_in_head(h2))
        h2->head_ms = 0;
    else if (!h2->head_ms || h2->head_block != h2->watch.blocks)
        h2->head_ms = h2->alive_ms;
    h2->head_block = h2->watch.blocks;
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
    taken = weir_h2_watch_feed(&h2->watch, data, len, h2->abuse, block_bytes_max(h2), h2->alive_ms);
    h2->feeding = true;
    n = nghttp2_session_mem_recv(h2->session, data, taken);
    h2->feeding = false;
    if (n < 0)
        give_up(h2, n);
    else if (taken < len)
        stop_watching(h2);
    else if (too_much_unread(h2))
        weir_h2_flood(h2, WEIR_H2_ABUSE_FRAMES);
    if (h2->broken)
        return fail(h2);
    time_head(h2);
    check_leaving(h2);
    weir_h2_settle(h2);
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
    weir_h2_settle(h2);
    weir_h2_leave(h2);
}

/* ---- the rest of the vtable ---- */

static void h2_last(struct weir_hstream *hs)
{
    /* The stream ends with its answer anyhow; the connection goes on. */
}

static const struct weir_codec_ops ops = {
    .protocol = { "HTTP/2", sizeof("HTTP/2") - 1 },
    .feed = h2_feed,
    .eof = h2_eof,
    .drained = h2_drained,
    .flush = h2_flush,
    .open = weir_h2_open,
    .send = weir_h2_send,
    .pending = weir_h2_pending,
    .room = weir_h2_send_room,
    .shut = weir_h2_shut,
    .consume = weir_h2_consume,
    .hold = weir_h2_hold,
    .reset = weir_h2_reset,
    .done = weir_h2_done,
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
    const nghttp2_settings_entry server[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams_max(h2) },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, weir_h2_window_first(h2) },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, list_size(h2) },
        { NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1 },
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
    };
    const nghttp2_settings_entry client[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, weir_h2_window_first(h2) },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, list_size(h2) },
    };
    bool is_server = h2->role == H2_SERVER;

    if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, is_server ? server : client,
                                is_server ? sizeof(server) / sizeof(server[0])
                                          : sizeof(client) / sizeof(client[0])))
        return WEIR_ENOMEM;
    h2->settings_ms = weir_h2_now(h2);
    h2->peer_window = NGHTTP2_INITIAL_WINDOW_SIZE;
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
    if (abuse) {
        h2->abuse_own = *abuse;
        h2->abuse = &h2->abuse_own;
    }
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
    if (!h2->spoilt)
        nghttp2_session_del(h2->session);
    weir_list_each(link, next, &h2->streams)
    {
        struct weir_h2_stream *s = weir_list_entry(link, struct weir_h2_stream, link);

        if (s->hs)
            s->hs->impl = NULL;
        weir_h2_stream_free(s);
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
    const struct weir_h2_watch *watch = &h2->watch;
    bool head = watch->header[3] == NGHTTP2_HEADERS || watch->header[3] == NGHTTP2_CONTINUATION;

    return watch->preface_left || watch->block || (watch->skip && head);
}

uint64_t weir_h2_head_ms(const struct weir_h2 *h2)
{
    return h2->head_ms;
}

bool weir_h2_busy(const struct weir_h2 *h2)
{
    return !h2->dead && !weir_list_empty(&h2->streams);
}

size_t weir_h2_queued(const struct weir_h2 *h2)
{
    return h2->queued;
}

unsigned weir_h2_room_max(const struct weir_h2 *h2)
{
    if (!h2->settled)
        return H2_STREAMS_UNSETTLED;
    return nghttp2_session_get_remote_settings(h2->session,
                                               NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

unsigned weir_h2_room(const struct weir_h2 *h2)
{
    unsigned max = weir_h2_room_max(h2);

    if (weir_h2_closing(h2))
        return 0;
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

uint64_t weir_h2_spoke_ms(const struct weir_h2 *h2)
{
    return h2->spoke_ms;
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
