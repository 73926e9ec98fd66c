/* SPDX-License-Identifier: Apache-2.0 */
/** manifest.c: entries in memory, and as bytes. */
#include "daemon/manifest_wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- in memory ---- */

void weir_manifest_fini(struct weir_manifest *manifest)
{
    for (size_t i = 0; i < manifest->count; i++) {
        struct weir_entry *entry = &manifest->at[i];

        if (entry->fd >= 0)
            close(entry->fd);
        free(entry->name);
        free(entry->value);
    }
    free(manifest->at);
    *manifest = (struct weir_manifest){ 0 };
}

static int room_make(struct weir_manifest *manifest)
{
    size_t room = manifest->room ? manifest->room * 2 : 16;
    struct weir_entry *at;

    if (manifest->count < manifest->room)
        return 0;
    if (manifest->count >= WEIR_MANIFEST_ENTRIES_MAX)
        return -E2BIG;
    at = realloc(manifest->at, room * sizeof(*at));
    if (!at)
        return -ENOMEM;
    manifest->at = at;
    manifest->room = room;
    return 0;
}

static char *copy(const char *from, size_t len)
{
    char *to = malloc(len + 1);

    if (to) {
        if (len)
            memcpy(to, from, len);
        to[len] = '\0';
    }
    return to;
}

int weir_manifest_add(struct weir_manifest *manifest, enum weir_given kind, const char *name,
                      struct weir_str value, int fd)
{
    size_t len = strlen(name);
    struct weir_entry entry = { .kind = kind, .fd = fd };
    int err = len > WEIR_ENTRY_NAME_MAX || value.len > WEIR_ENTRY_VALUE_MAX ? -ENAMETOOLONG
                                                                            : room_make(manifest);

    if (!err) {
        entry.name = copy(name, len);
        entry.value = copy(value.ptr, value.len);
        entry.value_len = value.len;
        err = entry.name && entry.value ? 0 : -ENOMEM;
    }
    if (!err) {
        manifest->at[manifest->count++] = entry;
        return 0;
    }
    if (fd >= 0)
        close(fd);
    free(entry.name);
    free(entry.value);
    return err;
}

int weir_manifest_set(struct weir_manifest *manifest, const char *name, const char *value)
{
    return weir_manifest_add(manifest, WEIR_GIVEN_SETTING, name, weir_str(value), -1);
}

int weir_manifest_set_number(struct weir_manifest *manifest, const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    return weir_manifest_set(manifest, name, text);
}

struct weir_entry *weir_manifest_next(const struct weir_manifest *manifest,
                                      const struct weir_entry *last, enum weir_given kind,
                                      const char *name)
{
    size_t i = last ? (size_t)(last - manifest->at) + 1 : 0;

    for (; i < manifest->count; i++)
        if (manifest->at[i].kind == kind && (!name || strcmp(manifest->at[i].name, name) == 0))
            return &manifest->at[i];
    return NULL;
}

const char *weir_manifest_get(const struct weir_manifest *manifest, const char *name)
{
    const struct weir_entry *entry = weir_manifest_next(manifest, NULL, WEIR_GIVEN_SETTING, name);

    return entry ? entry->value : NULL;
}

int64_t weir_manifest_number(const struct weir_manifest *manifest, const char *name,
                             int64_t otherwise)
{
    const char *text = weir_manifest_get(manifest, name);
    char *end;
    long long value;

    if (!text || !*text)
        return otherwise;
    errno = 0;
    value = strtoll(text, &end, 10);
    return *end || errno ? otherwise : value;
}

int weir_entry_take(struct weir_entry *entry)
{
    int fd = entry->fd;

    entry->fd = -1;
    return fd;
}

/* ---- as bytes ---- */

size_t manifest_entry_bytes(const struct weir_entry *entry)
{
    return sizeof(struct entry_head) + strlen(entry->name) + entry->value_len;
}

size_t manifest_put(char *to, const struct weir_entry *entry, int fd)
{
    struct entry_head head = {
        .kind = (uint16_t)entry->kind,
        .name_len = (uint16_t)strlen(entry->name),
        .value_len = (uint32_t)entry->value_len,
        .fd = fd,
    };

    memcpy(to, &head, sizeof(head));
    memcpy(to + sizeof(head), entry->name, head.name_len);
    memcpy(to + sizeof(head) + head.name_len, entry->value, entry->value_len);
    return sizeof(head) + head.name_len + head.value_len;
}

/* The head, and that all it speaks of is there. */
bool manifest_entry_good(const struct entry_head *head, const char *behind, size_t left)
{
    return head->kind >= WEIR_GIVEN_SETTING && head->kind < WEIR_GIVEN_END &&
           head->name_len <= WEIR_ENTRY_NAME_MAX && head->value_len <= WEIR_ENTRY_VALUE_MAX &&
           head->fd >= -1 && (size_t)head->name_len + head->value_len <= left &&
           !memchr(behind, 0, head->name_len);
}

int manifest_take(struct weir_manifest *manifest, const struct entry_head *head, const char *behind,
                  int fd)
{
    char name[WEIR_ENTRY_NAME_MAX + 1];

    memcpy(name, behind, head->name_len);
    name[head->name_len] = '\0';
    return weir_manifest_add(manifest, (enum weir_given)head->kind, name,
                             (struct weir_str){ behind + head->name_len, head->value_len }, fd);
}

/* The entries of a frame; each that has a descriptor takes the next of *fds. */
static int parse_entries(const char *at, size_t left, unsigned entries, int **fds,
                         const int *fds_end, struct weir_manifest *manifest)
{
    for (unsigned i = 0; i < entries; i++) {
        struct entry_head head;
        int fd = -1, err;

        if (left < sizeof(head))
            return -EBADMSG;
        memcpy(&head, at, sizeof(head));
        at += sizeof(head);
        left -= sizeof(head);
        if (!manifest_entry_good(&head, at, left) || head.fd > 0 ||
            (head.fd == 0 && *fds == fds_end))
            return -EBADMSG;
        if (head.fd == 0)
            fd = *(*fds)++;
        err = manifest_take(manifest, &head, at, fd);
        if (err)
            return err == -E2BIG ? -EBADMSG : err;
        at += head.name_len + head.value_len;
        left -= head.name_len + head.value_len;
    }
    return left || *fds != fds_end ? -EBADMSG : 0;
}

int manifest_head(struct frame_head *head, const void *data, size_t len)
{
    *head = (struct frame_head){ 0 };
    if (len < sizeof(*head))
        return -EBADMSG;
    memcpy(head, data, sizeof(*head));
    if (head->magic == MANIFEST_MAGIC && head->version != WEIR_MANIFEST_VERSION)
        return -EPROTO;
    return head->magic == MANIFEST_MAGIC && head->word && head->flags <= FRAME_LAST &&
                   !head->zero && head->bytes == len - sizeof(*head)
               ? 0
               : -EBADMSG;
}

int weir_manifest_parse(const void *data, size_t len, int *fds, size_t fds_count, unsigned *word,
                        bool *last, struct weir_manifest *manifest)
{
    int *next = fds, *end = fds + fds_count;
    struct frame_head head;
    int err = manifest_head(&head, data, len);

    if (!err)
        err = parse_entries((const char *)data + sizeof(head), head.bytes, head.entries, &next, end,
                            manifest);
    while (next < end)
        close(*next++);
    *word = head.word;
    *last = head.flags & FRAME_LAST;
    return err;
}
