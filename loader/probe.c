/* SPDX-License-Identifier: Apache-2.0 */
/** probe.c: what this process may do, and what to say when the kernel refuses. */
#include "kern_priv.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF     39
#endif

/* libbpf tells by one function a process; who loads is one thread, and what it was told is that thread's. */
static _Thread_local char said[256];

static bool has(const struct __user_cap_data_struct data[2], unsigned cap)
{
    return data[cap / 32].effective >> (cap % 32) & 1;
}

void kern_caps_read(struct kern_caps *caps)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
    bool admin;

    (void)syscall(SYS_capget, &header, data);
    admin = has(data, CAP_SYS_ADMIN);
    caps->bpf = admin || has(data, CAP_BPF);
    caps->perfmon = admin || has(data, CAP_PERFMON);
    caps->net_admin = has(data, CAP_NET_ADMIN);
}

void kern_fault_set(struct weir_kern_fault *fault, const char *todo, const char *format, ...)
{
    va_list args;

    if (!fault)
        return;
    va_start(args, format);
    vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    snprintf(fault->todo, sizeof(fault->todo), "%s", todo);
}

/* Of a log of the verifier the last line that says something is the reason. */
static void keep_last_line(const char *text)
{
    char line[sizeof(said)];
    const char *at = text;

    while (*at) {
        size_t len = strcspn(at, "\n");

        snprintf(line, sizeof(line), "%.*s", (int)len, at);
        if (len && !strstr(line, "-- END") && !strstr(line, "-- BEGIN") &&
            strncmp(line, "processed ", 10) != 0 && !strstr(line, "failed to load object") &&
            !strstr(line, "failed to load BPF skeleton") && !strstr(line, ": failed to load: "))
            memcpy(said, line, sizeof(said));
        at += len + (at[len] == '\n');
    }
}

static int on_print(enum libbpf_print_level level, const char *format, va_list args)
{
    char *text = NULL;

    if (level != LIBBPF_WARN || vasprintf(&text, format, args) < 0)
        return 0;
    keep_last_line(text);
    free(text);
    return 0;
}

void kern_said_begin(void)
{
    said[0] = '\0';
    libbpf_set_print(on_print);
}

const char *kern_said(void)
{
    return said;
}

void kern_explain(struct weir_kern_fault *fault, int err, const char *what)
{
    struct kern_caps caps;

    kern_caps_read(&caps);
    if ((err == -EPERM || err == -EACCES) && (!caps.bpf || !caps.net_admin)) {
        kern_fault_set(fault, "start as root, or give CAP_BPF and CAP_NET_ADMIN (and CAP_PERFMON)",
                       "%s: not permitted: %s missing", what,
                       !caps.bpf && !caps.net_admin ? "CAP_BPF and CAP_NET_ADMIN are"
                       : !caps.bpf                  ? "CAP_BPF is"
                                                    : "CAP_NET_ADMIN is");
        return;
    }
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
        kern_fault_set(fault, "a kernel with CONFIG_DEBUG_INFO_BTF=y has it",
                       "%s: %s: /sys/kernel/btf/vmlinux is missing", what, strerror(-err));
        return;
    }
    kern_fault_set(
        fault, err == -EPERM ? "a container's runtime or a security module may forbid bpf()" : "",
        "%s: %s%s%s", what, strerror(-err), said[0] ? ": " : "", said);
}
