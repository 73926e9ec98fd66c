/* SPDX-License-Identifier: Apache-2.0 */
#include "weir/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define CODE(n, c, h, g, l, t) c,
static const int codes[] = { WEIR_ERRORS(CODE) };
enum { CODES = sizeof(codes) / sizeof(codes[0]) };

static void every_row_is_whole_and_its_own(void **state)
{
    for (int i = 0; i < CODES; i++) {
        enum weir_err code = (enum weir_err)codes[i];
        int status = weir_err_status(code);

        assert_true(codes[i] < 0);
        assert_true(strlen(weir_err_name(code)) > 1 && weir_err_name(code)[0] == 'E');
        assert_true(strlen(weir_err_text(code)) > 3);
        assert_true(status >= 400 && status <= 599);
        assert_true(weir_err_grpc(code) >= 1 && weir_err_grpc(code) <= 16);
        assert_true(weir_err_level(code) <= WEIR_LOG_DEBUG);
        for (int j = 0; j < i; j++) {
            assert_int_not_equal(codes[i], codes[j]);
            assert_string_not_equal(weir_err_name(code), weir_err_name((enum weir_err)codes[j]));
        }
    }
}

static void success_and_strangers(void **state)
{
    assert_string_equal(weir_err_name(WEIR_OK), "OK");
    assert_int_equal(weir_err_grpc(WEIR_OK), 0);
    assert_string_equal(weir_err_name((enum weir_err) - 7), "EUNKNOWN");
    assert_string_equal(weir_err_name((enum weir_err)(-1000 - 65536)),
                        "EUNKNOWN"); /* not by its low 16 bits */
    assert_int_equal(weir_err_status((enum weir_err) - 7), 500);
    assert_int_equal(weir_err_grpc((enum weir_err) - 7), 2);
    assert_int_equal(weir_err_level((enum weir_err) - 7), WEIR_LOG_ERROR);
}

static void translates_errno(void **state)
{
    assert_int_equal(weir_err_from_errno(ECONNREFUSED), WEIR_ECONNREFUSED);
    assert_int_equal(weir_err_from_errno(ECONNRESET), WEIR_ERESET);
    assert_int_equal(weir_err_from_errno(EPIPE), WEIR_ERESET);
    assert_int_equal(weir_err_from_errno(EMFILE), WEIR_EMFILE);
    assert_int_equal(weir_err_from_errno(ENFILE), WEIR_EMFILE);
    assert_int_equal(weir_err_from_errno(ENOBUFS), WEIR_ENOMEM);
    assert_int_equal(weir_err_from_errno(EADDRINUSE), WEIR_EADDRINUSE);
    assert_int_equal(weir_err_from_errno(EACCES), WEIR_EACCESS);
    assert_int_equal(weir_err_from_errno(EHOSTUNREACH), WEIR_ECONNECT);
    assert_int_equal(weir_err_from_errno(ELOOP), WEIR_ESYS);
    assert_string_equal(weir_by_name(WEIR_BY_CLIENT), "client");
    assert_string_equal(weir_by_name(WEIR_BY_UPSTREAM), "upstream");
    assert_string_equal(weir_by_name(WEIR_BY_US), "us");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_whole_and_its_own),
        cmocka_unit_test(success_and_strangers),
        cmocka_unit_test(translates_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
