/* SPDX-License-Identifier: Apache-2.0 */
/** notify.h: what systemd wants to hear (sd_notify(3)), by a datagram to $NOTIFY_SOCKET. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdbool.h>

/** "READY=1", "STOPPING=1". Nothing happens without the variable. */
void weir_notify(const char *state);
/** The same with a descriptor, which stays the caller's ("FDSTORE=1"). False: nobody takes it. */
bool weir_notify_fd(const char *state, int fd);

#endif
