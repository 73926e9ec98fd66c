/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_nv.c: heads and trailers as nghttp2 takes them, always from the model: pseudo fields first, then the fields, without
 * those that frame the message or belong to one hop. nghttp2 copies the text (and makes names small on the way), since a
 * message may be gone before its frame is written.
 */
#include "http/h2_priv.h"

#include <stdlib.h>

enum {
    PSEUDO_MAX = 8, /* pseudo fields, TE, Content-Length */
    CRUMBS_MAX = 64,
};

static void add(struct weir_h2_nva *nva, struct weir_str name, struct weir_str value, uint8_t flags)
{
    nva->at[nva->count++] = (nghttp2_nv){
        .name = (uint8_t *)(uintptr_t)name.ptr,
        .namelen = name.len,
        .value = (uint8_t *)(uintptr_t)(value.ptr ? value.ptr : ""),
        .valuelen = value.len,
        .flags = flags,
    };
}

/* Names of ours are small, and stay. */
#define ADD_FLAGGED(nva, literal, value, flags) \
    add(nva, WEIR_STR(literal), value, NGHTTP2_NV_FLAG_NO_COPY_NAME | (flags))
#define ADD(nva, literal, value) ADD_FLAGGED(nva, literal, value, 0)

static uint8_t index_flag(bool never_indexed)
{
    return never_indexed ? NGHTTP2_NV_FLAG_NO_INDEX : 0;
}

static unsigned crumbs_in(struct weir_str cookie)
{
    unsigned n = 1;

    for (size_t i = 0; i < cookie.len && n < CRUMBS_MAX; i++)
        n += cookie.ptr[i] == ';';
    return n;
}

/* Each crumb by itself is found again in the table of HPACK. */
static void add_cookie(struct weir_h2_nva *nva, struct weir_str cookie, uint8_t flags)
{
    for (unsigned n = 1; n < CRUMBS_MAX; n++) {
        const char *end = cookie.len ? memchr(cookie.ptr, ';', cookie.len - 1) : NULL;
        size_t len;

        if (!end || end[1] != ' ')
            break;
        len = (size_t)(end - cookie.ptr);
        ADD_FLAGGED(nva, "cookie", ((struct weir_str){ cookie.ptr, len }), flags);
        cookie = (struct weir_str){ end + 2, cookie.len - len - 2 };
    }
    ADD_FLAGGED(nva, "cookie", cookie, flags);
}

static bool is_skipped(const struct weir_field *field, bool chunked, bool tunnel)
{
    if (field->id == WEIR_F_OTHER)
        return false;
    if (field->id == WEIR_F_TRAILER)
        return !chunked;
    /* What proves the switch on h1 has no place in an extended CONNECT (RFC 8441 5). */
    if (field->id == WEIR_F_SEC_WEBSOCKET_KEY || field->id == WEIR_F_SEC_WEBSOCKET_ACCEPT)
        return tunnel;
    return weir_field_flags(field->id) & (WEIR_FIELD_HOP | WEIR_FIELD_FRAMING);
}

static void add_fields(struct weir_h2_nva *nva, const struct weir_message *msg, bool chunked,
                       bool tunnel)
{
    for (unsigned i = 0; i < msg->count; i++) {
        const struct weir_field *field = &msg->fields[i];
        uint8_t flags = index_flag(field->never_indexed);

        if (is_skipped(field, chunked, tunnel))
            continue;
        if (field->id == WEIR_F_COOKIE)
            add_cookie(nva, field->value, flags);
        else if (field->id)
            add(nva, weir_field_name(field->id), field->value,
                flags | NGHTTP2_NV_FLAG_NO_COPY_NAME);
        else
            add(nva, field->name, field->value, flags);
    }
}

static unsigned fields_bound(const struct weir_message *msg)
{
    unsigned n = PSEUDO_MAX + msg->count;

    if (msg->has & UINT64_C(1) << WEIR_F_COOKIE)
        for (unsigned i = 0; i < msg->count; i++)
            if (msg->fields[i].id == WEIR_F_COOKIE)
                n += crumbs_in(msg->fields[i].value);
    return n;
}

static void add_length(struct weir_h2_nva *nva, char *text, uint64_t length)
{
    ADD(nva, "content-length", ((struct weir_str){ text, weir_u64_to_str(length, text) }));
}

/* Path and query as one text. */
static struct weir_str target_of(const struct weir_message *msg, struct weir_arena *arena)
{
    struct weir_str path = msg->path, whole;
    char *text;

    if (msg->form == WEIR_T_ASTERISK)
        return WEIR_STR("*");
    if (!msg->query.ptr)
        return path;
    whole.len = path.len + 1 + msg->query.len;
    if (msg->query.ptr == path.ptr + path.len + 1 && path.ptr[path.len] == '?') /* as it came */
        return (struct weir_str){ path.ptr, whole.len };
    whole.ptr = text = weir_arena_text(arena, whole.len);
    if (!text)
        return whole;
    memcpy(text, path.ptr, path.len);
    text[path.len] = '?';
    memcpy(text + path.len + 1, msg->query.ptr, msg->query.len);
    return whole;
}

static int add_request(struct weir_h2_nva *nva, char *text, const struct weir_h2_stream *s,
                       const struct weir_message *head)
{
    /* That of this connection, whatever the client had: some servers refuse another. */
    struct weir_str scheme = s->h2->secure ? WEIR_STR("https") : WEIR_STR("http");
    uint8_t flags = index_flag(head->never_indexed);
    struct weir_str target;

    if (head->form == WEIR_T_AUTHORITY) {
        ADD(nva, ":method", WEIR_STR("CONNECT"));
        ADD_FLAGGED(nva, ":authority", head->host, flags);
    } else {
        target = target_of(head, s->hs->arena);
        if (!target.ptr)
            return WEIR_ENOMEM;
        ADD(nva, ":method", head->upgrade.len ? WEIR_STR("CONNECT") : head->method);
        ADD(nva, ":scheme", scheme);
        ADD_FLAGGED(nva, ":authority", head->host, flags);
        ADD_FLAGGED(nva, ":path", target, flags);
        if (head->upgrade.len)
            ADD(nva, ":protocol", head->upgrade);
    }
    add_fields(nva, head, head->body == WEIR_BODY_CHUNKED, head->upgrade.len > 0);
    if (head->te_trailers)
        ADD(nva, "te", WEIR_STR("trailers"));
    if (head->body == WEIR_BODY_LENGTH)
        add_length(nva, text, head->length);
    return 0;
}

/* Of a body that is not sent: what its length would have been (RFC 9110 8.6). */
static bool length_known(const struct weir_message *head)
{
    return head->body == WEIR_BODY_LENGTH ? head->length > 0
                                          : (head->has & UINT64_C(1) << WEIR_F_CONTENT_LENGTH) != 0;
}

static int add_answer(struct weir_h2_nva *nva, char *text, const struct weir_h2_stream *s,
                      const struct weir_message *head)
{
    int status = head->status == 101 ? 200 : head->status;

    for (unsigned i = 0, unit = 100; i < 3; i++, unit /= 10)
        text[i] = (char)('0' + status / (int)unit % 10);
    ADD(nva, ":status", ((struct weir_str){ text, 3 }));
    add_fields(nva, head, head->body == WEIR_BODY_CHUNKED, s->tunnel_asked);
    if (status < 200 || head->status == 204 || head->body == WEIR_BODY_TUNNEL)
        return 0;
    if ((s->out_body == WEIR_BODY_LENGTH && head->body == WEIR_BODY_LENGTH) ||
        (s->out_body == WEIR_BODY_NONE && (s->asked.method == WEIR_M_HEAD || status == 304) &&
         length_known(head)))
        add_length(nva, text + 3, head->length);
    return 0;
}

int weir_h2_nva_head(struct weir_h2_nva *nva, nghttp2_nv *space, char *text,
                     const struct weir_h2_stream *s, const struct weir_message *head)
{
    unsigned bound = fields_bound(head);

    *nva = (struct weir_h2_nva){ .at = space };
    if (bound > H2_NV_STACK)
        nva->at = weir_arena_alloc(s->hs->arena, bound * sizeof(*nva->at));
    if (!nva->at)
        return WEIR_ENOMEM;
    return head->request ? add_request(nva, text, s, head) : add_answer(nva, text, s, head);
}

/* ---- trailers ---- */

static bool goes(const struct weir_field *field)
{
    return field->id != WEIR_F_TRAILER && !is_skipped(field, false, false);
}

struct weir_h2_trailer *weir_h2_trailer_new(const struct weir_message *msg)
{
    struct weir_h2_nva nva;
    struct weir_h2_trailer *trailer;
    size_t bytes = sizeof(*trailer);
    char *text;

    for (unsigned i = 0; i < msg->count; i++)
        if (goes(&msg->fields[i]))
            bytes += sizeof(nghttp2_nv) + msg->fields[i].name.len + msg->fields[i].value.len;
    trailer = malloc(bytes);
    if (!trailer)
        return NULL;
    nva = (struct weir_h2_nva){ .at = trailer->nv };
    text = (char *)trailer + bytes; /* texts from the end */
    for (unsigned i = 0; i < msg->count; i++) {
        struct weir_str name = msg->fields[i].name, value = msg->fields[i].value;

        if (!goes(&msg->fields[i]))
            continue;
        text -= name.len + value.len;
        memcpy(text, name.ptr, name.len);
        if (value.len)
            memcpy(text + name.len, value.ptr, value.len);
        add(&nva, (struct weir_str){ text, name.len },
            (struct weir_str){ text + name.len, value.len },
            index_flag(msg->fields[i].never_indexed));
    }
    trailer->count = nva.count;
    return trailer;
}

int weir_h2_trailer_submit(struct weir_h2_stream *s)
{
    struct weir_h2_trailer *trailer = s->trailer;
    int err;

    s->trailer = NULL;
    err = nghttp2_submit_trailer(s->h2->session, s->id, trailer->nv, trailer->count);
    free(trailer);
    return err ? WEIR_ENOMEM : 0;
}
