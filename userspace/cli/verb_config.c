/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <string.h>

int weir_verb_config(struct weir_cli *cli)
{
    bool schema = strcmp(cli->args[0], "schema") == 0;
    struct weir_conf_opts opts = { .size = sizeof(opts), .plugins_only = true };
    struct weir_conf *conf = NULL;
    int status = WEIR_EXIT_DONE, err;

    if (schema && cli->args_count > 1)
        return weir_cli_misuse(cli, "'schema' takes no key");
    if (cli->conf) /* its plug-ins bring filters; what else it says may be what one asks about */
        conf = weir_cli_load(cli, &opts, &status);
    if (cli->conf && !conf)
        return status;
    err = schema ? weir_conf_schema(conf, cli->out)
                 : weir_conf_explain(cli->args_count > 1 ? cli->args[1] : NULL, conf, cli->out);
    weir_conf_free(conf);
    return !err ? WEIR_EXIT_DONE : schema ? WEIR_EXIT_FAILED : WEIR_EXIT_USAGE;
}
