/* SPDX-License-Identifier: Apache-2.0 */
/* conf_reach.c: can a request ever reach a route? Its paths are brought into the form in which
 * those of requests are matched, and a route before it must not take all that it would match. */
#include "daemon/conf_internal.h"

#include "http/path.h"

/* ---- paths as requests have them ---- */

/* A request has these bytes in escapes alone: "/a b" is asked for as "/a%20b". */
static bool needs_escape(char c)
{
    return (unsigned char)c <= ' ' || (unsigned char)c >= 0x7f;
}

static bool escape(struct conf_load *load, struct weir_str *path)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t len = path->len, at = 0;
    char *out;

    for (size_t i = 0; i < path->len; i++)
        len += needs_escape(path->ptr[i]) ? 2 : 0;
    if (len == path->len)
        return true;
    out = conf_alloc(load, len + 1);
    if (!out)
        return false;
    for (size_t i = 0; i < path->len; i++) {
        unsigned char c = (unsigned char)path->ptr[i];

        if (!needs_escape((char)c)) {
            out[at++] = (char)c;
            continue;
        }
        out[at++] = '%';
        out[at++] = hex[c >> 4];
        out[at++] = hex[c & 15];
    }
    *path = (struct weir_str){ out, len };
    return true;
}

int conf_path_apply(struct conf_load *load, int how, struct weir_str *path)
{
    bool exact = weir_str_starts(*path, WEIR_STR("=/"));
    struct weir_str text = { path->ptr + exact, path->len - exact };
    char *whole;
    int err;

    if (!weir_str_starts(text, WEIR_STR("/")))
        return 0; /* a pattern, or "=*" */
    if (!escape(load, &text))
        return WEIR_ENOMEM;
    err = weir_path_apply((enum weir_paths)how, &text, &load->conf->arena);
    if (err == WEIR_ENOMEM)
        load->nomem = true;
    if (err || !exact || text.ptr == path->ptr + 1) {
        *path = err || exact ? *path : text;
        return err;
    }
    whole = conf_alloc(load, text.len + 2);
    if (!whole)
        return WEIR_ENOMEM;
    whole[0] = '=';
    memcpy(whole + 1, text.ptr, text.len);
    *path = (struct weir_str){ whole, text.len + 1 };
    return 0;
}

void conf_check_reach(struct conf_load *load, const struct weir_listener_conf *listener,
                      const struct weir_conf_list *list)
{
    const struct weir_route_conf *routes = list->at;

    for (size_t i = 0; i < list->count; i++) {
        const struct weir_strs *paths = &routes[i].match.path;

        for (size_t j = 0; j < paths->count; j++) {
            struct weir_str path = paths->at[j];

            if (conf_path_apply(load, listener->paths, &path) == WEIR_EBADPATH)
                conf_warn(load, conf_at_item(load, paths, "path", j),
                          "'%.*s' can never match: listener '%.*s' refuses such a path with 400",
                          CONF_QUOTE(paths->at[j]), CONF_QUOTE(listener->name));
        }
    }
}

/* ---- one route before another ---- */

static bool has(const struct weir_strs *strs, struct weir_str text)
{
    for (size_t i = 0; i < strs->count; i++)
        if (weir_str_eq(strs->at[i], text))
            return true;
    return false;
}

/* Of a list any must hold: is what `late` lists among what `early` lists? */
static bool takes_list(const struct weir_strs *early, const struct weir_strs *late)
{
    for (size_t i = 0; early->count && i < late->count; i++)
        if (!has(early, late->at[i]))
            return false;
    return early->count == 0 || late->count > 0;
}

/* Of a map all must hold: does `late` ask for all that `early` asks for? */
static bool takes_map(const struct weir_pairs *early, const struct weir_pairs *late)
{
    for (size_t i = 0; i < early->count; i++) {
        bool there = false;

        for (size_t j = 0; j < late->count && !there; j++)
            there = weir_str_eq(early->at[i].name, late->at[j].name) &&
                    weir_str_absent(early->at[i].value) == weir_str_absent(late->at[j].value) &&
                    weir_str_eq(early->at[i].value, late->at[j].value);
        if (!there)
            return false;
    }
    return true;
}

static bool takes_path(struct weir_str early, struct weir_str late)
{
    if (weir_str_starts(late, WEIR_STR("=/"))) {
        late.ptr++;
        late.len--;
        if (weir_str_starts(early, WEIR_STR("=")))
            return weir_str_eq((struct weir_str){ early.ptr + 1, early.len - 1 }, late);
    }
    if (weir_str_starts(early, WEIR_STR("/")) && weir_str_starts(late, WEIR_STR("/")))
        return weir_path_under(late, early);
    return weir_str_eq(early, late);
}

static bool takes_paths(const struct weir_strs *early, const struct weir_strs *late)
{
    for (size_t i = 0; early->count && i < late->count; i++) {
        bool taken = false;

        for (size_t j = 0; j < early->count && !taken; j++)
            taken = takes_path(early->at[j], late->at[i]);
        if (!taken)
            return false;
    }
    return early->count == 0 || late->count > 0;
}

bool conf_match_takes(const struct weir_match_conf *early, const struct weir_match_conf *late)
{
    return takes_paths(&early->path, &late->path) && takes_list(&early->host, &late->host) &&
           takes_list(&early->method, &late->method) && takes_list(&early->client, &late->client) &&
           takes_list(&early->port, &late->port) && takes_list(&early->sni, &late->sni) &&
           takes_map(&early->header, &late->header) && takes_map(&early->query, &late->query) &&
           takes_map(&early->cookie, &late->cookie);
}
