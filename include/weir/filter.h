/* SPDX-License-Identifier: Apache-2.0 */
/**
 * filter.h: programs in the life of a request. Phases are named as Pingora names them; a NULL phase costs nothing.
 *
 *   early_request → request → upstream_peer → connected_to_upstream | fail_to_connect → upstream_request
 *     → request_body* ‖ upstream_response → response → response_body* → response_trailer → logging
 *   error_while_proxy: the upstream failed after it was connected; fail_to_proxy: an error answer is about to be sent.
 *
 * Filters of a route run in the order in which they are listed. `self` is what was given
 * with the filter. Every phase runs on the request's worker and must not block: park, sleep or offload (request.h).
 */
#ifndef WEIR_FILTER_H
#define WEIR_FILTER_H

#include "weir/balance.h"
#include "weir/request.h"

WEIR_BEGIN

/** Where a body filter puts its output. Valid during the call. */
struct weir_body_out;

/** Hands bytes on, in order; copied unless they are (part of) the call's input. 0 or WEIR_ENOMEM. */
WEIR_API int weir_body_emit(struct weir_body_out *out, struct weir_str data) WEIR_MUST_CHECK;
/** Bytes that may be emitted now before weir stops the sender: the credit. Emitting more is allowed, and buffered. */
WEIR_API size_t weir_body_credit(const struct weir_body_out *out);

/** A body phase: is given each piece, emits what is to go on. `last`: nothing comes after (data may be empty). */
typedef enum weir_verdict (*weir_body_fn)(struct weir_req *req, void *self, struct weir_str data,
                                          bool last, struct weir_body_out *out);

struct weir_filter {
    size_t size;      /* sizeof(struct weir_filter): a later field breaks no binary, it is absent */
    const char *name; /* as in the configuration */
    size_t state_bytes;  /* per-request state, zeroed: weir_filter_state() */
    size_t worker_bytes; /* per-worker state, zeroed: weir_filter_worker() */

    /** The head was read and checked, the route found: before `request` of any filter. A request that no route matches
     * has no filters, and is 404. */
    enum weir_verdict (*early_request)(struct weir_req *req, void *self);
    /** Authorise, limit, rewrite, choose another upstream, answer. */
    enum weir_verdict (*request)(struct weir_req *req, void *self);
    /** Chooses the server: set choice->server, or leave it to the balancer. */
    enum weir_verdict (*upstream_peer)(struct weir_req *req, void *self,
                                       struct weir_peer_choice *choice);
    /** A connection is there, new or reused. */
    enum weir_verdict (*connected_to_upstream)(struct weir_req *req, void *self,
                                               const struct weir_server *server, bool reused);
    /** No connection: set `*again` to try once more (upstream_peer runs again and must choose), within the attempts. */
    enum weir_verdict (*fail_to_connect)(struct weir_req *req, void *self,
                                         const struct weir_error *error, bool *again);
    /** `upstream` is what will be sent: the client's request after hop-by-hop removal and X-Forwarded-*. */
    enum weir_verdict (*upstream_request)(struct weir_req *req, void *self,
                                          struct weir_message *upstream);
    weir_body_fn request_body;
    /** The head of the upstream's answer as it came. */
    enum weir_verdict (*upstream_response)(struct weir_req *req, void *self,
                                           struct weir_message *answer);
    /** The head that goes to the client, also of weir's own answers. */
    enum weir_verdict (*response)(struct weir_req *req, void *self, struct weir_message *answer);
    weir_body_fn response_body;
    /** Must not wait: the answer is already on its way. */
    enum weir_verdict (*response_trailer)(struct weir_req *req, void *self,
                                          struct weir_message *trailer);
    /** The upstream failed after it was connected; may forbid a retry by clearing `*again`, never force one. */
    enum weir_verdict (*error_while_proxy)(struct weir_req *req, void *self,
                                           const struct weir_error *error, bool *again);
    /** An error answer is about to be made: may call weir_req_reply and return WEIR_DONE. */
    enum weir_verdict (*fail_to_proxy)(struct weir_req *req, void *self,
                                       const struct weir_error *error);
    /** The request is over; it cannot wait any more. */
    void (*logging)(struct weir_req *req, void *self);
    /** Frees `self`, once no request uses it. May be NULL. */
    void (*fini)(void *self);
    /**
     * At a reload, before requests see `self`: `before` is the filter of the same kind at the same place (listener, route,
     * the n-th of its kind there) of the configuration in force, which requests go on using until they end. What should
     * outlive a reload is shared, or copied, here. May come more than once for a `self` that several listeners share: the
     * first one counts. May be NULL: `self` begins anew.
     */
    void (*adopt)(void *self, void *before);
};

/** The caller's per-request state; NULL when state_bytes is 0. */
WEIR_API void *weir_filter_state(struct weir_req *req, void *self);
/** The caller's state on this worker; shared by its requests, without locks. */
WEIR_API void *weir_filter_worker(struct weir_req *req, void *self);

WEIR_END
#endif
