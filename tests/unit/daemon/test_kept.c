/* SPDX-License-Identifier: Apache-2.0 */
/** test_kept.c: what a proxy says of tunnels, and what its keeper makes of it: of a good one, and of one that somebody has
 * taken. */
#include "daemon/keeper_internal.h"
#include "daemon/kept.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct keeper *keeper;
static struct keeper_child *one, *other;

static unsigned open_fds(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int setup(void **state)
{
    keeper = calloc(1, sizeof(*keeper));
    keeper->tunnel_max = 3;
    one = &keeper->children[0];
    other = &keeper->children[1];
    for (int i = 0; i < KEEPER_CHILDREN_MAX; i++)
        keeper->children[i].channel = -1;
    return keeper_closes_soon();
}

static int teardown(void **state)
{
    keeper_held_drop(keeper, NULL);
    keeper_held_drop(keeper, one);
    keeper_held_drop(keeper, other);
    assert_int_equal(keeper->tunnel_count, 0);
    free(keeper);
    return 0;
}

/* [0] is what the proxy has, [1] its peer's. */
static void connection(int fd[2])
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(addr);
    int lfd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(lfd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(lfd, 1), 0);
    assert_int_equal(getsockname(lfd, (struct sockaddr *)&addr, &len), 0);
    fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd[1], (struct sockaddr *)&addr, len), 0);
    fd[0] = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd[0] >= 0);
    close(lfd);
}

static uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
    return cookie;
}

/* The keeper hears it as it would through the channel. */
static void say(struct keeper_child *child, struct weir_manifest *body)
{
    keeper_held_take(keeper, child, body);
    weir_manifest_fini(body);
}

static void add(struct weir_manifest *body, int down, int up, const char *record, size_t len)
{
    const struct weir_tunnel_given given = { { dup(down), dup(up) }, { record, len } };

    assert_int_equal(weir_tunnels_add(body, "", &given), 0);
}

static void let_go(struct keeper_child *child, uint64_t cookie, bool cut)
{
    struct weir_manifest body = { 0 };
    struct weir_str name = { (const char *)&cookie, sizeof(cookie) };

    assert_int_equal(
        weir_manifest_add(&body, WEIR_GIVEN_TUNNEL, cut ? WEIR_TUNNELS_CUT : "", name, -1), 0);
    keeper_held_let_go(keeper, child, &body);
    weir_manifest_fini(&body);
}

static int read_of(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 ? -errno : 0;
}

static void held_and_let_go(void **state)
{
    unsigned before = open_fds();
    int down[2], up[2];
    uint64_t cookie;

    connection(down);
    connection(up);
    cookie = cookie_of(down[0]);
    for (unsigned cut = 0; cut < 2; cut++) {
        struct weir_manifest body = { 0 };

        add(&body, down[0], up[0], "what it was", 11);
        say(one, &body);
        assert_int_equal(keeper->tunnel_count, 1);
        let_go(other, cookie, false); /* it is not that one's */
        let_go(one, cookie + 1, false);
        assert_int_equal(keeper->tunnel_count, 1);
        if (cut) { /* the proxy's are closed before */
            close(down[0]);
            close(up[0]);
            assert_int_equal(read_of(down[1]), -EAGAIN);
        }
        let_go(one, cookie, cut);
        assert_int_equal(keeper->tunnel_count, 0);
        assert_int_equal(read_of(down[1]), cut ? -ECONNRESET : -EAGAIN);
    }
    close(down[1]);
    close(up[1]);
    assert_int_equal(open_fds(), before);
}

static void what_is_none(void **state)
{
    unsigned before = open_fds();
    int down[2], up[2], pipes[2], lfd = socket(AF_INET, SOCK_STREAM, 0), local[2];
    static char large[WEIR_TUNNEL_RECORD_MAX + 1];
    struct weir_manifest body = { 0 };

    connection(down);
    connection(up);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, local), 0);
    assert_int_equal(listen(lfd, 1), 0);
    add(&body, pipes[0], up[0], "", 0);
    add(&body, down[0], pipes[1], "", 0);
    add(&body, local[0], up[0], "", 0);
    add(&body, down[0], lfd, "", 0);
    say(one, &body);
    add(&body, down[0], up[0], large, sizeof(large));
    say(one, &body);
    assert_int_equal(weir_manifest_add(&body, WEIR_GIVEN_TUNNEL, "", WEIR_STR("x"), dup(down[0])),
                     0);
    say(one, &body); /* one socket alone */
    assert_int_equal(weir_manifest_add(&body, WEIR_GIVEN_TUNNEL, "", WEIR_STR("x"), dup(down[0])),
                     0);
    assert_int_equal(weir_manifest_add(&body, WEIR_GIVEN_TUNNEL, "", WEIR_STR(""), -1), 0);
    say(one, &body); /* and one without */
    assert_int_equal(keeper->tunnel_count, 0);
    add(&body, down[0], up[0], "", 0);
    add(&body, down[0], up[0], "", 0); /* it is here already */
    say(one, &body);
    assert_int_equal(keeper->tunnel_count, 1);
    keeper_held_drop(keeper, one);
    for (int i = 0; i < 2; i++) {
        close(down[i]);
        close(up[i]);
        close(pipes[i]);
        close(local[i]);
    }
    close(lfd);
    assert_int_equal(open_fds(), before);
}

static void no_more_than_fit(void **state)
{
    unsigned before = open_fds();
    int down[5][2], up[2];

    connection(up);
    for (int i = 0; i < 5; i++) {
        struct weir_manifest body = { 0 };

        connection(down[i]);
        add(&body, down[i][0], up[0], "", 0);
        say(one, &body);
    }
    assert_int_equal(keeper->tunnel_count, 3);
    keeper_held_drop(keeper, one);
    for (int i = 0; i < 5; i++) {
        close(down[i][0]);
        close(down[i][1]);
    }
    close(up[0]);
    close(up[1]);
    assert_int_equal(open_fds(), before);
}

/* The next proxy is given what the last one had, with the record, whole; and the keeper has it still. */
static void given_on(void **state)
{
    struct weir_inbox inbox = { 0 };
    struct weir_manifest body = { 0 };
    struct weir_tunnel_given given;
    struct weir_entry *at = NULL;
    int down[2], up[2], ends[2];
    unsigned before = open_fds(), word = 0;

    connection(down);
    connection(up);
    add(&body, down[0], up[0], "what\0it was", 11);
    say(one, &body);
    keeper_held_orphan(keeper, one);
    let_go(one, cookie_of(down[0]), false);
    assert_int_equal(keeper->tunnel_count, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    other->channel = ends[0];
    keeper_held_give(keeper, other);
    assert_int_equal(weir_manifest_recv(ends[1], 0, &inbox, &word, &body), 1);
    assert_int_equal(word, WEIR_SAYS_TUNNELS);
    assert_true(weir_tunnels_next(&body, &at, NULL, &given));
    assert_int_equal(given.record.len, 11);
    assert_memory_equal(given.record.ptr, "what\0it was", 11);
    assert_true(cookie_of(given.fd[0]) == cookie_of(down[0]));
    assert_true(cookie_of(given.fd[1]) == cookie_of(up[0]));
    close(given.fd[0]);
    close(given.fd[1]);
    assert_false(weir_tunnels_next(&body, &at, NULL, &given));
    weir_manifest_fini(&body);
    keeper_held_give(keeper, other); /* nothing is left to give */
    assert_int_equal(weir_manifest_recv(ends[1], MSG_DONTWAIT, &inbox, &word, &body), -EAGAIN);
    let_go(other, cookie_of(down[0]), false);
    assert_int_equal(keeper->tunnel_count, 0);
    other->channel = -1;
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(down[i]);
        close(up[i]);
    }
    assert_int_equal(open_fds(), before);
}

/* Of a proxy that has retired: as it says that it is now; and what does not fit has no clean end. */
static void handed_over(void **state)
{
    unsigned before = open_fds();
    struct weir_manifest body = { 0 };
    const struct keeper_tunnel *tunnel;
    int down[2], more[2], up[2];

    connection(down);
    connection(more);
    connection(up);
    keeper->tunnel_max = 1;
    add(&body, down[0], up[0], "before", 6);
    say(one, &body);
    add(&body, down[0], up[0], "after", 5);
    add(&body, more[0], up[0], "", 0);
    keeper_held_hand(keeper, one, &body);
    weir_manifest_fini(&body);
    assert_int_equal(keeper->tunnel_count, 1);
    tunnel = keeper->tunnels[cookie_of(down[0]) % KEEPER_HELD_ROWS];
    assert_memory_equal(tunnel->record, "after", 5);
    assert_null(tunnel->owner);
    close(more[0]);
    assert_int_equal(read_of(more[1]), -ECONNRESET);
    keeper_held_drop(keeper, NULL);
    close(more[1]);
    for (int i = 0; i < 2; i++) {
        close(down[i]);
        close(up[i]);
    }
    assert_int_equal(open_fds(), before);
}

/* What it leaves to itself when it becomes another binary: each its owner's. */
static void across_an_exec(void **state)
{
    unsigned before = open_fds();
    struct weir_manifest all = { 0 }, body = { 0 };
    int down[2][2], up[2];

    connection(up);
    connection(down[0]);
    connection(down[1]);
    one->pid = 101;
    add(&body, down[0][0], up[0], "a", 1);
    say(one, &body);
    add(&body, down[1][0], up[0], "b", 1);
    say(other, &body);
    keeper_held_orphan(keeper, other);
    assert_int_equal(keeper_held_leave(keeper, &all), 0);
    keeper_held_drop(keeper, one);
    keeper_held_drop(keeper, NULL);
    assert_int_equal(keeper->tunnel_count, 0);
    keeper_held_resume(keeper, other, "101", &all);
    keeper_held_resume(keeper, NULL, "0", &all);
    weir_manifest_fini(&all);
    assert_int_equal(keeper->tunnel_count, 2);
    let_go(other, cookie_of(down[0][0]), false);
    assert_int_equal(keeper->tunnel_count, 1);
    keeper_held_drop(keeper, NULL);
    assert_int_equal(keeper->tunnel_count, 0);
    for (int i = 0; i < 2; i++) {
        close(down[0][i]);
        close(down[1][i]);
        close(up[i]);
    }
    assert_int_equal(open_fds(), before);
}

static void a_record_of_another_size(void **state)
{
    struct weir_manifest body = { 0 };
    struct weir_kept kept[2];
    int down[2], up[2];

    connection(down);
    connection(up);
    add(&body, down[0], up[0], "short", 5);
    assert_int_equal(weir_kept_take(&body, kept, 2), 1);
    assert_int_equal(kept[0].record.version, 0); /* which nobody adopts */
    for (int i = 0; i < 2; i++) {
        close(kept[0].fd[i]);
        close(down[i]);
        close(up[i]);
    }
    weir_manifest_fini(&body);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(held_and_let_go), TEST(what_is_none),   TEST(no_more_than_fit),
        TEST(given_on),        TEST(across_an_exec), TEST(a_record_of_another_size),
        TEST(handed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
