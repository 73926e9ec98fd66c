/* SPDX-License-Identifier: Apache-2.0 */
/** metrics_splice.c: what was moved, by whom, and why not by somebody better (metrics.c). */
#include "proxy/metrics_out.h"

#include "base/str.h"

static uint64_t splice_sum(const struct weir_metrics_out *out,
                           uint64_t (*of)(const struct weir_splice_stats *stats, unsigned a,
                                          unsigned b),
                           unsigned a, unsigned b)
{
    uint64_t sum = 0;

    for (unsigned w = 0; w < out->workers; w++)
        sum += of(&weir_service_stats(out->service, w)->splice, a, b);
    return sum;
}

static uint64_t moved_of(const struct weir_splice_stats *stats, unsigned mover, unsigned dir)
{
    return weir_counter_read(&stats->moved[mover][dir]);
}

static uint64_t active_of(const struct weir_splice_stats *stats, unsigned mover, unsigned unused)
{
    (void)unused;
    return weir_counter_read(&stats->active[mover]);
}

static uint64_t fallback_of(const struct weir_splice_stats *stats, unsigned why, unsigned unused)
{
    (void)unused;
    return weir_counter_read(&stats->fallback[why]);
}

/* What a mover takes in at one side goes out at the other. */
void put_bytes_total(struct weir_metrics_out *out)
{
    static const char *const sides[] = { "down", "up" }, *const directions[] = { "in", "out" };

    for (unsigned mover = 0; mover < WEIR_MOVERS; mover++)
        for (unsigned i = 0; i < 4; i++) {
            unsigned side = i / 2, direction = i % 2;
            uint64_t sum = splice_sum(out, moved_of, mover, side ^ direction);

            for (unsigned w = 0; w < out->workers && mover == WEIR_MOVER_COPY; w++)
                sum +=
                    weir_counter_read(&weir_service_stats(out->service, w)->bytes[side][direction]);
            sample_begin(out, "");
            sample_label(out, "side", weir_str(sides[side]));
            sample_label(out, "direction", weir_str(directions[direction]));
            sample_label(out, "mover", weir_str(weir_mover_name((enum weir_mover)mover)));
            sample_u64(out, sum);
        }
}

void put_splice_active(struct weir_metrics_out *out)
{
    for (unsigned mover = 0; mover < WEIR_MOVERS; mover++) {
        sample_begin(out, "");
        sample_label(out, "mover", weir_str(weir_mover_name((enum weir_mover)mover)));
        sample_gauge(out, splice_sum(out, active_of, mover, 0));
    }
}

void put_splice_fallback_total(struct weir_metrics_out *out)
{
    for (unsigned why = WEIR_WHY_none + 1; why < WEIR_WHYS_COUNT; why++) {
        uint64_t sum = splice_sum(out, fallback_of, why, 0);

        if (!sum)
            continue;
        sample_begin(out, "");
        sample_label(out, "reason", weir_str(weir_splice_why_name((enum weir_splice_why)why)));
        sample_u64(out, sum);
    }
}

static uint64_t kept_of(const struct weir_splice_stats *stats, unsigned un, unsigned unused)
{
    (void)unused;
    return weir_counter_read(un ? &stats->unkept : &stats->kept);
}

void put_splice_kept(struct weir_metrics_out *out)
{
    sample_begin(out, "");
    sample_gauge(out, splice_sum(out, kept_of, 0, 0));
}

void put_splice_unkept_total(struct weir_metrics_out *out)
{
    sample_begin(out, "");
    sample_u64(out, splice_sum(out, kept_of, 1, 0));
}
