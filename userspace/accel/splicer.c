/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/pipes.h"
#include "accel/splice.h"

#include "base/panic.h"

const char *weir_mover_name(enum weir_mover mover)
{
    static const char *const names[WEIR_MOVERS] = { "copy", "pipe", "sockmap" };

    return names[mover];
}

#define WHY_NAME(name, text) #name,
#define WHY_TEXT(name, text) text,
static const char *const why_names[WEIR_WHYS_COUNT] = { WEIR_SPLICE_WHYS(WHY_NAME) };
static const char *const why_texts[WEIR_WHYS_COUNT] = { WEIR_SPLICE_WHYS(WHY_TEXT) };

const char *weir_splice_why_name(enum weir_splice_why why)
{
    return why_names[why];
}

const char *weir_splice_why_text(enum weir_splice_why why)
{
    return why_texts[why];
}

bool weir_splice_budget_take(struct weir_splice_budget *budget, uint64_t bytes)
{
    uint64_t max = atomic_load_explicit(&budget->max, memory_order_relaxed);
    uint64_t used = atomic_fetch_add_explicit(&budget->used, bytes, memory_order_relaxed);

    if (used + bytes <= max)
        return true;
    weir_splice_budget_put(budget, bytes);
    return false;
}

void weir_splice_budget_put(struct weir_splice_budget *budget, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
}

/* --- the clock: a wheel of coarse buckets, since nothing here is in a hurry; 16 bytes a splice ------------------------
 */

static uint64_t tick_of(const struct weir_splicer *splicer)
{
    return splicer->loop->now_ms / WEIR_SPLICE_LOOK_MS;
}

static void on_tick(struct weir_timer *timer, void *arg)
{
    struct weir_splicer *splicer = arg;
    uint64_t now = tick_of(splicer);

    while (splicer->tick <= now) {
        struct weir_list due;

        weir_list_take_all(&due, &splicer->looks[splicer->tick++ % WEIR_SPLICE_LOOKS]);
        while (!weir_list_empty(&due)) {
            struct weir_splice *splice =
                weir_list_entry(weir_list_pop_front(&due), struct weir_splice, link);

            splicer->count--;
            weir_splice_look(splice);
        }
    }
    if (splicer->count)
        weir_loop_timer(splicer->loop, timer, WEIR_SPLICE_LOOK_MS, on_tick, splicer);
}

void weir_splicer_look(struct weir_splicer *splicer, struct weir_splice *splice, uint64_t after_ms)
{
    uint64_t tick;

    if (after_ms > WEIR_SPLICE_LOOK_MAX_MS)
        after_ms = WEIR_SPLICE_LOOK_MAX_MS;
    if (!splicer->count)
        splicer->tick = tick_of(splicer);
    tick = (splicer->loop->now_ms + after_ms) / WEIR_SPLICE_LOOK_MS + 1;
    weir_list_push_back(&splicer->looks[tick % WEIR_SPLICE_LOOKS], &splice->link);
    splicer->count++;
    if (!weir_timer_armed(&splicer->timer))
        weir_loop_timer(splicer->loop, &splicer->timer, WEIR_SPLICE_LOOK_MS, on_tick, splicer);
}

void weir_splicer_unlook(struct weir_splicer *splicer, struct weir_splice *splice)
{
    if (weir_list_empty(&splice->link))
        return;
    weir_list_remove(&splice->link);
    splicer->count--;
}

/* --- life -----------------------------------------------------------------------------------------------------------
 */

void weir_splicer_init(struct weir_splicer *splicer, struct weir_loop *loop,
                       struct weir_splice_budget *budget, struct weir_splice_stats *stats)
{
    *splicer = (struct weir_splicer){ .loop = loop, .budget = budget, .stats = stats };
    splicer->movers[WEIR_MOVER_COPY] = &weir_mover_copy;
    splicer->movers[WEIR_MOVER_PIPE] = &weir_mover_pipe;
    splicer->lacks[WEIR_MOVER_SOCKMAP] = WEIR_WHY_no_kernel;
    for (int i = 0; i < WEIR_SPLICE_LOOKS; i++)
        weir_list_init(&splicer->looks[i]);
    loop->splicer = splicer;
}

void weir_splicer_fini(struct weir_splicer *splicer)
{
    if (!splicer->loop)
        return;
    weir_assert(splicer->count == 0);
    weir_timer_stop(&splicer->loop->wheel, &splicer->timer);
    weir_pipes_fini(splicer);
    splicer->loop->splicer = NULL;
}
