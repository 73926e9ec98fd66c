/* SPDX-License-Identifier: Apache-2.0 */
/**
 * metric.h: counters without locks. Each thread owns a counter it adds to (relaxed, one writer);
 * readers sum over the threads. Names, kinds, labels and sentences are one table.
 */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include <stdatomic.h>
#include <stdint.h>

/* name (after "weir_"), kind, labels, sentence */
/* clang-format off */
#define WEIR_METRICS(X)                                                                                                     \
    X(requests_total,               COUNTER,   "listener,route,code",     "requests answered, by status")                   \
    X(requests_in_flight,           GAUGE,     "listener",                "requests that are being served")                 \
    X(request_duration_seconds,     HISTOGRAM, "listener,route",          "from the head to the end of the answer")         \
    X(connections,                  GAUGE,     "listener",                "connections of clients")                         \
    X(connections_accepted_total,   COUNTER,   "listener",                "connections accepted")                           \
    X(connections_refused_total,    COUNTER,   "listener,reason",         "connections closed at accept, or not accepted")  \
    X(h2_abuse_total,               COUNTER,   "listener,reason",         "connections of HTTP/2 ended for what their frames cost") \
    X(listen_drops_total,           COUNTER,   "",                        "connections that the kernel dropped from full accept queues (the network namespace's ListenDrops)") \
    X(tls_handshakes_total,         COUNTER,   "listener,version,resumed", "TLS handshakes completed with clients")         \
    X(certificate_expiry_seconds,   GAUGE,     "cert",                    "when a certificate expires, seconds since 1970") \
    X(upstream_requests_total,      COUNTER,   "upstream,reused",         "requests sent to an upstream")                   \
    X(upstream_connections,         GAUGE,     "upstream,state",          "connections to an upstream, idle or active")     \
    X(upstream_connections_opened_total, COUNTER, "upstream",             "connections opened to an upstream")              \
    X(upstream_h2_abuse_total,      COUNTER,   "upstream,reason",         "connections of HTTP/2 to an upstream ended for what its frames cost") \
    X(upstream_duration_seconds,    HISTOGRAM, "upstream",                "from sending a request to the end of its answer") \
    X(upstream_up,                  GAUGE,     "upstream,server",         "1 when the server is used, 0 when it is down or draining") \
    X(retries_total,                COUNTER,   "upstream,why",            "requests sent once more")                        \
    X(errors_total,                 COUNTER,   "by,code",                 "requests that failed, by who is to blame and why") \
    X(bytes_total,                  COUNTER,   "side,direction,mover",    "bytes of bodies and tunnels moved")              \
    X(splice_active,                GAUGE,     "mover",                   "directions of tunnels, and bodies that are not copied, by who moves them") \
    X(splice_fallback_total,        COUNTER,   "reason",                  "times that a direction was not moved by a faster mover, or no more") \
    X(splice_kept,                  GAUGE,     "",                       "tunnels that the keeper holds as well, and that outlive a crash") \
    X(splice_unkept_total,          COUNTER,   "",                       "tunnels that the keeper could not hold")         \
    X(grpc_requests_total,          COUNTER,   "route,status",            "gRPC requests answered, by grpc-status")         \
    X(config_reloads_total,         COUNTER,   "result",                  "reloads of the configuration")                   \
    X(worker_busy_seconds_total,    COUNTER,   "worker",                  "time that a worker did not wait")                \
    X(memory_bytes,                 GAUGE,     "pool",                    "memory in use: resident, and its limit")         \
    X(bugs_total,                   COUNTER,   "",                        "broken promises of weir's own, survived")        \
    X(build_info,                   GAUGE,     "version",                 "1")
/* clang-format on */

enum weir_metric_kind { WEIR_METRIC_COUNTER, WEIR_METRIC_GAUGE, WEIR_METRIC_HISTOGRAM };

/** One writer (or atomic adds where several), any readers. */
typedef _Atomic uint64_t weir_counter;

/** Adds, when the calling thread is the only writer: no locked instruction. */
static inline void weir_count(weir_counter *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline uint64_t weir_counter_read(const weir_counter *counter)
{
    return atomic_load_explicit((weir_counter *)counter, memory_order_relaxed);
}

/** Durations: bucket i counts what took at most 2^i * 64 µs; the last is +Inf. */
enum { WEIR_HISTOGRAM_BUCKETS = 22 };

struct weir_histogram {
    weir_counter bucket[WEIR_HISTOGRAM_BUCKETS];
    weir_counter sum_us;
};

static inline void weir_histogram_add(struct weir_histogram *h, uint64_t us)
{
    unsigned i = us <= 64 ? 0 : 64 - (unsigned)__builtin_clzll((us - 1) >> 6);

    weir_count(&h->bucket[i < WEIR_HISTOGRAM_BUCKETS ? i : WEIR_HISTOGRAM_BUCKETS - 1], 1);
    weir_count(&h->sum_us, us);
}

/** Status codes of one route: few different ones in practice. */
enum { WEIR_CODES_MAX = 24 };
struct weir_codes {
    _Atomic uint16_t
        code[WEIR_CODES_MAX]; /* 0 ends the list; the last slot counts all others, as code 0 */
    weir_counter count[WEIR_CODES_MAX];
};

static inline void weir_codes_add(struct weir_codes *codes, unsigned code)
{
    unsigned i = 0;

    for (; i < WEIR_CODES_MAX - 1; i++) {
        unsigned have = atomic_load_explicit(&codes->code[i], memory_order_relaxed);

        if (have == code)
            break;
        if (!have) {
            atomic_store_explicit(&codes->code[i], (uint16_t)code, memory_order_release);
            break;
        }
    }
    weir_count(&codes->count[i], 1);
}

#endif
