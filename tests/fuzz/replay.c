/* SPDX-License-Identifier: Apache-2.0 */
/** replay.c: runs a fuzz target over files, and over the files of directories. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_BYTES_MAX = 1 << 20 };

static unsigned ran;

static int replay_file(const char *path)
{
    uint8_t *data = malloc(INPUT_BYTES_MAX), *exact;
    FILE *file = fopen(path, "rb");
    size_t size;

    if (!file || !data) {
        perror(path);
        free(data);
        if (file)
            fclose(file);
        return 1;
    }
    size = fread(data, 1, INPUT_BYTES_MAX, file);
    fclose(file);
    exact = malloc(size ? size : 1); /* so that a sanitizer sees the end */
    if (exact) {
        memcpy(exact, data, size);
        LLVMFuzzerTestOneInput(exact, size);
        ran++;
    }
    free(exact);
    free(data);
    return exact ? 0 : 1;
}

static int replay(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    int failed = 0;

    if (!dir)
        return replay_file(path);
    while ((entry = readdir(dir))) {
        char name[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        failed |= replay_file(name);
    }
    closedir(dir);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;

    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    printf("%u inputs\n", ran);
    return failed || ran == 0;
}
