/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_shared.c: what the sessions of a worker share. nghttp2 keeps a frame buffer of 16 KiB for each session, although it
 * is of use only while a frame is written: the allocator that sessions are made with gives all of them the same one.
 * What nghttp2 allocates later (chunks for a header block over 16 KiB, frames that come in) is the session's own.
 */
#include "http/h2_priv.h"

#include <stdlib.h>

enum {
    HEADER_BLOCK_BYTES_MAX = 256 * 1024, /* of one head that we send */
    OUTBOUND_ACKS_MAX = 256,
    SPARE_BYTES = 16 * 1024,
    SETTINGS_MAX = 32, /* entries of one frame */
    CONTINUATIONS_MAX =
        512,           /* nghttp2 counts the pieces in which their headers come; we count frames */
    NO_RATE = 1 << 20, /* our own budget counts resets */
};

static void set_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, weir_h2_on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, weir_h2_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, weir_h2_on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, weir_h2_on_invalid_header);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks,
                                                                 weir_h2_on_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, weir_h2_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, weir_h2_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, weir_h2_on_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, weir_h2_on_sent);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, weir_h2_on_send_data);
    nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(callbacks,
                                                                   weir_h2_on_priority_bytes);
    nghttp2_session_callbacks_set_unpack_extension_callback(callbacks, weir_h2_on_priority_end);
}

static nghttp2_option *option_new(bool server)
{
    nghttp2_option *option;

    if (nghttp2_option_new(&option))
        return NULL;
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_send_header_block_length(option, HEADER_BLOCK_BYTES_MAX);
    nghttp2_option_set_max_settings(option, SETTINGS_MAX);
    nghttp2_option_set_max_outbound_ack(option, OUTBOUND_ACKS_MAX);
    nghttp2_option_set_max_continuations(option, CONTINUATIONS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(option, NO_RATE, NO_RATE);
    if (server)
        nghttp2_option_set_user_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
    return option;
}

int weir_h2_shared_init(struct weir_h2_shared *shared, struct weir_buf_cache *bufs,
                        const uint64_t *now_ms)
{
    nghttp2_session_callbacks *callbacks = NULL;

    *shared = (struct weir_h2_shared){ .bufs = bufs, .now_ms = now_ms };
    weir_slab_init(&shared->streams, sizeof(struct weir_h2_stream));
    weir_slab_init(&shared->sessions, sizeof(struct weir_h2));
    shared->frame = malloc(H2_FRAME_BYTES);
    shared->output = malloc(H2_OUTPUT_BYTES);
    shared->server_option = option_new(true);
    shared->client_option = option_new(false);
    if (nghttp2_session_callbacks_new(&callbacks) == 0)
        set_callbacks(callbacks);
    shared->callbacks = callbacks;
    if (shared->frame && shared->output && shared->server_option && shared->client_option &&
        callbacks)
        return 0;
    weir_h2_shared_fini(shared);
    return WEIR_ENOMEM;
}

void weir_h2_shared_fini(struct weir_h2_shared *shared)
{
    nghttp2_session_callbacks_del(shared->callbacks);
    nghttp2_option_del(shared->server_option);
    nghttp2_option_del(shared->client_option);
    free(shared->frame);
    free(shared->output);
    free(shared->spare);
    weir_slab_fini(&shared->streams);
    weir_slab_fini(&shared->sessions);
    *shared = (struct weir_h2_shared){ .bufs = NULL };
}

void weir_h2_shared_trim(struct weir_h2_shared *shared)
{
    weir_slab_trim(&shared->streams);
    weir_slab_trim(&shared->sessions);
}

/* ---- the allocator of sessions ---- */

static bool is_frame(const struct weir_h2_shared *shared, size_t bytes)
{
    return shared->lending && bytes >= H2_FRAME_ASKED_MIN && bytes <= H2_FRAME_BYTES;
}

static void *mem_malloc(size_t bytes, void *arg)
{
    struct weir_h2 *h2 = arg;

    return is_frame(h2->shared, bytes) ? h2->shared->frame : malloc(bytes);
}

static void mem_free(void *at, void *arg)
{
    struct weir_h2 *h2 = arg;

    if (at != h2->shared->frame)
        free(at);
}

static void *mem_calloc(size_t count, size_t bytes, void *arg)
{
    return calloc(count, bytes);
}

/* A queue of nghttp2 that could not grow keeps an item that is freed (1.52, session_attach_stream_item): there is memory
 * set aside for that, and if it is not enough the session is not freed any more. */
static void *grow(struct weir_h2 *h2, void *at, size_t bytes)
{
    void *grown = realloc(at, bytes);

    if (!grown && h2->shared->spare) {
        free(h2->shared->spare);
        h2->shared->spare = NULL;
        grown = realloc(at, bytes);
    }
    h2->spoilt |= !grown;
    return grown;
}

static void *mem_realloc(void *at, size_t bytes, void *arg)
{
    struct weir_h2 *h2 = arg;
    struct weir_h2_shared *shared = h2->shared;

    if (!at && is_frame(shared, bytes))
        return shared->frame;
    if (at == shared->frame) /* no frame needs more */
        return bytes <= H2_FRAME_BYTES ? at : NULL;
    return grow(h2, at, bytes);
}

int weir_h2_session_new(struct weir_h2 *h2)
{
    struct weir_h2_shared *shared = h2->shared;
    nghttp2_mem mem = { h2, mem_malloc, mem_free, mem_calloc, mem_realloc };
    int err;

    if (!shared->spare)
        shared->spare = malloc(SPARE_BYTES);
    shared->lending = true;
    if (h2->role == H2_SERVER)
        err = nghttp2_session_server_new3(&h2->session, shared->callbacks, h2,
                                          shared->server_option, &mem);
    else
        err = nghttp2_session_client_new3(&h2->session, shared->callbacks, h2,
                                          shared->client_option, &mem);
    shared->lending = false;
    h2->spoilt = false; /* it was taken down whole, or is there */
    return err ? WEIR_ENOMEM : 0;
}
