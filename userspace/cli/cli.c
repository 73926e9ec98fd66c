/* SPDX-License-Identifier: Apache-2.0 */
/** cli.c: the command line against the table of verbs. */
#include "cli/cli.h"

#include "base/str.h"

#include <stdarg.h>
#include <stdlib.h>

enum { NEAR_MAX = 2, NAMES_MAX = 32 };

const struct weir_cli_verb *weir_cli_find(const char *name)
{
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        if (strcmp(verb->name, name) == 0)
            return verb;
    }
    return NULL;
}

const char *weir_cli_nearest(const char *word, const char *const *names)
{
    const char *best = NULL;
    unsigned least = NEAR_MAX + 1;

    for (; *names; names++) {
        unsigned distance = weir_str_distance(weir_str(word), weir_str(*names));

        if (distance < least && distance < strlen(*names)) {
            least = distance;
            best = *names;
        }
    }
    return best;
}

int weir_cli_misuse(const struct weir_cli *cli, const char *format, ...)
{
    va_list args;

    fputs("weir: ", cli->err);
    va_start(args, format);
    vfprintf(cli->err, format, args);
    va_end(args);
    if (cli->verb)
        fprintf(cli->err, "\nusage: weir %s%s%s\n`weir help %s` tells more\n", cli->verb->name,
                cli->verb->usage[0] ? " " : "", cli->verb->usage, cli->verb->name);
    else
        fputs("\n`weir help` lists the verbs\n", cli->err);
    return WEIR_EXIT_USAGE;
}

/* ---- options ------------------------------------------------------------------------------ */

/* A word of the line, and the value that stands in the same word ("--to=x", "-cfile"). */
struct word {
    const char *name;
    size_t name_len;
    char letter;
    const char *value;
};

static bool option_is(const struct weir_cli_option *option, const struct word *word)
{
    if (word->letter)
        return option->letter == word->letter;
    return strlen(option->name) == word->name_len &&
           memcmp(option->name, word->name, word->name_len) == 0;
}

static const struct weir_cli_option *option_find(const struct weir_cli_option *list,
                                                 const struct word *word)
{
    for (; list && list->name; list++) {
        if (option_is(list, word))
            return list;
    }
    return NULL;
}

static size_t names_add(const char **names, size_t n, const struct weir_cli_option *list)
{
    for (; list && list->name && n + 1 < NAMES_MAX; list++)
        names[n++] = list->name;
    return n;
}

static int option_unknown(const struct weir_cli *cli, const struct word *word)
{
    const char *names[NAMES_MAX], *near;
    char text[64];
    size_t n = names_add(names, 0, weir_cli_globals);

    if (word->letter)
        return weir_cli_misuse(cli, "unknown option -%c", word->letter);
    n = names_add(names, n, cli->verb ? cli->verb->options : NULL);
    names[n] = NULL;
    snprintf(text, sizeof(text), "%.*s", (int)word->name_len, word->name);
    near = weir_cli_nearest(text, names);
    return weir_cli_misuse(cli, "unknown option --%s%s%s%s", text, near ? "; did you mean --" : "",
                           near ? near : "", near ? "?" : "");
}

static void option_set(struct weir_cli *cli, const struct weir_cli_option *option, bool global,
                       const char *value)
{
    if (!global && cli->verb) {
        cli->values[option - cli->verb->options] = value;
        return;
    }
    switch (option->letter) {
    case 'c':
        cli->conf = value;
        break;
    case 'i':
        cli->instance = value;
        break;
    case 'j':
        cli->json = true;
        break;
    case 'h':
        cli->args_count = WEIR_CLI_ARGS_MAX + 1; /* help was asked for */
        break;
    default:
        cli->socket = value;
    }
}

/* One option at argv[*at]; short switches may stand together ("-jc FILE"). */
static int option_parse(struct weir_cli *cli, int argc, char **argv, int *at)
{
    const char *text = argv[*at] + 1;
    bool more;

    do {
        struct word word = { 0 };
        const struct weir_cli_option *option;
        bool global;

        more = false;
        if (*text == '-') {
            word.name = text + 1;
            word.name_len = strcspn(word.name, "=");
            word.value = word.name[word.name_len] == '=' ? word.name + word.name_len + 1 : NULL;
        } else {
            word.letter = *text++;
            word.value = *text ? text : NULL;
        }
        option = option_find(cli->verb ? cli->verb->options : NULL, &word);
        global = !option;
        if (global)
            option = option_find(weir_cli_globals, &word);
        if (!option)
            return option_unknown(cli, &word);
        if (option->arg && !word.value && *at + 1 == argc)
            return weir_cli_misuse(cli, "--%s needs %s %s", option->name,
                                   strchr("AEIOU", option->arg[0]) ? "an" : "a", option->arg);
        if (option->arg && !word.value)
            word.value = argv[++*at];
        if (!option->arg && word.letter && word.value)
            more = true;
        else if (!option->arg && word.value)
            return weir_cli_misuse(cli, "--%s takes no value", option->name);
        option_set(cli, option, global, option->arg ? word.value : "");
    } while (more);
    return 0;
}

const char *weir_cli_value(const struct weir_cli *cli, const char *name)
{
    const struct weir_cli_option *options = cli->verb->options;

    for (unsigned i = 0; options && options[i].name; i++) {
        if (strcmp(options[i].name, name) == 0)
            return cli->values[i];
    }
    return NULL;
}

/* ---- the line ----------------------------------------------------------------------------- */

static int verb_unknown(const struct weir_cli *cli, const char *name)
{
    const char *names[NAMES_MAX], *near;
    size_t n = 0;

    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name && n + 1 < NAMES_MAX; verb++)
        names[n++] = verb->name;
    names[n] = NULL;
    near = weir_cli_nearest(name, names);
    return weir_cli_misuse(cli, "there is no verb '%s'%s%s%s", name, near ? "; did you mean '" : "",
                           near ? near : "", near ? "'?" : "");
}

static int word_parse(struct weir_cli *cli, const char *word)
{
    if (!cli->verb) {
        cli->verb = weir_cli_find(word);
        return cli->verb ? 0 : verb_unknown(cli, word);
    }
    if (cli->args_count >= WEIR_CLI_ARGS_MAX)
        return cli->args_count > WEIR_CLI_ARGS_MAX ? 0 : weir_cli_misuse(cli, "too many words");
    cli->args[cli->args_count++] = word;
    return 0;
}

static int args_check(struct weir_cli *cli)
{
    const char *const *words = cli->verb->words;
    const char *near;

    if (cli->args_count < cli->verb->args_min)
        return weir_cli_misuse(cli, "'%s' needs more words", cli->verb->name);
    if (words && cli->args_count > 0) {
        for (unsigned i = 0; words[i]; i++) {
            if (strcmp(words[i], cli->args[0]) == 0)
                words = NULL;
            if (!words)
                break;
        }
        if (words) {
            near = weir_cli_nearest(cli->args[0], words);
            return weir_cli_misuse(cli, "'%s' does not know '%s'%s%s%s", cli->verb->name,
                                   cli->args[0], near ? "; did you mean '" : "", near ? near : "",
                                   near ? "'?" : "");
        }
    }
    if (cli->args_count > cli->verb->args_max)
        return weir_cli_misuse(cli, "'%s' is one word too many", cli->args[cli->verb->args_max]);
    return 0;
}

static int parse_words(struct weir_cli *cli, int argc, char **argv)
{
    bool options = true;

    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        int status;

        if (options && strcmp(word, "--") == 0) {
            options = false;
            continue;
        }
        if (options && !cli->verb && strcmp(word, "--version") == 0)
            word = "version";
        if (options && word[0] == '-' && word[1])
            status = option_parse(cli, argc, argv, &i);
        else
            status = word_parse(cli, word);
        if (status)
            return status;
    }
    return 0;
}

int weir_cli_parse(struct weir_cli *cli, int argc, char **argv)
{
    int status = parse_words(cli, argc, argv);

    if (status)
        return status;
    if (cli->args_count > WEIR_CLI_ARGS_MAX) { /* -h */
        cli->args_count = 0;
        if (cli->verb && strcmp(cli->verb->name, "help") != 0)
            cli->args[cli->args_count++] = cli->verb->name;
        cli->verb = weir_cli_find("help");
        memset(cli->values, 0, sizeof(cli->values));
        return 0;
    }
    if (!cli->verb)
        return weir_cli_misuse(cli, "say what to do");
    return args_check(cli);
}

int weir_cli_main(int argc, char **argv)
{
    struct weir_cli cli = { .out = stdout, .err = stderr, .argv = argv };
    int status = weir_cli_child(argc, argv);

    if (status >= 0)
        return status;
    if (argc < 2) {
        weir_cli_help(stderr);
        return WEIR_EXIT_USAGE;
    }
    status = weir_cli_parse(&cli, argc, argv);
    if (!status && cli.verb)
        status = cli.verb->run(&cli);
    if (fflush(stdout) != 0 && !status)
        status = WEIR_EXIT_FAILED;
    return status;
}
