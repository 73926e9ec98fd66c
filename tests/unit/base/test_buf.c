/* SPDX-License-Identifier: Apache-2.0 */
/** test_buf.c: the byte queue against a flat array, through random appends, consumes, peeks and
 * splices. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MODEL_MAX = 1 << 20, PIECE_MAX = 48 * 1024 };

struct model {
    struct weir_buf buf;
    char bytes[MODEL_MAX];
    size_t len;
};

static uint64_t seed = 42;
static char piece[PIECE_MAX];
static char next_byte;

static size_t rnd(size_t below)
{
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (size_t)(seed >> 33) % below;
}

static size_t random_len(void)
{
    static const size_t most[] = { 2, 100, 1100, 5000, 20000, PIECE_MAX };

    return rnd(most[rnd(6)]);
}

static void fill(size_t len)
{
    for (size_t i = 0; i < len; i++)
        piece[i] = next_byte++;
}

static void model_append(struct model *m, size_t len)
{
    if (m->len + len > MODEL_MAX)
        return;
    fill(len);
    memcpy(m->bytes + m->len, piece, len);
    m->len += len;
    assert_int_equal(weir_buf_append(&m->buf, piece, len), 0);
}

static void model_append_iov(struct model *m, size_t len)
{
    size_t skip = len ? rnd(len + 1) : 0, cut = len ? rnd(len) : 0;
    struct iovec iov[3] = { { piece, cut }, { piece + cut, 0 }, { piece + cut, len - cut } };

    if (m->len + len > MODEL_MAX)
        return;
    fill(len);
    memcpy(m->bytes + m->len, piece + skip, len - skip);
    m->len += len - skip;
    assert_int_equal(weir_buf_append_iov(&m->buf, iov, 3, skip), 0);
}

static void model_consume(struct model *m, size_t len)
{
    if (len > m->len)
        len = m->len;
    memmove(m->bytes, m->bytes + len, m->len - len);
    m->len -= len;
    weir_buf_consume(&m->buf, len);
}

static void model_check(struct model *m, size_t skip)
{
    struct iovec iov[256];
    int n = weir_buf_peek(&m->buf, skip, iov, 256);
    size_t at = skip;

    assert_int_equal(m->buf.len, m->len);
    assert_true((m->len == 0) == (m->buf.first == NULL)); /* an empty queue holds no memory */
    for (int i = 0; i < n; i++) {
        assert_true(iov[i].iov_len > 0 && at + iov[i].iov_len <= m->len);
        assert_memory_equal(iov[i].iov_base, m->bytes + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    if (n < 256)
        assert_int_equal(at, skip > m->len ? skip : m->len);
}

static void model_splice(struct model *to, struct model *from)
{
    if (to->len + from->len > MODEL_MAX)
        return;
    memcpy(to->bytes + to->len, from->bytes, from->len);
    to->len += from->len;
    from->len = 0;
    weir_buf_splice(&to->buf, &from->buf);
}

static void behaves_like_an_array(void **state)
{
    static struct model models[2];
    struct weir_buf_cache cache;

    weir_buf_cache_init(&cache);
    for (int i = 0; i < 2; i++) {
        weir_buf_init(&models[i].buf, &cache);
    }
    for (int step = 0; step < 20000; step++) {
        struct model *m = &models[rnd(2)], *other = &models[m == &models[0]];

        switch (rnd(7)) {
        case 0:
        case 1:
            model_append(m, random_len());
            break;
        case 2:
            model_append_iov(m, random_len());
            break;
        case 3:
        case 4:
        case 5:
            model_consume(m, rnd(8) ? random_len() : m->len);
            break;
        default:
            model_splice(m, other);
        }
        if (step % 8 == 0)
            model_check(m, rnd(4) || !m->len ? 0 : rnd(m->len));
    }
    for (int i = 0; i < 2; i++) {
        weir_buf_clear(&models[i].buf);
        assert_int_equal(models[i].buf.len, 0);
    }
    assert_int_equal(cache.chunks.used, 0);
    weir_buf_cache_fini(&cache);
}

static void big_chunks_come_back_from_the_cache(void **state)
{
    struct weir_buf_cache cache;
    struct weir_buf buf;
    struct weir_chunk *first;

    weir_buf_cache_init(&cache);
    weir_buf_init(&buf, &cache);
    fill(PIECE_MAX);
    assert_int_equal(weir_buf_append(&buf, piece, 12000), 0);
    first = buf.first;
    weir_buf_consume(&buf, 12000);
    assert_int_equal(cache.chunks.used, 0);
    assert_int_equal(weir_buf_append(&buf, piece, 16000), 0);
    assert_ptr_equal(buf.first, first);
    assert_int_equal(cache.chunks.used, 1);
    weir_buf_clear(&buf);
    weir_buf_cache_fini(&cache);
}

static void peek_stops_at_max(void **state)
{
    struct weir_buf buf;
    struct iovec iov[1];

    weir_buf_init(&buf, NULL);
    assert_int_equal(weir_buf_peek(&buf, 0, iov, 1), 0);
    fill(PIECE_MAX);
    assert_int_equal(weir_buf_append(&buf, piece, PIECE_MAX), 0);
    assert_int_equal(weir_buf_peek(&buf, 0, iov, 1), 1);
    assert_memory_equal(iov[0].iov_base, piece, iov[0].iov_len);
    assert_int_equal(weir_buf_peek(&buf, PIECE_MAX, iov, 1), 0);
    assert_int_equal(weir_buf_append(&buf, NULL, 0), 0);
    weir_buf_clear(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_an_array),
        cmocka_unit_test(big_chunks_come_back_from_the_cache),
        cmocka_unit_test(peek_stops_at_max),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
