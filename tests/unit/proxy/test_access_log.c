/* SPDX-License-Identifier: Apache-2.0 */
/** The access log: fields and their order, any bytes, bounds, redaction, targets that are full,
 * reopened or torn. */
#include "base/clock.h"
#include "net/stream.h"
#include "proxy/access_log_text.h"

#include <jansson.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct weir_tls_fault fault;
static const struct weir_tls_info tls = {
    .version = { "TLSv1.3", 7 },
    .cipher = { "TLS_AES_128_GCM_SHA256", 22 },
    .sni = { "a.test", 6 },
    .resumed = true,
};
static const struct weir_error error = { .code = WEIR_ECONNREFUSED,
                                         .by = WEIR_BY_UPSTREAM,
                                         .sys = ECONNREFUSED };

static struct weir_access_record full_record(void)
{
    return (struct weir_access_record){
        .wall_us = 1795535322123456,
        .id = WEIR_STR("0123abcd"),
        .listener = WEIR_STR("web"),
        .route = WEIR_STR("api"),
        .client = WEIR_STR("192.0.2.1"),
        .method = WEIR_STR("GET"),
        .host = WEIR_STR("a.test"),
        .path = WEIR_STR("/v1/x"),
        .query = WEIR_STR("token=abc&flag&x=1"),
        .protocol = WEIR_STR("HTTP/1.1"),
        .status = 502,
        .bytes_in = 3,
        .bytes_out = 1234,
        .duration_us = 999,
        .upstream = WEIR_STR("app"),
        .server = WEIR_STR("10.0.0.1:80"),
        .attempts = 2,
        .reused = true,
        .connect_us = 10,
        .first_byte_us = 20,
        .user_agent = WEIR_STR("curl/8"),
        .referer = WEIR_STR("http://b.test/p?secret=1"),
        .tls = &tls,
        .error = &error,
        .mover = WEIR_STR("copy"),
    };
}

/* The line without its newline, terminated. */
static const char *line_of(const struct weir_access_log_conf *conf, bool pipe,
                           const struct weir_access_record *record)
{
    static char line[WEIR_LOG_LINE_BYTES + 1];
    struct weir_log_style style;
    size_t len;

    assert_int_equal(weir_log_style_init(&style, conf, pipe, &fault), 0);
    len = weir_log_line(&style, record, line);
    assert_true(len <= style.line_bytes);
    assert_int_equal(line[len - 1], '\n');
    line[len - 1] = 0;
    assert_null(strchr(line, '\n'));
    weir_log_style_fini(&style);
    return line;
}

static void test_json(void **state)
{
    struct weir_access_log_conf conf = { .sample = 1 };
    struct weir_access_record record = full_record();

    assert_string_equal(
        line_of(&conf, true, &record),
        "{\"ts\":\"2026-11-24T15:48:42.123456Z\",\"id\":\"0123abcd\",\"listener\":\"web\","
        "\"route\":\"api\",\"client\":\"192.0.2.1\",\"method\":\"GET\",\"host\":\"a.test\","
        "\"path\":\"/v1/x\",\"query\":\"token=abc&flag&x=1\",\"protocol\":\"HTTP/1.1\","
        "\"status\":502,\"bytes_in\":3,\"bytes_out\":1234,\"duration_us\":999,"
        "\"upstream\":\"app\",\"server\":\"10.0.0.1:80\",\"attempts\":2,\"reused\":true,"
        "\"connect_us\":10,\"first_byte_us\":20,\"user_agent\":\"curl/8\","
        "\"referer\":\"http://b.test/p?secret=1\",\"tls\":{\"version\":\"TLSv1.3\","
        "\"cipher\":\"TLS_AES_128_GCM_SHA256\",\"sni\":\"a.test\",\"resumed\":true},"
        "\"error\":{\"code\":\"ECONNREFUSED\",\"by\":\"upstream\",\"sys\":\"ECONNREFUSED\"},"
        "\"mover\":\"copy\"}");
}

static void test_json_absent(void **state)
{
    struct weir_access_log_conf conf = { .sample = 1 };
    struct weir_access_record record = { .wall_us = 951782400000000, .status = 400 };

    assert_string_equal(line_of(&conf, false, &record),
                        "{\"ts\":\"2000-02-29T00:00:00.000000Z\",\"status\":400,\"bytes_in\":0,"
                        "\"bytes_out\":0,\"duration_us\":0}");
}

static void test_grpc(void **state)
{
    struct weir_access_log_conf conf = { .sample = 1 };
    struct weir_str redact = WEIR_STR("path");
    struct weir_access_record record = {
        .wall_us = 951782400000000,
        .path = WEIR_STR("/pkg.S/Do"),
        .status = 200,
        .grpc = true,
        .grpc_service = WEIR_STR("pkg.S"),
        .grpc_method = WEIR_STR("Do"),
        .grpc_status = 14,
    };

    assert_non_null(strstr(line_of(&conf, true, &record),
                           ",\"grpc\":{\"service\":\"pkg.S\",\"method\":\"Do\",\"status\":14}}"));
    conf.redact = (struct weir_strs){ &redact, 1 };
    assert_non_null(strstr(line_of(&conf, true, &record),
                           ",\"grpc\":{\"service\":\"***\",\"method\":\"***\",\"status\":14}}"));
    conf.redact.count = 0;
    conf.format = WEIR_LOG_FORMAT;
    conf.template_text = WEIR_STR("$grpc_service $grpc_method $grpc_status");
    assert_string_equal(line_of(&conf, true, &record), "pkg.S Do 14");
    record.grpc = false;
    record.grpc_service.len = record.grpc_method.len = 0;
    assert_string_equal(line_of(&conf, true, &record), "- - -");
    conf.format = WEIR_LOG_JSON;
    record = (struct weir_access_record){ .wall_us = 1, .grpc = true };
    assert_non_null(strstr(line_of(&conf, true, &record), ",\"grpc\":{\"status\":0}}"));
}

static void test_times(void **state)
{
    for (uint64_t day = 0; day < 60000; day += 13) { /* 1970 to 2134 */
        uint64_t seconds = day * 86400 + day * 977 % 86400;
        time_t t = (time_t)seconds;
        char got[64], want[64];
        struct weir_line line = { got, got + sizeof(got) };
        struct tm tm;

        gmtime_r(&t, &tm);
        strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.000007Z %d/%b/%Y:%H:%M:%S +0000", &tm);
        weir_line_time_iso(&line, seconds * 1000000 + 7);
        weir_line_lit(&line, " ");
        weir_line_time_clf(&line, seconds * 1000000 + 7);
        *line.at = 0;
        assert_string_equal(got, want);
    }
}

static void test_combined(void **state)
{
    struct weir_access_log_conf conf = { .format = WEIR_LOG_COMBINED };
    struct weir_access_record record = full_record();

    assert_string_equal(line_of(&conf, true, &record),
                        "192.0.2.1 - - [24/Nov/2026:15:48:42 +0000] \"GET "
                        "/v1/x?token=abc&flag&x=1 HTTP/1.1\" 502 1234 "
                        "\"http://b.test/p?secret=1\" \"curl/8\"");
    record = (struct weir_access_record){ .user_agent = WEIR_STR("a\"b\\\x01\xc3\xa9") };
    assert_string_equal(line_of(&conf, true, &record),
                        "- - - [01/Jan/1970:00:00:00 +0000] \"- - -\" 0 - \"-\" "
                        "\"a\\x22b\\x5c\\x01\\xc3\\xa9\"");
}

static void test_format(void **state)
{
    struct weir_access_log_conf conf = {
        .format = WEIR_LOG_FORMAT,
        .template_text = WEIR_STR("$client $$5 $status/$duration_us \"$request\" $error_code "
                                  "$tls_version,$tls_resumed $reused $upstream $query"),
    };
    struct weir_access_record record = full_record();

    assert_string_equal(line_of(&conf, false, &record),
                        "192.0.2.1 $5 502/999 \"GET /v1/x?token=abc&flag&x=1 HTTP/1.1\" "
                        "ECONNREFUSED TLSv1.3,true true app token=abc&flag&x=1");
    record = (struct weir_access_record){ 0 };
    assert_string_equal(line_of(&conf, false, &record), "- $5 -/0 \"- - -\" - -,- false - -");
}

static void test_format_faults(void **state)
{
    struct weir_access_log_conf conf = { .format = WEIR_LOG_FORMAT };
    struct weir_log_style style;

    conf.template_text = WEIR_STR("$client $clinet");
    assert_int_equal(weir_log_style_init(&style, &conf, false, &fault), WEIR_EINVAL);
    assert_non_null(strstr(fault.text, "there is no '$clinet'"));
    conf.template_text = WEIR_STR("");
    assert_int_equal(weir_log_style_init(&style, &conf, false, &fault), WEIR_EINVAL);
    conf.template_text = WEIR_STR("x $");
    assert_int_equal(weir_log_style_init(&style, &conf, false, &fault), WEIR_EINVAL);
    conf.redact = (struct weir_strs){ (struct weir_str[]){ WEIR_STR("cookie") }, 1 };
    assert_int_equal(weir_log_style_init(&style, &conf, false, &fault), WEIR_EINVAL);
    assert_non_null(strstr(fault.text, "'cookie'"));
}

/* What the system said is told where it said something, by its name. */
static void test_error_sys(void **state)
{
    struct weir_access_log_conf conf = { .sample = 1 };
    struct weir_access_log_conf format = { .format = WEIR_LOG_FORMAT,
                                           .template_text =
                                               WEIR_STR("$error_code $error_by $error_sys") };
    struct weir_error why = { .code = WEIR_ETIMEDOUT, .by = WEIR_BY_CLIENT };
    struct weir_access_record record = { .error = &why };

    assert_non_null(
        strstr(line_of(&conf, true, &record),
               "\"duration_us\":0,\"error\":{\"code\":\"ETIMEDOUT\",\"by\":\"client\"}}"));
    assert_string_equal(line_of(&format, true, &record), "ETIMEDOUT client -");
    why = (struct weir_error){ .code = WEIR_ESYS, .by = WEIR_BY_UPSTREAM, .sys = EHOSTUNREACH };
    assert_non_null(
        strstr(line_of(&conf, true, &record), "\"by\":\"upstream\",\"sys\":\"EHOSTUNREACH\"}}"));
    assert_string_equal(line_of(&format, true, &record), "ESYS upstream EHOSTUNREACH");
    why.sys = 1000000; /* no name: the number */
    assert_string_equal(line_of(&format, true, &record), "ESYS upstream 1000000");
    record.error = NULL;
    assert_string_equal(line_of(&format, true, &record), "- - -");
}

static void test_redact(void **state)
{
    struct weir_str names[] = { WEIR_STR("query"), WEIR_STR("user_agent") };
    struct weir_access_log_conf conf = { .redact = { names, 2 } };
    struct weir_access_record record = full_record();
    const char *line = line_of(&conf, false, &record);

    assert_non_null(strstr(line, "\"query\":\"token=***&***&x=***\""));
    assert_non_null(strstr(line, "\"user_agent\":\"***\""));
    assert_non_null(strstr(line, "\"referer\":\"http://b.test/p?secret=***\""));
    conf.format = WEIR_LOG_COMBINED;
    line = line_of(&conf, false, &record);
    assert_non_null(strstr(line, "\"GET /v1/x?token=***&***&x=*** HTTP/1.1\""));
    assert_null(strstr(line, "curl"));
}

static void check_json(const char *line)
{
    json_error_t why;
    json_t *json = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);

    if (!json)
        print_error("%s\n%s\n", why.text, line);
    assert_non_null(json);
    json_decref(json);
}

/* Every pair of bytes, and what looks like UTF-8 and is not. */
static void test_any_bytes(void **state)
{
    static const char *const tricky[] = {
        "\xc3\xa9",         "\xc0\x80",         "\xe0\x80\x80", "\xed\xa0\x80",
        "\xf0\x9f\x98\x80", "\xf4\x90\x80\x80", "\xe2\x82",     "\xf8\x88\x80\x80\x80",
    };
    struct weir_access_log_conf conf = { 0 };
    struct weir_access_record record = full_record();
    char pair[2];

    for (unsigned i = 0; i < 65536; i++) {
        pair[0] = (char)(i >> 8);
        pair[1] = (char)i;
        record.path = (struct weir_str){ pair, 2 };
        if (i % 251 == 0 || pair[0] < 1 || pair[1] < 32)
            check_json(line_of(&conf, i & 1, &record));
    }
    for (size_t i = 0; i < sizeof(tricky) / sizeof(tricky[0]); i++) {
        record.user_agent = weir_str(tricky[i]);
        check_json(line_of(&conf, true, &record));
    }
    record.user_agent = WEIR_STR("\xc3\xa9\xff\"");
    assert_non_null(strstr(line_of(&conf, true, &record), "\"\xc3\xa9\\u00ff\\\"\""));
}

static struct weir_access_record hostile_record(const struct weir_str text,
                                                const struct weir_tls_info *info)
{
    return (struct weir_access_record){
        .wall_us = UINT64_MAX / 64,
        .id = text,
        .listener = text,
        .route = text,
        .client = text,
        .method = text,
        .host = text,
        .path = text,
        .query = text,
        .protocol = text,
        .status = 999,
        .bytes_in = INT64_MAX,
        .bytes_out = INT64_MAX,
        .duration_us = INT64_MAX,
        .upstream = text,
        .server = text,
        .attempts = UINT32_MAX,
        .connect_us = INT64_MAX,
        .first_byte_us = INT64_MAX,
        .user_agent = text,
        .referer = text,
        .tls = info,
        .error = &error,
        .mover = text,
        .grpc = true,
        .grpc_status = INT32_MAX,
        .grpc_service = text,
        .grpc_method = text,
    };
}

/* All fields are longer than their share: still one whole object, in the bounds of a pipe. */
static void test_long(void **state)
{
    static const char fills[] = { 'a', '"', 1, (char)0xff, (char)0xc3, '&', '=' };
    struct weir_str redact = WEIR_STR("query");
    static char text[20000];

    for (size_t i = 0; i < sizeof(fills) * 4; i++) {
        struct weir_access_log_conf conf = { .redact = { &redact, i & 1 } };
        struct weir_str s = { text, sizeof(text) };
        struct weir_tls_info info = { .version = s, .cipher = s, .sni = s };
        struct weir_access_record record = hostile_record(s, &info);

        memset(text, fills[i / 4], sizeof(text));
        check_json(line_of(&conf, i & 2, &record));
        if (fills[i / 4] == 'a')
            assert_non_null(strstr(line_of(&conf, i & 2, &record), "a\xe2\x80\xa6\""));
        conf.format = WEIR_LOG_COMBINED;
        (void)line_of(&conf, true, &record);
        conf.format = WEIR_LOG_FORMAT;
        conf.template_text =
            WEIR_STR("$path$path$path$path$path$path$path$path$path$path$path$path$path");
        (void)line_of(&conf, true, &record);
    }
}

static void make_path(char path[64])
{
    int fd;

    snprintf(path, 64, "/tmp/weir-log-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
}

static unsigned lines_in(const char *path)
{
    FILE *in = fopen(path, "r");
    char line[WEIR_LOG_LINE_BYTES + 1];
    unsigned lines = 0;

    assert_non_null(in);
    while (fgets(line, sizeof(line), in)) {
        check_json(line);
        lines++;
    }
    fclose(in);
    return lines;
}

enum { WRITERS = 3, WRITES = 2000 };

static void *write_lines(void *log)
{
    struct weir_access_record record = full_record();

    for (unsigned i = 0; i < WRITES; i++)
        weir_access_log_write(log, &record);
    return NULL;
}

/* Reopened again and again under three writers: no line is lost, none is torn. */
static void test_reopen(void **state)
{
    char path[64], moved[80];
    struct weir_access_log_conf conf = { .sample = 1 };
    struct weir_access_log *log;
    pthread_t threads[WRITERS];
    unsigned lines = 0;

    make_path(path);
    conf.to = weir_str(path);
    log = weir_access_log_open(&conf, NULL, NULL, &fault);
    assert_non_null(log);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, log), 0);
    for (unsigned i = 0; i < 5; i++) {
        snprintf(moved, sizeof(moved), "%s.%u", path, i);
        assert_int_equal(rename(path, moved), 0);
        assert_int_equal(weir_access_log_reopen(log), 0);
        usleep(2000);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 5; i++) {
        snprintf(moved, sizeof(moved), "%s.%u", path, i);
        lines += lines_in(moved);
        unlink(moved);
    }
    lines += lines_in(path);
    assert_int_equal(lines, WRITERS * WRITES);
    assert_int_equal(weir_access_log_lost(log), 0);
    weir_access_log_close(log);
    unlink(path);
}

static unsigned told;
static char told_line[512];

static void on_told(void *arg, enum weir_log_level level, const char *line, size_t len)
{
    told++;
    snprintf(told_line, sizeof(told_line), "%.*s", (int)len, line);
}

static struct weir_log *listen_to(void)
{
    struct weir_log_opts opts = { sizeof(opts), WEIR_LOG_INFO, false, on_told, NULL };

    told = 0;
    return weir_log_new(&opts);
}

/* A pipe that nobody reads: lines are dropped and counted, the writer never waits, and it is told
 * once. */
static void test_full_pipe(void **state)
{
    int pipes[2], saved = dup(STDERR_FILENO);
    struct weir_access_log_conf conf = { .sample = 1, .to = WEIR_STR("stderr") };
    struct weir_access_record record = full_record();
    struct weir_log *to = listen_to();
    struct weir_access_log *log;

    assert_int_equal(pipe(pipes), 0);
    dup2(pipes[1], STDERR_FILENO);
    log = weir_access_log_open(&conf, NULL, NULL, &fault);
    dup2(saved, STDERR_FILENO);
    assert_non_null(log);
    weir_access_log_set_log(log, to);
    for (unsigned i = 0; i < 1000; i++)
        weir_access_log_write(log, &record);
    assert_true(weir_access_log_lost(log) > 500);
    assert_int_equal(told, 1);
    assert_non_null(strstr(told_line, "1 line was lost: its reader is too slow"));
    assert_false(fcntl(pipes[1], F_GETFL) & O_NONBLOCK); /* the flag is ours alone */
    weir_access_log_close(log);
    weir_log_free(to);
    close(pipes[0]);
    close(pipes[1]);
    close(saved);
}

static void test_no_space(void **state)
{
    struct weir_access_log_conf conf = { .sample = 1, .to = WEIR_STR("/dev/full") };
    struct weir_access_record record = full_record();
    struct weir_log *to = listen_to();
    struct weir_access_log *log = weir_access_log_open(&conf, NULL, NULL, &fault);

    assert_non_null(log);
    weir_access_log_set_log(log, to);
    weir_access_log_write(log, &record);
    assert_int_equal(weir_access_log_lost(log), 1);
    assert_non_null(strstr(told_line, "No space left"));
    weir_access_log_close(log);
    weir_log_free(to);
}

static void test_sample_and_off(void **state)
{
    char path[64];
    struct weir_access_log_conf conf = { .sample = 0.25 };
    struct weir_access_record record = full_record();
    struct weir_access_log *log;
    unsigned lines;

    make_path(path);
    conf.to = weir_str(path);
    log = weir_access_log_open(&conf, NULL, NULL, &fault);
    for (unsigned i = 0; i < 4000; i++) {
        record.wall_us += 17;
        weir_access_log_write(log, &record);
    }
    lines = lines_in(path);
    assert_true(lines > 850 && lines < 1150);
    weir_access_log_close(log);
    unlink(path);
    conf.off = true;
    log = weir_access_log_open(&conf, NULL, NULL, &fault);
    weir_access_log_write(log, &record);
    assert_int_equal(access(path, F_OK), -1);
    weir_access_log_close(log);
}

static void test_bad_target(void **state)
{
    struct weir_access_log_conf conf = { .to = WEIR_STR("/nowhere/x.log") };

    assert_null(weir_access_log_open(&conf, NULL, NULL, &fault));
    assert_string_equal(fault.text, "access_log: /nowhere/x.log: No such file or directory");
}

/* Not a test of speed (the machine decides): a figure to look at. */
static void test_speed(void **state)
{
    enum { ROUNDS = 20000 };
    struct weir_access_log_conf conf = { .sample = 1 };
    struct weir_access_record record = full_record();
    char line[WEIR_LOG_LINE_BYTES];
    struct weir_log_style style;
    uint64_t start;

    assert_int_equal(weir_log_style_init(&style, &conf, false, &fault), 0);
    start = weir_clock_us();
    for (unsigned i = 0; i < ROUNDS; i++)
        weir_log_line(&style, &record, line);
    print_message("%llu ns a line of JSON\n",
                  (unsigned long long)((weir_clock_us() - start) * 1000 / ROUNDS));
    weir_log_style_fini(&style);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),       cmocka_unit_test(test_json_absent),
        cmocka_unit_test(test_times),      cmocka_unit_test(test_combined),
        cmocka_unit_test(test_format),     cmocka_unit_test(test_format_faults),
        cmocka_unit_test(test_error_sys),  cmocka_unit_test(test_redact),
        cmocka_unit_test(test_any_bytes),  cmocka_unit_test(test_long),
        cmocka_unit_test(test_reopen),     cmocka_unit_test(test_full_pipe),
        cmocka_unit_test(test_no_space),   cmocka_unit_test(test_sample_and_off),
        cmocka_unit_test(test_bad_target), cmocka_unit_test(test_speed),
        cmocka_unit_test(test_grpc),
    };

    return cmocka_run_group_tests_name("proxy/access_log", tests, NULL, NULL);
}
