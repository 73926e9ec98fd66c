/* SPDX-License-Identifier: Apache-2.0 */
/** test_loop.c: turns, timers, letters between threads, libuv inside. */
#include "base/clock.h"
#include "net/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { SENDERS = 4, LETTERS = 5000 };

static struct weir_loop loop;

static int setup(void **state)
{
    return weir_loop_init(&loop, 3, NULL);
}

static int teardown(void **state)
{
    weir_loop_fini(&loop);
    return 0;
}

static void on_timer(struct weir_timer *timer, void *arg)
{
    ++*(int *)arg;
}

static void test_timer(void **state)
{
    struct weir_timer timer = { 0 }, never = { 0 };
    int fired = 0, turns = 0;
    uint64_t start;

    weir_loop_turn(&loop, 0);
    start = loop.now_us; /* what timers count from */
    weir_loop_timer(&loop, &timer, 30, on_timer, &fired);
    weir_loop_timer(&loop, &never, 10, on_timer, &fired);
    weir_timer_stop(&loop.wheel, &never);
    while (!fired && turns++ < 100)
        weir_loop_turn(&loop, -1);
    assert_int_equal(fired, 1);
    assert_true(weir_clock_us() - start >= 29 * 1000);
    assert_true(turns < 10); /* it waits, it does not spin */
}

static void test_max_ms(void **state)
{
    uint64_t start = weir_clock_us(), busy = weir_counter_read(&loop.busy_us);

    weir_loop_turn(&loop, 20);
    weir_loop_turn(&loop, 0);
    assert_true(weir_clock_us() - start >= 19 * 1000);
    assert_true(weir_counter_read(&loop.busy_us) - busy <
                19 * 1000); /* waiting is not being busy */
}

/* Order and turns of what is put off. */
static struct weir_later laters[4];
static int order[16], ordered;

static void on_later(void *arg)
{
    order[ordered++] = (int)((struct weir_later *)arg - laters);
}

static void on_later_again(void *arg)
{
    on_later(arg);
    weir_loop_defer(&loop, arg, on_later, arg);
}

static void test_deferred(void **state)
{
    ordered = 0;
    weir_loop_defer(&loop, &laters[0], on_later_again, &laters[0]);
    weir_loop_defer(&loop, &laters[1], on_later, &laters[1]);
    weir_loop_defer(&loop, &laters[2], on_later, &laters[2]);
    weir_later_cancel(&laters[2]);
    weir_later_cancel(&laters[2]);
    weir_later_cancel(&laters[3]); /* never queued */
    assert_int_equal(ordered, 0);
    weir_loop_turn(&loop, -1); /* does not block */
    assert_int_equal(ordered, 2);
    assert_true(weir_later_queued(&laters[0]));
    weir_loop_turn(&loop, -1);
    assert_int_equal(ordered, 3);
    assert_int_equal(order[0], 0);
    assert_int_equal(order[1], 1);
    assert_int_equal(order[2], 0);
}

/* What one that is deferred puts off to the last still runs in its turn, behind the other ones; what one of the last puts
 * off runs in the next. */
static void on_last_again(void *arg)
{
    on_later(arg);
    weir_loop_defer_last(&loop, arg, on_later, arg);
}

static void on_later_and_last(void *arg)
{
    on_later(arg);
    weir_loop_defer_last(&loop, &laters[2], on_last_again, &laters[2]);
}

static void test_deferred_last(void **state)
{
    static const int want[] = { 0, 1, 2, 2 };

    ordered = 0;
    weir_loop_defer(&loop, &laters[0], on_later_and_last, &laters[0]);
    weir_loop_defer(&loop, &laters[1], on_later, &laters[1]);
    weir_loop_turn(&loop, -1);
    assert_int_equal(ordered, 3);
    weir_loop_turn(&loop, -1); /* does not block */
    assert_int_equal(ordered, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(order[i], want[i]);
}

/* A task that takes the whole time of a turn. */
static void on_long(void *arg)
{
    uint64_t start = weir_clock_us();

    while (weir_clock_us() - start <= WEIR_HEAVY_TURN_US)
        ;
    on_later(arg);
}

static void test_heavy(void **state)
{
    ordered = 0;
    for (int i = 0; i < 4; i++)
        weir_loop_heavy(&loop, &laters[i], on_long, &laters[i]);
    weir_later_cancel(&laters[1]);
    for (int i = 0; i < 3; i++) {
        weir_loop_turn(&loop, -1);
        assert_int_equal(ordered, i + 1); /* one a turn */
    }
    assert_int_equal(order[0], 0);
    assert_int_equal(order[1], 2);
    assert_int_equal(order[2], 3);
}

static void on_short(void *arg)
{
    ordered++;
}

/* Short ones share turns: a task that is long ends the turn that it is in. */
static void test_heavy_short(void **state)
{
    enum { SHORT = 16, TRIES = 10 };
    int turns = TRIES * SHORT;
    struct weir_later many[SHORT] = { 0 };

    for (int i = 0; i < TRIES && turns > 1; i++) { /* the machine may have stopped us within one */
        int mine = 0;

        ordered = 0;
        for (int k = 0; k < SHORT; k++)
            weir_loop_heavy(&loop, &many[k], on_short, NULL);
        for (; ordered < SHORT; mine++)
            weir_loop_turn(&loop, -1);
        turns = mine < turns ? mine : turns;
    }
    assert_int_equal(turns, 1);
    ordered = 0;
    weir_loop_heavy(&loop, &laters[0], on_long, &laters[0]);
    weir_loop_heavy(&loop, &many[0], on_short, NULL);
    weir_loop_turn(&loop, -1);
    assert_int_equal(ordered, 1);
    weir_loop_turn(&loop, -1);
    assert_int_equal(ordered, 2);
}

/* What was put off in a turn does not wait for its heavy tasks. */
static void test_heavy_last(void **state)
{
    ordered = 0;
    weir_loop_heavy(&loop, &laters[0], on_later, &laters[0]);
    weir_loop_defer(&loop, &laters[1], on_later, &laters[1]);
    weir_loop_turn(&loop, -1);
    assert_int_equal(ordered, 2);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 0);
}

/* libuv inside: a timer, work of the thread pool, a handle started in a callback of ours. */
static void on_uv_timer(uv_timer_t *timer)
{
    ++*(int *)timer->data;
    uv_close((uv_handle_t *)timer, NULL);
}

static void test_uv_timer(void **state)
{
    uv_timer_t timer;
    int fired = 0, turns = 0;
    uint64_t start;

    usleep(30 * 1000); /* the cached time is old */
    weir_loop_turn(&loop, 0);
    start = loop.now_us;
    uv_timer_init(&loop.uv, &timer);
    timer.data = &fired;
    uv_timer_start(&timer, on_uv_timer, 40, 0);
    while (!fired && turns++ < 100)
        weir_loop_turn(&loop, -1);
    assert_int_equal(fired, 1);
    assert_true(weir_clock_us() - start >= 38 * 1000);
    assert_true(turns < 10);
    weir_loop_turn(&loop, 0);
}

static void on_work(uv_work_t *work)
{
    usleep(5000);
}

static void on_worked(uv_work_t *work, int status)
{
    ++*(int *)work->data;
}

static void test_uv_work(void **state)
{
    uv_work_t work;
    int done = 0, turns = 0;

    work.data = &done;
    assert_int_equal(uv_queue_work(&loop.uv, &work, on_work, on_worked), 0);
    while (!done && turns++ < 100)
        weir_loop_turn(&loop, 2000);
    assert_int_equal(done, 1);
    assert_true(turns < 10);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    char byte;

    assert_int_equal(read(((int *)poll->data)[0], &byte, 1), 1);
    ((int *)poll->data)[2]++;
    uv_close((uv_handle_t *)poll, NULL);
}

static uv_poll_t late_poll;

static void start_poll(void *arg)
{
    int *state = arg;

    uv_poll_init(&loop.uv, &late_poll, state[0]);
    late_poll.data = state;
    uv_poll_start(&late_poll, UV_READABLE, on_poll);
}

/* A handle that is started from a callback of ours does not make libuv's descriptor ready: it must
 * be seen all the same. */
static void test_uv_handle_started_late(void **state)
{
    int pipe_state[3] = { 0 };

    assert_int_equal(pipe(pipe_state), 0);
    assert_int_equal(write(pipe_state[1], "x", 1), 1);
    weir_loop_defer(&loop, &laters[0], start_poll, pipe_state);
    for (int i = 0; i < 10 && !pipe_state[2]; i++)
        weir_loop_turn(&loop, 1000);
    assert_int_equal(pipe_state[2], 1);
    weir_loop_turn(&loop, 0);
    close(pipe_state[0]);
    close(pipe_state[1]);
}

/* Letters of four threads: none lost, the order of each sender kept. */
struct letter {
    struct weir_mail mail;
    int sender, number;
};

static struct letter letters[SENDERS][LETTERS];
static int next_number[SENDERS], received;

static void on_letter(struct weir_loop *on, void *arg)
{
    struct letter *letter = arg;

    assert_ptr_equal(on, &loop);
    assert_int_equal(letter->number, next_number[letter->sender]++);
    if (++received == SENDERS * LETTERS)
        weir_loop_stop(on);
}

static void *sender_thread(void *arg)
{
    int sender = (int)(intptr_t)arg;

    for (int i = 0; i < LETTERS; i++) {
        letters[sender][i] =
            (struct letter){ { .fn = on_letter, .arg = &letters[sender][i] }, sender, i };
        weir_loop_post(&loop, &letters[sender][i].mail);
        if (i % 100 == 0)
            usleep(100); /* let the loop fall asleep now and then */
    }
    return NULL;
}

static void *loop_thread(void *arg)
{
    weir_loop_run(&loop);
    return NULL;
}

static void test_mail(void **state)
{
    pthread_t threads[SENDERS], runner;

    received = 0;
    memset(next_number, 0, sizeof(next_number));
    pthread_create(&runner, NULL, loop_thread, NULL);
    for (intptr_t i = 0; i < SENDERS; i++)
        pthread_create(&threads[i], NULL, sender_thread, (void *)i);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(runner, NULL);
    assert_int_equal(received, SENDERS * LETTERS);
}

/* One letter to and fro: a wake-up that is lost would stop it. */
static struct weir_loop other;
static struct weir_mail ball;
static int volleys;

static void on_ball(struct weir_loop *on, void *arg)
{
    if (++volleys == 20000) {
        weir_loop_stop(&loop);
        weir_loop_stop(&other);
        return;
    }
    weir_loop_post(on == &loop ? &other : &loop, &ball);
}

static void *other_thread(void *arg)
{
    weir_loop_run(&other);
    return NULL;
}

static void test_ping_pong(void **state)
{
    pthread_t a, b;

    volleys = 0;
    assert_int_equal(weir_loop_init(&other, 4, NULL), 0);
    pthread_create(&a, NULL, loop_thread, NULL);
    pthread_create(&b, NULL, other_thread, NULL);
    ball = (struct weir_mail){ .fn = on_ball };
    weir_loop_post(&loop, &ball);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    assert_int_equal(volleys, 20000);
    weir_loop_fini(&other);
}

static void test_stop_before_run(void **state)
{
    weir_loop_stop(&loop);
    weir_loop_run(&loop);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_timer),
        TEST(test_max_ms),
        TEST(test_deferred),
        TEST(test_deferred_last),
        TEST(test_heavy),
        TEST(test_heavy_short),
        TEST(test_heavy_last),
        TEST(test_uv_timer),
        TEST(test_uv_work),
        TEST(test_uv_handle_started_late),
        TEST(test_mail),
        TEST(test_ping_pong),
        TEST(test_stop_before_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
