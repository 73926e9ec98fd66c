/* SPDX-License-Identifier: Apache-2.0 */
/* One daemon an instance; where instances live; where log lines go. */
#include "daemon/lock.h"
#include "daemon/log_target.h"
#include "daemon/notify.h"
#include "daemon/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/weir-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(dir);
}

static void only_one(void **state)
{
    struct weir_lock first, second;
    char path[128];
    pid_t holder = -1;

    (void)state;
    snprintf(path, sizeof(path), "%s/lock", dir);
    assert_int_equal(weir_lock_take(&first, path, &holder), 0);
    assert_int_equal(weir_lock_take(&second, path, &holder), -EEXIST);
    assert_int_equal(holder, getpid());
    weir_lock_drop(&first);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(weir_lock_take(&second, path, &holder), 0);
    weir_lock_drop(&second);
    assert_int_equal(weir_lock_take(&first, "/nonexistent/lock", &holder), -ENOENT);
}

static void no_link_is_followed(void **state)
{
    struct weir_lock lock;
    char path[128], target[128];
    pid_t holder;

    (void)state;
    snprintf(path, sizeof(path), "%s/lock", dir);
    snprintf(target, sizeof(target), "%s/target", dir);
    assert_int_equal(symlink(target, path), 0);
    assert_int_equal(weir_lock_take(&lock, path, &holder), -ELOOP);
    assert_int_equal(access(target, F_OK), -1);
    unlink(path);
}

static void names_of_instances(void **state)
{
    char path[WEIR_PATH_BYTES];

    (void)state;
    assert_true(weir_instance_valid(WEIR_STR("main")));
    assert_true(weir_instance_valid(WEIR_STR("a-b_c.2")));
    assert_false(weir_instance_valid(WEIR_STR("")));
    assert_false(weir_instance_valid(WEIR_STR("..")));
    assert_false(weir_instance_valid(WEIR_STR("a/b")));
    assert_false(weir_instance_valid(WEIR_STR("a b")));
    assert_true(weir_instance_path(WEIR_STR("x"), "lock", path));
    assert_non_null(strstr(path, "/x/lock"));
}

static size_t read_all(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);

    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

static void log_file_is_reopened(void **state)
{
    char path[128], old[128], text[256];
    struct weir_log_conf conf = { .to = WEIR_LOG_TO_FILE };
    struct weir_log_target target;

    (void)state;
    snprintf(path, sizeof(path), "%s/log", dir);
    snprintf(old, sizeof(old), "%s/log.1", dir);
    conf.file = weir_str(path);
    assert_int_equal(weir_log_target_open(&target, &conf), 0);
    weir_log_target_write(&target, WEIR_LOG_INFO, "one", 3);
    assert_int_equal(rename(path, old), 0);
    weir_log_target_write(&target, WEIR_LOG_INFO, "two", 3);
    assert_int_equal(weir_log_target_reopen(&target), 0);
    weir_log_target_write(&target, WEIR_LOG_INFO, "three", 5);
    read_all(old, text, sizeof(text));
    assert_string_equal(text, "one\ntwo\n");
    read_all(path, text, sizeof(text));
    assert_string_equal(text, "three\n");
    unlink(path);
    /* what cannot be opened anew is kept */
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(weir_log_target_reopen(&target), -EISDIR);
    weir_log_target_write(&target, WEIR_LOG_INFO, "four", 4);
    weir_log_target_close(&target);
    rmdir(path);
    unlink(old);
    conf.file = WEIR_STR("/nonexistent/log");
    assert_int_equal(weir_log_target_open(&target, &conf), -ENOENT);
}

static void notify_is_a_datagram(void **state)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    char text[64] = "";

    (void)state;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/notify", dir);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    setenv("NOTIFY_SOCKET", addr.sun_path, 1);
    weir_notify("READY=1");
    unsetenv("NOTIFY_SOCKET");
    weir_notify("STOPPING=1");
    assert_int_equal(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT), 7);
    assert_string_equal(text, "READY=1");
    assert_int_equal(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT), -1);
    close(fd);
    unlink(addr.sun_path);
}

static void descriptors_needed(void **state)
{
    (void)state;
    assert_int_equal(weir_nofile_needed(100), 456);
    assert_true(weir_nofile_needed(-1) > 200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_one),
        cmocka_unit_test(no_link_is_followed),
        cmocka_unit_test(names_of_instances),
        cmocka_unit_test(log_file_is_reopened),
        cmocka_unit_test(notify_is_a_datagram),
        cmocka_unit_test(descriptors_needed),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
