/* SPDX-License-Identifier: Apache-2.0 */
/** retry.h: whether a request is sent once more. Pure: no I/O, no clock of its own (ARCHITECTURE,
 * "Retry"). */
#ifndef PROXY_RETRY_H
#define PROXY_RETRY_H

#include "proxy/policy.h"
#include "proxy/stats.h"

struct weir_retry_input {
    const struct weir_retry_conf *conf;
    const struct weir_error *error; /* of this attempt; NULL when `status` speaks */
    int status;                     /* the upstream's, when it may be retried */
    unsigned attempts;              /* so far */
    bool idempotent;                /* the method */
    bool replayable;                /* the body, so far as it was sent, can be sent again */
    bool head_sent;                 /* the client has got a head */
    bool reused;                    /* the connection had served before */
    bool first_byte;                /* something of an answer had come */
    bool stale_retried;
};

enum weir_retry_verdict {
    WEIR_AGAIN_NO,
    WEIR_AGAIN,       /* counts as an attempt, takes from the budget */
    WEIR_AGAIN_FRESH, /* a stale pooled connection: once, outside attempts and budget, on a new
                         connection */
};

/** `*why` is the label of retries_total when the answer is not NO. */
enum weir_retry_verdict weir_retry_decide(const struct weir_retry_input *in,
                                          enum weir_retried *why);

/** What retries of one upstream on one worker may spend. */
struct weir_budget {
    double tokens;
    uint64_t filled_ms;
};

/** A request begins: the budget grows by `share`. */
void weir_budget_earn(struct weir_budget *budget, double share, uint64_t now_ms);
/** Takes one; false when the budget is empty. A budget always allows WEIR_RETRY_BUDGET_FLOOR a
 * second. */
bool weir_budget_spend(struct weir_budget *budget, uint64_t now_ms);

#endif
