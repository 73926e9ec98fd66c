/* SPDX-License-Identifier: Apache-2.0 */
/* service_rights.c: the rights that the daemon gives away before it serves. */
#include "base/logfile.h"
#include "daemon/confine.h"
#include "daemon/paths.h"
#include "daemon/privilege.h"
#include "daemon/service_internal.h"

#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct log_warning {
    struct weir_log *log;
    const char *user;
};

/* Said at the start, rather than when the first rotation fails. */
static void warn_of_log(void *arg, const char *path)
{
    const struct log_warning *warning = arg;

    if (!weir_logfile_renewable(path))
        weir_log(warning->log, WEIR_LOG_WARN,
                 "'%s': user '%s' may not make files in its folder: when it was renamed, SIGUSR1 "
                 "cannot open it anew; give the folder to that user, or rotate by copying",
                 path, warning->user);
}

int daemon_rights_drop(struct weir_daemon *daemon)
{
    struct weir_user user;
    const char *what = "";
    int err;

    if (daemon->opts->link)
        return WEIR_EXIT_DONE;
    if (weir_user_find(&user, daemon->conf->user, daemon->log) != 0) {
        weir_log(daemon->log, WEIR_LOG_ERROR, "there is no user 'nobody' either; set `user`");
        return WEIR_EXIT_HOST;
    }
    if (user.change) {
        char dir[WEIR_PATH_BYTES];

        weir_log_target_give(&daemon->target, user.uid, user.gid);
        weir_service_give_logs(daemon->service, user.uid, user.gid);
        /* so that lock and socket can be removed at the end; `nobody` is shared by others */
        if (!user.nobody && !daemon->opts->no_admin &&
            weir_instance_dir(daemon->conf->instance, dir))
            (void)!chown(dir, user.uid, user.gid);
    }
    err = weir_user_become(&user, &what);
    if (err) {
        weir_log(daemon->log, WEIR_LOG_ERROR,
                 "becoming user '%s': %s: %s; start weir as that user, or set `user: root`",
                 user.name, what, strerror(-err));
        return WEIR_EXIT_HOST;
    }
    if (user.change) {
        struct log_warning warning = { daemon->log, user.name };

        if (daemon->target.path)
            warn_of_log(&warning, daemon->target.path);
        weir_service_each_log(daemon->service, warn_of_log, &warning);
    }
    return WEIR_EXIT_DONE;
}

int daemon_confine(struct weir_daemon *daemon)
{
    struct weir_confinement done = { 0 };
    int how = daemon->conf->confine;

    if (!daemon->opts->link || how == WEIR_CONFINE_OFF)
        return WEIR_EXIT_DONE;
    /* nor may others of its user look into it: it has keys */
    if (weir_manifest_get(&daemon->opts->link->estate, WEIR_SET_USER))
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    weir_confine(&done);
    return weir_confine_told(&done, how, daemon->log) ? WEIR_EXIT_DONE : WEIR_EXIT_HOST;
}
