/* SPDX-License-Identifier: Apache-2.0 */
/**
 * files.c: looking at the disk, and remembering what was seen: a list of entries by kind and name. Whoever parses the
 * same configuration asks in the same order, so the search begins behind the entry that was found last.
 */
#include "base/files.h"

#include "base/files_bundle.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what was seen ---- */

static struct files_entry *entry_find(struct weir_files *files, enum files_kind kind,
                                      const char *name)
{
    for (size_t i = 0; i < files->count; i++) {
        size_t at = (files->next + i) % files->count;
        struct files_entry *entry = &files->at[at];

        if (entry->kind == kind && strcmp(entry->name, name) == 0) {
            files->next = at + 1;
            return entry;
        }
    }
    return NULL;
}

int files_entry_add(struct weir_files *files, enum files_kind kind, const char *name, int err,
                    const struct weir_file *seen)
{
    struct files_entry *entry;

    if (files->count == WEIR_FILES_COUNT_MAX)
        return -E2BIG;
    if (files->count == files->room) {
        size_t room = files->room ? files->room * 2 : 32;
        struct files_entry *at = realloc(files->at, room * sizeof(*at));

        if (!at)
            return -ENOMEM;
        files->at = at;
        files->room = room;
    }
    entry = &files->at[files->count];
    *entry = (struct files_entry){ .kind = kind, .err = err, .name = strdup(name), .seen = *seen };
    if (!entry->name)
        return -ENOMEM;
    entry->seen.own = false;
    files->count++;
    files->next = files->count;
    return 0;
}

struct weir_files *weir_files_new(void)
{
    return calloc(1, sizeof(struct weir_files));
}

void weir_files_free(struct weir_files *files)
{
    if (!files)
        return;
    for (size_t i = 0; i < files->count; i++) {
        if (files->at[i].seen.data)
            explicit_bzero(files->at[i].seen.data, files->at[i].seen.len);
        free(files->at[i].seen.data);
        free(files->at[i].name);
    }
    free(files->at);
    free(files);
}

bool weir_files_replays(const struct weir_files *files)
{
    return files && files->replays;
}

/* ---- looking at the disk: each 0 or -errno, with what it saw in *seen ---- */

static int read_fd(int fd, size_t max, struct weir_file *seen)
{
    size_t room = 4096, len = 0;
    char *at = malloc(room);
    ssize_t n = 1;

    while (at && n > 0 && len <= max) {
        if (len == room) { /* not realloc, which would leave a copy of a key behind */
            char *more = malloc(room * 2);

            if (more)
                memcpy(more, at, len);
            explicit_bzero(at, len);
            free(at);
            at = more;
            room *= 2;
            continue;
        }
        n = read(fd, at + len, room - len);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            len += (size_t)n;
    }
    if (!at)
        return -ENOMEM;
    if (n < 0 || len > max) {
        int err = n < 0 ? -errno : -EFBIG;

        explicit_bzero(at, len);
        free(at);
        return err;
    }
    seen->data = at;
    seen->len = len;
    return 0;
}

static int see_content(const char *path, size_t max, struct weir_file *seen)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    int err;

    if (fd < 0)
        return -errno;
    err = fstat(fd, &st)         ? -errno
          : S_ISDIR(st.st_mode)  ? -EISDIR
          : !S_ISREG(st.st_mode) ? -EINVAL
                                 : 0;
    if (!err)
        err = read_fd(fd, max, seen);
    close(fd);
    seen->dev = err ? 0 : st.st_dev;
    seen->ino = err ? 0 : st.st_ino;
    return err;
}

static int list_names(char *const *names, size_t count, struct weir_file *seen)
{
    size_t len = 0, at = 0;

    for (size_t i = 0; i < count; i++)
        len += strlen(names[i]) + 1;
    seen->data = malloc(len + 1);
    if (!seen->data)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        size_t one = strlen(names[i]) + 1;

        memcpy(seen->data + at, names[i], one);
        at += one;
    }
    seen->len = len;
    return 0;
}

static int see_names(const char *folder, size_t max, struct weir_file *seen)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);
    char **names;
    int err;

    (void)max;
    if (count < 0)
        return -errno;
    names = calloc((size_t)count + 1, sizeof(*names));
    for (int i = 0; names && i < count; i++)
        names[i] = entries[i]->d_name;
    err = names ? list_names(names, (size_t)count, seen) : -ENOMEM;
    free(names);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return err;
}

static int see_matches(const char *pattern, size_t max, struct weir_file *seen)
{
    glob_t found = { 0 };
    int err;

    (void)max;
    errno = 0;
    switch (glob(pattern, GLOB_ERR, NULL, &found)) {
    case 0:
    case GLOB_NOMATCH:
        err = list_names(found.gl_pathv, found.gl_pathc, seen);
        break;
    case GLOB_NOSPACE:
        err = -ENOMEM;
        break;
    default:
        err = errno ? -errno : -EIO;
    }
    globfree(&found);
    return err;
}

static int see_kind(const char *path, bool folder)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    int err = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st))
        err = -errno;
    else if (!!S_ISDIR(st.st_mode) != folder)
        err = folder ? -ENOTDIR : -EISDIR;
    close(fd);
    return err;
}

static int see_file(const char *path, size_t max, struct weir_file *seen)
{
    (void)max;
    (void)seen;
    return see_kind(path, false);
}

static int see_folder(const char *path, size_t max, struct weir_file *seen)
{
    (void)max;
    (void)seen;
    return see_kind(path, true);
}

/* ---- the door ---- */

static int look(struct weir_files *files, enum files_kind kind, const char *name, size_t max,
                struct weir_file *out)
{
    static int (*const see[FILES_KINDS])(const char *, size_t, struct weir_file *) = {
        [FILES_CONTENT] = see_content,  [FILES_NAMES] = see_names,
        [FILES_MATCHES] = see_matches,  [FILES_IS_FILE] = see_file,
        [FILES_IS_FOLDER] = see_folder,
    };
    struct files_entry *entry = files ? entry_find(files, kind, name) : NULL;
    int err, full;

    *out = (struct weir_file){ .own = !files };
    if (strlen(name) > WEIR_FILES_NAME_MAX)
        return -ENAMETOOLONG;
    if (entry) {
        *out = entry->seen;
        return entry->err ?: out->len > max ? -EFBIG : 0;
    }
    if (files && files->replays) /* nobody has asked for it before: the two do not see the same */
        return -ENODATA;
    err = see[kind](name, max, out);
    out->own = !files;
    full = files ? files_entry_add(files, kind, name, err, out) : 0;
    if (full) {
        out->own = true;
        weir_file_drop(out);
    }
    return full ?: err;
}

int weir_files_read(struct weir_files *files, const char *path, size_t max, struct weir_file *out)
{
    return look(files, FILES_CONTENT, path, max, out);
}

int weir_files_list(struct weir_files *files, const char *folder, struct weir_file *out)
{
    return look(files, FILES_NAMES, folder, SIZE_MAX, out);
}

int weir_files_glob(struct weir_files *files, const char *pattern, struct weir_file *out)
{
    return look(files, FILES_MATCHES, pattern, SIZE_MAX, out);
}

int weir_files_check(struct weir_files *files, const char *path, bool folder)
{
    struct weir_file none;

    return look(files, folder ? FILES_IS_FOLDER : FILES_IS_FILE, path, SIZE_MAX, &none);
}

void weir_file_drop(struct weir_file *file)
{
    if (file->own && file->data) {
        explicit_bzero(file->data, file->len);
        free(file->data);
    }
    *file = (struct weir_file){ 0 };
}

const char *weir_file_next(const struct weir_file *list, size_t *at)
{
    const char *name = list->data + *at;

    if (*at >= list->len)
        return NULL;
    *at += strlen(name) + 1;
    return name;
}

const char *weir_files_fault(int err)
{
    return err == -EINVAL    ? "it is not a regular file"
           : err == -ENODATA ? "it was not there when the configuration was read"
                             : strerror(-err);
}

/* ---- as a stream ---- */

struct stream {
    struct weir_file file;
    size_t at;
};

static ssize_t stream_read(void *arg, char *to, size_t len)
{
    struct stream *stream = arg;
    size_t left = stream->file.len - stream->at, n = len < left ? len : left;

    memcpy(to, stream->file.data + stream->at, n);
    stream->at += n;
    return (ssize_t)n;
}

static int stream_close(void *arg)
{
    struct stream *stream = arg;

    weir_file_drop(&stream->file);
    free(stream);
    return 0;
}

FILE *weir_files_fopen(struct weir_files *files, const char *path, size_t max)
{
    static const cookie_io_functions_t functions = { .read = stream_read, .close = stream_close };
    struct stream *stream = calloc(1, sizeof(*stream));
    FILE *in = NULL;
    int err = stream ? weir_files_read(files, path, max, &stream->file) : -ENOMEM;

    if (!err) {
        in = fopencookie(stream, "r", functions);
        if (in)
            return in;
        err = -ENOMEM;
        weir_file_drop(&stream->file);
    }
    free(stream);
    errno = -err;
    return NULL;
}
