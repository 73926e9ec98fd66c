/* SPDX-License-Identifier: Apache-2.0 */
/**
 * health.h: between health.c (when, and what it means), health_ask.c (one exchange on a connection of its own, by the
 * protocol that the server speaks) and what is asked: health_http.c, health_grpc.c.
 */
#ifndef UPSTREAM_HEALTH_H
#define UPSTREAM_HEALTH_H

#include "http/h2.h"
#include "upstream/state.h"

struct weir_health;

/** A kind of question. Memory of the message is health->arena. */
struct weir_health_kind {
    /** The request, and its body (in the arena). 0 or an error. */
    int (*request)(struct weir_health *health, struct weir_message *msg, struct weir_str *body);
    struct weir_hstream_sink sink; /* its arg is the weir_health */
};
extern const struct weir_health_kind weir_health_http, weir_health_grpc;

enum { WEIR_HEALTH_ANSWER_BYTES = 256 };

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
    bool asking;           /* what follows is in use */
    const struct weir_health_kind *kind;
    struct weir_codec *codec;
    struct weir_h1 h1;
    struct weir_h2 *h2; /* NULL: h1 is in force */
    struct weir_hstream hs;
    struct weir_arena arena;
    int grpc_status; /* -1: not said */
    size_t answered; /* bytes in `answer`; more than it holds: too many came */
    uint8_t answer[WEIR_HEALTH_ANSWER_BYTES];
    char fault[96];
};
#define WEIR_HEALTH_MAGIC 0x77686c74u

static inline const struct weir_health_conf *weir_health_conf(const struct weir_health *health)
{
    return &health->server->cluster->conf->health;
}

/** The check is over: `fault` NULL is good. Harmless when it was over. */
void weir_health_end(struct weir_health *health, const char *fault);
/** The same, with a fault that is printed. */
void weir_health_fail(struct weir_health *health, const char *format, ...) WEIR_PRINTF(2, 3);

/* health_ask.c */
/** The stream is open: asks. */
void weir_health_ask(struct weir_health *health);
void weir_health_feed(struct weir_health *health, const uint8_t *data, size_t len);
void weir_health_drained(struct weir_health *health);
/** Frees what a check has used; not inside an event of its codec. */
void weir_health_ask_fini(struct weir_health *health);

#endif
