/* SPDX-License-Identifier: Apache-2.0 */
/** test_mover.c: the mover by sockmap on its loop, between peers of the test: every byte is looked at, whoever moves it. */
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

#include <bpf/bpf.h>

static struct weir_kern *kern;
static struct weir_splice_kern *table;

enum { MIB = 1 << 20, CHANGES = 400 };

static int begin(void **state)
{
    struct weir_kern_opts opts = { .size = sizeof(opts), .credit = *state != NULL };

    kern = kit_open(&opts);
    assert_int_equal(weir_splice_use(weir_kern_splice_fds(kern), &table), 0);
    assert_int_equal(setup(NULL), 0);
    splicer.sockmap_after_ms = 0;
    assert_int_equal(weir_sockmap_open(&splicer, table, 0), 0);
    return 0;
}

/* Nothing is held, in no map is an entry, no descriptor is left. */
static int end_(void **state)
{
    (void)state;
    weir_sockmap_close(&splicer);
    kit_nothing_left(kern, table);
    weir_splice_done(&table);
    weir_kern_close(&kern, true);
    teardown(NULL);
    assert_int_equal(kit_bpf_fds(), 0);
    return 0;
}

/* Both are in the kernel by now. */
static bool both_moved(const struct lab *lab)
{
    struct weir_sp_flow flow;

    for (unsigned dir = 0; dir < 2; dir++) {
        uint64_t cookie = table->ops->cookie(weir_stream_fd(lab->splice.stream[dir]));

        if (lab->splice.dir[dir].mover != WEIR_MOVER_SOCKMAP ||
            table->ops->source_get(table, cookie, NULL, &flow))
            return false;
    }
    return true;
}

static void test_bulk_both_ways(void **state)
{
    struct lab lab;

    (void)state;
    lab_open(&lab, WEIR_SPLICE_SOCKMAP, false);
    lab.end[0].to_send = 24 * MIB;
    lab.end[1].to_send = 16 * MIB;
    LAB_UNTIL(&lab, lab.end[1].received == 24 * MIB && lab.end[0].received == 16 * MIB);
    end_shut(&lab.end[0]);
    end_shut(&lab.end[1]);
    LAB_UNTIL(&lab, lab.over && lab.end[0].eof && lab.end[1].eof);
    assert_int_equal(lab.err, WEIR_OK);
    assert_int_equal(lab.splice.bytes[0], 24 * MIB);
    assert_int_equal(lab.splice.bytes[1], 16 * MIB);
    assert_string_equal(weir_splice_mover(&lab.splice), "sockmap");
    lab_close(&lab);
}

/* Small pieces to and fro: this loop has nothing to do for them (10). */
static void test_a_ping_pong_wakes_nobody(void **state)
{
    struct lab lab;
    uint64_t moved;

    (void)state;
    lab_open(&lab, WEIR_SPLICE_SOCKMAP, false);
    LAB_UNTIL(&lab, both_moved(&lab));
    for (int i = 0; i < 20; i++) /* what it still has to say about itself */
        lab_turn(&lab);
    moved = stats.moved[WEIR_MOVER_SOCKMAP][0];
    for (int i = 1; i <= 200; i++) {
        lab.end[0].to_send = lab.end[1].to_send = (uint64_t)i * 100;
        while (lab.end[1].received < lab.end[0].to_send ||
               lab.end[0].received < lab.end[1].to_send) {
            end_turn(&lab.end[0], 0);
            end_turn(&lab.end[1], 1);
        }
    }
    assert_int_equal(stats.moved[WEIR_MOVER_SOCKMAP][0], moved); /* not counted: nobody was asked */
    weir_splice_sync(&lab.splice);
    assert_int_equal(lab.splice.bytes[0], 200 * 100);
    lab_close(&lab);
}

/* FIN goes on behind the bytes before it, when the reader that stood goes on; the other way stays open (4, 9). */
static void test_half_close(void **state)
{
    struct lab lab;

    (void)state;
    for (unsigned first = 0; first < 2; first++) {
        lab_open(&lab, WEIR_SPLICE_SOCKMAP, false);
        LAB_UNTIL(&lab, both_moved(&lab));
        lab.end[!first].read_max = 0;
        lab.end[first].to_send = 2 * MIB;
        for (int i = 0; i < 3000 && lab.end[first].sent < 2 * MIB; i++)
            lab_turn(&lab);
        lab.end[!first].read_max = UINT64_MAX;
        LAB_UNTIL(&lab, lab.end[first].sent == 2 * MIB);
        end_shut(&lab.end[first]);
        LAB_UNTIL(&lab, lab.end[!first].eof);
        assert_int_equal(lab.end[!first].received, 2 * MIB);
        assert_false(lab.over);
        lab.end[!first].to_send = 3 * MIB;
        LAB_UNTIL(&lab, lab.end[first].received == 3 * MIB);
        end_shut(&lab.end[!first]);
        LAB_UNTIL(&lab, lab.over && lab.end[first].eof);
        assert_int_equal(lab.err, WEIR_OK);
        lab_close(&lab);
    }
}

static void test_reset(void **state)
{
    struct lab lab;

    (void)state;
    for (unsigned first = 0; first < 2; first++) {
        lab_open(&lab, WEIR_SPLICE_SOCKMAP, false);
        lab.end[0].to_send = MIB;
        LAB_UNTIL(&lab, both_moved(&lab) && lab.end[1].received == MIB);
        end_reset(&lab.end[first]);
        LAB_UNTIL(&lab, lab.over);
        assert_int_equal(lab.err, WEIR_ERESET);
        assert_int_equal(lab.side, first);
        LAB_UNTIL(&lab, lab.end[!first].err == ECONNRESET);
        lab_close(&lab);
    }
}

/* A reader that stands: what is held has its bound, and then not one byte is missing (1). */
static void test_a_reader_that_stands(void **state)
{
    struct lab lab;
    uint64_t most = 0;

    (void)state;
    lab_open(&lab, WEIR_SPLICE_SOCKMAP, false);
    LAB_UNTIL(&lab, both_moved(&lab));
    lab.end[1].read_max = 0;
    lab.end[0].to_send = 64 * MIB;
    for (int still = 0; still < 2000;) {
        uint64_t sent = lab.end[0].sent, held = table->ops->held(table);

        lab_turn(&lab);
        most = held > most ? held : most;
        still = lab.end[0].sent == sent ? still + 1 : 0;
    }
    assert_in_range(most, 1, WEIR_SP_BOUND_BYTES);
    assert_true(lab.end[0].sent < 64 * MIB);
    lab.end[1].read_max = UINT64_MAX;
    LAB_UNTIL(&lab, lab.end[1].received == 64 * MIB);
    lab_close(&lab);
}

/* One turn in which the other end reads a little, if at all. */
static void turn_slowly(struct lab *lab, unsigned turn)
{
    lab->end[1].read_max = turn % 64 ? 0 : UINT64_MAX;
    lab_turn(lab);
}

/* A sender that never pauses, before a reader that is slower: the direction leaves all the same, and a FIN of the reader
 * gets through, which waits for that. */
static void test_a_sender_that_never_pauses(void **state)
{
    struct lab lab;
    unsigned turn;

    (void)state;
    for (unsigned fin = 0; fin < 2; fin++) {
        lab_open(&lab, WEIR_SPLICE_SOCKMAP, false);
        LAB_UNTIL(&lab, both_moved(&lab));
        lab.end[0].to_send = UINT64_MAX;
        for (turn = 0; turn < 2000 || lab.end[1].received < 8 * MIB; turn++)
            turn_slowly(&lab, turn);
        if (fin)
            end_shut(&lab.end[1]);
        else
            weir_splice_set_policy(&lab.splice, WEIR_SPLICE_COPY);
        for (turn = 0; turn < TURNS_MAX &&
                       (fin ? !lab.end[0].eof : lab.splice.dir[0].mover != WEIR_MOVER_COPY);
             turn++)
            turn_slowly(&lab, turn);
        assert_true(turn < TURNS_MAX);
        lab.end[0].to_send = lab.end[0].sent;
        lab.end[1].read_max = UINT64_MAX;
        LAB_UNTIL(&lab, lab.end[1].received == lab.end[0].sent);
        end_shut(&lab.end[0]);
        LAB_UNTIL(&lab, lab.end[1].eof);
        lab_close(&lab);
    }
}

/* To and fro between this process and the kernel, while bytes go both ways (6, 8). */
static void test_changes_under_load(void **state)
{
    const char *asked = getenv("WEIR_LONG");
    unsigned changes = asked && asked[0] ? 10000 : CHANGES, turns = 0;
    struct lab lab;

    (void)state;
    lab_open(&lab, WEIR_SPLICE_COPY, false);
    lab.end[0].to_send = lab.end[1].to_send = UINT64_MAX;
    lab.end[0].piece = 3000;
    lab.end[1].piece = 17000;
    for (unsigned i = 0; i < changes; i++) {
        weir_splice_set_policy(&lab.splice, i % 2 ? WEIR_SPLICE_COPY : WEIR_SPLICE_SOCKMAP);
        for (unsigned turn = 0; turn < i % 7 + 1; turn++)
            lab_turn(&lab);
        for (turns = 0; turns < TURNS_MAX && !lab.over; turns++) {
            unsigned there = (lab.splice.dir[0].mover == WEIR_MOVER_SOCKMAP) +
                             (lab.splice.dir[1].mover == WEIR_MOVER_SOCKMAP);

            if (there == (i % 2 ? 0 : 2))
                break;
            if (!(i % 2) && turns % 50 == 49) /* it waited for room that is there by now */
                weir_splice_set_policy(&lab.splice, WEIR_SPLICE_SOCKMAP);
            lab_turn(&lab);
        }
        assert_false(lab.over);
        assert_true(turns < TURNS_MAX);
    }
    for (unsigned side = 0; side < 2; side++)
        lab.end[side].to_send = lab.end[side].sent;
    LAB_UNTIL(&lab,
              lab.end[0].received == lab.end[1].sent && lab.end[1].received == lab.end[0].sent);
    end_shut(&lab.end[0]);
    end_shut(&lab.end[1]);
    LAB_UNTIL(&lab, lab.over && lab.end[0].eof && lab.end[1].eof);
    assert_int_equal(lab.err, WEIR_OK);
    print_message("%u changes, %llu and %llu bytes\n", changes,
                  (unsigned long long)lab.splice.bytes[0], (unsigned long long)lab.splice.bytes[1]);
    lab_close(&lab);
}

/* What can not go there stays, and says why. */
static void test_reasons(void **state)
{
    struct lab lab;

    (void)state;
    lab_open(&lab, WEIR_SPLICE_SOCKMAP, true); /* UNIX sockets */
    for (int i = 0; i < 20; i++)
        lab_turn(&lab);
    assert_int_equal(lab.splice.dir[0].why, WEIR_WHY_not_tcp);
    assert_true(stats.fallback[WEIR_WHY_not_tcp] >= 2);
    lab_close(&lab);
    lab_open(&lab, WEIR_SPLICE_COPY, false);
    end_shut(&lab.end[0]);
    LAB_UNTIL(&lab, lab.end[1].eof);
    weir_splice_set_policy(&lab.splice, WEIR_SPLICE_SOCKMAP);
    for (int i = 0; i < 20; i++)
        lab_turn(&lab);
    assert_int_equal(lab.splice.dir[0].why, WEIR_WHY_ended);
    assert_int_equal(
        lab.splice.dir[1].why,
        WEIR_WHY_not_open); /* we have sent FIN there: a sockmap takes no such socket (7) */
    lab_close(&lab);
}

/* No splice(2) on a socket that is in a sockmap (16): who has one direction by pipe gives it up first. */
static void test_not_beside_a_pipe(void **state)
{
    struct lab lab;

    (void)state;
    lab_open(&lab, WEIR_SPLICE_PIPE, false);
    lab.end[0].to_send = lab.end[1].to_send = 4 * MIB;
    LAB_UNTIL(&lab, lab.end[1].received == 4 * MIB && lab.end[0].received == 4 * MIB);
    assert_true(stats.moved[WEIR_MOVER_PIPE][0] > 0);
    weir_splice_set_policy(&lab.splice, WEIR_SPLICE_SOCKMAP);
    for (int i = 0; i < 50000 && !both_moved(&lab); i++) { /* its clock looks every 250 ms */
        usleep(100);
        lab_turn(&lab);
        for (unsigned dir = 0; dir < 2; dir++)
            assert_false(lab.splice.dir[dir].mover == WEIR_MOVER_PIPE &&
                         lab.splice.dir[!dir].mover == WEIR_MOVER_SOCKMAP);
    }
    assert_true(both_moved(&lab));
    lab.end[0].to_send = 6 * MIB;
    LAB_UNTIL(&lab, lab.end[1].received == 6 * MIB);
    lab_close(&lab);
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end_)

int main(void)
{
    static char by_credit[] = "credit";
    const struct CMUnitTest tests[] = {
        TEST(test_bulk_both_ways),
        TEST(test_a_ping_pong_wakes_nobody),
        TEST(test_half_close),
        TEST(test_reset),
        TEST(test_a_reader_that_stands),
        TEST(test_a_sender_that_never_pauses),
        TEST(test_changes_under_load),
        TEST(test_reasons),
        TEST(test_not_beside_a_pipe),
        { "credit: test_bulk_both_ways", test_bulk_both_ways, begin, end_, by_credit },
        { "credit: test_half_close", test_half_close, begin, end_, by_credit },
        { "credit: test_changes_under_load", test_changes_under_load, begin, end_, by_credit },
    };

    kit_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
