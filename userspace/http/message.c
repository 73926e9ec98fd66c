/* SPDX-License-Identifier: Apache-2.0 */
/**
 * message.c: the message model: fields in order, text in the arena. The first half is for codecs
 * and the machine and checks nothing; the second half is what programs see
 * (include/weir/message.h), where every byte is checked.
 */
#include "http/message.h"

#include "base/panic.h"
#include "http/guard.h"

enum { FIELDS_ROOM = 8 }; /* of a head of our own; those that are read bring their size */

void weir_message_init(struct weir_message *msg, struct weir_arena *arena, bool request)
{
    *msg = (struct weir_message){ .arena = arena, .request = request };
}

int weir_message_clone(struct weir_message *to, const struct weir_message *from,
                       struct weir_arena *arena)
{
    unsigned room = from->count + 8u;
    struct weir_field *fields;

    if (room > UINT16_MAX)
        room = UINT16_MAX;
    fields = weir_arena_alloc(arena, room * sizeof(*fields));
    if (!fields)
        return WEIR_ENOMEM;
    if (from->count)
        memcpy(fields, from->fields, from->count * sizeof(*fields));
    *to = *from;
    to->arena = arena;
    to->fields = fields;
    to->room = (uint16_t)room;
    return 0;
}

struct weir_str weir_message_field(const struct weir_message *msg, enum weir_field_id id)
{
    if (msg->has & (UINT64_C(1) << id))
        for (unsigned i = 0; i < msg->count; i++)
            if (msg->fields[i].id == id)
                return msg->fields[i].value;
    return (struct weir_str){ NULL, 0 };
}

int weir_message_reserve(struct weir_message *msg, unsigned room)
{
    struct weir_field *fields;

    if (room > UINT16_MAX)
        return WEIR_ENOMEM;
    fields = weir_arena_alloc(msg->arena, room * sizeof(*fields));
    if (!fields)
        return WEIR_ENOMEM;
    if (msg->count)
        memcpy(fields, msg->fields, msg->count * sizeof(*fields));
    msg->fields = fields;
    msg->room = (uint16_t)room;
    return 0;
}

int weir_message_grow(struct weir_message *msg)
{
    return weir_message_reserve(msg, msg->room ? 2u * msg->room : FIELDS_ROOM);
}

/* Keeps the fields for which `goes` is false, in order. */
typedef bool (*field_test_fn)(const struct weir_field *field, const void *arg);

static unsigned drop_if(struct weir_message *msg, field_test_fn goes, const void *arg)
{
    uint64_t has = 0;
    unsigned kept = 0, gone;

    for (unsigned i = 0; i < msg->count; i++) {
        if (goes(&msg->fields[i], arg))
            continue;
        if (kept != i)
            msg->fields[kept] = msg->fields[i];
        has |= UINT64_C(1) << msg->fields[kept++].id;
    }
    gone = msg->count - kept;
    msg->count = (uint16_t)kept;
    msg->has = has;
    return gone;
}

static bool has_id(const struct weir_field *field, const void *arg)
{
    return field->id == *(const uint8_t *)arg;
}

unsigned weir_message_drop(struct weir_message *msg, enum weir_field_id id)
{
    uint8_t wanted = (uint8_t)id;

    return msg->has & (UINT64_C(1) << id) ? drop_if(msg, has_id, &wanted) : 0;
}

static bool has_name(const struct weir_field *field, const void *arg)
{
    return weir_str_ieq(field->name, *(const struct weir_str *)arg);
}

unsigned weir_message_drop_name(struct weir_message *msg, struct weir_str name)
{
    enum weir_field_id id = weir_field_id(name);

    return id ? weir_message_drop(msg, id) : drop_if(msg, has_name, &name);
}

static bool is_hop(const struct weir_field *field, const void *arg)
{
    return weir_field_flags(field->id) & WEIR_FIELD_HOP;
}

struct names {
    struct weir_str name[WEIR_CONNECTION_OPTIONS_MAX];
    unsigned count;
};

/* Names that Connection nominates; what has a rule of its own is not taken away by nomination. The
 * guard bounds them. */
static void nominated_by(struct weir_str list, struct names *names)
{
    struct weir_str name;

    while (names->count < WEIR_CONNECTION_OPTIONS_MAX && weir_str_next_element(&list, &name)) {
        if (weir_field_flags(weir_field_id(name)) & (WEIR_FIELD_HOP | WEIR_FIELD_FRAMING) ||
            weir_str_ieq(name, WEIR_STR("close")))
            continue;
        names->name[names->count++] = name;
    }
}

static bool is_nominated(const struct weir_field *field, const void *arg)
{
    const struct names *names = arg;

    for (unsigned i = 0; i < names->count; i++)
        if (weir_str_ieq(field->name, names->name[i]))
            return true;
    return false;
}

/* The ids of hop-by-hop fields, a bit each. */
#define HOP_ID(id, name, flags) | (((flags)&WEIR_FIELD_HOP) ? UINT64_C(1) << WEIR_F_##id : 0)
static const uint64_t hop_ids = 0 WEIR_FIELDS(HOP_ID);
#undef HOP_ID

void weir_message_strip_hop(struct weir_message *msg)
{
    struct names names;

    names.count = 0;
    if (msg->has & (UINT64_C(1) << WEIR_F_CONNECTION))
        for (unsigned i = 0; i < msg->count; i++)
            if (msg->fields[i].id == WEIR_F_CONNECTION)
                nominated_by(msg->fields[i].value, &names);
    if (names.count)
        drop_if(msg, is_nominated, &names);
    if (msg->has & hop_ids)
        drop_if(msg, is_hop, NULL);
}

/* ---- what programs see ---- */

struct weir_str weir_message_get(const struct weir_message *msg, const char *name)
{
    struct weir_str wanted = weir_str(name);
    enum weir_field_id id = weir_field_id(wanted);

    if (id)
        return weir_message_field(msg, id);
    for (unsigned i = 0; i < msg->count; i++)
        if (!msg->fields[i].id && weir_str_ieq(msg->fields[i].name, wanted))
            return msg->fields[i].value;
    return (struct weir_str){ NULL, 0 };
}

bool weir_message_next(const struct weir_message *msg, size_t *at, struct weir_str *name,
                       struct weir_str *value)
{
    if (*at >= msg->count)
        return false;
    *name = msg->fields[*at].name;
    *value = msg->fields[*at].value;
    ++*at;
    return true;
}

static bool is_ours(enum weir_field_id id)
{
    return id == WEIR_F_TRAILER || weir_field_flags(id) & (WEIR_FIELD_HOP | WEIR_FIELD_FRAMING);
}

/* Checks and copies a field that a program gives. */
static int field_take(struct weir_message *msg, const char *name, struct weir_str value,
                      struct weir_field *field)
{
    struct weir_str text = weir_str(name);

    if (!weir_guard_name(text) || !weir_guard_value(value))
        return WEIR_EINVAL;
    *field = (struct weir_field){ .id = (uint8_t)weir_field_id(text) };
    if (is_ours(field->id))
        return WEIR_EFRAMING;
    field->name = weir_arena_copy(msg->arena, text);
    field->value = weir_arena_copy(msg->arena, weir_str_trim(value));
    return field->name.ptr && field->value.ptr ? 0 : WEIR_ENOMEM;
}

int weir_message_add(struct weir_message *msg, const char *name, struct weir_str value)
{
    struct weir_field field;
    int err = field_take(msg, name, value, &field);

    return err ? err : weir_message_push(msg, field.id, field.name, field.value);
}

/* The first field of that name takes the value; others of the name go. */
static int field_replace(struct weir_message *msg, const struct weir_field *field)
{
    unsigned kept = 0;
    bool done = false;

    for (unsigned i = 0; i < msg->count; i++) {
        bool same = field->id ? msg->fields[i].id == field->id
                              : weir_str_ieq(msg->fields[i].name, field->name);

        if (same && done)
            continue;
        msg->fields[kept++] = same ? *field : msg->fields[i];
        done |= same;
    }
    msg->count = (uint16_t)kept;
    return done ? 0 : weir_message_push(msg, field->id, field->name, field->value);
}

int weir_message_set(struct weir_message *msg, const char *name, struct weir_str value)
{
    struct weir_field field;
    int err;

    if (msg->request && weir_field_id(weir_str(name)) == WEIR_F_HOST)
        return weir_message_set_host(msg, value);
    err = field_take(msg, name, value, &field);
    return err ? err : field_replace(msg, &field);
}

int weir_message_remove(struct weir_message *msg, const char *name)
{
    struct weir_str text = weir_str(name);

    if (is_ours(weir_field_id(text)))
        return WEIR_EFRAMING;
    return (int)weir_message_drop_name(msg, text);
}

struct weir_str weir_message_method(const struct weir_message *msg)
{
    return msg->method;
}

struct weir_str weir_message_path(const struct weir_message *msg)
{
    return msg->path;
}

struct weir_str weir_message_query(const struct weir_message *msg)
{
    return msg->query;
}

struct weir_str weir_message_host(const struct weir_message *msg)
{
    return msg->host;
}

int weir_message_set_method(struct weir_message *msg, struct weir_str method)
{
    enum weir_method id = weir_method_id(method);
    struct weir_str copy;

    /* CONNECT has another target and another framing: it is not a method to change from or to. */
    if (!msg->request || !weir_guard_name(method) || id == WEIR_M_CONNECT ||
        msg->method_id == WEIR_M_CONNECT)
        return WEIR_EINVAL;
    copy = weir_arena_copy(msg->arena, method);
    if (!copy.ptr)
        return WEIR_ENOMEM;
    msg->method = copy;
    msg->method_id = (uint8_t)id;
    return 0;
}

/* pchar / "/" and, in a query, "?" (RFC 3986 3.3, 3.4) */
static bool uri_text(struct weir_str text, bool query)
{
    static const char marks[] = "-._~!$&'()*+,;=:@/";

    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if ((weir_lower(c) >= 'a' && weir_lower(c) <= 'z') || (c >= '0' && c <= '9') ||
            (c && strchr(marks, c)) || (query && c == '?'))
            continue;
        if (c != '%' || text.len - i < 3 || !weir_is_hex(text.ptr[i + 1]) ||
            !weir_is_hex(text.ptr[i + 2]))
            return false;
        i += 2;
    }
    return true;
}

int weir_message_set_path(struct weir_message *msg, struct weir_str path, struct weir_str query)
{
    struct weir_str path_copy, query_copy = { NULL, 0 };

    if (!msg->request || !path.len || path.ptr[0] != '/' || msg->form == WEIR_T_AUTHORITY)
        return WEIR_EBADPATH;
    if (!uri_text(path, false) || !uri_text(query, true) ||
        path.len + query.len > WEIR_TARGET_BYTES_MAX)
        return WEIR_EBADPATH;
    path_copy = weir_arena_copy(msg->arena, path);
    if (query.ptr)
        query_copy = weir_arena_copy(msg->arena, query);
    if (!path_copy.ptr || (query.ptr && !query_copy.ptr))
        return WEIR_ENOMEM;
    msg->path = path_copy;
    msg->query = query_copy;
    msg->form = WEIR_T_ORIGIN;
    return 0;
}

int weir_message_set_host(struct weir_message *msg, struct weir_str host)
{
    struct weir_field field = { weir_field_name(WEIR_F_HOST), { NULL, 0 }, WEIR_F_HOST };

    if (!msg->request || !weir_guard_host(host, false))
        return WEIR_EINVAL;
    field.value = weir_arena_copy(msg->arena, host);
    if (!field.value.ptr)
        return WEIR_ENOMEM;
    msg->host = field.value;
    return field_replace(msg, &field);
}

int weir_message_status(const struct weir_message *msg)
{
    return msg->status;
}

int weir_message_set_status(struct weir_message *msg, int status)
{
    if (msg->request || status < 200 || status > 599)
        return WEIR_EINVAL;
    msg->status = status;
    msg->reason = weir_status_reason(status);
    return 0;
}
