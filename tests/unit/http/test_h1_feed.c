/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Every transcript is fed whole, cut at every point, and byte by byte: what the holder learns must
 * be the same. An input is `before`, `unit` times `times`, `after`; large ones are cut at fewer
 * points.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h1_log.h"

struct transcript {
    const char *name;
    const char *role; /* "server", or the request that the input answers */
    struct weir_str before, unit;
    size_t times;
    struct weir_str after;
    bool eof;
    const char *log;
};

#define T(literal)                     \
    {                                  \
        (literal), sizeof(literal) - 1 \
    }

static const struct transcript requests[] = {
/* clang-format off */
#include "h1_requests.inc"
    /* clang-format on */
};

static const struct transcript answers[] = {
/* clang-format off */
#include "h1_answers.inc"
    /* clang-format on */
};

static uint8_t *input_of(const struct transcript *t, size_t *len)
{
    uint8_t *data = malloc(t->before.len + t->unit.len * t->times + t->after.len + 1), *at = data;

    assert_non_null(data);
    memcpy(at, t->before.ptr, t->before.len);
    at += t->before.len;
    for (size_t i = 0; i < t->times; i++, at += t->unit.len)
        memcpy(at, t->unit.ptr, t->unit.len);
    memcpy(at, t->after.ptr, t->after.len);
    *len = (size_t)(at - data) + t->after.len;
    return data;
}

/* Feeds `data` in pieces that end at `cut` (and everywhere, when `every`), and compares the log. */
static void play(const struct transcript *t, const uint8_t *data, size_t len, size_t cut,
                 bool every)
{
    struct h1_log log;
    bool ok = true;

    if (strcmp(t->role, "server") == 0)
        h1_log_server(&log, NULL);
    else
        h1_log_client(&log, t->role, NULL);
    for (size_t at = 0; ok && at < len && !log.tunnel;) {
        size_t end = every ? at + 1 : at < cut ? cut : len;
        /* A copy of its own size, so that reading past a piece is seen by the sanitizer. */
        uint8_t *piece = malloc(end - at);

        assert_non_null(piece);
        memcpy(piece, data + at, end - at);
        ok = h1_log_feed(&log, piece, end - at);
        free(piece);
        at = end;
    }
    if (t->eof)
        weir_codec_eof(&log.h1.codec, WEIR_OK);
    if (strcmp(log.text, t->log) != 0)
        fail_msg("%s, cut at %zu of %zu%s:\n  got  %s\n  want %s", t->name, cut, len,
                 every ? ", byte by byte" : "", log.text, t->log);
    h1_log_fini(&log);
}

static void play_all(const struct transcript *t)
{
    size_t len, step;
    uint8_t *data = input_of(t, &len);

    step = len > 2000 ? len / 60 : 1;
    play(t, data, len, len, false);
    for (size_t cut = 1; cut < len; cut += step)
        play(t, data, len, cut, false);
    play(t, data, len, 0, true);
    free(data);
}

static void test_requests(void **state)
{
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        play_all(&requests[i]);
}

static void test_answers(void **state)
{
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        play_all(&answers[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
