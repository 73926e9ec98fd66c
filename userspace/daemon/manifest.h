/* SPDX-License-Identifier: Apache-2.0 */
/**
 * manifest.h: what one process of weir hands to another: entries of a kind, each with a name, and a value, a
 * descriptor or both. Any number of them: they travel in frames, 253 descriptors a frame at most (SCM_RIGHTS).
 *
 *   frame:  magic "WEIR" | version | word | flags (1: the last of its message) | entries | bytes
 *   entry:  kind | name's length | value's length | descriptor (0: the next of the frame, -1: none) | name | value
 *
 * A message is a word (what is said) and a manifest (with what), in one frame or several. Nothing that comes in is
 * believed: lengths, kinds, counts and names are checked, and what is wrong in any way is refused as a whole, its
 * descriptors closed. To outlive an exec the same entries are written to memory, with the numbers of descriptors.
 */
#ifndef DAEMON_MANIFEST_H
#define DAEMON_MANIFEST_H

#include "weir/types.h"

enum { WEIR_MANIFEST_VERSION = 1 };

enum weir_given {
    WEIR_GIVEN_SETTING = 1, /* name, value */
    WEIR_GIVEN_BUNDLE,      /* all files of the configuration (base/files.h) */
    WEIR_GIVEN_SOCKET,      /* name: the address as `bind` says it; value: of which worker */
    WEIR_GIVEN_ADMIN,       /* the admin's UNIX socket; name: its path */
    WEIR_GIVEN_ADMIN_TCP,   /* name: admin.listen */
    WEIR_GIVEN_LOG,         /* name: the file, "stdout" or "stderr" */
    WEIR_GIVEN_LOCK,        /* name: its path */
    WEIR_GIVEN_UNLINK,      /* name: a socket's path, removed at the end */
    WEIR_GIVEN_EXE,         /* the binary that runs; name: where it is looked for */
    WEIR_GIVEN_PROXY, /* a child, when the keeper becomes another binary; value: its pid and state */
    WEIR_GIVEN_KERN,  /* of the kernel's programs: maps, rings (kernel.h); name: which */
    WEIR_GIVEN_TUNNEL, /* tunnels that outlive their proxy (kept.h) */
    WEIR_GIVEN_END
};

/** An entry moves when one is added to its manifest; its name and value do not. */
struct weir_entry {
    enum weir_given kind;
    char *name, *value; /* each ended by a 0 as well; a value may have others */
    size_t value_len;
    int fd; /* -1: none */
};

struct weir_manifest {
    struct weir_entry *at;
    size_t count, room;
};

enum {
    WEIR_MANIFEST_ENTRIES_MAX = 1 << 16, /* of a message */
    WEIR_ENTRY_NAME_MAX = 4095,
    WEIR_ENTRY_VALUE_MAX = 16 * 1024,
    WEIR_FRAME_FDS_MAX = 253,
    WEIR_FRAME_BYTES_MAX = 32 * 1024,
};

/** Closes the descriptors; what is left is empty and usable. */
void weir_manifest_fini(struct weir_manifest *manifest);
/** Copies name and value and takes `fd` (-1: none), which is closed when this fails. 0 or -errno. */
int weir_manifest_add(struct weir_manifest *manifest, enum weir_given kind, const char *name,
                      struct weir_str value, int fd) WEIR_MUST_CHECK;
int weir_manifest_set(struct weir_manifest *manifest, const char *name,
                      const char *value) WEIR_MUST_CHECK;
int weir_manifest_set_number(struct weir_manifest *manifest, const char *name,
                             int64_t value) WEIR_MUST_CHECK;
/** The next entry of a kind, after `last` (NULL: the first), with this name (NULL: any). NULL: none. */
struct weir_entry *weir_manifest_next(const struct weir_manifest *manifest,
                                      const struct weir_entry *last, enum weir_given kind,
                                      const char *name);
/** A setting; NULL, or `otherwise`, when it is not there (or is no number). */
const char *weir_manifest_get(const struct weir_manifest *manifest, const char *name);
int64_t weir_manifest_number(const struct weir_manifest *manifest, const char *name,
                             int64_t otherwise);
/** Takes the descriptor of an entry away; -1 when there is none. */
int weir_entry_take(struct weir_entry *entry);

/** Sends one message, and waits for room. The descriptors stay the sender's. 0 or -errno (EPIPE: nobody listens). */
int weir_manifest_send(int channel, unsigned word,
                       const struct weir_manifest *manifest) WEIR_MUST_CHECK;
/** The same at once, of what fits in a frame: -EAGAIN: there is no room now; -EMSGSIZE. Any thread. */
int weir_manifest_post(int channel, unsigned word,
                       const struct weir_manifest *manifest) WEIR_MUST_CHECK;

/** What has come of a message that is not whole yet. */
struct weir_inbox {
    struct weir_manifest body;
    unsigned word; /* 0: nothing yet */
    bool lost;     /* there was no room here for a descriptor of it */
};
/**
 * Takes one frame. 1: a message is whole: *word, and *body, which becomes the caller's; 0: not yet; -EAGAIN (with
 * MSG_DONTWAIT in `flags`): nothing is there; -EMFILE: a message was whole, *word, but this process had no room for its
 * descriptors: all of it is dropped, and the next may be taken. Otherwise the channel is of no use any more: -EPIPE: the
 * other side has closed; -EBADMSG, -EPROTO (another version) …
 */
int weir_manifest_recv(int channel, int flags, struct weir_inbox *inbox, unsigned *word,
                       struct weir_manifest *body) WEIR_MUST_CHECK;
void weir_inbox_fini(struct weir_inbox *inbox);

/** In a memory file, for an exec: descriptors by number, and open across the exec from here on. A descriptor, or -errno. */
int weir_manifest_save(const struct weir_manifest *manifest) WEIR_MUST_CHECK;
/** Reads that back, in the process that has the descriptors: each must be open. They are closed at the next exec again. */
int weir_manifest_load(int fd, struct weir_manifest *manifest) WEIR_MUST_CHECK;

/** One frame's bytes into entries; `fds` are its descriptors, taken in any case. For the above, and tests. */
int weir_manifest_parse(const void *data, size_t len, int *fds, size_t fds_count, unsigned *word,
                        bool *last, struct weir_manifest *manifest) WEIR_MUST_CHECK;

#endif
