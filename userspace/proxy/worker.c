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

int weir_worker_init(struct weir_worker *worker, struct weir_service *service, unsigned id)
{
    int err = weir_loop_init(&worker->loop, id, service->log);

    if (err)
        return err;
    worker->service = service;
    worker->id = id;
    worker->splice = service->splice;
    weir_list_init(&worker->listeners);
    weir_list_init(&worker->leaving);
    weir_slab_init(&worker->sessions, sizeof(struct weir_session));
    weir_slab_init(&worker->lights, sizeof(struct weir_light_more));
    weir_splicer_init(&worker->splicer, &worker->loop, &service->splice_budget,
                      &worker->stats.splice);
    weir_keep_init(&worker->keep, &worker->loop, &service->kept, &worker->stats.splice);
    err = weir_h2_shared_init(&worker->h2, &worker->loop.bufs, &worker->loop.now_ms);
    if (err)
        return err;
    for (int i = 0; i < WEIR_PARKED_BUCKETS; i++)
        weir_list_init(&worker->parked[i]);
    if (getrandom(worker->random, sizeof(worker->random), 0) != sizeof(worker->random))
        return WEIR_ESYS;
    worker->scratch = weir_match_scratch_new();
    return worker->scratch ? 0 : WEIR_ENOMEM;
}

void weir_worker_fini(struct weir_worker *worker)
{
    if (!worker->service)
        return;
    weir_match_scratch_free(worker->scratch);
    weir_slab_fini(&worker->sessions);
    weir_slab_fini(&worker->lights);
    weir_sockmap_close(&worker->splicer);
    weir_keep_fini(&worker->keep);
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

    weir_count(&wl->stats.refused[why], 1);
    count = weir_log_due(&wl->door->refusals[why], worker->loop.now_ms);
    if (count)
        weir_log(worker->service->log, loud ? WEIR_LOG_WARN : WEIR_LOG_DEBUG,
                 "listener '%.*s': connection refused: %s (%llu since the last line)",
                 WEIR_FMT(weir_str(wl->door->name)), text, (unsigned long long)count);
}

void weir_worker_accept_failed(struct weir_wlistener *wl, int sys)
{
    bool descriptors = weir_err_from_errno(sys) == WEIR_EMFILE;

    if (descriptors)
        weir_room_starved(wl->worker);
    weir_worker_refused(
        wl, descriptors ? WEIR_REFUSED_descriptors : WEIR_REFUSED_memory,
        descriptors ? "no file descriptor is free; raise `ulimit -n`, or lower limits.connections"
                    : strerror(sys));
}

/* Idle connections to servers are worth less than requests: under pressure they go first. */
static void sweep_views(struct weir_worker *worker, bool trim)
{
    bool pressure = atomic_load_explicit(&worker->service->pressure, memory_order_relaxed);

    for (unsigned i = 0; i < worker->snapshot->target_count; i++) {
        struct weir_cluster_view *view = weir_worker_view(worker, worker->snapshot->targets[i]);

        if (pressure)
            weir_cluster_view_shed(view, PRESSURE_SHEDS);
        if (trim)
            weir_cluster_view_trim(view);
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
    weir_each_listener(wl, worker)
    {
        weir_sessions_press(wl);
    }
}

/* `weir set kernel.splice` (weir_service_set_splice). */
static void follow_splice(struct weir_worker *worker)
{
    int splice = atomic_load_explicit(&worker->service->splice, memory_order_relaxed);

    if (splice == worker->splice)
        return;
    worker->splice = splice;
    weir_each_listener(wl, worker)
    {
        weir_sessions_splice(wl);
    }
}

static void on_sweep(struct weir_timer *timer, void *arg)
{
    struct weir_worker *worker = arg;
    bool trim;

    follow_pressure(worker);
    follow_splice(worker);
    weir_each_listener(wl, worker)
    {
        weir_sessions_sweep(wl);
    }
    if (atomic_load_explicit(&worker->service->handing, memory_order_relaxed))
        weir_worker_hand_over(worker);
    weir_worker_let_go(worker);
    weir_targets_sweep(worker);
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

int weir_worker_open(struct weir_worker *worker)
{
    weir_loop_timer(&worker->loop, &worker->sweep, SWEEP_MS, on_sweep, worker);
    return weir_worker_enter(worker, worker->service->snapshot);
}

void weir_worker_drain(struct weir_worker *worker)
{
    if (worker->draining)
        return;
    weir_worker_close_doors(worker);
    worker->draining = true;
    worker->drain_ms = worker->loop.now_ms;
    weir_each_listener(wl, worker)
    {
        weir_sessions_drain(wl);
    }
}

void weir_worker_close(struct weir_worker *worker)
{
    weir_worker_drain(worker);
    worker->stopping = true;
    weir_each_listener(wl, worker)
    {
        weir_sessions_close_all(wl);
    }
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

static void tell_session(struct weir_session *session,
                         void (*fn)(void *arg, const struct weir_session_status *status), void *arg)
{
    static const char *const states[] = {
        "handshake", "head", "idle", "active", "closing", "tunnel"
    };
    const struct weir_tls_info *tls = session->closed ? NULL : weir_stream_tls(session->stream);
    const struct weir_worker *worker = session->wl->worker;
    const struct weir_splice *splice = splice_of(session);
    uint64_t now = worker->loop.now_ms;
    struct weir_addr addr;
    char client[WEIR_ADDR_TEXT_MAX];
    struct weir_session_status status = {
        .id = (uint64_t)session->number * worker->service->worker_count + worker->id,
        .age_ms = now - session->born_s * UINT64_C(1000),
        .idle_ms = now - session->since_ms,
        .bytes_in = session->bytes_in,
        .bytes_out = session->bytes_out,
        .requests = session->requests,
        .listener = weir_str(session->wl->door->name),
        .protocol = weir_session_protocol(session),
        .tls = tls ? tls->version : (struct weir_str){ NULL, 0 },
        .state = weir_str(session->tunnel ? "tunnel" : states[session->state]),
    };

    weir_session_addr(session, &addr);
    status.client = (struct weir_str){ client, weir_addr_print(&addr, client) };
    if (splice) {
        status.bytes_in += splice->bytes[WEIR_SPLICE_DOWN];
        status.bytes_out += splice->bytes[WEIR_SPLICE_UP];
        status.idle_ms = session->closed ? 0 : weir_splice_idle_ms(splice);
    }
    if (session->state == WEIR_SESSION_TUNNEL) {
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

void weir_worker_each_session(struct weir_worker *worker,
                              void (*fn)(void *arg, const struct weir_session_status *status),
                              void *arg)
{
    weir_each_listener(wl, worker)
    {
        for (int state = 0; state < WEIR_SESSION_STATES; state++)
            weir_list_each(link, next, &wl->sessions[state])
            {
                tell_session(weir_list_entry(link, struct weir_session, link), fn, arg);
            }
    }
}
