/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_abuse.c: budgets of frames that cost us more than the peer. The headers of frames are read along with nghttp2, which
 * has no callback for all of them (CONTINUATION, unknown types, frames of closed streams). A bucket fills over a minute
 * of loop time; where an honest peer answers to what we send (WINDOW_UPDATE to DATA, PING to measure while data flows)
 * sending fills it as well, and streams that were served to their end allow some that are reset.
 *
 * Servers are held to the same. But their connection carries what all our clients ask for: each request that goes out
 * fills every bucket by one, and pays for one reset, which is the only one that an honest server could answer it with.
 */
#include "http/h2_priv.h"

enum {
    RESETS_PER_MINUTE = 100,
    PINGS_PER_MINUTE = 60,
    MINUTE_MS = 60 * 1000,
    WINDOWS_FACTOR = 10, /* of the pings' budget */
    PRIORITIES_FACTOR = 4,
    WINDOWS_FRAME = 10, /* of them that may come for a frame that we send, as Envoy allows: gRPC
                           gives credit message by message */
    WINDOW_UPDATE_WORTH = 64, /* and for so many bytes one */
    SERVED_OF_RESET = 10,     /* streams served that allow one more to be reset */
    BLOCK_FRAMES_MAX = 32,    /* HEADERS and its CONTINUATIONs */
    FRAME_HEADER_BYTES = 9,
    FLAG_END = 1,
    FLAG_END_HEADERS = 4,
    TYPE_PRIORITY_UPDATE = 0x10,
};

static const char *const names[] = {
#define NAME(id, name) name,
    WEIR_H2_ABUSES(NAME)
#undef NAME
};

const char *weir_h2_abuse_name(enum weir_h2_abuse why)
{
    return (unsigned)why < WEIR_H2_ABUSE_COUNT ? names[why] : "unknown";
}

static const uint8_t reasons[H2_BUCKETS] = {
    [H2_B_RESETS] = WEIR_H2_ABUSE_RESETS,     [H2_B_PINGS] = WEIR_H2_ABUSE_PINGS,
    [H2_B_SETTINGS] = WEIR_H2_ABUSE_SETTINGS, [H2_B_PRIORITIES] = WEIR_H2_ABUSE_PRIORITIES,
    [H2_B_WINDOWS] = WEIR_H2_ABUSE_WINDOWS,   [H2_B_EMPTY] = WEIR_H2_ABUSE_EMPTY,
    [H2_B_UNKNOWN] = WEIR_H2_ABUSE_UNKNOWN,
};

static uint32_t capacity(const struct weir_h2_limits *limits, enum h2_bucket bucket)
{
    uint32_t pings =
        limits && limits->pings_per_minute ? limits->pings_per_minute : PINGS_PER_MINUTE;

    switch (bucket) {
    case H2_B_RESETS:
        return limits && limits->resets_per_minute ? limits->resets_per_minute : RESETS_PER_MINUTE;
    case H2_B_WINDOWS:
        return pings > UINT32_MAX / WINDOWS_FACTOR ? pings : pings * WINDOWS_FACTOR;
    case H2_B_PRIORITIES:
        return pings > UINT32_MAX / PRIORITIES_FACTOR ? pings : pings * PRIORITIES_FACTOR;
    default:
        return pings;
    }
}

/* What the time since the last look has brought. */
static void refill(struct weir_h2_bucket *bucket, uint32_t room, uint64_t now_ms)
{
    uint64_t elapsed = now_ms - bucket->at_ms, more;

    if (bucket->at_ms == 0 || elapsed >= MINUTE_MS) { /* the first use, too */
        bucket->tokens = room;
        bucket->at_ms = now_ms ? now_ms : 1;
        return;
    }
    more = elapsed * room / MINUTE_MS;
    if (!more)
        return;
    bucket->at_ms = now_ms;
    bucket->tokens = more > room - bucket->tokens ? room : bucket->tokens + (uint32_t)more;
}

bool weir_h2_watch_take(struct weir_h2_watch *watch, enum h2_bucket which,
                        const struct weir_h2_limits *limits, uint64_t now_ms)
{
    struct weir_h2_bucket *bucket = &watch->buckets[which];

    refill(bucket, capacity(limits, which), now_ms);
    if (bucket->tokens) {
        bucket->tokens--;
        return true;
    }
    watch->abuse = reasons[which];
    return false;
}

bool weir_h2_watch_reset(struct weir_h2_watch *watch, const struct weir_h2_limits *limits,
                         uint64_t now_ms)
{
    if (!watch->asked)
        return weir_h2_watch_take(watch, H2_B_RESETS, limits, now_ms);
    watch->asked--;
    return true;
}

static void earn(struct weir_h2_watch *watch, enum h2_bucket which, uint32_t tokens,
                 const struct weir_h2_limits *limits)
{
    struct weir_h2_bucket *bucket = &watch->buckets[which];
    uint32_t room = capacity(limits, which);

    if (bucket->at_ms == 0) /* not used: it is full */
        return;
    bucket->tokens = tokens > room - bucket->tokens ? room : bucket->tokens + tokens;
}

void weir_h2_watch_sent(struct weir_h2_watch *watch, size_t bytes,
                        const struct weir_h2_limits *limits)
{
    uint32_t all = watch->sent_bytes + (uint32_t)bytes;

    earn(watch, H2_B_PINGS, 1, limits);
    earn(watch, H2_B_WINDOWS, WINDOWS_FRAME + all / WINDOW_UPDATE_WORTH, limits);
    watch->sent_bytes = all % WINDOW_UPDATE_WORTH;
}

void weir_h2_watch_asked(struct weir_h2_watch *watch, const struct weir_h2_limits *limits)
{
    if (watch->asked < UINT32_MAX)
        watch->asked++;
    for (int i = 0; i < H2_BUCKETS; i++)
        earn(watch, (enum h2_bucket)i, 1, limits);
}

void weir_h2_watch_served(struct weir_h2_watch *watch, bool reset,
                          const struct weir_h2_limits *limits)
{
    if (reset)
        earn(watch, H2_B_RESETS, 1, limits);
    if (++watch->served < SERVED_OF_RESET)
        return;
    watch->served = 0;
    earn(watch, H2_B_RESETS, 1, limits);
}

void weir_h2_watch_init(struct weir_h2_watch *watch, bool server)
{
    *watch = (struct weir_h2_watch){ .preface_left = server ? NGHTTP2_CLIENT_MAGIC_LEN : 0,
                                     .server = server };
}

/* A header block goes on, or begins. */
static bool take_block(struct weir_h2_watch *watch, uint32_t len, uint8_t flags, size_t bytes_max)
{
    watch->block_bytes += len;
    watch->block_frames++;
    watch->block = !(flags & FLAG_END_HEADERS);
    if (watch->block_frames <= BLOCK_FRAMES_MAX && watch->block_bytes <= bytes_max)
        return true;
    watch->abuse = WEIR_H2_ABUSE_CONTINUATIONS;
    return false;
}

/* An id below others that was never opened is closed (RFC 9113 5.1.1); nghttp2 takes it for one that it forgot. */
static bool id_ok(struct weir_h2_watch *watch, uint32_t id)
{
    enum { SLOTS = H2_OPENED_WORDS * 64 };
    uint32_t slot = id / 2, last = watch->last_id / 2;
    bool fresh = id > watch->last_id;

    if (id % 2 == 0) /* nghttp2's to judge */
        return true;
    if (!fresh)
        return last - slot >= SLOTS ||
               (watch->opened[slot % SLOTS / 64] & UINT64_C(1) << slot % 64) != 0;
    if (watch->last_id) {
        if (slot - last > SLOTS)
            last = slot - SLOTS;
        while (++last < slot)
            watch->opened[last % SLOTS / 64] &= ~(UINT64_C(1) << last % 64);
    }
    watch->opened[slot % SLOTS / 64] |= UINT64_C(1) << slot % 64;
    watch->last_id = id;
    return true;
}

static uint32_t id_of(const struct weir_h2_watch *watch)
{
    const uint8_t *id = watch->header + 5;

    return ((uint32_t)id[0] & 127) << 24 | (uint32_t)id[1] << 16 | (uint32_t)id[2] << 8 | id[3];
}

static bool is_broken(struct weir_h2_watch *watch, uint32_t code)
{
    watch->broken = true;
    watch->code = code;
    return false;
}

static void note_end(struct weir_h2_watch *watch, uint32_t id)
{
    watch->ended[watch->ended_at++ % H2_ENDED] = id;
}

/* What goes on behind its own end is a fault (RFC 9113 5.1, closed); nghttp2 keeps no closed streams, and would take it for
 * what was on its way when we reset the stream. Only the last ends are known: older ones are passed over. So are servers'. */
static bool not_ended(struct weir_h2_watch *watch)
{
    uint32_t id = id_of(watch);

    if (!watch->server)
        return true;
    for (int i = 0; i < H2_ENDED; i++)
        if (id && watch->ended[i] == id)
            return is_broken(watch, NGHTTP2_STREAM_CLOSED);
    if (watch->header[4] & FLAG_END)
        note_end(watch, id);
    return true;
}

static bool take_headers(struct weir_h2_watch *watch, uint32_t len,
                         const struct weir_h2_limits *limits, size_t block_bytes_max)
{
    if (!not_ended(watch))
        return false;
    if (watch->server && !id_ok(watch, id_of(watch))) /* answers come in any order */
        return is_broken(watch, NGHTTP2_PROTOCOL_ERROR);
    earn(watch, H2_B_PINGS, 1, limits);
    earn(watch, H2_B_PRIORITIES, 2, limits);
    watch->block_bytes = watch->block_frames = 0;
    watch->blocks++;
    return take_block(watch, len, watch->header[4], block_bytes_max);
}

static bool take_priority(struct weir_h2_watch *watch, const struct weir_h2_limits *limits,
                          uint64_t now_ms)
{
    static const uint8_t zero[4];

    /* RFC 9113 6.3, 9218 7.1: the one never for the connection, the other always */
    if ((watch->header[3] == NGHTTP2_PRIORITY) ==
        (memcmp(watch->header + 5, zero, sizeof(zero)) == 0))
        return is_broken(watch, NGHTTP2_PROTOCOL_ERROR);
    return weir_h2_watch_take(watch, H2_B_PRIORITIES, limits, now_ms);
}

static bool take_frame(struct weir_h2_watch *watch, const struct weir_h2_limits *limits,
                       size_t block_bytes_max, uint64_t now_ms)
{
    const uint8_t *header = watch->header;
    uint32_t len = (uint32_t)header[0] << 16 | (uint32_t)header[1] << 8 | header[2];
    uint8_t flags = header[4];

    watch->skip = len;
    switch (header[3]) {
    case NGHTTP2_DATA:
        if (!not_ended(watch))
            return false;
        if (len == 0 && !(flags & FLAG_END))
            return weir_h2_watch_take(watch, H2_B_EMPTY, limits, now_ms);
        earn(watch, H2_B_PINGS, 1, limits);
        return true;
    case NGHTTP2_HEADERS:
        return take_headers(watch, len, limits, block_bytes_max);
    case NGHTTP2_CONTINUATION:
        return take_block(watch, len, flags, block_bytes_max);
    case NGHTTP2_RST_STREAM:
        note_end(watch, id_of(watch));
        return weir_h2_watch_reset(watch, limits, now_ms);
    case NGHTTP2_PING:
        return weir_h2_watch_take(watch, H2_B_PINGS, limits, now_ms);
    case NGHTTP2_SETTINGS:
        return weir_h2_watch_take(watch, H2_B_SETTINGS, limits, now_ms);
    case NGHTTP2_PRIORITY:
    case TYPE_PRIORITY_UPDATE:
        return take_priority(watch, limits, now_ms);
    case NGHTTP2_WINDOW_UPDATE:
        return weir_h2_watch_take(watch, H2_B_WINDOWS, limits, now_ms);
    default:
        return weir_h2_watch_take(watch, H2_B_UNKNOWN, limits, now_ms);
    }
}

static size_t take_preface(struct weir_h2_watch *watch, size_t len)
{
    size_t n = len < watch->preface_left ? len : watch->preface_left;

    watch->preface_left -= (uint8_t)n;
    return n;
}

size_t weir_h2_watch_feed(struct weir_h2_watch *watch, const uint8_t *data, size_t len,
                          const struct weir_h2_limits *limits, size_t block_bytes_max,
                          uint64_t now_ms)
{
    size_t at = take_preface(watch, len);

    while (at < len) {
        size_t n = len - at < watch->skip ? len - at : watch->skip;

        at += n;
        watch->skip -= (uint32_t)n;
        n = FRAME_HEADER_BYTES - watch->header_len;
        if (n > len - at)
            n = len - at;
        if (watch->skip || !n)
            continue;
        memcpy(watch->header + watch->header_len, data + at, n);
        watch->header_len += (uint8_t)n;
        if (watch->header_len < FRAME_HEADER_BYTES)
            return len;
        if (!take_frame(watch, limits, block_bytes_max, now_ms))
            return at;
        watch->header_len = 0;
        at += n;
    }
    return len;
}
