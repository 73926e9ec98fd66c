/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session_raw.c: a connection of `protocol: tcp`. It has no codec and one request without an exchange on the client's side:
 * the same machine finds its route, chooses its server, connects and tries again elsewhere; where an exchange would begin,
 * the tunnel does. Until then nothing is read, so that what the client says waits in the kernel; its FIN, too.
 */
#include "net/sni.h"
#include "proxy/req.h"
#include "proxy/session.h"

void weir_session_raw(struct weir_session *session, const struct weir_sni *sni)
{
    struct weir_req *req = weir_req_new(session, NULL);

    if (!req) {
        weir_worker_refused(session->wl, WEIR_REFUSED_memory, "out of memory");
        weir_session_close(session, true);
        return;
    }
    weir_session_add(session, req);
    if (sni && sni->len)
        req->sni = weir_arena_copy(&req->arena, (struct weir_str){ sni->name, sni->len });
    req->started = true;
    weir_req_run(req);
}

void weir_session_hand_over(struct weir_session *session, struct weir_wlistener *to)
{
    if (!to->listener || !weir_session_move(session, to)) {
        weir_session_close(session, true);
        return;
    }
    session->raw = to->listener->conf->protocol == WEIR_PROTOCOL_TCP;
    session->requests = 0;
    if (!session->raw)
        weir_h1_init_server(&session->h1, &to->guard, &weir_session_codec_sink, session);
    if (session->eof && to->listener->tls)
        weir_session_close(session, false);
    else
        weir_session_begin(session);
}
