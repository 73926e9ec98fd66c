/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cli.h: the command line. One table of verbs (verbs.c) drives parsing, help, completion and the
 * manual page; a verb is a file (verb_*.c, doctor.c) with one function.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "daemon/service.h"
#include "weir/types.h"

#include <stdio.h>

/** An option that a verb takes; `arg` NULL: a switch. */
struct weir_cli_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    const char *arg;  /* what its value is called */
    const char *text; /* one sentence */
};

enum { WEIR_CLI_OPTIONS_MAX = 12, WEIR_CLI_ARGS_MAX = 64 };

struct weir_cli;

struct weir_cli_verb {
    const char *name;
    const char *usage;        /* behind "weir NAME" */
    const char *text;         /* one sentence */
    const char *more;         /* what else there is to know; may be NULL */
    const char *const *words; /* what may come first behind it, for completion; may be NULL */
    const struct weir_cli_option *options; /* ends with {0}; may be NULL */
    unsigned args_min, args_max;
    int (*run)(struct weir_cli *cli); /* returns an exit status */
};

/** A parsed command line. */
struct weir_cli {
    const struct weir_cli_verb *verb;
    const char *conf, *instance, *socket;     /* -c, -i, --socket; NULL: not said */
    bool json;                                /* -j */
    const char *values[WEIR_CLI_OPTIONS_MAX]; /* of the verb's options, by index; a switch: "" */
    const char *args[WEIR_CLI_ARGS_MAX];
    unsigned args_count;
    char *const *argv; /* as the program was started */
    FILE *out, *err;
};

extern const struct weir_cli_verb weir_cli_verbs[]; /* ends with {0} */
extern const struct weir_cli_option weir_cli_globals[];

/** The whole program; returns its exit status. */
int weir_cli_main(int argc, char **argv);

/** Parses without running: 0, or an exit status when it was wrong and said so on cli->err. */
int weir_cli_parse(struct weir_cli *cli, int argc, char **argv);
const struct weir_cli_verb *weir_cli_find(const char *name);
/** The value of the verb's option; NULL: not said. */
const char *weir_cli_value(const struct weir_cli *cli, const char *name);
/** Says what is wrong with the usage and how to get help; returns WEIR_EXIT_USAGE. */
int weir_cli_misuse(const struct weir_cli *cli, const char *format, ...) WEIR_PRINTF(2, 3);
/** The nearest of the names, when it is near enough to be meant; NULL: none. */
const char *weir_cli_nearest(const char *word, const char *const *names);
void weir_cli_help_verb(const struct weir_cli_verb *verb, FILE *out);
void weir_cli_help(FILE *out);

/** Loads the configuration of -c, with what -i and --socket say in place of the file's, and prints
 * what is wrong with it. NULL: *status says how to end. */
struct weir_conf *weir_cli_load(const struct weir_cli *cli, const struct weir_conf_opts *opts,
                                int *status);

/** Children of the keeper, by what they are called (daemon/keeper.h); -1: this process is none. */
int weir_cli_child(int argc, char **argv);

/** A weir_conf_reader_fn; `arg`: the weir_cli that has run the daemon. The same file again, and the same words beside it. */
int weir_cli_reread(void *arg, const struct weir_conf *running, struct weir_conf **conf,
                    struct weir_diags *diags);

#define WEIR_CLI_VERBS(X) \
    X(run)                \
    X(check)              \
    X(proxy)              \
    X(echo)               \
    X(doctor)             \
    X(status)             \
    X(show)               \
    X(set) X(reload) X(drain) X(upgrade) X(ban) X(kern) X(config) X(version) X(help) X(completion)
#define WEIR_CLI_DECLARE(name) int weir_verb_##name(struct weir_cli *cli);
WEIR_CLI_VERBS(WEIR_CLI_DECLARE)
#undef WEIR_CLI_DECLARE

#endif
