/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/stats.h"

/* Open addressing by code. One writer; readers see a code before its count (release). A full table
 * would drop the error: there are fewer codes than slots (WEIR_ERRORS). */
void weir_error_stats_add(struct weir_error_stats *stats, const struct weir_error *error)
{
    unsigned home = (unsigned)-(int)error->code;

    for (unsigned i = 0; i < WEIR_ERROR_SLOTS; i++) {
        unsigned slot = (home + i) % WEIR_ERROR_SLOTS;
        int have = atomic_load_explicit(&stats->code[slot], memory_order_relaxed);

        if (have && have != (int)error->code)
            continue;
        if (!have)
            atomic_store_explicit(&stats->code[slot], (int)error->code, memory_order_release);
        weir_count(&stats->count[slot][error->by <= WEIR_BY_UPSTREAM ? error->by : WEIR_BY_US], 1);
        return;
    }
}
