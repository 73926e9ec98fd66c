/* SPDX-License-Identifier: Apache-2.0 */
/** utf8.h: is it UTF-8 (RFC 3629: shortest form, no surrogates, nothing above U+10FFFF)? Also of
 * text that comes in pieces. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "weir/types.h"

/**
 * One byte more. The state begins with 0, and is 0 between two characters: how many bytes are still
 * to come (bits 0-1), and the bounds of the next one (bits 8-15, 16-23). False: not UTF-8.
 */
static inline bool weir_utf8_step(uint32_t *state, uint8_t c)
{
    uint32_t low = 0x80, high = 0xbf, more;

    if (*state) {
        more = *state & 3;
        if (c < (*state >> 8 & 0xff) || c > (*state >> 16 & 0xff))
            return false;
        *state = more > 1 ? (more - 1) | low << 8 | high << 16 : 0;
        return true;
    }
    if (c < 0x80)
        return true;
    if (c < 0xc2 || c > 0xf4)
        return false;
    more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    *state = more | low << 8 | high << 16;
    return true;
}

/** The length of the character that begins at `s`, of which `left` bytes are there; 0: none does. */
static inline size_t weir_utf8_len(const unsigned char *s, size_t left)
{
    uint32_t state = 0;

    for (size_t i = 0; i < left && weir_utf8_step(&state, s[i]); i++)
        if (state == 0)
            return i + 1;
    return 0;
}

/** All of it, with no character cut at the end? */
static inline bool weir_utf8_good(const uint8_t *data, size_t len)
{
    uint32_t state = 0;

    for (size_t i = 0; i < len; i++)
        if (!weir_utf8_step(&state, data[i]))
            return false;
    return state == 0;
}

#endif
