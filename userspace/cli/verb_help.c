/* SPDX-License-Identifier: Apache-2.0 */
/** verb_help.c: help, of all and of one verb, and the manual page; made of the table. */
#include "cli/cli.h"
#include "daemon/conf.h"

#include "weir/weir.h"

#include <stdlib.h>

static void print_option(const struct weir_cli_option *option, FILE *out)
{
    char left[64];
    char letter[5] = "    ";

    if (option->letter)
        snprintf(letter, sizeof(letter), "-%c, ", option->letter);
    snprintf(left, sizeof(left), "%s--%s%s%s", letter, option->name, option->arg ? " " : "",
             option->arg ? option->arg : "");
    fprintf(out, "  %-26s %s\n", left, option->text);
}

static void print_options(const struct weir_cli_option *options, FILE *out)
{
    for (; options && options->name; options++)
        print_option(options, out);
}

void weir_cli_help_verb(const struct weir_cli_verb *verb, FILE *out)
{
    fprintf(out, "weir %s: %s\n\nusage: weir %s%s%s\n", verb->name, verb->text, verb->name,
            verb->usage[0] ? " " : "", verb->usage);
    if (verb->more)
        fprintf(out, "\n%s\n", verb->more);
    fputs("\noptions:\n", out);
    print_options(verb->options, out);
    print_options(weir_cli_globals, out);
}

void weir_cli_help(FILE *out)
{
    fputs("weir: an HTTP proxy\n\nusage: weir VERB [ARGUMENTS]\n\n", out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++)
        fprintf(out, "  %-12s %s\n", verb->name, verb->text);
    fputs("\noptions of every verb:\n", out);
    print_options(weir_cli_globals, out);
    fputs("\n`weir help VERB` tells more. Exit status: 0 done; 1 failed while running; 2 wrong "
          "usage or\nconfiguration; 3 this host lacks something that was required.\n",
          out);
}

/* ---- roff --------------------------------------------------------------------------------- */

static void roff_text(const char *text, FILE *out)
{
    bool start = true;

    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        if (*text == '\\') {
            fputs("\\e", out);
        } else {
            if (*text == '-')
                fputc('\\', out);
            fputc(*text, out);
        }
        start = *text == '\n';
    }
}

static void roff_options(const struct weir_cli_option *options, FILE *out)
{
    for (; options && options->name; options++) {
        fputs(".TP\n", out);
        if (options->letter)
            fprintf(out, "\\fB\\-%c\\fR, ", options->letter);
        fputs("\\fB\\-\\-", out);
        roff_text(options->name, out);
        fprintf(out, "\\fR %s%s%s\n", options->arg ? "\\fI" : "", options->arg ? options->arg : "",
                options->arg ? "\\fR" : "");
        roff_text(options->text, out);
        fputc('\n', out);
    }
}

static void roff_verb(const struct weir_cli_verb *verb, FILE *out)
{
    fprintf(out, ".SS weir %s ", verb->name);
    roff_text(verb->usage, out);
    fputc('\n', out);
    roff_text(verb->text, out);
    fputs(".\n", out);
    if (verb->more) {
        fputs(".PP\n.nf\n", out);
        roff_text(verb->more, out);
        fputs("\n.fi\n", out);
    }
    roff_options(verb->options, out);
}

/* The rows of the configuration, as `weir config explain` tells them. */
static void roff_keys(FILE *out)
{
    char *text = NULL;
    size_t len = 0;
    FILE *keys = open_memstream(&text, &len);

    if (!keys)
        return;
    fputs(".SH CONFIGURATION\n.nf\n", out);
    if (weir_conf_explain(NULL, NULL, keys) == 0 && fflush(keys) == 0)
        roff_text(text, out);
    fputs("\n.fi\n", out);
    fclose(keys);
    free(text);
}

static void print_man(FILE *out)
{
    fprintf(out, ".TH WEIR 1 \"\" \"weir %s\" \"User Commands\"\n", weir_version());
    fputs(".SH NAME\nweir \\- an HTTP proxy\n.SH SYNOPSIS\n.B weir\n\\fIVERB\\fR "
          "[\\fIARGUMENTS\\fR]\n.SH OPTIONS\nOf every verb:\n",
          out);
    roff_options(weir_cli_globals, out);
    fputs(".SH VERBS\n", out);
    for (const struct weir_cli_verb *verb = weir_cli_verbs; verb->name; verb++)
        roff_verb(verb, out);
    roff_keys(out);
    fputs(".SH EXIT STATUS\n0 done; 1 failed while running; 2 wrong usage or configuration; 3 "
          "this host lacks something that was required.\n.SH FILES\n.TP\n"
          "/etc/weir/weir.yaml\nthe configuration; `weir config explain` tells its keys\n.TP\n"
          "/run/weir/INSTANCE/admin.sock\nthe admin socket: HTTP/1.1 and JSON; of others than root "
          "$XDG_RUNTIME_DIR/weir/INSTANCE/admin.sock, or, without a folder there, "
          "/tmp/weir-UID/INSTANCE/admin.sock\n",
          out);
}

int weir_verb_help(struct weir_cli *cli)
{
    const struct weir_cli_verb *verb;

    if (weir_cli_value(cli, "man")) {
        print_man(cli->out);
        return WEIR_EXIT_DONE;
    }
    if (cli->args_count == 0) {
        weir_cli_help(cli->out);
        return WEIR_EXIT_DONE;
    }
    verb = weir_cli_find(cli->args[0]);
    if (!verb) {
        fprintf(cli->err, "weir: there is no verb '%s'; `weir help` lists them\n", cli->args[0]);
        return WEIR_EXIT_USAGE;
    }
    weir_cli_help_verb(verb, cli->out);
    return WEIR_EXIT_DONE;
}
