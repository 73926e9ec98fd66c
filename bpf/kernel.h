/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/** kernel.h: of the kernel's own types the fields that the programs read. Where they lie is told by the BTF of the kernel
 * that runs (CO-RE), so there is no dump of one kernel's headers. */
#ifndef BPF_KERNEL_H
#define BPF_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

struct sock {
    int sk_wmem_queued; /* memory of what it was given to send and was not acknowledged, */
    int sk_sndbuf;      /* and the bound of that: beyond it a write has to wait */
} __attribute__((preserve_access_index));

struct inet_sock {
    struct sock sk;
} __attribute__((preserve_access_index));

struct inet_connection_sock {
    struct inet_sock icsk_inet;
} __attribute__((preserve_access_index));

struct tcp_sock {
    struct inet_connection_sock inet_conn;
    __u32 write_seq;  /* the end of what was given to this socket to send */
    __u32 copied_seq; /* the end of what was read of it */
} __attribute__((preserve_access_index));

#endif
