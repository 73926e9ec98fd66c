/* SPDX-License-Identifier: Apache-2.0 */
/** verb_status.c: one screen of the running daemon. */
#include "cli/cells.h"
#include "cli/client.h"

static void print_head(const json_t *json, FILE *out)
{
    const char *state = weir_json_text(json, "state");
    bool ready = strcmp(state, "ready") == 0;
    uint64_t workers = weir_json_number(json, "workers");
    char up[32];

    fprintf(out, "%sweir %s%s  %s%s%s  instance %s, pid %llu, up %s, %llu worker%s, log level %s\n",
            weir_colour(out, WEIR_BOLD), weir_json_text(json, "version"), weir_colour_end(out),
            weir_colour(out, ready ? WEIR_GOOD : WEIR_WARN), state, weir_colour_end(out),
            weir_json_text(json, "instance"), (unsigned long long)weir_json_number(json, "pid"),
            weir_human_ms(up, weir_json_number(json, "uptime_ms")), (unsigned long long)workers,
            workers == 1 ? "" : "s", weir_json_text(json, "log_level"));
    fprintf(out, "configuration %s\n", weir_json_text(json, "config"));
}

static void print_load(const json_t *json, FILE *out)
{
    json_int_t max = json_integer_value(json_object_get(json, "connections_max"));
    bool over = json_is_true(json_object_get(json, "memory_over"));
    char a[32], b[32], c[32];

    fprintf(out, "connections   %s", weir_human_count(a, weir_json_number(json, "connections")));
    if (max >= 0)
        fprintf(out, " of at most %lld", (long long)max);
    fprintf(out, ", %s accepted, %s refused\n",
            weir_human_count(a, weir_json_number(json, "accepted")),
            weir_human_count(b, weir_json_number(json, "refused")));
    fprintf(out, "requests      %s in flight, %s in all\n",
            weir_human_count(a, weir_json_number(json, "in_flight")),
            weir_human_count(b, weir_json_number(json, "requests")));
    fprintf(out, "memory        %s", weir_human_bytes(a, weir_json_number(json, "memory_bytes")));
    if (weir_json_number(json, "memory_limit_bytes"))
        fprintf(
            out, " of %s%s%s%s", weir_human_bytes(c, weir_json_number(json, "memory_limit_bytes")),
            weir_colour(out, over ? WEIR_BAD : WEIR_PLAIN),
            over ? ": over the limit, new work is refused" : "", over ? weir_colour_end(out) : "");
    fputs("\n\n", out);
}

static void print_listeners(const json_t *list, FILE *out)
{
    struct weir_table table;
    const json_t *one;
    size_t i;
    char n[32];

    weir_table_init(&table, "LISTENER ADDRESS PROTOCOL CONNS# IN-FLIGHT# REQUESTS# REFUSED#");
    json_array_foreach(list, i, one)
    {
        const json_t *bind = json_object_get(one, "bind");
        const char *first = json_string_value(json_array_get(bind, 0));
        size_t more = json_array_size(bind);
        uint64_t refused = weir_json_number(one, "refused");

        weir_table_put(&table, WEIR_BOLD, "%s", weir_json_text(one, "name"));
        if (more > 1)
            weir_table_put(&table, WEIR_PLAIN, "%s +%zu", first ? first : "", more - 1);
        else
            weir_table_put(&table, WEIR_PLAIN, "%s", first ? first : "");
        weir_table_put(&table, WEIR_PLAIN, "%s", weir_json_text(one, "protocol"));
        weir_cell_count(&table, one, "connections");
        weir_cell_count(&table, one, "in_flight");
        weir_cell_count(&table, one, "requests");
        weir_table_put(&table, refused ? WEIR_WARN : WEIR_PLAIN, "%s",
                       weir_human_count(n, refused));
    }
    weir_table_print(&table, out);
}

static void print_upstreams(const json_t *list, FILE *out)
{
    struct weir_table table;
    const json_t *one;
    size_t i;

    weir_table_init(&table, "UPSTREAM SERVERS ACTIVE# IDLE# REQUESTS#");
    json_array_foreach(list, i, one)
    {
        uint64_t servers = weir_json_number(one, "servers"), up = weir_json_number(one, "up");

        weir_table_put(&table, WEIR_BOLD, "%s", weir_json_text(one, "name"));
        weir_table_put(&table,
                       up == servers ? WEIR_GOOD
                       : up          ? WEIR_WARN
                                     : WEIR_BAD,
                       "%llu of %llu up", (unsigned long long)up, (unsigned long long)servers);
        weir_cell_count(&table, one, "active");
        weir_cell_count(&table, one, "idle");
        weir_cell_count(&table, one, "requests");
    }
    weir_table_print(&table, out);
}

int weir_verb_status(struct weir_cli *cli)
{
    json_t *json;
    int status = weir_admin_json(cli, "GET", "/v1/status", NULL, 0, &json);

    if (status)
        return status;
    if (cli->json) {
        json_dumpf(json, cli->out, JSON_INDENT(2));
        fputc('\n', cli->out);
    } else {
        print_head(json, cli->out);
        print_load(json, cli->out);
        print_listeners(json_object_get(json, "listeners"), cli->out);
        fputc('\n', cli->out);
        print_upstreams(json_object_get(json, "upstreams"), cli->out);
    }
    json_decref(json);
    return WEIR_EXIT_DONE;
}
