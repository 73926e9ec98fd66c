/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h1.c: the states of a connection, in either role. What comes in and what goes out advance on
 * their own, since an answer may begin (and end) while its request is still on the way:
 *
 *   in    HEAD ──head──▶ LENGTH | CHUNKED | CLOSE ──end──▶ DONE        (client role: 1xx stays in
 * HEAD) └─ no body ─────────────────────────────────▲  └─ head of a tunnel ─▶ TUNNEL out   HEAD
 * ──send(head)──▶ BODY ──END──▶ DONE                      (h1_send.c)
 *
 * `done` takes both back to HEAD, or the codec is dead: it then takes no more bytes. `hs` is the
 * exchange: NULL between exchanges, and for ever after reset.
 */
#include "http/h1_priv.h"

#include "base/panic.h"

#include <stdlib.h>

static void drop_partial(struct weir_h1 *h1)
{
    free(h1->partial);
    h1->partial = NULL;
}

/* ---- errors ---- */

static enum weir_retry retry_class(const struct weir_h1 *h1)
{
    if (h1->out == H1_OUT_HEAD)
        return WEIR_RETRY_UNSENT;
    return h1->answered ? WEIR_RETRY_NO : WEIR_RETRY_IDEMPOTENT_ONLY;
}

/* The codec is dead, and the exchange learns why. In the server role `hs` stays: an answer may
 * still be sent. */
static enum weir_err fail(struct weir_h1 *h1, enum weir_err err, const char *where)
{
    struct weir_hstream *hs = h1->hs;
    bool ours = err == WEIR_ENOMEM || err == WEIR_EINTERNAL;
    struct weir_error why = { .code = err, .where = where };

    drop_partial(h1);
    h1->dead = true;
    h1->keep_alive = false;
    if (h1->role == H1_CLIENT) {
        why.code = weir_upstream_name(err);
        why.by = ours ? WEIR_BY_US : WEIR_BY_UPSTREAM;
        why.retry = retry_class(h1);
        h1->hs = NULL;
    } else {
        why.by = ours ? WEIR_BY_US : WEIR_BY_CLIENT;
    }
    if (hs)
        hs->sink->on_reset(hs->arg, &why);
    return why.code;
}

/* Has the sink ended the exchange from inside an event? */
static bool gone(const struct weir_h1 *h1, const struct weir_hstream *hs)
{
    return h1->dead || h1->hs != hs;
}

/* ---- heads ---- */

static size_t partial_max(const struct weir_h1 *h1)
{
    size_t head =
        h1->limits && h1->limits->head_bytes ? h1->limits->head_bytes : WEIR_HEADERS_BYTES_MAX;

    return head + 2 * WEIR_LEADING_CRLF_MAX;
}

/* Appends to the incomplete head as much as it may have; returns how much, or WEIR_ENOMEM. */
static ssize_t partial_add(struct weir_h1 *h1, const uint8_t *data, size_t len)
{
    enum { FIRST_BYTES = 512 };
    struct weir_h1_head *partial = h1->partial;
    size_t have = partial ? partial->len : 0, room = partial ? partial->room : FIRST_BYTES;
    size_t take = partial_max(h1) - have;

    if (take > len)
        take = len;
    while (room < have + take)
        room *= 2;
    if (!partial || room > partial->room) {
        struct weir_h1_head *grown = realloc(partial, sizeof(*grown) + room);

        if (!grown)
            return WEIR_ENOMEM;
        if (!partial)
            grown->len = grown->seen = grown->skip = 0;
        grown->room = room;
        h1->partial = partial = grown;
    }
    memcpy(partial->data + have, data, take);
    partial->len = have + take;
    return (ssize_t)take;
}

/**
 * Finds a head in what was kept and what has come: bytes of `data` that it used, or an error. *head
 * is NULL while more is needed; otherwise it is in `data` or in h1->partial.
 */
static ssize_t find_head(struct weir_h1 *h1, const uint8_t *data, size_t len, struct weir_str *head)
{
    bool request = h1->role == H1_SERVER;
    struct weir_h1_head *partial;
    size_t seen = 0, skip = 0, before;
    ssize_t n, added;

    *head = (struct weir_str){ NULL, 0 };
    if (!h1->partial) { /* the usual case: whole, and borrowed */
        n = weir_guard_head(data, len, request, h1->limits, &seen, &skip);
        if (n > 0)
            *head = (struct weir_str){ (const char *)data + skip, (size_t)n - skip };
        if (n)
            return n;
    }
    before = h1->partial ? h1->partial->len : 0;
    added = partial_add(h1, data, len);
    if (added < 0)
        return added;
    partial = h1->partial;
    n = weir_guard_head(partial->data, partial->len, request, h1->limits, &partial->seen,
                        &partial->skip);
    if (n <= 0)
        return n ? n : added;
    *head =
        (struct weir_str){ (const char *)partial->data + partial->skip, (size_t)n - partial->skip };
    return n - (ssize_t)before;
}

/* Where one call of feed stands. */
struct turn {
    const uint8_t *end; /* of its input */
    bool over;          /* the message has ended: nothing more of the codec is touched */
};

/* The message from the peer is whole. An upstream that goes on talking after it is not to be
 * trusted with another request. */
static void end_message(struct weir_h1 *h1, const uint8_t *at, struct turn *turn)
{
    struct weir_hstream *hs = h1->hs;

    h1->in = H1_IN_DONE;
    if (h1->role == H1_CLIENT && turn && at != turn->end)
        h1->keep_alive = false;
    if (turn)
        turn->over = true;
    hs->sink->on_end(hs->arg);
}

/* How the body behind this head is read. */
static int expect_body(struct weir_h1 *h1, const struct weir_message *msg)
{
    switch (msg->body) {
    case WEIR_BODY_LENGTH:
        h1->left_in = msg->length;
        h1->in = msg->length ? H1_IN_LENGTH : H1_IN_DONE;
        return 0;
    case WEIR_BODY_CHUNKED:
        h1->in = H1_IN_CHUNKED;
        return weir_h1_chunk_open(h1);
    case WEIR_BODY_CLOSE:
        h1->in = H1_IN_CLOSE;
        return 0;
    case WEIR_BODY_TUNNEL:
        h1->in = H1_IN_TUNNEL;
        return 0;
    default:
        h1->in = H1_IN_DONE;
        return 0;
    }
}

static int begin_request(struct weir_h1 *h1)
{
    int err;

    if (h1->hs)
        return 0;
    h1->self = (struct weir_hstream){ .codec = &h1->codec };
    h1->http10_peer = h1->keep_alive_asked = false;
    h1->asked = WEIR_M_OTHER;
    err = h1->codec.sink->on_begin(h1->codec.arg, &h1->self);
    if (err) {
        drop_partial(h1);
        h1->dead = true;
        return err;
    }
    h1->hs = &h1->self;
    return 0;
}

int weir_h1_give_up(struct weir_h1 *h1, enum weir_err why)
{
    int err = begin_request(h1);

    if (!err)
        (void)fail(h1, why, "head");
    return err;
}

static int judge_request(struct weir_h1 *h1, struct weir_str head, struct weir_message **msgp)
{
    int err =
        weir_h1_parse((const uint8_t *)head.ptr, head.len, true, h1->limits, h1->hs->arena, msgp);

    if (err)
        return err;
    err = weir_guard_request(*msgp);
    h1->asked = (*msgp)->method_id;
    h1->http10_peer = (*msgp)->http10;
    h1->keep_alive = !err && (*msgp)->keep_alive;
    h1->keep_alive_asked = h1->http10_peer && h1->keep_alive;
    return err;
}

/* A switch of protocols: to what was asked, after all of the request. */
static int judge_switch(const struct weir_h1 *h1, const struct weir_message *msg)
{
    if (msg->status != 101)
        return 0;
    if (h1->out != H1_OUT_DONE || !h1->upgrade || !weir_str_ieq(msg->upgrade, *h1->upgrade))
        return WEIR_EUPSWITCH;
    return 0;
}

static int judge_response(struct weir_h1 *h1, struct weir_str head, struct weir_message **msgp)
{
    struct weir_message *msg;
    int err =
        weir_h1_parse((const uint8_t *)head.ptr, head.len, false, h1->limits, h1->hs->arena, msgp);

    if (err)
        return err;
    msg = *msgp;
    err = weir_guard_response(msg, h1->asked, h1->upgrade != NULL);
    if (!err)
        err = judge_switch(h1, msg);
    if (err)
        return err;
    if (msg->status >= 200 || msg->status == 101) {
        h1->answered = true;
        h1->keep_alive = h1->keep_alive && msg->keep_alive;
        return 0;
    }
    return ++h1->informationals > WEIR_INFORMATIONALS_MAX ? WEIR_EUPHEAD : 0;
}

static ssize_t feed_head(struct weir_h1 *h1, const uint8_t *data, size_t len, struct turn *turn)
{
    struct weir_message *msg = NULL;
    struct weir_hstream *hs;
    struct weir_str head;
    ssize_t n = find_head(h1, data, len, &head);
    int err = n < 0 ? (int)n : 0;

    if (n >= 0 && !head.ptr)
        return n;
    if (h1->role == H1_SERVER) { /* also a request that is refused has begun: its holder answers */
        int refused = begin_request(h1);

        if (refused)
            return refused;
    }
    if (!err)
        err =
            h1->role == H1_SERVER ? judge_request(h1, head, &msg) : judge_response(h1, head, &msg);
    drop_partial(h1);
    if (!err && (msg->request || h1->answered))
        err = expect_body(h1, msg);
    if (err)
        return fail(h1, err, "head");
    hs = h1->hs;
    hs->sink->on_head(hs->arg, msg);
    if (gone(h1, hs))
        return WEIR_ECANCELED;
    if (h1->in == H1_IN_DONE)
        end_message(h1, data + n, turn);
    return n;
}

/* ---- bodies ---- */

bool weir_h1_emit_body(struct weir_h1 *h1, const uint8_t *data, size_t len)
{
    struct weir_hstream *hs = h1->hs;

    weir_assert(hs != NULL); /* a body belongs to an exchange */
    hs->unread += (uint32_t)len;
    hs->sink->on_body(hs->arg, (struct weir_str){ (const char *)data, len });
    return !gone(h1, hs);
}

static ssize_t feed_length(struct weir_h1 *h1, const uint8_t *data, size_t len, struct turn *turn)
{
    size_t n = len < h1->left_in ? len : (size_t)h1->left_in;

    h1->left_in -= n;
    if (!weir_h1_emit_body(h1, data, n))
        return WEIR_ECANCELED;
    if (h1->left_in == 0)
        end_message(h1, data + n, turn);
    return (ssize_t)n;
}

static ssize_t feed_chunked(struct weir_h1 *h1, const uint8_t *data, size_t len, struct turn *turn)
{
    struct weir_hstream *hs = h1->hs;
    struct weir_message *trailer;
    bool done;
    ssize_t n = weir_h1_chunk_feed(h1, data, len, &done, &trailer);

    if (n == WEIR_ECANCELED)
        return n;
    if (n < 0)
        return fail(h1, (enum weir_err)n, "chunk");
    if (!done)
        return n;
    h1->chunk = NULL;
    if (trailer) {
        weir_assert(hs != NULL);
        hs->sink->on_trailer(hs->arg, trailer);
        if (gone(h1, hs))
            return WEIR_ECANCELED;
    }
    end_message(h1, data + n, turn);
    return n;
}

static ssize_t feed_some(struct weir_h1 *h1, const uint8_t *data, size_t len, struct turn *turn)
{
    switch (h1->in) {
    case H1_IN_HEAD:
        return feed_head(h1, data, len, turn);
    case H1_IN_LENGTH:
        return feed_length(h1, data, len, turn);
    case H1_IN_CHUNKED:
        return feed_chunked(h1, data, len, turn);
    case H1_IN_CLOSE:
        return weir_h1_emit_body(h1, data, len) ? (ssize_t)len : WEIR_ECANCELED;
    case H1_IN_DONE:
        if (h1->role == H1_SERVER)
            return 0;
        h1->keep_alive = false; /* more than the answer */
        return (ssize_t)len;
    default: /* a tunnel: not ours */
        return 0;
    }
}

/* The bytes that this feed lent are about to go: the holder sends what it gathered. */
static void flush(struct weir_h1 *h1)
{
    struct weir_hstream *hs = h1->hs;

    if (hs && !h1->dead && hs->sink->on_flush)
        hs->sink->on_flush(hs->arg);
}

static ssize_t h1_feed(struct weir_codec *codec, const uint8_t *data, size_t len)
{
    struct weir_h1 *h1 = weir_h1_of(codec);
    struct turn turn = { .end = data + len };
    size_t used = 0;

    if (h1->dead)
        return WEIR_ECLOSED;
    if (h1->role == H1_CLIENT && len > 0 && (!h1->hs || h1->out == H1_OUT_HEAD))
        return fail(h1, WEIR_EUPFRAMING, "answer without a request");
    while (used < len && !turn.over) {
        ssize_t n = feed_some(h1, data + used, len - used, &turn);

        if (n < 0)
            return n;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    if (used) {
        flush(h1);
        weir_h1_brake(h1);
    }
    /* What follows an answer was counted against the connection; nobody shall read it as another.
     */
    return turn.over && turn.end != data + used && h1->role == H1_CLIENT ? (ssize_t)len
                                                                         : (ssize_t)used;
}

static enum weir_err cut_name(const struct weir_h1 *h1, enum weir_err err)
{
    if (h1->role == H1_SERVER)
        return WEIR_ECLIENTGONE;
    if (h1->in != H1_IN_HEAD)
        return WEIR_EUPBODY;
    if (err)
        return err == WEIR_ERESET ? WEIR_EUPRESET : err;
    return h1->partial ? WEIR_EUPHEAD : WEIR_EUPCLOSED;
}

static void h1_eof(struct weir_codec *codec, enum weir_err err)
{
    struct weir_h1 *h1 = weir_h1_of(codec);

    if (h1->dead)
        return;
    h1->keep_alive = false;
    if (!h1->hs) {
        drop_partial(h1);
        h1->dead = true;
        return;
    }
    if (h1->in == H1_IN_TUNNEL)
        return;
    if (h1->in == H1_IN_CLOSE && !err) {
        end_message(h1, NULL, NULL);
        flush(h1);
        return;
    }
    /* A client may close its side and wait for the answer; whole answers need no more bytes. */
    if (h1->in == H1_IN_DONE && (!err || h1->role == H1_CLIENT))
        return;
    fail(h1, cut_name(h1, err), "end of stream");
}

/* ---- the rest of the vtable ---- */

static void h1_drained(struct weir_codec *codec)
{
    struct weir_hstream *hs = weir_h1_of(codec)->hs;

    if (hs && hs->sink->on_drained)
        hs->sink->on_drained(hs->arg);
}

/* Both directions back to their heads. */
static void begin_exchange(struct weir_h1 *h1)
{
    if (h1->role == H1_CLIENT)
        h1->upgrade = NULL;
    h1->in = H1_IN_HEAD;
    h1->out = H1_OUT_HEAD;
    h1->left_in = h1->left_out = 0;
    h1->informationals = 0;
    h1->answered = false;
    h1->keep_alive = true;
}

static int h1_open(struct weir_codec *codec, struct weir_hstream *hs)
{
    struct weir_h1 *h1 = weir_h1_of(codec);

    if (h1->role != H1_CLIENT || h1->hs || h1->dead || h1->closing)
        return WEIR_ELIMIT;
    begin_exchange(h1);
    hs->codec = codec;
    hs->unread = 0;
    h1->hs = hs;
    return 0;
}

static void h1_reset(struct weir_hstream *hs, enum weir_err why)
{
    struct weir_h1 *h1 = weir_h1_of(hs->codec);

    if (h1->hs != hs)
        return;
    drop_partial(h1);
    h1->hs = NULL;
    h1->dead = true;
}

static bool h1_done(struct weir_hstream *hs)
{
    struct weir_h1 *h1 = weir_h1_of(hs->codec);
    bool whole = h1->in == H1_IN_DONE && h1->out == H1_OUT_DONE;

    if (h1->hs != hs)
        return false;
    h1->hs = NULL;
    if (h1->dead || h1->closing || !whole || !h1->keep_alive) {
        h1->dead = true;
        return false;
    }
    begin_exchange(h1);
    weir_h1_let_run(h1);
    return true;
}

static size_t h1_pending(struct weir_hstream *hs)
{
    return hs->codec->sink->on_pending(hs->codec->arg);
}

static size_t h1_room(struct weir_hstream *hs)
{
    return h1_pending(hs) ? 0 : WEIR_READ_BUFFER_BYTES;
}

static void h1_last(struct weir_hstream *hs)
{
    weir_h1_of(hs->codec)->closing = true;
}

static void h1_shutdown(struct weir_codec *codec)
{
    weir_h1_of(codec)->closing = true;
}

static bool h1_idle(const struct weir_codec *codec)
{
    const struct weir_h1 *h1 = weir_container(codec, const struct weir_h1, codec);

    return !h1->hs && !h1->partial && !h1->dead;
}

static bool h1_over(const struct weir_codec *codec)
{
    return weir_container(codec, const struct weir_h1, codec)->dead;
}

static const struct weir_codec_ops ops = {
    .protocol = { "HTTP/1.1", sizeof("HTTP/1.1") - 1 },
    .feed = h1_feed,
    .eof = h1_eof,
    .drained = h1_drained,
    .open = h1_open,
    .send = weir_h1_send,
    .pending = h1_pending,
    .room = h1_room,
    .consume = weir_h1_consume,
    .hold = weir_h1_hold,
    .pace = weir_h1_pace,
    .pass_in = weir_h1_pass_in,
    .pass_out = weir_h1_pass_out,
    .reset = h1_reset,
    .done = h1_done,
    .last = h1_last,
    .shutdown = h1_shutdown,
    .idle = h1_idle,
    .over = h1_over,
};

static void init(struct weir_h1 *h1, uint8_t role, const struct weir_guard_limits *limits,
                 const struct weir_codec_sink *sink, void *arg)
{
    *h1 = (struct weir_h1){
        .codec = { .ops = &ops, .sink = sink, .arg = arg },
        .limits = limits,
        .role = role & 1,
        .keep_alive = true,
        .pace_kib = WEIR_READ_BUFFER_BYTES >> 10,
    };
}

void weir_h1_init_server(struct weir_h1 *h1, const struct weir_guard_limits *limits,
                         const struct weir_codec_sink *sink, void *arg)
{
    init(h1, H1_SERVER, limits, sink, arg);
}

void weir_h1_init_client(struct weir_h1 *h1, const struct weir_guard_limits *limits,
                         const struct weir_codec_sink *sink, void *arg)
{
    init(h1, H1_CLIENT, limits, sink, arg);
}

void weir_h1_fini(struct weir_h1 *h1)
{
    drop_partial(h1);
    h1->hs = NULL;
    h1->dead = true;
}

bool weir_h1_in_head(const struct weir_h1 *h1)
{
    return h1->partial != NULL;
}
