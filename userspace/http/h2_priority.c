/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h2_priority.c: whose DATA goes first (RFC 9218). nghttp2 keeps the order, and reads the Priority field of requests.
 * PRIORITY_UPDATE is read here: nghttp2 (1.52) would open the stream of one that comes before its request, and leave it on
 * its list of idle streams when the request opens it in earnest, where it is found again after it was freed. Here such a
 * frame opens nothing: what it says is kept for the last few ids, until their requests come.
 */
#include "http/h2_priv.h"

enum { ID_BYTES = 4 };

static void apply(struct weir_h2 *h2, int32_t id, uint8_t urgency, bool incremental)
{
    enum { NO_FIELD = 1 }; /* nghttp2 applies the field last: not to this one */
    nghttp2_extpri priority = { .urgency = urgency, .inc = incremental };

    (void)nghttp2_session_change_extpri_stream_priority(h2->session, id, &priority, NO_FIELD);
}

/* A client that says nothing means no order: its streams take turns. What PRIORITY_UPDATE says counts more than the
 * field (RFC 9218 7). */
void weir_h2_priority_begin(struct weir_h2_stream *s, bool header)
{
    struct weir_h2_priorities *p = &s->h2->priorities;

    for (int i = 0; i < H2_PRIORITIZED; i++)
        if (p->early[i].id == s->id) {
            apply(s->h2, s->id, p->early[i].urgency, p->early[i].incremental);
            return;
        }
    if (!header)
        apply(s->h2, s->id, NGHTTP2_EXTPRI_DEFAULT_URGENCY, true);
}

/* The two members that RFC 9218 4 knows; others, and values that it does not know, are passed over. */
static void parse(struct weir_str text, uint8_t *urgency, bool *incremental)
{
    struct weir_str member;

    while (weir_str_next_element(&text, &member)) {
        struct weir_str rest;

        member = weir_str_cut(member, ';', &rest);
        if (member.len == 3 && memcmp(member.ptr, "u=", 2) == 0 && member.ptr[2] >= '0' &&
            member.ptr[2] <= '0' + NGHTTP2_EXTPRI_URGENCY_LOW)
            *urgency = (uint8_t)(member.ptr[2] - '0');
        else if (weir_str_is(member, "i") || weir_str_is(member, "i=?1"))
            *incremental = true;
        else if (weir_str_is(member, "i=?0"))
            *incremental = false;
    }
}

static void keep(struct weir_h2_priorities *p, int32_t id, uint8_t urgency, bool incremental)
{
    int at = -1;

    for (int i = 0; i < H2_PRIORITIZED; i++)
        if (p->early[i].id == id)
            at = i;
    if (at < 0)
        at = p->early_at++ % H2_PRIORITIZED;
    p->early[at].id = id;
    p->early[at].urgency = urgency;
    p->early[at].incremental = incremental;
}

/* The payload is whole. */
static void on_update(struct weir_h2 *h2)
{
    struct weir_h2_priorities *p = &h2->priorities;
    const uint8_t *id_at = p->frame;
    uint8_t urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY;
    bool incremental = false;
    int32_t id;

    if (p->len < ID_BYTES) {
        weir_h2_break(h2, NGHTTP2_FRAME_SIZE_ERROR);
        return;
    }
    id = (id_at[0] & 127) << 24 | id_at[1] << 16 | id_at[2] << 8 | id_at[3];
    if (id % 2 == 0) { /* RFC 9218 7.1: 0, or a push, of which there are none */
        weir_h2_break(h2, NGHTTP2_PROTOCOL_ERROR);
        return;
    }
    parse((struct weir_str){ (const char *)p->frame + ID_BYTES, p->len - ID_BYTES }, &urgency,
          &incremental);
    if (nghttp2_session_get_stream_user_data(h2->session, id))
        apply(h2, id, urgency, incremental);
    else if (id > nghttp2_session_get_last_proc_stream_id(h2->session))
        keep(p, id, urgency, incremental);
}

int weir_h2_on_priority_bytes(nghttp2_session *session, const nghttp2_frame_hd *hd,
                              const uint8_t *data, size_t len, void *arg)
{
    struct weir_h2_priorities *p = &((struct weir_h2 *)arg)->priorities;

    if (hd->length > H2_PRIORITY_BYTES_MAX)
        return NGHTTP2_ERR_CANCEL;
    memcpy(p->frame + p->len, data, len);
    p->len += (uint8_t)len;
    return 0;
}

/* nghttp2 asks for what it is to hand on: nothing, since it lies here. */
int weir_h2_on_priority_end(nghttp2_session *session, void **payload, const nghttp2_frame_hd *hd,
                            void *arg)
{
    struct weir_h2 *h2 = arg;

    on_update(h2);
    h2->priorities.len = 0;
    return NGHTTP2_ERR_CANCEL;
}
