/* SPDX-License-Identifier: Apache-2.0 */
/** service_logs.c: the access logs of a service as files. Several may write to one: it is told once. */
#include "base/logfile.h"
#include "proxy/service.h"
#include "proxy/worker.h"

/* Of all snapshots: what ends under an old one is logged there. */
static void each(const struct weir_service *service,
                 void (*fn)(void *arg, struct weir_access_log *log), void *arg)
{
    weir_list_each(pos, next, &service->snapshots)
    {
        const struct weir_snapshot *snapshot = weir_list_entry(pos, struct weir_snapshot, link);

        for (unsigned i = 0; i < snapshot->log_count; i++)
            fn(arg, snapshot->logs[i]);
    }
}

struct seek {
    const struct weir_access_log *log;
    const char *path; /* of `log`; NULL: an earlier one has the same */
    bool passed;
};

static void seek_earlier(void *arg, struct weir_access_log *log)
{
    struct seek *seek = arg;
    const char *path = weir_access_log_path(log);

    seek->passed |= log == seek->log;
    if (!seek->passed && path && seek->path && strcmp(path, seek->path) == 0)
        seek->path = NULL;
}

/* Its file's name, unless an earlier one has the same. */
static const char *new_path(const struct weir_service *service, const struct weir_access_log *log)
{
    struct seek seek = { log, weir_access_log_path(log), false };

    each(service, seek_earlier, &seek);
    return seek.path;
}

struct give {
    const struct weir_service *service;
    unsigned uid, gid;
};

static void give(void *arg, struct weir_access_log *log)
{
    const struct give *to = arg;

    if (new_path(to->service, log))
        weir_access_log_give(log, to->uid, to->gid);
}

void weir_service_give_logs(struct weir_service *service, unsigned uid, unsigned gid)
{
    struct give to = { service, uid, gid };

    each(service, give, &to);
}

static void reopen(void *arg, struct weir_access_log *log)
{
    struct weir_service *service = arg;
    int err = weir_access_log_reopen(log);
    const char *path = err ? new_path(service, log) : NULL;

    if (path)
        weir_log(service->log, WEIR_LOG_ERROR,
                 "access_log: '%s' cannot be opened anew: %s%s; the old file is kept", path,
                 strerror(-err), weir_logfile_hint(path, err));
}

void weir_service_reopen_logs(struct weir_service *service)
{
    each(service, reopen, service);
}

struct replacement {
    struct weir_str to;
    int fd, err;
};

static void replace(void *arg, struct weir_access_log *log)
{
    struct replacement *with = arg;
    int err = weir_access_log_replace(log, with->to, with->fd);

    with->err = with->err ? with->err : err;
}

int weir_service_replace_log(struct weir_service *service, const char *to, int fd)
{
    struct replacement with = { weir_str(to), fd, 0 };

    each(service, replace, &with);
    return with.err;
}

struct visit {
    const struct weir_service *service;
    void (*fn)(void *arg, const char *path);
    void *arg;
};

static void visit(void *arg, struct weir_access_log *log)
{
    const struct visit *visit = arg;
    const char *path = new_path(visit->service, log);

    if (path)
        visit->fn(visit->arg, path);
}

void weir_service_each_log(const struct weir_service *service,
                           void (*fn)(void *arg, const char *path), void *arg)
{
    struct visit one = { service, fn, arg };

    each(service, visit, &one);
}
