/* SPDX-License-Identifier: Apache-2.0 */
/** conf_internal.h: what the files conf*.c share: the node tree, the load in progress, rows with
 * code. Nobody else. */
#ifndef DAEMON_CONF_INTERNAL_H
#define DAEMON_CONF_INTERNAL_H

#include "base/files.h"
#include "base/str.h"
#include "daemon/conf.h"
#include "net/addr.h"
#include "weir/plugin.h"

#include <sys/types.h>

/* Bounds of what is read: a hostile or mistaken file costs little. */
enum {
    CONF_FILE_BYTES_MAX = 4 * 1024 * 1024,
    CONF_SECRET_BYTES_MAX = 64 * 1024,
    CONF_FILES_MAX = 256,
    CONF_INCLUDE_DEPTH_MAX = 8,
    CONF_NODES_MAX = 200 * 1000, /* of a file, with its aliases written out */
    CONF_DEPTH_MAX = 32,
    CONF_KEYS_MAX = 16 * 1024, /* of a map */
    CONF_ANCHORS_MAX = 256,
    CONF_ROUTES_MAX = 10 * 1000, /* of a list */
    CONF_SERVERS_MAX = 1024,     /* of an upstream: as many as a cluster takes */
    CONF_PLUGINS_MAX = 64,
    CONF_PLUGIN_FILTERS_MAX = 64, /* of a plug-in */
    CONF_PLUGIN_ROWS_MAX = 256,   /* of a table of a plug-in */
    CONF_FLAGS_MAX = 32,          /* words of a row of flags: the bits of an unsigned */
    CONF_QUOTE_BYTES_MAX = 80,    /* of the user's text in a message */
};

struct conf_load;

/* ---- the node tree (conf_node.c, conf_file.c); lives in load->scratch ---- */

struct conf_file {
    struct conf_file *next;
    struct weir_str name; /* as said in diagnostics */
    struct weir_str dir;  /* relative paths start here; "" is the current folder */
    struct weir_str text;
    unsigned index, depth;
    dev_t dev;
    ino_t ino;
};

struct conf_mark {
    const struct conf_file *file; /* NULL: a default of a table */
    unsigned line, column, width; /* from 1 */
};

enum conf_kind { CONF_SCALAR, CONF_LIST, CONF_MAP };

struct conf_pair {
    struct weir_str key;
    struct conf_mark mark; /* of the key */
    struct conf_node *value;
};

struct conf_node {
    enum conf_kind kind;
    bool plain;      /* a scalar without quotes */
    unsigned weight; /* nodes in it, aliases written out */
    unsigned height; /* levels in it */
    struct conf_mark mark;
    struct weir_str text;     /* SCALAR */
    struct conf_node **items; /* LIST */
    struct conf_pair *pairs;  /* MAP */
    size_t count;
};

/** An empty value: `key:`, `~`, null. */
bool conf_node_null(const struct conf_node *node);
struct conf_pair *conf_node_find(const struct conf_node *map, struct weir_str key);
/** "a map", "a list", "a text". */
const char *conf_kind_name(enum conf_kind kind);
/** Parses one file; NULL when it is empty or wrong (diagnosed). */
struct conf_node *conf_node_parse(struct conf_load *load, const struct conf_file *file);
/** A map of its own with these pairs (short forms are rewritten to long ones). NULL without memory.
 */
struct conf_node *conf_node_map(struct conf_load *load, struct conf_mark mark,
                                const struct conf_pair *pairs, size_t count);
/** One more pair behind those of a map; the caller has seen that the key is new. False without
 * memory. */
bool conf_node_add(struct conf_load *load, struct conf_node *map, const struct conf_pair *pair);
bool conf_node_append(struct conf_load *load, struct conf_node *list, struct conf_node *item);
struct conf_node *conf_node_list(struct conf_load *load, struct conf_node *item);

/** Reads `path` (or takes `text`), follows includes, merges: load->root. */
void conf_file_load(struct conf_load *load, const char *path, const struct weir_str *text);
/** A path as the file at `mark` means it; absent without memory. */
struct weir_str conf_path(struct conf_load *load, const struct conf_mark *mark,
                          struct weir_str path);
/** The content of a regular file of at most `max` bytes in load->scratch: 0, or -errno (EFBIG,
 * EISDIR …). */
int conf_slurp(struct conf_load *load, const char *path, size_t max, struct weir_str *text);

/* ---- the load in progress ---- */

/** Where a field was said. */
struct conf_place {
    const void *field;
    const char *name; /* of its row; "" for an element of a list */
    const struct conf_pair *pair;
};

/** `routes:` at the top, before it is copied into listeners. */
struct conf_routes {
    struct weir_str name;
    struct weir_conf_list routes;
};

/** A filter of this snapshot: also how it is printed. */
struct conf_use {
    const struct weir_filter_type *type;
    void *conf, *self;
};

/** A plug-in of this snapshot: loaded and initialised; once, also for those that follow it by reloads. */
struct conf_plugin {
    const struct weir_plugin *plugin;
    void *handle;
    unsigned *refs; /* snapshots that have it; of one thread */
};

/** A text that came from a file or holds a value of the environment: it is told as the file says it. */
struct conf_secret {
    const char *text;
    size_t len;
    bool copy; /* made of another one (a path with its folder): quoted so, printed as it is */
    struct weir_str path;   /* of its file; absent: it is of the environment */
    struct weir_str source; /* "{ file: PATH }", or the text with its ${NAME} */
};

struct conf_load {
    struct weir_arena scratch;
    struct weir_conf *conf;
    struct weir_diags *diags;
    const struct weir_filter_type *const *filters;
    struct weir_files *door; /* to the files that it names; NULL: the disk */
    bool no_files, no_includes, plugins_only;
    bool
        no_host; /* whether this host has what is named is not asked: no_files, or another process asked */
    const struct weir_conf *before; /* what runs, at a reload */
    bool plugins_unread; /* a plug-in was not loaded: a filter that nobody knows may be its */
    bool nomem;
    size_t errors_before; /* those that `diags` had when the load began */
    unsigned mute;        /* >0: what is parsed a second time says nothing */
    struct conf_file *files, **files_end;
    unsigned file_count;
    struct conf_node *root;
    struct conf_place *places; /* open addressing; room is a power of 2 */
    size_t place_count, place_room;
    struct conf_routes *routes;
    size_t route_lists;
};

/** zalloc in the snapshot's arena; NULL sets load->nomem. */
void *conf_alloc(struct conf_load *load, size_t bytes);
struct weir_str conf_copy(struct conf_load *load, struct weir_str text);
/** A zeroed element behind those of a list in the snapshot; earlier ones may move. NULL without
 * memory. */
void *conf_list_add(struct conf_load *load, struct weir_conf_list *list, size_t bytes);

/* ---- diagnostics (conf_diag.c) ---- */

void conf_error(struct conf_load *load, const struct conf_mark *mark, const char *format, ...)
    WEIR_PRINTF(3, 4);
void conf_warn(struct conf_load *load, const struct conf_mark *mark, const char *format, ...)
    WEIR_PRINTF(3, 4);
/** An error with "did you mean 'hint'?" (absent: without). */
void conf_error_hint(struct conf_load *load, const struct conf_mark *mark, struct weir_str hint,
                     const char *format, ...) WEIR_PRINTF(4, 5);
enum {
    CONF_COLUMN_SHOWN_MAX = 120
}; /* of a line; what is further is shown without its beginning */
/** One more, counted; NULL: it is counted, and not kept. */
struct weir_diag *conf_diag_new(struct weir_diags *diags, enum weir_severity severity);
/** Into the order of their places. */
void conf_diags_sort(struct weir_diags *diags);
/** "FILE:LINE" of a mark in load->scratch. */
const char *conf_mark_text(struct conf_load *load, const struct conf_mark *mark);
/** Remembers that `text` is told as `source`. NULL without memory. */
struct conf_secret *conf_secret_add(struct conf_load *load, struct weir_str text,
                                    struct weir_str path, struct weir_str source);
/** `copy` was made of `text`: if that is a secret, it is quoted as that one. */
void conf_secret_copied(struct conf_load *load, struct weir_str text, struct weir_str copy);
/** `text` as the user wrote it, for a message: of a value (or a part of one) of the environment or of a file what the
 * configuration says, for it may be a secret. At most CONF_QUOTE_BYTES_MAX of it. */
struct weir_str conf_quoted(const struct conf_load *load, struct weir_str text);
/** printf("%.*s", CONF_CUT(str)): as much of a key, which is never one of those. */
#define CONF_CUT(s) (int)((s).len > CONF_QUOTE_BYTES_MAX ? CONF_QUOTE_BYTES_MAX : (s).len), (s).ptr
/** printf("%.*s", CONF_QUOTE(str)), where `load` is. */
#define CONF_QUOTE(s) (int)conf_quoted(load, s).len, conf_quoted(load, s).ptr

/** The nearest of some names to a mistyped one. */
struct conf_nearest {
    struct weir_str wanted, best;
    unsigned distance;
};
void conf_nearest_init(struct conf_nearest *near, struct weir_str wanted);
void conf_nearest_add(struct conf_nearest *near, struct weir_str name);

/* ---- values (conf_value.c) ---- */

/** Where a key stands, for messages: "'health' of upstream 'app'". */
struct conf_where {
    const struct conf_where *up;
    const char *what;     /* "upstream", or the key of a section */
    struct weir_str name; /* of the upstream; absent: a section */
};
const char *conf_where_text(struct conf_load *load, const struct conf_where *where);

/** The text of a scalar, ${NAME} replaced, in the snapshot; false when it is none (diagnosed). */
bool conf_value_text(struct conf_load *load, const struct weir_conf_item *item,
                     const struct conf_node *node, struct weir_str *text);
/** Parses a scalar of item->type into *field. False when it is wrong (diagnosed). */
bool conf_value(struct conf_load *load, const struct weir_conf_item *item,
                const struct conf_node *node, void *field);
/** Numbers alone, without a range: false when `text` is none of that type. */
bool conf_number(enum weir_conf_type type, struct weir_str text, int64_t *value);
bool conf_fraction(enum weir_conf_type type, struct weir_str text, double *value);
/** As one would write it; returns the length. `out` has CONF_NUMBER_MAX bytes. */
enum { CONF_NUMBER_MAX = 64 };
size_t conf_number_print(enum weir_conf_type type, int64_t value, char *out);
/** `like`: a rate whose unit is taken when `value` is whole in it (a row's default), or NULL: the
 * first of /s, /m, /h in which it is. */
size_t conf_fraction_print(enum weir_conf_type type, double value, const char *like, char *out);

/* ---- the engine (conf_fill.c) ---- */

struct conf_printer;

/** Code of a CUSTOM row. `base` is the struct of the table in which the row stands. */
struct weir_conf_custom {
    void (*parse)(struct conf_load *load, const struct weir_conf_item *item,
                  const struct conf_pair *pair, void *base, const struct conf_where *where);
    void (*print)(struct conf_printer *printer, const struct weir_conf_item *item,
                  const void *base);
    unsigned shapes; /* what it may look like */
};
enum {
    CONF_SHAPE_WORDS = 1,  /* one of item->words */
    CONF_SHAPE_TEXT = 2,   /* any scalar */
    CONF_SHAPE_SWITCH = 4, /* on, off */
    CONF_SHAPE_OFF = 8,    /* off */
    CONF_SHAPE_MAP = 16,   /* a map of item->rows */
    CONF_SHAPE_LIST = 32,  /* a list of maps of item->rows, or of scalars where there are none */
    CONF_SHAPE_NAMED = 64, /* names to lists of maps of item->rows */
    CONF_SHAPE_FILTERS = 128,
    CONF_SHAPE_FILE = 256, /* { file: PATH } */
};

/** Sets the field of one row, which has a default, to it. */
void conf_default(struct conf_load *load, const struct weir_conf_item *item, void *base);
/** Sets every field of `base` to the default of its row. `inherit`: to WEIR_INHERIT. */
void conf_defaults(struct conf_load *load, const struct weir_conf_item *rows, void *base,
                   bool inherit);
/** Fills `base` (defaults are there) from a map, or from a scalar by `brief`. */
void conf_fill(struct conf_load *load, const struct weir_conf_item *rows, void *base,
               const struct conf_node *node, const struct conf_where *where);
/** Fills a list of item->bytes structs of item->rows from a list or a single element. */
void conf_fill_list(struct conf_load *load, const struct weir_conf_item *item,
                    const struct conf_node *node, struct weir_conf_list *list,
                    const struct conf_where *where);
/** STRS, FLAGS: a list, or one. */
void conf_fill_words(struct conf_load *load, const struct weir_conf_item *item,
                     const struct conf_node *node, void *field);
void conf_place_add(struct conf_load *load, const void *field, const char *name,
                    const struct conf_pair *pair);
/** Where the field was said, or NULL: it has its default. */
const struct conf_pair *conf_place(const struct conf_load *load, const void *field,
                                   const char *name);
/** The marks of that place for a diagnostic; NULL: none. */
const struct conf_mark *conf_at(const struct conf_load *load, const void *field, const char *name);
const struct conf_mark *conf_at_key(const struct conf_load *load, const void *field,
                                    const char *name);
/** The mark of element `i` of a list that filled the field (or of the whole value). */
const struct conf_mark *conf_at_item(const struct conf_load *load, const void *field,
                                     const char *name, size_t i);

/** The name of a place: this `tls` was read without an error, so that it is worth building. */
#define CONF_TLS_READ "tls was read"

/* ---- the tables (conf_items*.c) ---- */

extern const struct weir_conf_item conf_top_items[];
extern const struct weir_conf_item conf_listener_items[];
extern const struct weir_conf_item conf_route_items[];
extern const struct weir_conf_item conf_upstream_items[];
extern const struct weir_conf_item conf_tls_items[];
extern const struct weir_conf_item conf_access_log_items[];
extern const struct weir_conf_item conf_timeout_items[];
extern const struct weir_conf_item conf_route_timeout_items[]; /* not those of connections */
extern const struct weir_conf_item conf_limit_items[];
extern const struct weir_conf_item conf_route_limit_items[]; /* likewise */
extern const struct weir_conf_item conf_top_limit_items[];   /* besides: memory */
const struct weir_conf_item *conf_item_find(const struct weir_conf_item *rows,
                                            struct weir_str name);

/* Code of rows: conf_custom.c, conf_custom_route.c. */
extern const struct weir_conf_custom conf_word_custom, conf_include_custom, conf_tls_custom,
    conf_client_verify_custom, conf_upstream_tls_custom, conf_health_custom, conf_memory_custom,
    conf_mode_custom, conf_access_log_custom, conf_access_format_custom, conf_access_to_custom,
    conf_log_to_custom, conf_plugins_custom;
extern const struct weir_conf_custom conf_to_custom, conf_listener_routes_custom,
    conf_top_routes_custom, conf_filters_custom, conf_when_custom, conf_methods_custom,
    conf_host_custom, conf_reply_custom, conf_redirect_custom;
/** Fills an access log from `pair` over what is in it; the levels below the top inherit key by key.
 */
void conf_access_log_fill(struct conf_load *load, const struct conf_pair *pair,
                          struct weir_access_log_conf *log, const struct conf_where *where);
/** What that filter would refuse, where it was said. */
void conf_answer_check(struct conf_load *load, const struct weir_route_conf *route);
/** Makes the filter of `reply` or `redirect`, the last of the route's chain; nothing for others. */
void conf_answer_make(struct conf_load *load, struct weir_route_conf *route);
/** The built-in filter types that `filters:` can name, NULL-terminated (conf.c). */
extern const struct weir_filter_type *const conf_filter_types[];

/* ---- after the fill ---- */

/** Cross references and meanings (conf_check*.c). */
void conf_check(struct conf_load *load);
void conf_check_listener_routes(struct conf_load *load, struct weir_listener_conf *listener);
void conf_check_route_lists(struct conf_load *load);
struct conf_routes *conf_routes_find(struct conf_load *load, struct weir_str name);
bool conf_routes_used(struct conf_load *load, const struct conf_routes *routes);
void conf_check_route_limits(struct conf_load *load, const struct weir_route_conf *route);
/** `to: "listener:NAME"`: is there one? Whether its own listener may say so is looked at by conf_check_tcp. */
void conf_check_to_listener(struct conf_load *load, const struct weir_route_conf *route,
                            struct weir_str name);
/** What does not fit `protocol: tcp`; of other listeners what they may not have. `routes`: its own, wherever they stand. */
void conf_check_tcp(struct conf_load *load, struct weir_listener_conf *listener,
                    const struct weir_conf_list *routes);
void conf_check_tls(struct conf_load *load);
void conf_check_deny_file(struct conf_load *load);
/** A warning where `source`, an address, is none of this host (not with no_files). */
void conf_check_source_here(struct conf_load *load, const struct weir_cluster_conf *cluster);
/** Do two sockets that listen on these addresses meet? Those of two devices do not. */
bool conf_addr_overlap(const struct weir_addr *a, const struct weir_addr *b);
/** What can be wrong with `bind` and `device`; `bound` grows by the addresses of this listener. */
void conf_check_bind(struct conf_load *load, const struct weir_listener_conf *listener,
                     struct weir_conf_list *bound);
/** An error where the path of "unix:PATH" is none. */
void conf_check_unix_path(struct conf_load *load, const struct conf_mark *mark,
                          struct weir_str address);
/** Has this host the address? Yes where that cannot be found out, and with no_files. */
bool conf_addr_here(const struct conf_load *load, const struct weir_addr *addr);
/** `user` and `admin.group`: are they there? (not with no_files) */
void conf_check_accounts(struct conf_load *load);
/** A path of `match` as requests of a listener with these `paths` are matched: escapes written as theirs, dot segments
 * removed; in the snapshot. 0, WEIR_ENOMEM, or WEIR_EBADPATH: such a request is refused. */
int conf_path_apply(struct conf_load *load, int how, struct weir_str *path) WEIR_MUST_CHECK;
/** Warns of paths of routes of this listener that no request of it can have. */
void conf_check_reach(struct conf_load *load, const struct weir_listener_conf *listener,
                      const struct weir_conf_list *list);
/** Does the first match whatever the second does? False where it cannot be told. */
bool conf_match_takes(const struct weir_match_conf *early, const struct weir_match_conf *late);
/** An error where a file cannot be made or written to (not with no_files). */
void conf_check_writable(struct conf_load *load, const struct conf_mark *mark,
                         struct weir_str path);
void conf_check_prefixes(struct conf_load *load, const struct weir_strs *strs, const char *name);
/** At a reload: what differs from what runs, and cannot (conf_reload.c). */
void conf_check_fixed(struct conf_load *load);
/** Copies routes into listeners, resolves what is inherited (conf_resolve.c). Only without errors.
 */
void conf_resolve(struct conf_load *load);

/* ---- plug-ins (conf_plugins.c, conf_plugins_rows.c) ---- */

/** Loads what `plugins` names, before anything is filled: load->filters has their filters behind. */
void conf_plugins_load(struct conf_load *load);
/** Ends and unloads them; their filters are gone. */
void conf_plugins_free(struct weir_conf *conf);
/** What is wrong with a kind of filter that a plug-in brings, in a sentence; NULL: nothing. */
const char *conf_plugin_filter_fault(struct conf_load *load, const struct weir_filter_type *type);

/* ---- printing (conf_print.c) ---- */

/** Where a text of the snapshot came from: NULL when all of it stands in the file itself. */
const struct conf_secret *conf_secret_find(const struct weir_conf *conf, const char *text);

struct conf_printer {
    FILE *out;
    const struct weir_conf *conf;
    unsigned indent;
    bool item;  /* the next key begins an element of a list: "- key: " */
    bool flow;  /* inside of { … }: no newline behind a text */
    bool quiet; /* the text alone: no space before it, no newline behind it */
};
void conf_print_rows(struct conf_printer *printer, const struct weir_conf_item *rows,
                     const void *base);
/** Would conf_print_rows print nothing? A key with nothing below it has no value: it is left out. */
bool conf_print_empty(const struct weir_conf_item *rows, const void *base);
/** "key:" with its indent; the value follows. */
void conf_print_key(struct conf_printer *printer, struct weir_str key);
/** " value\n", quoted as YAML needs it; a secret as what the file says. `template`: `$` is left alone. */
void conf_print_text(struct conf_printer *printer, struct weir_str text, bool template);
void conf_print_list(struct conf_printer *printer, const struct weir_conf_item *item,
                     const struct weir_conf_list *list);

#endif
