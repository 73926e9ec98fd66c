/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <stdlib.h>

bool weir_str_ieq(struct weir_str a, struct weir_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (weir_lower(a.ptr[i]) != weir_lower(b.ptr[i]))
            return false;
    return true;
}

bool weir_str_starts(struct weir_str s, struct weir_str prefix)
{
    return s.len >= prefix.len && (!prefix.len || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

bool weir_str_ends(struct weir_str s, struct weir_str suffix)
{
    return s.len >= suffix.len &&
           (!suffix.len || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

static bool is_ows(char c)
{
    return c == ' ' || c == '\t';
}

struct weir_str weir_str_trim(struct weir_str s)
{
    while (s.len && is_ows(s.ptr[0]))
        s.ptr++, s.len--;
    while (s.len && is_ows(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

struct weir_str weir_str_cut(struct weir_str s, char sep, struct weir_str *rest)
{
    const char *at = s.len ? memchr(s.ptr, sep, s.len) : NULL;

    if (!at) {
        *rest = (struct weir_str){ NULL, 0 };
        return s;
    }
    *rest = (struct weir_str){ at + 1, s.len - (size_t)(at - s.ptr) - 1 };
    return (struct weir_str){ s.ptr, (size_t)(at - s.ptr) };
}

bool weir_str_next_element(struct weir_str *list, struct weir_str *element)
{
    while (list->len) {
        struct weir_str rest;

        *element = weir_str_trim(weir_str_cut(*list, ',', &rest));
        *list = rest;
        if (element->len)
            return true;
    }
    return false;
}

bool weir_str_has_token(struct weir_str list, struct weir_str token)
{
    struct weir_str element;

    while (weir_str_next_element(&list, &element))
        if (weir_str_ieq(element, token))
            return true;
    return false;
}

bool weir_str_to_u64(struct weir_str s, uint64_t *value)
{
    uint64_t v = 0;

    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned char)s.ptr[i] - '0';

        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *value = v;
    return true;
}

size_t weir_u64_to_str(uint64_t value, char *out)
{
    char digits[20];
    size_t n = 0;

    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

char *weir_str_dup(struct weir_str s)
{
    char *copy = malloc(s.len + 1);

    if (!copy)
        return NULL;
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = 0;
    return copy;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

static bool same(char a, char b)
{
    return weir_lower(a) == weir_lower(b);
}

/* Optimal string alignment distance; three rows suffice. */
unsigned weir_str_distance(struct weir_str a, struct weir_str b)
{
    enum { MAX = 64 };
    unsigned rows[3][MAX + 1];

    if (a.len > MAX || b.len > MAX)
        return (unsigned)(a.len > b.len ? a.len : b.len);
    for (unsigned j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];

        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned cost = !same(a.ptr[i - 1], b.ptr[j - 1]);
            bool swapped = i > 1 && j > 1 && same(a.ptr[i - 1], b.ptr[j - 2]) &&
                           same(a.ptr[i - 2], b.ptr[j - 1]);

            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + cost);
            if (swapped && two[j - 2] + 1 < row[j])
                row[j] = two[j - 2] + 1;
        }
    }
    return rows[a.len % 3][b.len];
}
