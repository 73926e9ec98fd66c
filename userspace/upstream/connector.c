/* SPDX-License-Identifier: Apache-2.0 */
/** connector.c: a new connection to a server: which address, plain or TLS, how long, and what its
 * failure is called. */
#include "net/tcp.h"
#include "upstream/acquire.h"

#include <errno.h>

struct weir_error weir_connect_error(enum weir_err code, int sys)
{
    struct weir_error error = { .code = code,
                                .by = WEIR_BY_UPSTREAM,
                                .retry = WEIR_RETRY_UNSENT,
                                .sys = sys,
                                .where = "connect" };

    if (sys == EADDRNOTAVAIL || sys == ENXIO || code == WEIR_EADDRINUSE) {
        error.code = sys == ENXIO ? WEIR_ENOSOURCE : WEIR_ENOPORT;
        error.by = WEIR_BY_US;
        return error;
    }
    switch (code) {
    case WEIR_ECONNREFUSED:
    case WEIR_ECONNTIME:
    case WEIR_ECONNECT:
    case WEIR_EUPTLS:
    case WEIR_EUPVERIFY:
    case WEIR_EUPCLOSED:
    case WEIR_EDNS:
        break;
    case WEIR_ETIMEDOUT:
    case WEIR_ETLSTIME:
        error.code = WEIR_ECONNTIME;
        break;
    case WEIR_ETLS:
        error.code = WEIR_EUPTLS;
        break;
    case WEIR_EMFILE:
    case WEIR_ENOMEM:
        error.by = WEIR_BY_US;
        break;
    default:
        error.code = WEIR_ECONNECT;
        break;
    }
    return error;
}

bool weir_slot_take(struct weir_server *server)
{
    int64_t max = server->cluster->conf->connections_max;

    if (max <= 0)
        return true;
    if (atomic_fetch_add(&server->conns, 1) < (uint64_t)max)
        return true;
    atomic_fetch_sub(&server->conns, 1);
    return false;
}

void weir_slot_put(struct weir_cluster_view *view, struct weir_server *server)
{
    if (server->cluster->conf->connections_max <= 0)
        return;
    atomic_fetch_sub(&server->conns, 1);
    if (atomic_load(&server->queued))
        weir_share_wake(view, server);
}

struct weir_stream *weir_connect_stream(struct weir_loop *loop, struct weir_server *server,
                                        const struct weir_addr *addr,
                                        const struct weir_tcp_opts *opts,
                                        const struct weir_stream_sink *sink, void *arg, int *sys)
{
    const struct weir_cluster *cluster = server->cluster;
    bool source = cluster->source.len && cluster->source.sa.sa_family == addr->sa.sa_family;
    struct weir_tcp_opts here = *opts;

    here.source = source ? &cluster->source : NULL;
    *sys = 0;
    if (cluster->tls)
        return weir_tls_connect(cluster->tls, loop, addr, &here, server->host, server->sessions,
                                sink, arg, sys);
    return weir_tcp_connect(loop, addr, &here, sink, arg, sys);
}

/* TCP keeps its time by itself; the handshake above it is in our hands. */
static void on_timeout(struct weir_timer *timer, void *arg)
{
    struct weir_upconn *conn = weir_cast(struct weir_upconn, arg, WEIR_UPCONN_MAGIC);

    weir_pool_connect_failed(conn, weir_connect_error(WEIR_ECONNTIME, 0));
}

struct weir_upconn *weir_connect(const struct weir_acquire *acq, uint32_t timeout_ms,
                                 struct weir_error *error)
{
    struct weir_cluster_view *view = acq->view;
    struct weir_server *server = acq->server;
    struct weir_server_view *sv = server_view(view, server);
    struct weir_upconn *conn;
    int sys = 0;

    if (!sv->addr_count) {
        *error = weir_connect_error(WEIR_EDNS, 0);
        return NULL;
    }
    conn = weir_upconn_new(view, server);
    if (!conn) {
        *error = weir_connect_error(WEIR_ENOMEM, 0);
        return NULL;
    }
    conn->raw = acq->opts.raw;
    conn->own = weir_acquire_own(&acq->opts);
    conn->addr = sv->addrs[sv->addr_next++ % sv->addr_count];
    conn->http1 = acq->opts.http1;
    conn->stream = weir_connect_stream(view->loop, server, &conn->addr,
                                       &(struct weir_tcp_opts){ .connect_timeout_ms = timeout_ms,
                                                                .http1 = conn->http1,
                                                                .first = acq->opts.first },
                                       &weir_upconn_sink, conn, &sys);
    if (!conn->stream) {
        weir_count(&sv->failed, 1);
        weir_upconn_free(conn);
        if (sys == EMFILE || sys == ENFILE) { /* room for the next try */
            weir_cluster_view_shed(view, 1);
            view->starved = true;
        }
        *error = weir_connect_error(sys ? weir_err_from_errno(sys) : WEIR_ENOMEM, sys);
        weir_server_failed(server, error, NULL, view->loop->now_ms);
        return NULL;
    }
    conn->slot = true;
    conn->connect_us = (uint32_t)view->loop->now_us;
    weir_upconn_set_state(conn, UPCONN_CONNECTING);
    if (view->cluster->tls)
        weir_loop_timer(view->loop, &conn->timer, timeout_ms, on_timeout, conn);
    return conn;
}
