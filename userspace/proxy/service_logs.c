/* SPDX-License-Identifier: Apache-2.0 */
/** service_logs.c: the access logs of a service as files. Several may write to one: it is told once. */
#include "base/logfile.h"
#include "proxy/service.h"
#include "proxy/worker.h"

/* Its file's name, unless an earlier one has the same. */
static const char *new_path(const struct weir_service *service, unsigned index)
{
    const char *path = weir_access_log_path(service->logs[index]);

    for (unsigned i = 0; path && i < index; i++) {
        const char *earlier = weir_access_log_path(service->logs[i]);

        if (earlier && strcmp(earlier, path) == 0)
            return NULL;
    }
    return path;
}

void weir_service_give_logs(struct weir_service *service, unsigned uid, unsigned gid)
{
    for (unsigned i = 0; i < service->log_count; i++)
        if (new_path(service, i))
            weir_access_log_give(service->logs[i], uid, gid);
}

void weir_service_reopen_logs(struct weir_service *service)
{
    for (unsigned i = 0; i < service->log_count; i++) {
        int err = weir_access_log_reopen(service->logs[i]);
        const char *path = err ? new_path(service, i) : NULL;

        if (path)
            weir_log(service->log, WEIR_LOG_ERROR,
                     "access_log: '%s' cannot be opened anew: %s%s; the old file is kept", path,
                     strerror(-err), weir_logfile_hint(path, err));
    }
}

int weir_service_replace_log(struct weir_service *service, const char *to, int fd)
{
    int err = 0;

    for (unsigned i = 0; i < service->log_count && !err; i++)
        err = weir_access_log_replace(service->logs[i], weir_str(to), fd);
    return err;
}

void weir_service_each_log(const struct weir_service *service,
                           void (*fn)(void *arg, const char *path), void *arg)
{
    for (unsigned i = 0; i < service->log_count; i++) {
        const char *path = new_path(service, i);

        if (path)
            fn(arg, path);
    }
}
