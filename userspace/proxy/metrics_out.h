/* SPDX-License-Identifier: Apache-2.0 */
/**
 * metrics_out.h: samples in Prometheus text. For metrics.c. Numbers are printed as integers and
 * millionths: the locale of a program cannot change them.
 */
#ifndef PROXY_METRICS_OUT_H
#define PROXY_METRICS_OUT_H

#include "proxy/service.h"

#include <stdio.h>

struct weir_metrics_out {
    FILE *to;
    struct weir_service *service;
    const struct weir_proxy_conf *conf;
    unsigned workers;
    /* of the family that is being printed */
    const char *name, *kind, *text;
    bool begun, labels;
};

/* A sample: begin (with the family's HELP and TYPE when it is the first), labels, one value. */
void sample_begin(struct weir_metrics_out *out, const char *suffix);
void sample_label(struct weir_metrics_out *out, const char *name, struct weir_str value);
void sample_u64(struct weir_metrics_out *out, uint64_t value);
void sample_gauge(struct weir_metrics_out *out, uint64_t value);
void sample_us(struct weir_metrics_out *out, uint64_t us);
/** All samples of one histogram; `labels` prints those of the family. */
void sample_histogram(struct weir_metrics_out *out, const struct weir_histogram *h,
                      void (*labels)(struct weir_metrics_out *out, const void *arg),
                      const void *arg);

/** Families that have a file of their own. */
void put_grpc_requests_total(struct weir_metrics_out *out);
void put_bytes_total(struct weir_metrics_out *out);
void put_splice_active(struct weir_metrics_out *out);
void put_splice_fallback_total(struct weir_metrics_out *out);
void put_splice_kept(struct weir_metrics_out *out);
void put_splice_unkept_total(struct weir_metrics_out *out);

#endif
