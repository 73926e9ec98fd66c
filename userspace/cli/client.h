/* SPDX-License-Identifier: Apache-2.0 */
/** client.h: how the commands talk to the daemon: HTTP/1.1 over its admin socket, one request a
 * connection, blocking, with a deadline. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "cli/cli.h"

#include <jansson.h>

enum {
    WEIR_ADMIN_TIMEOUT_MS = 10 * 1000,
    WEIR_ADMIN_ANSWER_BYTES_MAX = 64 * 1024 * 1024,
};

struct weir_admin_answer {
    int status; /* of HTTP */
    char *body; /* terminated; the caller frees it */
    size_t len;
};

/**
 * Asks the daemon. `body` may be NULL; timeout_ms 0: WEIR_ADMIN_TIMEOUT_MS. 0 with the answer, or
 * an exit status: what is wrong was said on cli->err.
 */
int weir_admin_ask(const struct weir_cli *cli, const char *method, const char *target,
                   const char *body, unsigned timeout_ms, struct weir_admin_answer *answer)
    __attribute__((warn_unused_result));
/** The same for JSON; an answer other than 2xx is said on cli->err with the daemon's sentence. */
int weir_admin_json(const struct weir_cli *cli, const char *method, const char *target,
                    json_t *body, unsigned timeout_ms, json_t **answer)
    __attribute__((warn_unused_result));
/** Says that a change was made, or the daemon's answer as JSON (-j), and frees it. Returns `status`. */
int weir_admin_done(const struct weir_cli *cli, int status, json_t *answer);
/** verb_show.c: one of the tables by its name. */
int weir_cli_show(struct weir_cli *cli, const char *name);
/** Percent-encodes one segment of a path into `out` (terminated). False: it does not fit. */
bool weir_admin_encode(const char *segment, char *out, size_t size);

#endif
