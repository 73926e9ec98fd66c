/* SPDX-License-Identifier: Apache-2.0 */
/** verb_completion.c: scripts for shells, made of the table of verbs and, behind `config explain`, of the rows of the
 * configuration. */
#include "cli/cli.h"
#include "daemon/conf.h"

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

static void zsh_option(const struct weir_cli_option *option, FILE *out)
{
    fprintf(out, " '--%s[", option->name);
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
        fprintf(out, ":%s:%s", option->arg,
                strstr(option->arg, "FILE") || strstr(option->arg, "PATH") ? "_files" : " ");
    fputs("'", out);
}

static void zsh(FILE *out)
{
    fputs("#compdef weir\n_weir_keys()\n{\n    local -a keys\n    keys=(\"${(@f)$(cat <<'KEYS'\n",
          out);
    weir_conf_keys(out);
    fputs("KEYS\n)}\")\n    compadd -a keys\n}\n_weir()\n{\n    local -a verbs\n    verbs=(", out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        fprintf(out, "\n        '%s:", verb->name);
        quoted(verb->text, out);
        fputs("'", out);
    }
    fputs("\n    )\n    if ((CURRENT == 2)); then\n        _describe verb verbs\n        return\n"
          "    fi\n    case $words[2] in\n",
          out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        fprintf(out, "        %s) _arguments", verb->name);
        for (const struct weir_cli_option *o = verb->options; o && o->name; o++)
            zsh_option(o, out);
        for (const struct weir_cli_option *o = weir_cli_globals; o->name; o++)
            zsh_option(o, out);
        if (verb->words) {
            fputs(" '2:what:(", out);
            put_words(verb, out);
            fputs(")'", out);
        }
        if (strcmp(verb->name, "config") == 0)
            fputs(" '3:key:_weir_keys'", out);
        fputs(";;\n", out);
    }
    fputs("    esac\n}\ncompdef _weir weir\n", out);
}

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
        fprintf(out, " -n '__fish_seen_subcommand_from %s'", verb);
    if (option->letter)
        fprintf(out, " -s %c", option->letter);
    fprintf(out, " -l %s%s -d '", option->name, option->arg ? " -r" : "");
    fish_text(option->text, out);
    fputs("'\n", out);
}

static void fish(FILE *out)
{
    fputs("# fish completion of weir\ncomplete -c weir -f\n", out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++) {
        fprintf(out, "complete -c weir -n __fish_use_subcommand -a %s -d '", verb->name);
        fish_text(verb->text, out);
        fputs("'\n", out);
        if (verb->words) {
            fprintf(out, "complete -c weir -n '__fish_seen_subcommand_from %s' -a '", verb->name);
            put_words(verb, out);
            fputs("'\n", out);
        }
        for (const struct weir_cli_option *o = verb->options; o && o->name; o++)
            fish_option(o, verb->name, out);
    }
    fputs("complete -c weir -n '__fish_seen_subcommand_from explain' -a '", out);
    weir_conf_keys(out);
    fputs("'\n", out);
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
