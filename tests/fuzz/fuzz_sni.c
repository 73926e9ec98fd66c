/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_sni.c: what is said of a ClientHello is said of every longer text too, and of none of its beginnings; a name is one.
 *
 * fuzz-room: net
 * covers: userspace/net/sni.c
 */
#include "base/panic.h"
#include "fuzz.h"
#include "net/sni.h"
#include "weir/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir_sni sni, again;
    enum weir_hello verdict = weir_sni_peek(data, size, &sni), before;

    before = weir_sni_peek(data, size / 2, &again);
    if (before != WEIR_HELLO_MORE)
        weir_assert(before == verdict);
    if (verdict == WEIR_HELLO_MORE)
        weir_assert(size < WEIR_HELLO_BYTES_MAX);
    if (verdict == WEIR_HELLO_NAME) {
        weir_assert(sni.len > 0 && sni.name[sni.len - 1] != '.' && sni.name[0] != '.');
        for (unsigned i = 0; i < sni.len; i++)
            weir_assert(sni.name[i] > ' ' && sni.name[i] < 127);
    }
    return 0;
}
