/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_h1_client.c: bytes of an upstream. The first byte says what was asked, the second how the
 * bytes are cut; what the holder learns must not depend on the cuts.
 *
 * fuzz-room: http
 * covers: userspace/http/h1_head.c, userspace/http/h1_chunk.c
 */
#include "fuzz.h"
#include "http/h1_log.h"

static void play(struct h1_log *log, const char *asked, const uint8_t *data, size_t size,
                 size_t step)
{
    bool ok = true;

    h1_log_client(log, asked, NULL);
    for (size_t at = 0; ok && !log->tunnel && at < size; at += step)
        ok = h1_log_feed(log, data + at, size - at < step ? size - at : step);
    weir_codec_eof(&log->h1.codec, WEIR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const asked[] = { "GET", "HEAD", "ws", "CONNECT" };
    struct h1_log whole, cut;

    if (size < 3)
        return 0;
    play(&whole, asked[data[0] % 4], data + 2, size - 2, size);
    play(&cut, asked[data[0] % 4], data + 2, size - 2, data[1] % 64 + 1u);
    weir_assert(strcmp(whole.text, cut.text) == 0);
    h1_log_fini(&whole);
    h1_log_fini(&cut);
    return 0;
}
