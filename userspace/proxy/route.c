/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "proxy/route.h"

#include "base/panic.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

/* Steps of one pattern on one text; beyond it the request is answered 500. */
enum { MATCH_LIMIT = 100000 };

/* A text that is compared: exactly, as a prefix, or by a pattern. */
struct text_match {
    enum { TEXT_ANY, TEXT_EXACT, TEXT_UNDER, TEXT_PATTERN } how;
    struct weir_str text;
    pcre2_code *code;
};

struct named_match {
    struct weir_str name;
    struct text_match value;
};

struct named_list {
    struct named_match *at;
    size_t count;
};

struct weir_match {
    struct weir_strs hosts;
    struct text_match *paths;
    size_t path_count;
    struct weir_strs methods;
    struct named_list headers, queries, cookies;
    struct weir_prefix *clients;
    size_t client_count;
    struct weir_strs snis;
    uint16_t *ports;
    size_t port_count;
};

struct weir_match_scratch {
    pcre2_match_data *data;
    pcre2_match_context *context;
};

struct weir_match_scratch *weir_match_scratch_new(void)
{
    struct weir_match_scratch *scratch = calloc(1, sizeof(*scratch));

    if (!scratch)
        return NULL;
    scratch->data = pcre2_match_data_create(1, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    if (!scratch->data || !scratch->context) {
        weir_match_scratch_free(scratch);
        return NULL;
    }
    pcre2_set_match_limit(scratch->context, MATCH_LIMIT);
    pcre2_set_depth_limit(scratch->context, MATCH_LIMIT);
    return scratch;
}

void weir_match_scratch_free(struct weir_match_scratch *scratch)
{
    if (!scratch)
        return;
    pcre2_match_data_free(scratch->data);
    pcre2_match_context_free(scratch->context);
    free(scratch);
}

/* --- compiling ------------------------------------------------------------------------------- */

static int compile_pattern(struct text_match *match, struct weir_str pattern,
                           struct weir_tls_fault *fault)
{
    int error;
    PCRE2_SIZE offset;
    char why[128];

    match->how = TEXT_PATTERN;
    match->code = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, 0, &error, &offset, NULL);
    if (match->code) {
        pcre2_jit_compile(match->code,
                          PCRE2_JIT_COMPLETE); /* without it matching is slower, not different */
        return 0;
    }
    pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof(why));
    snprintf(fault->text, sizeof(fault->text), "pattern '%.*s': %s at offset %zu",
             WEIR_FMT(pattern), why, (size_t)offset);
    return WEIR_ECONFIG;
}

static int compile_value(struct text_match *match, struct weir_str value,
                         struct weir_tls_fault *fault)
{
    if (weir_str_absent(value)) {
        match->how = TEXT_ANY;
        return 0;
    }
    if (value.len && value.ptr[0] == '~')
        return compile_pattern(match, (struct weir_str){ value.ptr + 1, value.len - 1 }, fault);
    match->how = TEXT_EXACT;
    match->text = value;
    return 0;
}

static int compile_path(struct text_match *match, struct weir_str path,
                        struct weir_tls_fault *fault)
{
    if (path.len && path.ptr[0] == '~')
        return compile_pattern(match, (struct weir_str){ path.ptr + 1, path.len - 1 }, fault);
    match->how = TEXT_UNDER;
    match->text = path;
    if (path.len && path.ptr[0] == '=') {
        match->how = TEXT_EXACT;
        match->text = (struct weir_str){ path.ptr + 1, path.len - 1 };
    }
    return 0;
}

static int compile_named(struct named_list *list, const struct weir_pairs *pairs,
                         struct weir_tls_fault *fault)
{
    if (!pairs->count)
        return 0;
    list->at = calloc(pairs->count, sizeof(*list->at));
    if (!list->at)
        return WEIR_ENOMEM;
    for (; list->count < pairs->count; list->count++) {
        struct named_match *match = &list->at[list->count];
        int err;

        match->name = pairs->at[list->count].name;
        err = compile_value(&match->value, pairs->at[list->count].value, fault);
        if (err)
            return err;
    }
    return 0;
}

static int compile_clients(struct weir_match *match, const struct weir_strs *clients,
                           struct weir_tls_fault *fault)
{
    match->clients = calloc(clients->count + 1, sizeof(*match->clients));
    if (!match->clients)
        return WEIR_ENOMEM;
    for (; match->client_count < clients->count; match->client_count++)
        if (weir_prefix_parse(&match->clients[match->client_count],
                              clients->at[match->client_count])) {
            snprintf(fault->text, sizeof(fault->text), "'%.*s' is not an address or prefix",
                     WEIR_FMT(clients->at[match->client_count]));
            return WEIR_ECONFIG;
        }
    return 0;
}

static int compile_ports(struct weir_match *match, const struct weir_strs *ports,
                         struct weir_tls_fault *fault)
{
    match->ports = calloc(ports->count + 1, sizeof(*match->ports));
    if (!match->ports)
        return WEIR_ENOMEM;
    for (; match->port_count < ports->count; match->port_count++) {
        uint64_t port;

        if (!weir_str_to_u64(ports->at[match->port_count], &port) || port > 65535) {
            snprintf(fault->text, sizeof(fault->text), "'%.*s' is not a port",
                     WEIR_FMT(ports->at[match->port_count]));
            return WEIR_ECONFIG;
        }
        match->ports[match->port_count] = (uint16_t)port;
    }
    return 0;
}

static bool matches_everything(const struct weir_match_conf *conf)
{
    return !conf->host.count && !conf->path.count && !conf->method.count && !conf->header.count &&
           !conf->query.count && !conf->cookie.count && !conf->client.count && !conf->sni.count &&
           !conf->port.count;
}

int weir_route_compile(struct weir_route *route, struct weir_tls_fault *fault)
{
    const struct weir_match_conf *conf = &route->conf->match;
    struct weir_match *match;
    int err = 0;

    if (matches_everything(conf))
        return 0;
    match = route->match = calloc(1, sizeof(*match));
    if (!match)
        return WEIR_ENOMEM;
    match->hosts = conf->host;
    match->methods = conf->method;
    match->snis = conf->sni;
    match->paths = calloc(conf->path.count + 1, sizeof(*match->paths));
    if (!match->paths)
        return WEIR_ENOMEM;
    for (; !err && match->path_count < conf->path.count; match->path_count++)
        err =
            compile_path(&match->paths[match->path_count], conf->path.at[match->path_count], fault);
    if (!err)
        err = compile_named(&match->headers, &conf->header, fault);
    if (!err)
        err = compile_named(&match->queries, &conf->query, fault);
    if (!err)
        err = compile_named(&match->cookies, &conf->cookie, fault);
    if (!err)
        err = compile_clients(match, &conf->client, fault);
    if (!err)
        err = compile_ports(match, &conf->port, fault);
    return err;
}

static void named_free(struct named_list *list)
{
    for (size_t i = 0; list->at && i < list->count; i++)
        pcre2_code_free(list->at[i].value.code);
    free(list->at);
}

void weir_route_free(struct weir_route *route)
{
    struct weir_match *match = route->match;

    if (!match)
        return;
    for (size_t i = 0; i < match->path_count; i++)
        pcre2_code_free(match->paths[i].code);
    free(match->paths);
    named_free(&match->headers);
    named_free(&match->queries);
    named_free(&match->cookies);
    free(match->clients);
    free(match->ports);
    free(match);
    route->match = NULL;
}

/* --- matching: 1 yes, 0 no, negative: a pattern gave up ----------------------------------------
 */

static int pattern_match(const pcre2_code *code, struct weir_str text,
                         struct weir_match_scratch *scratch)
{
    int rc = pcre2_match(code, (PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len, 0, 0,
                         scratch->data, scratch->context);

    if (rc >= 0)
        return 1;
    return rc == PCRE2_ERROR_NOMATCH ? 0 : WEIR_EMATCHLIMIT;
}

static int text_match(const struct text_match *match, struct weir_str text,
                      struct weir_match_scratch *scratch)
{
    switch (match->how) {
    case TEXT_EXACT:
        return weir_str_eq(match->text, text);
    case TEXT_UNDER:
        return weir_path_under(text, match->text);
    case TEXT_PATTERN:
        return pattern_match(match->code, text, scratch);
    default:
        return 1;
    }
}

struct weir_str weir_host_name(struct weir_str host)
{
    if (host.len && host.ptr[0] == '[') {
        const char *end = memchr(host.ptr, ']', host.len);

        return end ? (struct weir_str){ host.ptr, (size_t)(end - host.ptr) + 1 } : host;
    }
    for (size_t i = host.len; i-- > 0;)
        if (host.ptr[i] == ':') {
            host.len = i;
            break;
        }
    if (host.len && host.ptr[host.len - 1] == '.')
        host.len--;
    return host;
}

/* "*.example.com" takes one label or more before it. */
static bool host_match(struct weir_str pattern, struct weir_str host)
{
    if (pattern.len > 2 && pattern.ptr[0] == '*' && pattern.ptr[1] == '.') {
        struct weir_str tail = { pattern.ptr + 1, pattern.len - 1 }, end;

        if (host.len <= tail.len)
            return false;
        end = (struct weir_str){ host.ptr + host.len - tail.len, tail.len };
        return weir_str_ieq(end, tail);
    }
    return weir_str_ieq(pattern, host);
}

static bool any_host(const struct weir_strs *patterns, struct weir_str host)
{
    for (size_t i = 0; i < patterns->count; i++)
        if (host_match(patterns->at[i], host))
            return true;
    return patterns->count == 0;
}

static int any_path(const struct weir_match *match, struct weir_str path,
                    struct weir_match_scratch *scratch)
{
    for (size_t i = 0; i < match->path_count; i++) {
        int hit = text_match(&match->paths[i], path, scratch);

        if (hit)
            return hit;
    }
    return match->path_count == 0;
}

static bool any_method(const struct weir_strs *methods, struct weir_str method)
{
    for (size_t i = 0; i < methods->count; i++)
        if (weir_str_eq(methods->at[i], method))
            return true;
    return methods->count == 0;
}

static int header_match(const struct named_match *want, const struct weir_message *msg,
                        struct weir_match_scratch *scratch)
{
    for (unsigned i = 0; i < msg->count; i++)
        if (weir_str_ieq(msg->fields[i].name, want->name)) {
            int hit = text_match(&want->value, msg->fields[i].value, scratch);

            if (hit)
                return hit;
        }
    return 0;
}

/* NAME=VALUE pairs separated by `sep`: a query or a Cookie field. */
static int pair_match(const struct named_match *want, struct weir_str text, char sep,
                      struct weir_match_scratch *scratch)
{
    while (text.len) {
        struct weir_str rest, value,
            name = weir_str_cut(weir_str_trim(weir_str_cut(text, sep, &rest)), '=', &value);

        if (weir_str_eq(name, want->name)) {
            int hit =
                text_match(&want->value, weir_str_absent(value) ? WEIR_STR("") : value, scratch);

            if (hit)
                return hit;
        }
        text = rest;
    }
    return 0;
}

static int cookie_match(const struct named_match *want, const struct weir_message *msg,
                        struct weir_match_scratch *scratch)
{
    for (unsigned i = 0; i < msg->count; i++)
        if (msg->fields[i].id == WEIR_F_COOKIE) {
            int hit = pair_match(want, msg->fields[i].value, ';', scratch);

            if (hit)
                return hit;
        }
    return 0;
}

static int all_named(const struct weir_match *match, const struct weir_message *msg,
                     struct weir_match_scratch *scratch)
{
    int hit = 1;

    for (size_t i = 0; hit == 1 && i < match->headers.count; i++)
        hit = header_match(&match->headers.at[i], msg, scratch);
    for (size_t i = 0; hit == 1 && i < match->queries.count; i++)
        hit = pair_match(&match->queries.at[i], msg->query, '&', scratch);
    for (size_t i = 0; hit == 1 && i < match->cookies.count; i++)
        hit = cookie_match(&match->cookies.at[i], msg, scratch);
    return hit;
}

static bool any_client(const struct weir_match *match, const struct weir_addr *client)
{
    uint8_t bytes[16];

    if (!match->client_count)
        return true;
    if (!weir_addr_bytes(client, bytes))
        return false;
    for (size_t i = 0; i < match->client_count; i++)
        if (weir_prefix_has(&match->clients[i], bytes))
            return true;
    return false;
}

static bool any_port(const struct weir_match *match, uint16_t port)
{
    for (size_t i = 0; i < match->port_count; i++)
        if (match->ports[i] == port)
            return true;
    return match->port_count == 0;
}

static int route_match(const struct weir_match *match, const struct weir_match_input *in,
                       struct weir_match_scratch *scratch)
{
    int hit;

    if (!any_host(&match->hosts, in->host) || !any_method(&match->methods, in->msg->method) ||
        !any_client(match, in->client) || !any_port(match, in->port) ||
        (match->snis.count && (weir_str_absent(in->sni) || !any_host(&match->snis, in->sni))))
        return 0;
    hit = any_path(match, in->msg->path, scratch);
    return hit == 1 ? all_named(match, in->msg, scratch) : hit;
}

int weir_routes_find(const struct weir_routes *routes, const struct weir_match_input *input,
                     struct weir_match_scratch *scratch, const struct weir_route **found)
{
    *found = NULL;
    for (unsigned i = 0; i < routes->count; i++) {
        const struct weir_route *route = &routes->at[i];
        int hit = route->match ? route_match(route->match, input, scratch) : 1;

        if (hit < 0)
            return hit;
        if (hit) {
            *found = route;
            return 0;
        }
    }
    return 0;
}
