/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service.h"

#include "base/clock.h"
#include "base/logfile.h"
#include "daemon/notify.h"
#include "daemon/paths.h"
#include "daemon/privilege.h"
#include "daemon/service_internal.h"
#include "weir/weir.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    DRAIN_POLL_MS = 10,
    RETIRE_GRACE_MS = 3000,
    QUIESCE_MS = 2000,
    CLOSE_TURNS_MAX = 200,
    CLOSE_TURN_MS = 10,
    ANSWER_MS = 50,          /* for the answer of `weir drain` to leave before the end */
    RETIRE_ANSWER_MS = 1000, /* for who has just connected to the admin and will ask */
};

static const int caught[DAEMON_SIGNALS] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };

/* ---- the end ------------------------------------------------------------------------------ */

static void daemon_stop(struct weir_daemon *daemon)
{
    if (daemon->state == DAEMON_STOPPED)
        return;
    daemon->state = DAEMON_STOPPED;
    if (daemon->control)
        weir_control_drained(daemon->control, daemon->clean,
                             daemon->loop.now_ms - daemon->asked_ms);
    weir_loop_stop(&daemon->loop);
}

static void on_drain_poll(struct weir_timer *timer, void *arg)
{
    struct weir_daemon *daemon = arg;
    const struct weir_proxy_conf *conf = &daemon->conf->proxy;
    bool endless = conf->drain_ms < 0 || conf->tunnels_ms < 0;
    int64_t longer = conf->drain_ms > conf->tunnels_ms ? conf->drain_ms : conf->tunnels_ms;
    int64_t grace = daemon->retired ? RETIRE_GRACE_MS : 0; /* whom the limit ends, ends cleanly */
    int64_t limit = endless ? WEIR_UNLIMITED : longer + grace;
    uint64_t waited = daemon->loop.now_ms - daemon->drain_ms;

    if (weir_service_idle(daemon->service)) {
        daemon->clean = !weir_service_drain_cut(daemon->service);
        weir_log(daemon->log, daemon->clean ? WEIR_LOG_INFO : WEIR_LOG_WARN, "drained in %llu ms%s",
                 (unsigned long long)waited,
                 daemon->clean ? "" : "; what took longer than shutdown.drain or .tunnels was cut");
        daemon_stop(daemon);
        return;
    }
    if (limit >= 0 && waited >= (uint64_t)limit) {
        weir_log(daemon->log, WEIR_LOG_WARN,
                 "shutdown.drain and .tunnels are over (%lld ms); closing the connections that are "
                 "left",
                 (long long)limit);
        daemon_stop(daemon);
        return;
    }
    weir_loop_timer(&daemon->loop, timer, DRAIN_POLL_MS, on_drain_poll, daemon);
}

static void daemon_drain(struct weir_daemon *daemon)
{
    daemon->state = DAEMON_DRAINING;
    daemon->drain_ms = daemon->loop.now_ms;
    weir_log(daemon->log, WEIR_LOG_INFO, "draining: no new connections, requests in flight end");
    if (daemon->retired)
        weir_service_retire(daemon->service);
    else
        weir_service_drain(daemon->service);
    weir_loop_timer(&daemon->loop, &daemon->timer, 0, on_drain_poll, daemon);
}

static void on_announced(struct weir_timer *timer, void *arg)
{
    (void)timer;
    daemon_drain(arg);
}

void daemon_end(struct weir_daemon *daemon, bool announce, const char *why)
{
    int64_t ms = daemon->conf->proxy.announce_ms;

    if (daemon->state == DAEMON_ANNOUNCING || daemon->state == DAEMON_DRAINING) {
        weir_log(daemon->log, WEIR_LOG_WARN, "%s again: stopping now", why);
        daemon_stop(daemon);
        return;
    }
    if (daemon->state != DAEMON_RUNNING)
        return;
    daemon->asked_ms = daemon->loop.now_ms;
    if (!daemon->opts->link) /* else the keeper tells */
        weir_notify("STOPPING=1");
    if (daemon->control)
        weir_control_set_state(daemon->control, WEIR_CONTROL_DRAINING);
    if (!announce || ms <= 0) {
        weir_log(daemon->log, WEIR_LOG_INFO, "%s", why);
        daemon_drain(daemon);
        return;
    }
    weir_log(daemon->log, WEIR_LOG_INFO, "%s: /readyz says 503 for %lld ms, still accepting", why,
             (long long)ms);
    daemon->state = DAEMON_ANNOUNCING;
    weir_loop_timer(&daemon->loop, &daemon->timer, (uint64_t)ms, on_announced, daemon);
}

static void on_control_drain(void *arg)
{
    struct weir_daemon *daemon = arg;
    struct weir_link *link = daemon->opts->link;

    if (daemon->state != DAEMON_RUNNING)
        return;
    /* The keeper has to let go of the listeners first: it says SIGTERM then. */
    if (!link || !weir_link_say(link, WEIR_SAYS_DRAIN))
        daemon_end(daemon, true, "drain was asked for by the admin");
}

/* ---- signals ------------------------------------------------------------------------------ */

static void daemon_reopen(struct weir_daemon *daemon)
{
    int err;

    weir_log(daemon->log, WEIR_LOG_INFO, "SIGUSR1: reopening logs");
    err = weir_log_target_reopen(&daemon->target);
    if (err)
        weir_log(daemon->log, WEIR_LOG_ERROR,
                 "log: '%s' cannot be opened anew: %s%s; the old file is kept", daemon->target.path,
                 strerror(-err), weir_logfile_hint(daemon->target.path, err));
    weir_service_reopen_logs(daemon->service);
}

static void on_reloaded(void *arg, const struct weir_reload_result *result)
{
    (void)arg;
    (void)result;
    weir_notify("READY=1");
}

/* What systemd waits for (sd_notify(3), RELOADING=1); of a refused one as well: it runs as before. */
static void daemon_reload(struct weir_daemon *daemon)
{
    char text[64];

    if (daemon->state != DAEMON_RUNNING) {
        weir_log(daemon->log, WEIR_LOG_WARN, "SIGHUP: no reload, the daemon is at its end");
        return;
    }
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)weir_clock_us());
    weir_notify(text);
    if (weir_reload_ask(daemon->reload, "SIGHUP", on_reloaded, daemon))
        weir_log(daemon->log, WEIR_LOG_ERROR, "SIGHUP: no reload, out of memory");
}

/* A level that was set at run time stays. */
static void on_conf(void *arg, const struct weir_conf *conf, const struct weir_conf *before)
{
    struct weir_daemon *daemon = arg;

    if ((int)weir_log_level(daemon->log) == before->log.level)
        weir_log_set_level(daemon->log, (enum weir_log_level)conf->log.level);
    daemon->conf = conf;
    if (daemon->control)
        weir_control_set_conf(daemon->control, conf);
}

void daemon_signal(struct weir_daemon *daemon, int number)
{
    switch (number) {
    case SIGTERM:
        daemon_end(daemon, true, "SIGTERM");
        break;
    case SIGINT:
        daemon_end(daemon, false, "SIGINT");
        break;
    case SIGHUP:
        daemon_reload(daemon);
        break;
    case SIGUSR1:
        daemon_reopen(daemon);
        break;
    default:
        weir_log(daemon->log, WEIR_LOG_WARN,
                 "SIGUSR2: there is no keeper that could upgrade this process; stop it and start "
                 "the new one");
        break;
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    daemon_signal(handle->data, number);
}

int daemon_signals_open(struct weir_daemon *daemon)
{
    for (unsigned i = 0; i < DAEMON_SIGNALS; i++) {
        uv_signal_t *handle = &daemon->signals[i];

        if (uv_signal_init(&daemon->loop.uv, handle) != 0)
            return WEIR_ENOMEM;
        handle->data = daemon;
        daemon->signals_open++;
        if (uv_signal_start(handle, on_signal, caught[i]) != 0)
            return WEIR_ESYS;
    }
    return 0;
}

static void signals_close(struct weir_daemon *daemon)
{
    for (unsigned i = 0; i < daemon->signals_open; i++)
        uv_close((uv_handle_t *)&daemon->signals[i], NULL);
}

/* ---- the start, one stage each ------------------------------------------------------------ */

static int log_open(struct weir_daemon *daemon)
{
    const struct weir_log_conf *conf = &daemon->conf->log;
    struct weir_log_opts opts = {
        .size = sizeof(opts),
        .level = (enum weir_log_level)conf->level,
        .json = conf->format == WEIR_LOG_AS_JSON,
        .fn = weir_log_target_write,
        .arg = &daemon->target,
    };
    struct weir_link *link = daemon->opts->link;
    int err = !link ? weir_log_target_open(&daemon->target, conf)
                    : weir_log_target_adopt(
                          &daemon->target, conf,
                          conf->to == WEIR_LOG_TO_FILE ? weir_link_log(link, conf->file) : -1);

    if (err) {
        weir_log(NULL, WEIR_LOG_ERROR, "log.to: '%.*s' cannot be opened: %s", WEIR_FMT(conf->file),
                 strerror(-err));
        return WEIR_EXIT_USAGE;
    }
    daemon->log = weir_log_new(&opts);
    return daemon->log ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}

static int lock_take(struct weir_daemon *daemon)
{
    struct weir_str instance = daemon->conf->instance;
    char path[WEIR_PATH_BYTES] = "the lock";
    pid_t holder = 0;
    int err;

    if (daemon->opts->no_admin || daemon->opts->link)
        return WEIR_EXIT_DONE;
    if (!weir_instance_valid(instance)) {
        weir_log(daemon->log, WEIR_LOG_ERROR,
                 "instance '%.*s': only letters, digits, '-', '_' and '.', at most %d",
                 WEIR_FMT(instance), WEIR_INSTANCE_BYTES_MAX);
        return WEIR_EXIT_USAGE;
    }
    err =
        weir_instance_path(instance, "lock", path) ? weir_instance_mkdir(instance) : -ENAMETOOLONG;
    if (!err)
        err = weir_lock_take(&daemon->lock, path, &holder);
    if (err == -EEXIST) {
        weir_log(daemon->log, WEIR_LOG_ERROR,
                 "instance '%.*s' runs already, with pid %d; stop it, or give this one another "
                 "name (`instance:` or -i)",
                 WEIR_FMT(instance), (int)holder);
        return WEIR_EXIT_FAILED;
    }
    if (err) {
        weir_log(daemon->log, WEIR_LOG_ERROR, "%s cannot be made: %s%s", path, strerror(-err),
                 err == -EPERM ? "; its folder belongs to somebody else" : "");
        return WEIR_EXIT_FAILED;
    }
    return WEIR_EXIT_DONE;
}

/* What may not be done here is the host's to allow, not a fault of the daemon. */
static int status_of(int err)
{
    return err == WEIR_EACCESS ? WEIR_EXIT_HOST : WEIR_EXIT_FAILED;
}

static int control_open(struct weir_daemon *daemon)
{
    const struct weir_admin_conf *admin = &daemon->conf->admin;
    struct weir_control_opts opts = {
        .loop = &daemon->loop,
        .log = daemon->log,
        .conf = daemon->conf,
        .service = daemon->service,
        .reload = daemon->reload,
        .on_drain = on_control_drain,
        .link = daemon->opts->link,
        .arg = daemon,
    };
    struct weir_tls_fault fault = { "" };
    char path[WEIR_PATH_BYTES];
    bool fits = true;
    int err;

    if (daemon->opts->no_admin)
        return WEIR_EXIT_DONE;
    if (admin->socket_said)
        fits = snprintf(path, sizeof(path), "%.*s", WEIR_FMT(admin->socket)) < WEIR_PATH_BYTES;
    else
        fits = weir_instance_path(daemon->conf->instance, "admin.sock", path);
    daemon->control = weir_control_new(&opts);
    if (!daemon->control || !fits) {
        weir_log(daemon->log, WEIR_LOG_ERROR, "admin.socket: %s",
                 fits ? "out of memory" : "the path is too long");
        return WEIR_EXIT_FAILED;
    }
    if (daemon->opts->link)
        err = weir_control_serve(daemon->control,
                                 weir_link_take(daemon->opts->link, WEIR_GIVEN_ADMIN),
                                 weir_link_take(daemon->opts->link, WEIR_GIVEN_ADMIN_TCP));
    else
        err = weir_control_open(daemon->control, path, &fault);
    if (!err)
        return WEIR_EXIT_DONE;
    weir_log(daemon->log, WEIR_LOG_ERROR, "%s", fault.text);
    return status_of(err);
}

static int reload_open(struct weir_daemon *daemon)
{
    const struct weir_reload_opts opts = {
        .log = daemon->log,
        .loop = &daemon->loop,
        .service = daemon->service,
        .read = daemon->opts->read,
        .read_arg = daemon->opts->read_arg,
        .request = daemon->opts->link ? daemon_ask_keeper : NULL,
        .confirm = daemon->opts->link ? daemon_tell_keeper : NULL,
        .on_conf = on_conf,
        .arg = daemon,
    };

    daemon->reload = weir_reload_new(&opts, daemon->opts->conf);
    return daemon->reload ? WEIR_EXIT_DONE : WEIR_EXIT_FAILED;
}

static int proxy_open(struct weir_daemon *daemon)
{
    struct weir_link *link = daemon->opts->link;
    struct weir_service_opts opts = { .log = daemon->log, .home = &daemon->loop };
    struct weir_tls_fault fault = { "" };
    int err;

    if (link) {
        daemon->bind = (struct weir_bind_source){ weir_link_bind, link };
        opts.bind = &daemon->bind;
        opts.open_log = weir_link_log;
        opts.arg = link;
        opts.workers = (unsigned)weir_manifest_number(&link->estate, WEIR_SET_WORKERS, 1);
    }

    daemon->service = weir_service_new(&daemon->conf->proxy, &opts, &fault);
    if (!daemon->service) {
        weir_log(daemon->log, WEIR_LOG_ERROR, "%s", fault.text);
        return WEIR_EXIT_USAGE;
    }
    err = weir_service_open(daemon->service, &fault);
    if (!err)
        return reload_open(daemon);
    weir_log(daemon->log, WEIR_LOG_ERROR, "%s", fault.text);
    return status_of(err);
}

/* Of the keeper, or by ourselves while there are rights for it: then nothing is pinned, as this process will not be able to
 * remove it, and nobody would be left to use it. */
static void kernel_open(struct weir_daemon *daemon)
{
    const struct weir_proxy_conf *conf = &daemon->conf->proxy;
    struct weir_kernel *kernel = &daemon->kernel;
    struct weir_link *link = daemon->opts->link;

    if (!link)
        weir_kernel_load(kernel, conf, weir_service_workers(daemon->service), NULL, NULL,
                         daemon->log);
    if (!(link ? weir_kernel_take(kernel, &link->estate) : kernel->kern != NULL))
        return;
    weir_kernel_use(kernel, conf, daemon->log);
    if (kernel->splice &&
        weir_service_sockmap(daemon->service, kernel->splice,
                             kernel->kern ? weir_kern_splice_fds(kernel->kern)->ring_base
                                          : kernel->fds.ring_base))
        weir_log(daemon->log, WEIR_LOG_WARN, "splice: sockmap: not every worker can have it");
}

static void say_listening(const struct weir_daemon *daemon)
{
    const struct weir_proxy_conf *conf = &daemon->conf->proxy;
    const struct weir_listener_conf *listeners = conf->listeners.at;

    for (size_t i = 0; i < conf->listeners.count; i++) {
        const struct weir_listener_conf *listener = &listeners[i];

        for (size_t j = 0; j < listener->bind.count; j++)
            weir_log(daemon->log, WEIR_LOG_INFO, "listening on %.*s (%.*s, %s)",
                     WEIR_FMT(listener->bind.at[j]), WEIR_FMT(listener->name),
                     weir_listener_speaks(listener));
    }
}

/* Of tunnels in the kernel: from before the workers run. */
static void keep_open(struct weir_daemon *daemon)
{
    struct weir_link *link = daemon->opts->link;

    if (link && weir_kept_open(&daemon->kept, link))
        weir_service_keep(daemon->service, &daemon->kept.keeping);
}

static int listen_to_owner(struct weir_daemon *daemon)
{
    return daemon->opts->link ? daemon_hear_keeper(daemon) : daemon_signals_open(daemon);
}

static int daemon_start(struct weir_daemon *daemon)
{
    int status = lock_take(daemon);

    if (status)
        return status;
    weir_nofile_raise(weir_nofile_needed(daemon->conf->proxy.limits.connections), daemon->log);
    status = proxy_open(daemon);
    if (!status)
        kernel_open(daemon);
    if (!status)
        status = control_open(daemon);
    if (!status)
        status = daemon_rights_drop(daemon);
    if (status)
        return status;
    keep_open(daemon);
    status = daemon_confine(daemon);
    if (status)
        return status;
    if (listen_to_owner(daemon) != 0 || weir_service_start(daemon->service) != 0) {
        weir_log(daemon->log, WEIR_LOG_ERROR, "the workers cannot be started");
        return WEIR_EXIT_FAILED;
    }
    return WEIR_EXIT_DONE;
}

static void daemon_serve(struct weir_daemon *daemon)
{
    unsigned workers = weir_service_workers(daemon->service);

    say_listening(daemon);
    weir_log(daemon->log, WEIR_LOG_INFO, "weir %s is ready, instance %.*s, %u worker%s, pid %d",
             weir_version(), WEIR_FMT(daemon->conf->instance), workers, workers == 1 ? "" : "s",
             (int)getpid());
    if (daemon->control)
        weir_control_set_state(daemon->control, WEIR_CONTROL_READY);
    if (!daemon->opts->link)
        weir_notify("READY=1");
    else if (!weir_link_say(daemon->opts->link, WEIR_SAYS_READY))
        weir_log(daemon->log, WEIR_LOG_WARN, "the keeper does not hear that this process is ready");
    weir_loop_run(&daemon->loop);
}

/* The admin goes first: it holds pointers into the service. */
static void control_close(struct weir_daemon *daemon)
{
    uint64_t until;

    if (!daemon->control)
        return;
    if (!weir_control_quiesce(daemon->control, QUIESCE_MS)) {
        weir_log(daemon->log, WEIR_LOG_ERROR,
                 "a worker does not answer: ending without waiting for it");
        weir_lock_drop(&daemon->lock);
        _exit(WEIR_EXIT_FAILED);
    }
    until = weir_clock_us() + (daemon->retired ? RETIRE_ANSWER_MS : ANSWER_MS) * 1000;
    while (daemon->asked_ms && !weir_control_idle(daemon->control) && weir_clock_us() < until)
        weir_loop_turn(&daemon->loop, 1);
    weir_control_close(daemon->control);
    for (int i = 0; i < CLOSE_TURNS_MAX && !weir_control_idle(daemon->control); i++)
        weir_loop_turn(&daemon->loop, CLOSE_TURN_MS);
    weir_control_free(daemon->control);
    daemon->control = NULL;
}

static void daemon_fini(struct weir_daemon *daemon)
{
    control_close(daemon);
    if (daemon->service) {
        weir_service_stop(daemon->service);
        weir_loop_turn(&daemon->loop, 0); /* what the workers have sent */
        weir_service_free(daemon->service);
    }
    weir_kernel_close(&daemon->kernel, true);
    weir_kept_close(&daemon->kept);
    weir_timer_stop(&daemon->loop.wheel, &daemon->timer);
    signals_close(daemon);
    if (daemon->opts->link)
        weir_link_close(daemon->opts->link);
    weir_loop_turn(&daemon->loop, 0);
    weir_loop_turn(&daemon->loop, 0);
    weir_loop_fini(&daemon->loop);
    if (daemon->lock.fd >= 0) {
        weir_lock_drop(&daemon->lock);
        weir_instance_rmdir(daemon->conf->instance);
    }
}

static void conf_end(struct weir_daemon *daemon)
{
    if (daemon->reload)
        weir_reload_free(daemon->reload);
    else
        weir_conf_free(daemon->opts->conf);
}

int weir_daemon_run(const struct weir_daemon_opts *opts)
{
    struct weir_daemon daemon = {
        .opts = opts, .conf = opts->conf, .lock = { .fd = -1 }, .kept = { .fd = -1 }
    };
    int status;

    signal(SIGPIPE, SIG_IGN);
    status = log_open(&daemon);
    if (status) {
        weir_conf_free(opts->conf);
        return status;
    }
    if (weir_loop_init(&daemon.loop, 0, daemon.log) != 0) {
        weir_log(daemon.log, WEIR_LOG_ERROR, "the main loop cannot be made");
        status = WEIR_EXIT_FAILED;
    } else {
        status = daemon_start(&daemon);
        if (!status)
            daemon_serve(&daemon);
        daemon_fini(&daemon);
    }
    conf_end(&daemon);
    if (!status)
        weir_log(daemon.log, WEIR_LOG_INFO, "stopped");
    weir_log_free(daemon.log);
    weir_log_target_close(&daemon.target);
    return status;
}
