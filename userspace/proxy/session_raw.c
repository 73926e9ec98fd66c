/* SPDX-License-Identifier: Apache-2.0 */
/**
 * session_raw.c: a connection of `protocol: tcp`. It has no codec and one request without an exchange on the client's side:
 * the same machine finds its route, chooses its server, connects and tries again elsewhere; where an exchange would begin,
 * the tunnel does. Until then nothing is read, so that what the client says waits in the kernel; its FIN, too.
 */
#include "proxy/req.h"
#include "proxy/session.h"

void weir_session_raw(struct weir_session *session)
{
    struct weir_req *req = weir_req_new(session, NULL);

    if (!req) {
        weir_worker_refused(session->wl, WEIR_REFUSED_memory, "out of memory");
        weir_session_close(session, true);
        return;
    }
    weir_session_add(session, req);
    req->started = true;
    weir_req_run(req);
}
