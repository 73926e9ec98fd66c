/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_path.c: what a path becomes is a path, has nothing left to normalise, and strict takes only
 * what normalize leaves as it is but for escapes. The first byte chooses the mode.
 *
 * fuzz-room: http
 * covers: userspace/http/path.c
 */
#include "base/panic.h"
#include "base/str.h"
#include "fuzz.h"
#include "http/path.h"

#include <stdlib.h>

static bool has_dot_segment(struct weir_str path)
{
    struct weir_str segment;

    while (path.ptr) {
        segment = weir_str_cut(path, '/', &path);
        if (weir_str_eq(segment, WEIR_STR(".")) || weir_str_eq(segment, WEIR_STR("..")))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir_str path = { (const char *)data + 1, size - 1 }, again;
    struct weir_arena arena;
    enum weir_paths how;

    if (size < 2 || data[1] != '/')
        return 0;
    how = data[0] & 1 ? WEIR_PATHS_STRICT : WEIR_PATHS_NORMALIZE;
    weir_arena_init(&arena, NULL);
    if (weir_path_apply(how, &path, &arena) == 0) {
        weir_assert(path.len > 0 && path.len <= size - 1 && path.ptr[0] == '/');
        weir_assert(!has_dot_segment(path));
        weir_assert(!memchr(path.ptr, '\\', path.len) && !memchr(path.ptr, 0, path.len));
        again = path;
        weir_assert(weir_path_apply(how, &again, &arena) == 0);
        weir_assert(weir_str_eq(path, again));
        weir_assert(weir_path_under(path, WEIR_STR("/")));
        weir_assert(weir_path_under(path, path));
    }
    weir_arena_fini(&arena);
    return 0;
}
