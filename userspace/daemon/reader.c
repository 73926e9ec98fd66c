/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/reader.h"

#include "daemon/control.h"
#include "daemon/estate.h"
#include "daemon/kernel.h"
#include "daemon/lock.h"
#include "daemon/paths.h"
#include "daemon/service.h"
#include "proxy/access_log.h"
#include "weir/weir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct reader {
    const struct weir_conf *conf;
    const struct weir_files *files;
    struct weir_log *log;
    struct weir_manifest have, estate;
    unsigned workers;
    bool lock_is_new;
};

static int out_of_memory(struct reader *reader)
{
    weir_log(reader->log, WEIR_LOG_ERROR, "out of memory");
    return WEIR_EXIT_FAILED;
}

/* What may not be done here is the host's to allow, not a fault of the daemon. */
static int status_of(int err)
{
    return err == WEIR_EACCESS ? WEIR_EXIT_HOST : WEIR_EXIT_FAILED;
}

/* ---- the lock ----------------------------------------------------------------------------- */

static int lock_failed(struct reader *reader, const char *path, int err, pid_t holder)
{
    if (err == -EEXIST)
        weir_log(reader->log, WEIR_LOG_ERROR,
                 "instance '%.*s' runs already, with pid %d; stop it, or give this one another "
                 "name (`instance:` or -i)",
                 WEIR_FMT(reader->conf->instance), (int)holder);
    else
        weir_log(reader->log, WEIR_LOG_ERROR, "%s cannot be made: %s%s", path, strerror(-err),
                 err == -EPERM ? "; its folder belongs to somebody else" : "");
    return WEIR_EXIT_FAILED;
}

static int lock_take(struct reader *reader)
{
    struct weir_str instance = reader->conf->instance;
    struct weir_entry *held = weir_manifest_next(&reader->have, NULL, WEIR_GIVEN_LOCK, NULL);
    struct weir_lock lock = { .fd = -1 };
    char path[WEIR_PATH_BYTES] = "the lock";
    pid_t holder = 0;
    int err;

    if (!weir_instance_valid(instance)) {
        weir_log(reader->log, WEIR_LOG_ERROR,
                 "instance '%.*s': only letters, digits, '-', '_' and '.', at most %d",
                 WEIR_FMT(instance), WEIR_INSTANCE_BYTES_MAX);
        return WEIR_EXIT_USAGE;
    }
    err = weir_instance_path(instance, "lock", path) ? 0 : -ENAMETOOLONG;
    if (held && strcmp(held->name, path) != 0) {
        weir_log(reader->log, WEIR_LOG_ERROR,
                 "the name of an instance stays while it runs: stop it, and start it as '%.*s'",
                 WEIR_FMT(instance));
        return WEIR_EXIT_USAGE;
    }
    if (!err)
        err = weir_instance_mkdir(instance);
    if (!err && !held)
        err = weir_lock_take(&lock, path, &holder);
    if (!err && !held)
        err = weir_lock_name(lock.fd, getppid());
    if (err)
        return lock_failed(reader, path, err, holder);
    reader->lock_is_new = !held;
    err = weir_manifest_add(&reader->estate, WEIR_GIVEN_LOCK, path, WEIR_STR(""),
                            held ? weir_entry_take(held) : lock.fd);
    return err ? out_of_memory(reader) : WEIR_EXIT_DONE;
}

/* ---- sockets ------------------------------------------------------------------------------ */

/* The ones that are open already serve on; where there are more workers than sockets, some share one. */
static int sockets_of(struct reader *reader, const char *key, const struct weir_addr *addr,
                      const struct weir_listen_opts *opts, int *fds)
{
    unsigned have = weir_estate_sockets(&reader->have, key, fds, reader->workers);

    if (have == 0)
        return weir_bound_open(addr, opts, fds, reader->workers);
    for (unsigned w = have; w < reader->workers; w++) {
        fds[w] = dup(fds[w % have]);
        if (fds[w] < 0)
            return -errno;
    }
    return 0;
}

static int bind_one(struct reader *reader, const struct weir_listener_conf *listener, size_t i)
{
    struct weir_listen_opts opts = { .backlog = (int)listener->backlog,
                                     .freebind = listener->freebind,
                                     .device = listener->device,
                                     .mode = (unsigned)listener->mode };
    char key[WEIR_BIND_KEY_BYTES];
    struct weir_tls_fault fault;
    int fds[WEIR_WORKERS_MAX];
    struct weir_addr addr;
    int err = weir_addr_parse(&addr, listener->bind.at[i]);

    if (err) /* the configuration was checked */
        return WEIR_EXIT_USAGE;
    weir_bind_key(&addr, &opts, key);
    err = sockets_of(reader, key, &addr, &opts, fds);
    if (err) {
        err = weir_bind_fault(listener, i, -err, &fault);
        weir_log(reader->log, WEIR_LOG_ERROR, "%s", fault.text);
        return status_of(err);
    }
    for (unsigned w = 0; w < reader->workers; w++)
        err =
            weir_manifest_add(&reader->estate, WEIR_GIVEN_SOCKET, key, WEIR_STR(""), fds[w]) ?: err;
    if (!err && addr.sa.sa_family == AF_UNIX)
        err = weir_manifest_add(&reader->estate, WEIR_GIVEN_UNLINK, addr.un.sun_path, WEIR_STR(""),
                                -1);
    return err ? out_of_memory(reader) : WEIR_EXIT_DONE;
}

static int bind_all(struct reader *reader)
{
    const struct weir_listener_conf *listeners = reader->conf->proxy.listeners.at;
    int status = WEIR_EXIT_DONE;

    for (size_t l = 0; l < reader->conf->proxy.listeners.count; l++)
        for (size_t i = 0; i < listeners[l].bind.count && !status; i++)
            status = bind_one(reader, &listeners[l], i);
    return status;
}

/* ---- the admin ---------------------------------------------------------------------------- */

static int admin_fault(struct reader *reader, int err, const struct weir_tls_fault *fault)
{
    weir_log(reader->log, WEIR_LOG_ERROR, "%s", fault->text);
    return status_of(err);
}

static int admin_open(struct reader *reader)
{
    const struct weir_admin_conf *admin = &reader->conf->admin;
    struct weir_tls_fault fault = { "" };
    char path[WEIR_PATH_BYTES];
    struct weir_entry *held;
    int n = snprintf(path, sizeof(path), "%.*s", WEIR_FMT(admin->socket)), fd = -1, err;

    if (!admin->socket_said)
        n = weir_instance_path(reader->conf->instance, "admin.sock", path) ? 0 : WEIR_PATH_BYTES;
    if (n >= WEIR_PATH_BYTES) {
        weir_log(reader->log, WEIR_LOG_ERROR, "admin.socket: the path is too long");
        return WEIR_EXIT_FAILED;
    }
    held = weir_manifest_next(&reader->have, NULL, WEIR_GIVEN_ADMIN, path);
    if (held)
        fd = weir_entry_take(held);
    err = held ? 0 : weir_control_bind(path, admin->group, &fd, &fault);
    if (err)
        return admin_fault(reader, err, &fault);
    err = weir_manifest_add(&reader->estate, WEIR_GIVEN_ADMIN, path, WEIR_STR(""), fd);
    if (!err)
        err = weir_manifest_add(&reader->estate, WEIR_GIVEN_UNLINK, path, WEIR_STR(""), -1);
    return err ? out_of_memory(reader) : WEIR_EXIT_DONE;
}

static int admin_open_tcp(struct reader *reader)
{
    struct weir_str listen = reader->conf->admin.listen;
    struct weir_tls_fault fault = { "" };
    char name[WEIR_ADDR_TEXT_MAX];
    struct weir_entry *held;
    int fd = -1, err = 0;

    if (weir_str_absent(listen) || listen.len == 0)
        return WEIR_EXIT_DONE;
    snprintf(name, sizeof(name), "%.*s", WEIR_FMT(listen));
    held = weir_manifest_next(&reader->have, NULL, WEIR_GIVEN_ADMIN_TCP, name);
    if (held)
        fd = weir_entry_take(held);
    else
        err = weir_control_bind_tcp(listen, &fd, &fault);
    if (err)
        return admin_fault(reader, err, &fault);
    err = weir_manifest_add(&reader->estate, WEIR_GIVEN_ADMIN_TCP, name, WEIR_STR(""), fd);
    return err ? out_of_memory(reader) : WEIR_EXIT_DONE;
}

/* ---- logs --------------------------------------------------------------------------------- */

/* Each file or stream once: who writes to it has a copy. */
static int log_add(struct reader *reader, struct weir_str to, const char *what)
{
    char name[WEIR_ENTRY_NAME_MAX + 1];
    int n = snprintf(name, sizeof(name), "%.*s", WEIR_FMT(to.len ? to : WEIR_STR("stdout"))), fd;

    if (weir_manifest_next(&reader->estate, NULL, WEIR_GIVEN_LOG, name))
        return WEIR_EXIT_DONE;
    fd = (size_t)n < sizeof(name) ? weir_access_log_target(to) : -ENAMETOOLONG;
    if (fd < 0) {
        weir_log(reader->log, WEIR_LOG_ERROR, "%s: '%s' cannot be opened: %s", what, name,
                 strerror(-fd));
        return WEIR_EXIT_USAGE;
    }
    return weir_manifest_add(&reader->estate, WEIR_GIVEN_LOG, name, WEIR_STR(""), fd)
               ? out_of_memory(reader)
               : WEIR_EXIT_DONE;
}

static int access_log_add(struct reader *reader, const struct weir_access_log_conf *conf)
{
    return conf->off || weir_str_absent(conf->to) ? WEIR_EXIT_DONE
                                                  : log_add(reader, conf->to, "access_log");
}

static int logs_open(struct reader *reader)
{
    const struct weir_conf *conf = reader->conf;
    const struct weir_listener_conf *listeners = conf->proxy.listeners.at;
    int status = WEIR_EXIT_DONE;

    if (weir_estate_add_log(&reader->estate, &conf->log) != 0)
        return out_of_memory(reader);
    if (conf->log.to == WEIR_LOG_TO_FILE)
        status = log_add(reader, conf->log.file, "log.to");
    for (size_t l = 0; l < conf->proxy.listeners.count && !status; l++) {
        const struct weir_route_conf *routes = listeners[l].routes.at;

        status = access_log_add(reader, &listeners[l].access_log);
        for (size_t r = 0; r < listeners[l].routes.count && !status; r++)
            status = access_log_add(reader, &routes[r].access_log);
    }
    return status;
}

/* ---- the kernel --------------------------------------------------------------------------- */

static int kernel_load(struct reader *reader)
{
    char instance[WEIR_INSTANCE_BYTES_MAX + 1];
    struct weir_kernel kernel = { NULL };
    int err;

    if (weir_manifest_number(&reader->have, WEIR_SET_FOR_RELOAD, 0))
        return weir_kernel_keep(&reader->have, &reader->estate) ? out_of_memory(reader)
                                                                : WEIR_EXIT_DONE;
    snprintf(instance, sizeof(instance), "%.*s", WEIR_FMT(reader->conf->instance));
    weir_kernel_load(&kernel, &reader->conf->proxy, reader->workers, instance, &reader->have,
                     reader->log);
    err = weir_kernel_give(&kernel, &reader->estate);
    weir_kernel_close(&kernel, false); /* the keeper has it */
    return err ? out_of_memory(reader) : WEIR_EXIT_DONE;
}

/* ---- the rest ----------------------------------------------------------------------------- */

static int settings_add(struct reader *reader)
{
    const struct weir_conf *conf = reader->conf;
    struct weir_manifest *estate = &reader->estate;
    char path[WEIR_ENTRY_NAME_MAX + 1], instance[WEIR_INSTANCE_BYTES_MAX + 1];
    const char *admin = weir_manifest_next(estate, NULL, WEIR_GIVEN_ADMIN, NULL)->name;
    int err;

    snprintf(path, sizeof(path), "%.*s", WEIR_FMT(conf->path));
    snprintf(instance, sizeof(instance), "%.*s", WEIR_FMT(conf->instance));
    err = weir_manifest_set(estate, WEIR_SET_CONF, path);
    if (!err)
        err = weir_manifest_set(estate, WEIR_SET_INSTANCE, instance);
    if (!err)
        err = weir_manifest_set(estate, WEIR_SET_VERSION, weir_version());
    if (!err)
        err = weir_manifest_set(estate, WEIR_SET_ADMIN, admin);
    if (!err)
        err = weir_manifest_set_number(estate, WEIR_SET_WORKERS, reader->workers);
    if (!err)
        err = weir_manifest_set_number(estate, WEIR_SET_NOFILE,
                                       (int64_t)weir_nofile_needed(conf->proxy.limits.connections));
    return err ? out_of_memory(reader) : WEIR_EXIT_DONE;
}

static int user_add(struct reader *reader)
{
    struct weir_user user;

    if (weir_user_find(&user, reader->conf->user, reader->log) != 0) {
        weir_log(reader->log, WEIR_LOG_ERROR, "there is no user 'nobody' either; set `user`");
        return WEIR_EXIT_HOST;
    }
    return weir_estate_add_user(&reader->estate, &user) ? out_of_memory(reader) : WEIR_EXIT_DONE;
}

static int bundle_add(struct reader *reader)
{
    int fd = weir_files_save(reader->files);

    if (fd < 0) {
        weir_log(reader->log, WEIR_LOG_ERROR,
                 "the files of the configuration cannot be kept in memory: %s", strerror(-fd));
        return WEIR_EXIT_FAILED;
    }
    return weir_manifest_add(&reader->estate, WEIR_GIVEN_BUNDLE, "", WEIR_STR(""), fd)
               ? out_of_memory(reader)
               : WEIR_EXIT_DONE;
}

/* What this process has made, and nobody will use. */
static void undo(struct reader *reader)
{
    const struct weir_entry *entry = NULL;
    char instance[WEIR_INSTANCE_BYTES_MAX + 1];

    while ((entry = weir_manifest_next(&reader->estate, entry, WEIR_GIVEN_UNLINK, NULL)))
        if (!weir_manifest_next(&reader->have, NULL, WEIR_GIVEN_UNLINK, entry->name))
            unlink(entry->name);
    snprintf(instance, sizeof(instance), "%.*s", WEIR_FMT(reader->conf->instance));
    weir_kernel_forget(&reader->estate, &reader->have, instance);
    entry = weir_manifest_next(&reader->estate, NULL, WEIR_GIVEN_LOCK, NULL);
    if (!entry || !reader->lock_is_new)
        return;
    unlink(entry->name);
    weir_instance_rmdir(reader->conf->instance);
}

static int hand_over(struct reader *reader)
{
    int err = weir_manifest_send(WEIR_CHANNEL_FD, WEIR_SAYS_ESTATE, &reader->estate);

    if (!err)
        return WEIR_EXIT_DONE;
    weir_log(reader->log, WEIR_LOG_ERROR, "the keeper does not take what was read: %s",
             strerror(-err));
    return WEIR_EXIT_FAILED;
}

static int have_take(struct reader *reader)
{
    struct weir_inbox inbox = { 0 };
    unsigned word = 0;
    int n = 0;

    while (n == 0)
        n = weir_manifest_recv(WEIR_CHANNEL_FD, 0, &inbox, &word, &reader->have);
    if (n > 0 && word == WEIR_SAYS_HAVE)
        return WEIR_EXIT_DONE;
    weir_log(reader->log, WEIR_LOG_ERROR, "the keeper is not understood%s",
             n == -EPROTO ? ": it is of another version, and has to be started anew" : "");
    return WEIR_EXIT_FAILED;
}

int weir_reader_run(const struct weir_conf *conf, const struct weir_files *files)
{
    static int (*const stages[])(struct reader *) = {
        have_take, lock_take,   user_add,     bind_all,   admin_open, admin_open_tcp,
        logs_open, kernel_load, settings_add, bundle_add, hand_over,
    };
    struct weir_log_opts opts = {
        .size = sizeof(opts),
        .level = (enum weir_log_level)conf->log.level,
        .json = conf->log.format == WEIR_LOG_AS_JSON,
    };
    struct reader reader = { .conf = conf, .files = files, .log = weir_log_new(&opts) };
    int status = WEIR_EXIT_DONE;

    reader.workers = weir_service_workers_wanted(&conf->proxy);
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]) && !status; i++)
        status = stages[i](&reader);
    if (status)
        undo(&reader);
    weir_manifest_fini(&reader.have);
    weir_manifest_fini(&reader.estate);
    weir_log_free(reader.log);
    return status;
}
