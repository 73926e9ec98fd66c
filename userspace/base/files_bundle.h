/* SPDX-License-Identifier: Apache-2.0 */
/** files_bundle.h: what files.c and files_bundle.c share: the entries of a bundle. Nobody else. */
#ifndef BASE_FILES_BUNDLE_H
#define BASE_FILES_BUNDLE_H

#include "base/files.h"

/* Also the numbers in a bundle: what is there keeps its own. */
enum files_kind {
    FILES_CONTENT = 1,
    FILES_NAMES,
    FILES_MATCHES,
    FILES_IS_FILE,
    FILES_IS_FOLDER,
    FILES_KINDS
};

struct files_entry {
    enum files_kind kind;
    int err; /* 0 or -errno */
    char *name;
    struct weir_file seen;
};

struct weir_files {
    bool replays;
    struct files_entry *at;
    size_t count, room;
    size_t next; /* where the search begins */
};

/* Takes seen->data. 0 or -errno, and nothing is taken. */
int files_entry_add(struct weir_files *files, enum files_kind kind, const char *name, int err,
                    const struct weir_file *seen);

#endif
