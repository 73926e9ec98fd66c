/* SPDX-License-Identifier: Apache-2.0 */
/** record.c: what a request leaves behind: its counters, and its line in the access log. */
#include "base/clock.h"
#include "proxy/grpc.h"
#include "proxy/pass.h"
#include "proxy/req.h"
#include "proxy/tunnel.h"

/* Bytes that a splice has counted already. */
static uint64_t spliced(const struct weir_req *req, unsigned dir)
{
    return req->tunnel ? req->tunnel->splice.bytes[dir] : weir_pass_bytes(req, dir);
}

static struct weir_route_stats *route_stats(const struct weir_listener *listener,
                                            const struct weir_worker *worker,
                                            const struct weir_route *route)
{
    const struct weir_route_row *row = route ? route->row : listener->unrouted;

    return (struct weir_route_stats *)&row->at[worker->id];
}

void weir_req_stats(const struct weir_listener *listener, struct weir_worker *worker,
                    const struct weir_route *route, int status, uint64_t took_us,
                    const struct weir_error *error)
{
    struct weir_route_stats *stats = route_stats(listener, worker, route);

    weir_codes_add(&stats->codes, (unsigned)status);
    weir_histogram_add(&stats->duration, took_us);
    weir_count(&listener->door->at[worker->id].stats.in_flight, (uint64_t)-1);
    if (error->code)
        weir_error_stats_add(&worker->stats.errors, error);
}

static void count(struct weir_req *req, int status, uint64_t took_us)
{
    weir_req_stats(req->listener, req->worker, req->route, status, took_us, &req->error);
    if (weir_req_is_grpc(req))
        weir_grpc_stats_add(route_stats(req->listener, req->worker, req->route),
                            weir_grpc_outcome(req));
    weir_count(&req->worker->stats.bytes[WEIR_SIDE_DOWN][WEIR_DIR_IN],
               req->to_up.bytes - spliced(req, WEIR_SPLICE_DOWN));
    weir_count(&req->worker->stats.bytes[WEIR_SIDE_DOWN][WEIR_DIR_OUT],
               req->to_down.sent - spliced(req, WEIR_SPLICE_UP));
}

static const struct weir_tls_info *tls_told(const struct weir_req *req)
{
    if (req->tunnel)
        return req->tunnel->tls;
    return req->session && !req->session->closed ? weir_stream_tls(req->session->stream) : NULL;
}

/* Of a tunnel; and of a body that was not copied. */
static struct weir_str mover_of(const struct weir_req *req)
{
    if (req->tunnel)
        return weir_str(weir_splice_mover(&req->tunnel->splice));
    if (weir_pass_bytes(req, WEIR_SPLICE_DOWN) || weir_pass_bytes(req, WEIR_SPLICE_UP))
        return weir_str(weir_mover_name(WEIR_MOVER_PIPE));
    return (struct weir_str){ NULL, 0 };
}

static void write_log(struct weir_req *req, int status, uint64_t took_us)
{
    struct weir_access_log *log = req->route ? req->route->log : req->listener->routes.log;
    struct weir_access_record record;
    static const struct weir_str no = { NULL, 0 };

    if (!log || weir_req_handed_over(req)) /* the other listener logs what becomes of it */
        return;
    record = (struct weir_access_record){
        .wall_us = weir_clock_wall_us() - took_us,
        .id = req->id,
        .listener = req->listener->conf->name,
        .route = req->route ? req->route->conf->name : no,
        .client = req->client,
        .method = req->in.method,
        .host = req->in.host,
        .path = req->in.path,
        .query = req->in.query,
        .protocol = !req->down                        ? WEIR_STR("tcp")
                    : req->in.http2                   ? WEIR_STR("HTTP/2")
                    : weir_str_absent(req->in.method) ? no /* its head was refused */
                    : req->in.http10                  ? WEIR_STR("HTTP/1.0")
                                                      : WEIR_STR("HTTP/1.1"),
        .status = status,
        .bytes_in = req->to_up.bytes,
        .bytes_out = req->to_down.sent,
        .duration_us = took_us,
        .upstream = req->target ? weir_cluster_name(req->target->cluster) : no,
        .server = req->server_chosen ? weir_server_name(req->server_chosen) : no,
        .attempts = req->attempts,
        .reused = req->was_reused,
        .connect_us = req->connect_us,
        .first_byte_us =
            req->first_byte_us > req->began_us ? req->first_byte_us - req->began_us : 0,
        .user_agent = weir_message_field(&req->in, WEIR_F_USER_AGENT),
        .referer = weir_message_field(&req->in, WEIR_F_REFERER),
        .tls = tls_told(req),
        .error = req->error.code ? &req->error : NULL,
        .mover = mover_of(req),
        .path_info = req->tunnel ? req->tunnel->path : NULL,
        .grpc = weir_req_is_grpc(req),
    };
    if (record.grpc) {
        weir_grpc_path(req->in.path, &record.grpc_service, &record.grpc_method);
        record.grpc_status = weir_grpc_outcome(req);
    }
    weir_access_log_write(log, &record);
}

void weir_req_record(struct weir_req *req, int status, uint64_t took_us)
{
    count(req, status, took_us);
    write_log(req, status, took_us);
}
