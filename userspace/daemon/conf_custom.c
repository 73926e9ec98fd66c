/* SPDX-License-Identifier: Apache-2.0 */
/* conf_custom.c: rows with code of their own, outside of routes: short forms, and values of two
 * kinds. */
#include "daemon/conf_internal.h"

#include "proxy/access_log.h"

static bool is_text(const struct conf_node *node, const char *text)
{
    return node->kind == CONF_SCALAR && weir_str_eq(node->text, weir_str(text));
}

static bool is_on(const struct conf_node *node)
{
    return is_text(node, "on") || is_text(node, "true");
}

static bool is_off(const struct conf_node *node)
{
    return is_text(node, "off") || is_text(node, "false");
}

/* ---- a word: what has one value today ---- */

static void word_parse(struct conf_load *load, const struct weir_conf_item *item,
                       const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_conf_item word = *item;
    int value = 0;

    word.type = WEIR_CONF_ENUM;
    (void)conf_value(load, &word, pair->value, &value);
}

static void word_print(struct conf_printer *printer, const struct weir_conf_item *item,
                       const void *base)
{
    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, weir_str(item->def), false);
}

const struct weir_conf_custom conf_word_custom = { word_parse, word_print, CONF_SHAPE_WORDS };

/* ---- include: followed while files are read ---- */

static void include_parse(struct conf_load *load, const struct weir_conf_item *item,
                          const struct conf_pair *pair, void *base, const struct conf_where *where)
{
}

const struct weir_conf_custom conf_include_custom = { include_parse, NULL,
                                                      CONF_SHAPE_TEXT | CONF_SHAPE_LIST };

/* ---- tls of a listener ---- */

/* tls: { cert: a, key: b } is tls: { certs: [ { cert: a, key: b } ] }. */
static struct conf_node *tls_long_form(struct conf_load *load, struct conf_node *node)
{
    struct conf_pair short_form[3], *certs = conf_node_find(node, WEIR_STR("certs"));
    struct conf_node *map = conf_node_map(load, node->mark, NULL, 0), *cert;
    struct conf_pair list = { WEIR_STR("certs"), node->mark, NULL };
    size_t count = 0;

    for (size_t i = 0; map && i < node->count; i++) {
        struct conf_pair *pair = &node->pairs[i];
        bool brief = weir_str_eq(pair->key, WEIR_STR("cert")) ||
                     weir_str_eq(pair->key, WEIR_STR("key")) ||
                     weir_str_eq(pair->key, WEIR_STR("dir"));

        if (brief && certs)
            conf_error(load, &pair->mark, "'%.*s' and 'certs' say the same thing twice",
                       CONF_QUOTE(pair->key));
        else if (brief)
            short_form[count++] = *pair;
        else
            (void)conf_node_add(load, map, pair);
    }
    if (!map || count == 0)
        return map;
    list.mark = short_form[0].mark;
    cert = conf_node_map(load, list.mark, short_form, count);
    list.value = cert ? conf_node_list(load, cert) : NULL;
    return list.value && conf_node_add(load, map, &list) ? map : NULL;
}

/* The key may be in the file of the certificate. */
static void certs_complete(struct conf_load *load, struct weir_tls_server_conf *tls)
{
    struct weir_tls_cert_conf *certs = tls->certs.at;

    for (size_t i = 0; i < tls->certs.count; i++) {
        const struct conf_pair *element = conf_place(load, &certs[i], "");
        const struct conf_mark *mark = element ? &element->mark : NULL;
        bool cert = conf_place(load, &certs[i].cert, "cert"),
             key = conf_place(load, &certs[i].key, "key");
        bool dir = conf_place(load, &certs[i].dir, "dir");

        if (dir && (cert || key))
            conf_error(load, mark, "a certificate is either 'cert' and 'key', or 'dir'");
        else if (!dir && !cert)
            conf_error(load, mark, "a certificate needs 'cert' or 'dir'");
        if (cert && !key)
            certs[i].key = certs[i].cert;
    }
}

static void tls_parse(struct conf_load *load, const struct weir_conf_item *item,
                      const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_listener_conf *listener = base;
    struct conf_where here = { where, item->name, { NULL, 0 } };
    struct conf_node *node = pair->value;
    size_t errors = load->diags->errors;

    conf_defaults(load, item->rows, &listener->tls, false);
    listener->tls_on = false;
    if (is_off(node))
        return;
    if (node->kind != CONF_MAP) {
        conf_error(load, &node->mark,
                   "'tls' must be off, { cert: FILE, key: FILE } or { certs: [ … ] }");
        return;
    }
    listener->tls_on = true;
    node = tls_long_form(load, node);
    if (!node)
        return;
    if (!conf_node_find(node, WEIR_STR("certs")))
        conf_error(load, &pair->mark, "%s needs a certificate: 'cert' and 'key', or 'certs'",
                   conf_where_text(load, &here));
    conf_fill(load, item->rows, &listener->tls, node, &here);
    certs_complete(load, &listener->tls);
    if (conf_place(load, &listener->tls.client_verify, "client_verify") &&
        !conf_place(load, &listener->tls.client_ca, "client_ca"))
        conf_error(load, conf_at_key(load, &listener->tls.client_verify, "client_verify"),
                   "'client_verify' needs 'client_ca': without it no client is asked for a "
                   "certificate");
    if (load->diags->errors == errors)
        conf_place_add(load, &listener->tls, CONF_TLS_READ, pair);
}

static void print_nested(struct conf_printer *printer, const struct weir_conf_item *item,
                         const void *base)
{
    conf_print_key(printer, weir_str(item->name));
    fputc('\n', printer->out);
    printer->indent += 2;
    conf_print_rows(printer, item->rows, base);
    printer->indent -= 2;
}

static void tls_print(struct conf_printer *printer, const struct weir_conf_item *item,
                      const void *base)
{
    const struct weir_listener_conf *listener = base;

    if (listener->tls_on) {
        print_nested(printer, item, &listener->tls);
        return;
    }
    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, WEIR_STR("off"), false);
}

const struct weir_conf_custom conf_tls_custom = { tls_parse, tls_print,
                                                  CONF_SHAPE_OFF | CONF_SHAPE_MAP };

/* ---- client_verify: says something where there is a client_ca ---- */

static void client_verify_parse(struct conf_load *load, const struct weir_conf_item *item,
                                const struct conf_pair *pair, void *base,
                                const struct conf_where *where)
{
    struct weir_conf_item word = *item;

    word.type = WEIR_CONF_ENUM;
    (void)conf_value(load, &word, pair->value, (char *)base + item->offset);
}

static void client_verify_print(struct conf_printer *printer, const struct weir_conf_item *item,
                                const void *base)
{
    const struct weir_tls_server_conf *tls = base;

    if (weir_str_absent(tls->client_ca))
        return;
    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, weir_str(item->words[tls->client_verify]), false);
}

const struct weir_conf_custom conf_client_verify_custom = { client_verify_parse,
                                                            client_verify_print, CONF_SHAPE_WORDS };

/* ---- tls of an upstream ---- */

static void upstream_tls_parse(struct conf_load *load, const struct weir_conf_item *item,
                               const struct conf_pair *pair, void *base,
                               const struct conf_where *where)
{
    struct weir_cluster_conf *cluster = base;
    struct conf_where here = { where, item->name, { NULL, 0 } };
    size_t errors = load->diags->errors;

    if (is_on(pair->value) || is_off(pair->value)) {
        cluster->tls_on = is_on(pair->value);
    } else if (pair->value->kind != CONF_MAP) {
        conf_error(load, &pair->value->mark, "'tls' must be on, off or a map");
    } else {
        cluster->tls_on = true;
        conf_fill(load, item->rows, &cluster->tls, pair->value, &here);
    }
    if (load->diags->errors == errors && cluster->tls_on)
        conf_place_add(load, &cluster->tls, CONF_TLS_READ, pair);
}

static void upstream_tls_print(struct conf_printer *printer, const struct weir_conf_item *item,
                               const void *base)
{
    const struct weir_cluster_conf *cluster = base;

    if (cluster->tls_on) {
        print_nested(printer, item, &cluster->tls);
        return;
    }
    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, WEIR_STR("off"), false);
}

const struct weir_conf_custom conf_upstream_tls_custom = { upstream_tls_parse, upstream_tls_print,
                                                           CONF_SHAPE_SWITCH | CONF_SHAPE_MAP };

/* ---- health ---- */

static void health_parse(struct conf_load *load, const struct weir_conf_item *item,
                         const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_cluster_conf *cluster = base;
    struct conf_where here = { where, item->name, { NULL, 0 } };

    conf_defaults(load, item->rows, &cluster->health, false);
    if (is_off(pair->value))
        cluster->health.type = WEIR_HEALTH_NONE;
    else
        conf_fill(load, item->rows, &cluster->health, pair->value, &here);
}

static void health_print(struct conf_printer *printer, const struct weir_conf_item *item,
                         const void *base)
{
    const struct weir_cluster_conf *cluster = base;

    if (cluster->health.type != WEIR_HEALTH_NONE) {
        print_nested(printer, item, &cluster->health);
        return;
    }
    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, WEIR_STR("off"), false);
}

const struct weir_conf_custom conf_health_custom = { health_parse, health_print,
                                                     CONF_SHAPE_OFF | CONF_SHAPE_MAP };

/* ---- limits.memory: a share or a size ---- */

static void memory_parse(struct conf_load *load, const struct weir_conf_item *item,
                         const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_limit_conf *limits = base;
    struct weir_str text;
    int64_t bytes = 0;
    double share = 0;

    if (!conf_value_text(load, item, pair->value, &text))
        return;
    if (weir_str_eq(text, WEIR_STR("off"))) {
        bytes = WEIR_UNLIMITED;
    } else if (!(conf_fraction(WEIR_CONF_PERCENT, text, &share) && share > 0 && share <= 1) &&
               !(conf_number(WEIR_CONF_BYTES, text, &bytes) && bytes >= 16 << 20)) {
        conf_error(load, &pair->value->mark,
                   "'%.*s' is no value of 'memory': it must be a share like 75%%, a size of at "
                   "least 16MiB, or off",
                   CONF_QUOTE(text));
        return;
    }
    limits->memory = bytes;
    limits->memory_share = bytes ? 0 : share;
}

static void memory_print(struct conf_printer *printer, const struct weir_conf_item *item,
                         const void *base)
{
    const struct weir_limit_conf *limits = base;
    char text[CONF_NUMBER_MAX] = "off";

    if (limits->memory == 0)
        conf_fraction_print(WEIR_CONF_PERCENT, limits->memory_share, NULL, text);
    else if (limits->memory > 0)
        conf_number_print(WEIR_CONF_BYTES, limits->memory, text);
    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, weir_str(text), false);
}

const struct weir_conf_custom conf_memory_custom = { memory_parse, memory_print, CONF_SHAPE_TEXT };

/* ---- mode of a UNIX socket ---- */

static void mode_parse(struct conf_load *load, const struct weir_conf_item *item,
                       const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    struct weir_listener_conf *listener = base;
    struct weir_str text;
    int64_t mode = 0;

    if (!conf_value_text(load, item, pair->value, &text))
        return;
    for (size_t i = 0; i < text.len && mode >= 0; i++)
        mode = text.len <= 4 && text.ptr[i] >= '0' && text.ptr[i] <= '7'
                   ? mode * 8 + (text.ptr[i] - '0')
                   : -1;
    if (mode < 0 || mode > 0777 || text.len < 3)
        conf_error(load, &pair->value->mark,
                   "'%.*s' is no value of 'mode': it must be octal permissions like 0660",
                   CONF_QUOTE(text));
    else
        listener->mode = mode;
}

static void mode_print(struct conf_printer *printer, const struct weir_conf_item *item,
                       const void *base)
{
    const struct weir_listener_conf *listener = base;
    char text[8];

    snprintf(text, sizeof(text), "%04o", (unsigned)listener->mode & 0777);
    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, weir_str(text), false);
}

const struct weir_conf_custom conf_mode_custom = { mode_parse, mode_print, CONF_SHAPE_TEXT };

/* ---- log.to, access_log.to: a word or a file ---- */

/* { file: PATH }; false: something else (diagnosed). */
static bool file_target(struct conf_load *load, const struct weir_conf_item *item,
                        const struct conf_node *node, struct weir_str *path)
{
    static const struct weir_conf_item row = { "file", WEIR_CONF_PATH };
    struct conf_pair *pair =
        node->kind == CONF_MAP && node->count == 1 ? conf_node_find(node, WEIR_STR("file")) : NULL;

    if (pair) {
        bool good = conf_value(load, &row, pair->value, path);

        if (good)
            conf_check_writable(load, &pair->value->mark, *path);
        return good;
    }
    conf_error(load, &node->mark, "'%s' must be a word or { file: PATH }", item->name);
    return false;
}

static void log_to_parse(struct conf_load *load, const struct weir_conf_item *item,
                         const struct conf_pair *pair, void *base, const struct conf_where *where)
{
    static const int targets[] = { WEIR_LOG_TO_STDERR, WEIR_LOG_TO_SYSLOG, WEIR_LOG_TO_JOURNAL };
    struct weir_conf_item word = *item;
    struct weir_log_conf *log = base;
    int index = 0;

    word.type = WEIR_CONF_ENUM;
    if (pair->value->kind == CONF_SCALAR) {
        if (conf_value(load, &word, pair->value, &index))
            log->to = targets[index];
    } else if (file_target(load, item, pair->value, &log->file)) {
        log->to = WEIR_LOG_TO_FILE;
    }
}

static void print_file_target(struct conf_printer *printer, struct weir_str path)
{
    fputs(" { file:", printer->out);
    printer->flow = true;
    conf_print_text(printer, path, false);
    printer->flow = false;
    fputs(" }\n", printer->out);
}

static void log_to_print(struct conf_printer *printer, const struct weir_conf_item *item,
                         const void *base)
{
    const struct weir_log_conf *log = base;

    conf_print_key(printer, weir_str(item->name));
    if (log->to == WEIR_LOG_TO_FILE)
        print_file_target(printer, log->file);
    else
        conf_print_text(printer,
                        weir_str(log->to == WEIR_LOG_TO_SYSLOG    ? "syslog"
                                 : log->to == WEIR_LOG_TO_JOURNAL ? "journal"
                                                                  : "stderr"),
                        false);
}

const struct weir_conf_custom conf_log_to_custom = { log_to_parse, log_to_print,
                                                     CONF_SHAPE_WORDS | CONF_SHAPE_FILE };

static void access_to_parse(struct conf_load *load, const struct weir_conf_item *item,
                            const struct conf_pair *pair, void *base,
                            const struct conf_where *where)
{
    struct weir_conf_item word = *item;
    struct weir_access_log_conf *log = base;
    int index = 0;

    word.type = WEIR_CONF_ENUM;
    if (pair->value->kind != CONF_SCALAR)
        (void)file_target(load, item, pair->value, &log->to);
    else if (conf_value(load, &word, pair->value, &index))
        log->to = weir_str(item->words[index]);
}

static void access_to_print(struct conf_printer *printer, const struct weir_conf_item *item,
                            const void *base)
{
    const struct weir_access_log_conf *log = base;

    conf_print_key(printer, weir_str(item->name));
    if (weir_str_eq(log->to, WEIR_STR("stdout")) || weir_str_eq(log->to, WEIR_STR("stderr")))
        conf_print_text(printer, log->to, false);
    else
        print_file_target(printer, log->to);
}

const struct weir_conf_custom conf_access_to_custom = { access_to_parse, access_to_print,
                                                        CONF_SHAPE_WORDS | CONF_SHAPE_FILE };

/* ---- access_log ---- */

static void access_format_parse(struct conf_load *load, const struct weir_conf_item *item,
                                const struct conf_pair *pair, void *base,
                                const struct conf_where *where)
{
    struct weir_access_log_conf *log = base;
    struct weir_str text;

    if (!conf_value_text(load, item, pair->value, &text))
        return;
    log->template_text = (struct weir_str){ NULL, 0 };
    if (weir_str_eq(text, WEIR_STR("json"))) {
        log->format = WEIR_LOG_JSON;
    } else if (weir_str_eq(text, WEIR_STR("combined"))) {
        log->format = WEIR_LOG_COMBINED;
    } else if (!memchr(text.ptr, '$', text.len)) {
        conf_error(
            load, &pair->value->mark,
            "'%.*s' is no value of 'format': it must be json, combined, or a line with $names",
            CONF_QUOTE(text));
    } else {
        log->format = WEIR_LOG_FORMAT;
        log->template_text = text;
    }
}

static void access_format_print(struct conf_printer *printer, const struct weir_conf_item *item,
                                const void *base)
{
    const struct weir_access_log_conf *log = base;

    conf_print_key(printer, weir_str(item->name));
    if (log->format == WEIR_LOG_FORMAT)
        conf_print_text(printer, log->template_text, true);
    else
        conf_print_text(printer, weir_str(log->format == WEIR_LOG_JSON ? "json" : "combined"),
                        false);
}

const struct weir_conf_custom conf_access_format_custom = { access_format_parse,
                                                            access_format_print, CONF_SHAPE_TEXT };

void conf_access_log_fill(struct conf_load *load, const struct conf_pair *pair,
                          struct weir_access_log_conf *log, const struct conf_where *where)
{
    struct conf_where here = { where, "access_log", { NULL, 0 } };

    log->set = true;
    log->off = is_off(pair->value);
    if (!is_off(pair->value) && !is_on(pair->value))
        conf_fill(load, conf_access_log_items, log, pair->value, &here);
}

/* What the log itself would refuse when it is opened, where it was said. */
static void access_log_check(struct conf_load *load, const struct weir_access_log_conf *log)
{
    struct weir_access_log_conf format = { .format = log->format,
                                           .template_text = log->template_text };
    struct weir_access_log_conf redact = { .redact = log->redact };
    struct weir_tls_fault fault = { "" };

    if (conf_place(load, &log->format, "format") && weir_access_log_check(&format, &fault))
        conf_error(load, conf_at(load, &log->format, "format"), "%s", fault.text);
    if (conf_place(load, &log->redact, "redact") && weir_access_log_check(&redact, &fault))
        conf_error(load, conf_at(load, &log->redact, "redact"), "%s", fault.text);
}

static void access_log_parse(struct conf_load *load, const struct weir_conf_item *item,
                             const struct conf_pair *pair, void *base,
                             const struct conf_where *where)
{
    struct weir_access_log_conf *log = (void *)((char *)base + item->offset);

    conf_defaults(load, item->rows, log, false);
    conf_access_log_fill(load, pair, log, where);
    log->set = pair->mark.file != NULL; /* not by a default */
    access_log_check(load, log);
}

static void access_log_print(struct conf_printer *printer, const struct weir_conf_item *item,
                             const void *base)
{
    const struct weir_access_log_conf *log = (const void *)((const char *)base + item->offset);

    if (!log->off) {
        print_nested(printer, item, log);
        return;
    }
    conf_print_key(printer, weir_str(item->name));
    conf_print_text(printer, WEIR_STR("off"), false);
}

const struct weir_conf_custom conf_access_log_custom = { access_log_parse, access_log_print,
                                                         CONF_SHAPE_SWITCH | CONF_SHAPE_MAP };
