/* SPDX-License-Identifier: Apache-2.0 */
/** verb_ban.c: bans. */
#include "cli/client.h"

#include "base/str.h"

#include <stdlib.h>

/* "30s", "10m", "2h", "7d", "1500ms". False when it is none of them. */
static bool read_time(const char *text, uint64_t *ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    size_t digits = strspn(text, "0123456789");
    uint64_t n;

    if (digits == 0 || digits > 9 || !weir_str_to_u64((struct weir_str){ text, digits }, &n))
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(text + digits, units[i].unit) == 0) {
            *ms = n * units[i].ms;
            return n > 0;
        }
    }
    return false;
}

/* Whoever sits at an SSH session does not ban themself. */
static void put_asker(json_t *body)
{
    const char *client = getenv("SSH_CLIENT");
    size_t len = client ? strcspn(client, " ") : 0;

    if (len > 0)
        json_object_set_new(body, "asker", json_stringn(client, len));
}

static int ban_add(struct weir_cli *cli)
{
    const char *text = weir_cli_value(cli, "for"), *why = weir_cli_value(cli, "why");
    uint64_t ms = 0;
    json_t *body, *answer;
    int status;

    if (text && !read_time(text, &ms))
        return weir_cli_misuse(cli, "--for: '%s' is not a time; write 30s, 10m, 2h or 7d", text);
    body = json_pack("{s:s,s:I}", "prefix", cli->args[1], "for_ms", (json_int_t)ms);
    if (!body)
        return weir_cli_misuse(cli, "'%s' is not a prefix", cli->args[1]);
    if (why)
        json_object_set_new(body, "why", json_string(why));
    put_asker(body);
    status = weir_admin_json(cli, "POST", "/v1/bans", body, 0, &answer);
    return weir_admin_done(cli, status, answer);
}

static int ban_del(struct weir_cli *cli)
{
    char prefix[512], target[600];
    json_t *answer;
    int status;

    if (!weir_admin_encode(cli->args[1], prefix, sizeof(prefix)))
        return weir_cli_misuse(cli, "'%s' is not a prefix", cli->args[1]);
    snprintf(target, sizeof(target), "/v1/bans?prefix=%s", prefix);
    status = weir_admin_json(cli, "DELETE", target, NULL, 0, &answer);
    return weir_admin_done(cli, status, answer);
}

int weir_verb_ban(struct weir_cli *cli)
{
    if (strcmp(cli->args[0], "list") == 0)
        return weir_cli_show(cli, "bans");
    if (cli->args_count != 2)
        return weir_cli_misuse(cli, "say which prefix");
    return cli->args[0][0] == 'a' ? ban_add(cli) : ban_del(cli);
}
