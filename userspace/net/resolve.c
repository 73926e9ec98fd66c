/* SPDX-License-Identifier: Apache-2.0 */
/**
 * resolve.c: names followed by their TTL.
 *
 *   ask ──answer──▶ good for TTL (ttl_min … ttl_max) ──▶ ask
 *    └──none──▶ the old addresses stay for `stale` after their TTL; asked again
 *
 * It is asked again after an eighth of the time that it has failed, 1 s to 30 s: a short outage is
 * over for us within a second, a long one costs few questions.
 */
#include "net/resolve_impl.h"

#include "base/str.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_next(struct weir_timer *timer, void *arg);

static unsigned prefixes(struct weir_prefix *out, const char *const *texts)
{
    unsigned count = 0;

    for (; *texts; texts++) {
        int err = weir_prefix_parse(&out[count], weir_str(*texts));

        weir_assert(!err && count < RESOLVE_LOCALS_MAX);
        count++;
    }
    return count;
}

struct weir_resolver *weir_resolver_new(struct weir_loop *loop, const struct weir_dns_conf *conf)
{
    static const char *const local[] = {
        "127.0.0.0/8", "0.0.0.0/8", "169.254.0.0/16",    "100.100.100.200/32", "::1/128",
        "::/128",      "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128",   NULL
    };
    static const char *const never[] = { "224.0.0.0/4", "255.255.255.255/32", "ff00::/8", NULL };
    struct weir_resolver *resolver = calloc(1, sizeof(*resolver));

    if (!resolver)
        return NULL;
    resolver->loop = loop;
    resolver->conf = *conf;
    resolver->local_count = prefixes(resolver->local, local);
    resolver->never_count = prefixes(resolver->never, never);
    if (weir_resolve_ares_open(resolver)) {
        free(resolver);
        return NULL;
    }
    return resolver;
}

void weir_resolver_free(struct weir_resolver *resolver)
{
    if (!resolver)
        return;
    weir_assert(resolver->resolutions == 0);
    weir_resolve_ares_close(resolver);
}

static int compare_addrs(const void *a, const void *b)
{
    const struct weir_addr *x = a, *y = b;

    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return memcmp(&x->sa, &y->sa, x->len);
}

/* Both are sorted. */
static bool same_addrs(const struct weir_resolution *res, const struct resolve_query *query)
{
    if (res->count != query->count)
        return false;
    for (unsigned i = 0; i < res->count; i++)
        if (compare_addrs(&res->addrs[i], &query->addrs[i]))
            return false;
    return true;
}

/* Can this host send there at all? Nothing is sent. */
static bool has_route(const struct weir_addr *addr)
{
    int fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && connect(fd, &addr->sa, addr->len) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

/* A name with both families on a host that has one: the addresses without a route would fail every
 * second connect. */
static void drop_unreachable(struct resolve_query *query)
{
    struct weir_addr *kept;
    unsigned v6 = 0, count = 0;

    for (unsigned i = 0; i < query->count; i++)
        v6 += query->addrs[i].sa.sa_family == AF_INET6;
    if (v6 == 0 || v6 == query->count)
        return;
    kept = malloc(query->count * sizeof(*kept));
    if (!kept)
        return;
    for (unsigned i = 0; i < query->count; i++)
        if (has_route(&query->addrs[i]))
            kept[count++] = query->addrs[i];
    if (count) {
        free(query->addrs);
        query->addrs = kept;
        query->count = count;
    } else {
        free(kept);
    }
}

static void wait_next(struct weir_resolution *res, uint64_t ms)
{
    weir_loop_timer(res->resolver->loop, &res->next, ms, on_next, res);
}

/* Nothing follows a call of fn: it may have stopped the resolution. */
static void tell_none(struct weir_resolution *res)
{
    free(res->addrs);
    res->addrs = NULL;
    res->count = 0;
    res->told = true;
    res->fn(res->arg, NULL, 0, WEIR_EDNS);
}

static void on_stale(struct weir_timer *timer, void *arg)
{
    struct weir_resolution *res = arg;

    if (res->count)
        tell_none(res);
}

static void resolve_failed(struct weir_resolution *res)
{
    uint64_t now_ms = res->resolver->loop->now_ms, wait;

    if (!res->failing_since_ms)
        res->failing_since_ms = now_ms;
    wait = (now_ms - res->failing_since_ms) / 8;
    if (wait < RESOLVE_RETRY_MIN_MS)
        wait = RESOLVE_RETRY_MIN_MS;
    if (wait > RESOLVE_RETRY_MAX_MS)
        wait = RESOLVE_RETRY_MAX_MS;
    wait_next(res, wait);
    if (!res->count && !res->told)
        tell_none(res);
}

static uint64_t clamp_ttl(const struct weir_dns_conf *conf, uint64_t ttl_ms)
{
    if (conf->ttl_max_ms > 0 && ttl_ms > (uint64_t)conf->ttl_max_ms)
        ttl_ms = (uint64_t)conf->ttl_max_ms;
    if (conf->ttl_min_ms > 0 && ttl_ms < (uint64_t)conf->ttl_min_ms)
        ttl_ms = (uint64_t)conf->ttl_min_ms;
    return ttl_ms < 100 ? 100 : ttl_ms;
}

void weir_resolve_answered(struct weir_resolution *res, struct resolve_query *query)
{
    const struct weir_dns_conf *conf = &res->resolver->conf;
    struct weir_loop *loop = res->resolver->loop;
    uint64_t ttl_ms;

    if (!query->count) {
        resolve_failed(res);
        return;
    }
    drop_unreachable(query);
    qsort(query->addrs, query->count, sizeof(*query->addrs), compare_addrs);
    ttl_ms = clamp_ttl(conf, query->ttl_ms);
    res->failing_since_ms = 0;
    res->valid_until_ms = loop->now_ms + ttl_ms;
    wait_next(res, ttl_ms);
    if (conf->stale_ms >= 0)
        weir_loop_timer(loop, &res->stale, ttl_ms + (uint64_t)conf->stale_ms, on_stale, res);
    if (same_addrs(res, query))
        return;
    free(res->addrs);
    res->addrs = query->addrs;
    res->count = query->count;
    query->addrs = NULL;
    res->told = false;
    res->fn(res->arg, res->addrs, res->count, WEIR_OK);
}

static void on_next(struct weir_timer *timer, void *arg)
{
    struct weir_resolution *res = arg;

    if (res->query)
        return;
    if (res->failing_since_ms)
        weir_resolve_ares_reread(res->resolver);
    if (weir_resolve_ask(res))
        resolve_failed(res);
}

struct weir_resolution *weir_resolve_start(struct weir_resolver *resolver, struct weir_str host,
                                           uint16_t port, bool srv, weir_addrs_fn fn, void *arg)
{
    struct weir_resolution *res = calloc(1, sizeof(*res));

    if (!res)
        return NULL;
    res->host = weir_str_dup(host);
    if (!res->host) {
        free(res);
        return NULL;
    }
    res->resolver = resolver;
    res->port = port;
    res->srv = srv;
    res->fn = fn;
    res->arg = arg;
    resolver->resolutions++;
    wait_next(res, 0); /* an answer never comes inside this call */
    return res;
}

void weir_resolve_stop(struct weir_resolution **resp)
{
    struct weir_resolution *res = weir_take(resp);
    struct weir_wheel *wheel = &res->resolver->loop->wheel;

    weir_timer_stop(wheel, &res->next);
    weir_timer_stop(wheel, &res->stale);
    if (res->query)
        res->query->resolution = NULL; /* c-ares can not take back one question: it ends alone */
    res->resolver->resolutions--;
    free(res->addrs);
    free(res->host);
    free(res);
}
