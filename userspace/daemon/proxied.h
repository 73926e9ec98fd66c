/* SPDX-License-Identifier: Apache-2.0 */
/** proxied.h: the process that a keeper starts to serve. It opens nothing of the operator's: all comes over the link. */
#ifndef DAEMON_PROXIED_H
#define DAEMON_PROXIED_H

#include "daemon/conf.h"

struct weir_link;

/** The configuration of what the link has been given; `running`: at a reload. As weir_conf_load_opts; WEIR_EINVAL: what was
 * given is not whole. */
int weir_proxied_load(struct weir_link *link, const struct weir_conf *running,
                      struct weir_conf **conf, struct weir_diags *diags) WEIR_MUST_CHECK;
/** Waits for what it is given on WEIR_CHANNEL_FD, serves, and returns an exit status. */
int weir_proxied_run(void);

#endif
