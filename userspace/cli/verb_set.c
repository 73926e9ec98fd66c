/* SPDX-License-Identifier: Apache-2.0 */
/** verb_set.c: run-time changes. */
#include "cli/client.h"

#include "base/str.h"

static int send_change(const struct weir_cli *cli, const char *target, json_t *body)
{
    json_t *answer;
    int status = weir_admin_json(cli, "PUT", target, body, 0, &answer);

    return weir_admin_done(cli, status, answer);
}

/* upstream NAME/SERVER weight N | drain | ready; a name has no slash, a server may. */
static int set_upstream(const struct weir_cli *cli)
{
    const char *slash = cli->args_count > 2 ? strchr(cli->args[1], '/') : NULL;
    char name[256], up[800], server[800], target[1700];
    uint64_t weight;
    json_t *body = NULL;

    if (!slash || (size_t)(slash - cli->args[1]) >= sizeof(name))
        return weir_cli_misuse(cli, "say: set upstream NAME/SERVER weight N, drain or ready");
    snprintf(name, sizeof(name), "%.*s", (int)(slash - cli->args[1]), cli->args[1]);
    if (!weir_admin_encode(name, up, sizeof(up)) ||
        !weir_admin_encode(slash + 1, server, sizeof(server)))
        return weir_cli_misuse(cli, "'%s' is not NAME/SERVER", cli->args[1]);
    snprintf(target, sizeof(target), "/v1/upstreams/%s/servers/%s", up, server);
    if (strcmp(cli->args[2], "weight") == 0) {
        if (cli->args_count != 4 || !weir_str_to_u64(weir_str(cli->args[3]), &weight) ||
            weight > 1000)
            return weir_cli_misuse(cli, "weight takes a number from 0 to 1000");
        body = json_pack("{s:i}", "weight", (int)weight);
    } else if (cli->args_count == 3 &&
               (strcmp(cli->args[2], "drain") == 0 || strcmp(cli->args[2], "ready") == 0)) {
        body = json_pack("{s:s}", "state", cli->args[2]);
    } else {
        return weir_cli_misuse(cli, "'%s' is not weight N, drain or ready", cli->args[2]);
    }
    return send_change(cli, target, body);
}

static int set_splice(const struct weir_cli *cli)
{
    static const char *const words[] = { "auto", "off", "copy", "pipe", "sockmap", NULL };
    const char *near;

    if (cli->args_count != 2)
        return weir_cli_misuse(cli, "say: set kernel.splice auto, off, copy, pipe or sockmap");
    for (unsigned i = 0; words[i]; i++)
        if (strcmp(words[i], cli->args[1]) == 0)
            return send_change(cli, "/v1/splice", json_pack("{s:s}", "splice", words[i]));
    near = weir_cli_nearest(cli->args[1], words);
    return weir_cli_misuse(cli, "'%s' is not auto, off, copy, pipe or sockmap%s%s%s", cli->args[1],
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

int weir_verb_set(struct weir_cli *cli)
{
    static const char *const levels[] = { "error", "warn", "info", "debug", "trace", NULL };
    const char *near;

    if (strcmp(cli->args[0], "upstream") == 0)
        return set_upstream(cli);
    if (strcmp(cli->args[0], "kernel.splice") == 0)
        return set_splice(cli);
    if (cli->args_count != 2)
        return weir_cli_misuse(cli, "say: set log-level LEVEL");
    for (unsigned i = 0; levels[i]; i++) {
        if (strcmp(levels[i], cli->args[1]) == 0)
            return send_change(cli, "/v1/log-level", json_pack("{s:s}", "level", levels[i]));
    }
    near = weir_cli_nearest(cli->args[1], levels);
    return weir_cli_misuse(cli, "'%s' is not error, warn, info, debug or trace%s%s%s", cli->args[1],
                           near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}
