/* SPDX-License-Identifier: Apache-2.0 */
/** test_files.c: what was seen is seen again, errors included, whatever has become of the disk; and a bundle is not
 * believed. */
#include "base/files.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[128], other[128];

static void put(const char *name, const void *data, size_t len)
{
    FILE *out = fopen(name, "w");

    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    fclose(out);
}

static int make(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/weir-files-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/a.pem", dir);
    snprintf(other, sizeof(other), "%s/b.pem", dir);
    put(path, "one\0two", 7);
    put(other, "", 0);
    return 0;
}

static int clear(void **state)
{
    unlink(path);
    unlink(other);
    return rmdir(dir);
}

/* Asks everything; the answers as one text. */
static void ask(struct weir_files *files, char *told, size_t room)
{
    char pattern[128], absent[128], text[32] = "";
    struct weir_file file;
    const char *name;
    size_t n = 0, at = 0;
    FILE *in;

    snprintf(pattern, sizeof(pattern), "%s/*.pem", dir);
    snprintf(absent, sizeof(absent), "%s/none", dir);
    n += (size_t)snprintf(told + n, room - n, "read %d", weir_files_read(files, path, 7, &file));
    n += (size_t)snprintf(told + n, room - n, " %zu %d same %d;", file.len,
                          file.data && memcmp(file.data, "one\0two", 7) == 0, file.ino != 0);
    weir_file_drop(&file);
    n += (size_t)snprintf(told + n, room - n, "large %d;", weir_files_read(files, path, 6, &file));
    weir_file_drop(&file);
    n += (size_t)snprintf(told + n, room - n, "empty %d %zu;",
                          weir_files_read(files, other, 7, &file), file.len);
    weir_file_drop(&file);
    n += (size_t)snprintf(told + n, room - n, "none %d;", weir_files_read(files, absent, 7, &file));
    n += (size_t)snprintf(told + n, room - n, "folder %d;", weir_files_read(files, dir, 7, &file));
    n += (size_t)snprintf(told + n, room - n, "device %d;",
                          weir_files_read(files, "/dev/null", 7, &file));
    n += (size_t)snprintf(told + n, room - n, "kinds %d %d %d %d;",
                          weir_files_check(files, path, false), weir_files_check(files, path, true),
                          weir_files_check(files, dir, true), weir_files_check(files, dir, false));
    assert_int_equal(weir_files_glob(files, pattern, &file), 0);
    while ((name = weir_file_next(&file, &at)))
        n += (size_t)snprintf(told + n, room - n, "match %s;", strrchr(name, '/'));
    weir_file_drop(&file);
    assert_int_equal(weir_files_list(files, dir, &file), 0);
    for (at = 0; (name = weir_file_next(&file, &at));)
        n += (size_t)snprintf(told + n, room - n, "name %s;", name);
    weir_file_drop(&file);
    n += (size_t)snprintf(told + n, room - n, "nobody %d;", weir_files_list(files, absent, &file));
    in = weir_files_fopen(files, path, 100);
    assert_non_null(in);
    assert_int_equal(fread(text, 1, sizeof(text), in), 7);
    assert_memory_equal(text, "one\0two", 8);
    fclose(in);
    assert_null(weir_files_fopen(files, absent, 100));
    assert_int_equal(errno, ENOENT);
    assert_true(n < room);
}

static void sees_the_same(void **state)
{
    char disk[1024], recorded[1024], replayed[1024];
    struct weir_files *files = weir_files_new(), *again;
    struct weir_file file;
    int fd, err;

    ask(NULL, disk, sizeof(disk));
    assert_non_null(strstr(disk,
                           "read 0 7 1 same 1;large -27;empty 0 0;none -2;folder -21;device -22;"
                           "kinds 0 -20 0 -21;match /a.pem;match /b.pem;name .;"));
    ask(files, recorded, sizeof(recorded));
    assert_string_equal(recorded, disk);
    put(path, "changed", 7); /* a second look sees what the first one saw */
    ask(files, recorded, sizeof(recorded));
    assert_string_equal(recorded, disk);
    fd = weir_files_save(files);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 10), -1); /* sealed */
    weir_files_free(files);
    unlink(path);
    again = weir_files_load(fd, &err);
    close(fd);
    assert_non_null(again);
    assert_true(weir_files_replays(again));
    ask(again, replayed, sizeof(replayed));
    assert_string_equal(replayed, disk);
    ask(again, replayed, sizeof(replayed));
    assert_string_equal(replayed, disk);
    assert_int_equal(weir_files_read(again, "/etc/passwd", 1000000, &file), -ENODATA);
    weir_files_free(again);
}

static int sealed(const void *data, size_t len)
{
    int fd = memfd_create("test", MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    return fd;
}

static void believes_nothing(void **state)
{
    struct weir_files *files = weir_files_new(), *again;
    char told[1024], *data;
    int fd, err;
    off_t len;

    ask(files, told, sizeof(told));
    fd = weir_files_save(files);
    weir_files_free(files);
    len = lseek(fd, 0, SEEK_END);
    data = malloc((size_t)len);
    assert_int_equal(pread(fd, data, (size_t)len, 0), len);
    close(fd);
    for (off_t cut = 0; cut < len; cut++) { /* whole entries alone may be missing */
        fd = sealed(data, (size_t)cut);
        again = weir_files_load(fd, &err);
        assert_true(again || err == -EBADMSG);
        weir_files_free(again);
        close(fd);
    }
    for (off_t at = 0; at < len; at++)
        for (int bit = 0; bit < 8; bit += 7) {
            data[at] ^= (char)(1 << bit);
            fd = sealed(data, (size_t)len);
            again = weir_files_load(fd, &err);
            assert_true(again || err == -EBADMSG);
            assert_true(at >= 8 || !again); /* the magic, which has the version */
            weir_files_free(again);
            close(fd);
            data[at] ^= (char)(1 << bit);
        }
    fd = memfd_create("test", 0); /* it could shrink while it is read */
    assert_int_equal(write(fd, data, (size_t)len), len);
    assert_null(weir_files_load(fd, &err));
    assert_int_equal(err, -EBADMSG);
    close(fd);
    assert_null(weir_files_load(-1, &err));
    assert_int_equal(err, -EBADF);
    free(data);
}

static void tells_why(void **state)
{
    assert_string_equal(weir_files_fault(-EINVAL), "it is not a regular file");
    assert_string_equal(weir_files_fault(-ENOENT), strerror(ENOENT));
    assert_non_null(strstr(weir_files_fault(-ENODATA), "was not there"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sees_the_same, make, clear),
        cmocka_unit_test_setup_teardown(believes_nothing, make, clear),
        cmocka_unit_test(tells_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
