/* SPDX-License-Identifier: Apache-2.0 */
/** write_all.h: all of it, to a file that takes it whole (a file in memory, a file on a disk). */
#ifndef BASE_WRITE_ALL_H
#define BASE_WRITE_ALL_H

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

/** Blocks where `fd` does. 0 or -errno; then a part may have been written. */
static inline int weir_write_all(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

#endif
