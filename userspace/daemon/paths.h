/* SPDX-License-Identifier: Apache-2.0 */
/**
 * paths.h: where an instance keeps what others look for: its lock and its admin socket.
 *
 * Root: /run/weir/INSTANCE. Others: $XDG_RUNTIME_DIR/weir/INSTANCE, or /tmp/weir-UID/INSTANCE when
 * there is no such variable; a folder in /tmp is used only when it is ours and closed to others.
 */
#ifndef DAEMON_PATHS_H
#define DAEMON_PATHS_H

#include "weir/types.h"

enum { WEIR_PATH_BYTES = 256, WEIR_INSTANCE_BYTES_MAX = 64 };

/** Letters, digits, '-', '_' and '.', not beginning with '.'; at most 64. */
bool weir_instance_valid(struct weir_str name);
/** The folder of an instance for this user. False when it does not fit. */
bool weir_instance_dir(struct weir_str instance, char out[WEIR_PATH_BYTES]);
/** The same folder with a file name behind it. */
bool weir_instance_path(struct weir_str instance, const char *file, char out[WEIR_PATH_BYTES]);
/** Makes the folder and those above it. 0 or -errno; EPERM: it is there and belongs to others. */
int weir_instance_mkdir(struct weir_str instance);
/** Removes the folder and the one above when they are empty. */
void weir_instance_rmdir(struct weir_str instance);

#endif
