/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_window.c: what the peer may send. The connection's window is wide and given back at once, so that a stream that
 * nobody reads holds no other back; a stream's window follows what its holder consumes.
 *
 * A stream begins with 64 KiB, one to a server with 48. When its holder took half of its window within a round trip, it is the window that holds
 * the peer back: then the stream gets at once what a fast line carries in a round trip, since over a long way each step of
 * a slow growth would cost one. Over a short way that costs nothing, and what an upstream sends goes to a client that may
 * stand still behind a window of 64 KiB: there first more than a whole window has to be taken. A stream gets no more than what is still to come, and at most half of
 * what its connection has left for such streams. The round trip is that of the TLS handshake (weir_h2_set_rtt), or of one
 * PING.
 *
 * While memory is short (shared->tight) nothing grows, and a stream that gets credit gets it for the least window. What it
 * was granted before cannot be taken back: that much may still come, once. The window is as it was with the first credit
 * afterwards, or when the holder says so (weir_hstream_hold).
 */
#include "http/h2_priv.h"

enum {
    LINE_BYTES_PER_MS = 320 * 1024, /* 2.6 Gbit/s: H2_STREAM_WINDOW_BYTES_MAX in 51 ms */
    FAR_MS = 10,
    HALVES = 4, /* that must be taken fast, one after the other */
};

static const uint8_t rtt_ping[8] = { 'w', 'e', 'i', 'r', '-', 'r', 't', 't' };

void weir_h2_set_rtt(struct weir_h2 *h2, uint32_t rtt_ms)
{
    h2->rtt_ms = rtt_ms;
}

static void ask_rtt(struct weir_h2 *h2)
{
    if (h2->rtt_asked || h2->left || nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, rtt_ping))
        return;
    h2->rtt_asked = true;
    h2->rtt_asked_ms = weir_h2_now(h2);
}

bool weir_h2_window_pong(struct weir_h2 *h2, const uint8_t *opaque)
{
    if (!h2->rtt_asked || memcmp(opaque, rtt_ping, sizeof(rtt_ping)) != 0)
        return false;
    if (!h2->rtt_ms)
        h2->rtt_ms = (uint32_t)(weir_h2_now(h2) - h2->rtt_asked_ms) + 1;
    return true;
}

static uint32_t extra_of(const struct weir_h2 *h2, uint32_t window)
{
    uint32_t first = weir_h2_first_window(h2);

    return window > first ? window - first : 0;
}

static void set_window(struct weir_h2_stream *s, uint32_t window)
{
    struct weir_h2 *h2 = s->h2;

    if (nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, s->id,
                                              (int32_t)window))
        return;
    h2->extra = h2->extra - extra_of(h2, s->window) + extra_of(h2, window);
    s->window = window;
}

/* Smaller: nghttp2 holds back as much of the credit that follows. */
static void fit_window(struct weir_h2_stream *s)
{
    uint32_t first = weir_h2_first_window(s->h2);
    bool tight = s->h2->shared->tight;

    if (tight && s->window > H2_WINDOW_BYTES_LEAST)
        set_window(s, H2_WINDOW_BYTES_LEAST);
    else if (!tight && s->window < first)
        set_window(s, first);
}

/* What the stream would need to keep a fast line busy, as far as it may have that. */
static uint32_t window_for(const struct weir_h2_stream *s)
{
    const struct weir_h2 *h2 = s->h2;
    uint64_t want = (uint64_t)h2->rtt_ms * LINE_BYTES_PER_MS;
    uint64_t have = s->window + (H2_EXTRA_BYTES_MAX - h2->extra) / 2;

    if (want > H2_STREAM_WINDOW_BYTES_MAX)
        want = H2_STREAM_WINDOW_BYTES_MAX;
    if (s->length_in && want > s->left_in)
        want = s->left_in;
    return (uint32_t)(want < have ? want : have);
}

static void grow(struct weir_h2_stream *s)
{
    uint32_t window = window_for(s);

    if (s->in == H2_IN_BODY && window > s->window && !s->h2->shared->tight)
        set_window(s, window);
}

/* An upload from far away. */
static bool is_far(const struct weir_h2 *h2)
{
    return h2->role == H2_SERVER && h2->rtt_ms >= FAR_MS;
}

/* Half a window has been consumed: was that fast? */
static void judge(struct weir_h2_stream *s)
{
    uint64_t now_ms = weir_h2_now(s->h2);

    if (!s->h2->rtt_ms)
        ask_rtt(s->h2);
    else if (now_ms - s->half_ms > s->h2->rtt_ms)
        s->halves = 0;
    else if (is_far(s->h2) || ++s->halves == HALVES) {
        s->halves = 0;
        grow(s);
    }
    s->half_bytes = 0;
    s->half_ms = now_ms;
}

int weir_h2_window_received(struct weir_h2 *h2, struct weir_h2_stream *s, size_t bytes)
{
    if (s && !s->half_ms)
        s->half_ms = weir_h2_now(h2);
    return nghttp2_session_consume_connection(h2->session, bytes) ? WEIR_ENOMEM : 0;
}

void weir_h2_window_consume(struct weir_h2_stream *s, size_t bytes)
{
    if (s->closed || !s->id)
        return;
    fit_window(s);
    if (nghttp2_session_consume_stream(s->h2->session, s->id, bytes))
        return;
    s->half_bytes += (uint32_t)bytes;
    if (s->half_bytes >= s->window / 2)
        judge(s);
    if (nghttp2_session_want_write(s->h2->session))
        weir_h2_want(s->h2);
}

void weir_h2_window_forget(struct weir_h2_stream *s)
{
    s->h2->extra -= extra_of(s->h2, s->window);
    s->window = weir_h2_first_window(s->h2);
}
