/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/access_log_text.h"

#include "base/str.h"
#include "net/stream.h"

#include <stdio.h>
#include <stdlib.h>

/* Shares of a line, in bytes of output. In JSON they add up to less than the line, with keys and
 * numbers: no line is ever cut at its end. Those of the long fields are more for files. */
enum {
    CAP_ID = 128,
    CAP_NAME = 128, /* listener, route, upstream, server */
    CAP_CLIENT = 64,
    CAP_METHOD = 32,
    CAP_HOST = 256,
    CAP_PATH = 768,
    CAP_QUERY = 512,
    CAP_PROTOCOL = 16,
    CAP_AGENT = 320,
    CAP_REFERER = 352,
    CAP_CIPHER = 48,
    CAP_SNI = 256,
    CAP_MOVER = 16,
    CAP_ERROR = 24,  /* names of our own and of errno: none is as long */
    CAP_GRPC = 88,   /* service, and method; the path, which they are parts of, gives way */
    GRPC_FIXED = 64, /* the keys and the status */
    FIXED = 744,     /* keys, numbers, time, punctuation, the error */
    SUM_SMALL = CAP_ID + 4 * CAP_NAME + CAP_CLIENT + CAP_METHOD + CAP_HOST + 2 * CAP_PROTOCOL +
                CAP_CIPHER + CAP_SNI + CAP_MOVER + FIXED,
    SUM_LONG = CAP_PATH + CAP_QUERY + CAP_AGENT + CAP_REFERER,
};
_Static_assert(SUM_SMALL + SUM_LONG < WEIR_LOG_LINE_BYTES_PIPE, "a line of JSON fits a pipe");
_Static_assert(SUM_SMALL + WEIR_LOG_FILE_SCALE * SUM_LONG < WEIR_LOG_LINE_BYTES, "and a file");

#define HIDDEN WEIR_STR("***")

static struct weir_str hide(const struct weir_log_style *style, unsigned what, struct weir_str text)
{
    return text.ptr && style->redact & what ? HIDDEN : text;
}

static void put_query(struct weir_line *line, const struct weir_log_style *style,
                      struct weir_str query, bool json)
{
    if (style->redact & WEIR_REDACT_QUERY)
        weir_line_query(line, query, CAP_QUERY * style->scale, json);
    else
        weir_line_text(line, query, CAP_QUERY * style->scale, json);
}

static void put_referer(struct weir_line *line, const struct weir_log_style *style,
                        struct weir_str referer, bool json)
{
    if (style->redact & WEIR_REDACT_REFERER)
        weir_line_lit(line, "***");
    else if (style->redact & WEIR_REDACT_QUERY)
        weir_line_url(line, referer, CAP_REFERER * style->scale, json);
    else
        weir_line_text(line, referer, CAP_REFERER * style->scale, json);
}

/* ---- JSON ---- */

#define KEY(name) ",\"" name "\":"
#define json_text(line, name, text, cap)                     \
    do {                                                     \
        if ((text).ptr) {                                    \
            weir_line_lit(line, KEY(name) "\"");             \
            weir_line_text(line, text, (size_t)(cap), true); \
            weir_line_lit(line, "\"");                       \
        }                                                    \
    } while (0)
#define json_u64(line, name, value)     \
    do {                                \
        weir_line_lit(line, KEY(name)); \
        weir_line_u64(line, value);     \
    } while (0)

static void json_bool(struct weir_line *line, bool value)
{
    if (value)
        weir_line_lit(line, "true");
    else
        weir_line_lit(line, "false");
}

static void json_request(struct weir_line *line, const struct weir_log_style *style,
                         const struct weir_access_record *r)
{
    weir_line_lit(line, "{\"ts\":\"");
    weir_line_time_iso(line, r->wall_us);
    weir_line_lit(line, "\"");
    json_text(line, "id", r->id, CAP_ID);
    json_text(line, "listener", r->listener, CAP_NAME);
    json_text(line, "route", r->route, CAP_NAME);
    json_text(line, "client", hide(style, WEIR_REDACT_CLIENT, r->client), CAP_CLIENT);
    json_text(line, "method", r->method, CAP_METHOD);
    json_text(line, "host", hide(style, WEIR_REDACT_HOST, r->host), CAP_HOST);
    json_text(line, "path", hide(style, WEIR_REDACT_PATH, r->path),
              CAP_PATH * style->scale - (r->grpc ? 2 * CAP_GRPC + GRPC_FIXED : 0));
    if (r->query.ptr) {
        weir_line_lit(line, KEY("query") "\"");
        put_query(line, style, r->query, true);
        weir_line_lit(line, "\"");
    }
    json_text(line, "protocol", r->protocol, CAP_PROTOCOL);
}

static void json_answer(struct weir_line *line, const struct weir_log_style *style,
                        const struct weir_access_record *r)
{
    if (r->status)
        json_u64(line, "status", (unsigned)r->status);
    json_u64(line, "bytes_in", r->bytes_in);
    json_u64(line, "bytes_out", r->bytes_out);
    json_u64(line, "duration_us", r->duration_us);
    json_text(line, "upstream", r->upstream, CAP_NAME);
    json_text(line, "server", r->server, CAP_NAME);
    if (r->attempts) {
        json_u64(line, "attempts", r->attempts);
        weir_line_lit(line, KEY("reused"));
        json_bool(line, r->reused);
    }
    if (r->connect_us)
        json_u64(line, "connect_us", r->connect_us);
    if (r->first_byte_us)
        json_u64(line, "first_byte_us", r->first_byte_us);
    json_text(line, "user_agent", hide(style, WEIR_REDACT_USER_AGENT, r->user_agent),
              CAP_AGENT * style->scale);
    if (r->referer.ptr) {
        weir_line_lit(line, KEY("referer") "\"");
        put_referer(line, style, r->referer, true);
        weir_line_lit(line, "\"");
    }
}

/* Both parts of the path are there, or none. */
static void json_grpc(struct weir_line *line, const struct weir_log_style *style,
                      const struct weir_access_record *r)
{
    weir_line_lit(line, KEY("grpc") "{");
    if (r->grpc_service.ptr) {
        weir_line_lit(line, "\"service\":\"");
        weir_line_text(line, hide(style, WEIR_REDACT_PATH, r->grpc_service), CAP_GRPC, true);
        weir_line_lit(line, "\"");
        json_text(line, "method", hide(style, WEIR_REDACT_PATH, r->grpc_method), CAP_GRPC);
        weir_line_lit(line, ",");
    }
    weir_line_lit(line, "\"status\":");
    weir_line_u64(line, (unsigned)r->grpc_status);
    weir_line_lit(line, "}");
}

/* Of TLS that was passed on the name that was asked for is known, and nothing else. */
static void json_tls(struct weir_line *line, const struct weir_tls_info *tls)
{
    if (weir_str_absent(tls->version)) {
        weir_line_lit(line, KEY("tls") "{\"sni\":\"");
        weir_line_text(line, tls->sni, CAP_SNI, true);
        weir_line_lit(line, "\"}");
        return;
    }
    weir_line_lit(line, KEY("tls") "{\"version\":\"");
    weir_line_text(line, tls->version, CAP_PROTOCOL, true);
    weir_line_lit(line, "\"");
    json_text(line, "cipher", tls->cipher, CAP_CIPHER);
    json_text(line, "sni", tls->sni, CAP_SNI);
    weir_line_lit(line, KEY("resumed"));
    json_bool(line, tls->resumed);
    weir_line_lit(line, "}");
}

/* What the system said, by its name ("EHOSTUNREACH"), of a number without one the number. */
static struct weir_str sys_name(int sys, char digits[20])
{
    const char *name = strerrorname_np(sys);

    if (name)
        return weir_str(name);
    return (struct weir_str){ digits, weir_u64_to_str(sys > 0 ? (uint64_t)sys : 0, digits) };
}

static void json_error(struct weir_line *line, const struct weir_error *error)
{
    char digits[20];

    weir_line_lit(line, KEY("error") "{\"code\":\"");
    weir_line_text(line, weir_str(weir_err_name(error->code)), CAP_ERROR, true);
    weir_line_lit(line, "\"");
    json_text(line, "by", weir_str(weir_by_name(error->by)), CAP_ERROR);
    if (error->sys)
        json_text(line, "sys", sys_name(error->sys, digits), CAP_ERROR);
    weir_line_lit(line, "}");
}

static void json_rest(struct weir_line *line, const struct weir_log_style *style,
                      const struct weir_access_record *r)
{
    if (r->tls) {
        json_tls(line, r->tls);
    }
    if (r->error && r->error->code)
        json_error(line, r->error);
    if (r->grpc)
        json_grpc(line, style, r);
    json_text(line, "mover", r->mover, CAP_MOVER);
    if (r->path_info) {
        json_u64(line, "rtt_us", r->path_info->rtt_us);
        json_u64(line, "retrans", r->path_info->retrans);
    }
    weir_line_lit(line, "}");
}

/* ---- combined, and formats ---- */

static void put_or_dash(struct weir_line *line, struct weir_str text, size_t cap)
{
    if (text.len)
        weir_line_text(line, text, cap, false);
    else
        weir_line_lit(line, "-");
}

static void put_request_line(struct weir_line *line, const struct weir_log_style *style,
                             const struct weir_access_record *r)
{
    put_or_dash(line, r->method, CAP_METHOD);
    weir_line_lit(line, " ");
    put_or_dash(line, hide(style, WEIR_REDACT_PATH, r->path), CAP_PATH * style->scale);
    if (r->query.ptr) {
        weir_line_lit(line, "?");
        put_query(line, style, r->query, false);
    }
    weir_line_lit(line, " ");
    put_or_dash(line, r->protocol, CAP_PROTOCOL);
}

static void put_referer_or_dash(struct weir_line *line, const struct weir_log_style *style,
                                struct weir_str referer)
{
    if (referer.len)
        put_referer(line, style, referer, false);
    else
        weir_line_lit(line, "-");
}

static void put_agent_or_dash(struct weir_line *line, const struct weir_log_style *style,
                              struct weir_str agent)
{
    put_or_dash(line, hide(style, WEIR_REDACT_USER_AGENT, agent), CAP_AGENT * style->scale);
}

static void combined(struct weir_line *line, const struct weir_log_style *style,
                     const struct weir_access_record *r)
{
    put_or_dash(line, hide(style, WEIR_REDACT_CLIENT, r->client), CAP_CLIENT);
    weir_line_lit(line, " - - [");
    weir_line_time_clf(line, r->wall_us);
    weir_line_lit(line, "] \"");
    put_request_line(line, style, r);
    weir_line_lit(line, "\" ");
    weir_line_u64(line, r->status > 0 ? (unsigned)r->status : 0);
    weir_line_lit(line, " ");
    if (r->bytes_out)
        weir_line_u64(line, r->bytes_out);
    else
        weir_line_lit(line, "-");
    weir_line_lit(line, " \"");
    put_referer_or_dash(line, style, r->referer);
    weir_line_lit(line, "\" \"");
    put_agent_or_dash(line, style, r->user_agent);
    weir_line_lit(line, "\"");
}

static void put_tls(struct weir_line *line, const struct weir_access_record *r,
                    enum weir_log_field field)
{
    const struct weir_tls_info *tls = r->tls;

    if (!tls)
        weir_line_lit(line, "-");
    else if (field == WEIR_LOG_F_tls_version)
        put_or_dash(line, tls->version, CAP_PROTOCOL);
    else if (field == WEIR_LOG_F_tls_cipher)
        put_or_dash(line, tls->cipher, CAP_CIPHER);
    else if (field == WEIR_LOG_F_tls_sni)
        put_or_dash(line, tls->sni, CAP_SNI);
    else
        json_bool(line, tls->resumed);
}

static void put_u64_or_dash(struct weir_line *line, uint64_t value)
{
    if (value)
        weir_line_u64(line, value);
    else
        weir_line_lit(line, "-");
}

static void put_error(struct weir_line *line, const struct weir_access_record *r,
                      enum weir_log_field field)
{
    const struct weir_error *error = r->error;
    struct weir_str text = WEIR_STR("-");
    char digits[20];

    if (!error || !error->code)
        ;
    else if (field == WEIR_LOG_F_error_code)
        text = weir_str(weir_err_name(error->code));
    else if (field == WEIR_LOG_F_error_by)
        text = weir_str(weir_by_name(error->by));
    else if (error->sys)
        text = sys_name(error->sys, digits);
    weir_line_put(line, text.ptr, text.len);
}

/* The fields that are plain text; absent for the others. */
static struct weir_str text_of(const struct weir_log_style *style,
                               const struct weir_access_record *r, enum weir_log_field field,
                               size_t *cap)
{
    *cap = CAP_NAME;
    switch (field) {
    case WEIR_LOG_F_id:
        return r->id;
    case WEIR_LOG_F_listener:
        return r->listener;
    case WEIR_LOG_F_route:
        return r->route;
    case WEIR_LOG_F_client:
        return hide(style, WEIR_REDACT_CLIENT, r->client);
    case WEIR_LOG_F_method:
        return r->method;
    case WEIR_LOG_F_host:
        *cap = CAP_HOST;
        return hide(style, WEIR_REDACT_HOST, r->host);
    case WEIR_LOG_F_path:
        *cap = CAP_PATH * style->scale;
        return hide(style, WEIR_REDACT_PATH, r->path);
    case WEIR_LOG_F_protocol:
        return r->protocol;
    case WEIR_LOG_F_upstream:
        return r->upstream;
    case WEIR_LOG_F_server:
        return r->server;
    case WEIR_LOG_F_mover:
        return r->mover;
    case WEIR_LOG_F_grpc_service:
        return hide(style, WEIR_REDACT_PATH, r->grpc_service);
    case WEIR_LOG_F_grpc_method:
        return hide(style, WEIR_REDACT_PATH, r->grpc_method);
    default:
        return (struct weir_str){ NULL, 0 };
    }
}

static void put_path_info(struct weir_line *line, const struct weir_access_record *r, bool rtt)
{
    if (!r->path_info)
        weir_line_lit(line, "-");
    else
        weir_line_u64(line, rtt ? r->path_info->rtt_us : r->path_info->retrans);
}

static void put_number(struct weir_line *line, const struct weir_access_record *r,
                       enum weir_log_field field)
{
    switch (field) {
    case WEIR_LOG_F_status:
        put_u64_or_dash(line, r->status > 0 ? (unsigned)r->status : 0);
        break;
    case WEIR_LOG_F_bytes_in:
        weir_line_u64(line, r->bytes_in);
        break;
    case WEIR_LOG_F_bytes_out:
        weir_line_u64(line, r->bytes_out);
        break;
    case WEIR_LOG_F_duration_us:
        weir_line_u64(line, r->duration_us);
        break;
    case WEIR_LOG_F_attempts:
        put_u64_or_dash(line, r->attempts);
        break;
    case WEIR_LOG_F_connect_us:
        put_u64_or_dash(line, r->connect_us);
        break;
    default:
        put_u64_or_dash(line, r->first_byte_us);
    }
}

static void put_field(struct weir_line *line, const struct weir_log_style *style,
                      const struct weir_access_record *r, enum weir_log_field field)
{
    size_t cap;

    switch (field) {
    case WEIR_LOG_F_ts:
        weir_line_time_iso(line, r->wall_us);
        break;
    case WEIR_LOG_F_time:
        weir_line_time_clf(line, r->wall_us);
        break;
    case WEIR_LOG_F_request:
        put_request_line(line, style, r);
        break;
    case WEIR_LOG_F_query:
        if (r->query.ptr)
            put_query(line, style, r->query, false);
        else
            weir_line_lit(line, "-");
        break;
    case WEIR_LOG_F_user_agent:
        put_agent_or_dash(line, style, r->user_agent);
        break;
    case WEIR_LOG_F_referer:
        put_referer_or_dash(line, style, r->referer);
        break;
    case WEIR_LOG_F_reused:
        json_bool(line, r->reused);
        break;
    case WEIR_LOG_F_tls_version ... WEIR_LOG_F_tls_resumed:
        put_tls(line, r, field);
        break;
    case WEIR_LOG_F_error_code ... WEIR_LOG_F_error_sys:
        put_error(line, r, field);
        break;
    case WEIR_LOG_F_rtt_us:
    case WEIR_LOG_F_retrans:
        put_path_info(line, r, field == WEIR_LOG_F_rtt_us);
        break;
    case WEIR_LOG_F_grpc_status:
        if (r->grpc)
            weir_line_u64(line, (unsigned)r->grpc_status);
        else
            weir_line_lit(line, "-");
        break;
    case WEIR_LOG_F_status ... WEIR_LOG_F_duration_us:
    case WEIR_LOG_F_attempts:
    case WEIR_LOG_F_connect_us:
    case WEIR_LOG_F_first_byte_us:
        put_number(line, r, field);
        break;
    default: {
        struct weir_str text = text_of(style, r, field, &cap);

        put_or_dash(line, text, cap);
    }
    }
}

static void formatted(struct weir_line *line, const struct weir_log_style *style,
                      const struct weir_access_record *r)
{
    for (size_t i = 0; i < style->piece_count; i++) {
        const struct weir_log_piece *piece = &style->pieces[i];

        if (piece->field == WEIR_LOG_F_LITERAL)
            weir_line_put(line, piece->text.ptr, piece->text.len);
        else
            put_field(line, style, r, piece->field);
    }
}

size_t weir_log_line(const struct weir_log_style *style, const struct weir_access_record *record,
                     char *out)
{
    struct weir_line line = { out, out + style->line_bytes - 1 };

    if (style->format == WEIR_LOG_JSON) {
        json_request(&line, style, record);
        json_answer(&line, style, record);
        json_rest(&line, style, record);
    } else if (style->format == WEIR_LOG_COMBINED) {
        combined(&line, style, record);
    } else {
        formatted(&line, style, record);
    }
    *line.at++ = '\n';
    return (size_t)(line.at - out);
}
