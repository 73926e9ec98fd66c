/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <string.h>

int weir_verb_config(struct weir_cli *cli)
{
    bool schema = strcmp(cli->args[0], "schema") == 0;

    if (schema && cli->args_count > 1)
        return weir_cli_misuse(cli, "'schema' takes no key");
    if (schema)
        return weir_conf_schema(cli->out) == 0 ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
    return weir_conf_explain(cli->args_count > 1 ? cli->args[1] : NULL, cli->out) == 0
               ? WEIR_EXIT_DONE
               : WEIR_EXIT_USAGE;
}
