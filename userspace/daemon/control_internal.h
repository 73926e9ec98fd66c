/* SPDX-License-Identifier: Apache-2.0 */
/** control_internal.h: what the files of the admin share; for daemon/control*.c alone. */
#ifndef DAEMON_CONTROL_INTERNAL_H
#define DAEMON_CONTROL_INTERNAL_H

#include "daemon/control.h"
#include "daemon/httpd.h"

#include <jansson.h>

enum {
    CONTROL_BODY_BYTES_MAX = 64 * 1024,
    CONTROL_CONNS_MAX = 64, /* on each of the two doors */
    CONTROL_BACKLOG = 128,
    CONTROL_SEGMENTS_MAX = 8,     /* of a path */
    CONTROL_SESSIONS_MAX = 10000, /* that are told in one answer */
    CONTROL_BANS_MAX = 10000,
    CONTROL_QUERY_MS = 2000,       /* the workers must have answered */
    CONTROL_RECEIVE_MS = 5 * 1000, /* a whole request */
    CONTROL_SEND_MS = 10 * 1000,
    CONTROL_IDLE_MS = 30 * 1000,
};

/* Which door a request came through (the tag of its listener). */
enum { CONTROL_DOOR_SOCKET, CONTROL_DOOR_TCP };

struct control_query; /* control_keeper.c */
json_t *control_keeper(const struct weir_control *control);
/* What is told of the keeper behind `text`, which is malloc'ed; NULL without memory, and it is freed. */
char *control_keeper_metrics(const struct weir_control *control, char *text, size_t *len);
/* control_workers.c */

struct weir_control {
    struct weir_control_opts opts;
    enum weir_control_state state;
    uint64_t started_ms;
    enum weir_log_level file_level; /* of the log, as the file says */
    struct weir_httpd *local, *remote;
    char socket_path[108];
    struct weir_list draining;  /* control_call.link: wait for the end of the drain */
    struct weir_list upgrading; /* the same, for the keeper's word */
    struct control_query *query;
};

/* One request, in its arena. */
struct control_call {
    struct weir_list link; /* in control->draining, or in a query's list */
    struct weir_control *control;
    struct weir_httpd_req *req;
    const struct control_route *route;
    struct weir_str segments[CONTROL_SEGMENTS_MAX]; /* decoded */
    unsigned segments_count;
    struct weir_str args[2]; /* the segments that stood for a `*` */
    struct weir_str allow;   /* of a 405 */
    char *body;
    size_t body_len;
    bool replied;
};

typedef void (*control_fn)(struct control_call *call);

enum { CONTROL_OPEN = 1 }; /* also over TCP, where nobody is asked who they are */
struct control_route {
    const char *method, *path; /* `*`: any one segment */
    control_fn fn;
    unsigned flags;
    const char *text; /* one sentence, for the page */
};
extern const struct control_route control_routes[];
/* May the caller, by the door it came through, have this? */
bool control_offers(const struct control_call *call, const struct control_route *route);

/* Answers. Each answers once, and takes the JSON. */
void control_reply_json(struct control_call *call, int status, json_t *json);
void control_reply_text(struct control_call *call, int status, const char *type,
                        struct weir_str text);
void control_fail(struct control_call *call, int status, const char *format, ...) WEIR_PRINTF(3, 4);
/* The value of a query parameter, decoded, in the call's arena; absent when it is not there. */
struct weir_str control_param(struct control_call *call, const char *name);
/* The body as a JSON object with no other keys than those of the NULL-terminated list; NULL: it
 * was answered. The caller drops it. */
json_t *control_body(struct control_call *call, const char *const *keys);
/* A JSON string of any bytes: what is not UTF-8 becomes '?'. */
json_t *control_str(struct weir_str text);
json_t *control_u64(uint64_t value);
struct weir_cluster *control_cluster(struct weir_control *control, struct weir_str name);

/* control_read.c */
void control_get_status(struct control_call *call);
void control_get_upstreams(struct control_call *call);
void control_get_pools(struct control_call *call);
void control_get_routes(struct control_call *call);
void control_get_certs(struct control_call *call);
void control_get_bans(struct control_call *call);
void control_get_config(struct control_call *call);
void control_get_metrics(struct control_call *call);
void control_get_health(struct control_call *call);
void control_get_ready(struct control_call *call);
void control_get_page(struct control_call *call);
/* control_write.c */
void control_put_server(struct control_call *call);
void control_put_log_level(struct control_call *call);
void control_put_splice(struct control_call *call);
/** The words of kernel.splice, from WEIR_SPLICE_AUTO on. */
extern const char *const control_splice_words[];
void control_post_drain(struct control_call *call);
void control_post_upgrade(struct control_call *call);
void control_post_ban(struct control_call *call);
void control_delete_ban(struct control_call *call);
/* control_reload.c */
void control_post_reload(struct control_call *call);
/* control_workers.c */
void control_get_connections(struct control_call *call);
void control_get_splice(struct control_call *call);
void control_query_end(struct weir_control *control);

#endif
