/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pass.h: the bytes of a body that pass by the codecs: from the socket of one side to that of the other through a pipe
 * (accel/pump.h). For bodies of known length, of HTTP/1 on both sides, that no filter sees. A direction has the number of the
 * side that it comes from: WEIR_SPLICE_DOWN is the request's body, WEIR_SPLICE_UP the answer's.
 */
#ifndef PROXY_PASS_H
#define PROXY_PASS_H

#include "accel/pump.h"
#include "proxy/req.h"

struct weir_pass {
    struct weir_pump pump; /* from: NULL when all has been taken */
    uint64_t bytes;        /* that have passed by so far */
    bool on;
    bool never;  /* asked, and answered for good */
    uint8_t why; /* enum weir_splice_why; counted */
};

/** Does what comes from here on pass by? Called where nothing of the direction is lent by a feed. */
void weir_pass_try(struct weir_req *req, unsigned dir);
/** It is readable, or the other side has drained: moves what it can. The request may be gone afterwards. */
void weir_pass_run(struct weir_req *req, unsigned dir);
static inline bool weir_pass_on(const struct weir_req *req, unsigned dir)
{
    return req->passes && req->passes[dir].on;
}
/** Bytes on their way, that the other side does not take. */
size_t weir_pass_waits(const struct weir_req *req, unsigned dir);
/** Of the body, so many have passed by. */
uint64_t weir_pass_bytes(const struct weir_req *req, unsigned dir);
/** Why it does not pass by. */
enum weir_splice_why weir_pass_why(const struct weir_req *req, unsigned dir);
/** The upstream is let go: what needs its connection ends. */
void weir_pass_part(struct weir_req *req);
/** All ends; what is on its way is lost. */
void weir_pass_stop(struct weir_req *req);

#endif
