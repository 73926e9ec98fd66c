/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/worker.h"

#include "accel/sockmap.h"
#include "base/clock.h"
#include "proxy/pass.h"
#include "proxy/req.h"
#include "proxy/room.h"
#include "proxy/session.h"
#include "proxy/tunnel_light.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { SWEEP_MS = 200, TRIM_SWEEPS = 1, PRESSURE_SHEDS = 256 };

/* --- set-up: on the caller's thread --------------------------------------------------------------
 */

static int listener_init(struct weir_worker *worker, unsigned i)
{
    const struct weir_listener *listener = &worker->service->listeners[i];
    struct weir_wlistener *wl = &worker->listeners[i];
    struct weir_listener_stats *stats = &worker->stats.listeners[i];

    wl->worker = worker;
    wl->listener = listener;
    wl->stats = stats;
    for (int state = 0; state < WEIR_SESSION_STATES; state++)
        weir_list_init(&wl->sessions[state]);
    stats->routes_count = listener->routes.count + 1;
    stats->routes = calloc(stats->routes_count, sizeof(*stats->routes));
    wl->socks = calloc(listener->addr_count, sizeof(*wl->socks));
    return stats->routes && wl->socks ? 0 : WEIR_ENOMEM;
}

static int filter_state_init(struct weir_worker *worker)
{
    const struct weir_service *service = worker->service;
    unsigned slots = 0;

    for (unsigned i = 0; i < service->listener_count; i++)
        slots += service->listeners[i].routes.count;
    worker->filter_state = calloc(slots + 1, sizeof(*worker->filter_state));
    if (!worker->filter_state)
        return WEIR_ENOMEM;
    for (unsigned i = 0; i < service->listener_count; i++)
        for (unsigned r = 0; r < service->listeners[i].routes.count; r++) {
            const struct weir_route *route = &service->listeners[i].routes.at[r];

            if (!route->chains.worker_bytes)
                continue;
            worker->filter_state[route->slot] = calloc(1, route->chains.worker_bytes);
            if (!worker->filter_state[route->slot])
                return WEIR_ENOMEM;
        }
    return 0;
}

int weir_worker_init(struct weir_worker *worker, struct weir_service *service, unsigned id)
{
    int err = weir_loop_init(&worker->loop, id, service->log);

    if (err)
        return err;
    worker->service = service;
    worker->id = id;
    worker->splice = service->splice;
    weir_slab_init(&worker->sessions, sizeof(struct weir_session));
    weir_slab_init(&worker->lights, sizeof(struct weir_light_more));
    weir_splicer_init(&worker->splicer, &worker->loop, &service->splice_budget,
                      &worker->stats.splice);
    err = weir_h2_shared_init(&worker->h2, &worker->loop.bufs, &worker->loop.now_ms);
    if (err)
        return err;
    for (int i = 0; i < WEIR_PARKED_BUCKETS; i++)
        weir_list_init(&worker->parked[i]);
    if (getrandom(worker->random, sizeof(worker->random), 0) != sizeof(worker->random))
        return WEIR_ESYS;
    worker->listeners = calloc(service->listener_count, sizeof(*worker->listeners));
    worker->stats.listeners = calloc(service->listener_count, sizeof(*worker->stats.listeners));
    worker->stats.retries = calloc(service->cluster_count + 1, sizeof(*worker->stats.retries));
    worker->views = calloc(service->cluster_count + 1, sizeof(*worker->views));
    worker->budgets = calloc(service->cluster_count + 1, sizeof(*worker->budgets));
    worker->scratch = weir_match_scratch_new();
    if (!worker->listeners || !worker->stats.listeners || !worker->stats.retries ||
        !worker->views || !worker->budgets || !worker->scratch)
        return WEIR_ENOMEM;
    for (unsigned i = 0; i < service->listener_count && !err; i++)
        err = listener_init(worker, i);
    for (unsigned i = 0; i < service->cluster_count && !err; i++) {
        worker->views[i] =
            weir_cluster_view_new(service->clusters[i], &worker->loop, id, &worker->h2);
        err = worker->views[i] ? 0 : WEIR_ENOMEM;
    }
    return err ?: filter_state_init(worker);
}

void weir_worker_fini(struct weir_worker *worker)
{
    struct weir_service *service = worker->service;
    unsigned slots = 0;

    if (!service)
        return;
    for (unsigned i = 0; i < service->listener_count; i++) {
        slots += service->listeners[i].routes.count;
        if (worker->stats.listeners)
            free(worker->stats.listeners[i].routes);
        if (worker->listeners)
            free(worker->listeners[i].socks);
    }
    for (unsigned i = 0; worker->filter_state && i < slots; i++)
        free(worker->filter_state[i]);
    for (unsigned i = 0; worker->views && i < service->cluster_count; i++)
        if (worker->views[i])
            weir_cluster_view_free(worker->views[i]);
    free(worker->filter_state);
    free(worker->listeners);
    free(worker->stats.listeners);
    free(worker->stats.retries);
    free(worker->views);
    free(worker->budgets);
    weir_match_scratch_free(worker->scratch);
    weir_slab_fini(&worker->sessions);
    weir_slab_fini(&worker->lights);
    weir_sockmap_close(&worker->splicer);
    weir_splicer_fini(&worker->splicer);
    weir_h2_shared_fini(&worker->h2);
    weir_loop_fini(&worker->loop);
}

/* --- run: on its own thread ----------------------------------------------------------------------
 */

/* xorshift128+ (Vigna 2014), seeded by the kernel: request ids must differ, not be secret. */
uint64_t weir_worker_random(struct weir_worker *worker)
{
    uint64_t a = worker->random[0], b = worker->random[1];

    worker->random[0] = b;
    a ^= a << 23;
    worker->random[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return worker->random[1] + b;
}

struct weir_str weir_worker_date(struct weir_worker *worker)
{
    static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

    if (worker->loop.now_ms >= worker->date_until_ms) {
        uint64_t wall_ms = weir_clock_wall_us() / 1000;
        time_t now = (time_t)(wall_ms / 1000);
        struct tm tm;

        gmtime_r(&now, &tm);
        snprintf(worker->date, sizeof(worker->date), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                 days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
                 tm.tm_min, tm.tm_sec);
        worker->date_until_ms = worker->loop.now_ms + 1000 - wall_ms % 1000;
    }
    return (struct weir_str){ worker->date, WEIR_DATE_BYTES };
}

void weir_worker_refused(struct weir_wlistener *wl, enum weir_refusal why, const char *text)
{
    struct weir_worker *worker = wl->worker;
    bool loud =
        why != WEIR_REFUSED_handshake && why != WEIR_REFUSED_denied && why != WEIR_REFUSED_banned;
    uint64_t count;

    weir_count(&wl->stats->refused[why], 1);
    count = weir_log_due(&wl->listener->refusals[why], worker->loop.now_ms);
    if (count)
        weir_log(worker->service->log, loud ? WEIR_LOG_WARN : WEIR_LOG_DEBUG,
                 "listener '%.*s': connection refused: %s (%llu since the last line)",
                 WEIR_FMT(wl->listener->conf->name), text, (unsigned long long)count);
}

static void on_accept(struct weir_lsock *lsock, int fd, const struct sockaddr *peer, socklen_t len)
{
    weir_session_accept(lsock, fd, peer, len);
}

static void on_accept_fail(struct weir_lsock *lsock, int sys)
{
    struct weir_wlistener *wl = lsock->arg;

    if (weir_err_from_errno(sys) == WEIR_EMFILE)
        weir_room_starved(wl->worker);
    weir_worker_refused(
        wl,
        weir_err_from_errno(sys) == WEIR_EMFILE ? WEIR_REFUSED_descriptors : WEIR_REFUSED_memory,
        weir_err_from_errno(sys) == WEIR_EMFILE
            ? "no file descriptor is free; raise `ulimit -n`, or lower limits.connections"
            : strerror(sys));
}

/* Idle connections to servers are worth less than requests: under pressure they go first. */
static void sweep_views(struct weir_worker *worker, bool trim)
{
    bool pressure = atomic_load_explicit(&worker->service->pressure, memory_order_relaxed);

    for (unsigned i = 0; i < worker->service->cluster_count; i++) {
        if (pressure)
            weir_cluster_view_shed(worker->views[i], PRESSURE_SHEDS);
        if (trim)
            weir_cluster_view_trim(worker->views[i]);
    }
}

/* The ceiling has been passed, or not any more (memory.c). */
static void follow_pressure(struct weir_worker *worker)
{
    bool tight = atomic_load_explicit(&worker->service->pressure, memory_order_relaxed);

    if (tight == worker->tight)
        return;
    worker->tight = worker->h2.tight = worker->splicer.tight = tight;
    worker->loop.read_bytes = tight ? WEIR_READ_LEAST_BYTES : WEIR_READ_BUFFER_BYTES;
    for (unsigned i = 0; i < worker->service->listener_count; i++)
        weir_sessions_press(&worker->listeners[i]);
}

/* `weir set kernel.splice` (weir_service_set_splice). */
static void follow_splice(struct weir_worker *worker)
{
    int splice = atomic_load_explicit(&worker->service->splice, memory_order_relaxed);

    if (splice == worker->splice)
        return;
    worker->splice = splice;
    for (unsigned i = 0; i < worker->service->listener_count; i++)
        weir_sessions_splice(&worker->listeners[i]);
}

static void on_sweep(struct weir_timer *timer, void *arg)
{
    struct weir_worker *worker = arg;
    bool trim;

    follow_pressure(worker);
    follow_splice(worker);
    for (unsigned i = 0; i < worker->service->listener_count; i++)
        weir_sessions_sweep(&worker->listeners[i]);
    weir_room_sweep(worker);
    if (atomic_exchange_explicit(&worker->wakes_lost, false, memory_order_relaxed))
        weir_park_lost(worker);
    trim = ++worker->sweeps % TRIM_SWEEPS == 0;
    sweep_views(worker, trim);
    if (trim) {
        weir_loop_trim(&worker->loop);
        weir_slab_trim(&worker->sessions);
        weir_slab_trim(&worker->lights);
        weir_splicer_trim(&worker->splicer);
        weir_h2_shared_trim(&worker->h2);
    }
    weir_loop_timer(&worker->loop, timer, SWEEP_MS, on_sweep, worker);
}

static int serve(struct weir_worker *worker, bool on)
{
    for (unsigned i = 0; i < worker->service->listener_count; i++) {
        const struct weir_listener *listener = &worker->service->listeners[i];

        for (unsigned a = 0; a < listener->addr_count; a++) {
            struct weir_lsock *sock = &worker->listeners[i].socks[a];
            int err;

            if (sock->on == on)
                continue;
            sock->fd = listener->fds[a * worker->service->worker_count + worker->id];
            if (sock->fd < 0)
                continue;
            sock->on_accept = on_accept;
            sock->on_fail = on_accept_fail;
            sock->arg = &worker->listeners[i];
            err = weir_listen_serve(&worker->loop, sock, on);
            if (err)
                return err;
        }
    }
    return 0;
}

int weir_worker_open(struct weir_worker *worker)
{
    weir_loop_timer(&worker->loop, &worker->sweep, SWEEP_MS, on_sweep, worker);
    return serve(worker, true);
}

/* What waits in an accept queue was accepted by the kernel in our name: it is taken before the door
 * closes. */
static void close_door(struct weir_lsock *sock, int *fdp)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    int fd;

    while ((fd = accept4(*fdp, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
           0) {
        weir_session_accept(sock, fd, (struct sockaddr *)&peer, len);
        len = sizeof(peer);
    }
    close(*fdp);
    *fdp = -1;
}

void weir_worker_drain(struct weir_worker *worker)
{
    if (worker->draining)
        return;
    serve(worker, false);
    for (unsigned i = 0; i < worker->service->listener_count; i++) {
        const struct weir_listener *listener = &worker->service->listeners[i];

        for (unsigned a = 0; a < listener->addr_count; a++) {
            int *fd = &listener->fds[a * worker->service->worker_count + worker->id];

            if (*fd >= 0)
                close_door(&worker->listeners[i].socks[a], fd);
        }
    }
    worker->draining = true;
    worker->drain_ms = worker->loop.now_ms;
    for (unsigned i = 0; i < worker->service->listener_count; i++)
        weir_sessions_drain(&worker->listeners[i]);
}

void weir_worker_close(struct weir_worker *worker)
{
    weir_worker_drain(worker);
    worker->stopping = true;
    for (unsigned i = 0; i < worker->service->listener_count; i++)
        weir_sessions_close_all(&worker->listeners[i]);
}

unsigned weir_worker_id(const struct weir_worker *worker)
{
    return worker->id;
}

/* --- for people ----------------------------------------------------------------------------------
 */

static void tell_mover(struct weir_session_status *status, unsigned dir, enum weir_mover mover,
                       enum weir_splice_why why, uint64_t bytes)
{
    status->moves.mover[dir] = weir_mover_name(mover);
    status->moves.why[dir] = weir_splice_why_name(why);
    status->moves.text[dir] = weir_splice_why_text(why);
    status->moves.bytes[dir] = bytes;
}

/* Of a whole connection that is a tunnel. */
static const struct weir_splice *splice_of(const struct weir_session *session)
{
    if (session->state == WEIR_SESSION_TUNNEL)
        return &session->light.splice;
    return session->tunnel ? &session->tunnel->splice : NULL;
}

/* Of a tunnel, or of the request in progress: of many, all that can be said is that they share a connection. */
static void tell_moves(const struct weir_session *session, struct weir_session_status *status)
{
    const struct weir_splice *splice = splice_of(session);
    const struct weir_req *req = session->reqs;

    if (session->closed || (!splice && !req))
        return;
    status->moves.what = splice ? WEIR_STR("tunnel") : WEIR_STR("exchange");
    for (unsigned dir = 0; dir < 2; dir++) {
        if (splice) {
            tell_mover(status, dir, (enum weir_mover)splice->dir[dir].mover,
                       (enum weir_splice_why)splice->dir[dir].why, splice->bytes[dir]);
        } else if (weir_pass_on(req, dir)) {
            status->moves.what = WEIR_STR("body");
            tell_mover(status, dir, WEIR_MOVER_PIPE, WEIR_WHY_none, weir_pass_bytes(req, dir));
        } else {
            tell_mover(status, dir, WEIR_MOVER_COPY,
                       session->multiplexed ? WEIR_WHY_shared : weir_pass_why(req, dir),
                       dir ? req->to_down.sent : req->to_up.bytes);
        }
    }
}

void weir_worker_each_session(struct weir_worker *worker,
                              void (*fn)(void *arg, const struct weir_session_status *status),
                              void *arg)
{
    static const char *const states[] = {
        "handshake", "head", "idle", "active", "closing", "tunnel"
    };
    uint64_t now = worker->loop.now_ms;

    for (unsigned i = 0; i < worker->service->listener_count; i++)
        for (int state = 0; state < WEIR_SESSION_STATES; state++)
            weir_list_each(link, next, &worker->listeners[i].sessions[state])
            {
                struct weir_session *session = weir_list_entry(link, struct weir_session, link);
                const struct weir_tls_info *tls =
                    session->closed ? NULL : weir_stream_tls(session->stream);
                const struct weir_splice *splice = splice_of(session);
                struct weir_addr addr;
                char client[WEIR_ADDR_TEXT_MAX];
                struct weir_session_status status = {
                    .id = (uint64_t)session->number * worker->service->worker_count + worker->id,
                    .age_ms = now - session->born_s * UINT64_C(1000),
                    .idle_ms = now - session->since_ms,
                    .bytes_in = session->bytes_in,
                    .bytes_out = session->bytes_out,
                    .requests = session->requests,
                    .listener = worker->listeners[i].listener->conf->name,
                    .protocol = weir_session_protocol(session),
                    .tls = tls ? tls->version : (struct weir_str){ NULL, 0 },
                    .state = weir_str(session->tunnel ? "tunnel" : states[state]),
                };

                weir_session_addr(session, &addr);
                status.client = (struct weir_str){ client, weir_addr_print(&addr, client) };
                if (splice) {
                    status.bytes_in += splice->bytes[WEIR_SPLICE_DOWN];
                    status.bytes_out += splice->bytes[WEIR_SPLICE_UP];
                    status.idle_ms = session->closed ? 0 : weir_splice_idle_ms(splice);
                }
                if (state == WEIR_SESSION_TUNNEL) {
                    status.route = weir_light_route(session);
                    status.upstream = weir_light_upstream(session);
                    status.server = weir_light_server(session);
                }
                if (session->reqs) { /* of many: the newest */
                    status.route = weir_req_route(session->reqs);
                    status.upstream = weir_req_upstream(session->reqs);
                    status.server = weir_req_server(session->reqs);
                }
                tell_moves(session, &status);
                fn(arg, &status);
            }
}
