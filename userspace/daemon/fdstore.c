/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/fdstore.h"

#include "daemon/notify.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FDS_FIRST = 3, FDS_MAX = 4096 };

static bool is_socket(const struct weir_entry *entry)
{
    return entry->fd >= 0 && (entry->kind == WEIR_GIVEN_SOCKET || entry->kind == WEIR_GIVEN_ADMIN ||
                              entry->kind == WEIR_GIVEN_ADMIN_TCP);
}

/* ---- to systemd --------------------------------------------------------------------------- */

static bool store(const char *name, int fd, bool again)
{
    char text[64];

    snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name); /* of what it was before */
    if (again && !weir_notify_fd(text, -1))
        return false;
    snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    return weir_notify_fd(text, fd);
}

bool weir_fdstore_put(const struct weir_manifest *estate, bool again)
{
    struct weir_manifest names = { 0 };
    unsigned count = 0;
    bool good = true;
    int fd;

    if (!getenv("NOTIFY_SOCKET"))
        return true;
    for (size_t i = 0; i < estate->count && good && count < FDS_MAX; i++) {
        const struct weir_entry *entry = &estate->at[i];
        char name[32];

        if (!is_socket(entry))
            continue;
        snprintf(name, sizeof(name), "weir-%u", count++);
        good = store(name, entry->fd, again) &&
               weir_manifest_add(&names, entry->kind, entry->name, WEIR_STR(""), -1) == 0;
    }
    fd = good ? weir_manifest_save(&names) : -1;
    if (fd >= 0) { /* the last: without it the others mean nothing */
        good = store("weir-manifest", fd, again);
        close(fd);
    }
    weir_manifest_fini(&names);
    return good && fd >= 0;
}

/* ---- from systemd ------------------------------------------------------------------------- */

static bool number_of(const char *text, unsigned long max, unsigned long *number)
{
    char *end;

    if (!text || *text < '0' || *text > '9')
        return false;
    *number = strtoul(text, &end, 10);
    return !*end && *number <= max;
}

/* What of the names belongs to this descriptor; NULL: none, or it is no socket of ours. */
static const struct weir_entry *entry_of(const struct weir_manifest *names, const char *name)
{
    unsigned long n;

    if (strncmp(name, "weir-", 5) != 0 || !number_of(name + 5, FDS_MAX, &n) || n >= names->count)
        return NULL;
    return &names->at[n];
}

static unsigned take_all(struct weir_manifest *found, const struct weir_manifest *names,
                         char *const *list, unsigned long count)
{
    unsigned taken = 0;

    for (unsigned long i = 0; i < count; i++) {
        const struct weir_entry *entry = list[i] ? entry_of(names, list[i]) : NULL;
        int fd = FDS_FIRST + (int)i;

        if (!entry || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
            weir_manifest_add(found, entry->kind, entry->name, WEIR_STR(""), fd) != 0)
            close(fd);
        else
            taken++;
    }
    return taken;
}

unsigned weir_fdstore_take(struct weir_manifest *found)
{
    const char *texts = getenv("LISTEN_FDNAMES");
    unsigned long pid, count = 0;
    struct weir_manifest names = { 0 };
    char *list[FDS_MAX] = { NULL }, *copy = texts ? strdup(texts) : NULL, *rest = copy;
    unsigned taken = 0;
    bool ours = number_of(getenv("LISTEN_PID"), INT32_MAX, &pid) && (pid_t)pid == getpid() &&
                number_of(getenv("LISTEN_FDS"), FDS_MAX, &count);

    for (unsigned long i = 0; ours && rest && i < count; i++) {
        list[i] = strsep(&rest, ":");
        if (strcmp(list[i], "weir-manifest") == 0 &&
            weir_manifest_load(FDS_FIRST + (int)i, &names) != 0)
            weir_manifest_fini(&names);
    }
    if (ours)
        taken = take_all(found, &names, list, count);
    weir_manifest_fini(&names);
    free(copy);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return taken;
}
