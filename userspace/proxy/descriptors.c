/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/descriptors.h"

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

void weir_descriptors_bound(struct weir_service *service)
{
    struct weir_gate *gate = &service->gate;
    struct rlimit limit;
    uint64_t taken = open_now() + SPARE;
    int64_t fit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return;
    fit = limit.rlim_cur > taken + 1 ? (int64_t)((limit.rlim_cur - taken) / 2) : 1;
    if (gate->connections_max > 0 && gate->connections_max <= fit)
        return;
    gate->connections_max = fit;
    service->fds_bound = true;
}
