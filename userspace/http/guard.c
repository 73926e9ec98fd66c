/* SPDX-License-Identifier: Apache-2.0 */
/**
 * guard.c: the structural scan of a head, before the parser sees it, and the alphabets of names,
 * values and hosts.
 *
 * It runs over every byte of every request, so it looks for the next control 16 bytes at a time: a
 * good head has no other than the CR LF of its lines. A verdict depends on the bytes alone, never
 * on how they were cut into reads: lines are judged when they are whole, single bytes as they are
 * met, sizes at the byte that exceeds them.
 */
#include "http/guard.h"

#include "base/panic.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* tchar of RFC 9110 5.6.2 */
/* clang-format off */
static const bool token_char[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1,
    ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1,
    ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1,
    ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1, ['G'] = 1, ['H'] = 1, ['I'] = 1, ['J'] = 1,
    ['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1, ['O'] = 1, ['P'] = 1, ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1,
    ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1, ['Y'] = 1, ['Z'] = 1,
    ['a'] = 1, ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1, ['g'] = 1, ['h'] = 1, ['i'] = 1, ['j'] = 1,
    ['k'] = 1, ['l'] = 1, ['m'] = 1, ['n'] = 1, ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1,
    ['u'] = 1, ['v'] = 1, ['w'] = 1, ['x'] = 1, ['y'] = 1, ['z'] = 1,
};
/* clang-format on */

static bool is_control(uint8_t c)
{
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

#ifdef __SSE2__
/* A bit for each of 16 bytes that is a control. */
static unsigned controls_of(__m128i text)
{
    const __m128i top = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(text, top), text);

    return (unsigned)_mm_movemask_epi8(
        _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(text, tab), low), _mm_cmpeq_epi8(text, del)));
}

/* Of 4 to 15 bytes: the first and the last 8 (or 4) are looked at together, though they overlap. */
static const uint8_t *next_control_short(const uint8_t *at, const uint8_t *end)
{
    uint64_t first, last = UINT64_C(0x2020202020202020);
    int half = end - at >= 8 ? 8 : 4, lane;
    unsigned mask;

    if (half == 8) {
        memcpy(&first, at, 8);
        memcpy(&last, end - 8, 8);
    } else {
        memcpy(&first, at, 4);
        memcpy((char *)&first + 4, end - 4, 4);
    }
    mask = controls_of(_mm_set_epi64x((long long)last, (long long)first));
    if (!mask)
        return end;
    lane = __builtin_ctz(mask);
    return lane < half ? at + lane : end - 2 * half + lane;
}
#endif

/* The first control (but HTAB) of [at, end), or end. */
static const uint8_t *next_control(const uint8_t *at, const uint8_t *end)
{
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        unsigned mask = controls_of(_mm_loadu_si128((const __m128i *)(const void *)at));

        if (mask)
            return at + __builtin_ctz(mask);
    }
    if (end - at >= 4)
        return next_control_short(at, end);
#endif
    while (at < end && !is_control(*at))
        at++;
    return at;
}

/* name ":" anything: no obs-fold, no empty name, no space before the colon. The line has no
 * controls. */
static bool field_line_ok(const uint8_t *line, size_t len)
{
    size_t name = 0;

    while (name < len && token_char[line[name]])
        name++;
    return name > 0 && name < len && line[name] == ':';
}

/* Goes over whole lines from `*seen`. The first of the section, at `start`, may be at most
 * `first_max` long; 0: it is a field. */
static ssize_t guard_lines(const uint8_t *data, size_t len, size_t start, size_t first_max,
                           size_t *seen)
{
    const uint8_t *end = data + len;
    size_t line = *seen > start ? *seen : start;

    for (;;) {
        const uint8_t *at = next_control(data + line, end);
        size_t size = (size_t)(at - data) - line;
        bool first = first_max && line == start;
        enum weir_err bad = first ? WEIR_EBADLINE : WEIR_EBADHEADER;

        if (first && size > first_max)
            return WEIR_EURISIZE;
        if (at < end && *at != '\r')
            return bad;
        if (end - at < 2) {
            *seen = line;
            return 0;
        }
        if (at[1] != '\n')
            return bad;
        if (size == 0)
            return first ? bad : at + 2 - data;
        if (!first && !field_line_ok(data + line, size))
            return bad;
        line += size + 2;
    }
}

/* Empty lines before a request: 0, WEIR_EAGAIN when the first byte of its line has not come, or an
 * error. */
static int skip_empty_lines(const uint8_t *data, size_t len, size_t *skip)
{
    while (*skip < len && data[*skip] == '\r') {
        if (*skip >= 2 * WEIR_LEADING_CRLF_MAX)
            return WEIR_EBADLINE;
        if (len - *skip < 2)
            return WEIR_EAGAIN;
        if (data[*skip + 1] != '\n')
            return WEIR_EBADLINE;
        *skip += 2;
    }
    return *skip < len ? 0 : WEIR_EAGAIN;
}

ssize_t weir_guard_head(const uint8_t *data, size_t len, bool request,
                        const struct weir_guard_limits *limits, size_t *seen, size_t *skip)
{
    size_t head_max = limits && limits->head_bytes ? limits->head_bytes : WEIR_HEADERS_BYTES_MAX;
    size_t first_max = SIZE_MAX;
    ssize_t n;

    if (request) {
        int err = skip_empty_lines(data, len, skip);

        if (err)
            return err == WEIR_EAGAIN ? 0 : err;
        first_max = limits && limits->target_bytes ? limits->target_bytes : WEIR_TARGET_BYTES_MAX;
        first_max += WEIR_METHOD_BYTES_MAX + sizeof("  HTTP/1.1") - 1;
    }
    n = guard_lines(data, len - *skip > head_max ? *skip + head_max : len, *skip, first_max, seen);
    return n == 0 && len - *skip >= head_max ? WEIR_EHDRSIZE : n;
}

ssize_t weir_guard_section(const uint8_t *data, size_t len, size_t bytes_max, size_t *seen)
{
    ssize_t n = guard_lines(data, len > bytes_max ? bytes_max : len, 0, 0, seen);

    return n == 0 && len >= bytes_max ? WEIR_EHDRSIZE : n;
}

bool weir_guard_value(struct weir_str value)
{
    const uint8_t *text = (const uint8_t *)value.ptr;

    return value.len == 0 || next_control(text, text + value.len) == text + value.len;
}

bool weir_guard_name(struct weir_str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!token_char[(uint8_t)name.ptr[i]])
            return false;
    return name.len > 0;
}

static bool port_ok(struct weir_str port)
{
    uint64_t number = 0;

    return port.len == 0 || (port.len <= 5 && weir_str_to_u64(port, &number) && number <= 65535);
}

/* IP-literal: hex, colons and dots; whether it is an address shows when it is used. */
static bool literal_ok(struct weir_str host, struct weir_str *rest)
{
    size_t i = 1;

    while (i < host.len && (weir_is_hex(host.ptr[i]) || host.ptr[i] == ':' || host.ptr[i] == '.'))
        i++;
    if (i < 3 || i == host.len || host.ptr[i] != ']')
        return false;
    *rest = (struct weir_str){ host.ptr + i + 1, host.len - i - 1 };
    return true;
}

/* unreserved and sub-delims of RFC 3986 */
/* clang-format off */
static const bool reg_char[256] = {
    ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['-'] = 1, ['.'] = 1, ['_'] = 1, ['~'] = 1,
    ['!'] = 1, ['$'] = 1, ['&'] = 1, ['\''] = 1, ['('] = 1, [')'] = 1, ['*'] = 1, ['+'] = 1, [','] = 1, [';'] = 1, ['='] = 1,
};
/* clang-format on */

/* reg-name: unreserved, sub-delims, pct-encoded. */
static bool name_ok(struct weir_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (reg_char[(uint8_t)c])
            continue;
        if (c != '%' || name.len - i < 3 || !weir_is_hex(name.ptr[i + 1]) ||
            !weir_is_hex(name.ptr[i + 2]))
            return false;
        i += 2;
    }
    return true;
}

bool weir_guard_host(struct weir_str host, bool empty)
{
    struct weir_str rest;

    if (host.len == 0)
        return empty;
    if (host.ptr[0] == '[') {
        if (!literal_ok(host, &rest))
            return false;
        return rest.len == 0 ||
               (rest.ptr[0] == ':' && port_ok((struct weir_str){ rest.ptr + 1, rest.len - 1 }));
    }
    host = weir_str_cut(host, ':', &rest);
    return (host.len > 0) && name_ok(host) && (rest.ptr == NULL || port_ok(rest));
}

enum weir_err weir_upstream_name(enum weir_err err)
{
    switch (err) {
    case WEIR_EHDRSIZE:
    case WEIR_EHDRCOUNT:
        return WEIR_EUPSIZE;
    case WEIR_EBADTE:
    case WEIR_EBADCL:
    case WEIR_ETENOTIMPL:
    case WEIR_EBADCHUNK:
    case WEIR_EBADTRAILER:
    case WEIR_EBADFRAME:
    case WEIR_EFLOOD:
        return WEIR_EUPFRAMING;
    case WEIR_EBADREQ:
    case WEIR_EBADLINE:
    case WEIR_EBADHEADER:
    case WEIR_EVERSION:
    case WEIR_EBADTARGET:
    case WEIR_EURISIZE:
        return WEIR_EUPHEAD;
    default:
        return err;
    }
}
