/* SPDX-License-Identifier: Apache-2.0 */
/**
 * grpc.h: what is different for gRPC on the way of a request; the rest of the machine does not know of it. A request is
 * told by its method and content type (http/grpc.h): what filters make of those counts.
 */
#ifndef PROXY_GRPC_H
#define PROXY_GRPC_H

#include "http/grpc.h"
#include "proxy/req.h"

static inline bool weir_req_is_grpc(const struct weir_req *req)
{
    return weir_grpc_kind(&req->in) == WEIR_GRPC_PLAIN;
}

/** The head is there: begins the deadline that its grpc-timeout asks for. 0, or WEIR_EREQTIME: it is over already. */
int weir_grpc_begin(struct weir_req *req) __attribute__((warn_unused_result));
/** What goes to the upstream: TE: trailers, and of grpc-timeout what is left. 0, WEIR_ENOMEM, WEIR_EREQTIME. */
int weir_grpc_forward(struct weir_req *req, struct weir_message *up)
    __attribute__((warn_unused_result));
/** An error as a trailers-only answer, from its row of WEIR_ERRORS. 0 or WEIR_ENOMEM. */
int weir_grpc_reply(struct weir_req *req, enum weir_err code) __attribute__((warn_unused_result));
/** The trailer as the upstream sent it: remembers its grpc-status, which filters may take out. */
void weir_grpc_note(struct weir_req *req, const struct weir_message *trailer);
/** How it ended, for the log and the metric: the grpc-status that the client got, or what it takes for one. */
int weir_grpc_outcome(const struct weir_req *req);

#endif
