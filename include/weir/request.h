/* SPDX-License-Identifier: Apache-2.0 */
/**
 * request.h: one request on its way, as filters see it.
 *
 * All functions are for the request's worker thread, inside a phase, except weir_req_wake. What is borrowed lives until
 * the request ends. A request that waits keeps its arena: memory from weir_req_alloc stays valid until the wake, or
 * until `on_cancel` has returned.
 */
#ifndef WEIR_REQUEST_H
#define WEIR_REQUEST_H

#include "weir/error.h"
#include "weir/message.h"

WEIR_BEGIN

struct weir_req;

/** What a phase says. It never calls the next one. */
enum weir_verdict {
    WEIR_NEXT,   /* go on */
    WEIR_WAIT,   /* parked: go on after the wake, with the next filter */
    WEIR_DONE,   /* answered by weir_req_reply: skip the upstream */
    WEIR_FAIL,   /* failed by weir_req_fail */
    WEIR_REPEAT, /* of a wake alone: the filter that waited is called again, in the same phase */
};

/** The client's request: changed freely until upstream_request has run. */
WEIR_API struct weir_message *weir_req_request(struct weir_req *req);
/** The answer that will go to the client; NULL before there is one. */
WEIR_API struct weir_message *weir_req_response(struct weir_req *req);
/**
 * Takes the trailer section of the upstream's answer out of it, for a response_body that writes it into the body: there
 * once it is called with `last`. It is not sent then, and response_trailer not called. NULL: there is none.
 */
WEIR_API struct weir_message *weir_req_take_trailer(struct weir_req *req);
/** The id that is logged and forwarded (X-Request-Id). */
WEIR_API struct weir_str weir_req_id(const struct weir_req *req);
/** The client's address in text, without port: the rightmost hop that is not a trusted proxy. */
WEIR_API struct weir_str weir_req_client(const struct weir_req *req);
WEIR_API struct weir_str weir_req_listener(const struct weir_req *req);
/** Names of the route and upstream; absent before they are known. */
WEIR_API struct weir_str weir_req_route(const struct weir_req *req);
WEIR_API struct weir_str weir_req_upstream(const struct weir_req *req);
/** The server that was chosen last ("10.0.0.1:80"), absent before. */
WEIR_API struct weir_str weir_req_server(const struct weir_req *req);
WEIR_API bool weir_req_is_tls(const struct weir_req *req);
/** The first failure, or NULL. */
WEIR_API const struct weir_error *weir_req_error(const struct weir_req *req);
/** Attempts so far to get an answer from an upstream. */
WEIR_API unsigned weir_req_attempts(const struct weir_req *req);

/** Zeroed memory of the request's arena, aligned to 16; NULL without memory. Never freed by the caller. */
WEIR_API void *weir_req_alloc(struct weir_req *req, size_t size);
/** A copy in the arena; absent without memory. */
WEIR_API struct weir_str weir_req_copy(struct weir_req *req, struct weir_str text);

/** Sends the request to this upstream instead of the route's, if it has one. WEIR_ENOENT: no such name; WEIR_EINVAL: too
 * late, upstream_peer has run. */
WEIR_API int weir_req_set_upstream(struct weir_req *req, struct weir_str name) WEIR_MUST_CHECK;

/**
 * Answers the request itself, before the head of an answer was sent: `return weir_req_reply(req, 403, body)`.
 * `body` is copied; headers are added with weir_message_set(weir_req_response(req), …) after this call. Content-Type is
 * text/plain unless set. Returns WEIR_DONE, or WEIR_FAIL when the head was already sent or memory is short.
 */
WEIR_API enum weir_verdict weir_req_reply(struct weir_req *req, int status, struct weir_str body);
/** Ends the request with an error: `return weir_req_fail(req, WEIR_EDENIED, WEIR_BY_CLIENT)`. Returns WEIR_FAIL. */
WEIR_API enum weir_verdict weir_req_fail(struct weir_req *req, enum weir_err code, enum weir_by by);
/**
 * Closes the door to the peer of this request's connection for `for_ms` milliseconds, on all listeners: its address, for
 * IPv6 its /64. The request itself goes on. WEIR_EDENIED: the address is in `never_ban`, or belongs to a trusted proxy
 * (whose other clients would be banned as well); WEIR_ELIMIT: the table of bans is full; WEIR_EADDR: a UNIX socket.
 */
WEIR_API int weir_req_ban(struct weir_req *req, uint64_t for_ms,
                          struct weir_str why) WEIR_MUST_CHECK;

/** The right to wake one parked request, once. Plain data: copy it to any thread. */
struct weir_wake {
    void *worker;
    uint64_t generation;
};

/** Runs on the request's worker when a parked request dies (client gone, deadline): forget the question. */
typedef void (*weir_cancel_fn)(struct weir_req *req, void *arg);

/** Parks: the phase then returns WEIR_WAIT. `on_cancel` may be NULL. */
WEIR_API struct weir_wake weir_req_park(struct weir_req *req, weir_cancel_fn on_cancel, void *arg);
/**
 * Resumes a parked request. Any thread, at any time, also before the phase has returned WEIR_WAIT; a wake of a request
 * that has died or was woken is a no-op. WEIR_NEXT goes on with the next filter; WEIR_REPEAT calls the filter that
 * waited once more, so that it can look at what it asked for and answer (not for body phases); WEIR_FAIL ends the
 * request with 500 unless weir_req_fail was called in the phase.
 */
WEIR_API void weir_req_wake(struct weir_wake wake, enum weir_verdict verdict);

/** Work for a thread of the pool: it may block, and touches nothing of the request but `arg`. */
typedef void (*weir_work_fn)(void *arg);
/** Runs on the request's worker after the work; its verdict continues the request. Not called for a dead request. */
typedef enum weir_verdict (*weir_work_done_fn)(struct weir_req *req, void *arg);

/**
 * Runs `work(arg)` on a thread of the pool: `return weir_req_offload(req, work, done, call)`. `arg` is memory of
 * weir_req_alloc: the arena stays until the work has returned, also when the client leaves meanwhile.
 */
WEIR_API enum weir_verdict weir_req_offload(struct weir_req *req, weir_work_fn work,
                                            weir_work_done_fn done, void *arg);

/** Wakes a request parked by the caller after `ms` milliseconds: `return weir_req_sleep(req, 50)`. Returns WEIR_WAIT. */
WEIR_API enum weir_verdict weir_req_sleep(struct weir_req *req, uint32_t ms);

WEIR_END
#endif
