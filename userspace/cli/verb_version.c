/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "weir/weir.h"

int weir_verb_version(struct weir_cli *cli)
{
    fprintf(cli->out, cli->json ? "{\"version\":\"%s\"}\n" : "weir %s\n", weir_version());
    return WEIR_EXIT_DONE;
}
