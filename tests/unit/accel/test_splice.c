/* SPDX-License-Identifier: Apache-2.0 */
/* Splices with every mover: the same bytes, ends and errors, whoever moves. */
#include "splice_kit.h"

static const enum weir_splice_policy policies[] = { WEIR_SPLICE_COPY, WEIR_SPLICE_PIPE,
                                                    WEIR_SPLICE_AUTO };
enum { POLICIES = sizeof(policies) / sizeof(policies[0]), MUCH = 24 << 20 };

#define EACH(policy_, local_)                                          \
    for (int i_ = 0; i_ < 2 * POLICIES; i_++)                          \
        for (bool local_ = i_ % 2, once_ = true; once_; once_ = false) \
            for (enum weir_splice_policy policy_ = policies[i_ / 2]; once_; once_ = false)

static void test_names(void **state)
{
    assert_string_equal(weir_mover_name(WEIR_MOVER_PIPE), "pipe");
    assert_string_equal(weir_splice_why_name(WEIR_WHY_few), "few");
    for (int i = 1; i < WEIR_WHYS_COUNT; i++)
        assert_true(strlen(weir_splice_why_text((enum weir_splice_why)i)) > 3);
}

/* Both ways at once, every byte looked at. */
static void test_bulk(void **state)
{
    EACH(policy, local)
    {
        struct lab lab;

        lab_open(&lab, policy, local);
        lab.end[0].to_send = MUCH;
        lab.end[1].to_send = MUCH / 2;
        LAB_UNTIL(&lab, lab.end[1].received == MUCH && lab.end[0].received == MUCH / 2);
        assert_int_equal(lab.splice.bytes[0], MUCH);
        assert_int_equal(lab.splice.bytes[1], MUCH / 2);
        end_shut(&lab.end[0]);
        end_shut(&lab.end[1]);
        LAB_UNTIL(&lab, lab.over);
        assert_int_equal(lab.err, WEIR_OK);
        LAB_UNTIL(&lab, lab.end[0].eof && lab.end[1].eof);
        assert_string_equal(weir_splice_mover(&lab.splice),
                            policy == WEIR_SPLICE_COPY ? "copy" : "pipe");
        lab_close(&lab);
    }
    assert_true(stats.moved[WEIR_MOVER_PIPE][0] > MUCH);
    assert_true(stats.moved[WEIR_MOVER_COPY][0] >= 2 * (uint64_t)MUCH);
}

/* FIN goes on behind the bytes before it, the other direction goes on. */
static void test_half_close(void **state)
{
    EACH(policy, local)
    {
        struct lab lab;

        lab_open(&lab, policy, local);
        lab.end[1].read_max = 0; /* so that it stands before a stopped reader */
        lab.end[0].to_send = 3 << 20;
        for (int i = 0; i < 2000 && lab.end[0].sent < lab.end[0].to_send; i++)
            lab_turn(&lab);
        if (lab.end[0].sent == lab.end[0].to_send)
            end_shut(&lab.end[0]);
        for (int i = 0; i < 50; i++)
            lab_turn(&lab);
        lab.end[1].read_max = UINT64_MAX;
        LAB_UNTIL(&lab, lab.end[0].sent == lab.end[0].to_send);
        if (!lab.end[0].shut)
            end_shut(&lab.end[0]);
        LAB_UNTIL(&lab, lab.end[1].eof);
        assert_int_equal(lab.end[1].received, 3 << 20);
        assert_false(lab.over);
        lab.end[1].to_send = 1 << 20;
        LAB_UNTIL(&lab, lab.end[0].received == 1 << 20);
        end_shut(&lab.end[1]);
        LAB_UNTIL(&lab, lab.over && lab.end[0].eof);
        assert_int_equal(lab.err, WEIR_OK);
        lab_close(&lab);
    }
}

/* RST of one side is RST for the other, in the middle of bytes, idle, and before a stopped reader. */
static void test_reset(void **state)
{
    for (int i = 0; i < POLICIES * 6; i++) {
        unsigned side = (unsigned)i / POLICIES % 2;
        int how = i / POLICIES / 2; /* idle, in the middle, stopped */
        struct lab lab;
        struct end *other;

        lab_open(&lab, policies[i % POLICIES], false);
        other = &lab.end[!side];
        lab.end[side].to_send = how ? MUCH : 100;
        if (how == 2)
            other->read_max = 1 << 20;
        LAB_UNTIL(&lab, other->received >= (how ? 1u << 20 : 100));
        end_reset(&lab.end[side]);
        LAB_UNTIL(&lab, lab.over);
        assert_int_equal(lab.err, WEIR_ERESET);
        assert_int_equal(lab.side, side);
        other->read_max = UINT64_MAX;
        LAB_UNTIL(&lab, other->eof || other->err);
        assert_int_equal(other->err, ECONNRESET);
        lab_close(&lab);
    }
}

/* A reader that stops, and reads on: its source is held back, what waits is bounded, nothing is lost. */
static void test_slow_reader(void **state)
{
    for (int i = 0; i < POLICIES; i++) {
        struct lab lab;
        uint64_t sent = 1;

        lab_open(&lab, policies[i], false);
        lab.end[0].to_send = 64 << 20;
        lab.end[1].read_max = 2 << 20;
        for (int turn = 0; turn < 20000 && sent != lab.end[0].sent; turn += 100) {
            sent = lab.end[0].sent;
            for (int k = 0; k < 100; k++)
                lab_turn(&lab);
        }
        assert_true(lab.end[0].sent < 64 << 20);
        assert_true(budget.used <= WEIR_PIPE_BYTES);
        assert_true(weir_stream_pending(lab.splice.stream[1]) <= 2 * WEIR_STREAM_HIGH_BYTES);
        while (lab.end[1].read_max < 64 << 20) { /* in little steps */
            lab.end[1].read_max += 3 << 20;
            for (int k = 0; k < 20; k++)
                lab_turn(&lab);
        }
        lab.end[1].read_max = UINT64_MAX;
        LAB_UNTIL(&lab, lab.end[1].received == 64 << 20);
        lab_close(&lab);
    }
}

/* Ten thousand changes of mover, while bytes go both ways. */
static void test_changes(void **state)
{
    static const enum weir_mover movers[] = { WEIR_MOVER_PIPE, WEIR_MOVER_COPY };
    unsigned changes = 0;
    struct lab lab;

    lab_open(&lab, WEIR_SPLICE_COPY, false);
    lab.end[0].to_send = lab.end[1].to_send = UINT64_MAX;
    lab.end[0].piece = 50000;
    lab.end[1].piece = 7000;
    for (unsigned i = 0; i < TURNS_MAX && changes < 10000; i++) {
        unsigned dir = i % 2;
        enum weir_mover before = lab.splice.dir[dir].mover;

        (void)weir_splice_take(&lab.splice, dir, movers[i / 2 % 2]);
        changes += lab.splice.dir[dir].mover != before;
        if (i % 64 == 0)
            lab.end[1].read_max = lab.end[1].received; /* it stops for a while */
        if (i % 64 == 32)
            lab.end[1].read_max = UINT64_MAX;
        lab_turn(&lab);
    }
    assert_true(changes >= 10000);
    lab.end[0].read_max = lab.end[1].read_max = UINT64_MAX;
    lab.end[0].to_send = lab.end[0].sent;
    lab.end[1].to_send = lab.end[1].sent;
    LAB_UNTIL(&lab,
              lab.end[1].received == lab.end[0].sent && lab.end[0].received == lab.end[1].sent);
    assert_true(stats.moved[WEIR_MOVER_PIPE][0] > 0 && stats.moved[WEIR_MOVER_COPY][0] > 0);
    end_shut(&lab.end[0]);
    end_shut(&lab.end[1]);
    LAB_UNTIL(&lab, lab.over);
    assert_int_equal(lab.err, WEIR_OK);
    lab_close(&lab);
}

static void test_policy_at_run_time(void **state)
{
    struct lab lab;

    lab_open(&lab, WEIR_SPLICE_PIPE, false);
    lab.end[0].to_send = UINT64_MAX;
    LAB_UNTIL(&lab, lab.end[1].received > 4 << 20);
    assert_int_equal(lab.splice.dir[0].mover, WEIR_MOVER_PIPE);
    weir_splice_set_policy(&lab.splice, WEIR_SPLICE_OFF);
    LAB_UNTIL(&lab, lab.splice.dir[0].mover == WEIR_MOVER_COPY);
    assert_int_equal(lab.splice.dir[0].why, WEIR_WHY_off);
    LAB_UNTIL(&lab, lab.end[1].received > 16 << 20);
    assert_int_equal(lab.splice.dir[0].mover, WEIR_MOVER_COPY);
    weir_splice_set_policy(&lab.splice, WEIR_SPLICE_AUTO);
    LAB_UNTIL(&lab, lab.splice.dir[0].mover == WEIR_MOVER_PIPE);
    lab.end[0].to_send = lab.end[0].sent;
    LAB_UNTIL(&lab, lab.end[1].received == lab.end[0].sent);
    lab_close(&lab);
}

/* The chooser: a ping-pong stays with copy; what is large goes to a pipe, and comes back when it becomes small. */
static void test_chooser(void **state)
{
    struct lab lab;

    lab_open(&lab, WEIR_SPLICE_AUTO, false);
    assert_int_equal(lab.splice.dir[0].why, WEIR_WHY_few);
    for (int i = 1; i <= 3000; i++) {
        lab.end[0].to_send = (uint64_t)i * 100;
        LAB_UNTIL(&lab, lab.end[1].received == lab.end[0].to_send);
        lab.end[1].to_send = (uint64_t)i * 100;
        LAB_UNTIL(&lab, lab.end[0].received == lab.end[1].to_send);
    }
    assert_string_equal(weir_splice_mover(&lab.splice), "copy");
    lab.end[1].to_send += 8 << 20;
    LAB_UNTIL(&lab, lab.end[0].received == lab.end[1].to_send);
    assert_int_equal(lab.splice.dir[1].mover, WEIR_MOVER_PIPE);
    assert_int_equal(lab.splice.dir[1].why, WEIR_WHY_none);
    assert_int_equal(lab.splice.dir[0].mover, WEIR_MOVER_COPY);
    for (int i = 0; i < 10; i++) {
        lab.end[1].to_send += 100;
        LAB_UNTIL(&lab, lab.end[0].received == lab.end[1].to_send);
    }
    assert_int_equal(lab.splice.dir[1].mover, WEIR_MOVER_COPY);
    assert_int_equal(lab.splice.dir[1].why, WEIR_WHY_small);
    assert_int_equal(stats.fallback[WEIR_WHY_small], 1);
    lab_close(&lab);
    assert_int_equal(stats.fallback[WEIR_WHY_few], 1);
}

/* Rule 18 of pipes: the ceiling holds, and everything works without one. */
static void test_ceiling(void **state)
{
    struct lab labs[3];

    budget.max = 2 * WEIR_PIPE_BYTES;
    for (int i = 0; i < 3; i++) {
        lab_open(&labs[i], WEIR_SPLICE_PIPE, false);
        labs[i].end[0].to_send = MUCH;
        labs[i].end[1].read_max = 0; /* a pipe is full before each */
        for (int k = 0; k < 2000; k++)
            lab_turn(&labs[i]);
        assert_true(budget.used <= budget.max);
    }
    assert_int_equal(labs[1].splice.dir[0].mover, WEIR_MOVER_PIPE);
    assert_int_equal(labs[2].splice.dir[0].mover, WEIR_MOVER_COPY);
    assert_int_equal(labs[2].splice.dir[0].why, WEIR_WHY_pipes);
    assert_true(stats.fallback[WEIR_WHY_pipes] >= 1);
    for (int i = 0; i < 3; i++) {
        labs[i].end[1].read_max = UINT64_MAX;
        LAB_UNTIL(&labs[i], labs[i].end[1].received == MUCH);
    }
    for (int i = 0; i < 3; i++)
        lab_close(&labs[i]);
    weir_splicer_trim(&splicer); /* pipes that nobody needs go */
    for (int i = 0; i < 4; i++)
        weir_splicer_trim(&splicer);
    assert_int_equal(budget.used, 0);
}

/* No descriptor is free: as without memory. */
static void test_no_descriptors(void **state)
{
    int fds[4096], count = 0;
    struct lab lab;

    lab_open(&lab, WEIR_SPLICE_PIPE, false);
    while (count < 4096 && (fds[count] = dup(lab.end[0].fd)) >= 0)
        count++;
    if (count == 4096) /* more than this test takes */
        budget.max = 0;
    lab.end[0].to_send = 1 << 20;
    LAB_UNTIL(&lab, lab.end[1].received == 1 << 20);
    assert_int_equal(lab.splice.dir[0].why, WEIR_WHY_pipes);
    while (count)
        close(fds[--count]);
    lab_close(&lab);
}

/* Memory is short: less waits, all arrives. */
static void test_tight(void **state)
{
    for (int i = 0; i < POLICIES; i++) {
        struct lab lab;

        lab_open(&lab, policies[i], false);
        lab.end[0].to_send = lab.end[1].to_send = MUCH;
        LAB_UNTIL(&lab, lab.end[1].received > 1 << 20);
        splicer.tight = true;
        weir_splice_press(&lab.splice);
        LAB_UNTIL(&lab, lab.end[1].received > MUCH / 2);
        splicer.tight = false;
        weir_splice_press(&lab.splice);
        LAB_UNTIL(&lab, lab.end[1].received == MUCH && lab.end[0].received == MUCH);
        lab_close(&lab);
    }
}

/* What a side had sent before, and its end. */
static void test_kept(void **state)
{
    struct weir_buf kept = { .cache = &loop.bufs };
    struct weir_splice_opts opts = { .kept = { &kept },
                                     .ended = { true, false },
                                     .policy = WEIR_SPLICE_PIPE };
    struct lab lab = { .owner = { &lab_sink }, .look_after = 1000 };
    int fds[2];

    for (unsigned side = 0; side < 2; side++) {
        connected(fds, false);
        lab.end[side] = (struct end){ .fd = fds[0], .read_max = UINT64_MAX, .piece = PIECE_MAX };
        opts.stream[side] = weir_tcp_adopt(&loop, fds[1], NULL, NULL);
    }
    assert_int_equal(weir_buf_append(&kept, pattern[0], 200000), 0);
    weir_splice_start(&lab.splice, &lab.owner, &opts);
    LAB_UNTIL(&lab, lab.end[1].eof);
    assert_int_equal(lab.end[1].received, 200000);
    lab.end[1].to_send = 300000;
    LAB_UNTIL(&lab, lab.end[0].received == 300000);
    lab_close(&lab);
}

/* It is looked at, may be moved then, and knows how long it is idle. */
static void on_look_move(struct weir_splice_owner *owner)
{
    struct lab *lab = weir_container(owner, struct lab, owner);
    struct weir_splice copy;

    lab->looks++;
    assert_true(weir_splice_move(&copy, &lab->splice));
    memset(&lab->splice, 0xa5, sizeof(lab->splice));
    assert_true(weir_splice_move(&lab->splice, &copy));
    weir_splice_look_after(&lab->splice, 300);
}

static void test_looks(void **state)
{
    const struct weir_splice_sink sink = { on_over, on_closed, on_look_move };
    struct lab lab;

    lab_open(&lab, WEIR_SPLICE_AUTO, false);
    lab.owner.sink = &sink;
    for (int i = 0; i < 3000 && lab.looks < 2; i++) {
        weir_loop_turn(&loop, 10);
        if (i % 10 == 0)
            lab.end[0].to_send += 10;
        lab_turn(&lab);
    }
    assert_int_equal(lab.looks, 2);
    LAB_UNTIL(&lab, lab.end[1].received == lab.end[0].to_send);
    assert_true(weir_splice_idle_ms(&lab.splice) < 60000);
    assert_true(weir_splice_stands(&lab.splice));
    lab_close(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_names),
        TEST(test_bulk),
        TEST(test_half_close),
        TEST(test_reset),
        TEST(test_slow_reader),
        TEST(test_changes),
        TEST(test_policy_at_run_time),
        TEST(test_chooser),
        TEST(test_ceiling),
        TEST(test_no_descriptors),
        TEST(test_tight),
        TEST(test_kept),
        TEST(test_looks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
