/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_proxyproto.c: what is said of a header is said of every longer text too; what was understood, and is written in either
 * version, is understood again as the same.
 *
 * fuzz-room: net
 * covers: userspace/net/proxyproto.c
 */
#include "base/panic.h"
#include "fuzz.h"
#include "net/proxyproto.h"
#include "weir/limits.h"

#include <string.h>

static void same_ip(const struct weir_addr *a, const struct weir_addr *b)
{
    uint8_t left[16], right[16];

    weir_assert(weir_addr_bytes(a, left) && weir_addr_bytes(b, right));
    weir_assert(!memcmp(left, right, 16) && weir_addr_port(a) == weir_addr_port(b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir_pp_header header, again;
    enum weir_pp verdict = weir_pp_parse(data, size, &header), before;
    uint8_t out[WEIR_PP_OUT_BYTES_MAX];

    before = weir_pp_parse(data, size / 2, &again);
    if (before != WEIR_PP_MORE)
        weir_assert(before == verdict);
    if (verdict == WEIR_PP_MORE)
        weir_assert(size < WEIR_HELLO_BYTES_MAX);
    if (verdict != WEIR_PP_DONE)
        return 0;
    weir_assert(header.len > 0 && header.len <= size);
    for (int version = WEIR_PP_V1; version <= WEIR_PP_V2; version++) {
        struct weir_pp_out what = { .version = version };
        size_t len;

        if (header.known) {
            what.from = &header.from;
            what.to = &header.to;
        }
        len = weir_pp_make(&what, out);
        weir_assert(len <= sizeof(out));
        weir_assert(weir_pp_parse(out, len, &again) == WEIR_PP_DONE);
        weir_assert(again.len == len && again.known == header.known);
        if (again.known) {
            same_ip(&again.from, &header.from);
            same_ip(&again.to, &header.to);
        }
    }
    return 0;
}
