/* SPDX-License-Identifier: Apache-2.0 */
/** test_manifest.c: entries through a socket and across an exec, with any number of descriptors; and what is not one is
 * refused, and leaves none open. */
#include "daemon/manifest_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned open_fds(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int null_fd(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void channel(int ends[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
}

static void settings(void **state)
{
    struct weir_manifest m = { 0 };

    assert_int_equal(weir_manifest_set(&m, "a", "text"), 0);
    assert_int_equal(weir_manifest_set_number(&m, "n", -5), 0);
    assert_int_equal(weir_manifest_set(&m, "odd", "5x"), 0);
    assert_string_equal(weir_manifest_get(&m, "a"), "text");
    assert_null(weir_manifest_get(&m, "b"));
    assert_int_equal(weir_manifest_number(&m, "n", 1), -5);
    assert_int_equal(weir_manifest_number(&m, "odd", 1), 1);
    assert_int_equal(weir_manifest_number(&m, "a", 1), 1);
    assert_int_equal(weir_manifest_number(&m, "none", 7), 7);
    weir_manifest_fini(&m);
}

/* Blocks when the socket is full: so the other side is a process. */
static void any_number(void **state)
{
    enum { COUNT = 700 };
    struct weir_manifest sent = { 0 }, got = { 0 };
    struct rlimit limit = { 4000, 4000 };
    struct weir_inbox inbox = { 0 };
    unsigned before, word = 0;
    char name[32], *large = calloc(1, WEIR_ENTRY_VALUE_MAX);
    struct stat first, one;
    int ends[2], n = 0, frames = 0;
    pid_t pid;

    (void)!setrlimit(RLIMIT_NOFILE, &limit);
    channel(ends);
    before = open_fds();
    pid = fork();
    if (pid == 0) {
        for (int i = 0; i < COUNT; i++) {
            snprintf(name, sizeof(name), "socket %d", i);
            if (weir_manifest_add(&sent, WEIR_GIVEN_SOCKET, name, WEIR_STR("v\0w"),
                                  i % 7 == 6 ? -1 : null_fd()))
                _exit(1);
        }
        for (int i = 0; i < 5; i++)
            if (weir_manifest_add(&sent, WEIR_GIVEN_SETTING, "large",
                                  (struct weir_str){ large, WEIR_ENTRY_VALUE_MAX }, -1))
                _exit(1);
        _exit(weir_manifest_send(ends[1], 3, &sent) ? 1 : 0);
    }
    close(ends[1]);
    stat("/dev/null", &first);
    while (n == 0) {
        n = weir_manifest_recv(ends[0], 0, &inbox, &word, &got);
        frames++;
    }
    assert_int_equal(n, 1);
    assert_true(frames > 3);
    assert_int_equal(word, 3);
    assert_int_equal(got.count, COUNT + 5);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "socket %d", i);
        assert_string_equal(got.at[i].name, name);
        assert_int_equal(got.at[i].value_len, 3);
        assert_memory_equal(got.at[i].value, "v\0w", 4);
        assert_true((got.at[i].fd >= 0) == (i % 7 != 6));
        if (got.at[i].fd < 0)
            continue;
        assert_int_equal(fstat(got.at[i].fd, &one), 0);
        assert_int_equal(one.st_rdev, first.st_rdev);
        assert_int_equal(fcntl(got.at[i].fd, F_GETFD), FD_CLOEXEC);
    }
    assert_int_equal(got.at[COUNT].value_len, WEIR_ENTRY_VALUE_MAX);
    weir_manifest_fini(&got);
    assert_int_equal(open_fds(), before - 1);
    assert_int_equal(weir_manifest_recv(ends[0], 0, &inbox, &word, &got), -EPIPE);
    close(ends[0]);
    free(large);
}

/* Of a message in several frames, in the second of which they do not fit any more. */
static void no_room_for_descriptors(void **state)
{
    enum { COUNT = 400, ROOM = 300 };
    struct weir_manifest sent = { 0 }, got = { 0 };
    struct weir_inbox inbox = { 0 };
    struct rlimit before, tight;
    unsigned word = 0, open;
    int ends[2], n = 0;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    channel(ends);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(weir_manifest_add(&sent, WEIR_GIVEN_SOCKET, "s", WEIR_STR(""), null_fd()),
                         0);
    assert_int_equal(weir_manifest_send(ends[1], 7, &sent), 0);
    assert_int_equal(weir_manifest_send(ends[1], 8, NULL), 0);
    weir_manifest_fini(&sent);
    open = open_fds();
    tight.rlim_cur = (rlim_t)ends[1] + ROOM;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    while (n == 0)
        n = weir_manifest_recv(ends[0], 0, &inbox, &word, &got);
    assert_int_equal(n, -EMFILE);
    assert_int_equal(word, 7);
    assert_int_equal(got.count, 0);
    assert_int_equal(open_fds(), open);
    assert_int_equal(weir_manifest_recv(ends[0], 0, &inbox, &word, &got), 1); /* it goes on */
    assert_int_equal(word, 8);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    close(ends[0]);
    close(ends[1]);
}

static void nothing_there(void **state)
{
    struct weir_manifest got = { 0 };
    struct weir_inbox inbox = { 0 };
    unsigned word = 0;
    int ends[2];

    channel(ends);
    assert_int_equal(weir_manifest_recv(ends[0], MSG_DONTWAIT, &inbox, &word, &got), -EAGAIN);
    assert_int_equal(weir_manifest_send(ends[1], 9, NULL), 0); /* a word alone */
    assert_int_equal(weir_manifest_recv(ends[0], MSG_DONTWAIT, &inbox, &word, &got), 1);
    assert_int_equal(word, 9);
    assert_int_equal(got.count, 0);
    close(ends[0]);
    assert_int_equal(weir_manifest_send(ends[1], 9, NULL), -EPIPE);
    close(ends[1]);
}

static void too_long(void **state)
{
    struct weir_manifest m = { 0 };
    unsigned before = open_fds();
    char name[WEIR_ENTRY_NAME_MAX + 2];

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(weir_manifest_add(&m, WEIR_GIVEN_LOG, name, WEIR_STR(""), null_fd()),
                     -ENAMETOOLONG);
    assert_int_equal(weir_manifest_add(&m, WEIR_GIVEN_LOG, "x",
                                       (struct weir_str){ name, WEIR_ENTRY_VALUE_MAX + 1 }, -1),
                     -ENAMETOOLONG);
    assert_int_equal(m.count, 0);
    assert_int_equal(open_fds(), before);
    weir_manifest_fini(&m);
}

/* A frame as it should be, to be broken. */
static size_t frame(char *to, size_t entries, const struct entry_head *heads)
{
    struct frame_head head = { .magic = MANIFEST_MAGIC,
                               .version = WEIR_MANIFEST_VERSION,
                               .word = 2,
                               .flags = FRAME_LAST,
                               .entries = (uint32_t)entries };
    size_t len = sizeof(head);

    for (size_t i = 0; i < entries; i++) {
        memcpy(to + len, &heads[i], sizeof(heads[i]));
        len += sizeof(heads[i]);
        memset(to + len, 'n', heads[i].name_len + heads[i].value_len);
        len += heads[i].name_len + heads[i].value_len;
    }
    head.bytes = (uint32_t)(len - sizeof(head));
    memcpy(to, &head, sizeof(head));
    return len;
}

static int parse(const char *data, size_t len, unsigned fds_count)
{
    struct weir_manifest m = { 0 };
    unsigned before = open_fds(), word;
    int fds[8], err;
    bool last;

    for (unsigned i = 0; i < fds_count; i++)
        fds[i] = null_fd();
    err = weir_manifest_parse(data, len, fds, fds_count, &word, &last, &m);
    weir_manifest_fini(&m);
    assert_int_equal(open_fds(), before);
    return err;
}

static void believes_nothing(void **state)
{
    static const struct entry_head good[] = { { WEIR_GIVEN_SOCKET, 3, 2, 0 },
                                              { WEIR_GIVEN_SETTING, 1, 0, -1 },
                                              { WEIR_GIVEN_LOG, 0, 4, 0 } };
    struct entry_head bad;
    char data[256], copy[256];
    size_t len = frame(data, 3, good);

    assert_int_equal(parse(data, len, 2), 0);
    assert_int_equal(parse(data, len, 1), -EBADMSG); /* fewer descriptors than are spoken of */
    assert_int_equal(parse(data, len, 3), -EBADMSG);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(parse(data, cut, 2), -EBADMSG);
    memcpy(copy, data, len);
    copy[len] = 'x';
    assert_int_equal(parse(copy, len + 1, 2), -EBADMSG);
    copy[4]++; /* the version */
    assert_int_equal(parse(copy, len, 2), -EPROTO);
    for (size_t at = 0; at < len; at++)
        for (int bit = 0; bit < 8; bit++) { /* whatever it means then, nothing stays open */
            memcpy(copy, data, len);
            copy[at] ^= (char)(1 << bit);
            (void)parse(copy, len, 2);
        }
    for (int field = 0; field < 5; field++) {
        bad = good[0];
        bad.kind = field == 0 ? 0 : field == 1 ? WEIR_GIVEN_END : bad.kind;
        bad.name_len = field == 2 ? WEIR_ENTRY_NAME_MAX + 1 : bad.name_len;
        bad.fd = field == 3 ? -2 : field == 4 ? 1 : bad.fd;
        len = frame(data, 1, &good[0]);
        memcpy(data + sizeof(struct frame_head), &bad, sizeof(bad));
        assert_int_equal(parse(data, len, 1), -EBADMSG);
    }
    len = frame(data, 1, &good[0]);
    data[len - 3] = '\0'; /* in a name */
    assert_int_equal(parse(data, len, 1), -EBADMSG);
}

/* The frames of a message have one word. */
static void words_do_not_mix(void **state)
{
    static const struct entry_head one = { WEIR_GIVEN_SETTING, 1, 0, -1 };
    struct weir_manifest got = { 0 };
    struct weir_inbox inbox = { 0 };
    unsigned word = 0;
    struct frame_head head;
    char data[64];
    size_t len = frame(data, 1, &one);
    int ends[2];

    channel(ends);
    memcpy(&head, data, sizeof(head));
    head.flags = 0;
    memcpy(data, &head, sizeof(head));
    assert_int_equal(send(ends[1], data, len, 0), len);
    assert_int_equal(weir_manifest_recv(ends[0], 0, &inbox, &word, &got), 0);
    head.word++;
    memcpy(data, &head, sizeof(head));
    assert_int_equal(send(ends[1], data, len, 0), len);
    assert_int_equal(weir_manifest_recv(ends[0], 0, &inbox, &word, &got), -EBADMSG);
    assert_int_equal(inbox.body.count, 0);
    close(ends[0]);
    close(ends[1]);
}

static void across_an_exec(void **state)
{
    struct weir_manifest left = { 0 }, found = { 0 };
    int fd = null_fd(), saved;

    assert_int_equal(weir_manifest_add(&left, WEIR_GIVEN_SOCKET, "a", WEIR_STR("b"), fd), 0);
    assert_int_equal(weir_manifest_set(&left, "k", "v"), 0);
    saved = weir_manifest_save(&left);
    assert_true(saved >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), 0); /* it stays open across the exec */
    assert_int_equal(weir_manifest_load(saved, &found), 0);
    assert_int_equal(found.count, 2);
    assert_int_equal(found.at[0].fd, fd);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_string_equal(weir_manifest_get(&found, "k"), "v");
    weir_entry_take(&found.at[0]); /* `left` has it as well */
    weir_manifest_fini(&found);
    weir_manifest_fini(&left);
    assert_int_equal(weir_manifest_load(saved, &found), -EBADMSG); /* the descriptor is not open */
    weir_manifest_fini(&found);
    assert_int_equal(ftruncate(saved, 25), 0);
    assert_int_equal(weir_manifest_load(saved, &found), -EBADMSG);
    weir_manifest_fini(&found);
    close(saved);
    saved = null_fd();
    assert_int_equal(weir_manifest_load(saved, &found), -EBADMSG);
    close(saved);
    assert_int_equal(weir_manifest_load(-1, &found), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings),         cmocka_unit_test(any_number),
        cmocka_unit_test(nothing_there),    cmocka_unit_test(too_long),
        cmocka_unit_test(believes_nothing), cmocka_unit_test(words_do_not_mix),
        cmocka_unit_test(across_an_exec),   cmocka_unit_test(no_room_for_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
