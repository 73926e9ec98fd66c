/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/metrics_out.h"

static void family(struct weir_metrics_out *out)
{
    if (!out->begun)
        fprintf(out->to, "# HELP weir_%s %s\n# TYPE weir_%s %s\n", out->name, out->text, out->name,
                out->kind);
    out->begun = true;
}

/* A sample: begin, labels, a value. */
void sample_begin(struct weir_metrics_out *out, const char *suffix)
{
    family(out);
    fprintf(out->to, "weir_%s%s", out->name, suffix);
    out->labels = false;
}

void sample_label(struct weir_metrics_out *out, const char *name, struct weir_str value)
{
    fprintf(out->to, "%c%s=\"", out->labels ? ',' : '{', name);
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];

        if (c == '\n')
            fputs("\\n", out->to);
        else if (c == '"' || c == '\\')
            fprintf(out->to, "\\%c", c);
        else
            fputc(c, out->to);
    }
    fputc('"', out->to);
    out->labels = true;
}

void sample_u64(struct weir_metrics_out *out, uint64_t value)
{
    fprintf(out->to, "%s %llu\n", out->labels ? "}" : "", (unsigned long long)value);
}

/* Gauges are sums of what workers add and take away: one of them may be below 0, not their sum. */
void sample_gauge(struct weir_metrics_out *out, uint64_t value)
{
    sample_u64(out, (int64_t)value < 0 ? 0 : value);
}

void sample_us(struct weir_metrics_out *out, uint64_t us)
{
    fprintf(out->to, "%s %llu.%06u\n", out->labels ? "}" : "", (unsigned long long)(us / 1000000),
            (unsigned)(us % 1000000));
}

/* Buckets are cumulative; `le` in seconds. `labels` prints those of the family. */
void sample_histogram(struct weir_metrics_out *out, const struct weir_histogram *h,
                      void (*labels)(struct weir_metrics_out *out, const void *arg),
                      const void *arg)
{
    uint64_t count = 0;
    char le[32];

    for (unsigned i = 0; i < WEIR_HISTOGRAM_BUCKETS; i++) {
        uint64_t us = 64ull << i;

        count += weir_counter_read(&h->bucket[i]);
        snprintf(le, sizeof(le), "%llu.%06u", (unsigned long long)(us / 1000000),
                 (unsigned)(us % 1000000));
        sample_begin(out, "_bucket");
        labels(out, arg);
        sample_label(out, "le", i + 1 < WEIR_HISTOGRAM_BUCKETS ? weir_str(le) : WEIR_STR("+Inf"));
        sample_u64(out, count);
    }
    sample_begin(out, "_sum");
    labels(out, arg);
    sample_us(out, weir_counter_read(&h->sum_us));
    sample_begin(out, "_count");
    labels(out, arg);
    sample_u64(out, count);
}
