/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c: the documented defaults, and how levels become one. The same values stand as text in
 * the daemon's tables (daemon/conf_items*.c), which people read; a test of the daemon holds the two
 * against each other.
 */
#include "proxy/policy.h"

#include "base/str.h"
#include "weir/limits.h"

#define SECOND       ((int64_t)1000)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct weir_str upgrades[] = { { "websocket", 9 } };
static struct weir_str protocols[] = { { "h2", 2 }, { "http/1.1", 8 } };
static struct weir_str redacted[] = { { "query", 5 } };

static void timeouts_init(struct weir_timeouts *timeouts)
{
    *timeouts = (struct weir_timeouts){
        .handshake = 10 * SECOND,
        .head = 10 * SECOND,
        .receive = 60 * SECOND,
        .body_rate_min = 500,
        .send = 60 * SECOND,
        .keepalive = 60 * SECOND,
        .connect = WEIR_CONNECT_TIMEOUT_MS,
        .queue = SECOND,
        .first_byte = 60 * SECOND,
        .idle = 60 * SECOND,
        .request = WEIR_UNLIMITED,
        .tunnel = 3600 * SECOND,
        .half_closed = 300 * SECOND,
        .grpc_idle = WEIR_UNLIMITED,
    };
}

static void limits_init(struct weir_limit_conf *limits)
{
    *limits = (struct weir_limit_conf){
        .connections = 100000,
        .connections_per_client = WEIR_UNLIMITED,
        .head = WEIR_HEADERS_BYTES_MAX,
        .headers = WEIR_HEADERS_COUNT_MAX,
        .body = WEIR_UNLIMITED,
        .replay = WEIR_REPLAY_BYTES_MAX,
        .keepalive_requests = WEIR_UNLIMITED,
        .streams = 100,
        .resets = 100 / 60.0,
        .pings = 60 / 60.0,
        .memory_share = 0.75,
    };
}

static void timeouts_inherited(struct weir_timeouts *timeouts)
{
    const int64_t v = WEIR_INHERIT;

    *timeouts = (struct weir_timeouts){ v, v, v, v, v, v, v, v, v, v, v, v, v, v };
}

static void limits_inherited(struct weir_limit_conf *limits)
{
    const int64_t v = WEIR_INHERIT;

    *limits = (struct weir_limit_conf){ v, v, v, v, v, v, v, v, .memory = 0 };
}

static void access_log_init(struct weir_access_log_conf *log)
{
    *log = (struct weir_access_log_conf){
        .format = WEIR_LOG_JSON,
        .to = WEIR_STR("stdout"),
        .sample = 1,
        .redact = { redacted, COUNT(redacted) },
    };
}

void weir_proxy_conf_init(struct weir_proxy_conf *conf)
{
    *conf = (struct weir_proxy_conf){
        .kernel = { .splice = WEIR_SPLICE_AUTO - 1,
                    .splice_memory = (int64_t)256 << 20,
                    .sockmap_after_ms = 250 },
        .announce_ms = 5 * SECOND,
        .drain_ms = 30 * SECOND,
        .tunnels_ms = 30 * SECOND,
        .dns = { .ttl_min_ms = SECOND,
                 .ttl_max_ms = 300 * SECOND,
                 .stale_ms = 3600 * SECOND,
                 .addresses_max = 64 },
    };
    timeouts_init(&conf->timeouts);
    limits_init(&conf->limits);
    access_log_init(&conf->access_log);
}

void weir_listener_conf_init(struct weir_listener_conf *conf)
{
    *conf = (struct weir_listener_conf){
        .tls = { .tickets = true, .alpn = { protocols, COUNT(protocols) } },
        .backlog = 4096,
        .mode = 0600,
        .paths = WEIR_PATHS_NORMALIZE,
        .underscores = WEIR_UNDERSCORES_DROP,
        .forwarded = WEIR_FORWARDED_X,
        .via = WEIR_STR("weir"),
        .request_id = WEIR_STR("x-request-id"),
    };
    timeouts_inherited(&conf->timeouts);
    limits_inherited(&conf->limits);
    access_log_init(&conf->access_log);
}

void weir_route_conf_init(struct weir_route_conf *conf)
{
    *conf = (struct weir_route_conf){
        .reply_status = 200,
        .redirect_status = 308,
        .retry = { .attempts = 2,
                   .when = WEIR_RETRY_ON_CONNECT | WEIR_RETRY_ON_UNPROCESSED,
                   .budget = 0.2 },
        .upgrade = { upgrades, COUNT(upgrades) },
        .host = WEIR_HOST_PASS,
    };
    timeouts_inherited(&conf->timeouts);
    limits_inherited(&conf->limits);
    access_log_init(&conf->access_log);
}

void weir_cluster_conf_init(struct weir_cluster_conf *conf)
{
    *conf = (struct weir_cluster_conf){
        .tls = { .verify = true },
        .connections_max = WEIR_UNLIMITED,
        .pool = { .idle_max = 1024,
                  .idle_timeout_ms = 60 * SECOND,
                  .requests_max = WEIR_UNLIMITED,
                  .age_max_ms = WEIR_UNLIMITED },
        .health = { .type = WEIR_HEALTH_NONE,
                    .path = WEIR_STR("/"),
                    .expect = WEIR_STR("200-299"),
                    .every_ms = 2 * SECOND,
                    .timeout_ms = SECOND,
                    .rise = 2,
                    .fall = 3 },
    };
}

bool weir_route_hands_over(struct weir_str to, struct weir_str *name)
{
    static const char prefix[] = "listener:";
    size_t len = sizeof(prefix) - 1;

    if (!weir_str_starts(to, weir_str(prefix)))
        return false;
    *name = (struct weir_str){ to.ptr + len, to.len - len };
    return true;
}

const char *weir_listener_speaks(const struct weir_listener_conf *conf)
{
    if (conf->protocol == WEIR_PROTOCOL_TCP)
        return conf->tls_on ? "tls" : "tcp";
    return conf->tls_on ? "https" : "http";
}

static int64_t inherited(int64_t low, int64_t high)
{
    return low == WEIR_INHERIT ? high : low;
}

void weir_timeouts_inherit(struct weir_timeouts *low, const struct weir_timeouts *high)
{
    low->handshake = inherited(low->handshake, high->handshake);
    low->head = inherited(low->head, high->head);
    low->receive = inherited(low->receive, high->receive);
    low->body_rate_min = inherited(low->body_rate_min, high->body_rate_min);
    low->send = inherited(low->send, high->send);
    low->keepalive = inherited(low->keepalive, high->keepalive);
    low->connect = inherited(low->connect, high->connect);
    low->queue = inherited(low->queue, high->queue);
    low->first_byte = inherited(low->first_byte, high->first_byte);
    low->idle = inherited(low->idle, high->idle);
    low->request = inherited(low->request, high->request);
    low->tunnel = inherited(low->tunnel, high->tunnel);
    low->half_closed = inherited(low->half_closed, high->half_closed);
    low->grpc_idle = inherited(low->grpc_idle, high->grpc_idle);
}

/* The smaller one; unlimited is larger than all. */
static int64_t ceiling(int64_t low, int64_t high)
{
    if (low == WEIR_INHERIT || low == WEIR_UNLIMITED)
        return high;
    if (high == WEIR_UNLIMITED || high == WEIR_INHERIT)
        return low;
    return low < high ? low : high;
}

/* Here off means nothing, not everything: the least there is. */
static int64_t replay_ceiling(int64_t low, int64_t high)
{
    return low == WEIR_UNLIMITED || high == WEIR_UNLIMITED ? WEIR_UNLIMITED : ceiling(low, high);
}

static double rate_ceiling(double low, double high)
{
    if (low <= 0)
        return high;
    return high <= 0 || low < high ? low : high;
}

void weir_limits_inherit(struct weir_limit_conf *low, const struct weir_limit_conf *high)
{
    low->connections = ceiling(low->connections, high->connections);
    low->connections_per_client =
        ceiling(low->connections_per_client, high->connections_per_client);
    low->head = ceiling(low->head, high->head);
    low->headers = ceiling(low->headers, high->headers);
    low->body = ceiling(low->body, high->body);
    low->replay = replay_ceiling(low->replay, high->replay);
    low->keepalive_requests = ceiling(low->keepalive_requests, high->keepalive_requests);
    low->streams = ceiling(low->streams, high->streams);
    low->resets = rate_ceiling(low->resets, high->resets);
    low->pings = rate_ceiling(low->pings, high->pings);
    low->memory = high->memory;
    low->memory_share = high->memory_share;
}
