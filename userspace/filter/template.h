/* SPDX-License-Identifier: Apache-2.0 */
/**
 * template.h: text with $client $id $host $path $query, for the built-in filters. Cut into pieces
 * when the configuration is read; a request only copies them together. Public headers alone.
 *
 * `$path` begins with exactly one '/', as it came otherwise, never decoded: "//evil.test" would be
 * another host to a client that is sent there. `$query` comes with its '?', so that $path$query is
 * the whole target. `$host` is without port and final dot. `$$` is a dollar.
 */
#ifndef FILTER_TEMPLATE_H
#define FILTER_TEMPLATE_H

#include "weir/request.h"

struct weir_template_piece;

struct weir_template {
    struct weir_str text;
    struct weir_template_piece *pieces; /* NULL: `text` as it is */
    size_t count;
};

/** Borrows `text`. A '$' before a name that there is not, "$pathx", is a fault. False with a sentence in `fault`; weir_template_fini is due in any case. */
bool weir_template_init(struct weir_template *template, struct weir_str text, char *fault,
                        size_t fault_bytes);
void weir_template_fini(struct weir_template *template);
/** The text for a request, in its memory or that of the template; absent without memory. */
struct weir_str weir_template_expand(const struct weir_template *template, struct weir_req *req);

#endif
