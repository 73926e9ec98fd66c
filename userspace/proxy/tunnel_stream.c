/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/tunnel_stream.h"

#include "base/panic.h"

struct tunnel_stream {
    struct weir_stream stream;
    uint32_t magic;
    struct weir_hstream *hs;
    enum weir_err reset_code;
    size_t owed; /* handed on and not credited */
    bool reading, eof, shut, dead, closed;
    struct weir_later later;
};
#define TUNNEL_STREAM_MAGIC 0x77747374u

static struct tunnel_stream *of(struct weir_stream *stream)
{
    return weir_cast(struct tunnel_stream, weir_container(stream, struct tunnel_stream, stream),
                     TUNNEL_STREAM_MAGIC);
}

/* --- what the exchange says --------------------------------------------------------------------
 */

static void on_head(void *arg, struct weir_message *msg)
{
}

static void on_body(void *arg, struct weir_str data)
{
    struct tunnel_stream *ts = weir_cast(struct tunnel_stream, arg, TUNNEL_STREAM_MAGIC);

    if (ts->closed)
        return;
    ts->owed += data.len;
    ts->stream.sink->on_data(ts->stream.arg, (const uint8_t *)data.ptr, data.len);
    if (!ts->closed && ts->reading && ts->owed) {
        weir_hstream_consume(ts->hs, ts->owed);
        ts->owed = 0;
    }
}

static void on_end(void *arg)
{
    struct tunnel_stream *ts = weir_cast(struct tunnel_stream, arg, TUNNEL_STREAM_MAGIC);

    ts->eof = true;
    if (!ts->closed)
        ts->stream.sink->on_eof(ts->stream.arg);
}

static void on_drained(void *arg)
{
    struct tunnel_stream *ts = weir_cast(struct tunnel_stream, arg, TUNNEL_STREAM_MAGIC);

    if (!ts->closed && ts->stream.sink->on_drained)
        ts->stream.sink->on_drained(ts->stream.arg);
}

static void on_reset(void *arg, const struct weir_error *why)
{
    struct tunnel_stream *ts = weir_cast(struct tunnel_stream, arg, TUNNEL_STREAM_MAGIC);

    ts->dead = true;
    if (!ts->closed)
        ts->stream.sink->on_error(ts->stream.arg,
                                  why->code == WEIR_ENOMEM ? why->code : ts->reset_code, why->sys);
}

static const struct weir_hstream_sink hstream_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_trailer = on_head,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_reset = on_reset,
};

/* --- what is asked of the stream ---------------------------------------------------------------
 */

static void stream_read(struct weir_stream *stream, bool on)
{
    struct tunnel_stream *ts = of(stream);

    ts->reading = on;
    if (on && ts->owed && !ts->closed && !ts->dead) {
        weir_hstream_consume(ts->hs, ts->owed);
        ts->owed = 0;
    }
}

static int stream_write(struct weir_stream *stream, const struct iovec *iov, int count)
{
    struct tunnel_stream *ts = of(stream);

    if (ts->shut)
        return WEIR_EINVAL;
    return ts->closed || ts->dead ? 0 : weir_hstream_send(ts->hs, NULL, iov, count, NULL, 0);
}

static size_t stream_pending(const struct weir_stream *stream)
{
    const struct tunnel_stream *ts = weir_container(stream, const struct tunnel_stream, stream);

    return ts->closed || ts->dead ? 0 : weir_hstream_pending(ts->hs);
}

static void stream_shutdown(struct weir_stream *stream)
{
    struct tunnel_stream *ts = of(stream);

    if (ts->shut || ts->closed || ts->dead)
        return;
    ts->shut = true;
    if (weir_hstream_send(ts->hs, NULL, NULL, 0, NULL, WEIR_SEND_END))
        weir_hstream_reset(ts->hs, WEIR_ENOMEM);
}

static void closed(void *arg)
{
    struct tunnel_stream *ts = weir_cast(struct tunnel_stream, arg, TUNNEL_STREAM_MAGIC);

    ts->stream.sink->on_closed(ts->stream.arg);
}

static void stream_close(struct weir_stream *stream, bool reset)
{
    struct tunnel_stream *ts = of(stream);

    if (ts->closed)
        return;
    ts->closed = true;
    if (!ts->dead && (reset || !ts->eof || !ts->shut))
        weir_hstream_reset(ts->hs, WEIR_ECANCELED);
    weir_loop_defer(stream->loop, &ts->later, closed, ts);
}

static bool stream_release(struct weir_stream *stream, struct weir_parcel *parcel)
{
    return false; /* it is part of a connection */
}

static int stream_fd(const struct weir_stream *stream)
{
    return -1;
}

static const struct weir_stream_ops ops = {
    .read = stream_read,
    .write = stream_write,
    .pending = stream_pending,
    .shutdown = stream_shutdown,
    .close = stream_close,
    .release = stream_release,
    .fd = stream_fd,
};

struct weir_stream *weir_tunnel_stream(struct weir_hstream *hs, size_t owed, bool eof,
                                       struct weir_loop *loop, enum weir_err reset_code)
{
    struct tunnel_stream *ts = weir_arena_zalloc(hs->arena, sizeof(*ts));

    if (!ts)
        return NULL;
    ts->magic = TUNNEL_STREAM_MAGIC;
    ts->stream = (struct weir_stream){ .ops = &ops, .loop = loop };
    ts->hs = hs;
    ts->owed = owed;
    ts->eof = eof;
    ts->reset_code = reset_code;
    ts->reading = true;
    hs->sink = &hstream_sink;
    hs->arg = ts;
    return &ts->stream;
}
