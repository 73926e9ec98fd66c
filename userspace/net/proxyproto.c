/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxyproto.h"

#include "base/str.h"
#include "weir/limits.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum {
    V1_BYTES_MAX = 107, /* with its CRLF (2.1) */
    SIGNATURE_BYTES = 12,
    V2_HEADER_BYTES = 16,
    VERSION_2 = 2,
    COMMAND_LOCAL = 0,
    COMMAND_PROXY = 1,
    FAMILY_UNSPEC = 0,
    FAMILY_INET = 1,
    FAMILY_INET6 = 2,
    FAMILY_UNIX = 3,
    TRANSPORT_STREAM = 1,
    TRANSPORT_MAX = 2,
    TLV_HEADER_BYTES = 3,
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_UNIQUE_ID = 0x05,
    CRC_BYTES = 4,
};

static const uint8_t signature[SIGNATURE_BYTES] = "\r\n\r\n\0\r\nQUIT\n";
static const char v1_begins[] = "PROXY ";

/* --- CRC-32C (RFC 3720 B.4), four bits a step --------------------------------------------------- */

static uint32_t crc32c_add(uint32_t crc, const uint8_t *data, size_t len)
{
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };

    for (size_t i = 0; i < len; i++) {
        crc = table[(crc ^ data[i]) & 15] ^ crc >> 4;
        crc = table[(crc ^ data[i] >> 4) & 15] ^ crc >> 4;
    }
    return crc;
}

/* Of a header whose own CRC, at `at`, counts as zeros. */
static uint32_t header_crc(const uint8_t *header, size_t len, size_t at)
{
    static const uint8_t zeros[CRC_BYTES];
    uint32_t crc = crc32c_add(UINT32_MAX, header, at);

    crc = crc32c_add(crc, zeros, CRC_BYTES);
    return ~crc32c_add(crc, header + at + CRC_BYTES, len - at - CRC_BYTES);
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static uint8_t *put16(uint8_t *at, size_t value)
{
    *at++ = (uint8_t)(value >> 8);
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

/* --- addresses --------------------------------------------------------------------------------- */

static void addr_v4(struct weir_addr *addr, const void *ip, uint16_t port)
{
    *addr = (struct weir_addr){ .len = sizeof(addr->in) };
    addr->in.sin_family = AF_INET;
    addr->in.sin_port = htons(port);
    memcpy(&addr->in.sin_addr, ip, sizeof(addr->in.sin_addr));
}

static void addr_v6(struct weir_addr *addr, const void *ip, uint16_t port)
{
    *addr = (struct weir_addr){ .len = sizeof(addr->in6) };
    addr->in6.sin6_family = AF_INET6;
    addr->in6.sin6_port = htons(port);
    memcpy(&addr->in6.sin6_addr, ip, sizeof(addr->in6.sin6_addr));
}

/* --- version 1 --------------------------------------------------------------------------------- */

/* The next word of a line, which single spaces divide; the last one takes all. */
static struct weir_str next_word(struct weir_str *line)
{
    struct weir_str rest, word = weir_str_cut(*line, ' ', &rest);

    *line = rest;
    return word;
}

static bool v1_port(struct weir_str text, uint16_t *port)
{
    uint64_t value;

    if (text.len == 0 || text.len > 5 || (text.len > 1 && text.ptr[0] == '0') ||
        !weir_str_to_u64(text, &value) || value > UINT16_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

static bool v1_ip(int family, struct weir_str text, void *ip)
{
    char copy[INET6_ADDRSTRLEN];

    if (text.len >= sizeof(copy) || !text.len || memchr(text.ptr, 0, text.len))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    return inet_pton(family, copy, ip) == 1;
}

/* "SRC DST SPORT DPORT" */
static bool v1_addresses(struct weir_str line, int family, struct weir_pp_header *header)
{
    void (*fill)(struct weir_addr *, const void *, uint16_t) =
        family == AF_INET ? addr_v4 : addr_v6;
    struct weir_str from = next_word(&line), to = next_word(&line), from_port = next_word(&line);
    uint8_t from_ip[16], to_ip[16];
    uint16_t from_n, to_n;

    if (!line.ptr || !v1_ip(family, from, from_ip) || !v1_ip(family, to, to_ip) ||
        !v1_port(from_port, &from_n) || !v1_port(line, &to_n))
        return false;
    header->known = true;
    fill(&header->from, from_ip, from_n);
    fill(&header->to, to_ip, to_n);
    return true;
}

static enum weir_pp v1_parse(const uint8_t *data, size_t len, struct weir_pp_header *header)
{
    size_t room = len < V1_BYTES_MAX ? len : V1_BYTES_MAX;
    const uint8_t *end = memchr(data, '\n', room);
    struct weir_str line, word;
    bool good;

    if (!end)
        return len < V1_BYTES_MAX ? WEIR_PP_MORE : WEIR_PP_BAD;
    line = (struct weir_str){ (const char *)data + sizeof(v1_begins) - 1,
                              (size_t)(end - data) - (sizeof(v1_begins) - 1) };
    if (!line.len || line.ptr[--line.len] != '\r')
        return WEIR_PP_BAD;
    *header = (struct weir_pp_header){ .len = (size_t)(end - data) + 1 };
    word = next_word(&line);
    if (weir_str_is(word, "TCP4"))
        good = line.ptr && v1_addresses(line, AF_INET, header);
    else if (weir_str_is(word, "TCP6"))
        good = line.ptr && v1_addresses(line, AF_INET6, header);
    else
        good = weir_str_is(word, "UNKNOWN"); /* whatever follows is to be ignored */
    return good ? WEIR_PP_DONE : WEIR_PP_BAD;
}

/* --- version 2 --------------------------------------------------------------------------------- */

/* Bytes of the address block of each family. */
static size_t v2_addresses_len(unsigned family)
{
    static const size_t len[] = { [FAMILY_UNSPEC] = 0,
                                  [FAMILY_INET] = 2 * 4 + 2 * 2,
                                  [FAMILY_INET6] = 2 * 16 + 2 * 2,
                                  [FAMILY_UNIX] = 2 * 108 };

    return len[family];
}

static void v2_addresses(const uint8_t *at, unsigned family, struct weir_pp_header *header)
{
    if (family == FAMILY_INET) {
        addr_v4(&header->from, at, get16(at + 8));
        addr_v4(&header->to, at + 4, get16(at + 10));
    } else if (family == FAMILY_INET6) {
        addr_v6(&header->from, at, get16(at + 32));
        addr_v6(&header->to, at + 16, get16(at + 34));
    } else {
        return;
    }
    header->known = true;
}

/* TLVs from `at` on: each within the header, and the CRC right where there is one. */
static bool v2_tlvs(const uint8_t *header, size_t len, size_t at)
{
    while (at < len) {
        size_t bytes;

        if (len - at < TLV_HEADER_BYTES)
            return false;
        bytes = get16(header + at + 1);
        if (bytes > len - at - TLV_HEADER_BYTES)
            return false;
        if (header[at] == TLV_CRC32C) {
            size_t crc = at + TLV_HEADER_BYTES;

            if (bytes != CRC_BYTES || get32(header + crc) != header_crc(header, len, crc))
                return false;
        }
        at += TLV_HEADER_BYTES + bytes;
    }
    return true;
}

static enum weir_pp v2_parse(const uint8_t *data, size_t len, struct weir_pp_header *header)
{
    unsigned version, command, family, transport;
    size_t whole, tlvs;

    if (len < V2_HEADER_BYTES)
        return WEIR_PP_MORE;
    version = data[12] >> 4;
    command = data[12] & 15;
    family = data[13] >> 4;
    transport = data[13] & 15;
    whole = V2_HEADER_BYTES + get16(data + 14);
    if (version != VERSION_2 || command > COMMAND_PROXY || whole > WEIR_HELLO_BYTES_MAX)
        return WEIR_PP_BAD;
    if (command == COMMAND_PROXY && (family > FAMILY_UNIX || transport > TRANSPORT_MAX))
        return WEIR_PP_BAD;
    if (len < whole)
        return WEIR_PP_MORE;
    *header = (struct weir_pp_header){ .len = whole };
    if (command == COMMAND_LOCAL) /* whatever else it says is to be discarded (2.2) */
        return WEIR_PP_DONE;
    tlvs = V2_HEADER_BYTES + v2_addresses_len(family);
    if (tlvs > whole || !v2_tlvs(data, whole, tlvs))
        return WEIR_PP_BAD;
    if (transport == TRANSPORT_STREAM)
        v2_addresses(data + V2_HEADER_BYTES, family, header);
    return WEIR_PP_DONE;
}

/* Do these bytes, as far as they go, begin as `begins` does? */
static bool begins_as(const uint8_t *data, size_t len, const void *begins, size_t begins_len)
{
    return !memcmp(data, begins, len < begins_len ? len : begins_len);
}

enum weir_pp weir_pp_parse(const uint8_t *data, size_t len, struct weir_pp_header *header)
{
    size_t v1_len = sizeof(v1_begins) - 1;

    if (len == 0)
        return WEIR_PP_MORE;
    if (begins_as(data, len, v1_begins, v1_len))
        return len < v1_len ? WEIR_PP_MORE : v1_parse(data, len, header);
    if (begins_as(data, len, signature, SIGNATURE_BYTES))
        return v2_parse(data, len, header);
    return WEIR_PP_NONE;
}

/* --- the way back ------------------------------------------------------------------------------ */

/* The two ends as bytes, and whether they can be told; UNIX sockets can not. */
struct ends {
    bool known, v4;
    uint8_t from[16], to[16];
    uint16_t from_port, to_port;
};

static bool is_v4(const uint8_t ip[16])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    return !memcmp(ip, mapped, sizeof(mapped));
}

static struct ends ends_of(const struct weir_pp_out *what)
{
    struct ends ends = { .known = false };

    if (!what->from || !what->to || !weir_addr_bytes(what->from, ends.from) ||
        !weir_addr_bytes(what->to, ends.to))
        return ends;
    ends.known = true;
    ends.v4 = is_v4(ends.from) && is_v4(ends.to);
    ends.from_port = weir_addr_port(what->from);
    ends.to_port = weir_addr_port(what->to);
    return ends;
}

static size_t v1_make(const struct ends *ends, char *out)
{
    int family = ends->v4 ? AF_INET : AF_INET6;
    size_t skip = ends->v4 ? 12 : 0;
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];

    if (!ends->known || !inet_ntop(family, ends->from + skip, from, sizeof(from)) ||
        !inet_ntop(family, ends->to + skip, to, sizeof(to)))
        return (size_t)sprintf(out, "PROXY UNKNOWN\r\n");
    return (size_t)sprintf(out, "PROXY %s %s %s %u %u\r\n", ends->v4 ? "TCP4" : "TCP6", from, to,
                           ends->from_port, ends->to_port);
}

static uint8_t *put_tlv(uint8_t *at, unsigned type, struct weir_str value, size_t max)
{
    if (!value.len || value.len > max)
        return at;
    *at++ = (uint8_t)type;
    at = put16(at, value.len);
    return put_bytes(at, value.ptr, value.len);
}

static size_t v2_make(const struct weir_pp_out *what, const struct ends *ends, uint8_t *out)
{
    uint8_t *at = put_bytes(out, signature, sizeof(signature)), *crc;
    size_t skip = ends->v4 ? 12 : 0, len;
    unsigned family = !ends->known ? FAMILY_UNSPEC : ends->v4 ? FAMILY_INET : FAMILY_INET6;
    uint32_t sum;

    *at++ = VERSION_2 << 4 | (what->from ? COMMAND_PROXY : COMMAND_LOCAL);
    *at++ = (uint8_t)(family ? family << 4 | TRANSPORT_STREAM : 0);
    at += 2; /* the length, when it is known */
    if (ends->known) {
        at = put_bytes(at, ends->from + skip, 16 - skip);
        at = put_bytes(at, ends->to + skip, 16 - skip);
        at = put16(put16(at, ends->from_port), ends->to_port);
    }
    at = put_tlv(at, TLV_AUTHORITY, what->authority, 255);
    at = put_tlv(at, TLV_UNIQUE_ID, what->id, WEIR_PP_ID_BYTES_MAX);
    *at++ = TLV_CRC32C;
    crc = put16(at, CRC_BYTES);
    len = (size_t)(crc - out) + CRC_BYTES;
    put16(out + 14, len - V2_HEADER_BYTES);
    sum = header_crc(out, len, len - CRC_BYTES);
    put16(put16(crc, sum >> 16), sum & 0xffff);
    return len;
}

size_t weir_pp_make(const struct weir_pp_out *what, uint8_t *out)
{
    struct ends ends = ends_of(what);

    return what->version == WEIR_PP_V1 ? v1_make(&ends, (char *)out) : v2_make(what, &ends, out);
}
