/* SPDX-License-Identifier: Apache-2.0 */
/** verb_reload.c: asks the daemon to read its configuration anew, and tells how it went. */
#include "cli/client.h"

#include <stdlib.h>

enum { RELOAD_WAIT_MS = 120 * 1000 };

static bool put_names(const struct weir_cli *cli, const json_t *answer, const char *key, bool any)
{
    static const char *const words[] = { "added", "removed", "changed" };
    const json_t *changes = json_object_get(answer, key);

    for (int i = 0; i < 3; i++) {
        const json_t *names = json_object_get(changes, words[i]), *name;
        size_t at;

        json_array_foreach(names, at, name)
        {
            fprintf(cli->out, "%s%s %s %s", any ? ", " : ": ", key, json_string_value(name),
                    words[i]);
            any = true;
        }
    }
    return any;
}

static void put_done(const struct weir_cli *cli, const json_t *answer)
{
    const json_t *section;
    size_t at;
    bool any;

    fprintf(cli->out, "reloaded in %lld ms",
            (long long)json_integer_value(json_object_get(answer, "took_ms")));
    any = put_names(cli, answer, "listeners", false);
    any = put_names(cli, answer, "upstreams", any);
    json_array_foreach(json_object_get(answer, "sections"), at, section)
    {
        fprintf(cli->out, "%s%s changed", any ? ", " : ": ", json_string_value(section));
        any = true;
    }
    fputs(any ? "\n" : "; the file says the same, what it names was read again\n", cli->out);
}

/* What is wrong, as `weir check` would say it; then what became of it. */
static void put_refused(const struct weir_cli *cli, const json_t *answer)
{
    const char *why = json_string_value(json_object_get(answer, "error"));

    fprintf(cli->err, "weir: not reloaded: %s; the configuration that runs goes on\n",
            why ? why : "the daemon refused");
}

int weir_verb_reload(struct weir_cli *cli)
{
    struct weir_admin_answer answer;
    int status = weir_admin_ask(cli, "POST", "/v1/reload", NULL, RELOAD_WAIT_MS, &answer);
    const char *text;
    json_t *json;

    if (status)
        return status;
    json = json_loadb(answer.body ? answer.body : "", answer.len, 0, NULL);
    free(answer.body);
    if (!json) {
        fputs("weir: the daemon's answer is not JSON\n", cli->err);
        return WEIR_EXIT_FAILED;
    }
    text = json_string_value(json_object_get(json, "text"));
    if (cli->json) {
        json_dumpf(json, cli->out, JSON_COMPACT);
        fputc('\n', cli->out);
    } else {
        fputs(text ? text : "", cli->err);
        if (answer.status == 200)
            put_done(cli, json);
        else
            put_refused(cli, json);
    }
    json_decref(json);
    return answer.status == 200   ? WEIR_EXIT_DONE
           : answer.status == 422 ? WEIR_EXIT_USAGE
                                  : WEIR_EXIT_FAILED;
}
