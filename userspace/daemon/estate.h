/* SPDX-License-Identifier: Apache-2.0 */
/**
 * estate.h: what a manifest holds of a running instance: written by the reader, kept by the keeper, used by the proxy.
 * Here is each name of it, and how it is read back.
 */
#ifndef DAEMON_ESTATE_H
#define DAEMON_ESTATE_H

#include "daemon/conf.h"
#include "daemon/manifest.h"
#include "daemon/privilege.h"
#include "proxy/bound.h"

/* What is said, by words of messages. */
enum weir_word {
    WEIR_SAYS_HAVE = 1, /* keeper to reader: what is open already; the rest is to be opened */
    WEIR_SAYS_ESTATE,   /* reader to keeper, keeper to proxy: all of it */
    WEIR_SAYS_READY,    /* proxy to keeper: it serves */
    WEIR_SAYS_SIGNAL,   /* keeper to proxy: "signal" */
    WEIR_SAYS_LOGS,     /* keeper to proxy: logs opened anew */
    WEIR_SAYS_RETIRE,   /* keeper to proxy: another one serves now; "by" its pid */
    WEIR_SAYS_DRAIN,    /* proxy to keeper: the admin wants the end */
    WEIR_SAYS_UPGRADE,  /* proxy to keeper: the admin wants another binary */
    WEIR_SAYS_DONE,     /* keeper to proxy: what came of that: "ok", "text" */
    WEIR_SAYS_RELOAD,   /* proxy to keeper: the configuration is to be read anew */
    WEIR_SAYS_CONFIG,   /* keeper to proxy: it was; all of an estate, what is open already too */
    WEIR_SAYS_TAKEN,    /* proxy to keeper: it can come into force, or not: "ok" */
    WEIR_SAYS_RELOADED, /* keeper to proxy: it may now; or it cannot be read: "ok", "text" */
    WEIR_SAYS_HOLD,     /* proxy to keeper: these tunnels are to outlive it */
    WEIR_SAYS_LET_GO,   /* proxy to keeper: these have ended */
    WEIR_SAYS_HAND,     /* proxy to keeper: these are for who serves now; it has retired */
    WEIR_SAYS_TUNNELS,  /* keeper to proxy: these have outlived another one: adopt them */
};

/* Names of settings. */
#define WEIR_SET_CONF       "conf" /* path of the configuration, as given */
#define WEIR_SET_INSTANCE   "instance"
#define WEIR_SET_VERSION    "version"
#define WEIR_SET_WORKERS    "workers"
#define WEIR_SET_NOFILE     "nofile" /* descriptors that are needed */
#define WEIR_SET_USER       "user"   /* absent: stays what it is */
#define WEIR_SET_UID        "uid"
#define WEIR_SET_GID        "gid"
#define WEIR_SET_GROUPS     "groups" /* "1 2 3" */
#define WEIR_SET_LOG_TO     "log.to" /* as numbers, like the next two */
#define WEIR_SET_LOG_LEVEL  "log.level"
#define WEIR_SET_LOG_FORMAT "log.format"
#define WEIR_SET_LOG_FILE   "log.file"
#define WEIR_SET_ADMIN      "admin.socket"
#define WEIR_SET_KEEPER     "keeper" /* its pid */
#define WEIR_SET_STARTS     "starts" /* of proxies, with this one */
#define WEIR_SET_SIGNAL     "signal"
#define WEIR_SET_BY         "by"
#define WEIR_SET_KERN       "kern" /* with RETIRE: which maps that one has (weir_kernel_id) */
#define WEIR_SET_OK         "ok"
#define WEIR_SET_TEXT       "text"
#define WEIR_SET_HELD_MAX   "held.max" /* tunnels that the keeper holds for a proxy; absent: none */
#define WEIR_SET_FOR_RELOAD \
    "for.reload" /* with HAVE: the proxy that serves takes it, not a new one */

enum { WEIR_BIND_KEY_BYTES = 256 };

/** What a listening socket is called: the address as configured, and the device. */
void weir_bind_key(const struct weir_addr *addr, const struct weir_listen_opts *opts,
                   char out[WEIR_BIND_KEY_BYTES]);
/** Takes up to `count` sockets of that key, in the order of workers, out of a manifest. How many there were. */
unsigned weir_estate_sockets(struct weir_manifest *estate, const char *key, int *fds,
                             unsigned count);
int weir_estate_add_user(struct weir_manifest *estate,
                         const struct weir_user *user) WEIR_MUST_CHECK;
void weir_estate_user(const struct weir_manifest *estate, struct weir_user *user);
int weir_estate_add_log(struct weir_manifest *estate,
                        const struct weir_log_conf *conf) WEIR_MUST_CHECK;
/** `conf` borrows from the manifest. */
void weir_estate_log(const struct weir_manifest *estate, struct weir_log_conf *conf);

#endif
