/* SPDX-License-Identifier: Apache-2.0 */
/**
 * files.h: the one door to the files that a configuration names: its own text, certificates, keys, secrets.
 *
 *   disk ──▶ records ──save──▶ a bundle, sealed in memory ──load──▶ replays
 *
 * Who has the rights to read them records what was read, and what could not be; who has none parses the same
 * configuration from that, with the same code and the same outcome. NULL in place of a `struct weir_files` is the disk,
 * and nothing is recorded. A file is read once: a second look, in either mode, sees what the first one saw.
 *
 * Only regular files are read: a pipe or a device could block for ever. For one thread.
 */
#ifndef BASE_FILES_H
#define BASE_FILES_H

#include "weir/types.h"

#include <stdio.h>

struct weir_files;

enum { WEIR_FILES_BYTES_MAX = 1 << 30, WEIR_FILES_COUNT_MAX = 1 << 16, WEIR_FILES_NAME_MAX = 4095 };

/** What was read. `data` belongs to whom weir_file_drop says. */
struct weir_file {
    char *data;
    size_t len;
    uint64_t dev, ino; /* which file it was, under whatever name */
    bool own;          /* the caller's, not the bundle's */
};

/** Records. NULL without memory. */
struct weir_files *weir_files_new(void);
/** Replays a bundle, of which nothing is believed: NULL with *err (-EBADMSG: it is none; -ENOMEM; what read said). The
 * descriptor stays the caller's. */
struct weir_files *weir_files_load(int fd, int *err);
/** All that was recorded in a sealed memory file: its descriptor (close-on-exec) or -errno. */
int weir_files_save(const struct weir_files *files) WEIR_MUST_CHECK;
/** Overwrites the contents, then frees. NULL is allowed. */
void weir_files_free(struct weir_files *files);
/** The files are those of another process, which has looked at the host as well. */
bool weir_files_replays(const struct weir_files *files);

/** The content of a regular file of at most `max` bytes. 0; or -errno: EISDIR, EINVAL (not regular), EFBIG … */
int weir_files_read(struct weir_files *files, const char *path, size_t max,
                    struct weir_file *out) WEIR_MUST_CHECK;
/** The same as a stream; NULL with errno. */
FILE *weir_files_fopen(struct weir_files *files, const char *path, size_t max);
/** The names in a folder, sorted, each ended by a 0. 0 or -errno. */
int weir_files_list(struct weir_files *files, const char *folder,
                    struct weir_file *out) WEIR_MUST_CHECK;
/** The paths that fit a pattern (glob), in the same form; none is no error. 0 or -errno. */
int weir_files_glob(struct weir_files *files, const char *pattern,
                    struct weir_file *out) WEIR_MUST_CHECK;
/** Can it be opened to read, and is it a folder, or none? 0 or -errno (ENOTDIR, EISDIR …). */
int weir_files_check(struct weir_files *files, const char *path, bool folder) WEIR_MUST_CHECK;
void weir_file_drop(struct weir_file *file);
/** The next of a list; NULL at its end. Begin with *at = 0. */
const char *weir_file_next(const struct weir_file *list, size_t *at);
/** What went wrong, in words. */
const char *weir_files_fault(int err);

#endif
