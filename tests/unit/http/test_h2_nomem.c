/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A client and a server of h2 that talk to each other, while the n-th allocation fails: for every n an exchange ends well,
 * or is told, or its connection is over; nothing breaks and nothing is left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../alloc_wrap.h"
#include "h2_log.h"

static long fail_in; /* 0: never; n: the n-th from now */
static bool failed;

static bool fails_now(void)
{
    if (fail_in <= 0 || --fail_in)
        return false;
    failed = true;
    return true;
}

/* ---- one side each ---- */

enum { WIRE_BYTES = 1 << 20, BODY_BYTES = 150000, EXCHANGES = 3 };

struct side {
    struct weir_h2 *h2;
    struct weir_codec *codec;
    uint8_t *out; /* what it has sent, and the other has not read */
    size_t out_len;
    bool wanted, dead;
};

struct talk {
    struct side client, server;
    struct weir_hstream hs[EXCHANGES];
    struct weir_arena arenas[2 * EXCHANGES];
    struct weir_hstream *down[EXCHANGES];
    unsigned begun, told, answered;
    size_t received;
};

static char body[BODY_BYTES];

static void on_output(void *arg, const struct iovec *iov, int count)
{
    struct side *side = arg;

    for (int i = 0; i < count; i++) {
        assert_true(WIRE_BYTES - side->out_len >= iov[i].iov_len);
        memcpy(side->out + side->out_len, iov[i].iov_base, iov[i].iov_len);
        side->out_len += iov[i].iov_len;
    }
}

static size_t on_pending(void *arg)
{
    return 0;
}

static void on_pause(void *arg, bool pause)
{
}

static void on_wanted(void *arg)
{
    ((struct side *)arg)->wanted = true;
}

static struct talk *talk;

static void on_head(void *arg, struct weir_message *msg)
{
}

static void on_body(void *arg, struct weir_str data)
{
    talk->received += data.len;
    weir_hstream_consume(arg, data.len);
}

static void on_end_client(void *arg)
{
    talk->answered++;
}

static void on_reset(void *arg, const struct weir_error *why)
{
    talk->told++;
}

/* A large answer with trailers; if that is refused the exchange is given up. */
static void on_end_server(void *arg)
{
    struct weir_hstream *hs = arg;
    struct iovec iov = { body, sizeof(body) };
    struct weir_message msg, trailer;

    weir_message_init(&msg, hs->arena, false);
    msg.status = 200;
    msg.body = WEIR_BODY_CHUNKED;
    weir_message_init(&trailer, hs->arena, false);
    if (weir_message_push(&msg, WEIR_F_OTHER, WEIR_STR("x-name"), WEIR_STR("value")) ||
        weir_message_push(&trailer, WEIR_F_OTHER, WEIR_STR("x-trailer"), WEIR_STR("value")) ||
        weir_hstream_send(hs, &msg, NULL, 0, NULL, 0) ||
        weir_hstream_send(hs, NULL, &iov, 1, &trailer, WEIR_SEND_END))
        weir_hstream_reset(hs, WEIR_ENOMEM);
}

static const struct weir_hstream_sink client_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_trailer = on_head,
    .on_end = on_end_client,
    .on_reset = on_reset,
};

static const struct weir_hstream_sink server_sink = {
    .on_head = on_head,
    .on_body = on_body,
    .on_trailer = on_head,
    .on_end = on_end_server,
    .on_reset = on_reset,
};

static int on_begin(void *arg, struct weir_hstream *hs)
{
    if (talk->begun == EXCHANGES)
        return WEIR_EOVERLOAD;
    hs->sink = &server_sink;
    hs->arg = hs;
    hs->arena = &talk->arenas[EXCHANGES + talk->begun];
    talk->down[talk->begun++] = hs;
    return 0;
}

static const struct weir_codec_sink codec_sink = {
    .on_output = on_output,
    .on_pending = on_pending,
    .on_pause = on_pause,
    .on_begin = on_begin,
    .on_wanted = on_wanted,
};

static void flush(struct side *side)
{
    for (int i = 0; i < 4 && side->wanted; i++) {
        side->wanted = false;
        weir_codec_flush(side->codec);
    }
}

static void carry(struct side *from, struct side *to)
{
    size_t len = from->out_len;

    from->out_len = 0;
    if (len && !to->dead)
        to->dead = weir_codec_feed(to->codec, from->out, len) < 0;
    if (from->dead || weir_codec_over(from->codec)) {
        weir_codec_eof(to->codec, WEIR_ERESET);
        to->dead = true;
    }
    flush(to);
}

static void request(struct weir_hstream *hs, struct weir_arena *arena)
{
    struct iovec iov = { body, 9000 };
    struct weir_message msg;

    *hs = (struct weir_hstream){ .sink = &client_sink, .arg = hs, .arena = arena };
    if (weir_codec_open(talk->client.codec, hs)) {
        hs->codec = NULL;
        talk->told++;
        return;
    }
    weir_message_init(&msg, arena, true);
    msg.method = WEIR_STR("POST");
    msg.method_id = WEIR_M_POST;
    msg.path = WEIR_STR("/");
    msg.query = WEIR_STR("q");
    msg.host = WEIR_STR("a.test");
    msg.body = WEIR_BODY_CHUNKED;
    if (weir_message_push(&msg, WEIR_F_COOKIE, WEIR_STR("cookie"), WEIR_STR("a=b; c=d")) ||
        weir_hstream_send(hs, &msg, &iov, 1, NULL, WEIR_SEND_END)) {
        weir_hstream_reset(hs, WEIR_ENOMEM);
        talk->told++;
    }
}

static void converse(struct weir_h2_shared *shared)
{
    talk->client.h2 = weir_h2_new_client(shared, NULL, NULL, &codec_sink, &talk->client);
    if (!talk->client.h2)
        return;
    talk->client.codec = weir_h2_codec(talk->client.h2);
    talk->server.h2 = weir_h2_new_server(shared, NULL, NULL, &codec_sink, &talk->server);
    if (!talk->server.h2)
        return;
    talk->server.codec = weir_h2_codec(talk->server.h2);
    for (int i = 0; i < EXCHANGES; i++)
        request(&talk->hs[i], &talk->arenas[i]);
    flush(&talk->client);
    for (int i = 0; i < 40 && talk->answered + talk->told < EXCHANGES; i++) {
        carry(&talk->client, &talk->server);
        carry(&talk->server, &talk->client);
    }
}

/* False: there was no n-th allocation. */
static bool run(long n)
{
    uint64_t now_ms = 1;
    struct weir_buf_cache bufs;
    struct weir_h2_shared shared;
    struct talk it = { .begun = 0 };

    talk = &it;
    it.client.out = malloc(WIRE_BYTES);
    it.server.out = malloc(WIRE_BYTES);
    assert_true(it.client.out && it.server.out);
    for (int i = 0; i < 2 * EXCHANGES; i++)
        weir_arena_init(&it.arenas[i], NULL);
    weir_buf_cache_init(&bufs);
    failed = false;
    fail_in = n;
    if (weir_h2_shared_init(&shared, &bufs, &now_ms) == 0) {
        converse(&shared);
        if (it.client.h2 && it.server.h2)
            assert_true(it.answered + it.told >= EXCHANGES);
        if (!failed)
            assert_true(it.answered == EXCHANGES &&
                        it.received == EXCHANGES * (sizeof(body) + 9000));
        for (int i = 0; i < EXCHANGES; i++)
            if (it.hs[i].codec)
                (void)weir_hstream_done(&it.hs[i]);
        for (unsigned i = 0; i < it.begun; i++)
            (void)weir_hstream_done(it.down[i]);
        if (it.client.h2)
            weir_h2_free(it.client.h2);
        if (it.server.h2)
            weir_h2_free(it.server.h2);
        weir_h2_shared_fini(&shared);
    }
    fail_in = 0;
    weir_buf_cache_fini(&bufs);
    for (int i = 0; i < 2 * EXCHANGES; i++)
        weir_arena_fini(&it.arenas[i]);
    free(it.client.out);
    free(it.server.out);
    return failed;
}

static void test_no_memory(void **state)
{
    long n = 1;

    while (run(n))
        n++;
    print_message("%ld allocations\n", n - 1);
    assert_in_range(n, 50, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
