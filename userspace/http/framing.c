/* SPDX-License-Identifier: Apache-2.0 */
/**
 * framing.c: the second half of guard.h: what a parsed head means. One walk over the fields
 * collects what frames and routes; then the target, the upgrade and the body are decided (RFC
 * 9112 3.2, 6.3; RFC 9110 7.8, 10.1.1). Where the RFC leaves a choice between repairing and
 * refusing what two parsers could read differently, it is refused.
 */
#include "http/guard.h"

#include "base/panic.h"

struct facts {
    struct weir_str host, coding, upgrade, ws_key;
    uint64_t length;
    unsigned hosts, lengths, codings, upgrades, expects, ws_keys, options;
    bool close, keep_alive, wants_upgrade, te_trailers;
};

static int take_connection(struct facts *facts, struct weir_str list)
{
    struct weir_str option;

    while (weir_str_next_element(&list, &option)) {
        if (++facts->options > WEIR_CONNECTION_OPTIONS_MAX || !weir_guard_name(option))
            return WEIR_EBADHEADER;
        if (weir_str_ieq(option, WEIR_STR("close")))
            facts->close = true;
        else if (weir_str_ieq(option, WEIR_STR("keep-alive")))
            facts->keep_alive = true;
        else if (weir_str_ieq(option, WEIR_STR("upgrade")))
            facts->wants_upgrade = true;
    }
    return 0;
}

static int take_length(struct facts *facts, struct weir_str value)
{
    /* A list of equal values could be repaired (RFC 9110 8.6): it never comes from an honest
     * sender. */
    if (facts->lengths++ || !weir_str_to_u64(value, &facts->length) || facts->length > INT64_MAX)
        return WEIR_EBADCL;
    return 0;
}

static int take_expect(struct facts *facts, struct weir_str value)
{
    return facts->expects++ || !weir_str_ieq(value, WEIR_STR("100-continue")) ? WEIR_EEXPECT : 0;
}

static int take_field(struct facts *facts, const struct weir_field *field, bool request)
{
    switch (field->id) {
    case WEIR_F_HOST:
        facts->host = field->value;
        return facts->hosts++ && request ? WEIR_EBADHOST : 0;
    case WEIR_F_CONTENT_LENGTH:
        return take_length(facts, field->value);
    case WEIR_F_TRANSFER_ENCODING:
        facts->coding = field->value;
        return facts->codings++ ? WEIR_EBADTE : 0;
    case WEIR_F_CONNECTION:
        return take_connection(facts, field->value);
    case WEIR_F_UPGRADE:
        facts->upgrade = field->value;
        facts->upgrades++;
        return 0;
    case WEIR_F_EXPECT:
        return request ? take_expect(facts, field->value) : 0;
    case WEIR_F_TE:
        facts->te_trailers |= weir_str_has_token(field->value, WEIR_STR("trailers"));
        return 0;
    case WEIR_F_SEC_WEBSOCKET_KEY:
        facts->ws_key = field->value;
        facts->ws_keys++;
        return 0;
    default:
        return 0;
    }
}

static int take_fields(struct facts *facts, const struct weir_message *msg)
{
    for (unsigned i = 0; i < msg->count; i++) {
        int err = msg->fields[i].id ? take_field(facts, &msg->fields[i], msg->request) : 0;

        if (err)
            return err;
    }
    return 0;
}

/* Transfer-Encoding is there: "chunked" alone is spoken; other lists of codings are named, the rest
 * is malformed. */
static int coding_ok(const struct facts *facts, bool http10)
{
    struct weir_str list = facts->coding, coding;
    bool any = false;

    if (http10 || facts->lengths)
        return WEIR_EBADTE;
    if (weir_str_ieq(facts->coding, WEIR_STR("chunked")))
        return 0;
    while (weir_str_next_element(&list, &coding)) {
        if (!weir_guard_name(coding) || weir_str_ieq(coding, WEIR_STR("chunked")))
            return WEIR_EBADTE;
        any = true;
    }
    return any ? WEIR_ETENOTIMPL : WEIR_EBADTE;
}

static void set_persistence(struct weir_message *msg, const struct facts *facts)
{
    msg->keep_alive = !facts->close && (!msg->http10 || facts->keep_alive);
}

/* ---- requests ---- */

static struct weir_str str_from(struct weir_str s, size_t at)
{
    return (struct weir_str){ s.ptr + at, s.len - at };
}

static int split_path(struct weir_message *msg, struct weir_str text)
{
    if (text.len && memchr(text.ptr, '#', text.len))
        return WEIR_EBADTARGET;
    msg->path = weir_str_cut(text, '?', &msg->query);
    return 0;
}

/* scheme "://" authority [path] ["?" query]: the authority counts, not Host (RFC 9112 3.2.2). */
static int absolute_target(struct weir_message *msg, struct weir_str target)
{
    struct weir_str rest;
    size_t scheme = 4, end;
    int err;

    if (target.len > 4 && weir_lower(target.ptr[4]) == 's')
        scheme = 5;
    if (target.len < scheme + 3 || memcmp(target.ptr + scheme, "://", 3) != 0 ||
        !weir_str_ieq((struct weir_str){ target.ptr, scheme },
                      (struct weir_str){ "https", scheme }))
        return WEIR_EBADTARGET;
    msg->scheme = (struct weir_str){ target.ptr, scheme };
    rest = str_from(target, scheme + 3);
    for (end = 0; end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?'; end++)
        continue;
    msg->host = (struct weir_str){ rest.ptr, end };
    if (!weir_guard_host(msg->host, false))
        return WEIR_EBADTARGET;
    err = split_path(msg, str_from(rest, end));
    if (err)
        return err;
    msg->form = WEIR_T_ABSOLUTE;
    if (msg->path.len)
        return 0;
    if (msg->method_id == WEIR_M_OPTIONS && !msg->query.ptr) { /* RFC 9112 3.2.4 */
        msg->form = WEIR_T_ASTERISK;
        msg->path = WEIR_STR("*");
    } else {
        msg->path = WEIR_STR("/");
    }
    return 0;
}

static int authority_target(struct weir_message *msg, struct weir_str target)
{
    struct weir_str last = target, rest = target;

    if (!weir_guard_host(target, false))
        return WEIR_EBADTARGET;
    while (rest.ptr &&
           rest.len) /* the part behind the last colon is the port, and CONNECT has one */
        last = rest, weir_str_cut(rest, ':', &rest);
    if (last.len == target.len || last.ptr[last.len - 1] == ']' || last.ptr[last.len - 1] == ':')
        return WEIR_EBADTARGET;
    msg->form = WEIR_T_AUTHORITY;
    msg->host = target;
    msg->path = WEIR_STR("");
    return 0;
}

/* The target as it came is in msg->path. */
static int set_target(struct weir_message *msg)
{
    struct weir_str target = msg->path;

    if (msg->method_id == WEIR_M_CONNECT)
        return authority_target(msg, target);
    if (target.len == 0)
        return WEIR_EBADTARGET;
    if (target.ptr[0] == '/') {
        msg->form = WEIR_T_ORIGIN;
        return split_path(msg, target);
    }
    if (weir_str_eq(target, WEIR_STR("*"))) {
        msg->form = WEIR_T_ASTERISK;
        return msg->method_id == WEIR_M_OPTIONS ? 0 : WEIR_EBADTARGET;
    }
    return absolute_target(msg, target);
}

static int set_host(struct weir_message *msg, const struct facts *facts)
{
    if (!facts->hosts && !msg->http10)
        return WEIR_EBADHOST;
    if (facts->hosts && !weir_guard_host(facts->host, msg->http10 || msg->host.ptr))
        return WEIR_EBADHOST;
    if (!msg->host.ptr) {
        msg->host = facts->host.ptr ? facts->host : WEIR_STR("");
        return 0;
    }
    for (unsigned i = 0; i < msg->count; i++) /* the authority of the target has won */
        if (msg->fields[i].id == WEIR_F_HOST)
            msg->fields[i].value = msg->host;
    return 0;
}

/* 16 bytes in base64 (RFC 6455 4.2.1) */
static bool websocket_key_ok(struct weir_str key)
{
    if (key.len != 24 || key.ptr[22] != '=' || key.ptr[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++) {
        char c = key.ptr[i], lower = weir_lower(c);

        if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') && c != '+' && c != '/')
            return false;
    }
    return true;
}

static bool is_protocol(struct weir_str text)
{
    struct weir_str version, name = weir_str_cut(text, '/', &version);

    return weir_guard_name(name) && (version.ptr == NULL || weir_guard_name(version));
}

/* One protocol, on a request that has no body: what else asks for an upgrade is answered as if it
 * did not (RFC 9110 7.8). */
static int set_upgrade(struct weir_message *msg, const struct facts *facts)
{
    if (!facts->wants_upgrade || facts->upgrades != 1 || facts->close || msg->http10 ||
        facts->codings || facts->length || msg->method_id == WEIR_M_CONNECT ||
        !is_protocol(facts->upgrade))
        return 0;
    if (weir_str_ieq(facts->upgrade, WEIR_STR("websocket")) &&
        (msg->method_id != WEIR_M_GET || facts->ws_keys != 1 || !websocket_key_ok(facts->ws_key)))
        return WEIR_EUPGRADE;
    msg->upgrade = facts->upgrade;
    return 0;
}

static int set_request_body(struct weir_message *msg, const struct facts *facts)
{
    int err;

    if (facts->codings) {
        err = coding_ok(facts, msg->http10);
        if (err)
            return err;
        msg->body = WEIR_BODY_CHUNKED;
    } else {
        msg->body = facts->lengths ? WEIR_BODY_LENGTH : WEIR_BODY_NONE;
        msg->length = facts->length;
    }
    if (msg->method_id == WEIR_M_CONNECT && (facts->codings || facts->length))
        return facts->codings ? WEIR_EBADTE : WEIR_EBADCL;
    return 0;
}

/* Only a 1.1 request that has a body can wait for a 100 (RFC 9110 10.1.1); other expectations of it
 * are void. */
static void set_expect(struct weir_message *msg, const struct facts *facts)
{
    bool body = msg->body == WEIR_BODY_CHUNKED || msg->length > 0;

    if (!facts->expects)
        return;
    msg->expect_continue = body && !msg->http10;
    if (!msg->expect_continue)
        weir_message_drop(msg, WEIR_F_EXPECT);
}

int weir_guard_request(struct weir_message *msg)
{
    struct facts facts = { .length = 0 };
    int err;

    msg->method_id = (uint8_t)weir_method_id(msg->method);
    err = take_fields(&facts, msg);
    if (!err)
        err = set_target(msg);
    if (!err)
        err = set_host(msg, &facts);
    if (!err)
        err = set_request_body(msg, &facts);
    if (!err)
        err = set_upgrade(msg, &facts);
    if (err)
        return err;
    set_expect(msg, &facts);
    set_persistence(msg, &facts);
    msg->te_trailers = facts.te_trailers && !msg->http10;
    return 0;
}

/* ---- answers ---- */

static int switch_protocols(struct weir_message *msg, const struct facts *facts, bool asked)
{
    if (!asked)
        return WEIR_EUPSWITCH;
    if (msg->http10 || !facts->wants_upgrade || facts->upgrades != 1 ||
        !is_protocol(facts->upgrade))
        return WEIR_EUPSWITCH;
    if (facts->codings || facts->lengths)
        return WEIR_EBADCL;
    msg->upgrade = facts->upgrade;
    msg->body = WEIR_BODY_TUNNEL;
    return 0;
}

/* 204 with a length or a coding is wrong but common: it ends at its head, and the connection with
 * it if more could come. */
static void end_at_head(struct weir_message *msg, const struct facts *facts)
{
    msg->body = WEIR_BODY_NONE;
    if (msg->status != 204)
        return;
    if (facts->codings || facts->length)
        msg->keep_alive = false;
    weir_message_drop(msg, WEIR_F_CONTENT_LENGTH);
    weir_message_drop(msg, WEIR_F_TRANSFER_ENCODING);
}

static int set_response_body(struct weir_message *msg, const struct facts *facts,
                             enum weir_method asked)
{
    if (facts->codings) {
        int err = coding_ok(facts, msg->http10);

        if (err)
            return err;
    }
    msg->length = facts->length;
    if (asked == WEIR_M_HEAD || msg->status == 204 || msg->status == 304) {
        end_at_head(msg, facts);
    } else if (facts->codings) {
        msg->body = WEIR_BODY_CHUNKED;
    } else if (facts->lengths) {
        msg->body = WEIR_BODY_LENGTH;
    } else {
        msg->body = WEIR_BODY_CLOSE;
        msg->keep_alive = false;
    }
    return 0;
}

int weir_guard_response(struct weir_message *msg, enum weir_method asked, bool upgrade_asked)
{
    struct facts facts = { .length = 0 };
    int err;

    if (msg->status < 100 || msg->status > 599)
        return WEIR_EBADLINE;
    err = take_fields(&facts, msg);
    if (err)
        return err;
    set_persistence(msg, &facts);
    if (msg->status == 101)
        return switch_protocols(msg, &facts, upgrade_asked);
    if (msg->status < 200) {
        /* A length here would make the next head its body for a lenient reader (RFC 9110 8.6). */
        if (facts.codings || facts.lengths)
            return WEIR_EBADCL;
        msg->body = WEIR_BODY_NONE;
        return 0;
    }
    if (asked == WEIR_M_CONNECT && msg->status < 300) {
        weir_message_drop(msg, WEIR_F_CONTENT_LENGTH); /* RFC 9110 9.3.6: ignored */
        weir_message_drop(msg, WEIR_F_TRANSFER_ENCODING);
        msg->body = WEIR_BODY_TUNNEL;
        return 0;
    }
    return set_response_body(msg, &facts, asked);
}

int weir_guard_trailer(struct weir_message *trailer)
{
    static const uint64_t refused =
        UINT64_C(1) << WEIR_F_TRAILER | UINT64_C(1) << WEIR_F_EXPECT |
        UINT64_C(1) << WEIR_F_COOKIE | UINT64_C(1) << WEIR_F_SET_COOKIE |
        UINT64_C(1) << WEIR_F_AUTHORIZATION | UINT64_C(1) << WEIR_F_PROXY_AUTHORIZATION |
        UINT64_C(1) << WEIR_F_PROXY_AUTHENTICATE | UINT64_C(1) << WEIR_F_WWW_AUTHENTICATE |
        UINT64_C(1) << WEIR_F_FORWARDED | UINT64_C(1) << WEIR_F_X_FORWARDED_FOR |
        UINT64_C(1) << WEIR_F_X_FORWARDED_PROTO | UINT64_C(1) << WEIR_F_X_FORWARDED_HOST |
        UINT64_C(1) << WEIR_F_X_FORWARDED_PORT | UINT64_C(1) << WEIR_F_CONTENT_TYPE |
        UINT64_C(1) << WEIR_F_CONTENT_ENCODING | UINT64_C(1) << WEIR_F_LOCATION;

    if (trailer->has & refused)
        return WEIR_EBADTRAILER;
    for (unsigned i = 0; i < trailer->count; i++)
        if (weir_field_flags(trailer->fields[i].id) & (WEIR_FIELD_FRAMING | WEIR_FIELD_HOP))
            return WEIR_EBADTRAILER;
    return 0;
}
