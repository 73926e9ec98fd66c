/* SPDX-License-Identifier: Apache-2.0 */
/**
 * loader_kit.h: a kernel of one's own for the tests of loader/: a network namespace in which lo is up, and a BPF filesystem
 * that nobody else sees. Both go with the process. Where that, or BPF, is not permitted the whole program is skipped (77).
 */
#ifndef LOADER_KIT_H
#define LOADER_KIT_H

#include "loader/loader.h"
#include "loader/selftest_lab.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define SKIPPED 77
static const char bpffs[] = "/sys/fs/bpf"; /* of this process alone */

static inline void kit_skip(const char *what)
{
    printf("skipped: %s: %s\n", what, strerror(errno));
    exit(SKIPPED);
}

/* A program is called with the mount in place; it is in a mount namespace of its own, so nothing is left. */
static inline void kit_begin(void)
{
    struct ifreq lo = { .ifr_name = "lo" };
    int fd;

    if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        kit_skip("a namespace of its own");
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &lo) != 0)
        kit_skip("lo");
    lo.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &lo) != 0)
        kit_skip("lo");
    close(fd);
    if (mount("bpf", bpffs, "bpf", 0, "mode=0777") != 0)
        kit_skip("a BPF filesystem");
}

/* Loads, or skips the program where that is not permitted. */
static inline struct weir_kern *kit_open(struct weir_kern_opts *opts)
{
    struct weir_kern_fault fault = { "", "" };
    struct weir_kern *kern;
    int err = weir_kern_open(&kern, opts, &fault);

    if (err == -EPERM) {
        printf("skipped: %s\n", fault.text);
        exit(SKIPPED);
    }
    if (err)
        fail_msg("%d: %s", err, fault.text);
    return kern;
}

/* Descriptors of BPF things that this process has. */
static inline int kit_bpf_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    char path[300], target[64];
    int count = 0;

    while ((entry = readdir(dir)) != NULL) {
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        n = readlink(path, target, sizeof(target) - 1);
        if (n > 0) {
            target[n] = '\0';
            count += strstr(target, "bpf") != NULL;
        }
    }
    closedir(dir);
    return count;
}

/* No direction holds anything, and in no map is an entry. */
static inline void kit_nothing_left(const struct weir_kern *kern, struct weir_splice_kern *table)
{
    const struct weir_splice_fds *fds = weir_kern_splice_fds(kern);
    const int maps[] = { fds->pair, fds->flow, fds->src, fds->dst };
    struct weir_sp_key key;

    assert_int_equal(table->ops->held(table), 0);
    for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
        assert_int_equal(bpf_map_get_next_key(maps[i], NULL, &key), -ENOENT);
}

/* Names of the kernel's own aside: how many entries has this folder? */
static inline int kit_entries(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int count = 0;

    if (!dir)
        return -1;
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.' && !strstr(entry->d_name, ".debug");
    closedir(dir);
    return count;
}

#endif
