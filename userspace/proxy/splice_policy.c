/* SPDX-License-Identifier: Apache-2.0 */
/** splice_policy.c: kernel.splice: what is in force for a request or a tunnel, and its change at run time (`weir set`). */
#include "proxy/tunnel_light.h"

static enum weir_splice_policy policy_of(const struct weir_worker *worker,
                                         const struct weir_listener *listener,
                                         const struct weir_route *route)
{
    int own = route->conf->splice ?: listener->conf->splice;
    int top = atomic_load_explicit(&worker->service->splice, memory_order_relaxed);

    return (enum weir_splice_policy)(own && top != WEIR_SPLICE_OFF ? own : top);
}

enum weir_splice_policy weir_req_splice(const struct weir_req *req)
{
    return policy_of(req->worker, req->listener, req->route);
}

enum weir_splice_policy weir_light_splice(const struct weir_session *session)
{
    const struct weir_light_more *more = session->light.more;

    return policy_of(session->wl->worker, more->listener, more->route);
}

/* Workers follow when they next look (worker.c). */
void weir_service_set_splice(struct weir_service *service, enum weir_splice_policy policy)
{
    atomic_store_explicit(&service->splice, (int)policy, memory_order_relaxed);
}

enum weir_splice_policy weir_service_splice(const struct weir_service *service)
{
    return (enum weir_splice_policy)atomic_load_explicit((_Atomic int *)&service->splice,
                                                         memory_order_relaxed);
}

void weir_sessions_splice(struct weir_wlistener *wl)
{
    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_ACTIVE])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        for (struct weir_req *req = session->reqs, *more; req; req = more) {
            more = req->session_next; /* it may end by this */
            if (req->tunnel)
                weir_tunnel_splice(req->tunnel);
        }
    }
    weir_list_each(link, next, &wl->sessions[WEIR_SESSION_TUNNEL])
    {
        struct weir_session *session = weir_list_entry(link, struct weir_session, link);

        weir_splice_set_policy(&session->light.splice, weir_light_splice(session));
    }
}
