/* SPDX-License-Identifier: Apache-2.0 */
/**
 * filters.h: runs the phases of a route's filters. Chains are made when a route is compiled: a
 * phase that no filter has costs one test of a count.
 */
#ifndef PROXY_FILTERS_H
#define PROXY_FILTERS_H

#include "proxy/policy.h"

/** A field of a filter that may have been compiled against an older, shorter struct: what lies
 * beyond its size is not there. */
#define WEIR_FILTER_HAS(f, field) \
    ((f)->size >= offsetof(struct weir_filter, field) + sizeof((f)->field) && (f)->field)

enum weir_phase {
    WEIR_PH_EARLY,
    WEIR_PH_REQUEST,
    WEIR_PH_PEER,
    WEIR_PH_CONNECTED,
    WEIR_PH_CONNECT_FAILED,
    WEIR_PH_UP_REQUEST,
    WEIR_PH_REQUEST_BODY,
    WEIR_PH_UP_RESPONSE,
    WEIR_PH_RESPONSE,
    WEIR_PH_RESPONSE_BODY,
    WEIR_PH_TRAILER,
    WEIR_PH_PROXY_ERROR,
    WEIR_PH_PROXY_FAILED,
    WEIR_PH_LOGGING,
    WEIR_PH_COUNT,
};

/** The filters that have a phase, in order: indices into the route's uses. */
struct weir_chain {
    uint8_t *at;
    unsigned count;
};

struct weir_chains {
    const struct weir_filter_use *uses;
    unsigned use_count;
    unsigned *state_offset;  /* of each filter in the request's state block */
    unsigned *worker_offset; /* in the worker's block */
    unsigned state_bytes, worker_bytes;
    struct weir_chain phase[WEIR_PH_COUNT];
};

struct weir_req;

/** At most 64 filters a route, and one that answers behind them. 0, WEIR_ENOMEM, WEIR_ELIMIT. */
int weir_chains_init(struct weir_chains *chains, const struct weir_filter_use *uses, size_t count)
    __attribute__((warn_unused_result));
/** On bytes alone only those phases run that are about a connection, not about a message (filter.h). */
void weir_chains_of_tcp(struct weir_chains *chains);
/** Has it one of those? */
bool weir_filter_sees_tcp(const struct weir_filter *filter);
void weir_chains_fini(struct weir_chains *chains);

/** weir_filters_run (req.h) of a route that has filters in this phase. */
enum weir_verdict weir_chain_run(struct weir_req *req, enum weir_phase phase, void *arg,
                                 bool *again);

#endif
