/* SPDX-License-Identifier: Apache-2.0 */
/**
 * logfile.h: the file of a log: opened by root perhaps, handed to the user that the process becomes, and opened anew by
 * that one when it was renamed.
 */
#ifndef BASE_LOGFILE_H
#define BASE_LOGFILE_H

#include <stdbool.h>
#include <sys/types.h>

/** Opens or makes (0640) a file to append to. The descriptor, or -errno. */
int weir_logfile_open(const char *path) __attribute__((warn_unused_result));
/** Gives an open file of ours to a user. Not one that is reached by a link: that may be anybody's. */
void weir_logfile_give(int fd, const char *path, uid_t uid, gid_t gid);
/** Could this process make the file anew, were it renamed? */
bool weir_logfile_renewable(const char *path);
/** Puts the file of that path in place of `fd`, whose number stays: who writes needs no lock. 0 or -errno. */
int weir_logfile_reopen(const char *path, int fd) __attribute__((warn_unused_result));
/** What to do about an error of these, to be put behind strerror(); "" when that says all. */
const char *weir_logfile_hint(const char *path, int err);

#endif
