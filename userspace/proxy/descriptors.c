/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/descriptors.h"

#include "proxy/snapshot.h"

#include <dirent.h>
#include <sys/resource.h>

enum {
    SPARE = 24,         /* admin, DNS, health checks, files read again */
    OPEN_UNKNOWN = 128, /* without /proc */
};

static uint64_t open_now(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (!dir)
        return OPEN_UNKNOWN;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* A reload comes with all of them once more, for a moment. */
static uint64_t listening(const struct weir_service *service)
{
    const struct weir_proxy_conf *conf = service->snapshot->conf;
    const struct weir_listener_conf *listeners = conf->listeners.at;
    uint64_t count = 0;

    for (size_t i = 0; i < conf->listeners.count; i++)
        count += listeners[i].bind.count;
    return count * service->worker_count;
}

void weir_descriptors_count(struct weir_service *service)
{
    struct rlimit limit;
    uint64_t taken = open_now() + listening(service) + SPARE;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return;
    service->fds_fit = limit.rlim_cur > taken + 1 ? (int64_t)((limit.rlim_cur - taken) / 2) : 1;
}

int64_t weir_descriptors_bound(struct weir_service *service, int64_t connections)
{
    bool fds = service->fds_fit && (connections <= 0 || connections > service->fds_fit);

    atomic_store_explicit(&service->fds_bound, fds, memory_order_relaxed);
    return fds ? service->fds_fit : connections;
}
