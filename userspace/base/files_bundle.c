/* SPDX-License-Identifier: Apache-2.0 */
/**
 * files_bundle.c: a bundle as bytes: a magic, then entries, each a head of fixed width, its name and its content. It
 * never leaves the host, so numbers are in its own order; the magic has the version.
 */
#include "base/files_bundle.h"

#include "base/write_all.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = "WEIRBND1";

struct head {
    uint32_t kind;
    int32_t err;
    uint64_t dev, ino, len;
    uint32_t name_len, zero;
};
_Static_assert(sizeof(struct head) == 40, "the head of an entry has no hidden padding");

/* ---- out ---- */

static int save_entry(int fd, const struct files_entry *entry)
{
    struct head head = {
        .kind = (uint32_t)entry->kind,
        .err = entry->err,
        .dev = entry->seen.dev,
        .ino = entry->seen.ino,
        .len = entry->seen.len,
        .name_len = (uint32_t)strlen(entry->name),
    };
    int err = weir_write_all(fd, &head, sizeof(head));

    if (!err)
        err = weir_write_all(fd, entry->name, head.name_len);
    return err ?: weir_write_all(fd, entry->seen.data, entry->seen.len);
}

int weir_files_save(const struct weir_files *files)
{
    int fd = memfd_create("weir-bundle", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int err;

    if (fd < 0)
        return -errno;
    err = weir_write_all(fd, magic, sizeof(magic));
    for (size_t i = 0; i < files->count && !err; i++)
        err = save_entry(fd, &files->at[i]);
    if (!err &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
        err = -errno;
    if (!err)
        return fd;
    close(fd);
    return err;
}

/* ---- in ---- */

static char *copy(const char *from, size_t len)
{
    char *to = malloc(len + 1);

    if (to) {
        memcpy(to, from, len);
        to[len] = '\0';
    }
    return to;
}

static bool head_good(const struct head *head, size_t left)
{
    return head->kind >= FILES_CONTENT && head->kind < FILES_KINDS && head->zero == 0 &&
           head->err <= 0 && head->err > -4096 && (head->err == 0 || head->len == 0) &&
           head->name_len > 0 && head->name_len <= WEIR_FILES_NAME_MAX && head->name_len <= left &&
           head->len <= left - head->name_len;
}

/* A list ends each of its names by a 0. */
static bool content_good(const struct head *head, const char *data)
{
    bool list = head->kind == FILES_NAMES || head->kind == FILES_MATCHES;

    return !list || head->len == 0 || data[head->len - 1] == '\0';
}

/* One entry; how long it was, or -errno. */
static ssize_t load_entry(struct weir_files *files, const char *at, size_t left)
{
    struct weir_file seen = { 0 };
    struct head head;
    char *name;
    int err;

    if (left < sizeof(head))
        return -EBADMSG;
    memcpy(&head, at, sizeof(head));
    at += sizeof(head);
    if (!head_good(&head, left - sizeof(head)) || memchr(at, 0, head.name_len) ||
        !content_good(&head, at + head.name_len))
        return -EBADMSG;
    name = copy(at, head.name_len);
    seen = (struct weir_file){ .len = head.len, .dev = head.dev, .ino = head.ino };
    if (!head.err)
        seen.data = copy(at + head.name_len, head.len);
    err = !name || (!head.err && !seen.data)
              ? -ENOMEM
              : files_entry_add(files, (enum files_kind)head.kind, name, head.err, &seen);
    free(name);
    if (err) {
        free(seen.data);
        return err == -E2BIG ? -EBADMSG : err;
    }
    return (ssize_t)(sizeof(head) + head.name_len + head.len);
}

static int load_all(struct weir_files *files, const char *data, size_t len)
{
    size_t at = sizeof(magic);

    if (len < sizeof(magic) || memcmp(data, magic, sizeof(magic)) != 0)
        return -EBADMSG;
    while (at < len) {
        ssize_t n = load_entry(files, data + at, len - at);

        if (n < 0)
            return (int)n;
        at += (size_t)n;
    }
    return 0;
}

struct weir_files *weir_files_load(int fd, int *err)
{
    struct weir_files *files = weir_files_new();
    void *data = MAP_FAILED;
    struct stat st;

    *err = !files ? -ENOMEM : fstat(fd, &st) != 0 ? -errno : 0;
    if (!*err && (st.st_size <= 0 || st.st_size > WEIR_FILES_BYTES_MAX))
        *err = -EBADMSG;
    if (!*err && !(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK)) /* it may not shrink under a mapping */
        *err = -EBADMSG;
    if (!*err) {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        *err = data == MAP_FAILED ? -errno : load_all(files, data, (size_t)st.st_size);
    }
    if (data != MAP_FAILED)
        munmap(data, (size_t)st.st_size);
    if (!*err) {
        files->replays = true;
        files->next = 0;
        return files;
    }
    weir_files_free(files);
    return NULL;
}
