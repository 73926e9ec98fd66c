/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/prefix_set.h"

#include "weir/error.h"

#include <stdlib.h>

int weir_prefix_set_add(struct weir_prefix_set *set, const struct weir_prefix *prefix)
{
    if (set->count == set->room) {
        size_t room = set->room ? set->room * 2 : 16;
        struct weir_prefix *at = realloc(set->at, room * sizeof(*at));

        if (!at)
            return WEIR_ENOMEM;
        set->at = at;
        set->room = room;
    }
    set->at[set->count++] = *prefix;
    return 0;
}

/* By address, the shorter prefix first: what lies in a prefix follows it directly. */
static int prefix_order(const void *a, const void *b)
{
    const struct weir_prefix *x = a, *y = b;
    int order = memcmp(x->addr, y->addr, sizeof(x->addr));

    return order ? order : (int)x->bits - (int)y->bits;
}

void weir_prefix_set_seal(struct weir_prefix_set *set)
{
    size_t kept = 0;

    if (!set->count)
        return;
    qsort(set->at, set->count, sizeof(*set->at), prefix_order);
    for (size_t i = 1; i < set->count; i++)
        if (!weir_prefix_has(&set->at[kept], set->at[i].addr))
            set->at[++kept] = set->at[i];
    set->count = kept + 1;
}

void weir_prefix_set_fini(struct weir_prefix_set *set)
{
    free(set->at);
    *set = (struct weir_prefix_set){ 0 };
}

/* How many prefixes begin at or before `addr`. */
static size_t begin_before(const struct weir_prefix_set *set, const uint8_t addr[16])
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(set->at[middle].addr, addr, 16) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Prefixes of the set do not overlap, so only the last one that begins before can hold the address.
 */
bool weir_prefix_set_has(const struct weir_prefix_set *set, const uint8_t addr[16])
{
    size_t n;

    if (!set->count)
        return false;
    n = begin_before(set, addr);
    return n && weir_prefix_has(&set->at[n - 1], addr);
}

bool weir_prefix_set_meets(const struct weir_prefix_set *set, const struct weir_prefix *prefix)
{
    size_t n = begin_before(set, prefix->addr);

    if (n && (weir_prefix_has(&set->at[n - 1], prefix->addr) ||
              weir_prefix_has(prefix, set->at[n - 1].addr)))
        return true;
    return n < set->count && weir_prefix_has(prefix, set->at[n].addr);
}
