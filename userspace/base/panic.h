/* SPDX-License-Identifier: Apache-2.0 */
/**
 * panic.h: assertions. Always on. Broken memory or ownership aborts (the keeper starts a new
 * proxy); input from network, configuration, kernel and allocator is never asserted.
 */
#ifndef BASE_PANIC_H
#define BASE_PANIC_H

#include <stddef.h>
#include <stdint.h>

#define WEIR_LIKELY(x)   __builtin_expect(!!(x), 1)
#define WEIR_UNLIKELY(x) __builtin_expect(!!(x), 0)

__attribute__((noreturn, cold)) void weir_panic(const char *file, int line, const char *what);

#define weir_assert(cond) (WEIR_LIKELY(cond) ? (void)0 : weir_panic(__FILE__, __LINE__, #cond))

/** The struct around a member. */
#define weir_container(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/** A `void *` checked at the door it comes back through: the struct has `uint32_t magic`. */
#define weir_cast(type, arg, expected)                                      \
    ({                                                                      \
        type *cast_ = (arg);                                                \
        weir_assert(cast_ != NULL && cast_->magic == (uint32_t)(expected)); \
        cast_;                                                              \
    })

/** Takes a pointer out of a variable: the variable is NULL from here on. */
#define weir_take(ptrp)               \
    ({                                \
        __auto_type taken_ = *(ptrp); \
        weir_assert(taken_ != NULL);  \
        *(ptrp) = NULL;               \
        taken_;                       \
    })

#endif
