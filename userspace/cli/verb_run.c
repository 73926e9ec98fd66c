/* SPDX-License-Identifier: Apache-2.0 */
/** verb_run.c: the daemon: its keeper, which starts this binary again as its children (weir_cli_child), or all in one
 * process. */
#include "cli/cli.h"

#include "base/files.h"
#include "daemon/keeper.h"
#include "daemon/proxied.h"
#include "daemon/reader.h"

#include <stdlib.h>
#include <string.h>

enum { READER_ARGS_MAX = 8, READY_MS_MAX = 3600 * 1000 };

static int run_single(struct weir_cli *cli)
{
    int status;
    struct weir_conf *conf = weir_cli_load(cli, NULL, &status);
    struct weir_daemon_opts opts = { .conf = conf, .read = weir_cli_reread, .read_arg = cli };

    return conf ? weir_daemon_run(&opts) : status;
}

/* "500ms", "5s", "2m". */
static bool time_read(const char *text, uint32_t *ms)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    unsigned long unit = strcmp(end, "ms") == 0  ? 1
                         : strcmp(end, "s") == 0 ? 1000
                         : strcmp(end, "m") == 0 ? 60 * 1000
                                                 : 0;

    if (text[0] < '0' || text[0] > '9' || !unit || n == 0 || n > READY_MS_MAX / unit)
        return false;
    *ms = (uint32_t)(n * unit);
    return true;
}

int weir_verb_run(struct weir_cli *cli)
{
    const char *args[READER_ARGS_MAX + 1] = { NULL };
    const char *ready = weir_cli_value(cli, "ready-timeout");
    struct weir_keeper_opts opts = {
        .reader_args = args,
        .argv = cli->argv,
        .exe = weir_cli_value(cli, "exe"),
        .ready_ms = WEIR_KEEPER_READY_MS,
    };
    size_t n = 0;

    if (ready && !time_read(ready, &opts.ready_ms))
        return weir_cli_misuse(cli,
                               "--ready-timeout takes a time of at most an hour: 500ms, 5s, 2m");
    if (weir_cli_value(cli, "single"))
        return run_single(cli);
    if (cli->conf) {
        args[n++] = "-c";
        args[n++] = cli->conf;
    }
    if (cli->instance) {
        args[n++] = "-i";
        args[n++] = cli->instance;
    }
    if (cli->socket) {
        args[n++] = "--socket";
        args[n++] = cli->socket;
    }
    if (cli->json)
        args[n++] = "-j";
    return weir_keeper_run(&opts);
}

/* ---- its children ------------------------------------------------------------------------- */

static int run_reader(int argc, char **argv)
{
    struct weir_cli cli = { .out = stdout, .err = stderr, .verb = weir_cli_find("run") };
    struct weir_conf_opts opts = { .size = sizeof(opts), .files = weir_files_new() };
    int status = opts.files ? weir_cli_parse(&cli, argc, argv) : WEIR_EXIT_FAILED;
    struct weir_conf *conf = status ? NULL : weir_cli_load(&cli, &opts, &status);

    if (conf)
        status = weir_reader_run(conf, opts.files);
    weir_conf_free(conf);
    weir_files_free(opts.files);
    return status;
}

int weir_cli_child(int argc, char **argv)
{
    const char *called = argc > 0 ? argv[0] : "";

    if (strcmp(called, WEIR_CALLED_PROXY) == 0)
        return weir_proxied_run();
    if (strcmp(called, WEIR_CALLED_PROBE) == 0)
        return weir_keeper_probe();
    if (strcmp(called, WEIR_CALLED_READER) == 0)
        return run_reader(argc, argv);
    return -1;
}
