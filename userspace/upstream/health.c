/* SPDX-License-Identifier: Apache-2.0 */
/**
 * health.c: active checks: is a server to be given requests? One loop checks for all workers, over
 * connections of its own.
 *
 *   waiting ──every ± 10 %──▶ probing ──good | bad | timeout──▶ closing ──on_closed──▶ waiting
 *
 * A server begins up. `fall` bad checks in a row take it down, `rise` good ones up; a change is one
 * line in the log. What is asked, of http and grpc checks, is in health_ask.c.
 */
#include "upstream/health.h"

#include "net/tcp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEALTH_EVERY_MS = 2000, HEALTH_TIMEOUT_MS = 1000, HEALTH_RISE = 2, HEALTH_FALL = 3 };

static void health_wait(struct weir_health *health, uint64_t ms);

static void health_free(struct weir_health *health)
{
    weir_health_ask_fini(health);
    free(health->addrs);
    free(health);
}

static uint64_t health_every(const struct weir_health *health)
{
    int64_t ms = weir_health_conf(health)->every_ms;

    return ms > 0 ? (uint64_t)ms : HEALTH_EVERY_MS;
}

/* Not all servers, nor all proxies, at the same moment: a tenth more or less (xorshift, Marsaglia
 * 2003). */
static uint64_t health_jitter(struct weir_health *health, uint64_t ms)
{
    uint32_t x = health->random;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    health->random = x;
    return ms - ms / 10 + x % (ms / 5 + 1);
}

static void health_change(struct weir_health *health, bool up, const char *why)
{
    struct weir_server *server = health->server;
    uint64_t now_ms = health->loop->now_ms, seconds = (now_ms - server->since_ms) / 1000;

    server->since_ms = now_ms;
    if (up)
        weir_log(server->cluster->log, WEIR_LOG_INFO,
                 "upstream %.*s: server %s is up: %u good checks in a row; it was down for %llu s",
                 WEIR_FMT(server->cluster->conf->name), server->text, health->good,
                 (unsigned long long)seconds);
    else
        weir_log(server->cluster->log, WEIR_LOG_WARN,
                 "upstream %.*s: server %s is down: %s (%u checks in a row); it was up for %llu s",
                 WEIR_FMT(server->cluster->conf->name), server->text, why, health->bad,
                 (unsigned long long)seconds);
    weir_server_set_flag(server, WEIR_SERVER_HEALTHY, up);
}

/* What is wrong with a server, until it is up and a check is good (NULL). A name that is not
 * resolved is told by others, and stays. */
static void health_tell(struct weir_health *health, const char *fault)
{
    if (fault || health->told)
        weir_server_set_fault(health->server, fault ? fault : "");
    health->told = fault != NULL;
}

static void health_judge(struct weir_health *health, const char *fault)
{
    const struct weir_health_conf *conf = weir_health_conf(health);
    bool up = atomic_load(&health->server->flags) & WEIR_SERVER_HEALTHY;

    if (!fault) {
        bool rises;

        health->good++;
        health->bad = 0;
        rises = !up && health->good >= (conf->rise > 0 ? conf->rise : HEALTH_RISE);
        if (up || rises)
            health_tell(health, NULL);
        if (rises)
            health_change(health, true, NULL);
        return;
    }
    health->bad++;
    health->good = 0;
    health_tell(health, fault);
    if (up && health->bad >= (conf->fall > 0 ? conf->fall : HEALTH_FALL))
        health_change(health, false, fault);
}

void weir_health_end(struct weir_health *health, const char *fault)
{
    if (health->ended)
        return;
    health->ended = true;
    weir_timer_stop(&health->loop->wheel, &health->timer);
    health_judge(health, fault);
    weir_stream_close(health->stream, false);
}

void weir_health_fail(struct weir_health *health, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(health->fault, sizeof(health->fault), format, args);
    va_end(args);
    weir_health_end(health, health->fault);
}

/* No connection came about. What we lack ourselves (descriptors, ports, memory) says nothing of the
 * server: it is told, in its status and once in the log, and not counted; else a flood of clients
 * would take down every server at once. */
static void health_unconnected(struct weir_health *health, struct weir_error error)
{
    const struct weir_server *server = health->server;

    if (error.by != WEIR_BY_US) {
        health->lacking = WEIR_OK;
        health_judge(health, weir_err_text(error.code));
        return;
    }
    if (error.code != health->lacking)
        weir_log(server->cluster->log, WEIR_LOG_WARN,
                 "upstream %.*s: server %s cannot be checked: %s",
                 WEIR_FMT(server->cluster->conf->name), server->text, weir_err_text(error.code));
    health->lacking = error.code;
    health_tell(health, weir_err_text(error.code));
}

static void on_open(void *arg)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    health->lacking = WEIR_OK;
    if (weir_health_conf(health)->type == WEIR_HEALTH_TCP)
        weir_health_end(health, NULL);
    else
        weir_health_ask(health);
}

static void on_data(void *arg, const uint8_t *data, size_t len)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    if (!health->ended)
        weir_health_feed(health, data, len);
}

static void on_eof(void *arg)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    weir_health_end(health, weir_err_text(WEIR_EUPCLOSED));
}

static void on_drained(void *arg)
{
    weir_health_drained(weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC));
}

static void on_error(void *arg, enum weir_err err, int sys)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    if (health->opened) {
        weir_health_end(health, weir_err_text(weir_upstream_fault(err)));
    } else if (!health->ended) {
        health->ended = true;
        weir_timer_stop(&health->loop->wheel, &health->timer);
        health_unconnected(health, weir_connect_error(err, sys));
        weir_stream_close(health->stream, false);
    }
}

static void on_closed(void *arg)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    health->stream = NULL;
    weir_health_ask_fini(health);
    if (health->stopped)
        health_free(health);
    else
        health_wait(health, health_jitter(health, health_every(health)));
}

static const struct weir_stream_sink sink = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drained = on_drained,
    .on_error = on_error,
    .on_closed = on_closed,
};

static void on_timeout(struct weir_timer *timer, void *arg)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);

    weir_health_end(health, health->opened ? "no answer in time" : "no connection in time");
}

/* The next address of the server; false when it has none: then it is down without our help. */
static bool health_address(struct weir_health *health, struct weir_addr *addr)
{
    unsigned count;

    free(health->addrs);
    health->addrs = weir_server_copy_addrs(health->server, &count);
    if (!health->addrs)
        return false;
    *addr = health->addrs[health->next++ % count];
    return true;
}

static void on_due(struct weir_timer *timer, void *arg)
{
    struct weir_health *health = weir_cast(struct weir_health, arg, WEIR_HEALTH_MAGIC);
    const struct weir_health_conf *conf = weir_health_conf(health);
    uint32_t timeout_ms = conf->timeout_ms > 0 ? (uint32_t)conf->timeout_ms : HEALTH_TIMEOUT_MS;
    int proxy_protocol = health->server->cluster->conf->proxy_protocol;
    uint8_t header[WEIR_PP_OUT_BYTES_MAX];
    struct weir_tcp_opts opts = { .connect_timeout_ms = timeout_ms,
                                  .first = { (const char *)header, 0 } };
    struct weir_addr addr;
    int sys = 0;

    health->ended = health->opened = false;
    if (!health_address(health, &addr)) {
        health_wait(health, health_jitter(health, health_every(health)));
        return;
    }
    if (proxy_protocol) /* of a connection of our own (LOCAL) */
        opts.first.len = weir_pp_make(&(struct weir_pp_out){ .version = proxy_protocol }, header);
    if (conf->type == WEIR_HEALTH_TCP)
        health->stream = weir_tcp_connect(health->loop, &addr, &opts, &sink, health, &sys);
    else
        health->stream =
            weir_connect_stream(health->loop, health->server, &addr, &opts, &sink, health, &sys);
    if (health->stream) {
        weir_loop_timer(health->loop, &health->timer, timeout_ms, on_timeout, health);
        return;
    }
    health_unconnected(health,
                       weir_connect_error(sys ? weir_err_from_errno(sys) : WEIR_ENOMEM, sys));
    health_wait(health, health_jitter(health, health_every(health)));
}

static void health_wait(struct weir_health *health, uint64_t ms)
{
    weir_loop_timer(health->loop, &health->timer, ms, on_due, health);
}

int weir_health_start(struct weir_server *server, struct weir_loop *loop)
{
    struct weir_health *health;

    server->since_ms = loop->now_ms;
    if (server->cluster->conf->health.type == WEIR_HEALTH_NONE || server->health)
        return 0;
    health = calloc(1, sizeof(*health));
    if (!health)
        return WEIR_ENOMEM;
    health->magic = WEIR_HEALTH_MAGIC;
    health->server = server;
    health->loop = loop;
    health->random = (uint32_t)(loop->now_us ^ (server->index * 2654435761u)) | 1;
    server->health = health;
    health_wait(health, health_jitter(health, health_every(health)) / 8);
    return 0;
}

void weir_health_stop(struct weir_server *server)
{
    struct weir_health *health = server->health;

    if (!health)
        return;
    server->health = NULL;
    health->stopped = true;
    weir_timer_stop(&health->loop->wheel, &health->timer);
    if (!health->stream) {
        health_free(health);
        return;
    }
    if (!health->ended) {
        health->ended = true;
        weir_stream_close(health->stream, false);
    }
    weir_health_ask_fini(health); /* the worker's part of HTTP/2 may be gone by on_closed */
}
