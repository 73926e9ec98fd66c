/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_guard.c: header sections of HTTP/2 (RFC 9113 8), field by field and then as a whole: what h1 could be smuggled by, or
 * another server could read differently, is refused and not repaired. nghttp2 checks much of it before; this stands on
 * its own. Pure but for the arena.
 *
 * The first fault counts. A section over its limits is read on without keeping anything, since the tables of HPACK go on.
 */
#include "base/panic.h"
#include "http/h2_priv.h"

enum { FIELD_EXTRA_BYTES = 4 }; /* ": " and CR LF, as h1 counts */

struct weir_h2_head *weir_h2_head_new(struct weir_arena *arena, enum h2_kind kind)
{
    struct weir_h2_head *head = weir_arena_zalloc(arena, sizeof(*head));
    struct weir_message *msg = weir_arena_alloc(arena, sizeof(*msg));

    if (!head || !msg)
        return NULL;
    weir_message_init(msg, arena, kind == H2_REQUEST);
    head->msg = msg;
    head->kind = (uint8_t)kind;
    head->crumbs_end = &head->crumbs;
    return head;
}

bool weir_h2_answerable(enum weir_err err)
{
    return err == WEIR_EHDRSIZE || err == WEIR_EHDRCOUNT || err == WEIR_EURISIZE ||
           err == WEIR_EEXPECT;
}

/* ---- one field ---- */

static bool has_outer_space(struct weir_str value)
{
    return value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t' ||
                         value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t');
}

static int set_once(struct weir_h2_head *head, struct weir_str *place, struct weir_str value)
{
    if (place->ptr)
        return WEIR_EBADHEADER;
    *place = weir_arena_copy(head->msg->arena, value);
    return place->ptr ? 0 : WEIR_ENOMEM;
}

static int take_pseudo(struct weir_h2_head *head, struct weir_str name, struct weir_str value)
{
    if (head->regular || head->kind == H2_TRAILER)
        return head->kind == H2_TRAILER ? WEIR_EBADTRAILER : WEIR_EBADHEADER;
    if (head->kind == H2_ANSWER)
        return weir_str_is(name, ":status") ? set_once(head, &head->status, value)
                                            : WEIR_EBADHEADER;
    if (weir_str_is(name, ":path"))
        return set_once(head, &head->target, value);
    if (weir_str_is(name, ":method"))
        return set_once(head, &head->msg->method, value);
    if (weir_str_is(name, ":scheme"))
        return set_once(head, &head->msg->scheme, value);
    if (weir_str_is(name, ":authority"))
        return set_once(head, &head->authority, value);
    if (weir_str_is(name, ":protocol"))
        return set_once(head, &head->protocol, value);
    return WEIR_EBADHEADER;
}

static int take_crumb(struct weir_h2_head *head, struct weir_str value, bool never_indexed)
{
    struct weir_h2_crumb *crumb = weir_arena_alloc(head->msg->arena, sizeof(*crumb));

    if (!crumb)
        return WEIR_ENOMEM;
    *crumb = (struct weir_h2_crumb){ .text = weir_arena_copy(head->msg->arena, value) };
    if (!crumb->text.ptr)
        return WEIR_ENOMEM;
    *head->crumbs_end = crumb;
    head->crumbs_end = &crumb->next;
    head->crumbs_bytes += value.len + 2;
    head->crumbs_never_indexed |= never_indexed;
    return 0;
}

/* Lower-case and a token. */
static bool name_ok(struct weir_str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z')
            return false;
    return weir_guard_name(name);
}

/* Fields that belong to a connection have no place here (RFC 9113 8.2.2). */
static int take_known(struct weir_h2_head *head, enum weir_field_id id, struct weir_str value)
{
    switch (id) {
    case WEIR_F_CONNECTION:
    case WEIR_F_KEEP_ALIVE:
    case WEIR_F_PROXY_CONNECTION:
    case WEIR_F_UPGRADE:
    case WEIR_F_HTTP2_SETTINGS:
        return WEIR_EBADHEADER;
    case WEIR_F_TRANSFER_ENCODING:
        return WEIR_EBADTE;
    case WEIR_F_TE:
        if (head->kind != H2_REQUEST || !weir_str_ieq(value, WEIR_STR("trailers")))
            return WEIR_EBADHEADER;
        head->msg->te_trailers = true;
        return 0;
    case WEIR_F_HOST:
        if (head->kind != H2_REQUEST)
            return 0;
        return head->host.ptr ? WEIR_EBADHOST : set_once(head, &head->host, value);
    case WEIR_F_CONTENT_LENGTH:
        return head->length.ptr ? WEIR_EBADCL : set_once(head, &head->length, value);
    default:
        return 0;
    }
}

static int take_field(struct weir_h2_head *head, struct weir_str name, struct weir_str value,
                      bool never_indexed)
{
    enum weir_field_id id = weir_field_id(name);
    struct weir_str kept;
    int err;

    if (!(id && weir_str_eq(name, weir_field_name(id))) && !name_ok(name))
        return WEIR_EBADHEADER;
    head->regular = true;
    err = id ? take_known(head, id, value) : 0;
    if (err)
        return err;
    if (id == WEIR_F_COOKIE && head->kind == H2_REQUEST)
        return take_crumb(head, value, never_indexed);
    if ((id == WEIR_F_HOST || id == WEIR_F_TE) && head->kind == H2_REQUEST)
        return 0;
    if (!id && weir_str_is(name, "priority"))
        head->prioritized = true;
    kept = weir_arena_copy(head->msg->arena, value);
    name = id ? weir_field_name(id) : weir_arena_copy(head->msg->arena, name);
    err = kept.ptr && name.ptr ? weir_message_push(head->msg, id, name, kept) : WEIR_ENOMEM;
    if (!err && never_indexed)
        weir_message_never_index(head->msg);
    return err;
}

/* Counts a field; what is too much, or 0. */
static enum weir_err measure(struct weir_h2_head *head, struct weir_str name, struct weir_str value,
                             const struct weir_guard_limits *limits)
{
    size_t bytes_max = limits && limits->head_bytes ? limits->head_bytes : WEIR_HEADERS_BYTES_MAX;
    size_t count_max = limits && limits->head_count ? limits->head_count : WEIR_HEADERS_COUNT_MAX;

    if (head->kind == H2_TRAILER && bytes_max > WEIR_TRAILERS_BYTES_MAX)
        bytes_max = WEIR_TRAILERS_BYTES_MAX;
    head->bytes += name.len + value.len + FIELD_EXTRA_BYTES;
    /* Pseudo fields are few, and crumbs are one field in the end. */
    head->count += name.len && name.ptr[0] != ':' && !weir_str_is(name, "cookie");
    head->far_over = head->bytes > H2_FAR_OVER * bytes_max || head->count > H2_FAR_OVER * count_max;
    if (head->bytes > bytes_max)
        return WEIR_EHDRSIZE;
    return head->count > count_max ? WEIR_EHDRCOUNT : WEIR_OK;
}

static int field_fault(struct weir_h2_head *head, struct weir_str name, struct weir_str value,
                       bool never_indexed)
{
    if (!name.len || has_outer_space(value) || !weir_guard_value(value))
        return WEIR_EBADHEADER;
    if (name.ptr[0] != ':')
        return take_field(head, name, value, never_indexed);
    head->msg->never_indexed |= never_indexed;
    return take_pseudo(head, name, value);
}

void weir_h2_head_field(struct weir_h2_head *head, struct weir_str name, struct weir_str value,
                        bool never_indexed, const struct weir_guard_limits *limits)
{
    size_t target_max =
        limits && limits->target_bytes ? limits->target_bytes : WEIR_TARGET_BYTES_MAX;
    enum weir_err over = measure(head, name, value, limits);

    if (head->err)
        return;
    /* A target that is too long is said to be that, though it may be too much for the head. */
    if (value.len > target_max && weir_str_is(name, ":path"))
        over = WEIR_EURISIZE;
    head->err = over ? over : (enum weir_err)field_fault(head, name, value, never_indexed);
}

/* ---- the whole section ---- */

/* Crumbs become one field (RFC 9113 8.2.3). */
static int join_crumbs(struct weir_h2_head *head)
{
    struct weir_h2_crumb *crumb = head->crumbs;
    char *text, *at;
    int err;

    if (!crumb)
        return 0;
    text = at = weir_arena_text(head->msg->arena, head->crumbs_bytes);
    if (!text)
        return WEIR_ENOMEM;
    for (; crumb; crumb = crumb->next) {
        memcpy(at, crumb->text.ptr, crumb->text.len);
        at += crumb->text.len;
        if (crumb->next)
            *at++ = ';', *at++ = ' ';
    }
    err = weir_message_push(head->msg, WEIR_F_COOKIE, weir_field_name(WEIR_F_COOKIE),
                            (struct weir_str){ text, (size_t)(at - text) });
    if (!err && head->crumbs_never_indexed)
        weir_message_never_index(head->msg);
    return err;
}

/* ":authority" counts; a Host that says something else is another server's truth. */
static int set_host(struct weir_h2_head *head)
{
    struct weir_str authority = head->authority;

    if (authority.ptr && head->host.ptr && !weir_str_ieq(authority, head->host))
        return WEIR_EBADHOST;
    if (!authority.ptr)
        authority = head->host;
    if (!weir_guard_host(authority, false))
        return WEIR_EBADHOST;
    head->msg->host = authority;
    return 0;
}

/* Visible ASCII, without what no URI has (RFC 3986 2): a reader of the h1 line could cut it there. */
static bool target_ok(struct weir_str target)
{
    for (size_t i = 0; i < target.len; i++) {
        uint8_t c = (uint8_t)target.ptr[i];

        if (c <= ' ' || c >= 0x7f || c == '#' || c == '\\' || c == '"' || c == '<' || c == '>')
            return false;
    }
    return true;
}

static int set_target(struct weir_h2_head *head)
{
    struct weir_message *msg = head->msg;
    struct weir_str target = head->target;

    if (!target.len || !target_ok(target))
        return WEIR_EBADTARGET;
    if (target.ptr[0] == '/') {
        msg->form = WEIR_T_ORIGIN;
        msg->path = weir_str_cut(target, '?', &msg->query);
        return 0;
    }
    msg->form = WEIR_T_ASTERISK;
    msg->path = target;
    return weir_str_is(target, "*") && msg->method_id == WEIR_M_OPTIONS ? 0 : WEIR_EBADTARGET;
}

/* "host:port", and nothing else (RFC 9113 8.5). */
static int set_connect(struct weir_h2_head *head)
{
    struct weir_message *msg = head->msg;
    struct weir_str host = head->authority;
    size_t colon = host.len;

    if (msg->scheme.ptr || head->target.ptr)
        return WEIR_EBADTARGET;
    if (!host.ptr || !weir_guard_host(host, false))
        return WEIR_EBADHOST;
    while (colon && host.ptr[colon - 1] >= '0' && host.ptr[colon - 1] <= '9')
        colon--;
    if (colon == host.len || colon < 2 || host.ptr[colon - 1] != ':')
        return WEIR_EBADTARGET;
    msg->form = WEIR_T_AUTHORITY;
    msg->host = host;
    msg->path = WEIR_STR("");
    return head->host.ptr && !weir_str_ieq(host, head->host) ? WEIR_EBADHOST : 0;
}

/* The protocol of an extended CONNECT (RFC 8441), which is then what h1 knows as a GET with Upgrade. */
static int set_protocol(struct weir_h2_head *head)
{
    struct weir_message *msg = head->msg;

    if (msg->method_id != WEIR_M_CONNECT || !weir_guard_name(head->protocol))
        return WEIR_EUPGRADE;
    msg->method = WEIR_STR("GET");
    msg->method_id = WEIR_M_GET;
    msg->upgrade = head->protocol;
    msg->must_switch = true;
    return 0;
}

static int set_length(struct weir_h2_head *head)
{
    struct weir_message *msg = head->msg;

    if (!head->length.ptr)
        return 0;
    if (!weir_str_to_u64(head->length, &msg->length) || msg->length > INT64_MAX)
        return WEIR_EBADCL;
    msg->body = WEIR_BODY_LENGTH;
    return 0;
}

static int set_request_body(struct weir_h2_head *head, bool end, bool tunnel)
{
    struct weir_message *msg = head->msg;
    int err = set_length(head);

    if (err)
        return err;
    if (tunnel || end) {
        if (msg->length)
            return WEIR_EBADCL;
        if (tunnel)
            msg->body = WEIR_BODY_NONE;
    } else if (!head->length.ptr) {
        msg->body = WEIR_BODY_CHUNKED;
    }
    return 0;
}

/* As h1 has it: only a request that has a body can wait for a 100. */
static int set_expect(struct weir_message *msg, bool end)
{
    unsigned expects = 0;

    if (!(msg->has & UINT64_C(1) << WEIR_F_EXPECT))
        return 0;
    for (unsigned i = 0; i < msg->count; i++)
        if (msg->fields[i].id == WEIR_F_EXPECT &&
            (expects++ || !weir_str_ieq(msg->fields[i].value, WEIR_STR("100-continue"))))
            return WEIR_EEXPECT;
    msg->expect_continue = !end && (msg->body == WEIR_BODY_CHUNKED || msg->length > 0);
    if (!msg->expect_continue)
        weir_message_drop(msg, WEIR_F_EXPECT);
    return 0;
}

static int set_request_line(struct weir_h2_head *head)
{
    struct weir_message *msg = head->msg;
    int err;

    if (!weir_guard_name(msg->method) || msg->method.len > WEIR_METHOD_BYTES_MAX ||
        weir_str_is(msg->method, "PRI"))
        return WEIR_EBADLINE;
    msg->method_id = (uint8_t)weir_method_id(msg->method);
    if (msg->method_id == WEIR_M_CONNECT && !head->protocol.ptr)
        return set_connect(head);
    err = head->protocol.ptr ? set_protocol(head) : 0;
    if (!err && !weir_str_ieq(msg->scheme, WEIR_STR("http")) &&
        !weir_str_ieq(msg->scheme, WEIR_STR("https")))
        err = WEIR_EBADTARGET;
    if (!err)
        err = set_target(head);
    return err ? err : set_host(head);
}

int weir_h2_guard_request(struct weir_h2_head *head, bool end)
{
    struct weir_message *msg = head->msg;
    bool tunnel;
    int err = head->err ? (int)head->err : set_request_line(head);

    if (err)
        return err;
    tunnel = msg->must_switch || msg->method_id == WEIR_M_CONNECT;
    err = set_request_body(head, end, tunnel);
    if (!err)
        err = set_expect(msg, end);
    msg->keep_alive = msg->http2 = true;
    return err ? err : join_crumbs(head);
}

/* ---- answers ---- */

static int set_status(struct weir_h2_head *head)
{
    struct weir_str text = head->status;
    uint64_t status;

    if (text.len != 3 || !weir_str_to_u64(text, &status) || status < 100 || status > 599 ||
        status == 101) /* there is no such switch (RFC 9113 8.6) */
        return WEIR_EBADLINE;
    head->msg->status = (int)status;
    head->msg->reason = weir_status_reason((int)status);
    return 0;
}

static void set_tunnel(struct weir_message *msg, const struct weir_h2_asked *asked)
{
    weir_message_drop(msg, WEIR_F_CONTENT_LENGTH); /* RFC 9110 9.3.6: ignored */
    msg->body = WEIR_BODY_TUNNEL;
    msg->length = 0;
    if (!asked->upgrade.ptr)
        return;
    msg->status = 101;
    msg->reason = weir_status_reason(101);
    msg->upgrade = asked->upgrade;
}

static int set_answer_body(struct weir_h2_head *head, bool end, uint8_t method)
{
    struct weir_message *msg = head->msg;

    if (method == WEIR_M_HEAD || msg->status == 204 || msg->status == 304) {
        msg->body = WEIR_BODY_NONE;
        if (msg->status == 204)
            weir_message_drop(msg, WEIR_F_CONTENT_LENGTH);
        return 0;
    }
    if (end)
        return msg->length ? WEIR_EBADCL : 0;
    if (!head->length.ptr)
        msg->body = WEIR_BODY_CHUNKED;
    return 0;
}

int weir_h2_guard_answer(struct weir_h2_head *head, bool end, const struct weir_h2_asked *asked)
{
    struct weir_message *msg = head->msg;
    int err = head->err ? (int)head->err : set_status(head);

    if (!err)
        err = set_length(head);
    if (err)
        return err;
    msg->keep_alive = msg->http2 = true;
    if (msg->status < 200) {
        if (head->length.ptr)
            return WEIR_EBADCL;
        return end ? WEIR_EBADREQ : 0;
    }
    if (msg->status < 300 && (asked->upgrade.ptr || asked->method == WEIR_M_CONNECT)) {
        set_tunnel(msg, asked);
        return 0;
    }
    return set_answer_body(head, end, asked->method);
}

int weir_h2_guard_trailer(struct weir_h2_head *head)
{
    head->msg->http2 = true;
    return head->err ? (int)head->err : weir_guard_trailer(head->msg);
}
