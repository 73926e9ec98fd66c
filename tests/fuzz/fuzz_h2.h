/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_h2.h: what the two h2 targets share: a mutator that knows frames (it keeps lengths right, moves, doubles, cuts and
 * retypes whole frames, and adds fields to header blocks), and the check that what one codec has taken another one reads
 * as the same message.
 */
#ifndef TEST_FUZZ_H2_H
#define TEST_FUZZ_H2_H

#include "fuzz.h"
#include "http/h1.h"
#include "http/h2_log.h"

/* libFuzzer's own; not there when a corpus is replayed. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

enum { FUZZ_H2_PREFIX = 2, FUZZ_H2_FRAMES = 64, FUZZ_H2_PAYLOAD = 20000 };

struct fuzz_frame {
    size_t at, len; /* with its header */
};

static inline size_t fuzz_frames(const uint8_t *data, size_t size, struct fuzz_frame *frames)
{
    size_t n = 0;

    for (size_t at = FUZZ_H2_PREFIX; size > at && size - at >= 9 && n < FUZZ_H2_FRAMES; n++) {
        size_t len = 9 + ((size_t)data[at] << 16 | (size_t)data[at + 1] << 8 | data[at + 2]);

        if (len > size - at)
            len = size - at;
        frames[n] = (struct fuzz_frame){ at, len };
        at += len;
    }
    return n;
}

static inline unsigned fuzz_random(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16;
}

/* Puts `with` in the place of [at, at + len). */
static inline size_t fuzz_splice(uint8_t *data, size_t size, size_t max, size_t at, size_t len,
                                 const uint8_t *with, size_t with_len)
{
    if (size - len + with_len > max)
        return size;
    memmove(data + at + with_len, data + at + len, size - at - len);
    if (with_len)
        memcpy(data + at, with, with_len);
    return size - len + with_len;
}

static inline void fuzz_set_len(uint8_t *header, size_t payload)
{
    header[0] = (uint8_t)(payload >> 16);
    header[1] = (uint8_t)(payload >> 8);
    header[2] = (uint8_t)payload;
}

static inline size_t fuzz_a_frame(struct h2_wire *wire, unsigned *seed)
{
    static const char *const heads[] = {
        H2_GET,
        H2_POST "content-length: 5\n",
        H2_POST "te: trailers\nexpect: 100-continue\n",
        ":status: 200\ncontent-length: 5\n",
        ":status: 103\nlink: a\n",
        "grpc-status: 0\n",
        H2_GET "cookie: a\ncookie: b\nhost: a.test\n",
        ":method: CONNECT\n:protocol: websocket\n:scheme: http\n:path: /\n:authority: a.test\n",
        H2_GET "priority: u=1, i\n",
    };
    uint32_t id = fuzz_random(seed) % 4 * 2 + 1;
    bool end = fuzz_random(seed) & 1;

    switch (fuzz_random(seed) % 8) {
    case 0:
        h2_put_window(wire, fuzz_random(seed) & 1 ? id : 0, 1u << fuzz_random(seed) % 31);
        break;
    case 1:
        h2_put_rst(wire, id, fuzz_random(seed) % 14);
        break;
    case 2:
        h2_put_setting(wire, fuzz_random(seed) % 10, 1u << fuzz_random(seed) % 32);
        break;
    case 3:
        h2_put_ping(wire, end, "weirgone");
        break;
    case 4:
        h2_put_goaway(wire, id, fuzz_random(seed) % 14);
        break;
    case 5:
        h2_put_zeros(wire, id, 1u << fuzz_random(seed) % 14, end);
        break;
    case 6:
        h2_put_data(wire, id, "hello", end);
        break;
    default:
        h2_put_headers(wire, id, end, heads[fuzz_random(seed) % (sizeof(heads) / sizeof(*heads))]);
    }
    return wire->len;
}

/* A field behind a header block. */
static inline void fuzz_a_field(struct h2_wire *wire, unsigned *seed)
{
    static const char *const fields[] = {
        "x: y\n",           "cookie: c\n",
        "host: b.test\n",   "content-length: 1\n",
        "te: trailers\n",   "transfer-encoding: chunked\n",
        "connection: x\n",  "expect: 100-continue\n",
        "x: a\\r\\nb: c\n", "x: \n",
        "X: y\n",           ":path: /?q\n",
        ":authority: a\n",  "priority: u=7\n",
        "trailer: x\n",     "upgrade: a\n",
    };

    h2_put_fields(wire, fields[fuzz_random(seed) % (sizeof(fields) / sizeof(*fields))]);
}

static inline size_t fuzz_mutate_frame(uint8_t *data, size_t size, size_t max,
                                       const struct fuzz_frame *frame, unsigned *seed)
{
    static uint8_t payload[FUZZ_H2_PAYLOAD];
    size_t len = frame->len - 9 < sizeof(payload) ? frame->len - 9 : sizeof(payload);
    size_t fresh;

    memcpy(payload, data + frame->at + 9, len);
    fresh = LLVMFuzzerMutate(payload, len, len + 64 < sizeof(payload) ? len + 64 : sizeof(payload));
    if (size - frame->len + 9 + fresh > max)
        return size;
    fuzz_set_len(data + frame->at, fresh);
    return fuzz_splice(data, size, max, frame->at + 9, frame->len - 9, payload, fresh);
}

static inline size_t fuzz_add_field(uint8_t *data, size_t size, size_t max,
                                    const struct fuzz_frame *frame, unsigned *seed)
{
    struct h2_wire wire;

    h2_wire_init(&wire);
    fuzz_a_field(&wire, seed);
    if (size + wire.len <= max) {
        fuzz_set_len(data + frame->at, frame->len - 9 + wire.len);
        size = fuzz_splice(data, size, max, frame->at + frame->len, 0, wire.data, wire.len);
    }
    h2_wire_fini(&wire);
    return size;
}

/* The second half of a header block becomes a CONTINUATION. */
static inline size_t fuzz_split_block(uint8_t *data, size_t size, size_t max,
                                      const struct fuzz_frame *frame, unsigned *seed)
{
    uint8_t header[9];
    size_t first = frame->len > 10 ? fuzz_random(seed) % (frame->len - 9) : 0;

    if (size + 9 > max)
        return size;
    memcpy(header, data + frame->at, 9);
    fuzz_set_len(header, frame->len - 9 - first);
    header[3] = NGHTTP2_CONTINUATION;
    header[4] &= NGHTTP2_FLAG_END_HEADERS;
    fuzz_set_len(data + frame->at, first);
    data[frame->at + 4] &= (uint8_t)~NGHTTP2_FLAG_END_HEADERS;
    return fuzz_splice(data, size, max, frame->at + 9 + first, 0, header, 9);
}

static inline size_t fuzz_insert(uint8_t *data, size_t size, size_t max, size_t at, unsigned *seed)
{
    struct h2_wire wire;

    h2_wire_init(&wire);
    fuzz_a_frame(&wire, seed);
    size = fuzz_splice(data, size, max, at, 0, wire.data, wire.len);
    h2_wire_fini(&wire);
    return size;
}

static inline size_t fuzz_double(uint8_t *data, size_t size, size_t max,
                                 const struct fuzz_frame *frame, size_t at)
{
    static uint8_t copy[FUZZ_H2_PAYLOAD];

    if (frame->len > sizeof(copy))
        return size;
    memcpy(copy, data + frame->at, frame->len);
    return fuzz_splice(data, size, max, at, 0, copy, frame->len);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    static const uint8_t types[] = { 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 77 };
    struct fuzz_frame frames[FUZZ_H2_FRAMES], *frame, *other;
    size_t n = fuzz_frames(data, size, frames);

    if (!LLVMFuzzerMutate)
        return size;
    if (!n)
        return size < FUZZ_H2_PREFIX ? LLVMFuzzerMutate(data, size, max)
                                     : fuzz_insert(data, size, max, size, &seed);
    frame = &frames[fuzz_random(&seed) % n];
    other = &frames[fuzz_random(&seed) % n];
    if (frame->len < 9)
        return LLVMFuzzerMutate(data, size, max);
    switch (fuzz_random(&seed) % 12) {
    case 0:
        return LLVMFuzzerMutate(data, size, max);
    case 1:
        data[fuzz_random(&seed) % FUZZ_H2_PREFIX] ^= (uint8_t)(1u << fuzz_random(&seed) % 8);
        return size;
    case 2:
        return fuzz_splice(data, size, max, frame->at, frame->len, NULL, 0);
    case 3:
        return fuzz_double(data, size, max, frame, other->at);
    case 4:
        data[frame->at + 3] = types[fuzz_random(&seed) % sizeof(types)];
        return size;
    case 5:
        data[frame->at + 4] ^= (uint8_t)(1u << fuzz_random(&seed) % 6);
        return size;
    case 6:
        data[frame->at + 8] = (uint8_t)(fuzz_random(&seed) % 10);
        return size;
    case 7:
    case 8:
        return fuzz_mutate_frame(data, size, max, frame, &seed);
    case 9:
        return fuzz_add_field(data, size, max, frame, &seed);
    case 10:
        return fuzz_split_block(data, size, max, frame, &seed);
    default:
        return fuzz_insert(data, size, max, other->at, &seed);
    }
}

static inline void fuzz_same_text(const struct h2_exchange *a, const struct h2_exchange *b)
{
    if (strcmp(a->text, b->text) != 0)
        fprintf(stderr, "whole: %s\ncut:   %s\n", a->text, b->text);
    weir_assert(strcmp(a->text, b->text) == 0);
}

/* ---- the same message behind another codec ---- */

struct fuzz_read {
    struct weir_message *msg;
    struct weir_arena arena;
    unsigned begun, resets;
    enum weir_err why;
};

static inline void fuzz_read_head(void *arg, struct weir_message *msg)
{
    ((struct fuzz_read *)arg)->msg = msg;
}

static inline void fuzz_read_body(void *arg, struct weir_str data)
{
}

static inline void fuzz_read_end(void *arg)
{
}

static inline void fuzz_read_reset(void *arg, const struct weir_error *why)
{
    struct fuzz_read *read = arg;

    read->resets++;
    read->why = why->code;
}

static const struct weir_hstream_sink fuzz_read_sink = {
    .on_head = fuzz_read_head,
    .on_body = fuzz_read_body,
    .on_trailer = fuzz_read_head,
    .on_end = fuzz_read_end,
    .on_reset = fuzz_read_reset,
};

static inline int fuzz_read_begin(void *arg, struct weir_hstream *hs)
{
    struct fuzz_read *read = arg;

    read->begun++;
    hs->sink = &fuzz_read_sink;
    hs->arg = read;
    hs->arena = &read->arena;
    return 0;
}

static inline void fuzz_wire_output(void *arg, const struct iovec *iov, int count)
{
    for (int i = 0; i < count; i++)
        h2_put(arg, iov[i].iov_base, iov[i].iov_len);
}

static inline size_t fuzz_wire_pending(void *arg)
{
    return 0;
}

static inline void fuzz_wire_pause(void *arg, bool pause)
{
}

static const struct weir_codec_sink fuzz_wire_sink = {
    .on_output = fuzz_wire_output,
    .on_pending = fuzz_wire_pending,
    .on_pause = fuzz_wire_pause,
};

static inline void fuzz_read_output(void *arg, const struct iovec *iov, int count)
{
}

static const struct weir_codec_sink fuzz_read_codec_sink = {
    .on_output = fuzz_read_output,
    .on_pending = fuzz_wire_pending,
    .on_pause = fuzz_wire_pause,
    .on_begin = fuzz_read_begin,
};

static const struct weir_guard_limits fuzz_wide = { .head_bytes = 96 * 1024,
                                                    .head_count = 400,
                                                    .target_bytes = 32 * 1024 };
static const struct weir_h2_limits fuzz_patient = { .streams = 100000,
                                                    .resets_per_minute = 100000,
                                                    .pings_per_minute = 100000 };

#endif
