/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/table.h"

enum { DRAIN_WAIT_MS = 24 * 3600 * 1000 }; /* the daemon's own limits end it much earlier */

int weir_verb_drain(struct weir_cli *cli)
{
    json_t *answer;
    int status = weir_admin_json(cli, "POST", "/v1/drain", NULL, DRAIN_WAIT_MS, &answer);
    bool clean;
    char took[32];

    if (status)
        return status;
    clean = json_is_true(json_object_get(answer, "drained"));
    weir_human_ms(took, (uint64_t)json_integer_value(json_object_get(answer, "took_ms")));
    if (cli->json) {
        json_dumpf(answer, cli->out, JSON_COMPACT);
        fputc('\n', cli->out);
    } else if (clean) {
        fprintf(cli->out, "drained in %s; the daemon ends\n", took);
    } else {
        fprintf(cli->out,
                "not all connections ended within %s; they were closed, the daemon ends\n", took);
    }
    json_decref(answer);
    return clean ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}
