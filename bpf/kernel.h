/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/** kernel.h: of the kernel's own types the fields that the programs read. Where they lie is told by the BTF of the kernel
 * that runs (CO-RE), so there is no dump of one kernel's headers. */
#ifndef BPF_KERNEL_H
#define BPF_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

struct tcp_sock {
    __u32 write_seq;  /* the end of what was given to this socket to send */
    __u32 copied_seq; /* the end of what was read of it */
} __attribute__((preserve_access_index));

#endif
