/* SPDX-License-Identifier: Apache-2.0 */
/** proxied.h: the process that a keeper starts to serve. It opens nothing of the operator's: all comes over the link. */
#ifndef DAEMON_PROXIED_H
#define DAEMON_PROXIED_H

/** Waits for what it is given on WEIR_CHANNEL_FD, serves, and returns an exit status. */
int weir_proxied_run(void);

#endif
