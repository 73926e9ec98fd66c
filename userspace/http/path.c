/* SPDX-License-Identifier: Apache-2.0 */
/** path.c: escapes and dot segments of a request path, RFC 3986 6.2.2. One pass decodes, one
 * removes segments. */
#include "http/path.h"

#include "base/str.h"
#include "http/guard.h"

static bool is_unreserved(char c)
{
    return (weir_lower(c) >= 'a' && weir_lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static unsigned hex_value(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

static char hex_upper(char c)
{
    return c >= 'a' ? (char)(c - 0x20) : c;
}

/* Can a rule of ours touch this path? Most cannot, and are left where they are. */
static bool is_plain(struct weir_str path)
{
    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];

        if (c == '%' || c == '\\' || (uint8_t)c <= ' ' || c == 0x7f)
            return false;
        if (c == '/' && i + 1 < path.len && (path.ptr[i + 1] == '/' || path.ptr[i + 1] == '.'))
            return false;
    }
    return true;
}

/* Decodes unreserved escapes, makes others upper case; *len is what was written. */
static int decode(struct weir_str path, bool strict, char *out, size_t *len)
{
    size_t n = 0;

    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];
        unsigned value;

        if (c == '\\' || (uint8_t)c <= ' ' || c == 0x7f)
            return WEIR_EBADPATH;
        if (c != '%') {
            out[n++] = c;
            continue;
        }
        if (path.len - i < 3 || !weir_is_hex(path.ptr[i + 1]) || !weir_is_hex(path.ptr[i + 2]))
            return WEIR_EBADPATH;
        value = hex_value(path.ptr[i + 1]) * 16 + hex_value(path.ptr[i + 2]);
        if (value == 0 || value == '\\' || (strict && value == '/'))
            return WEIR_EBADPATH;
        if (is_unreserved((char)value)) {
            out[n++] = (char)value;
        } else {
            out[n++] = '%';
            out[n++] = hex_upper(path.ptr[i + 1]);
            out[n++] = hex_upper(path.ptr[i + 2]);
        }
        i += 2;
    }
    *len = n;
    return 0;
}

static bool is_dots(const char *segment, size_t len, size_t dots)
{
    return len == dots && memcmp(segment, "..", dots) == 0;
}

/* RFC 3986 5.2.4 in place: what would climb above the root stays at the root. */
static int remove_dots(char *text, size_t *len, bool strict)
{
    size_t out = 0, at = 0;

    while (at < *len) { /* text[at] is the '/' of a segment */
        size_t end = at + 1;
        bool one, two;

        while (end < *len && text[end] != '/')
            end++;
        one = is_dots(text + at + 1, end - at - 1, 1);
        two = is_dots(text + at + 1, end - at - 1, 2);
        if (strict && (one || two || (end == at + 1 && end < *len)))
            return WEIR_EBADPATH;
        if (two)
            while (out > 0 && text[--out] != '/')
                continue;
        if (!one && !two) {
            memmove(text + out, text + at, end - at);
            out += end - at;
        } else if (end == *len) {
            text[out++] = '/';
        }
        at = end;
    }
    *len = out;
    return 0;
}

int weir_path_apply(enum weir_paths how, struct weir_str *path, struct weir_arena *arena)
{
    bool strict = how == WEIR_PATHS_STRICT;
    size_t len;
    char *text;
    int err;

    if (how == WEIR_PATHS_RAW || path->len == 0 || path->ptr[0] != '/' || is_plain(*path))
        return 0;
    text = weir_arena_text(arena, path->len);
    if (!text)
        return WEIR_ENOMEM;
    err = decode(*path, strict, text, &len);
    if (!err)
        err = remove_dots(text, &len, strict);
    if (err)
        return err;
    *path = (struct weir_str){ text, len };
    return 0;
}

bool weir_path_under(struct weir_str path, struct weir_str prefix)
{
    size_t len = prefix.len;

    if (len && prefix.ptr[len - 1] == '/')
        len--;
    if (path.len < len || (len && memcmp(path.ptr, prefix.ptr, len) != 0))
        return false;
    return path.len == len ? len > 0 : path.ptr[len] == '/';
}
