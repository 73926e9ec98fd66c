/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/access_log_text.h"

#include "base/str.h"
#include "base/utf8.h"

/* What a byte of a peer's text becomes. */
enum { PLAIN, QUOTED, CONTROL, HIGH };
static const uint8_t byte_class[256] = {
    [0 ... 31] = CONTROL, ['"'] = QUOTED, ['\\'] = QUOTED, [127] = CONTROL, [128 ... 255] = HIGH,
};

void weir_line_put(struct weir_line *line, const char *text, size_t len)
{
    size_t room = (size_t)(line->end - line->at);

    if (len > room)
        len = room;
    if (len)
        memcpy(line->at, text, len);
    line->at += len;
}

void weir_line_u64(struct weir_line *line, uint64_t value)
{
    char digits[20];

    weir_line_put(line, digits, weir_u64_to_str(value, digits));
}

/* ---- time: gmtime_r takes a lock of the C library, which all workers would share ---- */

struct date {
    unsigned year, month, day, hour, minute, second, us;
};

/* Days are counted from 1 March of a year 0, so that the leap day ends a year. */
static struct date date_of(uint64_t wall_us)
{
    struct date date = { .us = (unsigned)(wall_us % 1000000) };
    uint64_t seconds = wall_us / 1000000, days = seconds / 86400 + 719468;
    unsigned rest = (unsigned)(seconds % 86400), era = (unsigned)(days / 146097);
    unsigned in_era = (unsigned)(days % 146097);
    unsigned year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    unsigned in_year = in_era - (365 * year + year / 4 - year / 100);
    unsigned march_month = (5 * in_year + 2) / 153;

    date.hour = rest / 3600;
    date.minute = rest / 60 % 60;
    date.second = rest % 60;
    date.day = in_year - (153 * march_month + 2) / 5 + 1;
    date.month = march_month < 10 ? march_month + 3 : march_month - 9;
    date.year = era * 400 + year + (date.month <= 2);
    return date;
}

static char *put_digits(char *out, unsigned value, unsigned digits)
{
    for (unsigned i = digits; i; i--, value /= 10)
        out[i - 1] = (char)('0' + value % 10);
    return out + digits;
}

static char *put_clock(char *out, const struct date *date)
{
    out = put_digits(out, date->hour, 2);
    *out++ = ':';
    out = put_digits(out, date->minute, 2);
    *out++ = ':';
    return put_digits(out, date->second, 2);
}

void weir_line_time_iso(struct weir_line *line, uint64_t wall_us)
{
    struct date date = date_of(wall_us);
    char text[32], *out = put_digits(text, date.year, 4);

    *out++ = '-';
    out = put_digits(out, date.month, 2);
    *out++ = '-';
    out = put_digits(out, date.day, 2);
    *out++ = 'T';
    out = put_clock(out, &date);
    *out++ = '.';
    out = put_digits(out, date.us, 6);
    *out++ = 'Z';
    weir_line_put(line, text, (size_t)(out - text));
}

void weir_line_time_clf(struct weir_line *line, uint64_t wall_us)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct date date = date_of(wall_us);
    char text[32], *out = put_digits(text, date.day, 2);

    *out++ = '/';
    memcpy(out, months + 3 * (date.month - 1), 3);
    out += 3;
    *out++ = '/';
    out = put_digits(out, date.year, 4);
    *out++ = ':';
    out = put_clock(out, &date);
    memcpy(out, " +0000", 6);
    weir_line_put(line, text, (size_t)(out + 6 - text));
}

/* ---- text of peers ---- */

/* One unit of text that is not plain: *used bytes of input become the returned bytes in `out` (at
 * most 6). */
static size_t escape(const unsigned char *s, size_t left, bool json, char out[6], size_t *used)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;

    *used = 1;
    if (json && byte_class[*s] == HIGH && (n = weir_utf8_len(s, left))) {
        memcpy(out, s, n);
        *used = n;
        return n;
    }
    if (byte_class[*s] == QUOTED && json) {
        out[0] = '\\';
        out[1] = (char)*s;
        return 2;
    }
    n = json ? 4 : 2;
    memcpy(out, json ? "\\u00" : "\\x", n);
    out[n++] = hex[*s >> 4];
    out[n++] = hex[*s & 15];
    return n;
}

/* A field in progress: `end` leaves room for the mark of a cut. */
struct field {
    struct weir_line line;
    bool json, cut;
};

static struct field field_begin(const struct weir_line *line, size_t cap, bool json)
{
    size_t room = (size_t)(line->end - line->at);
    struct field field = { .line = *line, .json = json, .cut = room < 3 };

    field.line.end = line->at + (field.cut ? 0 : (cap < room ? cap : room) - 3);
    return field;
}

static void field_end(struct weir_line *line, const struct field *field)
{
    line->at = field->line.at;
    if (field->cut)
        weir_line_put(line, field->json ? "\xe2\x80\xa6" : "...", 3);
}

static void field_put(struct field *field, const char *text, size_t len)
{
    field->cut = field->cut || len > (size_t)(field->line.end - field->line.at);
    if (!field->cut)
        weir_line_put(&field->line, text, len);
}

static void field_plain(struct field *field, const char *text, size_t len)
{
    size_t room = (size_t)(field->line.end - field->line.at);

    weir_line_put(&field->line, text, len);
    field->cut = len > room;
}

static void field_text(struct field *field, struct weir_str text)
{
    const unsigned char *at = (const unsigned char *)text.ptr, *end = at + text.len;

    while (at < end && !field->cut) {
        const unsigned char *run = at;
        char out[6];
        size_t used;

        while (at < end && byte_class[*at] == PLAIN)
            at++;
        if (at > run)
            field_plain(field, (const char *)run, (size_t)(at - run));
        if (at == end || field->cut)
            break;
        field_put(field, out, escape(at, (size_t)(end - at), field->json, out, &used));
        at += used;
    }
}

/* A part without '=' may itself be the secret. */
static void field_query(struct field *field, struct weir_str query)
{
    bool first = true;

    while (query.ptr && !field->cut) {
        struct weir_str rest, value, name;
        struct weir_str part = weir_str_cut(query, '&', &rest);

        if (!first)
            field_put(field, "&", 1);
        first = false;
        name = weir_str_cut(part, '=', &value);
        if (value.ptr) {
            field_text(field, name);
            field_put(field, "=", 1);
        }
        if (part.len)
            field_put(field, "***", 3);
        query = rest;
    }
}

void weir_line_text(struct weir_line *line, struct weir_str text, size_t cap, bool json)
{
    struct field field = field_begin(line, cap, json);

    field_text(&field, text);
    field_end(line, &field);
}

void weir_line_query(struct weir_line *line, struct weir_str query, size_t cap, bool json)
{
    struct field field = field_begin(line, cap, json);

    field_query(&field, query);
    field_end(line, &field);
}

void weir_line_url(struct weir_line *line, struct weir_str url, size_t cap, bool json)
{
    struct field field = field_begin(line, cap, json);
    struct weir_str query, before = weir_str_cut(url, '?', &query);

    field_text(&field, before);
    if (query.ptr) {
        field_put(&field, "?", 1);
        field_query(&field, query);
    }
    field_end(line, &field);
}
