/* SPDX-License-Identifier: Apache-2.0 */
/**
 * memory.c: the memory ceiling. Every second, ten times as often when half of it is used: resident
 * memory against the limit (a size, or a share of what the cgroup or the host has; that is read
 * again each time). Above it service->pressure is set: the oldest idle connections go, new requests
 * get 503, reads stop, what runs goes on; it is lifted at 95 % of the limit.
 *
 * Reads stop where bytes wait: a body, or a tunnel, some of whose bytes the other side has not taken
 * is read no further until it has taken them all, instead of until there are 64 KiB of them; and a
 * read takes 15 KiB. So a direction has one such buffer at most, apart from what it had when the
 * limit was passed. A stream of HTTP/2 cannot be told to stop without its connection: it may bring
 * what its window has granted, once, and is granted 16 KiB from then on. Bodies are not kept for a
 * retry. Each worker follows within 200 ms (worker->tight).
 *
 * Nothing waits for ever: what is not read waits for bytes of its own that have the other side's
 * socket or window to go to; when they have gone it is read again, and when they do not, the other
 * side's timeout ends the exchange, as it does when 64 KiB wait. A side with nothing waiting is read
 * always, so that window updates, answers and ends get through. Two peers that need us to hold more
 * than that for them wait until the pressure is over: then all is read again.
 *
 * What was freed meanwhile has to leave the process, or the pressure would never go: slabs give
 * their pages back themselves, but malloc keeps what lies between two pieces still in use. So under
 * pressure malloc_trim runs, on the thread pool since it may take long for a large heap.
 */
#include "proxy/memory.h"

#include "proxy/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOOK_MS = 1000, LOOK_NEAR_MS = 100 };

/* Read through a descriptor that is always open: out of descriptors, memory still has its ceiling. */
static uint64_t resident_bytes(const struct weir_service *service)
{
    unsigned long size, resident;
    char text[128];
    ssize_t len = pread(service->statm_fd, text, sizeof(text) - 1, 0);

    if (len <= 0)
        return 0;
    text[len] = 0;
    if (sscanf(text, "%lu %lu", &size, &resident) != 2)
        return 0;
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#define UNREAD (UINT64_MAX - 1)

static uint64_t number_in(const char *path)
{
    FILE *f = fopen(path, "re");
    unsigned long long value = 0;

    if (!f)
        return errno == EMFILE || errno == ENFILE ? UNREAD : 0;
    if (fscanf(f, "%llu", &value) != 1)
        value = 0;
    fclose(f);
    return value;
}

/* The tightest memory.max (v2) or memory.limit_in_bytes (v1) of this process's group and those
 * above it; 0: no descriptor is free to look with. */
static uint64_t cgroup_limit(void)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[512], path[700];
    uint64_t best = UINT64_MAX;

    if (!f)
        return errno == EMFILE || errno == ENFILE ? 0 : best;
    while (fgets(line, sizeof(line), f)) {
        char *names = strchr(line, ':'), *dir = names ? strchr(names + 1, ':') : NULL;
        bool v2, v1;

        if (!dir)
            continue;
        *dir++ = 0;
        names++;
        dir[strcspn(dir, "\n")] = 0;
        v2 = !names[0];
        v1 = strstr(names, "memory") != NULL;
        while (v1 || v2) {
            char *up = strrchr(dir, '/');
            uint64_t value;

            snprintf(path, sizeof(path),
                     v2 ? "/sys/fs/cgroup%s/memory.max"
                        : "/sys/fs/cgroup/memory%s/memory.limit_in_bytes",
                     dir);
            value = number_in(path);
            if (value == UNREAD) {
                fclose(f);
                return 0;
            }
            if (value && value < best)
                best = value;
            if (!up || !dir[0])
                break;
            *up = 0;
        }
    }
    fclose(f);
    return best;
}

static uint64_t limit_bytes(const struct weir_service *service)
{
    const struct weir_limit_conf *conf = &weir_worker_conf(&service->workers[0])->limits;
    uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE), group;

    if (conf->memory == WEIR_UNLIMITED)
        return UINT64_MAX;
    if (conf->memory > 0)
        return (uint64_t)conf->memory;
    group = cgroup_limit();
    if (!group) /* as it was, if it was ever known */
        return atomic_load(&service->limit_bytes) ?: host;
    return (uint64_t)((double)(group < host ? group : host) *
                      (conf->memory_share > 0 ? conf->memory_share : 0.75));
}

static void look(struct weir_service *service)
{
    uint64_t resident = resident_bytes(service), limit = limit_bytes(service);
    bool was = atomic_load(&service->pressure),
         now = was ? resident > limit / 100 * 95 : resident > limit;

    atomic_store(&service->resident_bytes, resident);
    atomic_store(&service->limit_bytes, limit);
    if (now == was)
        return;
    atomic_store(&service->pressure, now);
    if (now)
        weir_log(service->log, WEIR_LOG_WARN,
                 "memory: %llu MiB resident is above limits.memory (%llu MiB): idle connections "
                 "are closed, new requests get 503, and bodies are read only as far as they can "
                 "be sent on; raise limits.memory, or lower limits.connections",
                 (unsigned long long)(resident >> 20), (unsigned long long)(limit >> 20));
    else
        weir_log(service->log, WEIR_LOG_INFO,
                 "memory: %llu MiB resident is below limits.memory again",
                 (unsigned long long)(resident >> 20));
}

static void on_trim(uv_work_t *work)
{
    (void)work;
    malloc_trim(0);
}

static void on_trimmed(uv_work_t *work, int status)
{
    struct weir_service *service = work->data;

    (void)status;
    service->memory_trimming = false;
    service->workers[0].req_count--;
}

/* It counts as a request of worker 0 while it runs: a stop waits for it. */
static void trim(struct weir_service *service)
{
    struct weir_worker *worker = &service->workers[0];

    if (service->memory_trimming || worker->loop.now_ms < service->memory_trim_ms)
        return;
    service->memory_trim.data = service;
    if (uv_queue_work(&worker->loop.uv, &service->memory_trim, on_trim, on_trimmed))
        return;
    service->memory_trimming = true;
    service->memory_trim_ms = worker->loop.now_ms + LOOK_MS;
    worker->req_count++;
}

static void on_look(struct weir_timer *timer, void *arg)
{
    struct weir_service *service = arg;
    bool near;

    look(service);
    near = atomic_load(&service->resident_bytes) > atomic_load(&service->limit_bytes) / 2;
    if (atomic_load(&service->pressure))
        trim(service);
    weir_loop_timer(&service->workers[0].loop, timer, near ? LOOK_NEAR_MS : LOOK_MS, on_look,
                    service);
}

void weir_memory_start(struct weir_service *service)
{
    service->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    look(service);
    weir_loop_timer(&service->workers[0].loop, &service->memory_timer, LOOK_NEAR_MS, on_look,
                    service);
}

void weir_memory_stop(struct weir_service *service)
{
    weir_timer_stop(&service->workers[0].loop.wheel, &service->memory_timer);
    if (service->statm_fd >= 0)
        close(service->statm_fd);
    service->statm_fd = -1;
}

bool weir_service_memory(const struct weir_service *service, uint64_t *resident, uint64_t *limit)
{
    *resident = atomic_load((_Atomic uint64_t *)&service->resident_bytes);
    *limit = atomic_load((_Atomic uint64_t *)&service->limit_bytes);
    return atomic_load((_Atomic bool *)&service->pressure);
}
