/* SPDX-License-Identifier: Apache-2.0 */
/** verb_completion.c: scripts for shells, made of the table of verbs and, behind `config explain`, of the rows of the
 * configuration. */
#include "cli/cli.h"
#include "daemon/conf.h"

#include <stdbool.h>
#include <string.h>

static void put_options(const struct weir_cli_option *options, FILE *out)
{
    for (; options && options->name; options++)
        fprintf(out, " --%s", options->name);
}

static void put_words(const struct weir_cli_verb *verb, FILE *out)
{
    for (const char *const *word = verb->words; word && *word; word++)
        fprintf(out, " %s", *word);
}

static void put_verbs(FILE *out)
{
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++)
        fprintf(out, " %s", verb->name);
}

static void bash(FILE *out)
{
    fputs(
        "# bash completion of weir\n_weir()\n{\n"
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= words= i\n"
        "    case $prev in\n"
        "        -c|--config|--tls-cert|--tls-key|--socket)\n"
        "            COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n"
        "        explain)\n"
        "            mapfile -t COMPREPLY < <(compgen -W '",
        out);
    weir_conf_keys(out);
    fputs("' -- \"$cur\"); return;;\n" /* mapfile: a `*` is no pattern */
          "    esac\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        case ${COMP_WORDS[i]} in\n"
          "            -c|-i|--config|--instance|--socket) ((i++));;\n"
          "            -*) ;;\n"
          "            *) verb=${COMP_WORDS[i]}; break;;\n"
          "        esac\n"
          "    done\n"
          "    case $verb in\n        '') words='",
          out);
    put_verbs(out);
    fputs("';;\n        help) words='", out);
    put_verbs(out);
    fputs(" --man';;\n", out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        if ((!verb->words && !verb->options) || strcmp(verb->name, "help") == 0)
            continue;
        fprintf(out, "        %s) words='", verb->name);
        put_words(verb, out);
        put_options(verb->options, out);
        fputs("';;\n", out);
    }
    fputs("    esac\n    case $cur in -*) words+='", out);
    put_options(weir_cli_globals, out);
    fputs("';; esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
          "complete -o default -F _weir weir\n",
          out);
}

/* Text within single quotes of a shell. */
static void quoted(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    }
}

/* ---- zsh ---- */

static bool takes_file(const struct weir_cli_option *option)
{
    return option->arg && (strstr(option->arg, "FILE") || strstr(option->arg, "PATH"));
}

/* One spelling of an option, as _arguments wants it. */
static void zsh_spelling(const struct weir_cli_option *option, const char *dashes, const char *name,
                         FILE *out)
{
    fputs(" '", out);
    if (option->letter)
        fprintf(out, "(-%c --%s)", option->letter, option->name);
    fprintf(out, "%s%s[", dashes, name);
    for (const char *text = option->text; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else if (*text == '[' || *text == ']' || *text == ':')
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
    fputs("]", out);
    if (option->arg)
        fprintf(out, ":%s:%s", option->arg, takes_file(option) ? "_files" : " ");
    fputs("'", out);
}

static void zsh_options(const struct weir_cli_option *options, FILE *out)
{
    for (; options && options->name; options++) {
        const char letter[2] = { options->letter, 0 };

        if (options->letter)
            zsh_spelling(options, "-", letter, out);
        zsh_spelling(options, "--", options->name, out);
    }
}

static void zsh_verb(const struct weir_cli_verb *verb, FILE *out)
{
    fprintf(out, "    %s) _arguments", verb->name);
    zsh_options(verb->options, out);
    zsh_options(weir_cli_globals, out);
    if (verb->words) {
        fputs(" '1:what:(", out);
        put_words(verb, out);
        fputs(")'", out);
    }
    if (strcmp(verb->name, "config") == 0)
        fputs(" '2:key:_weir_keys'", out);
    else if (strcmp(verb->name, "help") == 0)
        fputs(" '1:verb:_weir_verbs'", out);
    else if (strcmp(verb->name, "check") == 0)
        fputs(" '1:file:_files'", out);
    fputs(" && ret=0;;\n", out);
}

/* A file of a folder of $fpath runs in a function of its name the first time; else it is sourced. */
static void zsh(FILE *out)
{
    fputs("#compdef weir\n# zsh completion of weir: to be sourced, or as _weir in a folder of "
          "$fpath\n"
          "_weir_keys()\n{\n    local -a keys\n    [[ -n ${words[(r)explain]} ]] || return 1\n"
          "    keys=(\"${(@f)$(cat <<'KEYS'\n",
          out);
    weir_conf_keys(out);
    fputs("KEYS\n)}\")\n    compadd -a keys\n}\n_weir_verbs()\n{\n    local -a verbs\n    verbs=(",
          out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        fprintf(out, "\n        '%s:", verb->name);
        quoted(verb->text, out);
        fputs("'", out);
    }
    fputs("\n    )\n    _describe verb verbs\n}\n_weir()\n{\n    local curcontext=$curcontext "
          "state line "
          "ret=1\n    local -A opt_args\n    _arguments -C",
          out);
    zsh_options(weir_cli_globals, out);
    fputs(" '(-)1:verb:_weir_verbs' '(-)*::argument:->rest' && ret=0\n"
          "    [[ $state == rest ]] || return ret\n    case $words[1] in\n",
          out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++)
        zsh_verb(verb, out);
    fputs("    esac\n    return ret\n}\nif [[ $funcstack[1] == _weir ]]; then\n    _weir "
          "\"$@\"\nelse\n"
          "    compdef _weir weir\nfi\n",
          out);
}

/* ---- fish ---- */

static void fish_text(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void fish_option(const struct weir_cli_option *option, const char *verb, FILE *out)
{
    fputs("complete -c weir", out);
    if (verb)
        fprintf(out, " -n '__weir_in %s'", verb);
    if (option->letter)
        fprintf(out, " -s %c", option->letter);
    fprintf(out, " -l %s%s -d '", option->name,
            !option->arg         ? ""
            : takes_file(option) ? " -r -F"
                                 : " -x");
    fish_text(option->text, out);
    fputs("'\n", out);
}

static void fish_verbs(const char *when, FILE *out)
{
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        fprintf(out, "complete -c weir -n '%s' -a %s -d '", when, verb->name);
        fish_text(verb->text, out);
        fputs("'\n", out);
    }
}

/* What is said before the verb, with the values that belong to it. */
static void fish_functions(FILE *out)
{
    fputs("# fish completion of weir\n"
          "function __weir_verb\n    set -l skip 0\n    set -l words (commandline -opc)\n"
          "    set -e words[1]\n    for word in $words\n        if test $skip = 1\n"
          "            set skip 0\n        else if contains -- $word",
          out);
    for (const struct weir_cli_option *o = weir_cli_globals; o->name; o++) {
        if (o->arg && o->letter)
            fprintf(out, " -%c", o->letter);
        if (o->arg)
            fprintf(out, " --%s", o->name);
    }
    fputs("\n            set skip 1\n        else if not string match -q -- '-*' $word\n"
          "            echo $word\n            return\n        end\n    end\nend\n"
          "function __weir_in\n    set -l verb (__weir_verb)\n    test \"$verb\" = "
          "\"$argv[1]\"\nend\n"
          "function __weir_keys\n    echo '",
          out);
    weir_conf_keys(out);
    fputs("'\nend\n", out);
}

static void fish(FILE *out)
{
    fish_functions(out);
    fputs("complete -c weir -f\n", out);
    fish_verbs("__weir_in \"\"", out);
    fish_verbs("__weir_in help", out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        if (verb->words) {
            fprintf(out, "complete -c weir -n '__weir_in %s; and not __fish_seen_subcommand_from",
                    verb->name);
            put_words(verb, out);
            fputs("' -a '", out);
            put_words(verb, out);
            fputs("'\n", out);
        }
        for (const struct weir_cli_option *o = verb->options; o && o->name; o++)
            fish_option(o, verb->name, out);
    }
    fputs("complete -c weir -n '__weir_in check' -F\n"
          "complete -c weir -n '__weir_in config; and __fish_seen_subcommand_from explain' "
          "-a '(__weir_keys)'\n",
          out);
    for (const struct weir_cli_option *o = weir_cli_globals; o->name; o++)
        fish_option(o, NULL, out);
}

int weir_verb_completion(struct weir_cli *cli)
{
    switch (cli->args[0][0]) {
    case 'b':
        bash(cli->out);
        break;
    case 'z':
        zsh(cli->out);
        break;
    default:
        fish(cli->out);
    }
    return WEIR_EXIT_DONE;
}
