/* SPDX-License-Identifier: Apache-2.0 */
/** exchange.h: what the files of an exchange share: dir.c, exchange_up.c, exchange_down.c, body.c. */
#ifndef PROXY_EXCHANGE_H
#define PROXY_EXCHANGE_H

#include "proxy/req.h"

extern const struct weir_hstream_sink weir_req_up_sink;

/** dir.c: is there anything to send? */
bool weir_dir_has_bytes(const struct weir_flow_dir *dir);
/** The source of a direction gets its credit back, once nothing of it waits here or with `to`; and it is told how much
 * `to` takes at once. */
void weir_dir_credit(struct weir_flow_dir *dir, struct weir_hstream *from, struct weir_hstream *to);
/**
 * Sends what there is: head, bytes, end. `to` is blocked when it has too much unsent: then nothing
 * is sent, and its on_drained calls again. `replay`: the request whose replay buffer gets a copy,
 * or NULL.
 */
int weir_dir_send(struct weir_flow_dir *dir, struct weir_hstream *to,
                  const struct weir_message *head, struct weir_req *replay)
    __attribute__((warn_unused_result));

/** Is what goes up of this request kept for another attempt? */
bool weir_exchange_keeps_replay(const struct weir_req *req);
/** Each moves one direction; the request may be gone afterwards. */
void weir_exchange_pump_up(struct weir_req *req);
void weir_exchange_pump_down(struct weir_req *req);
/** Response filters, then the head is due. */
enum weir_verdict weir_exchange_prepare(struct weir_req *req);
/** What they said, when that ends the answer. */
void weir_exchange_verdict(struct weir_req *req, enum weir_verdict verdict);

/** Appends bytes to what goes on; `borrowed` ones stay where they are until the feed ends. 0 or
 * WEIR_ENOMEM. */
int weir_dir_push(struct weir_flow_dir *dir, struct weir_str data, bool borrowed)
    __attribute__((warn_unused_result));

/** Copies borrowed pieces: their bytes are about to go. 0 or WEIR_ENOMEM. */
int weir_dir_keep(struct weir_flow_dir *dir) __attribute__((warn_unused_result));

/** Bytes that wait for body filters. */
size_t weir_dir_staged(const struct weir_flow_dir *dir);

/** body.c: the direction begins: from here on filters see what comes, first what came already. 0 or
 * WEIR_ENOMEM. */
int weir_exchange_body_begin(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir)
    __attribute__((warn_unused_result));
/** A piece of a body, through the filters of `phase`, into `dir`. 0 or WEIR_ENOMEM. */
int weir_exchange_body(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir,
                       struct weir_str data) __attribute__((warn_unused_result));
/** The body is whole: filters see `last`. 0 or WEIR_ENOMEM. */
int weir_exchange_body_end(struct weir_req *req, enum weir_phase phase, struct weir_flow_dir *dir)
    __attribute__((warn_unused_result));
/** Nobody waits any more: filters are given what was kept. 0 or WEIR_ENOMEM. */
int weir_exchange_body_resume(struct weir_req *req, enum weir_phase phase,
                              struct weir_flow_dir *dir) __attribute__((warn_unused_result));
/** What the wake of a body filter said: FAIL and DONE end the body. */
void weir_exchange_body_wake(struct weir_req *req, enum weir_verdict verdict);

#endif
