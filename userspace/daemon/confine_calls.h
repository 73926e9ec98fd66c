/* SPDX-License-Identifier: Apache-2.0 */
/** confine_calls.h: the seccomp filter; for confine.c alone. */
#ifndef DAEMON_CONFINE_CALLS_H
#define DAEMON_CONFINE_CALLS_H

/* Puts it in force. 0 or -errno. */
int confine_calls(void);

#endif
