/* SPDX-License-Identifier: Apache-2.0 */
/**
 * selftest_lab.h: a tunnel over loopback with both of its ends in this process, and the mover's rules in their shortest form:
 *
 *   client ── down ═══ program ═══ up ── server        direction 0: client to server; 1: the other way
 *
 * For the self-tests, and for the tests of loader/. One thread, no event loop: every wait has an end.
 */
#ifndef LOADER_SELFTEST_LAB_H
#define LOADER_SELFTEST_LAB_H

#include "loader/loader.h"

enum { LAB_PATIENCE_MS = 4000 };

struct lab_end {
    int fd;
    uint64_t sent, got; /* of the stream that it writes, and of the one that it reads */
    bool wrong;         /* a byte that it read was not the one that was sent */
    bool ended;         /* it has read a FIN */
};

struct lab {
    struct weir_splice_kern *kern;
    const struct weir_splice_ops *ops;
    unsigned ring;
    struct lab_end end[2]; /* client, server */
    int side[2];           /* down, up: end[i] is the peer of side[i] */
    uint64_t cookie[2];
    struct weir_sp_pair pair[2];
    uint64_t read[2]; /* passed bytes that were sent on */
    unsigned laps;    /* times that a direction was latched, and moves again */
    int last_errno;
};

/** 0 or -errno. `rcvbuf` 0: the system's. */
int lab_open(struct lab *lab, struct weir_splice_kern *kern, unsigned ring, int rcvbuf);
void lab_close(struct lab *lab);

/** An end writes so much of its stream, as far as the kernel takes it; it reads what is there. Bytes, or -errno. */
long lab_send(struct lab_end *end, size_t bytes);
long lab_recv(struct lab_end *end, size_t bytes);

/** A side becomes a source: 0 or -errno. */
int lab_enter(struct lab *lab, unsigned dir);
/** Sends on what was passed: all of it, or as far as the target takes it. False: something failed. */
bool lab_pass(struct lab *lab, unsigned dir);
/** The target has all that the source has received. */
bool lab_settled(const struct lab *lab, unsigned dir);
/** Latched, and all was sent on: it moves again. */
bool lab_renew(struct lab *lab, unsigned dir);
/** lab_pass and lab_renew where they are due. */
bool lab_tend(struct lab *lab);
/** All is passed from now on; FREEZE, look again, DELETE, THAW. False: it was not quiet, and is a source still. */
bool lab_leave(struct lab *lab, unsigned dir);
struct weir_sp_flow lab_flow(const struct lab *lab, unsigned dir);

/** Until both ends have got so much (and have sent it), or patience ends. */
bool lab_run(struct lab *lab, uint64_t down_bytes, uint64_t up_bytes);
/** Waits a little; false when `since` is too long ago. */
bool lab_wait(uint64_t since_ms);
uint64_t lab_now_ms(void);

#endif
