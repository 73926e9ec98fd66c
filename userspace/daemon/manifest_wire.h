/* SPDX-License-Identifier: Apache-2.0 */
/** manifest_wire.h: the bytes of a manifest; for daemon/manifest*.c alone. It never leaves the host: numbers are in its
 * own order. */
#ifndef DAEMON_MANIFEST_WIRE_H
#define DAEMON_MANIFEST_WIRE_H

#include "daemon/manifest.h"

enum { MANIFEST_MAGIC = 0x52494557 /* "WEIR" */, FRAME_LAST = 1 };

struct frame_head {
    uint32_t magic;
    uint16_t version, word;
    uint16_t flags, zero;
    uint32_t entries;
    uint32_t bytes; /* of the entries, behind this */
};
_Static_assert(sizeof(struct frame_head) == 20, "the head of a frame has no hidden padding");

struct entry_head {
    uint16_t kind, name_len;
    uint32_t value_len;
    int32_t fd; /* -1: none; in a frame 0: its next one; in a saved manifest its number */
};
_Static_assert(sizeof(struct entry_head) == 12, "the head of an entry has no hidden padding");

/* What is in front of a frame's entries, checked. 0 or -errno. */
int manifest_head(struct frame_head *head, const void *data, size_t len);
size_t manifest_entry_bytes(const struct weir_entry *entry);
/* Writes an entry, with that in place of its descriptor; how many bytes. */
size_t manifest_put(char *to, const struct weir_entry *entry, int fd);
bool manifest_entry_good(const struct entry_head *head, const char *behind, size_t left);
int manifest_take(struct weir_manifest *manifest, const struct entry_head *head, const char *behind,
                  int fd);

#endif
