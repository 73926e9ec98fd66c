/* SPDX-License-Identifier: Apache-2.0 */
/** load.c: the configuration that a verb works with. */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const char default_path[] = "/etc/weir/weir.yaml";

struct weir_conf *weir_cli_load(const struct weir_cli *cli, int *status)
{
    const char *path = cli->conf ? cli->conf : default_path;
    struct weir_diags diags;
    struct weir_conf *conf = NULL;
    int err;

    if (!cli->conf && access(path, F_OK) != 0) {
        fprintf(cli->err,
                "weir: %s: %s; write one (`weir proxy --listen :8080 --to HOST:PORT "
                "--print-config` prints an example) or say -c FILE\n",
                path, strerror(errno));
        *status = WEIR_EXIT_USAGE;
        return NULL;
    }
    weir_diags_init(&diags);
    err = weir_conf_load(path, &conf, &diags);
    if (diags.count > 0 || (cli->json && err))
        weir_diags_print(&diags, cli->err, cli->json);
    else if (err)
        fprintf(cli->err, "weir: %s: %s\n", path, weir_err_text((enum weir_err)err));
    weir_diags_fini(&diags);
    *status = err ? WEIR_EXIT_USAGE : WEIR_EXIT_DONE;
    if (err || !cli->instance)
        return err ? NULL : conf;
    conf->instance = weir_str(cli->instance);
    return conf;
}
