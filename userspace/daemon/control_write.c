/* SPDX-License-Identifier: Apache-2.0 */
/** control_write.c: run-time changes. Everything of a request is checked before anything is done.
 */
#include "daemon/control_internal.h"

#include "base/clock.h"

#include <stdio.h>

enum { WEIGHT_MAX = 1000 };
static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };

static json_t *ok(void)
{
    return json_pack("{s:b}", "ok", 1);
}

/* ---- PUT /v1/upstreams/NAME/servers/ADDR -------------------------------------------------- */

struct server_change {
    int weight; /* -1: stays */
    int state;  /* enum weir_server_state; -1: stays */
};

/* False: it was answered. */
static bool change_read(struct control_call *call, struct server_change *change)
{
    static const char *const keys[] = { "weight", "state", NULL };
    json_t *body = control_body(call, keys), *weight, *state;
    bool good = false;

    if (!body)
        return false;
    *change = (struct server_change){ -1, -1 };
    weight = json_object_get(body, "weight");
    state = json_object_get(body, "state");
    if (!weight && !state) {
        control_fail(call, 400, "say \"weight\" or \"state\"");
    } else if (weight && (!json_is_integer(weight) || json_integer_value(weight) < 0 ||
                          json_integer_value(weight) > WEIGHT_MAX)) {
        control_fail(call, 400, "weight is a number from 0 to %d", WEIGHT_MAX);
    } else if (state &&
               (!json_is_string(state) || (strcmp(json_string_value(state), "ready") != 0 &&
                                           strcmp(json_string_value(state), "drain") != 0))) {
        control_fail(call, 400, "state is \"ready\" or \"drain\"");
    } else {
        if (weight)
            change->weight = (int)json_integer_value(weight);
        if (state)
            change->state = strcmp(json_string_value(state), "drain") == 0 ? WEIR_SERVER_DRAIN
                                                                           : WEIR_SERVER_READY;
        good = true;
    }
    json_decref(body);
    return good;
}

static bool cluster_has(struct weir_cluster *cluster, struct weir_str server)
{
    for (unsigned i = 0; i < weir_cluster_count(cluster); i++) {
        if (weir_str_eq(weir_server_name(weir_cluster_server(cluster, i)), server))
            return true;
    }
    return false;
}

void control_put_server(struct control_call *call)
{
    struct weir_cluster *cluster = control_cluster(call->control, call->args[0]);
    struct weir_str server = call->args[1];
    struct server_change change;
    int err = 0;

    if (!cluster) {
        control_fail(call, 404, "there is no upstream '%.*s'", WEIR_FMT(call->args[0]));
        return;
    }
    if (!cluster_has(cluster, server)) {
        control_fail(call, 404, "upstream '%.*s' has no server '%.*s'", WEIR_FMT(call->args[0]),
                     WEIR_FMT(server));
        return;
    }
    if (!change_read(call, &change))
        return;
    if (change.weight >= 0)
        err = weir_cluster_set_weight(cluster, server, change.weight);
    if (!err && change.state >= 0)
        err = weir_cluster_set_state(cluster, server, (enum weir_server_state)change.state);
    if (err) {
        control_fail(call, weir_err_status((enum weir_err)err), "%s",
                     weir_err_text((enum weir_err)err));
        return;
    }
    if (change.weight >= 0)
        weir_log(call->control->opts.log, WEIR_LOG_INFO, "admin: upstream %.*s/%.*s: weight %d",
                 WEIR_FMT(call->args[0]), WEIR_FMT(server), change.weight);
    if (change.state >= 0)
        weir_log(call->control->opts.log, WEIR_LOG_INFO, "admin: upstream %.*s/%.*s: %s",
                 WEIR_FMT(call->args[0]), WEIR_FMT(server),
                 change.state == WEIR_SERVER_DRAIN ? "drain" : "ready");
    control_reply_json(call, 200, ok());
}

/* ---- PUT /v1/log-level -------------------------------------------------------------------- */

void control_put_log_level(struct control_call *call)
{
    static const char *const keys[] = { "level", NULL };
    json_t *body = control_body(call, keys);
    const char *text;
    int level = -1;

    if (!body)
        return;
    text = json_string_value(json_object_get(body, "level"));
    for (int i = 0; text && i < (int)(sizeof(level_names) / sizeof(level_names[0])); i++) {
        if (strcmp(text, level_names[i]) == 0)
            level = i;
    }
    json_decref(body);
    if (level < 0) {
        control_fail(call, 400, "level is one of error, warn, info, debug, trace");
        return;
    }
    weir_log(call->control->opts.log, WEIR_LOG_INFO, "admin: log level %s", level_names[level]);
    weir_log_set_level(call->control->opts.log, (enum weir_log_level)level);
    control_reply_json(call, 200, ok());
}

/* ---- PUT /v1/splice ----------------------------------------------------------------------- */

const char *const control_splice_words[] = { "auto", "off", "copy", "pipe", "sockmap", NULL };

void control_put_splice(struct control_call *call)
{
    static const char *const keys[] = { "splice", NULL };
    json_t *body = control_body(call, keys);
    const char *text;
    int policy = 0;

    if (!body)
        return;
    text = json_string_value(json_object_get(body, "splice"));
    for (int i = 0; text && control_splice_words[i]; i++)
        if (strcmp(text, control_splice_words[i]) == 0)
            policy = WEIR_SPLICE_AUTO + i;
    json_decref(body);
    if (!policy) {
        control_fail(call, 400, "splice is one of auto, off, copy, pipe, sockmap");
        return;
    }
    weir_log(call->control->opts.log, WEIR_LOG_INFO, "admin: kernel.splice %s",
             control_splice_words[policy - WEIR_SPLICE_AUTO]);
    weir_service_set_splice(call->control->opts.service, (enum weir_splice_policy)policy);
    control_reply_json(call, 200, ok());
}

/* ---- POST /v1/drain ----------------------------------------------------------------------- */

void control_post_drain(struct control_call *call)
{
    struct weir_control *control = call->control;

    if (!control->opts.on_drain) {
        control_fail(call, 409, "this daemon cannot be drained");
        return;
    }
    weir_list_push_back(&control->draining, &call->link);
    if (control->state != WEIR_CONTROL_DRAINING)
        control->opts.on_drain(control->opts.arg);
}

/* ---- bans --------------------------------------------------------------------------------- */

static bool prefix_read(struct control_call *call, struct weir_prefix *prefix, struct weir_str text)
{
    if (weir_prefix_parse(prefix, text) == 0)
        return true;
    control_fail(call, 400,
                 "'%.*s' is not a prefix; write 192.0.2.0/24, 2001:db8::/32 or an address (the "
                 "bits behind the prefix are 0)",
                 WEIR_FMT(text));
    return false;
}

static struct weir_str json_text(const json_t *json)
{
    return (struct weir_str){ json_string_value(json), json_string_length(json) };
}

/* The address that asks, as the command tells it (whoever is at the keyboard by SSH). */
static bool asker_read(struct weir_addr *addr, const json_t *json)
{
    char text[WEIR_ADDR_TEXT_MAX];
    struct weir_str ip = json_text(json);
    bool v6 = ip.len > 0 && memchr(ip.ptr, ':', ip.len) != NULL;
    int n;

    if (ip.len == 0 || ip.len > sizeof(text) - 8)
        return false;
    n = snprintf(text, sizeof(text), v6 ? "[%.*s]:1" : "%.*s:1", WEIR_FMT(ip));
    return weir_addr_parse(addr, (struct weir_str){ text, (size_t)n }) == 0;
}

static void ban(struct control_call *call, const json_t *body)
{
    struct weir_control *control = call->control;
    const json_t *for_ms = json_object_get(body, "for_ms"), *why = json_object_get(body, "why");
    struct weir_str text = json_text(json_object_get(body, "prefix"));
    struct weir_prefix prefix;
    struct weir_addr asker;
    bool asked;
    int err;

    if (weir_str_absent(text)) {
        control_fail(call, 400, "say \"prefix\"");
        return;
    }
    if (!prefix_read(call, &prefix, text))
        return;
    if ((for_ms && (!json_is_integer(for_ms) || json_integer_value(for_ms) < 0)) ||
        (why && !json_is_string(why))) {
        control_fail(call, 400,
                     "for_ms is a number of milliseconds (0: until it is deleted), why "
                     "is a text");
        return;
    }
    asked = asker_read(&asker, json_object_get(body, "asker"));
    err = weir_access_ban(weir_service_access(control->opts.service), &prefix,
                          for_ms ? (uint64_t)json_integer_value(for_ms) : 0, json_text(why),
                          asked ? &asker : NULL, weir_clock_us() / 1000);
    if (err == WEIR_EDENIED)
        control_fail(call, 409,
                     "%.*s meets access.never_ban or the address that asks: nothing was banned",
                     WEIR_FMT(text));
    else if (err == WEIR_ELIMIT)
        control_fail(call, 409, "the table of bans is full; delete some first");
    else if (err)
        control_fail(call, 500, "%s", weir_err_text((enum weir_err)err));
    if (err)
        return;
    weir_log(control->opts.log, WEIR_LOG_INFO, "admin: banned %.*s%s%.*s", WEIR_FMT(text),
             json_text(why).len ? ": " : "", WEIR_FMT(json_text(why)));
    control_reply_json(call, 200, ok());
}

void control_post_ban(struct control_call *call)
{
    static const char *const keys[] = { "prefix", "for_ms", "why", "asker", NULL };
    json_t *body = control_body(call, keys);

    if (!body)
        return;
    ban(call, body);
    json_decref(body);
}

void control_delete_ban(struct control_call *call)
{
    struct weir_str text = control_param(call, "prefix");
    struct weir_prefix prefix;

    if (text.len == 0) {
        control_fail(call, 400, "say which: DELETE /v1/bans?prefix=192.0.2.0/24");
        return;
    }
    if (!prefix_read(call, &prefix, text))
        return;
    if (weir_access_unban(weir_service_access(call->control->opts.service), &prefix) != 0) {
        control_fail(call, 404, "%.*s is not banned", WEIR_FMT(text));
        return;
    }
    weir_log(call->control->opts.log, WEIR_LOG_INFO, "admin: the ban of %.*s was deleted",
             WEIR_FMT(text));
    control_reply_json(call, 200, ok());
}
