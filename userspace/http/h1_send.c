/* SPDX-License-Identifier: Apache-2.0 */
/**
 * h1_send.c: messages onto the wire, always from the model. What frames a message is written here
 * and nowhere else: the fields of the model that frame it or belong to one hop are passed over.
 * Head, chunk framing, pieces and trailer of one send go out in one gathered output; the text
 * between the pieces is composed on the stack, or in the arena when a head is larger than that.
 */
#include "http/h1_priv.h"

#include "base/buf.h"
#include "base/panic.h"

enum {
    SCRATCH_BYTES = 8192,
    COPY_BYTES_MAX = 4096, /* a body up to this is copied behind its head: one buffer costs the
                              kernel less than a vector of two */
    FRAMING_BYTES = 320, /* what we add to a head: Connection, Upgrade, TE, Content-Length, a chunk
                            size, the last chunk */
    PIECES_MAX = 16,     /* of a body in one output */
};

/* ---- text ---- */

static char *put(char *at, struct weir_str text)
{
    if (text.len)
        memcpy(at, text.ptr, text.len);
    return at + text.len;
}

#define PUT(at, literal) put(at, WEIR_STR(literal))

static char *put_hex(char *at, size_t value)
{
    unsigned shift = 0;

    while (value >> shift > 15)
        shift += 4;
    for (;; shift -= 4) {
        *at++ = "0123456789abcdef"[value >> shift & 15];
        if (!shift)
            return at;
    }
}

static char *put_length(char *at, uint64_t length)
{
    at = PUT(at, "Content-Length: ");
    at += weir_u64_to_str(length, at);
    return PUT(at, "\r\n");
}

static bool is_skipped(const struct weir_field *field, uint8_t body)
{
    if (field->id == WEIR_F_OTHER)
        return false;
    return field->id == WEIR_F_TRAILER
               ? body != WEIR_BODY_CHUNKED
               : weir_field_flags(field->id) & (WEIR_FIELD_HOP | WEIR_FIELD_FRAMING);
}

/* "name: value" lies in the head as it came: one copy instead of three. Text that only happens to lie so reads the same. */
static bool is_as_received(const struct weir_field *field)
{
    const char *end = field->name.ptr + field->name.len;

    return field->value.ptr == end + 2 && end[0] == ':' && end[1] == ' ';
}

static char *put_fields(char *at, const struct weir_message *msg, uint8_t body)
{
    for (unsigned i = 0; i < msg->count; i++) {
        const struct weir_field *field = &msg->fields[i];

        if (is_skipped(field, body))
            continue;
        if (is_as_received(field)) {
            at = put(at,
                     (struct weir_str){ field->name.ptr, field->name.len + 2 + field->value.len });
        } else {
            at = put(at, field->name);
            at = PUT(at, ": ");
            at = put(at, field->value);
        }
        at = PUT(at, "\r\n");
    }
    return at;
}

/* At most this much text for a head or a trailer. */
static size_t text_bound(const struct weir_message *msg)
{
    size_t bytes = 0;

    if (!msg)
        return 0;
    bytes = msg->method.len + msg->path.len + msg->query.len + 2 * msg->host.len + msg->reason.len +
            msg->upgrade.len;
    for (unsigned i = 0; i < msg->count; i++)
        bytes += msg->fields[i].name.len + msg->fields[i].value.len + 4;
    return bytes;
}

/* ---- heads ---- */

/* How the body of an answer goes out. */
static uint8_t answer_body(const struct weir_h1 *h1, const struct weir_message *head)
{
    if (head->body == WEIR_BODY_TUNNEL)
        return WEIR_BODY_TUNNEL;
    if (h1->asked == WEIR_M_HEAD || head->status == 204 || head->status == 304)
        return WEIR_BODY_NONE;
    if (head->body == WEIR_BODY_CHUNKED ||
        head->body == WEIR_BODY_CLOSE) /* an end that can be told from a cut */
        return h1->http10_peer ? WEIR_BODY_CLOSE : WEIR_BODY_CHUNKED;
    return WEIR_BODY_LENGTH;
}

/* Where a body means something its absence is said (RFC 9110 8.6): HTTP/2 says it by END_STREAM, and some servers of
 * HTTP/1.1 answer 411 to silence. */
static bool expects_body(const struct weir_message *head)
{
    return !head->upgrade.len && (head->method_id == WEIR_M_POST || head->method_id == WEIR_M_PUT ||
                                  head->method_id == WEIR_M_PATCH);
}

static char *put_request(char *at, struct weir_h1 *h1, const struct weir_message *head)
{
    at = put(at, head->method);
    at = PUT(at, " ");
    if (head->form == WEIR_T_AUTHORITY) {
        at = put(at, head->host);
    } else {
        at = put(at, head->form == WEIR_T_ASTERISK ? WEIR_STR("*") : head->path);
        if (head->query.ptr) {
            at = PUT(at, "?");
            at = put(at, head->query);
        }
    }
    at = PUT(at, " HTTP/1.1\r\nHost: ");
    at = put(at, head->host);
    at = PUT(at, "\r\n");
    at = put_fields(at, head, h1->out_body);
    if (head->te_trailers)
        at = PUT(at, "TE: trailers\r\n");
    if (head->upgrade.len) {
        at = PUT(at, "Upgrade: ");
        at = put(at, head->upgrade);
        at = head->te_trailers ? PUT(at, "\r\nConnection: Upgrade, TE\r\n")
                               : PUT(at, "\r\nConnection: Upgrade\r\n");
    } else if (head->te_trailers) {
        at = PUT(at, "Connection: TE\r\n");
    }
    if (h1->out_body == WEIR_BODY_CHUNKED)
        at = PUT(at, "Transfer-Encoding: chunked\r\n");
    else if (h1->out_body == WEIR_BODY_LENGTH)
        at = put_length(at, head->length);
    else if (h1->out_body == WEIR_BODY_NONE && expects_body(head))
        at = put_length(at, 0);
    return PUT(at, "\r\n");
}

static char *put_status(char *at, const struct weir_message *head)
{
    int status = head->status;

    at = PUT(at, "HTTP/1.1 ");
    *at++ = (char)('0' + status / 100 % 10);
    *at++ = (char)('0' + status / 10 % 10);
    *at++ = (char)('0' + status % 10);
    at = PUT(at, " ");
    at = put(at, head->reason);
    return PUT(at, "\r\n");
}

static char *put_answer_framing(char *at, const struct weir_h1 *h1, const struct weir_message *head)
{
    bool known = head->body == WEIR_BODY_LENGTH
                     ? head->length > 0
                     : (head->has & UINT64_C(1) << WEIR_F_CONTENT_LENGTH) != 0;

    if (h1->out_body == WEIR_BODY_CHUNKED)
        return PUT(at, "Transfer-Encoding: chunked\r\n");
    if (h1->out_body == WEIR_BODY_LENGTH)
        return put_length(at, h1->left_out);
    /* Of a body that is not sent: what its length would have been (RFC 9110 8.6). */
    if (h1->out_body == WEIR_BODY_NONE && head->status != 204 && known)
        return put_length(at, head->length);
    return at;
}

/* Says whether the connection goes on, and makes it so. */
static char *put_persistence(char *at, struct weir_h1 *h1, const struct weir_message *head,
                             unsigned flags)
{
    bool cut = (flags & WEIR_SEND_END) &&
               h1->in != H1_IN_DONE; /* the rest of the request will not be read as such */

    if (head->body == WEIR_BODY_TUNNEL) {
        h1->keep_alive = false;
        if (head->status != 101)
            return at;
        at = PUT(at, "Connection: Upgrade\r\nUpgrade: ");
        at = put(at, head->upgrade);
        return PUT(at, "\r\n");
    }
    if (h1->dead || h1->closing || cut || h1->out_body == WEIR_BODY_CLOSE)
        h1->keep_alive = false;
    if (!h1->keep_alive)
        return PUT(at, "Connection: close\r\n");
    return h1->keep_alive_asked ? PUT(at, "Connection: keep-alive\r\n") : at;
}

static char *put_answer(char *at, struct weir_h1 *h1, const struct weir_message *head,
                        unsigned flags)
{
    at = put_status(at, head);
    at = put_fields(at, head, h1->out_body);
    at = put_answer_framing(at, h1, head);
    at = put_persistence(at, h1, head, flags);
    return PUT(at, "\r\n");
}

static bool is_interim(const struct weir_message *head)
{
    return !head->request && head->status < 200 && head->status != 101;
}

static int put_interim(struct weir_h1 *h1, const struct weir_message *head, char *text)
{
    struct iovec iov = { .iov_base = text };
    char *at = text;

    if (h1->role != H1_SERVER || h1->out != H1_OUT_HEAD)
        return WEIR_EFRAMING;
    if (h1->http10_peer) /* does not know what that is (RFC 9110 15.2) */
        return 0;
    at = put_status(at, head);
    at = put_fields(at, head, WEIR_BODY_NONE);
    at = PUT(at, "\r\n");
    iov.iov_len = (size_t)(at - text);
    h1->codec.sink->on_output(h1->codec.arg, &iov, 1);
    return 0;
}

/* What later events are judged by: the method, and the protocol that an answer may switch to. */
static int remember_request(struct weir_h1 *h1, const struct weir_message *head)
{
    struct weir_str *upgrade;

    h1->asked = head->method_id;
    if (!head->upgrade.len)
        return 0;
    upgrade = weir_arena_alloc(h1->hs->arena, sizeof(*upgrade));
    if (!upgrade)
        return WEIR_ENOMEM;
    *upgrade = weir_arena_copy(h1->hs->arena, head->upgrade);
    h1->upgrade = upgrade;
    return upgrade->ptr ? 0 : WEIR_ENOMEM;
}

static int begin_message(struct weir_h1 *h1, const struct weir_message *head)
{
    int err;

    if (h1->out != H1_OUT_HEAD || head->request != (h1->role == H1_CLIENT))
        return WEIR_EFRAMING;
    if (head->request && (head->body == WEIR_BODY_CLOSE || head->body == WEIR_BODY_TUNNEL))
        return WEIR_EFRAMING;
    err = head->request ? remember_request(h1, head) : 0;
    if (err)
        return err;
    h1->out_body = head->request ? head->body : answer_body(h1, head);
    h1->left_out = head->body == WEIR_BODY_LENGTH ? head->length : 0;
    h1->out = H1_OUT_BODY;
    return 0;
}

/* ---- bodies ---- */

/* Counts `bytes` against the framing; *drop: they are not for the wire. */
static int count_body(struct weir_h1 *h1, size_t bytes, bool end, bool *drop)
{
    *drop = false;
    switch (h1->out_body) {
    case WEIR_BODY_LENGTH:
        if (bytes > h1->left_out || (end && bytes != h1->left_out))
            return WEIR_EFRAMING;
        h1->left_out -= bytes;
        return 0;
    case WEIR_BODY_NONE:
        *drop = true;
        return bytes && h1->role == H1_CLIENT ? WEIR_EFRAMING : 0;
    default:
        return 0;
    }
}

/* The text behind the pieces. */
static char *put_end(char *at, const struct weir_h1 *h1, bool any,
                     const struct weir_message *trailer, bool end)
{
    if (h1->out_body != WEIR_BODY_CHUNKED)
        return at;
    if (any)
        at = PUT(at, "\r\n");
    if (!end)
        return at;
    at = PUT(at, "0\r\n");
    if (trailer)
        at = put_fields(at, trailer, WEIR_BODY_NONE);
    return PUT(at, "\r\n");
}

/* One output, unless there are more pieces than anybody gathers. */
static void emit(struct weir_h1 *h1, struct weir_str before, const struct iovec *body, int count,
                 struct weir_str after)
{
    struct iovec iov[PIECES_MAX + 2];
    int n = 0;

    if (before.len)
        iov[n++] = (struct iovec){ (void *)(uintptr_t)before.ptr, before.len };
    for (int i = 0; i < count; i++) {
        if (n > PIECES_MAX) {
            h1->codec.sink->on_output(h1->codec.arg, iov, n);
            n = 0;
        }
        if (body[i].iov_len)
            iov[n++] = body[i];
    }
    if (after.len)
        iov[n++] = (struct iovec){ (void *)(uintptr_t)after.ptr, after.len };
    if (n)
        h1->codec.sink->on_output(h1->codec.arg, iov, n);
}

static char *put_pieces(char *at, const struct iovec *body, int count)
{
    for (int i = 0; i < count; i++)
        at = put(at, (struct weir_str){ body[i].iov_base, body[i].iov_len });
    return at;
}

/* `room`: what the text has left, besides what `bound` of the head and trailer takes. */
static int send_body(struct weir_h1 *h1, char *text, char *at, size_t room,
                     const struct iovec *body, int count, const struct weir_message *trailer,
                     bool end)
{
    size_t bytes = weir_iov_len(body, count);
    char *after;
    bool drop;
    int err = count_body(h1, bytes, end, &drop);

    if (err) {
        h1->keep_alive = false;
        return err;
    }
    if (drop)
        bytes = 0, count = 0;
    if (bytes && h1->out_body == WEIR_BODY_CHUNKED) {
        at = put_hex(at, bytes);
        at = PUT(at, "\r\n");
    }
    after = at;
    if (at != text && bytes <= COPY_BYTES_MAX && bytes <= room) {
        after = at = put_pieces(at, body, count);
        count = 0;
    }
    at = put_end(at, h1, bytes > 0, trailer, end);
    if (end)
        h1->out = H1_OUT_DONE;
    emit(h1, (struct weir_str){ text, (size_t)(after - text) }, body, count,
         (struct weir_str){ after, (size_t)(at - after) });
    return 0;
}

int weir_h1_send(struct weir_hstream *hs, const struct weir_message *head, const struct iovec *body,
                 int count, const struct weir_message *trailer, unsigned flags)
{
    struct weir_h1 *h1 = weir_h1_of(hs->codec);
    size_t bound = text_bound(head) + text_bound(trailer) + FRAMING_BYTES;
    char scratch[SCRATCH_BYTES], *text = scratch, *at;
    int err;

    if (h1->hs != hs)
        return WEIR_ECLOSED;
    if (bound > sizeof(scratch)) {
        text = weir_arena_text(hs->arena, bound);
        if (!text)
            return WEIR_ENOMEM;
    }
    if (head && is_interim(head))
        return put_interim(h1, head, text);
    at = text;
    if (head) {
        err = begin_message(h1, head);
        if (err)
            return err;
        at = head->request ? put_request(at, h1, head) : put_answer(at, h1, head, flags);
    } else if (h1->out != H1_OUT_BODY) {
        return WEIR_EFRAMING;
    }
    return send_body(h1, text, at, text == scratch ? sizeof(scratch) - bound : 0, body, count,
                     trailer, flags & WEIR_SEND_END);
}

void weir_h1_refuse(struct weir_h1 *h1, enum weir_err why)
{
    char text[128], *at = text;
    struct weir_message head = { .status = weir_err_status(why) };
    struct iovec iov = { .iov_base = text };

    if (h1->role != H1_SERVER || h1->hs)
        return;
    h1->dead = true;
    if (head.status == 499) /* nobody is there */
        return;
    head.reason = weir_status_reason(head.status);
    at = put_status(at, &head);
    at = PUT(at, "Content-Length: 0\r\nConnection: close\r\n\r\n");
    iov.iov_len = (size_t)(at - text);
    h1->codec.sink->on_output(h1->codec.arg, &iov, 1);
}
