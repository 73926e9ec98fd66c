/* SPDX-License-Identifier: Apache-2.0 */
/** verb_status.c: one screen of the running daemon. */
#include "cli/client.h"
#include "cli/table.h"

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));

    return text ? text : "";
}

static uint64_t number_of(const json_t *json, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(json, key));

    return n < 0 ? 0 : (uint64_t)n;
}

static void print_head(const json_t *json, FILE *out)
{
    const char *state = text_of(json, "state");
    bool ready = strcmp(state, "ready") == 0;
    uint64_t workers = number_of(json, "workers");
    char up[32];

    fprintf(out, "%sweir %s%s  %s%s%s  instance %s, pid %llu, up %s, %llu worker%s, log level %s\n",
            weir_colour(out, WEIR_BOLD), text_of(json, "version"), weir_colour_end(out),
            weir_colour(out, ready ? WEIR_GOOD : WEIR_WARN), state, weir_colour_end(out),
            text_of(json, "instance"), (unsigned long long)number_of(json, "pid"),
            weir_human_ms(up, number_of(json, "uptime_ms")), (unsigned long long)workers,
            workers == 1 ? "" : "s", text_of(json, "log_level"));
    fprintf(out, "configuration %s\n", text_of(json, "config"));
}

static void print_load(const json_t *json, FILE *out)
{
    json_int_t max = json_integer_value(json_object_get(json, "connections_max"));
    bool over = json_is_true(json_object_get(json, "memory_over"));
    char a[32], b[32], c[32];

    fprintf(out, "connections   %s", weir_human_count(a, number_of(json, "connections")));
    if (max >= 0)
        fprintf(out, " of at most %lld", (long long)max);
    fprintf(out, ", %s accepted, %s refused\n", weir_human_count(a, number_of(json, "accepted")),
            weir_human_count(b, number_of(json, "refused")));
    fprintf(out, "requests      %s in flight, %s in all\n",
            weir_human_count(a, number_of(json, "in_flight")),
            weir_human_count(b, number_of(json, "requests")));
    fprintf(out, "memory        %s", weir_human_bytes(a, number_of(json, "memory_bytes")));
    if (number_of(json, "memory_limit_bytes"))
        fprintf(out, " of %s%s%s%s", weir_human_bytes(c, number_of(json, "memory_limit_bytes")),
                weir_colour(out, over ? WEIR_BAD : WEIR_PLAIN),
                over ? ": over the limit, new work is refused" : "",
                over ? weir_colour_end(out) : "");
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
        uint64_t refused = number_of(one, "refused");

        weir_table_put(&table, WEIR_BOLD, "%s", text_of(one, "name"));
        if (more > 1)
            weir_table_put(&table, WEIR_PLAIN, "%s +%zu", first ? first : "", more - 1);
        else
            weir_table_put(&table, WEIR_PLAIN, "%s", first ? first : "");
        weir_table_put(&table, WEIR_PLAIN,
                       json_is_true(json_object_get(one, "tls")) ? "https" : "http");
        weir_table_put(&table, WEIR_PLAIN, "%s",
                       weir_human_count(n, number_of(one, "connections")));
        weir_table_put(&table, WEIR_PLAIN, "%s", weir_human_count(n, number_of(one, "in_flight")));
        weir_table_put(&table, WEIR_PLAIN, "%s", weir_human_count(n, number_of(one, "requests")));
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
    char n[32];

    weir_table_init(&table, "UPSTREAM SERVERS ACTIVE# IDLE# REQUESTS#");
    json_array_foreach(list, i, one)
    {
        uint64_t servers = number_of(one, "servers"), up = number_of(one, "up");

        weir_table_put(&table, WEIR_BOLD, "%s", text_of(one, "name"));
        weir_table_put(&table,
                       up == servers ? WEIR_GOOD
                       : up          ? WEIR_WARN
                                     : WEIR_BAD,
                       "%llu of %llu up", (unsigned long long)up, (unsigned long long)servers);
        weir_table_put(&table, WEIR_PLAIN, "%s", weir_human_count(n, number_of(one, "active")));
        weir_table_put(&table, WEIR_PLAIN, "%s", weir_human_count(n, number_of(one, "idle")));
        weir_table_put(&table, WEIR_PLAIN, "%s", weir_human_count(n, number_of(one, "requests")));
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
