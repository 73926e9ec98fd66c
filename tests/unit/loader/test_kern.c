/* SPDX-License-Identifier: Apache-2.0 */
/** test_kern.c: what is loaded, pinned, taken over, refused and taken away. */
#include "loader_kit.h"

#include <bpf/bpf.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static char path[300];

static const char *at(const char *rest)
{
    snprintf(path, sizeof(path), "%s/weir/%s", bpffs, rest);
    return path;
}

static struct weir_kern_opts opts_of(const char *instance)
{
    return (struct weir_kern_opts){ .size = sizeof(struct weir_kern_opts),
                                    .instance = instance,
                                    .bpffs = bpffs };
}

/* Nothing is left on the BPF filesystem, and no descriptor here. */
static int clean(void **state)
{
    (void)state;
    assert_int_equal(kit_entries(bpffs), 0);
    assert_int_equal(kit_bpf_fds(), 0);
    return 0;
}

static void test_pins_by_name_and_gone_after_stop(void **state)
{
    struct weir_kern_opts opts = opts_of("a.b");
    struct weir_kern *kern = kit_open(&opts);
    struct weir_kern_state told;

    (void)state;
    weir_kern_state(kern, &told);
    assert_true(told.pinned && !told.adopted);
    assert_int_equal(kit_entries(at("a%b/v1/maps")), 7); /* a name on bpffs has no '.' */
    assert_int_equal(kit_entries(at("a%b/v1/progs")), 1);
    assert_int_equal(kit_entries(at("a%b/v1/links")), told.by_link);
    weir_kern_close(&kern, true);
}

/* As after a crash: the next one finds maps, program and link, and all that is in them. */
static void test_pins_are_used_again(void **state)
{
    struct weir_kern_opts opts = opts_of("main");
    struct weir_kern *kern = kit_open(&opts);
    struct weir_splice_kern *table;
    struct weir_kern_state told;
    struct lab lab;
    char what[200];

    (void)state;
    assert_int_equal(weir_splice_use(weir_kern_splice_fds(kern), &table), 0);
    assert_int_equal(lab_open(&lab, table, 0, 0), 0);
    assert_int_equal(lab_enter(&lab, 0), 0);
    assert_true(lab_run(&lab, 5000, 0));
    weir_splice_done(&table);
    weir_kern_close(&kern, false);
    assert_int_equal(kit_bpf_fds(), 0);
    assert_int_equal(lab_send(&lab.end[0], 3000), 3000); /* nobody is there, and it goes on */
    for (uint64_t since = lab_now_ms(); lab.end[1].got < 8000;) {
        (void)lab_recv(&lab.end[1], 4096);
        assert_true(lab_wait(since) || lab.end[1].got == 8000);
    }
    assert_false(lab.end[1].wrong);

    kern = kit_open(&opts);
    weir_kern_state(kern, &told);
    assert_true(told.adopted);
    assert_int_equal(weir_splice_use(weir_kern_splice_fds(kern), &table), 0);
    lab.kern = table;
    assert_int_equal(lab_flow(&lab, 0).moved_bytes, 8000);
    assert_int_equal(lab_enter(&lab, 1), 0);
    assert_true(lab_run(&lab, 9000, 9000));
    lab_close(&lab);
    weir_splice_done(&table);
    weir_kern_close(&kern, false);
    assert_int_equal(weir_kern_unload(bpffs, "main", what, sizeof(what)), told.by_link ? 9 : 8);
}

/* Entries of sockets that died with their process are swept, and hold nothing. */
static void test_what_died_is_swept(void **state)
{
    struct weir_kern_opts opts = opts_of("main");
    struct weir_kern *kern = kit_open(&opts);
    struct weir_splice_kern *table;
    struct weir_sp_key key;
    struct lab lab;

    (void)state;
    assert_int_equal(weir_splice_use(weir_kern_splice_fds(kern), &table), 0);
    assert_int_equal(lab_open(&lab, table, 0, 0), 0);
    assert_int_equal(lab_enter(&lab, 0), 0);
    assert_true(lab_run(&lab, 5000, 0));
    lab.pair[0].epoch = 0; /* as if nobody were left to say so */
    lab_close(&lab);
    assert_int_equal(bpf_map_get_next_key(weir_kern_splice_fds(kern)->flow, NULL, &key), 0);
    weir_splice_done(&table);
    weir_kern_close(&kern, false);
    kern = kit_open(&opts);
    assert_int_equal(bpf_map_get_next_key(weir_kern_splice_fds(kern)->flow, NULL, &key), -ENOENT);
    assert_int_equal(bpf_map_get_next_key(weir_kern_splice_fds(kern)->pair, NULL, &key), -ENOENT);
    weir_kern_close(&kern, true);
}

static int foreign_map(const char *name)
{
    int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "somebody", 4, 4, 16, NULL);

    assert_true(fd >= 0);
    assert_int_equal(bpf_obj_pin(fd, name), 0);
    return fd;
}

/* A start that fails takes away what it has made, and nothing that was there. */
static void test_foreign_pins_stay(void **state)
{
    struct weir_kern_opts opts = opts_of("main");
    struct weir_kern_fault fault = { "", "" };
    struct weir_kern *kern;
    int fd;

    (void)state;
    assert_int_equal(mkdir(at(""), 0700), 0);
    assert_int_equal(mkdir(at("main"), 0700), 0);
    assert_int_equal(mkdir(at("main/v1"), 0700), 0);
    assert_int_equal(mkdir(at("main/v1/maps"), 0700), 0);
    fd = foreign_map(at("main/v1/maps/weir_sp_flow"));
    assert_int_equal(weir_kern_open(&kern, &opts, &fault), -EEXIST);
    assert_null(kern);
    assert_non_null(strstr(fault.text, "main/v1/maps/weir_sp_flow"));
    assert_int_equal(kit_entries(at("main/v1/maps")), 1);
    assert_int_equal(kit_entries(at("main/v1")), 1);
    opts.replace = true;
    kern = kit_open(&opts);
    weir_kern_close(&kern, true);
    close(fd);
}

/* There is no way on: the start is undone to the last folder. */
static void test_a_failed_start_leaves_nothing(void **state)
{
    struct weir_kern_opts opts = opts_of("main");
    struct weir_kern_fault fault = { "", "" };
    struct weir_kern *kern;

    (void)state;
    opts.ring_base = WEIR_SP_RINGS_MAX;
    assert_int_equal(weir_kern_open(&kern, &opts, &fault), -E2BIG);
    assert_non_null(strstr(fault.text, "ring"));
}

static void test_without_a_bpf_filesystem(void **state)
{
    struct weir_kern_opts opts = opts_of("main");
    struct weir_kern_state told;
    struct weir_kern *kern;

    (void)state;
    opts.bpffs = "/tmp";
    kern = kit_open(&opts);
    weir_kern_state(kern, &told);
    assert_false(told.pinned);
    assert_non_null(strstr(told.note, "/tmp"));
    weir_kern_close(&kern, true);
}

static void test_unload_and_list(void **state)
{
    struct weir_kern_opts one = opts_of("one"), two = opts_of("two");
    struct weir_kern *kern;
    char what[200], text[4096] = "";
    FILE *out = fmemopen(text, sizeof(text), "w");

    (void)state;
    kern = kit_open(&one);
    weir_kern_close(&kern, false);
    two.no_link = true;
    kern = kit_open(&two);
    weir_kern_close(&kern, false);
    assert_int_equal(weir_kern_list(bpffs, NULL, true, out), 2);
    assert_int_equal(weir_kern_list(bpffs, "one", false, out), 1);
    assert_int_equal(weir_kern_list(bpffs, "nobody", false, out), 0);
    fclose(out);
    assert_non_null(strstr(
        text, "{\"instance\":\"two\",\"abi\":\"v1\",\"kind\":\"prog\",\"name\":\"weir_splice\""));
    assert_non_null(strstr(text, "0 of 131072 entries"));
    assert_int_equal(weir_kern_unload(bpffs, "nobody", what, sizeof(what)), 0);
    assert_true(weir_kern_unload(bpffs, "one", what, sizeof(what)) >= 8);
    assert_int_equal(kit_entries(at("")), 1);
    assert_int_equal(weir_kern_unload(bpffs, "two", what, sizeof(what)), 8);
}

/* ---- rights ------------------------------------------------------------------------------- */

static void limit(uint64_t caps)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { (__u32)caps, (__u32)caps, 0 },
                                              { (__u32)(caps >> 32), (__u32)(caps >> 32), 0 } };

    if (syscall(SYS_capset, &header, data))
        _exit(98);
}

/* This process, as uid 65534 with these capabilities alone. */
static void become(uint64_t caps)
{
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) ||
        setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
        _exit(99);
    limit(caps);
}

enum { BPF = 39, PERFMON = 38 };
#define CAP(n) (1ull << (n))

/* In a child: 0, or which step has failed. */
static int as_plain_user(uint64_t caps, bool pin, bool looks)
{
    struct weir_kern_opts opts = opts_of(pin ? "plain" : NULL);
    struct weir_kern_fault fault = { "", "" };
    struct weir_splice_finding findings[WEIR_SPLICE_FINDINGS_MAX];
    struct weir_splice_kern *table;
    struct weir_kern_state told;
    struct weir_kern *kern;
    int count;

    become(caps);
    if (weir_kern_open(&kern, &opts, &fault)) {
        fprintf(stderr, "%s\n", fault.text);
        return 1;
    }
    weir_kern_state(kern, &told);
    if (told.looks != looks || told.pinned != pin)
        return 2;
    limit(0); /* who uses it needs nothing */
    if (weir_splice_use(weir_kern_splice_fds(kern), &table))
        return 3;
    count = weir_splice_selftest(table, 0, findings);
    if (count < 0 || weir_splice_refuted(findings, count)) {
        const struct weir_splice_finding *bad =
            weir_splice_refuted(findings, count < 0 ? 0 : count);

        fprintf(stderr, "%d %s: %s\n", count, bad ? bad->name : "?", bad ? bad->why : "?");
        return 4;
    }
    weir_splice_done(&table);
    weir_kern_close(&kern, true);
    return 0;
}

static int in_child(uint64_t caps, bool pin, bool looks)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(as_plain_user(caps, pin, looks));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

static void test_two_capabilities_suffice(void **state)
{
    (void)state;
    assert_int_equal(in_child(CAP(BPF) | CAP(CAP_NET_ADMIN), true, false), 0);
    assert_int_equal(in_child(CAP(BPF) | CAP(CAP_NET_ADMIN) | CAP(PERFMON), true, true), 0);
}

static void test_none_is_told(void **state)
{
    struct weir_kern_fault fault = { "", "" };
    int status = 0;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        struct weir_kern_opts opts = opts_of(NULL);
        struct weir_kern *kern;

        become(CAP(CAP_NET_ADMIN));
        _exit(weir_kern_open(&kern, &opts, &fault) == -EPERM &&
                      strstr(fault.text, "CAP_BPF is missing")
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pins_by_name_and_gone_after_stop),
        TEST(test_pins_are_used_again),
        TEST(test_what_died_is_swept),
        TEST(test_foreign_pins_stay),
        TEST(test_a_failed_start_leaves_nothing),
        TEST(test_without_a_bpf_filesystem),
        TEST(test_unload_and_list),
        TEST(test_two_capabilities_suffice),
        TEST(test_none_is_told),
    };

    kit_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
