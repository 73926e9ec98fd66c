/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_h1_client.c: bytes of an upstream. The first byte says what was asked, the second how the
 * bytes are cut; what the holder learns must not depend on the cuts.
 *
 * fuzz-room: http
 * covers: userspace/http/h1_chunk.c
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

/* The same bytes to a holder that reads slowly, or gives up, and then asks again. */
static void disturb(const uint8_t *data, size_t size)
{
    struct h1_log log;

    h1_log_client(&log, "GET", NULL);
    log.slow = data[1] & 64;
    log.gives_up = data[1] & 128;
    h1_log_feed(&log, data + 2, size - 2);
    weir_codec_drained(&log.h1.codec);
    if (log.slow && log.h1.hs)
        weir_hstream_consume(log.h1.hs, SIZE_MAX);
    if (weir_hstream_done(&log.hs)) {
        weir_assert(weir_codec_idle(&log.h1.codec));
        weir_assert(weir_codec_open(&log.h1.codec, &log.hs) == 0);
        h1_log_feed(&log, data + 2, size - 2); /* an answer to nothing */
    }
    h1_log_fini(&log);
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
    disturb(data, size);
    return 0;
}
