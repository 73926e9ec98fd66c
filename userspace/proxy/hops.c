/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/hops.h"

#include "base/str.h"
#include "http/guard.h"
#include "proxy/worker.h"

enum { NODE_BYTES_MAX = 128 }; /* longer than any address with a port */

bool weir_hops_trusted(const struct weir_listener *listener, const struct weir_addr *addr)
{
    uint8_t bytes[16];

    if (!listener->trusted_count || !weir_addr_bytes(addr, bytes))
        return false;
    for (size_t i = 0; i < listener->trusted_count; i++)
        if (weir_prefix_has(&listener->trusted[i], bytes))
            return true;
    return false;
}

/* --- elements of a list, from the right ----------------------------------------------------------
 */

static bool is_escaped(struct weir_str text, size_t at)
{
    size_t slashes = 0;

    while (slashes < at && text.ptr[at - 1 - slashes] == '\\')
        slashes++;
    return slashes % 2;
}

/* Takes the last element off the list; a comma in quotes is none. Read from the right, since what
 * stands there was written by whom we trust: a quote that the client left open takes none of it. */
static bool last_element(struct weir_str *list, struct weir_str *element)
{
    while (list->len) {
        size_t at = list->len;
        bool quoted = false;

        while (at && (quoted || list->ptr[at - 1] != ',')) {
            at--;
            if (list->ptr[at] == '"' && !(quoted && is_escaped(*list, at)))
                quoted = !quoted;
        }
        *element = weir_str_trim((struct weir_str){ list->ptr + at, list->len - at });
        list->len = at ? at - 1 : 0;
        if (element->len)
            return true;
    }
    return false;
}

/* --- one hop -------------------------------------------------------------------------------------
 */

static bool is_alnum(char c)
{
    return (weir_lower(c) >= 'a' && weir_lower(c) <= 'z') || (c >= '0' && c <= '9');
}

/* node-port of RFC 7239 6: digits, or an obfuscated one. */
static bool is_port(struct weir_str port)
{
    uint64_t number;

    if (!port.len || port.ptr[0] != '_')
        return port.len && port.len <= 5 && weir_str_to_u64(port, &number) && number <= UINT16_MAX;
    for (size_t i = 1; i < port.len; i++)
        if (!is_alnum(port.ptr[i]) && !memchr("._-", port.ptr[i], 3))
            return false;
    return port.len > 1;
}

/* "192.0.2.7", "[2001:db8::7]", either with a port. X-Forwarded-For has IPv6 without brackets too. */
static bool read_node(struct weir_str node, bool bare_v6, struct weir_addr *addr)
{
    bool bracketed = node.len && node.ptr[0] == '[';
    struct weir_str rest, ip = weir_str_cut(node, bracketed ? ']' : ':', &rest);

    if (bracketed) {
        if (weir_str_absent(rest) || (rest.len && rest.ptr[0] != ':'))
            return false;
        if (rest.len && !is_port((struct weir_str){ rest.ptr + 1, rest.len - 1 }))
            return false;
        ip = (struct weir_str){ ip.ptr + 1, ip.len - 1 };
        return memchr(ip.ptr, ':', ip.len) && !weir_addr_parse_ip(addr, ip);
    }
    if (bare_v6 && rest.len && memchr(rest.ptr, ':', rest.len))
        return !weir_addr_parse_ip(addr, node);
    return (weir_str_absent(rest) || is_port(rest)) && !weir_addr_parse_ip(addr, ip);
}

/* How long the quoted-string at the start of `text` is (RFC 9110 5.6.4); 0 when it does not end. */
static size_t quoted_len(struct weir_str text)
{
    for (size_t i = 1; i < text.len; i++) {
        if (text.ptr[i] == '"')
            return i + 1;
        if (text.ptr[i] == '\\')
            i++;
    }
    return 0;
}

/* What is between the quotes, its escapes undone, in `out`. Empty when it is too long for a node. */
static struct weir_str unquote(struct weir_str quoted, char out[NODE_BYTES_MAX])
{
    size_t len = 0;

    for (size_t i = 1; i + 1 < quoted.len; i++) {
        if (len == NODE_BYTES_MAX)
            return (struct weir_str){ out, 0 };
        i += quoted.ptr[i] == '\\';
        out[len++] = quoted.ptr[i];
    }
    return (struct weir_str){ out, len };
}

/* The pair at the start of *text (RFC 7239 4), the value with its quotes; *text is at the ';' after
 * it then, or at the end. False when it is none. */
static bool take_pair(struct weir_str *text, struct weir_str *name, struct weir_str *value)
{
    size_t len = 0;

    *name = weir_str_cut(*text, '=', text);
    if (!text->len || !weir_guard_name(*name))
        return false;
    if (text->ptr[0] == '"')
        len = quoted_len(*text);
    else
        while (len < text->len && !memchr("; \t", text->ptr[len], 3))
            len++;
    *value = (struct weir_str){ text->ptr, len };
    *text = weir_str_trim((struct weir_str){ text->ptr + len, text->len - len });
    return len && (value->ptr[0] == '"' || weir_guard_name(*value)) &&
           (!text->len || text->ptr[0] == ';');
}

/* The address of "for" in an element of Forwarded; false when it has none. */
static bool read_forwarded(struct weir_str element, struct weir_addr *addr)
{
    struct weir_str name, value, node = { NULL, 0 };
    char text[NODE_BYTES_MAX];

    while (element.len) {
        if (element.ptr[0] == ';') {
            element = weir_str_trim((struct weir_str){ element.ptr + 1, element.len - 1 });
            continue;
        }
        if (!take_pair(&element, &name, &value))
            return false;
        if (!weir_str_ieq(name, WEIR_STR("for")))
            continue;
        if (!weir_str_absent(node)) /* a name comes once */
            return false;
        node = value;
    }
    if (node.len && node.ptr[0] == '"')
        node = unquote(node, text);
    return read_node(node, false, addr);
}

/* --- the walk ------------------------------------------------------------------------------------
 */

void weir_hops_client(const struct weir_listener *listener, const struct weir_message *msg,
                      struct weir_addr *client)
{
    bool ours = listener->conf->forwarded == WEIR_FORWARDED_RFC7239;
    bool rfc7239 =
        msg->has & 1ull << (ours ? WEIR_F_FORWARDED : WEIR_F_X_FORWARDED_FOR) ? ours : !ours;
    enum weir_field_id id = rfc7239 ? WEIR_F_FORWARDED : WEIR_F_X_FORWARDED_FOR;

    for (unsigned i = msg->count; i-- > 0 && weir_hops_trusted(listener, client);) {
        struct weir_str list = msg->fields[i].value, hop;
        struct weir_addr addr;

        if (msg->fields[i].id != id)
            continue;
        while (weir_hops_trusted(listener, client) && last_element(&list, &hop)) {
            if (!(rfc7239 ? read_forwarded(hop, &addr) : read_node(hop, true, &addr)))
                return;
            *client = addr;
        }
    }
}
