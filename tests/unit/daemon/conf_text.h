/* SPDX-License-Identifier: Apache-2.0 */
/** conf_text.h: a configuration from a text, for tests: loaded, and what was said about it. */
#ifndef TEST_CONF_TEXT_H
#define TEST_CONF_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "daemon/conf.h"
#include "weir/error.h"

#include <stdlib.h>

struct conf_test {
    struct weir_conf *conf;
    struct weir_diags diags;
    char *said; /* the diagnostics as people see them */
};

static inline char *conf_test_print(const struct weir_diags *diags, bool json)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    weir_diags_print(diags, out, json);
    fclose(out);
    return text;
}

/* What was printed reads to the same. */
static inline void conf_test_reads(const struct conf_test *test)
{
    struct weir_diags again;
    char *said;

    weir_diags_init(&again);
    weir_diags_read(&again, weir_str(test->said));
    said = conf_test_print(&again, false);
    for (size_t i = 0; i < test->diags.count; i++)
        if (test->diags.at[i].column > 120 || test->diags.errors > test->diags.count)
            goto out; /* a part of the line is not there */
    assert_string_equal(said, test->said);
    assert_int_equal(again.errors, test->diags.errors);
    assert_int_equal(again.warnings, test->diags.warnings);
out:
    free(said);
    weir_diags_fini(&again);
}

/* `path` NULL: of the text, which opens no file. */
static inline int conf_test_load(struct conf_test *test, const char *path, const char *text)
{
    struct weir_conf_opts opts = { .size = sizeof(opts), .no_files = true };
    int err;

    weir_diags_init(&test->diags);
    if (path)
        err = weir_conf_load(path, &test->conf, &test->diags);
    else
        err = weir_conf_load_text("t.yaml", text, text ? strlen(text) : 0, &opts, &test->conf,
                                  &test->diags);
    assert_true(err == 0 ? test->conf != NULL : test->conf == NULL && test->diags.errors > 0);
    test->said = conf_test_print(&test->diags, false);
    conf_test_reads(test);
    return err;
}

static inline void conf_test_end(struct conf_test *test)
{
    free(test->said);
    weir_conf_free(test->conf);
    weir_diags_fini(&test->diags);
}

static inline char *conf_test_effective(const struct weir_conf *conf)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    assert_non_null(out);
    weir_conf_print_effective(conf, out);
    fclose(out);
    return text;
}

static inline void assert_str(struct weir_str str, const char *text)
{
    if (!weir_str_eq(str, weir_str(text)))
        fail_msg("'%.*s' is not '%s'", WEIR_FMT(str), text);
}

#endif
