/* SPDX-License-Identifier: Apache-2.0 */
/** access_log_style.c: from the configuration to how lines are written; whatever is wrong is told
 * at the start. */
#include "proxy/access_log_text.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

enum { PIECES_MAX = 128 };

#define FIELD_NAME(name) [WEIR_LOG_F_##name] = #name,
static const char *const field_names[WEIR_LOG_F_COUNT] = { WEIR_LOG_FIELDS(FIELD_NAME) };

static const struct {
    const char *name;
    unsigned flag;
} redactions[] = {
    { "query", WEIR_REDACT_QUERY },
    { "user_agent", WEIR_REDACT_USER_AGENT },
    { "user-agent", WEIR_REDACT_USER_AGENT },
    { "referer", WEIR_REDACT_REFERER },
    { "client", WEIR_REDACT_CLIENT },
    { "path", WEIR_REDACT_PATH },
    { "host", WEIR_REDACT_HOST },
};

static int redact_init(struct weir_log_style *style, const struct weir_strs *names,
                       struct weir_tls_fault *fault)
{
    for (size_t i = 0; i < names->count; i++) {
        unsigned flag = 0;

        for (size_t k = 0; k < sizeof(redactions) / sizeof(redactions[0]); k++)
            if (weir_str_ieq(names->at[i], weir_str(redactions[k].name)))
                flag = redactions[k].flag;
        if (!flag) {
            snprintf(fault->text, sizeof(fault->text),
                     "access_log: redact: '%.*s' is not one of query, user_agent, referer, client, "
                     "path, host",
                     (int)(names->at[i].len < 64 ? names->at[i].len : 64), names->at[i].ptr);
            return WEIR_EINVAL;
        }
        style->redact |= flag;
    }
    return 0;
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || c == '_';
}

static enum weir_log_field field_of(struct weir_str name)
{
    for (unsigned i = WEIR_LOG_F_LITERAL + 1; i < WEIR_LOG_F_COUNT; i++)
        if (weir_str_eq(name, weir_str(field_names[i])))
            return (enum weir_log_field)i;
    return WEIR_LOG_F_LITERAL;
}

/* The piece at the front of `text`: a field, "$$" (a dollar), or what comes before the next '$'. */
static bool next_piece(struct weir_str *text, struct weir_log_piece *piece, struct weir_str *bad)
{
    size_t len = 1;

    *piece = (struct weir_log_piece){ .field = WEIR_LOG_F_LITERAL, .text = { text->ptr, 1 } };
    if (text->ptr[0] != '$') {
        while (len < text->len && text->ptr[len] != '$')
            len++;
        piece->text.len = len;
    } else if (text->len > 1 && text->ptr[1] == '$') {
        len = 2;
    } else {
        while (len < text->len && is_name_char(text->ptr[len]))
            len++;
        *bad = (struct weir_str){ text->ptr, len };
        piece->field = field_of((struct weir_str){ text->ptr + 1, len - 1 });
        if (piece->field == WEIR_LOG_F_LITERAL)
            return false;
    }
    text->ptr += len;
    text->len -= len;
    return true;
}

static int pieces_init(struct weir_log_style *style, struct weir_str text,
                       struct weir_tls_fault *fault)
{
    struct weir_str bad = { NULL, 0 };

    style->pieces = calloc(PIECES_MAX, sizeof(*style->pieces));
    if (!style->pieces) {
        snprintf(fault->text, sizeof(fault->text), "access_log: out of memory");
        return WEIR_ENOMEM;
    }
    while (text.len && style->piece_count < PIECES_MAX) {
        if (!next_piece(&text, &style->pieces[style->piece_count++], &bad)) {
            snprintf(fault->text, sizeof(fault->text),
                     "access_log: format: there is no '%.*s'; a dollar is written $$",
                     WEIR_FMT(bad));
            return WEIR_EINVAL;
        }
    }
    if (!text.len && style->piece_count)
        return 0;
    snprintf(fault->text, sizeof(fault->text), "access_log: format: %s",
             text.len ? "too many parts" : "it is empty");
    return WEIR_EINVAL;
}

int weir_log_style_init(struct weir_log_style *style, const struct weir_access_log_conf *conf,
                        bool pipe, struct weir_tls_fault *fault)
{
    int err;

    *style = (struct weir_log_style){
        .format = conf->format,
        .scale = pipe ? 1 : WEIR_LOG_FILE_SCALE,
        .line_bytes = pipe ? WEIR_LOG_LINE_BYTES_PIPE : WEIR_LOG_LINE_BYTES,
    };
    err = redact_init(style, &conf->redact, fault);
    if (!err && conf->format == WEIR_LOG_FORMAT)
        err = pieces_init(style, conf->template_text, fault);
    if (err)
        weir_log_style_fini(style);
    return err;
}

void weir_log_style_fini(struct weir_log_style *style)
{
    free(style->pieces);
    style->pieces = NULL;
}
