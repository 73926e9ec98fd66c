/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sni.c: records are put together to one message, the message is walked by a cursor that never leaves it. The walk is of the
 * whole message, also behind the name: what is wrong further on would be refused by the server, and a name that is there
 * twice must not be read in two ways.
 */
#include "net/sni.h"

#include "weir/limits.h"

#include <string.h>

enum {
    RECORD_HEADER_BYTES = 5,
    RECORD_BYTES_MAX = 1 << 14,
    RECORDS_MAX = 64, /* of one message; each may have a single byte */
    TYPE_HANDSHAKE = 22,
    VERSION_MAJOR = 3,
    MESSAGE_HEADER_BYTES = 4,
    MESSAGE_CLIENT_HELLO = 1,
    RANDOM_BYTES = 32,
    SESSION_ID_BYTES_MAX = 32,
    EXT_SERVER_NAME = 0,
    NAME_HOST = 0,
};

/* --- a cursor ---------------------------------------------------------------------------------- */

struct cursor {
    const uint8_t *at, *end;
};

static size_t left(const struct cursor *cur)
{
    return (size_t)(cur->end - cur->at);
}

static bool take(struct cursor *cur, size_t len, struct cursor *part)
{
    if (left(cur) < len)
        return false;
    *part = (struct cursor){ cur->at, cur->at + len };
    cur->at += len;
    return true;
}

/* A number of `bytes` bytes, big-endian. */
static bool take_number(struct cursor *cur, size_t bytes, size_t *value)
{
    struct cursor part;

    if (!take(cur, bytes, &part))
        return false;
    for (*value = 0; part.at < part.end; part.at++)
        *value = *value << 8 | *part.at;
    return true;
}

/* A vector: its length in `bytes` bytes, then that many (RFC 8446 3.4). */
static bool take_vector(struct cursor *cur, size_t bytes, struct cursor *part)
{
    size_t len;

    return take_number(cur, bytes, &len) && take(cur, len, part);
}

/* --- records ----------------------------------------------------------------------------------- */

/* Are these, as far as they go, the beginning of a handshake record? */
static bool is_record(const uint8_t *data, size_t len)
{
    return data[0] == TYPE_HANDSHAKE && (len < 2 || data[1] == VERSION_MAJOR);
}

/* Puts the message together in `flat`, which has WEIR_HELLO_BYTES_MAX; NAME: it is whole, in *body without its header. */
static enum weir_hello gather(const uint8_t *data, size_t len, uint8_t *flat, struct cursor *body)
{
    size_t have = 0, want = MESSAGE_HEADER_BYTES;

    for (unsigned records = 0; records < RECORDS_MAX; records++) {
        size_t record, here;

        if (len && !is_record(data, len))
            return WEIR_HELLO_BAD;
        if (len < RECORD_HEADER_BYTES)
            return WEIR_HELLO_MORE;
        record = (size_t)data[3] << 8 | data[4];
        if (record == 0 || record > RECORD_BYTES_MAX)
            return WEIR_HELLO_BAD;
        data += RECORD_HEADER_BYTES;
        len -= RECORD_HEADER_BYTES;
        here = record < len ? record : len;
        if (here > WEIR_HELLO_BYTES_MAX - have)
            here = WEIR_HELLO_BYTES_MAX - have;
        memcpy(flat + have, data, here);
        have += here;
        if (have >= 1 && flat[0] != MESSAGE_CLIENT_HELLO)
            return WEIR_HELLO_BAD;
        if (have >= MESSAGE_HEADER_BYTES)
            want = MESSAGE_HEADER_BYTES +
                   ((size_t)flat[1] << 16 | (size_t)flat[2] << 8 | (size_t)flat[3]);
        if (want > WEIR_HELLO_BYTES_MAX)
            return WEIR_HELLO_BAD;
        if (have >= want) {
            *body = (struct cursor){ flat + MESSAGE_HEADER_BYTES, flat + want };
            return WEIR_HELLO_NAME;
        }
        if (record > len)
            return WEIR_HELLO_MORE;
        data += record;
        len -= record;
    }
    return WEIR_HELLO_BAD;
}

/* --- the message ------------------------------------------------------------------------------- */

/* A host name as in RFC 6066 3, and the underscore that some have: labels of letters, digits, '-', '_', none of them empty. */
static bool is_host(struct cursor name)
{
    bool label = false;

    for (; name.at < name.end; name.at++) {
        uint8_t c = *name.at, lower = c | 0x20;

        if (c == '.' && !label)
            return false;
        label = c != '.';
        if (label &&
            !((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    return label;
}

static enum weir_hello keep_name(struct cursor name, struct weir_sni *sni)
{
    if (left(&name) > 1 && name.end[-1] == '.')
        name.end--;
    if (left(&name) > WEIR_SNI_BYTES_MAX || !is_host(name))
        return WEIR_HELLO_BAD;
    sni->len = (uint8_t)left(&name);
    memcpy(sni->name, name.at, sni->len);
    return WEIR_HELLO_NAME;
}

/* ServerNameList: one host_name at most; others have a length as well (RFC 6066 3). */
static enum weir_hello walk_names(struct cursor data, struct weir_sni *sni)
{
    enum weir_hello found = WEIR_HELLO_NONE;
    struct cursor list, name;
    size_t type;

    if (!take_vector(&data, 2, &list) || left(&data) || !left(&list))
        return WEIR_HELLO_BAD;
    while (left(&list)) {
        if (!take_number(&list, 1, &type) || !take_vector(&list, 2, &name))
            return WEIR_HELLO_BAD;
        if (type != NAME_HOST)
            continue;
        if (found != WEIR_HELLO_NONE)
            return WEIR_HELLO_BAD;
        found = keep_name(name, sni);
        if (found == WEIR_HELLO_BAD)
            return found;
    }
    return found;
}

static enum weir_hello walk_extensions(struct cursor list, struct weir_sni *sni)
{
    enum weir_hello found = WEIR_HELLO_NONE;
    bool seen = false;

    while (left(&list)) {
        struct cursor data;
        size_t type;

        if (!take_number(&list, 2, &type) || !take_vector(&list, 2, &data))
            return WEIR_HELLO_BAD;
        if (type != EXT_SERVER_NAME)
            continue;
        if (seen) /* RFC 8446 4.2: each at most once */
            return WEIR_HELLO_BAD;
        seen = true;
        found = walk_names(data, sni);
        if (found == WEIR_HELLO_BAD)
            return found;
    }
    return found;
}

static enum weir_hello walk_hello(struct cursor hello, struct weir_sni *sni)
{
    struct cursor random, session, suites, compressions, extensions;
    size_t major, minor;

    if (!take_number(&hello, 1, &major) || !take_number(&hello, 1, &minor) ||
        major != VERSION_MAJOR || !take(&hello, RANDOM_BYTES, &random) ||
        !take_vector(&hello, 1, &session) || left(&session) > SESSION_ID_BYTES_MAX ||
        !take_vector(&hello, 2, &suites) || left(&suites) < 2 || left(&suites) % 2 ||
        !take_vector(&hello, 1, &compressions) || !left(&compressions))
        return WEIR_HELLO_BAD;
    if (!left(&hello)) /* TLS 1.2 and before: extensions may be absent (RFC 5246 7.4.1.2) */
        return WEIR_HELLO_NONE;
    if (!take_vector(&hello, 2, &extensions) || left(&hello))
        return WEIR_HELLO_BAD;
    return walk_extensions(extensions, sni);
}

enum weir_hello weir_sni_peek(const uint8_t *data, size_t len, struct weir_sni *sni)
{
    uint8_t flat[WEIR_HELLO_BYTES_MAX];
    struct cursor hello;
    enum weir_hello verdict;

    if (len && !is_record(data, len))
        return WEIR_HELLO_NONE;
    verdict = gather(data, len, flat, &hello);
    if (verdict == WEIR_HELLO_NAME)
        return walk_hello(hello, sni);
    return verdict == WEIR_HELLO_MORE && len >= WEIR_HELLO_BYTES_MAX ? WEIR_HELLO_BAD : verdict;
}
