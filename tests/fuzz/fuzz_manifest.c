/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz_manifest.c: any bytes as a frame between the processes of weir, and as a bundle of files. The first byte says how
 * many descriptors come with the frame: none of them stays open.
 *
 * fuzz-room: daemon
 * covers: userspace/daemon/manifest.c userspace/base/files_bundle.c
 */
#include "base/files.h"
#include "base/panic.h"
#include "daemon/manifest.h"
#include "fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static void as_frame(const uint8_t *data, size_t size)
{
    struct weir_manifest manifest = { 0 };
    int fds[4], count = data[0] & 3, next;
    unsigned word;
    bool last;

    for (int i = 0; i < count; i++)
        fds[i] = dup(0);
    next = dup(0);
    if (weir_manifest_parse(data + 1, size - 1, fds, (size_t)count, &word, &last, &manifest) == 0)
        for (size_t i = 0; i < manifest.count; i++)
            weir_assert(manifest.at[i].value[manifest.at[i].value_len] == '\0');
    weir_manifest_fini(&manifest);
    close(next);
    for (int i = 0; i < count; i++)
        weir_assert(fcntl(fds[i], F_GETFD) < 0);
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
