/* SPDX-License-Identifier: Apache-2.0 */
/** path.h: request paths as a listener's `paths` says: what is matched is what is forwarded. Pure functions. */
#ifndef HTTP_PATH_H
#define HTTP_PATH_H

#include "base/arena.h"
#include "weir/error.h"

enum weir_paths { WEIR_PATHS_NORMALIZE, WEIR_PATHS_STRICT, WEIR_PATHS_RAW };

/**
 * normalize (RFC 3986 6.2.2): unreserved characters decoded, escapes upper case, dot segments removed; %2f stays; %00,
 * %5c and '\' are WEIR_EBADPATH, as is a broken escape. strict: besides, "//", %2f and dot segments are WEIR_EBADPATH.
 * raw: unchanged. `*path` begins with '/' and is replaced by the result (in `arena` only when it differs). Idempotent.
 */
int weir_path_apply(enum weir_paths how, struct weir_str *path, struct weir_arena *arena)
    __attribute__((warn_unused_result));

/** Does `path` match a prefix at a '/' boundary? "/v1/" also matches "/v1". */
bool weir_path_under(struct weir_str path, struct weir_str prefix);

#endif
