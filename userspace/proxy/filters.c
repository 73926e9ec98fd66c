/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/filters.h"

#include "proxy/req.h"

#include <stdlib.h>

enum { FILTERS_MAX = 64 + 1 /* the route's own reply or redirect */, STATE_ALIGN = 16 };

static bool has_phase(const struct weir_filter *f, enum weir_phase phase)
{
    switch (phase) {
    case WEIR_PH_EARLY:
        return WEIR_FILTER_HAS(f, early_request);
    case WEIR_PH_REQUEST:
        return WEIR_FILTER_HAS(f, request);
    case WEIR_PH_PEER:
        return WEIR_FILTER_HAS(f, upstream_peer);
    case WEIR_PH_CONNECTED:
        return WEIR_FILTER_HAS(f, connected_to_upstream);
    case WEIR_PH_CONNECT_FAILED:
        return WEIR_FILTER_HAS(f, fail_to_connect);
    case WEIR_PH_UP_REQUEST:
        return WEIR_FILTER_HAS(f, upstream_request);
    case WEIR_PH_REQUEST_BODY:
        return WEIR_FILTER_HAS(f, request_body);
    case WEIR_PH_UP_RESPONSE:
        return WEIR_FILTER_HAS(f, upstream_response);
    case WEIR_PH_RESPONSE:
        return WEIR_FILTER_HAS(f, response);
    case WEIR_PH_RESPONSE_BODY:
        return WEIR_FILTER_HAS(f, response_body);
    case WEIR_PH_TRAILER:
        return WEIR_FILTER_HAS(f, response_trailer);
    case WEIR_PH_PROXY_ERROR:
        return WEIR_FILTER_HAS(f, error_while_proxy);
    case WEIR_PH_PROXY_FAILED:
        return WEIR_FILTER_HAS(f, fail_to_proxy);
    case WEIR_PH_LOGGING:
        return WEIR_FILTER_HAS(f, logging);
    default:
        return false;
    }
}

static unsigned aligned(size_t bytes)
{
    return (unsigned)((bytes + STATE_ALIGN - 1) & ~(size_t)(STATE_ALIGN - 1));
}

static size_t state_bytes(const struct weir_filter *f)
{
    return WEIR_FILTER_HAS(f, state_bytes) ? f->state_bytes : 0;
}

static size_t worker_bytes(const struct weir_filter *f)
{
    return WEIR_FILTER_HAS(f, worker_bytes) ? f->worker_bytes : 0;
}

static int chain_init(struct weir_chains *chains, enum weir_phase phase)
{
    struct weir_chain *chain = &chains->phase[phase];

    for (unsigned i = 0; i < chains->use_count; i++)
        chain->count += has_phase(chains->uses[i].filter, phase);
    if (!chain->count)
        return 0;
    chain->at = malloc(chain->count);
    if (!chain->at)
        return WEIR_ENOMEM;
    for (unsigned i = 0, n = 0; i < chains->use_count; i++)
        if (has_phase(chains->uses[i].filter, phase))
            chain->at[n++] = (uint8_t)i;
    return 0;
}

int weir_chains_init(struct weir_chains *chains, const struct weir_filter_use *uses, size_t count)
{
    *chains = (struct weir_chains){ .uses = uses, .use_count = (unsigned)count };
    if (!count)
        return 0;
    if (count > FILTERS_MAX)
        return WEIR_ELIMIT;
    chains->state_offset = calloc(count, sizeof(unsigned));
    chains->worker_offset = calloc(count, sizeof(unsigned));
    if (!chains->state_offset || !chains->worker_offset)
        return WEIR_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        chains->state_offset[i] = chains->state_bytes;
        chains->worker_offset[i] = chains->worker_bytes;
        chains->state_bytes += aligned(state_bytes(uses[i].filter));
        chains->worker_bytes += aligned(worker_bytes(uses[i].filter));
    }
    for (int phase = 0; phase < WEIR_PH_COUNT; phase++) {
        int err = chain_init(chains, (enum weir_phase)phase);

        if (err)
            return err;
    }
    return 0;
}

static bool phase_of_tcp(enum weir_phase phase)
{
    return phase == WEIR_PH_PEER || phase == WEIR_PH_CONNECTED || phase == WEIR_PH_CONNECT_FAILED ||
           phase == WEIR_PH_LOGGING;
}

void weir_chains_of_tcp(struct weir_chains *chains)
{
    for (int phase = 0; phase < WEIR_PH_COUNT; phase++)
        if (!phase_of_tcp((enum weir_phase)phase))
            chains->phase[phase].count = 0;
}

bool weir_filter_sees_tcp(const struct weir_filter *filter)
{
    for (int phase = 0; phase < WEIR_PH_COUNT; phase++)
        if (phase_of_tcp((enum weir_phase)phase) && has_phase(filter, (enum weir_phase)phase))
            return true;
    return false;
}

void weir_chains_fini(struct weir_chains *chains)
{
    for (int phase = 0; phase < WEIR_PH_COUNT; phase++)
        free(chains->phase[phase].at);
    free(chains->state_offset);
    free(chains->worker_offset);
}

static enum weir_verdict call_phase(struct weir_req *req, enum weir_phase phase,
                                    const struct weir_filter_use *use, void *arg, bool *again)
{
    const struct weir_filter *f = use->filter;

    switch (phase) {
    case WEIR_PH_EARLY:
        return f->early_request(req, use->self);
    case WEIR_PH_REQUEST:
        return f->request(req, use->self);
    case WEIR_PH_PEER:
        return f->upstream_peer(req, use->self, arg);
    case WEIR_PH_CONNECTED:
        return f->connected_to_upstream(req, use->self, req->server_chosen,
                                        req->conn && req->conn->reused);
    case WEIR_PH_CONNECT_FAILED:
        return f->fail_to_connect(req, use->self, arg, again);
    case WEIR_PH_UP_REQUEST:
        return f->upstream_request(req, use->self, arg);
    case WEIR_PH_UP_RESPONSE:
        return f->upstream_response(req, use->self, arg);
    case WEIR_PH_RESPONSE:
        return f->response(req, use->self, arg);
    case WEIR_PH_TRAILER:
        return f->response_trailer(req, use->self, arg);
    case WEIR_PH_PROXY_ERROR: {
        bool wanted = *again;
        enum weir_verdict verdict = f->error_while_proxy(req, use->self, arg, again);

        *again = *again && wanted; /* a filter forbids a retry, it never forces one */
        return verdict;
    }
    case WEIR_PH_PROXY_FAILED:
        return f->fail_to_proxy(req, use->self, arg);
    case WEIR_PH_LOGGING:
        f->logging(req, use->self);
        return WEIR_NEXT;
    default:
        return WEIR_NEXT;
    }
}

static enum weir_verdict call_next(struct weir_req *req, enum weir_phase phase,
                                   const struct weir_chain *chain, void *arg, bool *again)
{
    req->use_now = chain->at[req->cursor_next++];
    return call_phase(req, phase, &req->route->chains.uses[req->use_now], arg, again);
}

enum weir_verdict weir_chain_run(struct weir_req *req, enum weir_phase phase, void *arg,
                                 bool *again)
{
    const struct weir_chain *chain = &req->route->chains.phase[phase];
    enum weir_verdict verdict = req->wake_verdict;

    if (req->cursor_phase != phase + 1) {
        req->cursor_phase = (uint8_t)(phase + 1);
        req->cursor_next = 0;
    }
    req->wake_verdict = WEIR_NEXT;
    while (verdict == WEIR_NEXT && req->cursor_next < chain->count)
        verdict = weir_park_checked(req, call_next(req, phase, chain, arg, again));
    return verdict;
}

/* Several filters may have the same `self` (NULL): the one that is running is meant, or ran last. */
static unsigned use_index(const struct weir_req *req, const void *self)
{
    const struct weir_chains *chains = &req->route->chains;

    if (req->use_now < chains->use_count && chains->uses[req->use_now].self == self)
        return req->use_now;
    for (unsigned i = 0; i < chains->use_count; i++)
        if (chains->uses[i].self == self)
            return i;
    return chains->use_count;
}

void *weir_filter_state(struct weir_req *req, void *self)
{
    const struct weir_chains *chains;
    unsigned i;

    if (!req->route)
        return NULL;
    chains = &req->route->chains;
    i = use_index(req, self);
    if (i == chains->use_count || !state_bytes(chains->uses[i].filter))
        return NULL;
    if (!req->filter_state)
        req->filter_state = weir_arena_zalloc(&req->arena, chains->state_bytes);
    return req->filter_state ? (char *)req->filter_state + chains->state_offset[i] : NULL;
}

void *weir_filter_worker(struct weir_req *req, void *self)
{
    const struct weir_chains *chains;
    char *block;
    unsigned i;

    if (!req->route)
        return NULL;
    chains = &req->route->chains;
    i = use_index(req, self);
    if (i == chains->use_count || !worker_bytes(chains->uses[i].filter))
        return NULL;
    block = req->listener->snapshot->seats[req->worker->id].filter_state[req->route->slot];
    return block + chains->worker_offset[i];
}
