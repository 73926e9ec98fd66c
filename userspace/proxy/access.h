/* SPDX-License-Identifier: Apache-2.0 */
/**
 * access.h: who may connect: `access` of the configuration, immutable, and bans, which outlive it. Enforced at accept. Lookup
 * is lock-free for workers; changes come from the admin or a filter, any thread.
 */
#ifndef PROXY_ACCESS_H
#define PROXY_ACCESS_H

#include "net/addr.h"
#include "proxy/policy.h"

struct weir_access;

/** `bans` outlive it, and may be shared by several. NULL with *fault filled: which prefix, which line of the file. */
struct weir_ban_table;
struct weir_access *weir_access_new(const struct weir_access_conf *conf,
                                    struct weir_ban_table *bans, struct weir_tls_fault *fault);
void weir_access_free(struct weir_access *access);

enum weir_access_verdict { WEIR_ACCESS_OK, WEIR_ACCESS_DENIED, WEIR_ACCESS_BANNED };
/** `now_ms` monotonic. Any worker, no lock; two binary searches and
 * a probe for each length of prefix that is banned. never_ban beats deny and bans; `allow`
 * non-empty admits only those. */
enum weir_access_verdict weir_access_check(struct weir_access *access,
                                           const struct weir_addr *client, uint64_t now_ms);

/** Bans for `for_ms` (0: until it is deleted). WEIR_EDENIED: the prefix meets never_ban or `asker`
 * (may be NULL); WEIR_ELIMIT: table full. */
int weir_access_ban(struct weir_access *access, const struct weir_prefix *prefix, uint64_t for_ms,
                    struct weir_str why, const struct weir_addr *asker, uint64_t now_ms)
    __attribute__((warn_unused_result));
/** What a ban of a client shuts out: an IPv4 address, or the /64 of an IPv6 one (it is one
 * customer's). WEIR_EADDR: UNIX socket. */
int weir_access_client_prefix(const struct weir_addr *client, struct weir_prefix *prefix)
    __attribute__((warn_unused_result));
/** Bans that found the table (WEIR_BANS_MAX) full. */
uint64_t weir_access_bans_refused(const struct weir_access *access);
/** WEIR_ENOENT: it was not banned. */
int weir_access_unban(struct weir_access *access, const struct weir_prefix *prefix)
    __attribute__((warn_unused_result));
/** Visits the bans with the time left (ms, 0: for ever). Under a lock: be brief. */
void weir_access_bans(struct weir_access *access, uint64_t now_ms,
                      void (*fn)(void *arg, const struct weir_prefix *prefix, uint64_t left_ms,
                                 struct weir_str why, uint64_t hits),
                      void *arg);

#endif
