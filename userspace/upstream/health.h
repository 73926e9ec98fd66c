/* SPDX-License-Identifier: Apache-2.0 */
/** health.h: between health.c (when, and what it means) and health_http.c (one exchange). */
#ifndef UPSTREAM_HEALTH_H
#define UPSTREAM_HEALTH_H

#include "upstream/state.h"

struct weir_health {
    uint32_t magic;
    struct weir_server *server;
    struct weir_loop *loop;
    struct weir_timer timer;
    struct weir_stream *stream; /* of the check in progress */
    struct weir_addr *addrs;
    unsigned next; /* address */
    unsigned good, bad;
    uint32_t random;
    bool stopped, ended, opened;
    bool told;             /* the server's last_fault is ours */
    enum weir_err lacking; /* what kept us from connecting, as logged; 0 since a connection came */
    bool http;             /* the next four are in use */
    struct weir_h1 h1;
    struct weir_hstream hs;
    struct weir_arena arena;
    char fault[96];
};
#define WEIR_HEALTH_MAGIC 0x77686c74u

/** The check is over: `fault` NULL is good. Harmless when it was over. */
void weir_health_end(struct weir_health *health, const char *fault);
/** The stream is open: asks. */
void weir_health_http_begin(struct weir_health *health);
void weir_health_http_feed(struct weir_health *health, const uint8_t *data, size_t len);
void weir_health_http_fini(struct weir_health *health);

#endif
