/* SPDX-License-Identifier: Apache-2.0 */
/** verb_proxy.c: `run` without a file: the options become YAML, and that is run. What
 * --print-config prints is what runs. */
#include "cli/cli.h"

#include "base/str.h"
#include "net/addr.h"

#include <stdlib.h>
#include <string.h>

struct yaml {
    FILE *out;
    char *text;
    size_t len;
};

/* A double-quoted YAML scalar; `$` is doubled, since the reader expands variables. */
static void put_quoted(FILE *out, struct weir_str text)
{
    fputc('"', out);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '$')
            fputs("$$", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

/* Relative to where we are, as the reader takes paths relative to the file. */
static void put_path(FILE *out, const char *path)
{
    char *whole = realpath(path, NULL);

    put_quoted(out, weir_str(whole ? whole : path));
    free(whole);
}

struct target {
    struct weir_str host, address; /* address: with the port */
    char text[300];
    bool tls, name;
};

/* Takes "scheme://" away; false: it does not begin with it. */
static bool scheme_is(struct weir_str *text, const char *scheme)
{
    if (!weir_str_starts(*text, weir_str(scheme)))
        return false;
    text->ptr += strlen(scheme);
    text->len -= strlen(scheme);
    return true;
}

/* "[scheme://]host[:port][/]"; of `tcp` no port is the usual one. */
static bool target_read(struct target *target, struct weir_str text, bool tcp)
{
    bool tls = scheme_is(&text, tcp ? "tls://" : "https://");
    uint16_t port;
    struct weir_addr addr;

    *target = (struct target){ .tls = tls };
    if (tls || scheme_is(&text, tcp ? "tcp://" : "http://")) {
        if (text.len > 0 && text.ptr[text.len - 1] == '/')
            text.len--;
    }
    if (text.len == 0 || text.len > 255)
        return false;
    if (weir_str_starts(text, WEIR_STR("unix:"))) {
        target->address = text;
        return true;
    }
    if (!weir_addr_split(text, &target->host, &port)) { /* no port: that of the scheme */
        if (tcp)
            return false;
        snprintf(target->text, sizeof(target->text), "%.*s:%s", WEIR_FMT(text),
                 target->tls ? "443" : "80");
        text = weir_str(target->text);
        if (!weir_addr_split(text, &target->host, &port))
            return false;
    }
    target->address = text;
    target->name = weir_addr_parse(&addr, text) != 0;
    return true;
}

static int put_servers(const struct weir_cli *cli, FILE *out, const char *list)
{
    struct weir_str rest = weir_str(list), element;
    bool first = true, tls = false, names = false, tcp = weir_cli_value(cli, "tcp");
    struct target target;

    if (rest.len && (rest.ptr[0] == ',' || rest.ptr[rest.len - 1] == ',' || strstr(list, ",,")))
        return weir_cli_misuse(cli, "--to: there is no server between two commas");
    fputs("upstreams:\n  app:\n    servers: [", out);
    while (weir_str_next_element(&rest, &element)) {
        if (!target_read(&target, element, tcp))
            return weir_cli_misuse(cli, "--to: '%.*s' is not HOST:PORT", WEIR_FMT(element));
        if (!first && tls != target.tls)
            return weir_cli_misuse(cli, "--to: either all servers speak TLS or none");
        tls = target.tls;
        names |= target.name;
        fputs(first ? " " : ", ", out);
        if (target.name)
            fputs("{ address: ", out);
        put_quoted(out, target.address);
        if (target.name)
            fputs(", resolve: on }", out);
        first = false;
    }
    if (first)
        return weir_cli_misuse(cli, "--to names no server");
    fputs(" ]\n", out);
    if (tls)
        fputs("    tls: on\n", out);
    if (names) /* the names were typed by the one who runs it: localhost is meant */
        fputs("dns: { allow_local: on }\n", out);
    return 0;
}

static int put_config(const struct weir_cli *cli, FILE *out)
{
    const char *listen = weir_cli_value(cli, "listen"), *to = weir_cli_value(cli, "to");
    const char *cert = weir_cli_value(cli, "tls-cert"), *key = weir_cli_value(cli, "tls-key");
    const char *workers = weir_cli_value(cli, "workers");
    uint64_t n;

    if (!listen || !to)
        return weir_cli_misuse(cli, "say --listen and --to");
    if (cli->socket && !cli->instance)
        return weir_cli_misuse(cli, "--socket needs -i: there is no admin without an instance");
    if (key && !cert)
        return weir_cli_misuse(cli, "--tls-key needs --tls-cert");
    if (workers && !weir_str_to_u64(weir_str(workers), &n))
        return weir_cli_misuse(cli, "--workers takes a number");
    if (cli->instance) {
        fputs("instance: ", out);
        put_quoted(out, weir_str(cli->instance));
        fputc('\n', out);
    }
    if (cli->socket) {
        fputs("admin: { socket: ", out);
        put_path(out, cli->socket);
        fputs(" }\n", out);
    }
    if (workers)
        fprintf(out, "workers: %s\n", workers);
    fputs("listeners:\n  web:\n    bind: ", out);
    put_quoted(out, weir_str(listen));
    fputs(weir_cli_value(cli, "tcp") ? "\n    protocol: tcp\n    to: app\n" : "\n    to: app\n",
          out);
    if (cert) {
        fputs("    tls: { cert: ", out);
        put_path(out, cert);
        if (key) {
            fputs(", key: ", out);
            put_path(out, key);
        }
        fputs(" }\n", out);
    }
    return put_servers(cli, out, to);
}

static int run_text(const struct weir_cli *cli, const struct yaml *yaml)
{
    struct weir_daemon_opts opts = { .no_admin = !cli->instance };
    struct weir_conf *conf = NULL;
    struct weir_diags diags;
    int err, status = WEIR_EXIT_USAGE;

    weir_diags_init(&diags);
    err = weir_conf_load_text("(command line)", yaml->text, yaml->len, NULL, &conf, &diags);
    if (diags.count > 0)
        weir_diags_print(&diags, cli->err, cli->json);
    weir_diags_fini(&diags);
    opts.conf = conf;
    return err ? status : weir_daemon_run(&opts);
}

int weir_verb_proxy(struct weir_cli *cli)
{
    struct yaml yaml = { 0 };
    int status;

    yaml.out = open_memstream(&yaml.text, &yaml.len);
    if (!yaml.out)
        return WEIR_EXIT_FAILED;
    status = put_config(cli, yaml.out);
    fclose(yaml.out);
    if (!status && weir_cli_value(cli, "print-config"))
        fwrite(yaml.text, 1, yaml.len, cli->out);
    else if (!status)
        status = run_text(cli, &yaml);
    free(yaml.text);
    return status;
}
