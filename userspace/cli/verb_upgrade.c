/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

enum { UPGRADE_WAIT_MS = 24 * 3600 * 1000 }; /* the keeper's own limits end it much earlier */

int weir_verb_upgrade(struct weir_cli *cli)
{
    json_t *answer;
    int status = weir_admin_json(cli, "POST", "/v1/upgrade", NULL, UPGRADE_WAIT_MS, &answer);

    if (status)
        return status;
    if (cli->json) {
        json_dumpf(answer, cli->out, JSON_COMPACT);
        fputc('\n', cli->out);
    } else {
        fprintf(cli->out, "%s\n", json_string_value(json_object_get(answer, "text")));
    }
    json_decref(answer);
    return WEIR_EXIT_DONE;
}
