/* SPDX-License-Identifier: Apache-2.0 */
/**
 * confine_calls.c: which system calls a proxy may make, by libseccomp. The list was found by tracing the whole of the
 * integration tests, and by what its libraries may call where those do not come; a call that an architecture has not is
 * left out.
 */
#include "daemon/confine_calls.h"

#include <errno.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define CALL(name) SCMP_SYS(name)

static const int allowed[] = {
    /* bytes */
    CALL(read),
    CALL(write),
    CALL(readv),
    CALL(writev),
    CALL(pread64),
    CALL(pwrite64),
    CALL(preadv),
    CALL(pwritev),
    CALL(close),
    CALL(close_range),
    CALL(dup),
    CALL(dup2),
    CALL(dup3),
    CALL(fcntl),
    CALL(lseek),
    CALL(pipe),
    CALL(pipe2),
    CALL(splice),
    CALL(tee),
    CALL(vmsplice),
    CALL(sendfile),
    CALL(ftruncate),
    CALL(memfd_create),
    /* sockets: none is made to listen here, all are given */
    CALL(bind),
    CALL(connect),
    CALL(accept),
    CALL(accept4),
    CALL(shutdown),
    CALL(getsockname),
    CALL(getpeername),
    CALL(getsockopt),
    CALL(setsockopt),
    CALL(sendto),
    CALL(recvfrom),
    CALL(sendmsg),
    CALL(recvmsg),
    CALL(sendmmsg),
    CALL(recvmmsg),
    /* waiting */
    CALL(epoll_create),
    CALL(epoll_create1),
    CALL(epoll_ctl),
    CALL(epoll_wait),
    CALL(epoll_pwait),
    CALL(epoll_pwait2),
    CALL(poll),
    CALL(ppoll),
    CALL(select),
    CALL(pselect6),
    CALL(eventfd2),
    CALL(timerfd_create),
    CALL(timerfd_settime),
    CALL(nanosleep),
    CALL(clock_nanosleep),
    /* files: which ones is for Landlock, and for the user's rights */
    CALL(open),
    CALL(openat),
    CALL(stat),
    CALL(fstat),
    CALL(lstat),
    CALL(newfstatat),
    CALL(statx),
    CALL(statfs),
    CALL(fstatfs),
    CALL(access),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(readlink),
    CALL(readlinkat),
    CALL(getdents),
    CALL(getdents64),
    CALL(getcwd),
    CALL(unlink),
    CALL(unlinkat),
    CALL(rmdir),
    /* memory */
    CALL(mmap),
    CALL(munmap),
    CALL(mprotect),
    CALL(mremap),
    CALL(madvise),
    CALL(brk),
    CALL(mincore),
    /* threads */
    CALL(futex),
    CALL(set_robust_list),
    CALL(get_robust_list),
    CALL(rseq),
    CALL(set_tid_address),
    CALL(arch_prctl),
    CALL(prctl),
    CALL(sched_yield),
    CALL(sched_getaffinity),
    CALL(sched_setaffinity),
    CALL(membarrier),
    CALL(getcpu),
    CALL(exit),
    CALL(exit_group),
    /* signals, to itself */
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(rt_sigreturn),
    CALL(rt_sigpending),
    CALL(sigaltstack),
    CALL(tgkill),
    CALL(restart_syscall),
    /* who, when, how much */
    CALL(gettid),
    CALL(getpid),
    CALL(getppid),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getgroups),
    CALL(clock_gettime),
    CALL(clock_getres),
    CALL(gettimeofday),
    CALL(time),
    CALL(times),
    CALL(getrandom),
    CALL(getrlimit),
    CALL(setrlimit),
    CALL(prlimit64),
    CALL(getrusage),
    CALL(sysinfo),
    CALL(uname),
};

/* Nothing here, and no library of ours, has a use for them. */
static const int fatal[] = {
    CALL(execve),
    CALL(execveat),
    CALL(fork),
    CALL(vfork),
    CALL(ptrace),
    CALL(process_vm_readv),
    CALL(process_vm_writev),
    CALL(kcmp),
    CALL(pidfd_getfd),
    CALL(pidfd_open),
    CALL(setuid),
    CALL(setgid),
    CALL(setreuid),
    CALL(setregid),
    CALL(setresuid),
    CALL(setresgid),
    CALL(setgroups),
    CALL(setfsuid),
    CALL(setfsgid),
    CALL(capset),
    CALL(unshare),
    CALL(setns),
    CALL(chroot),
    CALL(pivot_root),
    CALL(mount),
    CALL(umount2),
    CALL(move_mount),
    CALL(open_tree),
    CALL(fsopen),
    CALL(fsmount),
    CALL(init_module),
    CALL(finit_module),
    CALL(delete_module),
    CALL(kexec_load),
    CALL(kexec_file_load),
    CALL(reboot),
    CALL(swapon),
    CALL(swapoff),
    CALL(open_by_handle_at),
    CALL(perf_event_open),
    CALL(userfaultfd),
    CALL(keyctl),
    CALL(add_key),
    CALL(request_key),
    CALL(acct),
    CALL(quotactl),
    CALL(personality),
    CALL(iopl),
    CALL(ioperm),
};

/* Not there, rather than forbidden: then libraries do without. clone3 has its flags in memory, where no filter looks, so
 * threads are made by clone; a ring would make calls that no filter sees. */
static const int absent[] = { CALL(clone3), CALL(io_uring_setup), CALL(io_uring_enter),
                              CALL(io_uring_register) };

/* Of bpf(2) what is done to maps that were given: look up, update, delete, go through, in batches, and their properties.
 * The kernel refuses the others to a process without rights as well. */
static const unsigned bpf_commands[] = { 1, 2, 3, 4, 15, 21, 24, 25, 26, 27 };

/* What is asked of sockets, pipes and streams. Above all not TIOCSTI, which types into the terminal that weir was started
 * from: it would be read there as the operator's words. Whole values are compared: nothing hides in the upper half. */
static const unsigned long ioctls[] = { FIONREAD, FIONBIO, FIOCLEX,      FIONCLEX,
                                        SIOCOUTQ, TCGETS,  SIOCGIFINDEX, SIOCGIFNAME };

/* The network, UNIX sockets, and how libc asks for addresses and links. */
static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };

static int add(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count)
{
    int err = 0;

    for (size_t i = 0; i < count && !err; i++)
        if (calls[i] != __NR_SCMP_ERROR)
            err = seccomp_rule_add(filter, action, calls[i], 0);
    return err;
}

static int add_some(scmp_filter_ctx filter)
{
    int err = 0;

    for (size_t i = 0; i < sizeof(bpf_commands) / sizeof(bpf_commands[0]) && !err; i++)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(bpf), 1,
                               SCMP_A0(SCMP_CMP_EQ, bpf_commands[i]));
    for (size_t i = 0; i < sizeof(ioctls) / sizeof(ioctls[0]) && !err; i++)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(ioctl), 1,
                               SCMP_A1(SCMP_CMP_EQ, ioctls[i]));
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]) && !err; i++)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(socket), 1,
                               SCMP_A0(SCMP_CMP_EQ, (unsigned)families[i]));
    if (!err)
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(socketpair), 1,
                               SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    if (!err) /* a thread */
        err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, CALL(clone), 1,
                               SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    return err
               ?: seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, CALL(clone), 1,
                                   SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

int confine_calls(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int err = filter ? 0 : -ENOMEM;

    if (!err)
        err = add(filter, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
    if (!err)
        err = add(filter, SCMP_ACT_KILL_PROCESS, fatal, COUNT(fatal));
    if (!err)
        err = add(filter, SCMP_ACT_ERRNO(ENOSYS), absent, COUNT(absent));
    if (!err)
        err = add_some(filter);
    if (!err) {
        (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG,
                               1); /* what is refused is for the audit log */
        (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE,
                               2); /* a tree: few comparisons a call */
        err = seccomp_load(filter);
    }
    if (filter)
        seccomp_release(filter);
    return err;
}
