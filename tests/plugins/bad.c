/* SPDX-License-Identifier: Apache-2.0 */
/* bad.c: plug-ins with something wrong in them, one for each BAD_… that CMake defines; and one that is good. */
#include "weir/plugin.h"

#include <stdio.h>

struct conf {
    int64_t value;
};

static void *create(const void *conf, char *fault, size_t fault_bytes)
{
    return (void *)conf;
}

static const struct weir_conf_item rows[] = {
#ifdef BAD_ROW
    { .name = "value", .type = WEIR_CONF_INT, .offset = 4, .text = "beyond the end" },
#elif defined BAD_TYPE
    { .name = "value", .type = WEIR_CONF_CUSTOM, .text = "code of the daemon" },
#else
    { .name = "value", .type = WEIR_CONF_INT, .text = "a number" },
#endif
    { 0 },
};

static const struct weir_filter filter = { .size = sizeof(struct weir_filter), .name = "bad" };

static const struct weir_filter_type type = {
    .size = sizeof(struct weir_filter_type),
#ifdef BAD_CLASH
    .name = "headers", /* a built-in one */
#else
    .name = "bad",
#endif
    .text = "does nothing",
    .rows = rows,
    .bytes = sizeof(struct conf),
    .filter = &filter,
    .create = create,
};

static int init(char *fault, size_t fault_bytes)
{
#ifdef BAD_INIT
    snprintf(fault, fault_bytes, "no licence");
    return -1;
#endif
    return 0;
}

static void fini(void)
{
    fputs("the plug-in ends\n", stderr);
}

static const struct weir_filter_type *const filters[] = { &type,
#ifdef BAD_TWICE
                                                          &type,
#endif
                                                          NULL };

#ifdef BAD_SYMBOL
#define SYMBOL another_name
#else
#define SYMBOL weir_plugin
#endif

const struct weir_plugin SYMBOL = {
#ifdef BAD_ABI
    .abi = WEIR_PLUGIN_ABI + 1,
    .size = sizeof(struct weir_plugin),
#else
    WEIR_PLUGIN_HEAD,
#endif
    .name = "bad",
    .filters = filters,
    .init = init,
    .fini = fini,
};
