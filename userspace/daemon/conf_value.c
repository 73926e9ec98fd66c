/* SPDX-License-Identifier: Apache-2.0 */
/* conf_value.c: scalars: texts with ${NAME}, numbers with units, switches, words. */
#include "daemon/conf_internal.h"

#include <errno.h>
#include <stdlib.h>

struct unit {
    const char *name;
    int64_t factor;
};

/* The largest first: printing takes the first that divides. */
static const struct unit ms_units[] = {
    { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 }, { NULL, 0 }
};
static const struct unit byte_units[] = { { "TiB", (int64_t)1 << 40 },
                                          { "GiB", 1 << 30 },
                                          { "MiB", 1 << 20 },
                                          { "KiB", 1 << 10 },
                                          { "B", 1 },
                                          { "", 1 },
                                          { NULL, 0 } };
static const struct unit plain_units[] = { { "", 1 }, { NULL, 0 } };

static const struct unit *units_of(enum weir_conf_type type)
{
    return type == WEIR_CONF_MS ? ms_units : type == WEIR_CONF_BYTES ? byte_units : plain_units;
}

bool conf_number(enum weir_conf_type type, struct weir_str text, int64_t *value)
{
    bool negative = type == WEIR_CONF_INT && text.len && text.ptr[0] == '-';
    struct weir_str digits = { text.ptr + negative, 0 }, unit;
    uint64_t number;

    while (digits.len + negative < text.len && digits.ptr[digits.len] >= '0' &&
           digits.ptr[digits.len] <= '9')
        digits.len++;
    unit = (struct weir_str){ digits.ptr + digits.len, text.len - negative - digits.len };
    if (!weir_str_to_u64(digits, &number) || number > INT64_MAX)
        return false;
    if (type == WEIR_CONF_MS && number == 0 && unit.len == 0) { /* 0 of anything */
        *value = 0;
        return true;
    }
    for (const struct unit *u = units_of(type); u->name; u++) {
        if (!weir_str_eq(unit, weir_str(u->name)))
            continue;
        if (number > (uint64_t)(INT64_MAX / u->factor))
            return false;
        *value = (int64_t)number * u->factor * (negative ? -1 : 1);
        return true;
    }
    return false;
}

/* Decimal digits with at most one point: no sign, exponent, locale. */
static bool decimal(struct weir_str text, double *value)
{
    double number = 0, scale = 1;
    bool point = false;

    if (text.len == 0 || text.len > 20 || text.ptr[0] == '.' || text.ptr[text.len - 1] == '.')
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        number = number * 10 + (text.ptr[i] - '0');
        scale *= point ? 10 : 1;
    }
    *value = number / scale;
    return true;
}

bool conf_fraction(enum weir_conf_type type, struct weir_str text, double *value)
{
    static const struct unit per[] = { { "s", 1 }, { "m", 60 }, { "h", 3600 }, { NULL, 0 } };
    struct weir_str unit, number;

    if (type == WEIR_CONF_PERCENT) {
        if (text.len < 2 || text.ptr[text.len - 1] != '%' ||
            !decimal((struct weir_str){ text.ptr, text.len - 1 }, value))
            return false;
        *value /= 100;
        return true;
    }
    number = weir_str_cut(text, '/', &unit);
    if (weir_str_absent(unit) || !decimal(number, value))
        return false;
    for (const struct unit *u = per; u->name; u++) {
        if (weir_str_eq(unit, weir_str(u->name))) {
            *value /= (double)u->factor;
            return true;
        }
    }
    return false;
}

size_t conf_number_print(enum weir_conf_type type, int64_t value, char *out)
{
    const struct unit *u = units_of(type);

    if (value == 0)
        return (size_t)snprintf(out, CONF_NUMBER_MAX, type == WEIR_CONF_MS ? "0s" : "0");
    while (u->name && (value % u->factor || (type == WEIR_CONF_BYTES && !strcmp(u->name, "B"))))
        u++;
    return (size_t)snprintf(out, CONF_NUMBER_MAX, "%lld%s", (long long)(value / u->factor),
                            u->name);
}

static bool near(double a, double b)
{
    double gap = a > b ? a - b : b - a;

    return gap <= (a > 0 ? a : -a) * 1e-12;
}

/* The shortest decimal that reads to the same value. */
static size_t decimal_print(double value, char *out)
{
    for (int digits = 0; digits < 12; digits++) {
        size_t len = (size_t)snprintf(out, CONF_NUMBER_MAX / 2, "%.*f", digits, value);
        double again;

        if (decimal((struct weir_str){ out, len }, &again) && near(value, again))
            return len;
    }
    return strlen(out);
}

static bool whole(double value)
{
    return near(value, (double)(int64_t)(value + 0.5));
}

size_t conf_fraction_print(enum weir_conf_type type, double value, const char *like, char *out)
{
    static const struct unit per[] = { { "/s", 1 }, { "/m", 60 }, { "/h", 3600 } };
    const char *slash = like ? strchr(like, '/') : NULL;
    size_t len, chosen = 3;

    if (type == WEIR_CONF_PERCENT) {
        len = decimal_print(value * 100, out);
        return len + (size_t)snprintf(out + len, CONF_NUMBER_MAX / 2, "%%");
    }
    for (size_t i = 3; i-- > 0;)
        if (whole(value * (double)per[i].factor))
            chosen = i;
    for (size_t i = 0; i < 3 && slash; i++)
        if (!strcmp(slash, per[i].name) && whole(value * (double)per[i].factor))
            chosen = i;
    chosen %= 3; /* whole in none: a second */
    len = decimal_print(value * (double)per[chosen].factor, out);
    return len + (size_t)snprintf(out + len, CONF_NUMBER_MAX / 2, "%s", per[chosen].name);
}

/* ---- texts ---- */

struct expansion {
    struct conf_load *load;
    const struct conf_node *node;
    bool template;
    char *out; /* NULL: only measure */
    size_t len;
    bool failed, outside; /* outside: some of it is of the environment */
};

static void put(struct expansion *x, const char *bytes, size_t len)
{
    if (x->out)
        memcpy(x->out + x->len, bytes, len);
    x->len += len;
}

/* ${NAME}: returns how many bytes it took, 0 when it is not one. */
static size_t expand_name(struct expansion *x, struct weir_str rest)
{
    const char *end = rest.len > 1 && rest.ptr[1] == '{' ? memchr(rest.ptr, '}', rest.len) : NULL;
    char name[128];
    const char *value;

    if (rest.len < 2 || rest.ptr[1] != '{')
        return 0;
    if (!end || end == rest.ptr + 2 || (size_t)(end - rest.ptr - 2) >= sizeof(name)) {
        conf_error(x->load, &x->node->mark, "'${' needs a name and '}'; a dollar itself is '$$'");
        x->failed = true;
        return rest.len;
    }
    memcpy(name, rest.ptr + 2, (size_t)(end - rest.ptr - 2));
    name[end - rest.ptr - 2] = 0;
    x->outside = true;
    value = getenv(name);
    if (!value) {
        conf_error(x->load, &x->node->mark, "the environment has no variable '%s'", name);
        x->failed = true;
        value = "";
    }
    for (; *value; value++) { /* a value is no template */
        put(x, value, 1);
        if (x->template && *value == '$')
            put(x, value, 1);
    }
    return (size_t)(end + 1 - rest.ptr);
}

static void expand(struct expansion *x)
{
    struct weir_str text = x->node->text;

    for (size_t i = 0; i < text.len && !x->failed;) {
        struct weir_str rest = { text.ptr + i, text.len - i };
        size_t used = text.ptr[i] == '$' ? expand_name(x, rest) : 0;

        if (used == 0 && text.ptr[i] == '$' && rest.len > 1 && rest.ptr[1] == '$') {
            put(x, "$$", x->template ? 2 : 1);
            used = 2;
        } else if (used == 0) {
            put(x, rest.ptr, 1);
            used = 1;
        }
        i += used;
    }
}

/* What came from outside is no template: `$` is doubled for what will read it as one. */
static struct weir_str secret_copy(struct conf_load *load, struct weir_str text, bool template)
{
    size_t len = text.len;
    char *copy;

    for (size_t i = 0; i < text.len; i++)
        len += template && text.ptr[i] == '$';
    copy = conf_alloc(load, len + 1);
    if (!copy)
        return (struct weir_str){ NULL, 0 };
    for (size_t i = 0, at = 0; i < text.len; i++) {
        if (template && text.ptr[i] == '$')
            copy[at++] = '$';
        copy[at++] = text.ptr[i];
    }
    return (struct weir_str){ copy, len };
}

static struct weir_str file_source(struct conf_load *load, struct weir_str path)
{
    size_t room = path.len + sizeof("{ file:  }");
    char *text = conf_alloc(load, room);
    int len = text ? snprintf(text, room, "{ file: %.*s }", WEIR_FMT(path)) : 0;

    return (struct weir_str){ text, (size_t)len };
}

/* { file: PATH }: the content, without the newline at its end. */
static bool secret_text(struct conf_load *load, const struct weir_conf_item *item,
                        const struct conf_node *node, struct weir_str *text)
{
    struct conf_pair *pair = node->count == 1 ? conf_node_find(node, WEIR_STR("file")) : NULL;
    struct weir_str name, path;
    int err;

    if (!pair) {
        conf_error(load, &node->mark, "must be a text, or { file: PATH }");
        return false;
    }
    if (!conf_value_text(load, NULL, pair->value, &name))
        return false;
    path = conf_path(load, &pair->value->mark, name);
    if (load->no_files || !path.ptr) {
        *text = WEIR_STR("");
        return path.ptr != NULL;
    }
    err = conf_slurp(load, path.ptr, CONF_SECRET_BYTES_MAX, text);
    if (err) {
        conf_error(load, &pair->value->mark, "cannot read '%.*s': %s", CONF_QUOTE(path),
                   weir_files_fault(err));
        return false;
    }
    if (text->len && text->ptr[text->len - 1] == '\n')
        text->len--;
    *text = secret_copy(load, *text, item->flags & WEIR_CONF_TEMPLATE);
    conf_secret_add(load, *text, path, file_source(load, path));
    return text->ptr != NULL;
}

bool conf_value_text(struct conf_load *load, const struct weir_conf_item *item,
                     const struct conf_node *node, struct weir_str *text)
{
    struct expansion x = { .load = load,
                           .node = node,
                           .template = item && item->flags & WEIR_CONF_TEMPLATE };

    if (node->kind == CONF_MAP && item && item->flags & WEIR_CONF_SECRET)
        return secret_text(load, item, node, text);
    if (node->kind != CONF_SCALAR) {
        conf_error(load, &node->mark, "%s%s%smust be a text, not %s", item ? "'" : "",
                   item ? item->name : "", item ? "' " : "", conf_kind_name(node->kind));
        return false;
    }
    expand(&x);
    if (x.failed)
        return false;
    x.out = conf_alloc(load, x.len + 1);
    if (!x.out)
        return false;
    x.len = 0;
    expand(&x);
    *text = (struct weir_str){ x.out, x.len };
    if (x.outside)
        conf_secret_add(load, *text, (struct weir_str){ NULL, 0 }, conf_copy(load, node->text));
    return true;
}

/* ---- typed values ---- */

static const char *type_example(enum weir_conf_type type)
{
    switch (type) {
    case WEIR_CONF_MS:
        return "a duration like 200ms, 2s, 5m or 1h";
    case WEIR_CONF_BYTES:
        return "a size like 16KiB, 1MiB or 4096";
    case WEIR_CONF_RATE:
        return "a rate like 100/s or 6000/m";
    case WEIR_CONF_PERCENT:
        return "a percentage like 20%";
    default:
        return "a whole number";
    }
}

static bool in_range(struct conf_load *load, const struct weir_conf_item *item,
                     const struct conf_node *node, int64_t value)
{
    char min[CONF_NUMBER_MAX], max[CONF_NUMBER_MAX];

    if ((!item->min && !item->max) || (value >= item->min && value <= item->max))
        return true;
    conf_number_print(item->type, item->min, min);
    conf_number_print(item->type, item->max, max);
    if (value == 0 && item->flags & WEIR_CONF_OFF)
        conf_error(load, &node->mark, "'%s' must not be 0; to switch it off write 'off'",
                   item->name);
    else
        conf_error(load, &node->mark, "'%s' must be from %s to %s", item->name, min, max);
    return false;
}

static void wrong_value(struct conf_load *load, const struct weir_conf_item *item,
                        const struct conf_node *node, struct weir_str text)
{
    conf_error(load, &node->mark, "'%.*s' is no value of '%s': it must be %s%s%s", CONF_QUOTE(text),
               item->name, type_example(item->type), item->flags & WEIR_CONF_OFF ? ", or off" : "",
               item->flags & WEIR_CONF_AUTO ? ", or auto" : "");
}

static bool value_number(struct conf_load *load, const struct weir_conf_item *item,
                         const struct conf_node *node, struct weir_str text, void *field)
{
    int64_t value;

    if (item->type == WEIR_CONF_RATE || item->type == WEIR_CONF_PERCENT) {
        double fraction;
        bool good = conf_fraction(item->type, text, &fraction);

        if (!good) {
            wrong_value(load, item, node, text);
        } else if (item->type == WEIR_CONF_PERCENT ? fraction > 1
                                                   : fraction <= 0 || fraction > 1e9) {
            conf_error(load, &node->mark, "'%s' must be %s", item->name,
                       item->type == WEIR_CONF_PERCENT ? "from 0% to 100%"
                                                       : "more than 0/s, and at most 1000000000/s");
            good = false;
        }
        if (good)
            *(double *)field = fraction;
        return good;
    }
    if (!conf_number(item->type, text, &value)) {
        wrong_value(load, item, node, text);
        return false;
    }
    if (!in_range(load, item, node, value))
        return false;
    *(int64_t *)field = value;
    return true;
}

static bool value_bool(struct conf_load *load, const struct weir_conf_item *item,
                       const struct conf_node *node, struct weir_str text, void *field)
{
    bool on = weir_str_eq(text, WEIR_STR("on")) || weir_str_eq(text, WEIR_STR("true"));

    if (!on && !weir_str_eq(text, WEIR_STR("off")) && !weir_str_eq(text, WEIR_STR("false"))) {
        conf_error(load, &node->mark, "'%.*s' is no value of '%s': it must be on or off",
                   CONF_QUOTE(text), item->name);
        return false;
    }
    *(bool *)field = on;
    return true;
}

/* "tcp, http" */
static const char *words_text(struct conf_load *load, const char *const *words)
{
    char text[256] = "";
    size_t len = 0;

    for (; *words && len < sizeof(text) - 1; words++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len ? ", " : "", *words);
    return weir_arena_copy(&load->scratch, weir_str(text)).ptr ?: "";
}

static int word_index(struct conf_load *load, const struct weir_conf_item *item,
                      const struct conf_node *node, struct weir_str text)
{
    struct conf_nearest near;

    conf_nearest_init(&near, text);
    for (int i = 0; item->words[i]; i++) {
        if (weir_str_eq(text, weir_str(item->words[i])))
            return i;
        conf_nearest_add(&near, weir_str(item->words[i]));
    }
    conf_error_hint(load, &node->mark, item->words[1] ? near.best : (struct weir_str){ NULL, 0 },
                    "'%.*s' is no value of '%s': it must be %s%s%s", CONF_QUOTE(text), item->name,
                    item->words[1] ? "one of " : "", words_text(load, item->words),
                    item->custom == &conf_when_custom ? ", or a status like 503"
                    : item->custom && item->custom->shapes & CONF_SHAPE_FILE ? ", or { file: PATH }"
                                                                             : "");
    return -1;
}

static bool value_file(struct conf_load *load, const struct weir_conf_item *item,
                       const struct conf_node *node, struct weir_str text, void *field)
{
    struct weir_str path = conf_path(load, &node->mark, text);
    int err;

    if (!path.ptr || text.len == 0) {
        conf_error(load, &node->mark, "'%s' must be a path", item->name);
        return false;
    }
    *(struct weir_str *)field = path;
    if (load->no_files || item->type == WEIR_CONF_PATH)
        return true;
    err = weir_files_check(load->door, path.ptr, item->type == WEIR_CONF_DIR);
    if (err)
        conf_error(load, &node->mark, "cannot read '%.*s': %s", CONF_QUOTE(path), strerror(-err));
    return err == 0;
}

/* `off` and `auto` where the row allows them. */
static bool value_word(const struct weir_conf_item *item, struct weir_str text, void *field)
{
    bool off = item->flags & WEIR_CONF_OFF && weir_str_eq(text, WEIR_STR("off"));
    bool automatic = item->flags & WEIR_CONF_AUTO && weir_str_eq(text, WEIR_STR("auto"));

    if (!off && !automatic)
        return false;
    if (item->type == WEIR_CONF_STR || item->type == WEIR_CONF_FILE || item->type == WEIR_CONF_PATH)
        *(struct weir_str *)field = (struct weir_str){ NULL, 0 };
    else if (item->type == WEIR_CONF_RATE || item->type == WEIR_CONF_PERCENT)
        *(double *)field = off ? WEIR_UNLIMITED : 0;
    else if (item->type == WEIR_CONF_INT || item->type == WEIR_CONF_MS ||
             item->type == WEIR_CONF_BYTES)
        *(int64_t *)field = off ? WEIR_UNLIMITED : 0;
    else
        return false;
    return true;
}

bool conf_value(struct conf_load *load, const struct weir_conf_item *item,
                const struct conf_node *node, void *field)
{
    struct weir_str text;
    int word;

    if (!conf_value_text(load, item, node, &text))
        return false;
    if (node->kind == CONF_SCALAR && value_word(item, text, field))
        return true;
    switch (item->type) {
    case WEIR_CONF_BOOL:
        return value_bool(load, item, node, text, field);
    case WEIR_CONF_STR:
        *(struct weir_str *)field = text;
        return true;
    case WEIR_CONF_ENUM:
        word = word_index(load, item, node, text);
        if (word >= 0)
            *(int *)field = word;
        return word >= 0;
    case WEIR_CONF_FLAGS:
        word = word_index(load, item, node, text);
        if (word >= 0)
            *(unsigned *)field |= 1u << word;
        return word >= 0;
    case WEIR_CONF_FILE:
    case WEIR_CONF_DIR:
    case WEIR_CONF_PATH:
        return value_file(load, item, node, text, field);
    default:
        return value_number(load, item, node, text, field);
    }
}
