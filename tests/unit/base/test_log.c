/* SPDX-License-Identifier: Apache-2.0 */
#include "weir/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char got[16384];
static size_t got_len;
static unsigned lines;
static enum weir_log_level got_level;

static void on_line(void *arg, enum weir_log_level level, const char *line, size_t len)
{
    assert_ptr_equal(arg, got);
    assert_true(len < sizeof(got));
    memcpy(got, line, len);
    got[len] = 0;
    got_len = len;
    got_level = level;
    lines++;
}

static struct weir_log *open_log(enum weir_log_level level, bool json)
{
    struct weir_log_opts opts = {
        .size = sizeof(opts), .level = level, .json = json, .fn = on_line, .arg = got
    };

    lines = 0;
    return weir_log_new(&opts);
}

static void the_level_decides(void **state)
{
    struct weir_log *log = open_log(WEIR_LOG_WARN, false);

    weir_log(log, WEIR_LOG_INFO, "no");
    assert_int_equal(lines, 0);
    weir_log(log, WEIR_LOG_WARN, "disk %d%%", 99);
    assert_int_equal(lines, 1);
    assert_int_equal(got_level, WEIR_LOG_WARN);
    assert_non_null(strstr(got, "Z warn: disk 99%"));
    weir_log_set_level(log, WEIR_LOG_TRACE);
    assert_int_equal(weir_log_level(log), WEIR_LOG_TRACE);
    weir_log(log, WEIR_LOG_TRACE, "yes");
    assert_int_equal(lines, 2);
    weir_log_free(log);
    assert_int_equal(weir_log_level(NULL), WEIR_LOG_INFO);
}

static void one_call_is_one_line_whatever_a_peer_sent(void **state)
{
    struct weir_log *log = open_log(WEIR_LOG_INFO, false);

    weir_log(log, WEIR_LOG_INFO, "path %s", "/a\r\n2026 error: forged\x1b[2J\x7f");
    assert_null(strpbrk(got, "\r\n\x1b\x7f"));
    weir_log_free(log);
}

/* Inside a JSON string: printable ASCII, quotes and backslashes only as escapes. */
static void assert_json_line(void)
{
    bool in = false;

    assert_true(got_len > 2 && got[0] == '{' && got[got_len - 1] == '}');
    for (size_t i = 0; i < got_len; i++) {
        assert_true(got[i] >= 0x20 && got[i] <= 0x7e);
        if (in && got[i] == '\\') {
            assert_non_null(strchr("\"\\u", got[++i]));
        } else if (got[i] == '"') {
            in = !in;
        }
    }
    assert_false(in);
}

static void json_is_valid_for_any_bytes(void **state)
{
    struct weir_log *log = open_log(WEIR_LOG_INFO, true);
    char text[6001];

    for (unsigned c = 1; c < 256; c++) {
        memset(text, (int)c, sizeof(text) - 1);
        text[sizeof(text) - 1] = 0;
        weir_log(log, WEIR_LOG_INFO, "%.10s", text);
        assert_json_line();
        weir_log(log, WEIR_LOG_ERROR, "%s", text); /* much longer than a line may be */
        assert_json_line();
    }
    weir_log(log, WEIR_LOG_INFO, "say \"hi\"\n");
    assert_non_null(strstr(got, "\"level\":\"info\",\"msg\":\"say \\\"hi\\\"\\u000a\"}"));
    weir_log_free(log);
}

static void long_lines_end_in_dots(void **state)
{
    struct weir_log *log = open_log(WEIR_LOG_INFO, false);
    char text[6001];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    weir_log(log, WEIR_LOG_INFO, "%s", text);
    assert_true(got_len < 4200);
    assert_string_equal(got + got_len - 4, "x...");
    weir_log_free(log);
}

static void without_a_function_it_is_standard_error(void **state)
{
    struct weir_log_opts opts = { .size = sizeof(opts), .level = WEIR_LOG_INFO };
    struct weir_log *log = weir_log_new(&opts);
    char line[256];
    int pipes[2], saved = dup(STDERR_FILENO);
    ssize_t n;

    assert_int_equal(pipe(pipes), 0);
    dup2(pipes[1], STDERR_FILENO);
    weir_log(log, WEIR_LOG_INFO, "hello");
    weir_log(NULL, WEIR_LOG_INFO, "again");
    dup2(saved, STDERR_FILENO);
    n = read(pipes[0], line, sizeof(line) - 1);
    assert_true(n > 0);
    line[n] = 0;
    assert_non_null(strstr(line, "info: hello\n"));
    assert_non_null(strstr(line, "info: again\n"));
    close(pipes[0]);
    close(pipes[1]);
    close(saved);
    weir_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_level_decides),
        cmocka_unit_test(one_call_is_one_line_whatever_a_peer_sent),
        cmocka_unit_test(json_is_valid_for_any_bytes),
        cmocka_unit_test(long_lines_end_in_dots),
        cmocka_unit_test(without_a_function_it_is_standard_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
