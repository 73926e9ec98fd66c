/* SPDX-License-Identifier: Apache-2.0 */
/**
 * confine.h: what the process that reads hostile bytes may still ask of the kernel, once it has all that it needs: a list of
 * system calls (seccomp), and folders to read (Landlock). What is not on the list fails with EPERM, so that a library that
 * tries something new goes another way, and the kernel's audit log names it; what only an intruder would try, another
 * program, another process, another user, ends the process at once, and the keeper starts a new one.
 */
#ifndef DAEMON_CONFINE_H
#define DAEMON_CONFINE_H

#include "weir/log.h"

enum { WEIR_CONFINE_AUTO, WEIR_CONFINE_OFF, WEIR_CONFINE_REQUIRE };

struct weir_confinement {
    int seccomp;  /* 0, or -errno: why not */
    int landlock; /* the version of its interface, or -errno */
};

/** For good: this thread, and all that it starts later. No new privileges must be set already. */
void weir_confine(struct weir_confinement *done);
/** What this host could do; nothing is changed. */
void weir_confine_probe(struct weir_confinement *can);
/** Says in the log what is in force, or why not. False: `how` is "require", and not all of it is. */
bool weir_confine_told(const struct weir_confinement *done, int how, struct weir_log *log);

#endif
