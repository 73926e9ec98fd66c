/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h1_pace.c: how much the peer is let send. HTTP/1 has no windows: what is not to come is not read from the connection.
 *
 * It is read in pieces of what the other side has room for, so that no more waits with the holder than it must; when
 * WEIR_STREAM_WAIT_BYTES do, it is not read any more until half of that has left. While memory is short (hold) it is not
 * read as long as anything waits.
 */
#include "http/h1_priv.h"

static void set_pace(struct weir_h1 *h1, size_t bytes)
{
    if (h1->pace_kib == bytes >> 10 || !h1->codec.sink->on_pace)
        return;
    h1->pace_kib = (uint8_t)(bytes >> 10);
    h1->codec.sink->on_pace(h1->codec.arg, (size_t)h1->pace_kib << 10);
}

static void halt(struct weir_h1 *h1)
{
    h1->paused = true;
    h1->codec.sink->on_pause(h1->codec.arg, true);
}

static void resume(struct weir_h1 *h1)
{
    if (!h1->paused)
        return;
    h1->paused = false;
    h1->codec.sink->on_pause(h1->codec.arg, false);
}

void weir_h1_brake(struct weir_h1 *h1)
{
    if (!h1->paused && !h1->dead && h1->hs && h1->hs->unread >= WEIR_STREAM_WAIT_BYTES)
        halt(h1);
}

void weir_h1_let_run(struct weir_h1 *h1)
{
    resume(h1);
    set_pace(h1, WEIR_READ_BUFFER_BYTES);
}

void weir_h1_consume(struct weir_hstream *hs, size_t bytes)
{
    struct weir_h1 *h1 = weir_h1_of(hs->codec);

    hs->unread -= bytes < hs->unread ? (uint32_t)bytes : hs->unread;
    if (h1->paused && h1->hs == hs && hs->unread <= WEIR_STREAM_WAIT_BYTES / 2)
        resume(h1);
}

void weir_h1_hold(struct weir_hstream *hs, bool on)
{
    struct weir_h1 *h1 = weir_h1_of(hs->codec);

    if (h1->hs != hs || h1->dead)
        return;
    if (!on) {
        if (hs->unread < WEIR_STREAM_WAIT_BYTES)
            resume(h1);
    } else if (hs->unread && h1->in != H1_IN_DONE && !h1->paused) {
        halt(h1);
    }
}

void weir_h1_pace(struct weir_hstream *hs, size_t bytes)
{
    struct weir_h1 *h1 = weir_h1_of(hs->codec);

    if (h1->hs == hs)
        set_pace(h1, bytes < WEIR_PIECE_BYTES_MIN ? WEIR_PIECE_BYTES_MIN : bytes);
}
