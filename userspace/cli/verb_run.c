/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

int weir_verb_run(struct weir_cli *cli)
{
    int status;
    struct weir_conf *conf = weir_cli_load(cli, NULL, &status);
    struct weir_daemon_opts opts = { .conf = conf };

    if (!conf)
        return status;
    status = weir_daemon_run(&opts);
    weir_conf_free(conf);
    return status;
}
