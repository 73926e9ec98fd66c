/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.c: see grpc.h. */
#include "http/grpc.h"

enum { TIMEOUT_DIGITS = 8, STATUS_DIGITS = 3 };

/* The rest of `text` behind a prefix, without case (RFC 9110 8.3.1). */
static bool skip(struct weir_str *text, struct weir_str prefix)
{
    if (text->len < prefix.len || !weir_str_ieq((struct weir_str){ text->ptr, prefix.len }, prefix))
        return false;
    text->ptr += prefix.len;
    text->len -= prefix.len;
    return true;
}

/* A subtype ends here: at its suffix, at parameters, or altogether. */
static bool at_end(struct weir_str rest)
{
    return !rest.len || memchr("+; \t", rest.ptr[0], 4);
}

enum weir_grpc_kind weir_grpc_kind_of(struct weir_str type)
{
    enum weir_grpc_kind kind = WEIR_GRPC_PLAIN;

    if (!skip(&type, WEIR_STR("application/grpc")))
        return WEIR_GRPC_NONE;
    if (skip(&type, WEIR_STR("-web")))
        kind = WEIR_GRPC_WEB;
    if (kind == WEIR_GRPC_WEB && skip(&type, WEIR_STR("-text"))) {
        kind = WEIR_GRPC_WEB_TEXT;
        skip(&type, WEIR_STR("-base64"));
    }
    return at_end(type) ? kind : WEIR_GRPC_NONE;
}

bool weir_grpc_path(struct weir_str path, struct weir_str *service, struct weir_str *method)
{
    size_t at = path.len;

    while (at && path.ptr[at - 1] != '/')
        at--;
    if (at < 3 || at == path.len || path.ptr[0] != '/')
        return false;
    *service = (struct weir_str){ path.ptr + 1, at - 2 };
    *method = (struct weir_str){ path.ptr + at, path.len - at };
    return true;
}

/* Largest first. What is finer than a microsecond has no place here. */
static const struct unit {
    char name;
    uint64_t us;
} units[] = {
    { 'H', 3600000000 }, { 'M', 60000000 }, { 'S', 1000000 }, { 'm', 1000 }, { 'u', 1 },
};
enum { UNITS = sizeof(units) / sizeof(units[0]) };

bool weir_grpc_timeout_parse(struct weir_str text, uint64_t *us)
{
    uint64_t value;
    char unit;

    if (text.len < 2 || text.len > TIMEOUT_DIGITS + 1 ||
        !weir_str_to_u64((struct weir_str){ text.ptr, text.len - 1 }, &value))
        return false;
    unit = text.ptr[text.len - 1];
    if (unit == 'n') {
        *us = (value + 999) / 1000;
        return true;
    }
    for (unsigned i = 0; i < UNITS; i++)
        if (units[i].name == unit) {
            *us = value * units[i].us; /* at most 99,999,999 hours: it fits */
            return true;
        }
    return false;
}

size_t weir_grpc_timeout_print(uint64_t us, char out[WEIR_GRPC_TIMEOUT_BYTES])
{
    const uint64_t max = 99999999;
    unsigned i = UNITS - 1;
    uint64_t value;
    size_t len;

    while (i && us / units[i].us > max) /* the finest unit in which it has eight digits */
        i--;
    value = us / units[i].us;
    len = weir_u64_to_str(value < max ? value : max, out);
    out[len] = units[i].name;
    return len + 1;
}

int weir_grpc_status_parse(struct weir_str text)
{
    uint64_t value;

    return text.len <= STATUS_DIGITS && weir_str_to_u64(text, &value) ? (int)value : -1;
}

const char *weir_grpc_status_name(int status)
{
    switch (status) {
#define STATUS_NAME(number, name) \
    case number:                  \
        return #name;
        WEIR_GRPC_STATUSES(STATUS_NAME)
#undef STATUS_NAME
    default:
        return "";
    }
}

enum weir_grpc_status weir_grpc_status_of_http(int status)
{
    switch (status) {
    case 400:
    case 431:
        return WEIR_GRPC_INTERNAL;
    case 401:
        return WEIR_GRPC_UNAUTHENTICATED;
    case 403:
        return WEIR_GRPC_PERMISSION_DENIED;
    case 404:
        return WEIR_GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return WEIR_GRPC_UNAVAILABLE;
    default: /* also 200: an answer that is well has a grpc-status */
        return WEIR_GRPC_UNKNOWN;
    }
}

size_t weir_grpc_message_encode(struct weir_str text, char *out)
{
    char *at = out;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if (c >= 0x20 && c <= 0x7e && c != '%') {
            *at++ = (char)c;
            continue;
        }
        *at++ = '%';
        *at++ = "0123456789ABCDEF"[c >> 4];
        *at++ = "0123456789ABCDEF"[c & 15];
    }
    return (size_t)(at - out);
}
