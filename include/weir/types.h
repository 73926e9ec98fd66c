/* SPDX-License-Identifier: Apache-2.0 */
/** types.h: the few words that every public header of weir uses. */
#ifndef WEIR_TYPES_H
#define WEIR_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
#define WEIR_BEGIN extern "C" {
#define WEIR_END   }
#else
#define WEIR_BEGIN
#define WEIR_END
#endif

/** Marks what the shared library exports; everything else is hidden. */
#define WEIR_API          __attribute__((visibility("default")))
#define WEIR_MUST_CHECK   __attribute__((warn_unused_result))
#define WEIR_PRINTF(f, a) __attribute__((format(printf, f, a)))

WEIR_BEGIN

/** Borrowed bytes: pointer and length, not terminated. {NULL, 0} is "absent"; {"", 0} is "empty". */
struct weir_str {
    const char *ptr;
    size_t len;
};

#ifdef __cplusplus
#define WEIR_STR(literal) (weir_str{ (literal), sizeof(literal) - 1 })
#else
#define WEIR_STR(literal) ((struct weir_str){ (literal), sizeof(literal) - 1 })
#endif

/** printf("%.*s", WEIR_FMT(str)) */
#define WEIR_FMT(s) (int)(s).len, (s).ptr

static inline struct weir_str weir_str(const char *text)
{
    struct weir_str s = { text, text ? strlen(text) : 0 };
    return s;
}

/** Does it say exactly `text`? (Header names and other words without case: compare by strncasecmp.) */
static inline bool weir_str_is(struct weir_str s, const char *text)
{
    size_t len = strlen(text);

    return s.ptr && s.len == len && memcmp(s.ptr, text, len) == 0;
}

/** "No limit" where 0 means "the documented default". */
#define WEIR_UNLIMITED (-1)

WEIR_END
#endif
