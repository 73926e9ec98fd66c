/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_manifest.c: any bytes as a frame between the processes of weir, and as a bundle of files. The first byte says how
 * many descriptors come with the frame: none of them stays open. What was taken is saved, and loaded as what it was.
 *
 * fuzz-room: daemon
 * covers: userspace/daemon/manifest.c userspace/base/files_bundle.c
 */
#include "base/files.h"
#include "base/panic.h"
#include "daemon/manifest.h"
#include "fuzz.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Each is found by its name, and given away. */
static void look(struct weir_manifest *manifest)
{
    for (size_t i = 0; i < manifest->count; i++) {
        struct weir_entry *entry = &manifest->at[i];
        int fd;

        weir_assert(entry->value[entry->value_len] == '\0');
        weir_assert(weir_manifest_next(manifest, NULL, entry->kind, entry->name));
        if (entry->kind == WEIR_GIVEN_SETTING)
            weir_assert(weir_manifest_get(manifest, entry->name));
        (void)weir_manifest_number(manifest, entry->name, -1);
        fd = weir_entry_take(entry);
        if (fd >= 0)
            close(fd);
    }
}

static void through_exec(struct weir_manifest *manifest)
{
    struct weir_manifest again = { 0 };
    bool more = weir_manifest_set_number(manifest, "fuzz.more", 1) == 0;
    int fd = weir_manifest_save(manifest);

    weir_assert(fd >= 0 && weir_manifest_load(fd, &again) == 0);
    weir_assert(again.count == manifest->count);
    for (size_t i = 0; i < again.count; i++)
        weir_assert(again.at[i].kind == manifest->at[i].kind &&
                    strcmp(again.at[i].name, manifest->at[i].name) == 0 &&
                    again.at[i].value_len == manifest->at[i].value_len);
    weir_assert(!more || weir_manifest_next(&again, NULL, WEIR_GIVEN_SETTING, "fuzz.more"));
    weir_manifest_fini(&again);
    close(fd);
}

static void as_frame(const uint8_t *data, size_t size)
{
    struct weir_manifest manifest = { 0 };
    int fds[4], count = data[0] & 3, next;
    unsigned word;
    bool last;

    for (int i = 0; i < count; i++)
        fds[i] = dup(0);
    next = dup(0);
    if (weir_manifest_parse(data + 1, size - 1, fds, (size_t)count, &word, &last, &manifest) == 0) {
        look(&manifest);
        through_exec(&manifest);
    }
    weir_manifest_fini(&manifest);
    close(next);
    for (int i = 0; i < count; i++)
        weir_assert(fcntl(fds[i], F_GETFD) < 0);
}

static void through_process(const struct weir_files *files)
{
    int fd = weir_files_save(files), err;
    struct weir_files *again;

    weir_assert(fd >= 0);
    again = weir_files_load(fd, &err);
    weir_assert(again);
    weir_files_free(again);
    close(fd);
}

static void as_bundle(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_ALLOW_SEALING | MFD_CLOEXEC), err;
    struct weir_files *files;
    struct weir_file file;

    weir_assert(fd >= 0);
    if (write(fd, data, size) == (ssize_t)size && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0) {
        files = weir_files_load(fd, &err);
        weir_assert(files || err < 0);
        if (files && weir_files_list(files, "/", &file) == 0) {
            size_t at = 0;

            while (weir_file_next(&file, &at))
                weir_assert(at <= file.len);
        }
        if (files)
            through_process(files);
        weir_files_free(files);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    as_frame(data, size);
    as_bundle(data, size);
    return 0;
}
