/* SPDX-License-Identifier: Apache-2.0 */
/** dir.c: one direction of an exchange: what is lent, what is kept, what is sent on (req.h). */
#include "proxy/exchange.h"

void weir_dir_fini(struct weir_flow_dir *dir)
{
    weir_buf_clear(&dir->held);
    for (unsigned i = 0; i < dir->stage_count; i++)
        weir_buf_clear(&dir->stages[i].bytes);
    dir->piece_count = 0;
}

void weir_dir_reset(struct weir_flow_dir *dir)
{
    struct weir_buf_cache *cache = dir->held.cache;

    weir_dir_fini(dir);
    *dir = (struct weir_flow_dir){ .held = { .cache = cache } };
}

size_t weir_dir_staged(const struct weir_flow_dir *dir)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < dir->stage_count; i++)
        bytes += dir->stages[i].bytes.len;
    return bytes;
}

/* Pieces that could not leave in this feed are copied: their bytes are about to go. */
int weir_dir_keep(struct weir_flow_dir *dir)
{
    int err;

    if (!dir->piece_count)
        return 0;
    err = weir_buf_append_iov(&dir->held, dir->pieces, dir->piece_count, 0);
    dir->piece_count = 0;
    return err;
}

int weir_dir_push(struct weir_flow_dir *dir, struct weir_str data, bool borrowed)
{
    if (!data.len)
        return 0;
    if (borrowed && dir->piece_count < WEIR_PIECES_MAX && !dir->held.len) {
        dir->pieces[dir->piece_count++] = (struct iovec){ (void *)data.ptr, data.len };
        return 0;
    }
    return weir_dir_keep(dir) ?: weir_buf_append(&dir->held, data.ptr, data.len);
}

bool weir_dir_has_bytes(const struct weir_flow_dir *dir)
{
    return dir->piece_count || dir->held.len;
}

/* A sender gets its credit when all has left that it sent. One from far away may send so much at once that it would stand
 * still until then: it gets large parts of it before. */
void weir_dir_credit(struct weir_flow_dir *dir, struct weir_hstream *from, struct weir_hstream *to)
{
    size_t waits, left;

    if (!dir->owed)
        return;
    waits = weir_hstream_pending(to) + weir_iov_len(dir->pieces, dir->piece_count) + dir->held.len +
            weir_dir_staged(dir);
    weir_hstream_pace(from, waits ? 0 : weir_hstream_room(to));
    left = waits < dir->owed ? dir->owed - waits : 0;
    if (waits) {
        if (left < WEIR_STREAM_HIGH_BYTES)
            return;
    } else {
        left = dir->owed;
    }
    weir_hstream_consume(from, left);
    dir->owed -= left;
}

static void forget(struct weir_req *req)
{
    req->replayable = false;
    weir_buf_clear(&req->replay);
}

/* Keeps what is about to be sent of a body that may have to be sent again; not while memory is short. */
static void remember(struct weir_req *req, const struct iovec *iov, int count)
{
    int64_t limit = weir_req_limits(req)->replay;
    size_t len = weir_iov_len(iov, count);

    if (!len || !req->replayable)
        return;
    if (limit < 0 || req->replay.len + len > (size_t)limit || /* < 0: none */
        req->worker->tight || weir_buf_append_iov(&req->replay, iov, count, 0))
        forget(req);
}

/* What the upstream does not take waits with its codec as well: much is not kept twice. */
static void remember_less(struct weir_req *req, struct weir_hstream *to)
{
    size_t waits = req->replay.len ? weir_hstream_pending(to) : 0;

    if (waits && waits + req->replay.len > WEIR_SHARED_STREAM_BYTES)
        forget(req);
}

/**
 * Sends what there is: head, bytes, end. `to` is blocked when it has too much unsent: then nothing
 * is sent, and its on_drained calls again. `replay`: the request whose replay buffer gets a copy,
 * or NULL.
 */
int weir_dir_send(struct weir_flow_dir *dir, struct weir_hstream *to,
                  const struct weir_message *head, struct weir_req *replay)
{
    do {
        struct iovec iov[WEIR_PIECES_MAX + 8];
        int count = weir_buf_peek(&dir->held, 0, iov, 8);
        size_t held = weir_iov_len(iov, count);
        bool last = held == dir->held.len, end;
        int err;

        if (last)
            for (int i = 0; i < dir->piece_count; i++)
                iov[count++] = dir->pieces[i];
        end = last && dir->filtered_end && !dir->end_sent;
        if (!dir->head_due && !count && !end)
            return 0;
        if (!dir->head_due && weir_hstream_pending(to) >= WEIR_STREAM_HIGH_BYTES) {
            dir->blocked = true;
            return 0;
        }
        if (replay)
            remember(replay, iov, count);
        err = weir_hstream_send(to, dir->head_due ? head : NULL, iov, count,
                                end ? dir->trailer : NULL, end ? WEIR_SEND_END : 0);
        if (err)
            return err;
        if (replay)
            remember_less(replay, to);
        dir->blocked = dir->head_due = false;
        dir->sent += weir_iov_len(iov, count);
        weir_buf_consume(&dir->held, held);
        if (last)
            dir->piece_count = 0;
        dir->end_sent = dir->end_sent || end;
    } while (dir->held.len);
    return 0;
}
