/* SPDX-License-Identifier: Apache-2.0 */
/**
 * prefix_set.h: is an address in one of these prefixes? A sorted array without overlaps, immutable
 * once sealed: 17 bytes a prefix, one binary search a lookup, nothing that a choice of addresses
 * could degrade.
 */
#ifndef PROXY_PREFIX_SET_H
#define PROXY_PREFIX_SET_H

#include "net/addr.h"

struct weir_prefix_set {
    struct weir_prefix *at;
    size_t count, room;
};

/** 0, WEIR_ENOMEM. */
int weir_prefix_set_add(struct weir_prefix_set *set, const struct weir_prefix *prefix)
    __attribute__((warn_unused_result));
/** Sorts, drops what lies in another prefix. After this: lookups, by any thread. */
void weir_prefix_set_seal(struct weir_prefix_set *set);
void weir_prefix_set_fini(struct weir_prefix_set *set);
bool weir_prefix_set_has(const struct weir_prefix_set *set, const uint8_t addr[16]);
/** Have the set and the prefix an address in common? */
bool weir_prefix_set_meets(const struct weir_prefix_set *set, const struct weir_prefix *prefix);

#endif
