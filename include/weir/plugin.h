/* SPDX-License-Identifier: Apache-2.0 */
/**
 * plugin.h: filters in a shared object that the daemon loads: `plugins: [ shout.so ]`. The object exports one symbol:
 *
 *     const struct weir_plugin weir_plugin = {
 *         WEIR_PLUGIN_HEAD, .name = "shout", .filters = (const struct weir_filter_type *const[]){ &shout, NULL }
 *     };
 *
 *     cc -shared -fPIC shout.c $(pkg-config --cflags weir) -o shout.so
 *
 * It is not linked with libweir: what it calls of include/weir is the daemon's own.
 */
#ifndef WEIR_PLUGIN_H
#define WEIR_PLUGIN_H

#include "weir/conf.h"
#include "weir/filter.h"

WEIR_BEGIN

/** Of all that a plug-in and the daemon share: the structs and functions of include/weir. Another number is refused. */
#define WEIR_PLUGIN_ABI 1

/** How the definition begins. */
#define WEIR_PLUGIN_HEAD .abi = WEIR_PLUGIN_ABI, .size = sizeof(struct weir_plugin)

struct weir_plugin {
    uint32_t abi;     /* of the headers that it was built with; always the first field */
    uint32_t size;    /* sizeof(struct weir_plugin): a later field breaks no binary, it is absent */
    const char *name; /* for messages and logs */
    const struct weir_filter_type *const *filters; /* NULL-terminated */
    /**
     * May be NULL. Called before anything else of the plug-in, once for every configuration that is
     * read (also by `weir check`, and as the user that started weir): so no side effect but memory.
     * 0, or anything else with a sentence in `fault` (a NUL-terminated text).
     */
    int (*init)(char *fault, size_t fault_bytes);
    /** May be NULL. The configuration goes, its filters are gone already; once for each init that
     * returned 0. */
    void (*fini)(void);
};

/* The plug-in's, not the library's. */
extern const struct weir_plugin weir_plugin __attribute__((visibility("default")));

WEIR_END
#endif
