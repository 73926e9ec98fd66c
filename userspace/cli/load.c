/* SPDX-License-Identifier: Apache-2.0 */
/** load.c: the configuration that a verb works with. */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_BYTES_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static const char default_path[] = "/etc/weir/weir.yaml";

static bool socket_fits(const char *path)
{
    size_t len = strlen(path);

    return len > 0 && len <= SOCKET_BYTES_MAX;
}

struct weir_conf *weir_cli_load(const struct weir_cli *cli, const struct weir_conf_opts *opts,
                                int *status)
{
    const char *path = cli->conf ? cli->conf : default_path;
    struct weir_diags diags;
    struct weir_conf *conf = NULL;
    struct weir_conf_opts here = opts ? *opts : (struct weir_conf_opts){ .size = sizeof(here) };
    int err;

    here.instance = cli->instance;
    here.socket = cli->socket;
    if (cli->socket && !socket_fits(cli->socket)) {
        *status = weir_cli_misuse(cli, "--socket: the path of a socket has 1 to %d bytes",
                                  (int)SOCKET_BYTES_MAX);
        return NULL;
    }
    if (!cli->conf && access(path, F_OK) != 0) {
        fprintf(cli->err,
                "weir: %s: %s; write one (`weir proxy --listen :8080 --to HOST:PORT "
                "--print-config` prints an example) or say -c FILE\n",
                path, strerror(errno));
        *status = WEIR_EXIT_USAGE;
        return NULL;
    }
    weir_diags_init(&diags);
    err = weir_conf_load_opts(path, &here, &conf, &diags);
    if (diags.count > 0 || (cli->json && err))
        weir_diags_print(&diags, cli->err, cli->json);
    else if (err)
        fprintf(cli->err, "weir: %s: %s\n", path, weir_err_text((enum weir_err)err));
    weir_diags_fini(&diags);
    *status = err ? WEIR_EXIT_USAGE : WEIR_EXIT_DONE;
    return conf;
}

int weir_cli_reread(void *arg, const struct weir_conf *running, struct weir_conf **conf,
                    struct weir_diags *diags)
{
    const struct weir_cli *cli = arg;
    struct weir_conf_opts opts = {
        .size = sizeof(opts), .instance = cli->instance, .socket = cli->socket, .before = running
    };

    return weir_conf_load_opts(cli->conf ? cli->conf : default_path, &opts, conf, diags);
}
