/* SPDX-License-Identifier: Apache-2.0 */
/**
 * rate_limit.c: the filter `rate_limit`: a token bucket for each client, each value of a header, or
 * the route. The table is shared by all workers: a limit is what the configuration says, however
 * connections are spread, and one atomic exchange a request costs less than workers that lend each
 * other shares (rate_limit.h says how it stands a flood).
 */
#include "weir/builtin.h"

#include "rate_limit.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BAN_MS_MAX (366ll * 86400 * 1000)
enum { BURST_DEFAULT = 200, KEY_TEXT_MAX = 64, STATUS_DEFAULT = 429 };

struct rate_limit {
    const struct weir_rate_limit_conf *conf;
    enum { BY_CLIENT, BY_ROUTE, BY_HEADER } by;
    char *header;
    struct rate_table *table;
    bool adopted;
};

static bool parse_key(struct rate_limit *limit, struct weir_str key)
{
    static const struct weir_str header = { "header:", 7 };

    if (!key.len || (key.len == 6 && !memcmp(key.ptr, "client", 6)))
        return true;
    if (key.len == 5 && !memcmp(key.ptr, "route", 5)) {
        limit->by = BY_ROUTE;
        return true;
    }
    if (key.len <= header.len || memcmp(key.ptr, header.ptr, header.len) != 0)
        return false;
    limit->by = BY_HEADER;
    limit->header = strndup(key.ptr + header.len, key.len - header.len);
    return limit->header != NULL;
}

/* A program may leave fields 0: the defaults of the rows. */
static uint64_t burst_of(const struct weir_rate_limit_conf *conf)
{
    return conf->burst ? (uint64_t)conf->burst : BURST_DEFAULT;
}

static int status_of(const struct weir_rate_limit_conf *conf)
{
    return conf->status ? (int)conf->status : STATUS_DEFAULT;
}

/* What rows cannot say; NULL when all is well. */
static const char *wrong(struct rate_limit *limit, const struct weir_rate_limit_conf *conf)
{
    if (!parse_key(limit, conf->key))
        return "key is client, route or header:NAME";
    if (!(conf->rate > 0) || conf->rate > 1e9)
        return "rate must be above 0, and at most 1000000000/s";
    if (conf->burst < 0 || conf->burst > 1000000000)
        return "burst must be 1 to 1000000000";
    if (conf->status && (conf->status < 400 || conf->status > 599))
        return "status must be 400 to 599";
    if (conf->ban_ms > 0 && limit->by == BY_ROUTE)
        return "ban needs a key of one client: with `key: route` it would ban whoever comes last";
    return NULL;
}

static void rate_limit_fini(void *self)
{
    struct rate_limit *limit = self;

    rate_table_put(limit->table);
    free(limit->header);
    free(limit);
}

static void *rate_limit_create(const void *arg, char *fault, size_t fault_bytes)
{
    const struct weir_rate_limit_conf *conf = arg;
    struct rate_limit *limit = calloc(1, sizeof(*limit));
    const char *why;

    if (!limit) {
        snprintf(fault, fault_bytes, "out of memory");
        return NULL;
    }
    limit->conf = conf;
    why = wrong(limit, conf);
    if (!why)
        limit->table = rate_table_new(conf->rate, burst_of(conf));
    if (limit->table)
        return limit;
    snprintf(fault, fault_bytes, "%s", why ? why : "out of memory");
    rate_limit_fini(limit);
    return NULL;
}

/* An IPv6 client is its /64: one customer has 2^64 addresses in it. */
static struct weir_str client_key(struct weir_req *req, char text[KEY_TEXT_MAX])
{
    struct weir_str client = weir_req_client(req);
    struct in6_addr addr;

    if (!client.len || client.len >= KEY_TEXT_MAX || !memchr(client.ptr, ':', client.len))
        return client;
    memcpy(text, client.ptr, client.len);
    text[client.len] = 0;
    if (inet_pton(AF_INET6, text, &addr) != 1)
        return client;
    text[0] = '6';
    memcpy(text + 1, &addr, 8);
    return (struct weir_str){ text, 9 };
}

/* Who leaves the header out is known by the address, or it would be a way around the limit. */
static struct weir_str key_of(struct weir_req *req, const struct rate_limit *limit,
                              char text[KEY_TEXT_MAX])
{
    struct weir_str value;

    if (limit->by == BY_ROUTE)
        return WEIR_STR("route");
    if (limit->by == BY_HEADER) {
        value = weir_message_get(weir_req_request(req), limit->header);
        if (value.len)
            return value;
    }
    return client_key(req, text);
}

static enum weir_verdict refuse(struct weir_req *req, const struct rate_limit *limit,
                                const struct rate_answer *answer)
{
    uint64_t seconds = (answer->wait_ns + 999999999) / 1000000000;
    enum weir_verdict verdict;
    char text[24];
    int len;

    /* What cannot be banned (never_ban, a trusted proxy, a full table) is refused all the same. */
    if (limit->conf->ban_ms > 0 && answer->own)
        (void)!weir_req_ban(req, (uint64_t)limit->conf->ban_ms, WEIR_STR("rate_limit"));
    verdict = weir_req_reply(req, status_of(limit->conf), WEIR_STR("rate limit exceeded\n"));
    if (verdict != WEIR_DONE)
        return verdict;
    len = snprintf(text, sizeof(text), "%llu", (unsigned long long)(seconds ? seconds : 1));
    /* Without memory for it the answer goes without its hint. */
    (void)!weir_message_set(weir_req_response(req), "retry-after",
                            (struct weir_str){ text, (size_t)len });
    return WEIR_DONE;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Clients keep their debts; the table is shared where the limit is the same, so that what the old one's last requests do is
 * counted too. Another key means other buckets. */
static void rate_limit_adopt(void *self, void *before)
{
    struct rate_limit *limit = self, *old = before;

    if (limit->adopted || limit->by != old->by ||
        (limit->header && strcasecmp(limit->header, old->header) != 0))
        return;
    limit->adopted = true;
    if (rate_table_alike(limit->table, old->table)) {
        rate_table_put(limit->table);
        limit->table = rate_table_get(old->table);
    } else {
        rate_table_copy(limit->table, old->table, now_ns());
    }
}

static enum weir_verdict rate_limit_request(struct weir_req *req, void *self)
{
    struct rate_limit *limit = self;
    char text[KEY_TEXT_MAX];
    struct weir_str key = key_of(req, limit, text);
    struct rate_answer answer;

    answer = rate_table_take(limit->table, key.ptr, key.len, now_ns());
    return answer.ok ? WEIR_NEXT : refuse(req, limit, &answer);
}

static const struct weir_filter rate_limit_filter = {
    .size = sizeof(struct weir_filter),
    .name = "rate_limit",
    .request = rate_limit_request,
    .fini = rate_limit_fini,
    .adopt = rate_limit_adopt,
};

#define ROW(field, ...) .offset = offsetof(struct weir_rate_limit_conf, field), __VA_ARGS__
static const struct weir_conf_item rate_limit_rows[] = {
    { "key",
      ROW(key, .type = WEIR_CONF_STR, .def = "client",
          .text = "who shares a bucket: client (an IPv6 client is its /64), header:NAME, route") },
    { "rate",
      ROW(rate, .type = WEIR_CONF_RATE, .def = "100/s", .text = "how fast a bucket is refilled") },
    { "burst", ROW(burst, .type = WEIR_CONF_INT, .min = 1, .max = 1000000000, .def = "200",
                   .text = "requests that may come at once") },
    { "status", ROW(status, .type = WEIR_CONF_INT, .min = 400, .max = 599, .def = "429",
                    .text = "what a request above the limit is answered with") },
    { "ban",
      ROW(ban_ms, .type = WEIR_CONF_MS, .min = 1000, .max = BAN_MS_MAX, .flags = WEIR_CONF_OFF,
          .def = "off", .text = "shut a client out for this long when it goes above the limit") },
    { 0 },
};

const struct weir_filter_type weir_filter_rate_limit_type = {
    .size = sizeof(struct weir_filter_type),
    .name = "rate_limit",
    .text = "refuses requests above a rate, by client, header or route",
    .rows = rate_limit_rows,
    .bytes = sizeof(struct weir_rate_limit_conf),
    .filter = &rate_limit_filter,
    .create = rate_limit_create,
};
