/* SPDX-License-Identifier: Apache-2.0 */
/** test_tcp_move.c: streams that leave their loop for another. */
#include "tcp_kit.h"

#include <poll.h>
#include <pthread.h>

/* A full socket: the rest goes when there is room, and reading on and off in callbacks loses
 * nothing. */
static void test_release_refused(void **state)
{
    static char big[4 << 20];
    struct weir_parcel parcel;
    struct peer a, b;

    pair(&a, &b);
    assert_int_equal(put(&a, big, sizeof(big)), 0);
    assert_false(weir_stream_release(a.stream, &parcel)); /* pending */
    turns(2);
    assert_false(weir_stream_release(b.stream, &parcel)); /* unread */
    weir_stream_read(b.stream, true);
    TURN_UNTIL(b.received == sizeof(big));
    turns(3);
    assert_true(weir_stream_release(b.stream, &parcel));
    TURN_UNTIL(b.closed == 1);
    b = (struct peer){ 0 };
    b.stream = weir_tcp_adopt(&loop, parcel.fd, &sink, &b);
    weir_stream_read(b.stream, true);
    assert_int_equal(put(&a, "again", 5), 0);
    TURN_UNTIL(b.received == 5);
    close_both(&a, &b);
}

/* A stream goes to and fro between two loops in two threads; each reads a byte and passes it on. */
struct hop {
    struct weir_loop loop;
    struct hop *other;
    pthread_t thread;
    struct weir_mail mail;
    struct weir_parcel parcel;
    struct weir_stream *stream;
    int hops, left;
    _Atomic bool *done;
};

static void hop_data(void *arg, const uint8_t *data, size_t len);
static void hop_closed(void *arg);
static void hop_error(void *arg, enum weir_err err, int sys)
{
    fail_msg("%s %d", weir_err_name(err), sys);
}
static void hop_eof(void *arg)
{
    struct hop *hop = arg;

    weir_stream_close(weir_take(&hop->stream), false);
    hop->left = 0;
}
static const struct weir_stream_sink hop_sink = { NULL, hop_data,  hop_eof,
                                                  NULL, hop_error, hop_closed };

static void hop_adopt(struct weir_loop *on, void *arg)
{
    struct hop *hop = arg;

    hop->stream = weir_tcp_adopt(on, hop->parcel.fd, &hop_sink, hop);
    assert_non_null(hop->stream);
    weir_stream_read(hop->stream, true);
}

/* The byte is echoed, then the stream leaves. */
static void hop_data(void *arg, const uint8_t *data, size_t len)
{
    struct hop *hop = arg;
    struct iovec iov = { (void *)data, len };

    hop->hops++;
    assert_true(weir_stream_release(hop->stream, &hop->other->parcel));
    assert_int_equal(write(hop->other->parcel.fd, iov.iov_base, iov.iov_len), len);
    hop->left = 1;
}

static void hop_closed(void *arg)
{
    struct hop *hop = arg;

    if (hop->left) {
        hop->stream = NULL;
        hop->other->mail = (struct weir_mail){ .fn = hop_adopt, .arg = hop->other };
        weir_loop_post(&hop->other->loop, &hop->other->mail);
        return;
    }
    atomic_store(hop->done, true);
    weir_loop_stop(&hop->loop);
    weir_loop_stop(&hop->other->loop);
}

static void *hop_thread(void *arg)
{
    weir_loop_run(&((struct hop *)arg)->loop);
    return NULL;
}

static void test_moves_between_loops(void **state)
{
    _Atomic bool done = false;
    static struct hop hops[2];
    int fds[2];
    char byte = 0;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    for (int i = 0; i < 2; i++) {
        hops[i] = (struct hop){ .other = &hops[!i], .done = &done };
        assert_int_equal(weir_loop_init(&hops[i].loop, (unsigned)i, NULL), 0);
    }
    hops[0].parcel.fd = fds[1];
    hops[0].mail = (struct weir_mail){ .fn = hop_adopt, .arg = &hops[0] };
    for (int i = 0; i < 2; i++)
        pthread_create(&hops[i].thread, NULL, hop_thread, &hops[i]);
    weir_loop_post(&hops[0].loop, &hops[0].mail);
    for (int i = 0; i < 1000; i++) {
        struct pollfd wait = { .fd = fds[0], .events = POLLIN };

        assert_int_equal(write(fds[0], &byte, 1), 1);
        assert_int_equal(poll(&wait, 1, 5000), 1);
        assert_int_equal(read(fds[0], &byte, 1), 1);
        byte++;
    }
    close(fds[0]);
    for (int i = 0; i < 2; i++)
        pthread_join(hops[i].thread, NULL);
    assert_true(atomic_load(&done));
    assert_int_equal(hops[0].hops + hops[1].hops, 1000);
    for (int i = 0; i < 2; i++)
        weir_loop_fini(&hops[i].loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_release_refused),
        cmocka_unit_test(test_moves_between_loops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
