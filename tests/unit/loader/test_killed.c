/* SPDX-License-Identifier: Apache-2.0 */
/**
 * test_killed.c: a process that has a splice by sockmap is killed, at any point; this one has its sockets too, and goes on.
 * Not a byte is lost, doubled or overtaken: each is looked at. Where one was in the process that died, it is RST.
 */
#include "loader_kit.h"

/* Two kits: the names that both have. */
#define lab       splice_lab
#define lab_open  splice_open
#define lab_close splice_close
#define lab_turn  splice_turn
#define lab_sink  splice_sink
#define lab_end   splice_end
#include "../accel/splice_kit.h"
#undef lab_end

#include "accel/sockmap.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { MIB = 1 << 20, KILLS = 150, WAIT_US = 20 * 1000 * 1000 };

static struct weir_kern *kern;
static struct weir_splice_kern *table;

static void begin(bool credit)
{
    struct weir_kern_opts opts = { .size = sizeof(opts), .credit = credit };

    kern = kit_open(&opts);
    assert_int_equal(weir_splice_use(weir_kern_splice_fds(kern), &table), 0);
    assert_int_equal(setup(NULL), 0);
    splicer.sockmap_after_ms = 0;
    assert_int_equal(weir_sockmap_open(&splicer, table, 0), 0);
}

static void finish(void)
{
    for (int i = 0; i < 200; i++) { /* what is forgotten a little later */
        weir_loop_turn(&loop, 1);
    }
    weir_sockmap_close(&splicer);
    kit_nothing_left(kern, table);
    weir_splice_done(&table);
    weir_kern_close(&kern, true);
    teardown(NULL);
}

/* ---- the process that is killed ---- */

enum { EXIT_TWICE = 19 }; /* it ended by itself, by that rule */

static int told; /* the mark goes there */

static void on_moving(struct weir_splice_owner *owner)
{
    struct lab *lab = weir_container(owner, struct lab, owner);
    struct weir_splice_mark mark;

    if (weir_splice_mark(&lab->splice, &mark))
        (void)!write(told, &mark, sizeof(mark));
}

static const struct weir_splice_sink killed_sink = { on_over, on_closed, on_look, on_moving };

/* A loop and a splicer of its own: what it has from us it does not touch. */
__attribute__((noreturn)) static void killed_main(const int fds[2])
{
    struct weir_splice_opts opts = { .policy = WEIR_SPLICE_SOCKMAP };
    struct lab lab = { .owner = { &killed_sink }, .look_after = 1000 };

    if (weir_loop_init(&loop, 0, NULL))
        _exit(1);
    weir_splicer_init(&splicer, &loop, &budget, &stats);
    splicer.sockmap_after_ms = 0;
    if (weir_sockmap_open(&splicer, table, 0))
        _exit(1);
    for (unsigned side = 0; side < 2; side++)
        opts.stream[side] = weir_tcp_adopt(&loop, fds[side], NULL, NULL);
    weir_splice_start(&lab.splice, &lab.owner, &opts);
    while (!lab.over)
        weir_loop_turn(&loop, 100);
    _exit(lab.err == WEIR_ETWICE ? EXIT_TWICE : 0);
}

/* The peers' ends alone. */
static void ends_turn(struct lab *lab)
{
    end_turn(&lab->end[0], 0);
    end_turn(&lab->end[1], 1);
}

static uint64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void ends_for(struct lab *lab, uint64_t us)
{
    for (uint64_t until = now_us() + us; now_us() < until;)
        ends_turn(lab);
}

/* Peers, and a process between them whose splice is in the kernel. */
static pid_t killed_start(struct lab *lab, int mine[2], struct weir_splice_mark *mark)
{
    int pipes[2];
    pid_t pid;

    assert_int_equal(pipe(pipes), 0);
    *lab = (struct lab){ .owner = { &lab_sink }, .look_after = 1000 };
    for (unsigned side = 0; side < 2; side++) {
        int fds[2];

        connected(fds, false);
        lab->end[side] = (struct end){ .fd = fds[0], .read_max = UINT64_MAX, .piece = 65536 };
        mine[side] = fds[1];
    }
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        told = pipes[1];
        close(lab->end[0].fd);
        close(lab->end[1].fd);
        killed_main(mine);
    }
    close(pipes[1]);
    assert_int_equal(read(pipes[0], mark, sizeof(*mark)), sizeof(*mark));
    close(pipes[0]);
    return pid;
}

/* False: after a stall TCP has sent bytes again, and the process had ended the splice before (19). */
static bool killed_end(pid_t pid)
{
    int status;

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_TWICE)
        return false;
    assert_true(WIFSIGNALED(status));
    return true;
}

static void forget(struct lab *lab, const int mine[2])
{
    for (unsigned side = 0; side < 2; side++) {
        table->ops->source_forget(table, table->ops->cookie(mine[side]));
        close(mine[side]);
        close(lab->end[side].fd);
    }
}

/* ---- this one ---- */

static void take_over(struct lab *lab, const int mine[2], const struct weir_splice_mark *mark)
{
    struct weir_splice_found found = { .mark = *mark, .policy = WEIR_SPLICE_SOCKMAP };

    found.used = 0xff; /* more than there are */

    for (unsigned side = 0; side < 2; side++) {
        found.stream[side] = weir_tcp_adopt(&loop, mine[side], NULL, NULL);
        assert_non_null(found.stream[side]);
    }
    weir_splice_adopt(&lab->splice, &lab->owner, &found);
}

static bool all_there(const struct lab *lab)
{
    return lab->over || (lab->end[0].received == lab->end[1].to_send &&
                         lab->end[1].received == lab->end[0].to_send);
}

/* `slow`: this end reads now and then; 2: both read. */
static void once(unsigned i, unsigned slow, unsigned *lost)
{
    struct weir_splice_mark mark;
    struct lab lab;
    int mine[2];
    pid_t pid = killed_start(&lab, mine, &mark);

    lab.end[0].to_send = lab.end[1].to_send = UINT64_MAX;
    if (slow < 2)
        lab.end[slow].read_max = 0;
    ends_for(&lab, 500 + (i * 7919) % 6000);
    for (int j = 0; j < 20 && slow < 2; j++) {
        lab.end[slow].read_max = UINT64_MAX;
        ends_turn(&lab);
        lab.end[slow].read_max = 0;
        ends_for(&lab, 50 + (i * 104729 + (unsigned)j * 31) % 300);
    }
    if (!killed_end(pid)) {
        forget(&lab, mine);
        ++*lost;
        return;
    }
    ends_for(&lab, (i * 31) % 2000); /* nobody is there */
    take_over(&lab, mine, &mark);
    for (unsigned side = 0; side < 2; side++) {
        lab.end[side].read_max = UINT64_MAX;
        lab.end[side].to_send = lab.end[side].sent + MIB;
    }
    for (uint64_t until = now_us() + WAIT_US; !all_there(&lab) && now_us() < until;)
        lab_turn(&lab); /* TCP may be waiting for its probe */
    assert_true(all_there(&lab));
    if (lab.over) {
        assert_true(lab.err == WEIR_EORPHAN || lab.err == WEIR_ETWICE); /* (19): after a stall */
        ++*lost;
    } else {
        end_shut(&lab.end[0]);
        end_shut(&lab.end[1]);
        LAB_UNTIL(&lab, lab.over && lab.end[0].eof && lab.end[1].eof);
        assert_int_equal(lab.err, WEIR_OK);
        assert_int_equal(lab.splice.bytes[0], lab.end[0].sent);
        assert_int_equal(lab.splice.bytes[1], lab.end[1].sent);
    }
    lab_close(&lab);
}

static void test_at_any_point(void **state)
{
    unsigned lost = 0;

    begin(*state != NULL);
    for (unsigned i = 0; i < KILLS; i++)
        once(i, i % 3, &lost);
    assert_true(lost <= KILLS / 50); /* what is told apart by waiting may not come in time */
    finish();
}

/* FIN that came when nobody had it: behind all bytes before it; and the other way goes on. */
static void test_fin_between(void **state)
{
    (void)state;
    begin(false);
    for (unsigned first = 0; first < 2; first++) {
        struct weir_splice_mark mark;
        struct lab lab;
        int mine[2];
        pid_t pid = killed_start(&lab, mine, &mark);

        assert_true(killed_end(pid));
        lab.end[first].to_send = MIB;
        while (lab.end[first].sent < MIB)
            ends_turn(&lab);
        end_shut(&lab.end[first]);
        take_over(&lab, mine, &mark);
        assert_string_equal(weir_splice_mover(&lab.splice), "sockmap");
        LAB_UNTIL(&lab, lab.end[!first].eof);
        assert_int_equal(lab.end[!first].received, MIB);
        lab.end[!first].to_send = 2 * MIB;
        LAB_UNTIL(&lab, lab.end[first].received == 2 * MIB);
        end_shut(&lab.end[!first]);
        LAB_UNTIL(&lab, lab.over && lab.end[first].eof);
        assert_int_equal(lab.err, WEIR_OK);
        lab_close(&lab);
    }
    finish();
}

/* One side has ended, and the other goes on. */
static void half_close(struct lab *lab, unsigned first)
{
    end_shut(&lab->end[first]);
    while (!lab->end[!first].eof)
        ends_turn(lab);
    lab->end[!first].to_send = 1000;
    while (lab->end[first].received < 1000)
        ends_turn(lab);
}

/* Half-closed before: the direction that ended stays ended, the other is with copy. */
static void test_half_closed(void **state)
{
    (void)state;
    begin(false);
    for (unsigned first = 0; first < 2; first++) {
        struct weir_splice_mark mark;
        struct lab lab;
        int mine[2];
        pid_t pid = killed_start(&lab, mine, &mark);

        lab.end[first].to_send = MIB;
        while (lab.end[!first].received < MIB)
            ends_turn(&lab);
        half_close(&lab, first);
        assert_true(killed_end(pid));
        take_over(&lab, mine, &mark);
        lab.end[!first].to_send = MIB;
        LAB_UNTIL(&lab, lab.end[first].received == MIB);
        end_shut(&lab.end[!first]);
        LAB_UNTIL(&lab, lab.over && lab.end[first].eof);
        assert_int_equal(lab.err, WEIR_OK);
        assert_int_equal(lab.splice.bytes[first], MIB);
        assert_int_equal(lab.splice.bytes[!first], MIB);
        lab_close(&lab);
    }
    finish();
}

/* Half-closed before, and the rest came, with its FIN, when nobody had it: the socket is closed by then, and has bytes. */
static void test_ended_between(void **state)
{
    (void)state;
    begin(false);
    for (unsigned first = 0; first < 2; first++) {
        struct weir_splice_mark mark;
        struct lab lab;
        int mine[2];
        pid_t pid = killed_start(&lab, mine, &mark);

        half_close(&lab, first);
        assert_true(killed_end(pid));
        lab.end[!first].to_send = 2000;
        ends_turn(&lab);
        end_shut(&lab.end[!first]);
        ends_for(&lab, 1000);
        take_over(&lab, mine, &mark);
        LAB_UNTIL(&lab, lab.over && lab.end[first].eof);
        assert_int_equal(lab.err, WEIR_OK);
        assert_int_equal(lab.end[first].received, 2000);
        assert_int_equal(lab.splice.bytes[!first], 2000);
        lab_close(&lab);
    }
    finish();
}

/* One of the two has gone meanwhile. */
static void test_reset_between(void **state)
{
    (void)state;
    begin(false);
    for (unsigned first = 0; first < 2; first++) {
        struct weir_splice_mark mark;
        struct lab lab;
        int mine[2];
        pid_t pid = killed_start(&lab, mine, &mark);

        assert_true(killed_end(pid));
        end_reset(&lab.end[first]);
        take_over(&lab, mine, &mark);
        assert_int_equal(lab.over, 1);
        assert_int_equal(lab.err, WEIR_ERESET);
        assert_int_equal(lab.side, first);
        LAB_UNTIL(&lab, lab.end[!first].err == ECONNRESET);
        lab_close(&lab);
    }
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_any_point),
        cmocka_unit_test_prestate(test_at_any_point, (void *)1), /* credit */
        cmocka_unit_test(test_fin_between),
        cmocka_unit_test(test_half_closed),
        cmocka_unit_test(test_ended_between),
        cmocka_unit_test(test_reset_between),
    };

    kit_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
