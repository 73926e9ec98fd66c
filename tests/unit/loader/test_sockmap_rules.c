/* SPDX-License-Identifier: Apache-2.0 */
/** test_sockmap_rules.c: the rules of docs/kernel.md that the program and the table keep, one test each, by their numbers. */
#include "loader_kit.h"

#include <bpf/bpf.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

static struct weir_kern *kern;
static struct weir_splice_kern *table;
static struct lab lab;
static unsigned events;

enum { MIB = 1 << 20, SMALL = 256 * 1024, CYCLES = 300 };

static void on_event(void *arg, const struct weir_sp_event *event)
{
    (void)arg;
    assert_true(event->why > 0 && event->why < WEIR_SP_WHYS_COUNT);
    events++;
}

static int begin(void **state)
{
    struct weir_kern_opts opts = { .size = sizeof(opts), .credit = *state != NULL };
    struct weir_kern_state told;

    events = 0;
    kern = kit_open(&opts);
    weir_kern_state(kern, &told);
    if (*state == NULL && !told.looks)
        fail_msg("CAP_PERFMON: %s", told.note);
    assert_int_equal(weir_splice_use(weir_kern_splice_fds(kern), &table), 0);
    assert_int_equal(lab_open(&lab, table, 0, 0), 0);
    return 0;
}

/* Nothing is held, no entry is left, no descriptor. */
static int end(void **state)
{
    (void)state;
    lab_close(&lab);
    kit_nothing_left(kern, table);
    weir_splice_done(&table);
    weir_kern_close(&kern, true);
    assert_int_equal(kit_bpf_fds(), 0);
    return 0;
}

static void enter_both(void)
{
    assert_int_equal(lab_enter(&lab, 0), 0);
    assert_int_equal(lab_enter(&lab, 1), 0);
}

static void run(uint64_t down, uint64_t up)
{
    if (!lab_run(&lab, down, up))
        fail_msg("%llu of %llu down, %llu of %llu up (errno %d)",
                 (unsigned long long)lab.end[1].got, (unsigned long long)down,
                 (unsigned long long)lab.end[0].got, (unsigned long long)up, lab.last_errno);
    assert_false(lab.end[0].wrong || lab.end[1].wrong);
}

/* What was redirected and is not in the target's own queue, measured from outside the program. */
static uint64_t backlog(const struct lab *of, unsigned dir)
{
    struct weir_sp_flow flow = lab_flow(of, dir);
    struct weir_splice_path out;
    uint64_t taken;

    assert_int_equal(of->ops->path(of->side[!dir], &out), 0);
    taken = out.written - of->pair[dir].out_base - of->read[dir];
    return flow.moved_bytes > taken ? flow.moved_bytes - taken : 0;
}

/* The client writes until nothing goes any more; returns the largest backlog that was seen. */
static uint64_t fill(struct lab *of, uint64_t *held_most)
{
    uint64_t most = 0;

    for (int idle = 0; idle < 30;) {
        uint64_t now = backlog(of, 0), held = of->ops->held(of->kern);

        most = now > most ? now : most;
        *held_most = held > *held_most ? held : *held_most;
        idle = lab_send(&of->end[0], SMALL) > 0 ? 0 : idle + 1;
        lab_wait(0);
        assert_true(of->end[0].sent < 64 << 20);
    }
    return most;
}

static void rule_01_the_backlog_is_bounded(void **state)
{
    uint64_t held = 0;

    lab_close(&lab);
    assert_int_equal(lab_open(&lab, table, 0, SMALL), 0);
    enter_both();
    assert_in_range(fill(&lab, &held), 0, WEIR_SP_BOUND_BYTES);
    assert_in_range(held, 1, WEIR_SP_BOUND_BYTES);
    assert_true(lab_flow(&lab, 0).latched != 0);
    assert_int_equal(table->ops->ring_read(table, 0, on_event, NULL), 1);
    assert_int_equal(events, 1); /* told once, not for each piece */
    run(lab.end[0].sent, 0);
}

/* A parser that passes hung in 4 of 4 runs. */
static void rule_02_a_verdict_and_no_parser(void **state)
{
    const struct weir_splice_fds *fds = weir_kern_splice_fds(kern);
    __u32 ids[4], count = 4;

    (void)state;
    assert_int_equal(bpf_prog_query(fds->src, BPF_SK_SKB_STREAM_PARSER, 0, NULL, ids, &count), 0);
    assert_int_equal(count, 0);
    count = 4;
    assert_int_equal(bpf_prog_query(fds->src, BPF_SK_SKB_STREAM_VERDICT, 0, NULL, ids, &count), 0);
    assert_int_equal(count, 1);
}

/* What is moved leaves by the target's own queue, as if it had been sent there. */
static void rule_03_egress_only(void **state)
{
    struct weir_splice_path out;

    (void)state;
    enter_both();
    run(5000, 7000);
    assert_int_equal(table->ops->path(lab.side[1], &out), 0);
    assert_int_equal(out.written - lab.pair[0].out_base, lab_flow(&lab, 0).moved_bytes);
    assert_int_equal(lab_flow(&lab, 0).moved_bytes, 5000);
    assert_int_equal(lab_flow(&lab, 0).passed_bytes, 0);
}

static void wait_fin(unsigned side)
{
    struct weir_splice_path path = { 0 };

    for (uint64_t since = lab_now_ms(); !path.fin_received;) {
        assert_int_equal(table->ops->path(lab.side[side], &path), 0);
        assert_true(path.fin_received || lab_wait(since));
    }
}

static void rule_04_a_fin_is_dropped_and_the_answer_comes(void **state)
{
    struct weir_sp_count counts[WEIR_SP_WHYS_COUNT];

    (void)state;
    enter_both();
    run(400, 0);
    assert_int_equal(shutdown(lab.end[0].fd, SHUT_WR), 0);
    wait_fin(0);
    assert_int_equal(table->ops->counts(table, counts), 0);
    assert_int_equal(counts[WEIR_SP_FIN].skbs, 1);
    assert_int_equal(counts[WEIR_SP_GONE].skbs, 0);
    run(400, MIB); /* an EPIPE at the target would have ended this */
}

static void rule_05_a_piece_goes_whole_or_not_at_all(void **state)
{
    (void)state;
    assert_int_equal(lab_enter(&lab, 0), 0);
    lab.pair[0].limit_bytes = 1000;
    assert_int_equal(table->ops->source_set(table, lab.cookie[0], &lab.pair[0]), 0);
    assert_int_equal(lab_send(&lab.end[0], 600), 600);
    for (uint64_t since = lab_now_ms(); lab_flow(&lab, 0).moved_bytes != 600;)
        assert_true(lab_wait(since));
    assert_int_equal(lab_send(&lab.end[0], 700), 700);
    for (uint64_t since = lab_now_ms(); lab_flow(&lab, 0).passed_bytes != 700;)
        assert_true(lab_wait(since));
    assert_int_equal(lab_flow(&lab, 0).moved_bytes, 600);
    assert_int_equal(lab_flow(&lab, 0).latched, WEIR_SP_LIMIT);
    run(1300, 0); /* user space has the tail, and cuts it where it will */
}

static void rule_06_what_was_queued_before_is_kicked(void **state)
{
    uint64_t since = lab_now_ms();
    struct weir_splice_path path = { 0 };
    char byte;

    (void)state;
    assert_int_equal(recv(lab.side[0], &byte, 1, MSG_DONTWAIT), -1); /* EAGAIN, and then it comes */
    assert_int_equal(errno, EAGAIN);
    for (int i = 0; i < 20; i++)
        assert_int_equal(lab_send(&lab.end[0], 333), 333);
    while (path.received < 20 * 333) {
        assert_int_equal(table->ops->path(lab.side[0], &path), 0);
        assert_true(path.received >= 20 * 333 || lab_wait(since));
    }
    enter_both();
    run(20 * 333 + 1, 1);
    assert_int_equal(lab_flow(&lab, 0).moved_bytes, 20 * 333 + 1);
}

static void rule_07_established_once_and_in_a_map_without_program(void **state)
{
    const struct weir_splice_fds *fds = weir_kern_splice_fds(kern);
    __u32 ids[4], count = 4;
    struct lab other;

    (void)state;
    enter_both();
    assert_int_equal(table->ops->source_add(table, lab.cookie[0], lab.side[0], &lab.pair[0]),
                     -EBUSY);
    assert_int_equal(bpf_prog_query(fds->dst, BPF_SK_SKB_STREAM_VERDICT, 0, NULL, ids, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(lab_open(&other, table, 0, 0), 0);
    assert_int_equal(shutdown(other.end[0].fd, SHUT_WR), 0);
    for (uint64_t since = lab_now_ms(); lab_wait(since);) {
        struct weir_splice_path path;

        assert_int_equal(table->ops->path(other.side[0], &path), 0);
        if (path.fin_received)
            break;
    }
    assert_int_equal(lab_enter(&other, 0), -EOPNOTSUPP);
    table->ops->target_del(table, other.cookie[0]);
    assert_int_equal(table->ops->target_add(table, other.cookie[0], other.side[0]), -EOPNOTSUPP);
    assert_int_equal(lab_enter(&other, 1), 0); /* the other way is open still */
    lab_close(&other);
    run(100, 100);
}

/* As a mover in user space: the bytes of a side that is no source. */
static void copy(unsigned dir)
{
    char piece[8192];
    ssize_t n = recv(lab.side[dir], piece, sizeof(piece), MSG_DONTWAIT);

    if (n > 0)
        assert_int_equal(send(lab.side[!dir], piece, (size_t)n, MSG_NOSIGNAL), n);
}

/* Rule 6 as well: a side becomes a source only when it has nothing left to read. */
static bool drained(unsigned dir)
{
    char byte;

    return recv(lab.side[dir], &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

static void rule_08_leaving_by_freeze_loses_nothing(void **state)
{
    unsigned cycles = 0;
    uint64_t since = lab_now_ms();

    (void)state;
    while (cycles < CYCLES) {
        if (lab_now_ms() - since > 60 * 1000)
            fail_msg("%u cycles", cycles);
        if (lab.end[0].sent - lab.end[1].got < 64 * 1024)
            (void)lab_send(&lab.end[0], 3000 + cycles % 7 * 1000);
        (void)lab_recv(&lab.end[1], 64 * 1024);
        if (lab.pair[0].epoch) {
            assert_true(lab_tend(&lab));
            cycles += lab_leave(&lab, 0);
        } else {
            while (!drained(0))
                copy(0);
            assert_int_equal(lab_enter(&lab, 0), 0);
        }
    }
    while (lab.end[1].got < lab.end[0].sent) {
        copy(0);
        (void)lab_recv(&lab.end[1], 64 * 1024);
        assert_true(lab_now_ms() - since < 60 * 1000);
    }
    assert_int_equal(lab.end[1].got, lab.end[0].sent);
    assert_false(lab.end[1].wrong);
}

/* The target takes slowly: until it has all, the FIN may not go on. */
static void rule_09_a_half_close_waits_for_what_was_redirected(void **state)
{
    uint64_t since, held = 0;

    (void)state;
    lab_close(&lab);
    assert_int_equal(lab_open(&lab, table, 0, SMALL), 0);
    enter_both();
    (void)fill(&lab, &held);
    assert_int_equal(shutdown(lab.end[0].fd, SHUT_WR), 0);
    assert_false(lab_settled(&lab, 0));
    for (since = lab_now_ms(); !lab_settled(&lab, 0);) {
        (void)lab_recv(&lab.end[1], SMALL);
        assert_true(lab_tend(&lab));
        assert_true(lab_wait(since));
    }
    assert_int_equal(shutdown(lab.side[1], SHUT_WR), 0);
    for (since = lab_now_ms(); !lab.end[1].ended;) {
        (void)lab_recv(&lab.end[1], SMALL);
        assert_true(lab.end[1].ended || lab_wait(since));
    }
    assert_int_equal(lab.end[1].got, lab.end[0].sent);
    assert_false(lab.end[1].wrong);
}

static void rule_10_a_source_is_watched_for_its_end_alone(void **state)
{
    struct epoll_event event = { .events = EPOLLRDHUP };
    struct linger hard = { 1, 0 };
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    (void)state;
    enter_both();
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, lab.side[0], &event), 0);
    event.data.u32 = 1;
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, lab.side[1], &event), 0);
    run(3 * MIB, 1000);
    assert_int_equal(epoll_wait(epoll, &event, 1, 0), 0);
    assert_int_equal(shutdown(lab.end[0].fd, SHUT_WR), 0);
    assert_int_equal(epoll_wait(epoll, &event, 1, LAB_PATIENCE_MS), 1);
    assert_true(event.events & EPOLLRDHUP);
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_DEL, lab.side[0], NULL), 0);
    assert_int_equal(setsockopt(lab.end[1].fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
    close(lab.end[1].fd);
    lab.end[1].fd = -1;
    assert_int_equal(epoll_wait(epoll, &event, 1, LAB_PATIENCE_MS), 1);
    assert_true(event.events & EPOLLERR); /* a RST is told as well */
    close(epoll);
}

/* No socket comes by itself: what is not ours would see FIONREAD 0. Nor is there sk_msg, which reorders (rule 13). */
static void rule_11_and_13_only_our_sockets_and_one_program(void **state)
{
    const struct weir_splice_fds *fds = weir_kern_splice_fds(kern);
    struct weir_sp_key key = { 0 };
    __u32 ids[4], count = 4;
    int entries = 0;

    (void)state;
    enter_both();
    for (struct weir_sp_key *at = NULL; bpf_map_get_next_key(fds->dst, at, &key) == 0; at = &key) {
        assert_true(key.cookie == lab.cookie[0] || key.cookie == lab.cookie[1]);
        entries++;
    }
    assert_int_equal(entries, 2);
    assert_int_equal(bpf_prog_query(fds->src, BPF_SK_MSG_VERDICT, 0, NULL, ids, &count), 0);
    assert_int_equal(count, 0);
}

static void rule_12_a_link_where_there_are_links(void **state)
{
    struct weir_kern_opts opts = { .size = sizeof(opts), .no_link = true };
    struct weir_kern_state told;
    struct weir_splice_kern *plain_table;
    struct weir_kern *plain;
    __u32 ids[4], count = 4;
    struct lab other;
    int map;

    (void)state;
    plain = kit_open(&opts);
    weir_kern_state(plain, &told);
    assert_false(told.by_link);
    assert_int_equal(weir_splice_use(weir_kern_splice_fds(plain), &plain_table), 0);
    assert_int_equal(lab_open(&other, plain_table, 0, 0), 0);
    assert_int_equal(lab_enter(&other, 0), 0);
    assert_true(lab_run(&other, 100000, 0));
    lab_close(&other);
    weir_splice_done(&plain_table);
    map = dup(weir_kern_splice_fds(plain)->src);
    weir_kern_close(&plain, true);
    assert_int_equal(bpf_prog_query(map, BPF_SK_SKB_STREAM_VERDICT, 0, NULL, ids, &count), 0);
    assert_int_equal(count, 0); /* the map that somebody else holds has no program any more */
    close(map);
}

/* No bar here: a test asserts no time. It is why the mover takes no short connection. */
static void rule_14_the_cost_of_a_pair_is_told(void **state)
{
    struct timespec from, to;
    enum { PAIRS = 500 };

    (void)state;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (int i = 0; i < PAIRS; i++) {
        enter_both();
        assert_true(lab_leave(&lab, 0));
        assert_true(lab_leave(&lab, 1));
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    print_message("a pair in and out: %.1f us\n", ((double)(to.tv_sec - from.tv_sec) * 1e6 +
                                                   (double)(to.tv_nsec - from.tv_nsec) / 1e3) /
                                                      PAIRS);
}

static void rule_15_the_self_tests_decide(void **state)
{
    struct weir_splice_finding findings[WEIR_SPLICE_FINDINGS_MAX];
    int count = weir_splice_selftest(table, 0, findings);

    (void)state;
    assert_true(count >= 8);
    for (int i = 0; i < count; i++)
        if (!findings[i].good)
            print_message("%s: %s\n", findings[i].name, findings[i].why);
    assert_null(weir_splice_refuted(findings, count));
    findings[2].good = false;
    assert_ptr_equal(weir_splice_refuted(findings, count), &findings[2]);
}

static void rule_16_a_thaw_leaves_the_buffer_as_it_was(void **state)
{
    int before, grown, after, locks = -1;
    struct weir_splice_frost frost;
    socklen_t len = sizeof(int);

    (void)state;
    assert_int_equal(lab_enter(&lab, 0), 0);
    assert_int_equal(getsockopt(lab.side[0], SOL_SOCKET, SO_RCVBUF, &before, &len), 0);
    assert_int_equal(table->ops->freeze(lab.side[0], &frost), 0);
    assert_int_equal(getsockopt(lab.side[0], SOL_SOCKET, SO_RCVBUF, &grown, &len), 0);
    assert_int_equal(table->ops->thaw(lab.side[0], &frost), 0);
    assert_int_equal(getsockopt(lab.side[0], SOL_SOCKET, SO_RCVBUF, &after, &len), 0);
    assert_true(grown > before); /* that is what the rule is about */
    assert_int_equal(after, before);
    assert_int_equal(getsockopt(lab.side[0], SOL_SOCKET, 72 /* SO_BUF_LOCK */, &locks, &len), 0);
    assert_int_equal(locks, 0);
    run(MIB, 0);
}

static void rule_17_all_together_have_a_ceiling(void **state)
{
    enum { LABS = 6, CEILING = 2 * MIB };
    struct lab labs[LABS];
    uint64_t held = 0, sum = 0;

    table->ops->set_ceiling(table, CEILING);
    for (int i = 0; i < LABS; i++) {
        assert_int_equal(lab_open(&labs[i], table, 0, SMALL), 0);
        assert_int_equal(lab_enter(&labs[i], 0), 0);
        (void)fill(&labs[i], &held);
    }
    for (int i = 0; i < LABS; i++)
        sum += backlog(&labs[i], 0);
    assert_in_range(sum, 0, CEILING);
    assert_in_range(held, *state ? MIB : 1, CEILING); /* it is used, and not exceeded */
    for (int i = 0; i < LABS; i++) {
        assert_true(lab_run(&labs[i], labs[i].end[0].sent, 0));
        assert_false(labs[i].end[1].wrong);
        lab_close(&labs[i]);
    }
}

/* Nobody reads, and both write. What is passed waits behind what is redirected to the same socket, where nobody counts it, and
 * TCP's window stays open: 276 MiB a direction in five seconds, until only so much was redirected as the target has room for. */
static void rule_20_who_is_full_is_given_nothing(void **state)
{
    (void)state;
    lab_close(&lab);
    assert_int_equal(lab_open(&lab, table, 0, 0), 0);
    enter_both();
    for (int idle = 0; idle < 30;) {
        bool sent = lab_send(&lab.end[0], 64 * 1024) > 0;

        idle = (lab_send(&lab.end[1], 64 * 1024) > 0 || sent) ? 0 : idle + 1;
        lab_wait(0);
        assert_true(lab.end[0].sent < 64 << 20 && lab.end[1].sent < 64 << 20);
    }
    run(lab.end[0].sent, lab.end[1].sent);
}

/* Both of everything at once, many laps of the bound, by looking and by credit. */
static void large_both_ways(void **state)
{
    (void)state;
    lab_close(&lab);
    assert_int_equal(lab_open(&lab, table, 0, SMALL), 0);
    enter_both();
    run(24 * MIB, 16 * MIB);
}

#define RULE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    static char by_credit[] = "credit";
    const struct CMUnitTest rules[] = {
        RULE(rule_01_the_backlog_is_bounded),
        RULE(rule_02_a_verdict_and_no_parser),
        RULE(rule_03_egress_only),
        RULE(rule_04_a_fin_is_dropped_and_the_answer_comes),
        RULE(rule_05_a_piece_goes_whole_or_not_at_all),
        RULE(rule_06_what_was_queued_before_is_kicked),
        RULE(rule_07_established_once_and_in_a_map_without_program),
        RULE(rule_08_leaving_by_freeze_loses_nothing),
        RULE(rule_09_a_half_close_waits_for_what_was_redirected),
        RULE(rule_10_a_source_is_watched_for_its_end_alone),
        RULE(rule_11_and_13_only_our_sockets_and_one_program),
        RULE(rule_12_a_link_where_there_are_links),
        RULE(rule_14_the_cost_of_a_pair_is_told),
        RULE(rule_15_the_self_tests_decide),
        RULE(rule_16_a_thaw_leaves_the_buffer_as_it_was),
        RULE(rule_17_all_together_have_a_ceiling),
        RULE(rule_20_who_is_full_is_given_nothing),
        RULE(large_both_ways),
        { "credit: rule_01", rule_01_the_backlog_is_bounded, begin, end, by_credit },
        { "credit: rule_08", rule_08_leaving_by_freeze_loses_nothing, begin, end, by_credit },
        { "credit: rule_15", rule_15_the_self_tests_decide, begin, end, by_credit },
        { "credit: rule_17", rule_17_all_together_have_a_ceiling, begin, end, by_credit },
        { "credit: large_both_ways", large_both_ways, begin, end, by_credit },
    };

    kit_begin();
    return cmocka_run_group_tests(rules, NULL, NULL);
}
