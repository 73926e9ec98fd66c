/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_guard.c: the structural scan against a slow one written from the grammar, whole and as it
 * grows by a byte; and the alphabets. The first byte chooses the role.
 *
 * fuzz-room: http
 * covers: userspace/http/guard.c
 */
#include "base/panic.h"
#include "fuzz.h"
#include "http/guard.h"

#include <stdlib.h>

static bool is_token(uint8_t c)
{
    return c > ' ' && c < 0x7f && !memchr("\"(),/:;<=>?@[\\]{}", c, 17);
}

/* The end of a good line at `at`: its CR, or 0 (bad, or cut). A first line has no rule here but its
 * bytes. */
static size_t line_end(const uint8_t *data, size_t len, size_t at, bool field)
{
    size_t name = at;

    if (field) {
        while (name < len && is_token(data[name]))
            name++;
        if (name == at || name == len || data[name] != ':')
            return 0;
    }
    while (at < len && (data[at] == '\t' || (data[at] >= ' ' && data[at] != 0x7f)))
        at++;
    return at + 1 < len && data[at] == '\r' && data[at + 1] == '\n' ? at : 0;
}

/* Length of a good head, or 0. */
static size_t slow_head(const uint8_t *data, size_t len, bool request)
{
    size_t at = 0;
    bool first = true;

    while (request && at < 2 * WEIR_LEADING_CRLF_MAX && len - at >= 2 && data[at] == '\r' &&
           data[at + 1] == '\n')
        at += 2;
    for (;;) {
        size_t end;

        if (!first && len - at >= 2 && data[at] == '\r' && data[at + 1] == '\n')
            return at + 2;
        end = line_end(data, len, at, !first);
        if (end == 0 || end == at)
            return 0;
        at = end + 2;
        first = false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir_str text = { (const char *)data + 1, size - 1 };
    bool request;
    size_t seen = 0, skip = 0, head, step;
    ssize_t n, grown = 0;

    if (size < 2 || size > 16 * 1024)
        return 0;
    request = data[0] & 1;
    n = weir_guard_head(data + 1, size - 1, request, NULL, &seen, &skip);
    head = slow_head(data + 1, size - 1, request);
    weir_assert(head ? n == (ssize_t)head : n <= 0);

    step = size > 512 ? 31 : 1;
    seen = skip = 0;
    for (size_t len = 1; grown == 0 && len < size; len += step)
        grown = weir_guard_head(data + 1, len, request, NULL, &seen, &skip);
    if (grown == 0)
        grown = weir_guard_head(data + 1, size - 1, request, NULL, &seen, &skip);
    weir_assert(grown == n);
    if (n < 0 && !request) /* is not told as the client's fault */
        weir_assert(weir_upstream_name((enum weir_err)n) <= WEIR_ENOPEER);

    seen = 0;
    (void)weir_guard_section(data + 1, size - 1, WEIR_TRAILERS_BYTES_MAX, &seen);
    if (weir_guard_name(text)) /* a token is a value, too */
        weir_assert(weir_guard_value(text));
    if (weir_guard_host(text, false))
        weir_assert(weir_guard_value(text) && !memchr(text.ptr, '/', text.len) &&
                    !memchr(text.ptr, '@', text.len));
    return 0;
}
