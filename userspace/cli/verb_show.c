/* SPDX-License-Identifier: Apache-2.0 */
/** verb_show.c: tables of the running daemon. A table is a row of `shows`: a path of the admin and
 * the columns that are made of its JSON. */
#include "cli/cells.h"
#include "cli/client.h"

#include <stdlib.h>

/* ---- one function a table ----------------------------------------------------------------- */

static void show_connections(const struct weir_cli *cli, const json_t *json)
{
    const json_t *list = json_object_get(json, "connections"), *one;
    struct weir_table table;
    size_t i;

    weir_table_init(&table, "ID# CLIENT LISTENER PROTOCOL TLS STATE ROUTE SERVER REQUESTS# IN# "
                            "OUT# AGE# IDLE#");
    json_array_foreach(list, i, one)
    {
        weir_cell_number(&table, one, "id");
        weir_cell_text(&table, one, "client");
        weir_cell_text(&table, one, "listener");
        weir_cell_text(&table, one, "protocol");
        weir_cell_text(&table, one, "tls");
        weir_cell_text(&table, one, "state");
        weir_cell_text(&table, one, "route");
        weir_cell_text(&table, one, "server");
        weir_cell_count(&table, one, "requests");
        weir_cell_bytes(&table, one, "bytes_in");
        weir_cell_bytes(&table, one, "bytes_out");
        weir_cell_ms(&table, one, "age_ms");
        weir_cell_ms(&table, one, "idle_ms");
    }
    weir_table_print(&table, cli->out);
    if (weir_json_number(json, "total") > json_array_size(list))
        fprintf(cli->out, "%zu of %llu; --limit N shows more\n", json_array_size(list),
                (unsigned long long)weir_json_number(json, "total"));
}

/* "copy: few" */
static void put_mover(struct weir_table *table, const json_t *way)
{
    const json_t *why = json_object_get(way, "why");
    bool copy = strcmp(weir_json_text(way, "mover"), "copy") == 0;

    weir_table_put(table, copy ? WEIR_PLAIN : WEIR_GOOD, "%s%s%s", weir_json_text(way, "mover"),
                   why ? ": " : "", why ? json_string_value(why) : "");
}

static void show_splice(const struct weir_cli *cli, const json_t *json)
{
    const json_t *list = json_object_get(json, "connections"), *one;
    struct weir_table table;
    size_t i;

    weir_table_init(&table, "ID# CLIENT LISTENER ROUTE SERVER WHAT IN OUT IN# OUT# AGE# IDLE#");
    json_array_foreach(list, i, one)
    {
        weir_cell_number(&table, one, "id");
        weir_cell_text(&table, one, "client");
        weir_cell_text(&table, one, "listener");
        weir_cell_text(&table, one, "route");
        weir_cell_text(&table, one, "server");
        weir_cell_text(&table, one, "what");
        put_mover(&table, json_object_get(one, "in"));
        put_mover(&table, json_object_get(one, "out"));
        weir_cell_bytes(&table, json_object_get(one, "in"), "bytes");
        weir_cell_bytes(&table, json_object_get(one, "out"), "bytes");
        weir_cell_ms(&table, one, "age_ms");
        weir_cell_ms(&table, one, "idle_ms");
    }
    weir_table_print(&table, cli->out);
}

static void show_upstreams(const struct weir_cli *cli, const json_t *json)
{
    const json_t *one, *server;
    struct weir_table table;
    size_t i, j;

    weir_table_init(&table, "UPSTREAM SERVER STATE WEIGHT# ADDRESSES# ACTIVE# IDLE# REQUESTS# "
                            "FAILED# LAST-FAULT");
    json_array_foreach(json, i, one)
    {
        json_array_foreach(json_object_get(one, "servers"), j, server)
        {
            const char *state = weir_json_text(server, "state");
            bool backup = json_is_true(json_object_get(server, "backup"));

            weir_table_put(&table, WEIR_BOLD, "%s", weir_json_text(one, "name"));
            weir_cell_text(&table, server, "name");
            weir_table_put(&table,
                           strcmp(state, "up") == 0     ? WEIR_GOOD
                           : strcmp(state, "down") == 0 ? WEIR_BAD
                                                        : WEIR_WARN,
                           "%s%s", state, backup ? ", backup" : "");
            weir_cell_number(&table, server, "weight");
            weir_cell_number(&table, server, "addresses");
            weir_cell_count(&table, server, "active");
            weir_cell_count(&table, server, "idle");
            weir_cell_count(&table, server, "requests");
            weir_cell_count(&table, server, "failed");
            weir_cell_text(&table, server, "last_fault");
        }
    }
    weir_table_print(&table, cli->out);
}

static void show_pools(const struct weir_cli *cli, const json_t *json)
{
    struct weir_table table;
    const json_t *one;
    size_t i;

    weir_table_init(&table, "UPSTREAM SERVER ACTIVE# IDLE# OPENED# REUSED#");
    json_array_foreach(json, i, one)
    {
        weir_cell_text(&table, one, "upstream");
        weir_cell_text(&table, one, "server");
        weir_cell_count(&table, one, "active");
        weir_cell_count(&table, one, "idle");
        weir_cell_count(&table, one, "opened");
        weir_cell_count(&table, one, "reused");
    }
    weir_table_print(&table, cli->out);
}

/* "path /v1/, method GET POST" */
static void put_match(struct weir_table *table, const json_t *match)
{
    char text[512] = "";
    size_t n = 0;
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)match, key, value)
    {
        char *dump;

        if (n + 8 > sizeof(text))
            break;
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? ", " : "", key);
        for (size_t i = 0; i < json_array_size(value) && n < sizeof(text); i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, " %s",
                                  json_string_value(json_array_get(value, i)));
        if (!json_is_object(value) || n >= sizeof(text))
            continue;
        dump = json_dumps(value, JSON_COMPACT);
        n += (size_t)snprintf(text + n, sizeof(text) - n, " %s", dump ? dump : "");
        free(dump);
    }
    weir_table_put(table, *text ? WEIR_PLAIN : WEIR_DIM, "%s", *text ? text : "everything");
}

static void show_routes(const struct weir_cli *cli, const json_t *json)
{
    struct weir_table table;
    const json_t *one;
    size_t i;

    weir_table_init(&table, "LISTENER ROUTE MATCH DOES FILTERS# REQUESTS#");
    json_array_foreach(json, i, one)
    {
        weir_cell_text(&table, one, "listener");
        weir_cell_text(&table, one, "name");
        put_match(&table, json_object_get(one, "match"));
        if (json_object_get(one, "reply"))
            weir_table_put(&table, WEIR_PLAIN, "reply %llu",
                           (unsigned long long)weir_json_number(one, "reply"));
        else if (json_object_get(one, "redirect"))
            weir_table_put(&table, WEIR_PLAIN, "redirect %s", weir_json_text(one, "redirect"));
        else
            weir_table_put(&table, WEIR_PLAIN, "to %s", weir_json_text(one, "to"));
        weir_cell_number(&table, one, "filters");
        weir_cell_count(&table, one, "requests");
    }
    weir_table_print(&table, cli->out);
}

static void show_certs(const struct weir_cli *cli, const json_t *json)
{
    struct weir_table table;
    const json_t *one;
    size_t i;

    weir_table_init(&table, "LISTENER FILE NAMES DAYS-LEFT#");
    json_array_foreach(json, i, one)
    {
        json_int_t days = json_integer_value(json_object_get(one, "days_left"));

        weir_cell_text(&table, one, "listener");
        weir_cell_text(&table, one, "file");
        weir_cell_text(&table, one, "names");
        weir_table_put(&table,
                       days < 0    ? WEIR_BAD
                       : days < 21 ? WEIR_WARN
                                   : WEIR_GOOD,
                       "%lld", (long long)days);
    }
    weir_table_print(&table, cli->out);
}

static void show_bans(const struct weir_cli *cli, const json_t *json)
{
    struct weir_table table;
    const json_t *one;
    size_t i;

    weir_table_init(&table, "PREFIX LEFT HITS# WHY");
    json_array_foreach(json, i, one)
    {
        weir_cell_text(&table, one, "prefix");
        if (weir_json_number(one, "left_ms"))
            weir_cell_ms(&table, one, "left_ms");
        else
            weir_table_put(&table, WEIR_PLAIN, "for ever");
        weir_cell_count(&table, one, "hits");
        weir_cell_text(&table, one, "why");
    }
    weir_table_print(&table, cli->out);
}

static void put_value(struct weir_table *table, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    if (json_is_string(value))
        weir_table_put(table, WEIR_PLAIN, "%s", json_string_value(value));
    else
        weir_table_put(table, WEIR_PLAIN, "%s", json_is_null(value) ? "-" : text ? text : "?");
    free(text);
}

static void show_config(const struct weir_cli *cli, const json_t *json)
{
    struct weir_table table;
    const json_t *one;
    size_t i;

    if (!json_is_array(json)) {
        fputs(weir_json_text(json, "effective"), cli->out);
        return;
    }
    weir_table_init(&table, "WHAT FILE NOW");
    json_array_foreach(json, i, one)
    {
        weir_cell_text(&table, one, "what");
        put_value(&table, json_object_get(one, "file"));
        put_value(&table, json_object_get(one, "now"));
    }
    weir_table_print(&table, cli->out);
}

static const struct {
    const char *name;
    void (*print)(const struct weir_cli *cli, const json_t *json);
} shows[] = {
    { "connections", show_connections }, { "upstreams", show_upstreams }, { "pools", show_pools },
    { "routes", show_routes },           { "certs", show_certs },         { "bans", show_bans },
    { "config", show_config },           { "splice", show_splice },
};

int weir_cli_show(struct weir_cli *cli, const char *name)
{
    const char *limit = weir_cli_value(cli, "limit");
    bool diff = weir_cli_value(cli, "diff") != NULL; /* NULL for a verb without it */
    char target[64], number[32];
    json_t *json;
    int status;

    if (diff && strcmp(name, "config") != 0)
        return weir_cli_misuse(cli, "--diff is for `show config`");
    if (limit && (strlen(limit) > 9 || strspn(limit, "0123456789") != strlen(limit)))
        return weir_cli_misuse(cli, "--limit takes a number");
    snprintf(number, sizeof(number), "?limit=%s", limit ? limit : "1000");
    snprintf(target, sizeof(target), "/v1/%s%s", name,
             diff                                                              ? "?diff"
             : strcmp(name, "connections") == 0 || strcmp(name, "splice") == 0 ? number
                                                                               : "");
    status = weir_admin_json(cli, "GET", target, NULL, 0, &json);
    if (status)
        return status;
    if (cli->json) {
        json_dumpf(json, cli->out, JSON_INDENT(2) | JSON_ENCODE_ANY);
        fputc('\n', cli->out);
    }
    for (size_t i = 0; !cli->json && i < sizeof(shows) / sizeof(shows[0]); i++) {
        if (strcmp(shows[i].name, name) == 0)
            shows[i].print(cli, json);
    }
    json_decref(json);
    return WEIR_EXIT_DONE;
}

int weir_verb_show(struct weir_cli *cli)
{
    return weir_cli_show(cli, cli->args[0]);
}
