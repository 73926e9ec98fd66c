/* SPDX-License-Identifier: Apache-2.0 */
/** replay.c: feeds files, and all files of folders, to a fuzz target without a fuzzer. Also an
 * empty input. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { INPUT_BYTES_MAX = 4 << 20 };

static unsigned fed;

/* In a malloc'ed block of exactly its size, so that a read behind its end is seen. */
static int feed_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1);
    size_t len;

    if (!file || !data || size > INPUT_BYTES_MAX) {
        fprintf(stderr, "%s: %s\n", path, file ? "too large" : strerror(errno));
        if (file)
            fclose(file);
        free(data);
        return 1;
    }
    len = fread(data, 1, size, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    fed++;
    return 0;
}

static int feed(const char *path, int depth)
{
    struct stat st;
    struct dirent *entry;
    int failed = 0;
    DIR *dir;

    if (stat(path, &st)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    if (!S_ISDIR(st.st_mode))
        return feed_file(path, (size_t)st.st_size);
    dir = opendir(path);
    while (dir && depth < 4 && (entry = readdir(dir)) != NULL) {
        char below[4096];

        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) < (int)sizeof(below))
            failed |= feed(below, depth + 1);
    }
    if (dir)
        closedir(dir);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;

    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++)
        failed |= feed(argv[i], 0);
    printf("%u inputs\n", fed);
    return failed || !fed ? 1 : 0;
}
