/* SPDX-License-Identifier: Apache-2.0 */
/**
 * headers.c: the filter `headers`: removes, sets and adds fields of what goes to the upstream and
 * of what goes to the client. Everything that can be wrong is found when the configuration is read:
 * names, framing fields, bytes of values, unknown $names. Public headers alone.
 */
#include "template.h"

#include "weir/builtin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

struct edit {
    enum { EDIT_REMOVE, EDIT_SET, EDIT_ADD } what;
    const char *name;
    struct weir_template value; /* SET, ADD */
};

struct edits {
    struct edit *at;
    size_t count;
};

struct headers {
    struct edits request, response;
};

/* All that is wrong, in one text. */
struct fault {
    char *text;
    size_t bytes, len;
};

#define SHOWN(s) (int)((s).len < 64 ? (s).len : 64), (s).ptr

/* ---- at configuration ---- */

__attribute__((format(printf, 2, 3))) static void fault_add(struct fault *fault, const char *format,
                                                            ...)
{
    size_t room = fault->bytes - fault->len;
    va_list args;
    int n = 0;

    if (fault->len && room > 2) {
        memcpy(fault->text + fault->len, "; ", 3);
        fault->len += 2;
        room -= 2;
    }
    va_start(args, format);
    n = vsnprintf(fault->text + fault->len, room, format, args);
    va_end(args);
    if (n > 0)
        fault->len += (size_t)n < room ? (size_t)n : room - 1;
}

static bool is_token(struct weir_str name)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');

        if (!alnum && (!c || !strchr(marks, c)))
            return false;
    }
    return name.len > 0;
}

/* Fields that frame a message or belong to one hop are weir's own; Host decides who is meant. */
static bool is_framing(struct weir_str name)
{
    static const char *const framing[] = {
        "host",    "content-length", "transfer-encoding", "connection",       "te",
        "trailer", "upgrade",        "keep-alive",        "proxy-connection",
    };

    for (size_t i = 0; i < sizeof(framing) / sizeof(framing[0]); i++)
        if (strlen(framing[i]) == name.len && !strncasecmp(framing[i], name.ptr, name.len))
            return true;
    return false;
}

static void check_name(struct weir_str name, struct fault *fault)
{
    if (!is_token(name))
        fault_add(fault, "'%.*s' is not a field name", SHOWN(name));
    else if (is_framing(name))
        fault_add(fault, "'%.*s' frames a message or belongs to one hop: weir sets it itself%s",
                  SHOWN(name), name.len == 4 ? " (the route's `host` names another)" : "");
}

static bool value_ok(struct weir_str value, struct fault *fault)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            fault_add(fault, "a value has a control byte (0x%02x)", c);
            return false;
        }
    }
    return true;
}

static void edit_value(struct edit *edit, struct weir_str value, struct fault *fault)
{
    char why[256] = "";

    if (value_ok(value, fault) && !weir_template_init(&edit->value, value, why, sizeof(why)))
        fault_add(fault, "%s", why);
}

static struct edit *add_edit(struct edits *edits, int what, struct weir_str name,
                             struct fault *fault)
{
    struct edit *edit = &edits->at[edits->count++];

    edit->what = what;
    edit->name = strndup(name.ptr, name.len);
    if (!edit->name)
        fault_add(fault, "out of memory");
    else
        check_name(name, fault);
    return edit;
}

static void add_pairs(struct edits *edits, int what, const struct weir_pairs *pairs,
                      struct fault *fault)
{
    for (size_t i = 0; i < pairs->count; i++)
        edit_value(add_edit(edits, what, pairs->at[i].name, fault), pairs->at[i].value, fault);
}

static void edits_init(struct edits *edits, const struct weir_headers_edit *conf,
                       struct fault *fault)
{
    size_t room = conf->remove.count + conf->set.count + conf->add.count;

    if (!room)
        return;
    edits->at = calloc(room, sizeof(*edits->at));
    if (!edits->at) {
        fault_add(fault, "out of memory");
        return;
    }
    for (size_t i = 0; i < conf->remove.count; i++)
        add_edit(edits, EDIT_REMOVE, conf->remove.at[i], fault);
    add_pairs(edits, EDIT_SET, &conf->set, fault);
    add_pairs(edits, EDIT_ADD, &conf->add, fault);
}

static void edits_fini(struct edits *edits)
{
    for (size_t i = 0; i < edits->count; i++) {
        free((char *)edits->at[i].name);
        weir_template_fini(&edits->at[i].value);
    }
    free(edits->at);
}

static void headers_fini(void *self)
{
    struct headers *headers = self;

    edits_fini(&headers->request);
    edits_fini(&headers->response);
    free(headers);
}

static void *headers_create(const void *arg, char *text, size_t bytes)
{
    const struct weir_headers_conf *conf = arg;
    struct fault fault = { text, bytes, 0 };
    struct headers *headers = calloc(1, sizeof(*headers));

    if (!headers) {
        snprintf(text, bytes, "out of memory");
        return NULL;
    }
    edits_init(&headers->request, &conf->request, &fault);
    edits_init(&headers->response, &conf->response, &fault);
    if (fault.len == 0)
        return headers;
    headers_fini(headers);
    return NULL;
}

/* ---- in a request ---- */

static int edit_apply(struct weir_req *req, const struct edit *edit, struct weir_message *msg)
{
    struct weir_str value;
    int n;

    if (edit->what == EDIT_REMOVE) {
        n = weir_message_remove(msg, edit->name);
        return n < 0 ? n : 0;
    }
    value = weir_template_expand(&edit->value, req);
    if (!value.ptr)
        return WEIR_ENOMEM;
    return edit->what == EDIT_SET ? weir_message_set(msg, edit->name, value)
                                  : weir_message_add(msg, edit->name, value);
}

/* A field that could not be set may be what somebody's security relies on: the request ends. */
static enum weir_verdict edits_apply(struct weir_req *req, const struct edits *edits,
                                     struct weir_message *msg)
{
    for (size_t i = 0; i < edits->count; i++) {
        int err = edit_apply(req, &edits->at[i], msg);

        if (err)
            return weir_req_fail(req, (enum weir_err)err, WEIR_BY_US);
    }
    return WEIR_NEXT;
}

static enum weir_verdict headers_request(struct weir_req *req, void *self,
                                         struct weir_message *upstream)
{
    return edits_apply(req, &((struct headers *)self)->request, upstream);
}

static enum weir_verdict headers_response(struct weir_req *req, void *self,
                                          struct weir_message *answer)
{
    return edits_apply(req, &((struct headers *)self)->response, answer);
}

static const struct weir_filter headers_filter = {
    .size = sizeof(struct weir_filter),
    .name = "headers",
    .upstream_request = headers_request,
    .response = headers_response,
    .fini = headers_fini,
};

#define EDIT_ROW(field, ...) .offset = offsetof(struct weir_headers_edit, field), __VA_ARGS__
#define VALUES               WEIR_CONF_TEMPLATE | WEIR_CONF_SECRET
static const struct weir_conf_item edit_rows[] = {
    { "set", EDIT_ROW(set, .type = WEIR_CONF_MAP, .flags = VALUES,
                      .text = "fields that replace all of their name; $client $id $host $path "
                              "$query, or { file: PATH }") },
    { "add", EDIT_ROW(add, .type = WEIR_CONF_MAP, .flags = VALUES,
                      .text = "fields that are added to those that are there; likewise") },
    { "remove", EDIT_ROW(remove, .type = WEIR_CONF_STRS,
                         .text = "names of fields that are removed, before `set` and `add`") },
    { 0 },
};

#define SIDE_ROW(field, sentence)                                                         \
    {                                                                                     \
        .name = #field, .type = WEIR_CONF_SECTION, .rows = edit_rows, .text = (sentence), \
        .offset = offsetof(struct weir_headers_conf, field),                              \
    }
static const struct weir_conf_item headers_rows[] = {
    SIDE_ROW(request, "what is sent to the upstream"),
    SIDE_ROW(response, "what goes to the client, also of weir's own answers"),
    { 0 },
};

const struct weir_filter_type weir_filter_headers_type = {
    .size = sizeof(struct weir_filter_type),
    .name = "headers",
    .text = "removes, sets and adds header fields of requests and responses",
    .rows = headers_rows,
    .bytes = sizeof(struct weir_headers_conf),
    .filter = &headers_filter,
    .create = headers_create,
};
