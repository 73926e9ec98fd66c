/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kernel.h"

#include "accel/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define SET_RING_BASE "kern.ring_base"
#define SET_CPUS      "kern.cpus"
#define SET_ABI       "kern.abi"
#define WITHOUT       "splice: sockmap: %s%s%s; tunnels are moved as by `auto`"

static bool asks(int policy)
{
    return policy == WEIR_SPLICE_SOCKMAP;
}

static bool route_asks(const struct weir_conf_list *routes)
{
    const struct weir_route_conf *route = routes->at;

    for (size_t i = 0; i < routes->count; i++)
        if (asks(route[i].splice))
            return true;
    return false;
}

bool weir_kernel_wanted(const struct weir_proxy_conf *conf)
{
    const struct weir_listener_conf *listeners = conf->listeners.at;

    if (asks(conf->kernel.splice + 1)) /* that one has no word for "as above" */
        return true;
    for (size_t i = 0; i < conf->listeners.count; i++)
        if (asks(listeners[i].splice) || route_asks(&listeners[i].routes))
            return true;
    return false;
}

/* Pipes and sockmaps share what may be held. */
static uint64_t share(const struct weir_proxy_conf *conf)
{
    return (uint64_t)conf->kernel.splice_memory / 2;
}

/* ---- loading ------------------------------------------------------------------------------ */

/* Which self-test is not passed; NULL: all are. *err: it could not be tried. */
static const char *refuted(struct weir_kern *kern, char *why, size_t size, int *err)
{
    const struct weir_splice_fds *fds = weir_kern_splice_fds(kern);
    struct weir_splice_finding findings[WEIR_SPLICE_FINDINGS_MAX] = { { NULL } };
    const struct weir_splice_finding *bad = NULL;
    struct weir_splice_kern *table;
    int count = weir_splice_use(fds, &table);

    *err = count;
    if (count)
        return NULL;
    count = weir_splice_selftest(table, fds->ring_base, findings);
    weir_splice_done(&table);
    *err = count < 0 ? count : 0;
    if (count >= 0)
        bad = weir_splice_refuted(findings, count);
    if (bad)
        snprintf(why, size, "%s", bad->why);
    return bad ? bad->name : NULL;
}

/* An upgrade's proxy and the one before have rings of their own. */
static unsigned ring_base(const struct weir_manifest *have)
{
    int64_t base = have ? weir_manifest_number(have, SET_RING_BASE, -1) : -1;

    return base == 0 ? WEIR_SP_RINGS_MAX / 2 : 0;
}

void weir_kernel_load(struct weir_kernel *kernel, const struct weir_proxy_conf *conf,
                      unsigned rings, const char *pins, const struct weir_manifest *have,
                      struct weir_log *log)
{
    struct weir_kern_opts opts = { .size = sizeof(opts),
                                   .instance = pins,
                                   .rings = rings,
                                   .ring_base = ring_base(have),
                                   .memory_bytes = share(conf),
                                   .shared = have && weir_manifest_next(have, NULL, WEIR_GIVEN_KERN,
                                                                        NULL) };
    struct weir_kern_fault fault = { "", "" };
    struct weir_kern_state state;
    const char *bad;
    char why[200];
    int err;

    if (!weir_kernel_wanted(conf))
        return;
    if (weir_kern_open(&kernel->kern, &opts, &fault)) {
        weir_log(log, WEIR_LOG_WARN, WITHOUT, fault.text, fault.todo[0] ? "; " : "", fault.todo);
        return;
    }
    weir_kern_state(kernel->kern, &state);
    if (!state.looks) { /* rule 20: what both sides of a tunnel are sent could not be bounded */
        weir_log(log, WEIR_LOG_WARN, WITHOUT, "it needs CAP_PERFMON", "", "");
        weir_kern_close(&kernel->kern, !state.adopted);
        return;
    }
    bad = refuted(kernel->kern, why, sizeof(why), &err);
    if (bad || err) {
        weir_log(log, WEIR_LOG_WARN, WITHOUT, bad ? bad : "it cannot be tried", ": ",
                 bad ? why : strerror(-err));
        weir_kern_close(&kernel->kern, !state.adopted);
        return;
    }
    weir_log(log, WEIR_LOG_INFO, "splice: sockmap: loaded%s%s%s%s",
             state.pinned ? ", pins are in " : "", state.pinned ? state.pins : "",
             state.note[0] ? "; " : "", state.note);
}

/* ---- from one process to another ---------------------------------------------------------- */

#define AT(name) offsetof(struct weir_splice_fds, name)
static const struct {
    const char *name;
    size_t at;
} parts[] = {
    { "src", AT(src) },   { "dst", AT(dst) },   { "pair", AT(pair) },
    { "flow", AT(flow) }, { "held", AT(held) }, { "count", AT(count) },
};
#undef AT
enum { PARTS_COUNT = sizeof(parts) / sizeof(parts[0]) };

static int give(struct weir_manifest *to, const char *name, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    return copy < 0 ? -errno : weir_manifest_add(to, WEIR_GIVEN_KERN, name, WEIR_STR(""), copy);
}

int weir_kernel_give(const struct weir_kernel *kernel, struct weir_manifest *to)
{
    const struct weir_splice_fds *fds;
    int err;

    if (!kernel->kern)
        return 0;
    fds = weir_kern_splice_fds(kernel->kern);
    err = weir_manifest_set_number(to, SET_RING_BASE, fds->ring_base);
    if (!err)
        err = weir_manifest_set_number(to, SET_CPUS, fds->cpus);
    if (!err)
        err = weir_manifest_set_number(to, SET_ABI, WEIR_ABI);
    for (size_t i = 0; i < PARTS_COUNT && !err; i++)
        err = give(to, parts[i].name, *(const int *)((const char *)fds + parts[i].at));
    if (!err && fds->link >= 0)
        err = give(to, "link", fds->link);
    for (unsigned i = 0; i < fds->ring_count && !err; i++)
        err = give(to, "ring", fds->ring[i]);
    return err;
}

int weir_kernel_keep(const struct weir_manifest *have, struct weir_manifest *to)
{
    static const char *const numbers[] = { SET_RING_BASE, SET_CPUS, SET_ABI };
    const struct weir_entry *entry = NULL;
    int err = 0;

    while (!err && (entry = weir_manifest_next(have, entry, WEIR_GIVEN_KERN, NULL)))
        err = give(to, entry->name, entry->fd);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && !err; i++)
        if (weir_manifest_get(have, numbers[i]))
            err =
                weir_manifest_set_number(to, numbers[i], weir_manifest_number(have, numbers[i], 0));
    return err;
}

uint32_t weir_kernel_id(const struct weir_manifest *estate)
{
    const struct weir_entry *pair = weir_manifest_next(estate, NULL, WEIR_GIVEN_KERN, "pair");

    return pair ? weir_splice_id(pair->fd) : 0;
}

static void fds_close(struct weir_splice_fds *fds)
{
    for (size_t i = 0; i < PARTS_COUNT; i++) {
        int *fd = (int *)((char *)fds + parts[i].at);

        if (*fd >= 0)
            close(*fd);
        *fd = -1;
    }
    while (fds->ring_count)
        close(fds->ring[--fds->ring_count]);
}

bool weir_kernel_take(struct weir_kernel *kernel, struct weir_manifest *from)
{
    struct weir_splice_fds *fds = &kernel->fds;
    struct weir_entry *entry = NULL;
    bool whole = true;

    for (size_t i = 0; i < PARTS_COUNT; i++) {
        int *fd = (int *)((char *)fds + parts[i].at);

        entry = weir_manifest_next(from, NULL, WEIR_GIVEN_KERN, parts[i].name);
        *fd = entry ? weir_entry_take(entry) : -1;
        whole = whole && *fd >= 0;
    }
    fds->link = -1; /* the keeper's */
    fds->ring_base = (unsigned)weir_manifest_number(from, SET_RING_BASE, 0);
    fds->cpus = (int)weir_manifest_number(from, SET_CPUS, 0);
    for (entry = NULL; fds->ring_count < WEIR_SP_RINGS_MAX &&
                       (entry = weir_manifest_next(from, entry, WEIR_GIVEN_KERN, "ring"));)
        if (entry->fd >= 0)
            fds->ring[fds->ring_count++] = weir_entry_take(entry);
    if (whole && fds->ring_count && fds->cpus > 0)
        return true;
    fds_close(fds);
    return false;
}

void weir_kernel_forget(const struct weir_manifest *gone, const struct weir_manifest *stays,
                        const char *instance)
{
    char what[200];

    if (instance && weir_manifest_next(gone, NULL, WEIR_GIVEN_KERN, NULL) &&
        !weir_manifest_next(stays, NULL, WEIR_GIVEN_KERN, NULL))
        (void)weir_kern_unload(NULL, instance, what, sizeof(what));
}

void weir_kernel_forget_others(const struct weir_manifest *have, const char *instance,
                               struct weir_log *log)
{
    int64_t abi = weir_manifest_number(have, SET_ABI, 0);
    char what[200];
    int count;

    if (!instance || !abi)
        return;
    count = weir_kern_unload_others(NULL, instance, (int)abi, what, sizeof(what));
    if (count > 0)
        weir_log(log, WEIR_LOG_INFO, "splice: sockmap: %d pins of another version are taken away",
                 count);
    else if (count < 0)
        weir_log(log, WEIR_LOG_WARN, "splice: sockmap: pins of another version stay: %s", what);
}

/* ---- using -------------------------------------------------------------------------------- */

void weir_kernel_use(struct weir_kernel *kernel, const struct weir_proxy_conf *conf,
                     struct weir_log *log)
{
    const struct weir_splice_fds *fds =
        kernel->kern ? weir_kern_splice_fds(kernel->kern) : &kernel->fds;
    int err = weir_splice_use(fds, &kernel->splice);

    if (err)
        weir_log(log, WEIR_LOG_WARN, WITHOUT, "it cannot be used", ": ", strerror(-err));
    else
        kernel->splice->ops->set_ceiling(kernel->splice, share(conf));
}

void weir_kernel_close(struct weir_kernel *kernel, bool detach)
{
    if (kernel->splice)
        weir_splice_done(&kernel->splice);
    if (kernel->kern)
        weir_kern_close(&kernel->kern, detach);
    if (kernel->fds.ring_count)
        fds_close(&kernel->fds);
}
