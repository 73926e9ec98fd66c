/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_window.c: what the peer may send. The connection's window is given back at once, so that a stream that nobody reads
 * holds no other back; a stream's window follows what its holder consumes.
 *
 * Windows grow by the bandwidth-delay product: a PING goes out while data flows, and what came until its ACK is what the
 * path holds. A stream that filled two thirds of its window in such a round, and whose holder took it, gets twice as
 * much; so does the connection. Rounds that change nothing come ever more seldom.
 *
 * While memory is short (shared->tight) nothing grows, and a stream that gets credit gets it for the least window. What it
 * was granted before cannot be taken back: that much may still come, once. The window is as it was with the first credit
 * afterwards, or when the holder says so (weir_hstream_hold).
 */
#include "http/h2_priv.h"

enum {
    ROUND_BYTES_MIN = 16 * 1024, /* no PING for less */
    ROUND_DELAY_MS = 100,
    ROUND_DELAY_MS_MAX = 10 * 1000,
};

static const uint8_t round_ping[8] = { 'w', 'e', 'i', 'r', '-', 'b', 'd', 'p' };

static int begin_round(struct weir_h2 *h2)
{
    if (nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, round_ping))
        return WEIR_ENOMEM;
    h2->round_open = true;
    h2->round_bytes = 0;
    h2->round++;
    return 0;
}

int weir_h2_window_received(struct weir_h2 *h2, struct weir_h2_stream *s, size_t bytes)
{
    if (nghttp2_session_consume_connection(h2->session, bytes))
        return WEIR_ENOMEM;
    h2->round_bytes += (uint32_t)bytes;
    if (s) {
        if (s->round != h2->round)
            s->round_bytes = 0;
        s->round = h2->round;
        s->round_bytes += (uint32_t)bytes;
    }
    if (h2->round_open || h2->round_bytes < ROUND_BYTES_MIN || h2->left ||
        weir_h2_now(h2) - h2->round_ms < h2->round_delay_ms)
        return 0;
    return begin_round(h2);
}

static uint32_t extra_of(uint32_t window)
{
    return window > H2_WINDOW_BYTES ? window - H2_WINDOW_BYTES : 0;
}

static bool set_window(struct weir_h2_stream *s, uint32_t window)
{
    struct weir_h2 *h2 = s->h2;

    if (nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, s->id,
                                              (int32_t)window))
        return false;
    h2->extra = h2->extra - extra_of(s->window) + extra_of(window);
    s->window = window;
    return true;
}

/* Smaller: nghttp2 holds back as much of the credit that follows. */
static void fit_window(struct weir_h2_stream *s)
{
    bool tight = s->h2->shared->tight;

    if (tight && s->window > H2_WINDOW_BYTES_LEAST)
        (void)set_window(s, H2_WINDOW_BYTES_LEAST);
    else if (!tight && s->window < H2_WINDOW_BYTES)
        (void)set_window(s, H2_WINDOW_BYTES);
}

void weir_h2_window_consume(struct weir_h2_stream *s, size_t bytes)
{
    if (s->closed || !s->id)
        return;
    fit_window(s);
    if (nghttp2_session_consume_stream(s->h2->session, s->id, bytes) == 0 &&
        nghttp2_session_want_write(s->h2->session))
        weir_h2_want(s->h2);
}

static bool filled(uint32_t bytes, uint32_t window)
{
    return (uint64_t)bytes * 3 >= (uint64_t)window * 2;
}

static bool grow_stream(struct weir_h2_stream *s)
{
    struct weir_h2 *h2 = s->h2;
    uint32_t more = s->window;

    if (s->closed || s->in != H2_IN_BODY || s->round != h2->round ||
        !filled(s->round_bytes, s->window) || !s->hs || s->unread > s->window / 8)
        return false;
    if (more > H2_STREAM_WINDOW_BYTES_MAX - s->window)
        more = H2_STREAM_WINDOW_BYTES_MAX - s->window;
    if (more > H2_EXTRA_BYTES_MAX - h2->extra)
        more = (uint32_t)(H2_EXTRA_BYTES_MAX - h2->extra);
    return more && set_window(s, s->window + more);
}

static bool grow_connection(struct weir_h2 *h2)
{
    uint32_t window = 2 * h2->conn_window;

    if (!filled(h2->round_bytes, h2->conn_window) || h2->conn_window >= H2_CONN_WINDOW_BYTES_MAX)
        return false;
    if (nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, (int32_t)window))
        return false;
    h2->conn_window = window;
    return true;
}

static bool grow(struct weir_h2 *h2)
{
    bool grown;

    if (h2->shared->tight)
        return false;
    grown = grow_connection(h2);
    weir_list_each(link, next, &h2->streams) grown |=
        grow_stream(weir_list_entry(link, struct weir_h2_stream, link));
    return grown;
}

bool weir_h2_window_pong(struct weir_h2 *h2, const uint8_t *opaque)
{
    bool grown;

    if (!h2->round_open || memcmp(opaque, round_ping, sizeof(round_ping)) != 0)
        return false;
    grown = grow(h2);
    h2->round_open = false;
    h2->round_bytes = 0;
    h2->round_ms = weir_h2_now(h2);
    if (grown)
        h2->round_delay_ms = 0;
    else
        h2->round_delay_ms = h2->round_delay_ms ? 4 * h2->round_delay_ms : ROUND_DELAY_MS;
    if (h2->round_delay_ms > ROUND_DELAY_MS_MAX)
        h2->round_delay_ms = ROUND_DELAY_MS_MAX;
    return true;
}

void weir_h2_window_forget(struct weir_h2_stream *s)
{
    s->h2->extra -= extra_of(s->window);
    s->window = H2_WINDOW_BYTES;
}
