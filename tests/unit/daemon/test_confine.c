/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

enum { UNCONFINED = 77 };

/* What a confined process sees, as its exit status. */
static int confined(int (*look)(int terminal))
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY), status;
    pid_t pid = fork();

    if (pid == 0) {
        struct weir_confinement done;

        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        weir_confine(&done);
        _exit(done.seccomp ? UNCONFINED : look(terminal));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(terminal);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == UNCONFINED) /* sanitizers */
        skip();
    return WEXITSTATUS(status);
}

/* ioctl() of libc may narrow what it is asked: the kernel does, after the filter has looked. */
static int types_into(int terminal)
{
    char c = 'x';

    if (ioctl(terminal, TIOCSTI, &c) == 0 || errno != EPERM)
        return 1;
    if (syscall(SYS_ioctl, (long)terminal, 0x100000000 | TIOCSTI, &c) == 0 || errno != EPERM)
        return 2;
    return ioctl(terminal, TIOCLINUX, &c) == 0 || errno != EPERM ? 3 : 0;
}

static void test_it_cannot_type_into_a_terminal(void **state)
{
    (void)state;
    assert_int_equal(confined(types_into), 0);
}

static int other_families(int terminal)
{
    static const int others[] = { AF_ALG, AF_PACKET, AF_VSOCK, AF_KEY, AF_RDS };

    (void)terminal;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (socket(others[i], SOCK_STREAM, 0) >= 0 || errno != EPERM)
            return (int)i + 1;
    return 0;
}

static void test_sockets_are_of_the_network(void **state)
{
    (void)state;
    assert_int_equal(confined(other_families), 0);
}

static int what_is_needed(int terminal)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), n = 1;

    if (fd < 0)
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || ioctl(fd, FIONBIO, &n) != 0)
        return 1;
    return isatty(terminal) ? 0 : 2;
}

static void test_what_is_needed_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(confined(what_is_needed), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_cannot_type_into_a_terminal),
        cmocka_unit_test(test_sockets_are_of_the_network),
        cmocka_unit_test(test_what_is_needed_is_allowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
