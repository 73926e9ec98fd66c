/* SPDX-License-Identifier: Apache-2.0 */
/** kern_priv.h: what the files of loader/ share. */
#ifndef LOADER_KERN_PRIV_H
#define LOADER_KERN_PRIV_H

#include "loader/loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <limits.h>

#define KERN_BPFFS "/sys/fs/bpf"
#define KERN_PROG  "weir_splice"

enum { KERN_MADE_MAX = 32 };

/* Where an instance's pins are, and which of them this process has made: those are undone by a start that fails. */
struct kern_pins {
    bool on;
    char dir[PATH_MAX / 4]; /* <bpffs>/weir/<instance>/v<abi> */
    char *made[KERN_MADE_MAX];
    unsigned made_count;
    bool adopted;
};

/* pin.c. All: 0 or -errno, told in `fault`. */
int kern_pins_open(struct kern_pins *pins, const struct weir_kern_opts *opts,
                   struct weir_kern_fault *fault);
/* Before the load: maps that are pinned are used again. */
int kern_pins_adopt(struct kern_pins *pins, struct bpf_object *object, bool replace,
                    struct weir_kern_fault *fault);
/* After it: the others are pinned. */
int kern_pins_store(struct kern_pins *pins, struct bpf_object *object,
                    struct weir_kern_fault *fault);
int kern_pin_fd(struct kern_pins *pins, int fd, const char *kind, const char *name,
                struct weir_kern_fault *fault);
/* The descriptor of a pin; -ENOENT: there is none. */
int kern_pin_get(const struct kern_pins *pins, const char *kind, const char *name);
int kern_pin_drop(const struct kern_pins *pins, const char *kind, const char *name);
/* What this process has made goes; what was there before stays. */
void kern_pins_undo(struct kern_pins *pins);
/* Forgets, and leaves all where it is. */
void kern_pins_keep(struct kern_pins *pins);
/* `<bpffs>/weir/<instance>`; an instance's name may have a '.', a name on bpffs may not. */
void kern_instance_dir(char *out, size_t size, const char *bpffs, const char *instance);

/* probe.c */
struct kern_caps {
    bool bpf, net_admin, perfmon;
};
void kern_caps_read(struct kern_caps *caps);
/* What libbpf says goes here: the last lines of it, for a fault. */
void kern_said_begin(void);
const char *kern_said(void);
/* Fills `fault` for a load that failed with `err`. */
void kern_explain(struct weir_kern_fault *fault, int err, const char *what);
void kern_fault_set(struct weir_kern_fault *fault, const char *todo, const char *format, ...)
    WEIR_PRINTF(3, 4);

/* attach.c: the verdict program to its map. *link is -1 where the kernel has no links for that. */
int kern_attach(struct kern_pins *pins, int prog, int map, bool no_link, int *link,
                struct weir_kern_fault *fault);
void kern_detach(const char *dir);

/* status.c: all pins in `<bpffs>/weir/<instance>/v<abi>`, and the folders that are empty then. */
void kern_pins_remove(const char *dir);

/* tables.c */
extern const struct weir_splice_ops kern_splice_ops;
/* Entries whose sockets are gone are taken away, and what is held is summed anew. */
void kern_splice_sweep(const struct weir_splice_fds *fds);

/* sock.c */
uint64_t kern_sock_cookie(int fd);
int kern_sock_kick(int fd);
int kern_sock_freeze(int fd, struct weir_splice_frost *frost);
int kern_sock_thaw(int fd, const struct weir_splice_frost *frost);
int kern_sock_narrow(int fd);
int kern_sock_widen(int fd, int bytes);
int kern_sock_path(int fd, struct weir_splice_path *path);

#endif
