/* SPDX-License-Identifier: Apache-2.0 */
/** h2_wire.h: a builder of HTTP/2 frames, and a reader of those that came out. */
#ifndef TEST_H2_WIRE_H
#define TEST_H2_WIRE_H

#include "base/panic.h"
#include "weir/types.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

enum { H2_WIRE_BYTES_MIN = 1024, H2_WIRE_TEXT = 4096 };

/* ---- bytes for the wire ---- */

struct h2_wire {
    uint8_t *data;
    size_t len, room;
};

static inline void h2_wire_init(struct h2_wire *wire)
{
    *wire = (struct h2_wire){ .data = malloc(H2_WIRE_BYTES_MIN), .room = H2_WIRE_BYTES_MIN };
    weir_assert(wire->data);
}

static inline void h2_wire_fini(struct h2_wire *wire)
{
    free(wire->data);
}

static inline void h2_put(struct h2_wire *wire, const void *data, size_t len)
{
    while (wire->room - wire->len < len) {
        wire->room *= 2;
        weir_assert(wire->room);
        wire->data = realloc(wire->data, wire->room);
        weir_assert(wire->data);
    }
    if (len)
        memcpy(wire->data + wire->len, data, len);
    wire->len += len;
}

static inline void h2_put_byte(struct h2_wire *wire, unsigned byte)
{
    uint8_t b = (uint8_t)byte;

    h2_put(wire, &b, 1);
}

static inline void h2_put_u32(struct h2_wire *wire, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        h2_put_byte(wire, value >> shift & 255);
}

static inline void h2_put_header(struct h2_wire *wire, size_t len, unsigned type, unsigned flags,
                                 uint32_t id)
{
    h2_put_byte(wire, (unsigned)len >> 16 & 255);
    h2_put_byte(wire, (unsigned)len >> 8 & 255);
    h2_put_byte(wire, (unsigned)len & 255);
    h2_put_byte(wire, type);
    h2_put_byte(wire, flags);
    h2_put_u32(wire, id);
}

static inline void h2_put_frame(struct h2_wire *wire, unsigned type, unsigned flags, uint32_t id,
                                const void *payload, size_t len)
{
    h2_put_header(wire, len, type, flags, id);
    h2_put(wire, payload, len);
}

static inline void h2_put_data(struct h2_wire *wire, uint32_t id, const char *text, bool end)
{
    h2_put_frame(wire, NGHTTP2_DATA, end, id, text, strlen(text));
}

static inline void h2_put_zeros(struct h2_wire *wire, uint32_t id, size_t len, bool end)
{
    static const uint8_t zeros[16384];

    h2_put_frame(wire, NGHTTP2_DATA, end, id, zeros, len);
}

static inline void h2_put_settings(struct h2_wire *wire)
{
    h2_put_header(wire, 0, NGHTTP2_SETTINGS, 0, 0);
}

static inline void h2_put_setting(struct h2_wire *wire, unsigned id, uint32_t value)
{
    h2_put_header(wire, 6, NGHTTP2_SETTINGS, 0, 0);
    h2_put_byte(wire, id >> 8);
    h2_put_byte(wire, id & 255);
    h2_put_u32(wire, value);
}

static inline void h2_put_preface(struct h2_wire *wire)
{
    h2_put(wire, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
    h2_put_settings(wire);
}

static inline void h2_put_window(struct h2_wire *wire, uint32_t id, uint32_t by)
{
    h2_put_header(wire, 4, NGHTTP2_WINDOW_UPDATE, 0, id);
    h2_put_u32(wire, by);
}

static inline void h2_put_rst(struct h2_wire *wire, uint32_t id, uint32_t code)
{
    h2_put_header(wire, 4, NGHTTP2_RST_STREAM, 0, id);
    h2_put_u32(wire, code);
}

static inline void h2_put_goaway(struct h2_wire *wire, uint32_t last, uint32_t code)
{
    h2_put_header(wire, 8, NGHTTP2_GOAWAY, 0, 0);
    h2_put_u32(wire, last);
    h2_put_u32(wire, code);
}

static inline void h2_put_ping(struct h2_wire *wire, unsigned flags, const char *opaque)
{
    h2_put_frame(wire, NGHTTP2_PING, flags, 0, opaque, 8);
}

static inline void h2_put_text(struct h2_wire *wire, const char *text, size_t len)
{
    if (len < 127) {
        h2_put_byte(wire, (unsigned)len);
    } else {
        size_t left = len - 127;

        h2_put_byte(wire, 127);
        for (; left >= 128; left >>= 7)
            h2_put_byte(wire, (left & 127) | 128);
        h2_put_byte(wire, (unsigned)left);
    }
    h2_put(wire, text, len);
}

enum { H2_LITERAL = 0, H2_NEVER_INDEXED = 0x10 }; /* RFC 7541 6.2.2, 6.2.3 */

static inline void h2_put_field(struct h2_wire *wire, unsigned how, struct weir_str name,
                                struct weir_str value)
{
    h2_put_byte(wire, how);
    h2_put_text(wire, name.ptr, name.len);
    h2_put_text(wire, value.ptr, value.len);
}

/* "name: value\n..." (a name may begin with a colon; "\\r", "\\n", "\\0" stand for the bytes) as a block. */
static inline void h2_put_fields(struct h2_wire *wire, const char *text)
{
    while (*text) {
        char name[256], value[H2_WIRE_TEXT], *out = name;
        size_t name_len = 0, len = 0, max = sizeof(name);
        bool in_value = false;

        for (; *text && *text != '\n'; text++) {
            char c = *text;

            if (!in_value && text[0] == ':' && text[1] == ' ') {
                name_len = len;
                out = value, len = 0, max = sizeof(value), in_value = true;
                text++;
                continue;
            }
            if (c == '\\' && text[1])
                c = *++text == 'r' ? '\r' : *text == 'n' ? '\n' : *text == '0' ? 0 : *text;
            weir_assert(len < max);
            out[len++] = c;
        }
        text += *text == '\n';
        h2_put_field(wire, H2_LITERAL, (struct weir_str){ name, name_len },
                     (struct weir_str){ value, len });
    }
}

/* One HEADERS frame. */
static inline void h2_put_headers(struct h2_wire *wire, uint32_t id, bool end, const char *fields)
{
    struct h2_wire block;

    h2_wire_init(&block);
    h2_put_fields(&block, fields);
    h2_put_frame(wire, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | (end ? 1u : 0), id, block.data,
                 block.len);
    h2_wire_fini(&block);
}

#define H2_GET  ":method: GET\n:scheme: http\n:path: /\n:authority: a.test\n"
#define H2_POST ":method: POST\n:scheme: http\n:path: /\n:authority: a.test\n"

/* ---- what went out, frame by frame ---- */

struct h2_frame {
    uint32_t len, id;
    uint8_t type, flags;
    const uint8_t *payload;
};

/* The next frame from *at on (a preface is passed over); false at the end. */
static inline bool h2_next_frame(const struct h2_wire *wire, size_t *at, struct h2_frame *frame)
{
    const uint8_t *p;

    if (*at == 0 && wire->len >= 24 && memcmp(wire->data, NGHTTP2_CLIENT_MAGIC, 24) == 0)
        *at = 24;
    if (wire->len - *at < 9)
        return false;
    p = wire->data + *at;
    frame->len = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
    frame->type = p[3];
    frame->flags = p[4];
    frame->id =
        ((uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8]) & 0x7fffffff;
    frame->payload = p + 9;
    weir_assert(wire->len - *at - 9 >= frame->len);
    *at += 9 + frame->len;
    return true;
}

/* How many frames of that type (and stream, unless UINT32_MAX) went out; *last is the last of them. */
static inline unsigned h2_count_frames(const struct h2_wire *wire, unsigned type, uint32_t id,
                                       struct h2_frame *last)
{
    struct h2_frame frame;
    unsigned n = 0;

    for (size_t at = 0; h2_next_frame(wire, &at, &frame);) {
        if (frame.type != type || (id != UINT32_MAX && frame.id != id))
            continue;
        n++;
        if (last)
            *last = frame;
    }
    return n;
}

static inline uint32_t h2_u32_at(const uint8_t *p)
{
    weir_assert(p);
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
