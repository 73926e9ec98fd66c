/* SPDX-License-Identifier: Apache-2.0 */
/**
 * keeper.h: the process that `weir run` is: it keeps what must outlive the one that serves.
 *
 *              ┌─ reader  parses, binds, opens; lives for a moment (reader.h)
 *   keeper ────┼─ proxy   serves, as `user`, without a right (proxied.h)
 *              └─ probe   of a new binary: can it read what the keeper would leave to it?
 *
 * It reads no network and parses nothing but the frames of its children, none of which it believes. It has the listening
 * sockets, the bundle of files, logs and the lock; starts a proxy that has died again, on the same sockets; carries signals
 * to it; and becomes another binary in place, with the same pid, when that one serves already.
 */
#ifndef DAEMON_KEEPER_H
#define DAEMON_KEEPER_H

#include <stdint.h>

struct weir_keeper_opts {
    const char *const *reader_args; /* of the command line, NULL-terminated: which configuration */
    char *const *argv;              /* the keeper's own: what it becomes another binary with */
    const char *exe;   /* what an upgrade starts; NULL: the path of the binary that runs */
    uint32_t ready_ms; /* for a child to read, and for a proxy to be ready */
};

/** What its children are called (argv[0]), and so what they do. */
#define WEIR_CALLED_READER "weir: reader"
#define WEIR_CALLED_PROXY  "weir: proxy"
#define WEIR_CALLED_PROBE  "weir: probe"

enum { WEIR_KEEPER_READY_MS = 30 * 1000 };

/** Runs until it is told to stop; returns an exit status. What went wrong was said. */
int weir_keeper_run(const struct weir_keeper_opts *opts);
/** The probe: 0 when this binary can go on as the keeper. */
int weir_keeper_probe(void);

#endif
