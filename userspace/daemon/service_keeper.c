/* SPDX-License-Identifier: Apache-2.0 */
/* service_keeper.c: what the keeper says to the daemon that serves for it, and what it is asked. */
#include "daemon/proxied.h"
#include "daemon/service_internal.h"

#include <string.h>
#include <unistd.h>

static void on_keeper_signal(void *arg, int number)
{
    daemon_signal(arg, number);
}

static void on_keeper_log(void *arg, const char *name, int fd)
{
    struct weir_daemon *daemon = arg;
    bool ours = daemon->target.path && strcmp(daemon->target.path, name) == 0;
    int err = ours ? weir_log_target_replace(&daemon->target, fd) : 0,
        more = weir_service_replace_log(daemon->service, name, fd);

    if (err || more)
        weir_log(daemon->log, WEIR_LOG_ERROR, "'%s' was opened anew, and cannot be taken: %s", name,
                 strerror(-(err ? err : more)));
}

static void on_keeper_retire(void *arg, int64_t successor, uint32_t kern)
{
    struct weir_daemon *daemon = arg;
    char why[64];

    if (daemon->control)
        weir_control_retire(daemon->control);
    snprintf(why, sizeof(why), "another process serves now, pid %lld", (long long)successor);
    daemon->retired = true;
    weir_service_hand_over(daemon->service, kern);
    if (daemon->state == DAEMON_RUNNING)
        daemon_end(daemon, false, why);
}

static void on_keeper_done(void *arg, bool ok, const char *text)
{
    struct weir_daemon *daemon = arg;

    if (daemon->control)
        weir_control_changed(daemon->control, ok, text);
}

/* Of a reload: what the keeper's reader has read. */
static void on_keeper_config(void *arg)
{
    struct weir_daemon *daemon = arg;
    struct weir_conf *conf = NULL;
    struct weir_diags diags;
    int err;

    weir_diags_init(&diags);
    err = weir_proxied_load(daemon->opts->link, daemon->conf, &conf, &diags);
    weir_reload_given(daemon->reload, err, conf, &diags, NULL);
    weir_diags_fini(&diags);
}

static void on_keeper_reloaded(void *arg, bool ok, const char *text)
{
    struct weir_daemon *daemon = arg;

    if (ok)
        weir_reload_go(daemon->reload);
    else
        weir_reload_given(daemon->reload, WEIR_ECONFIG, NULL, NULL, text);
}

bool daemon_ask_keeper(void *arg)
{
    struct weir_daemon *daemon = arg;

    return weir_link_say(daemon->opts->link, WEIR_SAYS_RELOAD);
}

bool daemon_tell_keeper(void *arg, bool good)
{
    struct weir_daemon *daemon = arg;

    return weir_link_say_taken(daemon->opts->link, good) && good;
}

/* No descriptor was free for those that came with it. */
static void on_keeper_missed(void *arg, unsigned word)
{
    struct weir_daemon *daemon = arg;

    if (word == WEIR_SAYS_CONFIG)
        weir_reload_given(daemon->reload, WEIR_ECONFIG, NULL, NULL,
                          "this process has no file descriptor free for it; raise the limit "
                          "(LimitNOFILE= of the unit, `ulimit -n`) or lower limits.connections");
    else if (word == WEIR_SAYS_TUNNELS)
        weir_log(daemon->log, WEIR_LOG_ERROR,
                 "tunnels of the process before this one end with this one: it has no file "
                 "descriptor free for them");
    else
        weir_log(daemon->log, WEIR_LOG_ERROR,
                 "logs were opened anew, and this process has no file descriptor free for them: "
                 "the old files are kept");
}

/* What outlived the proxy before this one. */
static void on_keeper_tunnels(void *arg, struct weir_manifest *body)
{
    struct weir_daemon *daemon = arg;
    struct weir_kept kept[WEIR_KEPT_MESSAGE_MAX];
    unsigned count = weir_kept_take(body, kept, WEIR_KEPT_MESSAGE_MAX);

    weir_log(daemon->log, WEIR_LOG_INFO, "%u tunnels of the process before this one go on", count);
    weir_service_adopt(daemon->service, kept, count);
}

static void on_keeper_gone(void *arg)
{
    struct weir_daemon *daemon = arg;

    weir_log(daemon->log, WEIR_LOG_ERROR,
             "the keeper is gone: serving on by myself, pid %d; nobody restarts or upgrades this "
             "process, and logs cannot be opened anew where its user may not; SIGTERM ends it",
             (int)getpid());
    if (daemon->control)
        weir_control_changed(daemon->control, false, "the keeper is gone");
    weir_reload_alone(daemon->reload);
    if (daemon_signals_open(daemon) != 0)
        weir_log(daemon->log, WEIR_LOG_ERROR, "signals cannot be caught");
}

static const struct weir_link_sink link_sink = {
    .on_signal = on_keeper_signal,
    .on_log = on_keeper_log,
    .on_retire = on_keeper_retire,
    .on_done = on_keeper_done,
    .on_config = on_keeper_config,
    .on_reloaded = on_keeper_reloaded,
    .on_missed = on_keeper_missed,
    .on_tunnels = on_keeper_tunnels,
    .on_orphan = on_keeper_gone,
};

int daemon_hear_keeper(struct weir_daemon *daemon)
{
    return weir_link_start(daemon->opts->link, &daemon->loop, &link_sink, daemon);
}
