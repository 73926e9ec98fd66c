/* SPDX-License-Identifier: Apache-2.0 */
#include "net/addr.h"

#include "base/str.h"
#include "weir/error.h"

#include <arpa/inet.h>
#include <stdio.h>

enum { V4_BITS_OFFSET = 96, PORT_DIGITS_MAX = 5 };

static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };

/* inet_pton of bytes that are not terminated. */
static bool text_to_ip(int family, struct weir_str text, void *out)
{
    char host[INET6_ADDRSTRLEN];

    if (text.len == 0 || text.len >= sizeof(host) || memchr(text.ptr, 0, text.len))
        return false;
    memcpy(host, text.ptr, text.len);
    host[text.len] = 0;
    return inet_pton(family, host, out) == 1;
}

static bool text_to_port(struct weir_str text, uint16_t *port)
{
    uint64_t value;

    if (text.len > PORT_DIGITS_MAX || !weir_str_to_u64(text, &value) || value > UINT16_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

/* "host:port" or "[v6]:port": the two parts, the host without brackets. */
static bool cut_port(struct weir_str text, struct weir_str *host, bool *bracketed, uint16_t *port)
{
    const char *colon;

    *bracketed = text.len > 0 && text.ptr[0] == '[';
    if (*bracketed) {
        const char *end = memchr(text.ptr, ']', text.len);

        if (!end || (size_t)(end + 1 - text.ptr) >= text.len || end[1] != ':')
            return false;
        colon = end + 1;
        *host = (struct weir_str){ text.ptr + 1, (size_t)(end - text.ptr) - 1 };
    } else {
        colon = text.len ? memchr(text.ptr, ':', text.len) : NULL;
        if (!colon)
            return false;
        *host = (struct weir_str){ text.ptr, (size_t)(colon - text.ptr) };
    }
    colon++;
    return text_to_port((struct weir_str){ colon, text.len - (size_t)(colon - text.ptr) }, port);
}

static int parse_unix(struct weir_addr *addr, struct weir_str path)
{
    if (path.len == 0 || path.len >= sizeof(addr->un.sun_path) || memchr(path.ptr, 0, path.len))
        return WEIR_EADDR;
    addr->un.sun_family = AF_UNIX;
    memcpy(addr->un.sun_path, path.ptr, path.len);
    addr->un.sun_path[path.len] = 0;
    addr->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    return 0;
}

int weir_addr_parse_ip(struct weir_addr *addr, struct weir_str text)
{
    memset(addr, 0, sizeof(*addr));
    if (text_to_ip(AF_INET, text, &addr->in.sin_addr)) {
        addr->in.sin_family = AF_INET;
        addr->len = sizeof(addr->in);
        return 0;
    }
    if (!text_to_ip(AF_INET6, text, &addr->in6.sin6_addr))
        return WEIR_EADDR;
    addr->in6.sin6_family = AF_INET6;
    addr->len = sizeof(addr->in6);
    return 0;
}

int weir_addr_parse(struct weir_addr *addr, struct weir_str text)
{
    struct weir_str scheme = WEIR_STR("unix:"), host;
    bool bracketed;
    uint16_t port;

    memset(addr, 0, sizeof(*addr));
    if (weir_str_starts(text, scheme))
        return parse_unix(addr, (struct weir_str){ text.ptr + scheme.len, text.len - scheme.len });
    if (!cut_port(text, &host, &bracketed, &port))
        return WEIR_EADDR;
    if (!bracketed && host.len > 0) {
        if (!text_to_ip(AF_INET, host, &addr->in.sin_addr))
            return WEIR_EADDR;
        addr->in.sin_family = AF_INET;
        addr->len = sizeof(addr->in);
    } else {
        if (bracketed && !text_to_ip(AF_INET6, host, &addr->in6.sin6_addr))
            return WEIR_EADDR;
        addr->in6.sin6_family = AF_INET6;
        addr->len = sizeof(addr->in6);
        addr->dual = !bracketed;
    }
    weir_addr_set_port(addr, port);
    return 0;
}

/* Letters, digits, '-', '.', '_': what a name that is looked up may have. */
static bool is_name(struct weir_str host)
{
    if (host.len == 0 || host.len > 253)
        return false;
    for (size_t i = 0; i < host.len; i++) {
        char c = weir_lower(host.ptr[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
            return false;
    }
    return true;
}

bool weir_addr_split(struct weir_str text, struct weir_str *host, uint16_t *port)
{
    struct in6_addr in6;
    bool bracketed;

    if (!cut_port(text, host, &bracketed, port) || *port == 0)
        return false;
    return bracketed ? text_to_ip(AF_INET6, *host, &in6) : is_name(*host);
}

/* Dotted decimal. For each request: inet_ntop goes through sprintf for it, four times. */
static size_t print_v4(const uint8_t bytes[4], char *out)
{
    char *at = out;

    for (int i = 0; i < 4; i++) {
        unsigned n = bytes[i];

        if (n >= 100)
            *at++ = (char)('0' + n / 100);
        if (n >= 10)
            *at++ = (char)('0' + n / 10 % 10);
        *at++ = (char)('0' + n % 10);
        *at++ = i < 3 ? '.' : 0;
    }
    return (size_t)(at - out) - 1;
}

/* Text of the 16 bytes; v4-mapped ones as v4. Returns the length. `out` has room for any. */
static size_t print_bytes(const uint8_t bytes[16], char *out, size_t size)
{
    if (memcmp(bytes, v4_mapped, sizeof(v4_mapped)) == 0)
        return print_v4(bytes + 12, out);
    if (!inet_ntop(AF_INET6, bytes, out, (socklen_t)size))
        out[0] = 0;
    return strlen(out);
}

static size_t print_unix(const struct weir_addr *addr, char *out)
{
    size_t start = offsetof(struct sockaddr_un, sun_path), len = 0;

    if (addr->len > start)
        len = strnlen(addr->un.sun_path, addr->len - start); /* none: a client that bound no name */
    return (size_t)snprintf(out, WEIR_ADDR_TEXT_MAX, "unix:%.*s", (int)len, addr->un.sun_path);
}

size_t weir_addr_print(const struct weir_addr *addr, char *out)
{
    char ip[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    const char *format;

    if (addr->len && addr->sa.sa_family == AF_UNIX)
        return print_unix(addr, out);
    if (!weir_addr_bytes(addr, bytes))
        return (size_t)snprintf(out, WEIR_ADDR_TEXT_MAX, "-");
    if (addr->dual)
        return (size_t)snprintf(out, WEIR_ADDR_TEXT_MAX, ":%u", weir_addr_port(addr));
    print_bytes(bytes, ip, sizeof(ip));
    format = strchr(ip, ':') ? "[%s]:%u" : "%s:%u";
    return (size_t)snprintf(out, WEIR_ADDR_TEXT_MAX, format, ip, weir_addr_port(addr));
}

size_t weir_addr_print_ip(const struct weir_addr *addr, char *out)
{
    uint8_t bytes[16];

    if (addr->len && addr->sa.sa_family == AF_UNIX)
        return (size_t)snprintf(out, WEIR_ADDR_TEXT_MAX, "unix");
    if (!weir_addr_bytes(addr, bytes))
        return (size_t)snprintf(out, WEIR_ADDR_TEXT_MAX, "-");
    return print_bytes(bytes, out, WEIR_ADDR_TEXT_MAX);
}

uint16_t weir_addr_port(const struct weir_addr *addr)
{
    if (!addr->len)
        return 0;
    switch (addr->sa.sa_family) {
    case AF_INET:
        return ntohs(addr->in.sin_port);
    case AF_INET6:
        return ntohs(addr->in6.sin6_port);
    default:
        return 0;
    }
}

void weir_addr_set_port(struct weir_addr *addr, uint16_t port)
{
    if (!addr->len)
        return;
    if (addr->sa.sa_family == AF_INET)
        addr->in.sin_port = htons(port);
    else if (addr->sa.sa_family == AF_INET6)
        addr->in6.sin6_port = htons(port);
}

static struct weir_str unix_path(const struct weir_addr *addr)
{
    size_t start = offsetof(struct sockaddr_un, sun_path);

    if (addr->len <= start)
        return (struct weir_str){ "", 0 };
    return (struct weir_str){ addr->un.sun_path, strnlen(addr->un.sun_path, addr->len - start) };
}

bool weir_addr_eq(const struct weir_addr *a, const struct weir_addr *b)
{
    if (!a->len || !b->len)
        return a->len == b->len;
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    switch (a->sa.sa_family) {
    case AF_INET:
        return a->in.sin_port == b->in.sin_port && a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    case AF_INET6:
        return a->in6.sin6_port == b->in6.sin6_port &&
               a->in6.sin6_scope_id == b->in6.sin6_scope_id &&
               memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0;
    case AF_UNIX:
        return weir_str_eq(unix_path(a), unix_path(b));
    default:
        return false;
    }
}

bool weir_addr_bytes(const struct weir_addr *addr, uint8_t bytes[16])
{
    if (!addr->len)
        return false;
    switch (addr->sa.sa_family) {
    case AF_INET:
        memcpy(bytes, v4_mapped, sizeof(v4_mapped));
        memcpy(bytes + 12, &addr->in.sin_addr, 4);
        return true;
    case AF_INET6:
        memcpy(bytes, &addr->in6.sin6_addr, 16);
        return true;
    default:
        return false;
    }
}

static uint8_t bits_mask(unsigned bits)
{
    return bits >= 8 ? 0xff : (uint8_t)(0xff00 >> bits);
}

static bool host_bits_are_zero(const struct weir_prefix *prefix)
{
    for (unsigned i = 0; i < 16; i++) {
        unsigned bits = prefix->bits > i * 8 ? prefix->bits - i * 8 : 0;

        if (prefix->addr[i] & (uint8_t)~bits_mask(bits))
            return false;
    }
    return true;
}

int weir_prefix_parse(struct weir_prefix *prefix, struct weir_str text)
{
    struct weir_str rest, ip = weir_str_cut(text, '/', &rest);
    bool v4 = text_to_ip(AF_INET, ip, prefix->addr + 12);
    uint64_t bits = v4 ? 32 : 128;

    if (v4)
        memcpy(prefix->addr, v4_mapped, sizeof(v4_mapped));
    else if (!text_to_ip(AF_INET6, ip, prefix->addr))
        return WEIR_EADDR;
    if (!weir_str_absent(rest)) {
        uint64_t given;

        if (rest.len > 3 || !weir_str_to_u64(rest, &given) || given > bits)
            return WEIR_EADDR;
        bits = given;
    }
    prefix->bits = (uint8_t)(bits + (v4 ? V4_BITS_OFFSET : 0));
    return host_bits_are_zero(prefix) ? 0 : WEIR_EADDR;
}

bool weir_prefix_has(const struct weir_prefix *prefix, const uint8_t bytes[16])
{
    unsigned whole = prefix->bits / 8, rest = prefix->bits % 8;

    if (memcmp(prefix->addr, bytes, whole) != 0)
        return false;
    return rest == 0 || ((prefix->addr[whole] ^ bytes[whole]) & bits_mask(rest)) == 0;
}

size_t weir_prefix_print(const struct weir_prefix *prefix, char *out)
{
    bool v4 =
        prefix->bits >= V4_BITS_OFFSET && memcmp(prefix->addr, v4_mapped, sizeof(v4_mapped)) == 0;
    size_t len;

    if (v4)
        len = print_bytes(prefix->addr, out, WEIR_ADDR_TEXT_MAX);
    else
        len = inet_ntop(AF_INET6, prefix->addr, out, WEIR_ADDR_TEXT_MAX) ? strlen(out) : 0;
    return len + (size_t)snprintf(out + len, WEIR_ADDR_TEXT_MAX - len, "/%u",
                                  v4 ? prefix->bits - V4_BITS_OFFSET : prefix->bits);
}

void weir_addr_from_bytes(struct weir_addr *addr, const uint8_t bytes[16], uint16_t port)
{
    *addr = (struct weir_addr){ 0 };
    if (!memcmp(bytes, v4_mapped, sizeof(v4_mapped))) {
        addr->in.sin_family = AF_INET;
        addr->in.sin_port = htons(port);
        memcpy(&addr->in.sin_addr, bytes + sizeof(v4_mapped), 4);
        addr->len = sizeof(addr->in);
    } else {
        addr->in6.sin6_family = AF_INET6;
        addr->in6.sin6_port = htons(port);
        memcpy(&addr->in6.sin6_addr, bytes, 16);
        addr->len = sizeof(addr->in6);
    }
}
