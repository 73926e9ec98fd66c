/* SPDX-License-Identifier: Apache-2.0 */
/** verb_kern.c: what is pinned in the kernel, and all of it away. Asks no daemon: one that crashed can not be asked. */
#include "cli/cli.h"

#include "daemon/lock.h"
#include "loader/loader.h"

#include <errno.h>
#include <unistd.h>

static int kern_status(const struct weir_cli *cli)
{
    int count = weir_kern_list(NULL, cli->instance, cli->json, cli->out);

    if (count < 0) {
        fprintf(cli->err, "weir: /sys/fs/bpf/weir: %s\n", strerror(-count));
        return count == -EACCES ? WEIR_EXIT_HOST : WEIR_EXIT_FAILED;
    }
    if (!count && !cli->json)
        fprintf(cli->out, "nothing of weir is pinned in the kernel%s%s\n",
                cli->instance ? " for instance " : "", cli->instance ? cli->instance : "");
    return WEIR_EXIT_DONE;
}

/* The pid of the daemon that runs this instance; 0: none. */
static pid_t running(const char *instance)
{
    struct weir_lock lock = { .fd = -1 };
    char path[WEIR_PATH_BYTES];
    pid_t holder = 0;

    if (!weir_instance_path(weir_str(instance), "lock", path) || access(path, F_OK) != 0)
        return 0;
    if (weir_lock_take(&lock, path, &holder) == -EEXIST)
        return holder ? holder : 1;
    weir_lock_drop(&lock);
    return 0;
}

static int unload_one(void *arg, const char *instance)
{
    struct weir_cli *cli = arg;
    pid_t holder = running(instance);
    char what[300];
    int count;

    if (holder) {
        fprintf(cli->err, "weir: instance '%s' runs, with pid %d: stop it first\n", instance,
                (int)holder);
        return WEIR_EXIT_FAILED;
    }
    count = weir_kern_unload(NULL, instance, what, sizeof(what));
    if (count < 0) {
        fprintf(cli->err, "weir: instance '%s': %s\n", instance, what[0] ? what : strerror(-count));
        return count == -EACCES || count == -EPERM ? WEIR_EXIT_HOST : WEIR_EXIT_FAILED;
    }
    if (!cli->json)
        fprintf(cli->out, "instance '%s': %d pin%s taken away\n", instance, count,
                count == 1 ? "" : "s");
    return WEIR_EXIT_DONE;
}

static int kern_unload(struct weir_cli *cli)
{
    int status;

    if (cli->instance) {
        if (!weir_instance_valid(weir_str(cli->instance)))
            return weir_cli_misuse(cli, "'%s' is not the name of an instance", cli->instance);
        return unload_one(cli, cli->instance);
    }
    status = weir_kern_each(NULL, unload_one, cli);
    if (status >= 0)
        return status;
    fprintf(cli->err, "weir: /sys/fs/bpf/weir: %s\n", strerror(-status));
    return status == -EACCES ? WEIR_EXIT_HOST : WEIR_EXIT_FAILED;
}

int weir_verb_kern(struct weir_cli *cli)
{
    if (strcmp(cli->args[0], "status") == 0)
        return kern_status(cli);
    if (strcmp(cli->args[0], "unload") == 0)
        return kern_unload(cli);
    return weir_cli_misuse(cli, "kern: '%s' is neither status nor unload", cli->args[0]);
}
