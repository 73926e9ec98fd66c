/* SPDX-License-Identifier: Apache-2.0 */
/** addr.h: socket addresses and CIDR prefixes, to and from text. */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include "weir/types.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct weir_addr {
    socklen_t len; /* 0: none */
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    bool dual; /* ":80": a v6 socket that takes v4 as well */
};

/** A prefix; v4 is kept v4-mapped, `bits` counts from the start of the 16 bytes (a v4 /24 is 120).
 */
struct weir_prefix {
    uint8_t addr[16];
    uint8_t bits;
};

enum { WEIR_ADDR_TEXT_MAX = 128 };

/**
 * Parses "10.0.0.1:80", "[2001:db8::1]:80", ":80" (any address, v6 socket that also takes v4),
 * "unix:/path". No names. 0, or WEIR_EADDR.
 */
int weir_addr_parse(struct weir_addr *addr, struct weir_str text)
    __attribute__((warn_unused_result));
/** Parses "10.0.0.1" or "2001:db8::1"; the port is 0. 0, or WEIR_EADDR. */
int weir_addr_parse_ip(struct weir_addr *addr, struct weir_str text)
    __attribute__((warn_unused_result));
/** Splits "name:port" or "[v6]:port" (port 1 to 65535); the host may be a name. false when it is
 * neither. */
bool weir_addr_split(struct weir_str text, struct weir_str *host, uint16_t *port);
/** "10.0.0.1:80"; returns the length. A v4-mapped v6 address prints as v4. `out` has
 * WEIR_ADDR_TEXT_MAX bytes. */
size_t weir_addr_print(const struct weir_addr *addr, char *out);
/** Without the port: "10.0.0.1", "2001:db8::1", "unix". */
size_t weir_addr_print_ip(const struct weir_addr *addr, char *out);
uint16_t weir_addr_port(const struct weir_addr *addr);
void weir_addr_set_port(struct weir_addr *addr, uint16_t port);
/** Same family, address, port (":80" and "[::]:80" are the same); of a UNIX socket the same path.
 */
bool weir_addr_eq(const struct weir_addr *a, const struct weir_addr *b);
/** The other way round. */
void weir_addr_from_bytes(struct weir_addr *addr, const uint8_t bytes[16], uint16_t port);
/** The 16 bytes, v4 mapped; false for a UNIX socket. */
bool weir_addr_bytes(const struct weir_addr *addr, uint8_t bytes[16]);

/** Parses "10.0.0.0/8", "2001:db8::/32", or an address alone. Host bits must be 0: 0, or
 * WEIR_EADDR. */
int weir_prefix_parse(struct weir_prefix *prefix, struct weir_str text)
    __attribute__((warn_unused_result));
bool weir_prefix_has(const struct weir_prefix *prefix, const uint8_t bytes[16]);
size_t weir_prefix_print(const struct weir_prefix *prefix, char *out);

#endif
