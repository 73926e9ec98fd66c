/* SPDX-License-Identifier: Apache-2.0 */
/**
 * kernel.h: what of the kernel a configuration asks for: loaded and proved by who may (the reader, or the one process), and
 * used by who has no rights at all. What is not to be had is told, and the proxy does without.
 *
 *   load ─▶ give ─▶ (the keeper holds it) ─▶ take ─▶ use
 */
#ifndef DAEMON_KERNEL_H
#define DAEMON_KERNEL_H

#include "daemon/conf.h"
#include "daemon/manifest.h"
#include "loader/loader.h"

struct weir_kernel {
    struct weir_kern *kern;          /* NULL: nothing was loaded here */
    struct weir_splice_kern *splice; /* NULL: tunnels are not moved by sockmap */
    struct weir_splice_fds fds;      /* taken; ring_count 0: none were */
};

/** Does anything of it say `splice: sockmap`? */
bool weir_kernel_wanted(const struct weir_proxy_conf *conf);
/** Loads (CAP_BPF, CAP_NET_ADMIN) and proves it, where it is wanted; `pins` names the instance whose pins are used, NULL:
 * nothing is pinned. `have`: what is in force (NULL: nothing), whose rings are others'. Fills kernel->kern. Logs what it does
 * without. */
void weir_kernel_load(struct weir_kernel *kernel, const struct weir_proxy_conf *conf,
                      unsigned rings, const char *pins, const struct weir_manifest *have,
                      struct weir_log *log);
/** What was loaded, into a manifest; copies of its descriptors. 0 or -errno. */
int weir_kernel_give(const struct weir_kernel *kernel, struct weir_manifest *to) WEIR_MUST_CHECK;
/** What the proxy has that runs, for a reload: nothing is loaded, and nothing goes. 0 or -errno. */
int weir_kernel_keep(const struct weir_manifest *have, struct weir_manifest *to) WEIR_MUST_CHECK;
/** Out of a manifest, into kernel->fds. False: there is nothing of it, or not all. */
bool weir_kernel_take(struct weir_kernel *kernel, struct weir_manifest *from);
/** Makes the table of what was loaded or taken. Fills kernel->splice. */
void weir_kernel_use(struct weir_kernel *kernel, const struct weir_proxy_conf *conf,
                     struct weir_log *log);
/** Nobody uses the table any more. `detach`: what was loaded here goes, pins too. */
void weir_kernel_close(struct weir_kernel *kernel, bool detach);
/** Which maps these are, of all on this host; 0: there are none. */
uint32_t weir_kernel_id(const struct weir_manifest *estate);
/** `gone` is not in force any more, `stays` is: pins that it has not are taken away. */
void weir_kernel_forget(const struct weir_manifest *gone, const struct weir_manifest *stays,
                        const char *instance);
/** No process of an earlier binary is left: what it pinned under another ABI than that of `have` is taken away. */
void weir_kernel_forget_others(const struct weir_manifest *have, const char *instance,
                               struct weir_log *log);

#endif
