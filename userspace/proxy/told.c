/* SPDX-License-Identifier: Apache-2.0 */
/** told.c: what a server is told of the client by a PROXY header, where its upstream wants one. */
#include "net/proxyproto.h"
#include "proxy/req.h"

/* Where the client had connected to: as its own proxy has said, else our end of its connection. */
static bool destination(const struct weir_session *session, struct weir_addr *to)
{
    *to = (struct weir_addr){ .len = sizeof(to->un) };
    if (session->held && session->held->to.known) {
        weir_addr_from_bytes(to, session->held->to.ip, session->local_port);
        return true;
    }
    return getsockname(weir_stream_fd(session->stream), &to->sa, &to->len) == 0;
}

int weir_req_proxy_header(struct weir_req *req, struct weir_str *header)
{
    const struct weir_cluster_conf *conf = weir_cluster_get_conf(req->target->cluster);
    const struct weir_tls_info *tls = req->sni.len ? NULL : weir_stream_tls(req->session->stream);
    struct weir_addr to;
    struct weir_pp_out what = { .version = conf->proxy_protocol,
                                .from = &req->client_addr,
                                .to = &to,
                                .authority = tls ? tls->sni : req->sni,
                                .id = req->id };
    uint8_t out[WEIR_PP_OUT_BYTES_MAX];

    *header = (struct weir_str){ NULL, 0 };
    if (conf->proxy_protocol == WEIR_PP_OFF)
        return 0;
    if (!destination(req->session, &to))
        to = (struct weir_addr){ 0 };
    *header = weir_arena_copy(&req->arena,
                              (struct weir_str){ (const char *)out, weir_pp_make(&what, out) });
    return header->ptr ? 0 : WEIR_ENOMEM;
}
