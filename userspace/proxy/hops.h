/* SPDX-License-Identifier: Apache-2.0 */
/** hops.h: who asks, where proxies stand in front of us: what X-Forwarded-For and Forwarded tell. */
#ifndef PROXY_HOPS_H
#define PROXY_HOPS_H

#include "http/message.h"
#include "net/addr.h"

struct weir_listener;

/** Is it one of the listener's trusted_proxies? Never a UNIX socket. */
bool weir_hops_trusted(const struct weir_listener *listener, const struct weir_addr *addr);
/**
 * The client: the rightmost hop that is not trusted. *client is the peer and goes left, hop by hop,
 * while the one that told of the next is trusted; the address of a hop has port 0. What cannot be
 * read, or names no address (`unknown` and obfuscated identifiers, RFC 7239 6.2 and 6.3), ends the
 * walk: nobody further left is believed. Of the two fields that one is read which the listener
 * writes (`forwarded`), the other where that is missing. Any thread.
 */
void weir_hops_client(const struct weir_listener *listener, const struct weir_message *msg,
                      struct weir_addr *client);

#endif
