/* SPDX-License-Identifier: Apache-2.0 */
/**
 * access_log_text.h: the text of one line, into memory of the caller, always in bounds. Shared by
 * the files of the access log alone.
 *
 * Any bytes make a valid line. JSON: what is valid UTF-8 stays as it is; quotes, backslashes and
 * control bytes are escaped; a byte that is not part of valid UTF-8 becomes \u00XX (it reads as
 * that Latin-1 character, and its value is not lost). Combined and format: whatever is not
 * printable ASCII, and `"` and `\`, becomes \xXX. A field that is longer than its share is cut and
 * ends in "…" ("..." outside JSON).
 */
#ifndef PROXY_ACCESS_LOG_TEXT_H
#define PROXY_ACCESS_LOG_TEXT_H

#include "proxy/access_log.h"

enum {
    WEIR_LOG_LINE_BYTES = 8 * 1024,
    WEIR_LOG_LINE_BYTES_PIPE = 4096, /* PIPE_BUF: a pipe takes such a line whole or not at all */
    WEIR_LOG_FILE_SCALE = 3,         /* long fields have this much more room in files */
};

/* Names of `redact` and what they hide. */
enum {
    WEIR_REDACT_QUERY = 1, /* values of the query, also in the referer */
    WEIR_REDACT_USER_AGENT = 2,
    WEIR_REDACT_REFERER = 4,
    WEIR_REDACT_CLIENT = 8,
    WEIR_REDACT_PATH = 16,
    WEIR_REDACT_HOST = 32,
};

/* What a format can name: the fields of JSON, and time as combined writes it. */
/* clang-format off */
#define WEIR_LOG_FIELDS(X) \
    X(ts) X(id) X(listener) X(route) X(client) X(method) X(host) X(path) X(query) X(protocol) X(status) X(bytes_in) \
    X(bytes_out) X(duration_us) X(upstream) X(server) X(attempts) X(reused) X(connect_us) X(first_byte_us) \
    X(user_agent) X(referer) X(tls_version) X(tls_cipher) X(tls_sni) X(tls_resumed) X(error_code) X(error_by) X(error_sys) \
    X(mover) X(rtt_us) X(retrans) X(grpc_service) X(grpc_method) X(grpc_status) X(time) X(request)
/* clang-format on */
#define WEIR_LOG_FIELD_ENUM(name) WEIR_LOG_F_##name,
enum weir_log_field { WEIR_LOG_F_LITERAL, WEIR_LOG_FIELDS(WEIR_LOG_FIELD_ENUM) WEIR_LOG_F_COUNT };
#undef WEIR_LOG_FIELD_ENUM

/** A piece of a format: text, or a field. */
struct weir_log_piece {
    enum weir_log_field field;
    struct weir_str text;
};

/** How a log writes its lines. */
struct weir_log_style {
    int format; /* WEIR_LOG_* */
    unsigned redact;
    unsigned scale; /* share of the long fields: 1, or WEIR_LOG_FILE_SCALE */
    size_t line_bytes;
    struct weir_log_piece *pieces;
    size_t piece_count;
};

/** Fills a style; `pipe`: lines are to fit PIPE_BUF. 0, or an error with *fault. */
int weir_log_style_init(struct weir_log_style *style, const struct weir_access_log_conf *conf,
                        bool pipe, struct weir_tls_fault *fault)
    __attribute__((warn_unused_result));
void weir_log_style_fini(struct weir_log_style *style);
/** Writes one line with its newline to `out` (style->line_bytes), returns its length. */
size_t weir_log_line(const struct weir_log_style *style, const struct weir_access_record *record,
                     char *out);

/* ---- access_log_field.c: pieces of lines ---- */

struct weir_line {
    char *at, *end;
};

void weir_line_put(struct weir_line *line, const char *text, size_t len);
#define weir_line_lit(line, literal) weir_line_put(line, literal, sizeof(literal) - 1)
void weir_line_u64(struct weir_line *line, uint64_t value);
/** "2026-11-24T15:48:42.123456Z" */
void weir_line_time_iso(struct weir_line *line, uint64_t wall_us);
/** "24/Nov/2026:15:48:42 +0000" */
void weir_line_time_clf(struct weir_line *line, uint64_t wall_us);
/** Text of a peer, escaped, at most `cap` bytes of output. */
void weir_line_text(struct weir_line *line, struct weir_str text, size_t cap, bool json);
/** "a=***&b=***" */
void weir_line_query(struct weir_line *line, struct weir_str query, size_t cap, bool json);
/** A URL whose query is redacted. */
void weir_line_url(struct weir_line *line, struct weir_str url, size_t cap, bool json);

#endif
