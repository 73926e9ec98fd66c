/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/proxied.h"

#include "daemon/link.h"
#include "daemon/reader.h"
#include "daemon/service.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

int weir_proxied_load(struct weir_link *link, const struct weir_conf *running,
                      struct weir_conf **conf, struct weir_diags *diags)
{
    struct weir_conf_opts opts = {
        .size = sizeof(opts),
        .files = link->files,
        .instance = weir_manifest_get(&link->estate, WEIR_SET_INSTANCE),
        .socket = weir_manifest_get(&link->estate, WEIR_SET_ADMIN),
        .before = running,
    };
    const char *path = weir_manifest_get(&link->estate, WEIR_SET_CONF);

    *conf = NULL;
    if (!link->files || !path || !opts.instance || !opts.socket)
        return WEIR_EINVAL;
    return weir_conf_load_opts(path, &opts, conf, diags);
}

/* What the reader has read parses to the same here. Warnings were told there. */
static struct weir_conf *conf_load(struct weir_link *link)
{
    struct weir_diags diags;
    struct weir_conf *conf = NULL;
    int err;

    weir_diags_init(&diags);
    err = weir_proxied_load(link, NULL, &conf, &diags);
    if (err == WEIR_EINVAL)
        weir_log(NULL, WEIR_LOG_ERROR, "the keeper did not say what this process is");
    else if (err)
        weir_diags_print(&diags, stderr, false);
    weir_diags_fini(&diags);
    return conf;
}

int weir_proxied_run(void)
{
    struct weir_link link;
    struct weir_daemon_opts opts = { .link = &link };
    struct weir_conf *conf;
    int err = weir_link_open(&link, WEIR_CHANNEL_FD), status = WEIR_EXIT_USAGE;

    (void)prctl(PR_SET_NAME, "weir", 0, 0, 0); /* the kernel took it from how it was executed */
    if (err) {
        weir_log(NULL, WEIR_LOG_ERROR, "what the keeper gives is not understood: %s",
                 err == -EPROTO ? "it is of another version, and has to be started anew"
                                : strerror(-err));
        weir_link_close(&link);
        return WEIR_EXIT_FAILED;
    }
    conf = conf_load(&link);
    if (conf) {
        opts.conf = conf;
        status = weir_daemon_run(&opts);
    }
    weir_link_close(&link);
    return status;
}
