/* SPDX-License-Identifier: Apache-2.0 */
/** str.h: comparing and cutting borrowed bytes (struct weir_str). */
#ifndef BASE_STR_H
#define BASE_STR_H

#include "weir/types.h"

static inline bool weir_str_eq(struct weir_str a, struct weir_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool weir_str_absent(struct weir_str s)
{
    return s.ptr == NULL;
}

static inline char weir_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/** Equal but for ASCII case. */
bool weir_str_ieq(struct weir_str a, struct weir_str b);
bool weir_str_starts(struct weir_str s, struct weir_str prefix);
bool weir_str_ends(struct weir_str s, struct weir_str suffix);
/** Without spaces and tabs at both ends (RFC 9110 OWS). */
struct weir_str weir_str_trim(struct weir_str s);
/** The part before the first `sep`; *rest is what follows it, absent when there was no `sep`. */
struct weir_str weir_str_cut(struct weir_str s, char sep, struct weir_str *rest);
/** The next element of a comma-separated list (RFC 9110 5.6.1), trimmed; empty ones are skipped.
 * False at the end. */
bool weir_str_next_element(struct weir_str *list, struct weir_str *element);
/** Is `token` (without case) an element of the list? */
bool weir_str_has_token(struct weir_str list, struct weir_str token);
/** Decimal digits only, no sign, no space; false also on overflow. */
bool weir_str_to_u64(struct weir_str s, uint64_t *value);
/** Writes decimal digits, returns how many (at most 20); not terminated. */
size_t weir_u64_to_str(uint64_t value, char *out);
/** A malloc'ed, terminated copy; NULL without memory. The caller frees it. */
char *weir_str_dup(struct weir_str s);
/** Edit distance of short names (for did-you-mean): insert, delete, replace, swap. Above 64 bytes:
 * the longer length. */
unsigned weir_str_distance(struct weir_str a, struct weir_str b);

#endif
