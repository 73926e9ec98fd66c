/* SPDX-License-Identifier: Apache-2.0 */
/* conf_print.c: `weir check --effective`: a snapshot as YAML with all defaults, in the order of the
 * tables. */
#include "daemon/conf_internal.h"

void conf_print_key(struct conf_printer *printer, struct weir_str key)
{
    unsigned indent = printer->indent;

    fprintf(printer->out, "%*s%s", (int)(printer->item ? indent - 2 : indent), "",
            printer->item ? "- " : "");
    printer->item = false;
    printer->quiet = true;
    conf_print_text(printer, key, true);
    printer->quiet = false;
    fputc(':', printer->out);
}

/* Would a plain scalar read as this very text? Only what surely does is left without quotes. */
static bool plain_text(struct weir_str text)
{
    bool letters = false;

    if (text.len == 0 || text.len > 128 || text.ptr[0] == '-' || text.ptr[0] == '=' ||
        weir_str_eq(text, WEIR_STR("null")))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if ((weir_lower(c) < 'a' || weir_lower(c) > 'z') && (c < '0' || c > '9') &&
            !strchr("-_./%+", c))
            return false;
        letters |= weir_lower(c) >= 'a' && weir_lower(c) <= 'z';
    }
    return letters || memchr(text.ptr, '/', text.len) ||
           text.ptr[text.len - 1] == '%'; /* else another reader sees a number */
}

/* In double quotes: what is not printable ASCII by escapes, valid UTF-8 as it is. */
static void print_quoted(FILE *out, struct weir_str text, bool template)
{
    fputc('"', out);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\x%02x", c);
        else if (c == '$' && !template)
            fputs("$$", out);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

const struct conf_secret *conf_secret_find(const struct weir_conf *conf, const char *text)
{
    const struct conf_secret *secrets = conf->secrets.at;

    for (size_t i = 0; i < conf->secrets.count; i++)
        if (secrets[i].text == text && !secrets[i].copy)
            return &secrets[i];
    return NULL;
}

struct weir_str weir_conf_told(const struct weir_conf *conf, struct weir_str text)
{
    const struct conf_secret *secret = conf_secret_find(conf, text.ptr);

    return secret ? secret->source : text;
}

void conf_print_text(struct conf_printer *printer, struct weir_str text, bool template)
{
    const struct conf_secret *secret = conf_secret_find(printer->conf, text.ptr);

    if (!printer->quiet)
        fputc(' ', printer->out);
    if (secret && weir_str_absent(secret->path))
        print_quoted(printer->out, secret->source, true); /* its dollars are the file's own */
    else if (plain_text(text))
        fprintf(printer->out, "%.*s", WEIR_FMT(text));
    else
        print_quoted(printer->out, text, template);
    if (!printer->quiet && !printer->flow)
        fputc('\n', printer->out);
}

/* A text of a row: where it came from when that was a file. */
static void print_str(struct conf_printer *printer, const struct weir_conf_item *item,
                      struct weir_str text)
{
    const struct conf_secret *secret =
        item->flags & WEIR_CONF_SECRET ? conf_secret_find(printer->conf, text.ptr) : NULL;

    if (!secret || weir_str_absent(secret->path)) {
        conf_print_text(printer, text, item->flags & WEIR_CONF_TEMPLATE);
        return;
    }
    fputs(" { file:", printer->out);
    printer->flow = true;
    conf_print_text(printer, secret->path, false);
    printer->flow = false;
    fputs(" }\n", printer->out);
}

static void print_strs(struct conf_printer *printer, const struct weir_strs *strs)
{
    fputs(strs->count ? " [ " : " []\n", printer->out);
    for (size_t i = 0; i < strs->count; i++) {
        fputs(i ? ", " : "", printer->out);
        printer->quiet = true;
        if (strs->at[i].len && plain_text(strs->at[i]))
            conf_print_text(printer, strs->at[i], false);
        else
            print_quoted(printer->out, strs->at[i], false);
        printer->quiet = false;
    }
    fputs(strs->count ? " ]\n" : "", printer->out);
}

static void print_flags(struct conf_printer *printer, const struct weir_conf_item *item,
                        unsigned flags)
{
    const char *comma = " ";

    fputs(" [", printer->out);
    for (unsigned i = 0; item->words[i]; i++) {
        if (flags & 1u << i) {
            fprintf(printer->out, "%s%s", comma, item->words[i]);
            comma = ", ";
        }
    }
    fputs(" ]\n", printer->out);
}

static void print_map(struct conf_printer *printer, const struct weir_conf_item *item,
                      const struct weir_pairs *pairs)
{
    fputc('\n', printer->out);
    printer->indent += 2;
    for (size_t i = 0; i < pairs->count; i++) {
        conf_print_key(printer, pairs->at[i].name);
        if (weir_str_absent(pairs->at[i].value))
            fputc('\n', printer->out);
        else
            print_str(printer, item, pairs->at[i].value);
    }
    printer->indent -= 2;
}

static void print_number(struct conf_printer *printer, const struct weir_conf_item *item,
                         const void *field)
{
    bool fraction = item->type == WEIR_CONF_RATE || item->type == WEIR_CONF_PERCENT;
    double share = fraction ? *(const double *)field : 0;
    int64_t value = fraction ? (int64_t)(share < 0 ? -1 : 1) : *(const int64_t *)field;
    char text[CONF_NUMBER_MAX];

    if (item->flags & WEIR_CONF_OFF && value == WEIR_UNLIMITED)
        fputs(" off\n", printer->out);
    else if (item->flags & WEIR_CONF_AUTO && value == 0)
        fputs(" auto\n", printer->out);
    else {
        if (fraction)
            conf_fraction_print(item->type, share, item->def, text);
        else
            conf_number_print(item->type, value, text);
        fprintf(printer->out, " %s\n", text);
    }
}

void conf_print_list(struct conf_printer *printer, const struct weir_conf_item *item,
                     const struct weir_conf_list *list)
{
    conf_print_key(printer, weir_str(item->name));
    if (list->count == 0)
        fputs(" []", printer->out);
    fputc('\n', printer->out);
    printer->indent += 4;
    for (size_t i = 0; i < list->count; i++) {
        printer->item = true;
        conf_print_rows(printer, item->rows, (const char *)list->at + i * item->bytes);
        printer->item = false;
    }
    printer->indent -= 4;
}

static void print_named(struct conf_printer *printer, const struct weir_conf_item *item,
                        const struct weir_conf_list *list)
{
    conf_print_key(printer, weir_str(item->name));
    if (list->count == 0)
        fputs(" {}", printer->out);
    fputc('\n', printer->out);
    for (size_t i = 0; i < list->count; i++) {
        const char *element = (const char *)list->at + i * item->bytes;

        printer->indent += 2;
        conf_print_key(printer, *(const struct weir_str *)element);
        fputc('\n', printer->out);
        printer->indent += 2;
        conf_print_rows(printer, item->rows, element);
        printer->indent -= 4;
    }
}

/* Nothing to print: a text without a value, an empty map. */
static bool is_absent(const struct weir_conf_item *item, const void *field)
{
    switch (item->type) {
    case WEIR_CONF_STR:
    case WEIR_CONF_FILE:
    case WEIR_CONF_DIR:
    case WEIR_CONF_PATH:
        return weir_str_absent(*(const struct weir_str *)field) &&
               !(item->flags & (WEIR_CONF_OFF | WEIR_CONF_AUTO));
    case WEIR_CONF_MAP:
        return ((const struct weir_pairs *)field)->count == 0;
    case WEIR_CONF_STRS: /* without a default, an empty list is not the same as none (`match`) */
        return ((const struct weir_strs *)field)->count == 0 && !item->def;
    default:
        return false;
    }
}

static void print_value(struct conf_printer *printer, const struct weir_conf_item *item,
                        const void *field)
{
    switch (item->type) {
    case WEIR_CONF_BOOL:
        fputs(*(const bool *)field ? " on\n" : " off\n", printer->out);
        break;
    case WEIR_CONF_STR:
    case WEIR_CONF_FILE:
    case WEIR_CONF_DIR:
    case WEIR_CONF_PATH:
        if (weir_str_absent(*(const struct weir_str *)field))
            fputs(item->flags & WEIR_CONF_OFF ? " off\n" : " auto\n", printer->out);
        else
            print_str(printer, item, *(const struct weir_str *)field);
        break;
    case WEIR_CONF_STRS:
        print_strs(printer, field);
        break;
    case WEIR_CONF_ENUM:
        conf_print_text(printer, weir_str(item->words[*(const int *)field]), false);
        break;
    case WEIR_CONF_FLAGS:
        print_flags(printer, item, *(const unsigned *)field);
        break;
    case WEIR_CONF_MAP:
        print_map(printer, item, field);
        break;
    default:
        print_number(printer, item, field);
    }
}

bool conf_print_empty(const struct weir_conf_item *rows, const void *base)
{
    for (const struct weir_conf_item *item = rows; item->name; item++) {
        const void *field = (const char *)base + item->offset;

        if (item->type == WEIR_CONF_SECTION ? !conf_print_empty(item->rows, field)
                                            : !is_absent(item, field))
            return false;
    }
    return true;
}

static void print_item(struct conf_printer *printer, const struct weir_conf_item *item,
                       const void *base)
{
    const void *field = (const char *)base + item->offset;

    switch (item->type) {
    case WEIR_CONF_CUSTOM:
        if (item->custom->print)
            item->custom->print(printer, item, base);
        break;
    case WEIR_CONF_LIST:
        conf_print_list(printer, item, field);
        break;
    case WEIR_CONF_NAMED:
        print_named(printer, item, field);
        break;
    case WEIR_CONF_SECTION:
        if (conf_print_empty(item->rows, field))
            break;
        conf_print_key(printer, weir_str(item->name));
        fputc('\n', printer->out);
        printer->indent += 2;
        conf_print_rows(printer, item->rows, field);
        printer->indent -= 2;
        break;
    default:
        if (is_absent(item, field))
            break;
        conf_print_key(printer, weir_str(item->name));
        print_value(printer, item, field);
    }
}

void conf_print_rows(struct conf_printer *printer, const struct weir_conf_item *rows,
                     const void *base)
{
    for (const struct weir_conf_item *item = rows; item->name; item++)
        if (!(item->flags & WEIR_CONF_ALIAS))
            print_item(printer, item, base);
}

void weir_conf_print_effective(const struct weir_conf *conf, FILE *out)
{
    struct conf_printer printer = { .out = out, .conf = conf };

    conf_print_rows(&printer, conf_top_items, conf);
}
