/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int weir_verb_check(struct weir_cli *cli)
{
    struct weir_conf *conf;
    int status;

    if (cli->args_count == 1 && cli->conf)
        return weir_cli_misuse(cli, "'%s' is one word too many: -c names the file", cli->args[0]);
    if (cli->args_count == 1) /* `weir check FILE` is what one types */
        cli->conf = cli->args[0];
    conf = weir_cli_load(cli, NULL, &status);
    if (!conf)
        return status;
    if (weir_cli_value(cli, "effective"))
        weir_conf_print_effective(conf, cli->out);
    else if (cli->json)
        fputs("[]\n", cli->out);
    else
        fprintf(cli->out, "%.*s is good\n", WEIR_FMT(conf->path));
    weir_conf_free(conf);
    return status;
}
