/* SPDX-License-Identifier: Apache-2.0 */
/* The command line against its table. */
#include "cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct line {
    struct weir_cli cli;
    char *text; /* what was said on err */
    size_t len;
    int status;
    char words[512]; /* what the command line points into */
};

/* `words` by spaces. */
static void parse(struct line *line, const char *words)
{
    char *argv[32] = { (char *)"weir" }, *save = NULL;
    int argc = 1;

    memset(line, 0, sizeof(*line));
    snprintf(line->words, sizeof(line->words), "%s", words);
    for (char *word = strtok_r(line->words, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    line->cli.err = open_memstream(&line->text, &line->len);
    line->cli.out = line->cli.err;
    line->status = weir_cli_parse(&line->cli, argc, argv);
    fflush(line->cli.err);
}

static void done(struct line *line)
{
    fclose(line->cli.err);
    free(line->text);
}

static void options_and_words(void **state)
{
    struct line line;

    (void)state;
    parse(&line, "-j ban add 10.0.0.0/8 --for=10m --why text -iedge --config a.yaml");
    assert_int_equal(line.status, 0);
    assert_string_equal(line.cli.verb->name, "ban");
    assert_true(line.cli.json);
    assert_string_equal(line.cli.instance, "edge");
    assert_string_equal(line.cli.conf, "a.yaml");
    assert_string_equal(weir_cli_value(&line.cli, "for"), "10m");
    assert_string_equal(weir_cli_value(&line.cli, "why"), "text");
    assert_int_equal(line.cli.args_count, 2);
    done(&line);
    parse(&line, "check -jc x.yaml --effective");
    assert_int_equal(line.status, 0);
    assert_true(line.cli.json);
    assert_string_equal(line.cli.conf, "x.yaml");
    assert_non_null(weir_cli_value(&line.cli, "effective"));
    done(&line);
    parse(&line, "ban del -- -x");
    assert_int_equal(line.status, 0);
    assert_string_equal(line.cli.args[1], "-x");
    done(&line);
    parse(&line, "show -h");
    assert_int_equal(line.status, 0);
    assert_string_equal(line.cli.verb->name, "help");
    assert_string_equal(line.cli.args[0], "show");
    done(&line);
}

static void misuse(void **state)
{
    static const struct {
        const char *words, *said;
    } cases[] = {
        { "relaod", "did you mean 'reload'?" },       { "staus", "did you mean 'status'?" },
        { "run --singel", "did you mean --single?" }, { "run -x", "unknown option -x" },
        { "run -c", "--config needs a FILE" },        { "run --single=1", "takes no value" },
        { "run now", "'now' is one word too many" },  { "show", "needs more words" },
        { "show bnas", "did you mean 'bans'?" },      { "-j", "say what to do" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct line line;

        parse(&line, cases[i].words);
        assert_int_equal(line.status, WEIR_EXIT_USAGE);
        assert_non_null(strstr(line.text, cases[i].said));
        done(&line);
    }
}

static int run(const char *words, char **text)
{
    struct line line;
    int status;

    parse(&line, words);
    status = line.status ? line.status : line.cli.verb->run(&line.cli);
    fclose(line.cli.err);
    *text = line.text;
    return status;
}

static void said(const char *words, int status, const char *expected)
{
    char *text;

    assert_int_equal(run(words, &text), status);
    assert_non_null(strstr(text, expected));
    free(text);
}

/* Everything that is made of the table knows every verb. */
static void one_table(void **state)
{
    char *help, *man, *bash, *zsh, *fish, *one, words[64];

    (void)state;
    assert_int_equal(run("help", &help), 0);
    assert_int_equal(run("help --man", &man), 0);
    assert_int_equal(run("completion bash", &bash), 0);
    assert_int_equal(run("completion zsh", &zsh), 0);
    assert_int_equal(run("completion fish", &fish), 0);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        assert_non_null(strstr(help, verb->name));
        assert_non_null(strstr(man, verb->name));
        assert_non_null(strstr(bash, verb->name));
        assert_non_null(strstr(zsh, verb->name));
        assert_non_null(strstr(fish, verb->name));
        snprintf(words, sizeof(words), "help %s", verb->name);
        assert_int_equal(run(words, &one), 0);
        assert_non_null(strstr(one, verb->text));
        free(one);
    }
    free(help);
    free(man);
    free(bash);
    free(zsh);
    free(fish);
    said("help reload", 0, "read the configuration anew");
    said("version", 0, "weir ");
    said("version -j", 0, "{\"version\":");
    said("doctor -j", 0, "\"check\": \"kernel\"");
}

static void proxy_is_yaml(void **state)
{
    (void)state;
    said("proxy --listen :8080 --to 127.0.0.1:3000,a.b --workers 2 --print-config", 0,
         "servers: [ \"127.0.0.1:3000\", { address: \"a.b:80\", resolve: on } ]");
    said("proxy -l :1 -t https://10.0.0.1 --print-config", 0, "\"10.0.0.1:443\" ]\n    tls: on");
    said("proxy -l $x -t a --print-config", 0, "bind: \"$$x\"");
    said("proxy --listen :1", WEIR_EXIT_USAGE, "say --listen and --to");
    said("proxy --listen :1 --to a:b:c:d", WEIR_EXIT_USAGE, "is not HOST:PORT");
    said("proxy --listen :1 --to a --tls-key k", WEIR_EXIT_USAGE, "needs --tls-cert");
    said("proxy --listen nonsense --to 127.0.0.1:1", WEIR_EXIT_USAGE, "error:");
}

static void not_running(void **state)
{
    (void)state;
    said("status -i no-such-instance", WEIR_EXIT_FAILED, "is the daemon running?");
    said("status -c /nonexistent.yaml", WEIR_EXIT_FAILED, "/nonexistent.yaml: No such file");
    said("status -c /dev/null", WEIR_EXIT_FAILED, "`weir check -c /dev/null` tells them");
    said("status -i ../x", WEIR_EXIT_FAILED, "not valid");
    said("status --socket /nonexistent/x", WEIR_EXIT_FAILED, "/nonexistent/x");
    said("run --single -c /nonexistent.yaml", WEIR_EXIT_USAGE, "/nonexistent.yaml");
    said("set upstream x weight 1", WEIR_EXIT_USAGE, "NAME/SERVER");
    said("set upstream a/b weight 1001", WEIR_EXIT_USAGE, "0 to 1000");
    said("set log-level inf", WEIR_EXIT_USAGE, "did you mean 'info'?");
    said("ban add 10.0.0.0/8 --for ever", WEIR_EXIT_USAGE, "not a time");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_words), cmocka_unit_test(misuse),
        cmocka_unit_test(one_table),         cmocka_unit_test(proxy_is_yaml),
        cmocka_unit_test(not_running),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
