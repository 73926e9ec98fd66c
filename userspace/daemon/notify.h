/* SPDX-License-Identifier: Apache-2.0 */
/** notify.h: what systemd wants to hear (sd_notify(3)), by a datagram to $NOTIFY_SOCKET. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/** "READY=1", "STOPPING=1". Nothing happens without the variable. */
void weir_notify(const char *state);

#endif
