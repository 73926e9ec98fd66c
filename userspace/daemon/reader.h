/* SPDX-License-Identifier: Apache-2.0 */
/**
 * reader.h: the process that reads and opens. It lives for a moment: a child of the keeper, with the keeper's rights, it
 * parses the configuration, takes the lock, binds what is not bound yet, opens logs, and hands all of it to the keeper,
 * which so never parses anything: no YAML, no certificate, no plug-in.
 *
 *   keeper ──HAVE (what is open already)──▶ reader ──ESTATE──▶ keeper          exit status 0
 *                                                  └─ what is wrong, on stderr  exit status 1, 2, 3
 */
#ifndef DAEMON_READER_H
#define DAEMON_READER_H

#include "daemon/conf.h"

/** The end of the socket to the keeper, for each of its children. */
enum { WEIR_CHANNEL_FD = 3 };

/** `conf` was loaded from what `files` records. Returns an exit status; what went wrong was said on standard error. */
int weir_reader_run(const struct weir_conf *conf, const struct weir_files *files);

#endif
