/* SPDX-License-Identifier: Apache-2.0 */
/**
 * conf.h: configuration is data. A row gives name, type, place, range, default, unit and sentence;
 * the parser, `weir config explain`, the JSON Schema and the manual read it. A plug-in's filter
 * brings rows of its own.
 */
#ifndef WEIR_CONF_H
#define WEIR_CONF_H

#include "weir/types.h"

WEIR_BEGIN

enum weir_conf_type {
    WEIR_CONF_BOOL,    /* bool: on off */
    WEIR_CONF_INT,     /* int64_t */
    WEIR_CONF_MS,      /* int64_t, milliseconds: 200ms 2s 5m 1h */
    WEIR_CONF_BYTES,   /* int64_t: 16KiB 1MiB, bare: bytes */
    WEIR_CONF_RATE,    /* double, per second: 100/s 6000/m */
    WEIR_CONF_PERCENT, /* double, 0 to 1: 20% */
    WEIR_CONF_STR,     /* struct weir_str, owned by the configuration */
    WEIR_CONF_STRS,    /* struct weir_strs: a list, or one */
    WEIR_CONF_ENUM,    /* int: index into `words` */
    WEIR_CONF_FLAGS,   /* unsigned: bits by index into `words`; a list, or one */
    WEIR_CONF_FILE, /* struct weir_str: a path, made absolute against the file that says it, must be
                       readable */
    WEIR_CONF_DIR,  /* the same of a folder */
    WEIR_CONF_PATH, /* the same of what need not be there yet */
    WEIR_CONF_MAP,  /* struct weir_pairs: string to string */
    WEIR_CONF_SECTION, /* nested rows at `rows`, struct in place */
    WEIR_CONF_LIST,    /* struct weir_conf_list of structs of `rows` */
    WEIR_CONF_NAMED,   /* the same, from a map whose keys become the first field (struct weir_str
                          name) */
    WEIR_CONF_CUSTOM,  /* parsed by the daemon's own code (`custom`); the row documents it */
};

struct weir_strs {
    struct weir_str *at;
    size_t count;
};

struct weir_pair {
    struct weir_str name, value;
};

struct weir_pairs {
    struct weir_pair *at;
    size_t count;
};

struct weir_conf_list {
    void *at; /* count structs of the row's `bytes` */
    size_t count;
};

#define WEIR_CONF_REQUIRED 1u   /* an error when absent */
#define WEIR_CONF_OFF      2u   /* `off` is allowed: WEIR_UNLIMITED (-1); of a text: absent */
#define WEIR_CONF_AUTO     4u   /* `auto` is allowed: the value is 0; of a text: absent */
#define WEIR_CONF_RELOADS  8u   /* takes effect at a reload */
#define WEIR_CONF_SECRET   16u  /* STR, MAP: may be {file: PATH}; such a text is never printed */
#define WEIR_CONF_ALIAS    32u  /* another way to say what a row says: accepted, not printed */
#define WEIR_CONF_INHERIT  64u  /* SECTION: what is not said is WEIR_INHERIT, not the default */
#define WEIR_CONF_TEMPLATE 128u /* STR, MAP: $names are for run time; `$$` is left to it */

struct weir_conf_custom;

struct weir_conf_item {
    const char *name;
    enum weir_conf_type type;
    size_t offset;    /* in the struct that the table fills */
    int64_t min, max; /* numbers; both 0: any that the type holds */
    const char *def;  /* as one would write it; NULL: none */
    const char *text; /* one sentence */
    unsigned flags;
    const char *const *words;              /* ENUM, FLAGS: NULL-terminated */
    const struct weir_conf_item *rows;     /* SECTION, LIST, NAMED: ends with {0} */
    size_t bytes;                          /* LIST, NAMED: size of one element */
    const char *brief;                     /* LIST: the row that a bare scalar fills ("address") */
    const struct weir_conf_custom *custom; /* CUSTOM: the daemon's own; NULL in a plug-in's rows */
};

struct weir_filter;

/**
 * A kind of filter that a configuration can name: `filters: [ NAME: { rows } ]`. The loader fills a
 * zeroed struct of `bytes` from `rows` (defaults first) and calls `create` once for each place
 * where the filter is named.
 */
struct weir_filter_type {
    size_t size;                       /* sizeof(struct weir_filter_type) */
    const char *name;                  /* as in the configuration */
    const char *text;                  /* one sentence */
    const struct weir_conf_item *rows; /* ends with {0} */
    size_t bytes;                      /* of the struct that the rows fill */
    const struct weir_filter *filter;
    /**
     * Checks what rows cannot say and makes the filter's `self`; no side effect but memory. `conf`
     * and all it points to live until filter->fini(self) has returned. NULL with a sentence in
     * `fault` (a NUL-terminated text) when wrong.
     */
    void *(*create)(const void *conf, char *fault, size_t fault_bytes);
};

WEIR_END
#endif
