/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool weir_instance_valid(struct weir_str name)
{
    if (name.len == 0 || name.len > WEIR_INSTANCE_BYTES_MAX || name.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_' || c == '.'))
            return false;
    }
    return true;
}

/* The folder that holds the folders of the instances. */
static bool base_dir(char out[WEIR_PATH_BYTES])
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int n;

    if (geteuid() == 0)
        n = snprintf(out, WEIR_PATH_BYTES, "/run/weir");
    else if (runtime && runtime[0] == '/' && access(runtime, W_OK) == 0)
        n = snprintf(out, WEIR_PATH_BYTES, "%s/weir", runtime);
    else
        n = snprintf(out, WEIR_PATH_BYTES, "/tmp/weir-%u", (unsigned)geteuid());
    return n > 0 && n < WEIR_PATH_BYTES;
}

bool weir_instance_dir(struct weir_str instance, char out[WEIR_PATH_BYTES])
{
    char base[WEIR_PATH_BYTES];
    int n;

    if (!base_dir(base))
        return false;
    n = snprintf(out, WEIR_PATH_BYTES, "%s/%.*s", base, WEIR_FMT(instance));
    return n > 0 && n < WEIR_PATH_BYTES;
}

bool weir_instance_path(struct weir_str instance, const char *file, char out[WEIR_PATH_BYTES])
{
    char dir[WEIR_PATH_BYTES];
    int n;

    if (!weir_instance_dir(instance, dir))
        return false;
    n = snprintf(out, WEIR_PATH_BYTES, "%s/%s", dir, file);
    return n > 0 && n < WEIR_PATH_BYTES;
}

/* Anybody may make folders in /tmp: what is there must be a folder of ours that others cannot
 * write to. */
static int dir_make(const char *path, mode_t mode)
{
    struct stat st;

    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return -errno;
    if (lstat(path, &st) != 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (geteuid() != 0 && (st.st_uid != geteuid() || (st.st_mode & 022) != 0))
        return -EPERM;
    return 0;
}

int weir_instance_mkdir(struct weir_str instance)
{
    char base[WEIR_PATH_BYTES], dir[WEIR_PATH_BYTES];
    mode_t mode = geteuid() == 0 ? 0755 : 0700;
    int err;

    if (!base_dir(base) || !weir_instance_dir(instance, dir))
        return -ENAMETOOLONG;
    err = dir_make(base, mode);
    return err ? err : dir_make(dir, mode);
}

void weir_instance_rmdir(struct weir_str instance)
{
    char base[WEIR_PATH_BYTES], dir[WEIR_PATH_BYTES];

    if (!base_dir(base) || !weir_instance_dir(instance, dir))
        return;
    if (rmdir(dir) == 0)
        (void)!rmdir(base);
}
