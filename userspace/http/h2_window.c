/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_window.c: what the peer may send. The connection's window is wide and given back at once, so that a stream that
 * nobody reads holds no other back; a stream's window follows what its holder consumes.
 *
 * What a stream may cost is its window: bytes that wait for its holder, and those that the peer may still send. It begins
 * with 48 KiB, from a client with the 65,535 bytes of RFC 9113 6.9.2 (some send that much whatever SETTINGS say), and half
 * of that, or an eighth of a window that has grown, is given back as soon as it is consumed: over a long way larger steps
 * would leave the line empty between them.
 *
 * When the holder took half of the window within a round trip, it is the window that holds the peer back: then the stream
 * gets at once its share of what a fast line carries in a round trip, since over a long way each step of a slow growth
 * would cost one. Over a short way that costs nothing, and both kernels between us and the other side have room that they
 * fill as fast as a fast way would: there, and for what an upstream sends, first more than a whole window has to be taken.
 * The line is shared among the streams whose bodies move; where others move or stand still, all windows are at most 8 MiB
 * together (one alone: 16). What less than two first windows would come to is not worth it, so that many streams keep
 * what they began with: it is not they that leave the line empty.
 *
 * A window that was given cannot be taken back, but what is consumed of it need not be given again: that is how it gets
 * smaller, when others come, and when the holder has taken less in the time than a round trip would bring. Until then
 * `bound` counts what may be here. A stream whose holder was slow grows by no more than twice at a time.
 *
 * The round trip is the shortest of that of the handshakes, of TCP to an upstream and of TLS (weir_h2_set_rtt), that of our SETTINGS and their ACK, which
 * no more than the first 64 KiB of the connection can delay, and that of a PING when a window grows for the first time: who
 * was merely slow to answer does not keep what one far away needs.
 *
 * While memory is short (shared->tight) nothing grows, and a stream that gets credit gets it for the least window. It is
 * the first window again with the first credit afterwards, or when the holder says so (weir_hstream_hold).
 */
#include "http/h2_priv.h"

enum {
    LINE_BYTES_PER_MS = 320 * 1024, /* 2.6 Gbit/s: H2_STREAM_WINDOW_BYTES_MAX in 51 ms */
    FAR_MS = 10,
    HALVES = 4,     /* that must be taken fast, one after the other */
    STEPS = 8,      /* in which a window that has grown is given back */
    SLOW_MS = 20,   /* what waited for less says nothing of its holder */
    MOVED_MS = 500, /* a stream that has brought half a window since then moves */
};

static const uint8_t rtt_ping[8] = { 'w', 'e', 'i', 'r', '-', 'r', 't', 't' };

/* ---- the way ---- */

void weir_h2_set_rtt(struct weir_h2 *h2, uint32_t rtt_ms)
{
    h2->rtt_ms = rtt_ms;
}

static void answered(struct weir_h2 *h2, uint64_t *asked_ms)
{
    uint32_t took_ms = (uint32_t)(weir_h2_now(h2) - *asked_ms) + 1;

    *asked_ms = 0;
    if (!h2->rtt_ms || took_ms < h2->rtt_ms)
        h2->rtt_ms = took_ms;
}

void weir_h2_window_settled(struct weir_h2 *h2)
{
    if (h2->settings_ms)
        answered(h2, &h2->settings_ms);
}

static void ask_rtt(struct weir_h2 *h2)
{
    if (h2->rtt_asked || h2->left || nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, rtt_ping))
        return;
    h2->rtt_asked = true;
    h2->ping_ms = weir_h2_now(h2);
}

bool weir_h2_window_pong(struct weir_h2 *h2, const uint8_t *opaque)
{
    if (!h2->ping_ms || memcmp(opaque, rtt_ping, sizeof(rtt_ping)) != 0)
        return false;
    answered(h2, &h2->ping_ms);
    return true;
}

/* An upload from far away. */
static bool is_far(const struct weir_h2 *h2)
{
    return h2->role == H2_SERVER && h2->rtt_ms >= FAR_MS;
}

/* ---- credit ---- */

uint32_t weir_h2_window_first(const struct weir_h2 *h2)
{
    return h2->role == H2_SERVER ? NGHTTP2_INITIAL_WINDOW_SIZE : H2_WINDOW_BYTES;
}

static uint32_t extra_of(const struct weir_h2 *h2, uint32_t bytes)
{
    return bytes > weir_h2_window_first(h2) ? bytes - weir_h2_window_first(h2) : 0;
}

static void set_bound(struct weir_h2_stream *s, int64_t bytes)
{
    uint32_t bound = bytes > s->window ? (uint32_t)bytes : s->window;

    s->h2->extra = s->h2->extra - extra_of(s->h2, s->bound) + extra_of(s->h2, bound);
    s->bound = bound;
}

/* Handed out, or kept for a tunnel, and not consumed. */
static size_t waiting(const struct weir_h2_stream *s)
{
    return s->unread + s->held.len;
}

static uint32_t step_of(const struct weir_h2_stream *s)
{
    uint32_t step = s->window / STEPS, first = weir_h2_window_first(s->h2),
             least = (s->window < first ? s->window : first) / 2;

    return step > least ? step : least;
}

static bool brings_more(const struct weir_h2_stream *s)
{
    return s->in != H2_IN_DONE && !(s->length_in && !s->left_in);
}

/* What the peer may still send, and will. Before its ACK has come nghttp2 reckons with the window that streams have without SETTINGS,
 * and the peer perhaps with ours: less is safe, since too much would never be given. */
static int64_t coming(const struct weir_h2_stream *s)
{
    int32_t bytes;

    if (!brings_more(s))
        return 0;
    bytes = nghttp2_session_get_stream_local_window_size(s->h2->session, s->id);
    if (s->h2->settings_ms)
        bytes -= NGHTTP2_INITIAL_WINDOW_SIZE - (int32_t)weir_h2_window_first(s->h2);
    return (int64_t)bytes - s->ungiven;
}

static int send_window(struct weir_h2_stream *s, int32_t bytes)
{
    int err = nghttp2_submit_window_update(s->h2->session, NGHTTP2_FLAG_NONE, s->id, bytes);

    if (err == NGHTTP2_ERR_NOMEM)
        s->ungiven += (uint32_t)bytes;
    return err;
}

/* The window is filled up, unless that is not worth a frame: then the peer may still send more than a step, and there is
 * another look when that is consumed. */
static void give(struct weir_h2_stream *s)
{
    int64_t have = (int64_t)waiting(s) + coming(s);

    if (brings_more(s) && have + step_of(s) <= s->window) {
        if (send_window(s, (int32_t)(s->window - have)))
            return; /* with the next credit */
        have = s->window;
    }
    s->credit = 0;
    set_bound(s, have);
}

/* ---- how wide a window is ---- */

/* Its body comes, or is about to begin. */
static bool moves(const struct weir_h2_stream *s)
{
    return !s->half_ms || weir_h2_now(s->h2) - s->half_ms < MOVED_MS;
}

/* What the stream needs to keep its part of a fast line busy, as far as there is so much. One that stands still takes
 * nothing of the line, but of what all may have. */
static uint32_t share_of(const struct weir_h2_stream *s)
{
    const struct weir_h2 *h2 = s->h2;
    uint64_t line = (uint64_t)h2->rtt_ms * LINE_BYTES_PER_MS, all = H2_STREAM_WINDOW_BYTES_MAX;
    uint64_t others = h2->extra - extra_of(h2, s->bound), share;
    uint32_t first = weir_h2_window_first(h2);
    unsigned movers = 1;

    weir_list_each(link, next, &h2->streams)
    {
        const struct weir_h2_stream *other = weir_list_entry(link, struct weir_h2_stream, link);

        if (other == s || other->in != H2_IN_BODY || other->closed ||
            !(moves(other) || waiting(other)))
            continue;
        all = H2_STREAMS_WINDOW_BYTES_MAX;
        others += first;
        movers += moves(other);
        if ((line < all ? line : all) / movers < 2 * first)
            return first;
    }
    share = (line < all ? line : all) / movers;
    if (share + others > all)
        share = others < all ? all - others : 0;
    return share < 2 * first ? first : (uint32_t)share;
}

/* There are more than there were, or they have more. */
static void fit_share(struct weir_h2_stream *s)
{
    uint32_t share = s->window > weir_h2_window_first(s->h2) ? share_of(s) : s->window;

    if (share < s->window)
        s->window = share;
}

static void grow(struct weir_h2_stream *s)
{
    uint32_t share = share_of(s);

    if (s->length_in && share > s->left_in)
        share = (uint32_t)s->left_in;
    if (s->slowed && share > 2 * s->window)
        share = 2 * s->window;
    if (share <= s->window || s->in != H2_IN_BODY || s->h2->shared->tight)
        return;
    s->window = share;
    ask_rtt(s->h2);
}

/* Half a window has been consumed: was that fast? */
static void judge(struct weir_h2_stream *s)
{
    struct weir_h2 *h2 = s->h2;
    uint64_t now_ms = weir_h2_now(h2);
    bool fast = h2->rtt_ms && now_ms - s->half_ms <= h2->rtt_ms;
    bool ready = fast && ((is_far(h2) && !s->slowed) || s->halves + 1 == HALVES);

    s->half_bytes = 0;
    s->half_ms = now_ms;
    s->halves = (uint8_t)(fast && !ready ? s->halves + 1 : 0);
    if (ready)
        grow(s);
}

static void begin_to_wait(struct weir_h2_stream *s, uint64_t now_ms)
{
    s->waits_ms = now_ms;
    s->waits_bytes = 0;
}

/* Something is left for the holder to take, and was all the time: what it does not take in two round trips would wait here
 * the next time as well. */
static void weigh(struct weir_h2_stream *s, size_t bytes)
{
    uint64_t now_ms = weir_h2_now(s->h2), took_ms = now_ms - s->waits_ms;
    uint64_t rtt_ms = s->h2->rtt_ms, fit;
    uint32_t first = weir_h2_window_first(s->h2);

    s->waits_bytes += (uint32_t)bytes;
    if (!waiting(s) || took_ms < SLOW_MS || took_ms <= 2 * rtt_ms)
        return;
    fit = 2 * s->waits_bytes * rtt_ms / took_ms;
    begin_to_wait(s, now_ms);
    if (s->window <= first || fit >= s->window)
        return;
    s->window = fit > first ? (uint32_t)fit : first;
    s->slowed = true;
    s->halves = 0;
}

static void fit_memory(struct weir_h2_stream *s)
{
    bool tight = s->h2->shared->tight;

    if (tight && s->window > H2_WINDOW_BYTES_LEAST)
        s->window = H2_WINDOW_BYTES_LEAST;
    else if (!tight && s->window < weir_h2_window_first(s->h2))
        s->window = weir_h2_window_first(s->h2);
}

/* ---- what happens to streams ---- */

int weir_h2_window_received(struct weir_h2 *h2, struct weir_h2_stream *s, size_t bytes)
{
    if (s && !waiting(s))
        begin_to_wait(s, weir_h2_now(h2));
    if (s && !s->half_ms)
        s->half_ms = weir_h2_now(h2);
    return nghttp2_session_consume_connection(h2->session, bytes) ? WEIR_ENOMEM : 0;
}

void weir_h2_window_consume(struct weir_h2_stream *s, size_t bytes)
{
    uint32_t before = s->window;

    if (s->closed || !s->id)
        return;
    fit_memory(s);
    if (bytes) {
        weigh(s, bytes);
        s->credit += (uint32_t)bytes;
        s->half_bytes += (uint32_t)bytes;
        if (s->half_bytes >= s->window / 2)
            judge(s);
    }
    if (s->credit >= step_of(s))
        fit_share(s);
    if (s->credit >= step_of(s) || s->window != before)
        give(s);
    if (nghttp2_session_want_write(s->h2->session))
        weir_h2_want(s->h2);
}

void weir_h2_window_pad(struct weir_h2_stream *s, size_t bytes)
{
    s->credit += (uint32_t)bytes;
    weir_h2_window_consume(s, 0);
}

void weir_h2_window_whole(struct weir_h2_stream *s)
{
    s->window = weir_h2_window_first(s->h2);
    set_bound(s, (int64_t)waiting(s));
}

void weir_h2_window_forget(struct weir_h2_stream *s)
{
    s->window = weir_h2_window_first(s->h2);
    set_bound(s, 0);
}
