/* SPDX-License-Identifier: Apache-2.0 */
/**
 * stats.h: what a worker counts. Each worker writes its own (one writer, relaxed); metrics.c sums and prints them in
 * Prometheus text (weir_service_metrics).
 */
#ifndef PROXY_STATS_H
#define PROXY_STATS_H

#include "accel/splicer.h"
#include "base/metric.h"
#include "http/grpc.h"
#include "http/h2.h"
#include "weir/error.h"

/* Why a connection was not taken: the label `reason`. */
/* clang-format off */
#define WEIR_REFUSALS(X) \
    X(limit) X(per_client) X(denied) X(banned) X(memory) X(descriptors) X(shutdown) X(handshake) X(proxy_header) \
    X(client_hello)
/* clang-format on */
#define WEIR_REFUSAL_ENUM(name) WEIR_REFUSED_##name,
enum weir_refusal { WEIR_REFUSALS(WEIR_REFUSAL_ENUM) WEIR_REFUSALS_COUNT };
#undef WEIR_REFUSAL_ENUM

/* Why a request was sent once more: the label `why`. */
#define WEIR_RETRIES(X)       X(connect) X(unprocessed) X(reset) X(timeout) X(status) X(stale)
#define WEIR_RETRY_ENUM(name) WEIR_RETRIED_##name,
enum weir_retried { WEIR_RETRIES(WEIR_RETRY_ENUM) WEIR_RETRIED_COUNT };
#undef WEIR_RETRY_ENUM

struct weir_route_stats {
    struct weir_codes codes;
    struct weir_histogram duration;
    weir_counter grpc[WEIR_GRPC_STATUS_COUNT + 1]; /* by grpc-status; the last: any other */
};

/** Of one listener on one worker. */
struct weir_listener_stats {
    weir_counter accepted, connections, in_flight;
    weir_counter refused[WEIR_REFUSALS_COUNT];
    weir_counter h2_abuse[WEIR_H2_ABUSE_COUNT]; /* counted when such a connection has gone */
    weir_counter handshakes[2][2];              /* [TLS 1.3][resumed] */
};

enum { WEIR_ERROR_SLOTS = 128 };
struct weir_error_stats {
    _Atomic int code[WEIR_ERROR_SLOTS]; /* 0: free */
    weir_counter count[WEIR_ERROR_SLOTS][3];
};

enum { WEIR_SIDE_DOWN, WEIR_SIDE_UP, WEIR_DIR_IN = 0, WEIR_DIR_OUT };

struct weir_worker_stats {
    struct weir_error_stats errors;
    weir_counter bytes[2]
                      [2]; /* of bodies, by copy: [side][direction]; in: read from that side. Down:
                                 when the request is over; up: at once, in every attempt */
    struct weir_splice_stats splice; /* of all else */
    weir_counter bugs;
};

static inline void weir_grpc_stats_add(struct weir_route_stats *stats, int status)
{
    unsigned last = WEIR_GRPC_STATUS_COUNT, slot = (unsigned)status;

    weir_count(&stats->grpc[slot < last ? slot : last], 1);
}
void weir_error_stats_add(struct weir_error_stats *stats, const struct weir_error *error);

#endif
