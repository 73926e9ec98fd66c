/* SPDX-License-Identifier: Apache-2.0 */
#include "template.h"

#include <stdio.h>
#include <stdlib.h>

/* clang-format off */
#define VARIABLES(X) X(client) X(id) X(host) X(path) X(query)
#define VARIABLE_ENUM(name) VAR_##name,
enum variable { VAR_LITERAL, VARIABLES(VARIABLE_ENUM) VAR_COUNT };
#define VARIABLE_NAME(name) [VAR_##name] = #name,
static const char *const variable_names[VAR_COUNT] = { VARIABLES(VARIABLE_NAME) };
/* clang-format on */

/* Text of the configuration, or a variable. */
struct weir_template_piece {
    enum variable variable;
    struct weir_str text;
};

/* ---- at configuration ---- */

static bool name_byte(char c, bool first)
{
    return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || (!first && c >= '0' && c <= '9');
}

/* Of the name that `text` begins with: 0 for none, so that "$5" and "$ " are text. */
static size_t name_length(struct weir_str text)
{
    size_t len = 0;

    while (len < text.len && name_byte(text.ptr[len], len == 0))
        len++;
    return len;
}

static enum variable variable_named(struct weir_str name)
{
    for (unsigned i = VAR_LITERAL + 1; i < VAR_COUNT; i++)
        if (strlen(variable_names[i]) == name.len && !memcmp(variable_names[i], name.ptr, name.len))
            return (enum variable)i;
    return VAR_LITERAL;
}

/* The piece at a '$': its length, 0 for a name that there is not. */
static size_t dollar_piece(struct weir_str text, struct weir_template_piece *piece)
{
    struct weir_str rest = { text.ptr + 1, text.len - 1 };

    *piece = (struct weir_template_piece){ VAR_LITERAL, { text.ptr, 1 } };
    if (rest.len && rest.ptr[0] == '$')
        return 2;
    rest.len = name_length(rest);
    piece->variable = variable_named(rest);
    return rest.len && piece->variable == VAR_LITERAL ? 0 : 1 + rest.len;
}

/* Cuts a piece off the front of `text`; false at a name that there is not. */
static bool cut_piece(struct weir_str *text, struct weir_template_piece *piece)
{
    size_t len = 0;

    if (text->ptr[0] == '$') {
        len = dollar_piece(*text, piece);
    } else {
        while (len < text->len && text->ptr[len] != '$')
            len++;
        *piece = (struct weir_template_piece){ VAR_LITERAL, { text->ptr, len } };
    }
    text->ptr += len;
    text->len -= len;
    return len > 0;
}

bool weir_template_init(struct weir_template *template, struct weir_str text, char *fault,
                        size_t fault_bytes)
{
    size_t room = 1;

    *template = (struct weir_template){ .text = text.ptr ? text : WEIR_STR("") };
    if (!text.ptr || !memchr(text.ptr, '$', text.len))
        return true;
    for (size_t i = 0; i < text.len; i++)
        room += 2 * (text.ptr[i] == '$');
    template->pieces = calloc(room, sizeof(*template->pieces));
    if (!template->pieces) {
        snprintf(fault, fault_bytes, "out of memory");
        return false;
    }
    while (text.len) {
        if (cut_piece(&text, &template->pieces[template->count++]))
            continue;
        text.ptr++;
        text.len = name_length((struct weir_str){ text.ptr, text.len - 1 });
        snprintf(fault, fault_bytes,
                 "there is no '$%.*s'; there are $client $id $host $path $query, and $$ is a "
                 "dollar",
                 (int)(text.len < 64 ? text.len : 64), text.ptr);
        return false;
    }
    return true;
}

void weir_template_fini(struct weir_template *template)
{
    free(template->pieces);
    template->pieces = NULL;
}

/* ---- in a request ---- */

static struct weir_str host_name(struct weir_str host)
{
    if (host.len && host.ptr[0] == '[') { /* IPv6: its colons are none of a port */
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

/* A path without what it begins with: "*" (of the server as a whole) has nothing else. */
static struct weir_str path_tail(struct weir_str path)
{
    if (path.len && path.ptr[0] != '/')
        return WEIR_STR("");
    while (path.len && path.ptr[0] == '/') {
        path.ptr++;
        path.len--;
    }
    return path;
}

/* What a piece stands for; `lead` is the byte before it, 0 for none. */
static struct weir_str piece_text(struct weir_req *req, const struct weir_template_piece *piece,
                                  char *lead)
{
    struct weir_str text;

    *lead = 0;
    switch (piece->variable) {
    case VAR_client:
        return weir_req_client(req);
    case VAR_id:
        return weir_req_id(req);
    case VAR_host:
        return host_name(weir_message_host(weir_req_request(req)));
    case VAR_path:
        *lead = '/';
        return path_tail(weir_message_path(weir_req_request(req)));
    case VAR_query:
        text = weir_message_query(weir_req_request(req));
        *lead = text.ptr ? '?' : 0;
        return text;
    default:
        return piece->text;
    }
}

struct weir_str weir_template_expand(const struct weir_template *template, struct weir_req *req)
{
    size_t room = 1;
    char *start, *at, lead;

    if (!template->pieces)
        return template->text;
    for (size_t i = 0; i < template->count; i++)
        room += piece_text(req, &template->pieces[i], &lead).len + 1;
    at = start = weir_req_alloc(req, room);
    if (!start)
        return (struct weir_str){ NULL, 0 };
    for (size_t i = 0; i < template->count; i++) {
        struct weir_str part = piece_text(req, &template->pieces[i], &lead);

        if (lead)
            *at++ = lead;
        if (part.len)
            memcpy(at, part.ptr, part.len);
        at += part.len;
    }
    return (struct weir_str){ start, (size_t)(at - start) };
}
