/* SPDX-License-Identifier: Apache-2.0 */
/* bad.c: plug-ins with something wrong in them, one for each BAD_… that CMake defines; and one that is good. */
#include "weir/plugin.h"

#include <stddef.h>
#include <stdio.h>

struct conf {
    int64_t value;
    struct weir_strs words;
    unsigned flags;
};

static void *create(const void *conf, char *fault, size_t fault_bytes)
{
    return (void *)conf;
}

#ifdef BAD_FLAGS
#define EIGHT(x) x "0", x "1", x "2", x "3", x "4", x "5", x "6", x "7"
static const char *const many[] = { EIGHT("a"), EIGHT("b"),     EIGHT("c"),
                                    EIGHT("d"), "one too many", NULL };
#endif

#ifdef BAD_ELEMENT
static const struct weir_conf_item element_rows[] = {
    { .name = "value", .type = WEIR_CONF_INT, .min = 1, .max = 9, .def = "10", .text = "a number" },
    { 0 },
};
#endif

static const struct weir_conf_item rows[] = {
#ifdef BAD_ROW
    { .name = "value",
      .type = WEIR_CONF_INT,
      .offset = sizeof(struct conf) - 4,
      .text = "beyond the end" },
#elif defined BAD_TYPE
    { .name = "value", .type = WEIR_CONF_CUSTOM, .text = "code of the daemon" },
#elif defined BAD_LIST
    { .name = "words",
      .type = WEIR_CONF_STRS,
      .offset = offsetof(struct conf, words),
      .def = "[",
      .text = "a list that does not end" },
#elif defined BAD_ELEMENT
    { .name = "words",
      .type = WEIR_CONF_LIST,
      .offset = offsetof(struct conf, words),
      .rows = element_rows,
      .bytes = 8,
      .text = "a list" },
#elif defined BAD_FLAGS
    { .name = "flags",
      .type = WEIR_CONF_FLAGS,
      .offset = offsetof(struct conf, flags),
      .words = many,
      .text = "33 bits" },
#elif defined BAD_TABLE
    { .name = "map",
      .type = WEIR_CONF_MAP,
      .offset = offsetof(struct conf, words),
      .def = "7",
      .text = "a map with a default" },
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
